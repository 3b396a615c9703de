"""Noise schedules, the forward process, and three samplers. Knows no network.

A diffusion model destroys an image x_0 with Gaussian noise in T small steps and learns to walk back.
Here "model" is any function `model(x_t, t) -> eps`: it sees the noisy images and their time steps and
returns its guess of the noise; a one-line lambda will do.

Symbols: `x_0` clean image, `x_t` noisy image, `eps` standard normal noise, `t` = 0 … T-1,
`betas` the noise variance added at each step, `alphas_cumprod` (written ᾱ_t) the share of the image's
variance that is left after step t, `snr` = ᾱ/(1-ᾱ).

Sources: Ho et al. 2020 (DDPM, arXiv:2006.11239), whose equation numbers are cited below; Nichol and Dhariwal 2021
(cosine schedule, arXiv:2102.09672); Song et al. 2021 (DDIM, arXiv:2010.02502); Lu et al. 2022 (DPM-Solver++,
arXiv:2211.01095); Choi et al. 2022 (P2 weight, arXiv:2204.00227). The quantum hybrid models of arXiv:2402.16147 use the
same process; its section 2 reviews it. Built by hand in notebook 01, sections 2 to 9.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from qdm_lib.checks import whole
from qdm_lib.machine import check_device

Model = Callable[[Tensor, Tensor], Tensor]


# ------------------------------------------------------------------------------------------ schedules


def cosine_betas(T: int = 1000, s: float = 0.008) -> Tensor:
    """Noise variances of the cosine schedule, (T,) float64; the schedule of the recipe.

    ᾱ(τ) = f(τ)/f(0) with f(τ) = cos²(π/2 · (τ+s)/(1+s)), τ = 0, 1/T, …, 1, and β_t = 1 - ᾱ_{t+1}/ᾱ_t, clipped at 0.999
    (Nichol and Dhariwal 2021, equation 17). The clip only acts at the last step, where ᾱ would be 0 and nothing of the
    image would be left. ValueError where T < 1 or s <= 0.
    """
    T = whole("T", T)
    if not 0 < s < math.inf:
        raise ValueError(f"The offset s of the cosine schedule must be positive and finite, not {s}.")
    tau = torch.linspace(0, 1, T + 1, dtype=torch.float64)
    f = torch.cos((tau + s) / (1 + s) * math.pi / 2) ** 2
    return (1 - f[1:] / f[:-1]).clamp(max=0.999)


def linear_betas(T: int = 1000, start: float = 1e-4, end: float = 0.02) -> Tensor:
    """Noise variances growing linearly from `start` to `end`, (T,) float64 (Ho et al. 2020, section 4).

    The ends do not scale with T: with the defaults a short schedule (T = 100, say) leaves much of the
    image in x_{T-1}, so that samplers starting from pure noise start from the wrong place.
    ValueError where T < 1 or an end lies outside (0, 1).
    """
    T = whole("T", T)
    if not (0 < start < 1 and 0 < end < 1):
        raise ValueError(f"start and end of the linear schedule must lie in (0, 1), not {start} and {end}.")
    return torch.linspace(start, end, T, dtype=torch.float64)


class NoiseSchedule:
    """The forward process q and everything that follows from its variances `betas`.

    betas: (T,) numbers in (0, 1), by default `cosine_betas()`. The tables are float64 on the CPU; each method rounds
    the entries it needs once to the dtype and device of the images it is given. `t` is always (B,) int64 in 0 … T-1.

    Attributes: `T`, and (T,) float64 tensors `betas`, `alphas` = 1-β, `alphas_cumprod` = ᾱ,
    `alphas_cumprod_prev` = ᾱ_{t-1} with ᾱ_{-1} = 1, `snr` = ᾱ/(1-ᾱ), `posterior_variance`.

    ValueError where the betas lie outside (0, 1), or are so small or so large that a division by zero would follow;
    of the methods, what `check_times` raises, ValueError for shapes that differ, TypeError for images of whole numbers.
    """

    def __init__(self, betas: Tensor | Sequence[float] | None = None):
        betas = cosine_betas() if betas is None else betas
        betas = torch.as_tensor(betas, dtype=torch.float64, device="cpu").detach().clone()
        if betas.ndim != 1 or len(betas) == 0:
            raise ValueError(f"betas must be a non-empty list of numbers, not of shape {tuple(betas.shape)}.")
        if not ((betas > 0) & (betas < 1)).all():  # also catches NaN
            span = f"from {betas.min():.6g} to {betas.max():.6g}"
            raise ValueError(f"Every beta must lie strictly between 0 and 1; these reach {span}.")
        self.T, self.betas = len(betas), betas
        self.alphas = 1 - betas
        self.alphas_cumprod = self.alphas.cumprod(0)
        if self.alphas_cumprod[0] == 1:
            raise ValueError(f"The first beta, {betas[0]:.3g}, is too small: 1 - beta rounds to 1; use a larger one.")
        if self.alphas_cumprod[-1] < 1e-30:
            few = f"{self.alphas_cumprod[-1]:.3g} of the image's variance is left, too little to divide by"
            raise ValueError(f"After {self.T} steps only {few}; use smaller betas or fewer steps.")
        self.alphas_cumprod_prev = torch.cat([torch.ones(1, dtype=torch.float64), self.alphas_cumprod[:-1]])
        self.snr = self.alphas_cumprod / (1 - self.alphas_cumprod)
        left = (1 - self.alphas_cumprod_prev) / (1 - self.alphas_cumprod)
        self.posterior_variance = betas * left
        self._tables: dict[Hashable, Tensor] = {
            "sqrt_abar": self.alphas_cumprod.sqrt(),
            "sqrt_one_minus_abar": (1 - self.alphas_cumprod).sqrt(),
            "posterior_x_0": self.alphas_cumprod_prev.sqrt() * betas / (1 - self.alphas_cumprod),
            "posterior_x_t": self.alphas.sqrt() * left,
            "posterior_variance": self.posterior_variance,
        }
        self._rounded: dict[tuple, Tensor] = {}  # tables by (name, device, dtype), copied there once

    def __repr__(self) -> str:
        first, last = self.alphas_cumprod[0], self.alphas_cumprod[-1]
        return f"NoiseSchedule(T={self.T}, alphas_cumprod {first:.6g} … {last:.3g})"

    def q_sample(self, x_0: Tensor, t: Tensor, eps: Tensor) -> Tensor:
        """Jump from the clean image to step t: x_t = √ᾱ_t x_0 + √(1-ᾱ_t) eps (Ho et al. 2020, equation 4).

        x_0 and eps (B, …), t (B,) → x_t (B, …). T small steps √(1-β) x + √β eps compose to this one jump.
        """
        self._check(x_0, t, eps=eps)
        return self._at("sqrt_abar", t, x_0) * x_0 + self._at("sqrt_one_minus_abar", t, x_0) * eps

    def q_posterior(self, x_0: Tensor, x_t: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """Mean (B, …) and variance (B, 1, …) of the Gaussian q(x_{t-1} | x_t, x_0), by Bayes' rule.

        mean = √ᾱ_{t-1} β_t/(1-ᾱ_t) x_0 + √α_t (1-ᾱ_{t-1})/(1-ᾱ_t) x_t,
        variance = β_t (1-ᾱ_{t-1})/(1-ᾱ_t) (Ho et al. 2020, equations 6 and 7).
        At t = 0 the image before is x_0 itself: mean x_0, variance 0.
        """
        self._check(x_0, t, x_t=x_t)
        mean = self._at("posterior_x_0", t, x_0) * x_0 + self._at("posterior_x_t", t, x_0) * x_t
        return mean, self._at("posterior_variance", t, x_0)

    def predict_x0(self, x_t: Tensor, t: Tensor, eps: Tensor) -> Tensor:
        """The clean image that x_t and its noise imply: x_0 = (x_t - √(1-ᾱ_t) eps)/√ᾱ_t.

        This is `q_sample` solved for x_0 (Ho et al. 2020, equation 15). Near t = T-1 it divides by almost nothing
        (√ᾱ is 5e-5 in the cosine schedule), so a small error of eps becomes a huge one of x_0. That is why samplers
        clamp x_0 to [-1, 1].
        """
        self._check(x_t, t, eps=eps)
        return (x_t - self._at("sqrt_one_minus_abar", t, x_t) * eps) / self._at("sqrt_abar", t, x_t)

    def predict_eps(self, x_t: Tensor, t: Tensor, x_0: Tensor) -> Tensor:
        """The noise that x_t and x_0 imply: eps = (x_t - √ᾱ_t x_0)/√(1-ᾱ_t); the inverse of `predict_x0`."""
        self._check(x_t, t, x_0=x_0)
        return (x_t - self._at("sqrt_abar", t, x_t) * x_0) / self._at("sqrt_one_minus_abar", t, x_t)

    def p2_weight(self, t: Tensor, k: float = 1.0, gamma: float = 1.0) -> Tensor:
        """Weight of the loss at step t: (k + snr_t)^-γ, (B,) float64, float32 off the CPU (Choi et al. 2022).

        It takes weight off the almost clean images, where guessing the noise teaches little about shapes.
        With k = γ = 1, as in the recipe, it is exactly 1-ᾱ_t; γ = 0 gives the plain loss.
        """
        check_times(t, self.T)
        if not 0 <= k < math.inf or not math.isfinite(gamma):
            raise ValueError(f"The P2 weight needs k >= 0 and a finite gamma, not k={k}, gamma={gamma}.")
        self._tables.setdefault(("p2", k, gamma), (k + self.snr) ** -gamma)  # on the CPU: not all devices have float64
        return self._table(("p2", k, gamma), t.device, torch.float64 if t.device.type == "cpu" else torch.float32)[t]

    def _table(self, name: Hashable, device: torch.device, dtype: torch.dtype) -> Tensor:
        key = (name, device, dtype)
        if key not in self._rounded:
            self._rounded[key] = self._tables[name].to(device, dtype)
        return self._rounded[key]

    def _at(self, name: str, t: Tensor, x: Tensor) -> Tensor:
        """Entries t of a table as (B, 1, …, 1), ready to multiply x (B, …)."""
        return self._table(name, x.device, x.dtype)[t].view(-1, *[1] * (x.ndim - 1))

    def _check(self, x: Tensor, t: Tensor, **others: Tensor) -> None:
        check_times(t, self.T)
        if not x.is_floating_point():
            raise TypeError(f"Images must be floating-point tensors in [-1, 1], not {x.dtype}.")
        if x.ndim == 0 or len(x) != len(t):
            raise ValueError(f"t must hold one step for each image: {len(t)} for images of shape {tuple(x.shape)}.")
        for name, other in others.items():  # equal shapes, or torch would broadcast one image over the batch
            if other.shape != x.shape:
                raise ValueError(f"{name} has shape {tuple(other.shape)} where {tuple(x.shape)} was wanted.")


# ------------------------------------------------------------------------------------------- samplers


class SampleState(NamedTuple):
    """One stop of a sampler on its way from noise to image.

    step counts from 0; t is the time step the model was asked about, x_t (B, …) the noisy images it saw there, x_0
    (B, …) the clean images its answer implies. The first x_t is the pure noise of the start; the last x_0, at t = 0,
    is the sample. Treat the tensors as read-only: the sampler goes on from them.
    """

    step: int
    t: int
    x_t: Tensor
    x_0: Tensor


def ddpm_sample(
    model: Model,
    schedule: NoiseSchedule,
    shape: Sequence[int],
    *,
    generator: torch.Generator | None = None,
    device: torch.device | str | None = None,
    clip: bool = True,
    x_T: Tensor | None = None,
) -> Iterator[SampleState]:
    """Ancestral sampling, T steps: draw x_{t-1} from q(x_{t-1} | x_t, x_0) with x_0 as the model predicts it.

    x_{t-1} = mean + √variance · z from `q_posterior`, z standard normal; no noise is added at t = 0, where
    x_0 is the sample (Ho et al. 2020, algorithm 2, with the posterior variance of equation 7).

    shape: of the batch, (B, 1, 28, 28) for the models here. generator: source of all noise; noise is drawn
    on its device and then moved, so a CPU generator gives the same start on every device. device: where to
    sample; by default where `x_T` or the model's weights are. clip: clamp every x_0 to [-1, 1].
    x_T: start noise of that shape instead of fresh noise, to compare samplers from the same start.

    Yields T `SampleState`s, t = T-1 … 0; `sample` drains them. Put a network in eval mode before.
    ValueError or TypeError for bad arguments at the call, before the first step.
    """

    def step(x_t: Tensor, x_0: Tensor, t: int, _u: int) -> Tensor:
        mean, variance = schedule.q_posterior(x_0, x_t, _times(t, x_t))
        return mean + variance.sqrt() * _noise(x_t, generator)

    x_T = _start(model, schedule, shape, generator, device, x_T)
    return _walk(model, schedule, x_T, range(schedule.T - 1, -1, -1), step, clip)


def ddim_sample(
    model: Model,
    schedule: NoiseSchedule,
    shape: Sequence[int],
    *,
    steps: int = 50,
    eta: float = 0.0,
    generator: torch.Generator | None = None,
    device: torch.device | str | None = None,
    clip: bool = True,
    x_T: Tensor | None = None,
) -> Iterator[SampleState]:
    """DDIM: visit only `steps` of the T time steps, evenly spaced from T-1 to 0.

    From step t to the next earlier one u, with eps the noise that x_t and x_0 imply,
        σ = η √((1-ᾱ_u)/(1-ᾱ_t)) √(1-ᾱ_t/ᾱ_u),    x_u = √ᾱ_u x_0 + √(1-ᾱ_u-σ²) eps + σ z
    (Song et al. 2021, equations 12 and 16). η = 0 is deterministic: the same start noise, the same image.
    η = 1 with steps = T is `ddpm_sample`.

    steps: 1 … T calls of the model. eta: 0 … 1. The rest is as in `ddpm_sample`.
    """
    if not 0 <= eta <= 1:
        raise ValueError(f"eta must lie in [0, 1] (0 is deterministic, 1 as random as DDPM), not {eta}.")

    def step(x_t: Tensor, x_0: Tensor, t: int, u: int) -> Tensor:
        a_t, a_u = abar[t], abar[u]
        sigma = eta * math.sqrt((1 - a_u) / (1 - a_t) * (1 - a_t / a_u))
        eps = schedule.predict_eps(x_t, _times(t, x_t), x_0)  # anew, since x_0 may have been clamped
        x_u = math.sqrt(a_u) * x_0 + math.sqrt(max(0.0, 1 - a_u - sigma**2)) * eps
        return x_u + sigma * _noise(x_t, generator) if sigma > 0 else x_u

    x_T = _start(model, schedule, shape, generator, device, x_T)
    abar = schedule.alphas_cumprod.tolist()  # plain floats: a GPU is not waited for
    return _walk(model, schedule, x_T, _time_grid(schedule.T, steps), step, clip)


def dpm_solver_sample(
    model: Model,
    schedule: NoiseSchedule,
    shape: Sequence[int],
    *,
    steps: int = 20,
    generator: torch.Generator | None = None,
    device: torch.device | str | None = None,
    clip: bool = True,
    x_T: Tensor | None = None,
) -> Iterator[SampleState]:
    """DPM-Solver++ (2M): the deterministic path of DDIM, followed with a second-order multistep method.

    With λ = log(√ᾱ/√(1-ᾱ)) as the clock, the step from s to t is, for h = λ_t - λ_s,
        x_t = √((1-ᾱ_t)/(1-ᾱ_s)) x_s + √ᾱ_t (1 - e^-h) D    (Lu et al. 2022, algorithm 2).
    D is the predicted x_0; with r = h_before/h, D = (1 + 1/2r) x_0 - 1/2r x_0_before extrapolates it to the
    middle of the step from the last two predictions. The first step has no past and the last, to t = 0,
    is long on this clock, so both use D = x_0, which makes them DDIM steps.

    steps: 1 … T calls of the model, at the same times as `ddim_sample`. `generator` draws the start only. The rest is
    as in `ddpm_sample`.
    """
    before: list[tuple[Tensor, float]] = []  # the last prediction, and the length of the step that followed it

    def step(x_s: Tensor, x_0: Tensor, s: int, t: int) -> Tensor:
        h, direction = lam[t] - lam[s], x_0
        if before and t > 0:
            x_0_before, h_before = before.pop()
            r = h_before / h
            direction = (1 + 0.5 / r) * x_0 - 0.5 / r * x_0_before
        before[:] = [(x_0, h)]
        shrink = math.sqrt((1 - abar[t]) / (1 - abar[s]))
        return shrink * x_s - math.sqrt(abar[t]) * math.expm1(-h) * direction

    x_T = _start(model, schedule, shape, generator, device, x_T)
    abar = schedule.alphas_cumprod.tolist()
    lam = [0.5 * math.log(a / (1 - a)) for a in abar]
    return _walk(model, schedule, x_T, _time_grid(schedule.T, steps), step, clip)


# Samplers by name, with the usual number of model calls; None: always T, and no argument `steps`. Add your own here.
SAMPLERS = {"ddpm": (ddpm_sample, None), "ddim": (ddim_sample, 50), "dpm": (dpm_solver_sample, 20)}


def _walk(
    model: Model, schedule: NoiseSchedule, x_t: Tensor, times: Sequence[int], step: Callable, clip: bool
) -> Iterator[SampleState]:
    """From noise to image along `times`; x_u = step(x_t, x_0, t, u) is all in which samplers differ."""
    for number, (t, u) in enumerate(zip(times, [*times[1:], None], strict=True)):
        x_0 = _denoise(model, schedule, x_t, t, clip)
        yield SampleState(number, t, x_t, x_0)
        if u is not None:
            x_t = step(x_t, x_0, t, u)


def sample(states: Iterable[SampleState]) -> Tensor:
    """Run a sampler to its end and return the last x_0: `sample(ddim_sample(model, schedule, shape))`.

    ValueError where the sampler yields nothing, because it was run to its end before.
    """
    last = deque(states, maxlen=1)
    if not last:
        raise ValueError("This sampler yields no states; it was used up already. Make a new one.")
    return last[0].x_0


@torch.no_grad()
def _denoise(model: Model, schedule: NoiseSchedule, x_t: Tensor, t: int, clip: bool) -> Tensor:
    """The x_0 that the model's answer to x_t implies, with no graph kept.

    no_grad stands here: a sampler that yields inside of it would switch gradients off in the caller's code, too.
    """
    times = _times(t, x_t)
    eps = model(x_t, times)
    if eps.shape != x_t.shape:
        raise ValueError(f"The model must keep shape {tuple(x_t.shape)}, but returned {tuple(eps.shape)}.")
    x_0 = schedule.predict_x0(x_t, times, eps)
    return x_0.clamp(-1, 1) if clip else x_0


def _times(t: int, x_t: Tensor) -> Tensor:
    return torch.full((len(x_t),), t, dtype=torch.int64, device=x_t.device)


def _noise(like: Tensor, generator: torch.Generator | None) -> Tensor:
    """Standard normal noise, drawn where the generator lives and moved to where the images are."""
    device = like.device if generator is None else generator.device
    return torch.randn(like.shape, generator=generator, device=device, dtype=like.dtype).to(like.device)


def _start(model, schedule, shape, generator, device, x_T) -> Tensor:
    """The pure noise a sampler starts from, (B, …) in the model's dtype, or `x_T`; bad ones are refused."""
    check_schedule(schedule)
    shape = tuple(whole("each number of shape", n) for n in shape)
    if not isinstance(generator, torch.Generator | None) or not isinstance(x_T, Tensor | None):
        got = f"{type(generator).__name__} and {type(x_T).__name__}"
        raise TypeError(f"generator must be a torch.Generator and x_T a tensor, or None; got {got}.")
    if x_T is not None and (tuple(x_T.shape) != shape or not x_T.is_floating_point()):
        raise ValueError(f"x_T must be float noise of shape {shape}, not {x_T.dtype} of {tuple(x_T.shape)}.")
    weights = model.parameters() if isinstance(model, torch.nn.Module) else iter(())
    like = x_T if x_T is not None else next(weights, torch.empty(0))
    device = like.device if device is None else check_device(device)
    if x_T is not None:
        return x_T.detach().to(device)
    return _noise(torch.empty(shape, device=device, dtype=like.dtype), generator)


