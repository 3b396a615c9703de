"""Which weights act: the audits find what is dead, and find nothing dead where all is alive."""

from dataclasses import FrozenInstanceError

import pytest
import torch
from torch import nn

from qdm_lib.audit import audit_circuit, audit_layer, audit_model, interaction_graph, ranges
from qdm_lib.blocks import CircuitConv, ResnetBlock, SplitConv, WeightStandardizedConv2d
from qdm_lib.circuits import Circuit, Gate, basic, fqconv, hqconv, hqconv_released
from qdm_lib.quantum import QuantumLayer
from qdm_lib.simulator import simulate
from qdm_lib.unet import PRESETS, build_unet, count_parameters

CNOT, RX = "CNOT", "RX"


@pytest.mark.parametrize("circuit", [hqconv(1), hqconv(3), fqconv(1), fqconv(3), basic()], ids=lambda c: c.name)
def test_every_weight_of_our_circuits_acts(circuit):
    audit = audit_circuit(circuit)
    assert audit.alive_weights == tuple(range(circuit.n_weights)) and audit.dead_weights == ()
    assert audit.cosine_outputs == ()
    assert audit.weight_to_output.shape == (circuit.n_weights, circuit.n_wires)


def test_what_the_released_code_runs():
    audit = audit_circuit(hqconv_released(3))
    assert audit.alive_weights == tuple(28 * layer + j for layer in range(3) for j in range(4))
    assert audit.cosine_outputs == (0, 1, 2, 3, 5, 6, 7, 9, 10, 11)
    assert [audit.inputs_of(w) for w in (0, 4, 8)] == [(0,), (0, 4, 8), (0, 4, 8)]
    text = str(audit)
    assert "12 of 84" in text and "10 of 12" in text and "4–27" in text and "0–3, 5–7, 9–11" in text


def test_inputs_reach_what_the_graph_allows():
    audit = audit_circuit(hqconv(3), points=2)
    assert all(audit.inputs_of(w) == tuple(range(12)) for w in range(12))
    audit = audit_circuit(fqconv(3))
    for part in interaction_graph(fqconv(3)).components:
        assert all(audit.inputs_of(w) == part for w in part)


def test_derivatives_agree_with_finite_differences():
    circuit, h = hqconv(1), 1e-6
    generator = torch.Generator().manual_seed(5)
    x = torch.randn(1, 12, generator=generator, dtype=torch.float64)
    theta = torch.rand(1, 28, generator=generator, dtype=torch.float64)
    audit = audit_circuit(circuit, points=1, seed=5)
    step = h * torch.eye(28, dtype=torch.float64)
    slope = (simulate(circuit, x.expand(28, -1), theta + step) - simulate(circuit, x.expand(28, -1), theta - step)) / (
        2 * h
    )
    torch.testing.assert_close(audit.weight_to_output, slope.abs(), atol=1e-7, rtol=0)


def test_a_weight_that_a_gate_reads_can_still_be_dead():
    """RZ after the last mixing gate is not seen by Z; and a circuit without weights has nothing to audit."""
    gates = (Gate(RX, (0,), ("input", 0)), Gate(RX, (0,), ("weight", 0)), Gate("RZ", (0,), ("weight", 1)))
    audit = audit_circuit(Circuit(gates, 2, 1, 2))
    assert audit.alive_weights == (0,) and audit.dead_weights == (1,)
    assert audit.inputs_of(1) == ()  # a wire without a gate
    plain = audit_circuit(Circuit((Gate(RX, (0,), ("input", 0)),), 1, 1, 0))
    assert plain.alive_weights == () and plain.cosine_outputs == (0,)
    assert audit_circuit(Circuit((Gate(CNOT, (0, 1)),), 2, 0, 0)).input_to_output.shape == (0, 2)


def test_audit_is_frozen_and_repeats():
    first, second = audit_circuit(basic(), seed=3), audit_circuit(basic(), seed=3)
    torch.testing.assert_close(first.weight_to_output, second.weight_to_output, rtol=0, atol=0)
    with pytest.raises(FrozenInstanceError):
        first.points = 7


def test_a_model_is_audited_on_one_image_at_least():
    with pytest.raises(ValueError, match="images must be a whole number, at least 1; got 0"):
        audit_model(build_unet("unet"), images=0)


@pytest.mark.parametrize("bad", [dict(points=0), dict(points=1.5), dict(tolerance=0.0), dict(tolerance=float("nan"))])
def test_bad_arguments(bad):
    with pytest.raises(ValueError):
        audit_circuit(basic(), **bad)


def test_interaction_graphs():
    hq, fq = interaction_graph(hqconv(3)), interaction_graph(fqconv(3))
    rings = {(4 * c + (i + 1) % 4, 4 * c + i) for c in range(3) for i in range(4)}
    assert {(c.control, c.target) for c in hq.couplings if c.block == "A"} == rings
    assert {(c.control, c.target) for c in hq.couplings if c.block == "B"} == {(4, 8), (0, 4)}
    assert all(c.gates == 6 for c in hq.couplings)  # CRZ and CRX in each of three layers
    assert hq.components == (tuple(range(12)),)
    assert fq.components == tuple((p, 4 + p, 8 + p) for p in range(4))
    assert len(hq.between({8, 9, 10, 11})) == 1 and len(hq.between({4, 5, 6, 7})) == 2
    assert len(fq.between({8, 9, 10, 11})) == 16  # 8 pairs, each by C and by D
    assert "c1 p0 → c2 p0" in str(hq) and "0, 4, 8 | 1, 5, 9" in str(fq)


