"""Where a lab's right answers are formulas of its own, they are the library's in the library's conventions."""

from dataclasses import replace
from functools import reduce

import numpy as np
import pennylane as qml
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from qdm_labs import lab03, lab04, lab05, lab06, lab07, lab08, lab09
from qdm_labs.draw import Draw
from qdm_labs.task import Mistake
from qdm_labs.variant import Variant
from qdm_lib.audit import audit_circuit
from qdm_lib.blocks import CircuitConv, LinearAttention, ResnetBlock, SplitConv, TimeEmbedding, WeightStandardizedConv2d
from qdm_lib.circuits import Circuit, Gate, fqconv, hqconv
from qdm_lib.controls import CONTROLS
from qdm_lib.diffusion import NoiseSchedule, ddim_sample
from qdm_lib.metrics import interval
from qdm_lib.quantum import QuantumLayer
from qdm_lib.simulator import expval_z, simulate
from qdm_lib.statistics import paired_difference
from qdm_lib.training import EMA, TrainConfig
from qdm_lib.transfer import transfer_weights
from qdm_lib.unet import build_unet, count_parameters

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
    place = {name: name.replace("c·", "3·") for name in lab04.WIRES}
    for name, order in lab04.WIRES.items():
        wires = torch.arange(12).reshape(3, 2, 2).permute(order).flatten()  # the library's place on each wire
        for wire, at in enumerate(wires.tolist()):
            names = {"channel": at // 4, "row": at % 4 // 2, "column": at % 2}
            assert eval(place[name].replace("·", "*"), names) == wire


def plain_05(**changes):
    """Lab 05 in the library's conventions."""
    library = dict(
        base=10_000,
        inclusive=True,
        cosine_first=False,
        alternating=False,
        qkv="q, k, v",
        head_first=True,
        sharpness=1.0,
        kernel=3,
        bias=True,
        sees_all=False,
        shared=False,
        place="the first n·c",
        dealt=False,
    )
    return replace(lab05.conventions(Variant("a")), **(library | changes))  # fmt: skip


def test_lab_05_s_embedding_is_the_library_s():
    library, t = TimeEmbedding(10).double(), torch.tensor([0, 3, 500, 999])
    assert torch.allclose(library(t), library.layers(lab05.embedded(plain_05(), t, 10)), atol=1e-4)


@pytest.mark.parametrize("heads", [1, 3])
def test_lab_05_s_attention_is_the_library_s(heads):
    library, x = LinearAttention(6, heads, 4).double(), Draw("h").normal(2, 6, 4, 4)
    inside = lab05.attended(plain_05(), library.qkv(library.norm(x)), heads)
    assert torch.allclose(library(x), x + library.out_norm(library.out(inside)))


@pytest.mark.parametrize(("n", "ansatz"), [(1, hqconv), (7, hqconv), (13, hqconv), (7, fqconv)])
def test_lab_05_s_count_is_the_library_s(n, ansatz):
    """With a circuit of its own for each convolution, as the vertex has them."""
    hybrid = build_unet("unet", hybridization=n, ansatz=ansatz.__name__, verbose=False)
    assert lab05.counted(plain_05(), 483_321, 40, n, ansatz(3)) == count_parameters(hybrid)


@pytest.mark.parametrize("sees_all", [False, True])
def test_lab_05_s_convolution_is_the_library_s(sees_all):
    draw, n = Draw("i"), 2
    layer = QuantumLayer(hqconv(2), n).double()
    rest = WeightStandardizedConv2d(8 if sees_all else 2, 2).double()
    library, x = SplitConv(CircuitConv(layer, n), 3 * n, rest, rest_sees_all=sees_all), draw.normal(2, 8, 4, 6)
    mine = lab05.convolved(plain_05(sees_all=sees_all), x, hqconv(2), layer.theta, rest, order=(0, 1, 2))
    assert torch.allclose(mine, library(x), atol=1e-6)


def test_lab_05_s_wires_are_the_words_of_the_variant():
    """Each pixel (channel, row, column) of c = 3 channels lies on the wire that the text names."""
    for name, order in lab05.WIRES.items():
        wires = lab05.Bank(order, hqconv(3), torch.zeros(1, 84)).order  # the library's place on each wire
        for wire, at in enumerate(wires.tolist()):
            names = {"channel": at // 4, "row": at % 4 // 2, "column": at % 2, "c": 3}
            assert eval(name.replace("·", "*"), names) == wire


def test_lab_05_s_quantum_channels_are_the_words_of_the_variant():
    """Two circuits of two channels, of nine."""
    runs = {"the first n·c": [0, 1, 2, 3], "the last n·c": [5, 6, 7, 8],
            "n·c neighbours from channel (C − n·c)//2 on": [2, 3, 4, 5]}  # fmt: skip
    for place, (a, b, c, d) in runs.items():
        assert lab05.quantum_channels(plain_05(place=place), 9, 2, 2) == [a, b, c, d]
        assert lab05.quantum_channels(plain_05(place=place, dealt=True), 9, 2, 2) == [a, c, b, d]


@pytest.mark.parametrize(("row", "control"), [("zeros", "zero"), ("cos", "cos")])
def test_lab_05_s_ablation_is_the_library_s_control(row, control):
    """A control of the library in the place of every layer of circuits."""
    v, (model, x) = lab05.conventions(Variant("a")), (lab05.network(Draw("j")), Draw("k").normal(3, 5))
    y, table = model(x), lab05.table(v, model, x, [[m.theta.detach() for m in lab05.layers(model)]])
    for name, module in list(model.named_modules()):
        if isinstance(module, QuantumLayer):
            model.set_submodule(name, CONTROLS[control](module))
    assert not lab05.layers(model) and table["random"] < 1e-6
    assert torch.allclose(table[row], lab05.change(v, model(x), y).detach())


def plain_09(**changes):
    """Lab 09 in the library's order of wires."""
    return replace(lab09.conventions(Variant("a")), zero_first=True, **changes)


def test_lab_09_s_means_are_the_library_s():
    """The state whose probabilities are the shares of the strings has the same ⟨Z⟩."""
    counts = {"010": 37, "111": 60, "100": 3}
    psi = torch.zeros(8, dtype=torch.complex128)
    for string, count in counts.items():
        psi[int(string, 2)] = (count / 100) ** 0.5
    for zero_first in (True, False):
        want = expval_z(psi.reshape(1, 2, 2, 2))[0]
        mine = lab09.means(replace(plain_09(), zero_first=zero_first), counts)
        assert torch.allclose(mine, want if zero_first else want.flip(0))


def test_lab_09_s_channel_is_pennylane_s():
    """By PennyLane's Kraus matrices for one of three with p; the other two meanings by their words."""
    one, each, mixed = lab09.CHANNELS
    rho, p = lab09._mixed(Draw("l"), 2), 0.13

    def kraus(p):
        full = [np.kron(np.eye(2), K) for K in qml.DepolarizingChannel(p, wires=0).kraus_matrices()]  # wire 1 of 0, 1
        return torch.tensor(sum(K @ rho.numpy() @ K.conj().T for K in full))

    replaced = torch.kron(torch.einsum("abcb->ac", rho.reshape(2, 2, 2, 2)), torch.eye(2) / 2)  # wire 1 is I/2
    wants = {one: kraus(p), each: kraus(3 * p), mixed: (1 - p) * rho + p * replaced}
    for channel, want in wants.items():
        assert torch.allclose(lab09.depolarized(plain_09(channel=channel), rho, 1, p), want)


def test_lab_09_s_readout_is_a_kronecker_product():
    """The matrix of all wires in one; undoing it brings the distribution back, in either layout and order."""
    draw = Draw("m")
    p = draw.uniform(8)
    for columns in (True, False):
        v = plain_09(columns=columns)
        matrices = lab09._readout(v, draw, 3)
        full = reduce(torch.kron, [M if columns else M.T for M in matrices])
        assert torch.allclose(full.sum(0), torch.ones(8).double())  # a column for each true string
        assert torch.allclose(lab09.read_out(v, p, matrices), full @ p)
        for order in (v, replace(v, zero_first=False)):
            assert torch.allclose(lab09.read_out(order, lab09.read_out(order, p, matrices), matrices, undo=True), p)


@pytest.mark.parametrize("fold", list(lab09.FOLDS))
def test_lab_09_s_folded_circuits_do_the_same(fold):
    """The library's simulator finds no difference, and the list is about λ times as long."""
    draw = Draw("n")
    gates, x = lab09._steps(draw, 6), draw.angles(1, 3)
    for scale in (1, 1.4, 2, 3, 5.3):
        longer = lab09.folded(plain_09(fold=fold), gates, *lab09.folds(6, scale))
        assert abs(len(longer) - 6 * scale) <= 1 and (scale == 1) == (longer == gates)
        assert torch.allclose(outputs(longer, x), outputs(gates, x))


def outputs(gates, x):
    """⟨Z⟩ of three encoded wires after gates (name, wires, angle)."""
    encoding = [Gate("RX", (w,), ("input", w)) for w in range(3)]
    rest = [Gate(name, wires, ("weight", k)) for k, (name, wires, _) in enumerate(gates)]
    circuit = Circuit((*encoding, *rest), 3, 3, len(gates), "folded", allow_dead_weights=True)
    return simulate(circuit, x, torch.tensor([angle for *_, angle in gates], dtype=torch.float64))


@pytest.mark.parametrize("scales", lab09.SCALES)
def test_lab_09_s_weights_are_those_of_a_fitted_polynomial(scales):
    """NumPy fits it; and what is a polynomial already is met, whatever else the variant draws."""
    values = Draw("o").normal(3)
    for degree, line in ((1, "two"), (1, "three"), (2, "two")):
        v = plain_09(scales=scales, line=line)
        n, c = lab09.used(v, degree), lab09.zne_weights(v, degree)
        want = np.polyfit(scales[:n], values[:n].numpy(), degree)[-1]
        assert c @ values[:n] == pytest.approx(want) and len(c) == n
        assert [float(c @ torch.tensor(scales[:n]).double() ** k) for k in range(1, degree + 1)] == pytest.approx(
            [0] * degree, abs=1e-9
        )


def test_lab_09_s_cost_of_an_image():
    """Two layers of 2 circuits at 3 and 1 at 5 positions, 10 steps, λ = 1 and 3: c = (3/2, −1/2), Σ c² = 5/2."""
    v = plain_09(scales=(1, 3, 5), line="two", degree=1)
    assert lab09.cost(v, [(2, 3), (1, 5)], 10, 0.1) == 11 * 10 * 2 * 250
    assert lab09.limit(lab09.zne_weights(v, 1), torch.ones(3), torch.full((3,), 250**-0.5))[1] == pytest.approx(0.1)


@pytest.mark.parametrize("lab", [lab03, lab04, lab05, lab06, lab07, lab08, lab09])
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


def test_lab_08_s_margin_is_not_the_reach_of_chance():
    """Some variant's null set is undecided, and would be "equivalent" by the reach: the noise would decide."""
    v = next(v for v in (lab08.conventions(Variant(str(k))) for k in range(50))
             if v.margin == 0.8 and "equivalent" in _by_reach(v))  # fmt: skip
    assert _by_reach(v) != lab08.given_verdicts(v) and "undecided" in lab08.given_verdicts(v)
    with pytest.raises(Mistake, match="the reach of chance is no margin"):
        lab08.conclusions.properties[0].check(lambda: _by_reach(v), v, Draw("d"))


def _by_reach(v):
    return [lab08.decided(v, dict(m), dict(c), lab08.reach_of(dict(c))) for c, m in v.sets]


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
