"""What goes between the marker and the process that holds a hand-in.

To the student's side everything may go (pickle: that side trusts the marker), functions as call-backs. From there come
only plain values: JSON with numbers as bytes, never pickle, so that nothing of a hand-in runs in the marker's process.
"""

from __future__ import annotations

import base64
import io
import json
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from qdm_labs.task import Mistake
from qdm_lib.circuits import Circuit, Gate

DTYPES = {"float32", "float64", "complex64", "complex128", "int8", "int16", "int32", "int64", "uint8", "bool"}
LARGEST = 2**26  # bytes of one message


class _Pickler(pickle.Pickler):
    """Functions of the marker travel as numbers, generators as their state."""

    def __init__(self, file: io.BytesIO, callbacks: list[Callable]):
        super().__init__(file)
        self.callbacks = callbacks

    def persistent_id(self, thing: Any) -> tuple | None:
        if isinstance(thing, torch.Generator):
            return ("generator", thing.get_state())
        ours = getattr(thing, "__module__", None) or ""
        if ours.startswith("qdm_labs") and callable(thing) and not isinstance(thing, type):
            self.callbacks.append(thing)
            return ("callback", len(self.callbacks) - 1)
        return None


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: io.BytesIO, callback: Callable[[int], Callable]):
        super().__init__(file)
        self.callback = callback

    def persistent_load(self, pid: tuple) -> Any:
        kind, what = pid
        if kind == "callback":
            return self.callback(what)
        generator = torch.Generator()
        generator.set_state(what)
        return generator


def to_student(value: Any, callbacks: list[Callable]) -> bytes:
    """Pickle for the student's side; functions are appended to `callbacks` and called by number."""
    file = io.BytesIO()
    _Pickler(file, callbacks).dump(value)
    return file.getvalue()


def at_student(data: bytes, callback: Callable[[int], Callable]) -> Any:
    """The other end of `to_student`: callback(n) makes what stands for the n-th function."""
    return _Unpickler(io.BytesIO(data), callback).load()


def plain(value: Any, keep: Callable[[Callable], int]) -> Any:
    """A result as what JSON can say; keep(function) remembers a function of the student's and returns its number."""
    if isinstance(value, Tensor):
        return plain(value.detach().cpu().resolve_conj().resolve_neg().numpy(), keep)
    if isinstance(value, np.generic):
        value = np.asarray(value)
    if isinstance(value, np.ndarray):
        if value.dtype.name not in DTYPES:
            return {"other": f"array of {value.dtype}"}
        data = base64.b64encode(np.ascontiguousarray(value).tobytes()).decode()
        return {"array": value.dtype.name, "shape": list(value.shape), "data": data}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, complex):
        return {"complex": [value.real, value.imag]}
    if isinstance(value, dict):
        return {"dict": [[plain(k, keep), plain(v, keep)] for k, v in value.items()]}
    for kind, name in ((tuple, "tuple"), (list, "list"), (set, "set"), (frozenset, "set")):
        if isinstance(value, kind):
            return {name: [plain(v, keep) for v in value]}
    if isinstance(value, Circuit):
        gates = [[g.name, list(g.wires), g.param, g.scale, g.offset, g.block] for g in value.gates]
        return {"circuit": [gates, value.n_wires, value.n_inputs, value.n_weights, value.name]}
    if callable(value):
        return {"function": keep(value)}
    return {"other": type(value).__name__}


def from_student(value: Any, function: Callable[[int], Callable]) -> Any:
    """The other end of `plain`: function(n) makes something to call for a function of the student's.

    Raises Mistake for a circuit that is none, ValueError or KeyError or TypeError for what `plain` never sends.
    """
    if not isinstance(value, dict):
        return value
    ((kind, body),) = [item for item in value.items() if item[0] not in ("shape", "data")]
    if kind == "array":
        if body not in DTYPES:
            raise ValueError(f"No array of {body}.")
        array = np.frombuffer(base64.b64decode(value["data"]), dtype=body).reshape(value["shape"])
        return torch.from_numpy(array.copy())
    if kind in ("tuple", "list", "set"):
        parts = [from_student(v, function) for v in body]
        return {"tuple": tuple, "list": list, "set": set}[kind](parts)
    if kind == "dict":
        return {from_student(k, function): from_student(v, function) for k, v in body}
    if kind == "circuit":
        return _circuit(body)
    if kind == "function":
        return function(int(body))
    return complex(*body) if kind == "complex" else Other(body)


def _circuit(body: list) -> Circuit:
    gates, *sizes, name = body
    try:
        made = [Gate(g[0], tuple(g[1]), tuple(g[2]) if g[2] else None, *g[3:]) for g in gates]
        return Circuit(tuple(made), *sizes, str(name), allow_dead_weights=True)
    except ValueError as error:
        raise Mistake(f"This is no circuit: {error}") from None


class Other:
    """Something that cannot travel; the name of its type."""

    def __init__(self, name: Any):
        self.name = str(name)

    def __repr__(self) -> str:
        return self.name


def as_json(message: dict) -> bytes:
    """One message of the student's side."""
    return json.dumps(message).encode()
