"""Which labs there are: the modules lab01 … lab09 of this package, each with one `LAB`."""

from __future__ import annotations

import importlib
from pathlib import Path

from qdm_labs.task import Lab


def numbers() -> list[str]:
    """["01", "02", …], from the files that are there."""
    return sorted(path.stem[3:] for path in Path(__file__).parent.glob("lab[0-9][0-9].py"))


def find_lab(number: str) -> Lab:
    """The `LAB` of one module; ValueError names the labs that exist."""
    if (wanted := str(number).zfill(2)) not in numbers():
        raise ValueError(f"There is no lab {number!r}; there are {', '.join(numbers())}.")
    return importlib.import_module(f"qdm_labs.lab{wanted}").LAB
