"""Every model of the paper: exact counts, live parameters, the wiring of channels to wires."""

import numpy as np
import pytest
import torch
from torch import nn

from qdm_lib.blocks import CircuitConv, ResnetBlock, SplitConv, WeightStandardizedConv2d
from qdm_lib.circuits import ANSATZE, Circuit, Gate, angle_encoding, basic, hqconv
from qdm_lib.quantum import QuantumLayer
from qdm_lib.runs import RunConfig
from qdm_lib.unet import PRESETS, UNetConfig, build_unet, count_parameters, resolve_hybridization

COUNTS = {
    "unet": 483_321,
    "1hqconv": 475_329,
    "7hqconv": 440_985,
    "fullhqconv": 429_993,
    "1fqconv": 475_281,
    "7fqconv": 440_649,
    "fullfqconv": 429_369,
    "quanv-hqconv": 473_817,
    "quanv-fqconv": 473_721,
}


@pytest.mark.parametrize("preset", PRESETS)
def test_parameter_counts(preset):
    assert count_parameters(build_unet(preset, seed=0)) == COUNTS[preset]


def test_quanvunet_has_two_counts():
    """The released code has 473,817; the paper prints 474,293, which one natural reading gives.

    In that reading each remaining convolution of level two sees all 10 channels (7·10·9 + 7 = 637
    parameters, not 7·7·9 + 7 = 448) and a block's two convolutions share one single-layer circuit
    of 28 weights (not two of 84): per block 2·637 + 28 − 2·(448 + 84) = 238 more.
    """
    paper = build_unet("quanv-hqconv", paper_count=True, seed=0)
    assert count_parameters(paper) == 474_293 == COUNTS["quanv-hqconv"] + 2 * 238


@pytest.mark.parametrize(
    "value, wanted",
    [(0, (0, False)), (1, (1, False)), (13, (13, False)), ("full", (13, True)), (0.0, (0, False))]
    + [(0.1, (1, False)), (0.5, (7, False)), (1.0, (13, True)), (0.975, (13, False))]
    + [(np.int64(3), (3, False)), (np.float64(0.5), (7, False)), (np.float64(1), (13, True))],
)
def test_hybridization_resolves(value, wanted):
    assert resolve_hybridization(value) == wanted
    assert build_unet("unet", hybridization=value, verbose=False).config.full is wanted[1]


def test_hybridization_says_what_it_resolved_to(capsys):
    model = build_unet("unet", hybridization=0.5, seed=0)
    assert count_parameters(model) == COUNTS["7hqconv"]
    assert "7 hqconv circuits on 21 of 40 vertex channels (52.5%)" in capsys.readouterr().out


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: build_unet("2hqconv"), "Unknown preset '2hqconv'"),
        (lambda: build_unet("unet", hybridization=14), "int 0 … 13"),
        (lambda: build_unet("unet", hybridization=True), "got True"),
        (lambda: build_unet("7hqconv", hybridization=1, n_circuits=7), "hybridization=1 says n_circuits already"),
        (lambda: build_unet(hybridization="full", full=True, n_circuits=13), "says n_circuits and full already"),
        (lambda: build_unet("unet", hybridization=1.5), "float 0.0 … 1.0"),
        (lambda: build_unet("unet", width=20), "Unknown option 'width'"),
        (lambda: build_unet("unet", ansatz="nope"), "Unknown ansatz 'nope'"),
        (lambda: build_unet("unet", paper_count=True), "needs quanv=True"),
        (lambda: UNetConfig(full=True), "needs n_circuits=13"),
        (lambda: UNetConfig(n_circuits=14), "n_circuits must be a whole number, 0 … 13; got 14"),
        (lambda: build_unet("unet")(torch.zeros(2, 1, 32, 32), torch.zeros(2).long()), r"got \(2, 1, 32, 32\)"),
        (lambda: build_unet("unet")(torch.zeros(2, 1, 28, 28), torch.zeros(3).long()), r"and \(3,\)"),
    ],
)
def test_a_mistake_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("t", [5, torch.zeros(2)])
def test_steps_are_whole_numbers_in_a_tensor(t):
    with pytest.raises(TypeError, match="t must be an int64 tensor of time steps, one for each image"):
        build_unet("unet")(torch.zeros(2, 1, 28, 28), t)


@pytest.mark.parametrize(
    "x_t, t, message",
    [
        (
            torch.zeros(1, 1, 28, 28),
            torch.tensor([0.5]),
            "int64 tensor of time steps.*not torch.float32",
        ),
        (torch.zeros(1, 1, 28, 28, dtype=torch.uint8), torch.tensor([5]), "dtype torch.float32, got torch.uint8"),
        (torch.zeros(1, 1, 28, 28, dtype=torch.float64), torch.tensor([5]), "dtype torch.float32, got torch.float64"),
    ],
)
def test_a_wrong_kind_of_input_is_named(x_t, t, message):
    with pytest.raises(TypeError, match=message):
        build_unet("unet")(x_t, t)


