"""Where a lab's right answers are formulas of its own, they are the library's in the library's conventions."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from qdm_labs import lab04, lab08
from qdm_labs.draw import Draw
from qdm_labs.variant import Variant
from qdm_lib.blocks import ResnetBlock, WeightStandardizedConv2d
from qdm_lib.metrics import interval
from qdm_lib.statistics import paired_difference

PLAIN = lab04.Conventions(1e-5, True, 0, False, "h·(1 + scale) + shift, then SiLU", True, next(iter(lab04.WIRES)), True)


def test_lab_04_s_kernel_is_the_library_s():
    conv = WeightStandardizedConv2d(3, 2).double()
    x = Draw("a").normal(1, 3, 5, 5)
    assert torch.allclose(conv(x), F.conv2d(x, lab04.standardized(PLAIN, conv.weight), conv.bias, padding=1))


def test_lab_04_s_block_is_the_library_s():
    draw = Draw("b")
    library = ResnetBlock(4, 6, 5, conv=lambda a, b: nn.Conv2d(a, b, 3, padding=1), groups=2).double()
    parts = {"conv1": library.conv1, "conv2": library.conv2, "project": library.time, "skip": library.skip}
    x, time = draw.normal(2, 4, 6, 6), draw.normal(2, 5)
    assert torch.allclose(lab04.block(PLAIN, x, time, parts, 2), library(x, time))


def test_lab_04_s_group_norm_with_interleaved_channels():
    """Group 1 of 2 holds the channels 1 and 3."""
    v = lab04.Conventions(**{**vars(PLAIN), "interleaved": True})
    x = Draw("c").normal(1, 4, 2, 2)
    group = x[:, [1, 3]]
    want = (group - group.mean()) / (group.var(correction=0) + 1e-6).sqrt()
    assert torch.allclose(lab04.normed(v, x, 2)[:, [1, 3]], want)


def test_lab_04_s_wires_are_the_words_of_the_variant():
    """Each pixel (channel, row, column) lies on the wire that the text names."""
    place = {name: name.replace("n·", "3·") for name in lab04.WIRES}
    for name, order in lab04.WIRES.items():
        wires = torch.arange(12).reshape(3, 2, 2).permute(order).flatten()  # the library's place on each wire
        for wire, at in enumerate(wires.tolist()):
            names = {"channel": at // 4, "row": at % 4 // 2, "column": at % 2}
            assert eval(place[name].replace("·", "*"), names) == wire


@pytest.mark.parametrize("lab", [lab04, lab08])
def test_variants_differ(lab):
    assert len({lab.conventions(Variant(f"2026/{k}")) for k in range(20)}) > 15


def standard(v):
    """Lab 08 in the library's conventions."""
    return replace(v, correction=1, root=False, level=0.95, lower_is_better=True, model_first=True, sure_wins=True)


def test_lab_08_s_intervals_are_the_library_s():
    v, draw = standard(lab08.conventions(Variant("a"))), Draw("d")
    replicates = 3 + draw.normal(300)
    assert torch.allclose(lab08.moved(v, 3.0, replicates), torch.tensor(interval(3.0, replicates)).double())
    model, classical = lab08._two(draw, 5)
    library = paired_difference(*({s: (x, 0.0) for s, x in scores.items()} for scores in (model, classical)))
    assert lab08.paired(v, model, classical) == pytest.approx((library.mean, *library.t))


def test_lab_08_s_given_sets_are_one_true_and_one_null():
    """In every variant, and a look at the means would call both a difference in some direction."""
    for k in range(40):
        v = lab08.conventions(Variant(f"2026/{k}"))
        kinds = [word in ("better", "worse") for word in lab08.given_verdicts(v)]
        assert sorted(kinds) == [False, True] and lab08.naive(v) != lab08.given_verdicts(v)
