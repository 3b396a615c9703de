"""One training run on disk: start it, stop it, go on, draw from it. Shared by the command line and the experiments.

A run is a folder:

    checkpoint.safetensors   the newest checkpoint (`qdm_lib.checkpoint`)
    .lock                    empty; who trains here holds the system's lock on it
    loss.csv                 step, loss, gradient norm: one line for each optimiser step

`train_run` writes a checkpoint before the first step, every `save_every` steps, at the end and when it is asked to stop
(Ctrl-C). A run that was killed goes on from its last checkpoint and ends with the weights, and the loss.csv, of
an uninterrupted one (bit for bit on the CPU).
"""

from __future__ import annotations

import csv
import json
import os
import signal
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import TextIO

import torch
from torch import nn

from qdm_lib.checkpoint import has_checkpoint, has_model, load_checkpoint, read_info, save_checkpoint
from qdm_lib.checks import choice, whole
from qdm_lib.data import DATASETS, ImageSet, batches, load_images
from qdm_lib.diffusion import NoiseSchedule
from qdm_lib.files import locked, replacing
from qdm_lib.machine import Pace, pick_device
from qdm_lib.quantum import BACKENDS
from qdm_lib.restoring import Checkpoint, check_config, restore
from qdm_lib.runs.streams import NOISE_STREAM, NUDGE_STREAM
from qdm_lib.training import EMA, TrainConfig, TrainStep, make_optimizer, train
from qdm_lib.transfer import transfer_weights, unwrap
from qdm_lib.unet import PRESETS, UNet, UNetConfig, build_unet, count_parameters, preset_config

LOCK = ".lock"  # a file in a run's folder, locked by the process that trains there


@dataclass(frozen=True)
class RunConfig:
    """What a training run is. `dataclasses.asdict` of it is the "run_config" of the run's checkpoints.

    preset, hybridization: the model, as `build_unet` takes them. model_options: further fields of `UNetConfig`, such as
    ``{"ansatz": "fqconv"}``. dataset: a key of `qdm_lib.data.DATASETS`. steps: optimiser steps in all. seed: of the
    weights, the batches and the noise. backend: of the circuits. bf16: train in bfloat16 where torch thinks it safe
    (autocast). recipe: batch size, learning rate, loss weight and averaging.

    first_weights: a preset, such as "unet": every weight that this preset has too, by name and shape, starts as in it
    with the same seed. So models of one seed begin alike, and their differences come from the models.
    nudge: multiply every first weight w by 1 + nudge·z, z normal, drawn from the seed; between 0 and 1. A run that is
    nudged by next to nothing shows how far two runs drift apart through rounding-sized differences alone.

    ValueError where a name does not exist, a number is out of range, or model_options set what another field says.
    """

    preset: str = "1hqconv"
    dataset: str = "fashion-mnist"
    steps: int = 9375
    seed: int = 0
    hybridization: int | float | str | None = None
    first_weights: str | None = None
    nudge: float | None = None
    backend: str = "fast"
    bf16: bool = False
    model_options: dict = field(default_factory=dict)
    recipe: TrainConfig = TrainConfig()

    def __post_init__(self) -> None:
        choice("preset", self.preset, PRESETS)
        choice("data set", self.dataset, DATASETS)
        choice("backend", self.backend, BACKENDS)
        if self.first_weights is not None:
            choice("preset of first_weights", self.first_weights, PRESETS)
        if self.nudge is not None and not (isinstance(self.nudge, int | float) and 0 < self.nudge < 1):
            raise ValueError(f"nudge must be a number above 0 and below 1, or None; got {self.nudge!r}.")
        object.__setattr__(self, "steps", whole("steps", self.steps))  # NumPy's whole numbers are no JSON
        object.__setattr__(self, "seed", whole("seed", self.seed, 0, 2**31 - 1))
        if not isinstance(self.bf16, bool):
            raise ValueError(f"bf16 must be True or False; got {self.bf16!r}.")
        if isinstance(self.recipe, dict):  # read back from JSON
            object.__setattr__(self, "recipe", TrainConfig(**self.recipe))
        if not isinstance(self.recipe, TrainConfig):
            raise TypeError(f"recipe must be a TrainConfig, or a dictionary of its fields; got {self.recipe!r}.")
        self.model_config()  # what `build_unet` would refuse is refused now, not after the images are read

    def model_config(self) -> UNetConfig:
        """The config of the model that `build_model` makes."""
        own = ("preset", "backend", "T")  # the run's
        for name in self.model_options:
            choice("model option", name, [field.name for field in fields(UNetConfig) if field.name not in own])
        return preset_config(self.preset, self.hybridization, backend=self.backend, **self.model_options)

    def build_model(self) -> UNet:
        """The model with its first weights, drawn from the seed."""
        model = UNet(self.model_config(), torch.Generator().manual_seed(self.seed))
        if self.first_weights is not None:
            transfer_weights(build_unet(self.first_weights, seed=self.seed, verbose=False), model, exclude=None)
        if self.nudge is not None:
            generator = torch.Generator().manual_seed(self.seed + NUDGE_STREAM)
            with torch.no_grad():
                for weight in model.parameters():
                    weight.mul_(1 + self.nudge * torch.randn(weight.shape, generator=generator))
        return model


