"""The widgets in a real browser: Chromium against a real JupyterLab, and the app with two visitors at once.

One notebook holds the widgets as the course's notebooks call them; each control is reached with Tab and moved with the
keyboard, and the picture or the numbers have to change, with no error anywhere; then their cells are run again, the
kernel is restarted, and the notebook is saved and opened again. Screenshots are left in tests/output. Skipped, saying
so, where there is no Chromium (Debian: `apt-get install chromium`; any other by QDM_CHROMIUM=/path/to/it).
"""

import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import nbformat
import pytest
from axe import needs_axe, serious

from qdm_course.widgets.columns import interval
from qdm_course.widgets.evidence import about_scores, shipped_models

ROOT = Path(__file__).resolve().parent.parent
OUTPUT = ROOT / "tests" / "output"
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
CHROMIUM = os.environ.get("QDM_CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
pytestmark = pytest.mark.skipif(not CHROMIUM, reason=f"no Chromium: none of {', '.join(NAMES)} is on the PATH")

CELLS = {  # of the notebook: the widgets as they stand in notebooks 01, 03, 05 and 06
    "forward": "from qdm_course.widgets import forward_process\nforward_process(t=300)",
    "explorer": 'from qdm_course.widgets import circuit_explorer\ncircuit_explorer("HQConv", layers=1)',
    "hybridization": 'from qdm_course.widgets import hybridization\nhybridization("1hqconv")',
    "training": "from qdm_course.widgets import training_job\ntraining_job(steps=100)",
}
PATIENCE = 600_000  # ms for a notebook to run, on a busy machine
CONTROLS = "select, input, button"


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


@contextmanager
def serving(command: list[str], url: str, folder: Path, log: Path):
    """A server in its own process and with its own settings folders, until the with block ends."""
    here = {
        "QDM_SIZE": "test", "OMP_NUM_THREADS": "1", "JUPYTER_CONFIG_DIR": str(folder / "config"),
        "JUPYTERLAB_SETTINGS_DIR": str(folder / "settings"), "JUPYTERLAB_WORKSPACES_DIR": str(folder / "workspaces"),
        "JUPYTER_RUNTIME_DIR": str(folder / "runtime"), "IPYTHONDIR": str(folder / "ipython"),
    }  # fmt: skip
    with open(log, "w") as out:
        process = subprocess.Popen(command, env=os.environ | here, stdout=out, stderr=out, cwd=folder)
        try:
            end = time.monotonic() + 120
            while True:
                try:
                    with urllib.request.urlopen(url, timeout=5):
                        break
                except (urllib.error.URLError, OSError):
                    assert process.poll() is None and time.monotonic() < end, log.read_text()[-2000:]
                    time.sleep(0.3)
            yield
        finally:
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@pytest.fixture(scope="module")
def browser():
    OUTPUT.mkdir(exist_ok=True)
    with playwright.sync_playwright() as p:
        chromium = p.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """A JupyterLab on a notebook with the widgets; its address."""
    folder = tmp_path_factory.mktemp("lab")
    (folder / "notebooks").mkdir()
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in CELLS.values()])
    kernel = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
    notebook.metadata["kernelspec"] = kernel
    nbformat.write(notebook, folder / "notebooks" / "widgets.ipynb")
    settings = {
        "notebook-extension/tracker": '{"windowingMode": "none", "autosaveInterval": 0}',
        "apputils-extension/notification": '{"fetchNews": "false", "checkForUpdates": false}',
    }
    for name, text in settings.items():
        path = folder / "settings" / "@jupyterlab" / f"{name}.jupyterlab-settings"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    port = free_port()
    command = [
        sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", f"--port={port}",
        "--ServerApp.port_retries=0", "--IdentityProvider.token=", f"--ServerApp.root_dir={folder / 'notebooks'}",
    ]  # fmt: skip
    address = f"http://127.0.0.1:{port}"
    with serving(command, f"{address}/api", folder, OUTPUT / "jupyterlab.log"):
        yield address


def new_page(browser):
    """A page of a fresh visitor on a lecture's projector, and the list of errors that its scripts will have raised."""
    page = browser.new_context(viewport={"width": 1280, "height": 720}).new_page()
    errors = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    return page, errors


