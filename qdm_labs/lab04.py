"""Lab 04: the hybrid network's parts: standardized kernels, the ResNet block, quanvolution, and which weights act.

Right answers come from `qdm_lib.blocks` and `qdm_lib.audit` where the variant leaves them as they are, and from the
same formulas with the variant's choices elsewhere: how a kernel is standardized, which channels form a group, in which
order scale and shift act, on which wire a pixel lies.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import permutations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from qdm_labs.compare import agree, numbers
from qdm_labs.task import Lab, Mistake, Task, Unanswered
from qdm_labs.variant import Variant
from qdm_lib.audit import audit_circuit, audit_layer
from qdm_lib.blocks import CircuitConv
from qdm_lib.circuits import Circuit
from qdm_lib.simulator import simulate

ORDERS = {
    "h·(1 + scale) + shift, then SiLU": lambda h, scale, shift: F.silu(h * (1 + scale) + shift),
    "(h + shift)·(1 + scale), then SiLU": lambda h, scale, shift: F.silu((h + shift) * (1 + scale)),
    "SiLU first, then ·(1 + scale) + shift": lambda h, scale, shift: F.silu(h) * (1 + scale) + shift,
}
WIRES = {  # the axes (channel, row, column) of a patch, slowest first
    "4·channel + 2·row + column": (0, 1, 2),
    "4·channel + 2·column + row": (0, 2, 1),
    "c·(2·row + column) + channel": (1, 2, 0),
    "c·(2·column + row) + channel": (2, 1, 0),
}
GATES = ("RX", "RZ", "CRX", "CRZ")


@dataclass(frozen=True)
class Conventions:
    """The choices of one variant."""

    eps: float  # of the standardization
    eps_inside: bool  # under the root, or added to the root
    correction: int  # 0: biased variance; 1: unbiased
    interleaved: bool  # channel c is in group c mod groups; else groups are runs of neighbours
    order: str  # a key of ORDERS
    scale_first: bool  # which half of the projection is the scale
    wires: str  # a key of WIRES
    alive: bool  # whether the audit returns the weights that act, or those that do not


def conventions(variant: Variant) -> Conventions:
    """Draw them."""
    return Conventions(
        eps=variant.choice("eps", [0.02, 0.03, 0.05]), eps_inside=variant.choice("eps inside", [True, False]),
        correction=variant.choice("correction", [0, 1]), interleaved=variant.choice("groups", [True, False]),
        order=variant.choice("order", list(ORDERS)), scale_first=variant.choice("scale first", [True, False]),
        wires=variant.choice("wires", list(WIRES)), alive=variant.choice("alive", [True, False]),
    )  # fmt: skip


def text(v: Conventions) -> dict[str, str]:
    """The words of the variant."""
    root = rf"\sqrt{{s^2 + {v.eps}}}" if v.eps_inside else rf"s + {v.eps}"
    return {
        "kernel": r"\hat w = \frac{w - \bar w}{" + root + "}",
        "variance": "unbiased (divided by N − 1)" if v.correction else "biased (divided by N)",
        "groups": "channel c belongs to group c mod `groups`" if v.interleaved
        else "each group is a run of C/`groups` neighbouring channels",
        "order": v.order,
        "halves": "first half is scale, the second shift" if v.scale_first else "first half is shift, the second scale",
        "wires": v.wires,
        "wanted": "**act**" if v.alive else "are **without effect**",
    }  # fmt: skip


# ------------------------------------------------------------------------------------ right answers


def standardized(v: Conventions, w: Tensor, axes=(1, 2, 3)) -> Tensor:
    """Kernels (c_out, c_in, k, k) standardized over the axes; `qdm_lib`'s with eps 1e-5 inside and correction 0."""
    var, mean = torch.var_mean(w, axes, correction=v.correction, keepdim=True)
    return (w - mean) / ((var + v.eps).sqrt() if v.eps_inside else var.sqrt() + v.eps)


