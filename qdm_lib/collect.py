"""Tables and figures from the files of `results/` (and the list of cells): the same files give the same bytes.

results/<protocol>/…/seed-k.json   one job each (`experiment_run`), beside a picture of its first images
results/seconds.json               measured seconds per step, for what is still open
results/tables, results/figures    what `python -m qdm_lib experiment collect` writes
"""

from __future__ import annotations

import csv
import io
import json
import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from qdm_lib.comparison import Difference, classical_null, mean_over_seeds, paired_difference, score_and_noise
from qdm_lib.controls import CONTROLS
from qdm_lib.experiment_plan import hours, job_seconds, kind
from qdm_lib.experiments import Experiment, load_experiment

PAPER = Path(__file__).parent / "assets" / "paper_tables.json"  # what the paper reports, with its source

# Score: its heading, and which way is better.
SCORES = {
    "fid": ("FID", "lower"), "kid": ("KID", "lower"), "is": ("IS", "higher"), "precision": ("precision", "higher"),
    "recall": ("recall", "higher"), "density": ("density", "higher"), "coverage": ("coverage", "higher"),
    "class_tv": ("class TV", "lower"), "cnn_accuracy": ("CNN accuracy", "higher"),
    "memorised": ("memorised", "0.01 is fresh"),
}  # fmt: skip
LOSS = {"loss": ("training loss", "lower")}  # of the last 100 steps; the same batches and noise for all cells of a seed
COMPARED = ("loss", "fid", "kid", "is", "coverage", "cnn_accuracy")
LADDER = [*(f"control-{name}" for name in CONTROLS), "fullhqconv", "fullfqconv"]
CLASSICAL = "unet"


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

    def scores(self, cell: str, key: str, epoch: int | None = None) -> dict[int, tuple[float, float]]:
        """{seed: (value, noise)} of one score, or of the loss, after an epoch, the last by default."""
        found = {}
        for seed, result in self.cells.get(cell, {}).items():
            entry = result if epoch is None else result["by_epoch"].get(str(epoch), {})
            if not entry.get("scores"):
                continue
            if key != "loss":
                found[seed] = score_and_noise(entry["scores"][key])
            elif entry["loss"] is not None:
                found[seed] = (entry["loss"], 0.0)
        return found

    def ordered(self) -> list[str]:
        """Its cells: the classical model, the ladder, then the others by name."""
        rest = sorted(set(self.cells) - {CLASSICAL, *LADDER})
        return [cell for cell in (CLASSICAL, *LADDER, *rest) if cell in self.cells]

    def epochs(self) -> list[int]:
        """All epochs after which something was scored."""
        return sorted({int(e) for runs in self.cells.values() for result in runs.values() for e in result["by_epoch"]})

    def floor(self, key: str) -> float:
        """What real images score; the mean over jobs, whose draws differ a little. NaN for the loss, which has none."""
        results = [result for runs in self.cells.values() for result in runs.values()]
        floors = [e["scores"][key]["floor"] for r in results for e in r["by_epoch"].values() if key in e["scores"]]
        return sum(floors) / len(floors) if floors else math.nan

    def floor_name(self) -> str:
        n = next((r["config"]["n_images"] for runs in self.cells.values() for r in runs.values()), 0)
        return f"{n:,} real images"


def read_results(folder: str | os.PathLike) -> list[Group]:
    """All groups under results/. ValueError, naming the file, for a JSON file that is no result."""
    groups: dict[tuple[str, str], dict[str, dict[int, dict]]] = {}
    for path in sorted(Path(folder).rglob("seed-*.json")):
        try:
            result = json.loads(path.read_text(encoding="utf-8"))
            config = result["config"]
            key, cell, seed = (config["protocol"], config["dataset"]), config["cell"], config["seed"]
            result = {"scores": result["scores"], "by_epoch": result["by_epoch"]} | result | {"path": path}
        except (ValueError, KeyError) as error:
            raise ValueError(f"{path} is no result of an experiment ({error!r}).") from None
        groups.setdefault(key, {}).setdefault(cell, {})[seed] = result
    return [Group(*key, cells, Path(folder)) for key, cells in sorted(groups.items())]


