"""Lab 01: the forward process, the posterior, one step of two samplers, the P2 loss, and a denoiser trained on numbers.

Right answers come from `qdm_lib.diffusion.NoiseSchedule`. Variants change what the network predicts, how steps are
counted, the variance of a DDPM step, η of DDIM, and k and γ of the P2 weight.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from qdm_labs.compare import agree, numbers, pair
from qdm_labs.task import Lab, Mistake, Task
from qdm_labs.variant import Variant
from qdm_lib.diffusion import NoiseSchedule, cosine_betas

PREDICTS = {
    "the noise ε": r"\varepsilon",
    "the clean image x_0": r"x_0",
    "the velocity v": r"v = \sqrt{\bar\alpha_t}\,\varepsilon - \sqrt{1-\bar\alpha_t}\,x_0",
}


@dataclass(frozen=True)
class Conventions:
    """The choices of one variant."""

    first: int  # the number of the first noisy step: 0, or 1 with abar[0] = 1 for the clean image
    predicts: str  # a key of PREDICTS
    small_variance: bool  # of a DDPM step: the posterior's; else β
    eta: float
    k: float
    gamma: float


def conventions(variant: Variant) -> Conventions:
    """Draw them."""
    k, gamma = variant.choice("weight", [(1.0, 0.5), (2.0, 1.0), (1.0, 2.0), (0.5, 1.0)])
    return Conventions(
        variant.choice("count", [0, 1]), variant.choice("predicts", list(PREDICTS)),
        variant.choice("variance", [True, False]), variant.choice("eta", [0.3, 0.5, 0.8]), k, gamma,
    )  # fmt: skip


def text(v: Conventions) -> dict[str, str]:
    """The words of the variant."""
    counted = ("from 0: `abar[t]` is ᾱ after t + 1 small steps, and before step 0 there is the clean image, with ᾱ = 1",
               "from 1: `abar[0]` is 1, the clean image, and `abar[t]` is ᾱ after t small steps")[v.first]  # fmt: skip
    return {"first": str(v.first), "counted": counted, "predicts": v.predicts, "formula": PREDICTS[v.predicts],
            "variance": "the posterior variance β̃_t" if v.small_variance else "β_t", "eta": f"{v.eta:g}",
            "k": f"{v.k:g}", "gamma": f"{v.gamma:g}"}  # fmt: skip


# ------------------------------------------------------------------- right answers, from the library


@dataclass
class World:
    """A schedule and its table in the variant's count."""

    v: Conventions
    schedule: NoiseSchedule

    @property
    def abar(self) -> Tensor:
        head = torch.ones(self.v.first, dtype=torch.float64)
        return torch.cat([head, self.schedule.alphas_cumprod])

    @property
    def last(self) -> int:
        return len(self.abar) - 1

    def at(self, t: Tensor | int, x: Tensor) -> Tensor:
        """Steps as the library counts them, one for each image."""
        return (torch.as_tensor(t) - self.v.first).expand(len(x)).clone()

    def clean(self, x_t: Tensor, t: Tensor | int, out: Tensor, clamp: bool = True) -> Tensor:
        """The x_0 that the network's output implies."""
        a = self.schedule.alphas_cumprod[self.at(t, x_t)].view(-1, *[1] * (x_t.ndim - 1))
        if "noise" in self.v.predicts:
            out = self.schedule.predict_x0(x_t, self.at(t, x_t), out)
        elif "velocity" in self.v.predicts:
            out = a.sqrt() * x_t - (1 - a).sqrt() * out
        return out.clamp(-1, 1) if clamp else out

    def target(self, x_0: Tensor, t: Tensor, eps: Tensor) -> Tensor:
        """What the network should say."""
        a = self.schedule.alphas_cumprod[self.at(t, x_0)].view(-1, *[1] * (x_0.ndim - 1))
        v = a.sqrt() * eps - (1 - a).sqrt() * x_0
        return eps if "noise" in self.v.predicts else v if "velocity" in self.v.predicts else x_0

    def q(self, x_0: Tensor, t: Tensor | int, eps: Tensor) -> Tensor:
        return self.schedule.q_sample(x_0, self.at(t, x_0), eps)

    def posterior(self, x_0: Tensor, x_t: Tensor, t: int) -> tuple[Tensor, Tensor]:
        mean, variance = self.schedule.q_posterior(x_0, x_t, self.at(t, x_0))
        return mean, variance.flatten()[0]

    def ddpm(self, model, x_t: Tensor, t: int, z: Tensor, clamp: bool = True) -> Tensor:
        x_0 = self.clean(x_t, t, model(x_t, torch.full((len(x_t),), t)), clamp)
        mean, variance = self.posterior(x_0, x_t, t)
        variance = variance if self.v.small_variance else self.schedule.betas[t - self.v.first]
        return mean + variance.sqrt() * z if t > self.v.first else mean

    def ddim(
        self, model, x_t: Tensor, t: int, u: int, z: Tensor, eta: float | None = None, full: bool = False
    ) -> Tensor:
        x_0 = self.clean(x_t, t, model(x_t, torch.full((len(x_t),), t)))
        a, b = self.abar[t], self.abar[u]
        sigma = (self.v.eta if eta is None else eta) * ((1 - b) / (1 - a) * (1 - a / b)).sqrt()
        eps = self.schedule.predict_eps(x_t, self.at(t, x_t), x_0)
        return b.sqrt() * x_0 + (1 - b - (0 if full else sigma**2)).sqrt() * eps + sigma * z

    def loss(
        self, model, x_0: Tensor, t: Tensor, eps: Tensor, k: float | None = None, gamma: float | None = None
    ) -> Tensor:
        k, gamma = (self.v.k if k is None else k), (self.v.gamma if gamma is None else gamma)
        error = (self.target(x_0, t, eps) - model(self.q(x_0, t, eps), t)).square().flatten(1).mean(1)
        return (self.schedule.p2_weight(self.at(t, x_0), k, gamma) * error).mean()


