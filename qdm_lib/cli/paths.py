"""Files and folders as they are typed: looked at before any work, and replaced only by name."""

from __future__ import annotations

from pathlib import Path

import typer


def a_path(text: str | Path) -> Path:
    """The path that was typed. An empty one would mean the current folder: an unset shell variable as a rule."""
    if not str(text).strip():
        raise typer.BadParameter("it is empty; for the current folder write a dot.")
    return Path(text)


def path_option(text: str):
    """An option that is a path."""
    return typer.Option(help=text, parser=a_path, metavar="PATH")


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
