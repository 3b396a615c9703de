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
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

_SLICE = 2**20  # numbers of queries or keys worked on at once: 4 MiB of float32


# ------------------------------------------------------------------- GroupNorm, scale and shift, SiLU


class _NormSiLU(torch.autograd.Function):
    """y = silu(z), z = gain·x̂ + offset, for x (B, R, k·C), gain and offset (B or 1, C).

    A row of x holds the C channels of k neighbouring pixels one after another: long rows are quick.
    x̂ = (x − mean)·rstd, with mean and variance over the pixels and channels of a group. With
    dz = dy·silu′(z) and means over pixels (and over the channels of a group, where it says group),
    dx = rstd·gain·dz − rstd·group(gain·mean(dz)) − x̂·rstd·group(gain·mean(dz·x̂)).
    """

    @staticmethod
    def forward(ctx, x: Tensor, gain: Tensor, offset: Tensor, groups: int, eps: float) -> Tensor:
        C, ctx.groups = gain.shape[1], groups
        centred = x - _tile(_group_mean(_pixel_mean(x, C), groups), x)
        rstd = torch.rsqrt(_group_mean(_pixel_mean(centred.square(), C), groups) + eps)
        ctx.save_for_backward(centred, rstd, gain, offset)
        return F.silu(torch.addcmul(_tile(offset, x), centred, _tile(gain * rstd, x)), inplace=True)

    @staticmethod
    @once_differentiable
    def backward(ctx, dy: Tensor):
        x, rstd, gain, offset = ctx.saved_tensors  # x is centred
        C, a = gain.shape[1], gain * rstd
        pixels, tiled = x[0].numel() // C, _tile(a, x)
        dz = torch.ops.aten.silu_backward(dy, torch.addcmul(_tile(offset, x), x, tiled))
        dx = dz * x  # first its mean, then the memory
        dz_mean, dz_x_mean = _pixel_mean(dz, C), _pixel_mean(dx, C)
        shift = -_group_mean(a * dz_mean, ctx.groups)
        slope = -rstd.square() * _group_mean(a * dz_x_mean, ctx.groups)
        torch.addcmul(_tile(shift, x), dz, tiled, out=dx).addcmul_(x, _tile(slope, x))
        d_gain, d_offset = pixels * rstd * dz_x_mean, pixels * dz_mean
        return dx, d_gain.sum_to_size(gain.shape), d_offset.sum_to_size(offset.shape), None, None