def world(v: Conventions, draw, T: int | None = None) -> World:
    """A fresh schedule, as long as drawn."""
    return World(v, NoiseSchedule(cosine_betas(T or draw.whole(20, 60), draw.choice([0.008, 0.02, 0.05]))))


class Guess:
    """A noise predictor that is none, but smooth: what a check hands to the student's samplers."""

    def __init__(self, draw):
        self.a, self.b, self.c = draw.normal(3).tolist()

    def __call__(self, x_t, t):
        x_t, t = numbers(x_t, what="the model's x_t"), numbers(t, what="the model's t")
        return self.a * x_t + self.b * torch.sin(t + self.c).reshape(-1, *[1] * (x_t.ndim - 1)) + self.c


# ------------------------------------------------------------------------------------------- tasks

q_sample = Task("q_sample", "The forward process", "jump to any step in closed form", 15)
posterior = Task("posterior", "The posterior", "say where x_{t−1} is, if x_0 and x_t are known", 20)
clean_image = Task("clean_image", "From the network's answer to x_0", "translate between ε, x_0 and v", 15)
ddpm_step = Task("ddpm_step", "A DDPM step", "write ancestral sampling", 20)
ddim_step = Task("ddim_step", "A DDIM step", "write a sampler that skips steps", 20)
p2_loss = Task("p2_loss", "The P2 loss", "write the training loss of the recipe", 15)
train_denoiser = Task("train_denoiser", "A denoiser for numbers", "train a network to predict noise", 35, seconds=60)


def forward_mistakes(w: World, x_0: Tensor, t: Tensor, eps: Tensor):
    a = w.abar[t].view(-1, *[1] * (x_0.ndim - 1))
    other = World(replace(w.v, first=1 - w.v.first), w.schedule)
    inside = all(0 <= k <= w.schedule.T - 1 for k in (t - other.v.first).tolist())
    return [
        (a * x_0 + (1 - a) * eps, "The square roots are missing: √ᾱ and √(1 − ᾱ)."),
        (a.sqrt() * x_0 + (1 - a) * eps, "The variance of the noise is 1 − ᾱ: is a square root missing?"),
        (a * x_0 + (1 - a).sqrt() * eps, "The image is scaled by √ᾱ: is a square root missing?"),
        ((1 - a).sqrt() * x_0 + a.sqrt() * eps, "Image and noise have exchanged their factors."),
        (a.sqrt() * x_0 + (1 - a.sqrt()) * eps, "The factor of the noise is √(1 − ᾱ), not 1 − √ᾱ."),
        *([(other.q(x_0, t, eps), f"The steps are off by one: here they count from {w.v.first}.")] if inside else []),
    ]  # fmt: skip


@q_sample.has("is right for numbers, one step each", 1)
def _(answer, v, draw):
    w = world(v, draw)
    x_0, eps = draw.normal(6, 1), draw.normal(6, 1)
    t = torch.tensor([draw.whole(2, w.last - 2) for _ in range(6)])
    agree(answer(x_0, t, eps, w.abar), w.q(x_0, t, eps), forward_mistakes(w, x_0, t, eps), "x_t")