# What the reader sees of a widget: the bytes of its pictures, its texts, and what stands in the controls that are not
# being moved.
SEEN = """async root => {
    const pictures = [...root.querySelectorAll('img')].filter(i => i.src && i.offsetParent !== null);
    const bytes = await Promise.all(pictures.map(async i => {
        const b = new Uint8Array(await (await fetch(i.src)).arrayBuffer());
        let h = 0;
        for (const x of b) h = (h * 31 + x) | 0;
        return b.length + ':' + h;
    }));
    const others = [...root.querySelectorAll('input, select')].filter(e => e !== document.activeElement);
    return [bytes.join(' '), root.innerText, others.map(e => e.value).join(' ')];
}"""


def seen(widget) -> tuple[str, str, str]:
    for _ in range(20):  # a picture may be replaced while it is read
        try:
            return tuple(widget.evaluate(SEEN))
        except playwright.Error:
            time.sleep(0.05)
    return tuple(widget.evaluate(SEEN))


def wait_for(condition, seconds=60, what="it"):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"{what} did not happen within {seconds} s"
        time.sleep(0.05)


def label_of(control) -> str:
    """The name by which a screen reader announces a control."""
    return control.evaluate(
        "e => (e.labels && e.labels.length ? e.labels[0].innerText : '') || e.getAttribute('aria-label') || e.innerText"
    ).strip()


def move(page, control) -> None:
    """One move of a focused control with the keyboard."""
    kind = control.evaluate("e => e.tagName == 'INPUT' ? e.type : e.tagName.toLowerCase()")
    if kind == "select":  # a bare arrow key would be JupyterLab's, to go to the next cell
        before = control.input_value()
        for arrow in ("ArrowDown", "ArrowUp"):  # the second where it was the last one
            for key in ("Space", arrow, "Enter"):
                page.keyboard.press(key)
                time.sleep(0.1)
            if control.input_value() != before:
                break
    elif kind == "number":
        before = control.input_value()
        page.keyboard.press("ArrowUp")
        if control.input_value() == before:
            page.keyboard.press("ArrowDown")
        page.keyboard.press("Enter")
    else:
        page.keyboard.press("Space")


def tab_through(page, widget):
    """Reach every control that is enabled with Tab, in order; returns the controls and their names."""
    controls = widget.locator(CONTROLS)
    names = [label_of(controls.nth(k)) for k in range(controls.count())]
    assert names and all(names), f"a control has no name: {names}"
    controls.first.focus()
    reached = []
    for _ in range(len(names) + 2):
        reached.append(label_of(page.locator(":focus")))
        page.keyboard.press("Tab")
    enabled = [name for k, name in enumerate(names) if controls.nth(k).is_enabled()]
    assert [name for name in reached if name in names][: len(enabled)] == enabled
    return controls, names


def drive(page, widget) -> list[str]:
    """Move every control of a widget with the keyboard; names of those that changed nothing."""
    controls, names = tab_through(page, widget)
    idle = []
    for k, name in enumerate(names):
        if not controls.nth(k).is_enabled():
            continue
        before = seen(widget)
        controls.nth(k).focus()
        move(page, controls.nth(k))
        try:
            wait_for(lambda before=before: seen(widget) != before, 30)
        except AssertionError:
            idle.append(name)
    return idle


def assert_no_error(page, errors):
    for kind in ("application/vnd.jupyter.error", "application/vnd.jupyter.stderr"):
        bad = page.locator(f'[data-mime-type="{kind}"]')
        assert bad.count() == 0, bad.first.inner_text()
    broken = page.get_by_text("Click to show javascript error")  # in the place of a widget that failed
    assert broken.count() == 0 and page.locator(".jp-Dialog").count() == 0
    assert not errors


def open_and_run(page, address, name):
    """Open a notebook of the lab, run all its cells through the menu, wait until the last is done."""
    page.goto(f"{address}/lab/tree/{name}.ipynb?reset")
    page.get_by_text(re.compile(r"\| Idle")).first.wait_for(timeout=120_000)
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_text("Run All Cells", exact=True).click()
    wait_for(lambda: "*" in prompts(page), 60, "the start of the run")
    wait_for(
        lambda: re.search(r"\d\]:$", prompts(page)) and "*" not in prompts(page), PATIENCE / 1000, "the end of the run"
    )


def prompts(page) -> str:
    """What stands before the code cells, one after the other: [*]: while a cell waits or runs, [7]: after it."""
    return page.evaluate(
        "[...document.querySelectorAll('.jp-CodeCell .jp-InputPrompt')].map(e => e.textContent).join('')"
    )


