"""The ansätze are what the paper says: gates, counts, and errors that name the mistake."""

import doctest

import numpy as np
import pennylane as qml
import pytest
import torch

from qdm_lib import circuits
from qdm_lib.circuits import TWO_PI, Circuit, Gate, basic, fqconv, hqconv, hqconv_released
from qdm_lib.engine import fast_simulate
from qdm_lib.simulator import simulate


@pytest.mark.parametrize("layers", [1, 2, 3, 5])
@pytest.mark.parametrize("make, weights, gates", [(hqconv, 28, 28), (fqconv, 24, 24)])
def test_sizes(make, weights, gates, layers):
    circuit = make(layers)
    assert (circuit.n_wires, circuit.n_inputs) == (12, 12)
    assert circuit.n_weights == weights * layers
    assert len(circuit.gates) == 12 + gates * layers


def test_basic_has_sixteen_weights_without_the_factor_two_pi():
    circuit = basic()
    assert (circuit.n_wires, circuit.n_weights) == (4, 16)
    assert all(gate.scale == 1 for gate in circuit.gates)


def test_hqconv_couples_channels_only_in_block_b():
    """Block A stays within a channel (wires 4c … 4c+3); block B is 4 → 8, then 0 → 4."""
    for gate in hqconv(2).gates:
        channels = {wire // 4 for wire in gate.wires}
        assert len(channels) == (2 if gate.block == "B" else 1)
    assert [g.wires for g in hqconv(1).gates if g.block == "B"] == [(4, 8), (4, 8), (0, 4), (0, 4)]


def test_fqconv_never_couples_two_pixels():
    assert {wire % 4 for gate in fqconv(3).gates for wire in gate.wires} == {0, 1, 2, 3}
    assert all(len({wire % 4 for wire in gate.wires}) == 1 for gate in fqconv(3).gates)


def test_released_hqconv_runs_block_b_only():
    """Design of the released code: 12 of 84 weights act, 10 of 12 outputs are cos(x)."""
    circuit = hqconv_released(3)
    assert len(circuit.dead_weights) == 72
    assert {wire for gate in circuit.gates if gate.block for wire in gate.wires} >= {0, 4, 8}
    g = torch.Generator().manual_seed(0)
    x = torch.rand(5, 12, generator=g, dtype=torch.float64) * 6
    z = simulate(circuit, x, torch.rand(84, generator=g, dtype=torch.float64))
    equal = (z - x.cos()).abs().amax(0) < 1e-12
    assert equal.tolist() == [wire not in (4, 8) for wire in range(12)]


def rx(k, wire=0, kind="weight"):
    return Gate("RX", (wire,), (kind, k))


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: Gate("RXX", (0, 1)), "Unknown gate 'RXX'"),
        (lambda: Gate("CRX", (0,)), "acts on 2 wire"),
        (lambda: Gate("CRX", (1, 1)), r"2 wire.s., different whole numbers; got .1, 1."),
        (lambda: Gate("CNOT", (0, 1), ("weight", 0)), "cannot take its angle"),
        (lambda: Gate("RX", (0,), ("angle", 0)), "cannot take its angle"),
        (lambda: Gate("RX", (0,), "input"), "cannot take its angle"),
        (lambda: Gate("RX", (0,), ("weight", 1.0)), "cannot take its angle"),
        (lambda: Gate("RX", (0,), 3), r"RX: wanted a param such as \('weight', 0\), got 3"),
        (lambda: Gate("RX", 0), r"RX: wanted wires such as \(0,\), got 0"),
        (lambda: Gate("CNOT", (0, 1.5)), "different whole numbers; got"),
        (lambda: Gate("RX", "0"), "different whole numbers; got"),
        (lambda: Gate("RX", (0,), None, float("nan")), "wanted a finite number as scale, got nan"),
        (lambda: Gate("RX", (0,), offset=float("inf")), "wanted a finite number as"),
        (lambda: Gate("RX", (0,), offset="0.5"), "wanted a finite number as"),
        (lambda: Gate("CNOT", (0, 1), scale=2.0), "CNOT has no angle to scale or offset, got 2.0 and 0.0"),
        (lambda: Gate("Hadamard", (0,), offset=0.5), "Hadamard has no angle"),
        (lambda: Circuit(rx(0), 1, 0, 1), "wanted a sequence of gates, got Gate"),
        (lambda: Circuit((rx(0), "RX"), 1, 0, 1), "wanted a sequence of gates, got 'RX' in it"),
        (lambda: Circuit((), 1.0, 0, 0), "n_wires must be a whole number, at least 1; got 1.0"),
        (lambda: Circuit((), 2, 0, 0, wire_labels=2), "wanted a sequence of wire labels, got 2"),
        (lambda: Circuit((rx(0, wire=3),), 3, 0, 1), "the wires are 0 … 2"),
        (lambda: Circuit((rx(0),), 1, 0, 2), r"weights \[1\] feed no gate"),
        (lambda: Circuit((rx(1),), 1, 0, 1), "reads weight 1 of 1"),
        (lambda: Circuit((rx(2, kind="input"),), 1, 2, 0), "reads input 2 of 2"),
        (lambda: Circuit((), 2, 0, 0, wire_labels=("a",)), r"wanted 2 different wire labels, got \('a',\)"),
        (lambda: Circuit((), 2, 0, 0, wire_labels=("a", "a")), "wanted 2 different wire labels"),
        (lambda: Circuit((), 2, 0, 0, wire_labels=(0, 1)), "wanted 2 different wire labels"),
        (lambda: Circuit((), 2, 0, 0, wire_labels=("a", "")), "wanted 2 different wire labels"),
        (lambda: hqconv(0), "layers must be a whole number, at least 1; got 0"),
        (lambda: basic(wires=1), "wires of the Basic ansatz.* at least 2; got 1"),
    ],
)
def test_a_mistake_is_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_lists_become_tuples():
    """Both simulators run a circuit that was written with lists; the engine keeps its plans by circuit."""
    listed = Circuit([Gate("RX", [0], ["input", 0]), Gate("CNOT", [0, 1])], 2, 1, 0, wire_labels=["a", "b"])
    assert listed == Circuit((Gate("RX", (0,), ("input", 0)), Gate("CNOT", (0, 1))), 2, 1, 0, wire_labels=("a", "b"))
    assert type(Gate("RX", np.arange(1)).wires[0]) is int
    assert Circuit((), 2, 0, 0, wire_labels=None) == Circuit((), 2, 0, 0)
    numbers = Gate("RX", (0,), ("weight", np.int64(0)), np.float32(2), torch.tensor(1)), Circuit((), np.int64(1), 0, 0)
    assert numbers[0] == Gate("RX", (0,), ("weight", 0), 2.0, 1.0) and type(numbers[1].n_wires) is int
    with pytest.raises(ValueError, match="different whole numbers; got"):
        Gate("RX", (torch.tensor(0.7),))
    x = torch.tensor([[0.3], [-2.0]])
    torch.testing.assert_close(fast_simulate(listed, x[:, None], torch.zeros(1, 0))[:, 0], x.cos().expand(-1, 2))


