"""What make does before it installs anything; pip and JupyterLab are stand-ins that note how they were called."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tools"))
import lab  # noqa: E402

PYTHON = """#!/bin/bash
echo "$0 $@" >> "{calls}"
case "$1 $2" in
"-c import sys; print"*) echo {version}; exit {code};;
"--version "*) echo "Python {version}.1";;
"-m venv") mkdir -p "$3/bin"; cp "$0" "$3/bin/python"; cp "$0" "$3/bin/jupyter"; cp "$0" "$3/bin/voila";;
esac
"""

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="there is no make here")


@pytest.fixture
def clone(tmp_path):
    """A folder with the Makefile and what its rules look at."""
    for name in ("Makefile", "requirements.txt", "requirements-dev.txt", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


def python(folder: Path, version: str) -> Path:
    """A stand-in for an interpreter of this version, which makes environments of its own kind."""
    path = folder / f"python{version}"
    code = int(tuple(map(int, version.split("."))) < (3, 11))
    path.write_text(PYTHON.format(calls=folder / "calls", version=version, code=code))
    path.chmod(0o755)
    return path


def make(folder: Path, target: str, version: str) -> subprocess.CompletedProcess:
    command = ["make", target, f"PYTHON={python(folder, version)}"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True)


def calls(folder: Path) -> str:
    return (folder / "calls").read_text()


@pytest.mark.parametrize("version", ["3.10", "3.9", "2.7"])
@pytest.mark.parametrize("target", ["demo", "lab", "test"])
def test_an_old_python_is_refused_before_anything_is_made(version, target, clone):
    done = make(clone, target, version)
    assert done.returncode != 0 and not (clone / ".venv").exists()
    assert f"needs Python 3.11 or newer, and {clone}/python{version} is Python {version}.1" in done.stderr
    assert f"make {target} PYTHON=python3.12" in done.stderr
    assert "pip" not in calls(clone)


def test_a_python_that_is_not_there_is_refused_too(clone):
    done = subprocess.run(["make", "demo", "PYTHON=no-such-python"], cwd=clone, capture_output=True, text=True)
    assert done.returncode != 0 and "needs Python 3.11 or newer" in done.stderr and not (clone / ".venv").exists()


@pytest.mark.parametrize("old", ["3.10", "3.11"])
def test_an_environment_of_another_version_is_made_anew(old, clone):
    (clone / ".venv" / "bin").mkdir(parents=True)
    python(clone, old).rename(clone / ".venv" / "bin" / "python")
    (clone / ".venv" / "mine").touch()
    assert make(clone, "demo", "3.12").returncode == 0
    assert not (clone / ".venv" / "mine").exists()
    assert "-m venv" in calls(clone) and "-m qdm_lib demo" in calls(clone)


def test_an_environment_of_the_same_version_stays(clone):
    assert make(clone, "demo", "3.12").returncode == 0
    (clone / ".venv" / "mine").touch()
    (clone / ".venv" / "user").unlink()
    assert make(clone, "demo", "3.12").returncode == 0
    assert (clone / ".venv" / "mine").exists() and calls(clone).count("-m venv") == 1


# ------------------------------------------------------------------------------------------- make lab


def test_lab_opens_the_first_notebook_of_the_copy(clone):
    assert make(clone, "lab", "3.12").returncode == 0
    said = calls(clone).splitlines()
    assert said[-2].endswith("tools/lab.py")
    url = said[-1].partition("--LabApp.default_url=")[2]
    assert url == "/lab/tree/work/00_welcome.ipynb" and (ROOT / "notebooks" / Path(url).name).is_file()
    assert "--ServerApp.root_dir=." in said[-1]  # README and docs are in sight


def test_work_survives_an_update(tmp_path):
    (tmp_path / "notebooks").mkdir()
    for name in ("00_a", "01_b"):
        (tmp_path / "notebooks" / f"{name}.ipynb").write_text("first edition")
    assert lab.copy_notebooks(tmp_path) == []
    mine = tmp_path / "work" / "00_a.ipynb"
    mine.write_text("my answers")
    assert lab.copy_notebooks(tmp_path) == [] and mine.read_text() == "my answers"

    (tmp_path / "notebooks" / "00_a.ipynb").write_text("second edition")  # git pull
    (tmp_path / "notebooks" / "02_c.ipynb").write_text("new")
    assert lab.copy_notebooks(tmp_path) == ["00_a.ipynb"]
    assert mine.read_text() == "my answers" and (tmp_path / "work" / "02_c.ipynb").read_text() == "new"

    mine.rename(tmp_path / "work" / "00_a-mine.ipynb")  # as it advises
    assert lab.copy_notebooks(tmp_path) == []
    assert mine.read_text() == "second edition" and (tmp_path / "work" / "00_a-mine.ipynb").read_text() == "my answers"


@pytest.mark.parametrize("dies_at", [1, 2, 3, 4])
def test_a_copy_that_is_cut_off_is_made_again(dies_at, tmp_path, monkeypatch):
    """Half a notebook, left by a kill or a full disk, stayed for good: what lies in work/ is not written over."""
    (tmp_path / "notebooks").mkdir()
    for name in ("00_a", "01_b"):
        (tmp_path / "notebooks" / f"{name}.ipynb").write_text("a whole notebook")
    copied = []

    def cut_off(source, target):
        copied.append(target)
        target.write_text(source.read_text()[: 7 if len(copied) == dies_at else None])
        if len(copied) == dies_at:
            raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(lab.shutil, "copyfile", cut_off)
        with pytest.raises(OSError, match="No space"):
            lab.copy_notebooks(tmp_path)
    lab.copy_notebooks(tmp_path)
    for name in ("00_a", "01_b", ".originals/00_a", ".originals/01_b"):
        assert (tmp_path / "work" / f"{name}.ipynb").read_text() == "a whole notebook"


def test_a_place_that_cannot_be_written_is_one_line(tmp_path, monkeypatch, capsys):
    (tmp_path / "work").write_text("a file in its place")
    monkeypatch.setattr(lab, "ROOT", tmp_path)
    monkeypatch.setattr(lab.copy_notebooks, "__defaults__", (tmp_path,))
    assert lab.main() == 2
    assert "error: the notebooks cannot be copied to" in capsys.readouterr().err
    (tmp_path / "share").touch()
    lab.ask_nothing(tmp_path)  # an environment of somebody else: news may be asked about, that is all


def test_the_copy_is_not_tracked():
    ignored = subprocess.run(["git", "check-ignore", "-q", "work/00_welcome.ipynb"], cwd=ROOT)
    assert ignored.returncode in (0, 128)  # 128: no clone, as in a downloaded archive


def test_no_question_about_news_and_own_settings_stay(tmp_path):
    lab.ask_nothing(tmp_path)
    file = tmp_path / "share" / "jupyter" / "lab" / "settings" / "overrides.json"
    assert json.loads(file.read_text()) == {lab.NEWS: {"fetchNews": "false"}}
    file.write_text("{}")
    lab.ask_nothing(tmp_path)
    assert file.read_text() == "{}"
