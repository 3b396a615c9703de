"""Sites in a row that few gates join: an exact matrix product state, batched over rows and circuits.

A controlled gate is a sum over its control bit: |0⟩⟨0| ⊗ 1 + |1⟩⟨1| ⊗ U. Cut the wires into sites and write every gate
that joins two sites as such a sum; for a fixed choice of all bits, each site evolves alone, by matrices that depend on
the weights only. So the state is

    sum over bits b of  v_1(b) ⊗ v_2(b) ⊗ …,     v_s(b) = K_s(b) r_s,

with r_s the encoded inputs of site s. The bits that cross one gap between sites are one index, a *bond* of dimension
2^(gates over the gap); v_s has shape (left bond, amplitudes, right bond). Nothing is truncated. An expectation value is
the usual contraction of bra and ket, in which all that lies left (right) of a site is a small matrix, its left (right)
*environment*.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from qdm_lib.engine.contraction import contract
from qdm_lib.engine.matrices import BlockUnitaries, Constant
from qdm_lib.engine.parts import ProductState, encoding_phase, z_signs
from qdm_lib.engine.structure import Chain, Encoding, Readout, Site, roles

_CHUNK_BYTES = (
    3 * 2**21
)  # of amplitudes computed at once: few enough for the caches, enough to make each call worth while


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
        # axes: amplitudes, bits in the order in which they are made, passing bits twice, input amplitudes
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
    """A component as a chain of sites, as the head of this module explains it.

    chain: the sites and readouts, from `lay_chain`. wires: the circuit's wire behind each wire of the component.
    encoding: of each wire of the component.
    """

    def __init__(self, chain: Chain, wires: Sequence[int], encoding: Sequence[Encoding]) -> None:
        self.chain = chain
        self.sites = [SiteMatrices(site, encoding) for site in chain.sites]
        # Sites of the same size share their products: {number of wires: …}
        self.states, self.unitaries = {}, {}
        for k in {len(site.wires) for site in chain.sites}:
            same = [s for s in self.sites if len(s.site.wires) == k]
            self.states[k] = ProductState([[encoding[w] for w in s.site.wires] for s in same])
            self.unitaries[k] = BlockUnitaries([b for s in same for b in s.blocks], k)
        plain = [[w for w in site.wires if w in chain.plain] for site in chain.sites]
        self.signs = []
        for site, mine in zip(chain.sites, plain, strict=True):
            signs = z_signs(len(site.wires))[:, [site.wires.index(w) for w in mine]]
            self.signs.append(Constant(signs.repeat_interleave(2 * 2 ** len(site.right), 0)))
        self.readouts = [ReadoutPart(r, chain) for r in chain.readouts]
        self.roles = tuple(roles(chain))
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
            v.append(torch.view_as_complex(amplitudes.flatten(0, 1).unflatten(1, (*site.shape, 2))))
        z, rhos = contract(self.roles, [signs(x) for signs in self.signs], v)
        out = [*z, *(readout(rho, theta) for readout, rho in zip(self.readouts, rhos, strict=True))]
        return torch.cat(out, -1).unflatten(0, (x.shape[1], x.shape[0])).mT


class ReadoutPart:
    """Outputs that need more than one site: tr(O rho) on the few wires of a readout.

    rho, the density matrix of these wires, comes from the chain for each row; O = B† Z B comes from the weights alone,
    where B stands for the last crossing gates.
    """

    def __init__(self, readout: Readout, chain: Chain) -> None:
        n = len(readout.wires)
        self.unitary = BlockUnitaries([readout.gates], n)
        self.signs = Constant(z_signs(n)[:, [readout.wires.index(w) for w in readout.outputs]].T)
        # O comes as (bra wires, ket wires), rho as (bra, ket) of the first site, of the second, …
        mine = roles(chain)[readout.first : readout.last + 1]
        bits, diagonal = [role.bits for role in mine], mine[0].diagonal
        index = torch.arange(4**n).reshape(*bits, *bits)
        index = index.permute([k for s in range(len(bits)) for k in (s, s + len(bits))])
        self.index = Constant((index.diagonal(dim1=0, dim2=1).movedim(-1, 0) if diagonal else index).flatten())

    def __call__(self, rho: Tensor, theta: Tensor) -> Tensor:
        """rho (C · B, open pairs, bits²) → (C · B, outputs)."""
        B = self.unitary(theta)[0]  # (C, 2^n, 2^n)
        observables = B.mH[:, None] @ (self.signs(theta)[..., None] * B[:, None])  # (C, outputs, 2^n, 2^n)
        observables = observables.conj().flatten(2)[..., self.index(theta)].resolve_conj()
        observables = torch.view_as_real(observables).flatten(2)  # Re tr(O rho) = Re O* · Re rho + Im O* · Im rho
        rho = torch.view_as_real(rho).flatten(1).unflatten(0, (len(theta), rho.shape[0] // len(theta)))
        return (rho @ observables.mT).flatten(0, 1)
