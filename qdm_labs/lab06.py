"""Lab 06: a moving average of the weights, a training that resumes exactly, and DDIM.

In the library's conventions the right answers are `qdm_lib.training.EMA` and `qdm_lib.diffusion.ddim_sample`; a variant
changes when the average is renewed, which steps a sampler visits, and which noise it goes on with after clamping.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from qdm_labs.compare import agree, close, numbers
from qdm_labs.task import Lab, Mistake, Task, Unanswered
from qdm_labs.variant import Variant

GRIDS = {
    "evenly: T − 1 down to 0 in equal distances": lambda x: x,
    "quadratically: (T − 1)·x² for x from 1 down to 0 in equal distances": lambda x: x**2,
}
STATE = ("weights", "velocity", "average", "step", "generator")


@dataclass(frozen=True)
class Conventions:
    """The choices of one variant."""

    start: int  # of the average: before this step it is a copy
    every: int  # steps between two renewals
    most: float  # the largest decay
    power: float  # of the decay's growth
    warm_up: int  # steps in which the learning rate grows
    momentum: float
    average_first: bool  # average takes the weights before the step, or after it
    grid: str  # a key of GRIDS
    anew: bool  # the noise is computed anew from the clamped x_0, or stays the network's


def conventions(variant: Variant) -> Conventions:
    """Draw them."""
    return Conventions(
        start=variant.choice("start", [20, 30, 50]), every=variant.choice("every", [4, 5, 8]),
        most=variant.choice("most", [0.9, 0.95, 0.98]), power=variant.choice("power", [0.5, 0.75, 1.0]),
        warm_up=variant.choice("warm up", [6, 8, 10]), momentum=variant.choice("momentum", [0.8, 0.9]),
        average_first=variant.choice("average first", [True, False]), grid=variant.choice("grid", list(GRIDS)),
        anew=variant.choice("anew", [True, False]),
    )  # fmt: skip


def text(v: Conventions) -> dict[str, str]:
    """The words of the variant."""
    return {
        "start": str(v.start), "every": str(v.every), "most": str(v.most), "power": str(v.power),
        "warm_up": str(v.warm_up), "momentum": str(v.momentum),
        "average": "**before** the weights move" if v.average_first else "**after** the weights have moved",
        "grid": v.grid,
        "noise": "the noise is computed **anew** from x_t and the clamped x̂_0, ε̂ = (x_t − √ᾱ_t·x̂_0)/√(1−ᾱ_t)" if v.anew
        else "the noise ε̂ **stays** the one that the network gave",
    }  # fmt: skip


# ------------------------------------------------------------------------------------ right answers


def decay(v: Conventions, step: int) -> float:
    """d after step `step`, counted from 0."""
    since = step - v.start
    return 0.0 if since <= 0 else min(v.most, 1 - since**-v.power)


def renewed(v: Conventions, step: int) -> bool:
    """Whether the average is renewed after this step."""
    return step < v.start or (step + 1) % v.every == 0


def averaged(v: Conventions, average: dict, weights: dict, step: int) -> dict:
    """The average after this step."""
    if not renewed(v, step):
        return dict(average)
    d = decay(v, step)
    return {k: d * average[k] + (1 - d) * w for k, w in weights.items()}


def trained(v: Conventions, state: dict, gradient, steps: int, forget: str = "") -> dict:
    """Momentum with a warm-up, on noise from the generator's state. `forget`: a part that is not carried over."""
    w, velocity, average, step = state["weights"], state["velocity"], state["average"], int(state["step"])
    generator = torch.Generator()
    generator.set_state(state["generator"])
    if forget == "velocity":
        velocity = torch.zeros_like(velocity)
    if forget == "average":
        average = w
    if forget == "step":
        step = 0
    if forget == "generator":
        generator.manual_seed(0)
    for _ in range(steps):
        noise = torch.randn(w.shape, generator=generator, dtype=w.dtype)
        if v.average_first:
            average = 0.9 * average + 0.1 * w
        velocity = v.momentum * velocity + torch.as_tensor(gradient(w, noise))
        w = w - 0.1 * min(1.0, (step + 1) / v.warm_up) * velocity
        if not v.average_first:
            average = 0.9 * average + 0.1 * w
        step += 1
    return dict(zip(STATE, (w, velocity, average, step, generator.get_state()), strict=True))


