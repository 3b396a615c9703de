"""The tables of `collect`: scores, seeds, the null, differences, costs, the paper's beside ours."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from qdm_lib.files import replacing
from qdm_lib.paper import HAND_OVER
from qdm_lib.statistics import (
    INTERVAL_SD,
    OTHER_EFFECT,
    SHARES,
    SMALLEST_EFFECT,
    classical_null,
    holm,
    limits,
    mean_over_seeds,
    paired_difference,
    relative_change,
    smallest_effect,
)
from study.results import CLASSICAL, LOSS, SCORES, Group, Result, ladder
from study.spec import Transfer

COMPARED = ("loss", "fid", "kid", "is", "coverage", "cnn_accuracy")
ALL_COMPARED = (*LOSS, *(key for key in SCORES if key != "memorised"))  # where no cell has a second seed
# Beside each cell - classical, and each rung - zero: what HQConv does beyond a classical layer with as many weights,
# beyond random weights, ones without entanglement, the released form, a cosine and the input itself.
STAND_INS = ("classical", "frozen", "uncontrolled", "hqconv_released", "cos", "identity")
RUNGS = tuple(("fullhqconv", f"control-{name}") for name in STAND_INS)
# Transfers as the table names them, and the presets that are handed over to: the paper's two, and one of ours.
TRANSFERS = {"transfer into 1hqconv": "1hqconv", "transfer into 1fqconv": "1fqconv",
             "classical transfer control": CLASSICAL}  # fmt: skip


ONE_SEED = "*: one seed; the interval is over its images alone."


class Table(NamedTuple):
    """A table of text, and what stands below it in Markdown."""

    header: Sequence[str]
    rows: list[Sequence[str]]
    note: str = ""


def tables(group: Group) -> dict[str, Table]:
    """The tables of one group, by name: header and rows of text."""
    found = {"scores": score_table(group), "seeds": seed_table(group), "costs": cost_table(group)}
    if (null := null_table(group)).rows:
        found["null"] = null
    found["differences"] = difference_table(group)
    if any(result.losses for result in group.results()):
        found["losses"] = loss_table(group)
    return found


def score_table(group: Group) -> Table:
    """Mean of each score over the seeds, with its interval; the floor of real images as the last row."""
    note = (
        f"Means over the seeds that a cell has. {ONE_SEED} Means over different seeds do not compare: the table of "
        "differences pairs the seeds. Intervals of several seeds: the wider of bootstrap (seeds and images) and "
        f"Student's t (seeds), 95 %. All are cut to possible values. {cnn_note(group)}"
    )
    rows = []
    for cell in group.ordered():
        for epoch in group.epochs():
            if seeds := sorted(group.scores(cell, "fid", epoch)):
                means = [mean_text(group, cell, key, epoch) for key in SCORES]
                rows.append([cell, str(epoch), ", ".join(map(str, seeds)), *means])
    rows.append([group.floor_name(), "", "", *(floor_text(group, key) for key in SCORES)])
    header = ["cell", "epoch", "seeds", *(f"{title} ({better})" for title, better in SCORES.values())]
    return Table(header, rows, note)


def seed_table(group: Group) -> Table:
    """Every score of every job and epoch, with its interval over the images, and the file it comes from."""
    header = ["cell", "seed", "epoch", "step", "loss", *(title for title, _ in SCORES.values()), "file"]
    rows = []
    for cell in group.ordered():
        for seed, result in sorted(group.cells[cell].items()):
            for epoch, entry in result.by_epoch.items():
                scores = [entry.scores[key] for key in SCORES]
                texts = [f"{number(s['value'])} [{number(s['low'])}, {number(s['high'])}]" for s in scores]
                file = result.path.relative_to(group.folder).as_posix()
                rows.append([cell, str(seed), str(epoch), str(entry.step), number(entry.loss), *texts, file])
    rows.append([group.floor_name(), "", "", "", "", *(floor_text(group, key) for key in SCORES), ""])
    note = (
        "Intervals over the images alone, cut to possible values; of a share of 0 or 1 Clopper and Pearson's bound. "
        + cnn_note(group)
    )
    return Table(header, rows, note)


def cnn_note(group: Group) -> str:
    """What the interval of the CNN accuracies holds: of one CNN in older results, of several in newer ones."""
    several = "Interval of CNN accuracy: over CNNs and test images"
    one = "over the test images of one CNN, whose own seed is not in the interval"
    if (kinds := {entry.cnns for entry in group.all_entries()}) == {1}:
        return f"CNN accuracy: {one}; neither do the generated images vary."
    if 1 not in kinds:
        return f"{several}."
    old = {r.config.cell for r in group.results() if any(entry.cnns == 1 for entry in r.by_epoch.values())}
    return f"{several}; in older results, among those of {', '.join(sorted(old))}, {one}."


def floor_text(group: Group, key: str) -> str:
    """What real images score; of CNN accuracy for each number of CNNs that the results have."""
    kinds = sorted({entry.cnns for entry in group.all_entries()})
    if key != "cnn_accuracy" or len(kinds) < 2:
        return number(group.floor(key))
    return ", ".join(f"{number(group.floor(key, n))} ({n} CNN{'s' if n > 1 else ''})" for n in kinds)


def loss_table(group: Group) -> Table:
    """Mean training loss of every epoch, a row for each job."""
    epochs = sorted({epoch for result in group.results() for epoch in result.losses or ()})
    rows = []
    for cell in group.ordered():
        for seed, result in sorted(group.cells[cell].items()):
            losses = [number((result.losses or {}).get(epoch)) for epoch in epochs]
            rows.append([cell, str(seed), *(["not kept"] * len(epochs) if result.losses is None else losses)])
    note = (
        "Models of one seed see the same batches and the same noise in every epoch. The first epochs of a transfer are "
        'its source\'s. "not kept": the result is from before losses were kept.'
    )
    return Table(["cell", "seed", *(f"epoch {epoch}" for epoch in epochs)], rows, note)


def null_table(group: Group) -> Table:
    """Classical against classical: what a change of the seed alone does, after each epoch with two seeds or more."""
    rows = []
    for epoch in group.epochs():
        for key, (title, _) in (LOSS | SCORES).items():
            null = classical_null(group.scores(CLASSICAL, key, epoch))
            if pairs := null.differences:
                numbers = [number(x) for x in (sum(pairs) / len(pairs), pairs[-1], null.reach)]
                share = f"{null.coverage:.2f}" if pairs[-1] else "–"  # all seeds alike: nothing to estimate from
                rows.append([title, str(epoch), str(null.n_seeds), *numbers, share, floor_text(group, key)])
    header = ["score", "epoch", "seeds", "mean |difference|", "largest", "reach, 1.96·√2·s", "share within it",
              "real images score"]  # fmt: skip
    note = (
        "Reach: s is the standard deviation over so many seeds. Share within it: of new classical-against-classical "
        "differences, for normal scores and on average; 0.95 only if s were known. It is what the choice of a seed "
        "does, and no margin of any verdict."
    )
    return Table(header, rows, note)


def difference_table(group: Group) -> Table:
    """The pairs of `compared`, paired by seed; where no cell has a second seed, in all scores.

    "p, Holm" is adjusted for all differences of the table with two seeds or more; the verdict is not.
    """
    rows, p_values, left_out = [], [], False
    one_each = all(len(by_seed) == 1 for by_seed in group.cells.values())
    for cell, base in compared(group):
        for epoch in group.epochs():
            for key in ALL_COMPARED if one_each else COMPARED:
                a, b = group.scores(cell, key, epoch), group.scores(base, key, epoch)
                if key == "cnn_accuracy" and a and b and group.cnns(cell, epoch) != group.cnns(base, epoch):
                    left_out = True
                elif set(a) & set(b):
                    d = paired_difference(a, b)
                    margin = smallest_effect(group.dataset, group.scores(CLASSICAL, key, epoch))
                    title = (LOSS | SCORES)[key][0]
                    row = [f"{cell} - {base}", title, str(epoch), str(d.n), f"{d.mean:+.4g}", over_images(a, b)]
                    row += [between(d.bootstrap), between(d.t)]
                    rows.append([*row, number(margin), d.verdict(margin), floor_text(group, key)])
                    p_values.append(d.p)
    for row, p in zip(rows, holm(p_values), strict=True):
        row.insert(-1, "–" if math.isnan(p) else f"{p:.2g}")
    header = ["difference", "score", "epoch", "seeds", "mean", "95 % over images (one seed)",
              "95 % bootstrap (seeds and images)", "95 % t (seeds)", "margin", "verdict", "p, Holm",
              "real images score"]  # fmt: skip
    n, tested = sum(int(row[3]) > 1 for row in rows), sum(not math.isnan(p) for p in p_values)
    share = SMALLEST_EFFECT.get(group.dataset)
    words = [word for row in rows if int(row[3]) > 1 for word in row[header.index("verdict")].split(", ")]
    called, equivalent = words.count("higher") + words.count("lower"), words.count("equivalent")
    note = (
        f"Margin: the smallest effect of interest, {share or OTHER_EFFECT:.0%} of the mean classical score"
        + (", the largest gain in FID that the paper reports on this data set" if share else "")
        + ". From few common seeds a bootstrap covers far less than 95 %; the wider of the two intervals decides: "
        '"higher" or "lower" if it leaves out zero, "equivalent" if it lies within the margin, else "open". '
        f"Differences with two seeds or more: {n}. The interval over images is as if the two models' images were "
        "independent, though they are drawn from the same noise; another seed is not in it."
    )
    if left_out:
        note += " CNN accuracies of one CNN and of several are not subtracted from one another."
    note += f" {cnn_note(group)}"
    if n:
        note += (
            f" Called higher or lower: {called}; equivalent, some of these among them: {equivalent}."
            ' Where nothing differs, up to 1 in 20 of them is called higher or lower by chance. "p, Holm" (Student\'s '
            f"test) is adjusted for the {tested} whose seeds do not all tie: what stays below 0.05 does not come from "
            "having looked at many."
        )
    return Table(header, rows, note)


def compared(group: Group) -> list[tuple[str, str]]:
    """The pairs (cell, base) of the table of differences, of the cells that the group has.

    Each cell - classical; each rung of the ladder - zero; HQConv - the rungs of `RUNGS`; each transfer - the
    classical one with the same hand-over; each other hand-over - "restart" into the same target.
    """
    cells = group.ordered()
    pairs = [(cell, CLASSICAL) for cell in cells if cell != CLASSICAL]
    pairs += [(cell, "control-zero") for cell in cells if cell in ladder() and cell != "control-zero"]
    pairs += RUNGS
    about = {cell: group.about(cell) for cell in cells}
    moved = [cell for cell in cells if about[cell].transfer]
    for base in moved:
        for cell in moved:
            mine, theirs = about[cell], about[base]
            same_target = (mine.preset, mine.control) == (theirs.preset, theirs.control)
            if theirs.preset == CLASSICAL and not same_target and mine.transfer == theirs.transfer:
                pairs.append((cell, base))
            released = Transfer(mine.transfer["epochs"], mine.transfer["source"])
            if same_target and cell != base and Transfer(**theirs.transfer) == released:
                pairs.append((cell, base))
    return [(cell, base) for cell, base in pairs if cell in cells and base in cells]


def cost_table(group: Group) -> Table:
    """What the recorded jobs took, by cell and machine: per step, per image, and hours in all."""
    rows = []
    for cell in group.ordered():
        by_machine: dict[str, list[Result]] = {}
        for _, result in sorted(group.cells[cell].items()):
            by_machine.setdefault(result.place, []).append(result)
        for place, results in by_machine.items():
            noted = [result.seconds_per_step for result in results if result.seconds_per_step]
            busy = [one["cpu_seconds"] for one in noted if "cpu_seconds" in one]
            drawing = [entry.sampling_seconds / r.config.n_images for r in results
                       for entry in r.by_epoch.values() if entry.sampling_seconds is not None]  # fmt: skip
            rows.append([cell, place, str(len(results)), f"{results[0].parameters:,}",
                         mean([one["seconds"] for one in noted]), mean(busy), trained_for(results),
                         mean(drawing), spent(results)])  # fmt: skip
    rows.append(["all", "", str(len(group.results())), "", "", "", trained_for(group.results()), "",
                 spent(group.results())])  # fmt: skip
    header = ["cell", "machine", "seeds", "parameters", "clock time for a step, s", "CPU time for a step, s",
              "clock time to train, h", "clock time to draw an image, s", "clock time of these jobs, h"]  # fmt: skip
    note = ("Clock time goes on while other programs have the core; CPU time does not. Hours: training steps up to the "
            "last score, drawing and scoring; a transfer without its source.")  # fmt: skip
    if any(result.config.runs_of for result in group.results()):
        note += " The training is that of another protocol's runs and is not counted in the last column."
    return Table(header, rows, note)


def trained_for(results: list[Result]) -> str:
    """Hours by the clock of the training of jobs, as far as noted."""
    noted = [seconds for seconds in map(training_seconds, results) if seconds is not None]
    return f"{sum(noted) / 3600:.2f}" if noted else "not noted"


def spent(results: list[Result]) -> str:
    """Hours by the clock that jobs took; says how many trainings and drawings are missing, their time not noted."""
    training = [0.0 if result.config.runs_of else training_seconds(result) for result in results]
    missing = training.count(None)
    if missing == len(results):
        return "not noted"
    seconds, undrawn = sum(filter(None, training)), 0
    for result, trained in zip(results, training, strict=True):
        if trained is not None:
            entries = result.by_epoch.values()
            seconds += sum((e.sampling_seconds or 0) + e.scoring_seconds for e in entries)
            undrawn += sum(e.sampling_seconds is None for e in entries)
    not_noted = [f", and {n} {what} not noted" for n, what in ((missing, "job(s)"), (undrawn, "drawing(s)")) if n]
    return f"{seconds / 3600:.2f}" + "".join(not_noted)


def training_seconds(result: Result) -> float | None:
    """Clock seconds of the job's own steps up to its last score; None if not noted."""
    if not result.seconds_per_step:
        return None
    epoch = max(result.by_epoch)
    before = (result.config.transfer or {}).get("epochs", 0)  # the steps of a transfer's source are its own job's
    return result.seconds_per_step["seconds"] * result.by_epoch[epoch].step * (1 - before / epoch)


