"""The paper's Figures 1, 2 and 9 in our own hand, made from the library's objects (arXiv:2402.16147).

Figures 3 and 7 are `plots.draw_unet`, Figures 4 and 8 `draw_resnet_block`, Figures 5 and 6
`plots.draw_circuit(..., boxed=True)`. Each function draws into `ax` or a new figure and returns the Axes.
"""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from torch import Tensor

from qdm_course.figures.boxes import EDGE, draw_arrow, draw_box, finish
from qdm_lib import paper
from qdm_lib.checks import choice
from qdm_lib.circuits import Circuit
from qdm_lib.diffusion import NoiseSchedule
from qdm_lib.plots import (
    CIRCUIT_COLOURS,
    HATCH,
    KIND_COLOURS,
    OKABE_ITO,
    as_config,
    new_axes,
    tint,
    unet_blocks,
)
from qdm_lib.unet import UNetConfig


def draw_chain(
    schedule: NoiseSchedule, x_0: Tensor, eps: Tensor, ax: Axes | None = None, *,
    steps: Sequence[int] = (200, 450, 650, 999), title: str | None = None,
) -> Axes:  # fmt: skip
    """The chain of images, forward and back (Figure 1 of the paper).

    What you see: the clean image x_0 on the left, then the same image after more and more steps of noise. Arrows above
    run to the right, q: noise is added. Arrows below run to the left, p_θ: the network takes it away. An arrow stands
    for the many steps between two of the images.
    x_0, eps: an image and its noise, (1, 1, H, W). steps: which t are shown, counted from 0.
    """
    ax = new_axes(ax, (9.6, 2.7))
    frames = [x_0, *(schedule.q_sample(x_0, x_0.new_tensor([t]).long(), eps) for t in steps)]
    names = ["$x_0$", *(f"$x_{{t}}$, t = {t}" for t in steps)]
    for k, (frame, name) in enumerate(zip(frames, names, strict=True)):
        left = 2.0 * k
        pixels = frame[0, 0].clamp(-1, 1).numpy()
        ax.imshow(pixels, cmap="gray", vmin=-1, vmax=1, extent=(left, left + 1, 0, 1), interpolation="nearest")
        ax.text(left + 0.5, -0.06, name, ha="center", va="top", fontsize=9.5)
        if k:
            draw_arrow(ax, (left - 1 + 0.1, 0.72), (left - 0.1, 0.72), -0.3, OKABE_ITO["blue"])
            draw_arrow(ax, (left - 0.1, 0.28), (left - 1 + 0.1, 0.28), -0.3, OKABE_ITO["vermilion"])
    middle = len(frames) - 0.5
    ax.text(middle, 1.16, r"forward: $q(x_t\,|\,x_{t-1})$ adds noise $\rightarrow$", ha="center", fontsize=11,
            color=OKABE_ITO["blue"])  # fmt: skip
    ax.text(middle, -0.55, r"$\leftarrow$ back: $p_\theta(x_{t-1}\,|\,x_t)$, the network takes it away", ha="center",
            fontsize=11, color=OKABE_ITO["vermilion"])  # fmt: skip
    ax.set_aspect("equal")
    return finish(ax, title or f"{paper.figure(1).name} · the chain, forward and back", (-0.1, 2 * len(frames) - 0.9),
                   (-0.7, 1.4))  # fmt: skip


