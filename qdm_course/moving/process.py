"""The moving figures of the diffusion process: in one dimension (notebook 01), and as a film of images (00, 06)."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape
from pathlib import Path

import torch
from matplotlib.figure import Figure

from qdm_course.moving.base import MovingFigure
from qdm_course.widgets.films import EVERY, IMAGES, SIZE, STEPS, read_film
from qdm_lib.diffusion import NoiseSchedule, cosine_betas, ddim_sample
from qdm_lib.plots import OKABE_ITO

T = 1000  # of the recipe
STILL_PARTICLES, ZOOM = 16, 2  # of the still pictures: paths, and screen pixels a pixel of the film


def mixture_denoiser(weights: Sequence[float], means: Sequence[float], width: float, schedule: NoiseSchedule):
    """The function (x_t, t) → E[ε | x_t] of numbers x_0 from Σ w_k N(μ_k, s²); x_t (B, 1), t (B,) → (B, 1).

    E[ε | x_t] = √(1-ᾱ)/v Σ_k r_k (x_t - √ᾱ μ_k) with v = ᾱ s² + 1 - ᾱ and r_k ∝ w_k exp(-(x_t - √ᾱ μ_k)²/2v), the
    probability of component k (built by hand in notebook 01).
    """

    def model(x_t: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        abar = schedule.alphas_cumprod[t].to(x_t.dtype).view(-1, 1)
        v = abar * width**2 + 1 - abar
        away = x_t - abar.sqrt() * x_t.new_tensor(means)
        r = torch.softmax(x_t.new_tensor(weights).log() - away**2 / (2 * v), dim=1)
        return (1 - abar).sqrt() / v * (r * away).sum(1, keepdim=True)

    return model


def moving_reverse(
    weights: Sequence[float] = (0.5, 0.2, 0.3), means: Sequence[float] = (-0.7, 0.0, 0.6), width: float = 0.05
) -> MovingFigure:
    """The reverse process of a mixture of Gaussians, whose exact ε is known: particles and density, step by step.

    weights, means, width: of the mixture Σ w_k N(μ_k, s²), by default that of notebook 01. The reader chooses the
    number of steps, η from DDIM to DDPM, the clamp of x̂_0, and an error that is added to every ε.
    """
    schedule = NoiseSchedule(cosine_betas(T))
    start = torch.randn(STILL_PARTICLES, 1, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    model = mixture_denoiser(weights, means, width, schedule)
    states = list(ddim_sample(model, schedule, start.shape, steps=25, x_T=start))
    figure = Figure(figsize=(5.2, 2.8), layout="constrained")
    ax = figure.subplots()
    ax.plot([s.t for s in states], torch.cat([s.x_t for s in states], 1).T.numpy(), color=OKABE_ITO["blue"], lw=0.8)
    ax.set(xlim=(T, 0), xlabel="t (time runs backwards)", ylabel="$x_t$", title="DDIM, 25 steps")
    words = (
        f"{STILL_PARTICLES} paths from noise, from {start.min():.1f} to {start.max():.1f}, into {len(means)} bundles "
        f"near the means of the mixture, {', '.join(f'{mean:.1f}' for mean in means)}."
    ).replace("-", "−")
    mixture = {"weights": list(weights), "means": list(means), "width": width}
    return MovingFigure("reverse", figure, words, {"mixture": mixture, "T": T})


def moving_film(folder: str | Path) -> MovingFigure:
    """The denoising of eight images as a film, of any model that has its `film.png` beside it, as shipped ones do.

    Raises ValueError for a folder without one; `qdm_course.widgets.films.draw_film` and `save_film` make it.
    """
    path = Path(folder) / "film.png"
    film = read_film(path)
    if film is None:
        raise ValueError(f"{folder} holds no film.png of {STEPS} steps; models that come with the course have one.")
    frames, images = film.shape[:2]
    # DDIM's times as ddim_sample visits them; the last frame is the image itself
    visited = torch.linspace(T - 1, 0, STEPS, dtype=torch.float64).round().long().tolist()[::EVERY]
    dataset, name = Path(folder).resolve().parts[-2:]
    words = (
        f"{frames} rows of {images} pictures, drawn by the model {name}: the first row is noise, which clears from row "
        "to row; the last holds the finished images."
    )
    still = (
        f'<img alt="{escape(words)}" width="{ZOOM * IMAGES * SIZE}" height="{ZOOM * frames * SIZE}" '
        'style="max-width: 100%; height: auto; image-rendering: pixelated" '
        f'src="data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}">'
    )
    data = {"frames": frames, "images": images, "size": SIZE, "times": [*visited, None], "name": name}
    return MovingFigure("film", still, words, data, key=f"{dataset}-{name}")
