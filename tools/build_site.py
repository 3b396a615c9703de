"""Build the website: README, notebooks as they are stored, docs, report and tables, and the library's docstrings.

    python tools/build_site.py                 # writes _site/
    python tools/build_site.py --out FOLDER

Nothing is executed and nothing is downloaded. The pages keep the places that their files have in the repository, so
that links between them work as they do there. A link to a file that is no page leads to the repository's address, which
stands in pyproject.toml; as long as that is not known (OWNER/REPO) its text stays without a link. Warnings are errors.
"""

import argparse
import importlib
import inspect
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGES = ("*.md", "docs/*.md", "notebooks/*.ipynb", "study/*.md", "study/benchmarks/*.md", "study/results/tables/*.md",
         "checkpoints/*/*/README.md", "labs/*.md", "qdm_lib/assets/README.md")  # fmt: skip
PICTURES = ("docs/*.png", "docs/*.svg", "study/results/figures/*.png", "study/benchmarks/results/*.png",
            "checkpoints/*/*/*.png")  # fmt: skip
CORE = ("circuits", "simulator", "quantum", "blocks", "unet", "diffusion", "training")
THEN = ("data", "metrics", "features", "checkpoint", "transfer", "controls", "audit", "statistics")
DOORS = ("engine", "plots", "runs")
LINK = re.compile(r"(?<!!)\[([^\]]*)\]\((?!https?:|#|mailto:)([^)\s]+)\)")


def files(patterns: tuple[str, ...]) -> list[Path]:
    """The files of some patterns that git knows: nothing that lies about by chance is published."""
    known = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    known = {ROOT / name for name in known.split("\0") if name}
    return sorted(path for pattern in patterns for path in ROOT.glob(pattern) if path in known)


def repository() -> str | None:
    """The repository's address, or None as long as pyproject.toml has only its place."""
    urls = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"].get("urls", {})
    address = next((value for key, value in urls.items() if key.lower() in ("repository", "source")), "OWNER/REPO")
    return None if "OWNER/REPO" in address else address.rstrip("/")


def relinked(text: str, page: Path, pages: set[Path]) -> str:
    """The text of a page, with links to pages as they are and other links led to the repository, or taken out."""

    def link(match: re.Match) -> str:
        target, _, anchor = match[2].partition("#")
        path = Path(os.path.normpath(page.parent / target))
        if path == ROOT / "README.md":  # the site's index
            return f"[{match[1]}]({target.removesuffix('README.md')}index.md{'#' * bool(anchor)}{anchor})"
        if path in pages or not target:
            return match[0]
        for index in (path / "README.md", path / "index.md"):
            if index in pages:
                return f"[{match[1]}]({match[2].rstrip('/')}/{index.name})"
        address = repository()
        return f"[{match[1]}]({address}/blob/main/{path.relative_to(ROOT).as_posix()})" if address else match[1]

    return LINK.sub(link, text)


def with_folded_code(notebook: str) -> str:
    """A notebook in which the code that JupyterLab folds is folded by Sphinx, too."""
    content = json.loads(notebook)
    for cell in content["cells"]:
        if cell["metadata"].get("jupyter", {}).get("source_hidden"):
            cell["metadata"]["tags"] = [*cell["metadata"].get("tags", ()), "hide-input"]
    return json.dumps(content)


def docstrings(module_name: str) -> Iterator[str]:
    """A page of the library's reference: the module's text, then each public function and class with its docstring."""
    module = importlib.import_module(f"qdm_lib.{module_name}")
    yield f"# {module_name}\n\n```text\n{inspect.getdoc(module)}\n```\n"
    for name, thing in vars(module).items():
        own = getattr(thing, "__module__", "").startswith(module.__name__)
        if name.startswith("_") or not own or not (inspect.isfunction(thing) or inspect.isclass(thing)):
            continue
        yield f"## {name}\n\n```text\n{signature(name, thing)}\n```\n\n```text\n{inspect.getdoc(thing) or ''}\n```\n"
        methods = vars(thing).items() if inspect.isclass(thing) else ()
        for method, function in methods:
            if not method.startswith("_") and inspect.isfunction(function) and inspect.getdoc(function):
                text = f"{signature(f'{name}.{method}', function)}\n```\n\n```text\n{inspect.getdoc(function)}"
                yield f"```text\n{text}\n```\n"


def signature(name: str, thing) -> str:
    try:
        return f"{name}{inspect.signature(thing)}"
    except ValueError:
        return name


def toctree(title: str, pages: list[str]) -> str:
    lines = "\n".join(pages)
    return f"\n```{{toctree}}\n:hidden:\n:maxdepth: 1\n:caption: {title}\n\n{lines}\n```\n"


def write_source(folder: Path) -> None:
    """All pages and pictures in their places, and an index: the README with the tables of contents."""
    pages = files(PAGES)
    for page in [*pages, *files(PICTURES)]:
        target = folder / page.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        if page.suffix == ".md":
            text = relinked(page.read_text(encoding="utf-8"), page, set(pages))
            title = "" if text.startswith("#") else f"# {page.stem}\n\n"  # a table of results has none
            target.write_text(title + text, encoding="utf-8")
        elif page.suffix == ".ipynb":
            target.write_text(with_folded_code(page.read_text(encoding="utf-8")), encoding="utf-8")
        else:
            shutil.copy(page, target)
    for name in (*CORE, *THEN, *DOORS):
        target = folder / "reference" / f"{name}.md"
        target.parent.mkdir(exist_ok=True)
        target.write_text("\n".join(docstrings(name)), encoding="utf-8")
    here = [page.relative_to(ROOT).with_suffix("").as_posix() for page in pages]
    docs = [name for name in here if name.startswith("docs/")]
    study = [name for name in here if name.startswith("study/") and "tables" not in name]
    rest = [name for name in here if name not in (*docs, *study, "README") and not name.startswith("notebooks/")]
    index = (folder / "README.md").read_text(encoding="utf-8")
    index += toctree("The course", [name for name in here if name.startswith("notebooks/")])
    index += toctree("Pages", docs) + toctree("The study", study)
    index += toctree("Reference", [f"reference/{name}" for name in (*CORE, *THEN, *DOORS)])
    index += "\n```{toctree}\n:hidden:\n\ncards\n```\n"
    (folder / "README.md").unlink()
    (folder / "index.md").write_text(index, encoding="utf-8")
    (folder / "cards.md").write_text(f"# Cards, tables and notes\n{toctree('Cards', rest)}", encoding="utf-8")


def build(out: Path) -> int:
    """Sphinx's exit code; the site in `out` is the old one or the new one."""
    with tempfile.TemporaryDirectory() as temporary:
        source, made = Path(temporary) / "source", Path(temporary) / "made"
        source.mkdir()
        write_source(source)
        settings = ["-c", str(ROOT / "docs" / "site"), "-b", "html", "-W", "--keep-going", "-q", "-j", "1"]
        done = subprocess.run([sys.executable, "-m", "sphinx", *settings, str(source), str(made)], cwd=temporary)
        if done.returncode == 0:
            (made / ".nojekyll").touch()
            shutil.rmtree(out, ignore_errors=True)
            shutil.copytree(made, out)
    return done.returncode


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "_site", help="folder of the site (%(default)s)")
    out = parser.parse_args().out
    code = build(out)
    print(
        f"Wrote {out}/index.html" if code == 0 else "The site was not built.", file=sys.stderr if code else sys.stdout
    )
    return code


if __name__ == "__main__":
    raise SystemExit(main())
