"""One training run on several processes or GPUs, through Hugging Face Accelerate (`pip install accelerate`).

    python -m torch.distributed.run --nproc-per-node 2 -m qdm_lib train --preset 1hqconv --device cpu --out runs/x
    accelerate launch --multi_gpu --num_processes 2 -m qdm_lib train --preset 1hqconv --out runs/x

The first (torchrun is its short name) works on CPUs and, without `--device cpu`, on as many GPUs as processes. The
second needs two GPUs: without them `accelerate launch` starts one process, whatever --num_processes says.

Every process draws the whole global batch, its time steps and its noise from the same seeds and works on its own rows;
gradients are averaged. So the run is the one that a single process makes at the same batch size, up to rounding, and
checkpoints of the one continue the other. A run with an experiment's options in the place of its cell, such as
`--preset fullhqconv --first-weights unet --epochs 2 --out runs/short/fashion-mnist/fullhqconv/seed-0`, is adopted and
scored by `python -m qdm_lib experiment run`, itself a program of one process for each job.
"""

from __future__ import annotations

import os
import sys

import torch
from torch import Tensor, nn


class Processes:
    """What `training.train` and `runs.train_run` need to know of the other processes of a run."""

    def __init__(self, accelerator) -> None:
        self.accelerator = accelerator
        self.rank, self.size = accelerator.process_index, accelerator.num_processes
        self.device, self.is_main = accelerator.device, accelerator.is_main_process

    def check_batch(self, size: int) -> None:
        """ValueError unless all processes get equally many images of a batch."""
        if size % self.size:
            raise ValueError(f"{self.size} processes cannot share a batch of {size} images equally.")

    def share(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """This process's rows of each tensor; ValueError as in `check_batch`."""
        self.check_batch(len(tensors[0]))
        return tuple(tensor[self.rank :: self.size] for tensor in tensors)

    def mean(self, value: Tensor) -> Tensor:
        """The mean of a tensor over all processes."""
        return self.accelerator.reduce(value, "mean")

    def any(self, flag: bool) -> bool:
        """Whether any process says yes."""
        return bool(self.accelerator.reduce(torch.tensor(float(flag), device=self.device), "sum") > 0)

    def wrap(self, model: nn.Module) -> nn.Module:
        """The model with gradients averaged over the processes; it starts from the weights of the main one."""
        return self.accelerator.prepare_model(model)

    def wait(self) -> None:
        """Return once all processes have come this far."""
        self.accelerator.wait_for_everyone()

    def close(self) -> None:
        """Leave the group, at the end of the program."""
        self.accelerator.end_training()


def launched_processes(device: str | None = None) -> Processes | None:
    """The processes that torchrun or accelerate launch started together; None for a program that runs alone.

    device: "cpu" keeps the GPUs out. The precision is that of one process, whatever Accelerate was told. ValueError if
    Accelerate is missing. One line on stderr warns where it was asked for several processes and started one.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) < 2:
        # accelerate launch sets the first always, and the second only where it was asked for several processes
        if {"ACCELERATE_MIXED_PRECISION", "MASTER_PORT"} <= os.environ.keys() and "WORLD_SIZE" not in os.environ:
            print("qdm_lib: accelerate launch was asked for several processes and started one, which now trains alone; "
                  "for more, use python -m torch.distributed.run --nproc-per-node 2 -m qdm_lib train …",
                  file=sys.stderr)  # fmt: skip
        return None
    try:
        from accelerate import Accelerator
    except ImportError:
        raise ValueError("Training on several processes needs accelerate; 'pip install accelerate' gets it.") from None
    return Processes(Accelerator(cpu=device == "cpu" or not torch.cuda.is_available(), mixed_precision="no"))
