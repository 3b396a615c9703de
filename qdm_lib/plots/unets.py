"""The U-Net drawn to scale, with its hybrid and quanvolutional parts in colour, and the same in words."""

from __future__ import annotations

from dataclasses import dataclass, replace

from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.patches import ConnectionPatch, FancyArrowPatch, Patch, Rectangle

from qdm_lib.checks import choice
from qdm_lib.plots.style import OKABE_ITO, new_axes
from qdm_lib.unet import MAX_CIRCUITS, PRESETS, VERTEX_CHANNELS, UNetConfig

SIZES, WIDTHS = (28, 14, 7, 2), (10, 10, 20, 30, 40)  # pixels a side, and channels, from the outside in
KIND_COLOURS = {"resnet": "#A9D3EE", "attention": "#C8C8C8", "conv": "#FFFFFF"}
CIRCUIT_COLOURS = {"hqconv": OKABE_ITO["orange"], "fqconv": OKABE_ITO["vermilion"], "basic": OKABE_ITO["purple"]}
OTHER_ANSATZ = OKABE_ITO["green"]  # an ansatz of your own
HATCH = {"hqconv": "////", "fqconv": "\\\\\\\\", "basic": "xxxx"}  # the same information without colour
PIXEL, CHANNEL = 0.052, 0.0108  # inches: of height for a pixel, of width for a channel
BELOW = {"ha": "center", "va": "top", "fontsize": 9}  # of a text under its place
BOX_GAP, GROUP_GAP, ROW_GAP = 0.05, 0.2, 0.3  # inches


@dataclass(frozen=True)
class Block:
    """One box of the drawing: a part of the network that puts out (channels, size, size).

    kind: "conv", "resnet" or "attention". name: of the module in `UNet`, as in its state dict.
    quantum: how many of the channels of each of its convolutions go through circuits.
    """

    name: str
    kind: str
    size: int
    channels: int
    quantum: int = 0


def as_config(config: UNetConfig | str) -> UNetConfig:
    """A `UNetConfig`, or the one of a preset's name; ValueError for an unknown name."""
    return config if isinstance(config, UNetConfig) else PRESETS[choice("preset", config, PRESETS)]


def unet_blocks(config: UNetConfig | str) -> list[list[Block]]:
    """The blocks of the U-Net in the order in which an image passes them, in groups of one size each.

    Eleven groups: the first convolution, four encoder levels, the vertex, four decoder levels, the last two blocks.
    Resampling stands between the groups.
    """
    config = as_config(config)

    def level(name: str, size: int, channels: int, quantum: int = 0) -> list[Block]:
        resnets = [Block(f"{name}.block{k}", "resnet", size, channels, quantum) for k in (1, 2)]
        return [*resnets, Block(f"{name}.attention", "attention", size, channels)]

    groups = [[Block("first", "conv", SIZES[0], WIDTHS[0])]]
    for k in range(4):
        groups.append(level(f"encoder.{k}", SIZES[k], WIDTHS[k], 3 if config.quanv and k == 1 else 0))
    q, c, size = config.quantum_channels, VERTEX_CHANNELS, SIZES[3]
    attention = Block("vertex_attention", "attention", size, c)
    first, second = (Block(f"vertex_block{k}", "resnet", size, c, q) for k in (1, 2))
    groups.append([first, attention, second])
    for k in range(4):
        groups.append(level(f"decoder.{k}", SIZES[3 - k], WIDTHS[4 - k]))
    groups.append([Block("last_block", "resnet", SIZES[0], WIDTHS[0]), Block("last", "conv", SIZES[0], 1)])
    return groups


def describe_unet(config: UNetConfig | str) -> str:
    """The drawing of `draw_unet` in words: for its alternative text, and to read aloud."""
    config = as_config(config)
    k, n = config.quantum_channels, config.n_circuits
    circuits = f"{n} {config.ansatz} circuit{'' if n == 1 else 's'}"
    if k and config.control:
        vertex = f"In the circuits’ place, the control “{config.control}” gives {k} of the 40 vertex channels, white."
    elif config.full:
        vertex = f"All {k} channels of each vertex convolution go through circuits: {circuits} and one Basic circuit."
    elif k:
        vertex = (f"In each vertex convolution {k} of {VERTEX_CHANNELS} channels go through {circuits}, coloured; a "
                  f"classical convolution takes the other {VERTEX_CHANNELS - k}.")  # fmt: skip
    else:
        vertex = "The vertex is classical: no channel goes through a circuit."
    quanv = " No quanvolution at 14×14."
    if config.quanv:
        quanv = (f" At 14×14, 3 of 10 channels of each encoder convolution go through one {config.ansatz} circuit that "
                 "slides over the 49 patches of 2×2 pixels, coloured.")  # fmt: skip
    return (
        "The U-Net drawn to scale, from left to right: the encoder goes down from 28×28×10 by 14×14×10 and 7×7×20 to "
        "2×2×30, the vertex in the middle works on 2×2×40, the decoder goes up from 2×2×40 by 7×7×30 and 14×14×20 to "
        f"28×28×10; dashed lines are the skips. {vertex}{quanv}"
    )


