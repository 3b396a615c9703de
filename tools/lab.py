"""Make ready for JupyterLab: a copy of the notebooks to work in, and no question about news.

    python tools/lab.py        # work/, in the clone

What lies in work/ is never written over, so that a course that is updated (`git pull`) meets no changed file, and no
student's work is lost. To begin a notebook afresh, rename or delete its copy. Notebooks that are new are copied.
"""

import json
import os
import shutil
import sys
from contextlib import suppress
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
NEWS = "@jupyterlab/apputils-extension:notification"


def copy_notebooks(root: Path = ROOT) -> list[str]:
    """Copy to work/ what is not there yet; returns the names of the notebooks that are in it but changed since."""
    work, changed = root / "work", []
    work.mkdir(exist_ok=True)
    for notebook in sorted((root / "notebooks").glob("*.ipynb")):
        mine, original = work / notebook.name, work / ".originals" / notebook.name
        if not mine.exists():
            original.parent.mkdir(exist_ok=True)
            _copy(notebook, original)
            _copy(notebook, mine)
        elif not original.exists() or original.read_bytes() != notebook.read_bytes():
            changed.append(notebook.name)
    return changed


def _copy(source: Path, target: Path) -> None:
    """The whole file or none: half of one, on a full disk or after a kill, would never be written over."""
    temporary = target.with_name(f".{target.name}.tmp")
    shutil.copyfile(source, temporary)
    os.replace(temporary, target)


def ask_nothing(prefix: Path) -> None:
    """Write JupyterLab's settings into an environment, unless it has some or is another's: no question about news."""
    settings = prefix / "share" / "jupyter" / "lab" / "settings" / "overrides.json"
    with suppress(OSError):
        if not settings.exists():
            settings.parent.mkdir(parents=True, exist_ok=True)
            settings.write_text(json.dumps({NEWS: {"fetchNews": "false"}}) + "\n", encoding="utf-8")


def main() -> int:
    try:
        changed = copy_notebooks()
    except OSError as error:
        print(f"error: the notebooks cannot be copied to {ROOT / 'work'}: {error}", file=sys.stderr)
        return 2
    print("You work in copies, in work/; they are never written over.")
    for name in changed:
        print(f"{name} has changed since you copied it; to have the new one, rename work/{name} and start again.")
    ask_nothing(Path(sys.prefix))
    return 0


if __name__ == "__main__":
    sys.exit(main())