@q_sample.has("is right for images, at the first and the last step, too", 1)
def _(answer, v, draw):
    w = world(v, draw)
    x_0, eps, t = draw.normal(2, 1, 4, 4), draw.normal(2, 1, 4, 4), torch.tensor([v.first, w.last])
    agree(answer(x_0, t, eps, w.abar), w.q(x_0, t, eps), forward_mistakes(w, x_0, t, eps)[:5], "x_t")


def _posterior(answer, v, draw, t=None):
    w = world(v, draw)
    t = draw.whole(3, w.last - 2) if t is None else t
    x_0, x_t = draw.normal(5, 1), draw.normal(5, 1)
    said = pair(answer(x_0, x_t, t, w.abar), "the mean and the variance")
    return w, x_0, x_t, t, said


@posterior.has("has the right mean", 1)
def _(answer, v, draw):
    w, x_0, x_t, t, (mean, _) = _posterior(answer, v, draw)
    b, k = w.schedule.betas, t - v.first
    before, a = w.schedule.alphas_cumprod_prev[k], w.schedule.alphas_cumprod[k]
    agree(mean, w.posterior(x_0, x_t, t)[0], what="the mean", usual=[
        (w.posterior(x_t, x_0, t)[0], "x_0 and x_t have exchanged their factors."),
        (before.sqrt() * b[k] / (1 - a) * x_0 + (1 - b[k]) * (1 - before) / (1 - a) * x_t,
         "The factor of x_t holds √α_t: is a square root missing?"),
        (a.sqrt() * b[k] / (1 - a) * x_0 + (1 - b[k]).sqrt() * (1 - before) / (1 - a) * x_t,
         "The factor of x_0 holds √ᾱ of the step before."),
        (before.sqrt() * b[k] / (1 - a) * x_0 + (1 - b[k]).sqrt() * x_t, "(1 − ᾱ_{t−1})/(1 − ᾱ_t) of x_t is missing."),
        (w.posterior(x_0, x_t, t - 1)[0], f"The steps are off by one: here they count from {v.first}."),
        (w.posterior(x_0, x_t, t + 1)[0], f"The steps are off by one: here they count from {v.first}."),
    ])  # fmt: skip


@posterior.has("has the right variance", 1)
def _(answer, v, draw):
    w, x_0, x_t, t, (_, variance) = _posterior(answer, v, draw)
    right, k = w.posterior(x_0, x_t, t)[1], t - v.first
    got = numbers(variance, what="the variance").flatten()
    agree(got[0], right, what="the variance", tolerance=1e-6, usual=[
        (right.sqrt(), "This is the standard deviation; the variance is wanted."),
        (w.schedule.betas[k], "This is β_t; the posterior's variance is smaller, by (1 − ᾱ_{t−1})/(1 − ᾱ_t)."),
        (right / w.schedule.betas[k], "β_t is missing."),
        (1 - w.abar[t], "This is 1 − ᾱ_t, the variance of x_t, if x_0 is known."),
    ])  # fmt: skip


@posterior.has("ends at x_0 itself, with variance 0", 1)
def _(answer, v, draw):
    w, x_0, _, _, (mean, variance) = _posterior(answer, v, draw, v.first)
    agree(mean, x_0, what="the mean at the first step", usual=[
        (x_0 * w.abar[v.first].sqrt(), "Before the first step ᾱ is 1: the clean image itself.")])  # fmt: skip
    agree(numbers(variance).flatten()[0], torch.tensor(0.0), what="the variance at the first step", tolerance=1e-6)


