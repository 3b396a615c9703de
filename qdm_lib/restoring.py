"""A checkpoint in memory, and back into living objects: everything is compared before anything is changed."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from qdm_lib.diffusion import NoiseSchedule
from qdm_lib.transfer import unwrap

FREE_OPTIONS = ("foreach", "fused", "capturable", "differentiable", "initial_lr")  # how an optimiser computes, not what


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint read into memory (on the CPU); `restore` puts it back into living objects.

    step: optimiser steps finished. run_config: what the caller saved (preset, seeds, data set …). model_config: the
    fields of `UNetConfig`, or None for another kind of model. schedule: None where the file does not say. model, ema:
    state dicts. optimizer: its tensors by "<index of weight>.<name>". rng: generator states.
    """

    folder: Path
    step: int
    run_config: dict
    model_config: dict | None
    schedule: NoiseSchedule | None
    versions: dict[str, str]
    optimizer_name: str | None
    param_groups: list[dict] | None
    model: dict[str, Tensor] = field(repr=False)
    ema: dict[str, Tensor] = field(repr=False)
    optimizer: dict[str, Tensor] = field(repr=False)
    rng: dict[str, Tensor] = field(repr=False)


def restore(
    checkpoint: Checkpoint, *, model: nn.Module | None = None, ema=None,
    optimizer: torch.optim.Optimizer | None = None, generators: Mapping[str, torch.Generator] | None = None,
    schedule: NoiseSchedule | None = None,
) -> None:  # fmt: skip
    """Put a checkpoint back into a model, its `EMA`, its optimiser and random generators, each if given.

    All of it must fit: everything is checked before anything is changed. ValueError naming the settings or the first
    few tensors that differ. The learning rate and Adam's betas become the saved ones. schedule: the one to go on with,
    only compared.
    """
    where, generators = f"The checkpoint in {checkpoint.folder}", dict(generators or {})
    if model is not None:
        model = unwrap(model)
        check_config(where, checkpoint.model_config, getattr(model, "config", None))
        check_fit(where, checkpoint.model, "the model", model.state_dict())
    if ema is not None:
        check_fit(where, checkpoint.ema, "the averaged weights", ema.state_dict())
    if optimizer is not None:
        optimizer_state = _optimizer_state(where, checkpoint, optimizer)
    if None not in (schedule, checkpoint.schedule) and not torch.equal(schedule.betas, checkpoint.schedule.betas):
        raise ValueError(f"{where} was trained with {checkpoint.schedule}, not with {schedule}.")
    for name, generator in generators.items():
        saved = checkpoint.rng.get(name)
        if saved is None or saved.shape != generator.get_state().shape:
            known = ", ".join(checkpoint.rng) or "none"
            raise ValueError(f"{where} holds no state for the generator {name!r} on a {generator.device.type} device "
                             f"(it holds: {known}).")  # fmt: skip

    if model is not None:
        model.load_state_dict(checkpoint.model)
    if ema is not None:
        ema.load_state_dict(checkpoint.ema)
    if optimizer is not None:
        optimizer.load_state_dict(optimizer_state)
    for name, generator in generators.items():
        generator.set_state(checkpoint.rng[name])


def _optimizer_state(where: str, checkpoint: Checkpoint, optimizer) -> dict:
    """The saved state as `optimizer.load_state_dict` takes it, after a comparison with this optimiser."""
    if checkpoint.param_groups is None:
        raise ValueError(f"{where} was saved without an optimiser.")
    groups = [g | ({"betas": tuple(g["betas"])} if "betas" in g else {}) for g in checkpoint.param_groups]
    here, saved = ([len(g["params"]) for g in part] for part in (optimizer.param_groups, groups))
    if here != saved:
        raise ValueError(f"{where} has an optimiser for {saved} weights (by group); this one has {here}.")
    name = type(optimizer).__name__
    if checkpoint.optimizer_name not in (None, name):  # None: version 1 did not tell
        raise ValueError(f"{where} was saved with the optimiser {checkpoint.optimizer_name}; this one is {name}.")
    for a, b in zip(groups, optimizer.param_groups, strict=True):
        options = (a.keys() | b.keys()) - {"params", *FREE_OPTIONS}
        if wrong := sorted(key for key in options if _switch(a.get(key)) != _switch(b.get(key))):
            raise ValueError(f"{where} is of another kind of optimiser than this {name}: see {', '.join(wrong)}.")
    state: dict[int, dict[str, Tensor]] = {}
    shapes = [p.shape for g in optimizer.param_groups for p in g["params"]]
    for key, value in checkpoint.optimizer.items():
        index, _, entry = key.partition(".")
        if value.ndim and value.shape != shapes[int(index)]:
            raise ValueError(f"{where} does not fit this optimiser: {entry} of weight {index} has shape "
                             f"{tuple(value.shape)}, the weight {tuple(shapes[int(index)])}.")  # fmt: skip
        # A clone, or the optimiser would keep this tensor and training would write into the checkpoint.
        state.setdefault(int(index), {})[entry] = value.clone()
    return {"state": state, "param_groups": groups}


def _switch(value: object) -> bool | str:
    """On, off, or a number, which may change. What is off may be missing: an older torch did not know it.

    torch's load_state_dict takes the state of another kind of optimiser, and fails or becomes it at the next step.
    """
    return bool(value) if value is None or isinstance(value, bool) else "number"


def check_config(where: str, saved: dict | None, config) -> None:
    """Refuse a model of another architecture by its settings: clearer than by hundreds of tensor names."""
    if saved is None or not dataclasses.is_dataclass(config):
        return
    here, saved = dataclasses.asdict(config), dataclasses.asdict(type(config)()) | saved  # an older file tells less
    free = ("preset", "backend", "forms")  # a name, and choices of speed: none changes what the weights mean
    if differ := [k for k in saved if k not in free and saved[k] != here.get(k)]:
        text = "; ".join(f"{k} is {saved.get(k)!r} there and {here.get(k)!r} here" for k in sorted(differ))
        raise ValueError(f"{where} is of preset {saved.get('preset')!r} and does not fit this model of preset "
                         f"{here['preset']!r}: {text}.")  # fmt: skip


def check_fit(where: str, saved: Mapping[str, Tensor], what: str, here: Mapping[str, Tensor]) -> None:
    """ValueError unless both dictionaries hold the same names with the same shapes."""
    there, here = ({name: tuple(value.shape) for name, value in part.items()} for part in (saved, here))
    wrong = [f"{k} is missing there" for k in here if k not in there]
    wrong += [f"{k} is unknown here" for k in there if k not in here]
    wrong += [f"{k} has shape {there[k]} there and {here[k]} here" for k in here if there.get(k, here[k]) != here[k]]
    if wrong:
        more = f"; and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise ValueError(f"{where} does not fit {what}: {'; '.join(wrong[:3])}{more}.")
