"""From weights to matrices: the part of the fast engine that does not see the data.

A gate that is fed by a weight is the same matrix for every row of a batch. This module turns all
such gates of all circuits of a layer into matrices at once, multiplies neighbours, and hands out
one unitary per block of gates.

Shapes: theta is (C, n_weights) for C circuits; a gate matrix is (gates, C, 2, 2).
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from qdm_lib.circuits import Gate
from qdm_lib.engine_plan import fuse
from qdm_lib.simulator import _FIXED

# exp(−i·a/2·σ) = cos(a/2)·1 − i·sin(a/2)·σ: the coefficients of cos, of sin, and of 1.
_ONE, _NIL = [[1, 0], [0, 1]], [[0, 0], [0, 0]]
_ROTATION = {
    "X": [_ONE, [[0, -1j], [-1j, 0]], _NIL],
    "Y": [_ONE, [[0, -1], [1, 0]], _NIL],
    "Z": [_ONE, [[-1j, 0], [0, 1j]], _NIL],
}


class Constant:
    """A tensor made once in double precision, handed out in the precision and on the device asked.

    ``constant(like)`` follows the dtype and the device of ``like``; complex numbers stay complex
    and indices stay integers.
    """

    def __init__(self, values) -> None:
        if not isinstance(values, Tensor):
            numpy_like = torch.float64 if any(isinstance(v, float) for v in values) else None
            values = torch.tensor(values, dtype=numpy_like)
        self.values = values
        self.copies: dict = {}

    def __call__(self, like: Tensor) -> Tensor:
        key = (like.dtype, like.device)
        if key not in self.copies:
            dtype = self.values.dtype
            if dtype.is_complex:
                dtype = torch.complex128 if like.dtype in (torch.float64, torch.complex128) else torch.complex64
            elif dtype.is_floating_point:
                dtype = torch.float64 if like.dtype in (torch.float64, torch.complex128) else torch.float32
            with torch.inference_mode(False):
                self.copies[key] = self.values.to(like.device, dtype)
        return self.copies[key]


class Gates:
    """The 2×2 matrices of a list of gates, for all circuits at once.

    Only the weights matter here: a gate that reads an input is taken at its offset.
    """

    def __init__(self, gates: Sequence[Gate]) -> None:
        of_weight = [g.param is not None and g.param[0] == "weight" for g in gates]
        self.index = Constant([g.param[1] if w else 0 for g, w in zip(gates, of_weight, strict=True)])
        self.scale = Constant([g.scale if w else 0.0 for g, w in zip(gates, of_weight, strict=True)])
        self.offset = Constant([float(g.offset) for g in gates])
        tables = [[_NIL, _NIL, _FIXED[g.name]] if g.name in _FIXED else _ROTATION[g.name[-1]] for g in gates]
        table = torch.tensor(tables, dtype=torch.complex128).reshape(len(gates), 3, 4)
        self.table = Constant(torch.view_as_real(table).flatten(2))  # (G, 3, 8) real

    def __call__(self, theta: Tensor) -> Tensor:
        """theta (C, n_weights) → (G, C, 2, 2) complex."""
        values = theta[:, self.index(theta)] if theta.shape[1] else theta.new_zeros(len(theta), 1)
        half = (values * self.scale(theta) + self.offset(theta)).T / 2  # (G, C)
        terms = torch.stack([torch.cos(half), torch.sin(half), torch.ones_like(half)], -1)
        return torch.view_as_complex(torch.bmm(terms, self.table(theta)).unflatten(-1, (2, 2, 2)))


class BlockUnitaries:
    """The unitaries of several blocks of gates on equally many wires, in a few batched products.

    Args:
        blocks: each a sequence of gates, in time order, on wires 0 … n_wires−1; no SWAP.
        n_wires: wire 0 is the most significant bit of a row or column of the matrix.
    """

    def __init__(self, blocks: Sequence[Sequence[Gate]], n_wires: int) -> None:
        fused = [fuse(block) for block in blocks]
        self.n_blocks, self.size = len(blocks), 2**n_wires
        self.length = max([1, *map(len, fused)])
        depth = max([1] + [len(run) for runs in fused for run in runs])
        gates = [gate for runs in fused for run in runs for gate in run]
        self.gates = Gates([*gates, Gate("RX", (0,))])  # the last, an angle of 0, pads short runs
        order = torch.full((depth, self.n_blocks * self.length), len(gates))
        spread = torch.zeros(self.n_blocks * self.length, 4, self.size, self.size, dtype=torch.complex128)
        rest = torch.eye(self.size, dtype=torch.complex128).repeat(len(spread), 1, 1, 1)
        start = 0
        for b, runs in enumerate(fused):
            for row, run in enumerate(runs, b * self.length):
                order[: len(run), row] = torch.arange(start, start + len(run))
                spread[row], rest[row, 0] = embedding(run[0], n_wires)
                start += len(run)
        self.order = Constant(order)
        self.spread, self.rest = Constant(spread.flatten(2)), Constant(rest.flatten(2))

    def __call__(self, theta: Tensor) -> Tensor:
        """theta (C, n_weights) → (n_blocks, C, 2^n_wires, 2^n_wires) complex."""
        matrices = self.gates(theta)
        order = self.order(theta)
        small = matrices[order[0]]
        for following in order[1:]:
            small = matrices[following] @ small
        full = torch.baddbmm(self.rest(theta), small.flatten(2), self.spread(theta))
        full = full.reshape(self.n_blocks, self.length, len(theta), self.size, self.size)
        return chain_product(full)


def embedding(gate: Gate, n_wires: int) -> tuple[Tensor, Tensor]:
    """How a 2×2 matrix U on ``gate``'s target, controlled as in ``gate``, fills a large matrix.

    Returns:
        (4, D, D): where U_00, U_01, U_10, U_11 go; and (D, D): the part that is there anyway
        (the identity where the control is 0). D = 2^n_wires.
    """
    size, (target,) = 2**n_wires, gate.targets
    bit = 1 << (n_wires - 1 - target)
    column = torch.arange(size)
    spread = torch.zeros(4, size, size, dtype=torch.complex128)
    rest = torch.zeros(size, size, dtype=torch.complex128)
    active = torch.ones(size, dtype=torch.bool)
    for control in gate.controls:
        active &= (column & (1 << (n_wires - 1 - control))) > 0
    rest[column[~active], column[~active]] = 1
    for a in (0, 1):
        for b in (0, 1):
            at = column[active & (((column & bit) > 0) == bool(b))]
            spread[2 * a + b, (at & ~bit) | (bit * a), at] = 1
    return spread, rest


def chain_product(factors: Tensor) -> Tensor:
    """(n, length, …, D, D) in time order → the products (n, …, D, D), pair by pair."""
    while factors.shape[1] > 1:
        pairs = factors.shape[1] // 2 * 2
        product = factors[:, 1:pairs:2] @ factors[:, 0:pairs:2]
        factors = torch.cat([product, factors[:, pairs:]], 1) if pairs < factors.shape[1] else product
    return factors[:, 0]
