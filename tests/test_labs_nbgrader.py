"""The labs as an nbgrader course: release, autograde, feedback and export, once, with three hand-ins."""

import csv
import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from test_labs_marking import LAB, PRINTED, ROOT, ROTATION, SEED, tool

pytest.importorskip("nbgrader", reason="nbgrader is not installed (requirements-dev.txt)")


def nbgrader(course, *argv):
    paths = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    tools = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])  # nbgrader calls alembic
    home = {"HOME": str(course), "JUPYTER_DATA_DIR": str(course / "jupyter"), "PYTHONPATH": paths, "PATH": tools}
    done = subprocess.run([sys.executable, "-m", "nbgrader", *argv], cwd=course, env=os.environ | home,
                          capture_output=True, text=True, timeout=400)  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]


def hand_in(course, student, change):
    book = nbformat.read(course / "release" / "lab02" / "lab02.ipynb", as_version=4)
    for cell in book.cells:
        change(cell)
    path = course / "submitted" / student / "lab02" / "lab02.ipynb"
    path.parent.mkdir(parents=True)
    nbformat.write(book, path)


def right(cell):
    if "def rotation(" in cell.source:
        cell.source = ROTATION


def cheat(cell):
    """Edited checks, printed points, stored outputs."""
    if cell.metadata.get("nbgrader", {}).get("grade"):
        cell.source, cell.outputs = "print('3 of 3 points')\n3.0", PRINTED


def loop(cell):
    right(cell)
    if "def apply_gate(" in cell.source:
        cell.source = "def apply_gate(state, U, wire):\n    while True:\n        pass"


@pytest.fixture(scope="module")
def course(tmp_path_factory):
    folder = tmp_path_factory.mktemp("nbgrader") / "course"
    assert tool("nbgrader", "02", "--variant", SEED, "--out", folder) == 0
    config = folder / "nbgrader_config.py"
    config.write_text(config.read_text().replace("timeout = 60", "timeout = 20"))
    nbgrader(folder, "generate_assignment", "lab02")
    for student, change in (("ada", right), ("bob", cheat), ("eve", loop)):
        hand_in(folder, student, change)
    nbgrader(folder, "autograde", "lab02")
    nbgrader(folder, "generate_feedback", "lab02")
    nbgrader(folder, "export")
    return folder


def test_the_release_has_stubs_and_no_marks_of_solutions(course):
    text = (course / "release" / "lab02" / "lab02.ipynb").read_text(encoding="utf-8")
    assert "SOLUTION" not in text and text.count("raise NotImplementedError") == len(LAB.tasks)
    cells = nbformat.reads(text, as_version=4).cells
    graded = [c for c in cells if c.metadata.get("nbgrader", {}).get("grade")]
    assert sum(c.metadata.nbgrader.points for c in graded) == LAB.points and all(
        c.metadata.nbgrader.locked for c in graded
    )


def test_points_come_from_what_ran(course):
    with (course / "grades.csv").open(encoding="utf-8") as file:
        rows = {row["student_id"]: row for row in csv.DictReader(file)}
    assert {s: float(rows[s]["raw_score"]) for s in rows} == {"ada": 3, "bob": 0, "eve": 3}
    assert {float(row["max_score"]) for row in rows.values()} == {LAB.points}


def test_the_feedback_has_sentences_and_no_tests(course):
    for student in ("ada", "bob", "eve"):
        page = (course / "feedback" / student / "lab02" / "lab02.html").read_text(encoding="utf-8")
        assert "HIDDEN" not in page and "has the right entries for every axis" in page or student == "bob"
        assert "agree(" not in page and "usual=" not in page


def test_the_configuration_is_the_one_of_the_repository(course):
    assert "interrupt_on_timeout = True" in (Path(ROOT) / "labs" / "nbgrader_config.py").read_text()
