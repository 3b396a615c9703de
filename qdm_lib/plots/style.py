"""What all figures share: colours, new axes, and the way into a file or a notebook.

Colours are those of Okabe and Ito, which readers with any kind of colour vision can tell apart.
"""

from __future__ import annotations

import base64
import io
import re
from html import escape
from pathlib import Path

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from PIL import Image

from qdm_lib.files import replacing

OKABE_ITO = {
    "orange": "#E69F00", "sky blue": "#56B4E9", "green": "#009E73", "yellow": "#F0E442",
    "blue": "#0072B2", "vermilion": "#D55E00", "purple": "#CC79A7", "black": "#000000",
}  # fmt: skip
BLOCK_COLOURS = {
    "encoding": OKABE_ITO["sky blue"],
    "A": OKABE_ITO["orange"],
    "B": OKABE_ITO["green"],
    "C": OKABE_ITO["vermilion"],
    "D": OKABE_ITO["purple"],
    "": "#999999",
}
PIXELS = 96  # of a screen, for an inch of a figure
READABLE = 560  # pixels of a page: a figure of twice the width has letters of half their size there, still legible
SMALL_SVG = 60_000  # bytes; a larger one is kept if the PNG is not much smaller


def tint(colour: str) -> tuple[float, ...]:
    """A pale version of a colour, so that black text on it stays readable."""
    return tuple(0.72 + 0.28 * c for c in to_rgb(colour))


def save_figure(ax: Axes, path: str | Path, dpi: int = 150) -> Path:
    """Write the figure of `ax` to a file (PNG, PDF or SVG by its ending, else PNG) and close it; never half a file."""
    path, figure = Path(path), ax.figure
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with replacing(path) as temporary:
            figure.savefig(temporary, format=path.suffix[1:] or "png", dpi=dpi, bbox_inches="tight", facecolor="white")
    finally:
        plt.close(figure)
    return path


def show_described(figure, description: str) -> None:
    """Display a Figure (or the figure of an Axes) once in a notebook, with a description for those who cannot see it.

    The picture is an <img> whose alternative text is the description, as JupyterLab, exported pages and a website keep
    it; where only text is shown, the description stands alone. Line drawings are SVG; what holds images, or is far
    smaller as a PNG, is a PNG at twice the resolution of a screen.
    """
    from IPython.display import display

    figure = getattr(figure, "figure", figure)
    try:
        display({"text/html": described_picture(figure, description), "text/plain": description}, raw=True)
    finally:
        plt.close(figure)


def described_picture(figure: Figure, description: str) -> str:
    """The figure as HTML: an <img> in a box that scrolls, with the description as its alternative text."""
    picture = None if any(ax.images for ax in figure.get_axes()) else _svg(figure)
    if picture is None or len(picture[1]) > SMALL_SVG:
        small = _png(figure)
        picture = small if picture is None or 2 * len(picture[1]) > 3 * len(small[1]) else picture
    kind, data, width, height = picture
    # It shrinks with its page down to a width at which letters can be read; a phone scrolls it sideways from there.
    style = f"max-width: 100%; min-width: {min(width, READABLE)}px; height: auto"
    return (
        f'<div style="overflow-x: auto"><img alt="{escape(description)}" width="{width}" height="{height}" '
        f'style="{style}" src="data:image/{kind};base64,{base64.b64encode(data).decode()}"></div>'
    )


def _svg(figure: Figure) -> tuple[str, bytes, int, int]:
    """Kind, bytes, width and height in pixels; the same figure gives the same bytes."""
    buffer = io.BytesIO()
    with plt.rc_context({"svg.hashsalt": "qdm_lib"}):
        figure.savefig(buffer, format="svg", bbox_inches="tight", facecolor="white", metadata={"Date": None})
    # Two decimals of a point are enough for lines; matplotlib writes six, and comments, indents, names of groups.
    data = re.sub(rb' d="[^"]*"', lambda path: re.sub(rb"(\.\d\d)\d+", rb"\1", path[0]), buffer.getvalue())
    data = re.sub(rb"<!--.*?-->|(?<=>)\s+(?=<)|(?<=<g) id=\"[^\"]*\"", b"", data, flags=re.DOTALL)
    head = data[:2000]  # its size in points stands at the top
    width, height = (
        round(float(re.search(rb' %s="([\d.]+)pt"' % side, head)[1]) * PIXELS / 72) for side in (b"width", b"height")
    )
    return "svg+xml", data, width, height


def _png(figure: Figure) -> tuple[str, bytes, int, int]:
    """The same for a PNG of twice as many pixels, in at most 128 colours, which these figures do not exceed by much."""
    buffer, small = io.BytesIO(), io.BytesIO()
    figure.savefig(buffer, format="png", dpi=2 * PIXELS, bbox_inches="tight", facecolor="white")
    picture = Image.open(buffer).convert("RGB")
    picture.quantize(128, dither=Image.Dither.NONE).save(small, format="png", optimize=True)
    return "png", small.getvalue(), round(picture.width / 2), round(picture.height / 2)


def new_axes(ax: Axes | None, size: tuple[float, float]) -> Axes:
    """`ax`, or that of a new figure of this size in inches."""
    return plt.subplots(figsize=size, layout="constrained")[1] if ax is None else ax
