"""Every backend computes the function that PennyLane computes, in value and gradient."""

import matplotlib
import numpy as np
import pennylane as qml
import pytest
import reference
import torch

from qdm_lib.circuits import basic, fqconv, hqconv, hqconv_released
from qdm_lib.quantum import QuantumLayer, to_qnode
from qdm_lib.simulator import expval_z, simulate, statevector

matplotlib.use("Agg")
MAKE = {"hqconv": hqconv, "fqconv": fqconv, "hqconv_released": hqconv_released}
MAKE["basic"] = lambda layers: basic(layers=layers)
CASES = [("hqconv", 1), ("hqconv", 3), ("fqconv", 1), ("fqconv", 4), ("basic", 4), ("hqconv_released", 3)]


def random_case(circuit, rows, seed=0, dtype=torch.float64):
    g = torch.Generator().manual_seed(seed)
    x = 4 * torch.randn(rows, circuit.n_inputs, generator=g, dtype=dtype)
    theta = torch.rand(circuit.n_weights, generator=g, dtype=dtype)
    v = torch.randn(rows, circuit.n_wires, generator=g, dtype=dtype)
    return x.requires_grad_(), theta.requires_grad_(), v


@pytest.mark.parametrize("name, layers", CASES)
def test_statevector_equals_pennylane_in_value_and_vjp(name, layers):
    circuit = MAKE[name](layers)
    x, theta, v = random_case(circuit, 3)
    ours = simulate(circuit, x, theta)
    theirs = torch.stack(reference.qnode(name, layers)(x, theta), 1)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-10)
    for a, b in zip(*(torch.autograd.grad(z, (x, theta), v) for z in (ours, theirs)), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-9)


@pytest.mark.parametrize("name, layers", CASES)
@pytest.mark.parametrize("backend", ["fast", "statevector", "pennylane"])
def test_layer_equals_the_simulator_for_each_circuit(name, layers, backend):
    circuit = MAKE[name](layers)
    layer = QuantumLayer(circuit, 2, backend, generator=torch.Generator().manual_seed(3)).double()
    x = torch.randn(3, 2, circuit.n_inputs, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    out = layer(x)
    wanted = torch.stack([simulate(circuit, x[:, k], layer.theta[k]) for k in range(2)], 1)
    torch.testing.assert_close(out, wanted, rtol=0, atol=1e-10)
    (ours,) = torch.autograd.grad(out.square().sum(), layer.theta)
    (theirs,) = torch.autograd.grad(wanted.square().sum(), layer.theta)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-9)


@pytest.mark.parametrize("make, layers", [(hqconv, 3), (fqconv, 3), (MAKE["basic"], 4)])
def test_every_weight_moves_the_output(make, layers):
    """The test whose absence hid dead weights in the released code."""
    circuit = make(layers)
    x, theta, v = random_case(circuit, 4)
    (gradient,) = torch.autograd.grad(simulate(circuit, x, theta), theta, v)
    assert (gradient.abs() > 1e-6).all()


def test_released_hqconv_has_twelve_live_weights():
    circuit = hqconv_released(3)
    x, theta, v = random_case(circuit, 4)
    (gradient,) = torch.autograd.grad(simulate(circuit, x, theta), theta, v)
    assert (gradient.abs() > 1e-6).sum() == 12


def test_state_is_normalised_and_rx_alone_gives_the_cosine():
    x, theta, _ = random_case(hqconv(2), 3)
    psi = statevector(hqconv(2), x, theta)
    torch.testing.assert_close(psi.abs().square().flatten(1).sum(1), torch.ones(3, dtype=torch.float64))
    free = torch.zeros(28, dtype=torch.float64)  # all controlled gates are the identity at angle 0
    torch.testing.assert_close(expval_z(statevector(hqconv(1), x, free)), x.cos())


def test_chunks_do_not_change_the_answer(monkeypatch):
    layer = QuantumLayer(basic(), 2, "statevector", generator=torch.Generator().manual_seed(0))
    x = torch.randn(9, 2, 4, generator=torch.Generator().manual_seed(1))
    whole = layer(x)
    (g_whole,) = torch.autograd.grad(whole.sum(), layer.theta)
    monkeypatch.setattr("qdm_lib.quantum._CHUNK", 2**6)  # 4 rows at a time
    parts = layer(x)
    (g_parts,) = torch.autograd.grad(parts.sum(), layer.theta)
    torch.testing.assert_close(whole, parts)
    torch.testing.assert_close(g_whole, g_parts)


