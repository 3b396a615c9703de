"""Lab 08: FID from means and covariances, intervals, the reach of chance, and a verdict on two sets of results.

Right answers come from `qdm_lib.metrics` and `qdm_lib.statistics`, and from SciPy where the variant asks for another
level than 95 %. The two sets of results are drawn with the variant: in one the model truly differs, in the other not.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from scipy.stats import norm, t
from torch import Tensor

from qdm_labs.compare import agree, numbers, pair
from qdm_labs.task import Lab, Mistake, Task, Unanswered
from qdm_labs.variant import Variant
from qdm_lib.metrics import frechet_distance
from qdm_lib.statistics import classical_null

LEVELS = (0.90, 0.95, 0.99)
MARGINS = (0.8, 2.4, 3.2)  # 2, 6 and 8 % of the classical score
WORDS = ("better", "worse", "equivalent", "undecided")
Scores = dict[int, float]


@dataclass(frozen=True)
class Conventions:
    """The choices of one variant."""

    correction: int  # of the covariance: 1 divides by N − 1, 0 by N
    root: bool  # FID is the distance itself, or its square (as in the literature)
    level: float  # of all intervals
    lower_is_better: bool  # a score such as FID, or such as IS
    model_first: bool  # differences are model − classical, or classical − model
    sure_wins: bool  # an interval beside 0 and within the margin: better or worse; else equivalent
    margin: float  # for the two sets of results: the smallest difference of interest
    sets: tuple[tuple[tuple[tuple[int, float], ...], ...], ...]  # two times (classical, model), each (seed, score)

    @property
    def divisor(self) -> str:
        return "N − 1" if self.correction else "N"

    @property
    def sign(self) -> int:
        """+1 if a positive difference means that the model is better."""
        return 1 if self.model_first != self.lower_is_better else -1


def conventions(variant: Variant) -> Conventions:
    """Draw them, and the two sets of results in random order."""
    v = Conventions(
        correction=variant.choice("correction", [0, 1]), root=variant.choice("root", [False, True]),
        level=variant.choice("level", LEVELS), lower_is_better=variant.choice("lower", [True, False]),
        model_first=variant.choice("first", [True, False]), sure_wins=variant.choice("both", [True, False]),
        margin=variant.choice("margin", MARGINS), sets=(),
    )  # fmt: skip
    random = variant.random("sets")
    sets = [true_set(v, random), null_set(v, random)]
    random.shuffle(sets)
    return Conventions(**{**vars(v), "sets": tuple(tuple(tuple(s.items()) for s in one) for one in sets)})


def _classical(random, n: int, offset: float) -> tuple[Scores, dict[int, float]]:
    """Scores of n seeds, and what each seed brings along: it is the same for both models of a pair."""
    luck = {seed: random.gauss(0, 1.2) for seed in range(n)}
    return {s: round(offset + luck[s] + random.gauss(0, 0.4), 2) for s in luck}, luck


def true_set(v: Conventions, random) -> tuple[Scores, Scores]:
    """A real difference, found by pairs, of a size that unpaired scores do not show."""
    while True:
        classical, luck = _classical(random, 8, 40)
        shift = random.choice([-1, 1]) * random.uniform(3.5, 5)
        model = {s: round(40 + luck[s] + shift + random.gauss(0, 0.4), 2) for s in luck if s != 2}
        if decided(v, model, classical) in ("better", "worse"):
            return classical, model


def null_set(v: Conventions, random) -> tuple[Scores, Scores]:
    """No difference but that of chance, though the mean and the best seed look like one."""
    while True:
        classical, _ = _classical(random, 8, 40)
        model = {s: round(40 + random.gauss(0, 1.2), 2) for s in range(5)}
        mean, *_ = paired(v, model, classical)
        if decided(v, model, classical) in ("equivalent", "undecided") and v.sign * mean > 0.5:
            return classical, model


def text(v: Conventions) -> dict[str, str]:
    """The words of the variant."""
    percent = f"{v.level:.0%}".replace("%", " %")
    tables = [str(dict(one)) for both in v.sets for one in both]
    return {
        "divisor": v.divisor,
        "which": "the distance d itself, the **root** of it" if v.root else "the **squared** distance d², as in the "
        "literature",
        "level": percent,
        "direction": "higher" if not v.lower_is_better else "lower",
        "difference": "model − classical" if v.model_first else "classical − model",
        "both": "`better` or `worse`" if v.sure_wins else "`equivalent`",
        "margin": f"{v.margin:g}",
        "power": "2" if v.root else "1",
        **dict(zip(("classical_1", "model_1", "classical_2", "model_2"), tables, strict=True)),
    }  # fmt: skip


# ------------------------------------------------------------------------------------ right answers


def two_moments(features: Tensor, correction: int) -> tuple[Tensor, Tensor]:
    """Mean (D,) and covariance (D, D)."""
    return features.mean(0), torch.cov(features.T, correction=correction)


def distance(v: Conventions, *moments: Tensor) -> Tensor:
    """FID, or its root."""
    squared = frechet_distance(*moments).clamp(min=0)
    return squared.sqrt() if v.root else squared


def limit(counts, values) -> float:
    """The value at 1/N = 0 of a straight line in 1/N."""
    return float(np.polyfit(1 / np.asarray(counts, float), np.asarray(values, float), 1)[1])


def moved(v: Conventions, value: float, replicates: Tensor, level: float | None = None) -> Tensor:
    """As `qdm_lib.metrics.interval`, at any level: the quantiles of the replicates moved onto the value."""
    ends = _ends(v.level if level is None else level)
    return torch.quantile(replicates - replicates.mean() + value, ends)


def _ends(level: float) -> Tensor:
    return torch.tensor([(1 - level) / 2, (1 + level) / 2], dtype=torch.float64)


def reach_of(scores: Scores) -> float:
    """1.96·√2·s."""
    return classical_null({s: (x, 0.0) for s, x in scores.items()}).reach


def differences(v: Conventions, model: Scores, classical: Scores) -> np.ndarray:
    """Of the seeds that both have, in the variant's direction."""
    d = np.array([model[s] - classical[s] for s in sorted(set(model) & set(classical))])
    return d if v.model_first else -d


