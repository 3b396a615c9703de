"""What the moving figures share: one piece of HTML each, with a still picture for pages that run no script.

The scripts are the `.js` files beside this one: `core.js`, which is in every figure, and one or two more for each.
Tests hold their numbers to the library's. Nothing is downloaded. Every control is a native one with its label, reached
by Tab and moved by keys, and nothing plays before the reader asks for it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from html import escape
from pathlib import Path

from matplotlib.figure import Figure

from qdm_lib.circuits import Circuit
from qdm_lib.plots import columns_of, described_picture

SCRIPTS = Path(__file__).parent


class MovingFigure:
    """HTML that JupyterLab, an exported page and a website show alive, and others as a still picture with its words.

    name: of the figure, and of its script. still: a figure of matplotlib, or an <img> as text. description: what the
    still picture shows; it is its alternative text, and all there is where only text is shown. data: what the script
    is given, as JSON. needs: scripts besides `core` and its own. key: ends its id, where a page may hold several.
    """

    def __init__(
        self,
        name: str,
        still: Figure | str,
        description: str,
        data: dict | None = None,
        needs: Sequence[str] = (),
        key: str = "",
    ) -> None:
        self.name, self.description, self.data, self.needs = name, description, data or {}, tuple(needs)
        self.id = f"qdm-{name}{'-' * bool(key)}{key}"
        self.still = still if isinstance(still, str) else described_picture(still, description)

    def _repr_mimebundle_(self, include=None, exclude=None) -> dict[str, str]:
        data = json.dumps(self.data, separators=(",", ":"), ensure_ascii=False).replace("</", "<\\/")
        script = f"""<script>(() => {{
{moving_script(*self.needs, self.name)}
const place = document.getElementById({json.dumps(self.id)}), live = document.createElement("div");
moving.figures[{json.dumps(self.name)}](live, {data}, place.querySelector("img"));
place.replaceChildren(live);
}})();</script>"""
        return {
            "text/html": f'<div id="{escape(self.id)}">{self.still}</div>\n{script}',
            "text/plain": self.description,
        }


def moving_script(*parts: str) -> str:
    """The JavaScript that defines `moving`, with everything of `core` and of these parts in it; node runs it, too."""
    texts = [(SCRIPTS / f"{part}.js").read_text(encoding="utf-8") for part in ("core", *parts)]
    return "\n".join(['"use strict";', "const moving = {};", *(f"{{\n{text}}}" for text in texts)])


def circuit_data(circuit: Circuit) -> dict:
    """A circuit as the script reads it; `column` is where a drawing places the gate."""
    column = {id(gate): k for k, gate in columns_of(circuit)}
    gates = [
        {"name": g.name, "wires": g.wires, "param": g.param, "scale": g.scale, "offset": g.offset, "block": g.block,
         "column": column[id(g)]} for g in circuit.gates
    ]  # fmt: skip
    return {"n_wires": circuit.n_wires, "n_weights": circuit.n_weights, "gates": gates}
