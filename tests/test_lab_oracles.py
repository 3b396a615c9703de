"""Where a lab's right answers are formulas of its own, they are the library's in the library's conventions."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from qdm_labs import lab03, lab04, lab06, lab07, lab08
from qdm_labs.draw import Draw
from qdm_labs.variant import Variant
from qdm_lib.audit import audit_circuit
from qdm_lib.blocks import ResnetBlock, WeightStandardizedConv2d
from qdm_lib.circuits import fqconv, hqconv
from qdm_lib.diffusion import NoiseSchedule, ddim_sample
from qdm_lib.metrics import interval
from qdm_lib.statistics import paired_difference
from qdm_lib.training import EMA, TrainConfig
from qdm_lib.transfer import transfer_weights
from qdm_lib.unet import build_unet

PLAIN = lab04.Conventions(1e-5, True, 0, False, "h·(1 + scale) + shift, then SiLU", True, next(iter(lab04.WIRES)), True)


def test_lab_03_s_circuits_are_the_library_s():
    """Gate by gate, in the library's conventions."""
    v = lab03.conventions(Variant("a"))
    v = replace(v, wires="4·c + p", down=True, stride=1, turned=False, gates=("CRZ", "CRX"), unit="2π", pixel=0, step=1)
    for mine, library in ((lab03.hybrid(v, 2), hqconv(2)), (lab03.quantum(v, 2), fqconv(2))):
        assert [replace(g, block="") for g in mine.gates] == [replace(g, block="") for g in library.gates]


def test_lab_03_s_cone_holds_whatever_moves_an_output():
    for k in range(5):
        circuit = Draw(f"f{k}").circuit(5, 9, lab03.NAMES)
        audit = audit_circuit(circuit)
        for wire in range(5):
            cone = lab03.cone(circuit, wire)
            assert set(audit.inputs_of(wire)) <= cone["wires"]
            assert set(audit.weight_to_output[:, wire].gt(1e-9).nonzero().flatten().tolist()) <= cone["weights"]


def test_lab_03_s_states_have_the_rank_that_was_asked_for():
    """In either wire order, and a cut around one wire of two that always agree is one bit."""
    for zero_first in (True, False):
        v = replace(lab03.conventions(Variant("a")), zero_first=zero_first, measure=next(iter(lab03.MEASURES)))
        for rank in (1, 2, 3):
            psi = lab03.of_rank(v, Draw(f"g{rank}"), 5, [3, 0], rank)
            assert lab03.cut(v, psi, [0, 3])[0] == rank == lab03.cut(v, psi, [4, 1, 2])[0]
        bell = torch.tensor([0.5**0.5, 0, 0, 0.5**0.5], dtype=torch.complex128)
        assert lab03.cut(v, bell, [1]) == (2, pytest.approx(1))


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


@pytest.mark.parametrize("lab", [lab03, lab04, lab06, lab07, lab08])
def test_variants_differ(lab):
    assert len({lab.conventions(Variant(f"2026/{k}")) for k in range(40)}) > 15


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


@pytest.mark.parametrize("seed", ["a", "b"])
def test_lab_06_s_average_is_the_library_s(seed):
    """In every variant: all its numbers are options of the library's."""
    v, model = lab06.conventions(Variant(seed)), nn.Linear(3, 2).double()
    library = EMA(model, TrainConfig(ema_start=v.start, ema_every=v.every, ema_decay=v.most, ema_power=v.power))
    average = {k: x.detach().clone() for k, x in model.named_parameters()}
    for step in range(100):
        nn.init.normal_(model.weight)
        weights = {k: x.detach().clone() for k, x in model.named_parameters()}
        average = lab06.averaged(v, average, weights, step)
        library.update(model, step)
        assert all(torch.allclose(average[k], library.state_dict()[k]) for k in average)


@pytest.mark.parametrize("eta", [0.0, 0.7])
def test_lab_06_s_ddim_is_the_library_s(eta):
    v = replace(lab06.conventions(Variant("a")), anew=True, grid=next(iter(lab06.GRIDS)))
    schedule, x = NoiseSchedule(torch.linspace(0.001, 0.1, 60)), Draw("e").normal(2, 5)

    def model(x, t):
        return torch.sin(3 * x + torch.as_tensor(t).reshape(-1, 1) / 10)

    mine = lab06.sampled(v, model, schedule.alphas_cumprod, x, 7, eta, torch.Generator().manual_seed(3))
    generator = torch.Generator().manual_seed(3)
    *_, last = ddim_sample(model, schedule, x.shape, steps=7, eta=eta, generator=generator, x_T=x)
    assert torch.allclose(mine, last.x_0, atol=1e-6)


def test_lab_07_s_hand_over_is_the_library_s():
    """By the rule that the library has: names that begin with a word."""
    v = replace(lab07.conventions(Variant("a")), rule="begins with one of them", of_target=True)
    source, target = build_unet("unet"), build_unet("1hqconv")
    start = {k: x.clone() for k, x in target.state_dict().items()}
    report = transfer_weights(source, target, exclude="vertex")
    mine = lab07.handed(v, source.state_dict(), start, ("vertex",))
    assert all(torch.equal(x, mine[k]) for k, x in target.state_dict().items())
    share = lab07.share(v, source.state_dict(), start, ("vertex",))
    assert share == pytest.approx(report.numbers_copied / report.numbers_total)
