"""Lab 08: right answers in any variant, and at least three usual mistakes for each task."""

import math

import numpy as np
import torch

from qdm_labs import lab08


def chosen(k, of):
    """The answer that makes the k-th of the usual mistakes."""
    return lambda *args: of(*args)[k][0]


def scipy_like(v):
    """Tr √(A·B) from the eigenvalues of A·B, as sqrtm would have it: complex with imaginary parts near 0."""

    def fid(a, A, b, B):
        cross = torch.linalg.eigvals(A @ B).sqrt().sum()
        squared = (a - b).square().sum() + A.trace() + B.trace() - 2 * cross
        return squared.sqrt() if v.root else squared

    return fid


def right(v):
    """task -> a right answer."""
    return {
        "moments": lambda x: lab08.two_moments(x, v.correction),
        "fid": scipy_like(v),
        "extrapolate": lab08.limit,
        "interval": lambda value, r: tuple(np.quantile((r - r.mean() + value).numpy(), [(1 - v.level) / 2,
                                                                                      (1 + v.level) / 2])),
        "reach": lab08.reach_of,
        "paired_difference": lambda model, classical: lab08.paired(v, model, classical),
        "verdict": lambda low, high, margin: lab08.word(v, low, high, margin),
        "conclusions": lambda: [" " + word.title() for word in lab08.given_verdicts(v)],
    }  # fmt: skip


def wrong(v):
    """task -> [(a usual mistake, words of the sentence that the student has to read)]."""

    def fid_mistake(k):
        return chosen(k, lambda *m: lab08.fid_mistakes(v, *m))

    def interval_mistake(k):
        return chosen(k, lambda value, r: lab08.interval_mistakes(v, value, r))

    def pair_mistake(k):
        return chosen(k, lambda m, c: lab08.pair_mistakes(v, m, c)[0])

    def all_scores(model, classical):
        mean = np.mean(list(model.values())) - np.mean(list(classical.values()))
        mean = mean if v.model_first else -mean
        return mean, mean - 1, mean + 1

    rules = [rule for rule, _ in lab08.rules(v)]
    verdicts = lab08.given_verdicts(v)
    return {
        "moments": [
            (lambda x: (x.mean(0), torch.cov(x.T, correction=1 - v.correction)), "divisor is the other one"),
            (lambda x: (x.mean(0), x.T @ x / len(x)), "not subtracted"),
            (lambda x: (x.mean(0), torch.corrcoef(x.T)), "correlations"),
            (lambda x: (x.mean(0), torch.cov(x)), "one of images"),
            (lambda x: x.mean(0).tolist(), "Two values"),
        ],
        "fid": [
            (fid_mistake(0), "other one"),
            (fid_mistake(1), "enters squared"),
            (fid_mistake(2), "root of its entries"),
            (fid_mistake(3), "commute"),
            (fid_mistake(4), "factor 2"),
            (fid_mistake(7), "means do not enter"),
        ],
        "extrapolate": [
            (lambda n, y: np.polyfit(n, y, 1)[1], "against N"),
            (lambda n, y: np.polyfit(1 / np.sqrt(n), y, 1)[1], "1/√N"),
            (lambda n, y: np.polyfit(1 / np.asarray(n), y, 1)[0], "slope"),
            (lambda n, y: y[n.index(max(n))], "largest N"),
        ],
        "interval": [
            (interval_mistake(0), "not moved"),
            (interval_mistake(1), "for normal"),
            (interval_mistake(2), "replicates' mean"),
            (interval_mistake(3), "mirrored"),
            (interval_mistake(4), "for both ends together"),
            (interval_mistake(6), "is wanted"),
            (lambda value, r: lab08.moved(v, float(r.mean()) - 2, r), "interval"),
        ],
        "reach": [
            (lambda s: lab08.reach_of(s) / math.sqrt(2), "√2 is missing"),
            (lambda s: lab08.reach_of(s) * math.sqrt(1 - 1 / len(s)), "n − 1"),
            (lambda s: lab08.reach_of(s) / math.sqrt(len(s)), "error of a mean"),
            (lambda s: max(s.values()) - min(s.values()), "largest difference"),
        ],
        "paired_difference": [
            (pair_mistake(0), "sign is the other one"),
            (pair_mistake(1), "normal factor"),
            (pair_mistake(4), "smaller by √n"),
            (pair_mistake(5), "n − 1"),
            (pair_mistake(6), "independent"),
            (all_scores, "make a pair"),
        ],
        "verdict": [
            (rules[0], "exchanged"),
            (rules[1], "within the margin"),
            (rules[2], "however wide"),
            (rules[3], "however wide"),
            (rules[4], "Only the middle"),
            (rules[5], "beside 0 is enough"),
            (lambda low, high, m: "no idea", "One of the words"),
        ],
        "conclusions": [
            (lambda: lab08.naive(v), "signs of the mean differences"),
            (lambda: verdicts[::-1], "exchanged"),
            (lambda: ["undecided", "undecided"], "No set is said"),
            (lambda: ["worse", "worse"], "set"),
        ],
    }  # fmt: skip
