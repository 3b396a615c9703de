"""The parts of the U-Net: time embedding, convolutions, ResNet block, attention, resampling.

Images and hidden maps are (B, C, H, W). A classical, a hybrid and a quanvolutional ResNet block
are one class, `ResnetBlock`, with another convolution injected (arXiv:2402.16147, section 3).

Norms and linear attention are here in their plain form, the one to read; by default they run in the
faster form of `qdm_lib.engine.attention`, which computes the same. `plain_forms` switches back.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from qdm_lib.engine import attention as fused

_plain = False


@contextmanager
def plain_forms() -> Iterator[None]:
    """Inside ``with plain_forms():`` every block runs as it is written in this module, without the engine's.

    Values and gradients are the same; only speed and memory differ.
    """
    global _plain
    before, _plain = _plain, True
    try:
        yield
    finally:
        _plain = before


def plain_forms_in_use() -> bool:
    """Whether `plain_forms` is in effect."""
    return _plain


def fast_layout(x: Tensor) -> Tensor:
    """The memory format that the fast forms like: channels last on a CPU, unchanged elsewhere."""
    if _plain or x.device.type != "cpu":
        return x
    return x.contiguous(memory_format=torch.channels_last)


def few_pixels(x: Tensor) -> bool:
    """Whether the map has fewer pixels than channels, as at the vertex: there the plain forms are the faster ones."""
    return x.shape[2] * x.shape[3] < x.shape[1]


def lecun_normal_(weight: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Fill a weight with N(0, 1/fan_in), cut at two standard deviations (LeCun et al. 1998)."""
    fan_in = weight[0].numel()
    std = math.sqrt(1 / fan_in) / 0.87962566103423978  # the deviation that cutting at ±2 leaves
    return nn.init.trunc_normal_(weight, std=std, a=-2 * std, b=2 * std, generator=generator)


