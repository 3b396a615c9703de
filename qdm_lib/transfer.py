"""Weights carried from one model to another: the transfer learning of arXiv:2402.16147."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn


@dataclass(frozen=True)
class TransferReport:
    """What `transfer_weights` did, by the names of tensors in the state dicts; `str()` tells it in words.

    copied; excluded: left alone, as asked; missing: the source has no such tensor; mismatched: it has another
    shape there, as {name: (shape in the source, shape in the destination)}; unused: tensors of the source for
    which the destination has no place. numbers_copied of numbers_total: single values of the destination.
    """

    copied: tuple[str, ...]
    excluded: tuple[str, ...]
    missing: tuple[str, ...]
    mismatched: dict[str, tuple[tuple[int, ...], tuple[int, ...]]]
    unused: tuple[str, ...]
    numbers_copied: int
    numbers_total: int

    def __str__(self) -> str:
        kept = (("excluded by name", self.excluded), ("not in the source", self.missing),
                ("of another shape in the source", tuple(self.mismatched)))  # fmt: skip
        numbers = f"{self.numbers_copied:,} of the destination's {self.numbers_total:,} numbers"
        lines = [f"Copied {len(self.copied)} tensors, {numbers}."]
        lines += [f"Kept as they were, {why}: {_some(names)}" for why, names in kept if names]
        if self.unused:
            lines.append(f"Without a place in the destination: {_some(self.unused)}")
        return "\n".join(lines)


def transfer_weights(
    src: nn.Module, dst: nn.Module, exclude: str | tuple[str, ...] | None = "vertex"
) -> TransferReport:
    """Copy into dst every weight and buffer of src with the same name and shape, and report on all of them.

    exclude: beginning, or beginnings, of names to leave alone; None excludes nothing. With the default a
    trained classical U-Net hands everything but its vertex to a hybrid one (arXiv:2402.16147). Copy
    averaged weights by calling this inside `with ema.applied_to(src):`.

    ValueError, nothing changed, where there is nothing to copy.
    """
    there, here = unwrap(src).state_dict(), unwrap(dst).state_dict()
    prefixes = (exclude,) if isinstance(exclude, str) else tuple(exclude or ())
    if "" in prefixes:
        raise ValueError("exclude must not be empty text: every name begins with it. None excludes nothing.")
    excluded = tuple(k for k in here if k.startswith(prefixes))
    rest = [k for k in here if not k.startswith(prefixes)]
    fits = tuple(k for k in rest if k in there and there[k].shape == here[k].shape)
    if not fits:
        raise ValueError("Outside the excluded names, no weight of the two models agrees in name and shape.")
    with torch.no_grad():
        for name in fits:
            here[name].copy_(there[name])  # a state dict's tensors are the module's own
    return TransferReport(
        copied=fits,
        excluded=excluded,
        missing=tuple(k for k in rest if k not in there),
        mismatched={k: (tuple(there[k].shape), tuple(here[k].shape)) for k in rest if k in there and k not in fits},
        unused=tuple(k for k in there if k not in here and not k.startswith(prefixes)),
        numbers_copied=sum(here[k].numel() for k in fits),
        numbers_total=sum(v.numel() for v in here.values()),
    )


def _some(names: tuple[str, ...], at_most: int = 4) -> str:
    more = f" and {len(names) - at_most} more" if len(names) > at_most else ""
    return f"{len(names)} ({', '.join(names[:at_most])}{more})"


def unwrap(model: nn.Module) -> nn.Module:
    """The user's own module inside torch.compile's or DistributedDataParallel's wrapper."""
    model = getattr(model, "_orig_mod", model)
    return model.module if isinstance(model, nn.parallel.DistributedDataParallel) else model
