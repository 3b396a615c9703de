"""The training widget: it trains in the background, its Stop button stops, and going on changes nothing."""

import time

import ipywidgets
import matplotlib.pyplot as plt
import pytest
import torch
from speed import slowness

from qdm_course import widgets
from qdm_course.widgets.training import TrainingFigure, TrainingJob, training_job
from qdm_lib.data import batches, load_images
from qdm_lib.diffusion import NoiseSchedule, cosine_betas
from qdm_lib.training import EMA, make_optimizer, train
from qdm_lib.unet import build_unet

NAMED = (ipywidgets.Dropdown, ipywidgets.BoundedIntText, ipywidgets.Checkbox, ipywidgets.Button)
MINUTE = 60.0


@pytest.fixture(scope="module")
def images():
    return load_images("fashion-mnist", "train", bundled=True).images[:64]


@pytest.fixture(autouse=True)
def small_and_fast():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def small_job(images, **options):
    return TrainingJob("unet", images, batch_size=2, n_samples=2, sampler_steps=2, draw_every=3, **options)


def wait_for(condition, seconds=MINUTE):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.01)


def test_a_job_does_what_train_does(images):
    job = small_job(images)
    job.start(4)
    assert job.wait(MINUTE) and job.error is None
    model = build_unet("unet", seed=0)
    steps = train(
        model, NoiseSchedule(cosine_betas()), batches(images, 2, 0), make_optimizer(model), EMA(model),
        generator=torch.Generator().manual_seed(1_000_003), steps=4,
    )  # fmt: skip
    assert job.losses == [step.loss for step in steps]
    assert job.sampled_at == 4 and job.samples.shape == (2, 1, 28, 28)


def test_stop_stops_after_a_step_and_going_on_changes_nothing(images):
    job = small_job(images)
    job.start(10_000)
    wait_for(lambda: job.step >= 2)
    job.stop(MINUTE)
    assert not job.running and 2 <= job.step < 10_000
    first = job.step
    time.sleep(0.1)
    assert job.step == first, "it went on after the stop"
    job.start(3)
    assert job.wait(MINUTE) and job.step == first + 3
    whole = small_job(images)
    whole.start(first + 3)
    assert whole.wait(MINUTE) and whole.losses == job.losses


def test_a_running_job_cannot_be_started_twice(images):
    job = small_job(images)
    job.start(10_000)
    with pytest.raises(RuntimeError, match="running already"):
        job.start(1)
    job.stop(MINUTE)


def test_an_error_ends_the_job_and_is_kept(images):
    job = small_job(images)
    with torch.no_grad():
        next(job.model.parameters()).fill_(float("nan"))
    job.start(5)
    assert job.wait(MINUTE) and isinstance(job.error, FloatingPointError) and job.step == 0


@pytest.mark.parametrize("bad", [{"preset": "none"}, {"batch_size": 7}])
def test_bad_choices_are_refused(images, bad):
    with pytest.raises(ValueError, match="none|batch_size"):
        training_job(images, **bad)
    with pytest.raises(ValueError, match="Unknown preset"):
        TrainingJob("none", images)
    with pytest.raises(ValueError, match="at least 1"):
        TrainingJob("unet", images, batch_size=0)


def test_the_widget_by_its_buttons(images):
    box = training_job(images, preset="unet", steps=10_000, batch_size=16)
    controls, empty = box.controls, box.picture.png
    assert all(isinstance(c, NAMED) and c.description for c in controls.values())
    assert "<img" in box.picture.value and 'alt="Loss of 0' in box.picture.value
    assert controls["stop"].disabled and "Not started" in box.status.value and 'role="status"' in box.status.value
    controls["start"].click()
    assert controls["start"].disabled and not controls["stop"].disabled and controls["preset"].disabled
    controls["start"].click()  # nothing: one is running
    wait_for(lambda: box.job.step >= 2)
    pressed = time.monotonic()
    controls["stop"].click()
    assert time.monotonic() - pressed < 0.2 * slowness() + 0.5, "the click itself must not wait for the step"
    wait_for(lambda: not controls["start"].disabled)
    stopped = box.job.step
    assert "stopped" in box.status.value and f"step {stopped} " in box.status.value
    assert box.picture.png != empty and controls["stop"].disabled

    controls["steps"].value = 2
    controls["start"].click()
    wait_for(lambda: not controls["start"].disabled)
    assert box.job.step == stopped + 2 and "finished" in box.status.value and box.job.samples is not None

    before = box.job
    controls["batch"].value = 32
    controls["steps"].value = 1
    controls["start"].click()
    wait_for(lambda: not controls["start"].disabled)
    assert box.job is not before and box.job.step == 1

    controls["scratch"].click()
    assert box.job is None and "Not started" in box.status.value and box.picture.png == empty


def test_the_figure_is_none_of_pyplots():
    before = plt.get_fignums()
    figure = TrainingFigure()
    figure.update([0.5, 0.4], torch.zeros(8, 1, 28, 28), 2)
    assert "2" in figure.axes[1].get_title() and plt.get_fignums() == before


def test_widgets_offers_it():
    assert widgets.training_job is training_job
    assert "Interactive" in repr(training_job(preset="unet"))