def test_dead_weights_need_an_explicit_word():
    gates = (rx(0),)
    assert Circuit(gates, 1, 0, 2, allow_dead_weights=True).dead_weights == (1,)


def everything(x, w):
    """One of each operation that from_pennylane promises, and some that PennyLane decomposes."""
    qml.AngleEmbedding(x, wires=range(4))
    qml.RY(2 * w[0] + 0.5, wires=1)
    qml.RZ(-w[1], wires=2)
    qml.Rot(w[2], w[3] / 3, w[4], wires=3)
    for gate in (qml.Hadamard, qml.PauliX, qml.PauliY, qml.PauliZ, qml.S, qml.T):
        gate(wires=0)
        qml.RX(0.3, wires=0)
    qml.CNOT(wires=[0, 1])
    qml.CRX(w[5], wires=[1, 2])
    qml.CRY(w[6], wires=[2, 3])
    qml.CRZ(x[0], wires=[3, 0])
    qml.CZ(wires=[0, 2])
    qml.SWAP(wires=[1, 3])
    qml.Toffoli(wires=[0, 1, 2])
    qml.adjoint(qml.T(wires=2))
    qml.RX(w[7], wires=2)


def test_from_pennylane_equals_pennylane():
    circuit = Circuit.from_pennylane(everything, n_inputs=4, n_weights=8)
    assert circuit.n_wires == 4
    x = torch.linspace(-2, 3, 4, dtype=torch.float64)
    w = torch.linspace(-4, 5, 8, dtype=torch.float64)

    @qml.qnode(qml.device("default.qubit", wires=4))
    def qnode():
        everything(x, w)
        return [qml.expval(qml.PauliZ(k)) for k in range(4)]

    torch.testing.assert_close(simulate(circuit, x[None], w)[0], torch.stack(qnode()), rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    "fn, error, message",
    [
        (lambda x, w: qml.RX(x[0] * w[0], wires=0), ValueError, "depends on input 0, weight 0"),
        (lambda x, w: qml.RX(w[0] ** 2, wires=0), ValueError, "not scale"),
        (lambda x, w: qml.RY(torch.abs(x[0]), wires=0), ValueError, "not scale"),
        (lambda x, w: qml.RX(torch.clamp(w[0], min=-2), wires=0), ValueError, "no value at one of the points"),
        (lambda x, w: qml.RX(torch.relu(w[0]), wires=0), ValueError, "no value at one of the points"),
        (lambda x, w: qml.RZ(w[0], wires=0) if x[0] > 0 else None, ValueError, "other gates for other values"),
        (lambda x, w: qml.RX(w[0], wires=0) if x[0] * w[0] > 0 else None, ValueError, "other gates for other values"),
        (lambda x, w: [qml.RX(w[0], wires=0), qml.expval(qml.PauliX(0))], ValueError, r"returns expval\(X\(0\)\)"),
        (lambda x, w: [qml.RX(w[0], wires=0), qml.probs(wires=0)], ValueError, "expval.PauliZ. of every wire"),
        (lambda x, w: [qml.RX(w[0], wires=0), qml.var(qml.PauliZ(0))], ValueError, "expval.PauliZ. of every wire"),
        (lambda x, w: qml.QubitDensityMatrix(torch.eye(2) / 2, wires=0), ValueError, "Cannot take the operation"),
        (lambda x, w: qml.RX(w[0], wires="a"), ValueError, "Wires must be integers"),
        (lambda x, w: qml.RX(w[3], wires=0), TypeError, "a vector of 1 inputs and one of 1 weights failed"),
    ],
)
def test_from_pennylane_names_what_it_cannot_take(fn, error, message):
    with pytest.raises(error, match=message):
        Circuit.from_pennylane(fn, 1, 1)