def visited(v: Conventions, T: int, steps: int) -> list[int]:
    """The time steps, from T − 1 down to 0."""
    x = torch.linspace(1, 0, steps, dtype=torch.float64)
    return ((T - 1) * GRIDS[v.grid](x)).round().long().tolist()


def sigma(a: float, b: float, eta: float) -> float:
    """η √((1−ᾱ_u)/(1−ᾱ_t)) √(1−ᾱ_t/ᾱ_u) for a = ᾱ_t, b = ᾱ_u."""
    return eta * math.sqrt((1 - b) / (1 - a) * (1 - a / b))


def denoised(x: Tensor, eps: Tensor, a: float) -> Tensor:
    """The clamped x_0."""
    return ((x - math.sqrt(1 - a) * eps) / math.sqrt(a)).clamp(-1, 1)


def stepped(v: Conventions, x: Tensor, eps: Tensor, a: float, b: float, eta: float, z: Tensor) -> Tensor:
    """One step of DDIM, from ᾱ_t = a to ᾱ_u = b."""
    x_0, s = denoised(x, eps, a), sigma(a, b, eta)
    if v.anew:
        eps = (x - math.sqrt(a) * x_0) / math.sqrt(1 - a)
    return math.sqrt(b) * x_0 + math.sqrt(max(0.0, 1 - b - s**2)) * eps + s * z


def sampled(v: Conventions, model, abar: Tensor, x: Tensor, steps: int, eta: float, generator) -> Tensor:
    """DDIM to its last x_0."""
    times = visited(v, len(abar), steps)
    for t, u in zip(times, times[1:], strict=False):
        z = torch.randn(x.shape, generator=generator, dtype=x.dtype)
        x = stepped(v, x, torch.as_tensor(model(x, t)), float(abar[t]), float(abar[u]), eta, z)
    return denoised(x, torch.as_tensor(model(x, times[-1])), float(abar[times[-1]]))


# ------------------------------------------------------------------------------------------- tasks

ema_decay = Task("ema_decay", "The decay of the average", "say how far back an average remembers", 10)
ema_update = Task("ema_update", "The moving average", "average the weights of a model while it trains", 20)
train_steps = Task("train_steps", "Exact resume", "write a training that can be cut anywhere", 35)
time_grid = Task("time_grid", "The steps that DDIM visits", "choose a few of many time steps", 10)
ddim_step = Task("ddim_step", "One step of DDIM", "go back several time steps at once", 25)
ddim_sample = Task("ddim_sample", "DDIM", "draw samples with few calls of the network", 30)


def _decay_mistakes(v: Conventions, steps: list[int]) -> list:
    step = torch.tensor(steps, dtype=torch.float64)
    since, right = step - v.start, torch.tensor([decay(v, s) for s in steps])
    return [
        (torch.full_like(step, v.most), f"The decay is {v.most} at once; it grows to that in the steps since {v.start} "
                                        "and not counted from the beginning."),
        (1 - right, "These are the weights' shares, 1 − d; the decay d is that of the old average."),
        ((1 - since**-v.power).clamp(min=v.most), "The larger of the two is taken; the smaller one is wanted."),
        ((1 - step**-v.power).clamp(max=v.most), f"The step is counted from the beginning, not from {v.start}."),
        ((1 - (since + 1) ** -v.power).clamp(max=v.most), "The decay is one step ahead."),
        ((since**-v.power).clamp(max=v.most), "“1 −” is missing: this falls where it should grow."),
        (1 - since**-v.power, f"The decay is not held at {v.most}."),
    ]  # fmt: skip


@ema_decay.has("is right after the start", 1)
def _(answer, v, draw):
    steps = [v.start + since for since in [2, 3, *sorted(draw.some(range(4, 40), 4)), 9000]]
    agree([answer(s) for s in steps], torch.tensor([decay(v, s) for s in steps]), _decay_mistakes(v, steps),
          f"the decays after the steps {', '.join(map(str, steps))}", tolerance=1e-6)  # fmt: skip


