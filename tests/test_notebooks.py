"""What a committed notebook must be: in step with its source, small, and free of errors and paths.

tests/test_notebooks_run.py executes them.
"""

import html
import importlib.util
import re
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).parent.parent
SOURCES = sorted((ROOT / "notebooks" / "src").glob("*.py"))

spec = importlib.util.spec_from_file_location("build_notebooks", ROOT / "tools" / "build_notebooks.py")
build_notebooks = importlib.util.module_from_spec(spec)
spec.loader.exec_module(build_notebooks)


def notebook(source: Path) -> nbformat.NotebookNode:
    return nbformat.read(ROOT / "notebooks" / f"{source.stem}.ipynb", as_version=4)


def test_every_notebook_has_a_source():
    assert SOURCES
    assert {s.stem for s in SOURCES} == {p.stem for p in (ROOT / "notebooks").glob("*.ipynb")}


@pytest.mark.parametrize("source", SOURCES, ids=lambda s: s.stem)
def test_source_and_notebook_agree_by_content(source):
    built = build_notebooks.content(build_notebooks.from_source(source))
    assert build_notebooks.content(notebook(source)) == built, "run make notebooks"


def test_new_text_keeps_the_outputs_and_new_code_needs_a_run():
    source = SOURCES[0]
    stored, fresh = notebook(source), build_notebooks.from_source(source)
    fresh.cells[0].source += " And more."
    book = build_notebooks.with_new_text(stored, fresh)
    assert book.cells[0].source.endswith("And more.")
    pairs = [(a, b) for a, b in zip(stored.cells, book.cells, strict=True) if a.cell_type == "code"]
    assert any(a.outputs for a, _ in pairs)
    assert all((a.outputs, a.execution_count) == (b.outputs, b.execution_count) for a, b in pairs)
    code = next(cell for cell in fresh.cells if cell.cell_type == "code")
    code.source += "  # another line of code"
    assert build_notebooks.with_new_text(stored, fresh) is None


@pytest.mark.parametrize("source", SOURCES, ids=lambda s: s.stem)
def test_stored_outputs_are_complete_and_clean(source):
    path = ROOT / "notebooks" / f"{source.stem}.ipynb"
    assert path.stat().st_size < 1_000_000
    book = notebook(source)
    assert "widgets" not in book.metadata
    code = [cell for cell in book.cells if cell.cell_type == "code"]
    assert all(cell.execution_count for cell in code), "a code cell was not executed"
    assert all(build_notebooks.without_twins(cell.outputs) == cell.outputs for cell in code)
    assert not [o for cell in code for o in cell.outputs if o.output_type == "error"]
    text = nbformat.writes(book)
    assert not re.search(r"(/home/|/Users/|/root/|/tmp/)\w", text), "an absolute path in an output"
    assert f"{ROOT.parent}/" not in text, "a path of this machine in an output"


@pytest.mark.parametrize("source", SOURCES, ids=lambda s: s.stem)
def test_no_code_cell_is_longer_than_a_screen(source):
    for cell in notebook(source).cells:
        if cell.cell_type == "code":
            assert cell.source.count("\n") < 40, cell.source[:80]


@pytest.mark.parametrize("source", SOURCES, ids=lambda s: s.stem)
def test_code_that_draws_is_folded(source):
    """No cell that makes a figure of its own is open, and few open lines draw or style."""
    code = [cell for cell in build_notebooks.from_source(source).cells if cell.cell_type == "code"]
    open_lines = [
        line for cell in code if not cell.metadata.get("jupyter", {}).get("source_hidden")
        for line in cell.source.splitlines() if line.strip()
    ]  # fmt: skip
    assert not [line for line in open_lines if re.match(r"\S.*plt\.subplots", line)]
    drawing = [line for line in open_lines if re.search(r"\bax(es)?\b|plt\.|figure\b", line)]
    assert len(drawing) < 0.08 * len(open_lines), drawing


@pytest.mark.parametrize("source", SOURCES, ids=lambda s: s.stem)
def test_ends_with_a_summary_a_history_and_further_reading(source):
    text = "\n".join(cell.source for cell in build_notebooks.from_source(source).cells)
    assert all(part in text for part in ("## Summary", "**A little history.**", "**Further reading.**"))
    assert "(../docs/bibliography.md)" in text and "(../docs/glossary.md)" in text


@pytest.mark.parametrize("source", SOURCES, ids=lambda s: s.stem)
def test_mathematics_in_text_is_typeset(source):
    """A Greek letter or an index as plain text looks like code beside a formula."""
    for cell in build_notebooks.from_source(source).cells:
        if cell.cell_type == "markdown":
            text = re.sub(r"```.*?```|`[^`]*`|\$\$.*?\$\$|\$[^$]*\$|\]\([^)]*\)", "", cell.source, flags=re.S)
            assert not re.findall(r"[α-ωᾱ⟨⟩]|\b[a-zA-Z]_[a-zA-Z0-9]\b", text), text[:200]


@pytest.mark.parametrize("source", SOURCES, ids=lambda s: s.stem)
def test_every_picture_has_a_description(source):
    """The alternative text that `plots.show_described` stores: a sentence, not a file name."""
    for cell in notebook(source).cells:
        for output in cell.get("outputs", ()):
            for alt in descriptions(output):
                assert len(alt) > 15 and " " in alt, f"a picture of this cell has none:\n{cell.source[-300:]}"


def descriptions(output) -> list[str]:
    """The alternative text of each picture in an output; empty for a picture without one."""
    data = output.get("data", {})
    pictures = re.findall(r"<img\b[^>]*>", data.get("text/html", ""))
    texts = [html.unescape(found[1]) if (found := re.search(r'alt="([^"]*)"', p)) else "" for p in pictures]
    # A picture beside no HTML was not shown by `show_described`, or by an older one, whose text is in the metadata.
    return texts + [output.get("metadata", {}).get("image/png", {}).get("alt", "")] * ("image/png" in data)


@pytest.mark.parametrize("source", SOURCES, ids=lambda s: s.stem)
def test_links_lead_somewhere(source):
    for cell in notebook(source).cells:
        if cell.cell_type == "markdown":
            for target in re.findall(r"\]\(([^)\s]+)\)", cell.source):
                if not re.match(r"https://|#", target):
                    assert (ROOT / "notebooks" / target).exists(), target


@pytest.mark.parametrize("source", SOURCES, ids=lambda s: s.stem)
def test_opens_with_what_it_takes(source):
    first = notebook(source).cells[0].source
    assert first.startswith("# ") and measured(first)


def measured(text: str, size: str = "test") -> tuple[int, float] | None:
    """(seconds, GB) of a size, "test" or "full", as the first cell states them."""
    begins = {"test": "QDM_SIZE=test`", "full": r"\*\*Measured\*\*"}[size]
    found = re.search(begins + r"\D*(\d+) s\D*?([\d.]+) GB", " ".join(text.split()))
    return found and (int(found[1]), float(found[2]))
