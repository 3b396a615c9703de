"""The fast engine gives the statevector's numbers, whatever plan it takes; and what it says of its plans."""

import subprocess
import sys
from pathlib import Path

import hypothesis.strategies as st
import pennylane as qml
import pytest
import reference
import torch
from hypothesis import HealthCheck, given, settings
from torch import nn
from torch._subclasses import FakeTensorMode

from qdm_lib.circuits import GATES, TWO_PI, Circuit, Gate, basic, fqconv, hqconv, hqconv_released
from qdm_lib.engine import chain as engine_chain
from qdm_lib.engine.plan import KINDS, Cost, decide, matrices_cost
from qdm_lib.engine.simulate import _plan, explain, fast_simulate
from qdm_lib.engine.structure import components
from qdm_lib.quantum import QuantumLayer
from qdm_lib.simulator import simulate

MAKERS = {"hqconv": hqconv, "fqconv": fqconv, "basic": lambda n: basic(4, n), "hqconv_released": hqconv_released}
LAYERS = [(name, n) for name in MAKERS for n in (1, 2, 3, 4, 5)]


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def arguments(circuit, rows, n_circuits, dtype=torch.float64, seed=0):
    g = torch.Generator().manual_seed(seed)
    x = 3 * torch.randn(rows, n_circuits, circuit.n_inputs, generator=g, dtype=torch.float64)
    theta = torch.rand(n_circuits, circuit.n_weights, generator=g, dtype=torch.float64)
    v = torch.randn(rows, n_circuits, circuit.n_wires, generator=g, dtype=torch.float64)
    return x.to(dtype).requires_grad_(), theta.to(dtype).requires_grad_(), v.to(dtype)


def value_and_product(run, x, theta, v):
    """The outputs, and v times their Jacobian in x and theta, all flat and in double precision."""
    out = run(x, theta)
    products = [torch.zeros_like(x), torch.zeros_like(theta)]
    if out.requires_grad:
        found = torch.autograd.grad(out, (x, theta), v, allow_unused=True)
        products = [g if g is not None else zero for g, zero in zip(found, products, strict=True)]
    return out.detach().double(), torch.cat([g.flatten() for g in products]).double()


def by_reference(name, layers):
    node = reference.qnode(name, layers)

    def run(x, theta):
        rows = [torch.stack(node(x[:, k], theta[k]), 1) for k in range(len(theta))]
        return torch.stack(rows, 1)

    return run


def by_statevector(circuit):
    return lambda x, theta: torch.stack([simulate(circuit, x[:, k], theta[k]) for k in range(len(theta))], 1)


# --- agreement with PennyLane ---------------------------------------------------------------------


@pytest.mark.parametrize(("name", "layers"), LAYERS)
def test_agrees_with_pennylane(name, layers):
    circuit = MAKERS[name](layers)
    x, theta, v = arguments(circuit, 2, 1 + layers % 2, seed=layers)
    want, want_product = value_and_product(by_reference(name, layers), x, theta, v)
    for force in (None, *KINDS):
        if force == "chain" and circuit.n_wires == 12 and layers > 4:
            continue  # bonds of 2^layers: the chosen plan of five layers covers it
        got, product = value_and_product(lambda x, theta, f=force: fast_simulate(circuit, x, theta, f), x, theta, v)
        torch.testing.assert_close(got, want, rtol=0, atol=1e-10)
        torch.testing.assert_close(product, want_product, rtol=0, atol=1e-9)


