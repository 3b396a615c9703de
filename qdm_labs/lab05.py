"""Lab 05: the hybrid U-Net: time embedding, linear attention, counting a hybrid, a hybrid convolution, its ablation.

Right answers come from `qdm_lib.blocks`, `QuantumLayer` and `count_parameters` where the variant leaves them as they
are, and from the same formulas with the variant's choices elsewhere: frequencies, the layout of heads, what the
convolution beside the circuits sees, which channels are quantum and on which wires, how a change is measured.
"""

from __future__ import annotations

import math
from copy import deepcopy
from dataclasses import dataclass, replace
from itertools import permutations

import torch
from torch import Tensor, nn

from qdm_labs.compare import agree, numbers
from qdm_labs.task import Lab, Mistake, Task, Unanswered
from qdm_labs.variant import Variant
from qdm_lib.blocks import CircuitConv, SplitConv
from qdm_lib.circuits import Circuit, Gate
from qdm_lib.quantum import QuantumLayer
from qdm_lib.simulator import simulate
from qdm_lib.unet import count_parameters

QKV = ("q, k, v", "k, q, v", "v, k, q", "k, v, q")
PLACES = {  # the number of the first quantum channel, of C channels of which m are quantum
    "the first n·c": lambda C, m: 0,
    "the last n·c": lambda C, m: C - m,
    "n·c neighbours from channel (C − n·c)//2 on": lambda C, m: (C - m) // 2,
}
WIRES = {  # the axes (channel, row, column) of a patch, slowest first
    "4·channel + 2·column + row": (0, 2, 1),
    "c·(2·row + column) + channel": (1, 2, 0),
    "c·(2·column + row) + channel": (2, 1, 0),
    "2·c·row + 2·channel + column": (1, 0, 2),
}
CHANGES = {
    "‖y′ − y‖ / ‖y‖": lambda new, y: (new - y).norm() / y.norm(),
    "mean |y′ − y| / mean |y|": lambda new, y: (new - y).abs().mean() / y.abs().mean(),
    "‖y′ − y‖² / ‖y‖²": lambda new, y: (new - y).square().sum() / y.square().sum(),
}
SUMMARIES = {"mean": torch.mean, "median": torch.median, "largest": torch.max}
ROWS = ("zeros", "cos", "random")


@dataclass(frozen=True)
class Conventions:
    """The choices of one variant."""

    base: int  # of the frequencies
    inclusive: bool  # whether the last frequency is 1/base itself
    cosine_first: bool
    alternating: bool  # sine and cosine of one frequency side by side, or all of one, then all of the other
    qkv: str  # one of QKV: the order of the three thirds
    head_first: bool  # channels of a third are laid out (head, feature), or (feature, head)
    sharpness: float  # the keys are multiplied by it before their softmax
    kernel: int  # of the counted convolutions
    bias: bool  # whether they have one
    sees_all: bool  # the convolution beside the circuits reads all channels, or its own only
    shared: bool  # the two convolutions of a block share their circuits
    place: str  # a key of PLACES: which channels are quantum
    dealt: bool  # circuit k gets quantum channels k, k + n, …; else a run of neighbours
    wires: str  # a key of WIRES
    change: str  # a key of CHANGES
    by_image: bool  # the change is the mean of each image's, or that of the whole batch
    summary: str  # a key of SUMMARIES: over the random weights


def conventions(variant: Variant) -> Conventions:
    """Draw them."""
    return Conventions(
        base=variant.choice("base", [500, 1000, 2000, 4000]), inclusive=variant.choice("inclusive", [True, False]),
        cosine_first=variant.choice("cosine first", [True, False]),
        alternating=variant.choice("alternating", [True, False]), qkv=variant.choice("qkv", QKV),
        head_first=variant.choice("head first", [True, False]), sharpness=variant.choice("sharpness", [0.5, 2.0, 3.0]),
        kernel=variant.choice("kernel", [3, 5]), bias=variant.choice("bias", [True, False]),
        sees_all=variant.choice("sees all", [True, False]), shared=variant.choice("shared", [True, False]),
        place=variant.choice("quantum channels", list(PLACES)), dealt=variant.choice("dealt", [True, False]),
        wires=variant.choice("wires of the vertex", list(WIRES)), change=variant.choice("change", list(CHANGES)),
        by_image=variant.choice("by image", [True, False]), summary=variant.choice("summary", list(SUMMARIES)),
    )  # fmt: skip


