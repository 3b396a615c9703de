"""The moving figure of notebook 04: the hybrid convolution at the vertex, from no circuit to all of them."""

from __future__ import annotations

from functools import cache

import torch
import torch.nn.functional as F
from matplotlib.figure import Figure

from qdm_course.moving.base import MovingFigure
from qdm_lib.data import load_images, to_model_range
from qdm_lib.diffusion import NoiseSchedule
from qdm_lib.plots import OKABE_ITO
from qdm_lib.quantum import QuantumLayer
from qdm_lib.unet import MAX_CIRCUITS, VERTEX_CHANNELS, build_unet, count_parameters

IMAGES, SEED = 32, 0  # behind every measured scale; of the weights, the images' noise and their steps
ANSATZE = {"HQConv": "hqconv", "FQConv": "fqconv"}


@cache
def noisy_images(n: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Bundled images with the noise of random steps, and the steps: x_t (n, 1, 28, 28) and t (n,)."""
    generator = torch.Generator().manual_seed(SEED)
    x_0 = to_model_range(load_images("fashion-mnist", "train", bundled=True).images[:n])
    t = torch.randint(0, 1000, (n,), generator=generator)
    return NoiseSchedule().q_sample(x_0, t, torch.randn(x_0.shape, generator=generator)), t


def block_row(hybridization: int | str, ansatz: str = "hqconv", images: int = IMAGES) -> dict:
    """What a fresh U-Net has in the first vertex convolution, for 0 … 13 circuits or "full".

    Returns parameters of the convolution (`conv`), of its circuits (`circuits`) and of the whole U-Net (`model`), and
    the standard deviation of each of the 40 channels `before` and `after` the GroupNorm (without the time's scale and
    shift, and without SiLU), over bundled Fashion-MNIST images with noise of random steps.
    """
    preset = "unet" if hybridization == 0 else f"1{ansatz}"
    model = build_unet(preset, hybridization=hybridization, ansatz=ansatz, seed=SEED, verbose=False).eval()
    conv, norm, seen = model.vertex_block1.conv1, model.vertex_block1.norm1, {}
    hook = conv.register_forward_hook(lambda module, args, out: seen.update(before=out))
    with torch.no_grad():
        model(*noisy_images(images))
        hook.remove()
        seen["after"] = F.group_norm(seen["before"], norm.num_groups, norm.weight, norm.bias, norm.eps)
    scales = {name: h.transpose(0, 1).flatten(1).std(1).tolist() for name, h in seen.items()}
    return {
        "conv": count_parameters(conv),
        "circuits": sum(m.theta.numel() for m in conv.modules() if isinstance(m, QuantumLayer)),
        "model": count_parameters(model),
        **{name: [float(f"{value:.3g}") for value in values] for name, values in scales.items()},
    }


def moving_block() -> MovingFigure:
    """The vertex convolution with 0 to 13 circuits and "full": channels, groups of the norm, parameters and scales.

    All numbers are the library's, measured here in fresh models.
    """
    rows = {
        name: [block_row(n, ansatz) for n in (*range(MAX_CIRCUITS + 1), "full")] for name, ansatz in ANSATZE.items()
    }
    figure, after = Figure(figsize=(5.6, 2.4), layout="constrained"), rows["HQConv"][1]["after"]
    ax = figure.subplots()
    ax.bar(range(VERTEX_CHANNELS), after, color=[OKABE_ITO["orange"]] * 3 + [OKABE_ITO["blue"]] * (VERTEX_CHANNELS - 3))
    ax.vlines([c - 0.5 for c in range(0, VERTEX_CHANNELS + 1, 4)], 0, max(after), color="#777777", lw=0.8)
    ax.set(xlabel="vertex channel, in 10 groups of 4", ylabel="std after the norm", title="One HQConv circuit")
    words = (
        "40 bars, the scales of the vertex channels after the norm with one circuit: its three channels are low, the "
        "classical one that shares their group is about twice as high as the others."
    )
    return MovingFigure("block", figure, words, {"size": VERTEX_CHANNELS // 10, "rows": rows})
