"""The harness that the benchmarks share: each contender in its own process, timed in turns.

A benchmark lists `Entrant`s and calls `measure`. Every one of them gets a fresh Python
process, so that no contender's threads, caches or memory touch another's. The clock goes in turns:
one block of calls of the first contender, one of the second, and round again. A machine that slows
down for a while then slows all of them, not only the one that happened to run. While one process
works, the others wait for a line of input and use no core.

Times come from Python's `timeit` with torch's benchmark clock (which waits for a GPU); a row holds
the median over the rounds and the interquartile range, as `torch.utils.benchmark` computes them.
Memory is the process's largest resident set during one call, minus what it held before that call.
"""

import argparse
import contextlib
import ctypes
import importlib
import json
import os
import platform
import subprocess
import sys
import tempfile
import timeit
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch.utils import benchmark

from qdm_lib.files import write_json as write_json
from qdm_lib.machine import cpu_name, versions

HERE = Path(__file__).resolve().parent
# Okabe and Ito's colours, which colour-blind readers can tell apart.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442")

# For a contender's environment: glibc keeps freed memory (`qdm_lib.machine.keep_memory`), for every contender alike.
KEEP_MEMORY = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(2**31 - 1)}


@dataclass(frozen=True)
class Entrant:
    """One contender: what its process makes, and what the table calls it.

    name: what the table calls it. factory: "module:function" of this folder. In the contender's process it is called
    with ``arguments`` and returns the function of no arguments whose calls are timed. A dict ``info`` on that function
    joins the contender's row. arguments: keyword arguments of the factory, JSON-able. note: what the reader of the
    table has to know. environment: environment variables of the process, beside the number of threads.
    """

    name: str
    factory: str
    arguments: dict = field(default_factory=dict)
    note: str = ""
    environment: dict[str, str] = field(default_factory=dict)


class WorkerError(RuntimeError):
    """A contender failed; the message is the last line of its error."""


