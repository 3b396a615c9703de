"""Labs to hand in: tasks, checks that say what is wrong, variants, and the marker. They build on the library.

In a lab's notebook: ``lab = open_lab("02", "2026")``, then ``lab.check("apply_gate", apply_gate)``.
Questions while reading, which earn nothing, are in `qdm_labs.reading`: ``check("01.3", my_answer)``.
"""

from qdm_labs.notebook_side import open_lab

__all__ = ["open_lab"]
