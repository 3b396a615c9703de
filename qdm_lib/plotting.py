"""Figures of the course: images, denoising film strips, loss curves, circuits; and text for terminals.

Every plot function takes `ax=None`, draws into it (or into a new figure) and returns the Axes. None calls
`show()`: a notebook shows the figure with `show_described`, a script saves it with `save_figure`. Colours are those of
Okabe and Ito, which readers with any kind of colour vision can tell apart.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import cycle, groupby
from pathlib import Path
from textwrap import wrap

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.patches import Circle, FancyBboxPatch, Patch

from qdm_lib.circuits import GATES, TWO_PI, Circuit, Gate
from qdm_lib.files import replacing

OKABE_ITO = {
    "orange": "#E69F00", "sky blue": "#56B4E9", "green": "#009E73", "yellow": "#F0E442",
    "blue": "#0072B2", "vermilion": "#D55E00", "purple": "#CC79A7", "black": "#000000",
}  # fmt: skip
BLOCK_COLOURS = {
    "encoding": OKABE_ITO["sky blue"],
    "A": OKABE_ITO["orange"],
    "B": OKABE_ITO["green"],
    "C": OKABE_ITO["vermilion"],
    "D": OKABE_ITO["purple"],
    "": "#999999",
}
GAP = 2  # white pixels between two images


# --------------------------------------------------------------------------------------------- images


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

    Raises ValueError for another shape or a wrong number of titles.
    """
    tiles = _as_grey(images)
    n, height, width = tiles.shape
    if titles is not None and len(titles) != n:
        raise ValueError(f"image_grid got {len(titles)} titles for {n} images.")
    columns = min(n, columns or math.ceil(math.sqrt(n)))
    rows = math.ceil(n / columns)
    head = round(0.35 * height) if titles is not None else 0  # room for the words
    step_y, step_x = height + GAP + head, width + GAP
    canvas = np.full((rows * step_y - GAP, columns * step_x - GAP), 255, np.uint8)
    for k, tile in enumerate(tiles):
        y, x = k // columns * step_y + head, k % columns * step_x
        canvas[y : y + height, x : x + width] = tile
    ax = _axes(ax, (max(2.0, 0.55 * columns * (1.6 if head else 1)), max(2.0, 0.55 * rows * (2.2 if head else 1))))
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
    Raises ValueError if there are none.
    """
    states = list(states)
    if not states:
        raise ValueError("film_strip needs the states of a sampler, but there are none (was it used up already?).")
    picks = sorted({round(k) for k in np.linspace(0, len(states) - 1, min(n_frames, len(states)))})
    n_images = min(n_images, len(states[0].x_t))
    frames = [(_as_grey(states[k].x_t[:n_images]), _as_grey(states[k].x_0[:n_images])) for k in picks]
    height, width = frames[0][0].shape[1:]
    pair, step_x = 2 * height + GAP + 8, width + GAP  # 8 pixels of white between two images' pairs of rows
    canvas = np.full((n_images * pair - 8, len(picks) * step_x - GAP), 255, np.uint8)
    for j, (noisy, clean) in enumerate(frames):
        for i in range(n_images):
            y, x = i * pair, j * step_x
            canvas[y : y + height, x : x + width] = noisy[i]
            canvas[y + height + GAP : y + 2 * height + GAP, x : x + width] = clean[i]
    ax = _axes(ax, (0.95 * len(picks) + 0.8, 0.95 * len(canvas) / (height + GAP) + 0.5))
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


# --------------------------------------------------------------------------------------------- curves


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
    another colour to compare runs. Raises ValueError if there are no losses or the lengths differ.
    """
    losses = np.asarray(losses, dtype=float)
    steps = np.arange(1, len(losses) + 1) if steps is None else np.asarray(steps)
    if len(losses) == 0 or len(steps) != len(losses):
        raise ValueError(f"loss_curve needs as many steps as losses, at least one; got {len(steps)} and {len(losses)}.")
    window = max(1, min(50, len(losses) // 10)) if window is None else window
    if window < 1:
        raise ValueError(f"window must be at least 1, not {window}.")
    ax = _axes(ax, (7, 4))
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


# ------------------------------------------------------------------------------------------- circuits


def columns_of(circuit: Circuit) -> list[tuple[int, Gate]]:
    """(column, gate) for every gate, each as far left as the gates before it on the wires it spans allow."""
    free, placed = [0] * circuit.n_wires, []
    for gate in circuit.gates:
        span = range(min(gate.wires), max(gate.wires) + 1)
        column = max(free[w] for w in span)
        for w in span:
            free[w] = column + 1
        placed.append((column, gate))
    return placed


def draw_circuit(circuit: Circuit, ax: Axes | None = None, *, fold: int = 25, title: str | None = None) -> Axes:
    """A circuit diagram, coloured by block.

    What you see: one line a wire, time from left to right. First the encoding: RX turned by input x_k. Then the
    trainable gates: a dot is the control, the box with R… the rotation it switches on, and θ_k the weight that
    sets its angle. Grey bands join the wires of one channel (labels "c0 p2": channel 0, pixel 2). ⟨Z⟩ at
    the right end is what is read out. Diagrams of more than `fold` columns go on in a second strip below.
    """
    placed = columns_of(circuit)
    n_columns = 1 + max((column for column, _ in placed), default=-1)
    strips = max(1, math.ceil(n_columns / fold))
    per_strip = max(1, math.ceil(n_columns / strips))
    pitch = circuit.n_wires + 1.4  # wires, and room between two strips
    legend_rows = 1.6 if title is None else 2.2
    ax = _axes(ax, (0.56 * (per_strip + 2.4), 0.44 * (strips * pitch + legend_rows)))
    colours = _block_colours(circuit)
    for strip in range(strips):
        columns = min(per_strip, n_columns - strip * per_strip)
        _draw_wires(ax, circuit, -strip * pitch, columns, last=strip == strips - 1)
    for column, gate in placed:
        _draw_gate(ax, gate, column % per_strip, -(column // per_strip) * pitch, colours[gate.block])
    if any(colours):
        handles = [
            Patch(facecolor=_tint(colours[b]), edgecolor=colours[b], lw=1.5, label=_block_name(b)) for b in colours
        ]
        ax.legend(handles=handles, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=len(handles), frameon=False,
                  fontsize=10, borderaxespad=0.2)  # fmt: skip
    ax.set_title(title or _summary(circuit), fontsize=12, pad=30)
    ax.set_xlim(-1.7, per_strip + 0.4)
    ax.set_ylim(-(strips - 1) * pitch - circuit.n_wires + 0.3, 0.7)
    ax.set_aspect("auto")
    ax.set_axis_off()
    return ax


def _draw_wires(ax: Axes, circuit: Circuit, top: float, columns: int, last: bool) -> None:
    groups = [label.split()[0] for label in circuit.labels] if " " in circuit.labels[0] else []
    start = 0
    for k, (_, members) in enumerate(groupby(groups)):
        size = len(list(members))
        if k % 2 == 0:
            ax.axhspan(top - start - size + 0.5, top - start + 0.5, color="#F2F2F2", zorder=0, lw=0)
        start += size
    for w, label in enumerate(circuit.labels):
        ax.plot([-0.7, columns - 0.3], [top - w] * 2, color="#555555", lw=1, zorder=1)
        ax.text(-0.8, top - w, label, ha="right", va="center", fontsize=10)
        ax.text(columns - 0.25, top - w, "⟨Z⟩" if last else "…", ha="left", va="center", fontsize=10)


def _draw_gate(ax: Axes, gate: Gate, x: float, top: float, colour: str) -> None:
    ys = [top - w for w in gate.wires]
    if len(ys) > 1:
        ax.plot([x, x], [min(ys), max(ys)], color=colour, lw=2, zorder=2)
    for w in gate.controls:
        ax.plot(x, top - w, "o", ms=6, color=colour, zorder=3)
    for w in gate.targets:
        y = top - w
        if gate.name == "CNOT":
            ax.add_patch(Circle((x, y), 0.28, facecolor="white", edgecolor=colour, lw=1.6, zorder=3))
            ax.plot([x - 0.28, x + 0.28], [y, y], color=colour, lw=1.6, zorder=4)
            ax.plot([x, x], [y - 0.28, y + 0.28], color=colour, lw=1.6, zorder=4)
        elif gate.name == "SWAP":
            ax.plot(x, y, "x", ms=9, mew=2, color=colour, zorder=3)
        else:
            box = FancyBboxPatch((x - 0.36, y - 0.34), 0.72, 0.68, boxstyle="round,pad=0.02,rounding_size=0.1",
                                 facecolor=_tint(colour), edgecolor=colour, lw=1.4, zorder=3)  # fmt: skip
            ax.add_patch(box)
            text = "\n".join(part for part in (_short(gate), _source(gate)) if part)
            ax.text(x, y - 0.02, text, ha="center", va="center", fontsize=8, linespacing=0.95, zorder=4)


def circuit_text(circuit: Circuit, width: int = 100) -> str:
    """The same diagram in characters, folded to `width` columns of a terminal.

    ● is a control; a line down the left of a column joins it to its rotation, as ╭ │ ╰; θ7 in RZ(θ7) is
    the weight that sets the angle. Every wire ends in ⟨Z⟩.
    """
    placed = columns_of(circuit)
    n_columns = 1 + max((column for column, _ in placed), default=-1)
    cells = [["─"] * circuit.n_wires for _ in range(n_columns)]
    for column, gate in placed:
        low, high = min(gate.wires), max(gate.wires)
        for w in range(low, high + 1):
            edge = "" if low == high else "╭" if w == low else "╰" if w == high else "├" if w in gate.wires else "│"
            cells[column][w] = (edge or "─") + (_cell(gate, w) if w in gate.wires else "")
    for column in cells:
        longest = max(map(len, column)) + 1
        column[:] = [cell.ljust(longest, "─") for cell in column]
    margin = max(map(len, circuit.labels)) + 2
    blocks = [f"{_block_name(b)} × {len(list(g))}" for b, g in groupby(gate.block for gate in circuit.gates)]
    lines = wrap(_summary(circuit), width) + wrap("in order: " + ", ".join(blocks), width)
    while True:
        taken, used = 0, margin + 5
        while taken < len(cells) and (taken == 0 or used + len(cells[taken][0]) <= width):
            used += len(cells[taken][0])
            taken += 1
        end = "⟨Z⟩" if taken == len(cells) else "…"
        lines.append("")
        for w, label in enumerate(circuit.labels):
            lines.append(f"{label}: ".rjust(margin) + "".join(column[w] for column in cells[:taken]) + "─ " + end)
        cells = cells[taken:]
        if not cells:
            return "\n".join(lines)


def _cell(gate: Gate, wire: int) -> str:
    if wire in gate.controls:
        return "●"
    source = _source(gate)
    name = {"CNOT": "X", "SWAP": "×"}.get(gate.name, _short(gate))
    return f"{name}({source})" if source else name


def _short(gate: Gate) -> str:
    """The name without its control, and without "Pauli": what stands in the box."""
    name = gate.name.removeprefix("Pauli").replace("Hadamard", "H")
    return name[1:] if GATES[gate.name][2] else name


def _source(gate: Gate) -> str:
    """Where the angle comes from: x3, θ7, or a fixed number of radians."""
    if not GATES[gate.name][1]:
        return ""
    if gate.param is None:
        return f"{gate.offset:.3g}"
    return f"{'x' if gate.param[0] == 'input' else 'θ'}{gate.param[1]}" + (f"{gate.offset:+.2g}" if gate.offset else "")


def _summary(circuit: Circuit) -> str:
    counts = Counter("input" if g.param and g.param[0] == "input" else "other" for g in circuit.gates)
    scales = {g.scale for g in circuit.gates if g.param is not None and g.param[0] == "weight"}
    angle = {(1.0,): "angle θ", (TWO_PI,): "angle 2π·θ"}.get(tuple(scales), "angles scaled by gate")
    parts = [_many(circuit.n_wires, "wire"), f"{_many(counts['other'], 'gate')} after the encoding"]
    dead = f", {len(circuit.dead_weights)} of them in no gate" if circuit.dead_weights else ""
    parts += [f"{_many(circuit.n_weights, 'weight')} θ ({angle}){dead}"] if circuit.n_weights else []
    return f"{circuit.name}: {', '.join(parts)}"


def _many(n: int, thing: str) -> str:
    return f"{n} {thing}{'' if n == 1 else 's'}"


def _block_colours(circuit: Circuit) -> dict[str, str]:
    """A colour for every block of the circuit, in order of appearance; unknown names take the spare colours."""
    spare = cycle([OKABE_ITO[name] for name in ("blue", "vermilion", "purple", "black", "green", "orange")])
    names = dict.fromkeys(gate.block for gate in circuit.gates)
    return {name: BLOCK_COLOURS.get(name) or next(spare) for name in names}


def _block_name(block: str) -> str:
    return {"encoding": "encoding", "": "gates"}.get(block, f"block {block}")


def _tint(colour: str) -> tuple[float, ...]:
    """A pale version of a colour, so that black text on it stays readable."""
    return tuple(0.72 + 0.28 * c for c in to_rgb(colour))


# ------------------------------------------------------------------------------------ scores and files


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


def save_figure(ax: Axes, path: str | Path, dpi: int = 150) -> Path:
    """Write the figure of `ax` to a file (PNG, PDF or SVG by its ending) and close it; never half a file."""
    path, figure = Path(path), ax.figure
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with replacing(path) as temporary:
            figure.savefig(temporary, format=path.suffix[1:] or None, dpi=dpi, bbox_inches="tight", facecolor="white")
    finally:
        plt.close(figure)
    return path


def show_described(figure, description: str) -> None:
    """Display a Figure (or the figure of an Axes) once in a notebook, with a description for screen readers.

    The description is stored with the picture as its alternative text.
    """
    from IPython.display import display

    figure = getattr(figure, "figure", figure)
    display(figure, metadata={"image/png": {"alt": description}})
    plt.close(figure)


def _axes(ax: Axes | None, size: tuple[float, float]) -> Axes:
    return plt.subplots(figsize=size, layout="constrained")[1] if ax is None else ax
