"""Figures about circuits: PennyLane's drawing in colours, wire map, interaction graph, light sketch, liveness maps.

Blocks have the colours that `plots.draw_circuit` gives them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import LineCollection, PatchCollection, PolyCollection
from matplotlib.colors import LogNorm
from matplotlib.patches import Circle, Patch, Rectangle
from matplotlib.text import Text

from qdm_lib.audit import CircuitAudit, InteractionGraph, interaction_graph
from qdm_lib.circuits import Circuit
from qdm_lib.plots import OKABE_ITO, angle_source, block_colours, block_name, columns_of, new_axes, tint

CHANNEL_COLOURS = tuple(OKABE_ITO[name] for name in ("blue", "orange", "green"))
_RADIUS = 0.27  # of a wire's circle in the interaction graph


# ------------------------------------------------------------------------------- drawn by PennyLane


def draw_pennylane(circuit: Circuit, *, size: tuple[float, float] | None = None, title: str | None = None) -> Axes:
    """The circuit as `qml.draw_mpl` draws it, with the boxes and control lines of each block in its colour.

    What you see: one line per wire, time from left to right, a dot at the control, a box with the rotation and the
    source of its angle at the target, each block in its colour, a meter at the end of each wire.
    size: of the figure in inches; by default it follows the number of columns.
    """
    import pennylane as qml

    from qdm_lib.quantum import to_qnode

    values = np.zeros(circuit.n_inputs), np.zeros(circuit.n_weights)  # drawn without their values
    figure, ax = qml.draw_mpl(to_qnode(circuit, labels=True), level="device")(*values)
    colours, boxes = block_colours(circuit), [p for p in ax.patches if hasattr(p, "get_boxstyle")]
    columns = ax.lines[0].get_xdata()[1]
    by_source = {angle_source(g): g for g in circuit.gates if angle_source(g)}
    for text in ax.texts:
        name, marked, rest = text.get_text().partition('("')
        text.set_fontsize(9)
        if not marked:
            continue
        source = rest.rstrip('")').split()[-1]  # 'A θ0")' → 'θ0'
        colour, (x, y) = colours[by_source[source].block], text.get_position()
        text.set(text=f"{name}\n{source}", fontsize=7, linespacing=0.95)
        for box in boxes:
            if abs(box.get_x() + box.get_width() / 2 - x) < 0.1 and abs(box.get_y() + box.get_height() / 2 - y) < 0.1:
                box.set(facecolor=tint(colour), edgecolor=colour, linewidth=1.2)
        for part in [*ax.lines, *ax.patches]:  # the control of this gate: a line from the dot, and the dot
            _colour_control(part, x, y, colour)
    figure.set_size_inches(size or (0.42 * (columns + 3), 5.2))
    handles = [Patch(facecolor=tint(c), edgecolor=c, lw=1.5, label=block_name(b)) for b, c in colours.items()]
    figure.legend(handles=handles, loc="lower center", ncols=len(handles), frameon=False, fontsize=9)
    for part in [*ax.lines, *ax.patches]:
        part.set_linewidth(min(part.get_linewidth(), 1.6))
    ax.set_position([0, 0.07, 1, 0.86])
    ax.set_title(title or f"{circuit.name}, drawn by PennyLane", fontsize=11)
    return ax


def _colour_control(part, x: float, y: float, colour: str) -> None:
    """Colour a vertical line that ends at (x, y), and the dots at its ends."""
    if hasattr(part, "get_ydata"):
        xs, ys = part.get_xdata(), part.get_ydata()
        if len(xs) == 2 and xs[0] == xs[1] == x and any(abs(end - y) < 0.1 for end in ys):
            part.set(color=colour, linewidth=1.6)
            for dot in part.axes.patches:
                if isinstance(dot, Circle) and dot.center[0] == x and any(abs(dot.center[1] - end) < 0.1 for end in ys):
                    dot.set(facecolor=colour, edgecolor=colour)


# --------------------------------------------------------------------------------- wires and couplings


def draw_wire_map(ax: Axes | None = None) -> Axes:
    """Which pixel goes to which wire: a 2×2 patch of three channels, wire 4·c + p with p = 2·row + column.

    What you see: three squares, one per channel; in each pixel its number p and the wire it feeds.
    """
    ax = new_axes(ax, (7, 2.5))
    for c, colour in enumerate(CHANNEL_COLOURS):
        left = 2.7 * c
        for p in range(4):
            x, y = left + p % 2, 1 - p // 2
            ax.add_patch(Rectangle((x, y), 1, 1, facecolor=tint(colour), edgecolor=colour, lw=1.6))
            ax.text(x + 0.5, y + 0.58, f"wire {4 * c + p}", ha="center", va="center", fontsize=11, weight="bold")
            ax.text(x + 0.5, y + 0.26, f"pixel p = {p}", ha="center", va="center", fontsize=8)
        ax.text(left + 1, 2.12, f"channel c = {c}", ha="center", va="bottom", fontsize=11)
    ax.set(xlim=(-0.1, 7.5), ylim=(-0.1, 2.5), aspect="equal")
    ax.set_axis_off()
    return ax


def node_positions(circuit: Circuit) -> dict[int, tuple[float, float]]:
    """Where the interaction graph puts each wire: channels as columns and pixels as rows, or a ring of wires."""
    labels = [label.split() for label in circuit.labels]
    if all(len(label) == 2 for label in labels):
        columns, rows = (list(dict.fromkeys(label[k] for label in labels)) for k in (0, 1))
        return {w: (1.7 * columns.index(c), -1.0 * rows.index(p)) for w, (c, p) in enumerate(labels)}
    n, radius = circuit.n_wires, 0.35 * max(3, circuit.n_wires)
    turn = [math.pi / 2 - 2 * math.pi * w / n for w in range(n)]
    return {w: (radius * math.cos(a), radius * math.sin(a)) for w, a in enumerate(turn)}


def draw_interaction_graph(
    circuit: Circuit | InteractionGraph,
    ax: Axes | None = None,
    *,
    values: Sequence[float] | None = None,
    title: str | None = None,
    legend: bool = True,
) -> Axes:
    """Which wires a circuit joins: a circle for each wire, an arrow from control to target, coloured by block.

    What you see: for the 12-wire circuits one column per channel and one row per pixel. Arrows of the same wires in two
    blocks bend apart. values: one number in [-1, 1] for each wire, such as ⟨Z⟩, shown as the fill of its circle.
    """
    graph = circuit if isinstance(circuit, InteractionGraph) else interaction_graph(circuit)
    circuit, where = graph.circuit, node_positions(graph.circuit)
    ax, colours = new_axes(ax, (4.2, 3.6)), block_colours(graph.circuit)
    blocks = list(dict.fromkeys(c.block for c in graph.couplings))
    lines, heads = [], []
    for c in graph.couplings:
        bend = 0.0 if len(blocks) < 2 else 0.06 * (1 if blocks.index(c.block) else -1)
        if _passes_a_node(where, c.control, c.target):
            bend = 0.15 + 0.05 * blocks.index(c.block)
        line, head = _arrow(where[c.control], where[c.target], bend)
        lines.append((line, colours[c.block]))
        heads.append((head, colours[c.block]))
    # A few collections instead of an artist for each arrow: the widget redraws this figure at every move.
    ax.add_collection(LineCollection([p for p, _ in lines], colors=[k for _, k in lines], linewidths=1.8, zorder=2))
    ax.add_collection(PolyCollection([p for p, _ in heads], facecolors=[k for _, k in heads], zorder=2))
    nodes = PatchCollection([Circle(xy, _RADIUS) for xy in where.values()], lw=1.2, edgecolor="#333333", zorder=3)
    ax.add_collection(nodes)
    numbers = [ax.text(*xy, str(w), ha="center", va="center", fontsize=9, zorder=4) for w, xy in where.items()]
    fill_nodes(nodes, numbers, values)
    _name_rows_and_columns(ax, circuit, where)
    if legend and blocks:
        handles = [plt.Line2D([], [], color=colours[b], lw=2, label=block_name(b)) for b in blocks]
        ax.legend(handles=handles, loc="upper center", bbox_to_anchor=(0.5, 0.03), ncols=len(blocks), frameon=False,
                  fontsize=9)  # fmt: skip
    ax.set_title(title or circuit.name, fontsize=11)
    xs, ys = zip(*where.values(), strict=True)
    ax.set(xlim=(min(xs) - 0.9, max(xs) + 0.9), ylim=(min(ys) - 0.85, max(ys) + 0.75), aspect="equal")
    ax.set_axis_off()
    return ax


def fill_nodes(nodes: PatchCollection, numbers: Sequence[Text], values: Sequence[float] | None) -> None:
    """Fill the circles of an interaction graph by values in [-1, 1], and keep the numbers in them readable."""
    values = np.zeros(len(numbers)) if values is None else np.asarray(values)
    nodes.set_facecolor(colormaps["PuOr"]((values + 1) / 2))
    for number, value in zip(numbers, values, strict=True):
        number.set_color("white" if abs(value) > 0.6 else "black")


def _arrow(start: tuple[float, float], end: tuple[float, float], bend: float) -> tuple[np.ndarray, np.ndarray]:
    """A curve from circle to circle, and the triangle at its end; bend is the curve's height over its length."""
    a, b = np.array(start), np.array(end)
    along, t = b - a, np.linspace(0, 1, 41)[:, None]
    top = (a + b) / 2 + 2 * bend * np.array([along[1], -along[0]])
    curve = (1 - t) ** 2 * a + 2 * t * (1 - t) * top + t**2 * b
    outside = np.linalg.norm(curve - b, axis=1) > _RADIUS + 0.02
    curve = curve[outside]
    tip, back = curve[-1], curve[np.linalg.norm(curve - curve[-1], axis=1) > 0.16][-1]
    axis = (tip - back) / np.linalg.norm(tip - back)
    side = 0.09 * np.array([-axis[1], axis[0]])
    return curve[np.linalg.norm(curve - tip, axis=1) > 0.12], np.array([tip, back + side, back - side])


