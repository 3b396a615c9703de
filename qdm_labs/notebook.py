"""From a lab's source (labs/src/lab02.py, py:percent) to the student's notebook, or to nbgrader's.

In the source, a code cell ``# %% task="name"`` is the stub that the student fills in, ``# %% check="name"`` the cell
that tries it, ``# %% tags=["demo"]`` a cell that the marker need not run; ``{{word}}`` is filled in from the variant. A
source holds no solution and no hidden test, so there is nothing to take out.
"""

from __future__ import annotations

import re
from pathlib import Path

import jupytext
import nbformat

from qdm_labs.catalogue import find_lab
from qdm_labs.task import Lab
from qdm_labs.variant import Variant

SOURCES = Path(__file__).resolve().parent.parent / "labs" / "src"
WORD = re.compile(r"\{\{(\w+)\}\}")
STUB = re.compile(r"^( *)raise NotImplementedError$", re.MULTILINE)
KERNEL = {"kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
          "language_info": {"name": "python"}}  # fmt: skip


def release(number: str, seed: str) -> nbformat.NotebookNode:
    """The student's notebook of one variant.

    Raises ValueError for an unknown lab, a ``{{word}}`` that the lab does not know, or tasks that do not agree with the
    lab's.
    """
    notebook = _filled(find_lab(number), seed)
    for cell in notebook.cells:
        cell.metadata = {"tags": cell.metadata["tags"]} if "tags" in cell.metadata else {}
    return notebook


def for_nbgrader(number: str, seed: str) -> nbformat.NotebookNode:
    """The source notebook of an nbgrader course: solution cells, and locked cells that give the points."""
    lab = find_lab(number)
    notebook = _filled(lab, seed)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    for place, cell in enumerate(code):
        task, check = cell.metadata.get("task"), cell.metadata.get("check")
        cell.metadata = {"tags": cell.metadata["tags"]} if "tags" in cell.metadata else {}
        if task:
            cell.source = STUB.sub(
                r"\1### BEGIN SOLUTION\n\1raise NotImplementedError\n\1### END SOLUTION", cell.source
            )
            cell.metadata["nbgrader"] = _mark(task, solution=True)
        elif check:
            cell.source = (
                f'from qdm_labs import open_lab\n\nopen_lab("{lab.number}", "{seed}").points("{check}", {check})'
            )
            cell.metadata["nbgrader"] = _mark(f"check_{check}", grade=True, locked=True)
            cell.metadata["nbgrader"]["points"] = lab.task(check).points
        elif place == 0:
            cell.metadata["nbgrader"] = _mark("set_up", locked=True)
    return notebook


def _mark(grade_id: str, grade: bool = False, solution: bool = False, locked: bool = False) -> dict:
    return {"grade": grade, "grade_id": grade_id, "locked": locked, "schema_version": 3, "solution": solution,
            "task": False}  # fmt: skip


def _filled(lab: Lab, seed: str) -> nbformat.NotebookNode:
    notebook = jupytext.read(SOURCES / f"lab{lab.number}.py", fmt="py:percent")
    if '"' in seed or "\\" in seed or "\n" in seed:
        raise ValueError(f"A variant's seed has no quotation marks, backslashes and line breaks; got {seed!r}.")
    words = _words(lab, seed)

    def word(found: re.Match) -> str:
        if found[1] not in words:
            raise ValueError(f"Lab {lab.number} has no word {found[1]!r}; it has {', '.join(sorted(words))}.")
        return words[found[1]]

    for number, cell in enumerate(notebook.cells):
        cell.source = WORD.sub(word, cell.source)
        cell["id"] = f"lab{lab.number}-{number:02d}"
    names = [task.name for task in lab.tasks]
    for kind in ("task", "check"):
        found = [cell.metadata[kind] for cell in notebook.cells if kind in cell.metadata]
        if found != names:
            raise ValueError(f"The {kind} cells of lab {lab.number} are {found}; its tasks are {names}.")
    notebook.metadata = dict(KERNEL)
    return notebook


def _words(lab: Lab, seed: str) -> dict[str, str]:
    rows = [f"| {k} | `{t.name}` | {t.outcome} | {t.points:g} | {t.minutes} |" for k, t in enumerate(lab.tasks, 1)]
    table = ["| | function | afterwards you can | points | minutes |", "|--:|---|---|--:|--:|", *rows]
    return {
        "number": lab.number, "title": lab.title, "variant": seed, "points": f"{lab.points:g}",
        "minutes": str(lab.minutes), "table": "\n".join(table), **lab.text(lab.conventions(Variant(seed))),
    }  # fmt: skip