def student(d: np.ndarray, level: float) -> tuple[float, float, float]:
    """Mean and Student's interval."""
    half = float(t.ppf((1 + level) / 2, len(d) - 1)) * float(d.std(ddof=1)) / math.sqrt(len(d))
    return float(d.mean()), float(d.mean()) - half, float(d.mean()) + half


def paired(v: Conventions, model: Scores, classical: Scores) -> tuple[float, float, float]:
    """Mean difference, and the ends of its interval."""
    return student(differences(v, model, classical), v.level)


def word(v: Conventions, low: float, high: float, margin: float) -> str:
    """The verdict on the model."""
    sure, inside = low > 0 or high < 0, -margin < low and high < margin
    if inside and not (sure and v.sure_wins):
        return "equivalent"
    if sure:
        return "better" if (low > 0) == (v.sign > 0) else "worse"
    return "undecided"


def decided(v: Conventions, model: Scores, classical: Scores, margin: float | None = None) -> str:
    """The verdict from two sets of scores, by the variant's margin or another."""
    _, low, high = paired(v, model, classical)
    return word(v, low, high, v.margin if margin is None else margin)


# ------------------------------------------------------------------------------------------- tasks

moments = Task("moments", "Mean and covariance", "summarise features by two moments", 10)
fid = Task("fid", "The Fréchet distance", "compute FID, also from few images", 25)
extrapolate = Task("extrapolate", "FID of infinitely many images", "correct the bias of small sets", 15)
interval = Task("interval", "An interval from a bootstrap", "say how far a score can be trusted", 15)
reach = Task("reach", "The reach of chance", "say how large a difference chance makes", 10)
paired_difference = Task("paired_difference", "Paired differences", "compare two models seed by seed", 20)
verdict = Task("verdict", "A verdict rule", "tell “equal” from “not shown to differ”", 15)
conclusions = Task("conclusions", "Two sets of results", "reach a verdict by a rule fixed before", 15)


