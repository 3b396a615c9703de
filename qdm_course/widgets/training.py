"""The widget of notebook 06: train a model for real, watch loss and samples, stop and go on.

A `TrainingJob` trains in a thread of its own, so that the notebook stays alive and its Stop button is heard between two
steps. It knows no widgets: tests and scripts can use it. `training_job` puts controls and one picture around it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import ipywidgets as widgets
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor

from qdm_course.widgets.tools import LastingWidget, Picture, picture_of, row
from qdm_lib.data import ImageSet, batches, load_images
from qdm_lib.diffusion import NoiseSchedule, ddim_sample, sample
from qdm_lib.plots import image_grid, loss_curve
from qdm_lib.runs import NOISE_STREAM
from qdm_lib.training import EMA, make_optimizer, train
from qdm_lib.unet import PRESETS, build_unet

BATCH_SIZES = (16, 32, 64, 128)
REDRAW = 0.5  # seconds between two pictures, at least


class TrainingJob:
    """One training run in a background thread: start it, stop it after a whole step, go on where it stood.

    preset: the model. images: what to train on (an ImageSet or uint8 images). batch_size: images a step. seed: of
    weights, batches and noise; the same seed gives the same losses, however often the job is stopped. draw_every: steps
    between two sets of samples. n_samples, sampler_steps: their size, by DDIM. on_change: called from the thread after
    every step and at the end; keep it short.

    Attributes: `losses` (one a step), `step`, `running`, `error` (the exception that ended it, or None), `samples`
    (n, 1, 28, 28) or None and `sampled_at`, the step they belong to. Samples come from the averaged weights.

    ValueError for an unknown preset or numbers below 1.
    """

    def __init__(
        self,
        preset: str,
        images: ImageSet | Tensor,
        *,
        batch_size: int = 32,
        seed: int = 0,
        draw_every: int = 25,
        n_samples: int = 8,
        sampler_steps: int = 10,
        on_change: Callable[[TrainingJob], None] | None = None,
    ) -> None:
        if preset not in PRESETS:
            raise ValueError(f"Unknown preset {preset!r}; known are {', '.join(PRESETS)}.")
        if min(batch_size, draw_every, n_samples, sampler_steps) < 1:
            raise ValueError("batch_size, draw_every, n_samples and sampler_steps must all be at least 1.")
        self.preset, self.images, self.batch_size, self.seed = preset, images, batch_size, seed
        self.draw_every, self.sampler_steps = draw_every, sampler_steps
        self.on_change = on_change or (lambda job: None)
        self.model = build_unet(preset, seed=seed, verbose=False)
        self.optimizer, self.ema = make_optimizer(self.model), EMA(self.model)
        self.noise = torch.Generator().manual_seed(seed + NOISE_STREAM)
        self.start_noise = torch.randn(n_samples, 1, 28, 28, generator=torch.Generator().manual_seed(seed))
        self.schedule = NoiseSchedule()
        self.losses: list[float] = []
        self.samples: Tensor | None = None
        self.sampled_at = 0
        self.error: Exception | None = None
        self.seconds = 0.0  # spent in training steps and samples, pauses not counted
        self.last_step = 0
        self._stop, self._thread = threading.Event(), None

    @property
    def step(self) -> int:
        """Steps finished."""
        return len(self.losses)

    @property
    def running(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def start(self, steps: int) -> None:
        """Make `steps` more steps in the background. RuntimeError if the job is running already."""
        if self.running:
            raise RuntimeError("This job is running already; stop it first.")
        if steps < 1:
            raise ValueError(f"steps must be at least 1, not {steps}.")
        self._stop.clear()
        self.error, self.last_step = None, self.step + steps
        threads = torch.get_num_threads()  # a new thread would start with torch's own default
        self._thread = threading.Thread(target=self._run, args=(steps, threads), daemon=True)
        self._thread.start()

    def stop(self, wait: float | None = 0.0) -> None:
        """Ask the job to end after the step under way; wait for it, at most that many seconds (None: for ever)."""
        self._stop.set()
        self.wait(wait)

    def wait(self, seconds: float | None = None) -> bool:
        """Wait for the end of the job, at most that many seconds; True if it has ended."""
        if self._thread is not None:
            self._thread.join(seconds)
        return not self.running

    def _run(self, steps: int, threads: int) -> None:
        torch.set_num_threads(threads)
        began, before = time.perf_counter(), self.seconds
        try:
            feed = batches(self.images, self.batch_size, self.seed, self.step)
            for done in train(
                self.model, self.schedule, feed, self.optimizer, self.ema,
                generator=self.noise, start_step=self.step, steps=steps,
            ):  # fmt: skip
                self.losses.append(done.loss)
                if self.step % self.draw_every == 0 or self.step == self.last_step:
                    self._draw()
                self.seconds = before + time.perf_counter() - began
                self.on_change(self)
                if self._stop.is_set():
                    break
        except Exception as error:  # shown by whoever looks at the job: a thread has nobody to raise it to
            self.error = error

    def _draw(self) -> None:
        with self.ema.applied_to(self.model) as model:
            model.eval()
            states = ddim_sample(
                model, self.schedule, self.start_noise.shape, steps=self.sampler_steps, x_T=self.start_noise
            )
            self.samples, self.sampled_at = sample(states), self.step


class TrainingFigure:
    """Loss (left) and samples (right) of a job. Attributes: `figure` (matplotlib). `update` draws it anew.

    What you see: left a pale dot for the loss of each step and a line for the running mean, on a logarithmic scale;
    right the images that the averaged weights draw from the same noise each time.
    """

    def __init__(self) -> None:
        self.figure = Figure(figsize=(9.6, 3.0), layout="constrained")
        FigureCanvasAgg(self.figure)  # off screen: pyplot does not know it and cannot show it a second time
        self.axes = self.figure.subplots(1, 2, width_ratios=(1.25, 1))

    def update(self, losses: list[float], samples: Tensor | None = None, sampled_at: int = 0) -> Figure:
        """Draw a run: its losses so far, and images (n, 1, 28, 28), if there are any, of step `sampled_at`."""
        for ax in self.axes:
            ax.clear()
        if losses:
            loss_curve(losses, self.axes[0])
        else:
            self.axes[0].text(0.5, 0.5, "no steps yet", ha="center", va="center", transform=self.axes[0].transAxes)
            self.axes[0].set_axis_off()
        if samples is None:
            self.axes[1].set_axis_off()
        else:
            image_grid(samples, self.axes[1], columns=4)
            self.axes[1].set_title(f"drawn after step {sampled_at}", fontsize=11)
        return self.figure


def training_job(
    images: ImageSet | Tensor | None = None, *, preset: str = "1hqconv", steps: int = 200, batch_size: int = 32
) -> LastingWidget:
    """The widget of notebook 06: choose a model and a number of steps, start, watch, stop, go on.

    images: what to train on; by default the bundled subset of Fashion-MNIST. "Start" makes that many more steps, also
    after a stop; "Stop" ends after the step under way; "From scratch" throws the run away. Changing the model or the
    batch size does that, too, at the next start.

    Returns a VBox; its attributes `controls` (by name), `job` (a `TrainingJob` or None), `picture` and
    `status` are there for tests and for the curious.
    ValueError for an unknown preset or batch size.
    """
    if preset not in PRESETS:
        raise ValueError(f"Unknown preset {preset!r}; known are {', '.join(PRESETS)}.")
    if batch_size not in BATCH_SIZES:
        raise ValueError(f"batch_size must be one of {', '.join(map(str, BATCH_SIZES))}, not {batch_size}.")
    return _TrainingBox(images, preset, steps, batch_size)


class _TrainingBox(LastingWidget):
    """Controls, picture and status line of `training_job`."""

    def __init__(self, images, preset: str, steps: int, batch_size: int) -> None:
        self.images = load_images("fashion-mnist", "train", bundled=True) if images is None else images
        self.controls = {
            "preset": widgets.Dropdown(options=list(PRESETS), value=preset, description="Model"),
            "batch": widgets.Dropdown(options=list(BATCH_SIZES), value=batch_size, description="Batch size"),
            "steps": widgets.BoundedIntText(value=steps, min=1, max=100_000, description="Steps"),
            "start": widgets.Button(description="Start", button_style="primary"),
            "stop": widgets.Button(description="Stop", disabled=True),
            "scratch": widgets.Button(description="From scratch"),
        }
        self.picture, self.status = Picture(), widgets.HTML()
        rows = list(self.controls.values())
        self.job: TrainingJob | None = None
        super().__init__([row(rows[:3]), row(rows[3:]), self.status, self.picture])
        self.view, self.lock, self.drawn = TrainingFigure(), threading.Lock(), 0.0
        self.controls["start"].on_click(lambda _: self.start())
        self.controls["stop"].on_click(lambda _: self.stop())
        self.controls["scratch"].on_click(lambda _: self.scratch())
        self.show()
        self.settle(preset, steps, batch_size)

    def still(self) -> str:
        return self.picture.value

    def start(self) -> None:
        """Go on with the run, or begin one where model or batch size are new; nothing happens while one runs."""
        if self.job is not None and self.job.running:
            return
        chosen = self.controls["preset"].value, self.controls["batch"].value
        if self.job is None or (self.job.preset, self.job.batch_size) != chosen:
            self.job = TrainingJob(chosen[0], self.images, batch_size=chosen[1], on_change=self._step_done)
        self._set_running(True)
        self.job.start(self.controls["steps"].value)
        threading.Thread(target=self._at_end, args=(self.job,), daemon=True).start()

    def stop(self) -> None:
        """Ask for the end of the run; the step under way is finished first."""
        if self.job is not None and self.job.running:
            self.controls["stop"].disabled = True
            self.job.stop()

    def scratch(self) -> None:
        """Throw the run away, stopping it if need be."""
        if self.job is not None:
            self.job.stop(None)
        self.job = None
        self._set_running(False)
        self.show()

    def show(self) -> None:
        """Bring picture and status line up to the job."""
        job = self.job
        with self.lock:  # the job's thread and the reader's clicks may both get here
            losses = [] if job is None else list(job.losses)
            figure = self.view.update(losses, getattr(job, "samples", None), getattr(job, "sampled_at", 0))
            self.picture.show(
                picture_of(figure), f"Loss of {len(losses)} training steps, and images drawn by the model"
            )
            self.drawn = time.monotonic()
        self.status.value = _status(job)

    def _step_done(self, job: TrainingJob) -> None:
        if job is self.job and time.monotonic() - self.drawn > REDRAW:
            self.show()

    def _at_end(self, job: TrainingJob) -> None:
        job.wait()
        if job is self.job:
            self.show()
            self._set_running(False)  # last: whoever sees Start enabled sees the final picture, too

    def _set_running(self, running: bool) -> None:
        for name in ("preset", "batch", "steps", "start"):
            self.controls[name].disabled = running
        self.controls["stop"].disabled = not running


def _status(job: TrainingJob | None) -> str:
    """One line and a bar. Screen readers announce it when a run begins and ends, not at every step."""
    live = "off" if job is not None and job.running else "polite"
    if job is None:
        text, done, last = "Not started.", 0, 1
    else:
        done, last = job.step, max(1, job.last_step)
        mean = sum(job.losses[-50:]) / max(1, len(job.losses[-50:]))
        state = "running" if job.running else "finished" if done == last else "stopped"
        text = f"{job.preset}: {state}, step {done} of {last}"
        if done:
            pace = job.seconds / done
            text += f", mean loss of the last {min(50, done)} steps {mean:.4f}, {pace:.2f} s a step"
            text += f", about {pace * (last - done):.0f} s left" if job.running else ""
        if job.error is not None:
            text += f". It failed: {job.error}"
    return (
        f'<div role="status" aria-live="{live}" style="font-size:110%">{text}</div>'
        f'<progress aria-label="training" max="{last}" value="{done}" style="width:60%"></progress>'
    )
