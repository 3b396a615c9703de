"""A lab is a list of tasks; a task is a function that students write, and the properties that it must have."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from qdm_labs.draw import Draw
from qdm_labs.variant import Variant

WIDTH = 92  # characters of a line below a notebook's cell, with the list of files open beside it


class Mistake(Exception):  # noqa: N818
    """What is wrong, in one sentence that the student reads."""


class Differs(Mistake):
    """A number that is wrong and that no usual mistake explains: often the echo of another property that fails."""


class Unanswered(Mistake):
    """The stub is still there, or the function is missing."""


@dataclass(frozen=True)
class Property:
    """Something that holds for every right answer.

    name: what the student reads beside "right", such as "turns the wire that was asked for". points: for this property.
    check: ``check(answer, v, draw)`` raises `Mistake` where the property does not hold. `answer` is called like the
    student's function, `v` holds the choices of the lab's variant, and `draw` gives fresh random numbers.
    """

    name: str
    points: float
    check: Callable[[Callable, Any, Draw], None]


@dataclass
class Task:
    """One function to write.

    The first property is the entrance: the others earn points only where it holds, so that what returns its argument
    unchanged earns nothing for "keeps the norm".

    name: of the function in the notebook. title: for people. outcome: what one can do afterwards. minutes: a student's,
    for this task. seconds: how long one call of it may take when it is marked.
    """

    name: str
    title: str
    outcome: str
    minutes: int
    seconds: float = 10
    properties: list[Property] = field(default_factory=list)

    @property
    def points(self) -> float:
        """What a right answer earns."""
        return sum(p.points for p in self.properties)

    def has(self, name: str, points: float) -> Callable:
        """Decorator: the function below it checks one more property."""

        def add(check: Callable) -> Callable:
            self.properties.append(Property(name, points, check))
            return check

        return add


@dataclass(frozen=True)
class Verdict:
    """What came out for one property: the sentence is empty where it holds and counts."""

    property: str
    points: float
    of: float
    sentence: str = ""
    waits: bool = False

    @property
    def state(self) -> str:
        """One word: right, not yet, or waits, where it holds and the task's first property does not."""
        return "waits" if self.waits else "not yet" if self.sentence else "right"


@dataclass(frozen=True)
class Result:
    """What came out for one task."""

    task: str
    verdicts: tuple[Verdict, ...]
    answered: bool = True

    @property
    def points(self) -> float:
        """What the answer earned."""
        return sum(v.points for v in self.verdicts)

    @property
    def of(self) -> float:
        """What it could have earned."""
        return sum(v.of for v in self.verdicts)

    def __str__(self) -> str:
        if not self.answered:
            return f"{self.task}: not answered yet. {self.verdicts[0].sentence}".strip()
        lines = [f"{self.task}: {self.points:g} of {self.of:g} points"]
        for v in self.verdicts:
            lines.append(f"  {v.state:7}  {v.property}")
            lines += textwrap.wrap(v.sentence, WIDTH, initial_indent=" " * 11, subsequent_indent=" " * 11,
                                   break_long_words=False, break_on_hyphens=False)  # fmt: skip
        return "\n".join(lines)


@dataclass(frozen=True)
class Lab:
    """One hand-in.

    number: two digits, as in the notebook's name. title: for people. tasks: in the order of the notebook. conventions:
    from a `Variant` to the choices that its tasks use; any frozen record. text: from those choices to what the source's
    ``{{name}}`` stand for. forbidden: dotted names of what may not do the student's work: functions, classes or whole
    modules.
    """

    number: str
    title: str
    tasks: Sequence[Task]
    conventions: Callable[[Variant], Any]
    text: Callable[[Any], dict[str, str]]
    forbidden: Sequence[str] = ()

    @property
    def points(self) -> float:
        """Of all tasks."""
        return sum(task.points for task in self.tasks)

    @property
    def minutes(self) -> int:
        """Of all tasks."""
        return sum(task.minutes for task in self.tasks)

    def task(self, name: str) -> Task:
        """The task of this name; ValueError names those that exist."""
        for task in self.tasks:
            if task.name == name:
                return task
        raise ValueError(f"Lab {self.number} has no task {name!r}; it has {', '.join(t.name for t in self.tasks)}.")


def judge(task: Task, answer: Callable, v: Any, seed: str) -> Result:
    """Check every property of a task on draws from `seed`.

    Raises nothing that a student's function can cause; an error inside a check of ours is raised, since it is ours.
    """
    verdicts: list[Verdict] = []
    open_door = True
    for p in task.properties:
        try:
            p.check(answer, v, Draw(f"{seed}|{task.name}|{p.name}"))
        except Unanswered as mistake:
            none = [Verdict(q.name, 0, q.points, str(mistake)) for q in task.properties]
            return Result(task.name, tuple(none), answered=False)
        except Mistake as mistake:
            open_door = open_door and bool(verdicts)
            verdicts.append(Verdict(p.name, 0, p.points, _once(mistake, [v.sentence for v in verdicts])))
        else:
            waits = f"This holds, and counts as soon as “{task.properties[0].name}” does." if not open_door else ""
            verdicts.append(Verdict(p.name, p.points if open_door else 0, p.points, waits, not open_door))
    return Result(task.name, tuple(verdicts))


def _once(mistake: Mistake, said: list[str]) -> str:
    """The mistake's sentence, or a short one where the sentences above it say as much."""
    if isinstance(mistake, Differs) and any(said):
        return "Perhaps for the same reason: look at this again when what stands above is right."
    return "The same as above." if str(mistake) in said else str(mistake)
