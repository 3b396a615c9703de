"""The figures of `collect`: samples, control ladder, null, FID by epoch. The same results give the same bytes."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, MaxNLocator

from qdm_lib.data import DATASETS, load_images
from qdm_lib.files import replacing
from qdm_lib.statistics import classical_null, smallest_effect
from study.job_files import read_picture
from study.results import CLASSICAL, SCORES, Group, ladder

COLOURS = ("#000000", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")  # Okabe and Ito
MARKERS = "osD^vP*"
IN_A_GRID, GAP = 16, 1


def figures(group: Group, folder: Path) -> list[Path]:
    """Draw what the group's results allow; the paths of the files."""
    drawn = {name: samples(group, pair) for name, pair in grids(group).items()}
    if sum(bool(group.entries(cell)) for cell in ladder()) > 1:
        drawn["ladder"] = ladder_figure(group)
    if len(group.entries(CLASSICAL)) > 1:
        drawn["null"] = null(group)
    if any(len(result.by_epoch) > 1 for result in group.results()):
        drawn["fid-by-epoch"] = by_epoch(group)
    if any(_loss_changes(group, cell) for cell in group.cells):
        drawn["loss-by-epoch"] = loss_by_epoch(group)
    return [_save(figure, folder / f"{group.name}-{name}.png") for name, figure in drawn.items()]


def grids(group: Group) -> dict[str, tuple[int, int] | None]:
    """{name of a figure of samples: its seed and epoch}: "samples" for the last epoch, "samples-epoch-1" for earlier.

    The last epoch is the latest that two cells share, for the seed of `in_common` or else the smallest seed that two
    share: a cell that is not there yet does not hide the others. Without any there is one figure of each cell's own
    (None).
    """
    several = Counter((seed, e) for runs in group.cells.values() for seed, one in runs.items() for e in one.by_epoch)
    common = in_common(group)
    shared = common or sorted(pair for pair, cells in several.items() if cells > 1)
    if not shared:
        return {"samples": None}
    seed = common[-1][0] if common else shared[0][0]
    epochs = sorted({epoch for one, epoch in several if one == seed})
    last = max(epoch for epoch in epochs if (seed, epoch) in shared or several[seed, epoch] > 1)
    return {"samples": (seed, last)} | {f"samples-epoch-{e}": (seed, e) for e in epochs if e < last}


def in_common(group: Group) -> list[tuple[int, int]]:
    """The epochs that all cells have with one and the same seed, as (seed, epoch), the smallest such seed.

    Transfers, which have no early epochs, are not asked, unless there is nothing else.
    """
    plain = [cell for cell in group.cells if not group.about(cell).transfer]
    have = [{(seed, e) for seed, one in group.cells[cell].items() for e in one.by_epoch}
            for cell in plain or group.cells]  # fmt: skip
    common = set.intersection(*have)
    return [min(pair for pair in common if pair[1] == e) for e in sorted({e for _, e in common})]


def samples(group: Group, common: tuple[int, int] | None) -> Figure:
    """A row of images for each cell, of one seed and epoch; real ones at the top.

    What you see: the first 16 images that each model draws, in the order in which they were drawn, none left out. Rows
    of one seed start from the same noise. A cell without that epoch is left out. Without a common seed and epoch
    (`in_common`) each row is its cell's first seed after its last epoch; the rows say which, and the title that they
    do not compare.
    """
    rows = [("real images\ntest set", images) for images in _real_images(group.dataset)]
    for cell in group.ordered():
        seed = common[0] if common else min(group.cells[cell])
        result = group.cells[cell].get(seed)
        epoch = common[1] if common else max(result.by_epoch)
        if result is None or epoch not in result.by_epoch:
            continue
        images = read_picture(result.path.parent / result.by_epoch[epoch].samples)
        rows.append((f"{cell}\nseed {seed}, epoch {epoch}", images[:IN_A_GRID]))
    figure = Figure(figsize=(9.5, 0.62 * len(rows) + 0.5), layout="constrained")
    for ax, (label, images) in zip(figure.subplots(len(rows), 1, squeeze=False)[:, 0], rows, strict=True):
        apart = np.pad(images, ((0, 0), (0, 0), (GAP, GAP)), constant_values=255)  # white, so that one sees each image
        ax.imshow(np.concatenate(list(apart), 1), cmap="gray", vmin=0, vmax=255, interpolation="nearest")
        ax.set_ylabel(label, rotation=0, ha="right", va="center", fontsize=8)
        ax.set(xticks=[], yticks=[])
        ax.spines[:].set_visible(False)
    unlike = "" if common else " (different epochs or seeds: rows do not compare)"
    figure.suptitle(f"{group.dataset}, {group.protocol} protocol{unlike}", fontsize=10)
    return figure


