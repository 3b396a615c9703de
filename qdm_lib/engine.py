"""The fast exact engine: the same numbers as the statevector, planned from the circuit's structure."""

from functools import lru_cache

import torch
from torch import Tensor

from qdm_lib.circuits import Circuit, Gate
from qdm_lib.engine_matrices import BlockUnitaries, Constant
from qdm_lib.simulator import simulate

_UNITARY_WIRES = 5  # up to here the whole component is one matrix


def untangle(circuit: Circuit) -> tuple[list[Gate], list[int]]:
    """Take the SWAPs out by renaming wires; returns the other gates and where each output wire is."""
    where, gates = list(range(circuit.n_wires)), []
    for gate in circuit.gates:
        if gate.name == "SWAP":
            a, b = gate.wires
            where[a], where[b] = where[b], where[a]
        else:
            wires = tuple(where[w] for w in gate.wires)
            gates.append(Gate(gate.name, wires, gate.param, gate.scale, gate.offset, gate.block))
    return gates, where


def components(gates: list[Gate], n_wires: int) -> list[list[int]]:
    """The wires that gates connect, directly or through others: lists of wires, smallest first."""
    group = list(range(n_wires))
    for gate in gates:
        joined = {group[w] for w in gate.wires}
        group = [min(joined) if g in joined else g for g in group]
    return [[w for w in range(n_wires) if group[w] == g] for g in sorted(set(group))]


def split_encoding(gates: list[Gate], n_wires: int) -> tuple[dict[int, tuple[str, list[Gate]]], list[Gate]]:
    """The first gates of each wire, as long as they are RX (or RY) rotations that end in an input.

    Returns:
        {wire: (axis, its rotations)}, and the other gates. Rotations about one axis add up to one
        angle, so each such wire starts as (cos a/2, −i sin a/2), or (cos a/2, sin a/2) for RY.
    """
    leading: dict[int, list[int]] = {w: [] for w in range(n_wires)}
    open_wires = set(range(n_wires))
    for k, gate in enumerate(gates):
        for wire in gate.wires:
            axis_fits = gate.name in ("RX", "RY") and all(gates[j].name == gate.name for j in leading[wire])
            if wire in open_wires and axis_fits:
                leading[wire].append(k)
            else:
                open_wires.discard(wire)
    found, taken = {}, set()
    for wire, run in leading.items():
        while run and (gates[run[-1]].param is None or gates[run[-1]].param[0] != "input"):
            run.pop()
        if run:
            found[wire] = (gates[run[0]].name, [gates[k] for k in run])
            taken.update(run)
    return found, [g for k, g in enumerate(gates) if k not in taken]


def reads_input(gate: Gate) -> bool:
    return gate.param is not None and gate.param[0] == "input"


class UnitaryPlan:
    """A few wires whose inputs only enter first: encoded vector times one matrix, then squares."""

    def __init__(self, wires, encoding, gates) -> None:
        self.wires, n = wires, len(wires)
        self.matrix = BlockUnitaries([gates], n)
        phase = torch.ones(1, dtype=torch.complex128)
        for wire in range(n):
            factor = -1j if encoding.get(wire, ("",))[0] == "RX" else 1
            phase = torch.outer(phase, torch.tensor([1, factor], dtype=torch.complex128)).flatten()
        self.phase = Constant(phase)
        self.encoding = [encoding.get(w, ("RX", []))[1] for w in range(n)]
        sign = [[1 - 2 * (i >> (n - 1 - w) & 1) for w in range(n)] for i in range(2**n)]
        self.sign = Constant(torch.tensor(sign, dtype=torch.float64).repeat_interleave(2, 0))

    def __call__(self, x: Tensor, theta: Tensor) -> Tensor:
        """x (C, B, n_inputs), theta (C, n_weights) → (C, B, wires of this part)."""
        vector = x.new_ones(*x.shape[:2], 1)
        for gates in self.encoding:
            angle = x.new_zeros(x.shape[:2])
            for gate in gates:
                kind, k = gate.param or ("constant", 0)
                value = x[..., k] if kind == "input" else theta[:, k, None] if kind == "weight" else 0.0
                angle = angle + gate.scale * value + gate.offset
            pair = torch.stack([torch.cos(angle / 2), torch.sin(angle / 2)], -1)
            vector = (vector[..., :, None] * pair[..., None, :]).flatten(-2)
        matrix = (self.matrix(theta)[0] * self.phase(theta)).transpose(1, 2)
        psi = vector @ torch.view_as_real(matrix).flatten(2)  # real and imaginary parts alternate
        return psi.square() @ self.sign(x)


class StatevectorPlan:
    """Any gates at all: the plain simulator on these wires."""

    def __init__(self, wires, gates, n_inputs, n_weights) -> None:
        self.wires = wires
        self.circuit = Circuit(tuple(gates), len(wires), n_inputs, n_weights, "part", allow_dead_weights=True)

    def __call__(self, x: Tensor, theta: Tensor) -> Tensor:
        return torch.stack([simulate(self.circuit, x[k], theta[k]) for k in range(len(x))])


@lru_cache(maxsize=256)
def make_plan(circuit: Circuit):
    gates, where = untangle(circuit)
    parts = []
    for wires in components(gates, circuit.n_wires):
        local = {w: k for k, w in enumerate(wires)}
        mine = [
            Gate(g.name, tuple(local[w] for w in g.wires), g.param, g.scale, g.offset)
            for g in gates
            if g.wires[0] in local
        ]
        encoding, rest = split_encoding(mine, len(wires))
        if len(wires) <= _UNITARY_WIRES and not any(map(reads_input, rest)):
            parts.append(UnitaryPlan(wires, encoding, rest))
        else:
            parts.append(StatevectorPlan(wires, mine, circuit.n_inputs, circuit.n_weights))
    order = [w for part in parts for w in part.wires]
    return parts, Constant([order.index(w) for w in where])


def fast_simulate(circuit: Circuit, x: Tensor, theta: Tensor) -> Tensor:
    """⟨Z⟩ of every wire for n independent circuits, x (B, n, n_inputs) and theta (n, n_weights) → (B, n, n_wires)."""
    parts, order = make_plan(circuit)
    by_circuit = x.transpose(0, 1)
    out = torch.cat([part(by_circuit, theta) for part in parts], -1)
    return out[..., order(x)].transpose(0, 1)
