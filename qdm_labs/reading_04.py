"""Questions of notebook 04: scales, counts, dead biases, and a convolution of one's own."""

import torch

from qdm_labs.compare import numbers
from qdm_labs.questions import Table
from qdm_labs.task import Mistake
from qdm_lib.audit import audit_layer
from qdm_lib.blocks import CircuitConv, ResnetBlock
from qdm_lib.unet import build_unet, count_parameters

QUESTIONS = Table("04")

QUESTIONS.number(
    lambda: (10 * 9) ** 0.5,
    near=0.02,
    usual=[
        (90, "That is the variance of a sum of 90 terms; the standard deviation is its square root."),
        ((10 * 4) ** 0.5, "Four of nine kernel positions meet a pixel only where the map has 2×2 pixels; far from the "
         "border of a large map all nine do."),
        ((40 * 4) ** 0.5, "That is the vertex, 40 channels of 2×2 pixels; here it is 10 channels, and all nine "
         "positions meet a pixel."),
        ((40 * 9) ** 0.5, "Here the convolution has 10 input channels, not 40."),
        (3, "That is one channel; ten of them are added up."),
        (1, "So it would be with kernel entries of size 1/√fan. A standardized kernel has entries of size 1."),
        (10**0.5, "That is one kernel position; nine of them meet a pixel."),
    ],
    hint="How many products of a kernel entry of size 1 with an input of size 1 are added up in one output?",
    right="√fan, 9.5: ninety independent terms of size 1.",
    way="One output adds up c_in · 9 = 90 independent products of size 1: √90.",
)  # fmt: skip


def _five():
    return build_unet("1hqconv", hybridization=5, verbose=False, seed=0).vertex_block1.conv1


QUESTIONS.number(
    lambda: count_parameters(_five()),
    usual=[
        (5650, "That is the convolution on the 25 other channels; the weights of the five circuits are missing."),
        (6045, "The biases of the convolution are missing, one for each of its 25 channels."),
        (5625, "The biases of the convolution and the weights of the circuits are missing."),
        (420, "That is the circuits; the convolution on the other channels is missing."),
        (35 * 35 * 9 + 35 + 5 * 84, "A circuit takes three channels, so five take 15."),
        (40 * 25 * 9 + 25 + 5 * 84, "The convolution does not see the circuits' channels: it has 25 inputs, too."),
        (40 * 40 * 9 + 40 + 5 * 84, "The convolution gets smaller: it has only the channels that no circuit takes."),
        (25 * 25 * 9 + 25 + 84, "Every circuit has weights of its own: five times 84."),
        (4 * 6070, "That is all four of them; the question is about one."),
    ],
    hint="15 channels go through circuits. Add a 3×3 convolution among the rest, its biases, and 84 for each circuit.",
    right="5,650 in the convolution 25 → 25, and 5 · 84 = 420 in the circuits.",
    way="25 channels are left: 25 · 25 · 9 + 25 = 5,650, and 5 · 84 = 420.",
)  # fmt: skip


class _Counter(torch.nn.Module):
    rows = 0

    def forward(self, x):
        self.rows += len(x)
        return x


def _runs() -> int:
    counter = _Counter()
    CircuitConv(counter, n_circuits=1)(torch.zeros(128, 3, 14, 14))
    return 4 * counter.rows


QUESTIONS.number(
    _runs,
    usual=[
        (6272, "That is one of the four quanvolutions of the level."),
        (4 * 49, "That is one image; the batch has 128."),
        (49, "That is one image and one quanvolution."),
        (4 * 196 * 128, "196 is the number of pixels; a patch has four of them, and patches do not overlap."),
        (4 * 169 * 128, "A window that moves by one pixel has 13 · 13 places; here it moves by two."),
        (4 * 3 * 49 * 128, "One run takes all three channels of a patch: 12 numbers on 12 wires."),
    ],
    hint="Patches in an image, times images, times quanvolutions.",
    right="49 patches, 128 images, four quanvolutions. The vertex of the same model adds 4 · 128.",
    way="14 · 14 pixels are 49 patches of 2 · 2: 4 · 49 · 128.",
)  # fmt: skip