def _real_images(dataset: str) -> list[np.ndarray]:
    """The first images of the bundled test set, uint8 (16, 28, 28), in a list; an empty one without such a set."""
    if DATASETS[dataset].bundled_sha256 is None:
        return []
    return [load_images(dataset, "test", bundled=True).images[:IN_A_GRID, 0].numpy()]


def ladder_figure(group: Group) -> Figure:
    """FID and coverage of the ladder's rungs: a mark for each seed, a bar for the mean, a band for unet.

    What you see: the scores themselves, thin lines for their 95 % intervals over the images, and by the grey band how
    far those of the classical model reach over its seeds. The same mark is the same seed in every row. The bars are
    means over the seeds that all rungs have, so that they compare; without two such seeds there are none. Whether a
    rung differs is for the figure `null` to show, where seeds are paired.
    """
    rungs = [cell for cell in (CLASSICAL, *ladder()) if group.scores(cell, "fid")]
    figure = Figure(figsize=(10, 1.6 + 0.3 * len(rungs)), layout="constrained")
    seeds = [set(group.scores(cell, "fid")) for cell in rungs]
    _legend(figure, sorted(set().union(*seeds)))
    common = sorted(set.intersection(*seeds)) if seeds else []
    for ax, key in zip(figure.subplots(1, 2), ("fid", "coverage"), strict=True):
        classical = [value for value, _ in group.scores(CLASSICAL, key).values()]
        if len(classical) > 1:
            ax.axvspan(min(classical), max(classical), color="#999999", alpha=0.3, lw=0)
        for y, cell in enumerate(rungs):
            _points(ax, y, cell, group.scores(cell, key), common)
        _rows(ax, rungs if key == "fid" else [""] * len(rungs))
        title, better = SCORES[key]
        ax.set_xlabel(f"{title} ({better} is better)")
    n = len(group.scores(CLASSICAL, "fid"))
    band = [f"band: lowest to highest of {n} seeds of unet"] if n > 1 else []
    bars = [f"bars: means over the common seeds {', '.join(map(str, common))}"] if len(common) > 1 else []
    figure.suptitle(
        "\n".join([f"Control ladder: {_about(group)}", *filter(None, ["; ".join(band + bars)])]), fontsize=10
    )
    return figure


def null(group: Group) -> Figure:
    """FID and coverage minus those of the classical model, paired by seed; first what classical models differ by.

    What you see: in the top row every pair of classical seeds, drawn both ways round since neither comes first: what
    the choice of a seed does by itself. The grey band is how far that reaches, ±1.96·√2·s with s from the classical
    seeds; from few of them it is rough (`statistics.classical_null`). The dashed lines are the margin of the verdicts,
    the smallest effect of interest (`statistics.smallest_effect`). Below, each other cell: a mark for each seed that it
    shares with the classical model, a thin line for its 95 % interval over the images, a bar for the mean. The pairs of
    the top row share nothing but the recipe, those below also batches, noise and first weights. So two questions: do a
    cell's marks all lie to one side of zero (with few seeds that happens by chance, too: the table of differences tests
    it), and do they lie beyond the dashed lines (then they are large enough to matter)?
    """
    shared = {cell: set(group.entries(CLASSICAL)) & set(group.entries(cell)) for cell in group.ordered()}
    cells = [cell for cell, seeds in shared.items() if seeds and cell != CLASSICAL]
    figure = Figure(figsize=(10, 1.8 + 0.3 * len(cells)), layout="constrained")
    _legend(figure, sorted(set().union(*(shared[cell] for cell in cells))))
    for ax, key in zip(figure.subplots(1, 2), ("fid", "coverage"), strict=True):
        classical = group.scores(CLASSICAL, key)
        chance = classical_null(classical)
        ax.axvspan(-chance.reach, chance.reach, color="#999999", alpha=0.3, lw=0)
        ax.axvline(0, color="#555555", lw=0.8)
        margin = smallest_effect(group.dataset, classical)
        for side in (-margin, margin):
            ax.axvline(side, color="#555555", lw=0.8, ls="--")
        both = [sign * difference for difference in chance.differences for sign in (1, -1)]
        ax.plot(both, [0] * len(both), "x", color=COLOURS[0], ms=5, alpha=0.7)
        for y, cell in enumerate(cells, 1):
            scores = group.scores(cell, key)
            pairs = {seed: (scores[seed], classical[seed]) for seed in sorted(shared[cell])}
            differences = {s: (a[0] - b[0], math.hypot(a[1], b[1])) for s, (a, b) in pairs.items()}
            _points(ax, y, cell, differences, differences)
        names = [f"{cell} - {CLASSICAL} ({len(shared[cell])})" for cell in cells]
        names = [f"{CLASSICAL} - {CLASSICAL} (pairs of {len(classical)})", *names]
        _rows(ax, names if key == "fid" else [""] * len(names))
        title, better = SCORES[key]
        ax.set_xlabel(f"difference in {title} ({better} is better)")
    n = len(group.scores(CLASSICAL, "fid"))
    band = f"band: ±1.96·√2·s, s from {n} seeds; dashed: the smallest effect of interest"
    figure.suptitle(f"Differences by seed (number of seeds): {_about(group)}\n{band}", fontsize=10)
    return figure


