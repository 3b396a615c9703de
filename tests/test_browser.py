"""The widgets in a real browser: Chromium against a real JupyterLab, and the app with two visitors at once.

Every notebook with a widget is opened and run; each control is reached with Tab and moved with the keyboard, and the
picture or the numbers have to change, with no error anywhere. Screenshots are left in tests/output. Skipped, saying so,
where there is no Chromium (Debian: `apt-get install chromium`; any other by QDM_CHROMIUM=/path/to/it).
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

import pytest

ROOT = Path(__file__).resolve().parent.parent
OUTPUT = ROOT / "tests" / "output"
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
CHROMIUM = os.environ.get("QDM_CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
pytestmark = pytest.mark.skipif(not CHROMIUM, reason=f"no Chromium: none of {', '.join(NAMES)} is on the PATH")

WIDGETS = {  # notebook: the cell that shows the widget
    "01_ddpm": "forward_process(",
    "03_hqconv_fqconv": "circuit_explorer(",
    "05_hybrid_unet": "hybridization(",
}
TRAINING = "06_training"  # its widget has a test of its own: its controls start and stop a run
WIDGETS = {name: cell for name, cell in WIDGETS.items() if (ROOT / "notebooks" / f"{name}.ipynb").exists()}
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
        "QDM_FAST": "1", "OMP_NUM_THREADS": "1", "JUPYTER_CONFIG_DIR": str(folder / "config"),
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
    """A JupyterLab on copies of the notebooks, since it saves what it opens; its address."""
    folder = tmp_path_factory.mktemp("lab")
    (folder / "notebooks").mkdir()
    for name in (*WIDGETS, TRAINING):
        shutil.copy(ROOT / "notebooks" / f"{name}.ipynb", folder / "notebooks")
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
    """A page of a fresh visitor, and the list of errors that its scripts will have raised."""
    page = browser.new_context(viewport={"width": 1400, "height": 1000}).new_page()
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


def drive(page, widget) -> list[str]:
    """Reach every control of a widget with Tab and move it with the keyboard; names of those that changed nothing."""
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


@pytest.mark.parametrize("name", WIDGETS)
def test_widget_in_jupyterlab(browser, lab, name):
    page, errors = new_page(browser)
    open_and_run(page, lab, name)
    cell = page.locator(".jp-CodeCell").filter(has=page.locator(".jupyter-widgets")).first
    widget = cell.locator(".jp-OutputArea .jupyter-widgets").first

    def shown():  # JupyterLab draws a cell when it comes near the window
        cell.evaluate("e => e.scrollIntoView()")
        return seen(widget)[0]

    wait_for(shown, what="a picture")
    assert WIDGETS[name] in cell.locator(".jp-InputArea").text_content()
    widget.screenshot(path=OUTPUT / f"{name}-start.png")
    start = seen(widget)
    idle = drive(page, widget)
    widget.screenshot(path=OUTPUT / f"{name}-end.png")
    assert not idle, f"controls that changed nothing: {idle}"
    end = seen(widget)
    assert start[0] != end[0] and start[1] != end[1]
    assert widget.locator("img:visible").count() <= 2  # nothing plotted twice
    assert_no_error(page, errors)
    page.screenshot(path=OUTPUT / f"{name}-page.png")
    page.context.close()


def test_training_in_jupyterlab(browser, lab):
    """Start trains and draws, Stop stops, Start goes on from there, From scratch forgets; all by keyboard."""
    page, errors = new_page(browser)
    open_and_run(page, lab, TRAINING)
    widget = page.locator(".jp-CodeCell").filter(has=page.locator(".jupyter-widgets")).first
    wait_for(lambda: widget.evaluate("e => e.scrollIntoView()") or seen(widget)[0], what="a picture")
    widget.screenshot(path=OUTPUT / f"{TRAINING}-start.png")
    assert "Not started." in seen(widget)[1]
    empty = seen(widget)[0]

    for name, choice in (("Model", "unet"), ("Batch size", "16")):
        widget.get_by_label(name).focus()
        for key in ("Space", "ArrowUp", "Enter"):
            page.keyboard.press(key)
            time.sleep(0.1)
        assert widget.get_by_label(name).input_value() == choice
    write(page, widget.get_by_label("Steps"), "1000")
    press(page, "Start")
    state = re.compile(r"unet: (\w+), step (\d+) of (\d+)")

    def reads(word, least=1):
        found = state.search(seen(widget)[1])
        return found and found[1] == word and int(found[2]) >= least

    wait_for(lambda: reads("running", 2), 120, "the first steps")
    wait_for(lambda: seen(widget)[0] != empty, what="a curve")
    assert widget.get_by_label("Model").is_disabled() and "s left" in seen(widget)[1]
    wait_for(lambda: reads("running", 26), 300, "the first samples")
    widget.screenshot(path=OUTPUT / f"{TRAINING}-running.png")
    press(page, "Stop")
    wait_for(lambda: reads("stopped", 26), 60, "the stop")
    stopped = int(state.search(seen(widget)[1])[2])
    assert stopped < 1000 and widget.get_by_label("Model").is_enabled()
    time.sleep(2)
    assert int(state.search(seen(widget)[1])[2]) == stopped  # it has really ended

    write(page, widget.get_by_label("Steps"), "2")
    press(page, "Start")
    wait_for(lambda: reads("finished", stopped + 2), 60, "going on")
    widget.screenshot(path=OUTPUT / f"{TRAINING}-end.png")
    press(page, "From scratch")
    wait_for(lambda: "Not started." in seen(widget)[1] and seen(widget)[0] == empty, what="the empty figure")
    assert widget.locator("img:visible").count() == 1
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


def test_app_with_two_visitors_at_once(browser, app):
    """One draws samples and stops, while the other moves the controls; neither sees anything of the other."""
    visitors = []
    for _ in range(2):
        page, errors = new_page(browser)
        page.goto(app, timeout=PATIENCE, wait_until="commit")
        visitors.append((page, errors))
    for page, _ in visitors:
        page.locator("img:visible").nth(1).wait_for(timeout=PATIENCE)
        assert page.get_by_text("import hybridization").count() == 0  # the screen shows no code
    widgets = [page.locator(".jupyter-widgets").first for page, _ in visitors]
    (drawer, _), (mover, _) = visitors
    before = seen(widgets[0])

    press(drawer, "Draw samples")
    drawer.get_by_text(re.compile(r"drawing, step \d+ of")).wait_for(timeout=120_000)
    mover.get_by_label("Circuits").focus()
    move(mover, mover.get_by_label("Circuits"))
    mover.get_by_text("467,985").wait_for(timeout=60_000)  # the parameters with two circuits
    mover.get_by_label("Quanvolution at 14×14").focus()
    mover.keyboard.press("Space")
    mover.get_by_text(re.compile("quanv-2hqconv: 2 hqconv")).first.wait_for(timeout=60_000)
    assert stop_a_drawing(drawer)

    assert "475,329" in seen(widgets[0])[1] and "467,985" not in seen(widgets[0])[1]
    assert "No trained checkpoint" in seen(widgets[1])[1]
    assert seen(widgets[0])[0] != before[0]  # what was drawn up to the stop has stayed
    press(drawer, "Draw samples")
    drawer.get_by_text(re.compile("images drawn with DDIM")).wait_for(timeout=PATIENCE)
    for k, (page, errors) in enumerate(visitors):
        page.screenshot(path=OUTPUT / f"app-visitor-{k + 1}.png", full_page=True)
        assert_no_error(page, errors)
        page.context.close()


def stop_a_drawing(page) -> bool:
    """Stop the drawing of samples before it ends: some seconds of work, so on a busy machine it takes a few tries."""
    end = page.get_by_text(re.compile(r"Stopped\.|images drawn with DDIM"))
    for _ in range(5):
        stop = page.get_by_role("button", name="Stop", exact=True)
        if stop.is_disabled():  # it has ended by itself
            press(page, "Draw samples")
            page.get_by_text(re.compile(r"drawing, step \d+ of")).wait_for(timeout=60_000)
        press(page, "Stop")
        end.first.wait_for(timeout=60_000)
        if page.get_by_text("Stopped.").count():
            return True
    return False


def write(page, field, text) -> None:
    """Replace what stands in a field with the keyboard."""
    field.focus()
    for key in ("End", "Shift+Home", *text, "Enter"):
        page.keyboard.press(key)


def press(page, name) -> None:
    """Press a button with the keyboard."""
    page.get_by_role("button", name=name, exact=True).focus()
    page.keyboard.press("Enter")