@pytest.fixture(scope="module")
def page(browser, lab):
    """The notebook, opened and run; all tests of the lab look at it, one after the other."""
    page, page.errors = new_page(browser)
    open_and_run(page, lab, "widgets")
    yield page
    page.context.close()


def cell_of(page, name):
    return page.locator(".jp-CodeCell").nth(list(CELLS).index(name))


def widget_of(page, name):
    """A living widget, moved into the window and drawn."""
    widget = cell_of(page, name).locator(".qdm-widget")
    wait_for(
        lambda: widget.count() and (widget.evaluate("e => e.scrollIntoView()") or seen(widget)[0]), what="a picture"
    )
    return widget


@pytest.mark.parametrize("name", ["forward", "explorer"])
def test_every_control_moves_the_widget(page, name):
    widget = widget_of(page, name)
    widget.screenshot(path=OUTPUT / f"{name}-start.png")
    start = seen(widget)
    idle = drive(page, widget)
    widget.screenshot(path=OUTPUT / f"{name}-end.png")
    assert not idle, f"controls that changed nothing: {idle}"
    end = seen(widget)
    assert start[0] != end[0] and start[1] != end[1]
    assert widget.locator("img:visible").count() == 1  # nothing plotted twice
    assert_no_error(page, page.errors)


def chosen(control) -> str:
    """What a list shows."""
    return control.evaluate("e => e.selectedOptions[0].text").replace("\u00a0", " ")


def choose(page, control, text) -> None:
    """Choose an entry of a list with the keyboard, by the beginning of its text."""
    control.focus()
    for key in ("Space", *text, "Enter"):
        page.keyboard.press(key)
        time.sleep(0.15)  # a list opens and closes at its own pace
    wait_for(lambda: chosen(control).startswith(text), 10, f"choosing {text}")


def read(widget, text, seconds=60) -> None:
    """Wait until a widget says so."""
    wait_for(lambda: text in seen(widget)[1].replace("\u00a0", " "), seconds, text)


def changes(page, widget, act, what) -> None:
    before = seen(widget)
    act()
    wait_for(lambda: seen(widget) != before, 60, what)


def test_the_comparison_by_keyboard(page):
    """What stands on the screen at 1280×720; every control by keyboard; silencing the circuits, and stopping it."""
    widget = widget_of(page, "hybridization")
    page.screenshot(path=OUTPUT / "hybridization-lab-1280.png")
    assert widget.locator("img:visible").count() >= 4  # three columns or all have a model of 20 epochs; and the U-Net
    images, field = widget.locator("img:visible"), widget.get_by_label
    for needed in (images.nth(0), images.nth(2), widget.get_by_text("Scores of")):
        box = needed.bounding_box()
        assert 0 <= box["y"] and box["y"] + box["height"] < 696  # above the status bar
    tab_through(page, widget)

    models = shipped_models(ROOT, "fashion-mnist")
    for epochs in ("20", "10"):
        choose(page, field("Epochs", exact=True), epochs)  # a loss curve's description names epochs, too
        read(widget, f"FID ↓\t{interval(about_scores(models['unet', float(epochs)])['scores']['fid'])}")
    choose(page, field("Epochs", exact=True), "20")
    choose(page, field("Data set"), "mnist")
    digits = shipped_models(ROOT, "mnist")
    for name in ("unet", "1hqconv"):
        read(widget, f"FID ↓\t{interval(about_scores(digits[name, 20.0])['scores']['fid'])}")
    page.screenshot(path=OUTPUT / "hybridization-digits-1280.png")
    choose(page, field("Data set"), "fashion")
    choose(page, field("Epochs", exact=True), "20")
    choose(page, field("Compare"), "hand")
    wait_for(lambda: chosen(field("Column 4")).endswith("hand-over"), what="other columns")
    choose(page, field("Compare"), "0")
    wait_for(lambda: chosen(field("Column 4")).startswith("100 %"), what="the first columns")
    choose(page, field("Column 4"), "2")  # the next entry that begins so, after 100 % HQConv
    read(widget, "no trained 2fqconv of 20 epochs")
    changes(page, widget, lambda: write(page, field("Frame"), "0"), "the start")
    # The columns begin at the same picture; they arrive one after the other.
    wait_for(lambda: len(set(seen(widget)[0].split()[:2])) == 1, what="the same picture in all columns")
    changes(page, widget, lambda: press(page, "Play", widget), "the animation")
    for name in ("circuit", "nothing", "U-Net"):
        changes(page, widget, lambda name=name: choose(page, field("Drawing"), name), name)
    changes(page, widget, lambda: choose(page, field("of column"), "1"), "the classical U-Net")

    for circuits in ("random weights", "cos(x)", "zeros"):
        choose(page, field("Circuits"), circuits)
        read(widget, f"circuits: {circuits}", 120)
        read(widget, "All columns start from the same noise", 120)
        page.screenshot(path=OUTPUT / f"hybridization-{circuits[:5]}.png")
        assert "% of the range" in seen(widget)[1]
    choose(page, field("Circuits"), "as trained")
    for column in ("Column 3", "Column 1"):
        changes(page, widget, lambda column=column: choose(page, field(column), "3"), column)
    choose(page, field("Compare"), "0")
    write(page, field("Seed"), "9")
    read(widget, "drawing unet")
    press(page, "Stop", widget)
    read(widget, "Stopped.")
    stopped = seen(widget)
    time.sleep(2)
    assert seen(widget) == stopped
    press(page, "Draw", widget)
    read(widget, "drawing unet")
    write(page, field("Seed"), "0")
    assert_no_error(page, page.errors)