@ema_decay.has("is 0 up to the start", 1)
def _(answer, v, draw):
    for step in (0, v.start - 1, v.start):
        agree(answer(step), torch.tensor(0.0), what=f"the decay after step {step}")


def _weights(draw) -> dict[str, Tensor]:
    return {"conv.weight": draw.normal(2, 3), "conv.bias": draw.normal(2)}


def _flat(value, like: dict, what: str) -> Tensor:
    """A dictionary of tensors as one vector; `Mistake` if it has other names."""
    if value is None:
        raise Unanswered("The function returns nothing; is a return missing?")
    if not isinstance(value, dict) or set(value) != set(like):
        raise Mistake(f"For {what} a dictionary with the names {', '.join(like)} is wanted.")
    return torch.cat([numbers(value[k], like[k].shape, f"{k} of {what}").flatten() for k in like])


def _average(answer, v, draw, step: int) -> None:
    old, new = _weights(draw), _weights(draw)
    d = decay(v, step)

    def mix(share):
        return torch.cat([(share * old[k] + (1 - share) * new[k]).flatten() for k in old])

    got = _flat(answer(old, new, step), old, "the average")
    usual = [
        (mix(1.0), f"The average is left alone after step {step}, where {step + 1} steps are finished."),
        (mix(0.0), f"The weights are copied after step {step}; from {v.start} on they are averaged."),
        (mix(1 - d), "d and 1 − d are exchanged: d is the share of the old average."),
        (mix(v.most), f"The decay is not always {v.most}; use your ema_decay."),
        (mix(decay(v, step + 1)), "The decay is that of the next step."),
        (mix(d) + d * mix(0.0), "The two shares do not add up to 1."),
    ]
    if not renewed(v, step):
        usual = [
            (mix(d), f"After step {step} the average stays as it is: {step + 1} finished steps are no multiple of "
                     f"{v.every}."),
            (mix(0.0), f"The weights are copied after step {step}; before {v.start} only."),
        ]  # fmt: skip
    want = torch.cat([x.flatten() for x in averaged(v, old, new, step).values()])
    agree(got, want, usual, f"the average after step {step}", tolerance=1e-6)