@pytest.mark.parametrize(("name", "layers"), LAYERS)
def test_single_precision(name, layers):
    circuit = MAKERS[name](layers)
    x, theta, v = arguments(circuit, 3, 2, torch.float32)
    got, product = value_and_product(lambda x, theta: fast_simulate(circuit, x, theta), x, theta, v)
    exact = [t.detach().double().requires_grad_() for t in (x, theta)]
    want, want_product = value_and_product(by_reference(name, layers), *exact, v.double())
    assert (got - want).norm() <= 1e-5 * want.norm()
    assert (product - want_product).norm() <= 1e-4 * want_product.norm()


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize("n_circuits", [1, 4, 13])
def test_circuits_are_independent(name, n_circuits):
    circuit = MAKERS[name](3)
    x, theta, v = arguments(circuit, 2, n_circuits)
    got, product = value_and_product(lambda x, theta: fast_simulate(circuit, x, theta), x, theta, v)
    want, want_product = value_and_product(by_reference(name, 3), x, theta, v)
    torch.testing.assert_close(got, want, rtol=0, atol=1e-10)
    torch.testing.assert_close(product, want_product, rtol=0, atol=1e-9)


# --- the plan never changes the answer ------------------------------------------------------------


@st.composite
def random_circuits(draw):
    """2 to 8 wires, any supported gates; often two halves with few gates between them, so that chains occur."""
    n = draw(st.integers(2, 8))
    n_weights, reupload = draw(st.integers(1, 5)), draw(st.booleans())
    half = draw(st.integers(1, n - 1)) if draw(st.booleans()) else 0
    gates = [Gate(draw(st.sampled_from(["RX", "RY"])), (q,), ("input", q)) for q in range(n) if draw(st.booleans())]
    crossings = 0
    for _ in range(draw(st.integers(1, 20))):
        name = draw(st.sampled_from(sorted(GATES)))
        wires = tuple(draw(st.permutations(range(n)))[: GATES[name][0]])
        crosses = len({w < half for w in wires}) == 2
        if crosses and crossings == 3:
            continue
        crossings += crosses
        sources = [None, ("weight", draw(st.integers(0, n_weights - 1)))]
        if reupload and draw(st.integers(0, 3)) == 0:
            sources.append(("input", draw(st.integers(0, n - 1))))
        param = draw(st.sampled_from(sources[::-1])) if GATES[name][1] else None
        scale, offset = (draw(st.sampled_from([1.0, TWO_PI, -0.7])), draw(st.sampled_from([0.0, 0.4])))
        gates.append(Gate(name, wires, param, scale, offset) if GATES[name][1] else Gate(name, wires))
    return Circuit(tuple(gates), n, n, n_weights, "random", allow_dead_weights=True)


def in_pennylane(circuit):
    """A circuit built by PennyLane's own operations; one row after another, one circuit after another."""

    @qml.qnode(qml.device("default.qubit", wires=circuit.n_wires), interface="torch", diff_method="backprop")
    def node(x, theta):
        for gate in circuit.gates:
            operation = getattr(qml, gate.name)
            if not GATES[gate.name][1]:
                operation(wires=gate.wires)
                continue
            value = 0.0 if gate.param is None else {"input": x, "weight": theta}[gate.param[0]][gate.param[1]]
            operation(gate.scale * value + gate.offset, wires=gate.wires)
        return [qml.expval(qml.PauliZ(w)) for w in range(circuit.n_wires)]

    def run(x, theta):
        rows = [[torch.stack(node(row[k], theta[k])) for k in range(len(theta))] for row in x]
        return torch.stack([torch.stack(row) for row in rows])

    return run


@settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(random_circuits())
def test_every_plan_of_a_random_circuit_agrees_with_pennylane(circuit):
    x, theta, v = arguments(circuit, 1, 2)
    want, want_product = value_and_product(in_pennylane(circuit), x, theta, v)
    for force in (None, *KINDS):
        got, product = value_and_product(lambda x, theta, f=force: fast_simulate(circuit, x, theta, f), x, theta, v)
        torch.testing.assert_close(got, want, rtol=0, atol=1e-10)
        torch.testing.assert_close(product, want_product, rtol=0, atol=1e-9)


def small_chain(crossing=2):
    """Two pairs of wires joined by a few controlled rotations, then one more gate within a pair."""
    gates = [Gate("RX" if q % 2 else "RY", (q,), ("input", q)) for q in range(4)]
    for k in range(crossing):
        gates += [Gate("CRX", (0, 1), ("weight", 3 * k)), Gate("CRY", (3, 2), ("weight", 3 * k + 1))]
        gates += [Gate("CRZ", (1, 2), ("weight", 3 * k + 2), TWO_PI), Gate("Hadamard", (1,))]
    return Circuit(tuple(gates), 4, 4, 3 * crossing, "small chain")


