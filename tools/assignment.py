"""Hand a notebook out as an assignment, and grade what comes back.

    python tools/assignment.py hand-out 02 --out handed-out          # without solutions and stored outputs
    python tools/assignment.py grade handed-in/*.ipynb --csv marks.csv

Grading runs each notebook in a fresh kernel (the times stand at the top of each), and reads what the checks of its
exercises print. It runs them in normal mode; --fast is for work that was done with QDM_FAST=1, as on Binder. It runs
what students wrote: do that in a container or on a machine that holds nothing else. A check that was edited is reported
as "check changed", never as right. Text answers are left to a reader.
"""

import argparse
import ast
import csv
import os
import re
import sys
import tempfile
from pathlib import Path

import nbformat
from IPython.core.inputtransformer2 import TransformerManager
from nbclient import NotebookClient
from nbclient.exceptions import CellTimeoutError, DeadKernelError

NOTEBOOKS = Path(__file__).resolve().parent.parent / "notebooks"
SOLUTION = re.compile(r"<details><summary>Solution</summary>.*?</details>\s*", re.DOTALL)
NUMBER = re.compile(r"\*\*(?:Exercise )?(\d+)\.\*\*")
CHECK = re.compile(r"^ *check\(", re.MULTILINE)
# The line that a student replaces: answer = None, or the body of a function.
BLANK = re.compile(r"^( *return None  # your line here|[\w, ]+ = None(, None)*( +#.*)?)$", re.MULTILINE)
PYTHON = TransformerManager()  # turns %magics into Python
MARKS = {"not answered yet": "unanswered", "not yet right, try again": "wrong", "correct": "correct"}  # said by `check`


def original(name: str) -> Path:
    """The course's notebook whose name begins so; ValueError unless there is exactly one."""
    found = sorted(NOTEBOOKS.glob(f"{name}*.ipynb"))
    if len(found) != 1:
        raise ValueError(f"{name!r} names {len(found)} notebooks of {NOTEBOOKS}; wanted one, such as 02.")
    return found[0]