@moments.has("has the right mean", 1)
def _(answer, v, draw):
    for n, d in ((9, 4), (5, 3)):
        x = draw.normal(n, d) + draw.normal(d)
        mean, _ = pair(answer(x), "the mean and the covariance")
        agree(mean, x.mean(0), what="the mean", usual=[(x.mean(0) * n, "This is the sum; divide by N.")])


@moments.has("has the right covariance", 1)
def _(answer, v, draw):
    for n, d in ((9, 4), (5, 3)):
        x = draw.normal(n, d) + draw.normal(d)
        _, cov = pair(answer(x), "the mean and the covariance")
        divisor = n - v.correction
        if numbers(cov, what="the covariance").shape == (n, n) != (d, d):
            raise Mistake("The covariance is one of images; rows are images, and the D features are its axes.")
        agree(cov, two_moments(x, v.correction)[1], what="the covariance", usual=[
            (two_moments(x, 1 - v.correction)[1], f"The divisor is the other one: here {v.divisor}."),
            (x.T @ x / n, "The mean is not subtracted first."),
            (x.T @ x / (n - 1), "The mean is not subtracted first."),
            (torch.corrcoef(x.T), "These are correlations; covariances are not divided by the deviations."),
            (two_moments(x, v.correction)[1] * divisor, f"This is the sum of the products; divide by {divisor} here."),
            (torch.diag(x.var(0, correction=v.correction)), "Only the variances are there; the covariances of two "
                                                            "features belong beside the diagonal."),
        ])  # fmt: skip


def cov_root(cov: Tensor) -> Tensor:
    """The symmetric root."""
    values, vectors = torch.linalg.eigh(cov)
    return (vectors * values.clamp(min=0).sqrt()) @ vectors.T


def fid_mistakes(v: Conventions, a: Tensor, A: Tensor, b: Tensor, B: Tensor):
    gap, cross = (a - b).square().sum(), (A.trace() + B.trace() - frechet_distance(a, A, a, B)) / 2
    squared = frechet_distance(a, A, b, B)
    traces = A.trace() + B.trace()

    def out(x):
        return x.clamp(min=0).sqrt() if v.root else x

    return [
        (squared if v.root else squared.sqrt(), "This is the other one: here " + text_of_root(v) + " is wanted."),
        (out(gap.sqrt() + traces - 2 * cross), "|μ − μ'| enters squared."),
        (out(gap + traces - 2 * (A @ B).clamp(min=0).sqrt().trace()),
         "The root of a matrix is not the root of its entries: R is the root of M if R·R = M."),
        (out(gap + traces - 2 * (cov_root(A) @ cov_root(B)).trace()),
         "√A·√B is the root of A·B only if A and B commute; take the root of the product (or of √A·B·√A)."),
        (out(gap + traces - cross), "The factor 2 of the root is missing."),
        (out(gap + traces + 2 * cross), "The root of the product is subtracted."),
        (out(gap + traces), "The term with the root is missing."),
        (out(traces - 2 * cross), "The means do not enter; |μ − μ'|² is missing."),
        (out(gap + traces - 2 * (A @ B).trace().clamp(min=0).sqrt()), "The trace comes after the root, not before it."),
        (out(gap), "Only the means enter; the covariances do too."),
        (out(gap + (A.diagonal().sqrt() - B.diagonal().sqrt()).square().sum()),
         "Only the variances enter; the whole covariance matrices do."),
    ]  # fmt: skip


def text_of_root(v: Conventions) -> str:
    return "the root, d" if v.root else "the square, d²"


def _sets(draw, n: int, d: int, shift: float = 1.0) -> tuple[Tensor, ...]:
    """Moments of two sets of n random features that neither commute nor agree."""
    a, b = (draw.normal(n, d) @ draw.normal(d, d) + shift * draw.normal(d) for _ in range(2))
    return *two_moments(a, 1), *two_moments(b, 1)


