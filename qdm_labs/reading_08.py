"""Questions of notebook 08: what scores see, how they are biased, and a verdict."""

import torch

from qdm_labs.compare import agree
from qdm_labs.questions import Table
from qdm_lib.metrics import fid, inception_score
from qdm_lib.statistics import paired_difference

QUESTIONS = Table("08")


def _factor() -> float:
    g = torch.Generator().manual_seed(0)
    a, b = torch.randn(50, 4, generator=g), 1 + 2 * torch.randn(50, 4, generator=g)
    return fid(2 * a, 2 * b) / fid(a, b)


QUESTIONS.number(
    _factor,
    near=1e-3,
    usual=[
        (2, "Means and standard deviations double; look at the formula: are they in it as they are?"),
        (1, "FID is no ratio: it has the units of the features, squared."),
        (2**0.5, "It gets larger by more than the features themselves: all terms are squares."),
        (8, "Covariances grow fourfold, and the root of SS' fourfold, too."),
        (16, "Covariances grow fourfold, and (SS')^½ too: the root of sixteen."),
    ],
    hint="What happens to the means, the covariances and the root of their product?",
    right="All terms are squares of features. That is why scores of two extractors cannot be compared.",
    way="Means double, so their squared distance grows fourfold, as do the covariances and (SS')^½.",
)  # fmt: skip


def _boots() -> float:
    return float(inception_score(20 * torch.eye(10)[9].repeat(50, 1)))


QUESTIONS.number(
    _boots,
    near=1e-3,
    usual=[
        (10, "10 takes all classes equally often; here the mean p(y) is as peaked as each p(y|x)."),
        (0, "The divergence is 0; IS is its exponential."),
        (0.1, "IS is never below 1."),
    ],
    hint="p(y|x) is the same for every image, so what is p(y), and what their divergence?",
    right="Certainty without variety is worth nothing.",
    way="p(y|x) equals p(y) for every image, so each divergence is 0, and exp(0) = 1.",
)  # fmt: skip

QUESTIONS.word(
    lambda: "falls",
    {"falls": "falls", "fall": "falls", "smaller": "falls", "decreases": "falls", "down": "falls", "lower": "falls",
     "rises": "rises", "rise": "rises", "larger": "rises", "grows": "rises", "increases": "rises", "up": "rises",
     "stays": "stays", "same": "stays", "constant": "stays", "equal": "stays", "unchanged": "stays"},
    usual={
        "stays": "The true distance stays. But mean and covariance of few images are estimated badly, and every error "
                 "of theirs is a distance: FID is biased.",
        "rises": "More images, better estimates of mean and covariance: the errors add to the distance, and they get "
                 "smaller.",
    },
    right="So scores compare only at equal N, and a floor belongs to each N.",
    way="FID is biased: the fewer images, the worse the estimates of mean and covariance, and their errors add.",
)  # fmt: skip


@QUESTIONS.function(
    right="It is much nearer to 0 than each of the two; not exactly, since the 2,000 reference images are few, too.",
    way="""f = f_∞ + c/N at two sizes n < m: multiply each by its size and subtract.

```python
def my_limit(n, f_n, m, f_m):
    return (m * f_m - n * f_n) / (m - n)
```
""",
)
def _(f, draw):
    for _ in range(3):
        n, m = draw.whole(50, 300), draw.whole(400, 900)
        limit, c = float(5 * draw.uniform(1)), float(100 + 500 * draw.uniform(1))
        f_n, f_m = limit + c / n, limit + c / m
        agree(f(n, f_n, m, f_m), torch.tensor(limit), what="the value at N → ∞", tolerance=1e-6, usual=[
            (f_m, "That is the value at the larger size, as it is; the line goes on to 1/N = 0."),
            ((f_n + f_m) / 2, "That is the mean of both values; the line goes on beyond them, to 1/N = 0."),
            ((n * f_n - m * f_m) / (m - n), "The sign is turned: m belongs to the first term."),
            ((n * f_m - m * f_n) / (n - m), "That is a straight line in N, at N = 0; wanted is one in 1/N, at 0. "
             "(Or have n and m changed places?)"),
            (m * f_m - n * f_n, "Divide by m − n: the factor of f_∞ in this difference."),
            (c, "That is c, the slope; wanted is where the line ends."),
        ])  # fmt: skip


def _verdict(differences=(-1.0, -2.0, 0.5, -1.5, -0.5), margin=2.0) -> str:
    both = {s: (d, 0.0) for s, d in enumerate(differences)}, {s: (0.0, 0.0) for s in range(len(differences))}
    low, high = paired_difference(*both).t
    if high < 0 or low > 0:
        return "better" if high < 0 else "worse"
    return "equivalent" if max(-low, high) < margin else "undecided"


QUESTIONS.word(
    _verdict,
    {"better": "better", "lower": "better", "yes": "better", "worse": "worse", "higher": "worse",
     "equivalent": "equivalent", "equal": "equivalent", "same": "equivalent", "no": "equivalent",
     "undecided": "undecided", "open": "undecided", "inconclusive": "undecided"},
    usual={
        "better": "Four of five seeds favour B, and the mean, −0.9, does, too. But the interval holds 0: that is what "
                  "one would like to call a trend.",
        "worse": "Smaller scores are better, and most differences are below 0.",
        "equivalent": "The interval holds 0, but it also has to lie within ± margin; compute its lower end.",
    },
    right="The interval is −2.09 … 0.29: it holds 0, and it is not within ± 2.",
    way="The mean is −0.9 and the interval −2.09 … 0.29. It contains 0, and it is not within ± 2.",
)  # fmt: skip