class Interrupted(KeyboardInterrupt):
    """Training was asked to stop, and did so after a whole step and a checkpoint. `.step`, `.folder`, `.signal`."""

    def __init__(self, step: int, folder: Path, signum: int) -> None:
        super().__init__(f"Stopped after step {step}; it is saved in {folder}.")
        self.step, self.folder, self.signal = step, folder, signum


class FolderInUseError(ValueError):
    """Another process trains in a run's folder."""

    def __init__(self, folder: Path) -> None:
        super().__init__(f"Another process trains in {folder}; wait for its end or choose another folder.")


@contextmanager
def sole_user(folder: Path) -> Iterator[None]:
    """No other process trains in this folder while the with block lasts; `FolderInUseError` if one does already."""
    with locked(folder / LOCK) as mine:
        if not mine:
            raise FolderInUseError(folder)
        yield


@dataclass(frozen=True)
class RunResult:
    """What `train_run` did: steps first_step+1 … last_step in `seconds`, saved in `folder`; the data it saw."""

    folder: Path
    first_step: int
    last_step: int
    seconds: float
    data: str


# -------------------------------------------------------------------------------------------- training


def train_run(
    config: RunConfig,
    out: str | os.PathLike,
    *,
    resume: bool = False,
    save_every: int = 250,
    device: str | torch.device | None = None,
    progress: bool = True,
    model: nn.Module | None = None,
    images: ImageSet | None = None,
    on_step: Callable[[TrainStep], None] | None = None,
    processes=None,
) -> RunResult:
    """Train a model and keep it on disk; go on with a run that was stopped. See the module's text for the files.

    config: what to train. When resuming it must describe the same run; only steps, backend and bf16 may differ.
    out: the run's folder. It must hold no run, or, with resume=True, hold a checkpoint. save_every: steps between two
    checkpoints. device: "cpu", "cuda", …; None takes the GPU if there is one. progress: print one line about the run
    and show a bar. on_step: called after each step. model: start from this one instead of a fresh one of `config` (its
    weights count, when not resuming). images: train on these instead of loading `config.dataset`. processes: a
    `Processes`, where several make this run together; the main one writes.

    ValueError, FileNotFoundError or OSError, before any work, for a folder or a configuration that cannot be used, and
    for another model or other images than it says; `FolderInUseError`, a ValueError, where another process trains
    there. `Interrupted` where Ctrl-C or SIGTERM came: the step under way was finished and saved. FloatingPointError
    where the loss is no longer a number; the last checkpoint is kept.
    """
    out, main = Path(out), processes is None or processes.is_main
    whole("save_every", save_every)
    device = pick_device(device) if processes is None else processes.device
    if processes is not None:
        processes.check_batch(config.recipe.batch_size)
    _check_given(config, model, images)
    with _own_folder(out, resume, processes) as saved:
        images = load_images(config.dataset) if images is None else images
        if saved is not None:
            _check_same_run(saved, config, images)
        model = (model if model is not None else config.build_model()).to(device)
        ema, optimizer = EMA(model, config.recipe), make_optimizer(model, config.recipe)
        noise, schedule = torch.Generator().manual_seed(config.seed + NOISE_STREAM), NoiseSchedule()
        if saved is not None:
            restore(saved, model=model, ema=ema, optimizer=optimizer, generators={"noise": noise}, schedule=schedule)
        start = saved.step if saved is not None else 0
        if start >= config.steps:
            return RunResult(out, start, start, 0.0, images.source)

        def save(step: int) -> None:
            if main:
                run_config = asdict(config) | {"data": images.source}
                save_checkpoint(out, model=model, ema=ema, optimizer=optimizer, step=step, run_config=run_config,
                                generators={"noise": noise}, schedule=schedule)  # fmt: skip

        if saved is None:
            save(0)  # also proves, before hours of work, that the folder can be written
        if progress and main:
            print(_opening_line(config, model, images, start, device, out))
        shared = model if processes is None else processes.wrap(model)
        began = time.perf_counter()
        steps = train(
            shared, schedule, batches(images, config.recipe.batch_size, config.seed, start),
            optimizer, ema, generator=noise, start_step=start, steps=config.steps - start, config=config.recipe,
            autocast=torch.bfloat16 if config.bf16 else None, processes=processes,
        )  # fmt: skip
        shown = _bar(config, start, progress and main)
        with _loss_file(out if main else None, start) as log, shown as bar, _signals_asked() as asked:
            for step in steps:
                print(f"{step.step},{step.loss:.9g},{step.grad_norm:.9g}", file=log, flush=True)  # to be followed
                bar(step)
                if on_step is not None:
                    on_step(step)
                stop = bool(asked) if processes is None else processes.any(bool(asked))  # all after the same step
                if step.step % save_every == 0 or step.step == config.steps or stop:
                    if main:
                        os.fsync(log.fileno())  # first the losses, then the checkpoint that counts on them
                    save(step.step)
                if stop and step.step < config.steps:
                    raise Interrupted(step.step, out, asked[0] if asked else signal.SIGTERM)
        if processes is not None:
            processes.wait()  # the last checkpoint is written
        return RunResult(out, start, config.steps, time.perf_counter() - began, images.source)


