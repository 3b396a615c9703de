"""The widget of notebook 01, driven from Python; and how all widgets live on: re-run, closed, saved, opened again."""

import time
import types
from functools import partial

import ipywidgets
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from speed import quickest

from qdm_course.widgets import circuit_explorer, hybridization, tools, training_job
from qdm_course.widgets.forward import SCHEDULES, forward_process
from qdm_lib.data import load_images
from qdm_lib.diffusion import NoiseSchedule, cosine_betas, linear_betas

NAMED = (ipywidgets.Dropdown, ipywidgets.BoundedIntText, ipywidgets.Checkbox, ipywidgets.Button)


@pytest.fixture
def box():
    return forward_process(seed=1)


def state(box):
    return box.picture.value, box.view.pictures[1].get_array().data.tobytes(), dict(box.numbers)


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
    assert box.picture.alt and 'role="status"' in box.children[-1].value


def test_t_moves_picture_numbers_and_dots(box):
    schedule = NoiseSchedule(cosine_betas(1000))
    before = state(box)
    box.controls["t"].value = 700
    after = state(box)
    assert before[0] != after[0] and before[1] != after[1]
    assert after[2]["alphas_cumprod"] == pytest.approx(schedule.alphas_cumprod[700].item())
    assert after[2]["snr"] == pytest.approx(schedule.snr[700].item())
    assert after[2]["p2"] == pytest.approx(1 - schedule.alphas_cumprod[700].item())
    x, y = box.view.dots[1].get_data()
    assert (x[0], y[0]) == pytest.approx((700 / 999, after[2]["snr"]))
    assert "700" in box.view.title.get_text() and f"{after[2]['snr']:.4g}" in box.children[-1].value


def test_the_picture_is_the_closed_form(box):
    clean = torch.from_numpy(np.array(box.view.pictures[0].get_array()))
    schedule = NoiseSchedule(cosine_betas(1000))
    eps = torch.randn(1, 1, 28, 28, generator=torch.Generator().manual_seed(1))
    x_t = schedule.q_sample(clean.view(1, 1, 28, 28), torch.tensor([300]), eps)
    torch.testing.assert_close(box.view.x_t, x_t)


@pytest.mark.parametrize("control", ["image", "redraw", "less", "more", "schedule"])
def test_each_other_control_moves_something(box, control):
    before = state(box)
    widget = box.controls[control]
    if isinstance(widget, ipywidgets.Button):
        widget.click()
    else:
        widget.value = widget.options[1][1] if control == "image" else widget.options[1]
    after = state(box)
    assert before[0] != after[0] and before[1] != after[1]
    assert (before[2] == after[2]) == (control in ("image", "redraw"))  # those two leave the schedule alone


def test_a_shorter_schedule_keeps_the_place_and_gives_it_back(box):
    box.controls["t"].value = 500
    box.controls["schedule"].value = "linear, T = 100"
    assert box.controls["t"].value == round(500 / 999 * 99) and box.controls["t"].max == 99
    assert box.numbers["alphas_cumprod"] == pytest.approx(
        NoiseSchedule(linear_betas(100)).alphas_cumprod[box.controls["t"].value].item()
    )
    box.controls["schedule"].value = "cosine, T = 1000"
    assert box.controls["t"].value == 500


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_the_ends_of_every_schedule_draw(box, schedule):
    box.controls["schedule"].value = schedule
    for t in (0, box.controls["t"].max, 10**6, -5):  # the control clamps what is out of range
        box.controls["t"].value = t
        assert np.isfinite(list(box.numbers.values())).all()
    box.controls["t"].value = 0
    box.controls["less"].click()
    assert box.controls["t"].value == 0


def test_fast_moves_lose_nothing_and_leave_no_figure_behind(box):
    figures = plt.get_fignums()
    for t in range(0, 1000, 125):
        box.controls["t"].value = t
    fresh = forward_process(seed=1, t=875)
    assert state(box) == state(fresh)
    assert plt.get_fignums() == figures


def test_it_answers_quickly(box):
    control = box.controls["t"]
    assert quickest([partial(setattr, control, "value", value) for value in (100, 400, 700, 900, 50)]) < 0.2


def test_own_images_and_bad_arguments():
    own = torch.zeros(2, 1, 28, 28)
    assert forward_process(own).controls["image"].options[1][0] == "image 1"
    for bad in (dict(images=own, titles=["a"]), dict(images=own[..., :9]), dict(schedule="x"), dict(t=1000)):
        with pytest.raises(ValueError):
            forward_process(**bad)


# ---------------------------------------------------------------------------------- widgets that last


