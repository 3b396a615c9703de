"""The package: what it says of itself, what it needs, and that every place with the address or a version agrees."""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from pathlib import Path

import jupytext
import pytest

import qdm_lib
from qdm_lib.checkpoint import load_model
from qdm_lib.cli.commands import main

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
sys.path.insert(0, str(ROOT / "tools"))
import lock  # noqa: E402
import set_address  # noqa: E402


def names(lines: list[str]) -> set[str]:
    return {re.match(r"[\w-]+", line)[0] for line in lines}


def third_party(path: Path) -> set[str]:
    """The packages that a file imports, anywhere in it."""
    modules = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            modules.add(node.module)
    own = {"qdm_lib", "qdm_course", "study", *sys.stdlib_module_names}
    return {module.split(".")[0] for module in modules} - own


def test_the_library_imports_no_more_than_it_depends_on():
    used = {}
    for path in sorted((ROOT / "qdm_lib").rglob("*.py")):
        for package in third_party(path):
            used.setdefault(package, set()).add(path.relative_to(ROOT / "qdm_lib").parts[0])
    beyond = {package: where for package, where in used.items() if package not in names(PROJECT["dependencies"])}
    assert beyond.pop("accelerate") == {"runs"}  # several processes; its absence is an error of one line
    assert beyond.pop("torch_fidelity", {"features.py"}) == {"features.py"}
    beyond.pop("PIL", None)  # comes with matplotlib and torchvision
    assert beyond == {"IPython": {"plots"}}, beyond  # where a figure is shown in a notebook


def test_every_dependency_is_used():
    used = set().union(*map(third_party, (ROOT / "qdm_lib").rglob("*.py")))
    assert names(PROJECT["dependencies"]) <= used