class Worker:
    """The process of one contender: one JSON line for each command, one for each answer."""

    def __init__(self, contender: Entrant, threads: int) -> None:
        self.contender = contender
        # Waiting threads give up their core after a short spin, so that one process's do not slow the next one's turn.
        short_spin = {"GOMP_SPINCOUNT": os.environ.get("GOMP_SPINCOUNT", "20000")}
        counts = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(threads))
        self.log = tempfile.TemporaryFile(mode="w+")  # what the contender's libraries print
        self.process = subprocess.Popen(
            [sys.executable, str(HERE / "common.py"), contender.factory, json.dumps(contender.arguments), str(threads)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log,
            text=True,
            env={**os.environ, **short_spin, **counts, **contender.environment},
        )

    def ask(self, command: str, **options):
        """Run a method of the worker's `Contender` ("prepare", "time" or "save") and return its answer.

        WorkerError where the contender raised, or its process died.
        """
        with contextlib.suppress(BrokenPipeError):
            print(json.dumps([command, options]), file=self.process.stdin, flush=True)
        line = self.process.stdout.readline()
        if not line:
            code = self.process.wait()
            self.log.seek(0)
            last = (self.log.read().strip().splitlines() or [""])[-1]
            raise WorkerError(
                "killed, probably for want of memory" if code == -9 else f"exit code {code}: {last}"[:300]
            )
        answer = json.loads(line)
        if "error" in answer:
            raise WorkerError(answer["error"])
        return answer["answer"]

    def close(self) -> None:
        """End the process, whatever it is doing."""
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()
        self.log.close()


def measure(
    contenders: Iterable[Entrant],
    *,
    rounds: int = 9,
    seconds: float = 0.3,
    budget: float = 60.0,
    threads: int | None = None,
    check: Callable[[Worker], dict] | None = None,
) -> list[dict]:
    """Start every contender, then time them in turns.

    contenders: in the order of the rows. One that fails gets a row with the key "error" and no time. rounds: blocks of
    calls of each contender. seconds: the least length of a block; a faster call is repeated to fill it. budget: seconds
    after which a slow contender sits out the remaining rounds; it always gets one block, and its row's "blocks" says
    how many it got. threads: of each process; all the cores that this process may use by default. check: called with
    each `Worker` before the clock starts; what it returns joins the row.

    Returns one dict for each contender: name, note, arguments, the keys of `prepare` and of ``check``, and times_s (a
    call, one entry for each block), median_s, iqr_s, calls (in a block) and blocks.
    """
    threads = threads or all_threads()
    rows, running = [], []
    try:
        for contender in contenders:
            row = {"name": contender.name, "note": contender.note, "arguments": contender.arguments}
            rows.append(row)
            worker = Worker(contender, threads)
            try:
                row |= worker.ask("prepare", seconds=seconds)
                row |= check(worker) if check else {}
                running.append((worker, row))
            except BaseException as error:
                worker.close()
                if not isinstance(error, WorkerError):
                    raise
                row["error"] = str(error)
            print(f"  {contender.name}:", row.get("error") or f"first call {row['first_call_s']:.3g} s", flush=True)
        for _ in range(rounds):
            for worker, row in running:
                times = row.setdefault("times_s", [])
                spent = (sum(times) + max(times, default=0)) * row["calls"]  # this round included
                if "error" in row or (times and spent > budget):
                    continue
                try:
                    times.append(worker.ask("time", calls=row["calls"]))
                except WorkerError as error:
                    row["error"] = str(error)
    finally:
        for worker, _ in running:
            worker.close()
    for row in rows:
        if (times := row.get("times_s")) and "error" not in row:
            result = benchmark.Measurement(1, times, benchmark.TaskSpec("call()", ""))
            row |= {"median_s": result.median, "iqr_s": result.iqr, "blocks": len(times)}
    return rows


def measure_against(contenders: Iterable[Entrant], baseline: str, *, at_once: int = 5, **options) -> list[dict]:
    """`measure`, a few contenders at a time and the baseline among them each time.

    An idle contender keeps one to several GB, so not all fit into memory at once. Every row also gets
    baseline_median_s, the baseline's median in the same group, and relative, its own median divided by
    that (None where one of them failed). The baseline's row is that of its first group.
    """
    contenders = list(contenders)
    base = [contender for contender in contenders if contender.name == baseline]
    others = [contender for contender in contenders if contender.name != baseline]
    size = at_once - len(base)
    rows = []
    for k in range(0, max(1, len(others)), size):
        new = measure([*base, *others[k : k + size]], **options)
        median = new[0].get("median_s") if base else None
        for row in new:
            row["baseline_median_s"] = median
            row["relative"] = row["median_s"] / median if median and "median_s" in row else None
        rows += new[len(base) if rows else 0 :]
    return rows


# ---- in the contender's process ----------------------------------------------------------------


def memory_mb() -> tuple[float, float]:
    """This process's resident set now, and its largest since `reset_peak`, in MiB."""
    try:
        status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
        return int(status["VmRSS"].split()[0]) / 1024, int(status["VmHWM"].split()[0]) / 1024
    except (OSError, KeyError):  # not Linux: the largest of the whole run is all there is
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 1024)
        return peak, peak


def reset_peak() -> float:
    """Return freed memory to the system, start the largest resident set anew; the set's size now."""
    with contextlib.suppress(OSError, AttributeError):  # Linux and glibc only
        ctypes.CDLL(None).malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")
    if torch.cuda.is_initialized():
        torch.cuda.reset_peak_memory_stats()
    return memory_mb()[0]