def test_pennylane_devices_and_gradients():
    """lightning.qubit with adjoint, and default.mixed, agree with the exact simulator."""
    x = torch.randn(2, 1, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    exact = QuantumLayer(basic(), 1, "statevector").double()
    (wanted,) = torch.autograd.grad(exact(x).square().sum(), exact.theta)
    # PennyLane hands lightning.qubit's results to torch in single precision, whatever the inputs are.
    cases = [("lightning.qubit", "adjoint", 1e-6), ("default.mixed", "backprop", 1e-9), (None, "parameter-shift", 1e-9)]
    for device, method, tolerance in cases:
        layer = QuantumLayer(basic(), 1, "pennylane", device=device, diff_method=method).double()
        layer.load_state_dict(exact.state_dict())
        torch.testing.assert_close(layer(x), exact(x), rtol=0, atol=tolerance)
        (gradient,) = torch.autograd.grad(layer(x).square().sum(), layer.theta)
        torch.testing.assert_close(gradient, wanted, rtol=0, atol=tolerance)


def test_finite_shots_scatter_around_the_exact_value():
    torch.manual_seed(0)
    device = qml.device("default.qubit", wires=4, seed=0)
    layer = QuantumLayer(basic(), 1, "pennylane", device=device, shots=400).double()
    exact = QuantumLayer(basic(), 1, "statevector").double()
    exact.load_state_dict(layer.state_dict())
    x = torch.zeros(8, 1, 4, dtype=torch.float64)
    error = (layer(x) - exact(x)).detach()
    assert 0 < error.abs().max() < 6 / 400**0.5  # six standard deviations of a mean of ±1
    assert torch.autograd.grad(layer(x[:1]).sum(), layer.theta)[0].abs().sum() > 0


def test_initial_weights_are_uniform_and_seeded():
    a, b = (QuantumLayer(hqconv(3), 13, generator=torch.Generator().manual_seed(7)).theta for _ in range(2))
    assert torch.equal(a, b)
    assert 0 <= a.min() and a.max() < 1 and abs(a.mean() - 0.5) < 0.03


def test_drawing_shows_wires_blocks_and_encoding():
    circuit = hqconv(1)
    text = qml.draw(to_qnode(circuit), max_length=4000)(torch.zeros(12), torch.zeros(28))
    assert all(label in text for label in circuit.labels)
    assert '"x0"' in text and '"A θ0"' in text and '"B θ27"' in text
    figure, axes = qml.draw_mpl(to_qnode(circuit))(torch.zeros(12), torch.zeros(28))
    matplotlib.pyplot.close(figure)


def test_a_labelled_qnode_still_computes():
    x, theta, _ = random_case(fqconv(1), 2)
    torch.testing.assert_close(torch.stack(to_qnode(fqconv(1))(x, theta), 1), simulate(fqconv(1), x, theta))


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: QuantumLayer(basic(), backend="gpu"), "Unknown backend 'gpu'"),
        (lambda: QuantumLayer(basic(), 0), "n_circuits must be a whole number, at least 1; got 0"),
        (lambda: QuantumLayer(basic(), shots=10), "need backend='pennylane'"),
        (lambda: QuantumLayer(basic(), shots=0), "need backend='pennylane'"),
        (lambda: QuantumLayer(basic(), backend="pennylane", shots=0), "shots must be .*, at least 1; got 0"),
        (lambda: to_qnode(basic(), shots=-5), "shots must be a whole number, at least 1; got -5"),
        (lambda: QuantumLayer(basic(), 2)(torch.zeros(3, 1, 4)), r"shape \(B, 2, 4\), got \(3, 1, 4\)"),
        (lambda: QuantumLayer(basic())(torch.zeros(3, 4)), r"got \(3, 4\)"),
        (lambda: simulate(basic(), torch.zeros(3, 5), torch.zeros(16)), r"shape \(B, 4\), got \(3, 5\)"),
        (lambda: simulate(basic(), torch.zeros(3, 4), torch.zeros(12)), r"\(16,\)"),
        (lambda: simulate(basic(), torch.zeros(3, 4).half(), torch.zeros(16)), "float32 or both float64"),
        (lambda: to_qnode(basic(), device="no.such"), "PennyLane has no device 'no.such'"),
        (lambda: to_qnode(hqconv(1), device=qml.device("default.qubit", wires=2)), "needs 12 wires"),
    ],
)
def test_a_mistake_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("what", ["hqconv", hqconv])
def test_a_layer_wants_a_circuit_and_not_its_name_or_function(what):
    with pytest.raises(TypeError, match=r"Wanted a Circuit, such as hqconv\(3\); got .*hqconv"):
        QuantumLayer(what)


@pytest.mark.parametrize("circuit", [basic(), hqconv(1), fqconv(1)], ids=lambda c: c.name)
def test_qnodes_take_numpy_arrays(circuit):
    x, theta, _ = random_case(circuit, 1)
    out = to_qnode(circuit)(x[0].detach().numpy(), theta.detach().numpy())
    torch.testing.assert_close(torch.stack([torch.as_tensor(z) for z in out]), simulate(circuit, x, theta)[0].detach())


@pytest.mark.parametrize("backend", ["fast", "statevector", "pennylane"])
def test_an_empty_batch_gives_none(backend):
    assert QuantumLayer(basic(4, 1), 2, backend)(torch.zeros(0, 2, 4)).shape == (0, 2, 4)


def test_a_qnode_refuses_other_numbers_of_inputs_and_weights():
    run = to_qnode(basic())
    for x, theta in ((torch.zeros(5), torch.zeros(16)), (torch.zeros(4), torch.zeros(17)), (np.zeros(4), np.zeros(15))):
        with pytest.raises(
            ValueError, match=r"wanted real (inputs|weights), got .*float.* of shape .*, not \(…, (4|16)\)"
        ):
            run(x, theta)


@pytest.mark.parametrize("backend", ["fast", "statevector", "pennylane"])
@pytest.mark.parametrize("dtype", [torch.complex64, torch.complex128])
def test_complex_inputs_are_refused(backend, dtype):
    with pytest.raises(ValueError, match="wanted real inputs, got torch.complex"):
        QuantumLayer(basic(), 1, backend)(torch.zeros(2, 1, 4, dtype=dtype))
    with pytest.raises(ValueError, match="both float32 or both float64"):
        simulate(basic(), torch.zeros(2, 4, dtype=dtype), torch.zeros(16))
    for kind in (torch.Tensor, np.ndarray):
        x, theta = (torch.ones(n, dtype=dtype) for n in (4, 16))
        x, theta = (x, theta) if kind is torch.Tensor else (x.numpy(), theta.numpy())
        for name, arguments in (("inputs", (x, theta.real)), ("weights", (x.real, theta))):
            with pytest.raises(ValueError, match=f"wanted real {name}, got .*complex"):
                to_qnode(basic())(*arguments)
