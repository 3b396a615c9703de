"""Every lab through the marker's whole chain: release, three hand-ins of known quality, marks, table, pages."""

import csv
import re
from dataclasses import replace

import nbformat
import pytest
from lab_answers import answered, expected_points
from test_labs_marking import load_tool, write

from qdm_labs import marker
from qdm_labs.catalogue import find_lab, numbers
from qdm_labs.notebook import for_nbgrader, release

SEED = "2026"
NUMBERS = numbers()
CHECKS = ("agree(", "usual", "draw.", "Mistake(", "judge(")  # words of the checks, in no student's file


def partly(lab):
    """Of four tasks one right, one with a usual mistake, one that only prints, one unanswered; and so on."""
    return {task.name: ("right", 0, "prints", "unanswered")[k % 4] for k, task in enumerate(lab.tasks)}


def hand_ins(lab):
    """student -> task -> what they did."""
    return {"right": dict.fromkeys([t.name for t in lab.tasks], "right"), "partly": partly(lab),
            "prints": dict.fromkeys([t.name for t in lab.tasks], "prints")}  # fmt: skip


@pytest.mark.parametrize("number", NUMBERS)
def test_a_lab_through_the_whole_chain(number, tmp_path, monkeypatch):
    """The commands as typed. The answers are made from the library, so this copy of the lab forbids nothing."""
    lab, tool = find_lab(number), load_tool()
    assert tool.main(["release", number, "--variant", SEED, "--out", str(tmp_path)]) == 0
    (released,) = tmp_path.iterdir()
    for student, choices in hand_ins(lab).items():
        notebook = answered(nbformat.read(released, as_version=4), lab, SEED, choices)
        write(notebook, tmp_path / "in" / student / f"lab{number}.ipynb")
    monkeypatch.setattr(tool, "find_lab", lambda n: replace(find_lab(n), forbidden=()))
    table = tmp_path / "marks.csv"
    assert (
        tool.main(["grade", number, str(tmp_path / "in"), "--variant", SEED, "--csv", str(table), "--jobs", "2"]) == 0
    )
    with table.open(encoding="utf-8") as file:
        rows = {row["student"]: row for row in csv.DictReader(file)}
    got = {student: float(row["points"]) for student, row in rows.items()}
    some = expected_points(lab, SEED, partly(lab))
    assert got == {"right": lab.points, "partly": some, "prints": 0} and 0 < some < lab.points
    assert {float(row["of"]) for row in rows.values()} == {lab.points} and not rows["right"]["remark"]
    pages = {p.stem: p.read_text(encoding="utf-8") for p in (tmp_path / "marks-feedback").iterdir()}
    assert set(pages) == set(rows) and not any(word in page for page in pages.values() for word in CHECKS)
    assert "Not answered" not in pages["right"] and pages["prints"].count("Not answered") == len(lab.tasks)


def calls(name, forbidden):
    """A function's body that asks the library, or a whole package, to do the work."""
    module = ".".join(forbidden.split(".")[:2])
    called = {"pennylane": "pennylane.qnode", "torchmetrics": "torchmetrics.Metric",
              "qdm_lib.statistics": "qdm_lib.statistics.paired_difference"}.get(forbidden, forbidden)  # fmt: skip
    return f"def {name}(*args):\n    import {module}\n    return {called}(*args)"


@pytest.mark.parametrize("number", NUMBERS)
def test_what_is_forbidden_earns_nothing_and_is_named(number, tmp_path):
    """Nothing is patched here. An untouched lab earns 0 and no remark; each forbidden name refuses."""
    lab, start = find_lab(number), release(number, SEED)
    write(start, tmp_path / "untouched.ipynb")
    names, tasks = list(lab.forbidden), [task.name for task in lab.tasks]
    for k in range(0, len(names), len(tasks)):
        pairs, notebook = dict(zip(tasks, names[k:], strict=False)), release(number, SEED)
        for cell in notebook.cells:
            for name, forbidden in pairs.items():
                if cell.cell_type == "code" and f"def {name}(" in cell.source:
                    cell.source = calls(name, forbidden)
        write(notebook, tmp_path / f"asks {k}.ipynb")
    marks = {m.submission.student: m for m in marker.mark_all(lab, marker.find(tmp_path, number), SEED, "a draw")}
    assert not any(m.points or m.remarks for m in marks.values()), [m.remarks for m in marks.values()]
    said = "".join(v.sentence for m in marks.values() for r in m.results for v in r.verdicts)
    assert not [name for name in names if f"{name} does what" not in said and f"{name}." not in said], said
    assert not any(r.answered for r in marks["untouched"].results)


@pytest.mark.parametrize("number", NUMBERS)
def test_what_students_get_holds_stubs_alone(number, tmp_path):
    """No solution, no hidden test, no output: after a stub's docstring comes the line that says it is one."""
    lab = find_lab(number)
    assert load_tool().main(["release", number, "--variant", SEED, "--out", str(tmp_path)]) == 0
    notebook = nbformat.read(tmp_path / f"lab{number}.ipynb", as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert not any(cell.outputs or cell.execution_count for cell in code)
    for task in lab.tasks:
        (stub,) = [cell.source for cell in code if f"def {task.name}(" in cell.source]
        assert re.fullmatch(
            rf'def {task.name}\(.*\):\n    """[^"]*(?:"\w+"[^"]*)*"""\n    raise NotImplementedError', stub
        )
    text = nbformat.writes(notebook)
    assert "{{" not in text and not any(word in text for word in (*CHECKS, "SOLUTION", "HIDDEN"))


@pytest.mark.parametrize("number", NUMBERS)
def test_nbgrader_s_source_gives_every_point_in_a_locked_cell(number):
    lab, notebook = find_lab(number), for_nbgrader(number, SEED)
    marks = [cell.metadata["nbgrader"] for cell in notebook.cells if "nbgrader" in cell.metadata]
    graded = [m for m in marks if m["grade"]]
    assert [m["grade_id"] for m in graded] == [f"check_{task.name}" for task in lab.tasks]
    assert [m["points"] for m in graded] == [task.points for task in lab.tasks]
    assert all(m["locked"] for m in graded) and len({m["grade_id"] for m in marks}) == len(marks)
    assert "HIDDEN" not in nbformat.writes(notebook)