def _points(ax, y: int, cell: str, values: dict[int, tuple[float, float]], averaged: Iterable[int]) -> None:
    """A mark for each seed's (value, noise), a bar for the mean of these seeds; controls orange-red, circuits blue."""
    classical = cell.removeprefix("transfer-").split("-")[0] == CLASSICAL
    colour = COLOURS[0] if classical else COLOURS[2] if cell.startswith("control") else COLOURS[1]
    for seed, (value, noise) in values.items():
        ax.plot([value - 1.96 * noise, value + 1.96 * noise], [y, y], "-", color=colour, lw=0.8, alpha=0.6)
        ax.plot([value], [y], MARKERS[seed % len(MARKERS)], color=colour, mfc="none", ms=6)
    if len(seeds := list(averaged)) > 1:
        ax.plot([np.mean([values[seed][0] for seed in seeds])], [y], "|", color=colour, ms=14, mew=2)


def _legend(figure: Figure, seeds: list[int]) -> None:
    """Below the panels: which mark is which seed; nothing without seeds."""
    marks = [
        Line2D([], [], ls="", marker=MARKERS[seed % len(MARKERS)], color="#555555", mfc="none", label=f"seed {seed}")
        for seed in seeds
    ]
    figure.legend(handles=marks, loc="outside lower center", ncols=8, fontsize=8, frameon=False)


def _rows(ax, names: list[str]) -> None:
    """One row for each name, the first at the top; few ticks below, so that they do not overlap."""
    ax.set_yticks(range(len(names)), names, fontsize=9)
    ax.set_ylim(len(names) - 0.5, -0.5)
    ax.xaxis.set_major_locator(MaxNLocator(5))
    ax.margins(x=0.08)


