"""The widget of notebook 03: choose an ansatz, its layers and its inputs; see drawing, interaction graph and ⟨Z⟩.

Built like the other widgets (see `qdm_course.widgets`): one picture drawn off screen, shown as a PNG whose bytes are
replaced, and controls that carry their own names.
"""

from __future__ import annotations

from collections.abc import Callable

import ipywidgets as widgets
import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import PatchCollection
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from torch import Tensor

from qdm_course.figures import draw_interaction_graph, fill_nodes, sketch_circuit
from qdm_course.widgets.tools import LastingWidget, Picture, picture_of, row, scrolling
from qdm_lib.audit import interaction_graph
from qdm_lib.circuits import Circuit, basic, fqconv, hqconv, hqconv_released
from qdm_lib.plots import OKABE_ITO, block_colours, block_name, tint
from qdm_lib.simulator import simulate

EXPLORER_ANSATZE: dict[str, Callable[[int], Circuit]] = {
    "HQConv": hqconv,
    "FQConv": fqconv,
    "Basic, 4 wires": lambda layers: basic(4, layers),
    "HQConv as released": hqconv_released,
}
EXPLORER_INPUTS: dict[str, Callable[[torch.Generator], Tensor]] = {
    "all 0°": lambda g: torch.zeros(12),
    "all 90°": lambda g: torch.full((12,), 90.0),
    "from 0° to 165° by wire": lambda g: 15.0 * torch.arange(12),
    "random": lambda g: torch.randint(-180, 181, (12,), generator=g).float(),
}
MAX_LAYERS = 4


class CircuitFigure:
    """The three panels of `circuit_explorer`: the circuit, which wires it joins, and ⟨Z⟩ on every wire.

    What you see: above, the gates in time, coloured by block. Below left, a circle for each wire, filled by its ⟨Z⟩,
    and arrows from control to target. Below right, ⟨Z⟩ as bars and cos(x), what the encoding alone would give, as dots.

    Attributes: `figure` (matplotlib), `circuit`, `z` (n_wires,) as drawn. `update` draws everything.
    """

    def __init__(self) -> None:
        # One figure for each number of wires, made ahead: axes and their ticks are what a drawing spends its time on.
        self.panels = {wires: _Panels(wires) for wires in (12, 4)}
        self.panels[4].draw(basic(4))  # and once off screen, since the first drawing takes twice as long as the next
        self.panels[4].figure.canvas.draw()
        self.circuit: Circuit | None = None

    @property
    def figure(self) -> Figure:
        return self._shown.figure

    @property
    def _shown(self) -> _Panels:
        return self.panels[12 if self.circuit is None else self.circuit.n_wires]

    def update(self, circuit: Circuit, x: Tensor, theta: Tensor) -> dict[str, object]:
        """Redraw for one circuit, inputs x (n_inputs,) in radians and weights (n_weights,); returns the numbers."""
        self.z = _run(circuit, x.double(), theta.double())
        alone = x[: circuit.n_wires].double().cos()
        self.circuit = circuit
        self._shown.draw(circuit)
        self._shown.fill(self.z.tolist(), alone.tolist())
        return {"z": self.z.tolist(), "cos": alone.tolist(), "equal": int((self.z - alone).abs().lt(1e-9).sum())}