class Contender:
    """What a factory returned, with the last value that it gave."""

    def __init__(self, factory: str, arguments: dict) -> None:
        module, function = factory.split(":")
        self.function = getattr(importlib.import_module(module), function)(**arguments)
        self.last = None

    def call(self) -> None:
        self.last = self.function()

    def time(self, calls: int) -> float:
        """Seconds for one call, as a mean over several."""
        return timeit.Timer(self.call, timer=benchmark.timer).timeit(calls) / calls

    def prepare(self, seconds: float) -> dict:
        """Run the first calls, and choose how many calls fill a block of that many seconds.

        Returns first_call_s and first_peak_mb (planning, compilation and first caches included), peak_mb (a later
        call's largest resident set minus the set before it), process_mb (that largest set itself, libraries included),
        calls, and cuda_peak_mb where CUDA is in use.
        """
        before = reset_peak()
        answer = {"first_call_s": self.time(1), "first_peak_mb": memory_mb()[1] - before}
        before = reset_peak()
        mean = self.time(1)
        answer |= {"process_mb": memory_mb()[1], "peak_mb": memory_mb()[1] - before}
        if torch.cuda.is_initialized():
            answer["cuda_peak_mb"] = torch.cuda.max_memory_allocated() / 2**20
        if mean < seconds / 4:  # short calls need a warm-up to be counted well
            mean = self.time(int(seconds / 4 / mean) + 1)
        return {**answer, "calls": max(1, round(seconds / mean)), **getattr(self.function, "info", {})}

    def save(self, path: str) -> None:
        """Write what a call returned, a sequence of tensors or arrays, as an .npz file."""
        if self.last is None:
            self.call()
        np.savez(path, *[np.asarray(part.detach().cpu() if hasattr(part, "cpu") else part) for part in self.last])


def serve(factory: str, arguments: str, threads: str) -> None:
    """The worker's loop: build the contender, then obey one line after another."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print goes to the log
    torch.set_num_threads(int(threads))
    contender = None
    for line in sys.stdin:
        command, options = json.loads(line)
        try:
            contender = contender or Contender(factory, json.loads(arguments))
            answer = {"answer": getattr(contender, command)(**options)}
        except Exception as error:  # the table says so, and the other contenders go on
            answer = {"error": " ".join(f"{type(error).__name__}: {error}".split())[:300]}
        print(json.dumps(answer), file=answers, flush=True)


# ---- tables and files --------------------------------------------------------------------------


def all_threads() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def arguments(description: str, **defaults) -> argparse.ArgumentParser:
    """A parser with the options that every benchmark takes; ``defaults`` replaces their defaults."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--rounds", type=int, default=9, help="blocks of calls of each contender (%(default)s)")
    parser.add_argument("--seconds", type=float, default=0.3, help="least length of a block (%(default)s)")
    parser.add_argument("--budget", type=float, default=60, help="seconds for one slow contender (%(default)s)")
    parser.add_argument("--threads", type=int, default=all_threads(), help="threads of each contender (%(default)s)")
    parser.add_argument("--device", default="cpu", help="torch device of the torch contenders (%(default)s)")
    parser.add_argument("--out", type=Path, default=HERE / "results", help="folder for JSON and figure (%(default)s)")
    parser.set_defaults(**defaults)
    return parser


def machine(*packages: str) -> dict:
    """The processor, the system, and the versions of torch and of ``packages`` that are installed."""
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    found = {name: text for name, text in versions(("torch", *packages)).items() if text != "MISSING"}
    return {"cpu": cpu_name(), "cores": all_threads(), "gpu": gpu, "system": platform.platform(), "versions": found}


def time_text(row: dict) -> str:
    """Median ± half the interquartile range, in the unit that reads best."""
    if "median_s" not in row:
        return "failed"
    unit, scale = next((u, s) for u, s in (("s", 1), ("ms", 1e3), ("µs", 1e6)) if row["median_s"] * s >= 1 or u == "µs")
    return f"{row['median_s'] * scale:.3g} ± {row['iqr_s'] / 2 * scale:.2g} {unit}"


def table(header: list[str], lines: list[list]) -> str:
    """A Markdown table whose columns line up; the first column is text, the others numbers."""
    cells = [[str(cell) for cell in line] for line in [header, *lines]]
    widths = [max(len(line[k]) for line in cells) for k in range(len(header))]
    text = [
        [c.ljust(w) if not k else c.rjust(w) for k, (c, w) in enumerate(zip(line, widths, strict=True))]
        for line in cells
    ]
    text.insert(1, ["-" * (w - 1) + ("-" if not k else ":") for k, w in enumerate(widths)])
    return "\n".join("| " + " | ".join(line) + " |" for line in text)


if __name__ == "__main__":
    serve(*sys.argv[1:])
