"""The images of the hybridization widget: films of the reverse process, also with the circuits silenced.

A film is uint8 (frames, images, 28, 28): the states x_t of DDIM on the way, pure noise first, and at the end the
images. Every model starts from the noise of the same seed, so its first frame is the same. Stored as film.png beside
the model: a row for each frame, a column for each image.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, PngImagePlugin
from torch import Tensor, nn

from qdm_lib.controls import CONTROLS
from qdm_lib.data import to_uint8
from qdm_lib.diffusion import NoiseSchedule, ddim_sample
from qdm_lib.files import replacing
from qdm_lib.quantum import QuantumLayer

IMAGES, STEPS, EVERY = 8, 20, 2  # images of a film, steps of DDIM, and steps from frame to frame
SIZE, MILLISECONDS = 28, 250  # pixels a side; from frame to frame when it plays
WEIGHTS_STREAM = 5_000_011  # added to the seed of random weights: see qdm_lib.runs.streams
AS_TRAINED, RANDOM = "as trained", "random weights"
ABLATIONS = {AS_TRAINED: None, RANDOM: None, "zeros": "zero", "cos(x)": "cos"}  # and the controls they are


def start_noise(seed: int) -> Tensor:
    """x_T of every film with this seed, (8, 1, 28, 28)."""
    return torch.randn(IMAGES, 1, SIZE, SIZE, generator=torch.Generator().manual_seed(seed))


def ablate(model: nn.Module, ablation: str, seed: int = 0) -> nn.Module:
    """Put something else in the place of every circuit of a model, in place; returns the model.

    ablation: a key of `ABLATIONS`. "random weights" draws θ from U[0, 1), where training starts too; "zeros" and
    "cos(x)" are the controls of those names: no output, and what the encoding alone gives.
    """
    generator = torch.Generator().manual_seed(seed + WEIGHTS_STREAM)
    for module in list(model.modules()):
        for name, layer in list(module.named_children()):
            if isinstance(layer, QuantumLayer) and ABLATIONS[ablation]:
                setattr(module, name, CONTROLS[ABLATIONS[ablation]](layer))
            elif isinstance(layer, QuantumLayer) and ablation == RANDOM:
                with torch.no_grad():
                    layer.theta.copy_(torch.rand(layer.theta.shape, generator=generator))
    return model


def draw_film(model: nn.Module, seed: int = 0) -> Iterator[np.ndarray | None]:
    """Draw a film; yields None after each of the 20 steps, and at last the film."""
    x_T, frames = start_noise(seed), []
    states = ddim_sample(model, NoiseSchedule(), x_T.shape, steps=STEPS, x_T=x_T)
    for state in states:
        if state.step % EVERY == 0:
            frames.append(to_uint8(state.x_t.clamp(-1, 1)))
        yield None
    frames.append(to_uint8(state.x_0))
    yield torch.stack(frames)[:, :, 0].numpy()


# ---------------------------------------------------------------------------------- as files and pictures


def save_film(path: Path, film: np.ndarray) -> None:
    """Write a film as one PNG, whole or not at all."""
    frames, images = film.shape[:2]
    sheet = film.transpose(0, 2, 1, 3).reshape(frames * SIZE, images * SIZE)
    about = PngImagePlugin.PngInfo()
    about.add_text("steps", str(STEPS))
    with replacing(path) as temporary:
        Image.fromarray(sheet).save(temporary, "PNG", pnginfo=about, optimize=True)


def read_film(path: Path) -> np.ndarray | None:
    """The stored film of a model; None where there is none, or one of another number of steps."""
    try:
        with Image.open(path) as image:
            steps, sheet = image.text.get("steps"), np.array(image.convert("L"))
    except OSError:
        return None
    if steps != str(STEPS) or sheet.shape[1] != IMAGES * SIZE:
        return None
    return sheet.reshape(-1, SIZE, IMAGES, SIZE).transpose(0, 2, 1, 3)


def tile(images: np.ndarray, columns: int = 4) -> np.ndarray:
    """Images (n, h, w) as one picture of `columns` a row, with a white pixel between them."""
    n, height, width = images.shape
    rows = -(-n // columns)
    canvas = np.full((rows * (height + 1) - 1, columns * (width + 1) - 1), 255, np.uint8)
    for k, image in enumerate(images):
        y, x = k // columns * (height + 1), k % columns * (width + 1)
        canvas[y : y + height, x : x + width] = image
    return canvas


def png_of(frames: Sequence[np.ndarray], play: int = 0) -> bytes:
    """Pictures (h, w) as one PNG: the only one, or all of them as an animation that plays once and stays at the last.

    play: a number that changes the bytes of an animation, so that a browser plays it again.
    """
    buffer, (first, *others) = io.BytesIO(), [Image.fromarray(frame) for frame in frames]
    about = PngImagePlugin.PngInfo()
    about.add_text("play", str(play))
    more = {"save_all": True, "append_images": others, "duration": MILLISECONDS, "loop": 1} if others else {}
    first.save(buffer, "PNG", pnginfo=about, compress_level=1, **more)
    return buffer.getvalue()


def difference(images: np.ndarray, others: np.ndarray) -> tuple[np.ndarray, float]:
    """How images differ, uint8 with mid-grey for "not at all", and the mean of |difference| as a share of the range."""
    apart = others.astype(np.int16) - images
    return (128 + np.sign(apart) * (np.abs(apart) // 2)).clip(0, 255).astype(np.uint8), float(
        np.abs(apart).mean() / 255
    )