@pytest.mark.parametrize("force", KINDS)
@pytest.mark.parametrize("circuit", [small_chain(), basic(3, 2)], ids=lambda circuit: circuit.name)
def test_gradcheck(circuit, force):
    x, theta, _ = arguments(circuit, 2, 2)
    assert decide(circuit, force).components[0].chosen.kind == force
    assert torch.autograd.gradcheck(lambda x, theta: fast_simulate(circuit, x, theta, force), (x, theta))


def test_gradcheck_hqconv():
    x, theta, _ = arguments(hqconv(2), 1, 1)
    assert torch.autograd.gradcheck(lambda x, theta: fast_simulate(hqconv(2), x, theta), (x, theta), fast_mode=True)


# --- shapes and edges ------------------------------------------------------------------------------


@pytest.mark.parametrize("force", [None, *KINDS])
@pytest.mark.parametrize("name", MAKERS)
def test_empty_batch(name, force):
    circuit = MAKERS[name](2)
    x, theta, v = arguments(circuit, 0, 2)
    out, product = value_and_product(lambda x, theta: fast_simulate(circuit, x, theta, force), x, theta, v)
    assert out.shape == (0, 2, circuit.n_wires)
    assert not product.any()


@pytest.mark.parametrize("name", MAKERS)
def test_rows_do_not_mix(name, monkeypatch):
    """Row by row gives what one batch gives, in several passes of the chain."""
    monkeypatch.setattr(engine_chain, "_CHUNK_BYTES", 2**19)
    circuit = MAKERS[name](3)
    x, theta, _ = arguments(circuit, 300, 2)
    with torch.no_grad():
        whole = fast_simulate(circuit, x, theta)
        for row in (0, 137, 299):
            torch.testing.assert_close(fast_simulate(circuit, x[row : row + 1], theta)[0], whole[row])


@pytest.mark.parametrize("name", MAKERS)
def test_inputs_need_not_be_contiguous(name):
    circuit = MAKERS[name](3)
    x, theta, v = arguments(circuit, 3, 2)
    want, want_product = value_and_product(lambda x, theta: fast_simulate(circuit, x, theta), x, theta, v)
    strided = x.detach().permute(2, 1, 0).contiguous().permute(2, 1, 0).requires_grad_()
    rows = theta.detach().T.contiguous().T.requires_grad_()
    v = v.permute(1, 2, 0).contiguous().permute(2, 0, 1)
    assert not strided.is_contiguous() and not rows.is_contiguous() and not v.is_contiguous()
    got, product = value_and_product(lambda x, theta: fast_simulate(circuit, x, theta), strided, rows, v)
    torch.testing.assert_close(got, want)
    torch.testing.assert_close(product, want_product)


def test_only_one_gradient_is_wanted():
    x, theta, v = arguments(hqconv(2), 3, 2)
    _, both = value_and_product(lambda x, theta: fast_simulate(hqconv(2), x, theta), x, theta, v)
    (of_x,) = torch.autograd.grad(fast_simulate(hqconv(2), x, theta.detach()), x, v)
    (of_theta,) = torch.autograd.grad(fast_simulate(hqconv(2), x.detach(), theta), theta, v)
    torch.testing.assert_close(torch.cat([of_x.flatten(), of_theta.flatten()]), both)
    (of_one,) = torch.autograd.grad(fast_simulate(hqconv(2), x, theta)[:, :, 8].sum(), x)  # only a readout
    (want,) = torch.autograd.grad(by_statevector(hqconv(2))(x, theta)[:, :, 8].sum(), x)
    torch.testing.assert_close(of_one, want)


