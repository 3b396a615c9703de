"""axe-core, which checks pages for readers who do not see or do not point: no serious finding in what is ours.

It looks at the site, at an exported notebook and at a notebook of figures and a widget in a living JupyterLab. Left out
are the colours of code and prompts and the frame of JupyterLab: those belong to their makers.
"""

import importlib.util
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from test_browser import CHROMIUM, OUTPUT, PATIENCE, ROOT, browser, lab, new_page, open_and_run  # noqa: F401 (fixtures)
from test_site import address, site  # noqa: F401 (fixtures)

found = importlib.util.find_spec("axe_core_python")
pytestmark = pytest.mark.skipif(not found or not CHROMIUM, reason="needs axe-core-python and Chromium")
NOT_OURS = [[".highlight"], [".jp-InputPrompt"], [".jp-OutputPrompt"], [".jp-CodeMirrorEditor"], [".jp-Editor"]]
CELLS = [
    "import matplotlib.pyplot as plt\nfrom qdm_lib.plots import show_described, draw_circuit\n"
    "from qdm_lib.circuits import hqconv\nshow_described(draw_circuit(hqconv(1)), 'The gates of one layer of HQConv.')",
    "from qdm_course.widgets import forward_process\nforward_process(t=300)",
    "from qdm_course.widgets import circuit_explorer\ncircuit_explorer('HQConv', layers=1)",
]


def serious(page, within: str | None = None) -> list[str]:
    """axe's serious and critical findings on a page, or in the parts of it that a selector names."""
    script = (Path(found.origin).parent / "axe.min.js").read_text(encoding="utf-8")
    page.evaluate(script)
    context = {"exclude": NOT_OURS} | ({"include": [[within]]} if within else {})
    result = page.evaluate("context => axe.run(context, {resultTypes: ['violations']})", context)
    return [
        f"{v['impact']} {v['id']}: {len(v['nodes'])}, {v['nodes'][0]['html'][:200]}"
        for v in result["violations"]
        if v["impact"] in ("serious", "critical")
    ]


@pytest.mark.parametrize(
    "name",
    ["index", "docs/models", "docs/glossary", "study/REPORT", "reference/circuits", "notebooks/03_hqconv_fqconv"],
)
def test_the_site(name, browser, address):  # noqa: F811
    page, _ = new_page(browser)
    page.goto(f"{address}/{name}.html", timeout=PATIENCE)
    assert not serious(page)


def test_an_exported_notebook(browser, tmp_path):  # noqa: F811
    command = [sys.executable, "-m", "jupyter", "nbconvert", "--to", "html", "--output-dir", tmp_path]
    notebook = ROOT / "notebooks" / "03_hqconv_fqconv.ipynb"
    subprocess.run([*command, notebook], check=True, capture_output=True, timeout=300)
    page, _ = new_page(browser)
    page.goto((tmp_path / "03_hqconv_fqconv.html").as_uri(), wait_until="domcontentloaded", timeout=PATIENCE)
    assert page.locator("img").count() > 5
    assert not serious(page)


def test_figures_and_widgets_in_a_living_jupyterlab(browser, lab, tmp_path_factory):  # noqa: F811
    notebooks = next(tmp_path_factory.getbasetemp().glob("lab[0-9]*/notebooks"))
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in CELLS])
    book.metadata["kernelspec"] = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
    nbformat.write(book, notebooks / "figures.ipynb")
    page, errors = new_page(browser)
    open_and_run(page, lab, "figures")
    page.wait_for_selector(".qdm-widget >> nth=1", timeout=PATIENCE)
    page.screenshot(path=OUTPUT / "axe-jupyterlab.png")
    assert page.locator(".jp-OutputArea-output img").count() >= 3 and not errors
    assert not serious(page, within=".jp-OutputArea-output")