def draw_unet(config: UNetConfig | str, ax: Axes | None = None, *, title: str | None = None) -> Axes:
    """The U-Net of a preset or `UNetConfig`, to scale.

    What you see: a box for each block. Its height is the number of pixels on a side, its width the number of channels;
    image and time run from left to right. The encoder descends on the left, the vertex is the low boxes in the middle,
    the decoder climbs on the right; dashed lines are the skips. Below, two convolutions enlarged: a cell for each
    channel. Coloured and hatched channels go through circuits: three channels, a group with a number, for each; in a
    block, the coloured share of its width. `describe_unet` says the same in words. ValueError for an unknown preset.
    """
    config = as_config(config)
    ax = new_axes(ax, (10.6, 5.0))
    groups = unet_blocks(config)
    places, right, bottom = _layout(groups)
    for (x, y, width, height), block in places:
        _draw_block(ax, config, block, x, y, width, height)
    walk = iter(places)
    _draw_arrows(ax, [[next(walk) for _ in group] for group in groups])
    _draw_skips(ax, places)
    vertex = next(place for place, block in places if block.name == "vertex_block1")
    _draw_channels(ax, config, right, bottom - 0.75, vertex)
    middle = -PIXEL * SIZES[0] / 2
    ax.text(-0.08, middle, "$x_t$", ha="right", va="center", fontsize=12)
    ax.text(right + 0.08, middle, "ε", ha="left", va="center", fontsize=12)
    ax.legend(handles=_legend(config), loc="upper center", bbox_to_anchor=(0.5, 0.93), fontsize=9, frameon=False)
    ax.set_title(_title(config) if title is None else title, fontsize=11, y=1.0)  # y: no search for a free place
    ax.set(xlim=(-0.3, right + 0.3), ylim=(bottom - 1.55, 0.12))
    ax.set_axis_off()
    return ax


def _title(config: UNetConfig) -> str:
    k = config.quantum_channels
    by = f"the control “{config.control}”" if config.control else "circuits"
    text = f"{k} of {VERTEX_CHANNELS} vertex channels go through {by}, {100 * k / VERTEX_CHANNELS:g} %" if k else ""
    return f"{config.preset}: {text or 'classical vertex'}{', quanvolution at 14×14' if config.quanv else ''}"


def _layout(groups: list[list[Block]]) -> tuple[list[tuple[tuple[float, float, float, float], Block]], float, float]:
    """(x, y of the lower edge, width, height) of every block in inches, then the right end and the lower edge of all.

    A group stands in the row of its depth: the four levels, and the vertex under them.
    """
    rows = (0, 0, 1, 2, 3, 4, 3, 2, 1, 0, 0)
    heights = [PIXEL * size for size in (*SIZES, SIZES[3])]
    tops = [-sum(heights[:row]) - row * ROW_GAP for row in range(5)]
    places, x = [], 0.0
    for row, group in zip(rows, groups, strict=True):
        for block in group:
            width = CHANNEL * block.channels
            places.append(((x, tops[row] - heights[row], width, heights[row]), block))
            x += width + BOX_GAP
        x += GROUP_GAP - BOX_GAP
    return places, x - GROUP_GAP, tops[4] - heights[4]


def channel_colour(config: UNetConfig, ansatz: str | None = None) -> tuple[str, str]:
    """Colour and hatch of the vertex channels that an ansatz, by default the model's, processes; a control's: white."""
    known = next((name for name in CIRCUIT_COLOURS if (ansatz or config.ansatz).startswith(name)), "")
    colour, hatch = CIRCUIT_COLOURS.get(known, OTHER_ANSATZ), HATCH.get(known, "....")
    return ("#FFFFFF", "") if config.control else (colour, hatch)


def _draw_block(ax: Axes, config: UNetConfig, block: Block, x, y, width, height) -> None:
    edge = {"edgecolor": "#333333", "lw": 0.8}
    ax.add_artist(Rectangle((x, y), width, height, facecolor=KIND_COLOURS[block.kind], **edge))
    if block.quantum:
        colour, hatch = channel_colour(config if block.name.startswith("vertex") else replace(config, control=None))
        share = width * block.quantum / block.channels
        ax.add_artist(Rectangle((x, y), share, height, facecolor=colour, hatch=hatch, **edge))


def _draw_arrows(ax: Axes, groups) -> None:
    """From each group to the next, where the size or the width changes; and each group's size."""
    for before, after in zip(groups, groups[1:], strict=False):
        (x, y, width, height), _ = before[-1]
        (x2, y2, _, height2), _ = after[0]
        ends = (x + width, y + height / 2), (x2, y2 + height2 / 2)
        ax.add_artist(FancyArrowPatch(*ends, arrowstyle="-|>", color="#333333", shrinkA=1, shrinkB=1, mutation_scale=8))
    for group in groups[1:-1]:  # the size stands where no arrow passes
        (x, y, _, height), block = group[0]
        (x2, _, width, _), _ = group[-1]
        side = block.name.split(".")[0]
        at = {"encoder": (x2 + width, y - 0.05), "decoder": (x, y - 0.05)}.get(
            side, ((x + x2 + width) / 2, y + height + 0.03)
        )
        ha, va = {"encoder": ("right", "top"), "decoder": ("left", "top")}.get(side, ("center", "bottom"))
        ax.text(*at, f"{block.size}×{block.size}×{block.channels}", ha=ha, va=va, fontsize=9)


