"""What the widgets share."""

import base64
import io
from html import escape

import ipywidgets as widgets
from matplotlib.figure import Figure


def picture_of(figure: Figure, dpi: int = 100) -> bytes:
    """A figure as the bytes of a PNG file, in its full size."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi)
    return buffer.getvalue()


class Picture(widgets.HTML):
    """A PNG with an alternative text for screen readers. `show` replaces both; `png` and `alt` are what is shown.

    ipywidgets has an Image too, but it cannot carry an alternative text: in JupyterLab an Image with a tooltip is not
    drawn at all ("Cannot read properties of undefined"; seen with ipywidgets 8.1.9 in tests/test_browser.py).
    """

    def __init__(self) -> None:
        super().__init__()
        self.png, self.alt = b"", ""

    def show(self, png: bytes, alt: str) -> None:
        """Show the PNG; no bytes, no picture."""
        self.png, self.alt = png, alt
        if not png:
            self.value = ""
            return
        width, height = (int.from_bytes(png[k : k + 4], "big") for k in (16, 20))  # they stand in a PNG's header
        # With its size known and decoded at once, the new picture takes the old one's place without a flicker.
        self.value = (
            f'<img decoding="sync" width="{width}" height="{height}" style="max-width: 100%; height: auto" '
            f'alt="{escape(alt)}" src="data:image/png;base64,{base64.b64encode(png).decode()}">'
        )