def test_from_pennylane_takes_a_function_that_measures_z():
    def measured(x, w):
        qml.RX(3 * w[0] - 1, wires=0)
        return qml.expval(qml.PauliZ(0))

    assert Circuit.from_pennylane(measured, 0, 1).gates == (Gate("RX", (0,), ("weight", 0), 3.0, -1.0),)


def test_hqconv_written_in_pennylane_is_the_same_circuit():
    def by_hand(x, w):
        for q in range(12):
            qml.RX(x[q], wires=q)
        k = 0
        for channel in (2, 1, 0):
            for i in (3, 2, 1, 0):
                pair = [4 * channel + (i + 1) % 4, 4 * channel + i]
                qml.CRZ(TWO_PI * w[k], wires=pair)
                qml.CRX(TWO_PI * w[k + 1], wires=pair)
                k += 2
        for pair in ([4, 8], [0, 4]):
            qml.CRZ(TWO_PI * w[k], wires=pair)
            qml.CRX(TWO_PI * w[k + 1], wires=pair)
            k += 2

    traced = Circuit.from_pennylane(by_hand, 12, 28)
    wanted = [(g.name, g.wires, g.param) for g in hqconv(1).gates]
    assert [(g.name, g.wires, g.param) for g in traced.gates] == wanted
    assert all(abs(a.scale - b.scale) < 1e-9 for a, b in zip(traced.gates, hqconv(1).gates, strict=True))


def two_wires(x, w):
    qml.RX(x[0], wires=0)
    qml.RY(w[0], wires=1)


def test_from_pennylane_takes_the_function_of_a_qnode():
    both = qml.QNode(two_wires, qml.device("default.qubit", wires=2)), two_wires
    a, b = (Circuit.from_pennylane(fn, 1, 1) for fn in both)
    assert a.gates == b.gates and len(a.gates) == 2


