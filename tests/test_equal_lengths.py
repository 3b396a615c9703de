"""Shipped models that stand side by side were trained equally long, or their lengths are said in the same place."""

import ast
import json
import re
from itertools import groupby
from pathlib import Path

import jupytext
import pytest

from qdm_lib.checkpoint import SHIPPED

ROOT = Path(__file__).parents[1]
PAGES = sorted({ROOT / "README.md", *ROOT.glob("docs/*.md"), *ROOT.glob("study/*.md"), *ROOT.glob("app/*.md")})
NOTEBOOKS = sorted(ROOT.glob("notebooks/src/*.py"))
EPOCHS = {
    f"{path.parent.parent.name}/{path.parent.name}": json.loads(path.read_text(encoding="utf-8"))["card"]["epochs"]
    for path in SHIPPED.glob("*/*/model.json")
}


def said(text: str, epochs: float) -> bool:
    """Whether a text says this length: "20 epochs", "epoch 20", "1-epoch", "twenty epochs"."""
    words = {1: "one", 2: "two", 10: "ten", 20: "twenty"}
    number = rf"(?:{epochs:g}|{words.get(epochs, 'no word')})"
    return bool(re.search(rf"\b{number}[ -]epochs?\b|\bepochs? {number}\b|after {number}\b", text.lower()))


def unsaid(names: set[str], text: str) -> list[str]:
    """The models among `names` whose lengths differ and are not in the text."""
    assert names <= EPOCHS.keys(), f"no such model: {names - EPOCHS.keys()}"
    different = len({EPOCHS[name] for name in names}) > 1
    return sorted(name for name in names if different and not said(text, EPOCHS[name]))


def named_on_page(text: str) -> set[str]:
    return set(re.findall(r"checkpoints/([\w-]+/[\w-]+)", text)) | set(
        re.findall(r'load_pretrained\("([\w-]+/[\w-]+)"', text)
    )


def loaded_in(code: str) -> set[str]:
    """The shipped models that a cell names: words in quotes that are folders of a data set it names, too."""
    if "load_model" not in code and "moving_film" not in code:
        return set()
    texts = {node.value for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Constant)}
    return {f"{dataset}/{name}" for dataset in texts for name in texts if f"{dataset}/{name}" in EPOCHS}


def places(source: Path) -> list[tuple[set[str], str]]:
    """Of a notebook: each run of code cells with the models it loads, and its text with that before and after it."""
    cells = jupytext.read(source).cells
    runs = [(kind, list(some)) for kind, some in groupby(cells, key=lambda cell: cell.cell_type)]
    found = []
    for k, (kind, some) in enumerate(runs):
        if kind == "code":
            code = [re.sub(r"(?m)^[%!].*", "", cell.source) for cell in some]
            around = [cell.source for _, near in runs[max(0, k - 1) : k + 2] for cell in near]
            found.append((set().union(*map(loaded_in, code)), " ".join(" ".join(around).replace("#", "").split())))
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_on_a_page(page):
    for paragraph in re.split(r"\n\s*\n", page.read_text(encoding="utf-8")):
        assert not unsaid(named_on_page(paragraph), " ".join(paragraph.split())), paragraph


@pytest.mark.parametrize("source", NOTEBOOKS, ids=lambda p: p.stem)
def test_in_a_notebook(source):
    for names, text in places(source):
        assert not unsaid(names, text), text[:500]


def test_both_notice_what_is_not_said():
    names = {"fashion-mnist/unet", "fashion-mnist/unet-1-epoch"}
    assert unsaid(names, "two models, one above the other") == sorted(names)
    assert unsaid(names, "trained for 20 epochs and for another time") == ["fashion-mnist/unet-1-epoch"]
    assert not unsaid(names, "after 1 epoch of training, and after 20") and not unsaid({"fashion-mnist/unet"}, "")
    page = "[a](../checkpoints/fashion-mnist/unet/README.md) [b](../checkpoints/fashion-mnist/unet-1-epoch/README.md)"
    assert named_on_page(page) == names
    cell = 'a, b = (load_model(SHIPPED / "fashion-mnist" / name) for name in ("unet", "unet-1-epoch"))'
    assert loaded_in(cell) == names
    assert sum(bool(found) for source in NOTEBOOKS for found, _ in places(source)) > 5
