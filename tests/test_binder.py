"""The files for mybinder.org: what repo2docker would take from them, and what its two scripts do.

A live launch needs the repository at a public address and is not tested here.
"""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from jupyter_server.services.kernels.kernelmanager import MappingKernelManager

from qdm_course.warm import kernel_spec

ROOT = Path(__file__).resolve().parent.parent
BINDER = ROOT / "binder"


def requirements() -> dict[str, str]:
    """The lower bounds of what the library, the course and the study need."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    lines = [*project["dependencies"], *extras["course"], *extras["inception"], *extras["study"]]
    return dict(re.fullmatch(r"([\w.-]+)>=([\d.]+)", line).groups() for line in lines)


def test_one_folder_with_the_three_files():
    assert not (ROOT / ".binder").exists()  # repo2docker takes one of the two
    assert {p.name for p in BINDER.iterdir()} == {"environment.yml", "postBuild", "start"}
    for name in ("environment.yml", "Dockerfile", "runtime.txt", "apt.txt", "setup.py", "Pipfile"):
        assert not (ROOT / name).exists()  # at the top they would be read instead


def test_environment_pins_python_and_matches_the_requirements():
    text = (BINDER / "environment.yml").read_text()
    assert re.search(r"^  - python=3\.1[1-9]$", text, re.M)
    assert "cuda" not in text.lower().replace("without cuda", "") and "- pytorch-cpu" in text
    assert not re.search(r"-(e|r|c) ", text)  # such a line would cost the cache of the layers
    found = dict(re.findall(r"- ([\w-]+)>=([\d.]+)$", text, re.M))
    for name, version in requirements().items():
        conda = {"torch": "pytorch-cpu", "matplotlib": "matplotlib-base"}.get(name, name)
        if conda != "scipy":
            assert found.pop(conda) == version, name
    assert not found


@pytest.mark.parametrize("name", ["postBuild", "start"])
def test_scripts_can_run(name):
    path = BINDER / name
    assert os.access(path, os.X_OK) and path.read_text().startswith("#!/bin/bash\n")
    listed = subprocess.run(["git", "ls-files", "-s", path], cwd=ROOT, capture_output=True, text=True)
    assert not listed.stdout or listed.stdout.startswith("100755")  # in the repository too
    subprocess.run(["bash", "-n", path], check=True)


def start(*command, socket):
    """What binder/start does with a command (exit code, output); what it leaves behind is ended. python is ours."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    env = os.environ | {"PATH": path, "QDM_WARM_SOCKET": str(socket), "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [BINDER / "start", *command], env=env, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        return process.wait(timeout=180), process.stdout.read()
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.stdout.close()


def test_start_sets_binders_size_and_becomes_the_command(tmp_path):
    assert (BINDER / "start").read_text().rstrip().endswith('exec "$@"')
    assert start("printenv", "QDM_SIZE", socket=tmp_path / "warm.sock") == (0, "binder\n")
    assert start("sh", "-c", "exit 7", socket=tmp_path / "warm.sock")[0] == 7


def test_start_leaves_a_warm_process_behind(tmp_path):
    """The command meets the socket that kernels ask at; test_warm.py shows what they get."""
    wait = f"for i in $(seq 1500); do [ -S {tmp_path}/warm.sock ] && exit 0; sleep 0.1; done; exit 1"
    assert start("bash", "-c", wait, socket=tmp_path / "warm.sock")[0] == 0


@pytest.fixture
def stubs(tmp_path):
    """A pip and a python that note how they were called; python answers for sys.prefix."""
    (tmp_path / "bin").mkdir()
    for name, answer in (
        ("pip", "exit ${PIP_CODE:-0}"),
        ("python", 'case "$2" in *sys.prefix*) echo "$STUBS/prefix";; *) exec "$PYTHON" "$@";; esac'),
    ):
        path = tmp_path / "bin" / name
        path.write_text(f'#!/bin/bash\necho "{name} $@" >> "$STUBS/calls"\n{answer}\n')
        path.chmod(0o755)
    return tmp_path


def build(stubs, **more):
    env = {"PATH": f"{stubs / 'bin'}:{os.environ['PATH']}", "STUBS": str(stubs), "PYTHON": sys.executable, **more}
    return subprocess.run([BINDER / "postBuild"], cwd=ROOT, env=env, capture_output=True, text=True)


def test_post_build_installs_the_package_alone_and_opens_the_first_notebook(stubs):
    assert build(stubs).returncode == 0
    assert (stubs / "calls").read_text().splitlines()[0] == "pip install --no-deps -e ."
    config = json.loads((stubs / "prefix/etc/jupyter/jupyter_server_config.d/qdm.json").read_text())
    notebook = config["ServerApp"]["default_url"].removeprefix("/lab/tree/")
    assert (ROOT / notebook).exists()
    culling = config["MappingKernelManager"]  # one notebook after the other would fill the memory with idle kernels
    assert culling == {"cull_idle_timeout": 900, "cull_interval": 60, "cull_connected": True}
    assert set(culling) <= set(MappingKernelManager.class_traits())
    json.loads((stubs / "prefix/share/jupyter/lab/settings/overrides.json").read_text())
    kernel = json.loads((stubs / "prefix/share/jupyter/kernels/python3/kernel.json").read_text())
    assert kernel == kernel_spec()


def test_post_build_stops_at_the_first_error(stubs):
    assert build(stubs, PIP_CODE="3").returncode == 3
    assert len((stubs / "calls").read_text().splitlines()) == 1


def test_repo2docker_reads_it_that_way():
    """The image that repo2docker would build, without building it."""
    pytest.importorskip("repo2docker", reason="jupyter-repo2docker is not installed (requirements-dev.txt)")
    command = [sys.executable, "-m", "repo2docker", "--no-build", "--debug", "."]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    text = done.stdout + done.stderr
    assert done.returncode == 0, text[-1000:]
    assert (
        "for python=3.12" in text
        and "binder/environment.yml" in text
        and "chmod +x binder/postBuild" in text
        and "binder/start" in text
    )
