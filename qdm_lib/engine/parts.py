"""The parts that the fast engine runs: small components as one matrix, and the statevector.

Every part is called as ``part(x, theta)`` with x (B, C, n_inputs) and theta (C, n_weights), for C circuits of B rows
each, and returns ⟨Z⟩ as (C, wires, B) for the wires listed in ``part.wires``.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from qdm_lib.circuits import Gate
from qdm_lib.engine.matrices import Angles, BlockUnitaries, Constant
from qdm_lib.engine.structure import Encoding, group, reads_input
from qdm_lib.simulator import gate_angle, rotation

_CHUNK = 2**21  # amplitudes in one pass of the statevector; further rows take their turn


class ProductState:
    """The encoded inputs of several groups of wires, as real vectors.

    A wire rotated out of |0⟩ by RX(a) is (cos a/2, −i sin a/2). Without the −i, which `encoding_phase` gives to the
    next matrix, a group of k wires is the real product vector ⊗ (cos a/2, sin a/2) with 2^k entries. The rows of the
    batch are the last axis, so that each product runs over contiguous memory. encodings: for each group, those of its
    wires; all groups have equally many.
    """

    def __init__(self, encodings: Sequence[Sequence[Encoding]]) -> None:
        flat = [e for encoding in encodings for e in encoding]
        self.shape = (len(encodings), len(encodings[0]))
        read = {
            kind: [[(g.param[1], g.scale / 2) for g in e.gates if g.param and g.param[0] == kind] for e in flat]
            for kind in ("input", "weight")
        }
        self.of_input = Angles(read["input"], [sum(g.offset / 2 for g in e.gates) for e in flat])
        self.of_weight = Angles(read["weight"], [0.0] * len(flat)) if any(read["weight"]) else None

    def __call__(self, x: Tensor, theta: Tensor) -> Tensor:
        """x (B, C, n_inputs), theta (C, n_weights) → (C, groups, 2^k, B) real."""
        half = self.of_input(x.permute(1, 2, 0))  # half the angles: (C, wires, B)
        if self.of_weight:
            half = half + self.of_weight(theta)[..., None]
        half = half.unflatten(1, self.shape)
        first, *later = torch.stack([torch.cos(half), torch.sin(half)], 3).unbind(2)  # each (C, groups, 2, B)
        for pair in later:
            first = (first[:, :, :, None] * pair[:, :, None]).flatten(2, 3)
        return first


def encoding_phase(encoding: Sequence[Encoding]) -> Tensor:
    """The factors (−i)^(number of ones) that `ProductState` leaves out: (2^k,) complex."""
    phase = torch.ones(1, dtype=torch.complex128)
    for one in encoding:
        factor = -1j if one.axis == "RX" else 1
        phase = torch.outer(phase, torch.tensor([1, factor], dtype=torch.complex128)).flatten()
    return phase


def z_signs(n_wires: int) -> Tensor:
    """(2^n_wires, n_wires): +1 where the wire's bit of the basis state is 0, −1 where it is 1."""
    state = torch.arange(2**n_wires)[:, None]
    return 1 - 2 * (state >> torch.arange(n_wires - 1, -1, -1) & 1).double()


class UnitaryPart:
    """Small components whose inputs enter only at the start: one matrix each, applied to all rows.

    The matrix U is made from the weights once; then psi = (U · phases) v with the real encoded vector v, so a real
    matrix product of (B, 2^k) with (2^k, 2·2^k) applies all gates at once, and ⟨Z⟩ is a signed sum of squares.
    Components of the same size run together.
    """

    def __init__(self, components: Sequence[tuple[Sequence[int], Sequence[Encoding], Sequence[Gate]]]) -> None:
        wires, encodings, gates = zip(*components, strict=True)
        k = len(wires[0])
        self.wires = [w for group in wires for w in group]
        self.state = ProductState(encodings)
        self.unitaries = BlockUnitaries(gates, k)
        self.phase = Constant(torch.stack([encoding_phase(e) for e in encodings])[:, None, None])
        self.signs = Constant(z_signs(k).T.repeat(1, 2))  # for real parts, then imaginary parts

    def __call__(self, x: Tensor, theta: Tensor) -> Tensor:
        matrix = (self.unitaries(theta) * self.phase(theta)).transpose(0, 1)  # (C, components, 2^k, 2^k)
        matrix = torch.cat([matrix.real, matrix.imag], 2)
        psi = matrix @ self.state(x, theta)  # (C, components, 2 · 2^k, B)
        return (self.signs(x) @ psi.square()).flatten(1, 2)