def paper_table(paper: dict, groups: Iterable[Group], protocol: str = "paper") -> Table:
    """The paper's numbers and our runs of its protocol: what may be compared, the change against the classical model.

    First the changes in percent, the paper's and ours, of FID, KID and IS; then the paper's scores, then ours, each on
    a scale of its own: means with intervals, or "open" where there is none.

    protocol: "paper-inception" for the same runs as seen by the paper's features (`experiment run --features`),
    "paper-ddim-50" for the same runs drawn by another sampler; a note says how ours are drawn.
    The last row of a data set is the floor: what as many real images score by our features.
    """
    keys = {key: SCORES[key][0] for key in ("fid", "kid", "is")}
    header = ["data set", "cell", *(f"{title} against {CLASSICAL}, %, {whose}"
                                    for title in keys.values() for whose in ("paper", "ours"))]  # fmt: skip
    header += [f"{title}, {whose}" for whose in ("paper", "ours") for title in keys.values()]
    header += ["seeds of ours", "features of ours"]
    by_dataset = {group.dataset: group for group in groups if group.protocol == protocol}
    rows = []
    for dataset, cells in paper["scores"].items():
        group = by_dataset.get(dataset)
        theirs = {name: numbers for name, numbers in cells.items() if name != "transfer"}
        theirs[f"transfer into {paper['transfer_into']}"] = cells["transfer"]
        theirs["transfer into 1hqconv"] = {}
        theirs["classical transfer control"] = paper["classical_transfer"][dataset]
        for name, numbers in theirs.items():
            ours = next((cell for cell in (group.cells if group else ()) if _same_cell(group, cell, name)), None)
            n = len(group.entries(ours)) if ours else 0
            changes = []
            for key in keys:
                changes.append(_change(numbers.get(key), cells[CLASSICAL].get(key)) if name != CLASSICAL else "")
                changes.append(change_text(group, ours, key) if n and name != CLASSICAL else "open" if not n else "")
            printed = [_printed(numbers, key) for key in keys]
            measured = [mean_text(group, ours, key) if n else "open" for key in keys]
            rows.append([dataset, name, *changes, *printed, *measured, str(n), group.features() if n else ""])
        floors = [floor_text(group, key) if group else "open" for key in keys]
        rows.append(
            [
                dataset,
                group.floor_name() if group else f"{paper['protocol']['n']:,} real images",
                *[""] * 9,
                *floors,
                "",
                "",
            ]
        )
    note = (
        "The features decide the scale of a score. Where ours are not those of Inception, only the changes against the "
        f"classical model compare, in sign and rough size. {ONE_SEED} Of a change it is over the images of both "
        "models, as if they were independent."
    )
    return Table(header, rows, " ".join([note, *map(_drawn_by, by_dataset.values())]))


