"""The kinds of questions that are asked while reading, each with the sentences for its usual mistakes.

A `Table` holds the questions of one notebook. What is right is computed when the first answer comes in, by the library
where it can be, so it is stored in no file and cannot go stale.
"""

from __future__ import annotations

import functools
import math
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from qdm_labs import forms
from qdm_labs.answer import LocalAnswer
from qdm_labs.draw import Draw
from qdm_labs.task import Mistake, Unanswered


@dataclass(frozen=True)
class Question:
    """One question.

    judge: takes the answer; raises `Mistake` with the sentence to read where it is not right. right: what to notice,
    said with "right". way: one way to answer, as Markdown. answer: the answer as text, for `solution`; empty where
    `way` holds it.
    """

    judge: Callable[[Any], None]
    right: str
    way: str
    answer: Callable[[], str] = str


class Written(LocalAnswer):
    """A student's function; one that returns `...` is not written yet."""

    def __call__(self, *args: Any) -> Any:
        """What it returns; `Mistake` where it stops with an error, `Unanswered` where it returns nothing."""
        out = super().__call__(*args)
        if out is ... or out is None:
            raise Unanswered("" if out is ... else "The function returns nothing: is a return missing?")
        return out


class Table(dict[str, Question]):
    """The questions of one notebook, "01.1", "01.2", …, in its order.

    `want` gives the right answer. `usual` pairs a wrong one, or a function that gives it, with the sentence that it
    earns. `hint` is for answers that none of them explains.
    """

    def __init__(self, notebook: str):
        super().__init__()
        self.notebook = notebook

    def _add(self, *parts: Any) -> None:
        self[f"{self.notebook}.{len(self) + 1}"] = Question(*parts)

    def number(self, want: Callable, *, usual: Sequence = (), hint: str, right: str, way: str, near: float = 1e-6):
        """A question for one number; `near`: how far off, relative to the right one, is still right."""

        want, usual = functools.cache(want), _once(usual)

        def judge(answer: Any) -> None:
            got, wanted = forms.one(answer), float(want())
            if _close(got, wanted, near):
                return
            _name_mistake(usual, lambda wrong: _same(got, wrong))
            raise Mistake(f"{got:g} is too {'small' if got < wanted else 'large'}. {hint}")

        self._add(judge, right, way, lambda: _shown(want()))

    def numbers(self, names: Sequence[str], want: Callable, *, usual: Sequence = (), hint: str, right: str, way: str,
                near: float = 1e-6):  # fmt: skip
        """A question for several numbers in an order; None in a usual mistake stands for any number."""

        want, usual = functools.cache(want), _once(usual)

        def judge(answer: Any) -> None:
            got, wanted = forms.several(answer), [float(v) for v in want()]
            if len(got) == len(wanted) and all(_close(*each, near) for each in zip(got, wanted, strict=True)):
                return
            _name_mistake(usual, lambda wrong: len(wrong) == len(got) and all(
                w is None or _same(g, w) for g, w in zip(got, wrong, strict=True)))  # fmt: skip
            if len(got) != len(wanted):
                raise Mistake(f"{len(wanted)} numbers are wanted: {', '.join(names)}; this is {len(got)}.")
            if all(_close(*each, near) for each in zip(reversed(got), wanted, strict=True)):
                raise Mistake(f"The right numbers in another order; wanted are {', '.join(names)}.")
            wrong = [name for name, g, w in zip(names, got, wanted, strict=True) if not _close(g, w, near)]
            raise Mistake(f"Not right: {' and '.join(wrong)}. {hint}")

        self._add(judge, right, way, lambda: "(" + ", ".join(map(_shown, want())) + ")")

    def wholes(self, want: Callable, *, usual: Sequence = (), hint: str, right: str, way: str):
        """A question for a set of whole numbers, in any order and any container."""

        want, usual = functools.cache(want), _once(usual)

        def judge(answer: Any) -> None:
            got, wanted = set(forms.several(answer)), set(want())
            if got == wanted:
                return
            _name_mistake(usual, lambda wrong: got == set(wrong))
            counts = f"right: {len(got & wanted)}, wrong: {len(got - wanted)}, missing: {len(wanted - got)}"
            raise Mistake(f"Of these are {counts}. {hint}")

        self._add(judge, right, way, lambda: "{" + ", ".join(map(str, sorted(want()))) + "}")

    def word(self, want: Callable, words: dict[str, str], *, usual: dict[str, str], right: str, way: str):
        """A question for one word. `words` leads every accepted spelling to the word it stands for."""

        def judge(answer: Any) -> None:
            found = {words[word] for word in forms.words(answer) if word in words}
            if len(found) != 1:
                options = ", ".join(dict.fromkeys(words.values()))
                raise Mistake(f"One of these words is wanted, in quotes: {options}.")
            if (got := found.pop()) != want():
                raise Mistake(usual[got])

        self._add(judge, right, way, lambda: f"“{want()}”")

    def function(self, *, right: str, way: str) -> Callable:
        """Decorator: the check below it gets what the student wrote, to be called, and a source of random draws."""

        def add(check: Callable) -> Callable:
            def judge(answer: Any) -> None:
                if not callable(answer):
                    raise Mistake("A function is wanted: its name alone, without calling it.")
                check(Written(answer), Draw(secrets.token_hex()))

            self._add(judge, right, way)
            return check

        return add

    def other(self, *, right: str, way: str) -> Callable:
        """Decorator: the check below it gets the answer as it is."""

        def add(check: Callable) -> Callable:
            self._add(check, right, way)
            return check

        return add


def _shown(value: float) -> str:
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:.4g}"


def _close(a: float, b: float, near: float) -> bool:
    return math.isclose(a, b, rel_tol=near, abs_tol=1e-9)


def _once(usual: Sequence) -> list:
    """The usual mistakes, each computed once."""
    return [(functools.cache(wrong) if callable(wrong) else wrong, sentence) for wrong, sentence in usual]


def _same(got: float, wrong: float) -> bool:
    """Whether this is that wrong number: whole ones exactly, others to a per cent, as people round them."""
    return _close(got, float(wrong), 1e-6 if float(wrong).is_integer() else 1e-2)


def _name_mistake(usual: Sequence, same: Callable[[Any], bool]) -> None:
    """Raise the sentence of the usual mistake that an answer is, if it is one."""
    for wrong, sentence in usual:
        if same(wrong() if callable(wrong) else wrong):
            raise Mistake(sentence)
