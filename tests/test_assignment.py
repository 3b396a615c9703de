"""Assignments: what is handed out holds no solutions, and what comes back is graded by what its checks say."""

import sys
from pathlib import Path

import nbformat
import pytest
from answers import ANSWERS

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tools"))
import assignment  # noqa: E402

NAMES = sorted(path.stem for path in (ROOT / "notebooks").glob("*.ipynb"))


@pytest.fixture(scope="module")
def handed_out(tmp_path_factory):
    folder = tmp_path_factory.mktemp("assignment") / "out"
    run("hand-out", *NAMES, "--out", folder)
    return folder


def run(*argv):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["assignment.py", *map(str, argv)])
        return assignment.main()


@pytest.mark.parametrize("name", NAMES)
def test_handed_out_without_solutions_and_outputs(name, handed_out):
    course = nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", as_version=4)
    book = nbformat.read(handed_out / f"{name}.ipynb", as_version=4)
    assert "Solution" in nbformat.writes(course) and "Solution" not in nbformat.writes(book)
    code = [cell for cell in book.cells if cell.cell_type == "code"]
    assert not any(cell.outputs or cell.execution_count for cell in code)
    assert [cell.source for cell in code] == [cell.source for cell in course.cells if cell.cell_type == "code"]
    assert list(assignment.exercises(book)) == list(ANSWERS[name])
    texts = ["".join(cell.source for cell in b.cells if cell.cell_type == "markdown") for b in (course, book)]
    assert 0.8 * len(texts[0]) < len(texts[1]) < len(texts[0])


def test_grading_runs_what_came_back(handed_out, tmp_path, capsys):
    book = nbformat.read(handed_out / "00_welcome.ipynb", as_version=4)
    cells = assignment.exercises(book)
    cells["1"].source = assignment.answered(cells["1"].source, "140")
    cells["2"].source = assignment.answered(cells["2"].source, "3")
    cells["3"].source = cells["3"].source.replace("lambda n: n ==", "lambda n: True or n ==")
    nbformat.write(book, tmp_path / "00_ada.ipynb")
    (tmp_path / "00_empty.ipynb").write_text("")
    (tmp_path / "homework.ipynb").write_text("{}")
    files = [tmp_path / name for name in ("00_ada.ipynb", "00_empty.ipynb", "homework.ipynb")]
    assert run("grade", *files, "--fast", "--csv", tmp_path / "marks.csv") == 1
    out, err = capsys.readouterr()
    assert out == "00_ada.ipynb: 1 of 3 correct  1 correct, 2 wrong, 3 check changed\n"
    assert "00_empty.ipynb cannot be read" in err and "'homework' names 0 notebooks" in err
    assert (tmp_path / "marks.csv").read_text().splitlines()[1:] == [
        "00_ada.ipynb,1,correct", "00_ada.ipynb,2,wrong", "00_ada.ipynb,3,check changed"
    ]  # fmt: skip


def test_marks():
    def cell(*outputs):
        return nbformat.v4.new_code_cell("check(answer)", outputs=list(outputs))

    def said(text):
        return nbformat.v4.new_output("stream", text=text)

    error = nbformat.v4.new_output("error", ename="NameError", evalue="", traceback=[])
    assert assignment.mark(cell(said("my notes\nnot answered yet\n"))) == "unanswered"
    assert assignment.mark(cell(said("correct\n"))) == "correct"
    assert assignment.mark(cell(said("not yet right, try again\n"), said("more\n"))) == "wrong"
    assert assignment.mark(cell()) == assignment.mark(cell(said("correct\n"), error)) == "error"


CHECK = """def check(answer, right):
    print("not answered yet" if answer is None else "correct" if right(answer) else "not yet right, try again")
"""
EXERCISES = {
    "1": "answer = None\n\ncheck(answer, lambda n: n == 1)",
    "2": "def twice(n):\n    return None  # your line here\n\n\ncheck(twice(2), lambda n: n == 4)",
    "3": "answer = None\ndef right(n):\n    half = n / 2\n    return half == 3\n\n\ncheck(answer, right)",
}


@pytest.fixture
def tiny_course(tmp_path, monkeypatch):
    """A course of one small notebook; gives a function that hands in what students made of it and grades it."""
    new = nbformat.v4.new_markdown_cell, nbformat.v4.new_code_cell
    cells = [new[1](CHECK)]
    for number, source in EXERCISES.items():
        cells += [new[0](f"**Exercise {number}.** …"), new[1](source)]
    monkeypatch.setattr(assignment, "NOTEBOOKS", tmp_path / "course")
    (tmp_path / "course").mkdir()
    nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / "course" / "00_tiny.ipynb")

    def graded(*sources, **options):
        outputs = [nbformat.v4.new_output("stream", text="correct\n")]  # stored by the student, worth nothing
        book = nbformat.v4.new_notebook(
            cells=[new[1](s, outputs=outputs, metadata={"tags": ["skip-execution"]}) for s in sources]
        )
        nbformat.write(book, tmp_path / "00_ada.ipynb")
        return " ".join(assignment.grade(tmp_path / "00_ada.ipynb", **options).values())

    return graded


RIGHT = [CHECK, EXERCISES["1"].replace("None", "1"), EXERCISES["2"].replace("None", "2 * n"),
         EXERCISES["3"].replace("None", "6")]  # fmt: skip


def test_ordinary_edits_are_graded(tiny_course):
    assert tiny_course(*RIGHT) == "correct correct correct"
    one, two, three = RIGHT[1:]
    laid_out = CHECK.replace(" else ", "\n          else ")
    lines = two.replace("return 2 * n", "m = n\n    return m + n")
    marks = tiny_course(
        laid_out, EXERCISES["1"], "%matplotlib inline\nprint('mine', end=' ')\n" + one, lines, three.replace("6", "5")
    )
    assert marks == "correct correct wrong"  # answered in a copy below the blank; on several lines; wrong
    assert tiny_course(CHECK, one, f"{EXERCISES['2']}\n{three}") == "correct unanswered correct"  # merged cells


def test_what_is_stored_or_changed_is_not_right(tiny_course):
    one, two, three = RIGHT[1:]
    died = tiny_course(CHECK, "import os\nos._exit(1)", one, two, three)
    assert died == "error error error"
    assert tiny_course(CHECK, one.replace("n == 1", "True"), two, three) == "check changed correct correct"
    assert tiny_course(CHECK, one, two, three.replace("half == 3", "True")) == "correct correct check changed"
    assert tiny_course(CHECK, "check = print", one, two, three) == "check changed check changed check changed"
    assert tiny_course(CHECK, one, two, "answer = 1 / 0\n" + three) == "correct correct error"
    assert tiny_course(CHECK, one, "def twice(n:", two) == "correct correct check changed"


def test_the_mode_is_the_graders(tiny_course, monkeypatch):
    monkeypatch.setenv("QDM_FAST", "1")
    asks = "import os\n" + EXERCISES["1"].replace("None", "1 if os.environ['QDM_FAST'] == '1' else 2")
    assert tiny_course(CHECK, asks).split()[0] == "wrong"
    assert tiny_course(CHECK, asks, fast=True).split()[0] == "correct"


def test_mistakes_of_the_instructor(tmp_path, capsys):
    assert run("hand-out", "12", "--out", tmp_path) == 2
    (tmp_path / "02_variational_circuits.ipynb").write_text("mine")
    assert run("hand-out", "02", "--out", tmp_path) == 2
    err = capsys.readouterr().err
    assert "'12' names 0 notebooks" in err and "is there already" in err
    assert (tmp_path / "02_variational_circuits.ipynb").read_text() == "mine"
