"""From weights to matrices: the part of the fast engine that does not see the data.

A gate that takes its angle from a weight is the same matrix for every row of a batch. This module turns all such gates
of all circuits of a layer into matrices at once, multiplies neighbours, and hands out one unitary per block of gates. C
counts the circuits: theta is (C, n_weights).
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import zip_longest

import torch
from torch import Tensor

from qdm_lib.circuits import Gate
from qdm_lib.engine.structure import fuse
from qdm_lib.simulator import FIXED

# exp(−i·a/2·σ) = cos(a/2)·1 − i·sin(a/2)·σ: the coefficients of cos, of sin, and of 1.
_ONE, _NIL = [[1, 0], [0, 1]], [[0, 0], [0, 0]]
_ROTATION = {
    "X": [_ONE, [[0, -1j], [-1j, 0]], _NIL],
    "Y": [_ONE, [[0, -1], [1, 0]], _NIL],
    "Z": [_ONE, [[-1j, 0], [0, 1j]], _NIL],
}
_IDENTITY = Gate("RX", (0,))  # at an angle of 0


class Constant:
    """A tensor made once in double precision, handed out in the precision and on the device asked for.

    ``constant(like)`` follows the dtype and the device of ``like``; complex numbers stay complex and indices stay
    integers. Plans outlive the call that makes them, so even where that call runs inside `torch.inference_mode`,
    `torch.export` and the like, this has to be an ordinary tensor for later calls: copies are made in a thread of their
    own, where none of the caller's modes is in force.
    """

    def __init__(self, values: Tensor) -> None:
        self.values, self.copies = values, {}

    def __call__(self, like: Tensor) -> Tensor:
        key = (like.dtype, like.device)
        if key not in self.copies:
            double = like.dtype in (torch.float64, torch.complex128)
            dtype = self.values.dtype
            if dtype.is_complex:
                dtype = torch.complex128 if double else torch.complex64
            elif dtype.is_floating_point:
                dtype = torch.float64 if double else torch.float32
            self.copies[key] = in_clean_thread(self.values.to, like.device, dtype)
        return self.copies[key]


def in_clean_thread(function: Callable, *arguments):
    """The function's result, from a thread where none of torch's modes is in force.

    Modes such as inference_mode, fake tensors, vmap or a default device belong to the thread that entered them.
    """
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(function, *arguments).result()


def zeros(*shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    """Zeros to fill a `Constant` with, in double precision."""
    return torch.zeros(*shape, dtype=dtype)


class Angles:
    """Angles as sums of scale · value over entries picked from the values, plus an offset; the same for every circuit.

    Picked, not made by a matrix product: a user's `torch.set_float32_matmul_precision` may round the factors of
    products to ten bits or fewer, too coarse for angles. terms: for each angle its terms (entry, scale). offsets: one
    number for each angle.
    """

    def __init__(self, terms: Sequence[Sequence[tuple[int, float]]], offsets: Sequence[float]) -> None:
        self.terms = []
        for turn in zip_longest(*terms, fillvalue=(0, 0.0)) if any(terms) else ():
            entries, scales = zip(*turn, strict=True)
            self.terms.append((Constant(torch.tensor(entries)), Constant(torch.tensor(scales, dtype=torch.float64))))
        self.offset = Constant(torch.tensor(offsets, dtype=torch.float64))

    def __call__(self, values: Tensor) -> Tensor:
        """values (C, entries, …) → (C, angles, …)."""
        column = (-1, *[1] * (values.ndim - 2))
        total = self.offset(values).reshape(column).expand(len(values), -1, *values.shape[2:])
        for entries, scales in self.terms:
            total = values.index_select(1, entries(values)) * scales(values).reshape(column) + total
        return total


class Gates:
    """The 2×2 matrices of a list of gates, for all circuits at once.

    Only weights count here: a gate that reads an input is taken at its offset. For a controlled gate the matrix is what
    it does to its target when the control is 1.
    """

    def __init__(self, gates: Sequence[Gate]) -> None:
        terms = [[]] * len(gates)
        table = zeros(len(gates), 3, 4, dtype=torch.complex128)
        for k, gate in enumerate(gates):
            if gate.param is not None and gate.param[0] == "weight":
                terms[k] = [(gate.param[1], gate.scale / 2)]
            parts = [_NIL, _NIL, FIXED[gate.name]] if gate.name in FIXED else _ROTATION[gate.name[-1]]
            table[k] = torch.tensor(parts, dtype=torch.complex128).flatten(1)
        self.half_angles = Angles(terms, [gate.offset / 2 for gate in gates])
        self.table = Constant(torch.view_as_real(table).flatten(2))

    def __call__(self, theta: Tensor) -> Tensor:
        """theta (C, n_weights) → (gates, C, 2, 2) complex."""
        half = self.half_angles(theta).T  # (gates, C)
        terms = torch.stack([torch.cos(half), torch.sin(half), torch.ones_like(half)], -1)
        return torch.view_as_complex(torch.bmm(terms, self.table(theta)).unflatten(-1, (2, 2, 2)))


class BlockUnitaries:
    """The unitaries of several blocks of gates on equally many wires, in a few batched products.

    Gates with the same control and target are multiplied as 2×2 matrices, the results are written into matrices on all
    wires of the block, and these are multiplied pair by pair. blocks: each a sequence of gates in time order, on wires
    0 … n_wires−1, without SWAP. Wire 0 is the most significant bit of a row or column of a matrix.
    """

    def __init__(self, blocks: Sequence[Sequence[Gate]], n_wires: int) -> None:
        runs_of = [fuse(block) for block in blocks]
        self.n_blocks, self.size = len(blocks), 2**n_wires
        self.length = max([1, *map(len, runs_of)])  # shorter blocks and runs are padded by identities
        self.depth = max([1] + [len(run) for runs in runs_of for run in runs])
        rows = self.n_blocks * self.length
        gates = [_IDENTITY] * (self.depth * rows)
        spread = zeros(rows, 4, self.size, self.size, dtype=torch.complex128)
        rest = torch.eye(self.size, dtype=torch.complex128).repeat(rows, 1, 1, 1)
        for b, runs in enumerate(runs_of):
            for row, run in enumerate(runs, b * self.length):
                gates[row : row + len(run) * rows : rows] = run
                spread[row], rest[row, 0] = embedding(run[0], n_wires)
        self.gates = Gates(gates)
        self.spread, self.rest = Constant(spread.flatten(2)), Constant(rest.flatten(2))

    def __call__(self, theta: Tensor) -> Tensor:
        """theta (C, n_weights) → (n_blocks, C, 2^n_wires, 2^n_wires) complex."""
        first, *later = self.gates(theta).unflatten(0, (self.depth, -1)).unbind(0)
        for matrices in later:
            first = matrices @ first
        full = torch.baddbmm(self.rest(theta), first.flatten(2), self.spread(theta))
        full = full.unflatten(0, (self.n_blocks, self.length)).unflatten(-1, (self.size, self.size))
        return chain_product(full)


def embedding(gate: Gate, n_wires: int) -> tuple[Tensor, Tensor]:
    """How a 2×2 matrix U on ``gate``'s target, controlled as in ``gate``, fills a large matrix.

    Returns, with D = 2^n_wires: (4, D, D), where U_00, U_01, U_10 and U_11 go; and (D, D), the part that is there
    whatever U is (the identity where the control is 0).
    """
    size, (target,) = 2**n_wires, gate.targets
    bit = 1 << (n_wires - 1 - target)
    column = torch.arange(size)
    active = torch.ones(size, dtype=torch.bool)
    for control in gate.controls:
        active &= (column & (1 << (n_wires - 1 - control))) > 0
    rest = torch.diag((~active).to(torch.complex128))
    spread = zeros(4, size, size, dtype=torch.complex128)
    for a in (0, 1):
        for b in (0, 1):
            at = column[active & (((column & bit) > 0) == bool(b))]
            spread[2 * a + b, (at & ~bit) | (bit * a), at] = 1
    return spread, rest


def chain_product(factors: Tensor) -> Tensor:
    """(n, length, …, D, D) in time order → the products (n, …, D, D), pair by pair."""
    while (length := factors.shape[1]) > 1:
        pairs, odd = factors.split([length - length % 2, length % 2], 1)
        earlier, later = pairs.unflatten(1, (-1, 2)).unbind(2)
        factors = torch.cat([later @ earlier, odd], 1) if length % 2 else later @ earlier
    return factors[:, 0]
