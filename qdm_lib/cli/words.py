"""How the command line speaks: its name, commands to copy, streams that may be closed."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from pathlib import Path
from typing import TextIO


def program() -> str:
    """The command that was called: qdm, or python -m qdm_lib."""
    return "qdm" if Path(sys.argv[0]).stem == "qdm" else "python -m qdm_lib"


def command(*words: str | int | Path, windows: bool = os.name == "nt") -> str:
    """A command to copy into a shell: `command("sample", "--checkpoint", folder)`, quoted where a word needs it."""
    texts = [str(word) for word in words]
    return f"{program()} {subprocess.list2cmdline(texts) if windows else shlex.join(texts)}"


@contextmanager
def lasting_streams() -> Iterator[None]:
    """Inside, no failed print ends hours of training: the terminal may close, the pipe may break, the disk may be full.

    stdout carries the answer, so only a reader who left is forgiven there. A stream that was closed from the start is
    led to nowhere: left free, its number would go to the next file that is opened, and with it the warnings of C code.
    """
    out, err = _Lasting(_opened(sys.stdout, 1), BrokenPipeError), _Lasting(_opened(sys.stderr, 2), OSError, ValueError)
    with redirect_stdout(out), redirect_stderr(err):
        try:
            yield
        finally:
            out.flush()
            err.flush()


def _opened(stream: TextIO | None, number: int) -> TextIO:
    if stream is None:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        with suppress(OSError):
            os.fstat(number)
            number = nowhere  # another file has the number already
        if nowhere != number:
            os.dup2(nowhere, number)
            os.close(nowhere)
        return open(number, "w", closefd=False)  # noqa: SIM115 - for the rest of the process
    if hasattr(stream, "reconfigure"):
        stream.reconfigure(errors="replace")  # a terminal without θ shows ? instead of failing
    return stream


class _Lasting:
    """A stream that forgives these errors: after the first one its text is dropped."""

    def __init__(self, stream: TextIO, *forgiven: type[Exception]) -> None:
        self._stream, self._forgiven = stream, forgiven

    def __getattr__(self, name: str):
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        try:
            return self._stream.write(text)
        except self._forgiven:
            return self._lead_nowhere(len(text))

    def flush(self) -> None:
        try:
            self._stream.flush()
        except self._forgiven:
            self._lead_nowhere(0)

    def _lead_nowhere(self, n: int) -> int:
        with suppress(OSError, ValueError):  # the file behind it, so that Python's last flush does not fail either
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)
        return n
