"""What all figures share: colours, new axes, and the way into a file or a notebook.

Colours are those of Okabe and Ito, which readers with any kind of colour vision can tell apart.
"""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb

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


def tint(colour: str) -> tuple[float, ...]:
    """A pale version of a colour, so that black text on it stays readable."""
    return tuple(0.72 + 0.28 * c for c in to_rgb(colour))


def save_figure(ax: Axes, path: str | Path, dpi: int = 150) -> Path:
    """Write the figure of `ax` to a file (PNG, PDF or SVG by its ending) and close it; never half a file."""
    path, figure = Path(path), ax.figure
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with replacing(path) as temporary:
            figure.savefig(temporary, format=path.suffix[1:] or None, dpi=dpi, bbox_inches="tight", facecolor="white")
    finally:
        plt.close(figure)
    return path


def show_described(figure, description: str) -> None:
    """Display a Figure (or the figure of an Axes) once in a notebook, with a description for screen readers.

    The description is stored with the picture as its alternative text.
    """
    from IPython.display import display

    figure = getattr(figure, "figure", figure)
    display(figure, metadata={"image/png": {"alt": description}})
    plt.close(figure)


def new_axes(ax: Axes | None, size: tuple[float, float]) -> Axes:
    return plt.subplots(figsize=size, layout="constrained")[1] if ax is None else ax
