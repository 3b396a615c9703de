"""Is this the right answer, in whatever form it comes, and if not, which mistake is it?"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from qdm_labs.task import Differs, Mistake, Unanswered

Usual = Iterable[tuple[Any, str]]  # (what comes out by a usual mistake, or a function that gives it; the sentence)


def numbers(value: Any, shape: Sequence[int] | None = None, what: str = "the result") -> Tensor:
    """The value as a float64 or complex128 tensor: tensors, NumPy arrays, lists and numbers alike.

    `shape` accepts axes of length 1 more or less (a 0-d tensor, a list of one number). Raises `Mistake` otherwise.
    """
    if value is None:
        raise Unanswered("The function returns nothing; is a return missing?")
    if isinstance(value, list | tuple) and any(isinstance(v, Tensor | list | tuple) for v in value):
        parts = [numbers(v, what=what) for v in value]
        if len({tuple(p.shape) for p in parts}) > 1:
            raise Mistake(
                f"The entries of {what} have different shapes, {', '.join(str(tuple(p.shape)) for p in parts)}."
            )
        complex_one = any(p.is_complex() for p in parts)
        value = torch.stack([p.to(torch.complex128) if complex_one else p for p in parts])
    try:
        found = torch.as_tensor(value).detach().cpu().resolve_conj()
    except (TypeError, ValueError, RuntimeError):
        raise Mistake(f"For {what} numbers are wanted, not {type(value).__name__}: {str(value)[:60]!r}.") from None
    found = found.to(torch.complex128 if found.is_complex() else torch.float64)
    if shape is not None and tuple(found.shape) != tuple(shape):
        if [n for n in found.shape if n != 1] != [n for n in shape if n != 1]:
            raise Mistake(f"{what[0].upper()}{what[1:]} has shape {tuple(found.shape)} where {tuple(shape)} is wanted.")
        found = found.reshape(tuple(shape))
    if not torch.isfinite(torch.view_as_real(found) if found.is_complex() else found).all():
        raise Mistake(f"There are entries in {what} that are infinite or no numbers (NaN).")
    return found


def pair(value: Any, what: str) -> tuple[Any, Any]:
    """Two things, from a tuple, a list or a tensor of two; `Mistake` says what was wanted."""
    if value is None:
        raise Unanswered("The function returns nothing; is a return missing?")
    if not isinstance(value, tuple | list | Tensor) or isinstance(value, Tensor) and value.ndim == 0 or len(value) != 2:
        raise Mistake(f"Two values are wanted, {what}; this is one {type(value).__name__}.")
    return value[0], value[1]


def close(a: Tensor, b: Any, tolerance: float = 1e-4) -> bool:
    """Equal up to single precision, relative to the largest entry of b."""
    b = torch.as_tensor(b)
    if a.shape != b.shape:
        return False
    a, b = a.to(torch.complex128), b.detach().to(torch.complex128)
    scale = max(1.0, b.abs().max().item()) if b.numel() else 1.0
    return bool(((a - b).abs() <= tolerance * scale).all())


def agree(value: Any, want: Tensor, usual: Usual = (), what: str = "the result", tolerance: float = 1e-4) -> Tensor:
    """Raise `Mistake` unless the value is `want`: with the sentence of the usual mistake that gives it, if one does.

    Else `Differs`, with the entry that is farthest off.
    """
    want = torch.as_tensor(want).detach()
    got = numbers(value, want.shape, what)
    if close(got, want, tolerance):
        return got
    for wrong, sentence in usual:
        if close(got, wrong() if isinstance(wrong, Callable) else wrong, tolerance):
            raise Mistake(sentence)
    far = (got.to(torch.complex128) - want.to(torch.complex128)).abs()
    place = tuple(int(i) for i in (far == far.max()).nonzero()[0]) if want.ndim else ()
    where = f"entry {place if len(place) > 1 else place[0]} of {what}" if want.numel() > 1 else what
    raise Differs(f"On a random example {where} is {_text(got[place])} where {_text(want[place])} is right.")


def _text(number: Tensor) -> str:
    number = number.item()
    if isinstance(number, complex):
        return f"{number.real:.4g}{number.imag:+.4g}i"
    return f"{number:.5g}"
