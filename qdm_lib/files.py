"""Files that are whole or not there at all, and folders that one process has for itself."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
from filelock import FileLock, Timeout


@contextmanager
def replacing(path: str | os.PathLike) -> Iterator[Path]:
    """A name beside `path` to write to; at the end of the with block that file takes the place of `path`.

    So `path` always stands for complete contents: the earlier ones after an error, a kill or on a full disk, the new
    ones afterwards, even if the power fails. The name ends in .tmp, so that no search for *.json finds half a file.

    Raises OSError, saying that what was there is kept, where the file cannot be written.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        to_disk(temporary)  # before the name points to it
        os.replace(temporary, path)
    except OSError as error:
        if error.errno is None or error.filename not in (None, str(temporary)):  # of another file
            raise
        kept = " What was there before is kept." if path.exists() else ""
        raise OSError(f"Cannot write {path}: {error.strerror or error}.{kept}") from error
    finally:
        with suppress(OSError):
            temporary.unlink()
    if os.name == "posix":  # the move itself, too, and before the next one is made; some network drives cannot
        with suppress(OSError):
            to_disk(path.parent)


def to_disk(path: Path) -> None:
    """Return when a file's contents, or a folder's names, are on the disk itself and outlive a power cut."""
    handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def locked(path: str | os.PathLike, wait: bool = False) -> Iterator[bool]:
    """Hold the system's lock on a file, which is made if need be; gives False if somebody else holds it already.

    The lock ends with the with block or the process, however that ends: a file that is left behind locks nobody out.
    wait: stay until it is free. Where a drive has no such locks (some network drives) it gives True.
    """
    Path(path).touch()  # a folder that cannot be written is an error; a drive without locks, below, is none
    lock, mine = FileLock(path, fallback_to_soft=False), True
    try:
        lock.acquire(timeout=-1 if wait else 0)
    except Timeout:
        mine = False
    except OSError:
        pass
    try:
        yield mine
    finally:
        lock.release()  # nothing where it is not held


def write_json(path: Path, content: dict) -> None:
    """Write a JSON file so that its name always stands for complete contents."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def read_npz(path: Path, about: str) -> dict[str, np.ndarray]:
    """The arrays of a file of `write_npz`, if its "about" is this one; none where it is another, absent or damaged."""
    try:
        with open(path, "rb") as opened, np.load(opened, allow_pickle=False) as file:
            return dict(file) if str(file["about"]) == about else {}
    except Exception:  # of a damaged file zipfile, zlib and numpy raise a dozen types
        return {}


def write_npz(path: Path, **arrays: np.ndarray) -> None:
    """Write arrays to a compressed .npz file so that its name always stands for complete contents."""
    with replacing(path) as temporary, open(temporary, "wb") as file:
        np.savez_compressed(file, **arrays)
