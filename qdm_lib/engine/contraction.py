"""The contraction of a chain of sites, bra against ket, with a backward pass written by hand.

Site s of a chain has vectors v_s of shape (N, l, size, r), one for each value of its left and its
right bond (see `qdm_lib.engine.chain`); N counts the rows of all circuits. All that lies left of
a site enters through a small matrix (N, bra, ket) on its left bond, its left *environment*, and so
does all that lies right of it.

Some outputs need the density matrix rho of wires on several sites, a *readout*. On the way from
its first to its last site the bits of these wires stay open: then there is one left environment
for each pair (bra bits, ket bits), and the plain environment is the sum of those with equal bits.

Backward: all results are expectation values, quadratic in the vectors. Let H be the sum of the
measured operators, each times the gradient that arrived for it. Then the gradient of v_s is
2 H v_s, and sweeps like the forward ones collect what H does left of a site, on it, right of it.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from qdm_lib.engine.structure import Role

Environment = Tensor | None  # None: nothing on that side; the bond has dimension 1


def last_bits(v: Tensor, bits: int) -> Tensor:
    """v (N, l, size, r) with its last bits beside the right bond: (N, l · rest, bits · r)."""
    rows, left, size, right = v.shape
    return v.view(rows, left * size // bits, bits * right)


def absorb_left(environment: Environment, v: Tensor, onto: Tensor | None = None) -> Tensor:
    """Sum over the left bond of v (N, l, size, r) with (N, l', l), added to ``onto``."""
    if environment is None:
        return v if onto is None else onto + v
    return add_product(onto, environment, v.flatten(2)).view(v.shape)


def absorb_right(v: Tensor, environment: Environment, bits: int = 1, onto: Tensor | None = None) -> Tensor:
    """Sum over the right bond of v (N, l, size, r), and its last bits, with (N, bits · r', bits · r)."""
    if environment is None:
        return v if onto is None else onto + v
    return add_product(onto, last_bits(v, bits), environment.mT).view(v.shape)


def add_product(onto: Tensor | None, a: Tensor, b: Tensor) -> Tensor:
    """onto + a @ b in one operation, for batches of matrices."""
    return torch.bmm(a, b) if onto is None else torch.baddbmm(onto.reshape(len(a), a.shape[1], b.shape[2]), a, b)


def overlap_left(bra: Tensor, ket: Tensor, bits: int = 1) -> Tensor:
    """Sum over all but the right bond and the last bits: (N, bits · r', bits · r)."""
    return torch.bmm(last_bits(bra, bits).mT, last_bits(ket, bits))


def overlap_right(bra: Tensor, ket: Tensor) -> Tensor:
    """Sum over all but the left bond: (N, l', l)."""
    return torch.bmm(bra.flatten(2), ket.flatten(2).mT)


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


def close_pairs(blocks: Tensor, role: Role) -> Sequence[Tensor]:
    """The inverse of `open_pairs`; pairs that are not kept are zero."""
    rows, pairs, right, _ = blocks.shape
    bits, before = role.bits, pairs // role.pairs
    if role.diagonal:
        blocks = blocks.unflatten(1, (before, bits)).movedim(2, -1).diag_embed(0, 2, 4)
    else:
        blocks = blocks.unflatten(1, (before, bits, bits)).transpose(3, 4)
    return blocks.reshape(rows, before, bits * right, bits * right).unbind(1)


def flat(v: Tensor) -> Tensor:
    """v (N, l, size, r) complex → (N, l, size · r · 2) real."""
    return torch.view_as_real(v).flatten(2)


def weighted(field: Tensor | None, ket: Tensor) -> Tensor | None:
    """The amplitudes of ket (N, l, size, r), each times its entry of field (N, size · r · 2)."""
    if field is None:
        return None
    return torch.view_as_complex((flat(ket) * field[:, None]).view(*ket.shape, 2))


def total(*terms: Tensor | None) -> Tensor | None:
    """The sum of what is not None."""
    found = [t for t in terms if t is not None]
    return sum(found[1:], found[0]) if found else None


class Sweeps:
    """The forward sweeps over a chain. What they find is kept for the backward sweeps."""

    def __init__(self, roles: Sequence[Role], v: Sequence[Tensor]) -> None:
        self.roles, self.v, self.bra = roles, v, [site.conj_physical() for site in v]
        self.open: list[Environment] = [None]  # left of each site, for each open pair: (N, pairs, l', l)
        self.equal = [[0]]  # which of these pairs have equal bits
        self.left: list[Environment] = []  # their sum
        self.right: list[Environment] = [None]
        self.from_left, self.from_right = [], []  # v_s with all to its left (right) summed up
        for role, site, bra in zip(roles, v, self.bra, strict=True):
            self.sweep_right(role, site, bra, last=len(self.left) + 1 == len(v))
        for site, bra in zip(v[::-1], self.bra[::-1], strict=True):
            self.from_right.insert(0, absorb_right(site, self.right[0]))
            if len(self.from_right) < len(v):
                self.right.insert(0, overlap_right(bra, self.from_right[0]))

    def sweep_right(self, role: Role, v: Tensor, bra: Tensor, last: bool) -> None:
        """One site further: its own left environment, the sum over all to its left, and the next environments."""
        pairs, equal = self.open[-1], self.equal[-1]
        self.left.append(None if pairs is None else total(*(pairs[:, q] for q in equal)))
        if role.passes:
            kets = [v] if pairs is None else [absorb_left(E, v) for E in pairs.unbind(1)]
            self.from_left.append(total(*(kets[q] for q in equal)))
            self.open.append(open_pairs([overlap_left(bra, ket, role.bits) for ket in kets], role))
            self.equal.append([q * role.pairs + k for q in equal for k in role.equal])
        else:
            self.from_left.append(absorb_left(self.left[-1], v))
            if not last:
                self.open.append(overlap_left(bra, self.from_left[-1])[:, None])
                self.equal.append([0])

    def populations(self, k: int) -> Tensor:
        """|amplitude|² on site k: (N, size · r · 2), to be summed over r and real and imaginary part."""
        return (flat(self.from_left[k]) * flat(self.from_right[k])).sum(1)

    def pairs(self, k: int) -> Tensor:
        """The environments left of site k for each open pair: (N, pairs, l' · l)."""
        return self.v[k].new_ones(len(self.v[k]), 1, 1) if self.open[k] is None else self.open[k].flatten(2)

    def closing(self, k: int) -> Tensor:
        """What the last site of a readout adds to rho: (N, l' · l, x' · x) for its bits x."""
        bits, (rows, left, _, _) = self.roles[k].bits, self.v[k].shape
        full = torch.bmm(first_bits(self.bra[k], bits), first_bits(self.from_right[k], bits).mT)
        return full.view(rows, left, bits, left, bits).transpose(2, 3).reshape(rows, left * left, bits * bits)

    def rho(self, k: int) -> Tensor:
        """The density matrix that is read on site k: (N, open pairs, bits²), bra first."""
        return torch.bmm(self.pairs(k), self.closing(k))


def gradients(s: Sweeps, field: Sequence[Tensor | None], H_rho: Sequence[Tensor | None]) -> list[Tensor | None]:
    """2 H v_s for every site.

    Args:
        s: the forward sweeps.
        field: for each site, twice the factor of each population in H, or None.
        H_rho: for each site that ends a readout, twice H on its wires (N, open pairs, bits²).
    """
    n = len(s.v)
    # From left to right: H_left[k] is all that H does left of site k, on the left bond of k. On each
    # site, H acts by the populations there, by what came from the left, and by a readout that ends here.
    here = [None if H is None else act_on_last(s, k, H) for k, H in enumerate(H_rho)]
    H_left: list[Environment] = [None]
    for k in range(n - 1):
        ket = total(weighted(field[k], s.from_left[k]), here[k])
        ket = ket if H_left[k] is None else absorb_left(H_left[k], s.v[k], ket)
        H_left.append(None if ket is None else overlap_left(s.bra[k], ket))
    # From right to left: H_right is all that H does right of site k, on its right bond, for each open
    # pair (N, pairs, r', r). The sum of all ways in which H acts on v_k is the gradient.
    out, H_right = [None] * n, None
    for k in reversed(range(n)):
        role, v, own = s.roles[k], s.v[k], weighted(field[k], s.from_right[k])
        lefts = [None] if s.open[k] is None else s.open[k].unbind(1)
        if role.passes and H_right is not None:  # each pair of open bits has its own H on the right
            owns = [own if q in s.equal[k] else None for q in range(len(lefts))]
            blocks = zip(close_pairs(H_right, role), owns, strict=True)
            kets = [absorb_right(v, H, role.bits, onto) for H, onto in blocks]
            acted = list(zip(lefts, kets, strict=True))
        else:
            ket = own if H_right is None else absorb_right(v, H_right[:, 0], onto=own)
            kets = [ket if q in s.equal[k] else None for q in range(len(lefts))]
            acted = [(s.left[k], ket)]
        if H_left[k] is not None:
            acted.append((H_left[k], s.from_right[k]))
        if here[k] is not None:
            out[k] = absorb_right(here[k], s.right[k])
        for environment, ket in acted:
            out[k] = out[k] if ket is None else absorb_left(environment, ket, out[k])
        if k:
            H_right = operators_left_of(s, k, kets, H_rho[k])
    return out


def act_on_last(s: Sweeps, k: int, H: Tensor) -> Tensor:
    """H of a readout applied to v_k of its last site, everything left of it summed up."""
    v, bits = s.v[k], s.roles[k].bits
    rows, left, size, right = v.shape
    operator = torch.bmm(s.pairs(k).mT, H).view(rows, left, left, bits, bits).transpose(2, 3)
    out = torch.bmm(operator.reshape(rows, left * bits, left * bits), first_bits(v, bits))
    return out.view(rows, left, bits, size // bits, right).transpose(2, 3).reshape(v.shape)


def operators_left_of(s: Sweeps, k: int, kets: Sequence[Tensor | None], H: Tensor | None) -> Tensor | None:
    """What H does on site k and right of it, as an operator on its left bond for each open pair."""
    same: dict[int, Tensor] = {}  # kets that are one tensor need one product
    for ket in kets:
        if ket is not None and id(ket) not in same:
            same[id(ket)] = overlap_right(s.bra[k], ket)
    found = None
    if same:
        nothing = torch.zeros_like(next(iter(same.values())))
        found = torch.stack([nothing if ket is None else same[id(ket)] for ket in kets], 1)
    if H is None:
        return found
    left = s.v[k].shape[1]
    return total(found, torch.bmm(H, s.closing(k).mT).unflatten(2, (left, left)))


class Contraction(torch.autograd.Function):
    """⟨Z⟩ of the wires read on one site, and rho of every readout, from the vectors of a chain.

    ``Contraction.apply(roles, *signs, *v)``, with for each of n sites a sign table (size · r · 2,
    outputs) and v_s (N, l, size, r), returns n tensors (N, outputs) and, for each site that ends a
    readout, rho (N, open pairs, bits²).
    """

    @staticmethod
    def forward(ctx, roles: tuple[Role, ...], *arguments: Tensor) -> tuple[Tensor, ...]:
        n = len(roles)
        ctx.signs, v = arguments[:n], arguments[n:]
        ctx.save_for_backward(*v)
        ctx.sweeps = Sweeps(roles, v)
        ctx.set_materialize_grads(False)
        z = [ctx.sweeps.populations(k) @ signs for k, signs in enumerate(ctx.signs)]
        return (*z, *(ctx.sweeps.rho(k) for k, role in enumerate(roles) if role.ends))

    @staticmethod
    def backward(ctx, *arrived: Tensor | None) -> tuple[Tensor | None, ...]:
        sweeps, roles, n = ctx.sweeps, ctx.sweeps.roles, len(ctx.signs)
        if torch.is_grad_enabled():  # the gradient itself will be differentiated: sweep where autograd watches
            sweeps = Sweeps(roles, ctx.saved_tensors)
        field = [None if g is None else (2 * g) @ table.T for g, table in zip(arrived[:n], ctx.signs, strict=True)]
        of_rho = iter(arrived[n:])
        H_rho = [next(of_rho) if role.ends else None for role in roles]
        H_rho = [None if g is None else twice_hermitian(g, readout_of(roles, k)) for k, g in enumerate(H_rho)]
        return (None, *[None] * n, *gradients(sweeps, field, H_rho))


def readout_of(roles: Sequence[Role], last: int) -> Sequence[Role]:
    """The roles of the sites of the readout that ends on site ``last``."""
    first = last
    while first and roles[first - 1].passes:
        first -= 1
    return roles[first : last + 1]


def twice_hermitian(gradient: Tensor, roles: Sequence[Role]) -> Tensor:
    """The gradient g of rho (N, open pairs, bits²) as the operator g* + g^T, bra and ket swapped in g^T."""
    axes = [(role.bits,) if role.diagonal else (role.bits, role.bits) for role in roles]
    open_axes = gradient.view(len(gradient), *(b for pair in axes for b in pair))
    order, at = [0], 1
    for pair in axes:
        order += [at] if len(pair) == 1 else [at + 1, at]
        at += len(pair)
    return (open_axes.conj() + open_axes.permute(order)).reshape(gradient.shape)
