"""What a bug report needs: versions, processor, memory, GPU, data, compiler, and whether a model runs."""

from __future__ import annotations

import math
import os
import platform
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path

PACKAGES = ("torch", "torchvision", "torchmetrics", "torch-fidelity", "pennylane", "numpy", "scipy",
            "matplotlib", "safetensors", "typer", "tqdm", "jupyterlab", "ipywidgets", "jupytext")  # fmt: skip


def report() -> Iterator[str]:
    """The lines of `python -m qdm_lib doctor`. What cannot be determined is reported as unknown."""
    from qdm_lib.machine import version

    for title, find in (
        ("qdm_lib", _own_version),
        ("python", lambda: f"{platform.python_version()} ({sys.executable})"),
        ("system", platform.platform),
        ("processor", _processor),
        ("memory", _memory),
        ("disk", lambda: f"{_size(shutil.disk_usage('.').free)} free in {Path.cwd()}"),
        ("compiler", _compiler),
        ("packages", lambda: ", ".join(f"{name} {version(name)}" for name in PACKAGES)),
        ("threads", _threads),
        ("GPU", _gpu),
        ("data", _data),
        ("self-test", _self_test),
    ):
        try:
            lines = str(find()).splitlines()
        except Exception as error:  # a broken part is what a report is for
            lines = [f"unknown: {type(error).__name__}: {' '.join(str(error).split())}"]
        for k, line in enumerate(lines or ["unknown"]):
            yield f"{title if k == 0 else '':<10} {line}"


def _own_version() -> str:
    from qdm_lib import __file__ as where
    from qdm_lib import __version__

    return f"{__version__} ({Path(where).parent})"


def _size(n_bytes: float) -> str:
    return f"{n_bytes / 2**30:.1f} GiB"


def _processor() -> str:
    """Its name, and how many cores we may use: of all that are seen, by the affinity, by a container's quota."""
    from qdm_lib.machine import affinity, cpu_name, cpu_quota

    quota = cpu_quota()
    share = "no quota" if quota == math.inf else f"a quota of {quota:.4g} cores' time"
    return f"{os.cpu_count()} cores seen, {affinity()} by the affinity, {share}; {cpu_name()}"


def _memory() -> str:
    """Free and total memory; a container's own limit, such as Binder's 2 GB, where there is one."""
    info = Path("/proc/meminfo")
    if info.is_file():
        entries = dict(line.split(":", 1) for line in info.read_text().splitlines())
        free, total = (int(entries[key].split()[0]) * 1024 for key in ("MemAvailable", "MemTotal"))
        text = f"{_size(free)} free of {_size(total)}"
    else:
        text = f"{_size(os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES'))} in all"
    for limit in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        value = Path(limit).read_text().strip() if Path(limit).is_file() else "max"
        if value.isdigit() and int(value) < 2**50:
            text += f", limited to {_size(int(value))} here"
    return text


def _compiler() -> str:
    """torch.compile needs a C++ compiler."""
    found = next((p for p in (os.environ.get("CXX"), "c++", "g++", "clang++", "cl") if p and shutil.which(p)), None)
    return f"{shutil.which(found)}" if found else "no C++ compiler: torch.compile is not available, all else is"


def _threads() -> str:
    """torch's threads, and a warning where they are too many for what this process may use, or others need it too."""
    import torch

    from qdm_lib.machine import usable_cores

    settings = [f"{name}={os.environ[name]}" for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS") if name in os.environ]
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    lines = [", ".join([f"torch uses {torch.get_num_threads()}", *settings])]
    return "\n".join([*lines, *thread_advice(torch.get_num_threads(), usable_cores(), os.cpu_count() or 1, load)])


def thread_advice(threads: int, usable: int, cores: int, load: float | None) -> list[str]:
    """What to do about torch's threads, one line each; none where all is well.

    usable: cores that this process can keep busy. cores: of the machine. load: programs that want to run, on average.
    """
    if threads > usable:
        return [f"WARNING: this process can keep no more than {usable} busy; the threads wait for one another, and a "
                f"step can take many times as long. OMP_NUM_THREADS={usable} sets them."]  # fmt: skip
    if threads > 1 and load is not None and load > cores:
        return [f"the machine is busy ({load:.0f} programs want to run on {cores} cores): OMP_NUM_THREADS=1 is faster "
                "as long as that lasts"]  # fmt: skip
    return []


def _gpu() -> str:
    import torch

    if not torch.cuda.is_available():
        built = f"torch is built for CUDA {torch.version.cuda}" if torch.version.cuda else "torch is built without CUDA"
        return f"none that torch can use ({built}); not needed"
    lines = []
    for k in range(torch.cuda.device_count()):
        free, total = torch.cuda.mem_get_info(k)
        lines.append(f"cuda:{k} {torch.cuda.get_device_name(k)}, {_size(free)} free of {_size(total)}")
    return "\n".join([*lines, f"CUDA {torch.version.cuda}"])


def _data() -> str:
    from qdm_lib.data import ASSETS, DATASETS, SPLITS, data_root

    root = data_root()
    chosen = "QDM_DATA_DIR" if os.environ.get("QDM_DATA_DIR") else "QDM_DATA_DIR is not set"
    lines = [f"full sets are looked for in {root} ({chosen})"]
    for info in DATASETS.values():
        raw = root / info.torchvision_class / "raw"
        full = all((raw / file).is_file() for split in SPLITS for file in info.files(split))
        subset = (ASSETS / f"{info.name}-subset.npz").is_file()
        state = "full set found" if full else "bundled subset only" if subset else "not here"
        lines.append(f"{info.name}: {state}")
    return "\n".join(lines)


def _self_test() -> str:
    """A circuit whose answer is known, and one pass through a hybrid model."""
    import torch

    from qdm_lib.circuits import Circuit, angle_encoding
    from qdm_lib.engine import fast_simulate
    from qdm_lib.unet import build_unet

    x = torch.linspace(-3, 3, 24).reshape(2, 1, 12)
    circuit = Circuit(tuple(angle_encoding(12)), 12, 12, 0, "encoding")
    error = (fast_simulate(circuit, x, torch.zeros(1, 0)) - x.cos()).abs().max().item()  # ⟨Z⟩ after RX(x) is cos x
    model, began = build_unet("1hqconv", seed=0).eval(), time.perf_counter()
    with torch.no_grad():
        out = model(torch.zeros(2, 1, 28, 28), torch.zeros(2, dtype=torch.int64))
    seconds = time.perf_counter() - began
    good = error < 1e-5 and out.shape == (2, 1, 28, 28) and bool(out.isfinite().all())
    return f"{'passed' if good else 'FAILED'}: circuits to {error:.0e}, two images through 1hqconv in {seconds:.2f} s"
