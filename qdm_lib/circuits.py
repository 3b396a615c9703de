"""Ansätze as data: what gates a variational circuit has, and where each angle comes from.

A `Circuit` is a tuple of frozen `Gate` records. It holds no angle, no tensor and no device: the
drawing, PennyLane, both simulators, the parameter counts and the audit all read this one record.
Every circuit starts in |0…0⟩ and is read out as ⟨Z⟩ on every wire.

Wires of the 12-wire circuits: a 2×2 patch of 3 channels, wire 4·c + p for channel c and pixel
p = 2·row + column (arXiv:2402.16147, section 3). Built by hand in notebook 03, sections 1 to 3.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

from qdm_lib.checks import is_whole, whole

TWO_PI = 2 * math.pi

# name -> (number of wires, takes an angle, number of control wires). The control comes first.
GATES: dict[str, tuple[int, bool, int]] = {
    "RX": (1, True, 0), "RY": (1, True, 0), "RZ": (1, True, 0),
    "CRX": (2, True, 1), "CRY": (2, True, 1), "CRZ": (2, True, 1),
    "CNOT": (2, False, 1), "CZ": (2, False, 1), "SWAP": (2, False, 0),
    "Hadamard": (1, False, 0), "PauliX": (1, False, 0), "PauliY": (1, False, 0),
    "PauliZ": (1, False, 0), "S": (1, False, 0), "T": (1, False, 0),
}  # fmt: skip


@dataclass(frozen=True)
class Gate:
    """One gate: its name, its wires, and where its angle comes from (never the angle itself).

    The angle, in radians, is scale · value + offset, where the value is entry k of the inputs for
    ``param=("input", k)``, entry k of the weights for ``param=("weight", k)``, and 0 for ``param=None``.

    name: a key of `GATES` (PennyLane's operation names). wires: control first; a list becomes a tuple.
    scale, offset: finite numbers; left alone where the gate has no angle. block: the label that drawings
    group by ("encoding", "A", "B", …).

    ValueError where one of these is not as it should be; the message names it.
    """

    name: str
    wires: tuple[int, ...]
    param: tuple[str, int] | None = None
    scale: float = 1.0
    offset: float = 0.0
    block: str = ""

    def __post_init__(self) -> None:
        if self.name not in GATES:
            raise ValueError(f"Unknown gate {self.name!r}; a Circuit takes {', '.join(GATES)}.")
        n_wires, has_angle, _ = GATES[self.name]
        _make_tuple(self, "wires", f"{self.name}: wanted wires such as {tuple(range(n_wires))}")
        if len(set(self.wires)) != n_wires or len(self.wires) != n_wires or not all(map(is_whole, self.wires)):
            raise ValueError(f"{self.name} acts on {n_wires} wire(s), different whole numbers; got {self.wires}.")
        if self.param is not None:
            _make_tuple(self, "param", f"{self.name}: wanted a param such as ('weight', 0)")
            kind, *k = self.param
            if not has_angle or kind not in ("input", "weight") or len(k) != 1 or not is_whole(*k):
                raise ValueError(f"{self.name} cannot take its angle from {self.param}.")
        for field in ("scale", "offset"):
            value = getattr(self, field)
            if not hasattr(value, "__float__") or not math.isfinite(value):
                raise ValueError(f"{self.name}: wanted a finite number as {field}, got {value!r}.")
            object.__setattr__(self, field, value if type(value) in (int, float) else float(value))
        if not has_angle and (self.scale, self.offset) != (1, 0):
            raise ValueError(f"{self.name} has no angle to scale or offset, got {self.scale} and {self.offset}.")

    @property
    def controls(self) -> tuple[int, ...]:
        """The control wires: () or one wire."""
        return self.wires[: GATES[self.name][2]]

    @property
    def targets(self) -> tuple[int, ...]:
        """The wires that are not controls."""
        return self.wires[GATES[self.name][2] :]


@dataclass(frozen=True)
class Circuit:
    """An ansatz: gates on ``n_wires`` wires, fed by ``n_inputs`` inputs and ``n_weights`` weights.

    gates: applied from left to right to |0…0⟩; a list becomes a tuple. The outputs are ⟨Z⟩ of wires
    0 … n_wires−1, in [−1, 1]. name: used in drawings and reports. wire_labels: one per wire for drawings;
    the wire numbers by default. allow_dead_weights: accept weights that feed no gate, to study such a circuit.

    ValueError where a size is no whole number, a wire or an index is out of range, or a weight feeds no gate.
    """

    gates: tuple[Gate, ...]
    n_wires: int
    n_inputs: int
    n_weights: int
    name: str = "circuit"
    wire_labels: tuple[str, ...] = ()
    allow_dead_weights: bool = False

    def __post_init__(self) -> None:
        _make_tuple(self, "gates", f"{self.name}: wanted a sequence of gates")
        object.__setattr__(self, "wire_labels", () if self.wire_labels is None else self.wire_labels)
        _make_tuple(self, "wire_labels", f"{self.name}: wanted a sequence of wire labels")
        for field, least in (("n_wires", 1), ("n_inputs", 0), ("n_weights", 0)):
            object.__setattr__(self, field, whole(f"{self.name}: {field}", getattr(self, field), least))
        texts = {label for label in self.wire_labels if isinstance(label, str) and label.strip()}
        if self.wire_labels and not len(texts) == len(self.wire_labels) == self.n_wires:
            raise ValueError(f"{self.name}: wanted {self.n_wires} different wire labels, got {self.wire_labels}.")
        size = {"input": self.n_inputs, "weight": self.n_weights}
        for gate in self.gates:
            if not isinstance(gate, Gate):
                raise ValueError(f"{self.name}: wanted a sequence of gates, got {gate!r} in it.")
            if not all(0 <= wire < self.n_wires for wire in gate.wires):
                raise ValueError(f"{self.name}: {gate.name} on {gate.wires}, but the wires are 0 … {self.n_wires - 1}.")
            if gate.param is not None and not 0 <= gate.param[1] < size[gate.param[0]]:
                kind, k = gate.param
                raise ValueError(f"{self.name}: {gate.name} reads {kind} {k} of {size[kind]}.")
        if self.dead_weights and not self.allow_dead_weights:
            advice = "Use them, lower n_weights, or make a Circuit with allow_dead_weights=True to study such a one"
            raise ValueError(f"{self.name}: weights {list(self.dead_weights)} feed no gate. {advice}.")

    @property
    def dead_weights(self) -> tuple[int, ...]:
        """The weights that feed no gate."""
        fed = {g.param[1] for g in self.gates if g.param is not None and g.param[0] == "weight"}
        return tuple(k for k in range(self.n_weights) if k not in fed)

    @property
    def labels(self) -> tuple[str, ...]:
        """One label per wire."""
        return self.wire_labels or tuple(str(wire) for wire in range(self.n_wires))

    @classmethod
    def from_pennylane(cls, fn: Callable, n_inputs: int, n_weights: int, n_wires: int | None = None) -> "Circuit":
        """Turn a PennyLane quantum function ``fn(inputs, weights)`` of two vectors, or its QNode, into a `Circuit`.

        ``fn`` applies operations on integer wires and returns nothing, or ⟨Z⟩ of every wire in order. Each angle is
        an affine function of one input or one weight, or a constant. `qdm_lib.from_pennylane` says what it takes.

        ValueError where it does what a `Circuit` cannot hold; TypeError where it cannot be run on two vectors.
        """
        from qdm_lib.from_pennylane import trace  # the one place that needs PennyLane and torch

        gates, measured = trace(fn, n_inputs, n_weights)
        used = 1 + max((wire for gate in gates for wire in gate.wires), default=0)
        n_wires = used if n_wires is None else n_wires
        if measured not in (None, list(range(n_wires))):
            raise ValueError(f"A Circuit returns ⟨Z⟩ of wires 0 … {n_wires - 1} in this order, not of {measured}.")
        return cls(tuple(gates), n_wires, n_inputs, n_weights, getattr(fn, "__name__", "circuit"))


def _make_tuple(record: Gate | Circuit, field: str, wanted: str) -> None:
    """Turn a list in a frozen record into a tuple, and NumPy's whole numbers in it into int.

    The engine keeps its plans by circuit, and a list has no hash.
    """
    value = getattr(record, field)
    try:
        object.__setattr__(record, field, tuple(int(entry) if is_whole(entry) else entry for entry in value))
    except TypeError:
        raise ValueError(f"{wanted}, got {value!r}.") from None


def angle_encoding(n_wires: int) -> list[Gate]:
    """RX(x_q) on every wire q: the inputs as rotation angles, taken as they come, in radians."""
    return [Gate("RX", (q,), ("input", q), block="encoding") for q in range(n_wires)]


PATCH_LABELS = tuple(f"c{c} p{p}" for c in range(3) for p in range(4))


def hqconv(layers: int = 3) -> Circuit:
    r"""HQConv: 12 wires, 28 weights a layer (arXiv:2402.16147, section 3).

    Block A couples the four pixels of one channel: for i = 3, 2, 1, 0 a CRZ then a CRX with
    control 4c + (i+1 mod 4) and target 4c + i; channels last to first. Block B couples
    neighbouring channels: control 4 → target 8, then control 0 → target 4, CRZ then CRX each.
    Angles are 2π·θ. Encoding and block A of one layer; block B follows where the dots are:

    >>> from qdm_lib.plots import circuit_text
    >>> print(circuit_text(hqconv(1)).split("\n\n")[1])
    c0 p0: ─RX(x0)──╭●───────╭●───────────────────────────────────────────╭RZ(θ22)─╭RX(θ23)── …
    c0 p1: ─RX(x1)──│────────│──────────────────────────╭RZ(θ20)─╭RX(θ21)─╰●───────╰●──────── …
    c0 p2: ─RX(x2)──│────────│────────╭RZ(θ18)─╭RX(θ19)─╰●───────╰●────────────────────────── …
    c0 p3: ─RX(x3)──╰RZ(θ16)─╰RX(θ17)─╰●───────╰●──────────────────────────────────────────── …
    c1 p0: ─RX(x4)──╭●───────╭●───────────────────────────────────────────╭RZ(θ14)─╭RX(θ15)── …
    c1 p1: ─RX(x5)──│────────│──────────────────────────╭RZ(θ12)─╭RX(θ13)─╰●───────╰●──────── …
    c1 p2: ─RX(x6)──│────────│────────╭RZ(θ10)─╭RX(θ11)─╰●───────╰●────────────────────────── …
    c1 p3: ─RX(x7)──╰RZ(θ8)──╰RX(θ9)──╰●───────╰●──────────────────────────────────────────── …
    c2 p0: ─RX(x8)──╭●───────╭●───────────────────────────────────────────╭RZ(θ6)──╭RX(θ7)─── …
    c2 p1: ─RX(x9)──│────────│──────────────────────────╭RZ(θ4)──╭RX(θ5)──╰●───────╰●──────── …
    c2 p2: ─RX(x10)─│────────│────────╭RZ(θ2)──╭RX(θ3)──╰●───────╰●────────────────────────── …
    c2 p3: ─RX(x11)─╰RZ(θ0)──╰RX(θ1)──╰●───────╰●──────────────────────────────────────────── …
    """
    joins = [((4 * c + (i + 1) % 4, 4 * c + i), "A") for c in (2, 1, 0) for i in (3, 2, 1, 0)]
    joins += [((4, 8), "B"), ((0, 4), "B")]
    return _repeated("HQConv", layers, [(name, wires, block) for wires, block in joins for name in ("CRZ", "CRX")])


def fqconv(layers: int = 3) -> Circuit:
    r"""FQConv: 12 wires, 24 weights a layer (arXiv:2402.16147, section 3).

    For each channel base = 8, 4, 0: block C, four CRZ with control (base+4+i) mod 12 and target base+i for i = 3, 2, 1,
    0; then block D, four CRX on the same pairs. Angles are 2π·θ. Encoding and both blocks of base 8:

    >>> from qdm_lib.plots import circuit_text
    >>> print(circuit_text(fqconv(1)).split("\n\n")[1])
    c0 p0: ─RX(x0)──────────────────────────╭●──────────────────────────────╭●─────────────── …
    c0 p1: ─RX(x1)──────────────────╭●──────│───────────────────────╭●──────│──────────────── …
    c0 p2: ─RX(x2)──────────╭●──────│───────│───────────────╭●──────│───────│──────────────── …
    c0 p3: ─RX(x3)──╭●──────│───────│───────│───────╭●──────│───────│───────│──────────────── …
    c1 p0: ─RX(x4)──│───────│───────│───────│───────│───────│───────│───────│──────────────── …
    c1 p1: ─RX(x5)──│───────│───────│───────│───────│───────│───────│───────│──────────────── …
    c1 p2: ─RX(x6)──│───────│───────│───────│───────│───────│───────│───────│──────────────── …
    c1 p3: ─RX(x7)──│───────│───────│───────│───────│───────│───────│───────│───────╭RZ(θ8)── …
    c2 p0: ─RX(x8)──│───────│───────│───────╰RZ(θ3)─│───────│───────│───────╰RX(θ7)─│──────── …
    c2 p1: ─RX(x9)──│───────│───────╰RZ(θ2)─────────│───────│───────╰RX(θ6)─────────│──────── …
    c2 p2: ─RX(x10)─│───────╰RZ(θ1)─────────────────│───────╰RX(θ5)─────────────────│──────── …
    c2 p3: ─RX(x11)─╰RZ(θ0)─────────────────────────╰RX(θ4)─────────────────────────╰●─────── …
    """
    layer = []
    for base in (8, 4, 0):
        pairs = [((base + 4 + i) % 12, base + i) for i in (3, 2, 1, 0)]
        layer += [("CRZ", pair, "C") for pair in pairs] + [("CRX", pair, "D") for pair in pairs]
    return _repeated("FQConv", layers, layer)


def _repeated(name: str, layers: int, layer: list[tuple[str, tuple[int, int], str]]) -> Circuit:
    """The encoding of a patch, then `layers` times the same gates; each gate has a weight of its own, of angle 2π·θ."""
    layers = whole("layers", layers)
    gates = angle_encoding(12)
    for k, (gate, wires, block) in enumerate(layer * layers):
        gates.append(Gate(gate, wires, ("weight", k), TWO_PI, block=block))
    return Circuit(tuple(gates), 12, 12, len(layer) * layers, f"{name}, {_count(layers)}", PATCH_LABELS)


def basic(wires: int = 4, layers: int = 4) -> Circuit:
    r"""The Basic ansatz of the released code, for the 40th channel of the full quantum vertex.

    Each layer: RX(θ) on every wire (the angle is θ itself, without 2π), then a ring of CNOTs
    0→1, 1→2, …, last→0. ``wires * layers`` weights; 16 for the model of the paper.

    >>> from qdm_lib.plots import circuit_text
    >>> print(circuit_text(basic(layers=1)).split("\n\n")[1])
    0: ─RX(x0)──RX(θ0)─╭●───────╭X── ⟨Z⟩
    1: ─RX(x1)──RX(θ1)─╰X─╭●────│─── ⟨Z⟩
    2: ─RX(x2)──RX(θ2)────╰X─╭●─│─── ⟨Z⟩
    3: ─RX(x3)──RX(θ3)───────╰X─╰●── ⟨Z⟩
    """
    layers = whole("layers", layers)
    wires = whole("wires of the Basic ansatz, which form a ring,", wires, 2)
    gates = angle_encoding(wires)
    for layer in range(layers):
        gates += [Gate("RX", (q,), ("weight", layer * wires + q), block="RX") for q in range(wires)]
        gates += [Gate("CNOT", (q, (q + 1) % wires), block="ring") for q in range(wires)]
    return Circuit(tuple(gates), wires, wires, wires * layers, f"Basic, {_count(layers)}")


def hqconv_released(layers: int = 3) -> Circuit:
    r"""HQConv as the authors' released code executes it; for study, not for use.

    The released code loops over ``len(wires) % 4`` channels, which is 0 for 12 wires, so block A
    never runs, and block B reads the first four of each layer's 28 weights. 4 gates a layer on
    wires 0, 4 and 8 are left: 12 of 84 weights act, and 10 of the 12 outputs are cos(x_q).

    >>> from qdm_lib.plots import circuit_text
    >>> print(circuit_text(hqconv_released(1)).split("\n\n")[1])
    c0 p0: ─RX(x0)──────────────────╭●──────╭●─────── ⟨Z⟩
    c0 p1: ─RX(x1)──────────────────│───────│──────── ⟨Z⟩
    c0 p2: ─RX(x2)──────────────────│───────│──────── ⟨Z⟩
    c0 p3: ─RX(x3)──────────────────│───────│──────── ⟨Z⟩
    c1 p0: ─RX(x4)──╭●──────╭●──────╰RZ(θ2)─╰RX(θ3)── ⟨Z⟩
    c1 p1: ─RX(x5)──│───────│──────────────────────── ⟨Z⟩
    c1 p2: ─RX(x6)──│───────│──────────────────────── ⟨Z⟩
    c1 p3: ─RX(x7)──│───────│──────────────────────── ⟨Z⟩
    c2 p0: ─RX(x8)──╰RZ(θ0)─╰RX(θ1)────────────────── ⟨Z⟩
    c2 p1: ─RX(x9)─────────────────────────────────── ⟨Z⟩
    c2 p2: ─RX(x10)────────────────────────────────── ⟨Z⟩
    c2 p3: ─RX(x11)────────────────────────────────── ⟨Z⟩
    """
    layers = whole("layers", layers)
    gates = angle_encoding(12)
    for layer in range(layers):
        for j, wires in enumerate([(4, 8), (4, 8), (0, 4), (0, 4)]):
            name = ("CRZ", "CRX")[j % 2]
            gates.append(Gate(name, wires, ("weight", 28 * layer + j), TWO_PI, block="B"))
    name = f"HQConv as released, {_count(layers)}"
    return Circuit(tuple(gates), 12, 12, 28 * layers, name, PATCH_LABELS, allow_dead_weights=True)


def _count(layers: int) -> str:
    return "1 layer" if layers == 1 else f"{layers} layers"


# Ansätze by name, as functions of the number of layers. Add your own, of 12 wires and 12 inputs, at run time
# (ANSATZE["mine"] = my_function): `build_unet("1hqconv", ansatz="mine")` uses it. A saved model holds the name alone.
ANSATZE: dict[str, Callable[[int], Circuit]] = {
    "hqconv": hqconv,
    "fqconv": fqconv,
    "hqconv_released": hqconv_released,
}
