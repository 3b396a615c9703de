"""Write constraints.txt: the exact versions of this environment, for a term in which nothing shall change.

    python tools/lock.py           # from the environment that runs it
    pip install -c constraints.txt -r requirements.txt

It holds everything that the library, the course, the scores and the study need, directly or not. NVIDIA's packages and
triton are left out: a build of torch for CUDA names its own, and one for the CPU has none.
"""

import platform
import sys
import tomllib
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[1]
EXTRAS = ("course", "inception", "study")
LEFT_OUT = ("nvidia-", "cuda-", "triton")


def wanted() -> list[Requirement]:
    """What pyproject.toml asks for."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lines = [*project["dependencies"], *(line for extra in EXTRAS for line in project["optional-dependencies"][extra])]
    return [Requirement(line) for line in lines]


def locked(requirements: list[Requirement]) -> dict[str, str]:
    """The installed version of each requirement and of all that it requires; LookupError for one that is missing."""
    found: dict[str, str] = {}
    seen: set[tuple[str, frozenset[str]]] = set()
    waiting = list(requirements)
    while waiting:
        requirement = waiting.pop()
        name, extras = canonicalize_name(requirement.name), frozenset(requirement.extras)
        if (name, extras) in seen or name.startswith(LEFT_OUT):
            continue
        seen.add((name, extras))
        try:
            package = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            raise LookupError(f"{name} is not installed here; lock an environment that runs the course.") from None
        if not requirement.specifier.contains(package.version, prereleases=True):
            raise LookupError(f"{requirement} is asked for, and {package.version} is installed.")
        found[name] = Version(package.version).public  # without +cpu
        for line in package.requires or ():
            further = Requirement(line)
            marker = further.marker
            if marker is None or any(marker.evaluate({"extra": extra}) for extra in ("", *extras)):
                waiting.append(further)
    return dict(sorted(found.items()))


def main() -> int:
    lines = [f"{name}=={version}" for name, version in locked(wanted()).items()]
    about = f"# Made by tools/lock.py with Python {platform.python_version()} on {platform.system()}; do not edit.\n"
    (ROOT / "constraints.txt").write_text(about + "\n".join(lines) + "\n", encoding="utf-8")
    print(f"constraints.txt: {len(lines)} packages")
    return 0


if __name__ == "__main__":
    sys.exit(main())