def text(v: Conventions) -> dict[str, str]:
    """The words of the variant."""
    one, two = _waves(v)
    return {
        "omega": rf"\omega_k = {v.base}^{{-k/{'(K-1)' if v.inclusive else 'K'}}}",
        "order": f"{one}(tω₀), {two}(tω₀), {one}(tω₁), {two}(tω₁), … (in turns)" if v.alternating
        else f"{one}(tω₀), {one}(tω₁), …, then {two}(tω₀), {two}(tω₁), … (in halves)",
        "qkv": v.qkv,
        "heads": "head·d + feature" if v.head_first else "feature·heads + head",
        "sharpness": f"{v.sharpness:g}",
        "kernel": str(v.kernel), "bias": "with a bias" if v.bias else "without a bias",
        "sees": "reads **all** C channels" if v.sees_all else "reads **only the channels that are not quantum**",
        "shared": "**share** one set of circuits" if v.shared else "have **circuits of their own**, n each",
        "place": v.place,
        "dealt": "circuit k gets the k-th, (k+n)-th, (k+2n)-th … of them" if v.dealt
        else "circuit k gets the k-th run of c neighbours",
        "wires": v.wires,
        "change": v.change,
        "by_image": "of each image alone, and then the mean over the images" if v.by_image
        else "with norms, or means, over the whole batch at once",
        "summary": v.summary,
    }  # fmt: skip


def _waves(v: Conventions) -> tuple[str, str]:
    return ("cos", "sin") if v.cosine_first else ("sin", "cos")


# ------------------------------------------------------------------------------------ right answers


def embedded(v: Conventions, t: Tensor, dim: int) -> Tensor:
    """Sines and cosines of the time; `TimeEmbedding`'s with base 10000, inclusive, sines first, in halves."""
    half = dim // 2
    k = torch.arange(half, dtype=torch.float64)
    angle = t[:, None].double() * torch.exp(-math.log(v.base) * k / (half - v.inclusive))
    waves = [angle.cos(), angle.sin()] if v.cosine_first else [angle.sin(), angle.cos()]
    return torch.stack(waves, 2).flatten(1) if v.alternating else torch.cat(waves, 1)


def thirds(v: Conventions, qkv: Tensor, heads: int) -> list[Tensor]:
    """q, k and v, each (B, heads, feature, position)."""
    B, C, H, W = qkv.shape
    d = C // 3 // heads
    shape = (heads, d) if v.head_first else (d, heads)
    parts = qkv.reshape(B, 3, *shape, H * W).unbind(1)
    by_name = dict(zip(v.qkv.split(", "), parts, strict=True))
    return [by_name[name] if v.head_first else by_name[name].transpose(1, 2) for name in "qkv"]


def joined(v: Conventions, out: Tensor, like: Tensor) -> Tensor:
    """(B, heads, feature, position) → (B, channels, H, W)."""
    out = out if v.head_first else out.transpose(1, 2)
    return out.reshape(like.shape[0], -1, *like.shape[2:])


def attended(v: Conventions, qkv: Tensor, heads: int) -> Tensor:
    """Linear attention; `LinearAttention`'s middle part with q, k, v, heads first and sharpness 1."""
    q, k, value = thirds(v, qkv, heads)
    q = q.softmax(-2) / math.sqrt(q.shape[-2])
    context = (v.sharpness * k).softmax(-1) @ value.mT / q.shape[-1]  # (B, heads, feature of k, feature of v)
    return joined(v, context.mT @ q, qkv)