def _printed(numbers: dict, key: str) -> str:
    """A score as the paper prints it, with its ± where that is noted."""
    if (around := numbers.get("plus_minus", {}).get(key)) is None:
        return str(numbers.get(key, "not given"))
    digits = len(str(around).partition(".")[2])
    return f"{numbers[key]:.{digits}f} ± {around}"


def _change(value: float | None, classical: float | None) -> str:
    return "not given" if value is None or classical is None else f"{100 * (value / classical - 1):+.1f}"


def change_text(group: Group, cell: str, key: str) -> str:
    """Mean difference to the classical model, paired by seed, in percent of its mean score over the same seeds.

    With its 95 % interval; a star for one seed, whose images alone vary. "open" without a common seed.
    """
    mine, classical = group.scores(cell, key), group.scores(CLASSICAL, key)
    seeds = sorted(set(mine) & set(classical))
    if not seeds:
        return "open"
    if len(seeds) == 1:
        change, half = relative_change(mine[seeds[0]], classical[seeds[0]])
        return f"{100 * change:+.1f} [{100 * (change - half):+.1f}, {100 * (change + half):+.1f}]*"
    d = paired_difference(mine, classical)
    scale = 100 / abs(sum(classical[seed][0] for seed in seeds) / d.n)
    return f"{scale * d.mean:+.1f} [{scale * d.low:+.1f}, {scale * d.high:+.1f}]"