def draw_loop(circuit: Circuit, ax: Axes | None = None, *, title: str | None = None) -> Axes:
    """A variational circuit and what trains it, in a loop (Figure 2 of the paper).

    What you see: on the left the numbers x, encoded as angles; then the ansatz U with its weights θ; then the
    measurement of the observable Z on each wire. Below, on a classical computer: the loss compares the outputs with
    what is wanted, the optimiser changes θ, and an arrow leads back up to the ansatz.
    """
    ax = new_axes(ax, (9.2, 3.6))
    kinds = sorted({g.name for g in circuit.gates if g.block == "encoding"}) or ["none"]
    quantum, classical = tint(OKABE_ITO["orange"]), tint(OKABE_ITO["blue"])
    for y in (2.2, 2.4, 2.6, 2.8):
        ax.plot([1.0, 7.9], [y, y], color="#777777", lw=1, zorder=1)
    ax.text(0.95, 2.5, r"$|0\dots0\rangle$", ha="right", va="center", fontsize=11)
    draw_box(ax, 1.5, 2.0, 1.6, 1.0, f"encoding $\\phi(x)$\n{', '.join(kinds)}(x) on\neach of {circuit.n_inputs} wires",
         tint(OKABE_ITO["sky blue"]))  # fmt: skip
    draw_box(ax, 3.7, 2.0, 1.9, 1.0, f"ansatz $U_\\theta$\n{circuit.name}\n{circuit.n_weights} weights θ", quantum)
    draw_box(ax, 6.2, 2.0, 1.4, 1.0, f"measurement\n⟨Z⟩ on each of\n{circuit.n_wires} wires")
    draw_box(ax, 6.2, 0.3, 1.4, 0.8, "loss\nL(⟨Z⟩, target)", classical)
    draw_box(ax, 3.7, 0.3, 1.9, 0.8, "optimiser\nθ ← θ − step · ∂L/∂θ", classical)
    ax.text(0.35, 1.35, "x", fontsize=13, ha="center")
    for start, end in (((0.5, 1.42), (2.3, 1.98)), ((6.9, 2.0), (6.9, 1.12)), ((6.2, 0.7), (5.62, 0.7)),
                       ((4.65, 1.1), (4.65, 1.98))):  # fmt: skip
        draw_arrow(ax, start, end)
    ax.text(4.75, 1.5, "new θ", fontsize=9)
    for y, text in ((3.12, "quantum (or simulated)"), (0.02, "classical")):
        ax.text(7.6, y, text, ha="right", fontsize=9, style="italic", color="#555555")
    return finish(ax, title or f"{paper.figure(2).name} · a variational circuit in its loop", (0, 8.1), (-0.1, 3.35))


def draw_hand_over(
    config: UNetConfig | str = "1fqconv", ax: Axes | None = None, *, dataset: str = "fashion-mnist",
    title: str | None = None,
) -> Axes:  # fmt: skip
    """Transfer learning: a trained classical U-Net hands all but its vertex over to a hybrid (Figure 9 of the paper).

    What you see: two U-Nets, each a row of boxes as high as the picture at that place. Grey boxes of the left one,
    trained first, are copied into the right one; the vertex of the right one, in colour, starts fresh. The epochs
    below are the paper's for the data set. ValueError for an unknown preset or data set.
    """
    config = as_config(config)
    first = paper.HAND_OVER[choice("data set of the paper", dataset, paper.HAND_OVER)]
    ax = new_axes(ax, (9.6, 3.0))
    for left, name, which in ((0.0, f"classical U-Net, {first} epochs", "unet"),
                              (6.0, f"hybrid, {config.preset}: {20 - first} more", config)):  # fmt: skip
        x = left
        for group in unet_blocks(which):
            vertex = group[0].name.startswith("vertex")
            height = 0.35 + group[0].size / 28 * 1.6
            colour = "#C8C8C8" if not vertex else KIND_COLOURS["resnet"]
            known = next((name for name in CIRCUIT_COLOURS if config.ansatz.startswith(name)), "hqconv")
            style = {"hatch": HATCH[known], "facecolor": CIRCUIT_COLOURS[known]} if vertex and left else {}
            ax.add_patch(Rectangle((x, -height / 2), 0.34, height, **{"facecolor": colour, "edgecolor": EDGE} | style))
            if vertex:
                ax.text(x + 0.17, -0.4, "vertex:\nnew" if left else "vertex:\nleft behind", ha="center", va="top",
                        fontsize=8.5)  # fmt: skip
            x += 0.42
        ax.text(left + 2.3, -1.25, name, ha="center", va="top", fontsize=10)
    draw_arrow(ax, (2.0, 1.05), (8.3, 1.05), -0.12)
    ax.text(5.3, 1.55, "copied: every weight but the vertex's", ha="center", fontsize=10)
    return finish(ax, title or f"{paper.figure(9).name} · the hand-over", (-0.2, 10.8), (-1.6, 1.85))
