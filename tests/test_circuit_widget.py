"""The widget of notebook 03, driven from Python: every control changes the picture and the numbers, fast."""

from functools import partial

import ipywidgets
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from speed import quickest

from qdm_course.figures import (
    draw_interaction_graph,
    draw_pennylane,
    draw_wire_map,
    liveness_map,
    sketch_circuit,
)
from qdm_course.widgets import circuit_explorer
from qdm_course.widgets.explorer import EXPLORER_ANSATZE, EXPLORER_INPUTS, CircuitFigure
from qdm_lib.audit import audit_circuit
from qdm_lib.circuits import Circuit, Gate, basic, hqconv
from qdm_lib.simulator import simulate

NAMED = (ipywidgets.Dropdown, ipywidgets.BoundedIntText, ipywidgets.Checkbox, ipywidgets.Button)


@pytest.fixture
def box():
    return circuit_explorer(seed=1)


def test_every_control_has_a_name_for_the_keyboard(box):
    controls = list(box.controls.values())
    assert all(isinstance(c, NAMED) and c.description for c in controls)
    assert len({c.description for c in controls}) == len(controls)
    shown, stack = [], [box]
    while stack:
        widget = stack.pop()
        shown.append(widget)
        stack += getattr(widget, "children", ())
    assert all(control in shown for control in controls)
    assert box.picture.alt and 'role="status"' in box.readout.value and box.readout in shown


def test_the_numbers_are_those_of_the_simulator(box):
    x = torch.deg2rad(box.degrees.double())
    z = simulate(hqconv(3), x[None], box.theta[None, :84].double())[0]
    np.testing.assert_allclose(box.numbers["z"], z.tolist(), atol=1e-6)
    np.testing.assert_allclose([bar.get_height() for bar in box.view.panels[12].bars], box.numbers["z"])
    np.testing.assert_allclose([d.get_ydata()[0] for d in box.view.panels[12].dots], x.cos().tolist(), atol=1e-6)
    assert all(f"{value:+.3f}" in box.readout.value for value in box.numbers["z"])


@pytest.mark.parametrize("control", ["ansatz", "layers", "inputs", "x", "weights"])
def test_each_control_moves_picture_and_numbers(box, control):
    before = box.picture.value, box.numbers["z"], box.readout.value
    widget = box.controls[control]
    if control == "weights":
        widget.click()
    else:
        widget.value = {"ansatz": "FQConv", "layers": 2, "inputs": "all 90°"}.get(control, 77)
    assert all(a != b for a, b in zip(before, (box.picture.value, box.numbers["z"], box.readout.value), strict=True))


def test_the_wire_control_only_chooses_what_x_shows(box):
    before = box.picture.value, dict(box.numbers)
    box.controls["wire"].value = 5
    assert box.controls["x"].value == int(box.degrees[5])
    assert (box.picture.value, box.numbers) == before
    box.controls["x"].value = -30
    assert box.degrees[5] == -30 and box.numbers["cos"][5] == pytest.approx(np.cos(np.pi / 6))
    box.controls["wire"].value = 0
    box.controls["wire"].value = 5
    assert box.controls["x"].value == -30


def test_a_smaller_circuit_takes_fewer_wires_and_the_larger_gets_its_inputs_back(box):
    box.controls["wire"].value = 9
    degrees, z = box.degrees.clone(), box.numbers["z"]
    box.controls["ansatz"].value = "Basic, 4 wires"
    assert len(box.numbers["z"]) == 4 and box.controls["wire"].value == 3
    box.controls["ansatz"].value = "HQConv"
    assert box.numbers["z"] == z and torch.equal(box.degrees, degrees)


def test_the_released_circuit_shows_what_it_runs():
    box = circuit_explorer("HQConv as released")
    assert box.numbers["equal"] == 10 and "12 of them in a gate; 10 of 12" in box.readout.value
    assert circuit_explorer("HQConv").numbers["equal"] == 0


@pytest.mark.parametrize("ansatz", EXPLORER_ANSATZE)
def test_all_layers_and_inputs_of_every_ansatz_draw(ansatz):
    box = circuit_explorer(ansatz, 1)
    for layers in (0, 99):  # the control clamps what is out of range
        box.controls["layers"].value = layers
        for inputs in EXPLORER_INPUTS:
            box.controls["inputs"].value = inputs
            assert np.abs(box.numbers["z"]).max() <= 1 + 1e-9


def test_fast_moves_lose_nothing_and_leave_no_figure_behind(box):
    figures = plt.get_fignums()
    for layers in (1, 4, 2, 3):
        box.controls["layers"].value = layers
    fresh = circuit_explorer(seed=1)
    assert box.picture.value == fresh.picture.value and box.readout.value == fresh.readout.value
    assert plt.get_fignums() == figures


TWO = ("FQConv", "HQConv") * 6


@pytest.mark.parametrize("control, values", [("x", (15, 30, 45, 60, 75)), ("layers", (2, 3) * 6), ("ansatz", TWO)])
def test_it_answers_quickly(box, control, values):
    assert quickest([partial(setattr, box.controls[control], "value", value) for value in values]) < 0.2


@pytest.mark.parametrize("bad", [dict(ansatz="x"), dict(inputs="x"), dict(layers=0), dict(layers=5), dict(layers=1.5)])
def test_bad_arguments(bad):
    with pytest.raises(ValueError):
        circuit_explorer(**bad)


def test_the_static_figure_and_its_parts():
    view = CircuitFigure()
    numbers = view.update(hqconv(1), torch.zeros(12), torch.zeros(28))
    np.testing.assert_allclose(numbers["z"], 1)
    swap = Circuit((Gate("SWAP", (0, 1)), Gate("PauliX", (0,)), Gate("CNOT", (1, 0))), 2, 0, 0)
    for draw in (sketch_circuit, draw_interaction_graph):
        assert draw(swap).figure is not None
    assert len(draw_wire_map().patches) == 12
    ax = draw_pennylane(hqconv(1))
    assert sum("θ" in t.get_text() for t in ax.texts) == 28
    assert len({p.get_edgecolor() for p in ax.patches}) >= 4  # encoding, A, B and the meters
    plt.close("all")


def test_liveness_maps():
    audit = audit_circuit(basic())
    for of, shape in (("weights", (4, 16)), ("inputs", (4, 4))):
        ax = liveness_map(audit, of=of)
        shown = ax.images[0].get_array()
        assert shown.shape == shape
        dead = getattr(audit, f"{of[:-1]}_to_output").T.numpy() <= audit.tolerance
        assert (np.ma.getmaskarray(shown) == dead).all()  # white exactly where there is no effect
        plt.close(ax.figure)
    with pytest.raises(ValueError, match="weights"):
        liveness_map(audit, of="gates")
