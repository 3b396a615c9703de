"""Draw images from a trained model, and score them: shared by the command line, the demo and the experiments."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from qdm_lib.checks import choice, whole
from qdm_lib.data import ImageSet, to_uint8
from qdm_lib.diffusion import SAMPLERS, NoiseSchedule, SampleState
from qdm_lib.features import fingerprint
from qdm_lib.files import read_npz, write_json, write_npz
from qdm_lib.machine import free_memory, pick_device, ran_out_of_memory, release_memory
from qdm_lib.runs.run import check_writable
from qdm_lib.runs.streams import DRAW_STREAM
from qdm_lib.transfer import unwrap

# Bytes that an image needs on its way through the model, at most: 1 to 3 MB, the statevector backend with quanvolution.
IMAGE_MEMORY = 4e6


def check_sampler(sampler: str, steps: int | None = None, T: int = 1000) -> int:
    """The number of model calls for a sampler; None is its usual number: ddpm T, ddim 50, dpm 20.

    ValueError for an unknown sampler or a number it cannot take.
    """
    usual = SAMPLERS[choice("sampler", sampler, SAMPLERS)][1]
    if usual is not None:
        return whole("steps", usual if steps is None else steps, 1, T)
    if steps not in (None, T):
        raise ValueError(f"The {sampler} sampler always takes {T} steps, not {steps}; use ddim or dpm for fewer.")
    return T


@torch.no_grad()
def generate(
    model: nn.Module,
    n: int,
    *,
    sampler: str = "ddim",
    steps: int | None = None,
    seed: int = 0,
    batch_size: int = 250,
    device: str | torch.device | None = None,
    progress: bool = True,
    on_state: Callable[[SampleState], None] | None = None,
    part: str | os.PathLike | None = None,
    schedule: NoiseSchedule | None = None,
) -> Tensor:
    """Draw n images: uint8 (n, 1, 28, 28).

    All start noise is drawn at once on the CPU from the seed. So with ddim and dpm, which add no noise on the way,
    image k is the same for any n > k, batch size and device, up to rounding.

    batch_size: images at a time, at most; fewer where less memory is free (see `free_memory`).
    sampler, steps: see `check_sampler`. on_state: gets the states of the first batch, for a film strip.
    part: a file for the batches that are done; its folder is made if need be. If it is there, from the same call and
    the same weights, drawing goes on after them; the images are those of an uninterrupted call. It stays when all is
    drawn: remove it once the images are safe.
    schedule: of the noise that the model was trained with. Left out, it is the model's own (a model of `load_model`
    knows it), else the recipe's, cosine with T = 1000.
    ValueError for a wrong argument, and for another schedule than the model's own, and OSError for a folder that cannot
    be written, before any work; MemoryError.
    """
    n, batch_size, seed = whole("n", n), whole("batch_size", batch_size), whole("seed", seed, 0, 2**31 - 1)
    schedule = _schedule_of(model, schedule)
    steps = check_sampler(sampler, steps, schedule.T)
    if part is not None:
        check_writable(Path(part).parent)
    from tqdm.auto import tqdm

    device = pick_device(device)
    model = model.to(device).eval()
    if device.type == "cpu":
        batch_size = int(max(1, min(batch_size, free_memory() / 2 / IMAGE_MEMORY)))
    generator = torch.Generator().manual_seed(seed + DRAW_STREAM)
    dtype = next((p.dtype for p in model.parameters()), torch.float32)
    starts = torch.randn((n, 1, 28, 28), generator=generator).to(dtype).split(batch_size)
    sample, usual = SAMPLERS[sampler]
    options = {} if usual is None else {"steps": steps}
    tensors = {} if part is None else model.state_dict() | {"betas of the schedule": schedule.betas}
    about = json.dumps([n, sampler, steps, seed, batch_size, fingerprint(tensors)])
    done = _read_part(part, about, generator)
    with tqdm(total=len(starts) * steps, initial=len(done) * steps, desc=f"draw {n} by {sampler}", unit="step",
              disable=not progress) as bar, _memory_errors(batch_size):  # fmt: skip
        for k, x_T in enumerate(starts[len(done) :], len(done)):
            for state in sample(model, schedule, x_T.shape, x_T=x_T, generator=generator, device=device, **options):
                bar.update()
                if k == 0 and on_state is not None:
                    on_state(state)
            done.append(to_uint8(state.x_0.cpu()))
            if part is not None:
                images = {str(number): one.numpy() for number, one in enumerate(done)}
                write_npz(Path(part), about=np.array(about), generator=generator.get_state().numpy(), **images)
    release_memory()
    return torch.cat(done)


@contextmanager
def _memory_errors(batch_size: int) -> Iterator[None]:
    """Running out of memory becomes a MemoryError, whoever reports it."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if ran_out_of_memory(error):
            raise MemoryError(f"no memory to draw {batch_size} images at a time") from error
        raise


def _schedule_of(model: nn.Module, told: NoiseSchedule | None) -> NoiseSchedule:
    """The schedule to draw with; ValueError where another one is given than that of training."""
    own = getattr(unwrap(model), "schedule", None)
    if None not in (own, told) and not torch.equal(own.betas, told.betas):
        raise ValueError(f"The model was trained with {own}; images cannot be drawn from it with {told}.")
    return told or own or NoiseSchedule()


def _read_part(path, about: str, generator: torch.Generator) -> list[Tensor]:
    """The batches that an interrupted call left, the generator set back to where it stood; none of another call."""
    arrays = {} if path is None else read_npz(Path(path), about)
    if not arrays:
        return []
    generator.set_state(torch.from_numpy(arrays["generator"]))
    return [torch.from_numpy(arrays[str(number)]) for number in range(len(arrays) - 2)]


class Film:
    """Keeps a few images of every state: `generate(…, on_state=film)`, then `film_strip(film.states)`."""

    def __init__(self, n_images: int = 3) -> None:
        self.n_images, self.states = n_images, []

    def __call__(self, state: SampleState) -> None:
        few = (x[: self.n_images].cpu().clone() for x in (state.x_t, state.x_0))
        self.states.append(SampleState(state.step, state.t, *few))


def score_to_json(
    path: str | os.PathLike, generated: Tensor, reference: ImageSet, held_out: ImageSet, about: dict, **options
) -> dict:
    """Score generated images by `metrics.evaluate`, write the scores and `about` to a JSON file, return the scores.

    reference: real images, the training split. held_out: those of the test split, for the floor. options: as
    `metrics.evaluate` takes them. The file's folder is made if need be; OSError, before any work, where it cannot be
    written.
    """
    from qdm_lib.metrics import evaluate

    check_writable(Path(path).parent)
    scores = evaluate(generated, reference, floor_images=held_out, **options)
    content = about | {"scores": {key: score.to_json() for key, score in scores.items()}}
    write_json(Path(path), content)
    return scores
