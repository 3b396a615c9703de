"""Three functions of the U-Net, written for speed, each with its backward pass derived by hand.

They compute what the plain forms in `qdm_lib.blocks` compute (tests hold values and gradients
together), in fewer passes over memory: on a CPU a step's time goes into reading and writing maps,
not into arithmetic. Three ideas:

1. *Pixels last or channels last, as the matrix product likes.* A product (few × many) is several
   times faster than the same product transposed, and a softmax wants its axis contiguous.
2. *Slices of the batch that fit the cache.* Queries and keys of linear attention are the largest
   tensors of the network, 128 channels where the map has 10; a few images at a time stay in cache.
3. *Save what is small or dear, recompute what is cheap.*

Gradients of gradients are not defined here; `qdm_lib.blocks.plain_forms` has them.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

_SLICE = 2**20  # elements of queries or keys worked on at once: 4 MiB of float32


def _images_at_once(x: Tensor, features: int) -> int:
    """How many images of x (B, P, c) to take at once; all of them where there is no CPU cache to please."""
    if x.device.type != "cpu" or torch.compiler.is_compiling():
        return len(x)
    return max(1, _SLICE // (x.shape[1] * features))


# ------------------------------------------------------------------- GroupNorm, scale and shift, SiLU


class _NormSiLU(torch.autograd.Function):
    """silu(gain·x̂ + offset) for x (B, R, N), gain and offset (B or 1, 1, N); x̂ is x normalised in groups.

    A row holds the C channels of N/C neighbouring pixels one after another: long rows are quick.
    With g = dy·silu′·gain and means over the pixels and channels of a group,
    dx = rstd·(g − mean(g) − x̂·mean(g·x̂)),  dgain = Σ_rows dy·silu′·x̂,  doffset = Σ_rows dy·silu′.
    """

    @staticmethod
    def forward(ctx, x: Tensor, gain: Tensor, offset: Tensor, channels: int, groups: int, eps: float) -> Tensor:
        ctx.groups = (-1, groups, channels // groups)
        centred = x - _group_mean(x.mean(1, keepdim=True), ctx.groups)
        rstd = torch.rsqrt(_group_mean(centred.square().mean(1, keepdim=True), ctx.groups) + eps)
        ctx.save_for_backward(centred, rstd, gain, offset)
        return F.silu(torch.addcmul(offset, centred, gain * rstd))

    @staticmethod
    @once_differentiable
    def backward(ctx, dy: Tensor):
        centred, rstd, gain, offset = ctx.saved_tensors
        a = gain * rstd
        dz = torch.ops.aten.silu_backward(dy, torch.addcmul(offset, centred, a))
        mean, mean_x = dz.mean(1, keepdim=True), (dz * centred).mean(1, keepdim=True)
        dx = torch.addcmul(-_group_mean(a * mean, ctx.groups), dz, a)
        dx.addcmul_(centred, rstd.square() * _group_mean(a * mean_x, ctx.groups), value=-1)
        rows = centred.shape[1]
        return dx, (rows * rstd * mean_x).sum_to_size(gain.shape), (rows * mean).sum_to_size(offset.shape), *[None] * 3


def _group_mean(x: Tensor, groups: tuple[int, int, int]) -> Tensor:
    """(B, 1, N), N = (pixels, groups, channels of a group): each entry becomes the mean of its group."""
    x = x.unflatten(-1, groups)
    return x.mean((2, 4), keepdim=True).expand_as(x).flatten(-3)


def norm_silu(x: Tensor, gain: Tensor, offset: Tensor, groups: int, eps: float) -> Tensor:
    """silu(gain·x̂ + offset): GroupNorm, scale and shift, SiLU of a map (B, C, H, W) in one function.

    gain and offset: (B, C) or (1, C). x̂ has mean 0 and variance 1 over the pixels and channels of each
    group of an image. Best in channels-last memory format, which the result has.
    """
    B, C, H, W = x.shape
    pixels = math.gcd(H * W, 16)  # in a row
    rows = x.permute(0, 2, 3, 1).reshape(B, -1, pixels * C)
    y = _NormSiLU.apply(rows, gain[:, None].repeat(1, 1, pixels), offset[:, None].repeat(1, 1, pixels), C, groups, eps)
    return y.reshape(B, H, W, C).permute(0, 3, 1, 2)


# ------------------------------------------------------------------------------------ linear attention
# x̂ᵀ is (c, P): c normalised channels of P pixels. Queries and keys are (F, P), F = heads·head_dim.


class _Pool(torch.autograd.Function):
    """A (B, c, F) = x̂ᵀ·kᵀ, k (B, F, P) = softmax over pixels of W·x̂ᵀ.

    With dk = dAᵀ·x̂ᵀ, the softmax gives ds = k ⊙ (dk − Σ_p k ⊙ dk), and that sum over all pixels is a
    small one over channels, Σ_c A ⊙ dA. Then dx̂ᵀ = dA·k + Wᵀ·ds and dW = ds·x̂.
    """

    @staticmethod
    def forward(ctx, x: Tensor, W: Tensor) -> Tensor:
        n = ctx.n = _images_at_once(x, len(W))
        keys, A = [], []
        for xt in x.mT.split(n):
            keys.append(_times(W, xt).softmax(-1))
            A.append(xt @ keys[-1].mT)
        A = torch.cat(A)
        ctx.save_for_backward(x, W, A, *keys)
        return A

    @staticmethod
    @once_differentiable
    def backward(ctx, dA: Tensor):
        x, W, A, *keys = ctx.saved_tensors
        total = (A * dA).sum(1).unsqueeze(-1)
        dxt, dW = [], []
        for xt, k, d, s in zip(x.mT.split(ctx.n), keys, dA.split(ctx.n), total.split(ctx.n), strict=True):
            ds = torch.baddbmm(s, d.mT, xt, beta=-1).mul_(k)
            dxt.append(_times(W.mT, ds).baddbmm_(d, k))
            dW.append((xt @ ds.mT).sum(0))
        return torch.cat(dxt).mT, sum(dW).mT


class _Read(torch.autograd.Function):
    """y (B, c, P) = M·q, q (B, F, P) = softmax of W·x̂ᵀ over each head's features, M (B, c, F).

    With dq = Mᵀ·dy, ds = q ⊙ (dq − Σ_features q ⊙ dq); dx̂ᵀ = Wᵀ·ds, dW = ds·x̂, dM = dy·qᵀ.
    """

    @staticmethod
    def forward(ctx, x: Tensor, W: Tensor, M: Tensor, heads: int) -> Tensor:
        n = ctx.n = _images_at_once(x, len(W))
        W2 = W * math.log2(math.e)
        queries, y = [], []
        for xt, m in zip(x.mT.split(n), M.split(n), strict=True):
            q = _times(W2, xt).unflatten(1, (heads, -1))
            q = q.sub_(q.amax(2, keepdim=True)).exp2_()  # eᶻ = 2^(z·log₂e); torch's exp2 is faster than its exp
            queries.append(q.mul_(q.sum(2, keepdim=True).reciprocal()))
            y.append(m @ q.flatten(1, 2))
        ctx.save_for_backward(x, W, M, *queries)
        return torch.cat(y)

    @staticmethod
    @once_differentiable
    def backward(ctx, dy: Tensor):
        x, W, M, *queries = ctx.saved_tensors
        dxt, dW, dM = [], [], []
        for xt, q, m, d in zip(x.mT.split(ctx.n), queries, M.split(ctx.n), dy.split(ctx.n), strict=True):
            dM.append(d @ q.flatten(1, 2).mT)
            dq = (m.mT @ d).view_as(q)
            ds = dq.sub_((q * dq).sum(2, keepdim=True)).mul_(q).flatten(1, 2)
            dxt.append(_times(W.mT, ds))
            dW.append((xt @ ds.mT).sum(0))
        return torch.cat(dxt).mT, sum(dW).mT, torch.cat(dM), None


def _times(W: Tensor, x: Tensor) -> Tensor:
    """W·x of one matrix (n, k) with each of a batch (B, k, P), laid out (B, n, P)."""
    return torch.bmm(W.expand(len(x), -1, -1), x)  # `@` would lay it out the other way, and then copy


def pool(x: Tensor, W: Tensor) -> Tensor:
    """For each row of W (F, c): the mean of the pixels x (B, P, c), weighted by softmax_p(W·x_p).

    Returns (B, c, F).
    """
    return _Pool.apply(x, W)


def read(x: Tensor, W: Tensor, M: Tensor, heads: int) -> Tensor:
    """M·q for every pixel, q the softmax of W·x_p over the features of each head.

    x (B, P, c), W (F, c), M (B, c_out, F) → (B, c_out, P).
    """
    return _Read.apply(x, W, M, heads)
