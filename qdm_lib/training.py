"""The training loop: one optimisation step, repeated, and a moving average of the weights.

`train` yields after every step, so a caller draws a progress bar, saves or stops with plain Python:

    for step in train(model, schedule, batches, optimizer, ema, generator=g, steps=500):
        bar.set_postfix(loss=step.loss)

It takes any `model(x_t, t)` and never looks inside. The numbers in `TrainConfig` are the recipe of the
quantum hybrid diffusion models (arXiv:2402.16147) and, where the paper is silent, of the released code.
Built by hand in notebook 06, section 1; the loss in notebook 01, section 6.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

import torch
from torch import Tensor, nn

from qdm_lib.checks import whole
from qdm_lib.diffusion import Model, NoiseSchedule, check_schedule
from qdm_lib.transfer import unwrap

UNUSUAL = 1.5  # further than augmentation leads; MNIST normalised to mean 0 and deviation 1 reaches 2.8
MOST = 10.0  # no image scaled to about [-1, 1] reaches this, grey levels up to 255 do


@dataclass(frozen=True)
class TrainConfig:
    """The recipe of one training run; ValueError where a field is out of its range.

    learning_rate, betas: of Adam. batch_size: images a step; `train` takes batches as they come, this number
    is for whoever makes them. p2_k, p2_gamma: the loss weight (k + snr)^-γ. ema_decay, ema_start, ema_every,
    ema_power: see `EMA`.
    """

    learning_rate: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.99)
    batch_size: int = 128
    p2_k: float = 1.0
    p2_gamma: float = 1.0
    ema_decay: float = 0.995
    ema_start: int = 100
    ema_every: int = 10
    ema_power: float = 2 / 3

    def __post_init__(self):
        if isinstance(self.betas, Iterable):
            object.__setattr__(self, "betas", tuple(self.betas))  # JSON gives a list back
        for name, fits, wanted in (
            ("betas", lambda betas: len(betas) == 2 and all(0 <= b < 1 for b in betas), "two numbers in [0, 1)"),
            ("learning_rate", lambda rate: 0 < rate < math.inf, "a positive finite number"),
            ("p2_k", lambda k: 0 <= k < math.inf, "a finite number of at least 0"),
            ("p2_gamma", math.isfinite, "a finite number"),
            ("ema_decay", lambda decay: 0 <= decay < 1, "a number in [0, 1)"),
            ("ema_power", lambda power: 0 < power < math.inf, "a positive finite number"),
        ):
            with suppress(TypeError):  # of what is no number
                if fits(getattr(self, name)):
                    continue
            raise ValueError(f"{name} must be {wanted}, not {getattr(self, name)!r}.")
        for name, least in (("batch_size", 1), ("ema_start", 0), ("ema_every", 1)):
            object.__setattr__(self, name, whole(name, getattr(self, name), least))


class EMA:
    """Exponential moving average of a model's weights; samples are drawn from it, not from the raw weights.

    Counting the optimiser steps from 0, after step s:
      s < 100:                 the average is a copy of the weights;
      later, s = 109, 119, …:  average ← d · average + (1-d) · weights,  d = min(0.995, 1 - (s-100)^(-2/3));
      at all other steps:      nothing.
    So the average is renewed whenever the number of finished steps, s+1, is a multiple of 10 (as the released
    code does), and its memory grows from a few tens of steps to about 10/0.005 = 2000. The numbers 100, 10, 0.995
    and 2/3 come from `config`; where others reach s <= 100 there, d = 0.

    Weights (`nn.Parameter`s of floating point) are averaged; buffers, such as counters and running statistics, are
    copied whenever the average is renewed. The wrappers of torch.compile and DistributedDataParallel are seen through.
    """

    def __init__(self, model: nn.Module, config: TrainConfig | None = None):
        self.config = config or TrainConfig()
        self.shadow: dict[str, Tensor] = {k: v.detach().clone() for k, v in _entries(model).items()}

    def decay_at(self, step: int) -> float:
        """The decay d after step `step`, counted from 0."""
        since = step - self.config.ema_start
        return 0.0 if since <= 0 else min(self.config.ema_decay, 1 - since**-self.config.ema_power)

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Take in the weights after optimiser step `step`, counted from 0. Call it after every step."""
        if step < self.config.ema_start:
            decay = 0.0
        elif (step + 1) % self.config.ema_every == 0:
            decay = self.decay_at(step)
        else:
            return
        for name, value in _entries(model).items():
            if isinstance(value, nn.Parameter) and value.is_floating_point() and decay > 0:
                self.shadow[name].lerp_(value, 1 - decay)
            else:
                self.shadow[name].copy_(value)

    def state_dict(self) -> dict[str, Tensor]:
        """The averaged weights by the names of the model's own state dict (the tensors themselves)."""
        return dict(self.shadow)

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Take averaged weights back; ValueError, changing nothing, where names or shapes differ."""
        self._check_same_model(state)
        for name, value in self.shadow.items():
            value.copy_(state[name])

    def copy_to(self, model: nn.Module) -> None:
        """Overwrite the model's weights with the averaged ones; ValueError, changing nothing, for another model."""
        self._check_same_model(_entries(model))
        unwrap(model).load_state_dict(self.shadow)

    @contextmanager
    def applied_to(self, model: nn.Module) -> Iterator[nn.Module]:
        """`with ema.applied_to(model): …` gives the model the averaged weights inside, its own back afterwards."""
        own = {k: v.detach().clone() for k, v in _entries(model).items()}
        try:
            self.copy_to(model)
            yield model
        finally:
            unwrap(model).load_state_dict(own)

    def _check_same_model(self, entries: Mapping[str, Tensor]) -> None:
        """ValueError unless these weights have the names and shapes of the averaged ones."""
        here, there = ({name: value.shape for name, value in e.items()} for e in (self.shadow, entries))
        if wrong := sorted(name for name in here.keys() | there.keys() if here.get(name) != there.get(name)):
            what = f"{len(wrong)} entries differ in name or shape, among them {', '.join(wrong[:3])}"
            raise ValueError(f"These averaged weights belong to another model: {what}.")