@pytest.mark.parametrize("force", KINDS)
def test_differentiating_twice(force):
    circuit = small_chain()
    x, theta, v = arguments(circuit, 2, 1)

    def second(run):
        first = torch.autograd.grad(run(x, theta), (x, theta), v, create_graph=True)
        return torch.autograd.grad(sum(g.square().sum() for g in first), (x, theta))

    for got, want in zip(
        second(lambda *a: fast_simulate(circuit, *a, force)), second(by_statevector(circuit)), strict=True
    ):
        torch.testing.assert_close(got, want, rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    ("x", "theta", "words"),
    [
        ((2, 12), (1, 84), "wanted inputs of shape"),
        ((2, 1, 11), (1, 84), "wanted inputs of shape"),
        ((2, 3, 12), (1, 84), "wanted weights of shape"),
        ((2, 1, 12), (84,), "wanted weights of shape"),
        ((2, 0, 12), (0, 84), "at least one"),
    ],
)
def test_wrong_shapes(x, theta, words):
    with pytest.raises(ValueError, match=words):
        fast_simulate(hqconv(3), torch.zeros(x), torch.zeros(theta))


def test_wrong_dtype_and_plan():
    x, theta = torch.zeros(2, 1, 4), torch.zeros(1, 16)
    with pytest.raises(ValueError, match="both float32 or both float64"):
        fast_simulate(basic(), x, theta.double())
    with pytest.raises(ValueError, match="Unknown plan 'best'; wanted None or one of unitary, chain, statevector"):
        fast_simulate(basic(), x, theta, force="best")


def test_a_circuit_without_gates():
    out = fast_simulate(Circuit((), 3, 0, 0), torch.zeros(2, 1, 0), torch.zeros(1, 0))
    torch.testing.assert_close(out, torch.ones(2, 1, 3))


# --- training -------------------------------------------------------------------------------------


def loss_curve(backend, circuit, steps=20):
    """Adam on a small hybrid model: a linear layer, a circuit, a linear layer."""
    g = torch.Generator().manual_seed(0)
    x, y = torch.randn(4, 6, generator=g), torch.randn(4, 3, generator=g)
    torch.manual_seed(0)
    quantum = QuantumLayer(circuit, backend=backend, generator=g)
    model = nn.Sequential(nn.Linear(6, 12), nn.Unflatten(1, (1, 12)), quantum, nn.Flatten(), nn.Linear(12, 3))
    optimizer, found = torch.optim.Adam(model.parameters(), 1e-2), []
    for _ in range(steps):
        loss = (model(x) - y).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        found.append(loss.item())
    return torch.tensor(found)


@pytest.mark.parametrize("force", [None, "statevector"])
@pytest.mark.parametrize("circuit", [hqconv(3), fqconv(3), basic()], ids=lambda circuit: circuit.name)
def test_a_plan_made_in_inference_mode_can_be_trained(circuit, force):
    """A plan is kept for the whole process, so sampling first must not leave tensors that autograd refuses."""
    x, theta, v = arguments(circuit, 2, 2)
    want, want_product = value_and_product(by_statevector(circuit), x, theta, v)
    _plan.cache_clear()
    with torch.inference_mode():
        fast_simulate(circuit, x.detach(), theta.detach(), force)
        fast_simulate(circuit, x.detach().float(), theta.detach().float(), force)
    got, product = value_and_product(lambda x, theta: fast_simulate(circuit, x, theta, force), x, theta, v)
    torch.testing.assert_close(got, want, rtol=0, atol=1e-10)
    torch.testing.assert_close(product, want_product, rtol=0, atol=1e-9)
    single = [t.detach().float().requires_grad_() for t in (x, theta)]  # copies in another precision
    fast_simulate(circuit, *single, force).sum().backward()