class _Panels:
    """The figure of `CircuitFigure` for circuits of so many wires; only what another circuit changes is drawn anew."""

    def __init__(self, wires: int) -> None:
        self.figure = Figure(figsize=(9.6, 5.6))
        FigureCanvasAgg(self.figure)  # off screen: pyplot does not know it and cannot show it a second time
        grid = self.figure.add_gridspec(
            2, 2, height_ratios=(1.05, 1), width_ratios=(1, 1.5), left=0.045, right=0.99, top=0.94, bottom=0.08,
            hspace=0.2, wspace=0.1,
        )  # fmt: skip
        cells = (grid[0, :], grid[1, 0], grid[1, 1])
        self.gates, self.graph, ax = (self.figure.add_subplot(cell) for cell in cells)
        self.legend, self.circuit = None, None
        self.bars = ax.bar(range(wires), [0.0] * wires, color=OKABE_ITO["blue"], width=0.6)
        circle = dict(ms=7, mfc="none", mec=OKABE_ITO["vermilion"], mew=1.8)
        self.dots = [ax.plot(w, 0, "o", **circle)[0] for w in range(wires)]
        ax.set(ylim=(-1.08, 1.08), xlim=(-0.6, wires - 0.4), xticks=range(wires))
        ax.set_xlabel("wire", fontsize=9, labelpad=1)
        ax.set_title("bars: ⟨Z⟩    circles: cos(x), the encoding alone", fontsize=10, pad=4, y=1.0)  # y: no search
        ax.tick_params(labelsize=8)
        ax.axhline(0, color="#333333", lw=0.8)
        ax.grid(axis="y", alpha=0.3)

    def draw(self, circuit: Circuit) -> None:
        """The gates, and the graph where other wires are joined; nothing for the circuit that is drawn already."""
        if circuit == self.circuit:
            return
        if self.circuit is None or interaction_graph(circuit).joined != interaction_graph(self.circuit).joined:
            self._draw_graph(circuit)
        self.circuit = circuit
        _empty(self.gates)
        sketch_circuit(circuit, self.gates)

    def _draw_graph(self, circuit: Circuit) -> None:
        if self.legend is not None:
            self.legend.remove()
        colours = block_colours(circuit)
        handles = [Patch(facecolor=tint(c), edgecolor=c, lw=1.2, label=block_name(b)) for b, c in colours.items()]
        self.legend = self.figure.legend(
            handles=handles, loc="upper center", ncols=len(handles), frameon=False, fontsize=9
        )
        _empty(self.graph)
        draw_interaction_graph(circuit, self.graph, title=" ", legend=False)
        self.graph.set_title("wires joined; fill: ⟨Z⟩ (+ purple, − orange)", fontsize=10, pad=4, y=1.0)
        self.nodes = next(c for c in self.graph.collections if isinstance(c, PatchCollection))
        self.numbers = self.graph.texts[: circuit.n_wires]

    def fill(self, z: list[float], alone: list[float]) -> None:
        """⟨Z⟩ of every wire as a bar and a filled circle, and cos(x) as a dot."""
        for bar, dot, value, c in zip(self.bars, self.dots, z, alone, strict=True):
            bar.set_height(value)
            dot.set_ydata([c])
        fill_nodes(self.nodes, self.numbers, z)


def _empty(ax: Axes) -> None:
    """Take away what was drawn. `Axes.clear` makes ticks and labels anew as well, which takes longer than all else."""
    for artist in (*ax.collections, *ax.texts):
        artist.remove()


def circuit_explorer(
    ansatz: str = "HQConv", layers: int = 3, inputs: str = "random", *, seed: int = 0
) -> LastingWidget:
    """The widget of notebook 03: an ansatz, its layers, the inputs of its wires; see the circuit and its ⟨Z⟩.

    ansatz: a key of `EXPLORER_ANSATZE`. layers: 1 … 4. inputs: a key of `EXPLORER_INPUTS`, where every wire starts;
    then "Wire" and "Input x, degrees" change one of them. "New weights" draws θ from U[0, 1) again.

    Returns a VBox; its attributes `controls` (by name), `view` (a `CircuitFigure`), `picture` (the PNG) and
    `numbers` are there for tests and for the curious.
    ValueError for an unknown ansatz or inputs, or layers out of range.
    """
    if ansatz not in EXPLORER_ANSATZE:
        raise ValueError(f"Unknown ansatz {ansatz!r}; wanted one of {', '.join(EXPLORER_ANSATZE)}.")
    if inputs not in EXPLORER_INPUTS:
        raise ValueError(f"Unknown inputs {inputs!r}; wanted one of {', '.join(EXPLORER_INPUTS)}.")
    if not isinstance(layers, int) or not 1 <= layers <= MAX_LAYERS:
        raise ValueError(f"layers must be a whole number from 1 to {MAX_LAYERS}, got {layers!r}.")
    return _CircuitExplorer(ansatz, layers, inputs, seed)


