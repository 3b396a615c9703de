"""Checkpoints of version 1: the JSON in a file of its own beside the tensors. Read here, no longer written."""

from __future__ import annotations

import hashlib
from pathlib import Path

import safetensors.torch
from torch import Tensor

from qdm_lib.files import check_sha256

ENTRIES = {"file": str, "sha256": str}  # of its JSON, beside those that version 2 has, too


def read_tensors(folder: Path, info: dict) -> tuple[Path, dict[str, Tensor]]:
    """Path and tensors of the file that the JSON names; FileNotFoundError or ValueError where it is gone or damaged."""
    path = folder / Path(info["file"]).name  # never outside the folder, whatever the JSON says
    if not path.is_file():
        raise FileNotFoundError(f"The tensors of the checkpoint are missing: there is no file {path}.")
    data = path.read_bytes()
    check_sha256(path, hashlib.sha256(data).hexdigest(), info["sha256"])
    return path, safetensors.torch.load(data)


def remove(folder: Path) -> None:
    """Delete what a save of version 1 wrote, once version 2 stands beside it."""
    for old in (folder / "checkpoint.json", *folder.glob("state-*.safetensors")):
        old.unlink(missing_ok=True)