@pytest.fixture
def cell(monkeypatch):
    """A notebook's cell that is said to run: `cell.run()` runs it again, `cell.name` is its id."""
    now = types.SimpleNamespace(name="a", number=1)
    now.run = lambda: setattr(now, "number", now.number + 1)
    monkeypatch.setattr(tools, "this_cell", lambda: (now.name, now.number))
    monkeypatch.setattr(tools, "_SHOWN", {})
    return now


def alive(widget) -> bool:
    return widget.comm is not None


@pytest.mark.parametrize(
    "make, control, value",
    [(forward_process, "t", 700), (circuit_explorer, "layers", 2), (hybridization, "column2", "4hqconv")],
)
def test_a_re_run_replaces_the_widget_and_keeps_what_its_controls_said(cell, make, control, value):
    first = make()
    first.controls[control].value = value
    cell.run()
    second = make()
    assert second.controls[control].value == value
    assert [c.value for c in second.controls.values() if hasattr(c, "value")] == [
        c.value for c in first.controls.values() if hasattr(c, "value")
    ]
    assert not alive(first) and not alive(first.picture) and alive(second) and alive(second.picture)
    cell.run()
    third = make()  # a re-run of a re-run
    assert third.controls[control].value == value and not alive(second)


def test_other_arguments_and_other_cells_begin_anew(cell):
    first = forward_process(t=100)
    first.controls["t"].value = 700
    cell.name = "b"
    other = forward_process(t=100)
    assert other.controls["t"].value == 100 and alive(first)
    cell.name = "a"
    cell.run()
    changed = forward_process(t=101)  # the reader has edited the call
    assert changed.controls["t"].value == 101 and not alive(first) and alive(other)


def test_two_widgets_of_one_cell_replace_their_own_forerunners(cell):
    pair = [forward_process(), forward_process()]
    assert all(map(alive, pair))
    pair[0].controls["t"].value, pair[1].controls["t"].value = 10, 20
    cell.run()
    again = [forward_process(), forward_process()]
    assert [box.controls["t"].value for box in again] == [10, 20] and not any(map(alive, pair))


def test_the_explorer_keeps_inputs_and_weights_too(cell):
    first = circuit_explorer(layers=1)
    first.controls["weights"].click()
    first.controls["wire"].value = 5
    first.controls["x"].value = 33
    first.controls["wire"].value = 0
    cell.run()
    second = circuit_explorer(layers=1)
    assert second.numbers == first.numbers and second.degrees[5] == 33


@pytest.mark.parametrize("end", ["a re-run", "close"])
def test_a_training_ends_with_its_widget(cell, end):
    images = load_images("fashion-mnist", "train", bundled=True).images[:32]
    box = training_job(images, preset="unet", steps=10_000, batch_size=16)
    box.controls["start"].click()
    job = box.job
    if end == "close":
        box.close()
    else:
        cell.run()
        new = training_job(images, preset="unet", steps=10_000, batch_size=16)
        assert new.job is None and "Not started" in new.status.value
    assert job.wait(60) and not job.running
    steps = job.step
    time.sleep(0.2)
    assert job.step == steps < 10_000


def test_the_output_holds_a_still_picture_and_how_to_wake_the_widget(monkeypatch):
    shown = []
    monkeypatch.setattr(tools, "display", lambda data, raw: shown.append(data))
    for make in (forward_process, circuit_explorer, hybridization, partial(training_job, preset="unet")):
        box = make()
        box._ipython_display_()
        view, still = shown
        assert "application/vnd.jupyter.widget-view+json" in view and set(still) == {
            "text/html",
            "text/plain",
        }
        assert tools.WAKE in still["text/html"] and still["text/html"].count("<img ") >= 1
        assert 'alt="' in still["text/html"] and "Shift + Enter" in still["text/plain"]
        box.close()
        shown.clear()
        box._ipython_display_()  # a closed widget has nothing to show
        assert not shown


def test_cells_are_told_apart_by_their_id_or_else_their_text(monkeypatch):
    history = types.SimpleNamespace(input_hist_raw=["", "forward_process()"])
    shell = types.SimpleNamespace(history_manager=history, execution_count=7, get_parent=dict)
    monkeypatch.setattr(tools, "get_ipython", lambda: shell)
    assert tools.this_cell() == ("forward_process()", 7)
    shell.get_parent = lambda: {"metadata": {"cellId": "3a"}}
    assert tools.this_cell() == ("3a", 7)
    monkeypatch.setattr(tools, "get_ipython", lambda: None)
    assert tools.this_cell() is None