def _drawn_by(group: Group) -> str:
    """How a group's images are drawn, beside how the paper's are."""
    config = group.results()[0].config
    steps = "" if config.sampler_steps is None else f" in {config.sampler_steps:,} steps"
    return (
        f"Ours on {group.dataset}: {config.n_images:,} images by {config.sampler.upper()}{steps}, weights "
        f"{config.weights!r}; the paper's: 7,000 by DDPM in 1,000 steps."
    )


def _same_cell(group: Group, ours: str, theirs: str) -> bool:
    """Whether a cell of ours is a row of the paper's; a transfer is, if it is made as the released code makes it."""
    config = group.about(ours)
    if theirs not in TRANSFERS:
        return ours == theirs
    return (
        bool(config.transfer)
        and Transfer(**config.transfer) == Transfer(HAND_OVER[group.dataset])
        and (config.preset, config.control) == (TRANSFERS[theirs], None)
    )


# --------------------------------------------------------------------------------------------- text


def number(value: float | None) -> str:
    """Four digits; "–" for nothing."""
    return "–" if value is None or math.isnan(value) else f"{value:.4g}"


def mean(values: Sequence[float]) -> str:
    return number(sum(values) / len(values)) if values else "not noted"


def over_images(a: dict[int, tuple[float, float]], b: dict[int, tuple[float, float]]) -> str:
    """95 % interval of a − b over the images of both, for one common seed; scores as in `paired_difference`."""
    common = sorted(set(a) & set(b))
    if len(common) != 1 or not (sd := math.hypot(a[common[0]][1], b[common[0]][1])):
        return "–"
    difference, half = a[common[0]][0] - b[common[0]][0], INTERVAL_SD / 2 * sd
    return between((difference - half, difference + half))


