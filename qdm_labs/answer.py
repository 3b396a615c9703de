"""Call what a student wrote, and turn whatever goes wrong into one sentence.

A check gets an `Answer`: call it like the function, or ask it for `gradient` or `changes`, which have to be found
beside the student's code. `LocalAnswer` does this in the notebook's process; the marker's answer does it in another
one.
"""

from __future__ import annotations

import linecache
import traceback
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from qdm_labs.task import Mistake, Unanswered


class LocalAnswer:
    """A function of this process."""

    def __init__(self, function: Callable):
        self.function = function

    def __call__(self, *args: Any) -> Any:
        """What the function returns; `Mistake` where it stops with an error."""
        out = perform(self.function, args)
        made = callable(out) and not isinstance(out, type)
        return LocalAnswer(out) if made else out  # a trained model, say: its errors are the student's, too

    def gradient(self, *args: Any, wrt: int, weights: Tensor) -> Tensor:
        """d sum(real(conj(weights) · result)) / d args[wrt]."""
        return perform(self.function, args, {"gradient": wrt, "weights": weights})

    def changes(self, *args: Any) -> bool:
        """Whether the function writes into one of its tensors."""
        return perform(self.function, args, {"changes": True})


def perform(function: Callable, args: tuple, ask: dict | None = None) -> Any:
    """Do what `LocalAnswer` promises, beside the student's function."""
    ask = ask or {}
    args = [a.clone() if isinstance(a, Tensor) else a for a in args]
    if "gradient" in ask:
        return _gradient(function, args, ask["gradient"], ask["weights"])
    before = [a.clone() if isinstance(a, Tensor) else None for a in args]
    out = _guarded(function, args)
    if "changes" in ask:
        if out is None:
            raise Unanswered("The function returns nothing; is a return missing?")
        return any(b is not None and not torch.equal(a, b) for a, b in zip(args, before, strict=True))
    return out


def _gradient(function: Callable, args: list, wrt: int, weights: Tensor) -> Tensor:
    leaf = args[wrt] = args[wrt].requires_grad_()
    with torch.enable_grad():
        out = _guarded(function, [a if k != wrt else leaf for k, a in enumerate(args)])
        if isinstance(out, list | tuple) and out and all(isinstance(o, Tensor) for o in out):
            out = torch.stack(list(out))
        if not isinstance(out, Tensor) or not out.requires_grad:
            raise Mistake(
                "Autograd finds no way from the result to the input: NumPy, .item(), .detach(), torch.tensor(…) of a "
                "tensor, or a result written into a new tensor that forgets where it came from."
            )
        value = (weights.to(out.dtype if out.is_complex() else weights.dtype).conj() * out.reshape(weights.shape)).sum()
        try:
            (found,) = torch.autograd.grad(value.real if value.is_complex() else value, leaf, allow_unused=True)
        except RuntimeError as error:
            raise Mistake(f"Autograd stops: {_first_line(error)}") from None
    return torch.zeros_like(leaf) if found is None else found


def _guarded(function: Callable, args: list) -> Any:
    try:
        return function(*args)
    except Mistake:
        raise
    except NotImplementedError:
        raise Unanswered("") from None
    except RecursionError:
        raise Mistake("The function calls itself without end (RecursionError).") from None
    except MemoryError:
        raise Mistake("The function wants more memory than there is (MemoryError).") from None
    except Exception as error:
        raise Mistake(f"Your code stops with {sentence(error)}") from None


def sentence(error: BaseException) -> str:
    """An error in one line with its place: the last line that stands in the student's own cells, if there is one."""
    frames = traceback.extract_tb(error.__traceback__)
    mine = [f for f in frames if f.filename.startswith(("<cell", "<ipython")) or "ipykernel" in f.filename]
    place = f" in line {mine[-1].lineno}" + _code(mine[-1].filename, mine[-1].lineno) if mine else ""
    if isinstance(error, SyntaxError):
        place = f" in line {error.lineno}"
        return f"{type(error).__name__}{place}: {error.msg}."
    return f"{type(error).__name__}{place}" + (f": {text}" if (text := _first_line(error)) else ".")


def _code(filename: str, number: int) -> str:
    line = linecache.getline(filename, number).strip()
    return f" (`{line[:80]}`)" if line else ""


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [""])[0][:200]