def check_schedule(schedule: NoiseSchedule) -> None:
    """TypeError where this is anything else, such as the bare betas."""
    if not isinstance(schedule, NoiseSchedule):
        raise TypeError(f"schedule must be a NoiseSchedule, as NoiseSchedule(betas), not {type(schedule).__name__}.")


def _time_grid(T: int, steps: int) -> list[int]:
    """`steps` different time steps from T-1 down to 0, evenly spaced; one step is T-1 alone."""
    steps = whole("steps of a sampler, which can visit those of the schedule,", steps, 1, T)
    return torch.linspace(T - 1, 0, steps, dtype=torch.float64).round().long().tolist()


def check_times(t: Tensor, T: int) -> None:
    """TypeError or ValueError unless t is (B,) int64 and, where its values can be looked at, in 0 … T-1.

    On a GPU such a look would force a synchronisation at every step; inside torch.compile and vmap there is none.
    """
    if not isinstance(t, Tensor) or t.dtype != torch.int64:
        what = t.dtype if isinstance(t, Tensor) else type(t).__name__
        raise TypeError(f"t must be an int64 tensor of time steps, one for each image, not {what}.")
    if t.ndim != 1:
        raise ValueError(f"t must have shape (B,), one step for each image, not {tuple(t.shape)}.")
    if t.device.type == "cpu" and len(t) and not torch.compiler.is_compiling():
        try:
            low, high = t.min().item(), t.max().item()
        except RuntimeError:  # inside torch.func.vmap
            return
        if low < 0 or high >= T:
            raise ValueError(f"Time steps must lie in 0 … {T - 1}; these reach from {low} to {high}.")
