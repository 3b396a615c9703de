"""Norms and linear attention of the U-Net, computed in an order that touches less memory.

These functions compute what the plain forms in `qdm_lib.blocks` compute (tests hold values and gradients together), in
fewer passes over memory: on a CPU a step's time goes into reading and writing maps, not into arithmetic. Three ideas:

1. *The numbers that are summed lie side by side in memory.* A product (few × many) is several times faster than the
   same product transposed, and a softmax wants its axis contiguous.
2. *Slices of the batch that fit the cache.* Queries and keys of linear attention are the largest tensors of the
   network, 128 channels where the map has 10; a few images at a time stay in the cache.
3. *Save what is small, or expensive to compute; compute the rest again.* Hence the two products of attention have a
   backward pass of their own.
"""

import math
from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import forward_ad

from qdm_lib.simulator import full_precision

_SLICE = 2**20  # numbers of queries or keys worked on at once: 4 MiB of float32


# ------------------------------------------------------------------- GroupNorm, scale and shift, SiLU


def norm_silu(x: Tensor, gain: Tensor, offset: Tensor, groups: int, eps: float) -> Tensor:
    """silu(gain·x̂ + offset) of a map (B, C, H, W): GroupNorm, scale and shift, SiLU.

    gain and offset: (B, C) or (1, C). x̂ has mean 0 and variance 1 over the pixels and channels of each group of an
    image. Fastest in channels-last memory format, which the result has.
    """
    B, C, H, W = x.shape
    pixels = math.gcd(H * W, 16)  # in one row of memory: long rows are fast
    rows = x.permute(0, 2, 3, 1).reshape(B, H * W // pixels, pixels * C).to(gain.dtype)
    with full_precision(x):  # means and variances need more than 8 bits
        centred = rows - _tile(_group_mean(_pixel_mean(rows, C), groups), rows)
        rstd = torch.rsqrt(_group_mean(_pixel_mean(centred.square(), C), groups) + eps)
        y = F.silu(torch.addcmul(_tile(offset, rows), centred, _tile(gain * rstd, rows)))
    return y.to(x.dtype).reshape(B, H, W, C).permute(0, 3, 1, 2)


def _tile(v: Tensor, x: Tensor) -> Tensor:
    """(B, C) → (B, 1, k·C), to match the rows of x."""
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


# ------------------------------------------------------------------------------------ linear attention
# x is (B, P, c): P normalised pixels of c channels; xᵀ is the same memory read as (B, c, P). Products of the form
# (few × many) run several times faster than (many × few): that decides which side is transposed.


def pool(x: Tensor, W: Tensor) -> Tensor:
    """For each row of W (F, c): the mean of the pixels x (B, P, c), weighted by softmax_p(W·x_p); (B, c, F)."""
    x, W = _autocast(x, W)
    with full_precision(x):
        if backward_alone():
            return _Pool.apply(x, W)[0]
        # nothing to keep: forget each slice's keys at once
        return torch.cat([xt @ _keys(W, xt).mT for xt in x.mT.split(_images_at_once(x, W))])


def read(x: Tensor, W: Tensor, M: Tensor, heads: int) -> Tensor:
    """M·q for every pixel p, with q the softmax of W·x_p over the features of each head.

    x (B, P, c), W (F, c), M (B, c, F) → (B, c, P).
    """
    x, W, M = _autocast(x, W, M)
    with full_precision(x):
        if backward_alone():
            return _Read.apply(x, W, M, heads)[0]
        parts = _slices(_images_at_once(x, W), x, M)
        return torch.cat([m @ _queries(W, xs, heads).flatten(2).mT for xs, m in parts])


class _Pool(torch.autograd.Function):
    """A (B, c, F) = xᵀ·kᵀ, k (B, F, P) = softmax over pixels of W·xᵀ; also the keys k, slice by slice.

    With dk = dAᵀ·xᵀ, the softmax gives ds = k ⊙ (dk − Σ_p k ⊙ dk), and that sum over all pixels equals a short one over
    channels, Σ_c A ⊙ dA. Then dxᵀ = dA·k + Wᵀ·ds and dW = ds·x.
    """

    generate_vmap_rule = True  # for torch.func

    @staticmethod
    def forward(x: Tensor, W: Tensor) -> tuple[Tensor, ...]:
        slices = x.mT.split(_images_at_once(x, W))
        keys = [_keys(W, xt) for xt in slices]
        return torch.cat([xt @ k.mT for xt, k in zip(slices, keys, strict=True)]), *keys

    @staticmethod
    def setup_context(ctx, inputs: tuple, output: tuple) -> None:
        _keep(ctx, inputs, output)

    @staticmethod
    def backward(ctx, dA: Tensor | None, *_):
        if dA is None:
            return None, None
        x, W, A, *keys = ctx.saved_tensors
        if torch.is_grad_enabled():  # the gradient itself will be differentiated: autograd has to see all of it
            A, *keys = _Pool.forward(x, W)
        total, dxt, dW = (A * dA).sum(1).unsqueeze(-1), [], 0
        for (xt, d, s), k in zip(_slices(len(keys[0]), x.mT, dA, total), keys, strict=True):
            ds = torch.baddbmm(s, d.mT, xt, beta=-1)  # dk − s
            ds = ds * k if torch.is_grad_enabled() else ds.mul_(k)  # in place: the largest tensor there is
            dxt.append(torch.baddbmm(torch.bmm(d, k), _each(W.mT, xt), ds))
            dW = dW + (xt @ ds.mT).sum(0)
        return torch.cat(dxt).mT, dW.mT


class _Read(torch.autograd.Function):
    """y (B, c, P) = M·qᵀ, q (B, P, F) = softmax of x·Wᵀ over each head's features, M (B, c, F); also the queries q.

    With dq = dyᵀ·M, ds = q ⊙ (dq − Σ_features q ⊙ dq); dxᵀ = Wᵀ·dsᵀ, dW = dsᵀ·x, dM = dy·q.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, W: Tensor, M: Tensor, heads: int) -> tuple[Tensor, ...]:
        n = _images_at_once(x, W)
        queries = [_queries(W, xs, heads) for xs in x.split(n)]
        return torch.cat([torch.bmm(m, q.flatten(2).mT) for m, q in zip(M.split(n), queries, strict=True)]), *queries

    @staticmethod
    def setup_context(ctx, inputs: tuple, output: tuple) -> None:
        *tensors, ctx.heads = inputs
        _keep(ctx, tensors, output)

    @staticmethod
    def backward(ctx, dy: Tensor | None, *_):
        if dy is None:
            return None, None, None, None
        x, W, M, _, *queries = ctx.saved_tensors
        if torch.is_grad_enabled():
            _, *queries = _Read.forward(x, W, M, ctx.heads)
        dxt, dW, dM = [], 0, []
        for (xt, m, d), q in zip(_slices(len(queries[0]), x.mT, M, dy), queries, strict=True):
            dM.append(d @ q.flatten(2))
            dq = (d.mT @ m).view_as(q)
            ds = torch.ops.aten._softmax_backward_data(dq, q, -1, q.dtype).flatten(2)
            dxt.append(torch.bmm(_each(W.mT, xt), ds.mT))
            dW = dW + (xt @ ds).sum(0)
        return torch.cat(dxt).mT, dW.mT, torch.cat(dM), None


def _keep(ctx, tensors: Sequence[Tensor], output: Sequence[Tensor]) -> None:
    """Save the inputs and all outputs; only the first output has a gradient, the others are there to be kept."""
    ctx.mark_non_differentiable(*output[1:])
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(*tensors, *output)


def backward_alone() -> bool:
    """Whether our own backward pass serves; forward mode (`torch.func.jvp`) would need another and gets plain torch."""
    return torch.is_grad_enabled() and forward_ad._current_level < 0  # -1: no forward mode, at any depth


def _images_at_once(x: Tensor, W: Tensor) -> int:
    """How many images of x (B, P, c) to take at once: as many as give _SLICE numbers (F, P).

    All of them where there is no CPU cache to make good use of.
    """
    if x.device.type != "cpu" or torch.compiler.is_compiling():
        return max(1, len(x))
    return max(1, _SLICE // (x.shape[1] * len(W)))


def _slices(n: int, *tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """n images of every tensor, then the next n, and so on."""
    return zip(*(t.split(max(1, n)) for t in tensors), strict=True)


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
    on = torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)
    dtype = torch.get_autocast_dtype(device) if on else x.dtype
    return [v.to(dtype) for v in (x, *others)]
