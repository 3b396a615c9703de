"""What an experiment is: cells times seeds, read from a short TOML file. `study.run` runs them.

A file of `experiments/` names a protocol and its cells:

    protocol = "short"            # results of different protocols never stand in one table
    dataset = "fashion-mnist"
    epochs = 2
    n_images = 2000
    sampler_steps = 50

    [[cells]]
    preset = "fullhqconv"
    control = "zero"              # optional: see qdm_lib.controls
    seeds = [0, 1, 2]

    [[cells]]
    preset = "1hqconv"
    seeds = [0]
    transfer = { epochs = 1, optimizer = "restart", ema = "restart" }   # optional: see Transfer

    [[cells]]
    preset = "unet"
    seeds = [0]
    nudge = 0.001                 # optional: see Cell

A cell and a seed make a `Job`. It knows its folder under `runs/` (large, not shared) and its JSON file under
`results/` (small, shared): both follow from its names alone, so that many processes agree on who does what.
"""

from __future__ import annotations

import dataclasses
import os
import tomllib
from dataclasses import dataclass, fields
from pathlib import Path

from qdm_lib.checks import choice, whole
from qdm_lib.data import DATASETS
from qdm_lib.runs import RunConfig, check_sampler
from qdm_lib.training import TrainConfig
from qdm_lib.unet import PRESETS
from study.results import Settings
from study.scores import LEAST_IMAGES

HERE = Path(__file__).resolve().parent
RUNS, RESULTS = Path("runs"), HERE / "results"
TRAINING_IMAGES = 60_000  # of MNIST and of Fashion-MNIST


@dataclass(frozen=True)
class Transfer:
    """Train `source` for `epochs` epochs, hand its weights over without the vertex, train on to the end.

    The vertex starts afresh, from a seed of its own (`qdm_lib.runs.VERTEX_STREAM`): the first weights of the source's
    own vertex would be those that the rest of it was trained with. Models of one seed share them as far as they can.

    weights: hand over the raw weights, as the released code does, or the averaged ones ("ema").
    optimizer: "restart" is a fresh Adam (the released code); "warm" hands over Adam's moments of every weight
    that is handed over.
    ema: "restart" starts the average from the raw weights at the hand-over while the step counter goes on (the
    released code): at decay 0.995 every 10 steps, 79 % of the weights at the hand-over, those of the untrained vertex
    too, are left in the average an epoch later. "warm" runs the average's warm-up again: it forgets the hand-over.
    "carry" goes on with the source's average of every weight that is handed over.

    ValueError for other words or numbers.
    """

    epochs: int
    source: str = "unet"
    weights: str = "raw"
    optimizer: str = "restart"
    ema: str = "restart"

    def __post_init__(self) -> None:
        whole("epochs before the transfer", self.epochs)
        choice("preset", self.source, PRESETS)
        choice("kind of weights", self.weights, ("raw", "ema"))
        choice("hand-over of the optimizer", self.optimizer, ("restart", "warm"))
        choice("hand-over of the average", self.ema, ("restart", "warm", "carry"))

    @property
    def name(self) -> str:
        """ "restart" as the released code, "warm" for both, else all three words."""
        words = (self.weights, self.optimizer, self.ema)
        plain = {("raw", "restart", "restart"): "restart", ("raw", "warm", "warm"): "warm"}
        return plain.get(words, "-".join(words))


@dataclass(frozen=True)
class Cell:
    """One cell of a table: a model, trained one way, with several seeds.

    nudge: change its first weights by so small a share (see `qdm_lib.runs.RunConfig`): another null, of
        runs that are paired.
    """

    preset: str
    seeds: tuple[int, ...]
    control: str | None = None
    transfer: Transfer | None = None
    nudge: float | None = None
    dataset: str = "fashion-mnist"

    def __post_init__(self) -> None:
        choice("preset", self.preset, PRESETS)
        choice("data set", self.dataset, DATASETS)
        object.__setattr__(self, "seeds", tuple(self.seeds))
        for seed in self.seeds:
            whole("seed", seed, 0, 2**31 - 1)
        if len(set(self.seeds)) < max(1, len(self.seeds)):
            raise ValueError(f"A cell needs seeds, each once; got {list(self.seeds)}.")
        if isinstance(self.transfer, dict):
            object.__setattr__(self, "transfer", _make(Transfer, self.transfer, "transfer"))
        if not isinstance(self.transfer, Transfer | None):
            raise ValueError(f"transfer must be a table such as {{ epochs = 1 }}, not {self.transfer!r}.")
        if self.nudge is not None and self.transfer is not None:
            raise ValueError("A nudge is of first weights; a transfer takes its weights from another run.")
        RunConfig(self.preset, nudge=self.nudge)  # checks it
        if self.control is not None:
            dataclasses.replace(PRESETS[self.preset], control=self.control)  # checks it

    @property
    def label(self) -> str:
        """Its name within a data set: the preset, control-zero, control-zero-1hqconv, transfer-1hqconv-restart."""
        if self.control is not None:  # the ladder stands at the full vertex; other places are named
            name = f"control-{self.control}" + ("" if self.preset == "fullhqconv" else f"-{self.preset}")
        else:
            name = self.preset
        name += "-nudged" if self.nudge is not None else ""
        if self.transfer is None:
            return name
        t = self.transfer
        source = "" if t.source == "unet" else f"-from-{t.source}"
        return f"transfer-{name}{source}-{t.epochs}-{t.name}"


