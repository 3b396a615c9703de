"""Checks while reading: in a notebook, ``check("01.3", my_answer)`` and ``solution("01.3")``.

They are for the reader alone and earn nothing; it is the labs that are handed in and marked. Each notebook's questions
are a table in a file of its own, ``reading_01.py`` and so on.
"""

from __future__ import annotations

import importlib
from collections import Counter
from pathlib import Path
from typing import Any

from IPython.display import Markdown

from qdm_labs import forms
from qdm_labs.questions import Question, Table
from qdm_labs.task import Mistake, Unanswered

_not_yet: Counter[str] = Counter()  # wrong answers to each question since the kernel started


def check(key: str, answer: Any = ...) -> None:
    """Print whether an answer is right, and if not, which mistake it is; nothing for an answer ends in an error.

    Raises ValueError for a question that does not exist.
    """
    said = verdict(key, answer)
    print(f"{key}: {said}")
    _not_yet[key] = 0 if said.startswith("right") else _not_yet[key] + said.startswith("not yet")
    if _not_yet[key] >= 3:
        print(f'(solution("{key}") shows one way to answer.)')


def verdict(key: str, answer: Any) -> str:
    """What `check` says: "right. …", "not yet. …" or "not answered yet"."""
    question = find(key)
    try:
        if forms.is_blank(answer):
            raise Unanswered("")
        question.judge(answer)
    except Unanswered as why:
        return f"not answered yet. {why}".strip(". ")
    except Mistake as mistake:
        return f"not yet. {mistake}"
    return f"right. {question.right}"


def solution(key: str) -> Markdown:
    """One way to answer a question; ValueError for one that does not exist."""
    question = find(key)
    answer = question.answer()
    return Markdown(f"**{key}: {answer}.** {question.way}" if answer else f"**{key}.** {question.way}")


def find(key: str) -> Question:
    """The question with this key; ValueError names those that there are."""
    number = str(key).partition(".")[0]
    if number not in notebooks():
        raise ValueError(f"There is no question {key!r}; keys are like {notebooks()[0]}.1, notebook and question.")
    if key not in (found := table(number)):
        raise ValueError(f"Notebook {number} has no question {key!r}; it has {', '.join(found)}.")
    return found[key]


def notebooks() -> list[str]:
    """["00", "01", …]: the notebooks with questions."""
    return sorted(path.stem[-2:] for path in Path(__file__).parent.glob("reading_[0-9][0-9].py"))


def table(number: str) -> Table:
    """The questions of one notebook."""
    return importlib.import_module(f"qdm_labs.reading_{number}").QUESTIONS
