"""Shipped models that stand side by side were trained equally long, or their lengths are said in the same place.

A place is a paragraph or a section of a page; in a notebook or a lab a run of code cells, or all those under one
heading, with the texts before and after each and the stored outputs. A length is said in words ("20 epochs"), by a
number of steps, or by the model's own name, such as `unet-10-epochs`, where a reader sees it: not in a link's target.

What this cannot see: pictures; a preset's bare name (`unet` may be any model of it); to which of the models a length
belongs; in code what a name in a file or a list filled by `append` stands for. Nothing is run here. The hybridization
widget's columns are held by tests/test_hybridization_widget.py.
"""

import ast
import json
import re
from itertools import groupby
from pathlib import Path

import jupytext
import nbformat
import pytest

from qdm_lib.checkpoint import SHIPPED, shorter_trained
from qdm_lib.unet import PRESETS

ROOT = Path(__file__).parents[1]
FOLDERS = (".", "app", "docs", "labs", "study", "qdm_lib/assets", "checkpoints/*/*")
PAGES = sorted(path for folder in FOLDERS for path in ROOT.glob(f"{folder}/*.md"))
NOTEBOOKS = sorted([*ROOT.glob("notebooks/src/*.py"), *ROOT.glob("labs/src/*.py"), *ROOT.glob("app/*.ipynb")])
EPOCHS = {
    f"{path.parent.parent.name}/{path.parent.name}": json.loads(path.read_text(encoding="utf-8"))["card"]["epochs"]
    for path in SHIPPED.glob("*/*/model.json")
}
MODELS = frozenset(EPOCHS)
for plain in {re.sub(r"-\d+-epochs?$", "", name) for name in MODELS} - MODELS:  # what load_pretrained gives for it
    EPOCHS[plain] = EPOCHS[shorter_trained(SHIPPED / plain)[0].relative_to(SHIPPED).as_posix()]

WORDS = {"one": 1, "two": 2, "ten": 10, "twenty": 20}
NUMBER = rf"(?<![\w.,])(?:\d[\d,]*|{'|'.join(WORDS)})\b(?!\.\d)"
SOME = rf"(?:(?:{NUMBER}, )*{NUMBER},? (?:and|or) )?{NUMBER}"  # "1, 10 and 20"
SAYS = rf"{SOME}[ -]epochs?\b|\bepochs? {SOME}|after {NUMBER}(?=[,;:.)]|$| and | or )|{NUMBER} steps"


def said(text: str) -> set[float]:
    """The lengths in epochs that a text says, without models' names; "after 20" is one in a sentence about epochs."""
    text, found = re.sub(r"\w[\w-]*-\d+-epochs?\b", "", text.lower()), set()
    for sentence in re.split(r"(?<=[.!?]) ", text):
        for words in [w for w in re.findall(SAYS, sentence) if "epoch" in sentence or "steps" in w]:
            numbers = [WORDS.get(n) or float(n.replace(",", "")) for n in re.findall(NUMBER, words)]
            found |= {round(n * 128 / 60_000, 2) if "steps" in words else n for n in numbers}
    return found


def named(text: str) -> set[str]:
    """The shipped models that a text names: with the data set, or by a name that no preset has."""
    whole = {m for m in EPOCHS if m in text and re.search(rf"(?:checkpoints/|(?<![\w/-])){m}(?![\w-]|/seed)", text)}
    words = set(re.findall(r"(?<![\w/-])[\w-]+(?![\w/-])", text)) - set(PRESETS)
    return whole | {m for m in MODELS if m.split("/")[1] in words}


def unsaid(names: set[str], text: str) -> list[str]:
    """The models among `names` whose lengths differ and are neither in the visible text nor in their visible name."""
    text = re.sub(r"(?<=\])\([^)]*\)|\b(?:href|src)=\S+|https?://\S+|(?m:^\[[^\]]*\]: .*$)", "", text)
    lengths, shown = said(" ".join(text.split())), {m for m in named(text) if "-epoch" in m}
    different = len({EPOCHS[m] for m in names}) > 1
    return sorted(m for m in names if different and EPOCHS[m] not in lengths and m not in shown)


def unsaid_on_page(text: str) -> list[str]:
    """As `unsaid`, of every paragraph and every section; a block of code is one paragraph."""
    whole = re.sub(r"(?ms)^```.*?^```", lambda block: re.sub(r"\n\s*\n", "\n", block[0]), text)
    places = re.split(r"\n\s*\n", whole) + re.split(r"(?m)^#+ ", whole)
    return [f"{model} in: {place[:300]}" for place in places for model in unsaid(named(place), place)]


