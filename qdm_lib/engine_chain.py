"""Sites in a row that few gates join: an exact matrix product state, batched over rows and circuits.

A controlled gate is a sum over its control bit: |0⟩⟨0| ⊗ 1 + |1⟩⟨1| ⊗ U. Cut the wires into sites
and write every gate that joins two sites as this sum; for a fixed choice of all bits, each site
evolves alone, by matrices that depend on the weights only. So the state is

    sum over bits b of  v_1(b) ⊗ v_2(b) ⊗ …,     v_s(b) = K_s(b) r_s,

with r_s the encoded inputs of site s. The bits that cross one gap between sites are one index, a
*bond* of dimension 2^(gates over the gap); v_s has shape (left bond, amplitudes, right bond).
Nothing is cut off. An expectation value is the usual contraction of bra and ket, in which all that
lies left (right) of a site is a small matrix, its left (right) *environment*.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from qdm_lib.engine_matrices import BlockUnitaries, Constant
from qdm_lib.engine_parts import ProductState, encoding_phase, z_signs
from qdm_lib.engine_plan import Chain, Encoding, Readout, Site


class SiteMatrices:
    """K_s(b) for all choices of bits b at once: the weights' side of one site."""

    def __init__(self, site: Site, encoding: Sequence[Encoding]) -> None:
        self.site, n = site, len(site.wires)
        self.size = 2**n
        self.phase = Constant(encoding_phase([encoding[w] for w in site.wires]))
        self.blocks = [gates for kind, *_, gates in site.events if kind != "control"]
        bit = torch.arange(self.size)[:, None] >> torch.arange(n - 1, -1, -1) & 1  # (size, n)
        self.keeps = Constant(torch.stack([1 - bit, bit], -1).double())  # (size, n, 2)
        made = [bond for kind, bond, *_ in site.events if kind != "block"]
        passing = [bond for bond in site.left if bond in site.right]
        self.passing = Constant(torch.eye(2 ** len(passing), dtype=torch.complex128).flatten())
        # axes: amplitudes, bits in the order they are made, passing bits twice, input amplitudes
        axis = {bond: 1 + k for k, bond in enumerate(made)}
        n_made, n_pass = len(made), len(passing)
        left = {**axis, **{bond: 1 + n_made + k for k, bond in enumerate(passing)}}
        right = {**axis, **{bond: 1 + n_made + n_pass + k for k, bond in enumerate(passing)}}
        self.n_bits = n_made + 2 * n_pass
        last = 1 + self.n_bits
        self.axes = [last, *(left[b] for b in site.left), 0, *(right[b] for b in site.right)]
        self.shape = (2 ** len(site.left), self.size, 2 ** len(site.right))

    def __call__(self, unitaries: Iterator[Tensor], theta: Tensor) -> Tensor:
        """Matrices (C, size, size) of `blocks`, in their order → real (C, size, left · size · right · 2)."""
        K = torch.diag(self.phase(theta)).expand(len(theta), -1, -1)  # the encoding's phases
        for kind, *what in self.site.events:
            if kind == "block":
                K = (next(unitaries) @ K.flatten(2)).reshape(K.shape)
            elif kind == "control":  # bit b keeps the amplitudes whose control is b
                keep = self.keeps(K)[:, what[1]].view(self.size, *[1] * (K.ndim - 3), 2, 1)
                K = K.unsqueeze(-2) * keep
            else:  # bit 1 applies the gate to the target
                K = torch.stack([K, (next(unitaries) @ K.flatten(2)).reshape(K.shape)], -2)
        K = K.unsqueeze(-2) * self.passing(K)[:, None]
        K = K.reshape(len(K), self.size, *[2] * self.n_bits, self.size)
        K = K.permute(0, *(1 + k for k in self.axes))
        return torch.view_as_real(K.resolve_conj().contiguous()).reshape(len(K), self.size, -1)


