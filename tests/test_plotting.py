"""Figures: what they show is checked on the drawn objects; that they look well was checked by eye."""

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from qdm_lib.circuits import Circuit, Gate, basic, fqconv, hqconv, hqconv_released
from qdm_lib.diffusion import SampleState
from qdm_lib.metrics import Score
from qdm_lib.plots import (
    circuit_text,
    columns_of,
    draw_circuit,
    film_strip,
    image_grid,
    loss_curve,
    save_figure,
    score_table,
)


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def pixels(ax):
    return ax.images[0].get_array()


def test_image_grid_places_every_image():
    images = torch.arange(5, dtype=torch.uint8).mul(50).view(5, 1, 1, 1).expand(5, 1, 28, 28)
    ax = image_grid(images, columns=3)
    canvas = pixels(ax)
    assert canvas.shape == (2 * 28 + 2, 3 * 28 + 4)
    assert canvas[0, 0] == 0 and canvas[0, 30] == 50 and canvas[30, 30] == 200
    assert canvas[0, 28] == 255 and canvas[30, 60] == 255  # the gap, and the place without an image
    assert ax.images[0].get_clim() == (0, 255)


def test_image_grid_takes_model_range_and_draws_into_ax():
    _, ax = plt.subplots()
    images = torch.tensor([-1.0, 0.0, 1.0, 7.0]).view(4, 1, 1, 1).expand(4, 1, 28, 28)
    assert image_grid(images, ax, titles=["a", "b", "c", "d"]) is ax
    canvas = pixels(ax)
    assert canvas[20, 0] == 0 and canvas[20, 30] == 128 and canvas[-1, -1] == 255
    assert [text.get_text() for text in ax.texts] == ["a", "b", "c", "d"]


@pytest.mark.parametrize(
    "images, words",
    [
        (torch.zeros(28, 28), "shape"),
        (torch.zeros(0, 1, 28, 28), "shape"),
        (torch.zeros(2, 3, 28, 28), "shape"),
        (torch.zeros(2, 1, 28, 28, dtype=torch.int64), "uint8"),
    ],
)
def test_image_grid_refuses(images, words):
    with pytest.raises(ValueError, match=words):
        image_grid(images)


def test_image_grid_wants_a_title_for_each_image():
    with pytest.raises(ValueError, match="1 titles for 2 images"):
        image_grid(torch.zeros(2, 1, 28, 28), titles=["a"])


def test_film_strip_shows_first_and_last_state():
    states = [
        SampleState(k, 49 - k, torch.full((4, 1, 28, 28), k / 49), torch.full((4, 1, 28, 28), -k / 49))
        for k in range(50)
    ]
    ax = film_strip(iter(states), n_images=2, n_frames=5)
    labels = [text.get_text() for text in ax.texts]
    assert labels[:5] == ["t = 49", "37", "25", "12", "0"]
    canvas = pixels(ax)
    assert canvas[0, 0] == 128 and canvas[0, -1] == 255  # x_t goes from 0 to 1
    assert canvas[-1, 0] == 128 and canvas[-1, -1] == 0  # and x_0 from 0 to -1
    with pytest.raises(ValueError, match="used up"):
        film_strip([])


def test_loss_curve_shows_the_running_mean():
    ax = loss_curve([1.0, 3.0, 5.0, 7.0], steps=[11, 12, 13, 14], window=2)
    dots, line = ax.lines
    assert list(dots.get_ydata()) == [1, 3, 5, 7] and list(line.get_xdata()) == [11, 12, 13, 14]
    assert np.allclose(line.get_ydata(), [1, 2, 4, 6])
    for bad in ({"losses": []}, {"losses": [1.0], "steps": [1, 2]}, {"losses": [1.0], "window": 0}):
        with pytest.raises(ValueError):
            loss_curve(**bad)


@pytest.mark.parametrize("circuit", [hqconv(3), fqconv(2), basic(), hqconv_released(2)], ids=lambda c: c.name)
def test_circuit_drawings_show_every_gate_and_never_overlap(circuit):
    busy = set()
    for column, gate in columns_of(circuit):
        span = {(column, wire) for wire in range(min(gate.wires), max(gate.wires) + 1)}
        assert not busy & span
        busy |= span
    text, ax = circuit_text(circuit, 80), draw_circuit(circuit)
    drawn = [t.get_text() for t in ax.texts]
    fed = {gate.param[1] for gate in circuit.gates if gate.param is not None and gate.param[0] == "weight"}
    for k in range(circuit.n_weights):
        assert (f"(θ{k})" in text) == (k in fed)
        assert any(t.endswith(f"\nθ{k}") for t in drawn) == (k in fed)
    for k in range(circuit.n_inputs):
        assert f"RX(x{k})" in text and f"RX\nx{k}" in drawn
    assert max(map(len, text.splitlines())) <= 80
    assert text.count("⟨Z⟩") == circuit.n_wires
    legend = [entry.get_text() for entry in ax.get_legend().get_texts()]
    assert legend[0] == "encoding" and len(legend) == len({gate.block for gate in circuit.gates})


def test_text_of_a_small_circuit_is_exact():
    gates = (
        Gate("RX", (0,), ("input", 0), block="encoding"),
        Gate("Hadamard", (1,)),
        Gate("CRZ", (2, 0), ("weight", 0), 2.0),
        Gate("RY", (1,), offset=0.5),
    )
    assert circuit_text(Circuit(gates, 3, 1, 1, "small")).splitlines() == [
        "small: 3 wires, 3 gates after the encoding, 1 weight θ (angles scaled by gate)",
        "in order: encoding × 1, gates × 3",
        "",
        "0: ─RX(x0)─╭RZ(θ0)─────────── ⟨Z⟩",
        "1: ─H──────│────────RY(0.5)── ⟨Z⟩",
        "2: ────────╰●──────────────── ⟨Z⟩",
    ]


def test_every_gate_can_be_drawn():
    names = {"CNOT": (0, 1), "CZ": (1, 2), "SWAP": (0, 2), "PauliX": (0,), "T": (1,), "CRY": (2, 0)}
    circuit = Circuit(tuple(Gate(name, wires, block=f"my {name}") for name, wires in names.items()), 3, 0, 0)
    text = circuit_text(circuit)
    assert all(part in text for part in ("╭●", "╰X", "╭×", "╰Z", "─T", "RY(0)"))
    assert len(draw_circuit(circuit).get_legend().get_texts()) == 6
    empty = Circuit((), 2, 0, 0)
    assert circuit_text(empty).count("⟨Z⟩") == 2
    draw_circuit(empty)


def test_score_table_carries_floor_and_interval():
    score = Score("FID", 12.34, 11.0, 14.0, 0.9, 64, "classifier x", "mnist train", 2000, 64, "Few images.")
    table = score_table({"fid": score})
    for part in (
        "12.34",
        "11 … 14",
        "0.9",
        "64 generated images",
        "2,000 real ones of mnist train",
        "classifier x",
        "FID: Few images.",
    ):
        assert part in table


def test_save_figure_writes_whole_files_and_closes(tmp_path):
    path = save_figure(loss_curve([1.0, 2.0]), tmp_path / "new" / "loss.png")
    assert path.read_bytes().startswith(b"\x89PNG")
    assert [p.name for p in path.parent.iterdir()] == ["loss.png"]
    assert plt.get_fignums() == []
    with pytest.raises(ValueError):
        save_figure(loss_curve([1.0, 2.0]), tmp_path / "loss.nonsense")
    assert plt.get_fignums() == []