@dataclass(frozen=True)
class Experiment:
    """A file of `experiments/`. Every field is checked when the object is made (ValueError).

    epochs of training at `batch_size`; scores after each of the epochs `evaluate_at` (by default the last), from
    `n_images` images drawn by `sampler` in `sampler_steps`, seen through `features`. keep_at: further epochs whose
    training state is kept, as the start of a transfer. subset: the bundled subset instead of the full set (see
    `on_subset`). first_weights: the preset, as a rule "unet", whose first weights of the same seed all cells share
    where they can (see `qdm_lib.runs.RunConfig`); None draws each model's own. weights: draw with the averaged ("ema",
    the recipe) or with the raw ones. runs_of: score the runs of this other protocol, which must differ in the drawing
    only; nothing is trained (see `with_sampler`, `with_weights`).
    """

    protocol: str
    cells: tuple[Cell, ...]
    dataset: str = "fashion-mnist"
    epochs: int = 20
    batch_size: int = 128
    evaluate_at: tuple[int, ...] = ()
    keep_at: tuple[int, ...] = ()
    sampler: str = "ddim"
    sampler_steps: int | None = None
    n_images: int = 7000
    features: str = "classifier"
    subset: bool = False
    first_weights: str | None = None
    weights: str = "ema"
    runs_of: str | None = None

    def __post_init__(self) -> None:
        for what, name in (("protocol", self.protocol), ("runs_of", self.runs_of)):
            is_name = isinstance(name, str) and name and all(c.isalnum() or c in "-_" for c in name)
            if not is_name and (what, name) != ("runs_of", None):
                raise ValueError(f"{what} must be a name of letters, digits, - and _, not {name!r}.")
        whole("epochs", self.epochs)
        whole("batch_size", self.batch_size)
        whole("n_images", self.n_images, LEAST_IMAGES)
        choice("feature extractor", self.features, ("classifier", "inception"))
        choice("kind of weights", self.weights, ("ema", "raw"))
        if self.first_weights is not None:
            choice("preset of first_weights", self.first_weights, PRESETS)
        set_ = object.__setattr__
        set_(self, "sampler_steps", check_sampler(self.sampler, self.sampler_steps))
        set_(self, "evaluate_at", tuple(sorted({*self.evaluate_at, self.epochs})))
        set_(self, "keep_at", tuple(sorted(self.keep_at)))
        for epoch in (*self.evaluate_at, *self.keep_at):
            whole("an epoch of evaluate_at or keep_at", epoch, 1, self.epochs)
        set_(self, "cells", tuple(self._cell(cell) for cell in self.cells))
        if not self.cells:
            raise ValueError("An experiment needs at least one [[cells]].")
        names = [self.cell_name(cell) for cell in self.cells]
        if twice := {name for name in names if names.count(name) > 1}:
            raise ValueError(f"Each cell may stand in the file once; twice are {', '.join(sorted(twice))}.")
        for cell in self.cells:
            if cell.transfer and cell.transfer.epochs >= self.epochs:
                raise ValueError(f"A transfer after {cell.transfer.epochs} of {self.epochs} epochs leaves none.")

    def _cell(self, cell: Cell | dict) -> Cell:
        if isinstance(cell, dict):
            return _make(Cell, {"dataset": self.dataset, **cell}, "cell")
        if not isinstance(cell, Cell):
            raise ValueError(f"A cell must be a table with a preset and seeds, not {cell!r}.")
        return cell

    def cell_name(self, cell: Cell) -> str:
        """Name of a cell in paths: fashion-mnist/1hqconv."""
        return f"{cell.dataset}/{cell.label}"

    def with_sampler(self, sampler: str, steps: int | None = None) -> Experiment:
        """The same runs drawn from in another way, as a protocol of its own: short-ddim-10."""
        steps = check_sampler(sampler, steps)
        protocol, runs_of = f"{self.protocol}-{sampler}-{steps}", self.runs_of or self.protocol
        return dataclasses.replace(self, protocol=protocol, sampler=sampler, sampler_steps=steps, runs_of=runs_of)

    def with_weights(self, weights: str) -> Experiment:
        """The same runs drawn from with other weights, as a protocol of its own: short-raw."""
        if weights == self.weights:
            return self
        protocol, runs_of = f"{self.protocol}-{weights}", self.runs_of or self.protocol
        return dataclasses.replace(self, protocol=protocol, weights=weights, runs_of=runs_of)

    def with_features(self, features: str) -> Experiment:
        """The same runs scored through other features, as a protocol of its own: paper-inception."""
        if features == self.features:
            return self
        protocol, runs_of = f"{self.protocol}-{features}", self.runs_of or self.protocol
        return dataclasses.replace(self, protocol=protocol, features=features, runs_of=runs_of)

    def on_subset(self) -> Experiment:
        """The same on the subset in this package, to try things out, as a protocol of its own: short-subset."""
        return dataclasses.replace(self, protocol=f"{self.protocol}-subset", subset=True)

    def jobs(self) -> list[Job]:
        """All cells with their first seed, then all with their second, …: early results compare."""
        most = max((len(cell.seeds) for cell in self.cells), default=0)
        return [Job(self, c, c.seeds[k]) for k in range(most) for c in self.cells if k < len(c.seeds)]


