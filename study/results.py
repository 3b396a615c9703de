"""A result: what a job of an experiment measured, as a dataclass and as a JSON file; and the files of `results/`.

`study.run` writes results, all others read them here: tables, figures, tools. Reading them needs no torch;
writing one does, and so does `ladder`.
"""

from __future__ import annotations

import json
import math
import os
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path

from qdm_lib.statistics import possible, score_and_noise

# The scores, in the order of all tables: the heading of each, and which way is better.
SCORES = {
    "fid": ("FID", "lower"), "kid": ("KID", "lower"), "is": ("IS", "higher"), "precision": ("precision", "higher"),
    "recall": ("recall", "higher"), "density": ("density", "higher"), "coverage": ("coverage", "higher"),
    "class_tv": ("class TV", "lower"), "cnn_accuracy": ("CNN accuracy", "higher"),
    "memorised": ("memorised", "0.01 is fresh"),
}  # fmt: skip
LOSS = {"loss": ("training loss", "lower")}  # of the last 100 steps; the same batches and noise for all cells of a seed
CLASSICAL, NUDGED = "unet", "unet-nudged"
# What results of one table must have in common.
SCALE = ("features", "n_images", "weights", "sampler", "sampler_steps", "batch_size", "epochs", "runs_of")


def ladder() -> list[str]:
    """The cells of the control ladder, from nothing in the circuits' place to the circuits."""
    from qdm_lib.controls import CONTROLS  # needs torch

    return [*(f"control-{name}" for name in CONTROLS), "fullhqconv", "fullfqconv"]


def place_of(machine: dict) -> str:
    """A machine as `qdm_lib.machine.describe_machine` describes it, as far as speed goes."""
    return machine["gpu"] or f"{machine['cpu']}, {machine['threads']} thread(s)"


# ------------------------------------------------------------------------------------------- one result


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The "config" of a result: which job it is of, and how its images were drawn and scored.

    A default is what an older file means that does not name the setting. transfer: the fields of `study.spec.Transfer`.
    """

    protocol: str
    cell: str
    preset: str
    dataset: str
    epochs: int
    batch_size: int | None = None
    seed: int
    control: str | None = None
    transfer: dict | None = None
    sampler: str
    sampler_steps: int | None
    n_images: int
    features: str
    weights: str = "ema"
    first_weights: str | None = None
    runs_of: str | None = None
    nudge: float | None = None


@dataclass(frozen=True)
class Entry:
    """What was measured after an epoch.

    step: optimiser steps so far. loss: mean training loss of the last 100 of them. scores: {name of `SCORES`:
    `qdm_lib.metrics.Score` as a dictionary}. sampling_seconds: None where the images were drawn earlier. samples: name
    of the picture of the first images, beside the result's file. cnns: how many CNNs the accuracy is the mean of;
    older files have one, whose interval is over the test images alone. second_run: machine and versions of an entry
    that comes from another run of the same job than the result's own; they differ by rounding. again: of an entry of
    the result's own run, what such a second run had, or its images drawn again (`of`): machine, versions, losses,
    {name: value} of scores.
    """

    step: int
    loss: float | None
    scores: dict[str, dict]
    sampling_seconds: float | None
    scoring_seconds: float
    samples: str
    cnns: int = 1
    second_run: dict[str, dict] | None = None
    again: dict | None = None

    def __post_init__(self) -> None:
        for name in SCORES:
            for part in ("value", "low", "high", "floor"):  # KeyError for the first that is missing
                if not math.isfinite(self.scores[name][part]):  # TypeError for what is no number
                    raise ValueError(f"{part} of {name} is {self.scores[name][part]}")


@dataclass(frozen=True)
class Result:
    """One job: its settings, its model and machine, and an entry for each epoch after which it was scored.

    parameters: of the model. data: the training set, in words. seconds_per_step: {"seconds": by the clock,
    "cpu_seconds": of all threads}; None where they were not noted. losses: {epoch: mean training loss of its steps},
    of every epoch that the run made itself (a transfer's first ones are its source's); None in files from before they
    were kept. path: its file; not part of it.
    """

    config: Settings
    parameters: int
    machine: dict
    seconds_per_step: dict[str, float] | None
    by_epoch: dict[int, Entry]
    data: str = ""
    versions: dict[str, str] = field(default_factory=dict)
    losses: dict[int, float] | None = None
    path: Path | None = field(default=None, compare=False)

    @property
    def place(self) -> str:
        """The machine it ran on, as far as speed goes."""
        return place_of(self.machine)

    @property
    def last(self) -> Entry | None:
        """The entry after the protocol's last epoch, if the job got there."""
        return self.by_epoch.get(self.config.epochs)

    def to_json(self) -> dict:
        """The content of its file. The last epoch's loss and scores stand at the top once more, for people."""
        content = asdict(replace(self, path=None))
        about = {name: content[name] for name in ("config", "parameters", "data", "versions", "machine")}
        about |= {"seconds_per_step": self.seconds_per_step}
        about |= {} if self.losses is None else {"losses": {str(epoch): x for epoch, x in sorted(self.losses.items())}}
        entries = {str(epoch): entry for epoch, entry in sorted(content["by_epoch"].items())}
        for entry in entries.values():
            for name in ("second_run", "again"):
                if entry[name] is None:
                    del entry[name]
        last = entries.get(str(self.config.epochs), {})
        return about | {
            "by_epoch": entries,
            "finished": bool(last),
            "loss": last.get("loss"),
            "scores": last.get("scores"),
        }

    @classmethod
    def from_json(cls, content: dict, path: Path | None = None) -> Result:
        """The result that a file's content tells of; KeyError or TypeError for one that lacks a part."""
        own = {name: content[name] for name in ("parameters", "machine", "seconds_per_step")}
        own |= {name: content[name] for name in ("data", "versions") if name in content}
        losses = content.get("losses")
        entries = {int(epoch): _part(Entry, entry) for epoch, entry in content["by_epoch"].items()}
        return cls(_part(Settings, content["config"]), **own, by_epoch=dict(sorted(entries.items())), path=path,
                   losses=None if losses is None else {int(epoch): loss for epoch, loss in losses.items()})  # fmt: skip

    def write(self, path: str | os.PathLike) -> None:
        """Write its file, whole or not at all."""
        from qdm_lib.files import write_json  # needs torch, for the weights that it also writes

        write_json(Path(path), self.to_json())


