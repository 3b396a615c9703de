"""The library stays small enough to be read: its size as README states it, and no file or function too long."""

import ast
from pathlib import Path

import pytest

LIBRARY = Path(__file__).parent.parent / "qdm_lib"
CORE = ("circuits", "simulator", "quantum", "blocks", "unet", "diffusion", "training")
FILES = sorted(LIBRARY.rglob("*.py"))


def lines(path: Path) -> int:
    return len(path.read_text(encoding="utf-8").splitlines())


def test_the_core_and_the_whole_keep_their_budgets():
    assert sum(lines(LIBRARY / f"{name}.py") for name in CORE) <= 1_800
    assert sum(map(lines, FILES)) <= 9_000


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(LIBRARY).as_posix())
def test_files_and_functions_are_short(path):
    assert lines(path) < 450
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef):
            assert node.end_lineno - node.lineno < 80, f"{node.name} has {node.end_lineno - node.lineno} lines"
