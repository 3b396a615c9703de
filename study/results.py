"""The files of `results/`, read and grouped: what tables and figures are made from."""

from __future__ import annotations

import json
import math
import os
from dataclasses import dataclass
from pathlib import Path

from qdm_lib.controls import CONTROLS
from qdm_lib.statistics import possible, score_and_noise

# Score: its heading, and which way is better.
SCORES = {
    "fid": ("FID", "lower"), "kid": ("KID", "lower"), "is": ("IS", "higher"), "precision": ("precision", "higher"),
    "recall": ("recall", "higher"), "density": ("density", "higher"), "coverage": ("coverage", "higher"),
    "class_tv": ("class TV", "lower"), "cnn_accuracy": ("CNN accuracy", "higher"),
    "memorised": ("memorised", "0.01 is fresh"),
}  # fmt: skip
LOSS = {"loss": ("training loss", "lower")}  # of the last 100 steps; the same batches and noise for all cells of a seed
LADDER = [*(f"control-{name}" for name in CONTROLS), "fullhqconv", "fullfqconv"]
CLASSICAL, NUDGED = "unet", "unet-nudged"
# What results of one table must have in common, and what a file means that does not name it.
SCALE = {"features": None, "n_images": None, "weights": "ema", "sampler": None, "sampler_steps": None,
         "batch_size": None, "epochs": None, "runs_of": None}  # fmt: skip
IN_A_CONFIG = ("protocol", "dataset", "cell", "preset", "seed", "epochs", "features", "n_images", "sampler",
               "sampler_steps")  # fmt: skip
IN_A_FILE = ("config", "parameters", "machine", "seconds_per_step", "by_epoch", "scores", "loss", "finished")
IN_AN_ENTRY = ("step", "loss", "scores", "sampling_seconds", "scoring_seconds", "samples")


@dataclass(frozen=True)
class Group:
    """All results of one protocol and data set: {cell: {seed: content of its file}}, and where the files are."""

    protocol: str
    dataset: str
    cells: dict[str, dict[int, dict]]
    folder: Path

    @property
    def name(self) -> str:
        return f"{self.protocol}-{self.dataset}"

    def results(self) -> list[dict]:
        """The contents of all its files."""
        return [result for runs in self.cells.values() for result in runs.values()]

    def entries(self, cell: str, epoch: int | None = None) -> dict[int, dict]:
        """{seed: what was noted after an epoch}, by default after the protocol's last; only where scores are."""
        runs = self.cells.get(cell, {})
        found = {s: r if epoch is None else r["by_epoch"].get(str(epoch), {}) for s, r in runs.items()}
        return {seed: entry for seed, entry in found.items() if entry.get("scores")}

    def scores(self, cell: str, key: str, epoch: int | None = None) -> dict[int, tuple[float, float]]:
        """{seed: (value, noise)} of one score, or of the loss, after an epoch, the last by default."""
        entries = self.entries(cell, epoch)
        if key == "loss":
            return {seed: (entry["loss"], 0.0) for seed, entry in entries.items() if entry["loss"] is not None}
        return {seed: score_and_noise(entry["scores"][key]) for seed, entry in entries.items()}

    def ordered(self) -> list[str]:
        """Its cells: the classical model and its nudged twin, the ladder, then the others by name."""
        first = [CLASSICAL, NUDGED, *LADDER]
        return [cell for cell in (*first, *sorted(set(self.cells) - set(first))) if cell in self.cells]

    def epochs(self) -> list[int]:
        """All epochs after which something was scored."""
        return sorted({int(epoch) for result in self.results() for epoch in result["by_epoch"]})

    def floor(self, key: str) -> float:
        """What real images score; the mean over jobs, whose draws differ a little. NaN for the loss, which has none."""
        entries = [entry for result in self.results() for entry in result["by_epoch"].values()]
        floors = [entry["scores"][key]["floor"] for entry in entries if key in entry["scores"]]
        return sum(floors) / len(floors) if floors else math.nan

    def floor_name(self) -> str:
        """As many real images as the floors come from: fewer than were generated where the test set is small."""
        entries = (entry for result in self.results() for entry in result["by_epoch"].values())
        return f"{next((entry['scores']['fid']['n_floor'] for entry in entries), 0):,} real images"

    def features(self) -> str:
        """The extractor of all its scores (`read_results` refuses a mixture)."""
        return self.results()[0]["config"]["features"]


def read_results(folder: str | os.PathLike) -> list[Group]:
    """All groups under results/, the scores' intervals cut to what is possible (`comparison.possible`).

    ValueError, naming the file, for a JSON file that is no result or lacks a part of one; naming both, where two files
    of one protocol and data set differ in features, number of images, sampler, batch size, kind of weights or in whose
    first weights they share, so that no table mixes them.
    """
    groups: dict[tuple[str, str], dict[str, dict[int, dict]]] = {}
    scales: dict[tuple[str, str], dict[str, tuple[Path, object]]] = {}
    for path in sorted(Path(folder).rglob("seed-*.json")):
        try:
            result = json.loads(path.read_text(encoding="utf-8"))
            config = result["config"]
            key, cell, seed = (config["protocol"], config["dataset"]), config["cell"], config["seed"]
            _check_parts(result)
            result = result | {"path": path, "scores": _possible(result["scores"])}
            result["by_epoch"] = {
                e: one | {"scores": _possible(one["scores"])} for e, one in result["by_epoch"].items()
            }
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path} is no result of an experiment ({error!r}).") from None
        for name, default in SCALE.items():
            value = config.get(name, default)
            first, known = scales.setdefault(key, {}).setdefault(name, (path, value))
            if value != known:
                what = f"{name} {value!r} and {known!r}"
                raise ValueError(f"{path} and {first} would stand in one table, but differ in {what}.")
        groups.setdefault(key, {}).setdefault(cell, {})[seed] = result
    found = [Group(*key, cells, Path(folder)) for key, cells in sorted(groups.items())]
    for group in found:
        _check_first_weights(group)
    return found


def _check_first_weights(group: Group) -> None:
    """ValueError unless all share one preset's first weights, which that preset has anyway, or none does."""
    sharing = {one["config"]["first_weights"]: one["path"] for one in group.results()
               if one["config"].get("first_weights")}  # fmt: skip
    for one in group.results():
        config = one["config"]
        begins_as = config.get("first_weights") or (None if config.get("control") else config["preset"])
        for other, path in sharing.items():
            if begins_as != other:
                what = f"first_weights {config.get('first_weights')!r} and {other!r}"
                raise ValueError(f"{one['path']} and {path} would stand in one table, but differ in {what}.")


def _check_parts(result: dict) -> None:
    """KeyError for the first part of a result that is not there."""
    parts = [(result, IN_A_FILE), (result["config"], IN_A_CONFIG)]
    for entry in result["by_epoch"].values():
        parts += [(entry, IN_AN_ENTRY), (entry["scores"], SCORES)]
    for part, names in parts:
        for name in names:
            part[name]


def _possible(scores: dict | None) -> dict | None:
    return scores and {key: possible(key, score) for key, score in scores.items()}
