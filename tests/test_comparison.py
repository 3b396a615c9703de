"""Differences paired by seed: by hand, their coverage, and the verdicts."""

import math

import numpy as np
import pytest

from qdm_lib.comparison import Difference, classical_null, mean_over_seeds, paired_difference, score_and_noise


def noiseless(*values: float) -> dict:
    return {seed: (value, 0.0) for seed, value in enumerate(values)}


def test_paired_difference_by_hand():
    d = paired_difference(noiseless(3, 5, 7), noiseless(1, 2, 3) | {9: (100.0, 0.0)})  # differences 2, 3, 4
    assert d.mean == 3 and d.n == 3
    half = 4.302653 / math.sqrt(3)  # Student's t for 2 degrees of freedom; the deviation is 1
    assert d.t == pytest.approx((3 - half, 3 + half), abs=1e-5)
    assert 2 <= d.bootstrap[0] < 3 < d.bootstrap[1] <= 4 and (d.low, d.high) == d.t


def test_noise_of_the_images_widens_the_bootstrap():
    a, b = {0: (1.0, 3.0), 1: (1.0, 3.0)}, {0: (0.0, 4.0), 1: (0.0, 4.0)}
    d = paired_difference(a, b)
    half = 1.96 * 5 / math.sqrt(2)  # both pairs have a deviation of 5
    assert d.t == (1, 1) and d.bootstrap == pytest.approx((1 - half, 1 + half), rel=0.06)


def test_one_seed_decides_nothing():
    d = paired_difference(noiseless(3), noiseless(1, 2))
    assert d.mean == 2 and d.n == 1 and math.isnan(d.low) and d.verdict(5) == "open (too few seeds)"
    assert math.isnan(paired_difference({}, {}).mean)


def test_the_interval_covers_the_truth():
    """Of 300 experiments with three seeds and no difference at least 93 % give an interval around 0."""
    g = np.random.default_rng(0)
    hits = 0
    for _ in range(300):
        a, b = ({s: (x, 0.5) for s, x in enumerate(g.standard_normal(3))} for _ in range(2))
        d = paired_difference(a, b)
        hits += d.low <= 0 <= d.high
    assert hits >= 279


@pytest.mark.parametrize(
    "interval, verdict",
    [
        ((1, 3), "higher"),
        ((-9, -7), "lower"),
        ((-1, 2), "equivalent"),
        ((0.5, 1), "higher, equivalent"),
        ((-9, 1), "open"),
    ],
)
def test_verdicts(interval, verdict):
    assert Difference(0.0, 3, interval, interval).verdict(2.0) == verdict


def test_null_by_hand():
    null = classical_null(noiseless(10, 12, 15))
    assert null.differences == (2, 3, 5) and null.n_seeds == 3
    assert null.margin == pytest.approx(1.96 * math.sqrt(2) * np.std([10, 12, 15], ddof=1), rel=1e-4)
    assert math.isnan(classical_null(noiseless(1)).margin)


def test_mean_over_seeds_and_noise_of_a_score():
    m = mean_over_seeds(noiseless(1, 2, 3))
    assert m.mean == 2 and m.t == pytest.approx((2 - 2.48414, 2 + 2.48414), abs=1e-4)
    assert score_and_noise({"value": 5, "low": 5 - 1.96, "high": 5 + 1.96}) == (5, pytest.approx(1, rel=1e-4))