@contextmanager
def _own_folder(out: Path, resume: bool, processes) -> Iterator[Checkpoint | None]:
    """Nobody else trains in this folder while the with block lasts; gives the checkpoint to go on from, if any."""
    _look_into(out, resume)  # a mistake shows before anything is made in the folder
    main = processes is None or processes.is_main
    with locked(out / LOCK) if main else nullcontext(True) as mine:
        if not mine if processes is None else processes.any(not mine):
            raise FolderInUseError(out)
        saved = _look_into(out, resume)  # again: another process may have gone on until it released the folder
        if processes is not None:
            processes.wait()  # nobody writes before all have looked
        yield saved


def _check_given(config: RunConfig, model: nn.Module | None, images: ImageSet | None) -> None:
    """ValueError unless the model and the images that are given are those of the configuration."""
    if images is not None and images.name != config.dataset and images.name in DATASETS:  # one's own have other names
        raise ValueError(f"These images are of {images.name!r}; the run is to learn from {config.dataset!r}.")
    own = None if model is None else getattr(unwrap(model), "config", None)
    check_config("The configuration of this run", asdict(config.model_config()), own)


def _opening_line(config: RunConfig, model, images: ImageSet, start: int, device: torch.device, out: Path) -> str:
    what = model.config.describe() if isinstance(model, UNet) else type(model).__name__
    place = f"CPU threads: {torch.get_num_threads()}" if device.type == "cpu" else str(device)
    span = f"steps {start + 1:,} to {config.steps:,}" if start else f"{config.steps:,} step{'s' * (config.steps > 1)}"
    return (
        f"Training {config.preset}: {count_parameters(model):,} parameters, {what}; {config.dataset}, {images.source}; "
        f"{span} of {config.recipe.batch_size} images, seed {config.seed}; {place}; into {out}"
    )


def read_losses(path: str | os.PathLike) -> tuple[list[int], list[float]]:
    """Steps and losses of a run, from its folder or its loss.csv; FileNotFoundError or ValueError otherwise.

    A last line without its end is left out: it is being written, or a kill cut it.
    """
    path = Path(path)
    path = path / "loss.csv" if path.is_dir() else path
    if not path.is_file():
        raise FileNotFoundError(f"There is no loss file {path}.")
    with open(path, newline="") as file:
        ended = (line for line in file if line.endswith("\n"))
        try:
            rows = [(int(row["step"]), float(row["loss"])) for row in csv.DictReader(ended)]
        except (KeyError, TypeError, ValueError):
            raise ValueError(f"{path} is not a loss file: it needs the columns step and loss.") from None
    return [step for step, _ in rows], [loss for _, loss in rows]


def run_info(folder: str | os.PathLike) -> dict:
    """What a checkpoint or a finished model says about itself, without its tensors: step, model_config, run_config.

    FileNotFoundError where there is neither, ValueError for a damaged one.
    """
    info = read_info(folder)
    about = info.get("run_config") or info.get("card") or {}
    return {"step": info.get("step"), "model_config": info["model_config"], "run_config": about}