@fid.has("is right for two sets of many images", 2)
def _(answer, v, draw):
    for d in (3, 5):
        m = _sets(draw, 40, d)
        agree(answer(*m), distance(v, *m), fid_mistakes(v, *m), "the distance")


@fid.has("is right in one dimension: (μ − μ')² + (σ − σ')²", 1)
def _(answer, v, draw):
    m = _sets(draw, 20, 1)
    m = tuple(x.reshape(1) if k % 2 == 0 else x.reshape(1, 1) for k, x in enumerate(m))
    agree(answer(*m), distance(v, *m), what="the distance")


@fid.has("stays a real number with fewer images than features", 1)
def _(answer, v, draw):
    m = _sets(draw, 4, 6)
    value = numbers(answer(*m), (), "the distance")
    agree(value.real if value.is_complex() and value.imag.abs() < 1e-3 else value, distance(v, *m), (), "the distance",
          tolerance=2e-3)  # fmt: skip


@extrapolate.has("finds the limit of a law a + b/N", 1)
def _(answer, v, draw):
    counts = sorted(draw.some(range(100, 6000, 100), 5))
    a, b = 20 + 10 * draw.uniform().item(), 4000 * (1 + draw.uniform().item())
    values = [a + b / n for n in counts]
    agree(answer(counts, values), torch.tensor(a), line_mistakes(counts, values), "the limit", tolerance=1e-3)


def line_mistakes(counts, values):
    n, y = np.asarray(counts, float), np.asarray(values, float)
    return [
        (np.polyfit(n, y, 1)[1], "The line is drawn against N; FID is nearly a line in 1/N."),
        (np.polyfit(1 / np.sqrt(n), y, 1)[1], "The line is drawn against 1/√N; the bias of FID falls with 1/N."),
        (np.polyfit(1 / n, y, 1)[0], "This is the slope; the value at 1/N = 0 is wanted."),
        (y[-1], "This is the value at the largest N; the line goes on to 1/N = 0."),
        (y.mean(), "This is the mean of the values."),
    ]


@extrapolate.has("is the least-squares line where the values scatter", 1)
def _(answer, v, draw):
    counts = draw.some(range(100, 6000, 100), 6)
    values = [(30 + 3000 / n + draw.normal().item()) for n in counts]
    order = np.argsort(counts)
    n, y = np.asarray(counts, float)[order], np.asarray(values)[order]
    two = y[-1] - (y[0] - y[-1]) / (1 / n[0] - 1 / n[-1]) / n[-1]
    usual = [(two, "This line goes through two of the points; fit it to all of them."), *line_mistakes(counts, values)]
    agree(answer(counts, values), torch.tensor(limit(counts, values)), usual, "the limit", tolerance=1e-3)


def interval_mistakes(v: Conventions, value: float, r: Tensor):
    z, sd = float(norm.ppf((1 + v.level) / 2)), r.std()
    both = torch.tensor([-1.0, 1.0], dtype=torch.float64)
    q = torch.quantile(r, _ends(v.level))
    return [
        (q, "The replicates are not moved: a resampled set repeats images and scores worse, so their mean lies beside "
            "the score."),
        (value + both * z * sd, "This takes the replicates for normal; take their quantiles."),
        (value + both * z * sd / math.sqrt(len(r)), "This is the error of the replicates' mean, which more replicates "
                                                    "make as small as you like; their own spread is wanted."),
        (2 * value - q.flip(0), "The interval is mirrored at the score; move the replicates instead."),
        (moved(v, value, r, 2 * v.level - 1), f"At each end {1 - v.level:.0%} are left out; that is "
         "for both ends together, half of it for each."),
        *[(moved(v, value, r, level), f"This is an interval of {level:.0%}; one of {v.level:.0%} is wanted.")
          for level in LEVELS if level != v.level],
        (r.mean() * 0 + torch.stack([r.min(), r.max()]) - r.mean() + value, "This goes from the smallest replicate to "
                                                                          "the largest."),
    ]  # fmt: skip


