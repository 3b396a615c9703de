"""The simulator's gates as matrices. Circuits of X and Z rotations alone would not notice a wrong sign of X."""

import math

import pytest
import torch

from qdm_lib.circuits import Gate
from qdm_lib.simulator import apply_gate, gate_matrix, rotation

PAULI = {
    "X": torch.tensor([[0, 1], [1, 0]], dtype=torch.complex128),
    "Y": torch.tensor([[0, -1j], [1j, 0]], dtype=torch.complex128),
    "Z": torch.tensor([[1, 0], [0, -1]], dtype=torch.complex128),
}
NOTHING = torch.zeros(1, 0, dtype=torch.float64)


@pytest.mark.parametrize("axis", "XYZ")
def test_a_rotation_is_its_exponential(axis):
    """exp(−i·angle/2·σ), for several angles at once."""
    angles = torch.tensor([0.3, -1.7, 2 * math.pi, 5.0], dtype=torch.float64)
    want = torch.linalg.matrix_exp(-0.5j * angles[:, None, None] * PAULI[axis])
    torch.testing.assert_close(rotation(axis, angles), want)


def test_fixed_gates_are_related_as_they_should_be():
    names = ("Hadamard", "S", "T", "PauliZ", "PauliX")
    gate = {name: gate_matrix(Gate(name, (0,)), NOTHING, NOTHING) for name in names}
    torch.testing.assert_close(gate["T"] @ gate["T"], gate["S"])
    torch.testing.assert_close(gate["S"] @ gate["S"], gate["PauliZ"])
    torch.testing.assert_close(gate["Hadamard"] @ gate["PauliX"] @ gate["Hadamard"], gate["PauliZ"])


@pytest.mark.parametrize("control, target", [(0, 1), (1, 0), (0, 2), (2, 1)])
def test_a_controlled_gate_acts_where_its_control_is_one(control, target):
    """Bit for bit: X on the target of every basis state whose control is 1."""
    for number in range(8):
        bits = [number >> 2 & 1, number >> 1 & 1, number & 1]
        psi = torch.zeros(1, 2, 2, 2, dtype=torch.complex128)
        psi[0, *bits] = 1
        bits[target] ^= bits[control]
        out = apply_gate(psi, Gate("CNOT", (control, target)), NOTHING, NOTHING)
        assert out[0, *bits] == 1 and out.abs().sum() == 1


@pytest.mark.parametrize("axis", ["x", "W", "", "XY", None])
def test_a_rotation_wants_an_axis_that_there_is(axis):
    """Any other was once taken for Z."""
    with pytest.raises(ValueError, match=f"Wanted the axis X, Y or Z; got {axis!r}"):
        rotation(axis, torch.tensor(0.3))
