"""Questions of notebook 06: a baseline for the loss, the memory of an average, when to stop, the cost of drawing."""

import math

from qdm_labs.questions import Table
from qdm_labs.task import Mistake
from qdm_lib.diffusion import NoiseSchedule

QUESTIONS = Table("06")


def _mean_weight(power: float = 1.0) -> float:
    return float((1 - NoiseSchedule().alphas_cumprod).pow(power).mean())


QUESTIONS.number(
    _mean_weight,
    near=0.012,
    usual=[
        (lambda: 1 - _mean_weight(), "That is the mean of ᾱ, nearly as large since ᾱ falls alike on both sides of its "
         "middle; the weight is 1 − ᾱ."),
        (1, "That is without the P2 weight: ε has mean square 1, and step t counts 1 − ᾱ_t of it."),
        (0, "It answers 0; its error is ε − 0."),
        (lambda: _mean_weight(0.5), "The weight is 1 − ᾱ_t itself, not its square root."),
        (lambda: _mean_weight(2), "ε has mean square 1, so the weight counts once, not squared."),
    ],
    hint="The error is ε, whose mean square is 1. What is the mean of the weight over all t?",
    right="A trained network has to be well below that.",
    way="ε has mean square 1, and the weight at step t is 1 − ᾱ_t: `(1 - schedule.alphas_cumprod).mean()`.",
)  # fmt: skip


def _steps(d: float = 0.995) -> int:
    """Steps until a copy counts less than 1 %, where the average is renewed every 10 of them."""
    return 10 * math.ceil(math.log(0.01) / math.log(d))


QUESTIONS.number(
    _steps,
    usual=[
        (lambda: _steps() // 10, "That is the number of renewals; there is one every 10 steps."),
        (lambda: _steps() - 10, "After that many steps 1.004 % is left, which is not below 1 %: one renewal more."),
        (lambda: 10 * math.log(0.01) / math.log(0.995), "Between two renewals nothing changes: round up to a whole "
         "renewal."),
        (2000, "After 200 renewals 37 % are left: a share 0.995 is left of what was there, not 0.5 % of the first "
         "taken off each time."),
        (1980, "A share 0.995 of what is left stays at each renewal; it is not 0.5 % of the first that goes."),
        (lambda: 10 * math.ceil(math.log(0.1) / math.log(0.995)), "That is 10 %, not 1 %."),
    ],
    hint="Which power of 0.995 is below 0.01, and how many steps are that many renewals?",
    right="Nearly the whole training of the paper, which has 9,375. Notebook 07 shows what that means for a model that "
          "gets new weights on the way.",
    way="0.995ᵏ < 0.01 for k > ln 0.01 / ln 0.995 = 918.7, so after 919 renewals of 10 steps.",
)  # fmt: skip


@QUESTIONS.function(
    right="With so few losses such a rule stops by luck; in practice one judges by many steps, or better by images.",
    way="""The mean of the last five, once there are five:

```python
def my_stop(seen):
    return len(seen) >= 5 and sum(seen[-5:]) / 5 < 0.6
```
""",
)
def _(f, draw):
    def says(seen):
        out = f(list(seen))
        try:
            return bool(out)
        except (TypeError, ValueError, RuntimeError):  # of many entries, as a tensor
            raise Mistake("One True or False is wanted; this has several entries, or none.") from None

    for n in range(5):
        if says([0.1] * n):
            raise Mistake(f"It stops after {n} losses, where there are not five yet.")
    if says([0.9] * 5):
        raise Mistake("It stops where all five losses are 0.9." + " Is < turned round?" * (not says([0.1] * 5)))
    if not says([0.1] * 5):
        raise Mistake("It does not stop where all of five losses are 0.1.")
    last = [0.1, 0.9, 0.1, 0.9, 0.1]
    if not says(last):
        raise Mistake("The losses 0.1, 0.9, 0.1, 0.9, 0.1 have a mean below 0.6: the mean counts, not every one.")
    if not says([5.0] * 10 + last):
        raise Mistake("After ten high losses and five low ones it goes on: only the last five count.")
    if says([0.1] * 10 + [0.9] * 5):
        raise Mistake("After ten low losses and five high ones it stops: only the last five count.")
    if says([0.9, 0.9, 0.9, 0.9, 0.1]):
        raise Mistake("It stops after 0.9, 0.9, 0.9, 0.9, 0.1: the mean counts, not the last loss alone.")
    for _ in range(50):
        seen = (0.4 + 0.4 * draw.uniform(draw.whole(5, 12))).tolist()
        if says(seen) != (sum(seen[-5:]) / 5 < 0.6):
            raise Mistake(f"The mean of the last five of {[round(v, 2) for v in seen]} is {sum(seen[-5:]) / 5:.3f}; "
                          f"there it {'stops' if says(seen) else 'goes on'}.")  # fmt: skip


QUESTIONS.word(
    lambda: "weights",
    {"weights": "weights", "last": "weights", "raw": "weights", "average": "average", "ema": "average",
     "averaged": "average", "same": "same", "equal": "same", "both": "same"},
    usual={
        "average": "In a long run, yes: it smooths the jitter of single steps. But what is the mean age of this one "
                   "after 400 steps (section 2), and how good were the weights back then?",
        "same": "They are for the first 100 steps, while the average is a copy. After 400 it is not.",
    },
    right="The mean age of the average is nearly half of so short a run, and back then the weights were worse.",
    way="After 400 steps the mean age of the average is 190 steps, and 190 steps ago the weights were worse. In a long "
        "run it is the other way round.",
)  # fmt: skip

QUESTIONS.numbers(
    ("calls by DDPM", "calls by DDIM"),
    lambda: (7000 // 250 * 1000, 7000 // 250 * 50),
    usual=[
        ((1000, 50), "That is one batch; 7,000 images are 28 of them."),
        ((7_000_000, 350_000), "That counts each image alone; one call takes a batch of 250."),
        ((250_000, 12_500), "250 is the size of a batch, not the number of batches."),
        ((28, 28), "That is the number of batches; each takes a call for every step."),
        ((28_000,), "That is DDPM; wanted is DDIM with 50 steps, too, as a pair."),
        ((28_000, 28_000), "DDIM takes 50 steps where DDPM takes 1000."),
    ],
    hint="Batches, times steps of the sampler.",
    right="A factor of 20, for every model that is scored.",
    way="28 batches of 250 images, with 1000 or 50 calls each.",
)  # fmt: skip
