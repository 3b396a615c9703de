"""Every notebook runs to its end, offline, within its stated time and in 1.5 GB, and what it shows is what it says.

At the test size, in another folder, each question as it stands and then answered; the checks have to say so. As they
are, in their own folder, at Binder's size: 00 to 03 in test_warm.py, and 06 to 09, where everything printed and drawn
must be what the stored notebook has, which its text and captions describe.

A warning is an error, and nothing may be written to stderr. `make test` runs this file on its own, two notebooks at a
time, the longest first; the full size is `make notebooks`.
"""

import base64
import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import matplotlib.image
import nbformat
import numpy as np
import pytest
from answers import ANSWERS
from test_notebooks import ROOT, SOURCES, measured, notebook
from test_reading import CALL

RUNNER = Path(__file__).with_name("run_notebook.py")
IN_BINDERS_SIZE = [s for s in SOURCES if s.stem.startswith(("06", "07", "08", "09"))]


def run(source: Path, path: Path, folder: Path, size: str, *options) -> dict:
    """What a run of a notebook took and printed; it must keep to what is stated, and write nothing to stderr."""
    # The bundled images, whatever full data sets this machine has; pip's and other programs' proxies lead nowhere.
    env = os.environ | {"QDM_SIZE": size, "QDM_DATA_DIR": "", "OMP_NUM_THREADS": "1"}
    env |= dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9")
    command = [sys.executable, RUNNER, path, folder, *options]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=1500)
    assert done.returncode == 0, done.stderr[-4000:]
    used = json.loads(done.stdout.splitlines()[-1])
    print(f"{source.stem}: {used['cpu_s']:.0f} s of processor time, {used['peak_gb']:.2f} GB")
    assert not used["stderr"]
    assert used["peak_gb"] < 1.5
    seconds, gigabytes = measured(notebook(source).cells[0].source, "test" if size == "test" else "full")
    # A machine that is slow, or shares its cores with other tests, has been seen to need four times the processor time.
    assert used["cpu_s"] < 5 * seconds + 30, f"{used['cpu_s']:.0f} s, stated are {seconds} s"
    assert used["peak_gb"] < gigabytes + 0.35, f"{used['peak_gb']:.2f} GB, stated are {gigabytes} GB"
    return used


def said(used: dict) -> list[tuple[str, str]]:
    """What the checks said: [("01.1", "right"), …]."""
    return re.findall(r"^(\d\d\.\d+): (right|not answered yet|not yet)", used["printed"], re.MULTILINE)


def all_of(source: Path, *verdicts: str) -> list[tuple[str, str]]:
    """The same verdicts on every question of a notebook."""
    return [(key, verdict) for key in ANSWERS if key[:2] == source.stem[:2] for verdict in verdicts]


# ------------------------------------------------------------------------------------------ Binder's size

NUMBER = re.compile(r"(?<![\w.])[-+−]?\d[\d,]*(?:\.\d+)?(?:e[-+]?\d+)?")
TIME = re.compile(r"\b(seconds?|hours?|minutes?|ms|s|times|slower|faster|run here)\b")  # differs from run to run
ONE_SEED = re.compile(r"±|by seed|seed [12]\b|after \d+ steps +\d")  # 07 takes one seed in place of three


def lines(cell) -> list[str]:
    """What a cell printed, without lines and columns of times."""
    text = "".join(output.text for output in cell.get("outputs", ()) if output.get("name") == "stdout")
    kept, column = [], slice(0)
    for line in text.splitlines():
        if found := re.search(r"\bseconds\b", line):  # a table's head
            column = slice(*found.span())
        if not TIME.search(line) and not ONE_SEED.search(line):
            kept.append(line.replace(line[column], " ", 1) if line[column].strip() else line)
    return kept


def pictures(cell) -> list[np.ndarray]:
    """Every picture that a cell shows, as numbers from 0 to 1."""
    data = [output.get("data", {}) for output in cell.get("outputs", ())]
    codes = [entry["image/png"] for entry in data if "image/png" in entry]
    codes += [c for entry in data for c in re.findall(r"data:image/png;base64,([^\"]+)", entry.get("text/html", ""))]
    return [matplotlib.image.imread(io.BytesIO(base64.b64decode(code)), format="png")[..., :3] for code in codes]


