"""Build notebooks/NN_name.ipynb from notebooks/src/NN_name.py: convert, execute, clean, write.

    python tools/build_notebooks.py            # all, in normal mode
    python tools/build_notebooks.py 00 03      # those whose name starts so
    python tools/build_notebooks.py --check    # compare source and notebook by content, run nothing
    python tools/build_notebooks.py --text     # take over changed text where the code is the same, run nothing

The sources are py:percent files (jupytext). A notebook runs in its own folder, as in JupyterLab.
Exit code 1 if a notebook is out of date (--check), if its code has changed (--text) or a cell fails.
"""

import argparse
import base64
import io
import os
import re
import sys
import time
from pathlib import Path

import jupytext
import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from PIL import Image

PNG = re.compile(r"(data:image/png;base64,)([A-Za-z0-9+/=]+)")
FOLDER = Path(__file__).resolve().parent.parent / "notebooks"


def from_source(source: Path) -> nbformat.NotebookNode:
    """The notebook that a source describes, without outputs and with stable cell ids."""
    notebook = jupytext.read(source, fmt="py:percent")
    for number, cell in enumerate(notebook.cells):
        cell["id"] = f"cell-{number:02d}"
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    return notebook


def content(notebook: nbformat.NotebookNode) -> list[tuple[str, str]]:
    """What has to agree between source and notebook: the type and text of each cell."""
    return [(cell.cell_type, cell.source.strip()) for cell in notebook.cells]


def clean(notebook: nbformat.NotebookNode) -> None:
    """Drop what differs from run to run: time stamps, widget state, progress bars."""
    for cell in notebook.cells:
        cell.metadata = {k: v for k, v in cell.metadata.items() if k in ("tags", "jupyter")}
        if cell.cell_type == "code":
            cell.outputs = [o for o in cell.outputs if o.get("name") != "stderr"]
            for output in cell.outputs:  # without a kernel a widget shows an error; its text is left
                output.get("data", {}).pop("application/vnd.jupyter.widget-view+json", None)
                if "text/html" in output.get("data", {}):
                    output["data"]["text/html"] = PNG.sub(packed, output["data"]["text/html"])
            cell.outputs = without_twins(cell.outputs)
    notebook.metadata.pop("widgets", None)  # the public preview of a notebook breaks on it


def packed(found: re.Match) -> str:
    """The same picture in fewer bytes: a widget packs lightly, since it has to answer quickly."""
    picture, buffer = Image.open(io.BytesIO(base64.b64decode(found[2]))), io.BytesIO()
    picture.save(buffer, format="png", optimize=True)
    return min(found[0], found[1] + base64.b64encode(buffer.getvalue()).decode(), key=len)


def without_twins(outputs: list) -> list:
    """A widget and its still picture carry the same line of text: the picture, which shows it, is enough."""
    shown = {o["data"].get("text/plain") for o in outputs if "text/html" in o.get("data", {})}
    return [o for o in outputs if set(o.get("data", {})) != {"text/plain"} or o["data"]["text/plain"] not in shown]


def build(source: Path) -> float:
    """Execute one source and write its notebook; returns seconds."""
    notebook = from_source(source)
    start = time.perf_counter()
    where = {"metadata": {"path": FOLDER}}
    NotebookClient(  # coalesce_streams: what one cell prints stays one piece, without gaps on GitHub
        notebook, timeout=3600, kernel_name="python3", resources=where, coalesce_streams=True
    ).execute()
    clean(notebook)
    write(notebook, FOLDER / f"{source.stem}.ipynb")
    return time.perf_counter() - start


def write(notebook: nbformat.NotebookNode, target: Path) -> None:
    """Write a notebook whole or not at all."""
    temporary = target.with_suffix(".tmp")
    nbformat.write(notebook, temporary)
    os.replace(temporary, target)


def with_new_text(notebook: nbformat.NotebookNode, fresh: nbformat.NotebookNode) -> nbformat.NotebookNode | None:
    """The source's notebook with the stored outputs of its code cells; None where their code is not the same."""
    stored, new = ([cell for cell in n.cells if cell.cell_type == "code"] for n in (notebook, fresh))
    if [cell.source.strip() for cell in stored] != [cell.source.strip() for cell in new]:
        return None
    for old, cell in zip(stored, new, strict=True):
        cell.outputs, cell.execution_count = old.outputs, old.execution_count
    fresh.metadata = notebook.metadata
    return fresh


def update_text(source: Path) -> bool:
    """Take over the text of one source, with the outputs that are stored; False where it needs a run."""
    target = FOLDER / f"{source.stem}.ipynb"
    notebook = with_new_text(nbformat.read(target, as_version=4), from_source(source)) if target.exists() else None
    if notebook is not None:
        write(notebook, target)
    return notebook is not None


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("only", nargs="*", help="beginnings of notebook names; all by default")
    parser.add_argument("--check", action="store_true", help="compare by content, run nothing")
    parser.add_argument("--text", action="store_true", help="take over changed text, keep the outputs, run nothing")
    options = parser.parse_args()
    sources = sorted((FOLDER / "src").glob("*.py"))
    chosen = [s for s in sources if not options.only or s.name.startswith(tuple(options.only))]
    if not chosen:
        print(f"No source in {FOLDER / 'src'} starts with {options.only}.", file=sys.stderr)
        return 1
    failed = 0
    for source in chosen:
        target = FOLDER / f"{source.stem}.ipynb"
        if options.check:
            fresh = target.exists() and content(nbformat.read(target, as_version=4)) == content(from_source(source))
            print(f"{source.stem}: {'up to date' if fresh else 'differs from its source; run make notebooks'}")
            failed += not fresh
            continue
        if options.text:
            done = update_text(source)
            print(f"{source.stem}: {'text taken over' if done else 'its code has changed and needs a run'}")
            failed += not done
            continue
        try:
            print(f"{source.stem}: {build(source):.0f} s, {target.stat().st_size / 1e6:.2f} MB", flush=True)
        except CellExecutionError as error:
            print(f"{source.stem}: {error}", file=sys.stderr)
            failed += 1
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
