"""Questions of notebook 01: the closed form, its noise, x_0 and ε from each other, and what is drawn in the end."""

import torch

from qdm_labs.compare import agree
from qdm_labs.questions import Table
from qdm_labs.task import Mistake
from qdm_lib.diffusion import NoiseSchedule

QUESTIONS = Table("01")
SCHEDULE = NoiseSchedule()

QUESTIONS.numbers(
    ("the mean", "the standard deviation"),
    lambda: (0.36**0.5 * 0.5, (1 - 0.36) ** 0.5),
    usual=[
        ((None, 0.64), "0.64 is the variance, 1 − ᾱ; the question asks for the standard deviation: a square root is "
         "missing."),
        ((None, 0.36), "ᾱ is the share of the signal; the variance of the noise is the rest, 1 − ᾱ."),
        ((0.18, None), "The mean is √ᾱ · x_0: a square root is missing, ᾱ itself is the factor of the variance."),
        ((0.5, None), "The mean does not stay at x_0: the closed form shrinks it by √ᾱ."),
        ((0.0, None), "0 is the mean at the very end of the chain; here √ᾱ = 0.6 of x_0 is left."),
    ],
    hint="Read both from the closed form: what stands in front of x_0, and what in front of ε?",
    right="√ᾱ · x_0 and √(1 − ᾱ); their squares add up to 1 for x_0 = 1.",
    way="√0.36 · 0.5 = 0.3, and √(1 − 0.36) = √0.64 = 0.8.",
)  # fmt: skip


def _first(below) -> int:
    return int(below(SCHEDULE.snr).nonzero()[0])


QUESTIONS.number(
    lambda: _first(lambda snr: snr < 1),
    usual=[
        (lambda: _first(lambda snr: snr < 1) - 1, "At this step snr is still at least 1; the first one below it comes "
         "right after."),
        (lambda: _first(lambda snr: snr < 1) + 1, "One too late. Here steps count from 0, in papers often from 1."),
        (500, "The middle of the chain is a good guess, but the offset s of the schedule moves it a little."),
        (0.5, "That is ᾱ at this step; wanted is t."),
    ],
    hint="SNR = ᾱ/(1 − ᾱ) is 1 where ᾱ = 1/2. `schedule.snr[t]` is its value at t.",
    right="ᾱ is 1/2 there. Without the offset s it would be the middle, where cos²(π/4) = 1/2.",
    way="`int((schedule.snr < 1).nonzero()[0])`. SNR = 1 means ᾱ = 1/2.",
)  # fmt: skip


@QUESTIONS.function(
    right="The closed form, solved for x_0. The library has it as `schedule.predict_x0`.",
    way="""Solve x_t = √ᾱ · x_0 + √(1 − ᾱ) · ε for x_0:

```python
def my_predict_x0(x_t, t, eps):
    abar = alphas_cumprod[t].view(-1, 1)
    return (x_t - (1 - abar).sqrt() * eps) / abar.sqrt()
```
""",
)
def _(f, draw):
    t = torch.tensor([draw.whole(50, 900) for _ in range(9)])
    x_t, eps = draw.normal(9, 1).float(), draw.normal(9, 1).float()
    a, b = SCHEDULE.alphas_cumprod[t].sqrt().view(-1, 1), (1 - SCHEDULE.alphas_cumprod[t]).sqrt().view(-1, 1)
    beta, late = SCHEDULE.betas[t].view(-1, 1), SCHEDULE.alphas_cumprod[t + 1].view(-1, 1)
    got = f(x_t, t, eps)
    if getattr(got, "shape", None) == (9, 9):
        raise Mistake("Broadcasting made a table of 9 × 9: alphas_cumprod[t] has shape (9,), and beside (9, 1) it "
                      "needs .view(-1, 1).")  # fmt: skip
    agree(got, (x_t - b * eps) / a, what="your x_0", usual=[
        (((x_t - b * eps) / a).clamp(-1, 1), "That is clamped to [−1, 1]. Samplers do so later; here x_0 is wanted as "
         "it comes."),
        (x_t / a, "ε does not count in it: what you return is the same for every eps."),
        ((x_t - b**2 * eps) / a, "The noise has the factor √(1 − ᾱ): a square root is missing in front of eps."),
        ((x_t - b * eps) / a**2, "The signal has the factor √ᾱ: a square root is missing in what you divide by."),
        ((x_t - b**2 * eps) / a**2, "1 − ᾱ and ᾱ are variances; the closed form has their square roots."),
        ((x_t + b * eps) / a, "The noise was added on the way; it has to be taken off: a minus."),
        (x_t - b * eps, "What is left after the noise is √ᾱ · x_0, not x_0 yet: divide."),
        ((x_t - b * eps) * a, "Dividing by √ᾱ, not multiplying, undoes the factor of x_0."),
        ((x_t - a * eps) / b, "√ᾱ and √(1 − ᾱ) have changed places: ᾱ belongs to the image, 1 − ᾱ to the noise."),
        ((x_t - beta.sqrt() * eps) / (1 - beta).sqrt(), "That undoes one step of the chain, with β_t; the noise of all "
         "steps up to t goes with ᾱ_t, `alphas_cumprod`."),
        ((x_t - (1 - late).sqrt() * eps) / late.sqrt(), "That is ᾱ of the next step; here t counts from 0."),
        (a * x_t + b * eps, "That is the way forward, from x_0 to x_t; wanted is the way back."),
    ])  # fmt: skip


