"""Read a PennyLane quantum function as a list of `Gate`s (behind `Circuit.from_pennylane`).

The function is run on a torch vector of inputs and one of weights. Autograd then tells which entry each angle depends
on, and with what slope: angle = scale * value + offset. One point cannot tell an affine angle from abs, relu or a gate
behind an ``if``, so the function is run on three points.
"""

import inspect
from collections.abc import Callable, Iterator

import pennylane as qml
import torch

from qdm_lib.circuits import GATES, Gate

# PennyLane operations that equal several of our gates, or one of ours up to a global phase (which no ⟨Z⟩ sees).
_SEVERAL = {"Rot": ("RZ", "RY", "RZ"), "PhaseShift": ("RZ",), "U1": ("RZ",)}
_OF_NAME = dict.fromkeys(("inputs", "x", "features"), "inputs") | dict.fromkeys(
    ("weights", "theta", "params", "w"), "weights"
)
_NO_EFFECT = {"Identity", "Barrier", "GlobalPhase", "WireCut", "Snapshot"}

# The points, made from values in [0.1, 1.1): all positive; all negative; larger ones of both signs.
_POINTS = (lambda value: value, lambda value: -value, lambda value: 10 * (value - 0.6))


def trace(fn: Callable, n_inputs: int, n_weights: int) -> tuple[list[Gate], list | None]:
    """The gates that ``fn`` applies, and the wires whose ⟨Z⟩ it returns (None without a return).

    Arguments and errors as in `Circuit.from_pennylane`.
    """
    fn = fn.func if isinstance(fn, qml.QNode) else fn
    (first, measured), *others = (_run(fn, n_inputs, n_weights, seed) for seed in range(len(_POINTS)))
    if any([gate[:2] for gate in other] != [gate[:2] for gate in first] for other, _ in others):
        raise ValueError("The quantum function applies other gates for other values; a Circuit is fixed.")
    if not first:
        raise ValueError("The quantum function applies no gate; is it a function that only returns another one?")
    gates = []
    for (name, wires, angle), *again in zip(first, *(other for other, _ in others), strict=True):
        if angle is None:
            gates.append(Gate(name, wires))
            continue
        affine = _affine(name, *angle)
        if any(_rounded(_affine(name, *other)) != _rounded(affine) for _, _, other in again):
            raise ValueError(f"The angle of {name} on wires {wires} is not scale * value + offset.")
        gates.append(Gate(name, wires, *affine))
    return gates, measured


def _arguments(fn: Callable, inputs: torch.Tensor, weights: torch.Tensor) -> tuple[tuple, dict]:
    """Inputs and weights by name where ``fn`` has a parameter with such a name, else in this order."""
    try:
        asked = inspect.signature(fn).parameters.values()
    except (TypeError, ValueError):
        return (inputs, weights), {}
    names = [p.name for p in asked if p.default is p.empty and p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    known = [_OF_NAME.get(name) for name in names]
    if len(names) != 2 or not any(known) or known[0] == known[1]:
        return (inputs, weights), {}
    first_is_inputs = known[0] == "inputs" or known[1] == "weights"
    return (), dict(zip(names, (inputs, weights) if first_is_inputs else (weights, inputs), strict=True))


def _rounded(affine: tuple) -> tuple:
    return affine[0], round(affine[1], 9), round(affine[2], 9)


def _run(fn: Callable, n_inputs: int, n_weights: int, seed: int) -> tuple[list[tuple], list | None]:
    """(name, wires, angle or None) of every gate at one of `_POINTS`, and the wires measured.

    An angle is (tensor, inputs, weights).
    """
    g = torch.Generator().manual_seed(seed)
    inputs, weights = (
        _POINTS[seed](torch.rand(n, generator=g, dtype=torch.float64).add(0.1)).requires_grad_()
        for n in (n_inputs, n_weights)
    )
    args, kwargs = _arguments(fn, inputs, weights)
    try:
        tape = qml.tape.make_qscript(fn)(*args, **kwargs)
    except Exception as error:
        hint = " (read entries as weights[3], not weights[0, 3])" if isinstance(error, IndexError) else ""
        call = f"the quantum function on a vector of {n_inputs} inputs and one of {n_weights} weights"
        raise TypeError(f"Running {call} failed{hint}: {error}") from error
    for measured in tape.measurements:
        if not isinstance(measured, qml.measurements.ExpectationMP) or not isinstance(measured.obs, qml.PauliZ):
            raise ValueError(f"A Circuit is read out as expval(PauliZ) of every wire; the function returns {measured}.")
    found = []
    for op in tape.operations:
        for name, wires, angle in _flatten(op):
            if not all(hasattr(w, "__index__") for w in wires):  # NumPy's too
                raise ValueError(f"Wires must be integers from 0, {name} has wires {wires}.")
            found.append((name, wires, None if angle is None else (angle, inputs, weights)))
    return found, [w for measured in tape.measurements for w in measured.wires.tolist()] or None


def _flatten(op: qml.operation.Operator, depth: int = 0, written: str = "") -> Iterator[tuple]:
    """One operation as gates of `GATES`, decomposed by PennyLane if need be; ``written``: what the user wrote."""
    wires = tuple(op.wires.tolist())
    if op.name in _NO_EFFECT:
        return
    if op.name in GATES:
        yield op.name, wires, op.data[0] if GATES[op.name][1] else None
    elif op.name in _SEVERAL:
        for name, angle in zip(_SEVERAL[op.name], op.data, strict=True):
            yield name, wires, angle
    elif op.name in ("CRot", "C(Rot)") and len(wires) == 2:
        when_zero = [("PauliX", wires[:1], None)] * (not op.control_values[0])
        turns = [(name, wires, angle) for name, angle in zip(("CRZ", "CRY", "CRZ"), op.data, strict=True)]
        yield from [*when_zero, *turns, *when_zero]
    elif op.name == "Adjoint(S)" or op.name == "Adjoint(T)":
        yield "RZ", wires, torch.tensor(-torch.pi / (2 if "S" in op.name else 4), dtype=torch.float64)
    elif depth < 8 and op.has_decomposition:
        for part in op.decomposition():
            yield from _flatten(part, depth + 1, written or f"{op.name} on wires {wires}")
    else:
        inside = f" (inside {written})" if written else ""
        taken = f"{', '.join(GATES)}, Rot, and what PennyLane decomposes into them"
        raise ValueError(f"Cannot take the operation {op.name} on wires {wires}{inside}; a Circuit takes {taken}.")


def _affine(name: str, angle, inputs: torch.Tensor, weights: torch.Tensor) -> tuple:
    """(param, scale, offset) of an angle; scale 0 and param None for a constant."""
    if not isinstance(angle, torch.Tensor) or not angle.requires_grad:
        return None, 1.0, float(angle)
    if angle.ndim:
        raise ValueError(f"{name} was given {tuple(angle.shape)} angles at once; wanted one number.")
    slopes = torch.autograd.grad(angle, (inputs, weights), allow_unused=True, retain_graph=True)
    found = [
        (kind, k, slope[k].item(), values[k].item())
        for kind, values, slope in zip(("input", "weight"), (inputs, weights), slopes, strict=True)
        if slope is not None
        for k in slope.nonzero().flatten().tolist()
    ]
    if len(found) != 1:
        parts = ", ".join(f"{kind} {k}" for kind, k, _, _ in found) or "no value at one of the points tried"
        raise ValueError(f"The angle of {name} must depend on one value; it depends on {parts}.")
    kind, k, scale, value = found[0]
    return (kind, k), scale, angle.item() - scale * value