@pytest.mark.parametrize("make", [lambda: hqconv(2), lambda: fqconv(1), basic, lambda: hqconv(7)])
@pytest.mark.parametrize("mode", [FakeTensorMode(allow_non_fake_inputs=True), torch.device("meta"), None])
def test_a_plan_made_in_any_mode_serves_later_calls(make, mode):
    """Fake tensors, a default device and torch.export are modes of their thread; tables are made in another."""
    layer = QuantumLayer(make(), 1)
    x = torch.randn(2, 1, layer.circuit.n_inputs, generator=torch.Generator().manual_seed(0))
    _plan.cache_clear()
    if mode is None:
        torch.export.export(layer, (x,), strict=False)
    else:
        with mode:
            layer(x)
    out = layer(x)
    assert type(out) is torch.Tensor and out.device.type == "cpu"
    torch.testing.assert_close(out[:, 0], simulate(layer.circuit, x[:, 0], layer.theta[0]), rtol=0, atol=1e-5)


@pytest.mark.parametrize("circuit", [hqconv(3), fqconv(3)], ids=lambda c: c.name)
def test_an_exported_layer_takes_batches_of_any_size(circuit):
    layer = QuantumLayer(circuit, 2)
    first, other = torch.randn(5, 2, 12), torch.randn(9, 2, 12)
    exported = torch.export.export(layer, (first,), dynamic_shapes=({0: torch.export.Dim("batch", min=2, max=64)},))
    assert torch.equal(exported.module()(other), layer(other))


@pytest.mark.filterwarnings("ignore")  # of the compiler's own
def test_a_compiled_layer_gives_the_same_and_does_not_trace_the_engine():
    """Traced by Dynamo, planning one HQConv takes minutes. In a process of its own: what is compiled stays there."""
    code = """
import time, torch
from qdm_lib.circuits import hqconv
from qdm_lib.quantum import QuantumLayer
layer, x = QuantumLayer(hqconv(3), 2), torch.randn(4, 2, 12)
began, compiled = time.perf_counter(), torch.compile(layer, backend="eager")
assert torch.equal(compiled(x), layer(x))
compiled(x).sum().backward()
assert layer.theta.grad.abs().min() > 0 and time.perf_counter() - began < 60
"""
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.parametrize("precision", ["high", "medium"])
def test_angles_do_not_pass_through_matrix_products(precision, monkeypatch):
    """A user's lower precision of products rounds their factors; 0.1 rounded to ten bits is off by 2e-5."""
    circuit = basic(2, 1)
    angles = []
    cos = torch.cos
    monkeypatch.setattr(torch, "cos", lambda half: angles.append(half.detach()) or cos(half))
    x = torch.tensor([[[0.1, -0.3]]])
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(precision)
    try:
        fast_simulate(circuit, x, torch.tensor([[0.7, 0.9]]))
    finally:
        torch.set_float32_matmul_precision(before)
    found = torch.cat([half.flatten() for half in angles])
    for wanted in (0.1, -0.3, 0.7, 0.9):
        assert (found - torch.tensor(wanted) / 2).abs().min() == 0


@pytest.mark.parametrize("circuit", [hqconv(3), fqconv(3)], ids=lambda circuit: circuit.name)
def test_same_loss_curve_as_the_statevector(circuit):
    """The curves part only by rounding, which training slowly amplifies."""
    fast, exact = loss_curve("fast", circuit), loss_curve("statevector", circuit)
    assert fast[-1] < 0.9 * fast[0]
    torch.testing.assert_close(fast, exact, rtol=1e-4, atol=0)


# --- the plan and its explanation -----------------------------------------------------------------


def test_fqconv_is_four_circuits_of_three_wires(capsys):
    """FQConv as written never couples two pixels: wires 0 4 8 are pixel 0 of the three channels."""
    found = explain(fqconv(3))
    assert found.sites == [[[p, p + 4, p + 8]] for p in range(4)]
    assert found.kinds == ["unitary"] * 4
    # by hand, for each of 4: the product vector 2 · 8; a real (16, 8) matrix times it, 2 · 16 · 8; 16 squares and
    # their signed sums for 3 wires, 2 · 16 · 3. Written: 2 + 4 + 8 (counted as 16), 16 and 16 numbers of 4 bytes.
    assert found.cost.flops == 4 * (16 + 256 + 16 + 96)
    assert found.cost.bytes == 4 * 4 * (16 + 16 + 16)
    assert capsys.readouterr().out == f"{found}\n"