def _part(kind: type, content: dict):
    """A dataclass from a dictionary that may hold more; KeyError for a field without a default that is missing."""
    needed = {f.name for f in fields(kind)} - set(content)
    for f in fields(kind):
        if f.name in needed and f.default is f.default_factory:  # both are dataclasses.MISSING
            raise KeyError(f.name)
    return kind(**{f.name: content[f.name] for f in fields(kind) if f.name in content})


def read_result(path: str | os.PathLike) -> Result:
    """A result's file. FileNotFoundError without it; ValueError, naming it, for a file that is no result."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"There is no result file {path}.")
    try:
        return Result.from_json(json.loads(path.read_text(encoding="utf-8")), path)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is no result of an experiment ({error!r}).") from None


# ------------------------------------------------------------------------------------------- all results


@dataclass(frozen=True)
class Group:
    """All results of one protocol and data set: {cell: {seed: Result}}, and the folder where all results are."""

    protocol: str
    dataset: str
    cells: dict[str, dict[int, Result]]
    folder: Path

    @property
    def name(self) -> str:
        return f"{self.protocol}-{self.dataset}"

    def results(self) -> list[Result]:
        """All of them, cell by cell."""
        return [result for runs in self.cells.values() for result in runs.values()]

    def about(self, cell: str) -> Settings:
        """The settings of a cell, those of its first result."""
        return next(iter(self.cells[cell].values())).config

    def entries(self, cell: str, epoch: int | None = None) -> dict[int, Entry]:
        """{seed: what was measured after an epoch}, by default after the protocol's last; only where it was."""
        found = {s: r.last if epoch is None else r.by_epoch.get(epoch) for s, r in self.cells.get(cell, {}).items()}
        return {seed: entry for seed, entry in found.items() if entry is not None}

    def scores(self, cell: str, key: str, epoch: int | None = None) -> dict[int, tuple[float, float]]:
        """{seed: (value, noise)} of one score, or of the loss, after an epoch, the last by default.

        Of CNN accuracy only the seeds with the most CNNs: one CNN and several differ by more than models do.
        """
        entries = self.entries(cell, epoch)
        if key == "loss":
            return {seed: (entry.loss, 0.0) for seed, entry in entries.items() if entry.loss is not None}
        if key == "cnn_accuracy":
            entries = {seed: entry for seed, entry in entries.items() if entry.cnns == self.cnns(cell, epoch)}
        return {seed: score_and_noise(entry.scores[key]) for seed, entry in entries.items()}

    def cnns(self, cell: str, epoch: int | None = None) -> int:
        """The most CNNs that a CNN accuracy of a cell is the mean of; 0 where there is none."""
        return max((entry.cnns for entry in self.entries(cell, epoch).values()), default=0)

    def ordered(self) -> list[str]:
        """Its cells: the classical model and its nudged twin, the ladder, then the others by name."""
        first = [CLASSICAL, NUDGED, *ladder()]
        return [cell for cell in (*first, *sorted(set(self.cells) - set(first))) if cell in self.cells]

    def epochs(self) -> list[int]:
        """All epochs after which something was scored."""
        return sorted({epoch for result in self.results() for epoch in result.by_epoch})

    def all_entries(self) -> list[Entry]:
        """Those of all its results and epochs."""
        return [entry for result in self.results() for entry in result.by_epoch.values()]

    def floor(self, key: str, cnns: int | None = None) -> float:
        """What real images score; the mean over jobs, whose draws differ a little. NaN for the loss, which has none.

        cnns: only of entries whose CNN accuracy is the mean of so many CNNs.
        """
        entries = [entry for entry in self.all_entries() if cnns in (None, entry.cnns)]
        floors = [entry.scores[key]["floor"] for entry in entries if key in entry.scores]
        return sum(floors) / len(floors) if floors else math.nan

    def floor_name(self) -> str:
        """As many real images as the floors come from: fewer than were generated where the test set is small."""
        return f"{next((entry.scores['fid']['n_floor'] for entry in self.all_entries()), 0):,} real images"

    def features(self) -> str:
        """The extractor of all its scores (`read_results` refuses a mixture)."""
        return self.results()[0].config.features