def without_solutions(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """A copy with neither solutions nor outputs, as a student gets it."""
    notebook = nbformat.from_dict(notebook)
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = SOLUTION.sub("", cell.source).replace(" Solutions unfold below each.", "")
        else:
            cell.outputs, cell.execution_count = [], None
    notebook.cells = [cell for cell in notebook.cells if cell.source.strip()]
    return notebook


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


def statements(source: str) -> list[str]:
    """The statements of a cell, those of function bodies among them, however they are laid out; [] for broken code."""
    try:
        found = [node for node in ast.walk(ast.parse(PYTHON.transform_cell(source))) if isinstance(node, ast.stmt)]
    except SyntaxError:
        return []
    for node in found:
        if hasattr(node, "body"):
            node.body, node.orelse = [], []  # its statements stand in the list themselves
    return [ast.unparse(node) if not hasattr(node, "body") else ast.dump(node) for node in found]


def is_unchanged(source: str, handed_out: str) -> bool:
    """Whether all statements of an exercise but its blank are still there; others may have come, in another layout."""
    blank, mine = set(statements(BLANK.search(handed_out).group().strip())), statements(source)
    return all(statement in mine for statement in statements(handed_out) if statement not in blank)


def grade(handed_in: Path, timeout: int = 1800, fast: bool = False) -> dict[str, str]:
    """One word for each exercise of a notebook that came back: correct, wrong, unanswered, error or check changed.

    An exercise that stands there twice counts as it was answered last. Raises ValueError for a file that is no notebook
    of this course.
    """
    course = nbformat.read(original(re.split(r"[_.]", handed_in.name)[0]), as_version=4)
    try:
        notebook = nbformat.read(handed_in, as_version=4)
        nbformat.validate(notebook)
    except Exception as error:  # nbformat raises many types for a file that is none
        raise ValueError(f"{handed_in} cannot be read as a notebook ({type(error).__name__}).") from None
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    for cell in code:  # what is stored says nothing, and no tag may keep a cell from running
        cell.outputs, cell.execution_count, cell.metadata = [], None, {}
    with tempfile.TemporaryDirectory() as folder:
        client = NotebookClient(notebook, timeout=timeout, kernel_name="python3", allow_errors=True,
                                resources={"metadata": {"path": folder}}, coalesce_streams=True)  # fmt: skip
        try:
            client.execute(env=os.environ | {"QDM_FAST": "1" if fast else ""})
        except (CellTimeoutError, DeadKernelError) as error:
            print(f"{handed_in.name}: {type(error).__name__}, graded as far as it came", file=sys.stderr)
    honest = _one_check(code) == _one_check([cell for cell in course.cells if cell.cell_type == "code"])
    marks, cells = {}, {}
    for number, cell in exercises(course).items():
        cells[number] = next((c for c in reversed(code) if is_unchanged(c.source, cell.source)), None)
    for number, cell in cells.items():
        in_it = [other for other, one in cells.items() if one is cell]  # several where cells were merged
        marks[number] = mark(cell, in_it.index(number) - len(in_it)) if honest and cell else "check changed"
    return marks


def mark(cell: nbformat.NotebookNode, which: int = -1) -> str:
    """What a check in an executed cell said, in one word; the last one, or the `which`-th."""
    lines = [line for output in cell.outputs for line in output.get("text", "").splitlines()]
    said = [word for line in lines for text, word in MARKS.items() if line.endswith(text)]
    failed = any(output.output_type == "error" for output in cell.outputs)
    return "error" if failed or len(said) < -which else said[which]


def _one_check(cells: list[nbformat.NotebookNode]) -> str | None:
    """The function `check` of a notebook, if it is defined once and nothing else gets its name."""
    found = []
    for cell in cells:
        try:
            nodes = list(ast.walk(ast.parse(PYTHON.transform_cell(cell.source))))
        except SyntaxError:  # the cell will say so itself
            continue
        found += [ast.unparse(n) for n in nodes if isinstance(n, ast.FunctionDef) and n.name == "check"]
        names = [n for n in nodes if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)]
        found += ["something else" for n in names if n.id == "check"]
    return found[0] if len(found) == 1 else None


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    hand_out = commands.add_parser("hand-out", help="write notebooks without solutions and outputs")
    hand_out.add_argument("names", nargs="+", help="beginnings of notebook names, such as 02")
    hand_out.add_argument("--out", type=Path, required=True, help="folder for them")
    grading = commands.add_parser("grade", help="run notebooks that came back and read their checks")
    grading.add_argument("files", nargs="+", type=Path, help="named as they were handed out: 02_….ipynb, 02_ada.ipynb")
    grading.add_argument("--fast", action="store_true", help="with QDM_FAST=1, for work that was done so, as on Binder")
    grading.add_argument("--csv", type=Path, help="also write one line for each notebook and exercise here")
    options = parser.parse_args()
    try:
        return _hand_out(options) if options.command == "hand-out" else _grade(options)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def _hand_out(options) -> int:
    paths = [original(name) for name in options.names]
    for path in paths:
        if (target := options.out / path.name).exists():
            raise ValueError(f"{target} is there already; choose another --out.")
    options.out.mkdir(parents=True, exist_ok=True)
    for path in paths:
        nbformat.write(without_solutions(nbformat.read(path, as_version=4)), options.out / path.name)
        print(f"{options.out / path.name}")
    return 0


def _grade(options) -> int:
    failed = 0
    with open(options.csv or os.devnull, "w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(("notebook", "exercise", "mark"))
        for path in options.files:
            try:
                marks = grade(path, fast=options.fast)
            except ValueError as error:
                print(f"error: {error}", file=sys.stderr)
                failed += 1
                continue
            print(f"{path.name}: {sum(mark == 'correct' for mark in marks.values())} of {len(marks)} correct  ", end="")
            print(", ".join(f"{number} {mark}" for number, mark in marks.items()), flush=True)
            table.writerows((path.name, number, mark) for number, mark in marks.items())
            file.flush()  # an error with the next one loses nothing
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
