"""The notebooks' widgets, driven from Python: every control changes the picture and the numbers, fast."""

from functools import partial

import ipywidgets
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from speed import quickest

from qdm_lib.diffusion import NoiseSchedule, cosine_betas, linear_betas
from qdm_lib.widgets.forward import SCHEDULES, forward_process

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
