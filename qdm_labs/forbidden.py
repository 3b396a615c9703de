"""A hand-in may read the library, but the library must not do in the student's place what the hand-in is for."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterable, Sequence
from types import ModuleType
from typing import Any

from qdm_labs.task import Mistake


def sentence(name: str) -> str:
    """What the student reads."""
    return f"{name} does what this lab asks you to write, so it earns nothing here; write it yourself."


def find(name: str) -> tuple[Any, str, Any]:
    """(owner, last part, object) of a dotted name such as qdm_lib.diffusion.NoiseSchedule.q_sample."""
    parts = name.split(".")
    for n in range(len(parts), 0, -1):
        try:
            thing: Any = importlib.import_module(".".join(parts[:n]))
        except ModuleNotFoundError:
            continue
        owner = None
        for part in parts[n:]:
            owner, thing = thing, getattr(thing, part)
        return owner, parts[-1], thing
    raise ValueError(f"There is nothing called {name}.")


def _each(names: Iterable[str]) -> list[str]:
    """The names, with a module of the library taken apart into the functions and classes that it defines."""
    single = []
    for name in names:
        thing = find(name)[2] if "." in name else None  # a whole package need not even be installed
        inside = vars(thing).items() if isinstance(thing, ModuleType) else ()
        own = [f"{name}.{key}" for key, value in inside if callable(value) and value.__module__ == name]
        single += own or [name]
    return single


def seal(names: Sequence[str]) -> None:
    """Put a function that raises `Mistake` in the place of each name, wherever the library keeps it.

    names: functions, classes, methods and modules of the library, and whole packages such as pennylane.
    For the marker's process of one hand-in, which ends with it; there is no way back.
    """
    for name in _each(names):
        if "." not in name:  # a whole package
            sys.modules[name] = _sealed_module(name)
            continue
        owner, last, thing = find(name)
        refuse = _refuse(name)
        setattr(owner, last, refuse)
        for key, module in list(sys.modules.items()):
            if key.split(".")[0] == "qdm_lib" and module is not None:
                for attribute, value in list(vars(module).items()):
                    if value is thing:
                        setattr(module, attribute, refuse)


def _refuse(name: str) -> Callable:
    def refuse(*args, **options):
        raise Mistake(sentence(name))

    return refuse


def _sealed_module(name: str) -> ModuleType:
    module = ModuleType(name)
    module.__path__ = []
    module.__getattr__ = lambda attribute: _refuse(name)() if not attribute.startswith("__") else _missing(attribute)
    return module


def _missing(attribute: str) -> None:
    raise AttributeError(attribute)


def named(function: Callable, names: Iterable[str], seen: set | None = None) -> str | None:
    """The first forbidden name that a function of the notebook, or one that it calls, refers to; None if there is none.

    A look, not a proof: it is for the notebook, to say early what the marker will say.
    """
    names = _each(names)
    packages = {name: sys.modules.get(name) for name in names if "." not in name}
    things = {id(package): name for name, package in packages.items() if package is not None}
    things |= {id(find(name)[2]): name for name in names if "." in name}
    return _named(function, things, set() if seen is None else seen)


def _named(function: Any, things: dict[int, str], seen: set) -> str | None:
    if id(function) in things:
        return things[id(function)]
    code, scope = getattr(function, "__code__", None), getattr(function, "__globals__", {})
    if code is None or code in seen or scope.get("__name__", "__main__").split(".")[0] in ("qdm_lib", "qdm_labs"):
        return None
    seen.add(code)
    for word in code.co_names:
        thing = scope.get(word)
        if isinstance(thing, ModuleType) and id(thing) not in things:
            inside = [vars(thing)[w] for w in code.co_names if w in vars(thing)]
        else:
            inside = [thing]
        for candidate in inside:
            if (found := _named(candidate, things, seen)) is not None:
                return found
    return None
