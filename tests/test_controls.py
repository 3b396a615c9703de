"""The stand-ins for the circuits: what they compute, what they share with the model they replace, save and load."""

import pytest
import torch

from qdm_lib.checkpoint import load_model, save_model
from qdm_lib.circuits import Circuit, Gate, basic, fqconv, hqconv, hqconv_released
from qdm_lib.controls import CONTROLS, LowRank, always_on, single_wire_gates
from qdm_lib.quantum import QuantumLayer
from qdm_lib.simulator import simulate
from qdm_lib.unet import build_unet


def layer(circuit=None, n=2):
    return QuantumLayer(circuit or hqconv(3), n, generator=torch.Generator().manual_seed(1))


X = torch.linspace(-3, 3, 3 * 2 * 12).reshape(3, 2, 12)


@pytest.mark.parametrize("name, wanted", [("zero", torch.zeros_like), ("identity", lambda x: x), ("cos", torch.cos)])
def test_pointwise_controls(name, wanted):
    assert torch.equal(CONTROLS[name](layer())(X), wanted(X))


@pytest.mark.parametrize("circuit, rank, bias", [(hqconv(3), 3, True), (fqconv(3), 3, False), (basic(), 2, False)])
def test_classical_control_has_the_circuits_number_of_weights(circuit, rank, bias):
    control = LowRank(layer(circuit))
    assert control.weights.numel() == 2 * circuit.n_weights and (control.rank, control.bias) == (rank, bias)
    x = torch.randn(5, 2, circuit.n_wires, generator=torch.Generator().manual_seed(0))
    control(x).square().sum().backward()
    assert (control.weights.grad != 0).all()  # every one is alive
    w, half = control.weights[1], rank * circuit.n_wires  # circuit 1, written out
    v, u = w[:half].reshape(rank, -1), w[half : 2 * half].reshape(-1, rank)
    y = u @ (v @ x[0, 1]) + (w[2 * half :] if bias else 0)
    torch.testing.assert_close(control(x)[0, 1], y)


def test_classical_control_refuses_what_does_not_fit():
    with pytest.raises(ValueError, match="No low-rank layer of 4 inputs has 4 weights"):
        LowRank(layer(basic(layers=1)))


@pytest.mark.parametrize("circuit", [hqconv(2), fqconv(1)])
def test_without_its_controlled_gates_a_circuit_is_cos(circuit):
    x, theta = torch.randn(4, 12).double(), torch.rand(circuit.n_weights).double()
    torch.testing.assert_close(simulate(single_wire_gates(circuit), x, theta), x.cos())


def test_always_on_keeps_a_controlled_rotation_of_a_fixed_angle():
    gates = (Gate("CRX", (0, 1), ("input", 0)), Gate("CRY", (1, 0), offset=0.3), Gate("CNOT", (0, 1)))
    assert [(gate.name, gate.wires, gate.offset) for gate in always_on(Circuit(gates, 2, 1, 0)).gates] == [
        ("RX", (1,), 0), ("RY", (0,), 0.3)
    ]  # fmt: skip


def test_always_on_no_output_depends_on_another_wire():
    circuit = always_on(hqconv(3))
    x = torch.randn(1, 12).double()
    theta = torch.rand(84).double().requires_grad_()
    jacobian = torch.autograd.functional.jacobian(lambda x: simulate(circuit, x, theta)[0], x)[:, 0]
    torch.testing.assert_close(jacobian, jacobian.diag().diag())
    assert (jacobian.diag() != 0).all()
    simulate(circuit, x, theta).sum().backward()
    assert (theta.grad.abs() > 1e-9).all()
    fast = CONTROLS["uncontrolled"](layer())
    slow = torch.stack([simulate(circuit, X[:, k], fast.theta[k]) for k in range(2)], 1)
    torch.testing.assert_close(fast(X), slow)


def test_frozen_keeps_its_values_and_has_no_gradient():
    frozen = CONTROLS["frozen"](layer())
    assert torch.equal(frozen(X), layer()(X)) and not frozen.theta.requires_grad


def test_released_leaves_ten_outputs_alone():
    released = CONTROLS["hqconv_released"](layer())
    same = torch.isclose(released(X), X.cos(), atol=1e-5).all(0).all(0)
    assert same.sum() == 10


@pytest.mark.parametrize("circuit", [fqconv(3), fqconv(7), hqconv_released(3), basic(12, 7), basic(3, 4)])
def test_released_replaces_hqconv_only(circuit):
    """fqconv(7) and basic(12, 7) have as many weights as some HQConv."""
    with pytest.raises(ValueError, match=f"hqconv_released wanted HQConv to replace, got {circuit.name}"):
        CONTROLS["hqconv_released"](layer(circuit))


def test_released_keeps_the_basic_circuit_and_refuses_fqconv():
    rest = layer(basic())
    assert CONTROLS["hqconv_released"](rest) is rest
    with pytest.raises(ValueError, match="hqconv_released wanted HQConv"):
        build_unet("fullfqconv", control="hqconv_released")


@pytest.mark.parametrize("preset", ["fullhqconv", "1hqconv"])
@pytest.mark.parametrize("name", CONTROLS)
def test_models_with_controls(name, preset, tmp_path):
    model, hybrid = (build_unet(preset, control=c, seed=3).eval() for c in (name, None))
    theirs, other = hybrid.state_dict(), model.state_dict()
    assert all(torch.equal(other[k], theirs[k]) for k in other if k in theirs)  # the same first weights
    assert {k for k in theirs if k not in other} <= {k for k in theirs if "theta" in k}
    save_model(tmp_path, model, {"control": name})
    x, t = torch.randn(2, 1, 28, 28), torch.tensor([3, 900])
    again = load_model(tmp_path)
    assert again.config.control == name and torch.equal(again(x, t), model(x, t))
    if name == "frozen":
        assert not any(p.requires_grad for k, p in again.named_parameters() if "theta" in k)


def test_control_needs_a_circuit_and_a_known_name():
    for options, message in (
        ({"preset": "unet", "control": "zero"}, "control='zero' replaces circuits: it needs n_circuits of at least 1"),
        ({"preset": "1hqconv", "control": "none"}, "Unknown control 'none'.*Known are zero, "),
    ):
        with pytest.raises(ValueError, match=message):
            build_unet(**options)
