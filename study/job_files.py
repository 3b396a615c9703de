"""Around a job of an experiment: its lock, its pictures, its clock, and what it ran on."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from torch import Tensor

from qdm_lib.checkpoint import checkpoint_files
from qdm_lib.files import locked, replacing, to_disk, write_json
from qdm_lib.runs import read_losses

RECENT = 100  # steps in the reported loss


@contextmanager
def claim(folder: Path, wait: bool = False) -> Iterator[bool]:
    """Hold the lock of a job's folder; gives False where another process holds it (and wait is False).

    Only the system's lock on the file `<folder>.lock` counts, not whether that file is there.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with locked(folder.with_name(f"{folder.name}.lock"), wait) as mine:
        yield mine


def copy_state(folder: Path, target: Path) -> None:
    """A second copy of a run's newest checkpoint, complete or absent."""
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    for path in checkpoint_files(folder):
        shutil.copy2(path, temporary / path.name)
        to_disk(temporary / path.name)  # before the name points to it
    os.replace(temporary, target)


def shipped_model(models: Path, run: str, epochs: int) -> Path | None:
    """The folder of the model that a run such as paper/fashion-mnist/unet/seed-0 shipped after so many epochs.

    Its card tells, by the command that trains the run.
    """
    for path in sorted(models.glob("*/*/model.json")):
        card = json.loads(path.read_text(encoding="utf-8"))["card"]
        if card["command"].endswith(f" --only {run}") and card["epochs"] == epochs:
            return path.parent
    return None


def write_picture(images: Tensor, path: Path, columns: int = 8) -> None:
    """uint8 images (N, 1, 28, 28) as one grey PNG, tile beside tile, pixel for pixel: small, and readable back."""
    from PIL import Image

    rows = -(-len(images) // columns)
    tiles = np.zeros((rows * columns, 28, 28), np.uint8)
    tiles[: len(images)] = images[:, 0].numpy()
    sheet = tiles.reshape(rows, columns, 28, 28).swapaxes(1, 2).reshape(rows * 28, columns * 28)
    with replacing(path) as temporary:
        Image.fromarray(sheet).save(temporary, format="PNG", optimize=True)


def read_picture(path: Path) -> np.ndarray:
    """The images of `write_picture`: uint8 (N, 28, 28), empty tiles at the end included."""
    from PIL import Image

    with Image.open(path) as picture:
        sheet = np.asarray(picture)
    rows, columns = sheet.shape[0] // 28, sheet.shape[1] // 28
    return sheet.reshape(rows, 28, columns, 28).swapaxes(1, 2).reshape(-1, 28, 28)


def _curve(folder: Path) -> tuple[list[int], list[float]]:
    """Steps and losses of a run; none where only its shipped model is here (`shipped_model`)."""
    return read_losses(folder) if (folder / "loss.csv").is_file() else ([], [])


def recent_loss(folder: Path, step: int) -> float | None:
    """Mean loss of the last 100 steps up to a step, None before it; the whole curve stays in loss.csv."""
    numbers, losses = _curve(folder)
    recent = [loss for number, loss in zip(numbers, losses, strict=True) if step - RECENT < number <= step]
    return round(sum(recent) / len(recent), 6) if step in numbers else None


def is_run_of(folder: Path, losses: Mapping[int, float | None]) -> bool | None:
    """Whether a run had these `recent_loss`es, {step: loss}; None where its loss.csv lacks one and the others agree."""
    pairs = [(loss, recent_loss(folder, step)) for step, loss in losses.items() if loss is not None]
    if any(here is not None and loss != here for loss, here in pairs):
        return False
    return True if pairs and all(here is not None for _, here in pairs) else None


def epoch_losses(folder: Path, last_steps: Mapping[int, int]) -> dict[int, float]:
    """{epoch: mean training loss of its steps}, of each epoch whose steps all stand in the run's loss.csv.

    last_steps: {epoch: its last step}, from epoch 0, whose last step is 0.
    """
    found = dict(zip(*_curve(folder), strict=True))
    means = {}
    for epoch in sorted(last_steps)[1:]:
        steps = range(last_steps[epoch - 1] + 1, last_steps[epoch] + 1)
        if all(step in found for step in steps):
            means[epoch] = round(sum(found[step] for step in steps) / len(steps), 6)
    return means


def note_time(folder: Path, first: int, last: int, seconds: float, busy: float, machine: dict) -> None:
    """Add to the run's timing.json how long steps first + 1 … last took, by the clock and of CPU time, and where."""
    part = {"steps": last - first, "seconds": round(seconds, 3), "cpu_seconds": round(busy, 3), "machine": machine}
    write_json(folder / "timing.json", [*_times(folder), part])


def _times(folder: Path) -> list[dict]:
    path = folder / "timing.json"
    return json.loads(path.read_text()) if path.is_file() else []


def trained_on(folder: Path) -> dict | None:
    """The machine of the run's last steps, as `describe_machine` has it; None where it was not noted."""
    times = _times(folder)
    return times[-1].get("machine") if times else None


def seconds_per_step(folder: Path) -> dict[str, float] | None:
    """Seconds by the clock and of CPU time (all threads) for a step, over all steps on the machine of the last ones.

    None where they were not noted.
    """
    parts = [part for part in _times(folder) if part.get("machine") == trained_on(folder)]
    steps = sum(part["steps"] for part in parts)
    return {key: round(sum(p[key] for p in parts) / steps, 4) for key in ("seconds", "cpu_seconds")} if steps else None
