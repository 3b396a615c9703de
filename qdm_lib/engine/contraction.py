"""The contraction of a chain of sites, bra against ket.

Site s of a chain has vectors v_s of shape (N, l, size, r), one for each value of its left and its right bond (see
`qdm_lib.engine.chain`); N counts the rows of all circuits. All that lies left of a site enters through a small matrix
(N, bra, ket) on its left bond, its left *environment*, and so does all that lies right of it.

Some outputs need the density matrix rho of wires on several sites, a *readout*. On the way from its first to its last
site the bits of these wires stay open: then there is one left environment for each pair (bra bits, ket bits), and the
plain environment is the sum of those with equal bits.

Products of matrices with complex numbers need conjugates on the way back, and torch makes a copy for each. The bra is
the conjugate of the ket and at hand, so the two products of a sweep say themselves what their gradients are.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from qdm_lib.engine.attention import backward_alone
from qdm_lib.engine.structure import Role

Environment = Tensor | None  # None: nothing on that side; the bond has dimension 1


def contract(roles: Sequence[Role], signs: Sequence[Tensor], v: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
    """⟨Z⟩ of the wires read on one site, and rho of every readout, from the vectors of a chain.

    signs: a table (size · r · 2, outputs) for each site. v: the vectors (N, l, size, r) of each site. Returns tensors
    (N, outputs), one for each site, and (N, open pairs, bits²), one for each site that ends a readout.
    """
    sweeps = Sweeps(roles, v)
    z = [sweeps.populations(k) @ table for k, table in enumerate(signs)]
    return z, [sweeps.rho(k) for k, role in enumerate(roles) if role.ends]


class Sweeps:
    """One sweep over a chain from each side: the environments of every site."""

    def __init__(self, roles: Sequence[Role], v: Sequence[Tensor]) -> None:
        own = backward_alone()  # then the two products have their own gradients, and no other passes the bra
        self.absorb, self.overlap = (Absorb.apply, Overlap.apply) if own else (Absorb.forward, Overlap.forward)
        self.roles, self.v = roles, v
        self.bra = [(site.detach() if own else site).conj().resolve_conj() for site in v]
        self.open: list[Environment] = [None]  # left of each site, for each open pair: (N, pairs, l', l)
        self.equal = [[0]]  # which of these pairs have equal bits
        self.right: list[Environment] = [None]
        self.from_left, self.from_right = [], []  # v_s, with all that lies left (right) of it summed
        for role, site, bra in zip(roles, v, self.bra, strict=True):
            self.sweep_right(role, site, bra, last=len(self.from_left) + 1 == len(v))
        for site, bra in zip(v[::-1], self.bra[::-1], strict=True):
            self.from_right.insert(0, self.absorb_right(site, bra, self.right[0]))
            if len(self.from_right) < len(v):  # summed over all but the left bond: (N, l', l)
                ket = self.from_right[0].flatten(2)
                self.right.insert(0, self.overlap(site.flatten(2), ket, bra.flatten(2), True))

    def sweep_right(self, role: Role, v: Tensor, bra: Tensor, last: bool) -> None:
        """One site further: the sum over all that lies left of it, and the environments of the next site."""
        pairs, equal = self.open[-1], self.equal[-1]
        if role.passes:
            kets = [v] if pairs is None else [self.absorb_left(E, v, bra) for E in pairs.unbind(1)]
            self.from_left.append(sum((kets[q] for q in equal[1:]), kets[equal[0]]))
            self.open.append(open_pairs([self.overlap_left(v, ket, bra, role.bits) for ket in kets], role))
            self.equal.append([q * role.pairs + k for q in equal for k in role.equal])
            return
        self.from_left.append(self.absorb_left(None if pairs is None else pairs[:, equal].sum(1), v, bra))
        if not last:
            self.open.append(self.overlap_left(v, self.from_left[-1], bra)[:, None])
            self.equal.append([0])

    def absorb_left(self, environment: Environment, v: Tensor, bra: Tensor) -> Tensor:
        """An environment (N, l', l) times v (N, l, size, r), summed over the left bond l."""
        return v if environment is None else self.absorb(environment, v.flatten(2), bra.flatten(2), False).view(v.shape)

    def absorb_right(self, v: Tensor, bra: Tensor, environment: Environment) -> Tensor:
        """v (N, l, size, r) times an environment (N, r', r), summed over the right bond r."""
        if environment is None:
            return v
        return self.absorb(environment, last_bits(v, 1), last_bits(bra, 1), True).view(v.shape)

    def overlap_left(self, v: Tensor, ket: Tensor, bra: Tensor, bits: int = 1) -> Tensor:
        """Bra times ket, summed over all but the right bond and the last bits: (N, bits · r', bits · r)."""
        return self.overlap(last_bits(v, bits), last_bits(ket, bits), last_bits(bra, bits), False)

    def populations(self, k: int) -> Tensor:
        """|amplitude|² on site k: (N, size · r · 2), still to be summed over r and over real and imaginary parts."""
        return (flat(self.from_left[k]) * flat(self.from_right[k])).sum(1)

    def rho(self, k: int) -> Tensor:
        """The density matrix that is read on site k, the last of its readout: (N, open pairs, bits²), bra first."""
        pairs = self.v[k].new_ones(len(self.v[k]), 1, 1) if self.open[k] is None else self.open[k].flatten(2)
        bits, (rows, left, _, _) = self.roles[k].bits, self.v[k].shape
        parts = (first_bits(some[k], bits) for some in (self.v, self.from_right, self.bra))
        full = self.overlap(*parts, True)
        closing = full.view(rows, left, bits, left, bits).transpose(2, 3).reshape(rows, left * left, bits * bits)
        return torch.bmm(pairs, closing)


class Absorb(torch.autograd.Function):
    """E·v, or v·Eᵀ from the right, for matrices E (N, m, n) and v, and v* at hand.

    From the gradient g: E gets g·v†, v gets E†·g; from the right gᵀ·v* and g·E*.
    """

    generate_vmap_rule = True  # for torch.func

    @staticmethod
    def forward(E: Tensor, v: Tensor, bra: Tensor, right: bool) -> Tensor:
        return torch.bmm(v, E.mT) if right else torch.bmm(E, v)

    @staticmethod
    def setup_context(ctx, inputs: tuple, output: Tensor) -> None:
        *tensors, ctx.right = inputs
        ctx.save_for_backward(*tensors)

    @staticmethod
    def backward(ctx, g: Tensor) -> tuple[Tensor | None, ...]:
        E, v, bra = ctx.saved_tensors
        bra = v.conj() if torch.is_grad_enabled() else bra  # where the gradient itself will be differentiated
        if ctx.right:
            return torch.bmm(g.mT, bra), torch.bmm(g, E.conj()), None, None
        return torch.bmm(g, bra.mT), torch.bmm(E.mH, g), None, None


class Overlap(torch.autograd.Function):
    """v†·ket, or v*·ketᵀ from the right, for matrices v and ket, and v* at hand.

    From the gradient g: v gets ket·g†, ket gets v·g; from the right g*·ket and gᵀ·v.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(v: Tensor, ket: Tensor, bra: Tensor, right: bool) -> Tensor:
        return torch.bmm(bra, ket.mT) if right else torch.bmm(bra.mT, ket)

    @staticmethod
    def setup_context(ctx, inputs: tuple, output: Tensor) -> None:
        v, ket, _, ctx.right = inputs
        ctx.save_for_backward(v, ket)

    @staticmethod
    def backward(ctx, g: Tensor) -> tuple[Tensor | None, ...]:
        v, ket = ctx.saved_tensors
        if ctx.right:
            return torch.bmm(g.conj(), ket), torch.bmm(g.mT, v), None, None
        return torch.bmm(ket, g.mH), torch.bmm(v, g), None, None


def last_bits(v: Tensor, bits: int) -> Tensor:
    """v (N, l, size, r) with its last bits beside the right bond: (N, l · rest, bits · r)."""
    rows, left, size, right = v.shape
    return v.view(rows, left * size // bits, bits * right)


def first_bits(v: Tensor, bits: int) -> Tensor:
    """v (N, l, size, r) with its last bits beside the left bond: (N, l · bits, rest · r)."""
    return v.unflatten(2, (v.shape[2] // bits, bits)).transpose(2, 3).flatten(3).flatten(1, 2)


def open_pairs(matrices: Sequence[Tensor], role: Role) -> Tensor:
    """Matrices (N, bits · r', bits · r), one for each pair so far → (N, pairs, r', r) with the new pairs."""
    blocks = torch.stack(matrices, 1)
    right = blocks.shape[3] // role.bits
    blocks = blocks.unflatten(3, (role.bits, right)).unflatten(2, (role.bits, right))
    if role.diagonal:  # axes (N, pairs so far, bra bits, r', ket bits, r)
        return blocks.diagonal(dim1=2, dim2=4).movedim(-1, 2).flatten(1, 2)
    return blocks.transpose(3, 4).flatten(1, 3)


def flat(v: Tensor) -> Tensor:
    """v (N, l, size, r) complex → (N, l, size · r · 2) real."""
    return torch.view_as_real(v).flatten(2)
