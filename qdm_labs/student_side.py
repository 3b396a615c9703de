"""The process that holds one hand-in: runs its cells under limits, then answers the marker's calls.

It is forked from a server that has loaded torch and this file, and nothing of the marker's. `qdm_labs` itself is not
there for the hand-in: its notebook's `check` does nothing here, and the checks run in the marker's process.
"""

from __future__ import annotations

import linecache
import os
import signal
import sys
import types
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

import matplotlib.pyplot as plt
import torch
from IPython.core.inputtransformer2 import TransformerManager

import qdm_lib.engine
import qdm_lib.quantum  # noqa: F401
from qdm_labs import forbidden
from qdm_labs.answer import perform, sentence
from qdm_labs.confine import Limits, confine
from qdm_labs.task import Mistake, Unanswered
from qdm_labs.wire import LARGEST, as_json, at_student, plain

plt.switch_backend("Agg")  # loaded here, once for all hand-ins, with its fonts


class TimeLimit(BaseException):
    """A cell or a call took too long; no `except Exception` catches it."""


def serve(marker: Connection, job: dict) -> None:
    """The whole life of the process. job: cells, skip, forbidden, hidden, limits, folder."""
    _quiet()
    limits: Limits = job["limits"]
    held = confine(limits, job["hidden"], job["folder"])
    torch.set_num_threads(1)
    if job["forbidden"]:  # a lab that forbids nothing is a test of the marker's own
        forbidden.seal(job["forbidden"])
        _without_labs()
    signal.signal(signal.SIGALRM, _alarm)
    side = _Side(marker, limits)
    side.send({"held": held})
    side.run_cells(job["cells"], job["skip"])
    side.send({"ready": sorted(k for k, v in side.scope.items() if callable(v) and not k.startswith("_"))})
    while True:
        side.answer(marker.recv_bytes())


class _Side:
    def __init__(self, marker: Connection, limits: Limits):
        self.marker, self.limits = marker, limits
        self.scope: dict[str, Any] = {"__name__": "__main__", "get_ipython": lambda: _Shell(), "display": _nothing}
        self.kept: list[Callable] = []

    def send(self, message: dict) -> None:
        self.marker.send_bytes(as_json(message))

    def run_cells(self, cells: list[str], skip: set[int]) -> None:
        for k, source in enumerate(cells):
            if k in skip:
                continue
            self.send({"cell": k})
            said = _timed(self.limits.cell_s, lambda k=k, source=source: self.run_cell(k, source))
            self.send({"cell": k, "error": said})

    def run_cell(self, k: int, source: str) -> None:
        name = f"<cell {k + 1}>"
        source = TransformerManager().transform_cell(source)
        linecache.cache[name] = len(source), None, source.splitlines(keepends=True), name
        exec(compile(source, name, "exec"), self.scope)

    def answer(self, data: bytes) -> None:
        """One call: find the function, call it under the clock, send what came out."""
        name, args, ask, seconds = at_student(data, self.callback)
        function = self.kept[name] if isinstance(name, int) else self.scope.get(name)
        message: dict = {}

        def call() -> None:
            message["value"] = plain(perform(function, tuple(args), ask), self.keep)

        said = _timed(seconds, call)
        if not said and len(as_json(message)) >= LARGEST:
            said = {"mistake": "The result is too large."}
        self.send(said or message)

    def keep(self, function: Callable) -> int:
        self.kept.append(function)
        return len(self.kept) - 1

    def callback(self, number: int) -> Callable:
        """What stands here for a function of the marker's."""

        def ask(*args):
            with torch.no_grad():
                self.send({"callback": number, "args": [plain(a, self.keep) for a in args]})
                reply = at_student(self.marker.recv_bytes(), self.callback)
            if isinstance(reply, str):
                raise ValueError(reply)
            return reply

        return ask


def _timed(seconds: float, do: Callable[[], None]) -> dict | None:
    """None, or what went wrong as a message: unanswered, a mistake, a sentence."""
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        do()
    except TimeLimit:
        return {"late": f"It was still running after {seconds:g} s and was stopped."}
    except Unanswered as unanswered:
        return {"unanswered": str(unanswered)}
    except Mistake as mistake:
        return {"mistake": str(mistake)}
    except BaseException as error:  # SystemExit and KeyboardInterrupt of a hand-in, too
        return {"mistake": f"Your code stops with {sentence(error)}"}
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    return None


def _alarm(number: int, frame: Any) -> None:
    raise TimeLimit


def _quiet() -> None:
    """What a hand-in prints goes nowhere: it counts for nothing, and a flood of it fills no disk."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nowhere, descriptor)
    sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: SIM115


def _nothing(*args: Any, **options: Any) -> None:
    """In the place of check, display and the like."""


class _Shell:
    """IPython's magics, which do nothing here."""

    def __getattr__(self, name: str) -> Callable:
        return _nothing


def _without_labs() -> None:
    """`qdm_labs` as the hand-in sees it: a lab whose check does nothing."""
    for name in [n for n in sys.modules if n.split(".")[0] == "qdm_labs"]:
        del sys.modules[name]
    empty = types.ModuleType("qdm_labs")
    empty.open_lab = lambda *args: _Shell()
    sys.modules["qdm_labs"] = empty