def p2_loss(
    model: Model,
    schedule: NoiseSchedule,
    x_0: Tensor,
    t: Tensor,
    eps: Tensor,
    k: float = 1.0,
    gamma: float = 1.0,
    *,
    autocast: torch.dtype | None = None,
) -> Tensor:
    """The weighted noise-prediction loss, a scalar: mean over the batch of (k + snr_t)^-γ · MSE of one image.

    x_0 clean images (B, …) in [-1, 1], t (B,) int64 in 0 … T-1, eps (B, …) standard normal. The model sees
    x_t = √ᾱ_t x_0 + √(1-ᾱ_t) eps and guesses eps; MSE is the mean over the pixels of one image of
    (eps - model(x_t, t))². γ = 0 is the simple loss of Ho et al. 2020, equation 14; k = γ = 1 weighs with
    1-ᾱ_t (Choi et al. 2022). autocast: run the model, and only it, in this lower precision.
    """
    x_t = schedule.q_sample(x_0, t, eps)
    with torch.autocast(x_t.device.type, dtype=autocast, enabled=autocast is not None):
        eps_hat = model(x_t, t)
    if eps_hat.shape != eps.shape:
        raise ValueError(f"The model must keep shape {tuple(eps.shape)}, but gave {tuple(eps_hat.shape)}.")
    mse = (eps_hat.to(eps.dtype) - eps).square().flatten(1).mean(1)
    return (schedule.p2_weight(t, k, gamma).to(mse.dtype) * mse).mean()


def make_optimizer(model: nn.Module, config: TrainConfig | None = None) -> torch.optim.Adam:
    """Adam, with the recipe's rate and betas, on every weight that is not frozen; ValueError where all are."""
    config = config or TrainConfig()
    weights = [p for p in model.parameters() if p.requires_grad]
    if not weights:
        raise ValueError("This model has no weights to train: none of its parameters requires a gradient.")
    return torch.optim.Adam(weights, lr=config.learning_rate, betas=config.betas, fused=True)  # one call for all


class TrainStep(NamedTuple):
    """What one optimiser step reports.

    step: how many steps are finished, this one included; give this number back as `start_step` to go on. loss: of
    this batch, before the update. grad_norm: the 2-norm of all gradients together.
    """

    step: int
    loss: float
    grad_norm: float


