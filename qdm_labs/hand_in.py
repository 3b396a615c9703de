"""One hand-in, seen from the marker's side: its process is started, asked, and started again where it hangs or dies."""

from __future__ import annotations

import difflib
import json
import multiprocessing
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterable
from typing import Any

from torch import Tensor

from qdm_labs.confine import Limits
from qdm_labs.student_side import serve
from qdm_labs.task import Mistake, Task, Unanswered
from qdm_labs.wire import LARGEST, from_student, to_student

GRACE = 3  # seconds beyond a limit after which the process is killed from outside
START = 60  # seconds until a process says its first word; the first one loads torch


def server() -> Any:
    """The context whose processes are forked from a server that has loaded torch once."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["__main__", "qdm_labs.student_side"])
    return context


class Gone(Exception):  # noqa: N818
    """The process hangs or is dead; the text says which."""


class HandIn:
    """The cells of a notebook in a process of their own.

    Attributes: `errors`, (cell, sentence) of cells that failed; `held`, the limits that hold; `functions`, the names.
    """

    def __init__(self, context: Any, cells: list[str], forbidden: list[str], hidden: list[str], limits: Limits):
        self.context, self.cells, self.limits = context, cells, limits
        self.job = {"cells": cells, "skip": set(), "forbidden": forbidden, "hidden": hidden, "limits": limits}
        self.errors: dict[int, str] = {}
        self.held: list[str] = []
        self.functions: list[str] = []
        self.process = self.folder = None
        self.until = time.monotonic() + limits.all_s

    def start(self) -> None:
        """Run the cells; one that hangs or kills the process is left out the next time."""
        while self.process is None:
            self.pipe, theirs = self.context.Pipe()
            self.folder = tempfile.mkdtemp(prefix="lab-")
            job = self.job | {"folder": self.folder}
            self.process = self.context.Process(target=serve, args=(theirs, job), daemon=True)
            self.process.start()
            theirs.close()
            cell, wait = None, START
            try:
                while "ready" not in (message := self.receive(wait)):
                    self.held = message.get("held", self.held)
                    cell = message.get("cell", cell)
                    if message.get("error"):
                        self.errors[cell] = next(iter(message["error"].values()))
                    wait = self.limits.cell_s + GRACE
                self.functions = message["ready"]
            except Gone as gone:
                self.stop()
                if cell is None or cell in self.job["skip"] or time.monotonic() > self.until:
                    raise
                self.errors[cell] = str(gone)
                self.job["skip"].add(cell)

    def receive(self, seconds: float) -> dict:
        """The next message; `Gone` where none comes."""
        seconds = min(seconds, max(0.1, self.until - time.monotonic()))
        try:
            if not self.pipe.poll(seconds):
                raise Gone(f"It was still running after {seconds:.0f} s and was stopped.")
            message = json.loads(self.pipe.recv_bytes(LARGEST))
        except (EOFError, OSError, ValueError, RecursionError):
            raise Gone("It ended the process: exit, a crash, or more than the limits of time and memory.") from None
        return message if isinstance(message, dict) else {}

    def stop(self) -> None:
        """End the process, and with it the group that it started; its folder goes too."""
        if self.process is not None:
            if self.process.pid and self.process.is_alive():
                try:
                    if os.getpgid(self.process.pid) == self.process.pid:  # it has made its own group
                        os.killpg(self.process.pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
                self.process.kill()
            self.process.join()
            self.pipe.close()
            shutil.rmtree(self.folder, ignore_errors=True)
        self.process = self.folder = None

    def ask(self, name: str | int, args: tuple, ask: dict | None, seconds: float) -> Any:
        """Call a function of the hand-in; `Mistake` says what went wrong."""
        if time.monotonic() > self.until:
            raise Mistake(f"The {self.limits.all_s:g} s for this hand-in are used up.")
        try:
            self.start()
            callbacks: list[Callable] = []
            self.pipe.send_bytes(to_student((name, args, ask, seconds), callbacks))
            stop_at = time.monotonic() + seconds + GRACE
            while "callback" in (message := self.receive(max(0.1, stop_at - time.monotonic()))):
                self.pipe.send_bytes(to_student(self.reply(message, callbacks, seconds), callbacks))
        except (Gone, BrokenPipeError) as gone:
            self.stop()
            raise Late(str(gone)) from None
        if "unanswered" in message:
            raise Unanswered(str(message["unanswered"])[:300])
        if "late" in message:
            raise Late(str(message["late"]))
        if "value" not in message:
            raise Mistake(str(message.get("mistake", "Nothing came back."))[:400])
        return self.value(message["value"], seconds)

    def reply(self, message: dict, callbacks: list[Callable], seconds: float) -> Any:
        """What one of our functions returns to the student; a sentence where it cannot."""
        try:
            args = [self.value(a, seconds) for a in message["args"]]
            out = callbacks[message["callback"]](*args)
            return out.detach() if isinstance(out, Tensor) else out
        except Exception as error:
            return f"the function that you were given says: {str(error)[:200] or type(error).__name__}"

    def value(self, message: Any, seconds: float) -> Any:
        """What a message says; functions of the student's become something to call."""
        try:
            return from_student(message, lambda n: RemoteAnswer(self, n, seconds))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise Mistake("What the function returned cannot be read.") from None


class Late(Mistake):
    """Stopped by the clock; not worth a second try."""


class RemoteAnswer:
    """What a check calls, like `LocalAnswer`, in the process of the hand-in."""

    def __init__(self, hand_in: HandIn, name: str | int, seconds: float):
        self.hand_in, self.name, self.seconds = hand_in, name, seconds
        self.late = ""

    def _ask(self, args: tuple, ask: dict | None = None) -> Any:
        if self.late:
            raise Mistake(f"{self.late} (So it was not tried again.)")
        try:
            return self.hand_in.ask(self.name, args, ask, self.seconds)
        except Late as late:
            self.late = str(late)
            raise

    def __call__(self, *args: Any) -> Any:
        """What the function returns."""
        return self._ask(args)

    def gradient(self, *args: Any, wrt: int, weights: Tensor) -> Tensor:
        """As `LocalAnswer.gradient`."""
        return self._ask(args, {"gradient": wrt, "weights": weights})

    def changes(self, *args: Any) -> bool:
        """As `LocalAnswer.changes`."""
        return bool(self._ask(args, {"changes": True}))


def answer_to(task: Task, hand_in: HandIn, tasks: Iterable[Task] = ()) -> RemoteAnswer:
    """The function of a task in a hand-in; `Unanswered` where there is none, with a name that comes near.

    tasks: all of the lab; the name of another one is not what was meant.
    """
    if task.name not in hand_in.functions:
        own = set(hand_in.functions) - {other.name for other in tasks}
        near = difflib.get_close_matches(task.name, sorted(own), n=1)
        raise Unanswered(f"There is no function {task.name} when the cells have run" +
                         (f"; is {near[0]} meant?" if near else "."))  # fmt: skip
    return RemoteAnswer(hand_in, task.name, task.seconds * hand_in.limits.patience)