class TimeEmbedding(nn.Module):
    """t (B,) → (B, 4·dim): sin(t·ω_k), cos(t·ω_k), then Linear, GELU, Linear.

    ω_k = exp(−ln(10000)·k/(dim/2 − 1)) for k = 0 … dim/2 − 1. `t` enters raw, 0 … T−1.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        half = dim // 2
        frequencies = torch.exp(-math.log(10000) * torch.arange(half) / (half - 1))
        self.register_buffer("frequencies", frequencies, persistent=False)
        self.layers = nn.Sequential(nn.Linear(dim, 4 * dim), nn.GELU(approximate="tanh"), nn.Linear(4 * dim, 4 * dim))

    def forward(self, t: Tensor) -> Tensor:
        angle = t[:, None].float() * self.frequencies
        return self.layers(torch.cat([angle.sin(), angle.cos()], 1))


class WeightStandardizedConv2d(nn.Conv2d):
    """A convolution whose kernel is standardized before use (Qiao et al. 2019, arXiv:1903.10520).

    Each output channel's kernel w becomes (w − mean(w)) / sqrt(var(w) + 1e-5), with the biased
    variance over its fan. Input (B, c_in, H, W), output (B, c_out, H, W) for 3×3 and padding 1.
    """

    def __init__(self, channels_in: int, channels_out: int, kernel_size: int = 3, padding: int = 1):
        super().__init__(channels_in, channels_out, kernel_size, padding=padding)

    def forward(self, x: Tensor) -> Tensor:
        weight = F.layer_norm(self.weight, self.weight.shape[1:], eps=1e-5)  # the same formula, for each output
        return self._conv_forward(x, weight, self.bias)


class CircuitConv(nn.Module):
    """A convolution of kernel 2×2 and stride 2 whose kernel is a circuit.

    The n·c channels form n groups of c; circuit k sees every non-overlapping 2×2 patch of group k
    on wires 4·channel + 2·row + column and puts ⟨Z⟩ of a wire where its input came from.
    On the 2×2 vertex there is one patch: each circuit sees its channels whole. On a larger map
    the circuit slides over all patches (quanvolution).

    Args:
        layer: maps (rows, n_circuits, 4·channels) to the same shape, e.g. a `QuantumLayer`.
        n_circuits: n. channels: c, 3 for 12 wires, 1 for 4 wires.
    """

    def __init__(self, layer: nn.Module, n_circuits: int, channels: int = 3) -> None:
        super().__init__()
        self.layer, self.n_circuits, self.channels = layer, n_circuits, channels

    def forward(self, x: Tensor) -> Tensor:
        B, C, H, W = x.shape
        if C != self.n_circuits * self.channels or H % 2 or W % 2:
            raise ValueError(
                f"Wanted {self.n_circuits * self.channels} channels and even height and width for "
                f"{self.n_circuits} circuit(s) of {self.channels} channel(s), got {tuple(x.shape)}."
            )
        # (B, n, c, rows, 2, columns, 2) → a row for each patch, wires ordered (c, row, column)
        grid = (B, self.n_circuits, self.channels, H // 2, 2, W // 2, 2)
        patches = x.reshape(grid).permute(0, 3, 5, 1, 2, 4, 6)
        z = self.layer(patches.reshape(-1, self.n_circuits, 4 * self.channels))
        return z.reshape(patches.shape).permute(0, 3, 4, 1, 5, 2, 6).reshape(B, C, H, W)


class SplitConv(nn.Module):
    """Circuits on the first channels, another convolution on the others, outputs concatenated.

    Args:
        quantum: applied to channels 0 … k−1.
        k: how many channels the circuits take.
        rest: applied to channels k … C−1, or to all C with ``rest_sees_all``.
    """

    def __init__(self, quantum: nn.Module, k: int, rest: nn.Module, rest_sees_all: bool = False):
        super().__init__()
        self.quantum, self.k, self.rest, self.rest_sees_all = quantum, k, rest, rest_sees_all

    def forward(self, x: Tensor) -> Tensor:
        rest = self.rest(x if self.rest_sees_all else x[:, self.k :])
        return torch.cat([self.quantum(x[:, : self.k]), rest], 1)


class ResnetBlock(nn.Module):
    """conv → GroupNorm → ·(1+scale) + shift → SiLU → conv → GroupNorm → SiLU, plus x.

    scale and shift come from the time embedding through SiLU and Linear(time_dim → 2·c_out).
    Where c_in ≠ c_out, x passes a 1×1 convolution.

    Args:
        channels_in, channels_out, time_dim: sizes.
        conv: builds the convolutions, ``conv(c_in, c_out)``; classical by default.
        groups: of both GroupNorms (eps 1e-6).
    """

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        time_dim: int,
        conv: Callable[[int, int], nn.Module] = WeightStandardizedConv2d,
        groups: int = 10,
    ) -> None:
        super().__init__()
        self.conv1 = conv(channels_in, channels_out)
        self.norm1 = nn.GroupNorm(groups, channels_out, eps=1e-6)
        self.time = nn.Linear(time_dim, 2 * channels_out)
        self.conv2 = conv(channels_out, channels_out)
        self.norm2 = nn.GroupNorm(groups, channels_out, eps=1e-6)
        same = channels_in == channels_out
        self.skip = nn.Identity() if same else nn.Conv2d(channels_in, channels_out, 1)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        """x (B, c_in, H, W), time (B, time_dim) → (B, c_out, H, W)."""
        scale, shift = self.time(F.silu(time)).chunk(2, 1)
        h = norm_film_silu(self.conv1(x), self.norm1, scale, shift)
        h = norm_film_silu(self.conv2(h), self.norm2)
        return self.skip(x) + h


def norm_film_silu(x: Tensor, norm: nn.GroupNorm, scale: Tensor | None = None, shift: Tensor | None = None) -> Tensor:
    """silu(norm(x)·(1 + scale) + shift) for x (B, C, H, W), scale and shift (B, C), or silu(norm(x))."""
    if _plain or few_pixels(x):
        h = norm(x)
        return F.silu(h if scale is None else h * (1 + scale[:, :, None, None]) + shift[:, :, None, None])
    gain, offset = norm.weight[None], norm.bias[None]  # the norm's own, then the time's
    if scale is not None:
        gain, offset = gain * (1 + scale), torch.addcmul(shift, offset, 1 + scale)
    return fused.norm_silu(x, gain, offset, norm.num_groups, norm.eps)


class ChannelNorm(nn.Module):
    """LayerNorm over the channels of each pixel, with a scale and no shift (eps 1e-5)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        if _plain:
            var, mean = torch.var_mean(x, 1, correction=0, keepdim=True)
            return (x - mean) * torch.rsqrt(var + 1e-5) * self.scale[:, None, None]
        return self.pixels(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)

    def pixels(self, x: Tensor) -> Tensor:
        """The same for x (..., C), channels last."""
        return F.layer_norm(x, self.scale.shape, self.scale)


