"""Labs to hand in: tasks, checks that say what is wrong, variants, and the marker. Beside the library, on top of it.

In a notebook: ``lab = open_lab("02", "2026")``, then ``lab.check("apply_gate", apply_gate)``.
"""

from qdm_labs.notebook_side import open_lab

__all__ = ["open_lab"]
