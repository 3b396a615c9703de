"""Put the repository's address, one line of pyproject.toml, wherever else it is written.

    python tools/set_address.py            # README's links to Binder, Colab, Codespaces; notebooks; CITATION.cff
    python tools/set_address.py --check    # change nothing; exit code 1 where something else stands

In a notebook it is the first cell that has the address: on Colab it fetches the course from there.

The website and the package's metadata read pyproject.toml themselves. Until the address is known it is
https://github.com/OWNER/REPO, and CITATION.cff, whose readers follow every link, has none.
"""

import argparse
import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PLACEHOLDER = "OWNER/REPO"
# What comes before OWNER/REPO in a link that opens the course somewhere, and in a notebook's first cell.
LINK = re.compile(
    r"(https://(?:mybinder\.org/v2/gh|colab\.research\.google\.com/github|codespaces\.new)/"
    r"|git\\?\", \\?\"clone\\?\", [^\n]{,40}https://github\.com/)[\w.-]+/[\w.-]+"
)
CITED = re.compile(r"^repository-code: .*\n", re.MULTILINE)


def address(root: Path = ROOT) -> str:
    """The address in pyproject.toml, without a slash at its end; ValueError unless it is one on GitHub."""
    url = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]["urls"]["Repository"]
    if not re.fullmatch(r"https://github\.com/[\w.-]+/[\w.-]+/?", url):
        raise ValueError(f"The Repository of pyproject.toml must be https://github.com/OWNER/REPO, not {url!r}.")
    return url.rstrip("/")


def places(root: Path = ROOT) -> list[Path]:
    """The files that hold the address."""
    notebooks = [*(root / "notebooks" / "src").glob("*.py"), *(root / "notebooks").glob("*.ipynb")]
    return [root / "README.md", root / "CITATION.cff", *sorted(notebooks)]


def with_address(path: Path, text: str, url: str) -> str:
    """The text of one of `places` with this address."""
    place = url.removeprefix("https://github.com/")
    if path.name != "CITATION.cff":
        return LINK.sub(lambda link: f"{link[1]}{place}", text)
    text = CITED.sub("", text)
    return (
        text if place == PLACEHOLDER else re.sub(r"^license:", f'repository-code: "{url}"\nlicense:', text, flags=re.M)
    )


def main(argv: list[str] | None = None, root: Path = ROOT) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="change nothing")
    check, url, stale = parser.parse_args(argv).check, address(root), []
    for path in places(root):
        text = path.read_text(encoding="utf-8")
        if (new := with_address(path, text, url)) != text:
            stale.append(path.name)
            if not check:
                path.write_text(new, encoding="utf-8")
    print(f"{url}: {', '.join(stale) or 'nothing'} {'to change' if check else 'changed'}")
    return int(check and bool(stale))


if __name__ == "__main__":
    sys.exit(main())