def test_the_dtype_is_free_under_autocast():
    model, x_t = build_unet("unet", seed=0), torch.zeros(1, 1, 28, 28, dtype=torch.bfloat16)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert model(x_t, torch.tensor([5])).isfinite().all()


def batch(rows=3, seed=0):
    g = torch.Generator().manual_seed(seed)
    return torch.randn(rows, 1, 28, 28, generator=g), torch.randint(0, 1000, (rows,), generator=g), g


def cancelled(model):
    """Parameters whose gradient is zero by mathematics: a shift that a norm takes away again.

    A convolution's bias adds one number to every pixel of a channel. GroupNorm subtracts the mean
    over each group of channels; with one channel a group (10 groups, 10 channels) that mean takes
    the number away. At 20, 30 and 40 channels a group holds several channels, whose biases differ.
    """
    for name, module in model.named_modules():
        if isinstance(module, ResnetBlock):
            for conv, norm in ((module.conv1, module.norm1), (module.conv2, module.norm2)):
                if norm.num_channels == norm.num_groups:
                    last = conv.rest if isinstance(conv, SplitConv) else conv
                    yield next(f"{name}.{n}" for n, m in module.named_modules() if m is last) + ".bias"


@pytest.mark.parametrize("preset", [*PRESETS, "paper_count"])
def test_every_parameter_entry_gets_a_gradient(preset):
    """Not "grad is not None": each single entry moves a generic loss."""
    paper = preset == "paper_count"
    model = build_unet("quanv-hqconv" if paper else preset, paper_count=paper, seed=1).double()
    x, t, g = batch(4)
    weight = torch.randn(4, 1, 28, 28, generator=g, dtype=torch.float64)
    (model(x.double(), t) * weight).sum().backward()
    dead = set(cancelled(model))
    assert len(dead) == 14
    for name, p in model.named_parameters():
        if name in dead:
            assert p.grad.abs().max() < 1e-9, f"{name} should cancel"
        else:
            assert (p.grad.abs() > 1e-12).all(), f"{name}: {(p.grad == 0).sum()} dead entries"


@pytest.mark.parametrize("preset", ["unet", "fullfqconv", "quanv-fqconv"])
def test_output_depends_on_t_and_on_x(preset):
    model = build_unet(preset, seed=0)
    x, t, _ = batch()
    with torch.no_grad():
        out = model(x, t)
        assert out.shape == x.shape
        assert (model(x, (t + 300) % 1000) - out).abs().max() > 1e-3
        assert (model(x.flip(0), t) - out).abs().max() > 1e-3


def test_same_seed_same_weights():
    a, b, c = (build_unet("7fqconv", seed=s).state_dict() for s in (5, 5, 6))
    assert all(torch.equal(a[k], b[k]) for k in a)
    assert any(not torch.equal(a[k], c[k]) for k in a)


class Recorder(nn.Module):
    """Stands in for a QuantumLayer and keeps the inputs."""

    def forward(self, x):
        self.seen = x
        return x


