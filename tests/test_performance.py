"""keep_memory: it says whether it worked, and it changes no value."""

import platform
import subprocess
import sys

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