class StatevectorPart:
    """Any gates at all: the statevector of these wires, with neighbouring gates multiplied first.

    Blocks of weight gates on up to ``max_block`` wires are one matrix each; a gate that reads an input is a matrix of
    its own for each row. Many rows are taken in slices, and where gradients are wanted each slice is computed again in
    the backward pass instead of being kept.
    """

    def __init__(
        self,
        wires: Sequence[int],
        encoding: Sequence[Encoding],
        gates: Sequence[Gate],
        max_block: int = 4,
    ) -> None:
        self.wires, self.n = list(wires), len(wires)
        self.state = ProductState([encoding])
        self.phase = Constant(encoding_phase(encoding))
        self.signs = Constant(z_signs(self.n))
        self.steps: list = []
        for block, mine in group(gates, max_block):
            if reads_input(mine[0]):
                self.steps.append((mine[0].wires, mine[0]))
            else:
                place = {w: k for k, w in enumerate(block)}
                local = [_move(g, place) for g in mine]
                self.steps.append((block, BlockUnitaries([local], len(block))))

    def __call__(self, x: Tensor, theta: Tensor) -> Tensor:
        matrices = [step(theta)[0] if isinstance(step, BlockUnitaries) else None for _, step in self.steps]
        parts = x.split(max(1, _CHUNK // (2**self.n * x.shape[1])))
        if len(parts) == 1 or not torch.is_grad_enabled():
            return torch.cat([self.run(part, theta, *matrices) for part in parts], -1)
        keep = {"use_reentrant": False, "preserve_rng_state": False}
        return torch.cat([checkpoint(self.run, part, theta, *matrices, **keep) for part in parts], -1)

    def run(self, x: Tensor, theta: Tensor, *matrices: Tensor | None) -> Tensor:
        rows, n_circuits, _ = x.shape
        psi = self.state(x, theta)[:, 0].mT * self.phase(x)
        psi = psi.unflatten(-1, (2,) * self.n)  # (C, B, 2, …, 2)
        x = x.transpose(0, 1)
        order = list(range(self.n))  # which wire each axis of psi holds; gates reorder, nothing is moved back
        for (wires, step), matrix in zip(self.steps, matrices, strict=True):
            axes = [order.index(w) for w in wires]
            others = [k for k in range(self.n) if k not in axes]
            psi = psi.permute(0, 1, *(2 + k for k in others), *(2 + k for k in axes))
            order = [order[k] for k in others] + list(wires)
            size, rest = 2 ** len(wires), 2 ** len(others)
            if matrix is None:
                psi = psi.reshape(n_circuits, rows, rest, size) @ row_matrix(step, x, theta).mT
            else:
                psi = psi.reshape(n_circuits, rows * rest, size) @ matrix.mT
            psi = psi.reshape(n_circuits, rows, *(2,) * self.n)
        psi = psi.permute(0, 1, *(2 + order.index(w) for w in range(self.n))).flatten(2)
        return ((psi.real.square() + psi.imag.square()) @ self.signs(x)).mT


def _move(gate: Gate, place: dict[int, int]) -> Gate:
    return Gate(gate.name, tuple(place[w] for w in gate.wires), gate.param, gate.scale, gate.offset)


def row_matrix(gate: Gate, x: Tensor, theta: Tensor) -> Tensor:
    """The matrix of a rotation that reads an input: (C, B, D, D), D = 2 or, with a control, 4."""
    small = rotation(gate.name[-1], gate_angle(gate, x, theta))
    if not gate.controls:
        return small
    upper = torch.eye(2, dtype=small.dtype, device=small.device).expand_as(small)
    nothing = torch.zeros_like(small)
    return torch.cat([torch.cat([upper, nothing], -1), torch.cat([nothing, small], -1)], -2)
