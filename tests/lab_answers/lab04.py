"""Lab 04: right answers in any variant, and at least three usual mistakes for each task."""

from dataclasses import replace

import torch
import torch.nn.functional as F

from qdm_labs import lab04


def over(v, w, axes):
    return lab04.standardized(v, w, axes)


def constants(v):
    """Mean and deviation detached."""

    def standardize(w):
        var, mean = torch.var_mean(w.detach(), (1, 2, 3), correction=v.correction, keepdim=True)
        return (w - mean) / ((var + v.eps).sqrt() if v.eps_inside else var.sqrt() + v.eps)

    return standardize


def in_place(v):
    def standardize(w):
        w.copy_(lab04.standardized(v, w))
        return w

    return standardize


def asked(v, good, circuit):
    """What the variant asks for, from the weights that act."""
    return good if v.alive else set(range(circuit.n_weights)) - set(good)


def patch_by_patch(v):
    def quanvolve(x, circuits):
        out = torch.empty_like(x)
        for row in range(0, x.shape[2], 2):
            for column in range(0, x.shape[3], 2):
                place = (slice(None), slice(None), slice(row, row + 2), slice(column, column + 2))
                out[place] = lab04.quanvolved(v, x[place], circuits)
        return out

    return quanvolve


def unordered(v):
    def quanvolve(x, circuits):
        c = x.shape[1] // len(circuits)
        layer = lab04.Circuits(lab04.WIRES[v.wires], circuits, c, back=False)
        return lab04.CircuitConv(layer, len(circuits), c)(x)

    return quanvolve


def without_threshold(module, x):
    out = module(x)
    v = torch.randn(out.shape, dtype=out.dtype, generator=torch.Generator().manual_seed(0))
    found = torch.autograd.grad((v * out).sum(), list(module.parameters()))
    return {name: int((g != 0).sum()) for (name, _), g in zip(module.named_parameters(), found, strict=True)}


def right(v):
    """task -> a right answer."""
    return {
        "standardize": lambda w: lab04.standardized(v, w),
        "group_norm": lambda x, groups: lab04.normed(v, x, groups),
        "modulate": lambda x, groups, scale, shift: lab04.modulated_by(v, x, groups, scale, shift),
        "resnet_block": lambda x, time, parts, groups: lab04.block(v, x, time, parts, groups),
        "quanvolve": lambda x, circuits: lab04.quanvolved(v, x, circuits),
        "audit_weights": lambda circuit: asked(v, lab04.acting(circuit), circuit),
        "audit_entries": lab04.entries,
    }


def wrong(v):
    """task -> [(a usual mistake, words of the sentence that the student has to read)]."""
    others = [name for name in lab04.WIRES if name != v.wires]
    order = next(name for name in lab04.ORDERS if name != v.order)
    other_half = replace(v, scale_first=not v.scale_first)

    def steered_twice(x, time, parts, groups):
        scale, shift = lab04.halves(v, parts["project"](F.silu(time)))
        h = lab04.modulated_by(v, parts["conv1"](x), groups, scale, shift)
        return lab04.modulated_by(v, parts["conv2"](h), groups, scale, shift) + parts["skip"](x)

    def with_parts(**change):
        return lambda x, time, parts, groups: lab04.block(v, x, time, {**parts, **change}, groups)

    return {
        "standardize": [
            (lambda w: over(v, w, (0, 1, 2, 3)), "all kernels at once"),
            (lambda w: over(v, w, (2, 3)), "each pair of channels"),
            (lambda w: over(v, w, (0, 2, 3)), "each input channel"),
            (lambda w: over(replace(v, correction=1 - v.correction), w, (1, 2, 3)), "The variance is the other one"),
            (lambda w: over(replace(v, eps_inside=not v.eps_inside), w, (1, 2, 3)), "wrong place"),
            (lambda w: w - w.mean((1, 2, 3), keepdim=True), "not divided"),
            (in_place(v), "overwritten"),
            (constants(v), "treated as constants"),
        ],
        "group_norm": [
            (lambda x, groups: lab04.normed(replace(v, interleaved=not v.interleaved), x, groups), "other channels"),
            (lambda x, groups: F.group_norm(x, x.shape[1]), "normalised alone"),
            (lambda x, groups: F.group_norm(x, 1), "normalised together"),
            (lambda x, groups: F.batch_norm(x, None, None, training=True), "over the batch"),
            (lambda x, groups: lab04.normed(v, x, x.shape[1] // groups), "the number of groups"),
            (lambda x, groups: lab04.over_channels(v, x, groups), "each pixel"),
        ],
        "modulate": [
            (lambda x, g, a, b: lab04.modulated_by(replace(v, order=order), x, g, a, b), "in this variant it is"),
            (lambda x, g, a, b: lab04.modulated_by(v, x, g, None if a is None else a - 1, b), "1 + scale"),
            (lambda x, g, a, b: lab04.modulated_by(v, x, g, b, a), "exchanged"),
            (lambda x, g, a, b: lab04.normed(v, x, g) if a is None else lab04.modulated_by(v, x, g, a, b), "SiLU"),
        ],
        "resnet_block": [
            (lambda x, t, parts, g: lab04.block(v, x, t, parts, g) - parts["skip"](x), "skip) is missing"),
            (lambda x, t, parts, g: lab04.block(other_half, x, t, parts, g), "exchanged"),
            (steered_twice, "act twice"),
            (lambda x, t, parts, g: lab04.block(v, x, t, {**parts, "conv2": parts["conv1"]}, g), "used twice"),
            (lambda x, t, parts, g: lab04.modulated_by(v, parts["conv2"](x), g, None, None) + parts["skip"](x),
             "reads the block's input"),
            (with_parts(project=lambda time: torch.zeros(len(time), 8).double()), "The time has no effect"),
            (lambda x, t, parts, g: lab04.block(v, x, t, parts, g).detach(), "Autograd finds no way"),
        ],
        "quanvolve": [
            (lambda x, circuits: lab04.quanvolved(replace(v, wires=others[0]), x, circuits), "on other wires"),
            (lambda x, circuits: lab04.quanvolved(replace(v, wires=others[1]), x, circuits), "on other wires"),
            (lambda x, circuits: lab04.quanvolved(v, x, circuits[:1] * len(circuits)), "used for every group"),
            (lambda x, circuits: lab04.strided(v, x, circuits), "every n-th channel"),
            (patch_by_patch(v), "rows of one call"),
            (lambda x, circuits: circuits[0](x.flatten(1)), "a row for each patch"),
        ],
        "audit_weights": [
            (lambda c: asked(replace(v, alive=not v.alive), lab04.acting(c), c), "wanted"),
            (lambda c: asked(v, lab04.one_output(c), c), "Only the output of wire 0"),
            (lambda c: asked(v, lab04.at_zero(c), c), "vanish by symmetry"),
            (lambda c: asked(v, set(range(c.n_weights)), c), "still never reach"),
        ],
        "audit_entries": [
            (without_threshold, "rounding error"),
            (lambda m, x: {k: p.numel() - lab04.entries(m, x)[k] for k, p in m.named_parameters()}, "without effect"),
            (lambda m, x: {k: 1 for k, _ in m.named_parameters()}, "count its entries"),
            (lambda m, x: sum(lab04.entries(m, x).values()), "dictionary"),
        ],
    }  # fmt: skip
