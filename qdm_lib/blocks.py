"""The parts of the U-Net: time embedding, convolutions, ResNet block, attention, resampling.

Images and hidden maps are (B, C, H, W). A classical, a hybrid and a quanvolutional ResNet block
are one class, `ResnetBlock`, with another convolution injected (arXiv:2402.16147, section 3).

Norms and linear attention are here in their plain form, the one to read, `FilmNorm` and `LinearAttention`. Each has a
class beside it that computes the same faster; `UNetConfig(forms=…)` chooses.

Built by hand in notebooks 04, sections 1 to 4 (convolutions, ResNet block), and 05, sections 2 to 4 (all else).
"""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from qdm_lib.checks import choice, whole
from qdm_lib.engine import norm_silu, pool, read


def fast_layout(x: Tensor) -> Tensor:
    """x in the memory format in which the fast forms are fastest: channels last on a CPU, unchanged elsewhere."""
    return x.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2) if x.device.type == "cpu" else x


def few_pixels(x: Tensor) -> bool:
    """Whether the map has fewer pixels than channels, as at the vertex: there the plain forms are faster."""
    return x.shape[2] * x.shape[3] < x.shape[1]


def lecun_normal_(weight: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Fill a weight with N(0, 1/fan_in), cut at two standard deviations (LeCun et al. 1998)."""
    fan_in = weight[0].numel()
    std = math.sqrt(1 / fan_in) / 0.87962566103423978  # the deviation that cutting at ±2 leaves
    return nn.init.trunc_normal_(weight, std=std, a=-2 * std, b=2 * std, generator=generator)


class TimeEmbedding(nn.Module):
    """t (B,) → (B, 4·dim): sin(t·ω_k), cos(t·ω_k), then Linear, GELU, Linear.

    ω_k = exp(−ln(10000)·k/(dim/2 − 1)) for k = 0 … dim/2 − 1. `t` enters raw, 0 … T−1. ValueError unless dim is even
    and at least 4.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        if whole("dim", dim, 4) % 2:
            raise ValueError(f"dim must be even, half for sines and half for cosines; got {dim}.")
        self.half = dim // 2
        self.layers = nn.Sequential(nn.Linear(dim, 4 * dim), nn.GELU(approximate="tanh"), nn.Linear(4 * dim, 4 * dim))

    def forward(self, t: Tensor) -> Tensor:
        k = torch.arange(self.half, device=t.device)  # made here: a model that is built empty and filled has it, too
        angle = t[:, None].float() * torch.exp(-math.log(10000) * k / (self.half - 1))
        return self.layers(torch.cat([angle.sin(), angle.cos()], 1).to(self.layers[0].weight.dtype))


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

    The n·c channels form n groups of c; circuit k sees every non-overlapping 2×2 patch of group k on wires 4·channel +
    2·row + column and puts ⟨Z⟩ of a wire where its input came from. On the 2×2 vertex there is one patch: each circuit
    sees its channels whole. On a larger map the circuit slides over all patches (quanvolution).

    layer: maps (rows, n, 4·c) to the same shape, as a `QuantumLayer` does. n_circuits: n. channels: c, 3 for 12
    wires, 1 for 4 wires. ValueError where x does not have n·c channels, or has an odd height or width.
    """

    def __init__(self, layer: nn.Module, n_circuits: int, channels: int = 3) -> None:
        super().__init__()
        self.layer, self.n_circuits, self.channels = layer, whole("n_circuits", n_circuits), whole("channels", channels)

    def forward(self, x: Tensor) -> Tensor:
        B, C, H, W = x.shape
        wanted = self.n_circuits * self.channels
        if C != wanted or H % 2 or W % 2:
            raise ValueError(f"Wanted {wanted} channels and even height and width, got {tuple(x.shape)}.")
        # (B, n, c, rows, 2, columns, 2) → a row for each patch, wires ordered (c, row, column)
        grid = (B, self.n_circuits, self.channels, H // 2, 2, W // 2, 2)
        patches = x.reshape(grid).permute(0, 3, 5, 1, 2, 4, 6)
        z = self.layer(patches.reshape(-1, self.n_circuits, 4 * self.channels))
        return z.reshape(patches.shape).permute(0, 3, 4, 1, 5, 2, 6).reshape(B, C, H, W)


class SplitConv(nn.Module):
    """Circuits on the first channels, another convolution on the others, outputs concatenated.

    quantum sees channels 0 … k−1, k ≥ 1; rest sees channels k … C−1, or all C with ``rest_sees_all``.
    """

    def __init__(self, quantum: nn.Module, k: int, rest: nn.Module, rest_sees_all: bool = False):
        super().__init__()
        self.quantum, self.k, self.rest, self.rest_sees_all = quantum, whole("k", k), rest, rest_sees_all

    def forward(self, x: Tensor) -> Tensor:
        rest = self.rest(x if self.rest_sees_all else x[:, self.k :])
        return torch.cat([self.quantum(x[:, : self.k]), rest], 1)


class FilmNorm(nn.GroupNorm):
    """silu(norm(x)·(1 + scale) + shift) for x (B, C, H, W), scale and shift (B, C); silu(norm(x)) without them."""

    def forward(self, x: Tensor, scale: Tensor | None = None, shift: Tensor | None = None) -> Tensor:
        h = super().forward(x)
        return F.silu(h if scale is None else h * (1 + scale[:, :, None, None]) + shift[:, :, None, None])


class FastFilmNorm(FilmNorm):
    """`FilmNorm` in fewer passes over memory: gain and offset of the norm and of the time are joined first."""

    def forward(self, x: Tensor, scale: Tensor | None = None, shift: Tensor | None = None) -> Tensor:
        if few_pixels(x):
            return super().forward(x, scale, shift)
        gain, offset = self.weight[None], self.bias[None]  # the norm's own, then the time's
        if scale is not None:
            gain, offset = gain * (1 + scale), torch.addcmul(shift, offset, 1 + scale)
        return norm_silu(x, gain, offset, self.num_groups, self.eps)


class ResnetBlock(nn.Module):
    """conv → GroupNorm → ·(1+scale) + shift → SiLU → conv → GroupNorm → SiLU, plus x.

    scale and shift come from the time embedding through SiLU and Linear(time_dim → 2·c_out).
    Where c_in ≠ c_out, x passes a 1×1 convolution.

    conv: builds the convolutions, ``conv(c_in, c_out)``; classical by default. groups: of both GroupNorms
    (eps 1e-6). norm: their class, `FilmNorm` or `FastFilmNorm`.
    """

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        time_dim: int,
        conv: Callable[[int, int], nn.Module] = WeightStandardizedConv2d,
        groups: int = 10,
        norm: type[FilmNorm] = FastFilmNorm,
    ) -> None:
        super().__init__()
        self.conv1 = conv(channels_in, channels_out)
        self.norm1 = norm(groups, channels_out, eps=1e-6)
        self.time = nn.Linear(time_dim, 2 * channels_out)
        self.conv2 = conv(channels_out, channels_out)
        self.norm2 = norm(groups, channels_out, eps=1e-6)
        self.skip = nn.Identity() if channels_in == channels_out else nn.Conv2d(channels_in, channels_out, 1)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        """x (B, c_in, H, W), time (B, time_dim) → (B, c_out, H, W)."""
        scale, shift = self.time(F.silu(time)).chunk(2, 1)
        h = self.norm1(self.conv1(x), scale, shift)
        h = self.norm2(self.conv2(h))
        return self.skip(x) + h


class ChannelNorm(nn.Module):
    """LayerNorm over the channels of each pixel, with a scale and no shift (eps 1e-5)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
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
        B, _, H, W = x.shape
        q, k, v = self.qkv(self.norm(x)).reshape(B, 3, self.heads, self.head_dim, H * W).unbind(1)
        q = q.softmax(-2) / math.sqrt(self.head_dim)
        k = k.softmax(-1)
        context = k @ (v / (H * W)).mT  # (B, heads, head_dim of k, head_dim of v)
        h = (context.mT @ q).reshape(B, self.heads * self.head_dim, H, W)
        return x + self.out_norm(self.out(h))


class FastLinearAttention(LinearAttention):
    """The same products in another order, which never makes v, the context, or out's large input.

    With v = W_v·x, the context is (k·xᵀ)·W_vᵀ: pool the few channels of x first. And all that follows
    the context is linear, so W_out·W_v, c×c a head, acts on what was pooled, not on every pixel.
    """

    def forward(self, x: Tensor) -> Tensor:
        if few_pixels(x):
            return super().forward(x)
        B, c, H, W = x.shape
        pixels = self.norm.pixels(x.permute(0, 2, 3, 1)).reshape(B, H * W, c)
        w_q, w_k, w_v = self.qkv.weight.flatten(1).chunk(3)
        by_head = (self.heads, self.head_dim)
        w_out = torch.einsum("ohe,hec->hoc", self.out.weight.reshape(c, *by_head), w_v.reshape(*by_head, c))
        pooled = pool(pixels, w_k).unflatten(-1, by_head)  # (B, c, head, feature of k)
        M = torch.einsum("hoc,bchd->bohd", w_out, pooled).flatten(2) / (math.sqrt(self.head_dim) * H * W)
        h = read(pixels, w_q, M, self.heads)
        h = h + self.out.bias[:, None].to(h.dtype)
        return x + self.out_norm.pixels(h.mT).reshape(B, H, W, c).permute(0, 3, 1, 2)


class VertexAttention(nn.Module):
    """x + full attention by cosine similarity, on a channel-normalised x (H·W is 4 at the vertex).

    weights = softmax over positions of 10·cos(q_i, k_j); out = weights·v, then a 1×1 convolution.

    normalize: "features": q and k have length 1 over a head's features. "positions" restores the released
    code, which normalises over positions (its default axis). ValueError where it is neither.
    """

    def __init__(self, channels: int, heads: int = 4, head_dim: int = 32, normalize: str = "features"):
        super().__init__()
        axes = {"features": -2, "positions": -1}
        self.heads, self.head_dim, self.axis = heads, head_dim, axes[choice("normalize", normalize, axes)]
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


# How norms and linear attention are computed: the same numbers, to read or to run.
FORMS: dict[str, tuple[type[FilmNorm], type[LinearAttention]]] = {
    "plain": (FilmNorm, LinearAttention),
    "fast": (FastFilmNorm, FastLinearAttention),
}
