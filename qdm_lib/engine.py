"""The fast exact engine: the same numbers as the statevector, planned from the circuit's structure."""

from functools import lru_cache

import torch
from torch import Tensor

from qdm_lib.circuits import Circuit
from qdm_lib.engine_chain import ChainPart
from qdm_lib.engine_matrices import Constant
from qdm_lib.engine_parts import StatevectorPart, UnitaryPart
from qdm_lib.engine_plan import components, lay_chain, partitions, reads_input, restrict, split_encoding, untangle

_UNITARY_WIRES = 5  # up to here the whole component is one matrix


@lru_cache(maxsize=256)
def make_plan(circuit: Circuit, force: str | None = None):
    gates, where = untangle(circuit)
    sizes = circuit.n_inputs, circuit.n_weights
    parts, small = [], {}
    for wires in components(gates, circuit.n_wires):
        mine = restrict(gates, wires)
        encoding, rest = split_encoding(mine, len(wires))
        if len(wires) <= _UNITARY_WIRES and not any(map(reads_input, rest)) and force in (None, "unitary"):
            small.setdefault(len(wires), []).append((wires, encoding, rest))
            continue
        chain = None
        if force in (None, "chain"):
            for sites in partitions(rest, len(wires)):
                if len(sites) == min(3, len(wires)):
                    chain = lay_chain(rest, sites)
        if chain:
            parts.append(ChainPart(chain, wires, encoding, *sizes))
        else:
            parts.append(StatevectorPart(wires, encoding, rest, *sizes))
    parts += [UnitaryPart(group, *sizes) for group in small.values()]
    order = [w for part in parts for w in part.wires]
    return parts, Constant(torch.tensor([order.index(w) for w in where]))


def fast_simulate(circuit: Circuit, x: Tensor, theta: Tensor, force=None) -> Tensor:
    """⟨Z⟩ of every wire for n independent circuits, x (B, n, n_inputs) and theta (n, n_weights) → (B, n, n_wires)."""
    parts, order = make_plan(circuit, force)
    out = torch.cat([part(x, theta) for part in parts], 1)  # (C, wires, B)
    return out.index_select(1, order(x)).permute(2, 0, 1)