class ChainPart:
    """A component as a chain of sites; see the head of this module.

    Args:
        chain: the sites and readouts, from `lay_chain`.
        wires: the circuit's wire behind each wire of the component.
        encoding: of each wire of the component.
    """

    def __init__(
        self, chain: Chain, wires: Sequence[int], encoding: Sequence[Encoding], n_inputs: int, n_weights: int
    ) -> None:
        self.chain = chain
        self.sites = [SiteMatrices(site, encoding) for site in chain.sites]
        self.states = [ProductState([[encoding[w] for w in site.wires]], n_inputs, n_weights) for site in chain.sites]
        sizes = sorted({len(site.wires) for site in chain.sites})
        self.unitaries = {
            k: BlockUnitaries([b for s in self.sites if s.size == 2**k for b in s.blocks], k) for k in sizes
        }
        plain = [[w for w in site.wires if w in chain.plain] for site in chain.sites]
        self.signs = []
        for site, mine in zip(chain.sites, plain, strict=True):
            signs = z_signs(len(site.wires))[:, [site.wires.index(w) for w in mine]]
            self.signs.append(Constant(signs) if mine else None)
        self.readouts = [ReadoutPart(readout, chain) for readout in chain.readouts]
        order = [w for mine in plain for w in mine] + [w for r in chain.readouts for w in r.outputs]
        self.wires = [wires[w] for w in order]

    def __call__(self, x: Tensor, theta: Tensor) -> Tensor:
        v = self.vectors(x, theta)
        left, right = environments(v)
        from_left = [absorb_left(L, site) for L, site in zip(left, v, strict=True)]
        from_right = [absorb_right(site, R) for site, R in zip(v, right, strict=True)]
        out = []
        for L, R, signs in zip(from_left, from_right, self.signs, strict=True):
            if signs is not None:
                both = torch.view_as_real(L) * torch.view_as_real(R)
                out.append(both.sum((1, 3, 4)) @ signs(x))
        out = [z.unflatten(0, x.shape[:2]) for z in out]
        out += [readout(v, left, right, theta).unflatten(0, x.shape[:2]) for readout in self.readouts]
        return torch.cat(out, -1)

    def vectors(self, x: Tensor, theta: Tensor) -> list[Tensor]:
        """v_s of every site: (C · B, left, size, right) complex."""
        unitaries = {2**k: iter(make(theta)) for k, make in self.unitaries.items()}
        out = []
        for site, state in zip(self.sites, self.states, strict=True):
            amplitudes = torch.bmm(state(x, theta)[0], site(unitaries[site.size], theta))
            out.append(torch.view_as_complex(amplitudes.view(-1, *site.shape, 2)))
        return out


def absorb_left(environment: Tensor | None, v: Tensor) -> Tensor:
    """Sum over the left bond of v (N, l, size, r) with (N, l', l); None is no bond."""
    return v if environment is None else torch.bmm(environment, v.flatten(2)).view(v.shape)


def absorb_right(v: Tensor, environment: Tensor | None) -> Tensor:
    """Sum over the right bond of v (N, l, size, r) with (N, r', r); None is no bond."""
    return v if environment is None else torch.bmm(v.flatten(1, 2), environment.mT).view(v.shape)


def environments(v: Sequence[Tensor]) -> tuple[list[Tensor | None], list[Tensor | None]]:
    """What lies left and right of each site, as (N, bra bond, ket bond) matrices."""
    left: list[Tensor | None] = [None]
    for site in v[:-1]:
        ket = absorb_left(left[-1], site)
        left.append(torch.bmm(site.flatten(1, 2).mH, ket.flatten(1, 2)))
    right: list[Tensor | None] = [None]
    for site in v[:0:-1]:
        ket = absorb_right(site, right[-1])
        right.append(torch.bmm(site.conj().flatten(2), ket.flatten(2).mT))
    return left, right[::-1]


