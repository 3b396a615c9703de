"""The website builds without a warning, without a run and without the network; its links lead somewhere."""

import functools
import http.server
import re
import shutil
import subprocess
import sys
import threading
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pytest
from axe import needs_axe, serious

ROOT = Path(__file__).parent.parent
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("site") / "site"
    command = [sys.executable, ROOT / "tools" / "build_site.py", "--out", out]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    return out


class Page(HTMLParser):
    """What a page points to, and the anchors that it has."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.targets, self.loaded, self.anchors, self.images = set(), set(), set(), []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attributes: list) -> None:
        a = dict(attributes)
        self.anchors |= {a["id"]} if a.get("id") else set()
        if tag == "a" and a.get("href"):
            self.targets.add(a["href"])
        if tag in ("script", "img") and a.get("src"):
            self.loaded.add(a["src"])
        if tag == "link" and a.get("rel") == "stylesheet":
            self.loaded.add(a["href"])
        if tag == "img":
            self.images.append(a)


def test_links_lead_somewhere_and_nothing_is_loaded_from_elsewhere(site):
    pages = {path: Page(path) for path in site.rglob("*.html") if "_static" not in path.parts}
    assert len(pages) > 60 and site / "notebooks" / "00_welcome.html" in pages
    for path, page in pages.items():
        for target in page.targets | page.loaded:
            if target.startswith(("data:", "mailto:", "javascript:")):
                continue
            if re.match(r"https?:|//", target):
                assert target not in page.loaded, f"{path.name} loads {target}"
                continue
            name, _, anchor = target.partition("#")
            there = (path.parent / unquote(name.partition("?")[0])).resolve() if name else path
            assert there.exists(), f"{path.name} → {target}"
            if anchor and there in pages:
                assert unquote(anchor) in pages[there].anchors, f"{path.name} → {target}"


def test_equations_and_tables_that_a_cell_shows_are_typeset(site):
    """Boxes of the paper's equations and the tables beside them come from code: Sphinx has to be told to read them."""
    for path in (site / "notebooks").glob("*.html"):
        text = re.sub(r"<(pre|script)\b.*?</\1>", "", path.read_text(encoding="utf-8"), flags=re.S)
        assert "$$" not in text and "| ---" not in text, path.name
    shown = (site / "notebooks" / "03_hqconv_fqconv.html").read_text(encoding="utf-8")
    assert 'id="qdm-' in (site / "notebooks" / "02_variational_circuits.html").read_text(encoding="utf-8")
    assert shown.count("<table") >= 1 and "Paper, block A" in shown


def test_pictures_of_pages_have_a_description(site):
    """Those of README, models and REPORT; the notebooks' figures are held by tests/test_notebooks.py."""
    for name in ("index", "docs/engine", "study/REPORT"):
        for image in Page(site / f"{name}.html").images:
            assert len(image.get("alt") or "") > 20, (name, image.get("src"))


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_) -> None:
        pass


@pytest.fixture
def address(site):
    """The site as a server on this machine gives it: search reads other pages, which a browser allows there only."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=site))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here; CI installs one")
def test_pages_open_in_a_browser_without_an_error(address):
    """Mathematics is typeset from the site's own files, search finds a word, and the console stays empty.

    A page that is left while its icon is under way aborts that request: no fault.
    """
    from playwright.sync_api import sync_playwright

    said: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 390, "height": 800})  # a phone
        page.on("console", lambda message: said.append(message.text) if message.type == "error" else None)
        page.on("requestfailed", lambda r: None if r.failure == "net::ERR_ABORTED" else said.append(f"failed: {r.url}"))
        page.on("request", lambda r: None if r.url.startswith((address, "data:")) else said.append(r.url))
        for name in ("index", "docs/models", "study/REPORT", "reference/circuits"):
            page.goto(f"{address}/{name}.html")
            wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
            assert wide <= 1, f"{name} scrolls sideways by {wide} pixels"
        page.goto(f"{address}/notebooks/01_ddpm.html")
        page.wait_for_selector("mjx-container:visible", timeout=30_000)  # not one of the folded table of contents
        page.goto(f"{address}/search.html?q=quanvolution")
        page.wait_for_selector("ul.search li", timeout=30_000)
        browser.close()
    assert not said


@needs_axe
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here; CI installs one")
def test_axe_finds_nothing_serious_on_the_site_or_in_an_exported_notebook(address, tmp_path):
    from playwright.sync_api import sync_playwright

    notebook = ROOT / "notebooks" / "03_hqconv_fqconv.ipynb"
    command = [sys.executable, "-m", "jupyter", "nbconvert", "--to", "html", "--output-dir", tmp_path, notebook]
    subprocess.run(command, check=True, capture_output=True, timeout=300)
    names = (
        "index",
        "docs/models",
        "docs/glossary",
        "study/REPORT",
        "reference/circuits",
        "notebooks/03_hqconv_fqconv",
    )
    pages = [*(f"{address}/{name}.html" for name in names), (tmp_path / "03_hqconv_fqconv.html").as_uri()]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page()
        found = {}
        for url in pages:  # an exported notebook asks for MathJax on the network: not waited for
            page.goto(url, wait_until="domcontentloaded", timeout=120_000)
            found |= {url: findings} if (findings := serious(page)) else {}
        assert page.locator("img").count() > 5
        browser.close()
    assert not found