def counted(v: Conventions, classical: int, channels: int, n: int, circuit: Circuit) -> int:
    """All parameters, from the modules that change."""
    bank, rest = n * circuit.n_wires // 4, None
    blocks = []
    for _ in range(2):
        shared = QuantumLayer(circuit, n)
        for _ in range(2):
            own = channels - bank
            rest = [nn.Conv2d(channels if v.sees_all else own, own, v.kernel, bias=v.bias)] if own else []
            blocks += [shared if v.shared else QuantumLayer(circuit, n), *rest]
    before = count_parameters(nn.Conv2d(channels, channels, v.kernel, bias=v.bias))
    return classical - 4 * before + count_parameters(nn.ModuleList(blocks))


class Bank(nn.Module):
    """What `CircuitConv` calls: circuits whose wires lie in the variant's order, for rows in the library's."""

    def __init__(self, order: tuple[int, int, int], circuit: Circuit, theta: Tensor, back: bool = True):
        super().__init__()
        place = torch.arange(circuit.n_wires).reshape(-1, 2, 2)  # the library's wire of (channel, row, column)
        self.circuit, self.theta, self.order, self.back = circuit, theta, place.permute(order).flatten(), back

    def forward(self, rows: Tensor) -> Tensor:
        z = [simulate(self.circuit, rows[:, k][:, self.order], theta.expand(len(rows), -1))
             for k, theta in enumerate(self.theta)]  # fmt: skip
        z = torch.stack(z, 1)
        return z[:, :, self.order.argsort()] if self.back else z


def quantum_channels(v: Conventions, C: int, n: int, c: int) -> list[int]:
    """The channels of circuit 0, then those of circuit 1, …"""
    first = PLACES[v.place](C, n * c)
    channels = torch.arange(first, first + n * c)
    return (channels.reshape(c, n).T.flatten() if v.dealt else channels).tolist()


def convolved(v: Conventions, x: Tensor, circuit: Circuit, theta: Tensor, rest, **how) -> Tensor:
    """`SplitConv` of `CircuitConv`, on channels in another order; `how` makes mistakes."""
    c, n, C = circuit.n_wires // 4, len(theta), x.shape[1]
    mine = quantum_channels(v, C, n, c)
    order = torch.tensor(mine + [i for i in range(C) if i not in mine])
    quantum = CircuitConv(Bank(how.get("order", WIRES[v.wires]), circuit, theta, how.get("back", True)), n, c)

    def beside(own: Tensor) -> Tensor:
        return rest(x if v.sees_all else own)  # all channels, in the order they came in

    out = quantum(x[:, order]) if rest is None else SplitConv(quantum, n * c, beside)(x[:, order])
    return out[:, order.argsort()] if how.get("in_place", True) else out


def change(v: Conventions, new: Tensor, y: Tensor) -> Tensor:
    """How much an output moved, relative to itself."""
    measure = CHANGES[v.change]
    if not v.by_image:
        return measure(new, y)
    return torch.stack([measure(a, b) for a, b in zip(new, y, strict=True)]).mean()


def layers(model: nn.Module) -> list[QuantumLayer]:
    """The layers of circuits, in the order of `modules()`."""
    return [m for m in model.modules() if isinstance(m, QuantumLayer)]


def replaced(model: nn.Module, x: Tensor, function, which=slice(None)) -> Tensor:
    """The output with function(input, output) in the place of what the circuits answer."""
    model = deepcopy(model)
    for layer in layers(model)[which]:
        layer.register_forward_hook(lambda module, inputs, output: function(inputs[0], output))
    with torch.no_grad():
        return model(x)


def with_weights(model: nn.Module, x: Tensor, thetas: list[Tensor]) -> Tensor:
    """The output with other weights in the circuits; fewer tensors than layers leave the last ones alone."""
    model = deepcopy(model)
    with torch.no_grad():
        for layer, theta in zip(layers(model), thetas, strict=False):
            layer.theta.copy_(theta)
        return model(x)


def table(v: Conventions, model: nn.Module, x: Tensor, draws: list[list[Tensor]]) -> dict[str, Tensor]:
    """The ablation: row → relative change."""
    with torch.no_grad():
        y = model(x)
    random = torch.stack([change(v, with_weights(model, x, thetas), y) for thetas in draws])
    return {
        "zeros": change(v, replaced(model, x, lambda given, z: torch.zeros_like(z)), y),
        "cos": change(v, replaced(model, x, lambda given, z: given.cos()), y),
        "random": SUMMARIES[v.summary](random),
    }