class _CircuitExplorer(LastingWidget):
    """Controls, picture and numbers of `circuit_explorer`, and what they do to one another."""

    def __init__(self, ansatz: str, layers: int, inputs: str, seed: int) -> None:
        self.generator, self.view = torch.Generator().manual_seed(seed), CircuitFigure()
        wires = EXPLORER_ANSATZE[ansatz](layers).n_wires
        self.controls = {
            "ansatz": widgets.Dropdown(options=list(EXPLORER_ANSATZE), value=ansatz, description="Ansatz"),
            "layers": widgets.BoundedIntText(value=layers, min=1, max=MAX_LAYERS, description="Layers"),
            "inputs": widgets.Dropdown(options=list(EXPLORER_INPUTS), value=inputs, description="Inputs"),
            "wire": widgets.Dropdown(options=list(range(wires)), value=0, description="Wire"),
            "x": widgets.BoundedIntText(
                value=0, min=-360, max=360, step=15, description="Input x, degrees",
                style={"description_width": "initial"},
            ),
            "weights": widgets.Button(description="New weights"),
        }  # fmt: skip
        self.picture, self.readout = Picture(), widgets.HTML()
        rows = list(self.controls.values())
        super().__init__([row(rows[:3]), row(rows[3:]), self.picture, self.readout])
        self.busy = False  # while controls change together, draw once at the end
        self.degrees = EXPLORER_INPUTS[inputs](self.generator)
        self.controls["x"].value = int(self.degrees[0])
        self.theta = self._draw()
        for name in ("ansatz", "inputs", "wire", "x"):
            self.controls[name].observe(getattr(self, f"_change_{name}"), "value")
        self.controls["layers"].observe(lambda _: self.show(), "value")
        self.controls["weights"].on_click(self._new_weights)
        self.show()
        self.settle(ansatz, layers, inputs, seed)

    def still(self) -> str:
        return self.picture.value

    def kept(self) -> dict[str, object]:
        """The controls' values, and what they have done to inputs and weights."""
        return super().kept() | {"degrees": self.degrees, "theta": self.theta}

    def take_over(self, kept: dict[str, object]) -> None:
        kept = dict(kept)
        degrees, theta = kept.pop("degrees", self.degrees), kept.pop("theta", self.theta)
        super().take_over(kept)
        self.degrees, self.theta = degrees, theta
        self.show()

    def show(self) -> None:
        """Bring picture and numbers up to what the controls say."""
        ansatz, layers = self.controls["ansatz"].value, self.controls["layers"].value
        circuit = EXPLORER_ANSATZE[ansatz](layers)
        x = torch.deg2rad(self.degrees[: circuit.n_inputs])
        # The first weights of one long row: with more layers the layers already there keep theirs.
        self.numbers = self.view.update(circuit, x, self.theta[: circuit.n_weights])
        alt = f"{circuit.name}: gates, interaction graph and ⟨Z⟩ of {circuit.n_wires} wires"
        self.picture.show(picture_of(self.view.figure), alt)
        self.readout.value = _explorer_text(circuit, self.degrees, self.numbers)

    def _draw(self) -> Tensor:
        return torch.rand(28 * MAX_LAYERS, generator=self.generator)

    def _new_weights(self, _) -> None:
        self.theta = self._draw()
        self.show()

    def _change_ansatz(self, change) -> None:
        wires = EXPLORER_ANSATZE[change["new"]](1).n_wires
        self._quietly(lambda: self._offer_wires(wires))
        self.show()

    def _offer_wires(self, wires: int) -> None:
        wire = self.controls["wire"]
        if len(wire.options) != wires:
            kept = min(wire.value, wires - 1)
            wire.options = list(range(wires))
            wire.value = kept
        self.controls["x"].value = int(self.degrees[wire.value])

    def _change_inputs(self, change) -> None:
        self.degrees = EXPLORER_INPUTS[change["new"]](self.generator)
        self._quietly(lambda: self._offer_wires(len(self.controls["wire"].options)))
        self.show()

    def _change_wire(self, change) -> None:
        if not self.busy:  # only what the next control shows changes, no number
            self._quietly(lambda: setattr(self.controls["x"], "value", int(self.degrees[change["new"]])))

    def _change_x(self, change) -> None:
        if not self.busy:
            self.degrees = self.degrees.clone()
            self.degrees[self.controls["wire"].value] = change["new"]
            self.show()

    def _quietly(self, act: Callable[[], None]) -> None:
        self.busy = True
        try:
            act()
        finally:
            self.busy = False


def _run(circuit: Circuit, x: Tensor, theta: Tensor) -> Tensor:
    """⟨Z⟩ of every wire, on one thread: for a single state, waking a second one takes longer than the work."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return simulate(circuit, x[None], theta)[0]
    finally:
        torch.set_num_threads(threads)


def _explorer_text(circuit: Circuit, degrees: Tensor, n: dict) -> str:
    """The numbers as a table that screen readers announce when it changes."""
    cells = [
        f'<td style="padding:0 7px;text-align:right">{text}</td>'
        for row in (range(circuit.n_wires), (f"{int(d)}°" for d in degrees[: circuit.n_wires]),
                    (f"{z:+.3f}" for z in n["z"]))
        for text in row
    ]  # fmt: skip
    k = circuit.n_wires
    names = ("wire", "input x", "⟨Z⟩")
    table = "".join(
        f'<tr><th scope="row" style="text-align:left">{name}</th>{"".join(cells[r * k : (r + 1) * k])}</tr>'
        for r, name in enumerate(names)
    )
    fed = circuit.n_weights - len(circuit.dead_weights)
    return (
        f'<div role="status" aria-live="polite">{circuit.name}: {circuit.n_weights} weights, {fed} of them in a gate; '
        f"{n['equal']} of {k} outputs equal cos(x) here.{scrolling(f'<table>{table}</table>')}</div>"
    )
