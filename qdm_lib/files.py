"""Files that are whole or not there at all, and folders that one process has for itself."""

from __future__ import annotations

import hashlib
import json
import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import safetensors
import safetensors.torch
import torch
from filelock import FileLock, Timeout
from torch import Tensor


def expanded(path: str | os.PathLike) -> Path:
    """The path with the home folder for a ~ at its beginning; ValueError where this user has none."""
    try:
        return Path(path).expanduser()
    except RuntimeError:  # no HOME, and an unknown user id, as in containers
        raise ValueError(f"The path {path} begins with a home folder, and this user has none; write it out.") from None


@contextmanager
def network_timeout(seconds: float) -> Iterator[None]:
    """Downloads inside give up after this many seconds without a byte; torchvision and torch.hub would wait on."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


@contextmanager
def replacing(path: str | os.PathLike) -> Iterator[Path]:
    """A name beside `path` to write to; at the end of the with block that file takes the place of `path`.

    So `path` always stands for complete contents: the earlier ones after an error, a kill or on a full disk, the new
    ones afterwards, even if the power fails. The name ends in .tmp, so that no search for *.json finds half a file.

    OSError, which says that what was there is kept, where the file cannot be written.
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


# ------------------------------------------------- tensors, and what they are, in one file (safetensors)


def write_tensors(path: Path, tensors: Mapping[str, Tensor], about: str) -> None:
    """Write tensors with a text in the file's own header, so that its name always stands for complete contents.

    The folder is made if need be, once all is known to be writable. A SHA-256 of text and tensors goes with them.
    """
    # Copied, since the format cannot hold tensors that share memory.
    tensors = {k: v.detach().to("cpu", copy=True).contiguous() for k, v in tensors.items()}
    data = safetensors.torch.save(tensors, {"qdm_lib": about, "sha256": _digest(about, tensors)})
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        temporary.write_bytes(data)


def read_tensors(path: Path) -> tuple[str, dict[str, Tensor]] | None:
    """Text and tensors of a file of `write_tensors`; None for a safetensors file that something else wrote.

    ValueError for a file that is damaged or was changed. It is read at once: a file that is replaced meanwhile is
    either the old or the new one.
    """
    data = path.read_bytes()
    if (header := _header(path, data)) is None:
        return None
    try:
        tensors = safetensors.torch.load(data)
    except safetensors.SafetensorError as error:
        raise ValueError(f"{path} is damaged: {error}.") from None
    check_sha256(path, _digest(header["qdm_lib"], tensors), header["sha256"])
    return header["qdm_lib"], tensors


def read_header(path: Path) -> str | None:
    """Only the text of a file of `write_tensors`, unchecked; None for a safetensors file that something else wrote."""
    with path.open("rb") as file:
        start = file.read(8)
        header = _header(path, start + file.read(min(int.from_bytes(start, "little"), path.stat().st_size)))
    return header and header["qdm_lib"]


def _header(path: Path, data: bytes) -> dict[str, str] | None:
    """The texts in a safetensors file's header, which is JSON; the first 8 bytes of the file are its length."""
    try:
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        texts = header.get("__metadata__", {})
        return {name: texts[name] for name in ("qdm_lib", "sha256")} if "qdm_lib" in texts else None
    except (ValueError, AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is damaged: its header cannot be read ({error}).") from None


def _digest(text: str, tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 of the text and of names, kinds, shapes and bytes of the tensors."""
    digest = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        value = tensors[name]
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def check_sha256(path: Path, found: str, wanted: str) -> None:
    """ValueError that names the file unless the two agree."""
    if found != wanted:
        differs = f"its SHA-256 begins with {found[:12]}, not with {wanted[:12]} as recorded when it was saved"
        raise ValueError(f"{path} is damaged or was changed: {differs}.")
