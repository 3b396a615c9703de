"""Trainings of the notebooks, recorded shortly before their end, so that a small machine can run the end alone.

notebooks/recorded/<name>/ holds a checkpoint, with every loss so far, and the pictures drawn on the way. What follows
is the same as in a run that was never interrupted: to the last bit on the machine that recorded it, elsewhere up to the
rounding of another processor. tools/record_training.py writes them, by running the notebooks' own cells.
"""

from pathlib import Path

import torch
from torch import nn

from qdm_lib.checkpoint import load_checkpoint, restore, save_checkpoint
from qdm_lib.files import read_tensors, write_tensors
from qdm_lib.training import EMA

RECORDED = Path(__file__).resolve().parents[1] / "notebooks" / "recorded"  # in a clone; a wheel has no notebooks


def record(
    name: str, *, model: nn.Module, ema: EMA, optimizer: torch.optim.Optimizer, noise: torch.Generator,
    losses: list[float], pictures: dict[int, torch.Tensor], folder: Path = RECORDED,
) -> None:  # fmt: skip
    """Write the state after `len(losses)` steps. pictures: images in [−1, 1] by step; kept to 3 decimals (float16)."""
    save_checkpoint(folder / name, model=model, ema=ema, optimizer=optimizer, step=len(losses),
                    run_config={"losses": losses}, generators={"noise": noise})  # fmt: skip
    if pictures:
        tensors = {str(step): images.half().contiguous() for step, images in pictures.items()}
        write_tensors(folder / name / "pictures.safetensors", tensors, "{}")


def go_on_from(
    name: str, *, model: nn.Module, ema: EMA, optimizer: torch.optim.Optimizer, noise: torch.Generator,
    folder: Path = RECORDED,
) -> tuple[list[float], dict[int, torch.Tensor]]:  # fmt: skip
    """Put a recorded state into model, average, optimiser and generator; returns the losses and the pictures so far.

    FileNotFoundError or ValueError as in `load_checkpoint` and `restore`, where there is no record or it does not fit.
    """
    saved = load_checkpoint(folder / name)
    restore(saved, model=model, ema=ema, optimizer=optimizer, generators={"noise": noise})
    path = folder / name / "pictures.safetensors"
    pictures = read_tensors(path)[1] if path.is_file() else {}
    return saved.run_config["losses"], {int(step): pictures[step].float() for step in sorted(pictures, key=int)}
