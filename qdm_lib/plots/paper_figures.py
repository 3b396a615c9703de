"""The paper's diagrams in our own hand, made from the library's objects: Figures 1, 2, 4, 8 and 9 of arXiv:2402.16147.

Figures 3 and 7 are `draw_unet`, Figures 5 and 6 are `draw_circuit(..., boxed=True)`. As everywhere in `qdm_lib.plots`,
each function draws into `ax` or a new figure and returns the Axes.
"""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.patches import FancyBboxPatch, Rectangle
from torch import Tensor, nn

from qdm_lib import paper
from qdm_lib.blocks import CircuitConv, ResnetBlock, SplitConv
from qdm_lib.checks import choice
from qdm_lib.circuits import Circuit
from qdm_lib.diffusion import NoiseSchedule
from qdm_lib.plots.style import OKABE_ITO, new_axes, tint
from qdm_lib.plots.unets import CIRCUIT_COLOURS, HATCH, KIND_COLOURS, OTHER_ANSATZ, as_config, unet_blocks
from qdm_lib.unet import UNet, UNetConfig, count_parameters

EDGE = "#333333"
ARROW = {"arrowstyle": "-|>", "color": EDGE, "lw": 1.2, "mutation_scale": 11, "shrinkA": 0, "shrinkB": 0}
LEVELS = ("vertex", "encoder")


def _box(ax: Axes, x: float, y: float, width: float, height: float, text: str, colour="#FFFFFF") -> None:
    """A rounded box with its lower left corner at (x, y) and a text in its middle."""
    shape = FancyBboxPatch((x, y), width, height, boxstyle="round,pad=0,rounding_size=0.06", facecolor=colour,
                           edgecolor=EDGE, lw=1, zorder=2)  # fmt: skip
    ax.add_patch(shape)
    ax.text(x + width / 2, y + height / 2, text, ha="center", va="center", fontsize=9, zorder=3, linespacing=1.15)


def _arrow(ax: Axes, start: tuple[float, float], end: tuple[float, float], bend: float = 0, colour: str = EDGE) -> None:
    style = ARROW | {"connectionstyle": f"arc3,rad={bend}", "color": colour}
    ax.annotate("", end, start, arrowprops=style, zorder=1)


def _finish(ax: Axes, title: str, xlim: tuple[float, float], ylim: tuple[float, float]) -> Axes:
    ax.set_title(title, fontsize=11)
    ax.set(xlim=xlim, ylim=ylim)
    ax.set_axis_off()
    return ax


# ------------------------------------------------------------------------------- Figure 1


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
            _arrow(ax, (left - 1 + 0.1, 0.72), (left - 0.1, 0.72), -0.3, OKABE_ITO["blue"])
            _arrow(ax, (left - 0.1, 0.28), (left - 1 + 0.1, 0.28), -0.3, OKABE_ITO["vermilion"])
    middle = len(frames) - 0.5
    ax.text(middle, 1.16, r"forward: $q(x_t\,|\,x_{t-1})$ adds noise $\rightarrow$", ha="center", fontsize=11,
            color=OKABE_ITO["blue"])  # fmt: skip
    ax.text(middle, -0.55, r"$\leftarrow$ back: $p_\theta(x_{t-1}\,|\,x_t)$, the network takes it away", ha="center",
            fontsize=11, color=OKABE_ITO["vermilion"])  # fmt: skip
    ax.set_aspect("equal")
    return _finish(ax, title or f"{paper.figure(1).name} · the chain, forward and back", (-0.1, 2 * len(frames) - 0.9),
                   (-0.7, 1.4))  # fmt: skip


# ------------------------------------------------------------------------------- Figure 2


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
    _box(ax, 1.5, 2.0, 1.6, 1.0, f"encoding $\\phi(x)$\n{', '.join(kinds)}(x) on\neach of {circuit.n_inputs} wires",
         tint(OKABE_ITO["sky blue"]))  # fmt: skip
    _box(ax, 3.7, 2.0, 1.9, 1.0, f"ansatz $U_\\theta$\n{circuit.name}\n{circuit.n_weights} weights θ", quantum)
    _box(ax, 6.2, 2.0, 1.4, 1.0, f"measurement\n⟨Z⟩ on each of\n{circuit.n_wires} wires")
    _box(ax, 6.2, 0.3, 1.4, 0.8, "loss\nL(⟨Z⟩, target)", classical)
    _box(ax, 3.7, 0.3, 1.9, 0.8, "optimiser\nθ ← θ − step · ∂L/∂θ", classical)
    ax.text(0.35, 1.35, "x", fontsize=13, ha="center")
    for start, end in (((0.5, 1.42), (2.3, 1.98)), ((6.9, 2.0), (6.9, 1.12)), ((6.2, 0.7), (5.62, 0.7)),
                       ((4.65, 1.1), (4.65, 1.98))):  # fmt: skip
        _arrow(ax, start, end)
    ax.text(4.75, 1.5, "new θ", fontsize=9)
    for y, text in ((3.12, "quantum (or simulated)"), (0.02, "classical")):
        ax.text(7.6, y, text, ha="right", fontsize=9, style="italic", color="#555555")
    return _finish(ax, title or f"{paper.figure(2).name} · a variational circuit in its loop", (0, 8.1), (-0.1, 3.35))


