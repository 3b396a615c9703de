"""Limits on a process that runs what a student wrote. For Linux; what cannot be had is left out, and reported.

Time and memory by resource limits; no network and no sight of other hand-ins by namespaces of the kernel; the rights of
an unused user id where the marker runs as root, else those of a user namespace.
"""

from __future__ import annotations

import contextlib
import ctypes
import math
import os
import resource
import socket
import tempfile
from dataclasses import dataclass
from pathlib import Path

NEW_FILES, NEW_USER, NEW_NETWORK = 0x00020000, 0x10000000, 0x40000000
PRIVATE, RECURSIVE = 1 << 18, 1 << 14


@dataclass(frozen=True)
class Limits:
    """Seconds of clock for one cell; of clock and of processor for a hand-in; memory beside torch's own; file size;
    processes. A call has its task's seconds times the patience."""

    cell_s: float = 10
    all_s: float = 300
    processor_s: int = 120
    memory_mb: int = 1500
    file_mb: int = 20
    processes: int = 32
    patience: float = 1

    @classmethod
    def patient(cls, factor: float) -> Limits:
        """The same limits with all times multiplied by a factor: 2 for a machine half as fast."""
        return cls(cell_s=cls.cell_s * factor, all_s=cls.all_s * factor,
                   processor_s=math.ceil(cls.processor_s * factor), patience=factor)  # fmt: skip


def confine(limits: Limits, hidden: list[str], folder: str) -> list[str]:
    """Confine this process for good, and go to a folder, the only one it may write to; returns what holds, in words."""
    os.setsid()
    user_id = os.getuid()
    held = _namespaces(hidden)
    if os.geteuid() == 0 and "files" in held and _others_may_read():
        user = 200_000 + os.getpid() % 1_000_000  # no account has it
        os.chown(folder, user, user)
        os.setgroups([])
        os.setresgid(user, user, user)
        os.setresuid(user, user, user)
        held.append("processes")
    elif ctypes.CDLL(None).unshare(NEW_USER | NEW_FILES) == 0 and user_id != 0:
        # Rights of a user namespace only: what was mounted before cannot be taken away from inside. The kernel counts
        # the processes of every user but root.
        held.append("processes")
    if "processes" in held:
        resource.setrlimit(resource.RLIMIT_NPROC, (limits.processes, limits.processes))
    os.chdir(folder)
    os.environ.update(HOME=folder, TMPDIR=folder, MPLCONFIGDIR=folder)
    tempfile.tempdir = folder
    size = _address_space() + limits.memory_mb * 2**20
    for what, limit in (
        (resource.RLIMIT_AS, size), (resource.RLIMIT_CPU, limits.processor_s), (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, limits.file_mb * 2**20),
    ):  # fmt: skip
        resource.setrlimit(what, (limit, limit))
    if "network" not in held:
        socket.socket = _no_socket  # better than nothing
    return [*held, "memory", "time"]


def _namespaces(hidden: list[str]) -> list[str]:
    libc = ctypes.CDLL(None, use_errno=True)
    if os.geteuid() == 0:
        held = ["network"] if libc.unshare(NEW_NETWORK) == 0 else []
        alone = libc.unshare(NEW_FILES) == 0
    else:
        user, group = os.getuid(), os.getgid()
        alone = libc.unshare(NEW_USER | NEW_NETWORK | NEW_FILES) == 0
        held = ["network"] if alone else []
        if alone:
            _keep_name(user, group)
    if alone and libc.mount(None, b"/", None, PRIVATE | RECURSIVE, None) == 0:
        options = b"size=32m,mode=1777"
        empty = [libc.mount(b"none", os.fsencode(path), b"tmpfs", 0, options) == 0 for path in hidden]
        held += ["files"] if all(empty) else []
    return held


def _keep_name(user: int, group: int) -> None:
    """The same ids inside a new user namespace: who has none there cannot go one deeper, as `confine` does."""
    with contextlib.suppress(OSError):  # some systems forbid it; then `confine` reports less
        for name, text in (("setgroups", "deny"), ("uid_map", f"{user} {user} 1"), ("gid_map", f"{group} {group} 1")):
            Path(f"/proc/self/{name}").write_text(text)


def _others_may_read() -> bool:
    """Whether a user without rights reaches Python's and the library's files."""
    import torch

    for start in (torch.__file__, os.__file__, __file__):
        if not all(folder.stat().st_mode & 0o001 for folder in Path(start).resolve().parents):
            return False
    return True


def _address_space() -> int:
    """Bytes of address space in use; most of it is torch's libraries."""
    pages = int(Path("/proc/self/statm").read_text().split()[0]) if Path("/proc/self/statm").exists() else 2**20
    return pages * os.sysconf("SC_PAGE_SIZE")


def _no_socket(*args, **options):
    raise OSError("There is no network while a lab is marked.")
