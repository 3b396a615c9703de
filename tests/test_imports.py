"""The library's modules import one another in one direction only."""

import ast
from pathlib import Path

import pytest

LIBRARY = Path(__file__).parent.parent / "qdm_lib"
# A module may import those that stand before it in the chain, and the ones listed with it.
ALLOWED = {
    "files": set(),
    "device": set(),
    "circuits": set(),
    "from_pennylane": {"circuits"},
    "simulator": {"circuits"},
    "engine_plan": {"circuits"},
    "engine_cost": {"circuits", "engine_plan"},
    "engine_explain": {"circuits", "engine_plan", "engine_cost"},
    "engine_matrices": {"circuits", "simulator", "engine_plan"},
    "engine_parts": {"circuits", "simulator", "engine_plan", "engine_matrices"},
    "engine_contraction": {"engine_plan"},
    "engine_chain": {"engine_plan", "engine_matrices", "engine_parts", "engine_contraction"},
    "engine": {"circuits", "engine_matrices", "engine_parts", "engine_chain", "engine_cost", "engine_explain"},
    "quantum": {"circuits", "simulator", "engine"},
    "fused": set(),
    "blocks": {"circuits", "simulator", "quantum", "fused"},
    "controls": {"circuits", "quantum"},
    "unet": {"circuits", "quantum", "blocks", "controls"},
    "audit": {"circuits", "simulator", "quantum", "blocks", "unet"},
    "transfer": set(),
    "checkpoint": {"files", "unet", "transfer"},
    "diffusion": {"device"},
    "training": {"diffusion", "transfer"},
    "data": set(),
    "extractors": {"device"},
    "metrics": {"extractors"},
}
FACES = {"__main__", "cli", "experiment_cli", "runs", "demo", "app"}  # and every plotting… and …widget… module
LAZY = {("circuits", "from_pennylane")}  # inside a function, so that circuits itself needs no PennyLane


def local_imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("qdm_lib"):
            parts = node.module.split(".")
            found |= {parts[1]} if len(parts) > 1 else {alias.name for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {alias.name.split(".")[1] for alias in node.names if alias.name.startswith("qdm_lib.")}
    return found


@pytest.mark.parametrize("module", sorted(ALLOWED))
def test_imports_point_one_way(module):
    found = {name for name in local_imports(LIBRARY / f"{module}.py") if (module, name) not in LAZY}
    assert found <= ALLOWED[module], f"{module} imports {sorted(found - ALLOWED[module])}"


def test_nobody_imports_the_figures_but_the_faces():
    """plotting and widgets read the library; only the command line and each other read them."""
    faces = {path.stem for path in LIBRARY.glob("*.py") if "plotting" in path.stem or "widget" in path.stem}
    for path in LIBRARY.glob("*.py"):
        if path.stem not in FACES | faces:
            assert not local_imports(path) & (faces | {"cli", "audit"}), path.name


def test_circuits_load_without_torch_or_pennylane():
    top = [
        n for n in ast.parse((LIBRARY / "circuits.py").read_text()).body if isinstance(n, ast.Import | ast.ImportFrom)
    ]
    names = {getattr(n, "module", None) or n.names[0].name for n in top}
    assert names == {"math", "collections.abc", "dataclasses"}