# ------------------------------------------------------------------------------------------- tasks

time_embedding = Task("time_embedding", "The time embedding", "tell a network the time in many frequencies", 15)
linear_attention = Task("linear_attention", "Linear attention", "let pixels attend in linear time", 25)
hybrid_count = Task("hybrid_count", "The parameters of any hybrid", "say where a hybrid's saving comes from", 20)
hybrid_conv = Task("hybrid_conv", "A hybrid convolution", "put an ansatz of your own into a convolution", 40)
ablation = Task("ablation", "An ablation", "measure how much a network leans on its circuits", 30)


def time_mistakes(v: Conventions, t: Tensor, dim: int):
    one, two = _waves(v)
    laid = "in turns" if v.alternating else "in halves"
    ends = f"1/{v.base} itself" if v.inclusive else f"a step before 1/{v.base}"
    half = dim // 2
    rising = t[:, None].double() * v.base ** (torch.arange(half).double() / (half - v.inclusive))
    waves = [rising.cos(), rising.sin()] if v.cosine_first else [rising.sin(), rising.cos()]
    return [
        (embedded(replace(v, cosine_first=not v.cosine_first), t, dim), "Sines and cosines are exchanged: here "
                                                                      f"{one} comes before {two}."),
        (embedded(replace(v, alternating=not v.alternating), t, dim), f"Sines and cosines are laid out the other way; "
                                                                     f"here they stand {laid}."),
        (embedded(replace(v, inclusive=not v.inclusive), t, dim), f"The last frequency is wrong: in this variant it is "
                                                              f"{ends}."),
        (embedded(replace(v, base=10000), t, dim), f"The frequencies are the library's, with base 10000; in this "
                                                  f"variant it is {v.base}."),
        (embedded(v, t / 1000, dim), "t is divided by 1000; it enters raw."),
        (embedded(v, 2 * math.pi * t, dim), "There is a factor 2π; ω is an angular frequency already."),
        (torch.stack(waves, 2).flatten(1) if v.alternating else torch.cat(waves, 1), "The frequencies rise with k: the "
         "sign of the exponent is the other one."),
    ]  # fmt: skip


@time_embedding.has("is right for many steps", 2)
def _(answer, v, draw):
    for dim in (6, 10):
        t = torch.tensor([draw.whole(1, 500) for _ in range(4)])
        agree(answer(t, dim), embedded(v, t, dim), time_mistakes(v, t, dim), "the embedding")


@time_embedding.has("knows the times between two steps, too", 1)
def _(answer, v, draw):
    t = 20 * draw.uniform(3) + 0.3
    agree(answer(t, 8), embedded(v, t, 8), what="the embedding of times such as 3.7", usual=[
        (embedded(v, t.floor(), 8), "Times are rounded to whole steps."),
        (embedded(v, t.round(), 8), "Times are rounded to whole steps."),
    ])  # fmt: skip


def attention_mistakes(v: Conventions, qkv: Tensor, heads: int):
    q, k, value = thirds(v, qkv, heads)
    d, n = q.shape[-2:]
    key = v.sharpness * k

    def out(a, b, transpose=True, over=n):
        context = b @ value.mT / over
        return joined(v, (context.mT if transpose else context) @ a, qkv)

    a, b = q.softmax(-2) / math.sqrt(d), key.softmax(-1)
    full = (q.mT @ k / math.sqrt(d)).softmax(-1)
    return [
        *((attended(replace(v, qkv=order), qkv, heads), f"The thirds of the channels are {v.qkv}, in this order; this "
           f"takes them as {order}.") for order in (", ".join(p) for p in permutations("qkv")) if order != v.qkv),
        (attended(replace(v, head_first=not v.head_first), qkv, heads),
         f"The heads hold other channels: here a channel of a third is {text(v)['heads']}."),
        (attended(replace(v, sharpness=1.0), qkv, heads), f"The keys are not multiplied by {v.sharpness:g} before "
                                                          "their softmax."),
        (out(q.softmax(-1) / math.sqrt(d), b), "The softmax of q goes over the positions; over a head's features is "
                                               "wanted."),
        (out(a, key.softmax(-2)), "The softmax of k goes over the features; over the positions is wanted."),
        (out(q.softmax(-1) / math.sqrt(d), key.softmax(-2)), "The two softmaxes are exchanged: q's goes over the "
                                                            "features, k's over the positions."),
        (out(q.softmax(-2), b), "The factor 1/√d of q is missing."),
        (out(q.softmax(-2) / d, b), "q is divided by d; by √d is wanted."),
        (out((q / math.sqrt(d)).softmax(-2), b), "q is divided by √d before its softmax; after it is wanted."),
        (out(a, b, over=1), "The division by the number of pixels H·W is missing."),
        (out(a, b, transpose=False), "The context is used the wrong way round: q meets the features of k in it, and "
                                     "what is left are those of v."),
        (joined(v, value @ full.mT, qkv), "This is full attention, with a weight for each pair of pixels; in linear "
                                          "attention k and v meet first."),
    ]  # fmt: skip


