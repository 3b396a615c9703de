"""Images and what is measured of them: grids, denoising film strips, loss curves, tables of scores."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes

from qdm_lib.checks import whole
from qdm_lib.plots.style import OKABE_ITO, new_axes

GAP = 2  # white pixels between two images
MOST_INCHES = 16.0  # of a grid: 50 images a side still have more pixels than they need


def image_grid(
    images,
    ax: Axes | None = None,
    *,
    columns: int | None = None,
    titles: Sequence[str] | None = None,
    title: str | None = None,
) -> Axes:
    """Grey images side by side, row after row, black 0 (or -1) to white 255 (or 1).

    What you see: `columns` images a row (by default a square), with the words of `titles`, if there are
    any, above each. images: uint8 (N, 1, H, W), or float in [-1, 1], which is clipped; (N, H, W) works too.

    ValueError for another shape, a wrong number of titles, or columns below 1.
    """
    tiles = _as_grey(images)
    n, height, width = tiles.shape
    if titles is not None and len(titles) != n:
        raise ValueError(f"image_grid got {len(titles)} titles for {n} images.")
    columns = min(n, math.ceil(math.sqrt(n)) if columns is None else whole("columns", columns))
    rows = math.ceil(n / columns)
    head = round(0.35 * height) if titles is not None else 0  # room for the words
    step_y, step_x = height + GAP + head, width + GAP
    canvas = np.full((rows * step_y - GAP, columns * step_x - GAP), 255, np.uint8)
    for k, tile in enumerate(tiles):
        y, x = k // columns * step_y + head, k % columns * step_x
        canvas[y : y + height, x : x + width] = tile
    tile = min(0.55, MOST_INCHES / max(columns, rows))
    ax = new_axes(ax, (max(2.0, tile * columns * (1.6 if head else 1)), max(2.0, tile * rows * (2.2 if head else 1))))
    _show(ax, canvas)
    for k, text in enumerate(titles or ()):
        y, x = k // columns * step_y + head, k % columns * step_x
        ax.text(x + width / 2 - 0.5, y - 2, text, ha="center", va="bottom", fontsize=9)
    if title:
        ax.set_title(title)
    return ax


def film_strip(
    states: Iterable, ax: Axes | None = None, *, n_images: int = 3, n_frames: int = 9, title: str | None = None
) -> Axes:
    """How noise becomes an image: time runs from left (t = T-1, pure noise) to right (t = 0, the sample).

    What you see: two rows for each image. The upper row is x_t, the noisy image the model is shown. The
    lower one is x_0, the clean image it guesses from it: first blurred or blank, then sharper. Frames are
    spread evenly over the steps the sampler took; t stands above them. The frame at the lower right is the sample.

    states: what a sampler of `qdm_lib.diffusion` yields (anything with t, x_t, x_0). Values are clipped to [-1, 1].
    ValueError where there are none, and for less than one image or frame.
    """
    states = list(states)
    if not states:
        raise ValueError("film_strip needs the states of a sampler, but there are none (was it used up already?).")
    picks = sorted({round(k) for k in np.linspace(0, len(states) - 1, min(whole("n_frames", n_frames), len(states)))})
    n_images = min(whole("n_images", n_images), len(states[0].x_t))
    frames = [(_as_grey(states[k].x_t[:n_images]), _as_grey(states[k].x_0[:n_images])) for k in picks]
    height, width = frames[0][0].shape[1:]
    pair, step_x = 2 * height + GAP + 8, width + GAP  # 8 pixels of white between two images' pairs of rows
    canvas = np.full((n_images * pair - 8, len(picks) * step_x - GAP), 255, np.uint8)
    for j, (noisy, clean) in enumerate(frames):
        for i in range(n_images):
            y, x = i * pair, j * step_x
            canvas[y : y + height, x : x + width] = noisy[i]
            canvas[y + height + GAP : y + 2 * height + GAP, x : x + width] = clean[i]
    ax = new_axes(ax, (0.95 * len(picks) + 0.8, 0.95 * len(canvas) / (height + GAP) + 0.5))
    _show(ax, canvas)
    for j, k in enumerate(picks):
        label = f"t = {states[k].t}" if j == 0 else str(states[k].t)
        ax.text(j * step_x + width / 2 - 0.5, -4, label, ha="center", va="bottom", fontsize=10)
    for i in range(n_images):
        for row, label in enumerate(("$x_t$", r"$\hat{x}_0$")):
            ax.text(-4, i * pair + row * (height + GAP) + height / 2, label, ha="right", va="center", fontsize=12)
    if title:
        ax.set_title(title, pad=24)
    return ax


def _as_grey(images) -> np.ndarray:
    """Images of any accepted kind as uint8 (N, H, W)."""
    if hasattr(images, "detach"):  # a tensor
        images = images.detach().cpu().numpy()
    images = np.asarray(images)
    if images.ndim == 4 and images.shape[1] == 1:
        images = images[:, 0]
    if images.ndim != 3 or 0 in images.shape:
        raise ValueError(f"Images must have the shape (N, 1, H, W) or (N, H, W), N >= 1, not {images.shape}.")
    if images.dtype == np.uint8:
        return images
    if not np.issubdtype(images.dtype, np.floating):
        raise ValueError(f"Images must be uint8 or float in [-1, 1], not {images.dtype}.")
    return ((np.nan_to_num(images).clip(-1, 1) + 1) * 127.5).round().astype(np.uint8)


def _show(ax: Axes, canvas: np.ndarray) -> None:
    # vmin and vmax pin the greys: otherwise matplotlib stretches every picture's own range
    ax.imshow(canvas, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    ax.set_axis_off()


def loss_curve(
    losses: Sequence[float],
    ax: Axes | None = None,
    *,
    steps: Sequence[int] | None = None,
    window: int | None = None,
    label: str | None = None,
    colour: str = OKABE_ITO["blue"],
) -> Axes:
    """The training loss: pale dots for single steps, a line for their mean over the last `window` steps.

    What you see: a logarithmic scale, because the loss falls fast and then slowly. Single steps scatter widely,
    as each draws its own images and noise levels t; whether a run still learns shows in the line alone. By default
    the window is a tenth of the run, at most 50 steps.

    losses: one a step. steps: their numbers, 1, 2, … by default. Call it again with the same ax, another label and
    another colour to compare runs. ValueError where there are no losses or the lengths differ.
    """
    losses = np.asarray(losses, dtype=float)
    steps = np.arange(1, len(losses) + 1) if steps is None else np.asarray(steps)
    if len(losses) == 0 or len(steps) != len(losses):
        raise ValueError(f"loss_curve needs as many steps as losses, at least one; got {len(steps)} and {len(losses)}.")
    window = max(1, min(50, len(losses) // 10)) if window is None else whole("window", window)
    ax = new_axes(ax, (7, 4))
    ax.plot(steps, losses, ".", ms=3, alpha=0.3, color=colour, label=None if label else "single steps")
    mean = _running_mean(losses, window)
    span = f"mean of the last {window} steps" if window > 1 else "every step"
    ax.plot(steps, mean, lw=2, color=colour, label=f"{label} ({span})" if label else span)
    ax.xaxis.get_major_locator().set_params(integer=True)
    ax.set_yscale("log")
    ax.yaxis.set_major_formatter(plt.FuncFormatter(lambda value, _: f"{value:g}"))
    ax.yaxis.set_minor_formatter(plt.FuncFormatter(_minor_label))
    ax.set_xlabel("optimiser step", fontsize=11)
    ax.set_ylabel("P2-weighted loss", fontsize=11)
    ax.grid(alpha=0.3, which="both")
    ax.legend(frameon=False)
    return ax


def _running_mean(values: np.ndarray, window: int) -> np.ndarray:
    """Mean of the last `window` values; of all so far, where there are fewer."""
    total = np.concatenate([[0.0], np.cumsum(values)])
    end = np.arange(1, len(values) + 1)
    start = np.maximum(0, end - window)
    return (total[end] - total[start]) / (end - start)


def _minor_label(value: float, _position) -> str:
    """Label 2 and 5 of each decade only: enough to read values, too few to crowd."""
    return f"{value:g}" if round(value / 10 ** math.floor(math.log10(value) + 1e-9)) in (2, 5) else ""


def score_table(scores: Mapping[str, object]) -> str:
    """The scores of `metrics.evaluate` as a table in text.

    What you see: for each score its value, its 95 % bootstrap interval, and what as many real images score: no
    model can be expected to do better than that. Below: what was compared with what.
    """
    rows = [("score", "value", "95 % interval", "real images", "better is")]
    for score in scores.values():
        better = "higher" if score.name == "IS" else "lower"
        interval = f"{score.low:.4g} … {score.high:.4g}"
        rows.append((score.name, f"{score.value:.4g}", interval, f"{score.floor:.4g}", better))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows]
    s = next(iter(scores.values()))
    lines.append(
        f"{s.n:,} generated images against {s.n_reference:,} real ones of {s.reference}; features: {s.extractor}"
    )
    lines += dict.fromkeys(f"{s.name}: {s.note}" for s in scores.values() if s.note)
    return "\n".join(lines)
