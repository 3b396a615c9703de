"""Lab 09: right answers in any variant, and at least three usual mistakes for each task."""

import math
from dataclasses import replace
from functools import reduce

import numpy as np
import torch

from qdm_labs import lab09


def chosen(k, of):
    """The answer that makes the k-th of the usual mistakes."""
    return lambda *args: of(*args)[k][0]


def spread(v, counts, one_shot=False):
    """Of every wire."""
    total = sum(counts.values())
    m = lab09.means(v, counts).tolist()
    return [math.sqrt(1 - x**2) if one_shot else lab09.SPREADS[v.spread](x, total) for x in m]


def lagrange(scales):
    """By the product formula, where the lab's own weights come from a fit."""
    return [math.prod(b / (b - a) for k, b in enumerate(scales) if k != j) for j, a in enumerate(scales)]


def limits(v, values, errors):
    """Of the line and of the parabola, by NumPy's polynomials."""
    n = lab09.used(v, 1)
    fits = [np.polyfit(v.scales[:n], values[:n].numpy(), 1)[-1], np.polyfit(v.scales, values.numpy(), 2)[-1]]
    return [(fit, lab09.limit(lab09.zne_weights(v, d), values, errors)[1]) for d, fit in enumerate(fits, 1)]


def dense(v, p, matrices):
    """Right, with a matrix for all wires at once."""
    ordered = matrices if v.zero_first else matrices[::-1]
    full = reduce(torch.kron, [torch.linalg.inv(M if v.columns else M.T) for M in ordered])
    return full @ p


def right(v):
    """task -> a right answer."""
    return {
        "estimate": lambda counts: (lab09.means(v, counts).tolist(), spread(v, counts)),
        "depolarize": lambda rho, wire, p: lab09.depolarized(v, rho, wire, p).numpy(),
        "undo_readout": lambda p, matrices: lab09.read_out(v, p, matrices, undo=True),
        "fold": lambda gates, scale: [list(g) for g in lab09.folded(v, gates, *lab09.folds(len(gates), scale))],
        "richardson": lagrange,
        "zero_noise": lambda values, errors: limits(v, values, errors),
        "runs": lambda layers, steps, error: lab09.cost(v, layers, steps, error),
    }


def wrong(v):
    """task -> [(a usual mistake, words of the sentence that the student has to read)]."""

    def mean_mistake(k):
        return lambda counts: (lab09.mean_mistakes(v, counts)[k][0], spread(v, counts))

    def channel_mistake(k):
        return chosen(k, lambda rho, wire, p: lab09.channel_mistakes(v, rho, wire, p))

    def readout_mistake(k):
        return chosen(k, lambda p, matrices: lab09.readout_mistakes(v, p, matrices))

    def fold_mistake(k):
        return chosen(k, lambda gates, scale: lab09.fold_mistakes(v, gates, scale))

    def weight_mistake(k):
        return chosen(k, lab09.weight_mistakes)

    def error_mistake(k):
        def answer(values, errors):
            return [(value, lab09.error_mistakes(lab09.zne_weights(v, d), errors)[k][0])
                    for d, (value, _) in enumerate(limits(v, values, errors), 1)]  # fmt: skip

        return answer

    def cost_mistake(k):
        return chosen(k, lambda layers, steps, error: lab09.cost_mistakes(v, layers, steps, error))

    def rounded(how):
        def answer(layers, steps, error):
            shots = lab09.shots_for(lab09.zne_weights(v, v.degree), error)
            return lab09.cost(v, layers, steps, error) / math.ceil(shots) * how(shots)

        return answer

    other_line = replace(v, line="three" if v.line == "two" else "two")
    return {
        "estimate": [
            (mean_mistake(0), "from the other end"),
            (mean_mistake(1), "sign is the other one"),
            (mean_mistake(2), "shares of bit 1"),
            (mean_mistake(4), "counts once"),
            (mean_mistake(6), "number of different strings"),
            (lambda counts: (lab09.means(v, counts), spread(v, counts, one_shot=True)), "of one shot"),
            (lambda counts: lab09.means(v, counts)[0], "Two values"),
        ],
        "depolarize": [
            (channel_mistake(0), "another meaning"),
            (channel_mistake(1), "another meaning"),
            (channel_mistake(2), "from the other end"),
            (channel_mistake(3), "mixes all the wires"),
            (channel_mistake(5), "keeps its weight 1"),
            (channel_mistake(7), "more than 1"),
            (channel_mistake(8), "bit flip"),
            (channel_mistake(10), "from the left only"),
            (channel_mistake(11), "beside the diagonal"),
            (lambda rho, wire, p: rho.copy_(lab09.depolarized(v, rho, wire, p)), "overwritten"),
        ],
        "undo_readout": [
            (readout_mistake(0), "once more"),
            (readout_mistake(1), "transposed"),
            (readout_mistake(3), "from the other end"),
            (readout_mistake(4), "cut off"),
            (readout_mistake(6), "its own matrix"),
            (readout_mistake(7), "another order"),
            (lambda p, matrices: dense(v, p, matrices), "The memory ends"),
        ],
        "fold": [
            (fold_mistake(0), "as it went in"),
            (fold_mistake(1), "not undone"),
            (fold_mistake(5), "how often longer"),
            (fold_mistake(6), "rounded down"),
            (fold_mistake(7), "rounded up"),
            (fold_mistake(8), "whole rounds"),
            (fold_mistake(9), "twice as many"),
            (fold_mistake(10), "in another way"),
            (fold_mistake(11), "in another way"),
            (lambda gates, scale: [gate[0] for gate in gates], "Each gate is (name, wires, angle)"),
        ],
        "richardson": [
            (weight_mistake(0), "value at λ = 1"),
            (lambda s: [-c for c in lagrange(s)], "sign is the other one"),
            (lambda s: lagrange(s)[::-1], "reversed order"),
            (lambda s: [1 / len(s)] * len(s), "the mean"),
            (lambda s: lab09.fit_weights(s, 1), "degree n − 1"),
            (lambda s: lagrange(range(1, len(s) + 1)), "λ = 1, 2, 3"),
        ],
        "zero_noise": [
            (lambda y, s: limits(v, y, s)[::-1], "exchanged"),
            (lambda y, s: limits(other_line, y, s), "line is the other one"),
            (lambda y, s: [(y[0], s[0])] * 2, "value at λ = 1"),
            (lambda y, s: [(y.mean(), s.mean())] * 2, "mean of the values"),
            (error_mistake(0), "add by their squares"),
            (error_mistake(2), "multiplied by its weight"),
            (error_mistake(4), "variance"),
        ],
        "runs": [
            (cost_mistake(0), "one step of the sampler"),
            (cost_mistake(1), "scale factors, with N shots at each"),
            (cost_mistake(3), "all positions"),
            (cost_mistake(4), "layer by layer"),
            (cost_mistake(6), "without extrapolation"),
            (cost_mistake(9), "Square it"),
            (rounded(math.floor), "rounded down"),
            (rounded(float), "before you multiply"),
        ],
    }  # fmt: skip
