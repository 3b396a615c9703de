"""The moving figures of notebooks 02 and 03: one qubit, the parameter-shift rule, and the paper's two circuits."""

from __future__ import annotations

import math

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from qdm_course.moving.base import MovingFigure, circuit_data
from qdm_lib.audit import audit_circuit
from qdm_lib.circuits import Circuit, Gate, fqconv, hqconv
from qdm_lib.plots import OKABE_ITO
from qdm_lib.simulator import simulate

INPUTS, OTHER_WEIGHT = (1.0, 2.0), 1.1  # of the two-wire circuits of the shift figure, as in notebook 02
LAYERS = 3  # the paper's number, and the most that the figure of the circuits shows


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
    return MovingFigure("qubit", figure, words, needs=["circuit"])


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
    data = {"circuits": data, "inputs": INPUTS, "weights": [OTHER_WEIGHT]}
    return MovingFigure("shift", figure, words, data, needs=["circuit"])


def moving_circuits() -> MovingFigure:
    """HQConv and FQConv: every input and angle moves, the light cone of an output lights up, ⟨Z⟩ of all wires is live.

    The light cone is all that can move ⟨Z⟩ of one wire: walk back through the gates, and leave out those that commute
    with what has become of Z. Of both circuits it is what `qdm_lib.audit.audit_circuit` finds by derivatives.
    """
    made = {"HQConv": hqconv(LAYERS), "FQConv": fqconv(LAYERS)}
    data = {name: {**circuit_data(circuit), "n_layers": LAYERS} for name, circuit in made.items()}
    figure = Figure(figsize=(5.8, 2.6), layout="constrained")
    ax = figure.subplots()
    for circuit, colour, marker in ((hqconv(1), "orange", "o"), (fqconv(1), "blue", "^")):
        behind = [len(audit_circuit(circuit, points=1).inputs_of(w)) for w in range(circuit.n_wires)]
        ax.plot(behind, marker=marker, color=OKABE_ITO[colour], label=circuit.name)
    ax.set(xlabel="output", ylabel="inputs behind it", xticks=range(12), ylim=(0, 13))
    ax.legend(frameon=False, fontsize=8)
    words = (
        "How many of the 12 inputs stand behind each output, with one layer: of HQConv 12 "
        "behind output 4, 8 behind output 8, 2 to 4 behind the others; of FQConv 2 or 3 behind each."
    )
    return MovingFigure("wires", figure, words, {"circuits": data}, needs=["circuit"])


def _values(circuit: Circuit, angles: torch.Tensor) -> torch.Tensor:
    """⟨Z⟩ of wire 0 as a function of the first weight."""
    x = torch.tensor([INPUTS], dtype=torch.float64).expand(len(angles), -1)
    return simulate(circuit, x, torch.stack([angles, torch.full_like(angles, OTHER_WEIGHT)], 1))[:, 0]


def _dot(ax: Axes, circuit: Circuit, angle: float, colour: str) -> None:
    ax.plot(angle, _values(circuit, torch.tensor([angle], dtype=torch.float64)).item(), "o", color=colour)