def _draw_skips(ax: Axes, places) -> None:
    """Two skips a level, drawn as one line, and the outermost one."""
    by_name = {block.name: place for place, block in places}
    for k in range(4):
        source, target = f"encoder.{k}.attention", f"decoder.{3 - k}.block1"
        x, y, width, height = by_name[source]
        y += height if source != "encoder.3.attention" else height + 0.03
        y += -0.12 if height > 0.3 else 0
        ax.plot([x + width, by_name[target][0]], [y, y], "--", color="#666666", lw=1, zorder=0)
    x, y, width, height = by_name["first"]
    x2 = by_name["last_block"][0]
    top = y + height
    ax.plot([x + width / 2, x + width / 2, x2 + 0.05, x2 + 0.05], [top, top + 0.07, top + 0.07, top], "--",
            color="#666666", lw=1)  # fmt: skip


def _draw_channels(ax: Axes, config: UNetConfig, right: float, y: float, vertex) -> None:
    """Two strips of channels: one convolution of level two on the left, one of the vertex on the right."""
    cell, wide, height, gap = 0.135, 0.185, 0.3, 0.7
    start = (right - (40 * cell + 10 * wide + gap)) / 2
    quanv = [(config.ansatz, 3, "1")] * config.quanv
    _strip(ax, replace(config, control=None), start, y, wide, height, quanv, 10)
    ax.text(start + 5 * wide, y - 0.36, "one convolution of the encoder\nat 14×14: 10 channels", **BELOW)
    groups = [(config.ansatz, 3, "" if config.control else str(k + 1)) for k in range(config.n_circuits)]
    groups += [("basic", 1, "" if config.control else "B")] if config.full else []
    x = start + 10 * wide + gap
    _strip(ax, config, x, y, cell, height, groups, VERTEX_CHANNELS)
    note = "; white: the control" if config.control else "; numbers: the circuits" if groups else ""
    ax.text(x + 20 * cell, y - 0.36, f"one of the four vertex convolutions: 40 channels{note}", **BELOW)
    left, low, width, _ = vertex
    for corner, at in ((left, x), (left + width, x + VERTEX_CHANNELS * cell)):
        line = ConnectionPatch((corner, low), (at, y + height), "data", "data", color="#AAAAAA", lw=0.8, zorder=0)
        ax.add_artist(line)


def _strip(ax: Axes, config: UNetConfig, x: float, y: float, cell: float, height: float, groups, n: int) -> None:
    """n cells from x on, the first ones in `groups` of (ansatz, channels, label), the others classical."""
    first = 0
    for ansatz, channels, label in groups:
        colour, hatch = channel_colour(config, ansatz)
        place = ((x + first * cell, y), channels * cell, height)
        ax.add_artist(Rectangle(*place, facecolor=colour, hatch=hatch, edgecolor="black", lw=1.6, hatch_linewidth=0.5))
        ax.text(x + (first + channels / 2) * cell, y - 0.04, label, **BELOW)
        first += channels
    if first < n:
        place = ((x + first * cell, y), (n - first) * cell, height)
        ax.add_artist(Rectangle(*place, facecolor=KIND_COLOURS["resnet"], edgecolor="#333333", lw=0.8))
        ax.text(x + (first + n) / 2 * cell, y - 0.04, f"3×3 convolution, {n - first}", **BELOW)
    edges = [x + k * cell for k in range(1, n)]
    ax.add_artist(LineCollection([((at, y), (at, y + height)) for at in edges], colors="#333333", lw=0.6))


def _legend(config: UNetConfig) -> list[Patch]:
    def entry(label: str, colour: str, hatch: str = "") -> Patch:
        return Patch(facecolor=colour, hatch=hatch, edgecolor="#333333", label=label)

    kinds = {"resnet": "ResNet block, two convolutions", "attention": "attention"}
    handles = [entry(label, KIND_COLOURS[kind]) for kind, label in kinds.items()]
    if config.n_circuits and config.control:
        handles.append(entry(f"channels given by the control “{config.control}”", *channel_colour(config)))
    if config.quanv or (config.n_circuits and not config.control):
        name = {"hqconv": "HQConv", "fqconv": "FQConv"}.get(config.ansatz, config.ansatz)
        handles.append(
            entry(f"channels through {name} circuits of 12 qubits", *channel_colour(replace(config, control=None)))
        )
    if config.full and not config.control:
        handles.append(entry("B: Basic circuit of 4 qubits", *channel_colour(config, "basic")))
    return handles


assert MAX_CIRCUITS * 3 == VERTEX_CHANNELS - 1  # the strip leaves one cell for the Basic circuit
