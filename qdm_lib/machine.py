"""The machine this runs on: the device, the memory, the processor's share, and the versions of what is installed.

Functions that need torch load it themselves: the package asks for the share before torch starts its threads.
"""

from __future__ import annotations

import ctypes
import math
import os
import platform
import re
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from qdm_lib.checks import whole

if TYPE_CHECKING:
    import torch


def check_device(device: str | torch.device) -> torch.device:
    """The device by its name, such as "cpu" or "cuda:1"; a one-line ValueError if torch cannot use it here."""
    import torch

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's, about names it no longer knows: the error says so too
            picked = torch.device(device)
            torch.empty(1, device=picked).cpu()  # meta and its like make tensors that hold no numbers
    except (RuntimeError, AssertionError, TypeError, ImportError) as error:  # an unknown name, or what is not there
        reason = str(error).splitlines()[0].partition(". ")[0].rstrip(".")  # torch writes a page
        raise ValueError(f"torch cannot use the device {str(device)!r} here ({reason}).") from None
    if picked.type == "cpu" and picked.index:  # torch takes any number and means the one CPU
        raise ValueError(f"There is one device cpu, without a number; got {str(device)!r}.")
    return picked


def pick_device(device: str | torch.device | None = None) -> torch.device:
    """The device asked for; for None or "auto" the GPU if there is one, else the CPU. ValueError as `check_device`."""
    if device is None or device == "auto":
        import torch

        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return check_device(device)


_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # names and numbers of glibc's mallopt(3)


def keep_memory() -> bool:
    """Let the process keep the memory it frees, instead of handing it back to the system and asking again.

    glibc fetches every large block anew and gives it back when it is freed. A training step frees and fetches
    hundreds of such blocks, and the system fills each fresh page with zeros on first touch. On a machine where
    that is slow, it can take longer than the arithmetic. With this setting, blocks come from memory that the
    process already has; its peak may grow a little, because freed memory is kept.

    Returns True where it worked: on Linux with glibc. Elsewhere it does nothing and returns False.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    libc = ctypes.CDLL(None)
    return bool(libc.mallopt(_M_MMAP_MAX, 0) and libc.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1))


def release_memory() -> bool:
    """Hand the memory that is kept free back to the system: for the end of a job, as `keep_memory` is for its steps.

    Without it a process that draws and scores again and again ends up holding the most that a job of any size has
    needed. Returns True where something was handed back: on Linux with glibc.
    """
    return platform.libc_ver()[0] == "glibc" and bool(ctypes.CDLL(None).malloc_trim(0))


def ran_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that the memory did not suffice, whoever raised it: Python, torch's allocators or C++."""
    words = "out of memory|not enough memory|can.t allocate memory|bad_?alloc"
    return isinstance(error, MemoryError) or re.search(words, str(error), re.IGNORECASE) is not None


def free_memory(root: str | os.PathLike = "/") -> float:
    """Bytes that this process can still get: the least of what the system, its control groups and `ulimit -v` leave.

    inf where none of them says. root: see `cpu_quota`. Sources: proc(5), and the kernel's documents on `memory.max`
    (cgroup v2) and `memory.limit_in_bytes` (v1).
    """
    root = Path(root)
    return min(_available(root), _address_space(), *map(_room_of, _groups(root, "memory")), math.inf)


def _available(root: Path) -> float:
    try:
        found = re.search(r"MemAvailable:\s*(\d+) kB", (root / "proc/meminfo").read_text())
    except OSError:  # not Linux
        return math.inf
    return 1024 * int(found[1]) if found else math.inf


def _address_space() -> float:
    """What `ulimit -v` leaves; inf without such a limit."""
    try:
        import resource

        limit = resource.getrlimit(resource.RLIMIT_AS)[0]
        if limit == resource.RLIM_INFINITY:
            return math.inf
        return max(0, limit - int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize())
    except (ImportError, OSError):  # Windows; no proc
        return math.inf


def _room_of(group: Path) -> float:
    """What one control group leaves, with the cached files it could drop counted as free; inf without a limit."""
    for limit, used in (("memory.max", "memory.current"), ("memory.limit_in_bytes", "memory.usage_in_bytes")):
        try:
            limit, used = (int((group / name).read_text()) for name in (limit, used))
            cached = re.search(r"inactive_file (\d+)", (group / "memory.stat").read_text())
            return max(0, limit - used + (int(cached[1]) if cached else 0))
        except (OSError, ValueError):  # not there; "max" is no number
            continue
    return math.inf


# ---------------------------------------------------------------------------------- the processor's share

# Where Linux shows the control groups: all of version 2, and the controllers of version 1.
_GROUPS = {"": ("", "unified"), "cpu": ("cpu", "cpu,cpuacct", "cpuacct,cpu"), "memory": ("memory",)}


