"""The instructor's guide says of the labs what the labs say of themselves."""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tools"))
from labs import find_lab, numbers, outcomes  # noqa: E402

GUIDE = (ROOT / "docs" / "teaching.md").read_text(encoding="utf-8")


def test_every_task_stands_in_the_table_of_outcomes():
    """If this fails, copy what `python tools/labs.py list --outcomes` prints into docs/teaching.md."""
    assert outcomes() in GUIDE


def test_the_plan_of_a_term_has_every_lab_with_its_minutes():
    planned = dict(re.findall(r"\| (\d\d) \| (\d+) \|$", GUIDE, re.MULTILINE))
    assert planned == {number: str(find_lab(number).minutes) for number in numbers()}
