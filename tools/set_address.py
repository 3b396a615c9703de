"""Put the repository's address, one line of pyproject.toml, wherever else it is written.

    python tools/set_address.py            # README's links to Binder, CITATION.cff
    python tools/set_address.py --check    # change nothing; exit code 1 where something else stands

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
BINDER = re.compile(r"(https://mybinder\.org/v2/gh/)[^/\s]+/[^/\s]+/")
CITED = re.compile(r"^repository-code: .*\n", re.MULTILINE)


def address(root: Path = ROOT) -> str:
    """The address in pyproject.toml, without a slash at its end; ValueError unless it is one on GitHub."""
    url = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]["urls"]["Repository"]
    if not re.fullmatch(r"https://github\.com/[\w.-]+/[\w.-]+/?", url):
        raise ValueError(f"The Repository of pyproject.toml must be https://github.com/OWNER/REPO, not {url!r}.")
    return url.rstrip("/")


def with_address(name: str, text: str, url: str) -> str:
    """The text of README.md or CITATION.cff with this address."""
    place = url.removeprefix("https://github.com/")
    if name == "README.md":
        return BINDER.sub(lambda link: f"{link[1]}{place}/", text)
    text = CITED.sub("", text)
    return (
        text if place == PLACEHOLDER else re.sub(r"^license:", f'repository-code: "{url}"\nlicense:', text, flags=re.M)
    )


def main(argv: list[str] | None = None, root: Path = ROOT) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="change nothing")
    check, url, stale = parser.parse_args(argv).check, address(root), []
    for name in ("README.md", "CITATION.cff"):
        path = root / name
        text = path.read_text(encoding="utf-8")
        if (new := with_address(name, text, url)) != text:
            stale.append(name)
            if not check:
                path.write_text(new, encoding="utf-8")
    print(f"{url}: {' and '.join(stale) or 'nothing'} {'to change' if check else 'changed'}")
    return int(check and bool(stale))


if __name__ == "__main__":
    sys.exit(main())
