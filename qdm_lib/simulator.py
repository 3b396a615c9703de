"""Run a `Circuit` on a batch in torch: the short, readable statevector simulator.

The state of n wires is a complex tensor psi of shape (B, 2, …, 2): one axis of length 2 per wire. A gate multiplies the
axis of its target by a 2×2 matrix. A control needs no larger matrix: the gate then acts only on the slice of the state
where the control is 1. Everything is built from differentiable torch operations, so autograd gives exact gradients.
Built by hand in notebook 02, sections 1 to 3.
"""

import math
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

from qdm_lib.circuits import Circuit, Gate

_ROOT_HALF = math.sqrt(0.5)
FIXED = {
    "PauliX": [[0, 1], [1, 0]], "PauliY": [[0, -1j], [1j, 0]], "PauliZ": [[1, 0], [0, -1]],
    "Hadamard": [[_ROOT_HALF, _ROOT_HALF], [_ROOT_HALF, -_ROOT_HALF]],
    "S": [[1, 0], [0, 1j]], "T": [[1, 0], [0, complex(_ROOT_HALF, _ROOT_HALF)]],
    "CNOT": [[0, 1], [1, 0]], "CZ": [[1, 0], [0, -1]],
}  # fmt: skip


def rotation(axis: str, angle: Tensor) -> Tensor:
    """exp(−i·angle/2·σ_axis): angle (…,) in radians → (…, 2, 2) complex, for axis X, Y or Z; else ValueError."""
    c, s, o = torch.cos(angle / 2), torch.sin(angle / 2), torch.zeros_like(angle)
    if axis == "X":  # [[c, −is], [−is, c]]
        real, imag = (c, o, o, c), (o, -s, -s, o)
    elif axis == "Y":  # [[c, −s], [s, c]]
        real, imag = (c, -s, s, c), (o, o, o, o)
    elif axis == "Z":  # [[c − is, 0], [0, c + is]]
        real, imag = (c, o, o, c), (-s, o, o, s)
    else:
        raise ValueError(f"Wanted the axis X, Y or Z; got {axis!r}.")
    return torch.complex(torch.stack(real, -1), torch.stack(imag, -1)).unflatten(-1, (2, 2))


def gate_angle(gate: Gate, x: Tensor, theta: Tensor) -> Tensor:
    """scale · value + offset, in radians: x (…, n_inputs), theta (…, n_weights) → (…,)."""
    if gate.param is None:
        return torch.full((), gate.offset, dtype=x.dtype, device=x.device)
    kind, k = gate.param
    return gate.scale * (x if kind == "input" else theta)[..., k] + gate.offset


def gate_matrix(gate: Gate, x: Tensor, theta: Tensor) -> Tensor:
    """The 2×2 matrix that a gate applies to its target: (2, 2), or (B, 2, 2) where rows differ."""
    if gate.name in FIXED:
        dtype = torch.complex128 if x.dtype == torch.float64 else torch.complex64
        return torch.tensor(FIXED[gate.name], dtype=dtype, device=x.device)
    return rotation(gate.name[-1], gate_angle(gate, x, theta))


def apply_matrix(psi: Tensor, U: Tensor, wires: tuple[int, ...]) -> Tensor:
    """Apply U, (2, 2) or (B, 2, 2), to the last of ``wires``, controlled by those before it.

    psi has shape (B, 2, …, 2); the result is a new tensor of the same shape.
    """
    *controls, target = wires
    if controls:
        control = controls[0]
        off, on = psi.unbind(control + 1)  # axis 0 is the batch
        on = apply_matrix(on, U, (*controls[1:], target - (target > control)))  # one axis fewer
        return torch.stack([off, on], control + 1)
    moved = psi.movedim(target + 1, 1)
    columns = moved.unsqueeze(-1).flatten(2)  # (B, 2, all other axes); there may be none
    return (U @ columns).reshape(moved.shape).movedim(1, target + 1)


def apply_gate(psi: Tensor, gate: Gate, x: Tensor, theta: Tensor) -> Tensor:
    """One gate of a circuit applied to psi (B, 2, …, 2)."""
    if gate.name == "SWAP":
        return psi.transpose(gate.wires[0] + 1, gate.wires[1] + 1)
    return apply_matrix(psi, gate_matrix(gate, x, theta), gate.wires)


def statevector(circuit: Circuit, x: Tensor, theta: Tensor) -> Tensor:
    """The final state: x (B, n_inputs) and theta (n_weights,) or (B, n_weights) → (B, 2, …, 2).

    float32 gives complex64, float64 complex128. ValueError where x or theta has another shape or dtype than
    the circuit takes.
    """
    check_arguments(circuit, x, theta)
    dtype = torch.complex128 if x.dtype == torch.float64 else torch.complex64
    psi = torch.zeros(x.shape[0], 2**circuit.n_wires, dtype=dtype, device=x.device)
    psi[:, 0] = 1  # |0…0⟩
    psi = psi.reshape(-1, *[2] * circuit.n_wires)
    for gate in circuit.gates:
        psi = apply_gate(psi, gate, x, theta)
    return psi


def expval_z(psi: Tensor) -> Tensor:
    """⟨Z⟩ on every wire, P(0) − P(1): psi (B, 2, …, 2) → (B, n_wires), in [−1, 1]."""
    probability = (psi.real**2 + psi.imag**2).unsqueeze(-1)  # the last axis is what remains of one wire
    out = []
    for wire in range(psi.ndim - 1):
        p0, p1 = probability.movedim(wire + 1, 1).flatten(2).sum(2).unbind(1)
        out.append(p0 - p1)
    return torch.stack(out, 1)


def simulate(circuit: Circuit, x: Tensor, theta: Tensor) -> Tensor:
    """Run a circuit on a batch: ⟨Z⟩ on every wire, (B, n_wires) in [−1, 1], differentiable in x and theta.

    x: (B, n_inputs) float32 or float64, in the circuit's input units (radians for angles). theta: (n_weights,), or
    (B, n_weights) for weights that differ by row, in the dtype of x. ValueError as in `statevector`.
    """
    return expval_z(statevector(circuit, x, theta))


def full_precision(x: Tensor) -> AbstractContextManager:
    """``with full_precision(x):`` has autocast off where x lives: angles need more than the 8 bits of bfloat16."""
    kind = x.device.type
    return torch.autocast(kind, enabled=False) if torch.amp.is_autocast_available(kind) else nullcontext()


def check_arguments(circuit: Circuit, x: Tensor, theta: Tensor) -> None:
    """Raise ValueError unless x and theta have the shapes and dtypes that `simulate` takes."""
    if x.ndim != 2 or x.shape[1] != circuit.n_inputs:
        raise ValueError(f"{circuit.name}: wanted inputs of shape (B, {circuit.n_inputs}), got {tuple(x.shape)}.")
    one, each = (circuit.n_weights,), (x.shape[0], circuit.n_weights)
    if theta.shape not in (one, each):
        raise ValueError(f"{circuit.name}: wanted weights of shape {one} or {each}, got {tuple(theta.shape)}.")
    if x.dtype not in (torch.float32, torch.float64) or theta.dtype != x.dtype:
        got = f"{x.dtype} and {theta.dtype}"
        raise ValueError(f"{circuit.name}: wanted torch tensors, both float32 or both float64, got {got}.")
