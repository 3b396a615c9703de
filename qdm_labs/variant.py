"""Variants: what differs from student to student and from term to term, drawn from a name.

A `Variant` is a name such as "2026" or "2026/ada". Every choice is drawn from the name and a label, so a choice does
not depend on the order of the draws, and the marker draws the same.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Variant:
    """A reproducible source of choices.

    seed: any text: a term, or a term and a student (`Variant.of("2026", "ada")`).
    """

    seed: str

    @classmethod
    def of(cls, term: str, student: str = "") -> Variant:
        """The variant of a term, or of one student in it."""
        return cls(f"{term}/{student}" if student else term)

    def random(self, label: str) -> random.Random:
        """Python's generator for one label: the same seed and label give the same numbers on every machine."""
        return random.Random(hashlib.sha256(f"{self.seed}|{label}".encode()).digest())

    def choice(self, label: str, options: Sequence) -> Any:
        """One of the options."""
        return self.random(label).choice(list(options))
