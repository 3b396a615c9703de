"""What a lab's notebook imports: open a lab, check a function, read a sentence."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable

from qdm_labs import forbidden
from qdm_labs.answer import LocalAnswer
from qdm_labs.catalogue import find_lab
from qdm_labs.task import Lab, Result, Task, Verdict, judge
from qdm_labs.variant import Variant


class OpenLab:
    """One lab in one variant.

    Attributes: `lab` with its tasks, and `v`, the choices of the variant.
    """

    def __init__(self, lab: Lab, variant: str):
        self.lab, self.variant, self.v = lab, variant, lab.conventions(Variant(variant))

    def result(self, name: str, function: Callable) -> Result:
        """Check one function on fresh random draws."""
        task = self.lab.task(name)
        library = forbidden.named(function, self.lab.forbidden) if callable(function) else None
        if library:
            return _nothing(task, forbidden.sentence(library))
        if not callable(function):
            return _nothing(task, f"A function is wanted, not {type(function).__name__}: check({name!r}, {name}).")
        seed = os.environ.get("QDM_MARKER_SALT") or secrets.token_hex()  # the marker's, or new ones each time
        return judge(task, LocalAnswer(function), self.v, f"{seed}|{self.variant}")

    def check(self, name: str, function: Callable) -> None:
        """Print what holds and what does not, in a sentence each."""
        print(self.result(name, function))

    def points(self, name: str, function: Callable) -> float:
        """`check`, and the points as a number: the last line of a graded cell."""
        try:
            result = self.result(name, function)
        except KeyboardInterrupt:  # nbgrader's clock; a traceback would lead through the checks
            print(f"{name}: stopped, it was still running.")
            return 0.0
        print(result)
        return result.points


def _nothing(task: Task, why: str) -> Result:
    return Result(task.name, tuple(Verdict(p.name, 0, p.points, why) for p in task.properties))


def open_lab(number: str, variant: str) -> OpenLab:
    """The lab of this number ("02") in this variant; both stand in the notebook's first cell.

    Raises ValueError for a lab that does not exist.
    """
    return OpenLab(find_lab(number), variant)