@QUESTIONS.function(
    right="It fits into the block. `model.vertex_block1 = ResnetBlock(40, 40, 40, my_conv)` puts it into a model.",
    way="""The cheapest one is a 1×1 kernel:

```python
def my_conv(c_in, c):
    return nn.Conv2d(c_in, c, 1)
```
""",
)
def _(f, draw):
    for c_in, c in ((40, 40), (70, 40)):
        layer, x = f(c_in, c), draw.normal(2, c_in, 2, 2).float()
        if not callable(layer):
            raise Mistake(f"A module is wanted, such as nn.Conv2d(…); this is of type {type(layer).__name__}.")
        before = numbers(layer(x), what="the convolution's result")
        if before.shape != (2, c, 2, 2):
            raise Mistake(f"From ({c_in}, 2, 2) it makes {tuple(before.shape[1:])}; wanted is ({c}, 2, 2).")
        for channel in (0, c_in - 1):
            moved = x.clone()
            moved[:, channel, 0, 0] += 1.0
            change = (numbers(layer(moved), what="the convolution's result") - before).abs()
            if change.flatten(2)[:, :, 1:].max() > 1e-6:
                raise Mistake("A pixel moves its neighbours, too: the kernel is larger than 1×1, or there is a norm in "
                              "it.")  # fmt: skip
            moves = (change[:, :, 0, 0].amax(0) > 1e-6).sum().item()
            if moves < c:
                raise Mistake(f"Channel {channel} moves {moves} of the {c} channels that come out: a convolution mixes "
                              "all channels of a pixel.")  # fmt: skip


QUESTIONS.word(
    lambda: "classical",
    {"quantum": "quantum", "circuit": "quantum", "circuits": "quantum", "classical": "classical",
     "convolution": "classical", "same": "same", "equal": "same", "both": "same", "none": "same", "neither": "same"},
    usual={
        "quantum": "The table above shows how large the quantum channels are behind the norm, beside the others; and "
                   "the correlation says how much of that comes from the circuits.",
        "same": "As many channels, but not of one size: look at the two columns behind the norm in the table above.",
    },
    right="By how much, the next cell measures; the yardstick is what makes the number mean something.",
    way="Behind the norm the quantum channels are small, and what they carry is for the most part channel 3's mean.",
)  # fmt: skip


def _dead() -> list[int]:
    x, time = torch.randn(2, 40, 2, 2), torch.randn(2, 40)
    blocks = {n: ResnetBlock(40, 40, 40, groups=n) for n in (1, 2, 4, 5, 8, 10, 20, 40)}
    return [n for n, block in blocks.items() if audit_layer(block, x, time, draws=1)["conv1.bias"].n_alive == 0]


QUESTIONS.wholes(
    _dead,
    usual=[
        ({10}, "10 groups of 40 channels have four channels each. The norm takes off their common mean; differences "
         "between their biases survive."),
        ({1}, "In one group of all 40 channels only a shift of all together is taken off."),
        ({10, 40}, "40 belongs. 10 groups have four channels each here, and differences between their biases survive."),
        ({20, 40}, "40 belongs. In a group of two the difference of the two biases survives."),
        ({1, 2, 4, 5, 8, 10, 20, 40}, "The norm takes off one number a group. Where a group has several channels, the "
         "differences of their biases survive."),
        (set(), "There is one: the case in which the norm takes off the mean of each channel alone."),
    ],
    hint="How many channels are in a group, and what does the norm leave of their biases?",
    right="One channel a group. In a group of m channels one direction of the m biases is dead, all shifted alike, yet "
          "each entry by itself still acts.",
    way="Only with one channel a group is every bias dead.",
)  # fmt: skip