def test_nothing_is_cut_on_a_small_screen(page):
    for width, height in ((800, 600), (1920, 1080)):
        page.set_viewport_size({"width": width, "height": height})
        for name in CELLS:
            widget = widget_of(page, name)
            page.screenshot(path=OUTPUT / f"{name}-lab-{width}.png")
            edge = widget.evaluate("e => e.closest('.jp-OutputArea').getBoundingClientRect().right")
            rights = "es => es.filter(e => e.offsetParent).map(e => e.getBoundingClientRect().right)"
            controls = widget.locator(f"{CONTROLS}, img")
            assert max(controls.evaluate_all(rights)) <= edge + 1, name
    page.set_viewport_size({"width": 1280, "height": 720})


def test_training(page):
    """Start trains and draws, Stop stops, Start goes on from there, From scratch forgets; all by keyboard."""
    widget = widget_of(page, "training")
    widget.screenshot(path=OUTPUT / "training-start.png")
    assert "Not started." in seen(widget)[1]
    empty = seen(widget)[0]

    for name, choice in (("Model", "unet"), ("Batch size", "16")):
        widget.get_by_label(name).focus()
        for key in ("Space", "ArrowUp", "Enter"):
            page.keyboard.press(key)
            time.sleep(0.1)
        assert widget.get_by_label(name).input_value() == choice
    write(page, widget.get_by_label("Steps"), "1000")
    press(page, "Start", widget)
    state = re.compile(r"unet: (\w+), step (\d+) of (\d+)")

    def reads(word, least=1):
        found = state.search(seen(widget)[1])
        return found and found[1] == word and int(found[2]) >= least

    wait_for(lambda: reads("running", 2), 120, "the first steps")
    wait_for(lambda: seen(widget)[0] != empty, what="a curve")
    assert widget.get_by_label("Model").is_disabled() and "s left" in seen(widget)[1]
    wait_for(lambda: reads("running", 26), 300, "the first samples")
    widget.screenshot(path=OUTPUT / "training-running.png")
    press(page, "Stop", widget)
    wait_for(lambda: reads("stopped", 26), 60, "the stop")
    stopped = int(state.search(seen(widget)[1])[2])
    assert stopped < 1000 and widget.get_by_label("Model").is_enabled()
    time.sleep(2)
    assert int(state.search(seen(widget)[1])[2]) == stopped  # it has really ended

    write(page, widget.get_by_label("Steps"), "2")
    press(page, "Start", widget)
    wait_for(lambda: reads("finished", stopped + 2), 60, "going on")
    widget.screenshot(path=OUTPUT / "training-end.png")
    press(page, "From scratch", widget)
    wait_for(lambda: "Not started." in seen(widget)[1] and seen(widget)[0] == empty, what="the empty figure")
    assert widget.locator("img:visible").count() == 1
    assert_no_error(page, page.errors)


def run_again(page, name) -> None:
    """Run a cell once more, and wait for its end."""
    outputs = cell_of(page, name).locator(".jp-OutputArea-child")
    outputs.evaluate_all("es => es.forEach(e => e.classList.add('of-the-last-run'))")
    cell_of(page, name).locator(".jp-InputArea-editor").click()
    page.keyboard.press("Control+Enter")
    wait_for(lambda: page.locator(".of-the-last-run").count() == 0 and outputs.count(), 120, "the re-run")


