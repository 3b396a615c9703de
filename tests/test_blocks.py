"""The blocks against references written out by hand, and the fast forms against the plain ones."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from qdm_lib.blocks import (
    ChannelNorm,
    CircuitConv,
    FastFilmNorm,
    FastLinearAttention,
    FilmNorm,
    LinearAttention,
    ResnetBlock,
    SplitConv,
    TimeEmbedding,
    Upsample,
    VertexAttention,
    WeightStandardizedConv2d,
    lecun_normal_,
)
from qdm_lib.engine import attention as fused
from qdm_lib.unet import build_unet


def double(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def shaken(module):
    """In double precision, and with no parameter at its special starting value of zero or one."""
    module = module.double()
    with torch.no_grad():
        for k, parameter in enumerate(module.parameters()):
            parameter += 0.3 * double(*parameter.shape, seed=k)
    return module


def values_and_gradients(module, *inputs):
    """[output, gradient of every input, gradient of every parameter] of a fixed linear function of the output."""
    inputs = [x.detach().clone().requires_grad_() for x in inputs]
    module.zero_grad()
    out = module(*inputs)
    (out * double(*out.shape, seed=99).to(out.dtype)).sum().backward()
    return [out.detach(), *(x.grad for x in inputs), *(p.grad.clone() for p in module.parameters())]


def assert_same(got, want, tolerance=1e-10):
    """Every entry within the tolerance, measured by the largest entry: some gradients are zero by mathematics."""
    size = max(1, *(b.abs().max() for b in want))
    for k, (a, b) in enumerate(zip(got, want, strict=True)):
        assert a.shape == b.shape
        assert (a - b).abs().max() <= tolerance * size, f"entry {k}: {(a - b).abs().max():.1e} of {size:.1e}"


# ---- against references ---------------------------------------------------------------------------


def test_time_embedding_is_sines_then_cosines():
    embedding = TimeEmbedding(10)
    seen = {}
    embedding.layers.register_forward_pre_hook(lambda _, args: seen.update(x=args[0]))
    assert embedding(torch.tensor([0, 7, 999])).shape == (3, 40)
    for row, t in zip(seen["x"], (0, 7, 999), strict=True):
        angles = [t * math.exp(-math.log(10000) * k / 4) for k in range(5)]
        want = [math.sin(a) for a in angles] + [math.cos(a) for a in angles]
        assert row.tolist() == pytest.approx(want, abs=1e-4)  # sin(999.0f) has lost some digits


def test_standardized_kernel_has_mean_zero_and_variance_one():
    conv = shaken(WeightStandardizedConv2d(4, 6))
    x = double(2, 4, 5, 7)
    kernels = []
    for w in conv.weight:  # one output channel at a time
        variance = ((w - w.mean()) ** 2).mean()
        kernels.append((w - w.mean()) / torch.sqrt(variance + 1e-5))
    want = F.conv2d(x, torch.stack(kernels), conv.bias, padding=1)
    assert_same([conv(x)], [want])
    assert conv(x).shape == (2, 6, 5, 7)


@pytest.mark.parametrize("channels_in, channels", [(10, 10), (20, 10), (50, 30)])
def test_resnet_block_formula(channels_in, channels):
    block, x, time = shaken(ResnetBlock(channels_in, channels, 8)), double(2, channels_in, 14, 14), double(2, 8, seed=1)

    def group_norm(h, norm):  # over the pixels and channels of each group
        groups = h.reshape(2, 10, -1)
        mean, var = groups.mean(-1, keepdim=True), groups.var(-1, correction=0, keepdim=True)
        h = ((groups - mean) / torch.sqrt(var + 1e-6)).reshape(h.shape)
        return h * norm.weight[:, None, None] + norm.bias[:, None, None]

    scale_shift = block.time(F.silu(time))
    scale, shift = scale_shift[:, :channels, None, None], scale_shift[:, channels:, None, None]
    h = F.silu(group_norm(block.conv1(x), block.norm1) * (1 + scale) + shift)
    h = F.silu(group_norm(block.conv2(h), block.norm2))
    assert_same([block(x, time)], [block.skip(x) + h])
    assert isinstance(block.skip, nn.Identity) == (channels_in == channels)


def test_channel_norm_normalises_each_pixel():
    norm, x = shaken(ChannelNorm(6)), double(2, 6, 3, 5)
    want = torch.empty_like(x)
    for b, i, j in ((b, i, j) for b in range(2) for i in range(3) for j in range(5)):
        v = x[b, :, i, j]
        want[b, :, i, j] = (v - v.mean()) / torch.sqrt(((v - v.mean()) ** 2).mean() + 1e-5) * norm.scale
    assert_same([norm(x)], [want])


def heads_of(attention, x):
    """q, k, v of one head at a time, each (feature, position), from a channel-normalised image (c, P)."""
    q, k, v = (attention.qkv.weight[:, :, 0, 0] @ x).chunk(3)
    return [(q[32 * h : 32 * h + 32], k[32 * h : 32 * h + 32], v[32 * h : 32 * h + 32]) for h in range(4)]


@pytest.mark.parametrize("channels, size", [(10, 4), (6, 7), (40, 2)])
def test_linear_attention_formula(channels, size):
    attention, x = shaken(LinearAttention(channels)), double(2, channels, size, size)
    P, rows = size * size, []
    for image in attention.norm(x).flatten(2):
        outputs = []
        for q, k, v in heads_of(attention, image):
            q = torch.exp(q) / torch.exp(q).sum(0) / math.sqrt(32)
            k = torch.exp(k) / torch.exp(k).sum(1, keepdim=True)
            context = sum(torch.outer(k[:, p], v[:, p] / P) for p in range(P))
            outputs.append(context.T @ q)
        rows.append(attention.out.weight[:, :, 0, 0] @ torch.cat(outputs) + attention.out.bias[:, None])
    want = x + attention.out_norm(torch.stack(rows).reshape(x.shape))
    assert_same([attention(x)], [want])


@pytest.mark.parametrize("normalize, axis", [("features", 0), ("positions", 1)])
def test_vertex_attention_formula(normalize, axis):
    attention, x = shaken(VertexAttention(40, normalize=normalize)), double(2, 40, 2, 2)
    rows = []
    for image in attention.norm(x).flatten(2):
        outputs = []
        for q, k, v in heads_of(attention, image):
            q, k = q / q.norm(dim=axis, keepdim=True), k / k.norm(dim=axis, keepdim=True)
            out = torch.zeros_like(v)
            for i in range(4):
                weights = torch.exp(10 * k.T @ q[:, i])
                out[:, i] = v @ (weights / weights.sum())
            outputs.append(out)
        rows.append(attention.out.weight[:, :, 0, 0] @ torch.cat(outputs) + attention.out.bias[:, None])
    assert_same([attention(x)], [x + torch.stack(rows).reshape(x.shape)])


@pytest.mark.parametrize("small, large, source", [(2, 7, [0, 0, 0, 1, 1, 1, 1]), (3, 6, [0, 0, 1, 1, 2, 2])])
def test_upsampling_takes_half_pixel_centres(small, large, source):
    up, x = Upsample(4, 3, large).double(), double(2, 4, small, small)
    want = up.conv(x[:, :, source][:, :, :, source])  # output pixel i shows input pixel ⌊(i + ½)·small/large⌋
    assert_same([up(x)], [want])


def test_split_convolution_concatenates():
    x = double(2, 5, 4, 4)
    split = SplitConv(nn.Identity(), 3, nn.Identity())
    assert_same([split(x)], [x])
    assert SplitConv(nn.Identity(), 3, nn.Identity(), rest_sees_all=True)(x).shape == (2, 8, 4, 4)


def test_lecun_normal_has_the_right_spread_and_no_far_values():
    w = lecun_normal_(torch.empty(200, 8, 5, 5), torch.Generator().manual_seed(0))
    assert w.std().item() == pytest.approx(math.sqrt(1 / 200), rel=0.02)
    assert w.abs().max() <= 2 * math.sqrt(1 / 200) / 0.8796


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: CircuitConv(nn.Identity(), 2)(double(1, 5, 4, 4)), r"Wanted 6 channels .* got \(1, 5, 4, 4\)"),
        (lambda: CircuitConv(nn.Identity(), 1)(double(1, 3, 3, 4)), "even height and width"),
        (lambda: VertexAttention(40, normalize="both"), "Unknown normalize 'both'.* Known are features, positions"),
        (lambda: CircuitConv(nn.Identity(), 0), "n_circuits must be a whole number, at least 1; got 0"),
        (lambda: SplitConv(nn.Identity(), -1, nn.Identity()), "k must be a whole number, at least 1; got -1"),
        (lambda: TimeEmbedding(2), "dim must be a whole number, at least 4; got 2"),
        (lambda: TimeEmbedding(5), "dim must be even, half for sines and half for cosines; got 5"),
    ],
)
def test_a_mistake_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


# ---- fast against plain ---------------------------------------------------------------------------

MAPS = [(3, 10, 28), (1, 10, 14), (2, 20, 14), (2, 30, 7), (2, 7, 5)]


@pytest.fixture(params=[False, True], ids=["one slice", "many slices"])
def slices(request, monkeypatch):
    if request.param:
        monkeypatch.setattr(fused, "_SLICE", 1)


def both(fast, plain, *inputs):
    """Values and gradients of a module in its fast and in its plain form, with the same weights."""
    plain = plain.to(next(fast.parameters()).dtype)
    plain.load_state_dict(fast.state_dict())
    return values_and_gradients(fast, *inputs), values_and_gradients(plain, *inputs)


@pytest.mark.parametrize("batch, channels, size", MAPS)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_fast_attention_agrees_with_plain(batch, channels, size, layout, slices):
    x = double(batch, channels, size, size).contiguous(memory_format=layout)
    assert_same(*both(shaken(FastLinearAttention(channels)), LinearAttention(channels), x))


@pytest.mark.parametrize("batch, channels, size", [m for m in MAPS if m[1] % 10 == 0])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_fast_resnet_block_agrees_with_plain(batch, channels, size, layout):
    x = double(batch, channels, size, size).contiguous(memory_format=layout)
    plain = ResnetBlock(channels, 10, 8, norm=FilmNorm)
    assert_same(*both(shaken(ResnetBlock(channels, 10, 8)), plain, x, double(batch, 8, seed=1)))


@pytest.mark.parametrize("groups", [1, 2, 3, 6])
def test_fast_norm_agrees_with_plain_for_any_groups(groups):
    # far from zero, as a sum of squares would notice
    inputs = double(2, 6, 6, 4) + 100, double(2, 6, seed=1), double(2, 6, seed=2)
    assert_same(*both(shaken(FastFilmNorm(groups, 6)), FilmNorm(groups, 6), *inputs), 1e-9)


def test_channel_norm_is_its_formula():
    norm, x = shaken(ChannelNorm(10)), double(2, 10, 6, 6) + 5
    var, mean = torch.var_mean(x, 1, correction=0, keepdim=True)
    assert_same([norm(x).detach()], [((x - mean) * torch.rsqrt(var + 1e-5) * norm.scale[:, None, None]).detach()])


def test_fast_attention_survives_large_weights():
    attention = shaken(FastLinearAttention(10))
    with torch.no_grad():
        attention.qkv.weight *= 300  # exp of these would overflow
    fast, plain = both(attention, LinearAttention(10), double(2, 10, 8, 8))
    assert all(torch.isfinite(part).all() for part in fast)
    assert_same(fast, plain, 1e-8)


@pytest.mark.parametrize("preset", ["unet", "quanv-fqconv"])
def test_fast_unet_agrees_with_plain(preset):
    """Value, and the gradient of every parameter."""
    model = shaken(build_unet(preset, seed=0))
    t = torch.tensor([0, 500, 999])
    plain = build_unet(preset, forms="plain")
    assert_same(*both(Pinned(model, t), Pinned(plain, t), double(3, 1, 28, 28)))


class Pinned(nn.Module):
    """A model at fixed time steps."""

    def __init__(self, model, t):
        super().__init__()
        self.model, self.t = model, t

    def forward(self, x):
        return self.model(x, self.t)


def test_fast_unet_agrees_with_plain_in_single_precision():
    model = build_unet("unet", seed=0)
    x, t = torch.randn(4, 1, 28, 28, generator=torch.Generator().manual_seed(0)), torch.tensor([1, 10, 100, 990])
    assert_same(*both(Pinned(model, t), Pinned(build_unet("unet", forms="plain"), t), x), 1e-4)


def test_no_grad_gives_the_same(slices):
    attention, x = shaken(FastLinearAttention(10)), double(3, 10, 8, 8)
    want = attention(x)
    with torch.no_grad():
        assert_same([attention(x)], [want.detach()])


def test_empty_batch():
    model = build_unet("unet", seed=0)
    assert model(torch.zeros(0, 1, 28, 28), torch.zeros(0, dtype=torch.int64)).shape == (0, 1, 28, 28)


def test_frozen_parameters_get_no_gradient():
    attention = FastLinearAttention(10)
    attention.qkv.weight.requires_grad_(False)
    attention(torch.randn(2, 10, 6, 6)).sum().backward()
    assert attention.qkv.weight.grad is None
    assert attention.out.weight.grad is not None


@pytest.mark.parametrize(
    "device",
    ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"))],
)
def test_gradcheck_of_the_hand_derived_backward_passes(device, slices):
    x, W, M = (double(*shape).to(device).requires_grad_() for shape in ((3, 6, 4), (8, 4), (3, 4, 8)))
    assert torch.autograd.gradcheck(fused.pool, (x, W))
    assert torch.autograd.gradcheck(lambda x, W, M: fused.read(x, W, M, 2), (x, W, M))
    maps, gain, offset = (double(*shape).to(device).requires_grad_() for shape in ((2, 4, 4, 3), (2, 4), (1, 4)))
    assert torch.autograd.gradcheck(lambda x, a, b: fused.norm_silu(x, a, b, 2, 1e-6), (maps, gain, offset))


def test_gradients_of_gradients(slices):
    """The second derivative, along a random direction, of the fast forms is that of the plain ones."""
    x, W, M = (double(*shape).requires_grad_() for shape in ((3, 6, 4), (8, 4), (3, 4, 8)))
    assert torch.autograd.gradgradcheck(fused.pool, (x, W))
    assert torch.autograd.gradgradcheck(lambda x, W, M: fused.read(x, W, M, 2), (x, W, M))
    found = []
    fast = shaken(ResnetBlock(10, 10, 8))
    plain = ResnetBlock(10, 10, 8, norm=FilmNorm).double()
    plain.load_state_dict(fast.state_dict())
    for block in (fast, plain):
        maps = double(2, 10, 6, 6).requires_grad_()
        out = block(maps, double(2, 8, seed=1)).square().sum()
        (first,) = torch.autograd.grad(out, maps, create_graph=True)
        found.append(torch.autograd.grad((first * double(2, 10, 6, 6, seed=2)).sum(), maps)[0])
    assert_same([found[0]], [found[1]])


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated")  # torch's own, on its first forward mode
def test_forward_mode_and_forward_over_reverse(slices):
    """`torch.func.jvp`, and Hessians by it: the tangent may be hidden in the outer of two transformations."""
    x, W, M = (double(*shape).requires_grad_() for shape in ((3, 6, 4), (8, 4), (3, 4, 8)))
    options = {"check_forward_ad": True, "check_backward_ad": False, "check_batched_forward_grad": True}
    assert torch.autograd.gradcheck(fused.pool, (x, W), **options)
    assert torch.autograd.gradcheck(lambda x, W, M: fused.read(x, W, M, 2), (x, W, M), **options)
    assert torch.autograd.gradgradcheck(fused.pool, (x, W), check_fwd_over_rev=True)

    def loss(x):
        return (fused.read(x, W, fused.pool(x, W), 2) ** 2).sum()

    forward_over_reverse = torch.func.hessian(loss)(x.detach())
    torch.testing.assert_close(forward_over_reverse, torch.autograd.functional.hessian(loss, x))
    assert fused.pool(x, W).grad_fn is not None  # and afterwards the backward pass of its own is back


@pytest.mark.filterwarnings("ignore:There is a performance drop")  # torch has no batching rule for two operations
@pytest.mark.parametrize("preset", ["unet", "1hqconv"])
def test_the_default_model_under_torch_func(preset):
    """Second derivatives, torch.func.grad, and vmap of it for gradients image by image, against the plain forms."""
    found = []
    weights = shaken(build_unet(preset, seed=0)).state_dict()
    x, t, v = double(2, 1, 28, 28), torch.tensor([3, 700]), double(1, 1, 28, 28, seed=5)
    for forms in ("fast", "plain"):
        model = build_unet(preset, forms=forms).double()
        model.load_state_dict(weights)
        named = dict(model.named_parameters())

        def loss(named, x, t, model=model):
            return torch.func.functional_call(model, named, (x[None], t[None])).square().mean()

        grad = torch.func.grad(loss)(named, x[0], t[0])
        each = torch.func.vmap(torch.func.grad(loss), (None, 0, 0))(named, x, t)
        image = x[:1].clone().requires_grad_()
        (first,) = torch.autograd.grad(model(image, t[:1]).square().sum(), image, create_graph=True)
        second = torch.autograd.grad((first * v).sum(), image)
        found.append([*grad.values(), *each.values(), *second])
        assert_same([each[name][0] for name in grad], list(grad.values()))
    assert_same(*[[part.detach() for part in one] for one in found])


def test_a_model_that_is_built_empty_and_filled_is_the_model():
    """On the meta device nothing is computed at first; nothing that is not loaded may be needed later."""
    full = build_unet("1hqconv", seed=0)
    with torch.device("meta"):
        empty = build_unet("1hqconv")
    empty.to_empty(device="cpu")
    assert not any(empty.load_state_dict(full.state_dict()))
    x, t = torch.randn(1, 1, 28, 28, generator=torch.Generator().manual_seed(0)), torch.tensor([500])
    assert torch.equal(empty(x, t), full(x, t))


@pytest.mark.parametrize(
    "t, low, high", [([-1], -1, -1), ([5000], 5000, 5000), ([0, 1000], 0, 1000), ([999, -7], -7, 999)]
)
def test_a_time_step_outside_of_the_schedule_is_refused(t, low, high):
    model = build_unet("unet", seed=0)
    with pytest.raises(ValueError, match=f"0 … 999; these reach from {low} to {high}"):
        model(torch.zeros(len(t), 1, 28, 28), torch.tensor(t))
    assert build_unet("unet", T=6000)(torch.zeros(1, 1, 28, 28), torch.tensor([5000])).shape == (1, 1, 28, 28)


def test_bfloat16_stays_near_single_precision():
    """Autocast to bfloat16: the output, and the gradient's size and direction."""
    model = build_unet("unet", seed=0)
    g = torch.Generator().manual_seed(0)
    x, t = torch.randn(8, 1, 28, 28, generator=g), torch.randint(0, 1000, (8,), generator=g)
    seen = []
    for enabled in (False, True):
        model.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            out = model(x, t)
        (out.float() - x).square().mean().backward()
        seen.append((out.detach().float(), torch.cat([p.grad.flatten() for p in model.parameters()])))
    (out, grad), (out16, grad16) = seen
    assert (out16 - out).norm() < 0.03 * out.norm()
    assert (grad16 - grad).norm() < 0.03 * grad.norm()


def test_wires_of_a_patch_are_channel_row_column():
    """Wire 4·c + 2·row + column, for every patch of a larger map; and outputs go back where inputs came from."""
    seen = []

    class Spy(nn.Module):
        def forward(self, rows):
            seen.append(rows)
            return rows

    c, row, column = torch.meshgrid(torch.arange(3), torch.arange(4), torch.arange(6), indexing="ij")
    wire = (4 * c + 2 * (row % 2) + column % 2).double()
    x = torch.stack([100 * (3 * (row // 2) + column // 2) + wire, 1000 + 100 * (3 * (row // 2) + column // 2) + wire])
    assert torch.equal(CircuitConv(Spy(), 1)(x), x)
    want = torch.arange(12.0) + 100 * torch.arange(6.0)[:, None]
    assert torch.equal(seen[0][:, 0], torch.cat([want, 1000 + want]).double())
