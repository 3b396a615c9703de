"""The house: who may import whom. A folder is one room; every file of the library and beside it has its floor."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LIBRARY = ROOT / "qdm_lib"
FLOORS = [  # a room imports from lower floors only
    "checks transfer statistics",
    "circuits files machine paper",
    "simulator from_pennylane diffusion features data checkpoint_v1",
    "engine metrics training to_pennylane restoring",
    "quantum",
    "blocks controls",
    "unet",
    "audit checkpoint",
    "plots runs",
    "cli study course labs",
]
FLOOR = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms.split()}
BESIDE = {"study": "study", "qdm_course": "course", "qdm_labs": "labs"}  # packages that stand on the library
FILES = sorted([*LIBRARY.rglob("*.py"), *(path for package in BESIDE for path in (ROOT / package).rglob("*.py"))])
FILES = [path for path in FILES if "benchmarks" not in path.parts]  # scripts: no package imports them
OURS = ("qdm_lib", *BESIDE)
LAZY = {("circuits", "from_pennylane"), ("cli", "study")}  # inside a function, where the caller asks for it
DOORS = ("engine", "plots", "runs", "cli")


def room_of(path: Path) -> str:
    """qdm_lib/engine/plan.py → engine, qdm_lib/unet.py → unet, study/run.py → study."""
    inside = path.relative_to(ROOT).parts
    return BESIDE.get(inside[0]) or inside[1].removesuffix(".py")


def imports(path: Path):
    """(module, names) of every import of the library's or the study's own, also of those inside functions."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in OURS:
            yield node.module, [alias.name for alias in node.names]
        elif isinstance(node, ast.Import):
            yield from ((alias.name, []) for alias in node.names if alias.name.split(".")[0] in OURS)


def rooms_imported(path: Path) -> set[str]:
    found = set()
    for module, names in imports(path):
        parts = module.split(".")
        found |= {BESIDE[parts[0]]} if parts[0] in BESIDE else {parts[1]} if len(parts) > 1 else set(names)
    return found - {"__version__", "__file__"}


def test_every_room_has_a_floor_and_there_are_at_most_ten():
    rooms = {room_of(path) for path in FILES} - {"__init__", "__main__"}
    assert rooms == set(FLOOR) and len(FLOORS) <= 10


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_imports_go_down(path):
    here = room_of(path)
    if here in ("__init__", "__main__"):
        return
    for there in rooms_imported(path) - {here}:
        assert FLOOR[there] < FLOOR[here] or (here, there) in LAZY, f"{here} takes {there} from above or beside"


def test_no_circles_inside_a_folder():
    """Inside a folder, too, files import one another in one direction."""
    folders = [*(LIBRARY / door for door in DOORS), *(ROOT / package for package in BESIDE)]
    for folder in [*folders, *(ROOT / "qdm_course" / room for room in ("widgets", "moving", "figures"))]:
        package = folder.relative_to(ROOT).as_posix().replace("/", ".")
        uses = {
            path.stem: {module.removeprefix(f"{package}.") for module, _ in imports(path) if module.startswith(package)}
            for path in folder.glob("*.py") if path.stem != "__init__"
        }  # fmt: skip
        while uses:
            free = [name for name, others in uses.items() if not others & set(uses)]
            assert free, f"a circle among {sorted(uses)} of {package}"
            uses = {name: others for name, others in uses.items() if name not in free}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_file_takes_a_private_name_of_another(path):
    for module, names in imports(path):
        private = [name for name in names if name.startswith("_") and not name.startswith("__")]
        assert not private, f"{private} of {module} are private"


@pytest.mark.parametrize("folder", DOORS)
def test_a_folder_says_what_it_is_and_has_one_door(folder):
    """From outside, a folder's names come from the folder; its files are its own business."""
    assert ast.get_docstring(ast.parse((LIBRARY / folder / "__init__.py").read_text(encoding="utf-8")))
    for path in FILES:
        if room_of(path) not in (folder, "__init__"):
            behind = [module for module, _ in imports(path) if module.startswith(f"qdm_lib.{folder}.")]
            assert not behind, f"{path.name} goes past the door of {folder}: {behind}"


def test_circuits_load_without_torch_or_pennylane():
    top = [
        n for n in ast.parse((LIBRARY / "circuits.py").read_text()).body if isinstance(n, ast.Import | ast.ImportFrom)
    ]
    names = {getattr(n, "module", None) or n.names[0].name for n in top}
    assert names == {"math", "collections.abc", "dataclasses", "qdm_lib.checks"}