@QUESTIONS.function(
    right="(x_t, v) is (x_0, ε), turned by an angle whose cosine is √ᾱ; you turned it back.",
    way="""Insert both definitions: the x_0 terms cancel, and ε is left with ᾱ + (1 − ᾱ) = 1.

```python
def my_eps_from_v(x_t, v, abar):
    return (1 - abar).sqrt() * x_t + abar.sqrt() * v
```
""",
)
def _(f, draw):
    abar, x_0, eps = 0.05 + 0.9 * draw.uniform(6), draw.normal(6), draw.normal(6)
    a, b = abar.sqrt(), (1 - abar).sqrt()
    x_t, v = a * x_0 + b * eps, a * eps - b * x_0
    agree(f(x_t, v, abar), eps, what="your ε", usual=[
        (a * v, "x_t does not count in it; it holds √(1 − ᾱ) of ε."),
        (b * x_t, "v does not count in it; it holds √ᾱ of ε."),
        (x_0, "That is x_0; wanted is ε."),
        (a * x_t + b * v, "The two factors have changed places: v holds √ᾱ of ε, and x_t holds √(1 − ᾱ) of it."),
        (b * x_t - a * v, "A sign is turned: insert x_t and v; the terms with x_0 have to cancel."),
        (a * v - b * x_t, "A sign is turned: insert x_t and v; the terms with x_0 have to cancel."),
        (b**2 * x_t + a**2 * v, "The factors are the square roots of 1 − ᾱ and ᾱ."),
        ((v + b * x_0) / a, "That is right only with x_0, which nobody knows when drawing."),
        ((x_t - a * v) / b, "v is not x_0: x_t − √ᾱ · v does not leave the noise."),
        (v, "That is v as it came."),
    ])  # fmt: skip


QUESTIONS.word(
    lambda: "copies",
    {"new": "new", "copies": "copies", "copy": "copies", "copied": "copies", "memorised": "copies",
     "memorized": "copies", "mixtures": "mixtures", "mixture": "mixtures", "blends": "mixtures",
     "blend": "mixtures", "average": "mixtures", "averages": "mixtures", "mix": "mixtures"},
    usual={
        "new": "This denoiser knows nothing but the 2,000 images: what it guesses is always an average of them, with "
               "weights. Which weights are left when the noise is nearly gone?",
        "mixtures": "At large t they are. But the weights are a softmax of −‖x_t − √ᾱ y‖²/(2(1 − ᾱ)): what does it do "
                    "when 1 − ᾱ gets small?",
    },
    right="At small t one weight is 1 and all others 0, so the way ends on one image of the set.",
    way="The guess is a weighted average of the images. With little noise left one image explains x_t far better than "
        "all others, and its weight is 1: each sample is a copy. The next cells measure it.",
)  # fmt: skip