def _attention(answer, v, draw, heads: int, d: int) -> None:
    qkv = 1.5 * draw.normal(2, 3 * heads * d, 2, 4)
    want = attended(v, qkv, heads)
    agree(answer(qkv, heads), want, attention_mistakes(v, qkv, heads),
          f"the output ({heads} head(s) of {d} features)", 1e-5)  # fmt: skip


@linear_attention.has("is right for one head", 2)
def _(answer, v, draw):
    _attention(answer, v, draw, 1, 4)


@linear_attention.has("is right for several heads", 1)
def _(answer, v, draw):
    _attention(answer, v, draw, 3, 2)
    _attention(answer, v, draw, 2, 4)


@linear_attention.has("lets gradients through", 1)
def _(answer, v, draw):
    qkv, weights = draw.normal(1, 12, 2, 2), draw.normal(1, 4, 2, 2)
    leaf = qkv.clone().requires_grad_()
    (want,) = torch.autograd.grad((weights * attended(v, leaf, 2)).sum(), leaf)
    numbers(answer(qkv, 2), weights.shape, "the output")
    agree(answer.gradient(qkv, 2, wrt=0, weights=weights), want, what="the gradient by q, k and v", tolerance=1e-5)


def ansatz(draw, wires: int) -> Circuit:
    """RX encoding, RY of a weight on each wire, a ring of CRX in random order: no two wires are alike."""
    ring = draw.some(range(wires), wires)
    gates = [Gate("RX", (w,), ("input", w)) for w in range(wires)]
    gates += [Gate("RY", (w,), ("weight", w)) for w in range(wires)]
    pairs = zip(ring, ring[1:] + ring[:1], strict=True)
    gates += [Gate("CRX", pair, ("weight", wires + k)) for k, pair in enumerate(pairs)]
    return Circuit(tuple(gates), wires, wires, 2 * wires, "an ansatz of one's own")


def deep(draw, wires: int) -> Circuit:
    """A circuit with any number of weights, to count."""
    return draw.circuit(wires, draw.whole(wires + 1, 7 * wires), ("RX", "RY"))


