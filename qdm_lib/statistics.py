"""Is the difference between two models more than chance, and is it large enough to matter? Paired by seed.

Two cells share their seeds, so the same seed means the same batches, noise, starting noise of the images and, where
the experiment says `first_weights`, the same first weights as far as the models have them in common. The mean
difference gets an interval, and the interval a verdict (`Difference.verdict`) by a margin, to be fixed beforehand:
the smallest effect of interest (`smallest_effect`). A margin from the scatter of the seeds would be the wrong one: the
noisier an experiment, the easier it would call two models equivalent. That scatter, what classical models of different
seeds differ by, is the null (`classical_null`), and is shown beside.

A table of many differences holds some "higher" and "lower" by chance: where nothing differs, 1 in 20 intervals of 95 %
leaves out zero nevertheless. `holm` makes p-values that hold for a whole table at once.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

N_BOOTSTRAP = 4000
INTERVAL_SD = 2 * 1.959964  # a 95 % interval is this many standard deviations wide
# The largest gain in FID that arXiv:2402.16147 reports on a data set, as a share of its classical score (Tables 1 and
# 2): what a difference must reach to speak for or against that claim.
SMALLEST_EFFECT = {"fashion-mnist": 0.02, "mnist": 0.08}
OTHER_EFFECT = 0.02  # of data sets that the paper does not have


@dataclass(frozen=True)
class Difference:
    """Mean difference of n seeds; the two 95 % intervals; `low` to `high` is the wider of them on each side.

    p: of Student's test that the mean is zero, two-sided. NaN where there are too few seeds.
    """

    mean: float
    n: int
    bootstrap: tuple[float, float]
    t: tuple[float, float]
    p: float = math.nan

    @property
    def low(self) -> float:
        return min(self.bootstrap[0], self.t[0]) if not math.isnan(self.t[0]) else self.bootstrap[0]

    @property
    def high(self) -> float:
        return max(self.bootstrap[1], self.t[1]) if not math.isnan(self.t[1]) else self.bootstrap[1]

    def verdict(self, margin: float) -> str:
        """What the interval says, by a margin fixed beforehand (`smallest_effect`; NaN for none).

        "higher" or "lower": it leaves out zero. "equivalent": all of it lies within ±margin. Both: a difference that is
        sure, and too small to matter. "open": neither; the wide interval of a noisy experiment is always open.
        """
        if math.isnan(self.t[0]):
            return "open (too few seeds)" if self.n < 2 else "open (all seeds alike)"
        words = ["higher"] if self.low > 0 else ["lower"] if self.high < 0 else []
        words += ["equivalent"] if -margin <= self.low and self.high <= margin else []
        return ", ".join(words) or "open"


def paired_difference(a: Mapping[int, tuple[float, float]], b: Mapping[int, tuple[float, float]],
                      seed: int = 0) -> Difference:  # fmt: skip
    """a − b over the seeds both have; {seed: (score, standard deviation of the score from the images drawn)}.

    bootstrap: seeds are drawn with replacement, and to each drawn pair comes the noise of its images, normal with
    the two deviations: seeds and samples both vary. (The observed difference has that noise in it already.) From few
    seeds a bootstrap is far too narrow; from two, without noise, it reaches from the one to the other and holds the
    truth in half of all cases. Hence t: Student's interval from the seeds' differences alone, which is wide there and
    decides. Both are NaN for fewer than two common seeds, t and p also where all differences are equal: scores are
    counted in whole images, so two can tie by chance, and a spread of zero is no measurement of the spread.
    """
    seeds = sorted(set(a) & set(b))
    differences = np.array([a[s][0] - b[s][0] for s in seeds])
    n = len(seeds)
    if n < 2:
        nan = (math.nan, math.nan)
        return Difference(float(differences.mean()) if n else math.nan, n, nan, nan)
    noise = np.array([math.hypot(a[s][1], b[s][1]) for s in seeds])
    t, p = _student(differences)
    return Difference(float(differences.mean()), n, _bootstrap(differences, noise, seed), t, p)


def relative_change(a: tuple[float, float], b: tuple[float, float]) -> tuple[float, float]:
    """r − 1 for r = a/b of two scores (value, deviation σ), and half its 95 % interval: 1.96·√(σ_a² + r²σ_b²)/b."""
    r = a[0] / b[0]
    return r - 1, INTERVAL_SD / 2 * math.hypot(a[1], r * b[1]) / abs(b[0])


def mean_over_seeds(scores: Mapping[int, tuple[float, float]], seed: int = 0) -> Difference:
    """The mean score of a cell, with the same two intervals."""
    return paired_difference(scores, {s: (0.0, 0.0) for s in scores}, seed)


def _bootstrap(values: np.ndarray, noise: np.ndarray, seed: int) -> tuple[float, float]:
    generator = np.random.default_rng(seed)
    rows = generator.integers(len(values), size=(N_BOOTSTRAP, len(values)))
    means = (values[rows] + noise[rows] * generator.standard_normal(rows.shape)).mean(1)
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def _student(values: np.ndarray) -> tuple[tuple[float, float], float]:
    """Student's 95 % interval of the mean, and p of the test that it is zero."""
    from scipy.stats import t

    n, mean = len(values), float(values.mean())
    if float(np.ptp(values)) <= 1e-12 * max(1.0, abs(mean)):  # equal, up to rounding
        return (math.nan, math.nan), math.nan
    error = float(values.std(ddof=1)) / math.sqrt(n)
    half = float(t.ppf(0.975, n - 1)) * error
    return (mean - half, mean + half), 2 * float(t.sf(abs(mean) / error, n - 1))


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's adjusted p-values: in 95 of 100 tables, none of those below 0.05 is there by chance.

    The smallest of m is multiplied by m, the next by m - 1, and so on, none below the one before it, none above 1
    (Holm 1979). It holds however the scores depend on one another. NaN, no test, stays NaN and does not count.
    """
    order = sorted((p, k) for k, p in enumerate(p_values) if not math.isnan(p))
    adjusted, least = [math.nan] * len(p_values), 0.0
    for rank, (p, k) in enumerate(order):
        least = max(least, min(1.0, p * (len(order) - rank)))
        adjusted[k] = least
    return adjusted


def smallest_effect(dataset: str, classical: Mapping[int, tuple[float, float]]) -> float:
    """The margin of a verdict: `SMALLEST_EFFECT` of the data set, times the mean score of the classical seeds.

    classical: {seed: (score, noise)}. The share is the paper's and the same for every score; for data sets
    that the paper does not have it is 2 %. NaN without a classical score: then nothing is equivalent.
    """
    values = [value for value, _ in classical.values()]
    return SMALLEST_EFFECT.get(dataset, OTHER_EFFECT) * abs(float(np.mean(values))) if values else math.nan


@dataclass(frozen=True)
class Null:
    """Classical against classical: the differences of all pairs of seeds, and how far such differences reach."""

    differences: tuple[float, ...]
    n_seeds: int
    reach: float

    @property
    def coverage(self) -> float:
        """The share of new classical-against-classical differences within `reach`: P(|t| < 1.96), n - 1 degrees of
        freedom. 0.95 only for very many seeds, since s is itself an estimate; see `classical_null`."""
        from scipy.stats import t

        return 1 - 2 * float(t.sf(INTERVAL_SD / 2, self.n_seeds - 1)) if self.n_seeds > 1 else math.nan


def classical_null(scores: Mapping[int, tuple[float, float]]) -> Null:
    """What one classical model differs by from another: |differences| of all pairs of seeds, largest last.

    reach: 1.96·√2·s, s the standard deviation over n seeds; NaN for fewer than two seeds. Were s known, 95 of 100
    differences between two new classical models would stay inside it. As s comes from n seeds, it is for normal scores
    and on average over such nulls 70 of 100 for n = 2, 81 for n = 3, 88 for n = 5 and 92 for n = 10
    (`tests/test_comparison.py` draws them).
    """
    values = [scores[s][0] for s in sorted(scores)]
    pairs = sorted(abs(x - y) for x, y in combinations(values, 2))
    reach = INTERVAL_SD / 2 * math.sqrt(2) * float(np.std(values, ddof=1)) if len(values) > 1 else math.nan
    return Null(tuple(pairs), len(values), reach)


# ----------------------------------------------------------------------------- what a score can be

LIMITS = {"fid": (0, math.inf), "kid": (-math.inf, math.inf), "is": (1, math.inf), "density": (0, math.inf),
          "class_tv": (0, 0.9)}  # fmt: skip  # of ten classes; the estimate of KID may be negative
SHARES = ("precision", "recall", "coverage", "cnn_accuracy", "memorised")


def limits(key: str) -> tuple[float, float]:
    """The least and the largest value that a score can have; 0 and 1 for shares."""
    return (0, 1) if key in SHARES else LIMITS[key]


def rule_of_three(n: int) -> float:
    """The largest share of which n images show none in 5 of 100 cases: 1 − 0.05^(1/n), about 3/n.

    Clopper and Pearson's exact one-sided 95 % bound for a share of 0 (mirrored: of 1), where a bootstrap has no width.
    """
    from scipy.stats import binomtest

    return float(binomtest(0, n, alternative="less").proportion_ci(0.95, method="exact").high)


def possible(key: str, score: Mapping) -> dict:
    """A score of a results file, its interval cut to what the score can be.

    A share of 0 or 1 gets `rule_of_three` as the other end; n are the real images for recall and coverage.
    """
    least, most = limits(key)
    low, high = max(score["low"], least), min(score["high"], most)
    n = score.get("n_reference" if key in ("recall", "coverage") else "n")
    if key in SHARES and key != "cnn_accuracy" and n and score["value"] in (0, 1):  # n of the accuracy is not noted
        low, high = (0.0, rule_of_three(n)) if score["value"] == 0 else (1 - rule_of_three(n), 1.0)
    return {**score, "low": low, "high": high}


def score_and_noise(score: Mapping) -> tuple[float, float]:
    """(value, standard deviation) of a score in a results file, the latter from its 95 % interval."""
    return score["value"], (score["high"] - score["low"]) / INTERVAL_SD