def collect(
    folder: str | os.PathLike = "results",
    out: str | os.PathLike | None = None,
    experiments: str | os.PathLike = "experiments",
) -> list[Path]:
    """Write every table and figure; returns their paths. FileNotFoundError where there is no results folder.

    experiments: the folder of the experiment files, for the table of what is still open.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"There is no folder {folder}; 'experiment run' makes one.")
    out = folder if out is None else Path(out)
    (out / "tables").mkdir(parents=True, exist_ok=True)
    (out / "figures").mkdir(parents=True, exist_ok=True)
    written = []
    groups = read_results(folder)
    for group in groups:
        for name, (header, rows) in tables(group).items():
            written += write_table(out / "tables" / f"{group.name}-{name}", header, rows)
    header, rows = paper_table(json.loads(PAPER.read_text(encoding="utf-8")), groups)
    written += write_table(out / "tables" / "paper-and-ours", header, rows)
    for path in sorted(Path(experiments).glob("*.toml")):
        written += write_table(out / "tables" / f"open-{path.stem}", *open_table(load_experiment(path), folder))
    from qdm_lib.collect_figures import figures, sampling_figures  # need matplotlib

    written += sampling_figures(groups, out / "figures")
    return written + [path for group in groups for path in figures(group, out / "figures")]


# --------------------------------------------------------------------------------------------- tables

Table = tuple[Sequence[str], list[Sequence[str]]]


def tables(group: Group) -> dict[str, Table]:
    """The tables of one group, by name: header and rows of text."""
    found = {"scores": score_table(group), "seeds": seed_table(group), "costs": cost_table(group)}
    if (null := null_table(group))[1]:
        found["null"] = null
    found["differences"] = difference_table(group)
    return found


def score_table(group: Group) -> Table:
    """Mean of each score over the seeds, with its interval; the floor of real images as the last row."""
    rows = []
    for cell in group.ordered():
        for epoch in group.epochs():
            if n := len(group.scores(cell, "fid", epoch)):
                means = [with_interval(mean_over_seeds(group.scores(cell, key, epoch))) for key in SCORES]
                rows.append([cell, str(epoch), str(n), *means])
    rows.append([group.floor_name(), "", "", *(number(group.floor(key)) for key in SCORES)])
    return ["cell", "epoch", "seeds", *(f"{title} ({better})" for title, better in SCORES.values())], rows


def seed_table(group: Group) -> Table:
    """Every score of every job and epoch, with its interval over the images, and the file it comes from."""
    header = ["cell", "seed", "epoch", "step", "loss", *(title for title, _ in SCORES.values()), "file"]
    rows = []
    for cell in group.ordered():
        for seed, result in sorted(group.cells[cell].items()):
            for epoch, entry in result["by_epoch"].items():
                scores = [entry["scores"][key] for key in SCORES]
                texts = [f"{number(s['value'])} [{number(s['low'])}, {number(s['high'])}]" for s in scores]
                file = result["path"].relative_to(group.folder).as_posix()
                rows.append([cell, str(seed), epoch, str(entry["step"]), number(entry["loss"]), *texts, file])
    rows.append([group.floor_name(), "", "", "", "", *(number(group.floor(key)) for key in SCORES), ""])
    return header, rows


def null_table(group: Group) -> Table:
    """Classical against classical: what a change of the seed alone does, after each epoch with two seeds or more."""
    rows = []
    for epoch in group.epochs():
        for key, (title, _) in (LOSS | SCORES).items():
            null = classical_null(group.scores(CLASSICAL, key, epoch))
            if pairs := null.differences:
                numbers = [number(x) for x in (sum(pairs) / len(pairs), pairs[-1], null.margin, group.floor(key))]
                rows.append([title, str(epoch), str(null.n_seeds), *numbers])
    header = ["score", "epoch", "seeds", "mean |difference|", "largest", "margin (95 % of differences are smaller)",
              "real images score"]  # fmt: skip
    return header, rows


def difference_table(group: Group) -> Table:
    """Each cell minus the classical model, paired by seed; rungs of the ladder also minus the zero control."""
    rows = []
    for base in (CLASSICAL, "control-zero"):
        for cell in group.ordered():
            if cell == base or base not in group.cells or (base != CLASSICAL and cell not in LADDER):
                continue
            for epoch in group.epochs():
                for key in COMPARED:
                    a, b = group.scores(cell, key, epoch), group.scores(base, key, epoch)
                    if set(a) & set(b):
                        d, margin = paired_difference(a, b), classical_null(group.scores(CLASSICAL, key, epoch)).margin
                        texts = [between(d.bootstrap), between(d.t), number(margin), d.verdict(margin)]
                        title = (LOSS | SCORES)[key][0]
                        row = [f"{cell} - {base}", title, str(epoch), str(d.n), f"{d.mean:+.4g}", *texts]
                        rows.append([*row, number(group.floor(key))])
    header = ["difference", "score", "epoch", "seeds", "mean", "95 % bootstrap (seeds and images)", "95 % t (seeds)",
              "margin (null)", "verdict", "real images score"]  # fmt: skip
    return header, rows


def cost_table(group: Group) -> Table:
    """Seconds per training step and machine, mean over the jobs that noted it; seconds to draw an image."""
    rows = []
    for cell in group.ordered():
        results = [result for _, result in sorted(group.cells[cell].items())]
        noted = [result["seconds_per_step"] for result in results if result["seconds_per_step"]]
        busy = [one["cpu_seconds"] for one in noted if "cpu_seconds" in one]
        last = [result["by_epoch"][max(result["by_epoch"], key=int)] for result in results]
        draw = [e["sampling_seconds"] / r["config"]["n_images"] for e, r in zip(last, results, strict=True)]
        machine = results[0]["machine"]
        rows.append([cell, f"{results[0]['parameters']:,}", mean([one["seconds"] for one in noted]), mean(busy),
                     mean(draw), machine["gpu"] or f"{machine['cpu']}, {machine['threads']} thread(s)"])  # fmt: skip
    header = ["cell", "parameters", "seconds per step (clock)", "CPU seconds per step", "seconds per image", "machine"]
    return header, rows


def open_table(experiment: Experiment, folder: Path) -> Table:
    """Each cell of an experiment file: seeds done, seeds open, and what the open ones cost as measured."""
    path, rows = folder / "seconds.json", []
    seconds = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    jobs = experiment.jobs()
    for cell in experiment.cells:
        mine = [job for job in jobs if job.cell == cell]
        todo = [job for job in mine if not job.result(folder).is_file() or not _finished(job.result(folder))]
        texts = []
        for machine, costs in sorted(seconds.items()):
            if todo and kind(cell) in costs:
                epochs, scored_at = mine[0].own_epochs()
                each = job_seconds(experiment, costs[kind(cell)], mine[0].steps(epochs), len(scored_at))
                texts.append(f"{hours(len(todo) * each)} ({machine}; {costs[kind(cell)]['step']:.3g} s a step)")
        cost = "; ".join(texts) or ("not measured" if todo else "")
        rows.append([experiment.cell_name(cell), str(len(mine) - len(todo)), str(len(todo)), cost])
    return ["cell", "seeds done", "seeds open", "time for the open ones, without scoring"], rows


def _finished(path: Path) -> bool:
    return bool(json.loads(path.read_text(encoding="utf-8"))["finished"])


def paper_table(paper: dict, groups: Iterable[Group]) -> Table:
    """The paper's table beside our runs of its protocol: means with intervals, or "open" where there is none.

    The last row of a data set is the floor: what as many real images score by our features.
    """
    scores = [f"{title}, {whose}" for title in ("FID", "KID", "IS") for whose in ("paper", "ours")]
    header = ["data set", "cell", *scores, "seeds of ours", "features of ours"]
    by_dataset = {group.dataset: group for group in groups if group.protocol == "paper"}
    rows = []
    for dataset, cells in paper["scores"].items():
        group = by_dataset.get(dataset)
        control = {"classical transfer control": paper["classical_transfer"][dataset]}
        for cell, theirs in (cells | control).items():
            ours = [name for name in (group.cells if group else ()) if _same_cell(name, cell)]
            row, found = [dataset, cell], {}
            for key in ("fid", "kid", "is"):
                found = group.scores(ours[0], key) if ours else {}
                row += [str(theirs.get(key, "not given")), with_interval(mean_over_seeds(found)) if found else "open"]
            features = next(iter(group.cells[ours[0]].values()))["config"]["features"] if found else ""
            rows.append([*row, str(len(found)), features])
        floors = [number(group.floor(key)) if group else "open" for key in ("fid", "kid", "is")]
        rows.append([dataset, group.floor_name() if group else "7,000 real images",
                     *(text for floor in floors for text in ("not given", floor)), "", ""])  # fmt: skip
    return header, rows


def _same_cell(ours: str, theirs: str) -> bool:
    if theirs == "transfer":
        return ours.startswith("transfer-1hqconv") and ours.endswith("-restart")
    if theirs.startswith("classical transfer"):
        return ours.startswith("transfer-unet") and ours.endswith("-restart")
    return ours == theirs


# --------------------------------------------------------------------------------------------- text


def number(value: float | None) -> str:
    """Four digits; "–" for nothing."""
    return "–" if value is None or math.isnan(value) else f"{value:.4g}"


def mean(values: Sequence[float]) -> str:
    return number(sum(values) / len(values)) if values else "not noted"


def between(interval: tuple[float, float]) -> str:
    return "–" if math.isnan(interval[0]) else f"[{interval[0]:+.4g}, {interval[1]:+.4g}]"


def with_interval(d: Difference) -> str:
    """Mean [low, high]; from one seed the value alone."""
    return number(d.mean) if d.n < 2 else f"{number(d.mean)} [{number(d.low)}, {number(d.high)}]"


def write_table(path: Path, header: Sequence[str], rows: list[Sequence[str]]) -> list[Path]:
    """The table as CSV and as Markdown; both paths."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([header, *rows])
    lines = ["| " + " | ".join(row) + " |" for row in (header, ["---"] * len(header), *rows)]
    written = []
    for ending, content in ((".csv", text.getvalue()), (".md", "\n".join(lines) + "\n")):
        file = path.with_name(path.name + ending)
        file.write_text(content, encoding="utf-8", newline="\n")
        written.append(file)
    return written
