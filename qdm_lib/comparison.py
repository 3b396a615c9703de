"""Is the difference between two models more than chance? Paired by seed, with intervals, a margin, and a null.

Two cells share their seeds, so the same seed means the same batches, noise and starting noise of the images; only
the model differs. First comes the null: what two classical models of different seeds differ by. It gives the margin:
a difference inside it is one that the choice of a seed makes just as well.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations

import numpy as np

N_BOOTSTRAP = 4000
INTERVAL_SD = 2 * 1.959964  # a 95 % interval is so many standard deviations wide


@dataclass(frozen=True)
class Difference:
    """Mean difference of n seeds; the two 95 % intervals; `low` to `high` is the wider of them on each side."""

    mean: float
    n: int
    bootstrap: tuple[float, float]
    t: tuple[float, float]

    @property
    def low(self) -> float:
        return min(self.bootstrap[0], self.t[0])

    @property
    def high(self) -> float:
        return max(self.bootstrap[1], self.t[1])

    def verdict(self, margin: float) -> str:
        """What the interval says: different, equivalent within the margin, both (a small sure difference), or open."""
        if math.isnan(self.low) or math.isnan(self.high) or math.isnan(margin):
            return "open (too few seeds)"
        words = []
        if self.low > 0 or self.high < 0:
            words.append("higher" if self.low > 0 else "lower")
        if -margin <= self.low and self.high <= margin:
            words.append("equivalent")
        return ", ".join(words) or "open"


def paired_difference(a: Mapping[int, tuple[float, float]], b: Mapping[int, tuple[float, float]],
                      seed: int = 0) -> Difference:  # fmt: skip
    """a − b over the seeds both have; {seed: (score, standard deviation of the score from the images drawn)}.

    bootstrap: seeds are drawn with replacement, and to each drawn pair comes the noise of its images, normal with
    the two deviations: seeds and samples both vary. (The observed difference holds that noise once already, so this
    is rather too wide than too narrow.) t: Student's interval from the seeds' differences alone, since a bootstrap of
    three seeds is too narrow. Both are NaN for fewer than two common seeds.
    """
    seeds = sorted(set(a) & set(b))
    differences = np.array([a[s][0] - b[s][0] for s in seeds])
    n = len(seeds)
    if n < 2:
        nan = (math.nan, math.nan)
        return Difference(float(differences.mean()) if n else math.nan, n, nan, nan)
    noise = np.array([math.hypot(a[s][1], b[s][1]) for s in seeds])
    return Difference(float(differences.mean()), n, _bootstrap(differences, noise, seed), _student(differences))


def mean_over_seeds(scores: Mapping[int, tuple[float, float]], seed: int = 0) -> Difference:
    """The mean score of a cell, with the same two intervals."""
    return paired_difference(scores, {s: (0.0, 0.0) for s in scores}, seed)


def _bootstrap(values: np.ndarray, noise: np.ndarray, seed: int) -> tuple[float, float]:
    generator = np.random.default_rng(seed)
    rows = generator.integers(len(values), size=(N_BOOTSTRAP, len(values)))
    means = (values[rows] + noise[rows] * generator.standard_normal(rows.shape)).mean(1)
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def _student(values: np.ndarray) -> tuple[float, float]:
    from scipy.stats import t

    n = len(values)
    half = float(t.ppf(0.975, n - 1)) * float(values.std(ddof=1)) / math.sqrt(n)
    return float(values.mean()) - half, float(values.mean()) + half


@dataclass(frozen=True)
class Null:
    """Classical against classical: the differences of all pairs of seeds, and the margin they give."""

    differences: tuple[float, ...]
    n_seeds: int
    margin: float


def classical_null(scores: Mapping[int, tuple[float, float]]) -> Null:
    """What one classical model differs by from another: |differences| of all pairs of seeds, largest last.

    margin: 1.96·√2·s with s the standard deviation over seeds: 95 of 100 such differences stay inside it. NaN for
    fewer than two seeds.
    """
    values = [scores[s][0] for s in sorted(scores)]
    pairs = sorted(abs(x - y) for x, y in combinations(values, 2))
    margin = INTERVAL_SD / 2 * math.sqrt(2) * float(np.std(values, ddof=1)) if len(values) > 1 else math.nan
    return Null(tuple(pairs), len(values), margin)


def score_and_noise(score: Mapping) -> tuple[float, float]:
    """(value, standard deviation) of a score in a results file, the latter from its 95 % interval."""
    return score["value"], (score["high"] - score["low"]) / INTERVAL_SD
