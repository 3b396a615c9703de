"""The questions of the notebooks: right answers in any form, sentences for usual mistakes, and nothing given away."""

import ast
import re
from pathlib import Path

import jupytext
import pytest
import torch
from answers import ANSWERS, SETUP

from qdm_labs import forms, reading
from qdm_labs.task import Mistake

ROOT = Path(__file__).parent.parent
SOURCES = sorted((ROOT / "notebooks" / "src").glob("*.py"))
KEYS = [key for number in reading.notebooks() for key in reading.table(number)]
CALL = re.compile(r'^check\("(\d\d\.\d+)", (\w+)\)$', re.MULTILINE)


def run(code: str) -> dict:
    """The names that code leaves behind, after SETUP."""
    scope: dict = {}
    exec(SETUP + code, scope)
    return scope


def value(code: str):
    return eval(code, run(""))


def cells(source: Path) -> list[str]:
    return [cell.source for cell in jupytext.read(source, fmt="py:percent").cells if cell.cell_type == "code"]


def question_cells(source: Path) -> dict[str, str]:
    """Key → the cell that a student edits, in the order of the notebook."""
    return {found[1]: cell for cell in cells(source) if (found := CALL.search(cell))}


def test_every_question_is_tried():
    assert list(ANSWERS) == KEYS
    assert all(len(right) >= 3 and len(wrong) >= 2 for right, wrong in ANSWERS.values())


@pytest.mark.parametrize("key", KEYS)
def test_a_right_answer_is_right_in_every_form(key):
    for code in ANSWERS[key][0]:
        assert reading.verdict(key, value(code)).startswith("right. "), code


@pytest.mark.parametrize("key", KEYS)
def test_a_usual_mistake_gets_its_sentence(key):
    said = {code: reading.verdict(key, value(code)) for code in ANSWERS[key][1]}
    for code, sentence in ANSWERS[key][1].items():
        assert said[code].startswith("not yet. ") and sentence in said[code], (code, said[code])
    assert len(set(said.values())) >= 2


@pytest.mark.parametrize("key", KEYS)
def test_nothing_for_an_answer_ends_in_a_traceback(key):
    for blank in (None, ..., (..., ...), "", " ", (None,)):
        assert reading.verdict(key, blank) == "not answered yet"
    texts = ("((", "1 / 0", "9" * 5000, "__import__('os')", b"x")
    functions = (lambda *args: torch.ones(2) > 0, lambda *args: ..., lambda *args: None, lambda *args: 1 / 0, type, int)
    odd = (object(), {}, float("nan"), float("inf"), 1j, [[]], iter([-7.25]), [None, 3], True, *texts, *functions)
    for thing in odd:
        assert reading.verdict(key, thing).startswith("not "), thing


@pytest.mark.parametrize("key", KEYS)
def test_the_solution_passes_its_own_check(key):
    text = reading.solution(key).data
    if code := re.search(r"```python\n(.*)```", text, re.DOTALL):
        names = run("frequencies = torch.tensor([0.5, 1.0]).double()\n" + code[1])
        function = next(v for k, v in names.items() if k.startswith("my_"))
        assert reading.verdict(key, function).startswith("right. ")
    elif answer := re.match(rf"\*\*{key}: [“]?(.*?)[”]?\.\*\* ", text):
        assert reading.verdict(key, answer[1]).startswith("right. "), answer[1]
    else:
        answer = re.search(r"`([^`]*)`|: (b2.*)\.$", text)
        assert reading.verdict(key, eval(answer[1].split("=")[-1]) if answer[1] else answer[2]).startswith("right. ")


@pytest.mark.parametrize("source", SOURCES, ids=lambda s: s.stem)
def test_a_notebook_asks_all_its_questions_in_order(source):
    asked = list(question_cells(source))
    assert asked == [key for key in KEYS if key[:2] == source.stem[:2]]
    assert 3 <= len(asked) <= 6
    text = source.read_text(encoding="utf-8")
    assert [key for key in re.findall(r"^# \*\*Question (\d\d\.\d+)", text, re.MULTILINE)] == asked
    for mentioned in re.findall(r"question (\d\d\.\d+)", text, re.IGNORECASE):
        assert mentioned in KEYS


@pytest.mark.parametrize("source", SOURCES, ids=lambda s: s.stem)
def test_no_cell_that_a_student_edits_holds_an_answer(source):
    """As shipped it says "not answered yet"; nothing is in it but the blank, and no value or expression is right."""
    for key, cell in question_cells(source).items():
        name = CALL.search(cell)[2]
        answer = run(CALL.sub("", cell))[name]
        shipped = reading.verdict(key, answer)
        assert shipped == "not answered yet", key
        tree = ast.parse(cell)
        assert len(tree.body) == 2 and (len(tree.body[0].body) <= 2 if isinstance(answer, type(run)) else True)
        comments = re.findall(r"#\s*(.*)", cell)
        texts = [ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.expr)] + comments
        texts += [part for comment in comments for part in re.findall(r"such as (.*)", comment)]
        for text in texts:
            try:
                guess = eval(text, run(""))
            except Exception:  # no expression, or one that needs the notebook
                guess = text
            assert not reading.verdict(key, guess).startswith("right"), (key, text)


@pytest.mark.parametrize("source", SOURCES, ids=lambda s: s.stem)
def test_each_answer_has_a_name_of_its_own(source):
    """A blank one inherits no value, and a wrong one breaks nothing that comes after it."""
    names = [CALL.search(cell)[2] for cell in question_cells(source).values()]
    assert len(set(names)) == len(names)
    for cell in cells(source):
        used = {node.id for node in ast.walk(ast.parse(cell)) if isinstance(node, ast.Name)}
        if not CALL.search(cell):
            assert not used & set(names)


def test_the_way_is_offered_after_three_wrong_answers(capsys):
    for _ in range(3):
        reading.check("00.3", 28)
    said = capsys.readouterr().out
    assert said.count("not yet") == 3 and said.count('solution("00.3")') == 1
    reading.check("00.3", 140)
    reading.check("00.3")
    assert capsys.readouterr().out.splitlines() == ["00.3: right. 28 in each layer.", "00.3: not answered yet"]


def test_a_key_that_does_not_exist_says_which_do():
    with pytest.raises(ValueError, match=r"it has 00\.1, 00\.2, 00\.3"):
        reading.check("00.9", 3)
    with pytest.raises(ValueError, match="keys are like"):
        reading.solution("banana")


def test_forms():
    assert forms.several("≈ 2,560,000") == [2_560_000] and forms.several("1/4 and 25 %") == [0.25, 0.25]
    assert forms.several("−3") == [-3] and forms.several("2·10^4") == [20_000] and forms.several("{4, 8}") == [4, 8]
    assert forms.several("t = 496") == [496] and forms.several("mean 0.3, deviation 80 %") == [0.3, 0.8]
    assert forms.several("0.3 ± 0.8") == [0.3, 0.8] and forms.several({"mean": 0.3, "std": 0.8}) == [0.3, 0.8]
    assert forms.several("4π, √(4), cos(pi/3)") == pytest.approx([12.566, 2, 0.5], abs=1e-3)
    for text in ("half", "x_0", "print()", "v1.2.3", True, len):
        with pytest.raises(Mistake):
            forms.several(text)