def _replicates(draw, n: int) -> tuple[float, Tensor]:
    value = 20 + 10 * draw.uniform().item()
    return value, value + 2 + draw.normal(n).square() + draw.normal(n).square()  # skewed, and all moved up


@interval.has("runs between the quantiles of the moved replicates", 2)
def _(answer, v, draw):
    for n in (200, 333):
        value, r = _replicates(draw, n)
        low, high = pair(answer(value, r), "the lower and the upper end")
        got = torch.stack([numbers(x, (), "an end") for x in (low, high)])
        agree(got, moved(v, value, r), interval_mistakes(v, value, r), "the interval")


@interval.has("moves with the score", 1)
def _(answer, v, draw):
    value, r = _replicates(draw, 200)
    first = [numbers(x, (), "an end") for x in pair(answer(value, r), "the lower and the upper end")]
    second = [numbers(x, (), "an end") for x in pair(answer(value + 5, r), "the lower and the upper end")]
    agree([b - a for a, b in zip(first, second, strict=True)], torch.tensor([5.0, 5.0]), what="the move of both ends",
          usual=[(torch.zeros(2), "The score does not enter: the same replicates around another score give another "
                                  "interval.")])  # fmt: skip


def _seeds(draw, n: int, spread: float = 1.0) -> Scores:
    return {s: 40 + spread * draw.normal().item() for s in sorted(draw.some(range(30), n))}


@reach.has("is 1.96·√2·s", 1)
def _(answer, v, draw):
    for n in (3, 6):
        scores = _seeds(draw, n, 2.0)
        values = np.array(list(scores.values()))
        right = reach_of(scores)
        agree(answer(scores), torch.tensor(right), what="the reach", usual=[
            (right / math.sqrt(2), "√2 is missing: the difference of two scores varies more than one score."),
            (right * math.sqrt((n - 1) / n), "s of a few seeds divides by n − 1."),
            (right / 1.959964, "1.96 is missing: this is one standard deviation, beyond which is a third of them."),
            (right / math.sqrt(n), "This is the error of a mean, which shrinks with n; the reach does not."),
            (2 * 1.959964 * math.sqrt(2) * values.var(ddof=1) / 2, "s is the standard deviation, not the variance."),
            (values.max() - values.min(), "This is the largest difference, which grows with the number of seeds."),
        ])  # fmt: skip


@reach.has("does not depend on the level of the scores", 1)
def _(answer, v, draw):
    scores = _seeds(draw, 5)
    higher = {s: x + 25 for s, x in scores.items()}
    agree(answer(higher), torch.tensor(reach_of(scores)), what="the reach")


def pair_mistakes(v: Conventions, model: Scores, classical: Scores):
    d = differences(v, model, classical)
    n, mean, sd = len(d), d.mean(), d.std(ddof=1)

    def around(half, at=mean):
        return torch.tensor([at, at - half, at + half])

    factor = float(t.ppf((1 + v.level) / 2, n - 1))
    m, c = np.array(list(model.values())), np.array(list(classical.values()))
    a, b = (np.array([x[s] for s in sorted(set(model) & set(classical))]) for x in (model, classical))
    unpaired = math.sqrt(a.var(ddof=1) / n + b.var(ddof=1) / n)
    everything = (m.mean() - c.mean()) * (1 if v.model_first else -1)
    found = [
        (around(factor * sd / math.sqrt(n), -mean), "The sign is the other one; here it is "
         + ("model − classical." if v.model_first else "classical − model.")),
        (around(float(norm.ppf((1 + v.level) / 2)) * sd / math.sqrt(n)),
         "This is the normal factor; s comes from few seeds, so Student's t with n − 1 is wanted."),
        (around(float(t.ppf((1 + v.level) / 2, n)) * sd / math.sqrt(n)), "t has n − 1 degrees of freedom, not n."),
        (around(float(t.ppf(v.level, n - 1)) * sd / math.sqrt(n)), "The quantile is the one-sided one."),
        (around(factor * sd), "This is the spread of one difference; that of the mean is smaller by √n."),
        (around(factor * d.std() / math.sqrt(n)), "s of a few seeds divides by n − 1."),
        *[(around(f * unpaired), "The two models are treated as independent: what a seed brings along is in both, and "
                                 "goes away in the difference of its pair.")
          for f in (factor, float(t.ppf((1 + v.level) / 2, 2 * n - 2)))],
        *[(torch.tensor(student(d, level)), f"This is an interval of {level:.0%}; one of {v.level:.0%} is wanted.")
          for level in LEVELS if level != v.level],
    ]  # fmt: skip
    return found, everything


