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


def test_grading_runs_what_came_back(handed_out, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("QDM_FAST", "1")
    book = nbformat.read(handed_out / "00_welcome.ipynb", as_version=4)
    cells = assignment.exercises(book)
    cells["1"].source = assignment.answered(cells["1"].source, "140")
    cells["2"].source = assignment.answered(cells["2"].source, "3")
    cells["3"].source = cells["3"].source.replace("lambda n: n ==", "lambda n: True or n ==")
    nbformat.write(book, tmp_path / "00_ada.ipynb")
    (tmp_path / "00_empty.ipynb").write_text("")
    (tmp_path / "homework.ipynb").write_text("{}")
    files = [tmp_path / name for name in ("00_ada.ipynb", "00_empty.ipynb", "homework.ipynb")]
    assert run("grade", *files, "--csv", tmp_path / "marks.csv") == 1
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


def test_another_check_function_is_no_check(handed_out):
    code = [
        cell for cell in nbformat.read(handed_out / "02_variational_circuits.ipynb", 4).cells if "def " in cell.source
    ]
    one = assignment._one_check(code)
    assert one.startswith("def check(answer, right):") and one.endswith('try again")')
    code[-1].source += "\ncheck = lambda *_: print('correct')"
    assert assignment._one_check(code) is None


def test_mistakes_of_the_instructor(tmp_path, capsys):
    assert run("hand-out", "12", "--out", tmp_path) == 2
    (tmp_path / "02_variational_circuits.ipynb").write_text("mine")
    assert run("hand-out", "02", "--out", tmp_path) == 2
    err = capsys.readouterr().err
    assert "'12' names 0 notebooks" in err and "is there already" in err
    assert (tmp_path / "02_variational_circuits.ipynb").read_text() == "mine"
