"""A ResNet block drawn from the library's objects: classical, QResNet or QuanResNet (Figures 4 and 8 of the paper)."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from torch import nn

from qdm_course.figures.boxes import EDGE, draw_arrow, draw_box, finish
from qdm_lib import paper
from qdm_lib.blocks import CircuitConv, ResnetBlock, SplitConv
from qdm_lib.checks import choice
from qdm_lib.plots import CIRCUIT_COLOURS, HATCH, KIND_COLOURS, OKABE_ITO, OTHER_ANSATZ, as_config, new_axes, tint
from qdm_lib.unet import UNet, UNetConfig, count_parameters

LEVELS = ("vertex", "encoder")


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

    ValueError for an unknown preset or level.
    """
    config, block = as_config(config), resnet_block(config, level)
    ax = new_axes(ax, (10.4, 3.4))
    channels = sum(n for *_, n in conv_parts(block.conv1))
    x = 0.75
    for k, conv in enumerate((block.conv1, block.conv2)):
        _draw_conv(ax, conv_parts(conv), x, 1.85)
        ax.text(x + 0.92, 3.12, f"convolution {k + 1}: {count_parameters(conv):,} weights", ha="center", fontsize=8.5)
        groups = (block.norm1, block.norm2)[k].num_groups
        draw_box(ax, x + 2.15, 1.35, 0.85, 1.1, f"GroupNorm\n{groups} groups\nof {channels // groups}", "#EEEEEE")
        draw_arrow(ax, (x + 1.85, 1.9), (x + 2.13, 1.9))
        x += 3.0
        if not k:
            draw_box(ax, x + 0.25, 1.5, 0.95, 0.8, "· (1 + scale)\n+ shift", "#EEEEEE")
            draw_box(ax, x + 0.25, 0.62, 0.95, 0.5, "time t\nlinear(SiLU)", tint(OKABE_ITO["green"]))
            draw_arrow(ax, (x + 0.72, 1.12), (x + 0.72, 1.48))
            draw_arrow(ax, (x, 1.9), (x + 0.23, 1.9))
            x += 1.2
        draw_box(ax, x + 0.25, 1.6, 0.5, 0.6, "SiLU", "#EEEEEE")
        draw_arrow(ax, (x, 1.9), (x + 0.23, 1.9))
        draw_arrow(ax, (x + 0.75, 1.9), (x + (1.03 if k == 0 else 0.98), 1.9))
        x += 1.05
    _draw_way_past(ax, x, "$x$" if isinstance(block.skip, nn.Identity) else "$x$, 1×1 convolution")
    size = "2×2" if level == "vertex" else "14×14"
    ax.text(0.2, 2.15, f"{channels} channels\n{size}", ha="center", va="bottom", fontsize=8.5)
    return finish(ax, title or _block_title(config, level), (-0.3, x + 1), (0, 3.35))


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
        draw_box(ax, x + 0.25, top - height, width - 0.5, height, f"{text}\n{span}", colour)
        if known:  # a hatched edge says the same without colour
            ax.add_patch(Rectangle((x + 0.25, top - height), 0.09, height, facecolor=CIRCUIT_COLOURS[known], lw=0,
                                   hatch=HATCH[known], edgecolor="white", zorder=3))  # fmt: skip
        middle = top - height / 2
        draw_arrow(ax, (x, 1.9), (x + 0.23, middle))
        draw_arrow(ax, (x + width - 0.25, middle), (x + width, 1.9))
        first, top = first + channels, top - height - 0.12


def _draw_way_past(ax: Axes, right: float, text: str) -> None:
    """The input: an arrow into the block, and a line below it to the plus sign at its end."""
    ax.plot([-0.2, 0.75], [1.9, 1.9], color=EDGE, lw=1.2, zorder=1)
    ax.plot([0.2, 0.2, right + 0.1], [1.9, 0.3, 0.3], color=EDGE, lw=1.2, zorder=1)
    draw_arrow(ax, (right + 0.1, 0.3), (right + 0.1, 1.72))
    ax.plot(right + 0.1, 1.9, "o", ms=17, mfc="white", mec=EDGE, zorder=2)
    ax.text(right + 0.1, 1.88, "+", ha="center", va="center", fontsize=14, zorder=3)
    draw_arrow(ax, (right + 0.25, 1.9), (right + 0.75, 1.9))
    ax.text(3.0, 0.36, f"{text} goes past", fontsize=9)
