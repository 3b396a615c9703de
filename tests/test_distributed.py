"""One run on two CPU processes: the losses of a single process at the same global batch."""

import os
import socket
import subprocess
import sys

import pytest
import torch

from qdm_lib.checkpoint import load_checkpoint
from qdm_lib.distributed import Processes, launched_processes
from qdm_lib.runs import read_losses

pytest.importorskip("accelerate")
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "QDM_DATA_DIR": "/nowhere", "CUDA_VISIBLE_DEVICES": ""}


def train(out, *options: str, processes: int = 1) -> None:
    command = [
        "-m",
        "qdm_lib",
        "train",
        "--preset",
        "1hqconv",
        "--batch-size",
        "8",
        "--device",
        "cpu",
        "--out",
        str(out),
    ]
    command = [sys.executable, *command, *options]
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    started = []
    for rank in range(processes):  # what torchrun and accelerate launch set
        ranks = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(processes)}
        group = ranks | {"LOCAL_WORLD_SIZE": str(processes), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        environment = ENVIRONMENT | (group if processes > 1 else {})
        started.append(subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL))
    for one in started:
        _, errors = one.communicate(timeout=240)
        assert one.returncode == 0, errors.decode()[-2000:]


def test_two_processes_make_the_run_of_one(tmp_path):
    train(tmp_path / "one", "--steps", "6")
    train(tmp_path / "two", "--steps", "4", processes=2)
    train(tmp_path / "two", "--resume", "--steps", "6", processes=2)
    (steps, one), (also, two) = read_losses(tmp_path / "one"), read_losses(tmp_path / "two")
    assert steps == also == [1, 2, 3, 4, 5, 6]
    assert two == pytest.approx(one, rel=1e-4) and len(set(one)) == 6
    a, b = (load_checkpoint(tmp_path / name) for name in ("one", "two"))
    assert a.run_config == b.run_config and torch.equal(a.rng["noise"], b.rng["noise"])
    assert all(torch.allclose(a.ema[k], b.ema[k], atol=2e-3) for k in a.ema)


def test_rows_are_shared_equally():
    class Two:
        process_index, num_processes, device, is_main_process = 1, 2, "cpu", False

    assert Processes(Two()).share(torch.arange(6))[0].tolist() == [1, 3, 5]
    with pytest.raises(ValueError, match="2 processes cannot share a batch of 5 images equally"):
        Processes(Two()).share(torch.arange(5))


def test_a_program_that_stands_alone_has_no_processes(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert launched_processes() is None