def affinity() -> int:
    """Cores on which the system lets this process run; all of them where it does not say."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cpu_quota(root: str | os.PathLike = "/") -> float:
    """The processor time that the control groups allow, in cores: 0.5, 2.0, …; inf where there is no limit.

    Docker, Kubernetes, JupyterHub and Binder share a machine this way: all cores can be seen, but a group that has used
    its share stands still until the next period begins. Groups are nested, and the smallest limit on the way counts.

    root: the folder that holds `proc` and `sys`. Source: the kernel's documents on `cpu.max` (cgroup v2) and
    `cpu.cfs_quota_us` (v1).
    """
    return min(map(_limit_of, _groups(Path(root), "cpu")), default=math.inf)


def _groups(root: Path, controller: str) -> Iterator[Path]:
    """The control groups that this process is in, as far as they can limit what a controller hands out."""
    try:
        lines = (root / "proc/self/cgroup").read_text(errors="replace").splitlines()
    except OSError:  # not Linux
        return
    for line in lines:
        _, controllers, path = (*line.split(":", 2), "", "")[:3]
        if controllers and controller not in controllers.split(","):
            continue
        for place in _GROUPS[controller if controllers else ""]:
            # In a container the path may be the host's: its levels are not there, and the top is our own group.
            for level in (PurePosixPath(path), *PurePosixPath(path).parents):
                yield root / "sys/fs/cgroup" / place / str(level).lstrip("/")


def _limit_of(group: Path) -> float:
    """The limit of one control group, in cores; inf without one, or where it cannot be read."""
    try:
        if (group / "cpu.max").is_file():
            quota, period = (group / "cpu.max").read_text().split()
        else:
            quota, period = ((group / f"cpu.cfs_{what}_us").read_text() for what in ("quota", "period"))
        return int(quota) / int(period) if int(quota) > 0 else math.inf  # version 1 writes -1 for no limit
    except (OSError, ValueError, ZeroDivisionError):  # version 2 writes "max"
        return math.inf


def usable_cores(root: str | os.PathLike = "/") -> int:
    """Threads that this process can keep busy: the affinity or the quota, whichever is less, rounded down, at least 1.

    More threads than that wait for one another while the group stands still: with a quota of one core, a training step
    takes many times as long on two threads as on one. root: see `cpu_quota`.
    """
    return max(1, math.floor(min(affinity(), cpu_quota(root))))


def threads_chosen_by_user() -> bool:
    """Whether the environment says how many threads to use: OMP_NUM_THREADS or MKL_NUM_THREADS."""
    return any(os.environ.get(name) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"))


def share_processor(root: str | os.PathLike = "/") -> None:
    """Keep torch's threads within `usable_cores`. `import qdm_lib` does it; without a quota their number stays.

    Sets OMP_NUM_THREADS, which a torch not yet loaded and child processes read, and the threads of a torch that is
    loaded. A user's own OMP_NUM_THREADS or MKL_NUM_THREADS is kept, and so is a later `torch.set_num_threads`.

    Threads wait for each other by spinning, and stand still when another program takes a core. GOMP_SPINCOUNT, read by
    GNU's OpenMP when torch loads, makes them give up the core after a short spin; a user's own value is kept too.
    """
    os.environ.setdefault("GOMP_SPINCOUNT", "20000")
    cores = usable_cores(root)
    if threads_chosen_by_user() or cores >= affinity():  # OpenMP sees the affinity by itself
        return
    os.environ["OMP_NUM_THREADS"] = str(cores)
    torch = sys.modules.get("torch")
    if torch is not None and torch.get_num_threads() > cores:
        torch.set_num_threads(cores)


class Pace:
    """Notices, once, when steps become many times slower than at first: `warning = pace.step()` after each one.

    Compares the median of the last 5 steps with that of steps 3 to 7 (the first two prepare things). clock: seconds.
    """

    def __init__(self, times_slower: float = 4.0, clock: Callable[[], float] = time.perf_counter) -> None:
        self.times_slower, self.clock = times_slower, clock
        self._steps, self._at_first, self._last, self._said = [], None, clock(), False

    def step(self, threads: int = 1) -> str | None:
        """Call it after a step on so many threads: None, or, once, one line that says what happens and what helps."""
        now = self.clock()
        self._steps.append(now - self._last)
        self._last = now
        if len(self._steps) == 7 and self._at_first is None:
            self._at_first = statistics.median(self._steps[2:])
        self._steps = self._steps[-7:]
        if self._said or self._at_first is None:
            return None
        lately = statistics.median(self._steps[-5:])
        if lately < self.times_slower * self._at_first or lately < 0.2:
            return None
        self._said = True
        advice = (
            "fewer threads often go faster then: stop it (Ctrl-C saves), resume with --threads 1 or OMP_NUM_THREADS=1"
            if threads > 1
            else "it goes on, and gets faster when they are done"
        )
        return (
            f"qdm_lib: a step now takes {lately:.1f} s, at first it took {self._at_first:.2f} s: other programs "
            f"seem to need the processor too; {advice}."
        )


PACKAGES = ("torch", "torchmetrics", "numpy", "scipy", "pennylane", "safetensors")  # those on which numbers may depend


def versions(packages: Iterable[str] = PACKAGES) -> dict[str, str]:
    """The installed version of Python and of each package; "MISSING" where it is not installed."""
    return {"python": platform.python_version()} | {name: version(name) for name in packages}


def version(package: str) -> str:
    """The installed version of a package, or "MISSING"."""
    from importlib import metadata

    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "MISSING"


def cpu_name() -> str:
    """The processor's name as the system gives it."""
    info = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*:\s*(.+)", info.read_text()) if info.is_file() else None
    return found[1].strip() if found else platform.processor() or platform.machine()


def describe_machine(device: torch.device) -> dict:
    """What the numbers were computed on, without names of people or machines: system, cpu, cores, threads, gpu."""
    import torch

    gpu = torch.cuda.get_device_name(device) if device.type == "cuda" else None
    return {"system": platform.system(), "cpu": cpu_name(), "cores": os.cpu_count(), "threads": torch.get_num_threads(),
            "gpu": gpu}  # fmt: skip


def duration(seconds: float) -> str:
    """A time to read: "1 h 05 min", "12 min" or "40 s"."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60:02d} min"


def set_threads(threads: int | None) -> None:
    """For every command that runs a model: the number of torch's threads, and memory that is kept (`keep_memory`)."""
    keep_memory()
    if threads is not None:
        import torch

        torch.set_num_threads(whole("threads", threads, 1, 1024))
