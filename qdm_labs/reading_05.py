"""Questions of notebook 05: sizes, products, skips, and the number of weights at which a circuit saves nothing."""

import functools

import torch
from torch.nn.functional import interpolate

from qdm_labs import forms
from qdm_labs.questions import Table
from qdm_labs.task import Mistake
from qdm_lib.unet import build_unet, count_parameters

QUESTIONS = Table("05")


def _grown(mode: str) -> list[float]:
    """Three pixels 0, 1, 2, grown to seven."""
    return interpolate(torch.tensor([[[0.0, 1.0, 2.0]]]), size=7, mode=mode)[0, 0].tolist()


QUESTIONS.numbers(
    [f"pixel {i}" for i in range(7)],
    lambda: _grown("nearest-exact"),
    usual=[
        (lambda: _grown("nearest"), "That is the older `nearest`: the ½ of the pixels' centres is missing."),
        (lambda: _grown("linear"), "That goes evenly from pixel to pixel; nearest neighbours are copied as they are."),
        ([i / 3 for i in range(7)], "That goes evenly from pixel to pixel; nearest neighbours are copied as they are."),
        ([0, 0, 0, 1, 1, 1, 2], "Every pixel three times, then cut off: compute ⌊3(i + ½)/7⌋ for each i."),
    ],
    hint="Pixel i takes the value of pixel ⌊3(i + ½)/7⌋.",
    right="Symmetric, as it should be: two copies at the ends, three in the middle.",
    way="⌊3(i + ½)/7⌋ for i = 0 … 6: 0.2, 0.6, 1.1, 1.5, 1.9, 2.4, 2.8, rounded down.",
)  # fmt: skip

QUESTIONS.number(
    lambda: 2 * 4 * 100 * 100 * 32,
    usual=[
        (4 * 100 * 100 * 32, "That is the weights, or the weighted sums, alone: each costs as much."),
        (2 * 100 * 100 * 32, "That is one head; there are four."),
        (100 * 100 * 32, "That is one head, and the weights alone."),
        (100 * 100, "That is the number of pairs; each costs 32 products for its weight, and more for the sum."),
        (2 * 4 * 100 * 32 * 32, "That is linear attention, with a context; the question is about pairs of pixels."),
        (2 * 4 * 10 * 10 * 32, "10×10 pixels are 100, and pairs are 100 · 100."),
        (4 * 100 * 100, "Each pair costs 32 products for its weight and 32 for its part of the sum."),
    ],
    hint="Pairs of pixels, times 32 numbers in a vector, times 2 for weights and sums, times heads.",
    right="10,000 pairs, 64 products each, four heads.",
    way="100 pixels make 100 · 100 pairs. Each needs 32 products for its weight and 32 for its part of the sum, in 4 "
        "heads.",
)  # fmt: skip


@QUESTIONS.other(
    right="Last in, first out, like a stack. With the two of one level exchanged the shapes fit, so the network runs, "
          "and computes something else: an error that raises nothing. Only a comparison with a reference finds it.",
    way="Last in, first out: b2, a2, b1, a1.",
)  # fmt: skip
def _(order):
    got = forms.words(order)
    got = got if len(got) != 1 or len(got[0]) != 8 else [got[0][k : k + 2] for k in range(0, 8, 2)]
    if sorted(got) != ["a1", "a2", "b1", "b2"]:
        raise Mistake("All four names are wanted, each once, such as ['a1', 'b1', 'a2', 'b2'].")
    if got == ["a1", "b1", "a2", "b2"]:
        raise Mistake("First in, first out: the first level of the decoder is the small one, and would get large maps.")
    if got[0][1] == "1":
        raise Mistake("The decoder begins with the small maps, those of level 2.")
    if got != ["b2", "a2", "b1", "a1"]:
        raise Mistake("The levels are right. Within a level, too, what was kept last is taken first. (The shapes would "
                      "fit, nothing would stop, and the network would compute something else.)")  # fmt: skip


def _conv(c: int) -> int:
    return 9 * c * c + c


@functools.cache
def _unet() -> int:
    return count_parameters(build_unet("unet", seed=0))


QUESTIONS.number(
    lambda: _unet() + 4 * (_conv(20) + 5 * 112 - _conv(40)),
    usual=[
        (lambda: _unet() + _conv(20) + 5 * 112 - _conv(40), "That changes one convolution; there are four at the "
         "vertex."),
        (lambda: _unet() + 4 * (_conv(25) + 5 * 112 - _conv(40)), "These circuits take four channels each, not three: "
         "20 are left."),
        (lambda: _unet() + 4 * (_conv(20) + 112 - _conv(40)), "Every circuit has weights of its own: five times 112."),
        (lambda: _unet() + 4 * (_conv(20) + 5 * 84 - _conv(40)), "84 weights are HQConv's; these have 112."),
        (lambda: _unet() + 4 * (_conv(20) - _conv(40)), "The circuits' own weights are missing."),
        (lambda: _unet() + 4 * 5 * 112, "The convolution gets smaller: 20 channels are left to it."),
        (lambda: _conv(20) + 5 * 112, "That is one hybrid convolution; wanted is the whole U-Net."),
    ],
    hint="Take four convolutions 40 → 40 off the classical count; add what stands in their place.",
    right="20 channels stay with the convolution.",
    way="`classical + 4 * (conv(40 - 5 * 4) + 5 * 112 - conv(40))`: 20 channels stay with the convolution.",
)  # fmt: skip

QUESTIONS.number(
    lambda: -((_conv(1) - _conv(40)) // 13),
    usual=[
        (lambda: -((_conv(1) - _conv(40)) // 13) - 1, "With that many the hybrid is still smaller."),
        (1111, "The channel that is left has a convolution, too, with 10 parameters."),
        (14_430, "That is for all 13 circuits together; wanted is the number of one."),
        (14_440, "That is a whole convolution 40 → 40; how much of it falls to one of 13 circuits?"),
        (84, "That is HQConv, which saves a lot."),
        (4440, "The factor four is on both sides: four convolutions are replaced by four."),
    ],
    hint="13·w and the convolution of the last channel have to reach the 14,440 of the convolution 40 → 40.",
    right="13 times as many as HQConv has, so any sensible circuit saves parameters.",
    way="13·w + conv(1) ≥ conv(40), so w ≥ (14,440 − 10)/13.",
)  # fmt: skip

QUESTIONS.word(
    lambda: "large",
    {"small": "small", "little": "small", "low": "small", "early": "small", "large": "large", "high": "large",
     "big": "large", "late": "large", "same": "same", "everywhere": "same", "equal": "same"},
    usual={
        "small": "With little noise it is fine grain, and the outer levels see all that is needed to tell it from the "
                 "image. When is only the coarse shape left to go by?",
        "same": "With little noise the outer levels see all that is needed; with much noise only the coarse shape of "
                "the garment is left to go by. Which level works on that?",
    },
    right="It is largest at t = 800: there only the coarse shape of the garment is left to go by, and that is what the "
          "small maps hold. At 950 hardly that is left, and the sign turns.",
    way="At small t the noise is fine grain, which the outer levels see. At large t only the coarse shape is left (and "
        "at 950 hardly that: there the sign turns).",
)  # fmt: skip