def test_the_command_line_loads_nothing_of_the_course():
    code = (
        "import sys; from qdm_lib.cli.commands import main; main(['draw', 'hqconv', '--layers', '1']);"
        "sys.exit(', '.join({'IPython', 'ipywidgets', 'torch_fidelity', 'jupyterlab'} & set(sys.modules)) or None)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_requirements_are_the_extras_of_the_package():
    for name in ("requirements.txt", "requirements-dev.txt"):
        lines = [line for line in (ROOT / name).read_text().splitlines() if line and line[0] != "#"]
        assert len(lines) == 1
        assert set(re.fullmatch(r"-e \.\[([\w,]+)\]", lines[0])[1].split(",")) <= set(EXTRAS)


def test_licence_and_addresses_are_in_the_metadata():
    assert isinstance(PROJECT["license"], str)  # SPDX; a table stops building in 2027
    assert set(re.split(r" AND ", PROJECT["license"])) == {"MIT", "CC-BY-SA-3.0"}
    assert all((ROOT / name).is_file() for name in PROJECT["license-files"])
    assert "CC BY-SA 3.0" in (ROOT / "qdm_lib" / "assets" / "README.md").read_text(encoding="utf-8")
    assert PROJECT["authors"] and "Repository" in PROJECT["urls"]


# ------------------------------------------------------------------------------------------------ versions


def test_version_is_printed(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"qdm_lib {qdm_lib.__version__}\n"


def test_changelog_begins_with_this_version_and_the_citation_is_of_the_last_release():
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    sections = re.findall(r"^## ([\d.]+) \((.+)\)$", text, re.M)
    assert sections[0][0] == qdm_lib.__version__.partition(".dev")[0]
    assert (sections[0][1] == "not released yet") == (".dev" in qdm_lib.__version__)
    released = next(version for version, when in sections if when != "not released yet")
    assert f"\nversion: {released}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")


# ------------------------------------------------------------------------------------------------ the address


@pytest.fixture
def clone(tmp_path):
    for path in [ROOT / "pyproject.toml", *set_address.places()]:
        target = tmp_path / path.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    return tmp_path


def test_every_place_has_the_address_of_pyproject(capsys):
    assert set_address.main(["--check"]) == 0, "run tools/set_address.py"


def test_one_line_changes_every_place_and_back(clone, capsys):
    before = {path: path.read_text(encoding="utf-8") for path in set_address.places(clone)}
    project = (clone / "pyproject.toml").read_text(encoding="utf-8")
    url = set_address.address(clone)
    assert project.count(url) == 1
    (clone / "pyproject.toml").write_text(project.replace(url, "https://github.com/ada/qdm-course"), encoding="utf-8")
    assert set_address.main(["--check"], clone) == 1
    assert {path: path.read_text(encoding="utf-8") for path in before} == before
    assert set_address.main([], clone) == 0 and set_address.main(["--check"], clone) == 0
    readme = (clone / "README.md").read_text(encoding="utf-8")
    for where, n in (("mybinder.org/v2/gh", 10), ("colab.research.google.com/github", 10), ("codespaces.new", 1)):
        links = re.findall(re.escape(where) + r"/([\w.-]+/[\w.-]+)", readme)
        assert len(links) == n and set(links) == {"ada/qdm-course"}
    assert 'repository-code: "https://github.com/ada/qdm-course"\n' in (clone / "CITATION.cff").read_text()
    for path in before:  # nothing of the old address is left in what somebody follows
        assert (
            path.suffix != ".py" or path.read_text(encoding="utf-8").count('"https://github.com/ada/qdm-course"') == 1
        )
    (clone / "pyproject.toml").write_text(project, encoding="utf-8")
    assert set_address.main([], clone) == 0
    assert {path: path.read_text(encoding="utf-8") for path in before} == before


def test_the_links_of_the_readme_open_the_notebook_of_their_row():
    rows = re.findall(r"^\| \[(\d\d_\w+)\]\((\S+)\) .*$", (ROOT / "README.md").read_text(encoding="utf-8"), re.M)
    lines = [line for line in (ROOT / "README.md").read_text(encoding="utf-8").splitlines() if "mybinder" in line]
    assert len(rows) == len(lines) == 10
    for (name, path), line in zip(rows, lines, strict=True):
        assert path == f"notebooks/{name}.ipynb" and (ROOT / path).is_file()
        assert f"?urlpath=lab%2Ftree%2Fnotebooks%2F{name}.ipynb)" in line and f"/blob/main/{path})" in line


COLAB = """
import os, subprocess, sys, types
sys.modules["google.colab"] = types.ModuleType("google.colab")
subprocess.run = lambda command, check: print(*command)
os.chdir = lambda folder: print("now in", folder)
path = list(sys.path)
exec(open(sys.argv[1]).read())
print([entry for entry in sys.path if entry not in path])
"""


def test_the_first_cell_of_every_notebook_fetches_the_course_on_colab_and_is_still_elsewhere(tmp_path):
    """Colab is faked here: what the cell would run there. It was not tried live."""
    cells = set()
    for source in sorted((ROOT / "notebooks" / "src").glob("*.py")):
        code = [cell for cell in jupytext.read(source).cells if cell.cell_type == "code"]
        cells.add(code[0].source)
    (cell,) = cells  # the same one everywhere
    (tmp_path / "cell.py").write_text(cell)
    quiet = {"capture_output": True, "text": True, "check": True}
    assert subprocess.run([sys.executable, tmp_path / "cell.py"], **quiet).stdout == ""
    said = subprocess.run([sys.executable, "-c", COLAB, tmp_path / "cell.py"], **quiet).stdout.splitlines()
    assert said[0] == f"git clone --depth 1 {set_address.address()} /content/qdm-course"
    assert said[1].endswith("-m pip install --quiet -e /content/qdm-course")
    assert said[2:] == ["now in /content/qdm-course/notebooks", "['/content/qdm-course']"]


@pytest.mark.parametrize(
    "url", ["", "OWNER/REPO", "http://github.com/a/b", "https://github.com/a", "https://x.org/a/b"]
)
def test_an_address_that_makes_no_link_is_refused(url, clone):
    text = (clone / "pyproject.toml").read_text(encoding="utf-8")
    (clone / "pyproject.toml").write_text(text.replace(set_address.address(clone), url), encoding="utf-8")
    with pytest.raises(ValueError, match="must be https://github.com/OWNER/REPO"):
        set_address.main([], clone)


# ------------------------------------------------------------------------------------- what is loaded, what is locked


def test_nothing_heavy_is_loaded_before_it_is_used():
    """A kernel that draws no circuit by PennyLane and computes no FID does not pay for them: 80 and 160 MB."""
    parts = ["unet", "quantum", "training", "diffusion", "data", "checkpoint", "metrics", "features", "plots", "runs"]
    heavy = ["pennylane", "torchmetrics", "torchvision", "torch_fidelity", "scipy.stats", "torch._dynamo", "IPython"]
    code = (
        f"import importlib, sys; [importlib.import_module('qdm_lib.' + part) for part in {parts}];"
        f"sys.exit(', '.join(set({heavy}) & set(sys.modules)) or None)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_lock_holds_all_that_is_needed_within_its_bounds():
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if line[0] != "#"]
    versions = dict(line.split("==") for line in lines)
    assert list(versions) == sorted(versions)
    for requirement in lock.wanted():
        assert requirement.specifier.contains(versions[requirement.name]), requirement
    assert {"markupsafe", "ipykernel", "sympy", "traitlets"} <= set(versions)  # also what nobody asked for by name
    assert not [name for name in versions if name.startswith(lock.LEFT_OUT)]
    assert all(re.fullmatch(r"[\w.]+", version) for version in versions.values())  # no +cpu, which PyPI does not have


def test_a_lock_is_not_made_of_an_environment_that_does_not_fit():
    with pytest.raises(LookupError, match="numpy>=9999 is asked for"):
        lock.locked([lock.Requirement("numpy>=9999")])
    with pytest.raises(LookupError, match="no-such-package is not installed"):
        lock.locked([lock.Requirement("no-such-package")])


def test_the_dev_container_installs_what_is_required():
    command = json.loads((ROOT / ".devcontainer" / "devcontainer.json").read_text())["postCreateCommand"]
    assert command.endswith("pip install -r requirements.txt")
    cpu = command.partition(" && ")[0]
    assert "whl/cpu" in cpu and {"torch", "torchvision"} <= set(cpu.split())  # from one index, both


# ------------------------------------------------------------------------------------------------ the wheel


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The folder of programs of a fresh environment that holds the built wheel; what it needs is borrowed from here."""
    folder = tmp_path_factory.mktemp("wheel")
    left_out = shutil.ignore_patterns(".*", "build", "*.egg-info", "__pycache__", "notebooks", "study", "_site")
    clone = shutil.copytree(ROOT, folder / "clone", ignore=left_out)  # building leaves files behind
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    quiet = {"check": True, "capture_output": True, "text": True, "timeout": 300, "env": clean}
    options = ["--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*pip, "wheel", *options, "-w", folder / "dist", "."], cwd=clone, **quiet)
    shutil.rmtree(clone)
    (wheel,) = (folder / "dist").glob("*.whl")
    with zipfile.ZipFile(wheel) as files:
        sizes = {info.filename: info.compress_size for info in files.infolist()}
    models = {name for name in sizes if name.startswith("qdm_lib/checkpoints/")}  # with what is said and shown of them
    assert max(sizes[name] for name in models) < 2e6 and sum(sizes.values()) - sum(map(sizes.get, models)) < 4e6
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "venv"], **quiet)
    programs = folder / "venv" / ("Scripts" if sys.platform == "win32" else "bin")
    python = programs / Path(sys.executable).name
    subprocess.run([*pip, "--python", python, "install", "--no-deps", "--no-index", wheel], **quiet)
    ask = "import sysconfig; print(sysconfig.get_path('purelib'))"
    packages = subprocess.run([python, "-c", ask], **quiet).stdout.strip()
    # A folder named in a .pth is searched last, and the .pth files in it, an editable install of ours, are not read.
    Path(packages, "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return programs


def run_installed(installed: Path, folder: Path, program: str, *arguments: str) -> str:
    """What a program of that environment prints, in a folder outside the clone."""
    clean = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "QDM_DATA_DIR")}
    clean |= {"OMP_NUM_THREADS": "1", "HOME": str(folder)}
    done = subprocess.run([installed / program, *arguments], cwd=folder, env=clean, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_wheel_has_every_shipped_model_with_the_same_weights(installed, tmp_path):
    code = """
import json, pathlib, qdm_lib
from qdm_lib.checkpoint import SHIPPED, load_pretrained
folders = sorted(path.parent for path in SHIPPED.glob("*/*/model.safetensors"))
sums = {path.relative_to(SHIPPED).as_posix(): sum(
    p.double().sum().item() for p in load_pretrained(path.relative_to(SHIPPED).as_posix()).parameters()
) for path in folders}
print(json.dumps([str(pathlib.Path(qdm_lib.__file__).parent), str(SHIPPED), sums]))
"""
    package, shipped, sums = json.loads(run_installed(installed, tmp_path, "python", "-c", code))
    assert Path(shipped) == Path(package) / "checkpoints" and ROOT not in Path(package).parents
    here = [path.parent for path in (ROOT / "checkpoints").glob("*/*/model.safetensors")]
    assert set(sums) == {path.relative_to(ROOT / "checkpoints").as_posix() for path in here}
    for path in here:
        mine = sum(p.double().sum().item() for p in load_model(path).parameters())
        assert sums[path.relative_to(ROOT / "checkpoints").as_posix()] == mine


def test_the_widget_finds_the_wheels_models(installed, tmp_path):
    code = """
from qdm_course.widgets import hybridization
for dataset in ("fashion-mnist", "mnist"):
    columns = hybridization(dataset=dataset).columns
    print(sum(bool(column.pictures[0].png) and "FID" in column.numbers.value for column in columns))
"""
    assert min(map(int, run_installed(installed, tmp_path, "python", "-c", code).split())) >= 3


def test_the_wheel_runs_from_the_command_line(installed, tmp_path):
    assert run_installed(installed, tmp_path, "qdm", "--version") == f"qdm_lib {qdm_lib.__version__}\n"
    name = ["--checkpoint", "fashion-mnist/1hqconv"]
    run_installed(installed, tmp_path, "qdm", "sample", *name, "--n", "1", "--steps", "2", "--out", "mine.png")
    assert (tmp_path / "mine.png").read_bytes().startswith(b"\x89PNG")
    small = ["--steps", "1", "--n", "2", "--sampler-steps", "2", "--batch-size", "2"]
    run_installed(installed, tmp_path, "qdm", "demo", *small)
    assert {"samples.png", "loss.png", "scores.json"} <= {path.name for path in (tmp_path / "runs" / "demo").iterdir()}
