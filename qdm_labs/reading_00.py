"""Questions of notebook 00: what a step, a circuit and a degree of hybridization are, in numbers."""

import torch

from qdm_labs.questions import Table
from qdm_lib.circuits import hqconv
from qdm_lib.diffusion import NoiseSchedule
from qdm_lib.unet import resolve_hybridization

QUESTIONS = Table("00")
AMPLITUDE = "There √ᾱ is one half, the factor of x_0 in the formula; the share of the variance is ᾱ, without the root."


def _first_below_half(of) -> int:
    return int((of(NoiseSchedule().alphas_cumprod) < 0.5).nonzero()[0])


QUESTIONS.number(
    lambda: _first_below_half(lambda abar: abar),
    near=0.011,  # five steps
    usual=[
        (0.5, "That is ᾱ itself; wanted is the step t at which it has this value."),
        (lambda: _first_below_half(torch.sqrt), AMPLITUDE),
        (lambda: _first_below_half(torch.sqrt) - 1, AMPLITUDE),
        (999, "At the last step nothing of the picture is left."),
    ],
    hint="`schedule.alphas_cumprod[t]` is ᾱ at step t, and it falls all the way.",
    right="A little before the middle of the chain: this schedule spends its steps evenly.",
    way="ᾱ falls, so count until it is below one half: `int((schedule.alphas_cumprod < 0.5).nonzero()[0])`. "
        "Five steps more or less are right, too.",
)  # fmt: skip

QUESTIONS.number(
    lambda: resolve_hybridization(0.25)[0],
    usual=[
        (10 / 3, "A circuit takes three whole channels: there is no third of a circuit."),
        (4, "Four circuits take 12 channels, which is 30 %. Three are nearer to 25 %."),
        (10, "That is the number of channels, 25 % of 40; one circuit takes three of them."),
        (9, "That is the number of channels that go through circuits; how many circuits is it?"),
        (12, "That is the number of qubits in one circuit."),
    ],
    hint="A quarter of 40 channels, three channels for each circuit, rounded to whole circuits.",
    right="9 of 40 channels, which is 22.5 %: percentages of hybridization are rounded to whole circuits.",
    way="A quarter of 40 channels are 10, and 10 / 3 rounds to 3 circuits on 9 channels. The library does the same: "
        '`unet.build_unet("unet", hybridization=0.25)`.',
)  # fmt: skip

QUESTIONS.number(
    lambda: hqconv(5).n_weights,
    usual=[
        (lambda: hqconv(1).n_weights, "That is one layer; the question is about five."),
        (lambda: hqconv(3).n_weights, "That is three layers, the paper's number; the question is about five."),
        (lambda: 5 * len(hqconv(1).gates), "The blue gates at the start are counted, too. They hold the input, not a "
         "weight, and stand there once."),
        (lambda: len(hqconv(5).gates), "The 12 blue gates at the start are counted, too. They hold the input, not a "
         "weight."),
        (lambda: 5 * 12 * 2, "Boxes A alone have 24 weights a layer; box B is missing."),
        (lambda: hqconv(5).n_weights // 2, "Each pair of controlled rotations has two weights, one for each rotation."),
    ],
    hint="Count the orange and green gates of one layer; each has one weight.",
    right="28 in each layer.",
    way="Three rings of four pairs and two pairs more, of two weights each: 28 in a layer, and `circuits.hqconv(5)"
        ".n_weights` says so, too.",
)  # fmt: skip
