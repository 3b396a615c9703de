"""The widget of notebook 05: how much of the vertex is quantum, and what that costs and draws.

Choose the number of circuits, their kind, and the quanvolution; the drawing of the U-Net recolours, and beside it
stand the parameter count with the paper's, the time of a training step, and images from the trained checkpoint of
that setting, where one is shipped. Nothing is computed for longer than a moment, but for two buttons: "Measure a step"
and "Draw samples" work in a thread, with a progress bar, and "Stop" stops them.
"""

from __future__ import annotations

import io
import json
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from functools import cache
from html import escape
from pathlib import Path

import ipywidgets as widgets
import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.image import imsave
from torch import Tensor

from qdm_lib import paper
from qdm_lib.checkpoint import epochs_trained, load_model, shorter_trained
from qdm_lib.circuits import ANSATZE, basic
from qdm_lib.data import DATASETS, to_uint8
from qdm_lib.diffusion import NoiseSchedule, cosine_betas, ddim_sample
from qdm_lib.plots import describe_unet, draw_unet
from qdm_lib.unet import MAX_CIRCUITS, PRESETS, VERTEX_CHANNELS, UNet, UNetConfig, build_unet, count_parameters
from qdm_lib.widgets.tools import Picture, picture_of

ROOT = Path(__file__).resolve().parents[2]
FULL = MAX_CIRCUITS + 1  # the entry of the list of circuits that adds the Basic circuit
PERCENT = {"0 %": 0, "10 %": 1, "50 %": 7, "100 %": FULL}  # the paper's names, and the circuits they stand for
OTHER = "another"
KINDS = {"HQConv": "hqconv", "FQConv": "fqconv"}
# The paper's change against its classical U-Net, by hybridization.
PAPER_CHANGE = {1: paper.CHANGE["1hqconv"], 7: paper.CHANGE["7hqconv"], FULL: paper.CHANGE["fullhqconv"]}
STEP_IMAGES, STEP_ROUNDS = 16, 5  # of "Measure a step"
DRAW_IMAGES, DRAW_STEPS = 8, 25  # of "Draw samples"


def hybridization(
    preset: str = "1hqconv", *, dataset: str = "fashion-mnist", root: str | Path | None = None
) -> widgets.VBox:
    """The hybridization widget, showing one preset of the paper at first.

    root: the folder that holds checkpoints/<data set>/<preset> and study/benchmarks/results; the repository by default.
    Returns a VBox; its attributes `controls` (by name), `config`, `picture` and `samples` (PNG images), `readout` and
    `status` (HTML), `job` (the running thread, or None) are there for tests and for the curious.
    Raises ValueError for an unknown preset or data set.
    """
    if preset not in PRESETS:
        raise ValueError(f"Unknown preset {preset!r}; known are {', '.join(PRESETS)}.")
    if dataset not in DATASETS:
        raise ValueError(f"Unknown data set {dataset!r}; known are {', '.join(DATASETS)}.")
    return _Hybridization(PRESETS[preset], dataset, ROOT if root is None else Path(root))


# ---------------------------------------------------------------------------------- what it shows


def has_checkpoint(folder: Path) -> bool:
    """Whether a folder holds a shipped model or a run."""
    return any((folder / name).exists() for name in ("model.json", "checkpoint.json"))


def training_text(folder: Path) -> str:
    """How long the model of a folder was trained, in words; empty without a card."""
    epochs = epochs_trained(folder)
    return "" if epochs is None else f", trained for {epochs:g} epoch{'' if epochs == 1 else 's'} (the paper: 20)"


def make_config(circuits: int, ansatz: str, quanv: bool) -> UNetConfig:
    """The model with 0 … 13 circuits in each vertex convolution, or 14 for full; a preset's where it is one."""
    full = circuits == FULL
    config = UNetConfig("", min(circuits, MAX_CIRCUITS), full, quanv, ansatz)
    if circuits == 0 and not quanv:
        return PRESETS["unet"]
    for preset in PRESETS.values():
        key = (preset.n_circuits, preset.full, preset.quanv, preset.ansatz)
        if key == (config.n_circuits, full, quanv, ansatz):
            return preset
    name = f"{'quanv-' if quanv else ''}{'full' if full else circuits}{ansatz}"
    return UNetConfig(name, config.n_circuits, full, quanv, ansatz)


