"""The machine it runs on: the device, the memory, the processor, and the versions of what is installed."""

from __future__ import annotations

import ctypes
import os
import platform
import re
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

import torch

from qdm_lib.checks import whole


def check_device(device: str | torch.device) -> torch.device:
    """The device by its name, such as "cpu" or "cuda:1"; ValueError of one line if torch cannot use it here."""
    try:
        picked = torch.device(device)
        torch.empty(1, device=picked)
    except (RuntimeError, AssertionError, TypeError) as error:  # an unknown name, or a device that is not there
        reason = str(error).splitlines()[0]
        raise ValueError(f"torch cannot use the device {device!r} here ({reason}).") from None
    return picked


def pick_device(device: str | torch.device | None = None) -> torch.device:
    """The device asked for; the GPU if there is one, else the CPU, for None or "auto". ValueError as `check_device`."""
    if device is None or device == "auto":
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


PACKAGES = ("torch", "torchmetrics", "numpy", "scipy", "pennylane", "safetensors")  # on which numbers may depend


def versions(packages: Iterable[str] = PACKAGES) -> dict[str, str]:
    """The installed version of Python and of each package; "MISSING" where it is not installed."""
    return {"python": platform.python_version()} | {name: version(name) for name in packages}


def version(package: str) -> str:
    """The installed version of a package, or "MISSING"."""
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
    """What numbers were computed on, without names of people or machines: system, cpu, cores, threads, gpu."""
    gpu = torch.cuda.get_device_name(device) if device.type == "cuda" else None
    return {"system": platform.system(), "cpu": cpu_name(), "cores": os.cpu_count(), "threads": torch.get_num_threads(),
            "gpu": gpu}  # fmt: skip


def duration(seconds: float) -> str:
    """1 h 05 min, 12 min or 40 s."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60:02d} min"


def set_threads(threads: int | None) -> None:
    """For every command that runs a model: the number of torch's threads, and memory that is kept (`keep_memory`)."""
    keep_memory()
    if threads is not None:
        torch.set_num_threads(whole("threads", threads, 1, 1024))
