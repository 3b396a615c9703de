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
from itertools import product

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from qdm_lib.engine_matrices import BlockUnitaries, Constant
from qdm_lib.engine_parts import ProductState, encoding_phase, z_signs
from qdm_lib.engine_plan import Chain, Encoding, Readout, Site

_CHUNK_BYTES = 2**21  # of amplitudes done at once: what the processor's cache can hold


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
        # Sites of the same size share their products: {number of wires: …}
        self.states, self.unitaries = {}, {}
        for k in {len(site.wires) for site in chain.sites}:
            same = [s for s in self.sites if len(s.site.wires) == k]
            self.states[k] = ProductState([[encoding[w] for w in s.site.wires] for s in same], n_inputs, n_weights)
            self.unitaries[k] = BlockUnitaries([b for s in same for b in s.blocks], k, n_weights)
        plain = [[w for w in site.wires if w in chain.plain] for site in chain.sites]
        self.signs = []
        for site, mine in zip(chain.sites, plain, strict=True):
            signs = z_signs(len(site.wires))[:, [site.wires.index(w) for w in mine]]
            self.signs.append(Constant(signs.repeat_interleave(2 * 2 ** len(site.right), 0)))
        self.readouts = [ReadoutPart(readout, chain, n_weights) for readout in chain.readouts]
        order = [w for mine in plain for w in mine] + [w for r in chain.readouts for w in r.outputs]
        self.wires = [wires[w] for w in order]
        self.row_bytes = 8 * sum(2 ** len(s.left + s.wires + s.right) for s in chain.sites)

    def __call__(self, x: Tensor, theta: Tensor) -> Tensor:
        unitaries = {k: iter(make(theta)) for k, make in self.unitaries.items()}
        matrices = [site(unitaries[len(site.site.wires)], theta) for site in self.sites]
        rows = max(1, _CHUNK_BYTES // (self.row_bytes * x.shape[1]))
        return torch.cat([self.run(part, theta, matrices) for part in x.split(rows)], -1)

    def run(self, x: Tensor, theta: Tensor, matrices: Sequence[Tensor]) -> Tensor:
        states = {k: iter(state(x, theta).unbind(1)) for k, state in self.states.items()}
        v = []
        for site, K in zip(self.sites, matrices, strict=True):
            amplitudes = torch.bmm(next(states[len(site.site.wires)]).mT, K)
            v.append(torch.view_as_complex(amplitudes.view(-1, *site.shape, 2)))
        n = len(v)
        found = Contraction.apply(*(signs(x) for signs in self.signs), *v)
        left, right = (None, *found[n : 2 * n - 1]), (*found[2 * n - 1 :], None)
        out = [*found[:n], *(readout(v, left, right, theta) for readout in self.readouts)]
        return torch.cat(out, -1).unflatten(0, (x.shape[1], x.shape[0])).mT


class Contraction(torch.autograd.Function):
    """Populations of every site, and the environments between them, from the vectors v_s.

    Each environment and each population is quadratic in the vectors: they are expectation values.
    So the backward pass is the same contraction once more. Let H be the sum of all observables,
    each times the gradient that arrived for it; then the gradient of v_s is 2 H v_s, with H seen
    from site s: what H does on the site, what it does to the left, and what it does to the right.
    """

    @staticmethod
    def forward(ctx, *arguments: Tensor) -> tuple[Tensor, ...]:
        """n sign tables (size · r · 2, outputs) and n vectors v_s (N, l, size, r) →
        n times ⟨Z⟩ (N, outputs), left environments of sites 1 …, right environments of sites 0 …
        """
        n = ctx.n = len(arguments) // 2
        signs, v = arguments[:n], arguments[n:]
        bra = [site.conj_physical() for site in v]
        left, right = [None], [None]
        from_left, from_right = [], []  # v_s with all that is left (right) of it summed up
        for s in range(n):
            from_left.append(absorb_left(left[s], v[s]))
            left.append(overlap_left(bra[s], from_left[s]) if s < n - 1 else None)
        for s in reversed(range(n)):
            from_right.insert(0, absorb_right(v[s], right[0]))
            right.insert(0, overlap_right(bra[s], from_right[0]) if s else None)
        left, right = left[:n], right[1:]
        z = [flat(a).mul(flat(b)).sum(1) @ table for a, b, table in zip(from_left, from_right, signs, strict=True)]
        ctx.save_for_backward(*signs, *v, *bra, *left[1:], *from_left, *from_right)
        ctx.set_materialize_grads(False)
        return (*z, *left[1:], *right[:-1])

    @staticmethod
    @once_differentiable
    def backward(ctx, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        n, saved = ctx.n, iter(ctx.saved_tensors)
        signs, v, bra = ([next(saved) for _ in range(n)] for _ in range(3))
        left = [None] + [next(saved) for _ in range(n - 1)]
        from_left, from_right = ([next(saved) for _ in range(n)] for _ in range(2))
        field = [None if g is None else (2 * g) @ table.T for g, table in zip(gradients[:n], signs, strict=True)]
        # An environment's gradient acts on the other side of its bond, where the rest of the chain is.
        of_left = [twice_hermitian(g) for g in gradients[n : 2 * n - 1]]
        of_right = [twice_hermitian(g) for g in gradients[2 * n - 1 :]]
        H_left, H_right, out = [None], None, [None] * n
        for s in range(n - 1):
            ket = plus(weighted(field[s], from_left[s]), H_left[s], lambda H, s=s: absorb_left(H, v[s]))
            H_left.append(plus(of_right[s], ket, lambda ket, s=s: overlap_left(bra[s], ket)))
        for s in reversed(range(n)):
            ket = plus(weighted(field[s], from_right[s]), H_right, lambda H, s=s: absorb_right(v[s], H))
            total = None if ket is None else absorb_left(left[s], ket)
            out[s] = plus(total, H_left[s], lambda H, s=s: absorb_left(H, from_right[s]))
            if s:
                H_right = plus(of_left[s - 1], ket, lambda ket, s=s: overlap_right(bra[s], ket))
        return (*[None] * n, *out)


def plus(a: Tensor | None, b: Tensor | None, function) -> Tensor | None:
    """a + function(b), where None stands for nothing."""
    if b is None:
        return a
    return function(b) if a is None else a + function(b)


def flat(v: Tensor) -> Tensor:
    """v (N, l, size, r) complex → (N, l, size · r · 2) real."""
    return torch.view_as_real(v).flatten(2)


def weighted(field: Tensor | None, ket: Tensor) -> Tensor | None:
    """The amplitudes of ket (N, l, size, r), each times its entry of field (N, size · r · 2)."""
    if field is None:
        return None
    return torch.view_as_complex((flat(ket) * field[:, None]).view(*ket.shape, 2))


def twice_hermitian(gradient: Tensor | None) -> Tensor | None:
    """The gradient of a Hermitian environment as an operator on the other side of the bond, twice."""
    return None if gradient is None else gradient.conj() + gradient.mT


def absorb_left(environment: Tensor | None, v: Tensor) -> Tensor:
    """Sum over the left bond of v (N, l, size, r) with (N, l', l); None is no bond."""
    return v if environment is None else torch.bmm(environment, v.flatten(2)).view(v.shape)


def absorb_right(v: Tensor, environment: Tensor | None) -> Tensor:
    """Sum over the right bond of v (N, l, size, r) with (N, r', r); None is no bond."""
    return v if environment is None else torch.bmm(v.flatten(1, 2), environment.mT).view(v.shape)


def overlap_left(bra: Tensor, ket: Tensor) -> Tensor:
    """Sum over all but the right bonds: (N, r', r)."""
    return torch.bmm(bra.flatten(1, 2).mT, ket.flatten(1, 2))


def overlap_right(bra: Tensor, ket: Tensor) -> Tensor:
    """Sum over all but the left bonds: (N, l', l)."""
    return torch.bmm(bra.flatten(2), ket.flatten(2).mT)


class ReadoutPart:
    """Outputs that need more than one site: tr(O rho) on the few wires of a readout.

    rho, the density matrix of these wires, comes from the chain for each row; O = B† Z B, with B
    the last crossing gates, from the weights alone. Of the first site's entries rho[x', x] only
    those are computed that O can meet: x' = x if its wires are controls only, and otherwise one of
    each conjugate pair, counted twice.
    """

    def __init__(self, readout: Readout, chain: Chain, n_weights: int) -> None:
        self.first, self.last, n = readout.first, readout.last, len(readout.wires)
        self.opens = [2**site.n_open for site in chain.sites]
        self.unitary = BlockUnitaries([readout.gates], n, n_weights)
        self.signs = Constant(z_signs(n)[:, [readout.wires.index(w) for w in readout.outputs]].T)
        opens = self.opens[self.first : self.last + 1]
        own = set(chain.sites[self.first].wires)
        changed = {readout.wires[g.targets[0]] for g in readout.gates}
        diagonal = own.isdisjoint(changed | set(readout.outputs))
        self.pairs = [(a, b) for a in range(opens[0]) for b in range(a, opens[0]) if a == b or not diagonal]
        # O comes as (bra wires, ket wires), rho as (bra, ket) of the first site, of the second, …
        index = torch.arange(4**n).reshape(*opens, *opens)
        index = index.permute([k for s in range(len(opens)) for k in (s, s + len(opens))])
        index = torch.stack([index[a, b].flatten() for a, b in self.pairs])
        twice = torch.tensor([[1.0 if a == b else 2.0] for a, b in self.pairs]).expand(index.shape)
        self.index, self.twice = Constant(index.flatten()), Constant(twice.flatten().double())

    def __call__(
        self, v: Sequence[Tensor], left: Sequence[Tensor | None], right: Sequence[Tensor | None], theta: Tensor
    ) -> Tensor:
        """→ (C · B, outputs)."""
        B = self.unitary(theta)[0]  # (C, 2^n, 2^n)
        O = B.mH[:, None] @ (self.signs(theta)[..., None] * B[:, None])  # noqa: E741  (C, outputs, 2^n, 2^n)
        O = O.conj().flatten(2)[..., self.index(theta)] * self.twice(theta)  # noqa: E741
        rho = torch.view_as_real(self.density(v, left, right))
        rho = rho.reshape(len(theta), -1, 2 * O.shape[2])
        return (rho @ torch.view_as_real(O.resolve_conj()).flatten(2).mT).flatten(0, 1)

    def density(self, v: Sequence[Tensor], left: Sequence[Tensor | None], right: Sequence[Tensor | None]) -> Tensor:
        """The entries conj(v[x']) v[x], summed over everything else: (N, entries)."""
        open_environments = [left[self.first]]
        for k in range(self.first, max(self.last, self.first + 1)):
            bonds = (self.opens[k], v[k].shape[3])
            bra = v[k].conj_physical().view(len(v[k]), -1, bonds[0] * bonds[1])
            found = [
                torch.bmm(bra.mT, absorb_left(E, v[k]).view(bra.shape)).view(-1, *bonds, *bonds)
                for E in open_environments
            ]
            pairs = self.pairs if k == self.first else list(product(range(bonds[0]), repeat=2))
            if k + 1 < self.last:
                open_environments = [E[:, a, :, b].contiguous() for E in found for a, b in pairs]
        if self.first == self.last or self.first + 1 == self.last:
            rest = torch.stack([found[0][:, a, :, b] for a, b in self.pairs], 1)
        else:
            rest = torch.stack(found, 1).transpose(3, 4).flatten(1, 3)
        rest = rest.flatten(2)  # (N, entries of all but the last site, r' · r)
        return torch.bmm(rest, self.closing(v[self.last], right[self.last])).flatten(1)

    def closing(self, v: Tensor, environment: Tensor | None) -> Tensor:
        """What the last site adds: (N, l' · l, x' · x); if it is the only site, its right environment."""
        if self.first == self.last:
            return v.new_ones(len(v), 1, 1) if environment is None else environment.flatten(1)[..., None]
        n_open = self.opens[self.last]

        def opened(t: Tensor) -> Tensor:  # (N, l, i · x, r) → (N, l · x, i · r)
            return t.unflatten(2, (-1, n_open)).transpose(2, 3).flatten(3).flatten(1, 2)

        full = torch.bmm(opened(v.conj_physical()), opened(absorb_right(v, environment)).mT)
        full = full.unflatten(2, (v.shape[1], n_open)).unflatten(1, (v.shape[1], n_open))  # l', x', l, x
        return full.transpose(2, 3).flatten(3).flatten(1, 2)