def _multiple(v: Conventions, draw) -> int:
    """A number of steps, finished, at which the average is renewed, some way after the start."""
    first = -(-(v.start + 3) // v.every)
    return v.every * draw.whole(first, first + 5)


@ema_update.has("averages at every renewal", 1)
def _(answer, v, draw):
    for _ in range(3):
        _average(answer, v, draw, _multiple(v, draw) - 1)


@ema_update.has("copies before the start, and rests between renewals", 1)
def _(answer, v, draw):
    for step in (0, v.start // 2, v.start - 1, *[_multiple(v, draw) - 1 + k for k in (1, v.every - 1)]):
        _average(answer, v, draw, step)


@ema_update.has("has a memory of its own", 1)
def _(answer, v, draw):
    """Twelve renewals in a row, the average handed back each time."""
    average = mine = _weights(draw)
    first = _multiple(v, draw) - 1
    for k in range(4):
        new, step = _weights(draw), first + k * v.every
        average, mine = averaged(v, average, new, step), answer(mine, new, step)
        _flat(mine, average, "the average")
    want, got = (
        torch.cat([numbers(x).flatten() for x in a.values()]) for a in (average, {k: mine[k] for k in average})
    )
    agree(got, want, what="the average after four renewals", tolerance=1e-6)


class Slope:
    """The gradient of a loss at some weights, on a batch of noise: a function that cannot be seen into."""

    def __init__(self, draw, n: int):
        self.matrix = draw.normal(n, n) / n

    def __call__(self, weights, noise) -> Tensor:
        weights, noise = (numbers(x, (len(self.matrix),), "an argument of gradient") for x in (weights, noise))
        return torch.tanh(self.matrix @ weights + noise)


def _begin(draw, n: int = 4) -> dict:
    """A state in the middle of a training."""
    state = (draw.normal(n), draw.normal(n), draw.normal(n), draw.whole(1, 4), draw.generator().get_state())
    return dict(zip(STATE, state, strict=True))


def _checked(value, want: dict, what: str, usual=()) -> None:
    """Every part of a state."""
    if value is None:
        raise Unanswered("The function returns nothing; is a return missing?")
    if not isinstance(value, dict) or not set(STATE) <= set(value):
        raise Mistake(f"A state is a dictionary with {', '.join(STATE)}.")
    for part in STATE:
        got = numbers(value[part], torch.as_tensor(want[part]).shape, part)
        if close(got, want[part], 1e-9):
            continue
        for wrong, why in usual:
            if close(got, wrong()[part], 1e-9):
                raise Mistake(why)
        if part == "generator":
            raise Mistake("The generator's state is not the one after these draws: return generator.get_state().")
        agree(got, torch.as_tensor(want[part]), what=f"{part} {what}", tolerance=1e-9)


def _lost(v: Conventions, state: dict, gradient, steps: int):
    said = {
        "velocity": "The velocity starts from 0 in each call; it is a part of the state.",
        "average": "The average starts from the weights in each call; it is a part of the state.",
        "step": "The steps are counted from 0 in each call, so the learning rate warms up again.",
        "generator": "The generator is seeded anew in each call; set it to the state that came in.",
    }
    other = replace(v, average_first=not v.average_first)
    order = "before the weights move" if v.average_first else "after the weights have moved"
    found = [(lambda part=part: trained(v, state, gradient, steps, part), why) for part, why in said.items()]
    return [*found, (lambda: trained(other, state, gradient, steps), f"The average takes the weights {order} here.")]


@train_steps.has("does one step right", 1)
def _(answer, v, draw):
    state, gradient = _begin(draw), Slope(draw, 4)
    usual = _lost(v, state, gradient, 1)
    _checked(answer(state, gradient, 1), trained(v, state, gradient, 1), "after one step", usual)


@train_steps.has("does many steps right, through the warm-up and after it", 2)
def _(answer, v, draw):
    state, gradient, n = _begin(draw), Slope(draw, 4), v.warm_up + 5
    usual = _lost(v, state, gradient, n)
    _checked(answer(state, gradient, n), trained(v, state, gradient, n), f"after {n} steps", usual)


@train_steps.has("gives the same, cut in two", 2)
def _(answer, v, draw):
    state, gradient, (a, b) = _begin(draw), Slope(draw, 4), draw.some(range(2, 9), 2)
    whole, first = answer(state, gradient, a + b), answer(state, gradient, a)
    _checked(first, trained(v, state, gradient, a), f"after {a} steps", _lost(v, state, gradient, a))
    middle = {k: (first[k] if k != "step" else int(first[k])) for k in STATE}
    middle["generator"] = torch.as_tensor(middle["generator"]).to(torch.uint8)
    usual = _lost(v, middle, gradient, b)
    _checked(answer(middle, gradient, b), trained(v, middle, gradient, b), f"after {a} and {b} steps", usual)
    _checked(whole, trained(v, state, gradient, a + b), f"after {a + b} steps")


def _sizes(v: Conventions, draw, times: tuple[int, int], counts: tuple[int, int]) -> tuple[int, int]:
    """T and the number of steps, drawn anew where a step would lie at a half: there right forms round differently."""
    while True:
        T, steps = draw.whole(*times), draw.whole(*counts)
        exact = (T - 1) * GRIDS[v.grid](torch.linspace(1, 0, steps, dtype=torch.float64))
        if (exact % 1 - 0.5).abs().min() > 1e-6:
            return T, steps


def _grid_mistakes(v: Conventions, T: int, steps: int):
    other = replace(v, grid=next(g for g in GRIDS if g != v.grid))
    x = torch.arange(steps, 0, -1, dtype=torch.float64) / steps
    return [
        (torch.tensor(visited(other, T, steps)), f"The distances are others; they go {v.grid.split(':')[0]} here."),
        (torch.tensor(visited(v, T, steps)[::-1]), "The order is the other one: a sampler goes down, from T − 1 to 0."),
        (torch.tensor(visited(v, T + 1, steps)), f"The last step of the schedule is T − 1 = {T - 1}."),
        (((T - 1) * GRIDS[v.grid](x)).round(), "The grid ends before 0; its last step is 0."),
        (((T - 1) * GRIDS[v.grid](torch.linspace(1, 0, steps).double())).floor(), "The numbers are cut; round them."),
        (torch.tensor(visited(v, T, steps + 1)), "There is one step too many."),
    ]  # fmt: skip


@time_grid.has("visits the right steps", 1)
def _(answer, v, draw):
    for T, steps in ((1000, 40), _sizes(v, draw, (500, 500), (7, 20)), _sizes(v, draw, (90, 200), (5, 5))):
        value = answer(T, steps)
        want = torch.tensor(visited(v, T, steps))
        usual = _grid_mistakes(v, T, steps)
        got = numbers(value, what="the list of steps").flatten()
        for wrong, why in usual:
            if not close(got, want) and close(got, wrong):
                raise Mistake(why)
        agree(got, want, what=f"the list of {steps} of {T} steps", tolerance=1e-9)


@time_grid.has("begins with T − 1, ends with 0, in whole numbers", 1)
def _(answer, v, draw):
    for T, steps in ((1000, 2), (100, 10)):
        got = numbers(answer(T, steps), (steps,), "the list of steps")
        if got[0] != T - 1 or got[-1] != 0 or not close(got, got.round(), 1e-12):
            raise Mistake(f"For T = {T} it begins with {T - 1} and ends with 0, whole numbers all; this goes from "
                          f"{got[0]:g} to {got[-1]:g}.")  # fmt: skip


def step_mistakes(v: Conventions, x: Tensor, eps: Tensor, a: float, b: float, eta: float, z: Tensor):
    x_0, s = denoised(x, eps, a), sigma(a, b, eta)
    free = (x - math.sqrt(1 - a) * eps) / math.sqrt(a)
    direction = (x - math.sqrt(a) * x_0) / math.sqrt(1 - a) if v.anew else eps
    rest = math.sqrt(1 - b - s**2)
    other = replace(v, anew=not v.anew)
    return [
        (stepped(other, x, eps, a, b, eta, z), "After clamping, the noise is computed anew from x_0." if v.anew
         else "After clamping, the noise stays the network's in this variant."),
        (math.sqrt(b) * free + rest * eps + s * z, "x_0 is not clamped to [−1, 1]."),
        (math.sqrt(b) * x_0 + math.sqrt(1 - b) * direction + s * z, "−σ² is missing under the second root, so the new "
                                                                    "noise comes on top."),
        (math.sqrt(b) * x_0 + rest * direction, "The new noise σ·z is missing."),
        (math.sqrt(b) * x_0 + rest * direction + s**2 * z, "z has the factor σ, not σ²."),
        (math.sqrt(b) * x_0 + rest * direction + z, "z has the factor σ."),
        (b * x_0 + (1 - b) * direction + s * z, "ᾱ enters under a root."),
        (math.sqrt(a) * x_0 + rest * direction + s * z, "x_0 gets the root of ᾱ of the step that is left; it is that "
                                                       "of the next one, u."),
        (stepped(v, x, eps, a, b, 0.0, z), "σ is 0; it is eta times the two roots."),
        (stepped(v, x, eps, a, b, 1.0, z), "σ has no factor eta."),
    ]  # fmt: skip


def _point(draw, eta: float) -> tuple:
    """x_t, eps, ᾱ_t, ᾱ_u, eta, z; some entries of x_0 beyond 1."""
    a, b = sorted((0.15 + 0.7 * draw.uniform(2)).tolist())
    b = min(0.97, max(b, a + 0.1))
    return 1.5 * draw.normal(2, 12), draw.normal(2, 12), a, b, eta, draw.normal(2, 12)


@ddim_step.has("is right without new noise, eta = 0", 2)
def _(answer, v, draw):
    for _ in range(2):
        point = _point(draw, 0.0)
        agree(answer(*point), stepped(v, *point), step_mistakes(v, *point), "the new x")


@ddim_step.has("is right with new noise", 2)
def _(answer, v, draw):
    for eta in (1.0, 0.3 + 0.5 * draw.uniform().item()):
        point = _point(draw, eta)
        agree(answer(*point), stepped(v, *point), step_mistakes(v, *point), f"the new x (eta {eta:.2f})")


class Network:
    """In the place of a trained network: knows nothing, answers always, and remembers when it was asked."""

    def __init__(self, draw, n: int):
        self.matrix, self.times = draw.normal(n, n) / math.sqrt(n), []

    def __call__(self, x, t) -> Tensor:
        x = numbers(x, what="the images that the model is given")
        if x.ndim != 2 or x.shape[1] != len(self.matrix):
            raise Mistake(f"The model is given images of shape {tuple(x.shape)}; keep that of x_T.")
        t = numbers(t, what="the time that the model is given").flatten()
        self.times.append(int(t[0]))
        return torch.sin(x @ self.matrix + t[0] / 10)


def _abar(T: int) -> Tensor:
    return torch.cos((torch.arange(T, dtype=torch.float64) + 1) / (T + 1) * math.pi / 2) ** 2 * 0.999


def _samples(answer, v, draw, eta: float) -> None:
    T, steps = _sizes(v, draw, (60, 120), (4, 7))
    model, x, seed, abar = Network(draw, 5), draw.normal(2, 5), draw.whole(0, 2**40), _abar(T)

    def generator():
        return torch.Generator().manual_seed(seed)

    out = answer(model, abar, x, steps, eta, generator())
    if out is None:
        raise Unanswered("The function returns nothing; is a return missing?")
    asked, want = model.times, visited(v, T, steps)
    if asked == want[:-1]:
        raise Mistake("The model is not asked at the last step, 0; the sample is not the x there, but the x_0 that the "
                      "network predicts from it.")  # fmt: skip
    if asked != want:
        raise Mistake(f"The model is asked at the steps {str(asked)[:60]}; {want} are wanted, once each.")
    right = sampled(v, model, abar, x, steps, eta, generator())
    last_x = _before_last(v, model, abar, x, steps, eta, generator())
    other = replace(v, anew=not v.anew)
    agree(out, right, what="the samples", usual=[
        (last_x, "This is x at the last step; the sample is the x_0 that the network predicts there."),
        (sampled(v, model, abar, x, steps, 0.0, generator()), "eta has no effect."),
        (sampled(other, model, abar, x, steps, eta, generator()), "After clamping, the other noise is used."),
        (sampled(v, model, abar, x, steps, eta, torch.Generator().manual_seed(0)), "The noise is not drawn from the "
                                                                                  "generator that is handed in."),
    ])  # fmt: skip


def _before_last(v, model, abar, x, steps, eta, generator) -> Tensor:
    """The x at the last step."""
    times = visited(v, len(abar), steps)
    for t, u in zip(times, times[1:], strict=False):
        z = torch.randn(x.shape, generator=generator, dtype=x.dtype)
        x = stepped(v, x, model(x, t), float(abar[t]), float(abar[u]), eta, z)
    return x


@ddim_sample.has("is right without new noise, eta = 0", 2)
def _(answer, v, draw):
    for _ in range(2):
        _samples(answer, v, draw, 0.0)


@ddim_sample.has("is right with new noise from the generator", 1)
def _(answer, v, draw):
    for eta in (1.0, 0.5):
        _samples(answer, v, draw, eta)


@ddim_sample.has("gives the same image from the same x_T", 1)
def _(answer, v, draw):
    model, x, abar = Network(draw, 5), draw.normal(3, 5), _abar(50)
    both = [numbers(answer(model, abar, x, 4, 0.0, draw.generator()), (3, 5), "the samples") for _ in range(2)]
    if not close(*both):
        raise Mistake("With eta = 0 the generator decides nothing: the image is a function of x_T alone.")
    if (both[0].abs() > 1 + 1e-9).any():
        raise Mistake("A sample is a clamped x_0; this one leaves [−1, 1].")


LAB = Lab(
    "06", "Training and sampling", conventions=conventions, text=text,
    tasks=(ema_decay, ema_update, train_steps, time_grid, ddim_step, ddim_sample),
    forbidden=("qdm_lib.training.EMA", "qdm_lib.diffusion.ddim_sample", "qdm_lib.diffusion.ddpm_sample"),
)  # fmt: skip
