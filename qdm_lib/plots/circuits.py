"""Circuit diagrams, in colour and in characters."""

from __future__ import annotations

import math
from collections import Counter
from itertools import cycle, groupby
from textwrap import wrap

from matplotlib.axes import Axes
from matplotlib.patches import Circle, FancyBboxPatch, Patch, Rectangle

from qdm_lib.checks import whole
from qdm_lib.circuits import GATES, TWO_PI, Circuit, Gate
from qdm_lib.plots.style import BLOCK_COLOURS, OKABE_ITO, new_axes, tint


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


def draw_circuit(
    circuit: Circuit, ax: Axes | None = None, *, fold: int = 16, title: str | None = None, boxed: bool = False
) -> Axes:
    """A circuit diagram, coloured by block.

    What you see: one line per wire, time from left to right. First the encoding: RX turned by input x_k. Then the
    trainable gates: a dot is the control, the box with R… the rotation it switches on, and θ_k the weight that
    sets its angle. Grey bands join the wires of one channel (labels "c0 p2": channel 0, pixel 2). ⟨Z⟩ at
    the right end is what is read out. Diagrams of more than `fold` columns go on in strips below.
    boxed: a dashed box with the block's letter around the gates of each trainable block. ValueError for a fold below 1.
    """
    placed = columns_of(circuit)
    n_columns = 1 + max((column for column, _ in placed), default=-1)
    strips = max(1, math.ceil(n_columns / whole("fold", fold)))
    per_strip = max(1, math.ceil(n_columns / strips))
    pitch = circuit.n_wires + 1.4  # wires, and room between two strips
    legend_rows = 1.6 if title is None else 2.2
    ax = new_axes(ax, (0.56 * (per_strip + 2.4), 0.44 * (strips * pitch + legend_rows)))
    colours = block_colours(circuit)
    for strip in range(strips):
        columns = min(per_strip, n_columns - strip * per_strip)
        _draw_wires(ax, circuit, -strip * pitch, columns, last=strip == strips - 1)
    for column, gate in placed:
        _draw_gate(ax, gate, column % per_strip, -(column // per_strip) * pitch, colours[gate.block])
    for block, first, last, high, low in block_boxes(circuit, per_strip) if boxed else ():
        top = -(first // per_strip) * pitch
        corner = (first % per_strip - 0.46, top - low - 0.46)
        ax.add_patch(Rectangle(corner, last - first + 0.92, low - high + 0.92, fill=False, ls=(0, (4, 2)), lw=1.3,
                               edgecolor=colours[block], zorder=5))  # fmt: skip
        ax.text(corner[0] + 0.06, top - high + 0.43, block, ha="left", va="top", fontsize=11, fontweight="bold",
                color=colours[block], zorder=6)  # fmt: skip
    if any(colours):
        handles = [Patch(facecolor=tint(c), edgecolor=c, lw=1.5, label=block_name(b)) for b, c in colours.items()]
        ax.legend(handles=handles, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=len(handles), frameon=False,
                  fontsize=10, borderaxespad=0.2)  # fmt: skip
    ax.set_title(title or _summary(circuit), fontsize=12, pad=30)
    ax.set(xlim=(-1.7, per_strip + 0.4), ylim=(-(strips - 1) * pitch - circuit.n_wires + 0.3, 0.7), aspect="auto")
    ax.set_axis_off()
    return ax


def block_boxes(circuit: Circuit, per_strip: int) -> list[tuple[str, int, int, int, int]]:
    """(block, first column, last column, first wire, last wire) of each run of gates of one trainable block.

    Gates of a run whose wires do not overlap, such as block A in three channels, get a box each.
    """
    boxes = []
    runs = groupby(columns_of(circuit), key=lambda item: (item[1].block, item[0] // per_strip))
    for (block, _), run in runs:
        spans = sorted((min(g.wires), max(g.wires), column) for column, g in run) if block != "encoding" else []
        groups: list[list] = []
        for low, high, column in spans:
            if not groups or low > groups[-1][1]:
                groups.append([low, high, column, column])
            else:
                _, end, first, last = groups[-1]
                groups[-1][1:] = [max(end, high), min(first, column), max(last, column)]
        boxes += [(block, first, last, low, high) for low, high, first, last in groups]
    return boxes


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
                                 facecolor=tint(colour), edgecolor=colour, lw=1.4, zorder=3)  # fmt: skip
            ax.add_patch(box)
            text = "\n".join(part for part in (_short(gate), angle_source(gate)) if part)
            ax.text(x, y - 0.02, text, ha="center", va="center", fontsize=8.5, linespacing=0.95, zorder=4)


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
    blocks = [f"{block_name(b)} × {len(list(g))}" for b, g in groupby(gate.block for gate in circuit.gates)]
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
    source = angle_source(gate)
    name = {"CNOT": "X", "SWAP": "×"}.get(gate.name, _short(gate))
    return f"{name}({source})" if source else name


def _short(gate: Gate) -> str:
    """The name without its control, and without "Pauli": what stands in the box."""
    name = gate.name.removeprefix("Pauli").replace("Hadamard", "H")
    return name[1:] if GATES[gate.name][2] else name


def angle_source(gate: Gate) -> str:
    """Where the angle comes from: x3, -2·x3, θ7, or a fixed number of radians; a weight's scale 2π is not written."""
    if gate.param is None:
        return f"{gate.offset:.3g}" if GATES[gate.name][1] else ""
    letter, usual = ("x", 1) if gate.param[0] == "input" else ("θ", TWO_PI)
    scale = "" if gate.scale in (1, usual) else f"{gate.scale:.3g}·"
    return f"{scale}{letter}{gate.param[1]}" + (f"{gate.offset:+.2g}" if gate.offset else "")


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


def block_colours(circuit: Circuit) -> dict[str, str]:
    """A colour for every block of the circuit, in order of appearance; unknown names take the spare colours."""
    spare = cycle([OKABE_ITO[name] for name in ("blue", "vermilion", "purple", "black", "green", "orange")])
    names = dict.fromkeys(gate.block for gate in circuit.gates)
    return {name: BLOCK_COLOURS.get(name) or next(spare) for name in names}


def block_name(block: str) -> str:
    return {"encoding": "encoding", "": "gates"}.get(block, f"block {block}")