@cache
def _classical_count() -> int:
    return count_parameters(build_unet("unet", seed=0))


def parameter_count(config: UNetConfig) -> int:
    """The trainable parameters of `UNet(config)`, without building it.

    A convolution from c to c channels with 3×3 kernels and a bias has 9c² + c parameters. A hybrid vertex convolution
    with n circuits of w weights has n·w and those of a convolution of 40 − 3n channels; where it is full, n·w and the
    Basic circuit's. A quanvolution has w and those of 7 channels in the place of 10. There are four of each.
    """

    def conv(c: int) -> int:
        return 9 * c * c + c

    weights = ANSATZE[config.ansatz](config.layers).n_weights
    count = _classical_count()
    if config.n_circuits:
        rest = basic().n_weights if config.full else conv(VERTEX_CHANNELS - config.quantum_channels)
        count += 4 * (config.n_circuits * weights + rest - conv(VERTEX_CHANNELS))
    if config.quanv and config.paper_count:  # 10 → 7 channels beside the circuit, one of a single layer for each block
        count += 4 * (9 * 10 * 7 + 7 - conv(10)) + 2 * ANSATZE[config.ansatz](1).n_weights
    elif config.quanv:
        count += 4 * (weights + conv(7) - conv(10))
    return count


def percent(value: float) -> str:
    """A relative change with a sign, as the paper prints it: −1.65 %."""
    return f"{100 * value:+.2f} %".replace("-", "−")


def parameter_text(config: UNetConfig) -> str:
    """The count of a model, its change against the classical one, and what the paper prints for that setting."""
    count, classical = parameter_count(config), _classical_count()
    if config.preset == "unet":
        return f"{count:,}, the classical U-Net (the paper: {classical:,})"
    text = f"{count:,}, {percent(count / classical - 1)} against the classical {classical:,}"
    circuits = FULL if config.full else config.n_circuits
    if config.quanv:
        stated = f"{paper.COUNTS['quanv-hqconv']:,}, {paper.CHANGE['quanv-hqconv']}"
        stated += "; its released code has the count shown here"
        return text + (f" (the paper: {stated})" if config.preset == "quanv-hqconv" else "")
    if circuits not in PAPER_CHANGE:
        return text + " (not in the paper)"
    note = ""
    if config.preset == "1hqconv":
        note = f"; that is 1FQConv's count, {parameter_count(PRESETS['1fqconv']):,}"
    elif config.ansatz == "fqconv" and circuits > 1:
        note = ", for HQConv"
    return f"{text} (the paper: {PAPER_CHANGE[circuits]}{note})"


def benchmark_times(root: Path) -> tuple[dict[str, float], int]:
    """Seconds of a training step by preset, and the batch size, from study/benchmarks/results/training_step.json."""
    try:
        part = json.loads((root / "study/benchmarks/results/training_step.json").read_text())["parts"]["presets"]
        times = {row["name"]: row["median_s"] for row in part["rows"] if "median_s" in row}
        return times, part["settings"]["batch"]
    except (OSError, ValueError, KeyError):
        return {}, 0


def time_text(config: UNetConfig, root: Path) -> str:
    """The measured time of a training step, from the committed benchmark, beside the classical model's."""
    times, batch = benchmark_times(root)
    if config.preset not in times:
        return "not in the benchmark; “Measure a step” measures here"
    text = f"{times[config.preset]:.3g} s for {batch} images"
    if config.preset != "unet" and "unet" in times:
        text += f", {times[config.preset] / times['unet']:.2f} times the classical step of {times['unet']:.3g} s"
    return text + " (study/benchmarks/results/training_step.json)"


