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
import difflib
import os
import re
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any

from pydantic import ConfigDict, PlainValidator, ValidationError, model_validator
from pydantic.dataclasses import dataclass as checked_dataclass
from pydantic_core import ArgsKwargs

from qdm_lib.checks import choice, whole
from qdm_lib.controls import CONTROLS
from qdm_lib.data import DATASETS
from qdm_lib.runs import RunConfig, check_sampler
from qdm_lib.training import TrainConfig
from qdm_lib.unet import PRESETS
from study.results import Settings
from study.scores import LEAST_IMAGES

HERE = Path(__file__).resolve().parent
RUNS, RESULTS = Path("runs"), HERE / "results"
TRAINING_IMAGES = 60_000  # of MNIST and of Fashion-MNIST
MOST_EPOCHS, MOST_IMAGES = 10_000, 1_000_000  # beyond any use: a slip of the finger
FEATURES, WEIGHTS = ("classifier", "inception"), ("ema", "raw")
LONGEST = 300  # characters of an error message about a file


# Kinds of values in a file, each with the one check that says what was wanted.


def _number(what: str, least: int = 1, most: int | None = None):
    return Annotated[int, PlainValidator(lambda value: whole(what, value, least, most))]


def _one_of(what: str, known: Iterable[str]):
    return Annotated[str, PlainValidator(lambda value: choice(what, value, known))]


def _name(what: str):
    def check(value: Any) -> str:
        if isinstance(value, str) and re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}", value):
            return value
        raise ValueError(f"{what} must be a name of letters, digits, - and _ (it becomes a folder), not {value!r}.")

    return Annotated[str, PlainValidator(check)]


def _seeds(values: Any) -> tuple[int, ...]:
    if not isinstance(values, list | tuple) or not values or len(set(map(repr, values))) < len(values):
        raise ValueError(f"A cell needs seeds, each once, such as [0, 1]; got {values!r}.")
    return tuple(whole("seed", seed, 0, 2**31 - 1) for seed in values)


def _nudge(value: Any) -> float | None:
    return RunConfig("unet", nudge=value).nudge  # checks it


checked = checked_dataclass(frozen=True, config=ConfigDict(extra="forbid"))


@checked
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

    epochs: _number("epochs before the transfer", 1, MOST_EPOCHS)
    source: _one_of("preset", PRESETS) = "unet"
    weights: _one_of("kind of weights", ("raw", "ema")) = "raw"
    optimizer: _one_of("hand-over of the optimizer", ("restart", "warm")) = "restart"
    ema: _one_of("hand-over of the average", ("restart", "warm", "carry")) = "restart"

    @property
    def name(self) -> str:
        """ "restart" as the released code, "warm" for both, else all three words."""
        words = (self.weights, self.optimizer, self.ema)
        plain = {("raw", "restart", "restart"): "restart", ("raw", "warm", "warm"): "warm"}
        return plain.get(words, "-".join(words))


@checked
class Draw:
    """A way to draw images: a sampler and its steps (None: the sampler's own number)."""

    sampler: str
    sampler_steps: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "sampler_steps", check_sampler(self.sampler, self.sampler_steps))


@checked
class Cell:
    """One cell of a table: a model, trained one way, with several seeds.

    nudge: multiply its first weights by 1 + nudge·z, z ~ N(0, 1) (see `qdm_lib.runs.RunConfig`): a second null, of
        paired runs.
    """

    preset: _one_of("preset", PRESETS)
    seeds: Annotated[tuple[int, ...], PlainValidator(_seeds)]
    control: _one_of("control", CONTROLS) | None = None
    transfer: Transfer | None = None
    nudge: Annotated[float | None, PlainValidator(_nudge)] = None
    dataset: _one_of("data set", DATASETS) = "fashion-mnist"

    def __post_init__(self) -> None:
        if self.nudge is not None and self.transfer is not None:
            raise ValueError("A nudge is of first weights; a transfer takes its weights from another run.")
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