# ------------------------------------------------------------------------------- Figures 4 and 8


def resnet_block(config: UNetConfig | str, level: str = "vertex") -> ResnetBlock:
    """The first ResNet block of a model's vertex, or of the second level of its encoder. ValueError for other words."""
    choice("level of the block", level, LEVELS)
    model = UNet(as_config(config))
    return model.vertex_block1 if level == "vertex" else model.encoder[1]["block1"]


def conv_parts(conv: nn.Module) -> list[tuple[str, str, int]]:
    """What stands where a convolution stood: (kind, text, channels) from the first channel on."""
    if isinstance(conv, SplitConv):
        return [*conv_parts(conv.quantum), *conv_parts(conv.rest)]
    if isinstance(conv, CircuitConv):
        circuit, n = getattr(conv.layer, "circuit", None), conv.n_circuits
        name = circuit.name.split(",")[0] if circuit else type(conv.layer).__name__
        return [(name.lower(), f"{n} × {name}", n * conv.channels)]
    return [("conv", "3×3 convolution", conv.out_channels)]


def describe_resnet_block(config: UNetConfig | str, level: str = "vertex") -> str:
    """The drawing of `draw_resnet_block` in words, for its alternative text."""
    block = resnet_block(config, level)
    parts = " and ".join(f"{text} on {channels} channels" for _, text, channels in conv_parts(block.conv1))
    return (
        f"The ResNet block of {as_config(config).preset} at the {level}, from left to right: {parts}; GroupNorm in "
        f"{block.norm1.num_groups} groups; scale and shift from the time t; SiLU; the same convolution again; "
        "GroupNorm; SiLU; plus the block's input, which a line carries past all of it."
    )


def draw_resnet_block(
    config: UNetConfig | str, ax: Axes | None = None, *, level: str = "vertex", title: str | None = None
) -> Axes:
    """A ResNet block of a preset or `UNetConfig`: classical, QResNet (Figure 4) or QuanResNet (Figure 8 of the paper).

    What you see: the block's input enters on the left. Where a convolution stands, the coloured and hatched boxes are
    circuits, the blue one is the classical convolution; they share the channels, and their results are concatenated.
    Then the norm, scale and shift from the time, SiLU, the second convolution, norm, SiLU. The line below carries the
    input past all this to the plus sign. level: "vertex" (2×2 pixels) or "encoder" (its second level, 14×14).

    Raises ValueError for an unknown preset or level.
    """
    config, block = as_config(config), resnet_block(config, level)
    ax = new_axes(ax, (10.4, 3.4))
    channels = sum(n for *_, n in conv_parts(block.conv1))
    x = 0.75
    for k, conv in enumerate((block.conv1, block.conv2)):
        _draw_conv(ax, conv_parts(conv), x, 1.85)
        ax.text(x + 0.92, 3.12, f"convolution {k + 1}: {count_parameters(conv):,} weights", ha="center", fontsize=8.5)
        groups = (block.norm1, block.norm2)[k].num_groups
        _box(ax, x + 2.15, 1.35, 0.85, 1.1, f"GroupNorm\n{groups} groups\nof {channels // groups}", "#EEEEEE")
        _arrow(ax, (x + 1.85, 1.9), (x + 2.13, 1.9))
        x += 3.0
        if not k:
            _box(ax, x + 0.25, 1.5, 0.95, 0.8, "· (1 + scale)\n+ shift", "#EEEEEE")
            _box(ax, x + 0.25, 0.62, 0.95, 0.5, "time t\nlinear(SiLU)", tint(OKABE_ITO["green"]))
            _arrow(ax, (x + 0.72, 1.12), (x + 0.72, 1.48))
            _arrow(ax, (x, 1.9), (x + 0.23, 1.9))
            x += 1.2
        _box(ax, x + 0.25, 1.6, 0.5, 0.6, "SiLU", "#EEEEEE")
        _arrow(ax, (x, 1.9), (x + 0.23, 1.9))
        _arrow(ax, (x + 0.75, 1.9), (x + (1.03 if k == 0 else 0.98), 1.9))
        x += 1.05
    _draw_way_past(ax, x, "$x$" if isinstance(block.skip, nn.Identity) else "$x$, 1×1 convolution")
    size = "2×2" if level == "vertex" else "14×14"
    ax.text(0.2, 2.15, f"{channels} channels\n{size}", ha="center", va="bottom", fontsize=8.5)
    return _finish(ax, title or _block_title(config, level), (-0.3, x + 1), (0, 3.35))


