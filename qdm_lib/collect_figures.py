"""The figures of `collect`: sample grids, the control ladder, FID by epoch. The same results give the same bytes."""

from __future__ import annotations

import re
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from qdm_lib.collect import CLASSICAL, LADDER, SCORES, Group
from qdm_lib.experiment_run import read_picture

COLOURS = ("#000000", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")  # Okabe and Ito
MARKERS = "osD^vP*"
IN_A_GRID = 16


def figures(group: Group, folder: Path) -> list[Path]:
    """Draw what the group's results allow; the paths of the files."""
    drawn = {"samples": samples(group)}
    if sum(cell in group.cells for cell in LADDER) > 1:
        drawn["ladder"] = ladder(group)
    if any(len(result["by_epoch"]) > 1 for runs in group.cells.values() for result in runs.values()):
        drawn["fid-by-epoch"] = by_epoch(group)
    return [_save(figure, folder / f"{group.name}-{name}.png") for name, figure in drawn.items()]


def samples(group: Group) -> Figure:
    """A row of images for each cell, from its first seed after its last epoch; all rows start from the same noise.

    What you see: the first 16 images that each model draws, in the order in which they were drawn, none left out.
    """
    cells = group.ordered()
    figure = Figure(figsize=(9.5, 0.62 * len(cells) + 0.5), layout="constrained")
    axes = figure.subplots(len(cells), 1, squeeze=False)[:, 0]
    for ax, cell in zip(axes, cells, strict=True):
        seed, result = min(group.cells[cell].items())
        epoch = max(result["by_epoch"], key=int)
        entry = result["by_epoch"][epoch]
        images = read_picture(result["path"].parent / entry["samples"])[:IN_A_GRID]
        ax.imshow(np.concatenate(list(images), 1), cmap="gray", vmin=0, vmax=255, interpolation="nearest")
        ax.set_ylabel(f"{cell}\nseed {seed}, epoch {epoch}", rotation=0, ha="right", va="center", fontsize=8)
        ax.set(xticks=[], yticks=[])
    figure.suptitle(f"{group.dataset}, {group.protocol} protocol", fontsize=10)
    return figure


def ladder(group: Group) -> Figure:
    """FID and coverage of the ladder's rungs: a point for each seed, a bar for the mean, a band for the null.

    What you see: if the circuit mattered, its points would stand apart from those of the controls by more than the
    grey band, the range of the classical model over its seeds.
    """
    rungs = [cell for cell in (CLASSICAL, *LADDER) if cell in group.cells]
    figure = Figure(figsize=(10, 4.2), layout="constrained")
    for ax, key in zip(figure.subplots(1, 2), ("fid", "coverage"), strict=True):
        classical = [value for value, _ in group.scores(CLASSICAL, key).values()]
        if classical:
            ax.axvspan(min(classical), max(classical), color="#999999", alpha=0.3, lw=0, label="unet, all seeds")
        for y, cell in enumerate(rungs):
            colour = COLOURS[1] if "conv" in cell and "control" not in cell else COLOURS[2 if y else 0]
            values = [value for value, _ in group.scores(cell, key).values()]
            ax.plot(values, [y] * len(values), "o", color=colour, mfc="none", ms=6)
            if values:
                ax.plot([np.mean(values)], [y], "|", color=colour, ms=18, mew=2)
        ax.set_yticks(range(len(rungs)), rungs if key == "fid" else [""] * len(rungs))
        ax.invert_yaxis()
        title, better = SCORES[key]
        ax.set_xlabel(f"{title} ({better} is better)")
        ax.legend(loc="best", fontsize=8)
    features = next(r["config"]["features"] for runs in group.cells.values() for r in runs.values())
    figure.suptitle(f"Control ladder: {group.dataset}, {group.protocol} protocol, features: {features}", fontsize=10)
    return figure


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

    Groups named <protocol>-ddim-10 and the like are other draws of the same runs (`experiment run --sampler`).
    """
    paths = []
    for base in groups:
        ways = [g for g in groups if g.dataset == base.dataset and is_other_draw(g.protocol, base.protocol)]
        if not ways:
            continue
        figure = Figure(figsize=(6, 4), layout="constrained")
        ax = figure.subplots()
        for k, cell in enumerate(base.ordered()):
            found: dict[str, list[tuple[int, float]]] = {}
            for group in (base, *ways):
                values = [value for value, _ in group.scores(cell, "fid").values()]
                config = next(iter(group.cells.get(cell, {}).values()), {"config": None})["config"]
                if values and any(cell in g.cells for g in ways):
                    found.setdefault(config["sampler"], []).append((config["sampler_steps"], float(np.mean(values))))
            for sampler, points in sorted(found.items()):
                style = {"color": COLOURS[k % len(COLOURS)], "marker": MARKERS[k % len(MARKERS)]}
                line = "-" if sampler == "ddim" else ":"
                ax.plot(*zip(*sorted(points), strict=True), line, label=f"{cell}, {sampler}", **style)
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
