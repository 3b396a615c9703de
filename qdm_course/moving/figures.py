"""Figures that move without a kernel: one piece of HTML each, with a still picture for pages that run no script.

The script is `moving.js`: it simulates circuits itself, from the same gates as `qdm_lib.simulator`, and tests
hold its numbers to that. Nothing is downloaded. Every control is a native one, reached by Tab and moved by keys.
"""

from __future__ import annotations

import json
import math
from html import escape
from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from qdm_lib.circuits import Circuit, Gate
from qdm_lib.plots import OKABE_ITO, described_picture
from qdm_lib.simulator import simulate

SCRIPT = Path(__file__).with_name("moving.js")
INPUTS, OTHER_WEIGHT = (1.0, 2.0), 1.1  # of the two-wire circuits of the shift figure, as in notebook 02


class MovingFigure:
    """HTML that JupyterLab, an exported page and a website show live, and others as a still picture with a description.

    description: what the still picture shows; it is its alternative text, and all there is where only text is shown.
    """

    def __init__(self, name: str, still: Figure, description: str, data: dict | None = None) -> None:
        self.name, self.description, self.data = name, description, data or {}
        self.still = described_picture(still, description)

    def _repr_mimebundle_(self, include=None, exclude=None) -> dict[str, str]:
        key = f"qdm-{self.name}"
        call = f"moving.show({json.dumps(key)}, {json.dumps(self.name)}, {json.dumps(self.data)});"
        script = f"<script>(() => {{\n{SCRIPT.read_text(encoding='utf-8')}\n{call}\n}})();</script>"
        return {"text/html": f'<div id="{escape(key)}">{self.still}</div>\n{script}', "text/plain": self.description}


def circuit_data(circuit: Circuit) -> dict:
    """A circuit as the script reads it."""
    gates = [
        {"name": g.name, "wires": g.wires, "param": g.param, "scale": g.scale, "offset": g.offset}
        for g in circuit.gates
    ]  # fmt: skip
    return {"n_wires": circuit.n_wires, "gates": gates}


def shift_circuits() -> dict[str, Circuit]:
    """Two wires, encoded by RX, then one trainable gate and one more: a plain rotation, and controlled ones."""
    encode = tuple(Gate("RX", (w,), ("input", w), block="encoding") for w in (0, 1))
    plain = (Gate("RX", (1,), ("weight", 0)), Gate("CRX", (1, 0), ("weight", 1)))
    crossed = (Gate("CRX", (0, 1), ("weight", 0)), Gate("CRX", (1, 0), ("weight", 1)))
    return {name: Circuit(encode + gates, 2, 2, 2, name) for name, gates in (("CRX", crossed), ("RX", plain))}


def moving_qubit() -> MovingFigure:
    """One qubit: press gates, see the state, its point on the Bloch sphere, and what shots return."""
    figure = Figure(figsize=(5.4, 2.3), layout="constrained")
    ball, bars = figure.subplots(1, 2)
    turn = np.linspace(0, 2 * np.pi, 200)
    ball.plot(np.cos(turn), np.sin(turn), color="#777777", lw=1)
    ball.plot(np.cos(turn), 0.25 * np.sin(turn), color="#BBBBBB", lw=1)
    ball.annotate("", (-math.sin(math.pi / 3), math.cos(math.pi / 3)), (0, 0),
                  arrowprops={"arrowstyle": "-|>", "color": OKABE_ITO["vermilion"], "lw": 2})  # fmt: skip
    for y, name in ((1.12, "|0⟩"), (-1.12, "|1⟩")):
        ball.text(0, y, name, ha="center", va="center")
    ball.set(aspect="equal", xlim=(-1.2, 1.2), ylim=(-1.3, 1.3))
    ball.set_axis_off()
    bars.bar(["bit 0", "bit 1"], [0.75, 0.25], color=[OKABE_ITO["sky blue"], OKABE_ITO["orange"]])
    bars.set_title("P(0) and P(1) after RX(π/3)", fontsize=9)
    words = "A qubit after RX(π/3): an arrow on the Bloch sphere, 60 degrees from |0⟩; P(0) is 0.75, P(1) is 0.25."
    return MovingFigure("qubit", figure, words)


def moving_shift() -> MovingFigure:
    """The parameter-shift rule: drag the angle, see f, the shifted points, and what two and four terms make of them."""
    circuits, angle = shift_circuits(), 0.4
    turn = torch.linspace(-4 * math.pi, 4 * math.pi, 321, dtype=torch.float64)
    figure = Figure(figsize=(5.8, 2.6), layout="constrained")
    ax = figure.subplots()
    ax.plot(turn, _values(circuits["CRX"], turn), color=OKABE_ITO["blue"])
    for shift, colour in ((0, "black"), (1, "vermilion"), (-1, "vermilion"), (3, "green"), (-3, "green")):
        _dot(ax, circuits["CRX"], angle + shift * math.pi / 2, OKABE_ITO[colour])
    ax.set(xlabel="angle φ of a CRX", ylabel="f(φ) = ⟨Z⟩")
    words = (
        "A curve f of the angle of a CRX with period 4π; a black point at 0.4, red points shifted by half of π to both "
        "sides, green ones by three halves of π."
    )
    data = {name: circuit_data(circuit) for name, circuit in circuits.items()}
    return MovingFigure("shift", figure, words, {"circuits": data, "inputs": INPUTS, "weights": [OTHER_WEIGHT]})


def _values(circuit: Circuit, angles: torch.Tensor) -> torch.Tensor:
    """⟨Z⟩ of wire 0 as a function of the first weight."""
    x = torch.tensor([INPUTS], dtype=torch.float64).expand(len(angles), -1)
    return simulate(circuit, x, torch.stack([angles, torch.full_like(angles, OTHER_WEIGHT)], 1))[:, 0]


def _dot(ax: Axes, circuit: Circuit, angle: float, colour: str) -> None:
    ax.plot(angle, _values(circuit, torch.tensor([angle], dtype=torch.float64)).item(), "o", color=colour)