def grid_png(images: Tensor, columns: int = 8, zoom: int = 3) -> bytes:
    """Images, uint8 (N, 1, H, W), as one PNG: `columns` a row, two white pixels between them, enlarged."""
    n, _, height, width = images.shape
    rows = -(-n // columns)
    canvas = np.full((rows * (height + 2) - 2, columns * (width + 2) - 2), 255, np.uint8)
    for k, image in enumerate(images[:, 0].numpy()):
        y, x = k // columns * (height + 2), k % columns * (width + 2)
        canvas[y : y + height, x : x + width] = image
    buffer = io.BytesIO()
    imsave(buffer, canvas.repeat(zoom, 0).repeat(zoom, 1), cmap="gray", vmin=0, vmax=255, format="png")
    return buffer.getvalue()


class HybridizationFigure:
    """The drawing of the U-Net, off screen; `picture(config)` is its PNG, kept once drawn."""

    def __init__(self) -> None:
        self.figure = Figure(figsize=(10.6, 5.0))
        FigureCanvasAgg(self.figure)  # off screen: pyplot never hears of it and cannot show it a second time
        self.pictures: dict[UNetConfig, bytes] = {}

    def picture(self, config: UNetConfig) -> bytes:
        if config not in self.pictures:
            self.figure.clear()
            draw_unet(config, self.figure.add_axes((0, 0, 1, 0.95)))
            self.pictures[config] = picture_of(self.figure)
        return self.pictures[config]


# ---------------------------------------------------------------------------------- the two jobs


def measure_steps(config: UNetConfig) -> Iterator[tuple[float, str]]:
    """Time a forward and backward pass of 16 images, in turns with the classical model's; yields (share, text)."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(STEP_IMAGES, 1, 28, 28, generator=generator)
    t = torch.randint(0, 1000, (STEP_IMAGES,), generator=generator)
    models = {name: UNet(c, generator) for name, c in {config.preset: config, "unet": PRESETS["unet"]}.items()}
    seconds: dict[str, list[float]] = {name: [] for name in models}
    for k in range(STEP_ROUNDS + 1):
        for name, model in models.items():
            start = time.perf_counter()
            model(x, t).square().mean().backward()
            if k > 0:  # the first round plans the circuits and warms up
                seconds[name].append(time.perf_counter() - start)
        yield (k + 1) / (STEP_ROUNDS + 1), f"measuring, round {k} of {STEP_ROUNDS}"
    median = {name: statistics.median(s) for name, s in seconds.items()}
    text = f"measured here: {1e3 * median[config.preset]:.0f} ms forward and backward for {STEP_IMAGES} images"
    if config.preset != "unet":
        text += f", {median[config.preset] / median['unet']:.2f} times the classical {1e3 * median['unet']:.0f} ms"
    yield 1.0, text


@torch.no_grad()
def draw_steps(folder: Path, seed: int) -> Iterator[tuple[float, str, bytes]]:
    """Draw 8 images from a checkpoint by DDIM; yields (share, text, PNG of the present guess of x_0)."""
    model, schedule = load_model(folder), NoiseSchedule(cosine_betas())
    generator = torch.Generator().manual_seed(seed)
    shape = (DRAW_IMAGES, 1, 28, 28)
    for k, state in enumerate(ddim_sample(model, schedule, shape, steps=DRAW_STEPS, generator=generator)):
        done = f"step {k + 1} of {DRAW_STEPS}"
        finished = f"{DRAW_IMAGES} images drawn with DDIM, {DRAW_STEPS} steps, seed {seed}"
        text = f"drawing, {done}" if k + 1 < DRAW_STEPS else finished
        yield (k + 1) / DRAW_STEPS, text, grid_png(to_uint8(state.x_0))


class _Job(threading.Thread):
    """Runs a generator of (share done, text, …) until it ends or is stopped, and hands each item on."""

    def __init__(self, items: Iterator[tuple], on_item: Callable, on_end: Callable) -> None:
        super().__init__(daemon=True)
        self.items, self.on_item, self.on_end, self.stopped = items, on_item, on_end, threading.Event()

    def run(self) -> None:
        error = ""
        try:
            for item in self.items:
                if self.stopped.is_set():
                    break
                self.on_item(self, *item)
        except Exception as problem:  # shown in the widget: a thread has nowhere else to say it
            error = f"{type(problem).__name__}: {problem}"
        self.on_end(self, error)


# ---------------------------------------------------------------------------------- the widget


class _Hybridization(widgets.VBox):
    """Controls, drawing and numbers of `hybridization`, and what they do to one another."""

    def __init__(self, config: UNetConfig, dataset: str, root: Path) -> None:
        self.root, self.view, self.job, self.busy = root, HybridizationFigure(), None, False
        self.lock = threading.RLock()
        circuits = FULL if config.full else config.n_circuits
        numbers = [(str(n), n) for n in range(MAX_CIRCUITS + 1)] + [("13 and Basic (full)", FULL)]
        ansatz = config.ansatz if config.ansatz in KINDS.values() else "hqconv"
        self.controls = {
            "percent": widgets.Dropdown(options=[*PERCENT, OTHER], description="Hybridization"),
            "circuits": widgets.Dropdown(options=numbers, value=circuits, description="Circuits"),
            "ansatz": widgets.Dropdown(options=list(KINDS.items()), value=ansatz, description="Kind"),
            "quanv": widgets.Checkbox(value=config.quanv, description="Quanvolution at 14×14", indent=False),
            "dataset": widgets.Dropdown(options=list(DATASETS), value=dataset, description="Data set"),
            "seed": widgets.BoundedIntText(value=0, min=0, max=9999, description="Seed"),
            "draw": widgets.Button(description="Draw samples"),
            "measure": widgets.Button(description="Measure a step"),
            "stop": widgets.Button(description="Stop", disabled=True),
        }
        for name, control in self.controls.items():
            wide = {"percent": "210px", "circuits": "250px", "ansatz": "170px", "quanv": "200px", "seed": "150px"}
            if isinstance(control, widgets.Dropdown | widgets.BoundedIntText):
                control.style.description_width = "initial"
            control.layout.margin = "2px 14px 2px 0"
            control.layout.width = wide.get(name, "230px" if name == "dataset" else "130px")
        self.picture, self.samples = Picture(), Picture()
        self.readout, self.status = widgets.HTML(), widgets.HTML()
        self.progress = widgets.FloatProgress(min=0, max=1, layout=widgets.Layout(width="200px"))
        rows = list(self.controls.values())
        wrap = widgets.Layout(flex_flow="row wrap", align_items="center")
        super().__init__(
            [
                widgets.HBox(rows[:4], layout=wrap),
                self.picture,
                self.readout,
                widgets.HBox([*rows[4:], self.progress], layout=wrap),
                self.status,
                self.samples,
            ]
        )
        self._connect()
        self._couple()
        self.show()

    def _connect(self) -> None:
        self.controls["percent"].observe(self._change_percent, "value")
        for name in ("circuits", "ansatz", "quanv"):
            self.controls[name].observe(self._change, "value")
        for name in ("dataset", "seed"):
            self.controls[name].observe(lambda _: self._show_samples(), "value")
        self.controls["measure"].on_click(lambda _: self._start(measure_steps(self.config)))
        self.controls["draw"].on_click(lambda _: self._start(draw_steps(self.folder, self.controls["seed"].value)))
        self.controls["stop"].on_click(lambda _: self.stop())

    def __repr__(self) -> str:  # what a page without a kernel shows in its place
        return "Interactive: run the notebook to move the controls."

    @property
    def config(self) -> UNetConfig:
        """What the controls say."""
        return make_config(*(self.controls[name].value for name in ("circuits", "ansatz", "quanv")))

    @property
    def folder(self) -> Path:
        """Where this setting's checkpoint is, or would be: by the plain name, else the longest trained (x-2-epochs)."""
        plain = self.root / "checkpoints" / self.controls["dataset"].value / self.config.preset
        return next(filter(has_checkpoint, [plain, *shorter_trained(plain)]), plain)

    def show(self) -> None:
        """Bring drawing, numbers and samples up to what the controls say."""
        config = self.config
        self.picture.show(self.view.picture(config), describe_unet(config))
        rows = {
            "Model": f"{config.preset}: {config.describe()}",
            "Parameters": parameter_text(config),
            "Training step": time_text(config, self.root),
        }
        lines = "".join(
            f'<tr><th style="text-align:left;padding-right:1em;vertical-align:top">{name}</th>'
            f"<td>{escape(text)}</td></tr>"
            for name, text in rows.items()
        )
        self.readout.value = f'<div role="status" aria-live="polite"><table>{lines}</table></div>'
        self._show_samples()

    def _couple(self) -> None:
        """Let the percentage follow the number of circuits."""
        names = {n: name for name, n in PERCENT.items()}
        self.busy = True
        self.controls["percent"].value = names.get(self.controls["circuits"].value, OTHER)
        self.busy = False

    def _change_percent(self, change) -> None:
        if not self.busy and change["new"] in PERCENT:
            self.controls["circuits"].value = PERCENT[change["new"]]  # which calls _change
        elif not self.busy:
            self._couple()  # "another" by itself chooses nothing

    def _change(self, _) -> None:
        self._couple()
        self.show()

    def _show_samples(self) -> None:
        """The pre-made grid of the checkpoint, or a sentence that there is none; a running job is called off."""
        self._call_off()
        folder = self.folder
        here, made = has_checkpoint(folder), folder / "samples.png"
        data, preset, seed = self.controls["dataset"].value, self.config.preset, self.controls["seed"].value
        which = f"the shipped {folder.name} checkpoint for {data}{training_text(folder)}"
        if not here:
            text = f"No trained checkpoint of {preset} on {data} is shipped, so there are no samples of it."
        elif made.exists():
            text = f"Drawn by {which}. “Draw samples” draws others, seed {seed}."
        else:
            text = f"T{which[1:]} can draw: press “Draw samples” (seed {seed})."
        self._show_grid(made.read_bytes() if here and made.exists() else b"", text)
        self._say(text)

    def _show_grid(self, png: bytes, text: str) -> None:
        self.samples.layout.display = "" if png else "none"
        self.samples.show(png, f"A grid of generated images. {text}")

    def _say(self, text: str) -> None:
        self.status.value = f'<div role="status" aria-live="polite">{escape(text)}</div>'

    # A job's thread and the controls both write into the widget; the lock lets only one do so at a time.

    def _start(self, items: Iterator[tuple]) -> None:
        with self.lock:
            if self.job is None:
                self.job = _Job(items, self._item, self._end)
                self._running(True)
                self.job.start()

    def _running(self, now: bool) -> None:
        self.controls["measure"].disabled = now
        self.controls["draw"].disabled = now or not has_checkpoint(self.folder)
        self.controls["stop"].disabled = not now
        self.progress.value = 0
        self.progress.layout.display = "" if now else "none"

    def _item(self, job: _Job, share: float, text: str, png: bytes | None = None) -> None:
        with self.lock:
            if job is self.job and not job.stopped.is_set():
                self.progress.value = share
                self._say(text)
                if png is not None:
                    self._show_grid(png, text)

    def _end(self, job: _Job, error: str) -> None:
        with self.lock:
            if job is self.job:
                self.job = None
                self._running(False)
                if error or job.stopped.is_set():
                    self._say(error or "Stopped.")

    def stop(self) -> None:
        """Stop the running job, if there is one; what it has drawn so far stays."""
        if self.job is not None:
            self.job.stopped.set()

    def _call_off(self) -> None:
        """Forget the running job: the controls have moved on, and its result belongs to another setting."""
        with self.lock:
            self.stop()
            self.job = None
            self._running(False)
