"""One run on two CPU processes: the losses of a single process at the same global batch."""

import os
import subprocess
import sys

import pytest
import torch

from qdm_lib.checkpoint import load_checkpoint
from qdm_lib.cli.commands import main
from qdm_lib.runs.distributed import Processes, launched_processes
from qdm_lib.runs.run import read_losses

pytest.importorskip("accelerate", reason="accelerate is not installed (requirements-dev.txt)")
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "QDM_DATA_DIR": "/nowhere", "CUDA_VISIBLE_DEVICES": ""}


SMALL = ["train", "--preset", "1hqconv", "--batch-size", "8", "--device", "cpu"]


def train_by_two(*options: str) -> None:
    """The command line, started as torchrun starts it; Accelerate was told a precision that it shall not take."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "qdm_lib"]
    told = ENVIRONMENT | {"ACCELERATE_MIXED_PRECISION": "bf16"}
    done = subprocess.run([*launcher, *SMALL, *options], env=told, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr[-2000:]


def test_two_processes_make_the_run_of_one(tmp_path, monkeypatch):
    monkeypatch.setenv("QDM_DATA_DIR", ENVIRONMENT["QDM_DATA_DIR"])
    assert main([*SMALL, "--steps", "6", "--out", str(tmp_path / "one")]) == 0
    train_by_two("--steps", "4", "--out", str(tmp_path / "two"))
    train_by_two("--steps", "6", "--out", str(tmp_path / "two"), "--resume")
    (steps, one), (also, two) = read_losses(tmp_path / "one"), read_losses(tmp_path / "two")
    assert steps == also == [1, 2, 3, 4, 5, 6]
    assert two == pytest.approx(one, rel=1e-4) and len(set(one)) == 6
    a, b = (load_checkpoint(tmp_path / name) for name in ("one", "two"))
    assert a.run_config == b.run_config and torch.equal(a.rng["noise"], b.rng["noise"])
    assert all(torch.allclose(a.ema[k], b.ema[k], atol=2e-3) for k in a.ema)


def test_precision_is_that_of_one_process_whatever_accelerate_was_told(monkeypatch):
    """From accelerate launch, or the user's file of settings, came bfloat16 that no run had asked for."""
    told = {}
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr("accelerate.Accelerator", lambda **options: told.update(options) or FirstOfTwo)
    assert launched_processes("cpu").size == 2 and told == {"cpu": True, "mixed_precision": "no"}


class FirstOfTwo:
    process_index, num_processes, device, is_main_process = 0, 2, "cpu", True


def test_rows_are_shared_equally():
    class Two:
        process_index, num_processes, device, is_main_process = 1, 2, "cpu", False

    assert Processes(Two()).share(torch.arange(6))[0].tolist() == [1, 3, 5]
    with pytest.raises(ValueError, match="2 processes cannot share a batch of 5 images equally"):
        Processes(Two()).share(torch.arange(5))


def test_a_program_that_stands_alone_has_no_processes(monkeypatch, capsys):
    for name in ("WORLD_SIZE", "ACCELERATE_MIXED_PRECISION", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    assert launched_processes() is None and capsys.readouterr().err == ""
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "no")  # accelerate launch --num_processes 1
    assert launched_processes() is None and capsys.readouterr().err == ""


@pytest.mark.parametrize(("asked", "told"), [("1", 0), ("2", 1)])
def test_one_process_where_accelerate_was_asked_for_two_is_told(asked, told, monkeypatch, capsys):
    """On a CPU `accelerate launch` starts one command in this environment, whatever the number of processes."""
    from accelerate.commands.launch import launch_command_parser
    from accelerate.utils.launch import prepare_simple_launcher_cmd_env

    options = f"--cpu --num_processes {asked} --num_machines 1 --mixed_precision no --dynamo_backend no train.py"
    arguments = launch_command_parser().parse_args(options.split())
    arguments.num_cpu_threads_per_process = 1
    _, environment = prepare_simple_launcher_cmd_env(arguments)
    monkeypatch.setattr(os, "environ", environment)
    assert launched_processes() is None
    assert capsys.readouterr().err.count("asked for several processes and started one") == told