def normed(v: Conventions, x: Tensor, groups: int) -> Tensor:
    """GroupNorm without gain and offset."""
    if not v.interleaved:
        return F.group_norm(x, groups, eps=1e-6)
    B, C, H, W = x.shape
    by_group = x.reshape(B, C // groups, groups, H, W).transpose(1, 2)
    return (
        F.group_norm(by_group.reshape(x.shape), groups, eps=1e-6)
        .reshape(by_group.shape)
        .transpose(1, 2)
        .reshape(x.shape)
    )


def modulated_by(v: Conventions, x: Tensor, groups: int, scale: Tensor | None, shift: Tensor | None) -> Tensor:
    """Norm, scale and shift, SiLU."""
    h = normed(v, x, groups)
    return F.silu(h) if scale is None else ORDERS[v.order](h, scale[:, :, None, None], shift[:, :, None, None])


def block(v: Conventions, x: Tensor, time: Tensor, parts: dict, groups: int) -> Tensor:
    """The ResNet block, from its parts."""
    scale, shift = halves(v, parts["project"](F.silu(time)))
    h = modulated_by(v, parts["conv1"](x), groups, scale, shift)
    return modulated_by(v, parts["conv2"](h), groups, None, None) + parts["skip"](x)


def halves(v: Conventions, projected: Tensor) -> tuple[Tensor, Tensor]:
    """scale and shift."""
    first, second = projected.chunk(2, 1)
    return (first, second) if v.scale_first else (second, first)


class Circuits(nn.Module):
    """What `CircuitConv` calls: rows (rows, n, 4c) in the library's wire order, for circuits in the variant's."""

    def __init__(self, order: tuple[int, int, int], circuits, channels: int, back: bool = True):
        super().__init__()
        self.circuits = circuits
        place = torch.arange(4 * channels).reshape(channels, 2, 2)  # the library's wire of (channel, row, column)
        self.order, self.back = place.permute(order).flatten(), back

    def forward(self, rows: Tensor) -> Tensor:
        z = torch.stack([f(rows[:, k][:, self.order]) for k, f in enumerate(self.circuits)], 1)
        return z[:, :, self.order.argsort()] if self.back else z


def quanvolved(v: Conventions, x: Tensor, circuits) -> Tensor:
    """`CircuitConv` with the variant's wires."""
    channels = x.shape[1] // len(circuits)
    return CircuitConv(Circuits(WIRES[v.wires], circuits, channels), len(circuits), channels)(x)


def acting(circuit: Circuit) -> set[int]:
    """The weights that move an output."""
    return set(audit_circuit(circuit).alive_weights)


def entries(module: nn.Module, x: Tensor) -> dict[str, int]:
    """parameter → how many of its entries act."""
    return {name: p.n_alive for name, p in audit_layer(module, x).parameters.items()}


# ------------------------------------------------------------------------------------------- tasks

standardize = Task("standardize", "A standardized kernel", "standardize the kernels of a convolution", 15)
group_norm = Task("group_norm", "Group norm", "normalise groups of channels", 20)
modulate = Task("modulate", "Norm, scale and shift, SiLU", "let the time steer a hidden map", 15)
resnet_block = Task("resnet_block", "The ResNet block", "build a block whose convolutions are injected", 20)
quanvolve = Task("quanvolve", "Quanvolution", "let circuits slide over the patches of an image", 30)
audit_weights = Task("audit_weights", "Which weights of a circuit act", "find weights that do nothing", 20)
audit_entries = Task("audit_entries", "Which entries of a layer act", "audit any module, and explain what it finds", 20)


def kernel_mistakes(v: Conventions, w: Tensor):
    bad_eps = replace(v, eps_inside=not v.eps_inside)
    var, mean = torch.var_mean(w, (1, 2, 3), correction=v.correction, keepdim=True)
    place = "under the root" if v.eps_inside else "added after the root"
    return [
        (standardized(v, w, (0, 1, 2, 3)), "Mean and variance are taken over all kernels at once; each output "
                                           "channel has its own."),
        (standardized(v, w, (2, 3)), "Mean and variance are taken for each pair of channels; the fan of an output "
                                     "channel also has all its input channels."),
        (standardized(v, w, (0, 2, 3)), "Mean and variance are taken for each input channel; the first axis of a "
                                        "kernel is the output channel."),
        (standardized(replace(v, correction=1 - v.correction), w),
         f"The variance is the other one: here it is divided by N{' − 1' * v.correction}."),
        (standardized(bad_eps, w), f"The small number stands in the wrong place: here it is {place}."),
        (standardized(replace(v, eps=0.0), w), "The small number in the denominator is missing."),
        (standardized(replace(v, eps=1e-5), w), f"The small number is the library's 1e-5; here it is {v.eps}."),
        (w - mean, "The kernels are centred, but not divided by their standard deviation."),
        (w / ((var + v.eps).sqrt() if v.eps_inside else var.sqrt() + v.eps), "The mean is not subtracted."),
        ((w - mean) / (var + v.eps), "This divides by the variance: a square root is missing."),
    ]  # fmt: skip


@standardize.has("is right for every output channel", 2)
def _(answer, v, draw):
    for c_out, c_in, k in ((3, 2, 3), (2, 4, 2)):
        w = 0.4 * draw.normal(c_out, c_in, k, k) + draw.normal(c_out, 1, 1, 1)
        agree(answer(w), standardized(v, w), kernel_mistakes(v, w), "the standardized kernel")


@standardize.has("keeps the kernel that it was given, and lets gradients through", 1)
def _(answer, v, draw):
    w, weights = draw.normal(2, 3, 3, 3), draw.normal(2, 3, 3, 3)
    if answer.changes(w):
        raise Mistake("The kernel that came in is overwritten; training would lose the weights it works on.")
    leaf = w.clone().requires_grad_()
    (want,) = torch.autograd.grad((weights * standardized(v, leaf)).sum(), leaf)
    var = w.var((1, 2, 3), correction=v.correction, keepdim=True)
    detached = weights / ((var + v.eps).sqrt() if v.eps_inside else var.sqrt() + v.eps)
    agree(answer.gradient(w, wrt=0, weights=weights), want, what="the gradient by the kernel", usual=[
        (detached, "Mean and deviation are treated as constants (detached); they depend on the kernel, too."),
    ])  # fmt: skip


def norm_mistakes(v: Conventions, x: Tensor, groups: int):
    C = x.shape[1]
    here = "every `groups`-th channel" if v.interleaved else "a run of neighbours"
    var, mean = torch.var_mean(x, (0, 2, 3), correction=0, keepdim=True)
    return [
        (normed(replace(v, interleaved=not v.interleaved), x, groups), f"The groups hold other channels: here "
                                                                       f"a group is {here}."),
        (F.group_norm(x, C), "Each channel is normalised alone; all channels of a group share mean and variance."),
        (F.group_norm(x, 1), "All channels are normalised together; each group has its own mean and variance."),
        ((x - mean) / (var + 1e-6).sqrt(), "Mean and variance are taken over the batch; each image has its own."),
        (normed(v, x, C // groups), "`groups` is the number of groups, not the number of channels in each."),
        (over_channels(v, x, groups), "Mean and variance are taken for each pixel; a group also has all its pixels."),
    ]  # fmt: skip


def over_channels(v: Conventions, x: Tensor, groups: int) -> Tensor:
    """The norm of each pixel alone, over the channels of a group."""
    B, C, H, W = x.shape
    pixels = x.permute(0, 2, 3, 1).reshape(B * H * W, C, 1, 1)
    return normed(v, pixels, groups).reshape(B, H, W, C).permute(0, 3, 1, 2)


@group_norm.has("is right for several groups of several channels", 2)
def _(answer, v, draw):
    for groups, C in ((2, 6), (4, 12)):
        x = draw.normal(3, C, 3, 3) * (1 + draw.uniform(3, C, 1, 1)) + draw.normal(3, C, 1, 1)
        agree(answer(x, groups), normed(v, x, groups), norm_mistakes(v, x, groups), "the normalised map")


@group_norm.has("is right for one group, and for one channel in each", 1)
def _(answer, v, draw):
    for groups, C in ((1, 4), (4, 4)):
        x = draw.normal(2, C, 2, 4) + draw.normal(2, C, 1, 1)
        agree(answer(x, groups), normed(v, x, groups), what=f"the normalised map ({groups} groups of {C} channels)")


def film_mistakes(v: Conventions, x: Tensor, groups: int, scale: Tensor, shift: Tensor):
    h, a, b = normed(v, x, groups), scale[:, :, None, None], shift[:, :, None, None]
    act = ORDERS[v.order]
    others = [(rule(h, a, b), f"The order is “{name}”; in this variant it is “{v.order}”.")
              for name, rule in ORDERS.items() if name != v.order]  # fmt: skip
    linear = (h + b) * (1 + a) if v.order.startswith("(h + shift)") else h * (1 + a) + b
    return [
        *others,
        (act(h, a - 1, b), "The map is multiplied by scale; by 1 + scale is right, so that zero changes nothing."),
        (act(x, a, b), "The norm is missing."),
        (act(h, b, a), "Scale and shift are exchanged."),
        (linear, "The SiLU is missing."),
        (act(h, torch.zeros_like(a), b), "The scale is missing."),
        (act(h, a, torch.zeros_like(b)), "The shift is missing."),
    ]


def wide(draw, *shape: int) -> Tensor:
    """A random map whose channels differ in mean and scale."""
    B, C = shape[:2]
    return draw.normal(*shape) * (1 + draw.uniform(B, C, 1, 1)) + draw.normal(B, C, 1, 1)


@modulate.has("is right with scale and shift", 2)
def _(answer, v, draw):
    x, scale, shift = wide(draw, 2, 6, 3, 3), draw.normal(2, 6), draw.normal(2, 6)
    want = modulated_by(v, x, 3, scale, shift)
    agree(answer(x, 3, scale, shift), want, film_mistakes(v, x, 3, scale, shift), "the map")


@modulate.has("is SiLU of the norm without them (None)", 1)
def _(answer, v, draw):
    x = wide(draw, 2, 4, 3, 3)
    agree(answer(x, 2, None, None), modulated_by(v, x, 2, None, None), what="the map", usual=[
        (normed(v, x, 2), "The SiLU is missing."), (F.silu(x), "The norm is missing."),
        (F.silu(2 * normed(v, x, 2)), "Without a scale the factor is 1; here it seems to be 2."),
    ])  # fmt: skip


def parts_of(draw, c_in: int, c_out: int, d: int) -> dict[str, nn.Module]:
    """Float64 convolutions and a projection with random weights."""
    same = nn.Identity() if c_in == c_out else nn.Conv2d(c_in, c_out, 1)
    parts = {"conv1": nn.Conv2d(c_in, c_out, 3, padding=1), "conv2": nn.Conv2d(c_out, c_out, 3, padding=1),
             "project": nn.Linear(d, 2 * c_out), "skip": same}  # fmt: skip
    for module in parts.values():
        module.double().requires_grad_(False)
        for p in module.parameters():
            p.copy_(0.5 * draw.normal(*p.shape))
    return parts


def block_mistakes(v: Conventions, x: Tensor, time: Tensor, parts: dict, groups: int):
    scale, shift = halves(v, parts["project"](F.silu(time)))
    raw = halves(v, parts["project"](time))
    first = modulated_by(v, parts["conv1"](x), groups, scale, shift)
    second = modulated_by(v, parts["conv2"](first), groups, None, None)
    without_silu = modulated_by(v, parts["conv1"](x), groups, *raw)
    exchanged = modulated_by(v, parts["conv1"](x), groups, shift, scale)
    unsteered = modulated_by(v, parts["conv1"](x), groups, None, None)

    def rest(h):
        return modulated_by(v, parts["conv2"](h), groups, None, None) + parts["skip"](x)

    found = [
        (second, "The way around (skip) is missing at the end."),
        (rest(without_silu), "The time goes into the projection without its SiLU."),
        (rest(exchanged), "Scale and shift are exchanged: the other half of the projection is the scale."),
        (rest(unsteered), "The time has no effect: scale and shift act after the first norm."),
        (modulated_by(v, parts["conv2"](first), groups, scale, shift) + parts["skip"](x),
         "Scale and shift act twice; they belong to the first norm only."),
        (second + first, "The hidden map is added at the end; x (through skip) is."),
    ]  # fmt: skip
    if x.shape[1] == first.shape[1]:
        found += [
            (rest(x), "The second convolution reads the block's input; it has to read the hidden map of the first."),
            (modulated_by(v, parts["conv1"](first), groups, None, None) + parts["skip"](x),
             "The first convolution is used twice; the second one, with its weights, never acts."),
        ]  # fmt: skip
    return found


@resnet_block.has("is right where the number of channels stays", 2)
def _(answer, v, draw):
    parts, x, time = parts_of(draw, 4, 4, 5), wide(draw, 2, 4, 4, 4), draw.normal(2, 5)
    agree(answer(x, time, parts, 2), block(v, x, time, parts, 2), block_mistakes(v, x, time, parts, 2), "the output")


@resnet_block.has("is right where it changes", 1)
def _(answer, v, draw):
    parts, x, time = parts_of(draw, 3, 6, 5), wide(draw, 2, 3, 4, 4), draw.normal(2, 5)
    agree(answer(x, time, parts, 3), block(v, x, time, parts, 3), block_mistakes(v, x, time, parts, 3), "the output")


@resnet_block.has("lets gradients through to the input", 1)
def _(answer, v, draw):
    parts, x, time = parts_of(draw, 4, 4, 5), wide(draw, 2, 4, 4, 4), draw.normal(2, 5)
    weights, leaf = draw.normal(2, 4, 4, 4), x.clone().requires_grad_()
    (want,) = torch.autograd.grad((weights * block(v, leaf, time, parts, 2)).sum(), leaf)
    agree(answer.gradient(x, time, parts, 2, wrt=0, weights=weights), want, what="the gradient by x")


class Counted:
    """A function in the place of a circuit, (rows, wires) → (rows, wires), that counts how often it is run."""

    def __init__(self, draw, wires: int):
        self.matrix, self.wires, self.runs = draw.normal(wires, wires), wires, 0

    def __call__(self, rows) -> Tensor:
        self.runs += 1
        rows = numbers(rows, what="what the circuit is given")
        if rows.ndim != 2 or rows.shape[1] != self.wires:
            raise Mistake(f"A circuit of {self.wires} wires is given {tuple(rows.shape)}; (patches, {self.wires}) is "
                          "wanted, a row for each patch.")  # fmt: skip
        return (rows @ self.matrix).cos()


def patch_mistakes(v: Conventions, x: Tensor, circuits):
    """What usual mistakes make of an image."""
    n, c = len(circuits), x.shape[1] // len(circuits)

    def conv(order, functions, back=True):
        return lambda: CircuitConv(Circuits(order, functions, c, back), n, c)(x)

    found = [(conv(order, circuits), f"Pixels lie on other wires; wire {v.wires} is wanted.")
             for order in permutations((0, 1, 2)) if order != WIRES[v.wires]]  # fmt: skip
    found.append((conv(WIRES[v.wires], circuits, back=False), "The outputs come back in another order than the "
                  "inputs went in: ⟨Z⟩ of a wire belongs where that wire's pixel was."))  # fmt: skip
    if n > 1:
        found += [
            (conv(WIRES[v.wires], [circuits[0]] * n), "The first circuit is used for every group; each has its own."),
            (conv(WIRES[v.wires], circuits[::-1]), "Circuits and groups of channels are paired in the wrong order."),
            (lambda: strided(v, x, circuits), "The groups are every n-th channel; they are runs of neighbours."),
        ]
    return found


def strided(v: Conventions, x: Tensor, circuits) -> Tensor:
    """Circuit k on the channels k, k + n, …"""
    n = len(circuits)
    order = torch.arange(x.shape[1]).reshape(-1, n).T.flatten()
    return quanvolved(v, x[:, order], circuits)[:, order.argsort()]


def _quanvolution(answer, v, draw, n: int, channels: int, height: int, width: int) -> list[int]:
    circuits = [Counted(draw, 4 * channels) for _ in range(n)]
    x = draw.normal(2, n * channels, height, width)
    out = answer(x, circuits)
    runs = [f.runs for f in circuits]
    agree(out, quanvolved(v, x, circuits), patch_mistakes(v, x, circuits),
          f"the output ({n} circuit(s) of {channels} channel(s), {height}×{width} pixels)")  # fmt: skip
    return runs


@quanvolve.has("is right for one circuit on one patch", 1)
def _(answer, v, draw):
    _quanvolution(answer, v, draw, 1, 3, 2, 2)


@quanvolve.has("is right for one circuit on many patches", 2)
def _(answer, v, draw):
    _quanvolution(answer, v, draw, 1, 2, 4, 6)


@quanvolve.has("is right for several circuits", 1)
def _(answer, v, draw):
    _quanvolution(answer, v, draw, 2, 2, 4, 4)


@quanvolve.has("runs each circuit once for all patches", 1)
def _(answer, v, draw):
    runs = _quanvolution(answer, v, draw, 2, 1, 4, 4)
    if max(runs) > 1:
        raise Mistake(f"One circuit is run {max(runs)} times; hand it all patches of all images as rows of one call.")


def partly_dead(draw, n_wires: int, n_gates: int) -> Circuit:
    """A random circuit in which some weights act and some do not, and an audit of one output would err."""
    while True:
        circuit = draw.circuit(n_wires, n_gates, GATES)
        good = acting(circuit)
        if 2 <= len(good) <= n_gates - 2 and good != one_output(circuit) and good != at_zero(circuit):
            return circuit


def derivatives(circuit: Circuit, x: Tensor, theta: Tensor) -> Tensor:
    """d⟨Z_w⟩/dθ_k at one point: (n_wires, n_weights)."""
    return torch.autograd.functional.jacobian(lambda t: simulate(circuit, x[None], t[None])[0], theta)


def one_output(circuit: Circuit) -> set[int]:
    """The weights that move the output of wire 0."""
    found = audit_circuit(circuit).weight_to_output[:, 0] > 1e-9
    return set(found.nonzero().flatten().tolist())


def at_zero(circuit: Circuit) -> set[int]:
    """The weights that seem to act at x = 0 and θ = 0."""
    x, theta = torch.zeros(circuit.n_inputs).double(), torch.zeros(circuit.n_weights).double()
    return set((derivatives(circuit, x, theta).abs().amax(0) > 1e-9).nonzero().flatten().tolist())


def _audited(answer, v, draw, n_wires: int, n_gates: int) -> None:
    circuit = partly_dead(draw, n_wires, n_gates)
    every, good = set(range(n_gates)), acting(circuit)
    want = good if v.alive else every - good
    value = answer(circuit)
    got = {int(k) for k in numbers(sorted(value) if isinstance(value, set | frozenset) else value).flatten().tolist()}
    if got == want:
        return
    wanted = "act" if v.alive else "are without effect"
    last = {g.param[1] for k, g in enumerate(circuit.gates) if g.param[0] == "weight" and g.name.endswith("RZ")}
    for wrong, why in [
        (good, "act; those without effect are wanted"),
        (every - good, "are without effect; those that act are wanted"),
    ]:
        if got == wrong:
            raise Mistake(f"These are the weights that {why}.")
    for wrong, why in [
        (one_output(circuit), "Only the output of wire 0 is looked at; a weight acts if it moves any output."),
        (at_zero(circuit), "At x = 0 or θ = 0 derivatives vanish by symmetry; look at a random point."),
        (every, "All weights count as acting; a gate can be read, and its effect still never reach an output."),
        (every - last, "Not every RZ is without effect: what follows may turn its phase into a probability."),
    ]:
        if got == (wrong if v.alive else every - wrong):
            raise Mistake(why)
    more, less = sorted(got - want), sorted(want - got)
    said = [f"weights {more} do not belong in it"] * bool(more) + [f"weights {less} are missing"] * bool(less)
    raise Mistake(f"Of a random circuit the weights that {wanted} are wanted: {' and '.join(said)}.")


@audit_weights.has("is right on circuits of three wires", 2)
def _(answer, v, draw):
    for _ in range(3):
        _audited(answer, v, draw, 3, 8)


@audit_weights.has("is right on circuits of four wires", 1)
def _(answer, v, draw):
    for _ in range(2):
        _audited(answer, v, draw, 4, 10)


def layer(draw, c_in: int, c_out: int, groups: int) -> nn.Module:
    """A convolution before a group norm, in float64 with random parameters, in a random place of a chain."""
    chain = [nn.Conv2d(c_in, c_out, 3, padding=1), nn.GroupNorm(groups, c_out), nn.SiLU(), nn.Conv2d(c_out, 2, 1)]
    module = nn.Sequential(*chain).double()
    with torch.no_grad():
        for p in module.parameters():
            p.copy_(draw.normal(*p.shape))
    return module


def _entries(answer, v, draw, c_out: int, groups: int) -> None:
    module, x = layer(draw, 2, c_out, groups), draw.normal(2, 2, 4, 4)
    value = answer(module, x)
    if value is None:
        raise Unanswered("The function returns nothing; is a return missing?")
    if not isinstance(value, dict) or not value:
        raise Mistake(f"A dictionary is wanted, from a parameter's name to a number; this is a {type(value).__name__}.")
    want = entries(module, x)
    if set(value) != set(want):
        raise Mistake(f"The names are to be those of named_parameters(), {', '.join(want)}; got "
                      f"{', '.join(str(k) for k in value)[:80]}.")  # fmt: skip
    got = {k: round(float(numbers(n, (), f"the count of {k}"))) for k, n in value.items()}
    if got == want:
        return
    every = {k: p.numel() for k, p in module.named_parameters()}
    dead = {k: every[k] - want[k] for k in every}
    if all(want[k] <= got[k] <= every[k] for k in every):
        raise Mistake("An entry without effect counts as acting: a derivative that is zero comes out as a rounding "
                      "error (1e-16), so “!= 0” finds no zero. And is there one that must be zero?")  # fmt: skip
    if got == dead and dead != want:
        raise Mistake("These are the numbers of entries without effect; those that act are wanted.")
    if got == {k: int(n > 0) for k, n in want.items()} or got == {k: 1 for k in want}:
        raise Mistake("A parameter is judged as a whole; count its entries.")
    name = next(k for k in want if got[k] != want[k])
    raise Mistake(f"With {c_out} channels in {groups} groups, {want[name]} of the {every[name]} entries of {name} act; "
                  f"this says {got[name]}.")  # fmt: skip


@audit_entries.has("is right with one channel in each group", 1)
def _(answer, v, draw):
    _entries(answer, v, draw, 4, 4)


@audit_entries.has("is right with several channels in each group", 1)
def _(answer, v, draw):
    _entries(answer, v, draw, 6, 2)


LAB = Lab(
    "04", "The hybrid network", conventions=conventions, text=text,
    tasks=(standardize, group_norm, modulate, resnet_block, quanvolve, audit_weights, audit_entries),
    forbidden=("qdm_lib.blocks.WeightStandardizedConv2d", "qdm_lib.blocks.ResnetBlock", "qdm_lib.blocks.CircuitConv",
               "qdm_lib.audit.audit_circuit", "qdm_lib.audit.audit_layer", "qdm_lib.audit.audit_model"),
)  # fmt: skip
