"""Checks that many modules share: whole numbers, names from a list, paths as they are typed."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path


def whole(what: str, value: int, least: int = 1, most: int | None = None) -> int:
    """`value` as an int (NumPy's whole numbers too), if it lies in least … most; else ValueError.

    True and False do not count: ``layers=True`` is a slip, not one layer.
    """
    number = None if isinstance(value, bool) else _as_index(value)
    if number is None or number < least or (most is not None and number > most):
        span = f"at least {least}" if most is None else f"{least:,} … {most:,}"
        raise ValueError(f"{what} must be a whole number, {span}; got {value!r}.")
    return number


def is_whole(value: object) -> bool:
    """Whether this is a whole number of Python or NumPy; True and False are not."""
    return not isinstance(value, bool) and _as_index(value) is not None


def _as_index(value: object) -> int | None:
    try:
        return value.__index__()
    except (AttributeError, TypeError):  # a tensor of floats has an __index__, too, that refuses
        return None


def choice(what: str, value: str, known: Iterable[str]) -> str:
    """`value`, if it is one of `known`; else ValueError with the nearest known name and the list."""
    known = list(known)
    if value in known:
        return value
    near = difflib.get_close_matches(str(value).lower(), known, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise ValueError(f"Unknown {what} {value!r}.{hint} Known are {', '.join(known)}.")


def typed_path(text: str | Path) -> Path:
    """The path that was typed; typer's error for an empty one, which would mean the current folder by accident."""
    if not str(text).strip():
        from typer import BadParameter  # here: the core needs no command line

        raise BadParameter("it is empty; for the current folder write a dot.")
    return Path(text)
