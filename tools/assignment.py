"""The exercises at the end of a notebook: find them, and fill answers in, for the tests that run them.

They are for oneself. What is handed in and marked are the labs: tools/labs.py.
"""

import re

import nbformat

NUMBER = re.compile(r"\*\*(?:Exercise )?(\d+)\.\*\*")
CHECK = re.compile(r"^ *check\(", re.MULTILINE)
# The line that a student replaces: answer = None, or the body of a function.
BLANK = re.compile(r"^( *return None  # your line here|[\w, ]+ = None(, None)*( +#.*)?)$", re.MULTILINE)
MARKS = {"not answered yet": "unanswered", "not yet right, try again": "wrong", "correct": "correct"}  # said by `check`


def exercises(notebook: nbformat.NotebookNode) -> dict[str, nbformat.NotebookNode]:
    """Number of each exercise that checks itself -> its code cell."""
    found, number = {}, None
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            number = (NUMBER.findall(cell.source) or [number])[-1]
        elif number and CHECK.search(cell.source):
            found[number] = cell
    return found


def answered(source: str, answer: str) -> str:
    """An exercise's code with `answer` in the place of its blank: a value, or the body of a function."""
    blank = BLANK.search(source).group()
    indent = " " * (len(blank) - len(blank.lstrip()))
    line = indent + answer.replace("\n", "\n" + indent) if indent else f"{blank.partition(' = ')[0]} = {answer}"
    return source.replace(blank, line, 1)
