"""Files and folders as they are typed: checked before any work, and replaced only where they were named."""

from __future__ import annotations

from pathlib import Path

import typer

from qdm_lib.checks import typed_path


def path_option(text: str):
    """An option that is a path."""
    return typer.Option(help=text, parser=typed_path, metavar="PATH")


def model_option(text: str):
    """An option that is the folder of a model, or the name of one that comes with the package."""
    return typer.Option(help=text, parser=_model_folder, metavar="PATH")


def _model_folder(text: str | Path) -> Path:
    from qdm_lib.checkpoint import SHIPPED, has_model

    path = typed_path(text)
    return path if path.exists() or not has_model(SHIPPED / path) else SHIPPED / path


def free_name(path: Path) -> Path:
    """The path, or, where there is such a file, the first of name-2, name-3, … that is free: nothing is replaced."""
    number, candidate = 1, path
    while candidate.exists():
        number += 1
        candidate = path.with_stem(f"{path.stem}-{number}")
    return candidate


def check_file(path: Path, *endings: str) -> None:
    """Refuse, before any work, a file that cannot be written or whose ending says another kind."""
    from qdm_lib.runs import check_writable

    if path.suffix.lower() not in endings:
        raise ValueError(f"{path} must end in {' or '.join(endings)}.")
    if path.is_dir():
        raise ValueError(f"{path} is a folder; give the name of a file.")
    check_writable(path.parent)
