"""Figures: what they show is checked on the drawn objects; that they look well was checked by eye."""

import base64
import io
import re

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from PIL import Image

from qdm_course.figures import describe_resnet_block, draw_chain, draw_hand_over, draw_loop, draw_resnet_block
from qdm_lib.circuits import Circuit, Gate, basic, fqconv, hqconv, hqconv_released
from qdm_lib.diffusion import NoiseSchedule, SampleState, cosine_betas
from qdm_lib.metrics import Score
from qdm_lib.plots import (
    block_boxes,
    circuit_text,
    columns_of,
    draw_circuit,
    film_strip,
    image_grid,
    loss_curve,
    save_figure,
    score_table,
    show_described,
)
from qdm_lib.unet import PRESETS, build_unet, count_parameters


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


def test_a_large_grid_stays_a_picture_that_fits_into_memory():
    """2,500 images at the size of 64 would be a picture of 17 million pixels, which takes 2 GB to write."""
    for n, inches in ((64, 8 * 0.55), (2500, 16)):
        ax = image_grid(np.zeros((n, 28, 28), np.uint8))
        assert ax.figure.get_size_inches() == pytest.approx(inches)
        plt.close(ax.figure)


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


@pytest.mark.parametrize("number", [0, -1, 2.5])
def test_columns_and_a_fold_are_at_least_one(number):
    with pytest.raises(ValueError, match=f"columns must be a whole number, at least 1; got {number}"):
        image_grid(torch.zeros(2, 1, 28, 28), columns=number)
    with pytest.raises(ValueError, match=f"fold must be a whole number, at least 1; got {number}"):
        draw_circuit(hqconv(1), fold=number)


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
    for name in ("n_frames", "n_images"):
        with pytest.raises(ValueError, match=f"{name} must be a whole number, at least 1; got 0"):
            film_strip(states, **{name: 0})


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


@pytest.mark.parametrize("circuit", [hqconv(3), fqconv(3), hqconv_released(3)], ids=lambda c: c.name)
def test_gate_labels_stay_legible_on_a_page_of_700_pixels(circuit):
    ax = draw_circuit(circuit)
    shrunk = min(1, 700 / (96 * ax.figure.get_size_inches()[0]))
    smallest = min(text.get_fontsize() for text in ax.texts) * 96 / 72 * shrunk
    assert smallest > 7.5  # pixels