@pytest.mark.parametrize("layers", [1, 2, 3, 4, 5])
def test_hqconv_is_a_chain_with_bounded_bonds(layers, capsys):
    found = explain(hqconv(layers), n_circuits=13)
    (sites,), (bonds,) = found.sites, found.bonds
    assert found.kinds == ["chain"]
    assert sites == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]
    assert bonds == [2 ** (layers - 1)] * 2  # the last layer's gates are read without a bond
    assert str(layers) in capsys.readouterr().out


def test_plain_cost_by_hand():
    """12 RX on all 4096 amplitudes, 84 controlled gates on half of them; 16 flops for each amplitude."""
    plain = explain(hqconv(3)).plain
    readout = 3 * 4096 + 12 * 4096
    assert plain.flops == 16 * 4096 * 12 + 16 * 2048 * 84 + readout
    assert plain.bytes == 96 * 8 * 4096 + 3 * 4 * 4096


def test_matrices_cost_by_hand():
    """Three gates, two of them neighbours on the same wires: two runs, one product of 4 × 4 matrices."""
    gates = [Gate("CRX", (0, 1), ("weight", 0)), Gate("CRZ", (0, 1), ("weight", 1)), Gate("RX", (0,), ("weight", 2))]
    assert matrices_cost([gates], 2).weights == 2 * 8 * 4 * 16 + 8 * 64


def test_choice_has_the_smallest_estimate():
    for circuit in (hqconv(3), hqconv(7), fqconv(2), basic(8, 3), small_chain()):
        for component in decide(circuit).components:
            assert component.chosen.cost.total == min(way.cost.total for way in component.candidates)
    assert decide(hqconv(8)).components[0].chosen.kind == "statevector"  # 2^7 values a bond: no longer worth it


def test_explain_names_every_way(capsys):
    text = str(explain(small_chain(), n_circuits=2, batch=5))
    for word in ("unitary", "chain of", "statevector", "plain statevector", "2 circuits with 5 rows", "flops", "bytes"):
        assert word in text
    lines = [line for line in text.splitlines() if "statevector" in line]
    assert len({len(line) for line in lines if line.startswith("   ")}) <= 2  # the table is aligned
    again = Gate("RX", (0,), ("input", 0)), Gate("CRX", (0, 1), ("weight", 0)), Gate("RX", (1,), ("input", 1))
    assert "inputs enter between other gates" in str(explain(Circuit(again, 2, 2, 1)))
    with pytest.raises(ValueError, match="at least 1"):
        explain(basic(), n_circuits=0)


@pytest.mark.parametrize("circuit", [fqconv(3), hqconv(3)], ids=lambda circuit: circuit.name)
def test_the_page_shows_what_explain_prints(circuit):
    """If this fails, copy what `python study/benchmarks/engine_figures.py` prints into docs/engine.md."""
    page = Path(__file__).parent.parent / "docs" / "engine.md"
    assert str(explain(circuit)) in page.read_text(encoding="utf-8")


def test_components_and_costs_add_up():
    gates = [Gate("CNOT", (0, 2)), Gate("CZ", (3, 4)), Gate("CZ", (4, 2))]
    assert components(gates, 6) == [[0, 2, 3, 4], [1], [5]]
    assert Cost(1, 2, 3, 4) + Cost(10, 20, 30, 40) == Cost(11, 22, 33, 44)


def test_swaps_cost_nothing():
    """A SWAP renames wires: two halves that only swap stay independent."""
    gates = [Gate("RX", (q,), ("input", q)) for q in range(3)] + [Gate("SWAP", (0, 2)), Gate("SWAP", (1, 2))]
    circuit = Circuit(tuple(gates), 3, 3, 0)
    x, theta, _ = arguments(circuit, 4, 1)
    assert len(decide(circuit).components) == 3
    torch.testing.assert_close(fast_simulate(circuit, x, theta), x.cos()[:, :, [2, 0, 1]])
