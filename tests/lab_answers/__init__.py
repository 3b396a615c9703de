"""Right answers, made from the library, and usual mistakes with their sentences: one module a lab.

And hand-ins of known quality made of them. `choices` says for each task what its student did: "right", the number of a
usual mistake, "prints" (a cell that prints what a right answer would), or "unanswered".
"""

import importlib

from nbformat.v4 import new_code_cell, new_output

from qdm_labs.answer import LocalAnswer
from qdm_labs.task import judge
from qdm_labs.variant import Variant

HEAD = """
from lab_answers.lab{number} import right, wrong
from qdm_labs.catalogue import find_lab
from qdm_labs.notebook_side import OpenLab
from qdm_labs.variant import Variant
OpenLab.check = lambda *args: None  # as the marker has it where a lab forbids something
v = find_lab("{number}").conventions(Variant({seed!r}))
good, bad = right(v), wrong(v)
"""


def answers(number):
    """The module of one lab: right(v) and wrong(v)."""
    return importlib.import_module(f"lab_answers.lab{number}")


def answered(notebook, lab, seed, choices):
    """The released notebook with stubs replaced, for a marker that forbids nothing: `replace(lab, forbidden=())`."""
    for cell in notebook.cells:
        for name, choice in choices.items():
            if choice == "unanswered" or cell.cell_type != "code" or f"def {name}(" not in cell.source:
                continue
            if choice == "prints":
                cell.source = f"print('{name}: all points\\ncorrect')"
                cell.outputs = [new_output("stream", text=f"{name}: all points\ncorrect\n")]
            else:
                source = f"good[{name!r}]" if choice == "right" else f"bad[{name!r}][{choice}][0]"
                cell.source = f"def {name}(*args):\n    return {source}(*args)"
    notebook.cells.insert(0, new_code_cell(HEAD.format(number=lab.number, seed=seed)))
    return notebook


def expected_points(lab, seed, choices):
    """By another draw than the marker's."""
    v, total = lab.conventions(Variant(seed)), 0
    right, wrong = answers(lab.number).right(v), answers(lab.number).wrong(v)
    for name, choice in choices.items():
        if choice not in ("unanswered", "prints"):
            answer = right[name] if choice == "right" else wrong[name][choice][0]
            total += judge(lab.task(name), LocalAnswer(answer), v, "another draw").points
    return total