def saved_config(folder: str | os.PathLike, **changes) -> RunConfig:
    """The `RunConfig` of a run on disk, with `changes`; the errors of `run_info`, and ValueError for a foreign one."""
    saved = dict(run_info(folder)["run_config"])
    saved.pop("data", None)
    try:
        return replace(RunConfig(**saved), **changes)
    except TypeError as error:
        raise ValueError(f"{folder} holds a checkpoint that this command did not write ({error}).") from None


def _look_into(out: Path, resume: bool) -> Checkpoint | None:
    """The checkpoint to go on from, or None for a new run in a folder that can be written."""
    if resume:
        if not has_checkpoint(out):
            raise FileNotFoundError(f"There is no run to resume in {out}; leave --resume out to start one.")
        saved = load_checkpoint(out)
    elif has_checkpoint(out):
        step = run_info(out)["step"]
        raise ValueError(f"{out} already holds a run, saved at step {step}; add --resume or choose another folder.")
    elif has_model(out) or (out / "loss.csv").exists():
        raise ValueError(f"{out} holds files of another model or run; choose another folder.")
    else:
        saved = None
    check_writable(out)
    return saved


def check_writable(folder: str | os.PathLike) -> None:
    """Make the folder if need be and write a file into it; OSError with one clear line if that fails."""
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise OSError(f"Cannot write into the folder {folder}: {error.strerror or error}.") from None


def _check_same_run(saved: Checkpoint, config: RunConfig, images: ImageSet) -> None:
    there, here = saved.run_config, json.loads(json.dumps(asdict(config), default=float))
    free = ("steps", "backend", "bf16")  # how long and how fast, not what
    for name in here:
        if name not in free and there.get(name) != here[name]:
            was, now = there.get(name), here[name]
            if isinstance(was, dict) and isinstance(now, dict):
                was, now = ({k: d.get(k) for k in now if was.get(k) != now[k]} for d in (was, now))
            raise ValueError(f"The run in {saved.folder} has {name} {was!r}, not {now!r}; choose another folder.")
    if there.get("data") not in (None, images.source):
        found = f"was trained on the {there['data']}, but found is the {images.source}"
        raise ValueError(f"The run in {saved.folder} {found}; set QDM_DATA_DIR to the folder it had.")


@contextmanager
def _loss_file(folder: Path | None, start: int) -> Iterator[TextIO]:
    """loss.csv of a run, to go on writing after step `start`; later lines are dropped: those steps are made again.

    Without a folder what is written goes nowhere: another process of the run keeps it.
    """
    path, kept = Path(os.devnull) if folder is None else folder / "loss.csv", ["step,loss,grad_norm\n"]
    if start and path.is_file():
        kept += [line for line in path.read_text(errors="replace").splitlines(keepends=True) if _is_of(line, start)]
    if folder is not None:
        with replacing(path) as temporary:
            temporary.write_text("".join(kept))
    with open(path, "a") as file:
        yield file


def _is_of(line: str, last: int) -> bool:
    """Whether a line of loss.csv is whole and of a step up to `last`; a power cut can leave other lines."""
    step, *numbers = line.split(",")
    return line.endswith("\n") and len(numbers) == 2 and step.isdecimal() and int(step) <= last


@contextmanager
def _bar(config: RunConfig, start: int, progress: bool) -> Iterator[Callable[[TrainStep], None]]:
    """A progress bar with the mean loss of the last 50 steps; it says once if the steps become much slower."""
    from tqdm.auto import tqdm

    recent: deque[float] = deque(maxlen=50)
    pace = Pace()
    title = f"train {config.preset}"
    with tqdm(total=config.steps, initial=start, desc=title, unit="step", disable=not progress, mininterval=0.5) as bar:

        def update(step: TrainStep) -> None:
            recent.append(step.loss)
            bar.set_postfix(loss=f"{sum(recent) / len(recent):.4f}", refresh=False)
            bar.update()
            if progress and (warning := pace.step(torch.get_num_threads())) is not None:
                bar.write(warning, file=sys.stderr)

        yield update


@contextmanager
def _signals_asked() -> Iterator[list[int]]:
    """Ctrl-C and SIGTERM wait for the end of a step: the first fills the list, a second Ctrl-C stops at once."""
    asked: list[int] = []

    def note(signum, frame) -> None:
        if asked:
            raise KeyboardInterrupt
        asked.append(signum)

    if threading.current_thread() is not threading.main_thread():  # only the main thread may handle signals
        yield asked
        return
    before = {s: signal.signal(s, note) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked
    finally:
        for signum, handler in before.items():
            signal.signal(signum, signal.SIG_DFL if handler is None else handler)