def test_channel_and_pixel_go_to_wire_4c_plus_p():
    recorder = Recorder()
    conv = CircuitConv(recorder, n_circuits=2)
    for channel in range(6):
        for row in range(2):
            for column in range(2):
                x = torch.zeros(1, 6, 2, 2)
                x[0, channel, row, column] = 1
                out = conv(x)
                wanted = torch.zeros(1, 2, 12)
                wanted[0, channel // 3, 4 * (channel % 3) + 2 * row + column] = 1
                assert torch.equal(recorder.seen, wanted)
                assert torch.equal(out, x)  # an output goes back where its input came from


def test_quanvolution_slides_one_circuit_over_patches():
    """Moving one pixel moves only the outputs of its own patch, in the channels its circuit couples."""
    layer = QuantumLayer(hqconv(2), generator=torch.Generator().manual_seed(0))
    conv = CircuitConv(layer, 1)
    x = torch.randn(1, 3, 14, 14, generator=torch.Generator().manual_seed(1))
    moved = x.clone()
    moved[0, 1, 5, 8] += 0.5  # the patch of rows 4–5 and columns 8–9
    with torch.no_grad():
        changed = (conv(moved) - conv(x)).abs()[0].amax(0) > 1e-7
    assert changed[4:6, 8:10].any()
    changed[4:6, 8:10] = False
    assert not changed.any()
    whole = layer(torch.stack([x[0, :, 4:6, 8:10].reshape(1, 12)], 1))
    torch.testing.assert_close(conv(x)[0, :, 4:6, 8:10].reshape(12), whole[0, 0])


def test_the_vertex_is_replaced_and_nothing_else():
    """1hqconv differs from unet in the four vertex convolutions only."""
    classical, hybrid = (build_unet(p, seed=0).state_dict() for p in ("unet", "1hqconv"))
    differing = {k for k in classical.keys() ^ hybrid.keys()}
    assert all(k.startswith(("vertex_block1.conv", "vertex_block2.conv")) for k in differing)
    assert {k for k in hybrid if k.endswith("theta")} == {
        f"vertex_block{b}.conv{c}.quantum.layer.theta" for b in (1, 2) for c in (1, 2)
    }


def test_one_convolution_class_is_injected_into_one_block_class():
    blocks = [m for p in PRESETS for m in build_unet(p, seed=0).modules() if isinstance(m, ResnetBlock)]
    assert {type(b) for b in blocks} == {ResnetBlock}
    assert {type(b.conv1) for b in blocks} == {WeightStandardizedConv2d, SplitConv}


def test_a_users_ansatz_is_one_short_function(monkeypatch):
    def my_ansatz(layers):
        gates = angle_encoding(12)
        gates += [Gate("RY", (q,), ("weight", q)) for q in range(12)]
        return Circuit(tuple(gates), 12, 12, 12, "mine")

    monkeypatch.setitem(ANSATZE, "mine", my_ansatz)
    model = build_unet("1hqconv", ansatz="mine", seed=0)
    assert count_parameters(model) == COUNTS["1hqconv"] - 4 * (84 - 12)
    x, t, _ = batch(2)
    assert model(x, t).isfinite().all()


def test_positions_axis_changes_the_vertex_attention_only():
    x, t, _ = batch()
    ours, released = (build_unet("unet", seed=0, normalize=axis) for axis in ("features", "positions"))
    assert all(
        torch.equal(a, b) for a, b in zip(ours.state_dict().values(), released.state_dict().values(), strict=True)
    )
    assert (ours(x, t) - released(x, t)).abs().max() > 1e-6


@pytest.mark.parametrize("wires", [4, 11, 13])
@pytest.mark.parametrize("preset", ["1hqconv", "quanv-hqconv"])
def test_an_ansatz_of_other_wires_is_refused_when_the_model_is_built(preset, wires, monkeypatch):
    monkeypatch.setitem(ANSATZE, "mine", lambda layers: basic(wires, layers))
    with pytest.raises(ValueError, match=f"an ansatz of 12 wires and 12 inputs, got {wires} and {wires} from 'mine'"):
        build_unet(preset, ansatz="mine")
    with pytest.raises(ValueError, match="an ansatz of 12 wires"):  # a run refuses it before it reads images
        RunConfig(preset, "mnist", 1, 0, model_options={"ansatz": "mine"})


def test_an_ansatz_that_gives_no_circuit_is_refused(monkeypatch):
    monkeypatch.setitem(ANSATZE, "mine", lambda layers: None)
    with pytest.raises(ValueError, match="an ansatz of 12 wires and 12 inputs, got None from 'mine'"):
        build_unet("1hqconv", ansatz="mine")


@pytest.mark.parametrize("preset", ["unet", "1hqconv"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_weights_in_half_precision_are_refused(preset, dtype):
    with pytest.raises(TypeError, match="weights in float32 or float64.*torch.autocast"):
        build_unet(preset).to(dtype)(torch.zeros(1, 1, 28, 28, dtype=dtype), torch.tensor([5]))


@pytest.mark.parametrize("seed", [1.5, True, -1, "0"])
def test_a_seed_is_a_whole_number(seed):
    with pytest.raises(ValueError, match="seed must be a whole number"):
        build_unet("unet", seed=seed)


@pytest.mark.parametrize("preset", ["unet", "fullhqconv", "quanv-fqconv"])
def test_models_run_on_meta_tensors_and_can_be_filled_later(preset):
    with torch.device("meta"):
        empty = build_unet(preset)
        assert empty(torch.zeros(2, 1, 28, 28), torch.zeros(2, dtype=torch.int64)).shape == (2, 1, 28, 28)
    model, (x, t, _) = build_unet(preset, seed=0), batch(2)
    empty.to_empty(device="cpu").load_state_dict(model.state_dict())
    assert torch.equal(empty(x, t), model(x, t))


@pytest.mark.parametrize("preset", ["unet", "1hqconv", "quanv-hqconv", "quanv-fqconv"])
def test_an_empty_batch_has_gradients(preset):
    model = build_unet(preset, seed=0)
    model(torch.zeros(0, 1, 28, 28), torch.zeros(0, dtype=torch.int64)).sum().backward()
    assert all(p.grad is not None and not p.grad.any() for p in model.parameters())