def _style(k: int) -> dict[str, str]:
    """Colour and marker of the k-th curve; 49 pairs before one comes again, and neighbours differ in both."""
    return {"color": COLOURS[k % 7], "marker": MARKERS[(k + k // 7) % 7]}


def _about(group: Group) -> str:
    return f"{group.dataset}, {group.protocol} protocol, features: {group.features()}"


def by_epoch(group: Group) -> Figure:
    """FID against training epochs: the mean over seeds of each cell, a thin line for each seed.

    Bars are 95 % intervals over the images of a seed. No line leads across a length that was not scored. The title says
    what as many real images score.
    """
    figure = Figure(figsize=(6.5, 4.2), layout="constrained")
    ax = figure.subplots()
    lengths, floors = group.epochs(), set()
    for k, cell in enumerate(group.ordered()):
        style = _style(k)
        curves = []
        for _, result in sorted(group.cells[cell].items()):
            scores = {epoch: entry.scores["fid"] for epoch, entry in result.by_epoch.items()}
            points = {epoch: score["value"] for epoch, score in scores.items()}
            bars = [[s["value"] - s["low"] for s in scores.values()], [s["high"] - s["value"] for s in scores.values()]]
            curves.append(points)
            floors |= {f"{score['floor']:.2g}" for score in scores.values()}
            ax.plot(lengths, [points.get(e, np.nan) for e in lengths], lw=0.6, color=style["color"], alpha=0.6)
            ax.errorbar(list(points), list(points.values()), bars, fmt="none", ecolor=style["color"], elinewidth=0.8)
        label = f"{cell} ({len(curves)} seed{'s' * (len(curves) > 1)})"
        means = [np.mean([points.get(e, np.nan) for points in curves]) for e in lengths]
        ax.plot(lengths, means, label=label, **style)
    ax.set(xlabel="epoch", ylabel="FID (lower is better)", yscale="log")
    ax.yaxis.set_minor_locator(LogLocator(subs=(2, 3, 5)))
    for kind in (ax.yaxis.set_major_formatter, ax.yaxis.set_minor_formatter):
        kind("{x:g}")
    ax.set_xticks(lengths)
    ax.legend(fontsize=8)
    ax.set_title(f"{group.dataset}, {group.protocol} protocol; real images: {', '.join(sorted(floors))}", fontsize=10)
    return figure


def _loss_changes(group: Group, cell: str) -> dict[int, dict[int, float]]:
    """{seed: {epoch: training loss of that epoch against that of the classical model of the same seed, in percent}}."""
    found = {}
    for seed, result in sorted(group.cells[cell].items()) if cell != CLASSICAL else ():
        classical = group.cells.get(CLASSICAL, {}).get(seed)
        if result.losses and classical is not None and classical.losses:
            epochs = sorted(set(result.losses) & set(classical.losses))
            found[seed] = {epoch: 100 * (result.losses[epoch] / classical.losses[epoch] - 1) for epoch in epochs}
    return found


def loss_by_epoch(group: Group) -> Figure:
    """Mean training loss of each epoch against the classical model's, in percent, paired by seed: who learns faster?

    What you see: a thin line for each seed that both have, a thick one for their mean. Models of a seed see the same
    batches and the same noise. Results that kept no losses are left out.
    """
    figure = Figure(figsize=(6.5, 4.2), layout="constrained")
    ax = figure.subplots()
    ax.axhline(0, color="#555555", lw=0.8)
    for k, cell in enumerate(group.ordered()):
        if curves := list(_loss_changes(group, cell).values()):
            style = _style(k)
            for curve in curves:
                ax.plot(list(curve), list(curve.values()), lw=0.6, color=style["color"], alpha=0.6)
            epochs = sorted(set.intersection(*map(set, curves)))
            label = f"{cell} ({len(curves)} seed{'s' * (len(curves) > 1)})"
            ax.plot(epochs, [np.mean([curve[e] for curve in curves]) for e in epochs], label=label, **style)
    ax.set(xlabel="epoch", ylabel=f"training loss against {CLASSICAL}, % (lower is better)")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
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
    Bars are 95 % intervals over images, for these seeds.
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
                scores, config = group.scores(cell, "fid"), group.cells[cell][min(seeds)].config
                value = float(np.mean([scores[seed][0] for seed in sorted(seeds)]))
                noise = float(np.mean([scores[seed][1] ** 2 for seed in sorted(seeds)]) / len(seeds)) ** 0.5
                found.setdefault(config.sampler, []).append((config.sampler_steps, value, 1.96 * noise))
            for sampler, points in sorted(found.items()):
                calls, values, bars = zip(*sorted(points), strict=True)
                style = _style(k)
                line = "-" if sampler == "ddim" else ":"
                style["markerfacecolor"] = style["color"] if sampler == "ddim" else "none"
                label = f"{cell}, {sampler} ({len(seeds)} seed{'s' * (len(seeds) > 1)})"
                ax.plot(calls, values, line, label=label, **style)
                ax.errorbar(calls, values, bars, fmt="none", ecolor=style["color"], elinewidth=0.8)
        if not ax.lines:
            continue
        ax.set(xlabel="model calls for an image", ylabel="FID (lower is better)", xscale="log")
        calls = sorted({int(x) for line in ax.lines for x in line.get_xdata()})
        ax.set_xticks(calls, [str(n) for n in calls])
        ax.minorticks_off()
        ax.legend(fontsize=8)
        ax.set_title(f"{base.dataset}, runs of the {base.protocol} protocol", fontsize=10)
        paths.append(_save(figure, folder / f"{base.name}-sampling-steps.png"))
    return paths


def _save(figure: Figure, path: Path) -> Path:
    """A PNG, whole or not at all; it depends on the figure and matplotlib's version only: no date, no user's style."""
    with matplotlib.rc_context({"savefig.dpi": 110}), replacing(path) as temporary:
        figure.savefig(temporary, format="png", metadata={"Software": f"matplotlib {matplotlib.__version__}"})
    return path
