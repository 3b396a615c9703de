"""The instructor's guide says of the labs what the labs say of themselves."""

import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tools"))
from labs import find_lab, numbers, outcomes  # noqa: E402

GUIDE = (ROOT / "docs" / "teaching.md").read_text(encoding="utf-8")
LECTURES = (ROOT / "docs" / "lectures.md").read_text(encoding="utf-8")
PLANS = dict(
    re.findall(r"^## (\d\d) (.*?)(?=^## )", LECTURES, re.MULTILINE | re.DOTALL)
)  # number of the notebook -> text
SOURCES = {path.name[:2]: path.read_text(encoding="utf-8") for path in (ROOT / "notebooks" / "src").glob("*.py")}


def test_every_task_stands_in_the_table_of_outcomes():
    """If this fails, copy what `python tools/labs.py list --outcomes` prints into docs/teaching.md."""
    assert outcomes() in GUIDE


def test_the_plan_of_a_term_has_every_lab_with_its_minutes():
    planned = dict(re.findall(r"\| (\d\d) \| (\d+) \|$", GUIDE, re.MULTILINE))
    assert planned == {number: str(find_lab(number).minutes) for number in numbers()}


def test_every_notebook_has_a_plan_with_all_its_parts():
    assert PLANS.keys() == SOURCES.keys()
    assert all(f"**{part}" in plan for plan in PLANS.values() for part in ("Skip:", "End on:"))


@pytest.mark.parametrize("number", sorted(SOURCES))
def test_a_plan_fills_its_minutes_and_names_sections_that_exist(number):
    title, plan = PLANS[number].split("\n", 1)
    meetings = 2 if "two meetings" in title else 1
    minutes = [int(m) for m in re.findall(r"^\| (\d+) \|", plan, re.MULTILINE)]
    assert sum(minutes) == meetings * int(re.search(r"(\d+) minutes", title)[1])
    there = {int(n) for n in re.findall(r"^# ## (\d+) ·", SOURCES[number], re.MULTILINE)}
    named = re.findall(r"[Ss]ections? ((?:\d+(?:, | and |))+)", plan)
    assert {int(n) for found in named for n in re.findall(r"\d+", found)} <= there


def test_the_contact_minutes_of_the_term_are_those_of_the_plans():
    rows = re.findall(r"^\| [\d–]+ \| (\d\d) \|.*?\((\d+)\) \|", GUIDE, re.MULTILINE)
    planned = {number: int(re.search(r"(\d+) minutes", plan)[1]) * (2 if "two meetings" in plan.split("\n")[0] else 1)
               for number, plan in PLANS.items()}  # fmt: skip
    assert {number: int(minutes) for number, minutes in rows} == planned