def test_text_of_a_small_circuit_is_exact():
    gates = (
        Gate("RX", (0,), ("input", 0), -1, block="encoding"),
        Gate("Hadamard", (1,)),
        Gate("CRZ", (2, 0), ("weight", 0), 2.0),
        Gate("RY", (1,), offset=0.5),
    )
    assert circuit_text(Circuit(gates, 3, 1, 1, "small")).splitlines() == [
        "small: 3 wires, 3 gates after the encoding, 1 weight θ (angles scaled by gate)",
        "in order: encoding × 1, gates × 3",
        "",
        "0: ─RX(-1·x0)─╭RZ(2·θ0)─────────── ⟨Z⟩",
        "1: ─H─────────│──────────RY(0.5)── ⟨Z⟩",
        "2: ───────────╰●────────────────── ⟨Z⟩",
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
    assert save_figure(loss_curve([1.0, 2.0]), tmp_path / "picture").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(ValueError, match="'nonsense' is not supported"):
        save_figure(loss_curve([1.0, 2.0]), tmp_path / "loss.nonsense")
    assert plt.get_fignums() == []


def shown(figure, description, monkeypatch) -> dict:
    """What `show_described` hands to the notebook."""
    bundles = []
    monkeypatch.setattr("IPython.display.display", lambda bundle, raw: bundles.append(bundle))
    show_described(figure, description)
    (bundle,) = bundles
    return bundle


def picture_in(html: str) -> tuple[str, bytes]:
    kind, data = re.search(r'src="data:image/([\w+]+);base64,([^"]+)"', html).groups()
    return kind, base64.b64decode(data)


def test_a_described_figure_carries_its_description_wherever_it_is_shown(monkeypatch):
    bundle = shown(draw_circuit(basic()), 'Four wires & a "ring".', monkeypatch)
    assert bundle["text/plain"] == 'Four wires & a "ring".'
    assert 'alt="Four wires &amp; a &quot;ring&quot;."' in bundle["text/html"]
    kind, data = picture_in(bundle["text/html"])
    assert kind == "svg+xml" and data.startswith(b"<?xml") and plt.get_fignums() == []
    width, least = (int(re.search(rf'{what}[=:] ?"?(\d+)', bundle["text/html"])[1]) for what in ("width", "min-width"))
    assert least == min(width, 560)  # it shrinks with a small page, but only as long as its letters can be read
    again = shown(draw_circuit(basic()), 'Four wires & a "ring".', monkeypatch)
    assert again == bundle  # the same figure gives the same bytes


def test_a_figure_with_images_is_a_png_of_twice_its_size(monkeypatch):
    html = shown(image_grid(torch.rand(4, 1, 28, 28)), "Noise.", monkeypatch)["text/html"]
    kind, data = picture_in(html)
    width, height = (int(re.search(rf'{side}="(\d+)"', html)[1]) for side in ("width", "height"))
    picture = Image.open(io.BytesIO(data))
    assert kind == "png" and abs(picture.width - 2 * width) <= 1 and abs(picture.height - 2 * height) <= 1


def test_a_figure_that_would_be_a_large_svg_is_a_png(monkeypatch):
    _, ax = plt.subplots()
    ax.plot(np.arange(40_000) % 7 + np.random.default_rng(0).normal(size=40_000), "o", rasterized=False)
    assert picture_in(shown(ax, "Many dots.", monkeypatch)["text/html"])[0] == "png"


# ------------------------------------------------------------------------------- the paper's figures


def words(ax) -> str:
    return "\n".join(text.get_text() for text in ax.texts)


@pytest.mark.parametrize("preset", PRESETS)
def test_the_resnet_block_of_every_preset_is_drawn_from_the_model(preset):
    config = PRESETS[preset]
    ax = draw_resnet_block(preset)
    block = build_unet(preset, seed=0).vertex_block1
    assert f"convolution 1: {count_parameters(block.conv1):,} weights" in words(ax)
    name = {"hqconv": "HQConv", "fqconv": "FQConv"}[config.ansatz]
    assert (f"{config.n_circuits} × {name}\nchannels 0–{3 * config.n_circuits - 1}" in words(ax)) == bool(
        config.n_circuits
    )
    assert ("3×3 convolution" in words(ax)) != config.full and ("1 × Basic\nchannel 39" in words(ax)) == config.full
    assert ax.get_title().startswith("Paper, Fig. 4") == bool(config.n_circuits)
    assert all(part in describe_resnet_block(preset) for part in ("GroupNorm in 10 groups", preset))


def test_the_quanvolutional_block_and_words_that_are_wrong():
    ax = draw_resnet_block("quanv-fqconv", level="encoder")
    assert "1 × FQConv\nchannels 0–2" in words(ax) and "3×3 convolution\nchannels 3–9" in words(ax)
    assert ax.get_title().startswith("Paper, Fig. 8") and "10 groups\nof 1" in words(ax)
    assert draw_resnet_block("1hqconv", level="encoder").get_title().startswith("1hqconv: the ResNet block")
    with pytest.raises(ValueError, match="level"):
        draw_resnet_block("unet", level="decoder")
    with pytest.raises(ValueError, match="preset"):
        draw_resnet_block("9hqconv")


def test_boxes_surround_the_gates_of_their_block_and_no_others():
    for circuit, expected in ((hqconv(1), "AAAB"), (fqconv(1), "CDCDCD")):
        boxes = block_boxes(circuit, 99)
        assert sorted(block for block, *_ in boxes) == sorted(expected)
        for column, gate in columns_of(circuit):
            inside = [
                block for block, first, last, high, low in boxes
                if first <= column <= last and high <= min(gate.wires) and max(gate.wires) <= low
            ]  # fmt: skip
            assert inside == ([gate.block] if gate.block != "encoding" else [])
    drawn = [text for text in draw_circuit(hqconv(1), boxed=True).texts if text.get_text() in ("A", "B")]
    assert len(drawn) == 4


def test_the_chain_the_loop_and_the_hand_over_say_what_they_show():
    schedule, x_0 = NoiseSchedule(cosine_betas()), torch.zeros(1, 1, 28, 28)
    eps = torch.randn(x_0.shape, generator=torch.Generator().manual_seed(0))
    ax = draw_chain(schedule, x_0, eps, steps=(0, 999))
    assert ax.get_title().startswith("Paper, Fig. 1") and len(ax.images) == 3
    noisy = schedule.q_sample(x_0, torch.tensor([999]), eps)[0, 0].clamp(-1, 1)
    assert np.allclose(ax.images[2].get_array(), noisy)
    ax = draw_loop(fqconv(3))
    assert ax.get_title().startswith("Paper, Fig. 2") and "72 weights" in words(ax) and "RX(x)" in words(ax)
    ax = draw_hand_over("1hqconv", dataset="mnist")
    assert "19 epochs" in words(ax) and "1 more" in words(ax) and ax.get_title().startswith("Paper, Fig. 9")
    with pytest.raises(ValueError, match="data set"):
        draw_hand_over(dataset="cifar")
