"""Record the two long trainings of the notebooks shortly before their end, for Binder's size.

    python tools/record_training.py            # 06 and 07, at the full size: some minutes of a core
    python tools/record_training.py 06

Runs a notebook's own cells up to the one tagged "recorded", with fewer steps there, and stores what it leaves
(`qdm_course.recorded`). To be run again when such a cell or one before it has changed, or the model.
"""

import os
import sys
from pathlib import Path

import jupytext
import nbformat
from nbclient import NotebookClient

FOLDER = Path(__file__).resolve().parents[1] / "notebooks"
LIVE = 20  # steps that are left to the reader's own machine
# notebook: (the constant that holds the number of steps, where the tagged cell leaves what is stored)
RUNS = {
    "06_training": (
        "STEPS",
        "model=model, ema=ema, optimizer=optimizer, noise=noise, losses=losses, pictures=snapshots",
    ),
    "07_transfer_learning": (
        "SOURCE_STEPS",
        "model=source, ema=source_ema, optimizer=source_adam, noise=noise, losses=source_losses, pictures={}",
    ),
}


def shortened(source: Path) -> nbformat.NotebookNode:
    """The notebook of a source up to its tagged cell, with LIVE steps fewer, and a last cell that stores the state."""
    steps, state = RUNS[source.stem]
    book = jupytext.read(source, fmt="py:percent")
    tagged = next(n for n, cell in enumerate(book.cells) if "recorded" in cell.metadata.get("tags", ()))
    store = f"from qdm_course.recorded import record\nrecord({source.stem!r}, {state})"
    fewer = nbformat.v4.new_code_cell(f"{steps} -= {LIVE}")
    book.cells = [*book.cells[:tagged], fewer, book.cells[tagged], nbformat.v4.new_code_cell(store)]
    return book


def main(chosen: list[str]) -> int:
    os.environ["QDM_SIZE"] = "full"
    sources = [FOLDER / "src" / f"{name}.py" for name in RUNS if not chosen or name.startswith(tuple(chosen))]
    for source in sources:
        where = {"metadata": {"path": FOLDER}}
        NotebookClient(shortened(source), timeout=3600, kernel_name="python3", resources=where).execute()
        print(f"{source.stem}: recorded", flush=True)
    return 0 if sources else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