def count_mistakes(v: Conventions, classical: int, channels: int, n: int, circuit: Circuit):
    area, w = v.kernel**2, circuit.n_weights

    def conv(c_in, c_out, bias=v.bias):
        return area * c_in * c_out + bias * c_out

    def whole(own, *, sees_all=v.sees_all, sets=2 if v.shared else 4, bias=v.bias, convs=4, circuits=n, minus=True):
        own = max(0, own)
        before = convs * conv(channels, channels, bias) if minus else 0
        return classical - before + convs * conv(channels if sees_all else own, own, bias) + sets * circuits * w

    c = circuit.n_wires // 4
    own, sets = channels - n * c, 2 if v.shared else 4
    found = [
        (whole(own, sets=6 - sets), "The two convolutions of a block share their circuits; a weight that is used twice "
         "is counted once." if v.shared else "Each of the four convolutions has n circuits of its own."),
        (whole(own, bias=not v.bias), f"The convolutions are {'with' if v.bias else 'without'} a bias."),
        (whole(own, sets=sets // 2, convs=2), "Two convolutions are counted; there are two blocks of two."),
        (whole(own, sets=1, convs=1), "One convolution is counted; there are two blocks of two."),
        (whole(own, circuits=1), "The weights of one circuit are counted; there are n of them."),
        (whole(own, circuits=0), "The circuits' own weights are missing."),
        (whole(own, minus=False), "The hybrid convolutions are added to the classical ones; they take their place."),
        (whole(channels - n * circuit.n_wires), "A channel needs four wires, for its 2×2 pixels: a circuit takes "
                                                "n_wires/4 channels."),
        (whole(channels - n), "A circuit takes one channel for every four wires, and not one channel."),
        (whole(channels - 3 * n), f"Here a circuit of {circuit.n_wires} wires takes {c} channel(s), not 3."),
        (whole(own) - classical, "This is the difference to the classical model; the hybrid's own count is wanted."),
    ]  # fmt: skip
    if own:
        reads = "all channels" if v.sees_all else "only its own channels"
        found.insert(0, (whole(own, sees_all=not v.sees_all), f"The convolution beside the circuits reads {reads}, so "
                                                            "its kernels have another size."))  # fmt: skip
    return found


@hybrid_count.has("is right for any number of circuits of any ansatz", 2)
def _(answer, v, draw):
    for wires in (8, 4, 12):
        circuit, n, channels = deep(draw, wires), draw.whole(2, 3), draw.choice([16, 24, 40])
        case = draw.whole(200_000, 600_000), channels, n, circuit
        agree(answer(*case), float(counted(v, *case)), count_mistakes(v, *case), "the count", 1e-9)


@hybrid_count.has("is right where circuits take every channel", 1)
def _(answer, v, draw):
    circuit, n = deep(draw, 8), draw.whole(4, 8)
    case = draw.whole(200_000, 600_000), 2 * n, n, circuit
    agree(answer(*case), float(counted(v, *case)), count_mistakes(v, *case), "the count", 1e-9)


def conv_mistakes(v: Conventions, x: Tensor, circuit: Circuit, theta: Tensor, rest):
    C, n, c = x.shape[1], len(theta), circuit.n_wires // 4
    args = x, circuit, theta, rest
    other = replace(v, dealt=not v.dealt)
    found = [(lambda order=order: convolved(v, *args, order=order), f"Pixels lie on other wires; wire {v.wires} is "
              "wanted.") for order in permutations((0, 1, 2)) if order != WIRES[v.wires]]  # fmt: skip
    found += [
        (lambda: convolved(v, *args, back=False), "The outputs come back in another order than the inputs went in: ⟨Z⟩ "
         "of a wire belongs where that wire's pixel was."),
        (lambda: convolved(v, x, circuit, theta[:1].expand_as(theta), rest), "The first circuit's weights are used in "
         "every circuit; each has its own row of theta."),
        (lambda: convolved(v, x, circuit, theta.flip(0), rest), "The rows of theta and the circuits are paired in the "
                                                               "wrong order."),
        (lambda: convolved(other, *args), "The channels are dealt to the circuits in another way: "
         f"{text(v)['dealt']}."),
        (lambda: convolved(v, *args, in_place=False), "The outputs are put one after the other, quantum channels "
         "first; each belongs to the channel it came from."),
    ]  # fmt: skip
    found += [(lambda place=place: convolved(replace(v, place=place), *args), f"Other channels are quantum: here it is "
               f"{v.place}.") for place in PLACES if place != v.place]  # fmt: skip
    if n * c < C:
        kept = torch.tensor([i not in quantum_channels(v, C, n, c) for i in range(C)])[:, None, None]
        found += [
            (lambda: torch.where(kept, x, convolved(v, *args)), "The channels that are not quantum come out as they "
             "went in; they go through `rest`."),
            (lambda: torch.where(kept, convolved(v, *args), x), "The quantum channels come out as they went in."),
        ]  # fmt: skip
    return found


def _hybrid(answer, v, draw, n: int, c: int, others: int, height: int, width: int) -> None:
    case = _case(v, draw, n, c, others, height, width)
    agree(answer(*case), convolved(v, *case), conv_mistakes(v, *case), tolerance=1e-5,
          what=f"the output ({n} circuit(s) of {c} channel(s), {others} others, {height}×{width} pixels)")  # fmt: skip


def _case(v, draw, n: int, c: int, others: int, height: int, width: int):
    """x, circuit, theta, rest."""
    circuit = ansatz(draw, 4 * c)
    C = n * c + others
    rest = None
    if others:
        rest = nn.Conv2d(C if v.sees_all else others, others, 3, padding=1).double().requires_grad_(False)
        for p in rest.parameters():
            p.copy_(0.4 * draw.normal(*p.shape))
    return draw.normal(2, C, height, width), circuit, draw.angles(n, circuit.n_weights), rest


@hybrid_conv.has("is right on the vertex, where an image is one patch", 2)
def _(answer, v, draw):
    _hybrid(answer, v, draw, 2, 2, 3, 2, 2)


@hybrid_conv.has("is right on a larger map", 2)
def _(answer, v, draw):
    _hybrid(answer, v, draw, 2, 2, 2, 4, 6)


@hybrid_conv.has("is right where every channel is quantum, and rest is None", 1)
def _(answer, v, draw):
    _hybrid(answer, v, draw, 3, 1, 0, 4, 2)


@hybrid_conv.has("lets gradients through to the circuits' weights", 1)
def _(answer, v, draw):
    x, circuit, theta, rest = _case(v, draw, 2, 1, 2, 2, 4)
    weights, leaf = draw.normal(*x.shape), theta.clone().requires_grad_()
    (want,) = torch.autograd.grad((weights * convolved(v, x, circuit, leaf, rest)).sum(), leaf)
    numbers(answer(x, circuit, theta, rest), x.shape, "the output")
    got = answer.gradient(x, circuit, theta, rest, wrt=2, weights=weights)
    agree(got, want, what="the gradient by theta", tolerance=1e-5)


def network(draw) -> nn.Module:
    """Two layers of circuits between dense ones: (B, 5) → (B, 3), float64."""
    model = nn.Sequential(
        nn.Linear(5, 8), nn.Unflatten(1, (2, 4)), QuantumLayer(ansatz(draw, 4), 2, "statevector"), nn.Flatten(),
        nn.Linear(8, 4), nn.Unflatten(1, (1, 4)), QuantumLayer(ansatz(draw, 4), 1, "statevector"), nn.Flatten(),
        nn.Linear(4, 3),
    ).double()  # fmt: skip
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(0.8 * draw.normal(*p.shape))
    return model.requires_grad_(False)


def _weights(draw, model: nn.Module, n: int) -> list[list[Tensor]]:
    return [[draw.angles(*layer.theta.shape) for layer in layers(model)] for _ in range(n)]


def _row(answer, v, draw, row: str) -> None:
    model, x = network(draw), draw.normal(4, 5)
    draws = _weights(draw, model, 5)
    value = answer(deepcopy(model), x, draws)
    if value is None:
        raise Unanswered("The function returns nothing; is a return missing?")
    if not isinstance(value, dict) or set(value) != set(ROWS):
        raise Mistake(f"The table is a dictionary with the rows {', '.join(ROWS)}; this is {str(value)[:60]}.")
    agree(value[row], table(v, model, x, draws)[row], row_mistakes(v, model, x, draws, row),
          f"the row “{row}”", 1e-5)  # fmt: skip


def row_mistakes(v: Conventions, model: nn.Module, x: Tensor, draws: list[list[Tensor]], row: str):
    with torch.no_grad():
        y = model(x)
    right = table(v, model, x, draws)
    found = [(table(replace(v, change=name), model, x, draws)[row], f"The change is measured as {name}; in this "
              f"variant it is {v.change}.") for name in CHANGES if name != v.change]  # fmt: skip
    found += [
        (table(replace(v, by_image=not v.by_image), model, x, draws)[row],
         "The change is of the whole batch at once; take it for each image, then the mean." if v.by_image
         else "The change is the mean of the images' own; take it over the whole batch at once."),
        (100 * right[row], "This is in per cent; the plain ratio is wanted."),
        (torch.tensor(0.0), "Nothing changes: the stand-in never reached the circuits' place."),
        *((right[other], f"This is the row “{other}”: does its stand-in still act? Take it off before the next row.")
          for other in ROWS if other != row),
    ]  # fmt: skip
    return [*_own_mistakes(v, model, x, draws, row, y), *found]  # weights of 0 answer cos(x): the closer sentence first


def _own_mistakes(v: Conventions, model: nn.Module, x: Tensor, draws, row: str, y: Tensor):
    """What goes wrong in one row only."""
    if row == "random":

        def summed(outputs, summary=v.summary):
            return SUMMARIES[summary](torch.stack([change(v, out, y) for out in outputs]))

        outputs = [with_weights(model, x, thetas) for thetas in draws]
        one = [with_weights(model, x, thetas[:1]) for thetas in draws]
        others = [(summed(outputs, s), f"This is the {s} over the random weights; the {v.summary} is wanted.")
                  for s in SUMMARIES if s != v.summary]  # fmt: skip
        return [
            *others,
            (summed(outputs[:1]), "Only the first set of random weights is used; there are more in `draws`."),
            (change(v, torch.stack(outputs).mean(0), y), "The outputs are averaged before they are compared; compare "
                                                         "each, then summarise."),
            (summed(one), "Only the first layer gets random weights; a model may have several layers of circuits."),
        ]  # fmt: skip
    stand_in = (lambda given, z: 0 * z) if row == "zeros" else (lambda given, z: given.cos())
    first = change(v, replaced(model, x, stand_in, slice(1)), y)
    found = [(first, "Only the first layer of circuits is replaced; a model may have several.")]
    if row == "cos":
        found.append((change(v, replaced(model, x, lambda given, z: z.cos()), y),
                      "This is the cosine of what the circuits answer; cos(x) is of what they are given."))  # fmt: skip
        return found
    fed = deepcopy(model)
    for layer in layers(fed):
        layer.register_forward_pre_hook(lambda module, inputs: (torch.zeros_like(inputs[0]),))
    unweighted = [torch.zeros_like(layer.theta) for layer in layers(model)]
    return [
        *found,
        (change(v, fed(x), y), "The circuits' inputs are zero, and not their outputs: a circuit that is given zeros "
                               "still answers."),
        (change(v, with_weights(model, x, unweighted), y), "The circuits' weights are zero, and not their outputs: a "
                                                           "circuit without angles still answers cos(x)."),
    ]  # fmt: skip


@ablation.has("is right where circuits answer 0", 2)
def _(answer, v, draw):
    _row(answer, v, draw, "zeros")


@ablation.has("is right where they answer cos(x)", 1)
def _(answer, v, draw):
    _row(answer, v, draw, "cos")


@ablation.has("is right where they have random weights", 2)
def _(answer, v, draw):
    _row(answer, v, draw, "random")


@ablation.has("is 0 for the weights that the circuits have", 1)
def _(answer, v, draw):
    model, x = network(draw), draw.normal(3, 5)
    value = answer(deepcopy(model), x, [[layer.theta.clone() for layer in layers(model)]])
    got = value.get("random") if isinstance(value, dict) else None
    if got is None:
        raise Mistake("There is no row “random”.")
    if numbers(got, (), "the row “random”").abs() > 1e-6:
        raise Mistake("Circuits with their own weights change nothing; this says that they do. Does the stand-in of "
                      "another row still act?")  # fmt: skip


LAB = Lab(
    "05", "The hybrid U-Net", conventions=conventions, text=text,
    tasks=(time_embedding, linear_attention, hybrid_count, hybrid_conv, ablation),
    forbidden=("qdm_lib.blocks.TimeEmbedding", "qdm_lib.blocks.LinearAttention", "qdm_lib.blocks.FastLinearAttention",
               "qdm_lib.blocks.CircuitConv", "qdm_lib.blocks.SplitConv", "qdm_lib.unet.count_parameters"),
)  # fmt: skip