def test_a_re_run_stops_the_training_and_keeps_what_was_chosen(page):
    widget = widget_of(page, "training")
    write(page, widget.get_by_label("Steps"), "5000")
    press(page, "Start", widget)
    wait_for(lambda: "running" in seen(widget)[1], 60, "the run")
    run_again(page, "training")
    widget = widget_of(page, "training")
    wait_for(lambda: "Not started." in seen(widget)[1], 60, "the new widget")
    assert widget.get_by_label("Steps").input_value() == "5000"
    assert widget.get_by_label("Model").input_value() == "unet" and widget.get_by_label("Model").is_enabled()
    assert_no_error(page, page.errors)


def test_without_its_kernel_a_widget_is_a_picture_that_says_how_to_wake_it(page, lab):
    stills = page.locator(".qdm-still:visible")
    assert stills.count() == 0  # all are alive
    page.get_by_role("menuitem", name="Kernel", exact=True).click()
    page.get_by_text("Restart Kernel…", exact=True).click()
    page.locator(".jp-Dialog .jp-mod-accept").click()
    wait_for(lambda: stills.count() == len(CELLS), 60, "the still pictures")
    page.locator(".jp-Notebook").click()
    page.keyboard.press("Control+s")
    wait_for(lambda: page.locator(".jp-mod-dirty").count() == 0, 30, "saving")
    page.goto(f"{lab}/lab/tree/widgets.ipynb?reset")
    page.get_by_text(re.compile(r"\| Idle")).first.wait_for(timeout=120_000)
    wait_for(lambda: stills.count() == len(CELLS), 60, "the still pictures")
    assert page.get_by_text("Shift + Enter").first.is_visible() and stills.locator("img").count() >= len(CELLS)
    assert not page.get_by_text("Error displaying widget").first.is_visible()
    page.screenshot(path=OUTPUT / "reopened.png")
    run_again(page, "forward")
    widget_of(page, "forward")
    assert stills.count() == len(CELLS) - 1


FIGURES = [
    "from qdm_lib.circuits import hqconv\nfrom qdm_lib.plots import draw_circuit, show_described\n"
    "show_described(draw_circuit(hqconv(1)), 'The gates of one layer of HQConv.')",
    CELLS["forward"],
    CELLS["explorer"],
    CELLS["hybridization"],
]


@needs_axe
def test_axe_finds_nothing_serious_in_figures_and_widgets(browser, lab, tmp_path_factory):
    folder = next(tmp_path_factory.getbasetemp().glob("lab[0-9]*/notebooks"))
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in FIGURES])
    book.metadata["kernelspec"] = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
    nbformat.write(book, folder / "figures.ipynb")
    page, errors = new_page(browser)
    open_and_run(page, lab, "figures")
    page.wait_for_selector(".qdm-widget >> nth=1", timeout=PATIENCE)
    page.screenshot(path=OUTPUT / "figures.png")
    assert page.locator(".jp-OutputArea-output img").count() >= 3
    assert not serious(page, within=".jp-OutputArea-output")
    assert_no_error(page, errors)
    page.context.close()


@pytest.fixture(scope="module")
def app(tmp_path_factory):
    """The hybridization widget as a web app, as `make app` serves it; its address."""
    folder, port = tmp_path_factory.mktemp("app"), free_port()
    shutil.copy(ROOT / "app" / "hybridization.ipynb", folder)
    command = [sys.executable, "-m", "voila", "hybridization.ipynb", "--no-browser", f"--port={port}"]
    with serving(command, f"http://127.0.0.1:{port}/voila/static/voila.js", folder, OUTPUT / "voila.log"):
        yield f"http://127.0.0.1:{port}"


