"""The fast exact engine: the same numbers as the statevector, planned from the circuit's structure.

Nothing is approximated. The engine looks for what a circuit does *not* couple:

1. wires that no gate connects are independent components (`qdm_lib.engine.structure`);
2. a small component whose inputs enter only at the start is one matrix, made from the weights once for all rows
   (`qdm_lib.engine.parts`);
3. a component whose wires fall into sites joined by few controlled gates is an exact matrix product state
   (`qdm_lib.engine.chain`);
4. everything else runs as a statevector, with neighbouring gates multiplied first.

A cost estimate chooses (`qdm_lib.engine.plan`); `explain` prints the choice and the counts behind it. docs/engine.md
tells what follows for the circuits of arXiv:2402.16147.
"""

from collections.abc import Callable
from functools import lru_cache, wraps

import torch
from torch import Tensor

from qdm_lib.circuits import Circuit
from qdm_lib.engine.chain import ChainPart
from qdm_lib.engine.explanation import Explanation, explain
from qdm_lib.engine.matrices import Constant, in_clean_thread
from qdm_lib.engine.parts import StatevectorPart, UnitaryPart
from qdm_lib.engine.plan import decide

__all__ = ["Explanation", "explain", "fast_simulate", "make_plan"]

Part = UnitaryPart | ChainPart | StatevectorPart


def make_plan(circuit: Circuit, force: str | None = None) -> tuple[list[Part], Constant]:
    """Get a circuit ready to run: one part for each component; small components of one size share a part.

    The choice is that of `qdm_lib.engine.plan.decide`: for every component the cheapest of "unitary", "chain" (of all
    ways to cut that were tried) and "statevector". Plans are kept, so a circuit is planned once in a process. force:
    take this way wherever it is possible and the statevector elsewhere, for tests; the answer is the same. Returns the
    parts, and for each wire of the circuit the place of its output among theirs, one part after another.

    ValueError where ``force`` is none of the three ways.
    """
    return _plan(circuit, force)


@lru_cache(maxsize=256)
def _plan(circuit: Circuit, force: str | None) -> tuple[list[Part], Constant]:
    return in_clean_thread(_new_plan, circuit, force)


def _new_plan(circuit: Circuit, force: str | None) -> tuple[list[Part], Constant]:
    plan = decide(circuit, force)
    parts, small = [], {}
    for component in plan.components:
        wires, encoding, gates = component.wires, component.encoding, component.gates
        if component.chosen.kind == "unitary":
            small.setdefault(len(wires), []).append((wires, encoding, gates))
        elif component.chosen.kind == "chain":
            parts.append(ChainPart(component.chosen.chain, wires, encoding))
        else:
            parts.append(StatevectorPart(wires, encoding, gates))
    parts += [UnitaryPart(group) for group in small.values()]
    order = [w for part in parts for w in part.wires]
    return parts, Constant(torch.tensor([order.index(w) for w in plan.where]))


def outside_the_compiler(function: Callable) -> Callable:
    """Keep torch.compile from looking inside: it would trace the planner, for minutes, and gain nothing.

    The compiler is loaded only where it is in use.
    """

    @wraps(function)
    def call(*arguments, **options):
        inside = torch.compiler.is_compiling()
        return (torch.compiler.disable(function) if inside else function)(*arguments, **options)

    return call


@outside_the_compiler
def fast_simulate(circuit: Circuit, x: Tensor, theta: Tensor, force: str | None = None) -> Tensor:
    """⟨Z⟩ of every wire for n independent circuits with one ansatz, exact, differentiable in x and theta.

    x: (B, n, n_inputs) float32 or float64; row b of circuit k is ``x[b, k]``. B may be 0. theta: (n, n_weights), the
    weights of each circuit, in the dtype of x. Returns (B, n, n_wires), in [−1, 1] up to rounding, in the dtype of x.
    force: for tests, see `make_plan`.

    ValueError where x or theta has another shape or dtype, or ``force`` is unknown.
    """
    check_bank(circuit, x, theta)
    parts, order = make_plan(circuit, force)
    out = torch.cat([part(x, theta) for part in parts], 1)  # (C, wires, B)
    return out.index_select(1, order(x)).permute(2, 0, 1)


def check_bank(circuit: Circuit, x: Tensor, theta: Tensor) -> None:
    """Raise ValueError unless x and theta have the shapes and dtypes that `fast_simulate` takes."""
    if x.ndim != 3 or x.shape[2] != circuit.n_inputs:
        raise ValueError(f"{circuit.name}: wanted inputs of shape (B, n, {circuit.n_inputs}), got {tuple(x.shape)}.")
    if x.shape[1] < 1 or theta.shape != (x.shape[1], circuit.n_weights):
        wanted = f"of shape (n, {circuit.n_weights}) for n = {x.shape[1]} circuits, at least one"
        raise ValueError(f"{circuit.name}: wanted weights {wanted}, got {tuple(theta.shape)}.")
    if x.dtype not in (torch.float32, torch.float64) or theta.dtype != x.dtype:
        got = f"{x.dtype} and {theta.dtype}"
        raise ValueError(f"{circuit.name}: wanted torch tensors, both float32 or both float64, got {got}.")
