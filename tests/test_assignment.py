"""The exercises of the notebooks can be found and filled in: every one that has an answer here, and no other."""

import sys
from pathlib import Path

import nbformat
import pytest
from answers import ANSWERS

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tools"))
from assignment import BLANK, answered, exercises  # noqa: E402

NAMES = sorted(path.stem for path in (ROOT / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize("name", NAMES)
def test_every_exercise_has_one_blank(name):
    found = exercises(nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", as_version=4))
    assert list(found) == list(ANSWERS[name])
    assert all(len(BLANK.findall(cell.source)) >= 1 for cell in found.values())


def test_an_answer_takes_the_place_of_the_blank():
    assert answered("answer = None\n\ncheck(answer, right)", "3") == "answer = 3\n\ncheck(answer, right)"
    blank = "def twice(n):\n    return None  # your line here\n\n\ncheck(twice(2), right)"
    assert "    m = n\n    return m + n\n" in answered(blank, "m = n\nreturn m + n")
