"""The figures of `collect`: samples, control ladder, null, FID by epoch. The same results give the same bytes."""

from __future__ import annotations

import re
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from qdm_lib.collect_results import CLASSICAL, LADDER, SCORES, Group
from qdm_lib.comparison import classical_null
from qdm_lib.experiment_run import read_picture

COLOURS = ("#000000", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")  # Okabe and Ito
MARKERS = "osD^vP*"
IN_A_GRID = 16


def figures(group: Group, folder: Path) -> list[Path]:
    """Draw what the group's results allow; the paths of the files."""
    drawn = {"samples": samples(group)}
    if sum(cell in group.cells for cell in LADDER) > 1:
        drawn["ladder"] = ladder(group)
    classical = set(group.entries(CLASSICAL))
    if len(classical) > 1 or any(classical & set(group.entries(cell)) for cell in group.cells if cell != CLASSICAL):
        drawn["null"] = null(group)
    if any(len(result["by_epoch"]) > 1 for runs in group.cells.values() for result in runs.values()):
        drawn["fid-by-epoch"] = by_epoch(group)
    return [_save(figure, folder / f"{group.name}-{name}.png") for name, figure in drawn.items()]


def in_common(group: Group) -> tuple[int, str] | None:
    """The latest epoch that all cells have with one and the same seed, as (seed, epoch), the smallest such seed."""
    have = [{(seed, e) for seed, result in runs.items() for e in result["by_epoch"]} for runs in group.cells.values()]
    return min(set.intersection(*have), key=lambda pair: (-int(pair[1]), pair[0]), default=None)


def samples(group: Group) -> Figure:
    """A row of images for each cell, of one seed and epoch if all cells have one in common, the latest.

    What you see: the first 16 images that each model draws, in the order in which they were drawn, none left out. Rows
    of one seed start from the same noise. Without a common seed and epoch each row is its cell's first seed after its
    last epoch; the rows say which, and the title that they do not compare.
    """
    cells, common = group.ordered(), in_common(group)
    figure = Figure(figsize=(9.5, 0.62 * len(cells) + 0.5), layout="constrained")
    axes = figure.subplots(len(cells), 1, squeeze=False)[:, 0]
    for ax, cell in zip(axes, cells, strict=True):
        seed, epoch = common or (min(group.cells[cell]), "")
        result = group.cells[cell][seed]
        epoch = epoch or max(result["by_epoch"], key=int)
        images = read_picture(result["path"].parent / result["by_epoch"][epoch]["samples"])[:IN_A_GRID]
        ax.imshow(np.concatenate(list(images), 1), cmap="gray", vmin=0, vmax=255, interpolation="nearest")
        ax.set_ylabel(f"{cell}\nseed {seed}, epoch {epoch}", rotation=0, ha="right", va="center", fontsize=8)
        ax.set(xticks=[], yticks=[])
    unlike = "" if common else " (different epochs or seeds: rows do not compare)"
    figure.suptitle(f"{group.dataset}, {group.protocol} protocol{unlike}", fontsize=10)
    return figure


def ladder(group: Group) -> Figure:
    """FID and coverage of the ladder's rungs: a point for each seed, a bar for the mean, a band for unet.

    What you see: the scores themselves, and by the grey band how far those of the classical model reach over its
    seeds. Whether a rung differs from it is for the figure `null` to show, where seeds are paired.
    """
    rungs = [cell for cell in (CLASSICAL, *LADDER) if cell in group.cells]
    figure = Figure(figsize=(10, 1.4 + 0.3 * len(rungs)), layout="constrained")
    for ax, key in zip(figure.subplots(1, 2), ("fid", "coverage"), strict=True):
        classical = [value for value, _ in group.scores(CLASSICAL, key).values()]
        if len(classical) > 1:
            ax.axvspan(min(classical), max(classical), color="#999999", alpha=0.3, lw=0)
        for y, cell in enumerate(rungs):
            _points(ax, y, cell, [value for value, _ in group.scores(cell, key).values()])
        _rows(ax, rungs if key == "fid" else [""] * len(rungs))
        title, better = SCORES[key]
        ax.set_xlabel(f"{title} ({better} is better)")
    n = len(group.scores(CLASSICAL, "fid"))
    band = f"; band: lowest to highest of {n} seeds of unet" if n > 1 else ""
    figure.suptitle(f"Control ladder: {_about(group)}{band}", fontsize=10)
    return figure


def null(group: Group) -> Figure:
    """FID and coverage minus those of the classical model, paired by seed; first what classical models differ by.

    What you see: in the top row every pair of classical seeds, drawn both ways round since neither comes first: what
    the choice of a seed does by itself. The grey band is the margin, ±1.96·√2·s with s from the classical seeds; from
    few of them it is rough (`comparison.classical_null`). Below, each other cell: a point for each seed that it shares
    with the classical model, a bar for their mean. A cell whose points all lie far to one side of zero differs; one
    whose points mix with those of the top row is not told from a change of the seed. (The pairs of the top row share
    nothing but the recipe, those below also batches, noise and first weights, so these may scatter less.)
    """
    shared = {cell: set(group.entries(CLASSICAL)) & set(group.entries(cell)) for cell in group.ordered()}
    cells = [cell for cell, seeds in shared.items() if seeds and cell != CLASSICAL]
    figure = Figure(figsize=(10, 1.6 + 0.3 * len(cells)), layout="constrained")
    for ax, key in zip(figure.subplots(1, 2), ("fid", "coverage"), strict=True):
        classical = group.scores(CLASSICAL, key)
        chance = classical_null(classical)
        if chance.differences:
            ax.axvspan(-chance.margin, chance.margin, color="#999999", alpha=0.3, lw=0)
        ax.axvline(0, color="#555555", lw=0.8)
        both = [sign * difference for difference in chance.differences for sign in (1, -1)]
        ax.plot(both, [0] * len(both), "x", color=COLOURS[0], ms=5, alpha=0.7)
        for y, cell in enumerate(cells, 1):
            scores = group.scores(cell, key)
            _points(ax, y, cell, [scores[seed][0] - classical[seed][0] for seed in sorted(shared[cell])])
        names = [f"{cell} - {CLASSICAL} ({len(shared[cell])})" for cell in cells]
        names = [f"{CLASSICAL} - {CLASSICAL} (pairs of {len(classical)})", *names]
        _rows(ax, names if key == "fid" else [""] * len(names))
        title, better = SCORES[key]
        ax.set_xlabel(f"difference in {title} ({better} is better)")
    n = len(group.scores(CLASSICAL, "fid"))
    band = f"band: ±1.96·√2·s, s from {n} seeds" if n > 1 else "no band: one seed of unet"
    figure.suptitle(f"Differences by seed (number of seeds): {_about(group)}; {band}", fontsize=10)
    return figure


def _points(ax, y: int, cell: str, values: list[float]) -> None:
    """A circle for each value and a bar for their mean: black classical models, orange-red controls, blue circuits."""
    classical = cell.removeprefix("transfer-").split("-")[0] == CLASSICAL
    colour = COLOURS[0] if classical else COLOURS[2] if cell.startswith("control") else COLOURS[1]
    ax.plot(values, [y] * len(values), "o", color=colour, mfc="none", ms=6)
    if values:
        ax.plot([np.mean(values)], [y], "|", color=colour, ms=14, mew=2)


def _rows(ax, names: list[str]) -> None:
    """One row for each name, the first at the top; few ticks below, so that they do not overlap."""
    ax.set_yticks(range(len(names)), names, fontsize=9)
    ax.set_ylim(len(names) - 0.5, -0.5)
    ax.xaxis.set_major_locator(MaxNLocator(5))
    ax.margins(x=0.08)


def _about(group: Group) -> str:
    return f"{group.dataset}, {group.protocol} protocol, features: {group.features()}"


def by_epoch(group: Group) -> Figure:
    """FID against training epochs: the mean over seeds of each cell, a thin line for each seed."""
    figure = Figure(figsize=(6.5, 4.2), layout="constrained")
    ax = figure.subplots()
    for k, cell in enumerate(group.ordered()):
        style = {"color": COLOURS[k % len(COLOURS)], "marker": MARKERS[k % len(MARKERS)]}
        curves = []
        for _, result in sorted(group.cells[cell].items()):
            points = {int(e): entry["scores"]["fid"]["value"] for e, entry in result["by_epoch"].items()}
            curves.append(points)
            ax.plot(list(points), list(points.values()), lw=0.6, color=style["color"], alpha=0.6)
        epochs = sorted(set.intersection(*(set(points) for points in curves)))
        ax.plot(epochs, [np.mean([points[e] for points in curves]) for e in epochs], label=cell, **style)
    ax.set(xlabel="epoch", ylabel="FID (lower is better)", yscale="log")
    ax.legend(fontsize=8)
    ax.set_title(f"{group.dataset}, {group.protocol} protocol", fontsize=10)
    return figure


def is_other_draw(protocol: str, base: str) -> bool:
    """Whether a protocol is another sampler's draw of a base: short-ddim-10 of short, but not short-ddim-10-raw."""
    return re.fullmatch(rf"{re.escape(base)}-(ddim|ddpm|dpm)-\d+", protocol) is not None


def sampling_figures(groups: list[Group], folder: Path) -> list[Path]:
    """FID against sampling steps, a figure for each protocol whose runs were drawn from in several ways.

    Groups named <protocol>-ddim-10 and the like are other draws of the same runs (`experiment run --sampler`). Each
    point is the mean over those seeds of a cell that were drawn from in every way; the label says how many they are.
    """
    paths = []
    for base in groups:
        ways = [g for g in groups if g.dataset == base.dataset and is_other_draw(g.protocol, base.protocol)]
        if not ways:
            continue
        figure = Figure(figsize=(6, 4), layout="constrained")
        ax = figure.subplots()
        for k, cell in enumerate(base.ordered()):
            draws = [group for group in (base, *ways) if group.scores(cell, "fid")]
            seeds = set.intersection(*(set(group.scores(cell, "fid")) for group in draws)) if draws else set()
            if len(draws) < 2 or not seeds:
                continue
            found: dict[str, list[tuple[int, float]]] = {}
            for group in draws:
                scores, config = group.scores(cell, "fid"), group.cells[cell][min(seeds)]["config"]
                value = float(np.mean([scores[seed][0] for seed in sorted(seeds)]))
                found.setdefault(config["sampler"], []).append((config["sampler_steps"], value))
            for sampler, points in sorted(found.items()):
                style = {"color": COLOURS[k % len(COLOURS)], "marker": MARKERS[k % len(MARKERS)]}
                line = "-" if sampler == "ddim" else ":"
                style["markerfacecolor"] = style["color"] if sampler == "ddim" else "none"
                label = f"{cell}, {sampler} ({len(seeds)} seed{'s' * (len(seeds) > 1)})"
                ax.plot(*zip(*sorted(points), strict=True), line, label=label, **style)
        if not ax.lines:
            continue
        ax.set(xlabel="model calls for an image", ylabel="FID (lower is better)", xscale="log")
        ax.legend(fontsize=8)
        ax.set_title(f"{base.dataset}, runs of the {base.protocol} protocol", fontsize=10)
        paths.append(_save(figure, folder / f"{base.name}-sampling-steps.png"))
    return paths


def _save(figure: Figure, path: Path) -> Path:
    """A PNG that depends on the figure and on matplotlib's version only: no date, no user's style."""
    with matplotlib.rc_context({"savefig.dpi": 110}):
        figure.savefig(path, format="png", metadata={"Software": f"matplotlib {matplotlib.__version__}"})
    return path