class ReadoutPart:
    """Outputs that need more than one site: tr(O rho) on the few wires of a readout.

    rho, the density matrix of these wires, comes from the chain for each row; O = B† Z B, with B
    the last crossing gates, from the weights alone. rho is Hermitian: of the entries that differ
    in the last site's wires only one of each conjugate pair is computed, and counted twice.
    """

    def __init__(self, readout: Readout, chain: Chain) -> None:
        self.first, self.last, n = readout.first, readout.last, len(readout.wires)
        self.opens = [2**site.n_open for site in chain.sites]
        self.unitary = BlockUnitaries([readout.gates], n)
        self.signs = Constant(z_signs(n)[:, [readout.wires.index(w) for w in readout.outputs]].T)
        opens = self.opens[self.first : self.last + 1]
        self.pairs = [(a, b) for a in range(opens[-1]) for b in range(opens[-1]) if len(opens) == 1 or a <= b]
        # O arrives as (bra wires, ket wires); the density comes as (first site, last, …, second).
        sites = [0, *range(len(opens) - 1, 0, -1)]
        index = torch.arange(4**n).reshape(*opens, *opens)
        index = index.permute([k for s in sites for k in (s, s + len(opens))])
        if len(opens) > 1:
            index = torch.stack([index[:, :, a, b] for a, b in self.pairs], 2)
        twice = torch.tensor([1.0 + (a != b and len(opens) > 1) for a, b in self.pairs])
        twice = twice.view(-1, *[1] * (2 * len(opens) - 4)) if len(opens) > 1 else torch.ones(1)
        self.index, self.twice = Constant(index.flatten()), Constant(twice.expand(index.shape).flatten().double())

    def __call__(
        self, v: Sequence[Tensor], left: Sequence[Tensor | None], right: Sequence[Tensor | None], theta: Tensor
    ) -> Tensor:
        """→ (C · B, outputs)."""
        B = self.unitary(theta)[0]  # (C, 2^n, 2^n)
        O = B.mH[:, None] @ (self.signs(theta)[..., None] * B[:, None])  # noqa: E741  (C, outputs, 2^n, 2^n)
        O = O.conj().flatten(2)[..., self.index(theta)] * self.twice(theta)  # noqa: E741
        rho = self.density(v, left, right)
        rho = torch.view_as_real(rho).reshape(len(theta), -1, 2 * O.shape[2])
        return (rho @ torch.view_as_real(O.resolve_conj()).flatten(2).mT).flatten(0, 1)

    def density(self, v: Sequence[Tensor], left: Sequence[Tensor | None], right: Sequence[Tensor | None]) -> Tensor:
        """The entries conj(v[x']) v[x], summed over everything else: (N, entries)."""
        bra = absorb_left(left[self.first], v[self.first])  # the environment is Hermitian: bra or ket
        if self.first == self.last:
            ket = absorb_right(v[self.first], right[self.first])
            bra, ket = (self.open_first(t, self.first) for t in (bra, ket))
            return torch.bmm(bra.conj(), ket.mT).flatten(1)
        parts = [right[self.last]]
        for k in range(self.last, self.first, -1):
            opened = []
            size = v[k].shape[1] * self.opens[k]
            for environment in parts:
                ket = absorb_right(v[k], environment)
                gram = torch.bmm(v[k].conj().reshape(len(ket), size, -1), ket.reshape(len(ket), size, -1).mT)
                opened.append(gram.view(-1, *(v[k].shape[1], self.opens[k]) * 2))
            pairs = (
                self.pairs if k == self.last else [(a, b) for a in range(self.opens[k]) for b in range(self.opens[k])]
            )
            parts = [gram[:, :, a, :, b] for gram in opened for a, b in pairs]
        rest = torch.stack(parts, -1).flatten(1, 2)  # (N, bond' · bond, entries of the other sites)
        bra, ket = (self.open_first(t, self.first, keep_bond=True) for t in (bra, v[self.first]))
        own = torch.bmm(bra.conj(), ket.mT)  # (N, x' · r', x · r)
        shape = (self.opens[self.first], v[self.first].shape[3])
        own = own.view(-1, *shape, *shape).transpose(2, 3).flatten(3).flatten(1, 2)  # (N, x' · x, r' · r)
        return torch.bmm(own, rest).flatten(1)

    def open_first(self, t: Tensor, k: int, keep_bond: bool = False) -> Tensor:
        """v (N, l, x · i, r) → (N, x, l · i · r), or (N, x · r, l · i) for ``keep_bond``."""
        t = t.unflatten(2, (self.opens[k], -1))  # N, l, x, i, r
        if keep_bond:
            return t.permute(0, 2, 4, 1, 3).flatten(3).flatten(1, 2)
        return t.transpose(1, 2).flatten(2)
