"""The three sizes of the course: one variable, QDM_SIZE, read in one place.

full      what every text and caption describes; the default
binder    for two cores, 2 GB and a visitor's patience: the full size, except for two long trainings in notebooks
          06 and 07, which go on from a record of the full run (`qdm_course.recorded`)
test      small numbers, the same code; its pictures and numbers are not those of the text
"""

import os

from IPython.display import Markdown, display

SIZES = ("test", "binder", "full")
TEST = "**Test size.** This run uses small numbers, to try the code: pictures and numbers are not those of the text."
BACK = "For the full size, start Jupyter without `QDM_SIZE`, or with `QDM_SIZE=full`."


def course_size() -> str:
    """QDM_SIZE: "test", "binder" or "full", which is the default; ValueError for anything else."""
    size = os.environ.get("QDM_SIZE") or "full"
    if size not in SIZES:
        raise ValueError(f"QDM_SIZE must be one of {', '.join(SIZES)}, not {size!r}.")
    return size


def show_size(binder: str = "") -> str:
    """The size, as `course_size` gives it; where it is not the full one, a line on the page says so.

    binder: what this notebook does differently at Binder's size; "" where that is nothing, and then nothing is said.
    """
    size = course_size()
    if size == "test":
        display(Markdown(f"> {TEST} {BACK}"))
    elif size == "binder" and binder:
        display(Markdown(f"> **Binder's size.** {binder} {BACK}"))
    return size