def differences(stored, shown) -> list[str]:
    """Where the lines and pictures of a run say something else than the stored ones."""
    found = []
    before, now = lines(stored), lines(shown)
    if len(before) != len(now):
        found.append(f"{len(now)} lines, stored are {len(before)}: {now[:3]}")
    for old, new in zip(before, now, strict=False):
        a, b = (np.array([float(n.replace(",", "").replace("−", "-")) for n in NUMBER.findall(x)]) for x in (old, new))
        same_words = NUMBER.sub("#", old).split() == NUMBER.sub("#", new).split()
        if not same_words or not np.allclose(a, b, rtol=0.1, atol=0.02):
            found.append(f"{new!r}, stored is {old!r}")
    before, now = (json.dumps(cell.get("outputs", [])).count("<img ") for cell in (stored, shown))
    if before != now:
        found.append(f"{now} figures, stored are {before}")
    before, now = pictures(stored), pictures(shown)
    if len(before) != len(now):
        found.append(f"{len(now)} pictures, stored are {len(before)}")
    for old, new in zip(before, now, strict=False):
        if abs(old.mean() - new.mean()) > 0.05 or (old.shape == new.shape and np.abs(old - new).mean() > 0.12):
            found.append(f"another picture, by {abs(old.mean() - new.mean()):.2f}")
    return found


@pytest.mark.parametrize("source", IN_BINDERS_SIZE, ids=lambda s: s.stem)
def test_binders_size_shows_what_the_stored_notebook_shows(source, tmp_path):
    """A reader on Binder reads captions that were written beside the stored, full run."""
    kept = tmp_path / "kept.ipynb"
    path = ROOT / "notebooks" / f"{source.stem}.ipynb"
    used = run(source, path, ROOT / "notebooks", "binder", "--keep", str(kept))
    assert said(used) == all_of(source, "not answered yet")
    cells = zip(notebook(source).cells, nbformat.read(kept, as_version=4).cells, strict=True)
    wrong = {shown.source[-120:]: found for stored, shown in cells if (found := differences(stored, shown))}
    assert not wrong, json.dumps(wrong, indent=1, ensure_ascii=False)


# ------------------------------------------------------------------------------------------ the test size


@pytest.mark.parametrize("source", SOURCES, ids=lambda s: s.stem)
def test_runs_in_test_size_and_its_questions_can_be_answered(source, tmp_path):
    book = notebook(source)
    for cell in book.cells:
        cell.source = CALL.sub(lambda asked: f'{asked[0]}\ncheck("{asked[1]}", {ANSWERS[asked[1]][0][0]})', cell.source)
    nbformat.write(book, tmp_path / "answered.ipynb")
    used = run(source, tmp_path / "answered.ipynb", tmp_path, "test")
    assert said(used) == all_of(source, "not answered yet", "right")


# ------------------------------------------------------------------------------------------ the comparison


def test_a_difference_is_found():
    """What the comparison is for: fewer pictures than the caption counts, other numbers, noise for shapes."""
    book = notebook(SOURCES[6])
    cell = next(cell for cell in book.cells if cell.cell_type == "code" and pictures(cell) and lines(cell))
    assert not differences(cell, cell)
    other = json.loads(json.dumps(cell))
    for output in other["outputs"]:
        if output.get("name") == "stdout":
            output["text"] = re.sub(r"0\.\d+", "0.9", output["text"])
    other = nbformat.from_dict(other)
    assert differences(cell, other)
    noise = [nbformat.v4.new_output("display_data", {"image/png": png(np.random.default_rng(0).random((90, 90, 3)))})]
    shapes = [nbformat.v4.new_output("display_data", {"image/png": png(np.full((90, 90, 3), 0.5))})]
    one, two = (nbformat.v4.new_code_cell("", outputs=outputs) for outputs in (noise, shapes))
    assert differences(one, two) and differences(one, nbformat.v4.new_code_cell("")) and not differences(one, one)


def png(image: np.ndarray) -> str:
    file = io.BytesIO()
    matplotlib.image.imsave(file, image, format="png")
    return base64.b64encode(file.getvalue()).decode()