def _passes_a_node(where: dict[int, tuple[float, float]], a: int, b: int) -> bool:
    """Whether the straight line from wire a to wire b runs through another wire's circle."""
    (x0, y0), (x1, y1) = where[a], where[b]
    length = math.hypot(x1 - x0, y1 - y0)
    for wire, (x, y) in where.items():
        along = ((x - x0) * (x1 - x0) + (y - y0) * (y1 - y0)) / length**2
        away = abs((x - x0) * (y1 - y0) - (y - y0) * (x1 - x0)) / length
        if wire not in (a, b) and 0 < along < 1 and away < 0.2:
            return True
    return False


def _name_rows_and_columns(ax: Axes, circuit: Circuit, where: dict[int, tuple[float, float]]) -> None:
    if not circuit.wire_labels:
        return
    for label, (x, y) in zip(circuit.labels, where.values(), strict=True):
        channel, pixel = label.split()
        if y == 0:
            ax.text(x, 0.4, channel.replace("c", "channel "), ha="center", va="bottom", fontsize=9)
        if x == 0:
            ax.text(-0.55, y, pixel, ha="right", va="center", fontsize=9)


def sketch_circuit(circuit: Circuit, ax: Axes | None = None) -> Axes:
    """A circuit diagram without weight numbers, quick to draw also for many layers.

    What you see: as in `plots.draw_circuit`, but every rotation is a box with one letter, X for RX and CRX, Z for
    RZ and CRZ; CNOT targets are a plus. Colours tell the blocks apart.
    """
    placed, colours = columns_of(circuit), block_colours(circuit)
    n_columns = 1 + max((column for column, _ in placed), default=-1)
    ax = new_axes(ax, (9.6, 2.8))
    ax.hlines(-np.arange(circuit.n_wires), -0.8, n_columns - 0.2, color="#777777", lw=0.8, zorder=1)
    boxes, lines, dots = {}, [], []
    for column, gate in placed:
        colour = colours[gate.block]
        if len(gate.wires) == 2:
            lines.append(([(column, -w) for w in gate.wires], colour))
        dots += [(column, -w, colour) for w in gate.controls]
        letter = "+" if gate.name == "CNOT" else "×" if gate.name == "SWAP" else gate.name.removeprefix("Pauli")[-1]
        for w in gate.targets:
            boxes.setdefault((letter, colour), []).append((column, -w))
    ax.add_collection(LineCollection([p for p, _ in lines], colors=[c for _, c in lines], linewidths=1.4, zorder=2))
    if dots:
        x, y, c = zip(*dots, strict=True)
        ax.scatter(x, y, s=16, c=c, zorder=3)
    for (letter, colour), points in boxes.items():
        x, y = zip(*points, strict=True)
        ax.scatter(x, y, s=82, marker="s", color=[tint(colour)], edgecolors=colour, linewidths=1.0, zorder=3)
        drawn = {"+": "+", "×": "x"}.get(letter)  # letters as markers are far quicker than texts
        style = dict(lw=1.2, s=50, marker=drawn) if drawn else dict(lw=0, s=26, marker=f"${letter}$")
        ax.scatter(x, y, color="black", zorder=4, **style)
    for w, label in enumerate(circuit.labels):
        ax.text(-1.0, -w, label, ha="right", va="center", fontsize=8)
    ax.set(xlim=(-1.0, max(n_columns, 18) - 0.2), ylim=(-circuit.n_wires + 0.4, 0.6))
    ax.set_axis_off()
    return ax