def _two(draw, n: int) -> tuple[Scores, Scores]:
    """Scores of two models with common luck; each has seeds that the other does not, in another order."""
    seeds = draw.some(range(40), n + 3)
    luck = {s: 3 * draw.normal().item() for s in seeds}
    model = {s: 39 + luck[s] + 0.5 * draw.normal().item() for s in seeds[: n + 1]}
    classical = {s: 40 + luck[s] + 0.5 * draw.normal().item() for s in [*seeds[:n][::-1], *seeds[n + 1 :]]}
    return model, classical


def _pairs(answer, v, draw, n: int) -> None:
    model, classical = _two(draw, n)
    value = answer(model, classical)
    if value is None:
        raise Unanswered("The function returns nothing; is a return missing?")
    usual, everything = pair_mistakes(v, model, classical)
    got = numbers(value, (3,), "mean, lower and upper end")
    if abs(got[0].item() - everything) < 1e-6:
        raise Mistake("All scores are averaged; only seeds that both models have make a pair.")
    agree(got, torch.tensor(paired(v, model, classical)), usual, "(mean, low, high)")


@paired_difference.has("is right for three pairs", 1)
def _(answer, v, draw):
    _pairs(answer, v, draw, 3)


@paired_difference.has("is right for any number of pairs", 2)
def _(answer, v, draw):
    for n in (2, 5, 9):
        _pairs(answer, v, draw, n)


def cases(draw) -> list[tuple[float, float, float]]:
    """(low, high, margin) of all kinds: beside 0 or around it, within the margin, beyond it or across its end."""
    a, b, m = (1 + draw.uniform(3)).tolist()
    big, small = 3 * m, 0.3 * m / 2
    ends = [(small, big), (big, big + a), (small, 2 * small), (-small, small), (-small, big), (-big - b, big + a)]
    both = [(low, high, m) for low, high in ends] + [(-high, -low, m) for low, high in ends]
    draw.python.shuffle(both)
    return both


def rules(v: Conventions):
    """(a wrong rule, what is wrong with it)."""
    other = Conventions(**{**vars(v), "sure_wins": not v.sure_wins})
    turned = Conventions(**{**vars(v), "lower_is_better": not v.lower_is_better})

    def no_margin(low, high, m):
        return word(v, low, high, 0.0) if low > 0 or high < 0 else "equivalent"

    def by_middle(low, high, m):
        middle = (low + high) / 2
        return "equivalent" if abs(middle) < m else word(v, middle, middle, 0.0)

    def never_open(low, high, m):
        return "equivalent" if word(v, low, high, m) == "undecided" else word(v, low, high, m)

    def beyond(low, high, m):
        return word(v, low, high, m) if low > m or high < -m or (-m < low and high < m) else "undecided"

    return [
        (lambda low, high, m: word(turned, low, high, m),
         "Better and worse are exchanged: which sign has a difference in the model's favour?"),
        (lambda low, high, m: word(other, low, high, m),
         "An interval beside 0 and within the margin: here the word for it is "
         + ("“better” or “worse”." if v.sure_wins else "“equivalent”.")),
        (no_margin, "An interval around 0 is called equivalent, however wide: not to see a difference is not to know "
                    "that there is none. It has to lie within the margin."),
        (never_open, "An interval around 0 that reaches beyond the margin is called equivalent, however wide; it "
                     "decides nothing."),
        (by_middle, "Only the middle of the interval is looked at; its ends decide."),
        (beyond, "Better and worse are asked to lie beyond the margin; beside 0 is enough."),
    ]  # fmt: skip


