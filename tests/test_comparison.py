"""Differences paired by seed: by hand, their coverage, and the verdicts."""

import math

import numpy as np
import pytest

from qdm_lib.paper import scores
from qdm_lib.statistics import (
    SMALLEST_EFFECT,
    Difference,
    classical_null,
    holm,
    mean_over_seeds,
    paired_difference,
    possible,
    rule_of_three,
    score_and_noise,
    smallest_effect,
)


def noiseless(*values: float) -> dict:
    return {seed: (value, 0.0) for seed, value in enumerate(values)}


def test_paired_difference_by_hand():
    d = paired_difference(noiseless(3, 5, 7), noiseless(1, 2, 3) | {9: (100.0, 0.0)})  # differences 2, 3, 4
    assert d.mean == 3 and d.n == 3
    assert d.p == pytest.approx(0.035099, abs=1e-6)  # t = 3 √3, 2 degrees of freedom: 1 - t / √(t² + 2)
    half = 4.302653 / math.sqrt(3)  # Student's t for 2 degrees of freedom; the deviation is 1
    assert d.t == pytest.approx((3 - half, 3 + half), abs=1e-5)
    assert 2 <= d.bootstrap[0] < 3 < d.bootstrap[1] <= 4 and (d.low, d.high) == d.t


def test_noise_of_the_images_widens_the_bootstrap():
    a, b = {0: (1.0, 3.0), 1: (1.0, 3.0)}, {0: (0.0, 4.0), 1: (0.0, 4.0)}
    d = paired_difference(a, b)
    half = 1.96 * 5 / math.sqrt(2)  # both pairs have a deviation of 5
    assert math.isnan(d.t[0]) and (d.low, d.high) == d.bootstrap == pytest.approx((1 - half, 1 + half), rel=0.06)


def test_one_seed_decides_nothing():
    d = paired_difference(noiseless(3), noiseless(1, 2))
    assert d.mean == 2 and d.n == 1 and math.isnan(d.low) and math.isnan(d.p)
    assert d.verdict(5.0) == "open (too few seeds)"
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
        ((-1, -0.5), "lower, equivalent"),
        ((1.5, 2.1), "higher"),
        ((-9, 1), "open"),
    ],
)
def test_verdicts(interval, verdict):
    assert Difference(0.0, 3, interval, interval).verdict(2.0) == verdict


def test_a_tie_of_two_seeds_is_no_certainty():
    tied = paired_difference({0: (1.5, 0.0), 1: (2.5, 0.0)}, {0: (1.0, 0.0), 1: (2.0, 0.0)})
    assert tied.mean == 0.5 and math.isnan(tied.p) and math.isnan(tied.t[0]) and tied.low == 0.5
    assert tied.verdict(2.0) == "open (all seeds alike)"


def test_a_noisy_experiment_is_open_and_never_equivalent():
    """The same margin for quiet and noisy seeds; a margin from their scatter would call the noisy ones equivalent."""
    up_and_down, in_pairs = np.array([1, -1] * 4), np.array([1, 1, -1, -1] * 2)
    for noise, wanted in ((0.1, "equivalent"), (20.0, "open")):
        classical, hybrid = noiseless(*(100 + noise * up_and_down)), noiseless(*(100 + noise * in_pairs))
        d, margin = paired_difference(hybrid, classical), smallest_effect("fashion-mnist", classical)
        assert d.verdict(margin) == wanted
        assert max(-d.low, d.high) < classical_null(classical).reach  # inside what seeds do, both of them