@pytest.mark.parametrize(
    ("parameters", "first"),
    [
        ("weights, inputs", "weight"), ("theta, x", "weight"), ("params, inputs", "weight"), ("w, x", "weight"),
        ("inputs, weights", "input"), ("theta, pixels", "weight"), ("angles, x", "weight"), ("pixels, w", "input"),
        ("weights, x, depth=2", "weight"), ("*, weights, inputs", "weight"), ("a, b", "input"), ("*both", "input"),
    ],
)  # fmt: skip
def test_from_pennylane_goes_by_the_names_of_the_parameters(parameters, first):
    """By both names, or by the one that is known; where none is, inputs come first."""
    names, made = [name for name in parameters.replace("*,", "").split(",") if "=" not in name], {}
    body = "*both" if "both" in parameters else ", ".join(names)
    exec(f"def fn({parameters}): apply({body})", {"apply": two_wires}, made)
    kinds = [gate.param[0] for gate in Circuit.from_pennylane(made["fn"], 1, 1).gates]
    assert kinds == [first, "weight" if first == "input" else "input"]


def returning(*wires):
    return lambda x, w: [two_wires(x, w), *(qml.expval(qml.PauliZ(k)) for k in wires)][1:]


def test_from_pennylane_takes_z_of_all_wires_in_order_and_refuses_others():
    assert Circuit.from_pennylane(returning(0, 1), 1, 1).n_wires == 2
    for wires in ((1,), (0,), (1, 0), (0, 1, 0)):
        with pytest.raises(ValueError, match="of wires 0 … 1 in this order, not of"):
            Circuit.from_pennylane(returning(*wires), 1, 1)
    with pytest.raises(ValueError, match="wires 0 … 2 in this order"):
        Circuit.from_pennylane(returning(0, 1), 1, 1, n_wires=3)


@pytest.mark.parametrize("fn", [lambda x, w: two_wires, lambda x, w: None, lambda x, w: qml.Identity(0)])
def test_from_pennylane_refuses_a_function_that_applies_nothing(fn):
    with pytest.raises(ValueError, match="applies no gate"):
        Circuit.from_pennylane(fn, 1, 1)


@pytest.mark.parametrize(
    "rot",
    [lambda w: qml.CRot(*w, wires=[1, 0]), lambda w: qml.ctrl(qml.Rot(*w, wires=0), control=1),
     lambda w: qml.ctrl(qml.Rot(*w, wires=0), control=1, control_values=[0])],
    ids=["CRot", "controlled Rot", "Rot controlled by 0"],
)  # fmt: skip
def test_from_pennylane_takes_controlled_rotations(rot):
    def fn(x, w):
        two_wires(x, w)
        rot(w[1:])

    circuit, w = Circuit.from_pennylane(fn, 1, 4), torch.tensor([0.4, 1.0, -2.0, 0.3], dtype=torch.float64)
    assert [g.name for g in circuit.gates[2:] if g.name != "PauliX"] == ["CRZ", "CRY", "CRZ"]
    x = torch.tensor([0.7], dtype=torch.float64)
    measured = qml.QNode(lambda: [fn(x, w), qml.expval(qml.PauliZ(0)), qml.expval(qml.PauliZ(1))][1:],
                         qml.device("default.qubit", wires=2))  # fmt: skip
    torch.testing.assert_close(simulate(circuit, x[None], w)[0], torch.stack(measured()), rtol=0, atol=1e-12)


@pytest.mark.parametrize("angle", [lambda w: w[0, 0], lambda w: w[0][0], lambda w: [row[0] for row in w][0]])
def test_from_pennylane_says_that_weights_are_one_vector(angle):
    with pytest.raises(TypeError, match=r"weights\[3\], not weights\[0, 3\]"):
        Circuit.from_pennylane(lambda x, w: qml.RX(angle(w), wires=0), 0, 4)


def test_from_pennylane_speaks_of_indexing_only_where_that_fails():
    with pytest.raises(TypeError, match="failed: .*takes 1 positional argument but 2 were given"):
        Circuit.from_pennylane(lambda x: qml.RX(x[0], wires=0), 1, 0)


def test_the_drawings_in_the_docstrings_are_those_of_circuit_text():
    """Each ansatz shows its drawing; doctest compares it with what `circuit_text` prints."""
    result = doctest.testmod(circuits)
    assert result.failed == 0
    for ansatz in (hqconv, fqconv, basic, hqconv_released):
        assert ">>> print(circuit_text(" in ansatz.__doc__