def said(value) -> str:
    """A word of the four."""
    if value is None:
        raise Unanswered("The function returns nothing; is a return missing?")
    value = str(value).strip().lower()
    if value not in WORDS:
        raise Mistake(f"One of the words {', '.join(WORDS)} is wanted; this is {value[:40]!r}.")
    return value


@verdict.has("decides every kind of interval by the rule", 2)
def _(answer, v, draw):
    given = cases(draw) + cases(draw)
    found = [said(answer(*case)) for case in given]
    want = [word(v, *case) for case in given]
    if found == want:
        return
    for rule, why in rules(v):
        if found == [rule(*case) for case in given]:
            raise Mistake(why)
    k = next(k for k, (a, b) in enumerate(zip(found, want, strict=True)) if a != b)
    low, high, m = given[k]
    raise Mistake(f"An interval from {low:.2f} to {high:.2f} with margin {m:.2f} is {want[k]}; this says {found[k]}.")


@verdict.has("never says equivalent without a margin", 1)
def _(answer, v, draw):
    for low, high, _ in cases(draw):
        if said(answer(low, high, 0.0)) != (want := word(v, low, high, 0.0)):
            raise Mistake(f"With margin 0 an interval from {low:.2f} to {high:.2f} is {want}: nothing lies within it.")


def given_verdicts(v: Conventions) -> list[str]:
    """Of the two sets of the notebook."""
    return [decided(v, dict(model), dict(classical)) for classical, model in v.sets]


def naive(v: Conventions) -> list[str]:
    """What the signs of the mean differences say."""
    return ["better" if v.sign * paired(v, dict(m), dict(c))[0] > 0 else "worse" for c, m in v.sets]


@conclusions.has("says for both sets what the rule says", 2)
def _(answer, v, draw):
    first, second = (said(x) for x in pair(answer(), "a word for each set"))
    want = given_verdicts(v)
    if [first, second] == want:
        return
    if [first, second] == naive(v):
        raise Mistake("These are the signs of the mean differences; a mean lies on one side of 0 also by chance.")
    if [second, first] == want:
        raise Mistake("The two sets are exchanged.")
    by_reach = [decided(v, dict(model), dict(classical), reach_of(dict(classical))) for classical, model in v.sets]
    if [first, second] == by_reach:
        raise Mistake("“Equivalent” is an interval within the fixed margin. That it holds 0 is not enough, and the "
                      "reach of chance is no margin: noise must not decide what is equal.")  # fmt: skip
    if all(a in ("better", "worse") for a in (first, second)):
        raise Mistake("Both sets are said to show a difference; look at the intervals, not at the means.")
    if all(a in ("equivalent", "undecided") for a in (first, second)):
        raise Mistake("No set is said to show a difference; did you pair the seeds before averaging?")
    number = "first" if first != want[0] else "second"
    raise Mistake(f"The word for the {number} set is not the one that the rule gives.")


@conclusions.has("says the same each time", 1)
def _(answer, v, draw):
    both = [tuple(said(x) for x in pair(answer(), "a word for each set")) for _ in range(2)]
    if both[0] != both[1]:
        raise Mistake("Two calls give different words; a rule has no chance in it.")


LAB = Lab(
    "08", "Evaluation", conventions=conventions, text=text,
    tasks=(moments, fid, extrapolate, interval, reach, paired_difference, verdict, conclusions),
    forbidden=("qdm_lib.metrics.frechet_distance", "qdm_lib.metrics.fid", "qdm_lib.metrics.bootstrap_fid",
               "qdm_lib.metrics.interval", "qdm_lib.statistics", "torchmetrics"),
)  # fmt: skip
