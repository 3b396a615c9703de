"""The paper as data: its equations, blocks, figures, tables, claims and numbers, and where the course treats each.

The paper is De Falco, Ceschini, Sebastianelli, Le Saux, Panella, "Towards Efficient Quantum Hybrid Diffusion Models",
arXiv:2402.16147. In a notebook `equation(7)`, `block("A")`, `figure(4)` and `table(1)` show a box with a fixed heading
("Paper, eq. 7"), so that a search for it finds the place. What it says is written in `assets/paper.toml`; the
scores that it prints are in `assets/paper_tables.json`.

    python -m qdm_lib.paper > docs/paper.md      write the table paper ↔ course
"""

from __future__ import annotations

import json
import tomllib
from dataclasses import dataclass
from pathlib import Path

from qdm_lib.checks import choice, whole

ASSETS = Path(__file__).parent / "assets"
_DATA = tomllib.loads((ASSETS / "paper.toml").read_text(encoding="utf-8"))

SOURCE: str = _DATA["source"]
COUNTS: dict[str, int] = _DATA["counts"]  # trainable parameters as the paper states them, by preset
CHANGE: dict[str, str] = _DATA["change"]  # its change of that number against its classical U-Net
HAND_OVER: dict[str, int] = _DATA["hand_over"]  # classical epochs before the hand-over, by data set
NOTEBOOKS: dict[str, str] = _DATA["notebooks"]  # "01" → "01_ddpm"
CLAIMS: list[dict] = _DATA["claim"]  # key, says, course, where
DIFFERENCES: list[dict] = _DATA["difference"]  # about, text, figure, code: where the paper disagrees with itself
PREFIX = {"equation": "eq.", "block": "block", "figure": "Fig.", "table": "Table"}


@dataclass(frozen=True)
class Entry:
    """A numbered thing of the paper: shown in a notebook as a box, on a terminal as one line.

    kind: "equation", "block", "figure" or "table". key: its number, or the block's letter. title: what it is or shows.
    paper, ours: LaTeX of equations and blocks, the paper's form and this course's. index: the shift of the index.
    differ: where the two differ, and why. where: notebook and section, such as "01/6".
    """

    kind: str
    key: int | str
    title: str
    where: tuple[str, ...]
    paper: str = ""
    ours: str = ""
    index: str = ""
    differ: str = ""

    @property
    def name(self) -> str:
        """The fixed wording: "Paper, eq. 7", "Paper, Fig. 4", "Paper, Table 1", "Paper, block A"."""
        return f"Paper, {PREFIX[self.kind]} {self.key}"

    def places(self, folder: str = "") -> str:
        """The notebooks as Markdown links, such as "[01, section 6](01_ddpm.ipynb)"."""
        links = []
        for place in self.where:
            notebook, _, section = place.partition("/")
            links.append(
                f"[{notebook}{f', section {section}' if section else ''}]({folder}{NOTEBOOKS[notebook]}.ipynb)"
            )
        return " · ".join(links)

    def markdown(self) -> str:
        """The box: a quotation with the fixed heading, both forms as LaTeX, index and differences."""
        lines = [f"**{self.name}** · {self.title}"]
        if self.paper:
            lines += [f"$$ {self.paper} $$", "*In this course:*", f"$$ {self.ours} $$"]
        lines += [f"*{head}* {text}" for head, text in (("Index.", self.index), ("Difference.", self.differ)) if text]
        if not self.paper:
            lines.append(f"*In this course:* {self.places()}")
        return "\n>\n".join(f"> {line}" for line in lines)

    def __str__(self) -> str:
        return f"{self.name}: {self.title}"

    def _repr_mimebundle_(self, include=None, exclude=None) -> dict[str, str]:
        return {"text/markdown": self.markdown(), "text/plain": str(self)}


def _entries(kind: str) -> dict[int | str, Entry]:
    found = {}
    for row in _DATA[kind]:
        row = {"title": row.get("shows", ""), **row, "where": tuple(row["where"])}
        row.pop("shows", None)
        found[row["key"]] = Entry(kind, **row)
    return found


EQUATIONS, BLOCKS, FIGURES, TABLES = (_entries(kind) for kind in PREFIX)


def equation(number: int) -> Entry:
    """Equation 1 … 10 of the paper, beside this course's form. ValueError for another number."""
    return EQUATIONS[whole("equation of the paper", number, 1, len(EQUATIONS))]


def block(letter: str) -> Entry:
    """Block "A", "B" (of HQConv), "C" or "D" (of FQConv). ValueError for another letter."""
    return BLOCKS[choice("block of the paper's circuits", letter, BLOCKS)]


def figure(number: int) -> Entry:
    """Figure 1 … 14 of the paper: what it shows, and where the course shows it. ValueError for another number."""
    return FIGURES[whole("figure of the paper", number, 1, len(FIGURES))]


def table(number: int) -> Entry:
    """Table 1 or 2 of the paper. ValueError for another number."""
    return TABLES[whole("table of the paper", number, 1, len(TABLES))]


def scores() -> dict:
    """The scores that the paper prints: scores[data set][preset][fid, kid or is], controls, epochs, notes."""
    return json.loads((ASSETS / "paper_tables.json").read_text(encoding="utf-8"))


def index(folder: str = "") -> str:
    """The table of every equation, block, figure and table, with links to notebooks. folder: where these lie."""
    entries = [*EQUATIONS.values(), *BLOCKS.values(), *FIGURES.values(), *TABLES.values()]
    return _table(
        ("paper", "what it is or shows", "in the course"), [(e.name, e.title, e.places(folder)) for e in entries]
    )


def claims(folder: str = "") -> str:
    """The table of the paper's claims, in our words, and of what the course has to say to each."""
    rows = [(c["says"], c["course"], Entry("claim", c["key"], "", c["where"]).places(folder)) for c in CLAIMS]
    return _table(("the paper", "the course", "where"), rows)


def differences() -> str:
    """The table of the places where the paper's text or tables, its figures and its released code disagree."""
    rows = [(d["about"], d["text"], d["figure"], d["code"]) for d in DIFFERENCES]
    return _table(("what", "text or table", "figure", "released code"), rows)


def course_table(folder: str = "../notebooks/") -> str:
    """docs/paper.md: paper ↔ course in Markdown. folder: of the notebooks, seen from the file."""
    return f"""# The paper, page by page

{SOURCE}.

Where the course builds or checks each equation, figure, table and claim of the paper. A notebook names each by a fixed
wording, "Paper, eq. 7", "Paper, Fig. 4", "Paper, Table 1", so that a search finds it. This file is written by
`python -m qdm_lib.paper > docs/paper.md`; what the figures show is said in our words.

## Equations, blocks, figures and tables

{index(folder)}

## Claims, in our words

{claims(folder)}

## Where text, figures and released code disagree

{differences()}
"""


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, ("---",) * len(head), *rows))


if __name__ == "__main__":
    print(course_table(), end="")