# --------------------------------------------------------------------------------------- liveness


def liveness_map(audit: CircuitAudit, ax: Axes | None = None, *, of: str = "weights", title: str | None = None) -> Axes:
    """What moves what: a row for each output, a column for each weight (or input), dark where the derivative is large.

    What you see: the largest size of the derivative over the audited points, on a log scale; white where there is no
    effect at all. of: "weights" or "inputs". ValueError for another word.
    """
    tables = {"weights": audit.weight_to_output, "inputs": audit.input_to_output}
    if of not in tables:
        raise ValueError(f"of must be 'weights' or 'inputs', got {of!r}.")
    table = tables[of].T.numpy()
    ax = new_axes(ax, (8, 2.6) if of == "weights" else (4, 3.2))
    shown = np.ma.masked_less_equal(table, audit.tolerance)
    norm = LogNorm(1e-3, 10)
    ax.imshow(shown, cmap="cividis_r", norm=norm, aspect="auto", interpolation="nearest")
    scale = ax.figure.colorbar(ScalarMappable(norm, "cividis_r"), ax=ax, pad=0.02)
    scale.set_label("|derivative|", fontsize=9)
    scale.ax.tick_params(labelsize=8)
    ax.set(xlabel=of.removesuffix("s"), ylabel="output (wire)")
    ax.set_yticks(range(0, table.shape[0], 1 if table.shape[0] < 7 else 4 if of == "weights" else 2))
    ax.set_title(title or audit.circuit.name, fontsize=11)
    return ax