def train(
    model: nn.Module,
    schedule: NoiseSchedule,
    batches: Iterable[Tensor],
    optimizer: torch.optim.Optimizer,
    ema: EMA | None,
    *,
    generator: torch.Generator,
    start_step: int = 0,
    steps: int | None = None,
    config: TrainConfig | None = None,
    autocast: torch.dtype | None = None,
    processes=None,
) -> Iterator[TrainStep]:
    """Train, yielding a `TrainStep` after each optimiser step; leave the loop at any time with `break`.

    When it yields, weights, optimiser, average and generator all stand at the same step: that is the
    moment to save. batches: float images (B, …) in [-1, 1]. optimizer: of all weights that are to be trained (see
    `make_optimizer`). ema: of this model, or None. generator: draws t and eps; take one on the CPU, and one seed means
    the same noise on any device. start_step: steps finished in an earlier run. steps: how many to make now; None goes
    on as long as there are batches. config: the loss weight. autocast: torch.bfloat16 runs the model in lower
    precision. processes: a `runs.Processes`, where several processes share each batch.

    ValueError or TypeError for bad arguments at the call, and for a batch that holds no such images; ValueError where
    the batches end before `steps` steps; FloatingPointError where the loss or a gradient is no longer a finite number,
    before the optimiser touches the weights.
    """
    check_schedule(schedule)
    _check_optimizer(model, optimizer)
    if ema is not None:
        ema._check_same_model(_entries(model))
    start_step = whole("start_step", start_step, 0)
    steps = None if steps is None else whole("steps", steps)
    if not isinstance(generator, torch.Generator):
        raise TypeError(f"generator must be a torch.Generator, not {type(generator).__name__}.")
    if autocast not in (None, torch.bfloat16):  # float16 would need its loss scaled against underflow
        raise ValueError(f"autocast must be None or torch.bfloat16, not {autocast}.")
    config, device = config or TrainConfig(), next(model.parameters()).device

    def one_step(x_0: Tensor, step: int) -> TrainStep:
        t = torch.randint(0, schedule.T, (len(x_0),), generator=generator, device=generator.device)
        eps = torch.randn(x_0.shape, generator=generator, device=generator.device, dtype=x_0.dtype)
        if processes is not None:
            x_0, t, eps = processes.share(x_0, t, eps)
        x_0, t, eps = x_0.to(device), t.to(device), eps.to(device)
        model.train()  # a caller may have drawn samples in eval mode since the last step
        optimizer.zero_grad(set_to_none=True)
        loss = p2_loss(model, schedule, x_0, t, eps, config.p2_k, config.p2_gamma, autocast=autocast)
        loss.backward()
        norm = nn.utils.get_total_norm([p.grad for p in model.parameters() if p.grad is not None])
        both = torch.stack([loss.detach(), norm.to(loss)])
        if processes is not None:
            both = processes.mean(both)  # the gradients, and their norm, are averaged already
        loss, norm = both.tolist()  # the device is waited for once, not twice
        if not (math.isfinite(loss) and math.isfinite(norm)):
            raise FloatingPointError(
                f"The loss is {loss} and the gradient norm {norm} in step {step + 1}; training stopped with "
                f"the weights of step {step}. Go on from the last checkpoint with a learning rate below "
                f"{optimizer.param_groups[0]['lr']:g}, and check that the images are finite and in [-1, 1]."
            )
        optimizer.step()
        if ema is not None:
            ema.update(model, step)
        return TrainStep(step + 1, loss, norm)

    def all_steps() -> Iterator[TrainStep]:
        step = start_step
        for x_0 in islice(batches, steps):
            _check_batch(x_0)
            yield one_step(x_0, step)
            step += 1
        if steps is not None and step < start_step + steps:
            raise ValueError(f"The batches ended after step {step}; {start_step + steps} were wanted.")

    return all_steps()


def _check_batch(x_0: Tensor) -> None:
    """TypeError or ValueError unless this is a batch of float images (B, …), about in [-1, 1].

    Only values that can be no such images are refused: grey levels up to 255, or a batch without one pixel below 0; a
    warning where they pass UNUSUAL. NaN passes: it is the loop's FloatingPointError. On a GPU such a look would force a
    synchronisation.
    """
    if not isinstance(x_0, Tensor):
        hint = "if the loader also gives labels, pass (images for images, _ in loader)"
        raise TypeError(f"A batch must be a tensor of images, not {type(x_0).__name__}; {hint}.")
    if not x_0.is_floating_point():
        raise TypeError(f"A batch must hold floating-point images in [-1, 1], not {x_0.dtype}; see `to_model_range`.")
    if x_0.ndim < 2 or x_0.numel() == 0:
        raise ValueError(f"A batch must have shape (B, …) and hold something, not {tuple(x_0.shape)}.")
    if x_0.device.type == "cpu":
        low, high = x_0.min(), x_0.max()
        if max(-low, high) > MOST or low >= 0:  # [0, 1], as torchvision's ToTensor gives, would train in silence
            span = f"from {low:.4g} to {high:.4g}"
            raise ValueError(f"Images must lie in [-1, 1]; these reach {span}. See `to_model_range`.")
        if max(-low, high) > UNUSUAL:  # one text, whatever the values: said once
            seen = f"some pass ±{UNUSUAL}, as after a normalisation to mean 0"
            drawn = "what is drawn lies in [-1, 1], whatever was trained on"
            warnings.warn(f"Images should lie in [-1, 1], but {seen}; {drawn}. See `to_model_range`.", stacklevel=2)


def _check_optimizer(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """ValueError unless the optimizer holds every weight of the model that is to be trained."""
    held = {id(p) for group in optimizer.param_groups for p in group["params"]}
    missing = [name for name, p in model.named_parameters() if p.requires_grad and id(p) not in held]
    if missing:
        what = f"{len(missing)} weights of the model that are to be trained, among them {', '.join(missing[:3])}"
        advice = "make it with make_optimizer(model), or freeze them by requires_grad_(False)"
        raise ValueError(f"This optimizer does not hold {what}; {advice}.")


def _entries(model: nn.Module) -> dict[str, Tensor]:
    return unwrap(model).state_dict(keep_vars=True)  # keep_vars leaves parameters recognisable as such
