"""Boxes and arrows, of which the diagrams here are made."""

from matplotlib.axes import Axes
from matplotlib.patches import FancyBboxPatch

EDGE = "#333333"
ARROW = {"arrowstyle": "-|>", "color": EDGE, "lw": 1.2, "mutation_scale": 11, "shrinkA": 0, "shrinkB": 0}


def draw_box(ax: Axes, x: float, y: float, width: float, height: float, text: str, colour="#FFFFFF") -> None:
    """A rounded box with its lower left corner at (x, y) and a text in its middle."""
    shape = FancyBboxPatch((x, y), width, height, boxstyle="round,pad=0,rounding_size=0.06", facecolor=colour,
                           edgecolor=EDGE, lw=1, zorder=2)  # fmt: skip
    ax.add_patch(shape)
    ax.text(x + width / 2, y + height / 2, text, ha="center", va="center", fontsize=9, zorder=3, linespacing=1.15)


def draw_arrow(
    ax: Axes, start: tuple[float, float], end: tuple[float, float], bend: float = 0, colour: str = EDGE
) -> None:
    """An arrow from point to point; bend is the curve's height over its length."""
    style = ARROW | {"connectionstyle": f"arc3,rad={bend}", "color": colour}
    ax.annotate("", end, start, arrowprops=style, zorder=1)


def finish(ax: Axes, title: str, xlim: tuple[float, float], ylim: tuple[float, float]) -> Axes:
    """Title and limits of a diagram without axes."""
    ax.set_title(title, fontsize=11)
    ax.set(xlim=xlim, ylim=ylim)
    ax.set_axis_off()
    return ax