def _tile(v: Tensor, x: Tensor) -> Tensor:
    """(B, C) → (B, 1, k·C), to go with rows of x."""
    return v.repeat(1, x.shape[2] // v.shape[1])[:, None]


def _pixel_mean(x: Tensor, C: int) -> Tensor:
    """(B, R, k·C) → (B, C)."""
    return x.mean(1).unflatten(1, (x.shape[2] // C, C)).mean(1)


def _group_mean(v: Tensor, groups: int) -> Tensor:
    """(B, C) → (B, C): each channel gets the mean of its group."""
    if v.shape[1] == groups:
        return v
    v = v.unflatten(1, (groups, v.shape[1] // groups))
    return v.mean(2, keepdim=True).expand_as(v).flatten(1)


def norm_silu(x: Tensor, gain: Tensor, offset: Tensor, groups: int, eps: float) -> Tensor:
    """silu(gain·x̂ + offset): GroupNorm, scale and shift, SiLU of a map (B, C, H, W) in one function.

    gain and offset: (B, C) or (1, C). x̂ has mean 0 and variance 1 over the pixels and channels of each
    group of an image. Best in channels-last memory format, which the result has.
    """
    B, C, H, W = x.shape
    pixels = math.gcd(H * W, 16)  # in a row
    rows = x.permute(0, 2, 3, 1).reshape(B, H * W // pixels, pixels * C)
    with torch.autocast(x.device.type, enabled=False):  # means and variances need more than 8 bits
        y = _NormSiLU.apply(rows.to(gain.dtype), gain, offset, groups, eps)
    return y.to(x.dtype).reshape(B, H, W, C).permute(0, 3, 1, 2)


# ------------------------------------------------------------------------------------ linear attention
# x is (B, P, c): P normalised pixels of c channels; xᵀ is the same memory read as (B, c, P). Products of
# the form (few × many) run several times faster than (many × few): that decides which side is transposed.


class _Pool(torch.autograd.Function):
    """A (B, c, F) = xᵀ·kᵀ, k (B, F, P) = softmax over pixels of W·xᵀ.

    With dk = dAᵀ·xᵀ, the softmax gives ds = k ⊙ (dk − Σ_p k ⊙ dk), and that sum over all pixels is a
    small one over channels, Σ_c A ⊙ dA. Then dxᵀ = dA·k + Wᵀ·ds and dW = ds·x.
    """

    @staticmethod
    def forward(ctx, x: Tensor, W: Tensor) -> Tensor:
        n = ctx.n = _images_at_once(x, W)
        keys = [_keys(W, xt) for xt in x.mT.split(n)]
        A = torch.cat([xt @ k.mT for xt, k in zip(x.mT.split(n), keys, strict=True)])
        ctx.save_for_backward(x, W, A, *keys)
        return A

    @staticmethod
    @once_differentiable
    def backward(ctx, dA: Tensor):
        x, W, A, *keys = ctx.saved_tensors
        total = (A * dA).sum(1).unsqueeze(-1)
        dxt, dW = x.new_empty(x.mT.shape), []
        for (xt, d, s, out), k in zip(_slices(ctx.n, x.mT, dA, total, dxt), keys, strict=True):
            ds = torch.bmm(d.mT, xt).sub_(s).mul_(k)
            torch.bmm(d, k, out=out).baddbmm_(_each(W.mT, xt), ds)
            dW.append((xt @ ds.mT).sum(0))
        return dxt.mT, sum(dW).mT


class _Read(torch.autograd.Function):
    """y (B, c, P) = M·qᵀ, q (B, P, F) = softmax of x·Wᵀ over each head's features, M (B, c, F).

    With dq = dyᵀ·M, ds = q ⊙ (dq − Σ_features q ⊙ dq); dxᵀ = Wᵀ·dsᵀ, dW = dsᵀ·x, dM = dy·q.
    """

    @staticmethod
    def forward(ctx, x: Tensor, W: Tensor, M: Tensor, heads: int) -> Tensor:
        n, ctx.heads = _images_at_once(x, W), heads
        ctx.n, y = n, x.new_empty(x.mT.shape)
        queries = [_queries(W, xs, heads) for xs in x.split(n)]
        for (m, out), q in zip(_slices(n, M, y), queries, strict=True):
            torch.bmm(m, q.flatten(2).mT, out=out)
        ctx.save_for_backward(x, W, M, *queries)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx, dy: Tensor):
        x, W, M, *queries = ctx.saved_tensors
        dxt, dW, dM = dy.new_empty(dy.shape), [], []
        for (xt, m, d, out), q in zip(_slices(ctx.n, x.mT, M, dy, dxt), queries, strict=True):
            dM.append(d @ q.flatten(2))
            dq = (d.mT @ m).view_as(q)
            ds = torch.ops.aten._softmax_backward_data(dq, q, -1, q.dtype).flatten(2)
            torch.bmm(_each(W.mT, xt), ds.mT, out=out)
            dW.append((xt @ ds).sum(0))
        return dxt.mT, sum(dW).mT, torch.cat(dM), None


def _images_at_once(x: Tensor, W: Tensor) -> int:
    """How many images of x (B, P, c) to take at once: as many as give _SLICE numbers (F, P).

    All of them where there is no CPU cache to please.
    """
    if x.device.type != "cpu" or torch.compiler.is_compiling():
        return max(1, len(x))
    return max(1, _SLICE // (x.shape[1] * len(W)))


def _slices(n: int, *tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """n images of every tensor, then the next n."""
    return zip(*(t.split(n) for t in tensors), strict=True)


def _each(W: Tensor, x: Tensor) -> Tensor:
    """One matrix for each image of x, without copies. (`W @ x` would lay the result out the other way.)"""
    return W.expand(len(x), -1, -1)


def _keys(W: Tensor, xt: Tensor) -> Tensor:
    """k (B, F, P): W·xᵀ, softmax over pixels."""
    return torch.bmm(_each(W, xt), xt).softmax(-1)


def _queries(W: Tensor, x: Tensor, heads: int) -> Tensor:
    """q (B, P, heads, F/heads): x·Wᵀ, softmax over a head's features."""
    return torch.bmm(x, _each(W.mT, x)).unflatten(2, (heads, -1)).softmax(-1)


def _autocast(x: Tensor, *others: Tensor) -> list[Tensor]:
    """All in the precision that autocast asks for, if it is on, else in that of x."""
    device = x.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype
    return [v.to(dtype) for v in (x, *others)]


def pool(x: Tensor, W: Tensor) -> Tensor:
    """For each row of W (F, c): the mean of the pixels x (B, P, c), weighted by softmax_p(W·x_p).

    Returns (B, c, F).
    """
    x, W = _autocast(x, W)
    with torch.autocast(x.device.type, enabled=False):
        if torch.is_grad_enabled():
            return _Pool.apply(x, W)
        # nothing to keep: forget each slice's keys at once
        return torch.cat([xt @ _keys(W, xt).mT for xt in x.mT.split(_images_at_once(x, W))])


def read(x: Tensor, W: Tensor, M: Tensor, heads: int) -> Tensor:
    """M·q for every pixel, q the softmax of W·x_p over the features of each head.

    x (B, P, c), W (F, c), M (B, c, F) → (B, c, P).
    """
    x, W, M = _autocast(x, W, M)
    with torch.autocast(x.device.type, enabled=False):
        if torch.is_grad_enabled():
            return _Read.apply(x, W, M, heads)
        parts = _slices(_images_at_once(x, W), x, M)
        return torch.cat([m @ _queries(W, xs, heads).flatten(2).mT for xs, m in parts])