@needs_axe
@pytest.mark.parametrize("zoom", [1, 1.5], ids=["1280x720", "1920x1080 at 150 %"])
def test_the_app_fits_a_projector(browser, app, zoom):
    """On either data set: controls, the images of all columns and their scores on one screen, nothing to scroll to."""
    context = browser.new_context(viewport={"width": 1280, "height": 720}, device_scale_factor=zoom)
    page, errors = context.new_page(), []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(app, timeout=PATIENCE, wait_until="commit")
    page.locator("img:visible").nth(2).wait_for(timeout=PATIENCE)
    widget = page.locator(".qdm-widget")
    for dataset in ("mnist", "fashion-mnist"):
        choose(page, page.get_by_label("Data set"), dataset[:2])
        fid = interval(about_scores(shipped_models(ROOT, dataset)["unet", 20.0])["scores"]["fid"])
        widget.get_by_text(fid).first.wait_for(timeout=60_000)
        page.screenshot(path=OUTPUT / f"app-{dataset}-{zoom:g}.png")
        for needed in [widget.get_by_label("Circuits"), widget.get_by_text("Scores of"),
                       *widget.get_by_text("KID ↓").all(), *widget.locator("img:visible").all()[:2]]:  # fmt: skip
            box = needed.bounding_box()
            assert 0 <= box["y"] and box["y"] + box["height"] <= 720, (dataset, needed)
    choose(page, page.get_by_label("Data set"), "mn")
    choose(page, page.get_by_label("Circuits"), "zeros")  # three rows of images a column
    widget.get_by_text("difference:").nth(2).wait_for(timeout=PATIENCE)  # all three hybrids are drawn anew
    widget.get_by_text("drawing fullhqconv").wait_for(state="hidden", timeout=PATIENCE)
    page.screenshot(path=OUTPUT / f"app-zeros-{zoom:g}.png")
    box = widget.get_by_text("Scores of").bounding_box()
    assert 0 <= box["y"] and box["y"] + box["height"] <= 720, box
    assert not serious(page, within=".qdm-widget")
    assert_no_error(page, errors)
    context.close()


def set_theme(page, name) -> None:
    page.get_by_role("menuitem", name="Settings", exact=True).click()
    for text in ("Theme", name):
        page.locator(".lm-Menu-item").get_by_text(text, exact=True).click()


@needs_axe
def test_the_comparison_can_be_read_in_the_dark_theme(browser, lab):
    page, errors = new_page(browser)
    open_and_run(page, lab, "widgets")
    set_theme(page, "JupyterLab Dark")
    wait_for(lambda: page.evaluate("document.body.dataset.jpThemeLight") == "false", what="the dark theme")
    widget_of(page, "hybridization")
    time.sleep(1)  # the theme's style sheet is drawn
    page.screenshot(path=OUTPUT / "hybridization-dark.png")
    assert not serious(page, within=".qdm-widget")
    set_theme(page, "JupyterLab Light")  # the server keeps it for the other tests
    assert_no_error(page, errors)
    page.context.close()


def test_app_with_two_visitors_at_once(browser, app):
    """One silences the circuits and stops, while the other moves the controls; neither sees anything of the other."""
    visitors = []
    for _ in range(2):
        page, errors = new_page(browser)
        page.goto(app, timeout=PATIENCE, wait_until="commit")
        visitors.append((page, errors))
    for page, _ in visitors:
        page.locator("img:visible").nth(2).wait_for(timeout=PATIENCE)
        assert page.get_by_text("import hybridization").count() == 0  # the screen shows no code
    widgets = [page.locator(".qdm-widget") for page, _ in visitors]
    (drawer, _), (mover, _) = visitors
    before = seen(widgets[0])

    choose(drawer, drawer.get_by_label("Circuits"), "zeros")
    drawer.get_by_text(re.compile("drawing 1hqconv")).wait_for(timeout=120_000)
    choose(mover, mover.get_by_label("Column 2"), "2")
    mover.get_by_text("467,985").wait_for(timeout=60_000)  # the parameters with two circuits
    press(drawer, "Stop")
    drawer.get_by_text("Stopped.").wait_for(timeout=60_000)

    assert "475,329" in seen(widgets[0])[1] and "467,985" not in seen(widgets[0])[1]
    assert "circuits: zeros" not in seen(widgets[1])[1] and "no trained 2hqconv" in seen(widgets[1])[1]
    choose(drawer, drawer.get_by_label("Circuits"), "as trained")
    wait_for(lambda: seen(widgets[0])[0] == before[0], what="the stored images")
    for k, (page, errors) in enumerate(visitors):
        page.screenshot(path=OUTPUT / f"app-visitor-{k + 1}.png")
        assert page.locator(".qdm-still:visible").count() == 0
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert_no_error(page, errors)
        page.context.close()


def write(page, field, text) -> None:
    """Replace what stands in a field with the keyboard."""
    field.focus()
    for key in ("End", "Shift+Home", *text, "Enter"):
        page.keyboard.press(key)


def press(page, name, within=None) -> None:
    """Press a button with the keyboard."""
    (within or page).get_by_role("button", name=name, exact=True).focus()
    page.keyboard.press("Enter")