def between(interval: tuple[float, float]) -> str:
    return "–" if math.isnan(interval[0]) else f"[{interval[0]:+.4g}, {interval[1]:+.4g}]"


def mean_text(group: Group, cell: str, key: str, epoch: int | None = None) -> str:
    """Mean over the seeds [low, high], cut to what the score can be; a star for one seed, whose images alone vary.

    A share that is 0 (or 1) with every seed gets the exact interval of one seed's images.
    """
    d = mean_over_seeds(group.scores(cell, key, epoch))
    least, most = limits(key)
    low, high = max(d.low, least), min(d.high, most)
    if d.n == 1 or (key in SHARES and d.mean in (0, 1)):
        each = [entry.scores[key] for entry in group.entries(cell, epoch).values()]
        low, high = min(score["low"] for score in each), max(score["high"] for score in each)
    return f"{number(d.mean)} [{number(low)}, {number(high)}]" + "*" * (d.n == 1)


def write_table(path: Path, table: Table) -> list[Path]:
    """The table as CSV and as Markdown, there with its note and with \"|\" escaped; both paths."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([table.header, *table.rows])
    lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |"
             for row in (table.header, ["---"] * len(table.header), *table.rows)]  # fmt: skip
    lines += ["", table.note] if table.note else []
    written = []
    for ending, content in ((".csv", text.getvalue()), (".md", "\n".join(lines) + "\n")):
        file = path.with_name(path.name + ending)
        with replacing(file) as temporary:
            temporary.write_text(content, encoding="utf-8", newline="\n")
        written.append(file)
    return written
