"""What the widgets share."""

import io

from matplotlib.figure import Figure


def picture_of(figure: Figure, dpi: int = 100) -> bytes:
    """A figure as the bytes of a PNG file, in its full size."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi)
    return buffer.getvalue()