def texts_of(code: ast.AST, means: dict[str, set]) -> set[str]:
    """The texts in a piece of code and in what its variables are made of, and whether it has to do with our models."""
    found = set()
    for node in ast.walk(code):
        name = getattr(node, "id", getattr(node, "attr", ""))
        if name in ("SHIPPED", "load_model", "load_pretrained", "moving_film"):
            found.add("SHIPPED")
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
            found |= means.get(name, set())
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            found.add(node.value)
        if name in ("rglob", "glob", "iterdir") and "SHIPPED" in texts_of(node.value, means):
            found.add("walk")
    return found


def spelled(texts: set[str]) -> set[str]:
    """The models whose names can be put together from these texts; all, where code walks through the folders."""
    pieces = "|".join([r"\d+(?=-epoch)", *(re.escape(t) for t in texts if t and any(t in m for m in MODELS))])
    found = {m for m in MODELS if re.fullmatch(f"(?:(?:{pieces})/?)+", m)} | (EPOCHS.keys() & texts)
    return (found | (MODELS if "walk" in texts else set())) if "SHIPPED" in texts else set()


def loaded(code: str, means: dict[str, set]) -> set[str]:
    """The models that a cell uses; `means`, of the cells before, gets the texts that its variables are made of."""
    tree, found = ast.parse(code.replace("SHIPPED.parent", "ROOT")), set()
    holes = [texts_of(node, {}) for node in ast.walk(tree) if isinstance(node, ast.FormattedValue)]
    tells = any({"epochs", "steps"} & texts for texts in holes)  # it prints a length from each model's card
    for statement in tree.body:
        nodes = list(ast.walk(statement))
        bound = {n.id for n in nodes if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
        own = bound | {n.arg for n in nodes if isinstance(n, ast.arg)}  # as a loop's variable: not the one before it
        before = means if isinstance(statement, ast.Assign) else {name: means[name] for name in means.keys() - own}
        texts = texts_of(statement, before) - ({"walk"} if tells else set())
        bound = {statement.name} if isinstance(statement, (ast.FunctionDef, ast.ClassDef)) else bound
        filled = [n.value for n in nodes if isinstance(n, ast.Subscript) and isinstance(n.ctx, ast.Store)]
        means |= dict.fromkeys(bound | {n.id for n in filled if isinstance(n, ast.Name)}, texts)
        found |= spelled(texts)
    return found


def stored(source: Path) -> dict[str, str]:
    """By a cell's code what the notebook on disk shows below it: printed text and the figures' descriptions."""
    path = ROOT / "notebooks" / f"{source.stem}.ipynb"
    cells = [c for c in nbformat.read(path, as_version=4).cells if "outputs" in c] if path.is_file() else []
    shown = {c.source: [o.get("text") or o.get("data", {}).get("text/plain", "") for o in c.outputs] for c in cells}
    return {code: "\n".join(texts) for code, texts in shown.items()}


def unsaid_in(cells: list, outputs: dict[str, str]) -> list[str]:
    """As `unsaid`, of each run of code cells and of all those under a heading; outputs: what is below a cell's code."""
    runs = [list(some) for _, some in groupby(cells, key=lambda cell: cell.cell_type)]
    means, section, found = {}, (set(), ""), []
    for k, run in enumerate(runs):
        if run[0].cell_type != "code":
            page = "\n\n".join(cell.source for cell in run)
            section = (set(), "") if re.search("(?m)^#+ ", page) else section
            found += unsaid_on_page(page)
            continue
        around = [cell for near in runs[max(0, k - 1) : k + 2] for cell in near]
        seen = [cell.source for cell in around if not cell.metadata.get("jupyter", {}).get("source_hidden")]
        below = [outputs.get(cell.source, "not run yet") for cell in run]
        names = named("\n".join(below)).union(*(loaded(cell.source, means) for cell in run))
        if any(below):
            text = "\n".join(seen + below).replace("#", "")
            section = section[0] | names, section[1] + text
            found += [f"{model} in: {run[0].source}" for model in {*unsaid(names, text), *unsaid(*section)}]
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_on_a_page(page):
    assert not unsaid_on_page(page.read_text(encoding="utf-8"))


@pytest.mark.parametrize("source", NOTEBOOKS, ids=lambda path: path.stem)
def test_in_a_notebook(source):
    assert not unsaid_in(jupytext.read(source).cells, stored(source))


LINKS = "[a](../checkpoints/fashion-mnist/7fqconv-2-epochs/README.md) [b](../checkpoints/fashion-mnist/unet/README.md) "
SILENT_PAGES = (
    LINKS + "drawn one after another, after 20 images, in 50 steps; epochs",
    LINKS + "beside `unet-10-epochs` and `1fqconv-2-epochs`",
    "`fashion-mnist/unet-1-epoch` beside `fashion-mnist/unet`, `fullhqconv-zero` beside `fullhqconv-zero-1-epoch`",
    '```\na = load_pretrained("fashion-mnist/7fqconv")\n\nb = load_pretrained("fashion-mnist/unet")\n```',
    "# A\n\n![](checkpoints/mnist/unet/a.png)\n\n![](checkpoints/mnist/unet-1-epoch/a.png)",
)
SILENT_CODE = (
    'a, b = (load_model(SHIPPED / "mnist" / name) for name in ("unet", "unet-1-epoch"))',
    'a, b = load_pretrained("fashion-mnist/unet"), checkpoint.load_pretrained("fashion-mnist/7fqconv")',
    'a, b = load_model(SHIPPED / "mnist/unet"), load_model(SHIPPED / "mnist/unet-1-epoch")',
    'for n in (2, 10):\n    moving_film(SHIPPED / f"fashion-mnist/unet-{n}-epochs")',
    'M = SHIPPED / "mnist"\n# %%\nfor end in ("", "-1-epoch"):\n    load_model(M / f"unet{end}")',
    'def show(x):\n    draw(load_model(SHIPPED / "mnist" / x))\n\n# %%\nshow("unet"), show("unet-1-epoch")',
    'nets = {}\nnets[0] = load_pretrained("mnist/unet")\n# %% [markdown]\n# # Then\n\n# %%\n'
    'nets[1] = load_pretrained("mnist/unet-1-epoch")\n# %% [markdown]\n# # Now\n\n# %%\ndraw(nets)',
    'moving_film(SHIPPED / "mnist/unet")\n# %% [markdown]\n# And\n\n# %%\nmoving_film(SHIPPED / "mnist/unet-1-epoch")',
    'for path in SHIPPED.rglob("model.json"):\n    print(path.parent.name)',
    'print("what is below it names two")',
)


@pytest.mark.parametrize("page", SILENT_PAGES)
def test_a_page_is_noticed_until_it_says_the_lengths(page):
    assert unsaid_on_page(page)
    assert not unsaid_on_page(page.replace("\n\n", "\n") + " After 1 epoch, after two and ten epochs, and after 20.")


@pytest.mark.parametrize("code", SILENT_CODE)
def test_a_notebook_is_noticed_until_it_says_the_lengths(code):
    below = {SILENT_CODE[-1]: "mnist/unet\nmnist/unet-1-epoch"}
    cells = jupytext.reads("# %%\n" + code, fmt="py:percent").cells
    assert unsaid_in(cells, below)
    for cell in cells:
        cell.source += "\n# 1, 2, 10 and 20 epochs"
    assert not unsaid_in(cells, dict.fromkeys((c.source for c in cells), below.get(code, "shown")))


def test_what_says_a_length():
    assert said("`unet-10-epochs` after one another, after 20 images of an epoch. After 10, 9,375 steps") == {20}
    assert said("1, two and 20 epochs, after 10; a 2-epoch run") == {1, 2, 10, 20}
    assert not unsaid_on_page("`fashion-mnist/7fqconv-2-epochs` beside `fashion-mnist/unet-10-epochs`")
    names = {"mnist/unet", "mnist/unet-10-epochs", "mnist/1hqconv-10-epochs"}
    assert unsaid(names, "`unet-10-epochs` and others, `unet` of 20 epochs") == ["mnist/1hqconv-10-epochs"]


@pytest.mark.parametrize("number", ["06", "08"])
def test_a_list_of_all_models_is_noticed_where_it_prints_no_length(number):
    (source,) = ROOT.glob(f"notebooks/src/{number}_*.py")
    text = source.read_text(encoding="utf-8")
    silent = re.sub(r"\{[^{}\n]*\b(epochs|steps)\b[^{}\n]*\}", "", text)
    told, untold = (unsaid_in(jupytext.reads(code, fmt="py:percent").cells, {}) for code in (text, silent))
    assert untold and not told