def hybrid(ansatz):
    return lambda c_in, c_out: SplitConv(
        CircuitConv(QuantumLayer(ansatz, generator=torch.Generator().manual_seed(0)), 1),
        3,
        WeightStandardizedConv2d(c_in - 3, c_out - 3),
    )


def test_a_bias_before_a_norm_of_one_channel_a_group_is_dead():
    x, time = torch.randn(2, 10, 2, 2), torch.randn(2, 8)
    audit = audit_layer(ResnetBlock(10, 10, 8), x, time)
    assert [p.name for p in audit.partly_dead] == ["conv1.bias", "conv2.bias"]
    assert audit["conv1.bias"].n_alive == 0 and audit["conv1.weight"].n_alive == 900
    assert "conv1.bias (10): 0 of 10" in str(audit)
    # with two channels a group the bias is a difference between them, and acts
    x = torch.randn(2, 20, 2, 2)
    assert audit_layer(ResnetBlock(20, 20, 8), x, time).partly_dead == ()


def test_circuits_inside_a_block():
    x, time = torch.randn(2, 10, 2, 2), torch.randn(2, 8)
    ours = audit_layer(ResnetBlock(10, 10, 8, hybrid(hqconv(3))), x, time).only("theta")
    assert (ours.n_alive, ours.n_entries) == (168, 168)
    released = audit_layer(ResnetBlock(10, 10, 8, hybrid(hqconv_released(3))), x, time).only("theta")
    assert released.n_alive == 24
    alive = released["conv1.quantum.layer.theta"].alive
    assert alive.shape == (1, 84) and alive.nonzero()[:, 1].tolist() == list(
        audit_circuit(hqconv_released(3)).alive_weights
    )


def test_a_model_of_few_time_steps_is_asked_about_no_others():
    assert audit_model(build_unet("unet", seed=0, T=10), images=8, draws=1).n_alive > 0


@pytest.mark.parametrize("preset, dead", [("unet", 140), ("1hqconv", 140), ("quanv-hqconv", 128)])
def test_whole_models(preset, dead):
    model = build_unet(preset, seed=0)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    audit = audit_model(model, draws=1)
    assert audit.n_entries == count_parameters(model) and audit.n_entries - audit.n_alive == dead
    assert all(p.name.endswith("bias") and ".conv" in p.name for p in audit.partly_dead)
    for key, value in model.state_dict().items():
        torch.testing.assert_close(value, before[key], rtol=0, atol=0)
    assert all(p.dtype == torch.float32 and p.grad is None for p in model.parameters())


@pytest.mark.parametrize("preset", [name for name in PRESETS if name != "unet"])
def test_every_circuit_weight_of_every_preset_acts(preset):
    theta = audit_model(build_unet(preset, seed=0), draws=1).only("theta")
    assert theta.n_entries > 0 and theta.n_alive == theta.n_entries


def test_audit_layer_takes_frozen_and_unused_parameters():
    layer = nn.Linear(3, 2)
    layer.bias.requires_grad_(False)
    assert list(audit_layer(layer, torch.randn(4, 3)).parameters) == ["weight"]
    layer.unused = nn.Parameter(torch.randn(5))
    audit = audit_layer(layer, torch.ones(4, 3))
    assert audit["unused"].n_alive == 0 and audit["weight"].n_alive == 6
    with torch.no_grad():  # works where gradients are switched off
        assert audit_layer(layer, torch.ones(4, 3))["weight"].n_alive == 6
    for bad in (nn.ReLU(), nn.Linear(2, 2).requires_grad_(False)):
        with pytest.raises(ValueError, match="no trainable parameters"):
            audit_layer(bad, torch.ones(1, 2))


@pytest.mark.parametrize("scale", [float("nan"), float("inf")])
def test_a_layer_that_gives_no_numbers_is_refused(scale):
    """Its entries once counted as dead."""
    layer = nn.Linear(2, 2)
    layer.register_forward_hook(lambda module, inputs, output: output * scale)
    with pytest.raises(ValueError, match="Linear gives NaN or infinity"):
        audit_layer(layer, torch.randn(3, 2))
    layer = nn.Linear(2, 2)
    layer.register_forward_hook(lambda module, inputs, output: (output - output.detach()).sqrt())  # gradient: infinity
    with pytest.raises(ValueError, match="Linear gives NaN or infinity"):
        audit_layer(layer, torch.randn(3, 2))


def test_ranges():
    assert ranges(()) == "" and ranges((3,)) == "3" and ranges((0, 1, 2, 5, 7, 8)) == "0–2, 5, 7–8"
