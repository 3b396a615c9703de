"""Memory: keep_memory says whether it worked and changes no value; free_memory finds the least limit."""

import math
import platform
import subprocess
import sys

import pytest

from qdm_lib import machine
from qdm_lib.machine import free_memory

CODE = """
import resource, torch
from qdm_lib.machine import keep_memory
if {keep}:
    print(keep_memory())
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    blocks = [torch.ones(10_000_000) for _ in range(3)]  # 40 MB each: above what glibc ever keeps by itself
    assert sum(block[-1].item() for block in blocks) == 3
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
print([faults() for _ in range(10)][-1])
"""


def run(keep: bool) -> list[str]:
    code = CODE.format(keep=keep)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.split()


def test_freed_memory_is_used_again_without_new_pages():
    """On glibc: the tenth round of three 40 MB tensors touches almost no fresh pages. Elsewhere it returns False."""
    worked, faults = run(keep=True)
    assert worked == str(platform.libc_ver()[0] == "glibc")
    if worked == "True":
        assert int(faults) < int(run(keep=False)[0]) / 10


GB = 10**9


@pytest.fixture
def linux(tmp_path, monkeypatch):
    """A folder in the place of /, with 8 GB available and no limits."""
    monkeypatch.setattr(machine, "_address_space", lambda: math.inf)
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/meminfo").write_text(f"MemTotal: 1 kB\nMemAvailable:  {8 * GB // 1024} kB\n")
    (tmp_path / "proc/self/cgroup").write_text("0::/a/b\n5:memory:/c\n")

    def group(place, **numbers):
        (tmp_path / "sys/fs/cgroup" / place).mkdir(parents=True)
        for name, number in numbers.items():
            (tmp_path / "sys/fs/cgroup" / place / name.replace("_", ".", 1)).write_text(f"{number}\n")

    return tmp_path, group


def test_free_memory_is_the_least_of_all_limits(linux, monkeypatch):
    root, group = linux
    assert free_memory(root) == pytest.approx(8 * GB, rel=1e-6)
    group("a", memory_max="max", memory_current=GB, memory_stat="inactive_file 0")
    assert free_memory(root) == pytest.approx(8 * GB, rel=1e-6)
    group("a/b", memory_max=4 * GB, memory_current=3 * GB, memory_stat="anon 5\ninactive_file 500000000")
    assert free_memory(root) == 1.5 * GB  # files in memory can be forgotten
    group("memory/c", memory_limit_in_bytes=2 * GB, memory_usage_in_bytes=GB, memory_stat="")
    assert free_memory(root) == GB
    monkeypatch.setattr(machine, "_address_space", lambda: 5)
    assert free_memory(root) == 5


def test_free_memory_without_a_word_of_it(tmp_path, monkeypatch):
    monkeypatch.setattr(machine, "_address_space", lambda: math.inf)
    assert free_memory(tmp_path) == math.inf


def test_a_limit_of_the_address_space_counts():
    resource = pytest.importorskip("resource")
    code = "import resource; from qdm_lib.machine import free_memory; limit = 3 * 10**9\n"
    code += "resource.setrlimit(resource.RLIMIT_AS, (limit, limit)); print(free_memory())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert resource and 0 < float(done.stdout) < 3 * GB