def read_results(folder: str | os.PathLike) -> list[Group]:
    """All groups under results/, the scores' intervals cut to what is possible (`statistics.possible`).

    ValueError, naming the file, for a JSON file that is no result or lacks a part of one; naming both, where two files
    of one protocol and data set differ in features, number of images, sampler, batch size, kind of weights or in whose
    first weights they share, so that no table mixes them, or are of one job, so that neither hides the other.
    """
    groups: dict[tuple[str, str], dict[str, dict[int, Result]]] = {}
    firsts: dict[tuple[str, str], Result] = {}
    for path in sorted(Path(folder).rglob("seed-*.json")):
        result = _possible(read_result(path))
        config = result.config
        key = (config.protocol, config.dataset)
        first = firsts.setdefault(key, result)
        for name in SCALE:
            value, known = getattr(config, name), getattr(first.config, name)
            if value != known:
                what = f"{name} {value!r} and {known!r}"
                raise ValueError(f"{path} and {first.path} would stand in one table, but differ in {what}.")
        seeds = groups.setdefault(key, {}).setdefault(config.cell, {})
        if config.seed in seeds:
            what = f"{config.cell}, seed {config.seed}"
            raise ValueError(f"{path} and {seeds[config.seed].path} are both results of {what}.")
        seeds[config.seed] = result
    found = [Group(*key, cells, Path(folder)) for key, cells in sorted(groups.items())]
    for group in found:
        _check_first_weights(group)
    return found


def _check_first_weights(group: Group) -> None:
    """ValueError unless all share one preset's first weights, which that preset has anyway, or none does."""
    sharing = {one.config.first_weights: one.path for one in group.results() if one.config.first_weights}
    for one in group.results():
        config = one.config
        begins_as = config.first_weights or (None if config.control else config.preset)
        for other, path in sharing.items():
            if begins_as != other:
                what = f"first_weights {config.first_weights!r} and {other!r}"
                raise ValueError(f"{one.path} and {path} would stand in one table, but differ in {what}.")


def _possible(result: Result) -> Result:
    entries = {
        epoch: replace(entry, scores={key: possible(key, score) for key, score in entry.scores.items()})
        for epoch, entry in result.by_epoch.items()
    }
    return replace(result, by_epoch=entries)