@dataclass(frozen=True)
class Job:
    """A cell with one seed: what one process claims, trains and scores."""

    experiment: Experiment
    cell: Cell
    seed: int

    @property
    def name(self) -> str:
        """short/fashion-mnist/unet/seed-0: also its place under runs/ and results/."""
        return f"{self.experiment.protocol}/{self.experiment.cell_name(self.cell)}/seed-{self.seed}"

    def folder(self, runs: str | os.PathLike = RUNS) -> Path:
        """Where it trains."""
        e = self.experiment
        return Path(runs) / (e.runs_of or e.protocol) / e.cell_name(self.cell) / f"seed-{self.seed}"

    def result(self, results: str | os.PathLike = RESULTS) -> Path:
        """Its JSON file."""
        return Path(results) / f"{self.name}.json"

    def steps(self, epoch: int, n_training: int = TRAINING_IMAGES) -> int:
        """Optimiser steps in so many epochs, rounded up."""
        return -(-epoch * n_training // self.experiment.batch_size)

    def own_epochs(self) -> tuple[int, list[int]]:
        """The epochs it trains itself, without those of a source, and the epochs at which it can be scored."""
        before = self.cell.transfer.epochs if self.cell.transfer else 0
        return self.experiment.epochs - before, [epoch for epoch in self.experiment.evaluate_at if epoch > before]

    def config(self, steps: int, n_training: int = TRAINING_IMAGES) -> RunConfig:
        """What `train_run` is to do, up to a step."""
        cell, recipe = self.cell, TrainConfig(batch_size=self.experiment.batch_size)
        if cell.transfer and cell.transfer.ema == "warm":  # the average's warm-up, again, from the hand-over on
            start = self.steps(cell.transfer.epochs, n_training) + recipe.ema_start
            recipe = dataclasses.replace(recipe, ema_start=start)
        options = {} if cell.control is None else {"control": cell.control}
        return RunConfig(cell.preset, cell.dataset, steps, self.seed, model_options=options, recipe=recipe,
                         first_weights=self.first_weights(), nudge=cell.nudge)  # fmt: skip

    def first_weights(self) -> str | None:
        """The preset whose first weights it shares; None for that preset itself."""
        preset = self.experiment.first_weights
        return None if (self.cell.preset, self.cell.control) == (preset, None) else preset

    def source(self) -> Job | None:
        """The run that a transfer starts from."""
        t = self.cell.transfer
        return t and Job(self.experiment, Cell(t.source, (self.seed,), dataset=self.cell.dataset), self.seed)

    def settings(self) -> Settings:
        """The "config" of its result."""
        e, cell = self.experiment, self.cell
        return Settings(
            protocol=e.protocol, cell=cell.label, preset=cell.preset, dataset=cell.dataset, epochs=e.epochs,
            batch_size=e.batch_size, seed=self.seed, control=cell.control,
            transfer=cell.transfer and dataclasses.asdict(cell.transfer), sampler=e.sampler,
            sampler_steps=e.sampler_steps, n_images=e.n_images, features=e.features, weights=e.weights,
            first_weights=self.first_weights(), runs_of=e.runs_of, nudge=cell.nudge,
        )  # fmt: skip


def load_experiment(path: str | os.PathLike) -> Experiment:
    """Read an experiment file, by its path here or within `study/`.

    FileNotFoundError where there is none; ValueError, naming the file, for mistakes.
    """
    path = Path(path)
    if not path.is_file() and (HERE / path).is_file():
        path = HERE / path
    if not path.is_file():
        known = ", ".join(sorted(str(p) for p in path.parent.glob("*.toml"))) or "none"
        raise FileNotFoundError(f"There is no experiment file {path}; in that folder are: {known}.")
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
        return _make(Experiment, content, "experiment")
    except ValueError as error:  # also what tomllib raises
        raise ValueError(f"{path}: {error}") from None


def _make(kind: type, values: dict, what: str):
    """An object of a dataclass from a dictionary of a file; ValueError names a key that is wrong or missing."""
    known = {field.name for field in fields(kind)}
    needed = {f.name for f in fields(kind) if f.default is dataclasses.MISSING}
    if unknown := sorted(set(values) - known):
        raise ValueError(f"Unknown key {unknown[0]!r} of {what}; known are {', '.join(sorted(known))}.")
    if missing := sorted(needed - set(values)):
        raise ValueError(f"The {what} needs {missing[0]!r}.")
    try:
        return kind(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})
    except TypeError as error:
        raise ValueError(f"A value of {what} is of the wrong kind ({error}).") from None
