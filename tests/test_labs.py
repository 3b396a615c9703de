"""The labs' checks: right answers in any form earn everything, usual mistakes lose points and read their sentence."""

import pytest
import torch
from lab_answers import answers

from qdm_labs.answer import LocalAnswer
from qdm_labs.catalogue import find_lab, numbers
from qdm_labs.task import judge
from qdm_labs.variant import Variant

VARIANTS = ["2026", "2026/ada", "2027"]
NUMBERS = numbers()


def one_line(result):
    return " ".join(str(result).split())


def cases():
    for number in NUMBERS:
        lab = find_lab(number)
        v = lab.conventions(Variant("2026"))
        for task, mistakes in answers(number).wrong(v).items():
            for k, (_, words) in enumerate(mistakes):
                yield pytest.param(number, task, k, id=f"{number}-{task}-{words.replace(' ', '_')}")


@pytest.mark.parametrize("number", NUMBERS)
def test_a_lab_is_whole(number):
    lab = find_lab(number)
    assert 60 <= lab.minutes <= 180 and lab.points >= 15
    assert all(len(t.properties) >= 2 and t.outcome and t.title for t in lab.tasks)
    mistakes = answers(number).wrong(lab.conventions(Variant("2026")))
    assert all(len(mistakes[task.name]) >= 3 for task in lab.tasks)


@pytest.mark.parametrize("seed", VARIANTS)
@pytest.mark.parametrize("number", NUMBERS)
def test_right_answers_earn_everything(number, seed):
    lab = find_lab(number)
    v = lab.conventions(Variant(seed))
    for name, answer in answers(number).right(v).items():
        for draw in ("a", "b"):
            result = judge(lab.task(name), LocalAnswer(answer), v, draw)
            assert result.points == result.of == lab.task(name).points, str(result)


@pytest.mark.parametrize(("number", "task", "k"), list(cases()))
def test_a_usual_mistake_loses_points_and_is_named(number, task, k):
    lab = find_lab(number)
    for seed in VARIANTS:
        v = lab.conventions(Variant(seed))
        answer, words = answers(number).wrong(v)[task][k]
        result = judge(lab.task(task), LocalAnswer(answer), v, seed)
        assert result.points < result.of and words in one_line(result), f"{seed}: {result}"


@pytest.mark.parametrize("number", NUMBERS)
def test_nothing_earned_by_doing_nothing(number):
    """Stubs, constants and returned arguments earn 0 points, and an untouched stub is called unanswered."""
    lab = find_lab(number)
    v = lab.conventions(Variant("2026"))

    def stub(*args):
        raise NotImplementedError

    constants = [0, 1.0, [], (0.0, 0.0), "correct", {}, torch.zeros(2), torch.eye(2)]
    for task in lab.tasks:
        assert not judge(task, LocalAnswer(stub), v, "a").answered
        for answer in [lambda *a: None, lambda *a: a[0], *[lambda *a, c=c: c for c in constants]]:
            assert judge(task, LocalAnswer(answer), v, "a").points == 0


def test_a_reason_is_said_once():
    """What follows from a mistake that has its sentence already is not told as a second one."""
    lab = find_lab("02")
    v = lab.conventions(Variant("2026"))
    said = {name: one_line(judge(lab.task(name), LocalAnswer(answers("02").wrong(v)[name][k][0]), v, "a"))
            for name, k in (("rotation", 0), ("apply_gate", 2))}  # fmt: skip
    assert "not halved" in said["rotation"] and "for the same reason" in said["rotation"]
    assert said["apply_gate"].count("adjoint") == 1 and "The same as above." in said["apply_gate"]
    assert "On a random example" not in "".join(said.values())