class LinearAttention(nn.Module):
    """x + attention in O(H·W) (Shen et al. 2018, arXiv:1812.01243), on a channel-normalised x.

    q = softmax over the head's features, divided by sqrt(head_dim); k = softmax over positions;
    context = k·vᵀ/(H·W), (head_dim, head_dim) a head; out = contextᵀ·q, then a 1×1 convolution and
    a ChannelNorm. Channels of q, k and v are laid out (head, feature).
    """

    def __init__(self, channels: int, heads: int = 4, head_dim: int = 32) -> None:
        super().__init__()
        self.heads, self.head_dim = heads, head_dim
        self.norm = ChannelNorm(channels)
        self.qkv = nn.Conv2d(channels, 3 * heads * head_dim, 1, bias=False)
        self.out = nn.Conv2d(heads * head_dim, channels, 1)
        self.out_norm = ChannelNorm(channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.plain(x) if _plain or few_pixels(x) else self.fast(x)

    def plain(self, x: Tensor) -> Tensor:
        """The formulas as they stand above."""
        B, _, H, W = x.shape
        q, k, v = self.qkv(self.norm(x)).reshape(B, 3, self.heads, self.head_dim, H * W).unbind(1)
        q = q.softmax(-2) / math.sqrt(self.head_dim)
        k = k.softmax(-1)
        context = k @ (v / (H * W)).mT  # (B, heads, head_dim of k, head_dim of v)
        h = (context.mT @ q).reshape(B, self.heads * self.head_dim, H, W)
        return x + self.out_norm(self.out(h))

    def fast(self, x: Tensor) -> Tensor:
        """The same products in another order, which never makes v, the context, or out's large input.

        With v = W_v·x, the context is (k·xᵀ)·W_vᵀ: pool the few channels of x first. And all that follows
        the context is linear, so W_out·W_v, c×c a head, acts on what was pooled, not on every pixel.
        """
        B, c, H, W = x.shape
        pixels = self.norm.pixels(x.permute(0, 2, 3, 1)).reshape(B, H * W, c)
        w_q, w_k, w_v = self.qkv.weight.flatten(1).chunk(3)
        by_head = (self.heads, self.head_dim)
        w_out = torch.einsum("ohe,hec->hoc", self.out.weight.reshape(c, *by_head), w_v.reshape(*by_head, c))
        pooled = fused.pool(pixels, w_k).unflatten(-1, by_head)  # (B, c, head, feature of k)
        M = torch.einsum("hoc,bchd->bohd", w_out, pooled).flatten(2) / (math.sqrt(self.head_dim) * H * W)
        h = fused.read(pixels, w_q, M, self.heads)
        h = h + self.out.bias[:, None].to(h.dtype)
        return x + self.out_norm.pixels(h.mT).reshape(B, H, W, c).permute(0, 3, 1, 2)


class VertexAttention(nn.Module):
    """x + full attention by cosine similarity, on a channel-normalised x (H·W is 4 at the vertex).

    weights = softmax over positions of 10·cos(q_i, k_j); out = weights·v, then a 1×1 convolution.

    Args:
        channels, heads, head_dim: sizes.
        normalize: "features": q and k have length 1 over a head's features. "positions" restores
            the released code, which normalises over positions (its default axis).
    """

    def __init__(self, channels: int, heads: int = 4, head_dim: int = 32, normalize: str = "features"):
        super().__init__()
        if normalize not in ("features", "positions"):
            raise ValueError(f"normalize must be 'features' or 'positions', got {normalize!r}.")
        self.heads, self.head_dim, self.axis = heads, head_dim, -2 if normalize == "features" else -1
        self.norm = ChannelNorm(channels)
        self.qkv = nn.Conv2d(channels, 3 * heads * head_dim, 1, bias=False)
        self.out = nn.Conv2d(heads * head_dim, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        B, _, H, W = x.shape
        q, k, v = self.qkv(self.norm(x)).reshape(B, 3, self.heads, self.head_dim, H * W).unbind(1)
        q, k = F.normalize(q, dim=self.axis), F.normalize(k, dim=self.axis)
        weights = (10 * q.mT @ k).softmax(-1)  # (B, heads, position of q, position of k)
        h = (v @ weights.mT).reshape(B, self.heads * self.head_dim, H, W)
        return x + self.out(h)


class Upsample(nn.Module):
    """Nearest-neighbour upsampling to size×size (half-pixel centres), then a 3×3 convolution."""

    def __init__(self, channels_in: int, channels_out: int, size: int) -> None:
        super().__init__()
        self.size = size
        self.conv = nn.Conv2d(channels_in, channels_out, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.interpolate(x, size=(self.size, self.size), mode="nearest-exact"))