@checked
class Experiment:
    """A file of `experiments/`. Every field is checked when the object is made (pydantic's ValidationError, which is a
    ValueError).

    epochs of training at `batch_size`; scores after each of the epochs `evaluate_at` (by default the last), from
    `n_images` images drawn by `sampler` in `sampler_steps`, seen through `features`. keep_at: further epochs whose
    training state is kept, as the start of a transfer. subset: the bundled subset instead of the full set (see
    `on_subset`). first_weights: the preset, as a rule "unet", whose first weights of the same seed all cells share
    where they can (see `qdm_lib.runs.RunConfig`); None draws each model's own. weights: draw with the averaged ("ema",
    the recipe) or with the raw ones. runs_of: score the runs of this other protocol, which must differ in the drawing
    only; nothing is trained (see `with_sampler`, `with_weights`). drawn_as: the way in which its runs are really drawn
    from here, where that is not `sampler`: what is open is told of that protocol (see `as_used`).
    """

    protocol: _name("protocol")
    cells: tuple[Cell, ...]
    dataset: _one_of("data set", DATASETS) = "fashion-mnist"
    epochs: _number("epochs", 1, MOST_EPOCHS) = 20
    batch_size: _number("batch_size", 1, TRAINING_IMAGES) = 128
    evaluate_at: tuple[_number("an epoch of evaluate_at"), ...] = ()
    keep_at: tuple[_number("an epoch of keep_at"), ...] = ()
    sampler: str = "ddim"
    sampler_steps: int | None = None
    n_images: _number("n_images", LEAST_IMAGES, MOST_IMAGES) = 7000
    features: _one_of("feature extractor", FEATURES) = "classifier"
    subset: bool = False
    first_weights: _one_of("preset of first_weights", PRESETS) | None = None
    weights: _one_of("kind of weights", WEIGHTS) = "ema"
    runs_of: _name("runs_of") | None = None
    drawn_as: Draw | None = None

    @model_validator(mode="before")
    @classmethod
    def _cells_have_its_data_set(cls, given: ArgsKwargs) -> ArgsKwargs:
        """Cells that name no data set have the experiment's."""
        values = dict(zip(("protocol", "cells"), given.args, strict=False)) | (given.kwargs or {})
        if isinstance(cells := values.get("cells"), list | tuple):
            of = {"dataset": values["dataset"]} if "dataset" in values else {}
            values["cells"] = tuple(of | cell if isinstance(cell, dict) else cell for cell in cells)
        return ArgsKwargs((), values)

    def __post_init__(self) -> None:
        set_ = object.__setattr__
        set_(self, "sampler_steps", check_sampler(self.sampler, self.sampler_steps))
        set_(self, "evaluate_at", tuple(sorted({*self.evaluate_at, self.epochs})))
        set_(self, "keep_at", tuple(sorted(self.keep_at)))
        for epoch in (*self.evaluate_at, *self.keep_at):
            whole("an epoch of evaluate_at or keep_at", epoch, 1, self.epochs)
        if not self.cells:
            raise ValueError("An experiment needs at least one [[cells]].")
        names = [self.cell_name(cell) for cell in self.cells]
        if twice := {name for name in names if names.count(name) > 1}:
            raise ValueError(f"Each cell may stand in the file once; twice are {', '.join(sorted(twice))}.")
        for cell in self.cells:
            if cell.transfer and cell.transfer.epochs >= self.epochs:
                raise ValueError(f"A transfer after {cell.transfer.epochs} of {self.epochs} epochs leaves none.")

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
        if choice("kind of weights", weights, WEIGHTS) == self.weights:
            return self
        protocol, runs_of = f"{self.protocol}-{weights}", self.runs_of or self.protocol
        return dataclasses.replace(self, protocol=protocol, weights=weights, runs_of=runs_of)

    def with_features(self, features: str) -> Experiment:
        """The same runs scored through other features, as a protocol of its own: paper-inception."""
        if choice("feature extractor", features, FEATURES) == self.features:
            return self
        protocol, runs_of = f"{self.protocol}-{features}", self.runs_of or self.protocol
        return dataclasses.replace(self, protocol=protocol, features=features, runs_of=runs_of)

    def as_used(self) -> Experiment:
        """The same, drawn from as its runs really are here (`drawn_as`)."""
        return self if self.drawn_as is None else self.with_sampler(self.drawn_as.sampler, self.drawn_as.sampler_steps)

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
        return Experiment(**tomllib.loads(path.read_text(encoding="utf-8")))
    except ValidationError as error:
        message = explain(error)
    except RecursionError:
        message = "its tables or lists lie too deep within one another."
    except ValueError as error:  # what tomllib raises
        message = str(error)
    raise ValueError(f"{path}: {message if len(message) <= LONGEST else message[:LONGEST] + ' …'}")


def explain(error: ValidationError) -> str:
    """A mistake in one line, with its place: "cells.0.preset: Unknown preset 'unett'. Did you mean 'unet'? …".

    The first one; but a misspelt key before what is missing for its sake.
    """
    first, *more = sorted(error.errors(include_url=False), key=lambda one: one["type"] == "missing")
    place, message = [str(part) for part in first["loc"]], first["msg"]
    if first["type"] == "value_error":
        message = str(first["ctx"]["error"])
    elif first["type"] == "missing":
        message = f"The {_what(place)} needs {place.pop()!r}."
    elif first["type"] == "unexpected_keyword_argument":
        key, known = place.pop(), _keys(place)
        near = difflib.get_close_matches(key, known, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        message = f"Unknown key {key!r} of {_what([*place, key])}.{hint} Known are {', '.join(sorted(known))}."
    else:
        message = f"{message}, not {first['input']!r}."
    others = f" ({len(more)} more after that.)" if more else ""
    said = not place or message.startswith(place[-1])
    return ("" if said and len(place) < 2 else f"{'.'.join(place)}: ") + message + others


def _what(place: list[str]) -> str:
    """What holds the value at a place of a file."""
    return "cell" if len(place) == 3 and place[0] == "cells" else place[-2] if len(place) > 1 else "experiment"


def _keys(place: list[str]) -> list[str]:
    kind = {"transfer": Transfer, "drawn_as": Draw}.get(place[-1], Cell) if place else Experiment
    return [field.name for field in fields(kind)]
