"""What the widgets share: pictures with a description, rows that wrap, and widgets that outlive a re-run."""

from __future__ import annotations

import base64
import io
import weakref
from html import escape

import ipywidgets as widgets
from IPython import get_ipython
from IPython.display import display
from matplotlib.figure import Figure
from traitlets import TraitError

WAKE = "Interactive: run this cell (Shift + Enter) to move the controls."
# Of a widget's two outputs, the living view and the still picture after it, a page shows one: the view where it lives.
OUTPUT, ALIVE = ".jp-OutputArea-child", ".qdm-widget:not(.jupyter-widgets-disconnected)"
STILL_STYLE = (
    f"<style>{OUTPUT}:has({ALIVE}) + {OUTPUT}:has(.qdm-still), {OUTPUT}:has(+ {OUTPUT} .qdm-still):not(:has({ALIVE})) "
    "{display: none}</style>"
)


def picture_of(figure: Figure, dpi: int = 100) -> bytes:
    """A figure as the bytes of a PNG file, in its full size; lightly compressed, as sending is quicker."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi, pil_kwargs={"compress_level": 1})
    return buffer.getvalue()


def image_tag(png: bytes, alt: str, style: str = "max-width: 100%; height: auto") -> str:
    """An <img> that holds the PNG itself. Decoded at once, its size known, it replaces another without flicker."""
    width, height = (int.from_bytes(png[k : k + 4], "big") for k in (16, 20))  # they stand in a PNG's header
    return (
        f'<img decoding="sync" width="{width}" height="{height}" style="{style}" '
        f'alt="{escape(alt)}" src="data:image/png;base64,{base64.b64encode(png).decode()}">'
    )


class Picture(widgets.HTML):
    """A PNG with an alternative text for screen readers. `show` replaces both; `png` and `alt` are what is shown.

    ipywidgets has an Image too, but it cannot carry an alternative text: in JupyterLab an Image with a tooltip is not
    drawn at all ("Cannot read properties of undefined"; seen with ipywidgets 8.1.9 in tests/test_browser.py).
    """

    def __init__(self, style: str = "max-width: 100%; height: auto") -> None:
        super().__init__()
        self.png, self.alt, self.style_ = b"", "", style

    def show(self, png: bytes, alt: str) -> None:
        """Show the PNG; no bytes, no picture."""
        self.png, self.alt = png, alt
        self.value = image_tag(png, alt, self.style_) if png else ""


def row(children, **layout) -> widgets.HBox:
    """A row of controls that goes on in the next line where the page is narrow."""
    return widgets.HBox(children, layout=widgets.Layout(flex_flow="row wrap", align_items="center", **layout))


def scrolling(html: str) -> str:
    """A table that scrolls by itself where it is wider than the page; Tab reaches it, arrow keys move it."""
    style = "overflow-x: auto; width: 0; min-width: 100%"  # as wide as the page lets it be, whatever the table wants
    return f'<div style="{style}" tabindex="0" role="group" aria-label="numbers">{html}</div>'


# ---------------------------------------------------------------------------------- widgets that last


_SHOWN: dict[tuple, tuple[int, list[weakref.ref]]] = {}  # (kind, cell) → the run of the cell, its widgets in order


def this_cell() -> tuple[str, int] | None:
    """The notebook's cell that is running, by its id or else its text, and the number of the run; None elsewhere."""
    shell = get_ipython()
    if shell is None:
        return None
    parent = getattr(shell, "get_parent", dict)() or {}
    texts = shell.history_manager.input_hist_raw
    return parent.get("metadata", {}).get("cellId") or (texts[-1] if texts else ""), shell.execution_count


class LastingWidget(widgets.VBox):
    """A widget for a notebook's cell that is run again and again, saved, and opened without its kernel.

    A re-run of the cell closes the widget it replaces, which stops its work, and takes over what its controls said if
    it was called with the same arguments. Beside the live widget the output holds a still picture with one line
    that says how to wake it; a page shows it only where the widget is not live.

    A subclass has `controls` (by name), a `stop` if something runs, and a `still`; it calls `settle` once it is built.
    """

    controls: dict[str, widgets.Widget]

    def settle(self, *asked: object) -> None:
        """Take the place of the widget that this cell showed before; asked: what the widget was called with."""
        self.asked = asked
        self.add_class("qdm-widget")
        former = self._former()
        if former is not None:
            kept = former.kept() if former.asked == asked else {}
            former.close()
            self.take_over(kept)

    def _former(self) -> LastingWidget | None:
        """The widget at the same place of the same cell in its last run, if it is still there."""
        here = this_cell()
        if here is None:
            return None
        key, run = (type(self), here[0]), here[1]
        before, shown = _SHOWN.get(key, (run, []))
        if before != run:  # a re-run: those of the last run are waiting to be replaced, in order
            self.waiting, shown = shown, []
        else:
            self.waiting = [] if not shown or (last := shown[-1]()) is None else last.waiting
        _SHOWN[key] = (run, [*shown, weakref.ref(self)])
        if not self.waiting:
            return None
        first, self.waiting = self.waiting[0](), self.waiting[1:]
        return first

    def kept(self) -> dict[str, object]:
        """What a re-run of the cell keeps: the values of the controls."""
        return {name: control.value for name, control in self.controls.items() if control.has_trait("value")}

    def take_over(self, kept: dict[str, object]) -> None:
        """Set the controls to what another widget of the same kind kept, but for values that are no longer offered."""
        for name, value in kept.items():
            try:
                self.controls[name].value = value
            except TraitError:
                continue

    def stop(self) -> None:
        """Stop what runs in the background, if anything does."""

    def close(self) -> None:
        """Stop, and give up the controls and everything else inside."""
        self.stop()
        inside = list(self.children)
        while inside:
            widget = inside.pop()
            inside += getattr(widget, "children", ())
            widget.close()
        super().close()

    def still(self) -> str:
        """What a page without a kernel shows, as HTML."""
        raise NotImplementedError

    def __repr__(self) -> str:
        return WAKE

    def _ipython_display_(self) -> None:
        if self.comm is None:  # closed
            return
        display(self._repr_mimebundle_(), raw=True)
        html = f'{STILL_STYLE}<div class="qdm-still"><p>{WAKE} As it was shown at first:</p>{self.still()}</div>'
        display({"text/html": html, "text/plain": WAKE}, raw=True)