@clean_image.has("is right where nothing has to be clamped", 1)
def _(answer, v, draw):
    w, t = world(v, draw), None
    x_0, eps = draw.uniform(5, 1) * 1.6 - 0.8, draw.normal(5, 1)
    t = draw.whole(3, w.last // 2)
    steps = torch.full((5,), t)
    x_t, out = w.q(x_0, steps, eps), w.target(x_0, steps, eps)
    others = [World(replace(v, predicts=p), w.schedule) for p in PREDICTS if p != v.predicts]
    agree(answer(x_t, t, out, w.abar), x_0, what="x_0", usual=[
        *[(o.clean(x_t, t, out), f"This takes the answer for {o.v.predicts}; in this variant the network "
          f"predicts {v.predicts}.") for o in others],
        (x_0 * w.abar[t].sqrt(), "The division by √ᾱ is missing."),
        (eps, "This is the noise; the clean image is wanted."),
    ])  # fmt: skip


@clean_image.has("stays within −1 … 1", 1)
def _(answer, v, draw):
    w = world(v, draw)
    x_t, out, t = 3 * draw.normal(8, 1), 3 * draw.normal(8, 1), draw.whole(3, w.last - 1)
    free = w.clean(x_t, t, out, clamp=False)
    agree(answer(x_t, t, out, w.abar), free.clamp(-1, 1), what="x_0", usual=[
        (free, "It leaves the range −1 … 1 of images; clamp it."),
        (free.clamp(0, 1), "It is clamped to 0 … 1; images lie in −1 … 1."),
    ])  # fmt: skip


@ddpm_step.has("is right in the middle of the way", 2)
def _(answer, v, draw):
    for _ in range(4):
        w, model = world(v, draw), Guess(draw)
        x_t, z, t = 3 * draw.normal(5, 1), draw.normal(5, 1), draw.whole(3, w.last - 3)
        other = World(replace(v, small_variance=not v.small_variance), w.schedule)
        mean = w.ddpm(model, x_t, t, 0 * z)
        deviation = (w.ddpm(model, x_t, t, torch.ones_like(z)) - mean).flatten()[0].abs()
        agree(answer(model, x_t, t, w.abar, z), w.ddpm(model, x_t, t, z), what="x_{t−1}", usual=[
            (mean, "The noise z is not added."),
            (mean + deviation**2 * z, "z is multiplied by the variance; the standard deviation is its square root."),
            (mean + z, "z is added as it is; it is to be scaled by the standard deviation."),
            (other.ddpm(model, x_t, t, z), f"The variance is another one; in this variant it is "
             f"{text(v)['variance']}."),
            (w.ddpm(model, x_t, t, z, clamp=False), "x_0 is not clamped to −1 … 1."),
        ])  # fmt: skip


@ddpm_step.has("adds no noise in the last step", 1)
def _(answer, v, draw):
    w, model = world(v, draw), Guess(draw)
    x_t, z = draw.normal(5, 1), draw.normal(5, 1)
    right, k = w.ddpm(model, x_t, v.first, z), w.schedule.betas[0].sqrt()
    agree(answer(model, x_t, v.first, w.abar, z), right, what="x_0", tolerance=1e-6, usual=[
        (right + k * z, "The last step, to the image, adds noise; it must not.")])  # fmt: skip


@ddim_step.has("is right from any step to any earlier one", 2)
def _(answer, v, draw):
    w, model = world(v, draw), Guess(draw)
    x_t, z = draw.normal(5, 1), draw.normal(5, 1)
    for _ in range(3):
        u, t = sorted(draw.some(range(2, w.last - 2), 2))
        x_0 = w.clean(x_t, t, model(x_t, torch.full((5,), t)))
        right, still = w.ddim(model, x_t, t, u, z), w.ddim(model, x_t, t, u, 0 * z)
        b = w.abar[u]
        agree(answer(model, x_t, t, u, w.abar, z), right, what="x_u", usual=[
            (w.ddim(model, x_t, t, u, z, eta=0.0), f"This is η = 0, without noise; in this variant η = {v.eta:g}."),
            (w.ddim(model, x_t, t, u, z, eta=1.0), f"This is η = 1; in this variant η = {v.eta:g}."),
            (w.ddim(model, x_t, t, u, z, full=True), "σ² is not taken off under the root of the factor of ε."),
            (still, "The noise σ·z is missing."),
            (b.sqrt() * x_0 + (1 - b).sqrt() * z, "Fresh noise takes the place of the predicted one."),
        ])  # fmt: skip


@ddim_step.has("can go to the step before, as DDPM does", 1)
def _(answer, v, draw):
    w, model = world(v, draw), Guess(draw)
    x_t, z, t = draw.normal(4, 1, 2, 2), draw.normal(4, 1, 2, 2), draw.whole(4, w.last - 2)
    agree(answer(model, x_t, t, t - 1, w.abar, z), w.ddim(model, x_t, t, t - 1, z), what="x_u")


@p2_loss.has("is right for numbers", 1)
def _(answer, v, draw):
    _loss(answer, v, draw, (6, 1))


@p2_loss.has("is right for images", 1)
def _(answer, v, draw):
    _loss(answer, v, draw, (4, 1, 3, 3))


def _loss(answer, v, draw, shape):
    w, model = world(v, draw), Guess(draw)
    x_0, eps = draw.normal(*shape), draw.normal(*shape)
    t = torch.tensor([draw.whole(v.first, w.last - 1) for _ in range(shape[0])])
    right = w.loss(model, x_0, t, eps)
    others = [World(replace(v, predicts=p), w.schedule) for p in PREDICTS if p != v.predicts]
    agree(answer(model, x_0, t, eps, w.abar), right, what="the loss", usual=[
        (w.loss(model, x_0, t, eps, gamma=0.0), "The P2 weight is missing."),
        (w.loss(model, x_0, t, eps, 1.0, 1.0), f"This is the weight for k = γ = 1; in this variant k = {v.k:g}, "
         f"γ = {v.gamma:g}."),
        (w.loss(model, x_0, t, eps, gamma=-v.gamma), "The weight is turned over: large snr, small weight."),
        (right * x_0.numel(), "This is the sum over images and pixels; the mean is wanted."),
        (right * shape[0], "This is the sum over the images; the mean is wanted."),
        *[(o.loss(model, x_0, t, eps), f"The target is {o.v.predicts}; in this variant the network predicts "
          f"{v.predicts}.") for o in others],
    ])  # fmt: skip


class Mixture:
    """n numbers of three narrow peaks, (n, 1): the data of the last task."""

    def __init__(self, draw):
        self.means = torch.tensor([-0.75, 0.05, 0.65]) + 0.1 * (draw.uniform(3).float() - 0.5)
        self.source = draw.generator()

    def __call__(self, n):
        n = min(int(n), 100_000)
        k = torch.multinomial(torch.tensor([0.4, 0.25, 0.35]), n, replacement=True, generator=self.source)
        return (self.means[k] + 0.05 * torch.randn(n, generator=self.source)).view(n, 1)


def best_line(w: World, x_0: Tensor, t: int, eps: Tensor) -> float:
    """The mean squared error of the best straight line from x_t to the target: what a network has to beat."""
    steps = torch.full((len(x_0),), t)
    x, y = w.q(x_0, steps, eps), w.target(x_0, steps, eps)
    columns = torch.cat([x, torch.ones_like(x)], 1)
    return (y - columns @ torch.linalg.lstsq(columns, y).solution).square().mean().item()


def _trained(answer, v, draw):
    w, data = world(v, draw, T=50), Mixture(draw)
    model = answer(data, w.abar)
    if not callable(model):
        raise Mistake(f"A model is wanted, to be called as model(x_t, t); this is {type(model).__name__}.")
    return w, data, lambda x, t: numbers(model(x.float(), t), x.shape, "the model's answer")


@train_denoiser.has("does better than any straight line", 2)
def _(answer, v, draw):
    w, data, model = _trained(answer, v, draw)
    x_0 = data(2000).double()
    eps = draw.normal(2000, 1)
    # At little noise the peaks begin to merge: a line is bad and a network is not. At much noise a line is nearly best,
    # and a network that learned another target is far off.
    for share, bar in ((0.1, 0.9), (0.2, 0.9), (0.8, 1.3)):
        t = int(share * w.last)
        steps = torch.full((2000,), t)
        error = (w.target(x_0, steps, eps) - model(w.q(x_0, steps, eps), steps)).square().mean().item()
        if (found := error / best_line(w, x_0, t, eps)) > bar:
            raise Mistake(
                f"At t = {t} of {w.last} its error is {found:.2f} times that of the best straight line; {bar} is asked "
                f"for. Is the target {v.predicts}? Does the network see t (or log snr)?"
            )


@train_denoiser.has("draws numbers like the data", 2)
def _(answer, v, draw):
    w, data, model = _trained(answer, v, draw)
    x = draw.normal(1000, 1)
    for t in range(w.last, v.first - 1, -1):
        x = w.ddpm(model, x, t, draw.normal(1000, 1))
    far = (x.flatten().sort().values - data(1000).double().flatten().sort().values).abs().mean().item()
    if far > 0.2:
        raise Mistake(f"Numbers drawn with it are {far:.2f} away from the data (mean distance of the sorted "
                      "numbers); at most 0.2 is asked for.")  # fmt: skip


_METHODS = ("q_sample", "q_posterior", "predict_x0", "predict_eps", "p2_weight")
LAB = Lab(
    "01", "Diffusion models", conventions=conventions, text=text,
    tasks=(q_sample, posterior, clean_image, ddpm_step, ddim_step, p2_loss, train_denoiser),
    forbidden=(*(f"qdm_lib.diffusion.NoiseSchedule.{m}" for m in _METHODS), "qdm_lib.diffusion.ddpm_sample",
               "qdm_lib.diffusion.ddim_sample", "qdm_lib.training.p2_loss"),
)  # fmt: skip