def test_the_margin_is_what_the_paper_claims():
    """2 % of the classical score on Fashion-MNIST, 8 % on MNIST: its best gain in FID, which is a transfer's."""
    assert smallest_effect("fashion-mnist", noiseless(90, 110)) == pytest.approx(2)
    assert smallest_effect("mnist", noiseless(50)) == pytest.approx(4)
    assert smallest_effect("kmnist", noiseless(-50)) == pytest.approx(1)
    assert math.isnan(smallest_effect("mnist", {}))
    assert Difference(0.0, 3, (-1, 1), (-1, 1)).verdict(math.nan) == "open"
    assert Difference(0.0, 3, (0.5, 1), (0.5, 1)).verdict(math.nan) == "higher"
    paper = scores()["scores"]
    for dataset, share in SMALLEST_EFFECT.items():
        best = min(numbers["fid"] for numbers in paper[dataset].values())
        assert share == round(1 - best / paper[dataset]["unet"]["fid"], 2)


@pytest.mark.parametrize("n, share", [(2, 0.70), (3, 0.81), (5, 0.88), (10, 0.92)])
def test_what_the_null_reaches(n, share):
    """20,000 nulls of n classical seeds, and two more classical models each: the docstring's shares, not 95 %."""
    g = np.random.default_rng(n)
    draws = g.standard_normal((20_000, n + 2))
    inside = np.abs(draws[:, 0] - draws[:, 1]) < 1.959964 * math.sqrt(2) * draws[:, 2:].std(1, ddof=1)
    null = classical_null(noiseless(*draws[0, 2:]))
    assert null.reach == pytest.approx(1.959964 * math.sqrt(2) * draws[0, 2:].std(ddof=1))
    assert inside.mean() == pytest.approx(null.coverage, abs=0.012) and null.coverage == pytest.approx(share, abs=0.005)


def test_holm_by_hand_and_by_drawing():
    nan = math.nan
    assert holm([0.01, nan, 0.04, 0.03]) == pytest.approx([0.03, nan, 0.06, 0.06], nan_ok=True)
    assert holm([0.9, 0.8]) == [1, 1] and holm([]) == []
    g = np.random.default_rng(0)  # 40 tables of 20 differences, nothing differs
    tables = [[mean_over_seeds(noiseless(*row)).p for row in g.standard_normal((20, 3))] for _ in range(40)]
    plain, adjusted = (sum(min(f(t)) < 0.05 for t in tables) for f in (list, holm))
    assert plain > 15 and adjusted <= 6  # some table of 20 shows something in 64 of 100 cases; by Holm in 5


def test_scores_are_cut_to_what_they_can_be():
    def ends(key, value, low, high, **n):
        cut = possible(key, {"value": value, "low": low, "high": high, "n": 1000, "n_reference": 2000} | n)
        return cut["low"], cut["high"]

    assert ends("recall", 0.0005, -3.75e-05, 0.002) == (0, 0.002)
    assert ends("fid", 3, -1, 7) == (0, 7) and ends("kid", 0, -1, 1) == (-1, 1) and ends("is", 1.1, 0.9, 2) == (1, 2)
    assert ends("class_tv", 0.8, 0.7, 1.1) == (0.7, 0.9)
    assert ends("memorised", 0, 0, 0) == (0, rule_of_three(1000)) and ends("precision", 1, 1, 1)[1] == 1
    assert ends("coverage", 0, 0, 0) == (0, rule_of_three(2000))
    assert (1 - rule_of_three(1000)) ** 1000 == pytest.approx(0.05)


def test_null_by_hand():
    null = classical_null(noiseless(10, 12, 15))
    assert null.differences == (2, 3, 5) and null.n_seeds == 3
    assert null.reach == pytest.approx(1.96 * math.sqrt(2) * np.std([10, 12, 15], ddof=1), rel=1e-4)
    assert math.isnan(classical_null(noiseless(1)).reach)


def test_mean_over_seeds_and_noise_of_a_score():
    m = mean_over_seeds(noiseless(1, 2, 3))
    assert m.mean == 2 and m.t == pytest.approx((2 - 2.48414, 2 + 2.48414), abs=1e-4)
    assert score_and_noise({"value": 5, "low": 5 - 1.96, "high": 5 + 1.96}) == (5, pytest.approx(1, rel=1e-4))