def _block_title(config: UNetConfig, level: str) -> str:
    quantum = config.quanv if level == "encoder" else config.n_circuits
    if not quantum:
        return f"{config.preset}: the ResNet block, no circuit in it"
    number, name = (8, "QuanResNet") if level == "encoder" else (4, "QResNet")
    return f"{paper.figure(number).name} · the {name} block of {config.preset}"


def _draw_conv(ax: Axes, parts: list[tuple[str, str, int]], x: float, width: float) -> None:
    """A column of boxes, one for each part of the convolution, as high as its share of the channels allows."""
    total, first, top = sum(n for *_, n in parts), 0, 3.0
    room = 2.2 - 0.12 * (len(parts) - 1) - 0.5 * len(parts)
    for kind, text, channels in parts:
        height = 0.5 + room * channels / total
        known = next((name for name in CIRCUIT_COLOURS if kind.startswith(name)), None)
        colour = KIND_COLOURS["resnet"] if kind == "conv" else tint(CIRCUIT_COLOURS.get(known, OTHER_ANSATZ))
        span = f"channels {first}–{first + channels - 1}" if channels > 1 else f"channel {first}"
        _box(ax, x + 0.25, top - height, width - 0.5, height, f"{text}\n{span}", colour)
        if known:  # a hatched edge says the same without colour
            ax.add_patch(Rectangle((x + 0.25, top - height), 0.09, height, facecolor=CIRCUIT_COLOURS[known], lw=0,
                                   hatch=HATCH[known], edgecolor="white", zorder=3))  # fmt: skip
        middle = top - height / 2
        _arrow(ax, (x, 1.9), (x + 0.23, middle))
        _arrow(ax, (x + width - 0.25, middle), (x + width, 1.9))
        first, top = first + channels, top - height - 0.12


def _draw_way_past(ax: Axes, right: float, text: str) -> None:
    """The input: an arrow into the block, and a line below it to the plus sign at its end."""
    ax.plot([-0.2, 0.75], [1.9, 1.9], color=EDGE, lw=1.2, zorder=1)
    ax.plot([0.2, 0.2, right + 0.1], [1.9, 0.3, 0.3], color=EDGE, lw=1.2, zorder=1)
    _arrow(ax, (right + 0.1, 0.3), (right + 0.1, 1.72))
    ax.plot(right + 0.1, 1.9, "o", ms=17, mfc="white", mec=EDGE, zorder=2)
    ax.text(right + 0.1, 1.88, "+", ha="center", va="center", fontsize=14, zorder=3)
    _arrow(ax, (right + 0.25, 1.9), (right + 0.75, 1.9))
    ax.text(3.0, 0.36, f"{text} goes past", fontsize=9)


# ------------------------------------------------------------------------------- Figure 9


def draw_hand_over(
    config: UNetConfig | str = "1fqconv", ax: Axes | None = None, *, dataset: str = "fashion-mnist",
    title: str | None = None,
) -> Axes:  # fmt: skip
    """Transfer learning: a trained classical U-Net hands all but its vertex over to a hybrid (Figure 9 of the paper).

    What you see: two U-Nets, each a row of boxes as high as the picture at that place. Grey boxes of the left one,
    trained first, are copied into the right one; the vertex of the right one, in colour, starts fresh. The epochs
    below are the paper's for the data set. Raises ValueError for an unknown preset or data set.
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
    _arrow(ax, (2.0, 1.05), (8.3, 1.05), -0.12)
    ax.text(5.3, 1.55, "copied: every weight but the vertex's", ha="center", fontsize=10)
    return _finish(ax, title or f"{paper.figure(9).name} · the hand-over", (-0.2, 10.8), (-1.6, 1.85))
