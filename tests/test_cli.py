"""The command line as people use it, right and wrong. `main` returns the exit code, so most tests stay in-process."""

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch

from qdm_lib import data
from qdm_lib.checkpoint import SHIPPED, load_checkpoint, load_model, save_checkpoint, save_model
from qdm_lib.cli import demo
from qdm_lib.cli.commands import main
from qdm_lib.cli.words import command
from qdm_lib.diffusion import NoiseSchedule, cosine_betas
from qdm_lib.files import locked, read_tensors, write_tensors
from qdm_lib.runs import run as runs
from qdm_lib.runs.run import RunConfig, read_losses, train_run
from qdm_lib.runs.sampling import generate
from qdm_lib.training import TrainConfig, TrainStep
from qdm_lib.unet import build_unet

ROOT = Path(__file__).resolve().parent.parent
SMALL = ["--preset", "unet", "--batch-size", "2", "--device", "cpu"]
COMMANDS = ["presets", "draw", "train", "sample", "evaluate", "demo", "download", "doctor"]


@pytest.fixture(autouse=True)
def bundled_images(monkeypatch, tmp_path):
    """Every test reads the bundled images, whatever this machine has."""
    monkeypatch.setenv("QDM_DATA_DIR", str(tmp_path / "no-data-here"))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of two steps: its folder. Tests that change it take a copy."""
    folder = tmp_path_factory.mktemp("runs") / "two"
    with pytest.MonkeyPatch.context() as patch:  # made before any test's own patch: on the bundled images too
        patch.setenv("QDM_DATA_DIR", str(folder.parent / "no-data-here"))
        assert main(["train", *SMALL, "--steps", "2", "--out", str(folder)]) == 0
    return folder


def check_error(capsys, *argv):
    """The command fails with exit code 2 and one line on stderr; returns that line."""
    capsys.readouterr()
    assert main([str(word) for word in argv]) == 2
    out, err = capsys.readouterr()
    lines = [line for line in err.splitlines() if not line.startswith("qdm_lib: ")]  # the note on bundled images
    assert out == "" and len(lines) == 1 and lines[0].startswith("error: "), (out, err)
    return lines[0]


# ------------------------------------------------------------------------------------------------ help


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_an_example(command, capsys):
    assert main([command, "--help"]) == 0
    text = capsys.readouterr().out
    assert f"Example:\n    python -m qdm_lib {command}" in text


def test_no_arguments_give_help(capsys):
    assert main([]) == 0
    assert all(f"  {command} " in capsys.readouterr().out for command in COMMANDS[:1])


def test_help_loads_no_torch_and_one_line_errors_leave_the_process():
    code = "import sys; from qdm_lib.cli.commands import main; main(['train', '-h']); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0
    done = subprocess.run([sys.executable, "-m", "qdm_lib", "draw", "hqcon"], capture_output=True, text=True)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.count("\n") == 1 and "Did you mean 'hqconv'?" in done.stderr


# --------------------------------------------------------------------------------------------- reading


def test_presets(capsys):
    assert main(["presets"]) == 0
    text = capsys.readouterr().out
    for count in ("483,321", "475,329", "440,985", "429,993", "475,281", "473,817", "474,293", "-1.65 %"):
        assert count in text
    assert max(map(len, text.splitlines())) <= 120


def test_draw(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "90")
    assert main(["draw", "hqconv"]) == 0
    text = capsys.readouterr().out
    assert "θ83" in text and "c2 p3" in text and max(map(len, text.splitlines())) <= 90
    picture = tmp_path / "new" / "basic.png"
    assert main(["draw", "basic", "--layers", "2", "--out", str(picture)]) == 0
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_doctor(capsys):
    assert main(["doctor"]) == 0
    text = capsys.readouterr().out
    for word in ("torch ", "python", "memory", "free in", "GPU", "fashion-mnist: bundled subset only", "passed"):
        assert word in text
    assert "unknown" not in text


# -------------------------------------------------------------------------------------------- mistakes


@pytest.mark.parametrize(
    "argv, words",
    [
        ("trainn", "No such command 'trainn'. Did you mean 'train'?"),
        ("train", "--out"),
        ("train --out x --presett unet", "--preset"),
        ("train --out x --preset 7hqcon", "Did you mean '7hqconv'?"),
        ("train --out x --dataset fashion", "Did you mean 'fashion-mnist'?"),
        ("train --out x --dataset kmnist", "kmnist"),
        ("train --out x --backend fasst", "Did you mean 'fast'?"),
        ("train --out x --hybridization 14", "0 … 13"),
        ("train --out x --hybridization most", "'most'"),
        ("train --out x --steps 0", "steps must be"),
        ("train --out x --steps -3", "steps must be"),
        ("train --out x --steps 1.5", "'--steps'"),
        ("train --out x --epochs 0", "epochs must be"),
        ("train --out x --epochs 1 --steps 1", "not both"),
        ("train --out x --batch-size 0", "batch_size must be"),
        ("train --out x --seed -1", "seed must be"),
        ("train --out x --save-every 0", "save-every must be"),
        ("train --out x --threads 0", "threads must be"),
        ("train --out x --device gpu", "'gpu'"),
        ("train --out x --device cpu:99", "one device cpu"),
        ("train --out x --device meta", "cannot use the device 'meta'"),
        ("train --out x --device mkldnn", "cannot use the device 'mkldnn'"),
        ("train --out x --device privateuseone", "cannot use the device 'privateuseone'"),
        ("train --out x --device vulkan", "cannot use the device 'vulkan'"),
        ("train --out x --device cuda:999999999999", "cannot use the device"),
        ("train --out x --epochs 1000000000000", "epochs must be"),
        ("train --out x --steps 1000000000000", "1 … 1,000,000,000"),
        ("train --out x --batch-size 2001 --steps 1", "1 … 2,000"),
        ("train --out x --hybridization nan", "got nan"),
        ("train --out x --first-weights ?", "Unknown preset of first_weights '?'"),
        ("train --out EMPTY --steps 1", "'--out': it is empty"),
        ("train --out BLANK --steps 1", "'--out': it is empty"),
        ("sample --checkpoint EMPTY --n 1", "'--checkpoint': it is empty"),
        ("sample --checkpoint RUN --n 1 --out EMPTY", "'--out': it is empty"),
        ("sample --checkpoint RUN --n 1 --film BLANK", "'--film': it is empty"),
        ("evaluate --checkpoint RUN --n 2 --out EMPTY", "'--out': it is empty"),
        ("evaluate --checkpoint RUN --n 2 --dataset EMPTY", "Unknown data set ''"),
        ("demo --out EMPTY", "'--out': it is empty"),
        ("draw hqconv --out EMPTY", "'--out': it is empty"),
        ("sample --checkpoint file", "file is a file; give the folder that it lies in: ."),
        ("evaluate --checkpoint full/loss.csv", "give the folder that it lies in: full"),
        ("train --out file/x --steps 1", "file/x"),
        ("train --out x --resume", "no run to resume in x"),
        ("train --out full --steps 1", "another model or run"),
        ("sample --checkpoint nowhere", "no checkpoint in nowhere"),
        ("sample --checkpoint RUN --sampler ddi", "Did you mean 'ddim'?"),
        ("sample --checkpoint RUN --steps 0", "steps must be"),
        ("sample --checkpoint RUN --steps 1001", "1 … 1,000"),
        ("sample --checkpoint RUN --sampler ddpm --steps 50", "always takes 1000"),
        ("sample --checkpoint RUN --n 0", "n must be"),
        ("sample --checkpoint RUN --n 2501", "1 … 2,500"),
        ("sample --checkpoint RUN --n 100001 --out x.npz", "1 … 100,000"),
        ("sample --checkpoint RUN --seed -1", "seed must be"),
        ("sample --checkpoint RUN --out x.gif", "must end in"),
        ("sample --checkpoint RUN --out file/x.png", "file"),
        ("sample --checkpoint RUN --backend x", "Unknown backend"),
        ("sample --checkpoint RUN --out x.png --film x.png", "same file"),
        ("sample --checkpoint RUN --n 100001 --out x.NPZ", "1 … 100,000"),
        ("evaluate --checkpoint nowhere", "no checkpoint in nowhere"),
        ("evaluate --checkpoint RUN --n 1", "n must be"),
        ("evaluate --checkpoint RUN --n 100001", "2 … 100,000"),
        ("evaluate --checkpoint RUN --features clasifier", "Did you mean 'classifier'?"),
        ("evaluate --checkpoint RUN --dataset mnits", "Did you mean 'mnist'?"),
        ("evaluate --checkpoint RUN --device gpu", "'gpu'"),
        ("draw hqcnov", "Did you mean 'hqconv'?"),
        ("draw hqconv --layers 0", "layers must be"),
        ("draw hqconv --layers 25", "1 … 24"),
        ("draw hqconv --out file/x.png", "file"),
        ("demo --n 1", "n must be"),
        ("demo --steps 0", "steps must be"),
        ("demo --sampler-steps 0", "steps must be"),
        ("demo --out full --steps 1", "another model or run"),
        ("demo --out RUN --fresh", "no demo"),
    ],
)
def test_mistakes_are_one_line(argv, words, capsys, tmp_path, monkeypatch, run):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("not a folder")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "loss.csv").write_text("irreplaceable")
    typed = {"EMPTY": "", "BLANK": " ", "RUN": str(run)}
    assert words in check_error(capsys, *(typed.get(word, word) for word in argv.split()))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "full"]  # nothing was begun
    assert (tmp_path / "full" / "loss.csv").read_text() == "irreplaceable"


def test_a_damaged_checkpoint_is_one_line(run, tmp_path, capsys):
    copy = shutil.copytree(run, tmp_path / "copy")
    file = copy / "checkpoint.safetensors"
    file.write_bytes(file.read_bytes()[:-1])
    assert "damaged" in check_error(capsys, "sample", "--checkpoint", copy)
    file.write_bytes(b"{")
    assert "damaged" in check_error(capsys, "sample", "--checkpoint", copy)
    assert "damaged" in check_error(capsys, "train", "--resume", "--out", copy)


def test_a_checkpoint_with_other_entries_is_one_line(run, tmp_path, capsys):
    copy = shutil.copytree(run, tmp_path / "copy")
    text, tensors = read_tensors(copy / "checkpoint.safetensors")
    info = json.loads(text)
    for run_config, words in (([1], "'run_config' is"), (info["run_config"] | {"recipe": "x"}, "recipe must be")):
        write_tensors(copy / "checkpoint.safetensors", tensors, json.dumps(info | {"run_config": run_config}))
        assert words in check_error(capsys, "train", "--resume", "--out", copy)


def test_our_own_errors_keep_their_traceback(monkeypatch):
    def broken():
        raise KeyError("a bug")

    monkeypatch.setattr("qdm_lib.cli.commands.preset_table", broken)
    with pytest.raises(KeyError):
        main(["presets"])


@pytest.mark.parametrize("value", ["", "0", "false", "False", "no", "off", " "])
def test_debugging_can_be_switched_off(value, monkeypatch, capsys):
    monkeypatch.setenv("QDM_DEBUG", value)
    check_error(capsys, "draw", "hqcon")


@pytest.mark.parametrize("value", ["1", "true", "yes"])
def test_debugging_shows_the_whole_traceback(value, monkeypatch):
    monkeypatch.setenv("QDM_DEBUG", value)
    with pytest.raises(ValueError, match="hqcon"):
        main(["draw", "hqcon"])


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory"),
        RuntimeError("std::bad_alloc"),
        MemoryError(),
        MemoryError("std::bad_alloc"),
        MemoryError("Unable to allocate 104. MiB for an array"),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    ],
    ids=str,
)
def test_out_of_memory_is_one_line(error, monkeypatch, capsys):
    def greedy():
        raise error

    monkeypatch.setattr("qdm_lib.cli.commands.preset_table", greedy)
    line = check_error(capsys, "presets")
    assert "Out of memory" in line and ("104" not in line or "104. MiB" in line)


def test_an_illegal_memory_access_is_not_called_out_of_memory(monkeypatch):
    def broken():
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr("qdm_lib.cli.commands.preset_table", broken)
    with pytest.raises(RuntimeError, match="illegal memory access"):
        main(["presets"])


# ------------------------------------------------------------------------ its name, and what it says to copy


@pytest.mark.parametrize(
    "argv0, name",
    [
        ("/opt/venv/bin/qdm", "qdm"),
        ("C:/venv/Scripts/qdm.exe", "qdm"),
        ("/opt/lib/qdm_lib/__main__.py", "python -m qdm_lib"),
        ("-c", "python -m qdm_lib"),
    ],
)
def test_usage_and_commands_to_copy_name_what_was_called(argv0, name, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [argv0])
    assert main(["presets", "--help"]) == 0
    assert capsys.readouterr().out.startswith(f"Usage: {name} presets")
    assert command("demo") == f"{name} demo"


@pytest.mark.parametrize("name", ["with spaces", "it's", "$HOME", "a;b", "-n", "ä b", 'say "x"', "*"])
def test_commands_to_copy_are_quoted(name):
    copied = command("sample", "--checkpoint", Path("runs") / name, "--n", 4)
    assert shlex.split(copied)[3:] == ["sample", "--checkpoint", f"runs/{name}", "--n", "4"]


def test_commands_to_copy_are_quoted_for_windows_there():
    assert command("sample", "--out", "my runs/x", windows=True).endswith('sample --out "my runs/x"')


def test_train_and_demo_print_quoted_commands(tmp_path, capsys):
    folder = tmp_path / "run with spaces"
    assert main(["train", *SMALL, "--steps", "1", "--out", str(folder)]) == 0
    told = capsys.readouterr().out.splitlines()[-1]
    assert shlex.split(told)[3:6] == ["sample", "--checkpoint", str(folder)]


# ------------------------------------------------------------------------- where nobody reads, or knows the user


def run_in_shell(line: str, **more: str) -> subprocess.CompletedProcess:
    """A command line with QDM in the place of python -m qdm_lib, its words seen by a shell."""
    env = os.environ | {"QDM": f"{sys.executable} -m qdm_lib", "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"} | more
    return subprocess.run(["bash", "-c", line], env=env, capture_output=True, text=True, timeout=300)


@pytest.mark.parametrize("streams", ["2>&-", "2>&- >&-", "2>/dev/full", "2>&1 | head -c 1; exit ${PIPESTATUS[0]}"])
def test_training_goes_on_when_nobody_reads(streams, tmp_path):
    folder = tmp_path / "x"
    done = run_in_shell(f"$QDM train {' '.join(SMALL)} --steps 2 --out '{folder}' {streams}")
    assert done.returncode == 0, done
    assert load_checkpoint(folder).step == 2
    assert read_losses(folder)[0] == [1, 2]  # no text of others in the file that got a free number


def test_an_answer_that_cannot_be_written_is_an_error_but_a_reader_may_leave():
    full = run_in_shell("$QDM presets > /dev/full")
    assert full.returncode == 2 and full.stderr == "error: No space left on device.\n"
    left = run_in_shell("$QDM presets | head -1; exit ${PIPESTATUS[0]}")
    assert left.returncode == 0 and left.stderr == "" and left.stdout.startswith("preset ")


def test_without_a_home_and_a_known_user_the_bundled_images_do(monkeypatch, tmp_path):
    for name in ("HOME", "USERPROFILE", "XDG_CACHE_HOME", "QDM_DATA_DIR"):
        monkeypatch.delenv(name, raising=False)

    def unknown():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", unknown)
    monkeypatch.setattr(data.tempfile, "gettempdir", lambda: str(tmp_path))
    assert data.data_root() == tmp_path / "qdm_lib"
    assert len(data.load_images("fashion-mnist", "train")) == 2000
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert data.data_root() == tmp_path / "cache" / "qdm_lib"


# -------------------------------------------------------------------------------------------- training


def saved_in(folder):
    """All that a checkpoint holds; the file's own header lists it in no certain order."""
    text, tensors = read_tensors(folder / "checkpoint.safetensors")
    return json.loads(text), {name: tensor.numpy().tobytes() for name, tensor in tensors.items()}


def test_train_leaves_a_run(run):
    steps, losses = read_losses(run)
    assert steps == [1, 2] and all(np.isfinite(losses))
    saved = load_checkpoint(run)
    assert saved.step == 2
    assert saved.run_config["preset"] == "unet" and saved.run_config["recipe"]["batch_size"] == 2
    assert sorted(p.name for p in run.iterdir()) == [".lock", "checkpoint.safetensors", "loss.csv"]


def test_train_refuses_to_overwrite(run, capsys):
    before = saved_in(run)
    message = check_error(capsys, "train", *SMALL, "--steps", "2", "--out", run)
    assert "saved at step 2" in message and "--resume" in message
    assert saved_in(run) == before


def test_resumed_run_equals_an_uninterrupted_one(run, tmp_path, capsys):
    once = tmp_path / "once"
    assert main(["train", *SMALL, "--steps", "4", "--save-every", "3", "--out", str(once)]) == 0
    twice = shutil.copytree(run, tmp_path / "twice")
    with open(twice / "loss.csv", "a") as file:  # as a run leaves it that is killed after its last checkpoint
        file.write("\0\0\0\n3,99,99\n4,9")
    assert main(["train", "--resume", "--steps", "4", "--out", str(twice)]) == 0
    assert (twice / "loss.csv").read_bytes() == (once / "loss.csv").read_bytes()
    assert saved_in(twice) == saved_in(once)
    capsys.readouterr()
    assert main(["train", "--resume", "--out", str(twice)]) == 0  # nothing left to do is no mistake
    assert "is at step 4 already" in capsys.readouterr().out


@pytest.mark.parametrize(
    "options, words",
    [
        ("--preset 1hqconv", "preset 'unet', not '1hqconv'"),
        ("--dataset mnist", "dataset 'fashion-mnist', not 'mnist'"),
        ("--seed 1", "seed 0, not 1"),
        ("--batch-size 4", "'batch_size': 2"),
        ("--hybridization 1", "hybridization None, not 1"),
    ],
)
def test_resume_refuses_another_run(options, words, run, capsys):
    assert words in check_error(capsys, "train", "--resume", "--out", run, "--steps", "3", *options.split())
    assert load_checkpoint(run).step == 2


def test_resume_refuses_other_images(run, tmp_path):
    from qdm_lib.data import load_images

    config = RunConfig("unet", steps=3, recipe=TrainConfig(batch_size=2))
    with pytest.raises(ValueError, match="set QDM_DATA_DIR"):
        train_run(config, run, resume=True, images=load_images("fashion-mnist", "test"), progress=False)


def test_experiment_refuses_the_subset_unless_asked(tmp_path, capsys):
    (tmp_path / "mini.toml").write_text("protocol = 'mini'\ncells = [{preset = 'unet', seeds = [0]}]\nbatch_size = 4")
    command = ["experiment", "run", str(tmp_path / "mini.toml"), "--dry-run"]
    command += [f"--{name}={tmp_path / name}" for name in ("runs", "results")]
    message = check_error(capsys, *command)
    assert "fashion-mnist train cannot be loaded" in message and "qdm_lib download fashion-mnist" in message
    assert main([*command, "--bundled"]) == 0
    assert "10,000 steps" in capsys.readouterr().out  # 20 epochs of 2,000 images, 4 at a time


def test_experiment_names_what_it_cannot_do(tmp_path, capsys):
    (tmp_path / "mini.toml").write_text("protocol = 'mini'\ncells = [{preset = 'unet', seeds = [0]}]")
    command = ["experiment", "run", str(tmp_path / "mini.toml"), "--bundled"]
    command += [f"--{name}={tmp_path / name}" for name in ("runs", "results")]
    assert "--sampler-steps goes with --sampler" in check_error(capsys, *command, "--sampler-steps", "10")
    assert "No job's name holds 'vnet'" in check_error(capsys, *command, "--only", "vnet")
    assert main([*command, "--weights", "raw"]) == 1  # draws from a run that is not there
    out, err = capsys.readouterr()
    assert "0 of 1 seeds done, 1 without a trained run" in out and "Nothing is left" not in out
    assert err.startswith("Not done: mini-subset-raw/fashion-mnist/unet/seed-0: no trained run of it is in")
    (tmp_path / "results").mkdir(exist_ok=True)
    empty = ["experiment", "collect", f"--results={tmp_path / 'results'}", f"--experiments={tmp_path / 'runs'}"]
    assert "There are no experiment files in" in check_error(capsys, *empty)


def test_download(monkeypatch, capsys):
    def fetch(info, split, folder):
        return "the network is down", "check it"

    monkeypatch.setattr(data, "_download", fetch)
    assert "the network is down" in check_error(capsys, "download", "mnist")
    assert "unknown data set 'cifar'" in check_error(capsys, "download", "cifar")


def test_epochs_are_rounded_up_to_whole_steps(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr("qdm_lib.runs.train_run", lambda config, out, **_: seen.append(config.steps) or exit_early())

    def exit_early():
        raise ValueError("enough")

    main(["train", "--preset", "unet", "--epochs", "3", "--batch-size", "128", "--out", str(tmp_path / "x")])
    main(["train", "--preset", "unet", "--out", str(tmp_path / "x")])
    assert seen == [47, 313]  # 3 · 2000 / 128 and 20 · 2000 / 128, rounded up


def test_two_processes_do_not_train_in_one_folder(run, tmp_path, capsys):
    copy = shutil.copytree(run, tmp_path / "copy")
    with locked(copy / ".lock"):
        assert "Another process trains in" in check_error(capsys, "train", "--resume", "--steps", "3", "--out", copy)
    assert load_checkpoint(copy).step == 2
    assert main(["train", "--resume", "--steps", "3", "--out", str(copy)]) == 0
    assert load_checkpoint(copy).step == 3


@pytest.mark.parametrize("signum, code", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_ctrl_c_saves_and_says_how_to_go_on(signum, code, tmp_path, monkeypatch, capsys):
    real, handler = runs.train, signal.getsignal(signum)

    def interrupted(*args, **options):
        for step in real(*args, **options):
            if step.step == 2:
                signal.raise_signal(signum)
            yield step

    monkeypatch.setattr(runs, "train", interrupted)
    folder = tmp_path / "stopped"
    assert main(["train", *SMALL, "--steps", "50", "--out", str(folder)]) == code
    err = capsys.readouterr().err
    assert "Stopped after step 2 of 50" in err and f"--resume --out {folder}" in err and "Traceback" not in err
    assert load_checkpoint(folder).step == 2 and read_losses(folder)[0] == [1, 2]
    assert signal.getsignal(signum) == handler


def test_a_loss_that_is_no_number_keeps_the_last_checkpoint(tmp_path, monkeypatch, capsys):
    def diverging(*args, **options):
        yield TrainStep(1, 1.0, 1.0)
        raise FloatingPointError("The loss is nan.")

    monkeypatch.setattr(runs, "train", diverging)
    assert main(["train", *SMALL, "--steps", "9", "--out", str(tmp_path / "x")]) == 2
    assert f"error: The loss is nan. The last checkpoint is in {tmp_path / 'x'}." in capsys.readouterr().err
    assert load_checkpoint(tmp_path / "x").step == 0


def test_bf16_trains(tmp_path):
    assert main(["train", *SMALL, "--bf16", "--steps", "1", "--out", str(tmp_path / "x")]) == 0
    assert load_checkpoint(tmp_path / "x").run_config["bf16"] is True


def test_first_weights_of_another_model(tmp_path, capsys):
    argv = ["train", *SMALL, "--preset", "1hqconv", "--steps", "1"]
    assert main([*argv, "--first-weights", "unet", "--out", str(tmp_path / "x")]) == 0
    config = load_checkpoint(tmp_path / "x").run_config
    assert config["first_weights"] == "unet" and config["preset"] == "1hqconv"
    assert "Did you mean 'unet'" in check_error(capsys, *argv, "--first-weights", "unett", "--out", tmp_path / "y")


def test_hybridization_reaches_the_model(tmp_path):
    folder = tmp_path / "half"
    argv = ["train", *SMALL, "--hybridization", "2", "--backend", "statevector", "--steps", "1", "--out", str(folder)]
    assert main(argv) == 0
    config = load_model(folder).config
    assert config.n_circuits == 2 and config.backend == "statevector"


# ----------------------------------------------------------------------------------- drawing, scoring, demo


def test_sample(run, tmp_path, capsys):
    grid, film, pixels = tmp_path / "grid.png", tmp_path / "film.png", tmp_path / "pixels.npz"
    argv = ["sample", "--checkpoint", str(run), "--steps", "2", "--device", "cpu"]
    assert main([*argv, "--n", "3", "--out", str(grid), "--film", str(film)]) == 0
    assert grid.read_bytes().startswith(b"\x89PNG") and film.read_bytes().startswith(b"\x89PNG")
    assert main([*argv, "--n", "2", "--sampler", "dpm", "--out", str(pixels)]) == 0
    images = np.load(pixels)["images"]
    assert images.shape == (2, 1, 28, 28) and images.dtype == np.uint8
    assert main([*argv, "--n", "2", "--out", str(tmp_path / "other.NPZ")]) == 0
    assert np.load(tmp_path / "other.NPZ")["images"].shape == images.shape
    assert sorted(p.name for p in tmp_path.iterdir()) == ["film.png", "grid.png", "other.NPZ", "pixels.npz"]


def test_the_steps_of_a_model_s_own_schedule_count(tmp_path, capsys):
    """They were checked as those of T = 1000 before the model was read: refused, or noted wrongly in the scores."""
    model, scores = tmp_path / "model", tmp_path / "scores.json"
    save_model(model, build_unet("unet", seed=0), {"dataset": "fashion-mnist"}, NoiseSchedule(cosine_betas(10)))
    options = ["--checkpoint", str(model), "--sampler", "ddpm", "--device", "cpu"]
    assert main(["sample", *options, "--n", "1", "--steps", "10", "--out", str(tmp_path / "x.png")]) == 0
    assert main(["evaluate", *options, "--n", "4", "--out", str(scores)]) == 0
    assert json.loads(scores.read_text())["sampler_steps"] == 10
    for name in ("sample", "evaluate"):
        assert "always takes 10 steps, not 1000" in check_error(capsys, name, *options, "--steps", "1000")
        assert "1 … 10" in check_error(capsys, name, "--checkpoint", model, "--steps", "11")
        assert "Did you mean 'dpm'?" in check_error(capsys, name, "--checkpoint", model, "--sampler", "dmp")


def test_more_images_begin_with_the_same_ones(run):
    model = load_model(run)
    options = {"steps": 2, "progress": False, "device": "cpu"}
    few, many = generate(model, 2, **options), generate(model, 5, batch_size=3, **options)
    assert (few.int() - many[:2].int()).abs().max() <= 1  # rounding may differ with the size of a batch
    assert not torch.equal(few, generate(model, 2, seed=1, **options))


def test_sample_from_a_finished_model(run, tmp_path):
    save_model(tmp_path / "shared", load_model(run), {"dataset": "fashion-mnist"})
    assert main(["sample", "--checkpoint", str(tmp_path / "shared"), "--n", "1", "--steps", "1"]) == 0
    assert (tmp_path / "shared" / "samples.png").is_file()


def test_default_names_replace_nothing(run, tmp_path, capsys):
    copy = shutil.copytree(run, tmp_path / "copy")
    for name in ("samples.png", "samples-2.png", "scores.json"):
        (copy / name).write_bytes(b"of an hour ago")
    small = ["--checkpoint", str(copy), "--steps", "1", "--device", "cpu"]
    assert main(["sample", *small, "--n", "1"]) == 0
    assert main(["evaluate", *small, "--n", "4"]) == 0
    text = capsys.readouterr().out
    assert f"Wrote {copy / 'samples-3.png'}" in text and f"Wrote {copy / 'scores-2.json'}" in text
    assert {(copy / name).read_bytes() for name in ("samples.png", "samples-2.png", "scores.json")} == {
        b"of an hour ago"
    }
    assert (copy / "samples-3.png").read_bytes().startswith(b"\x89PNG")
    assert main(["sample", *small, "--n", "1", "--out", str(copy / "samples.png")]) == 0  # a name that is given, does
    assert (copy / "samples.png").read_bytes().startswith(b"\x89PNG")


def test_a_default_name_that_another_process_takes_meanwhile_is_not_replaced(run, tmp_path, monkeypatch):
    copy = shutil.copytree(run, tmp_path / "copy")

    def slowly(*arguments, **options):
        for name in ("samples.png", "scores.json"):
            (copy / name).write_bytes(b"of another process")
        return generate(*arguments, **options)

    monkeypatch.setattr("qdm_lib.runs.generate", slowly)
    small = ["--checkpoint", str(copy), "--steps", "1", "--device", "cpu"]
    assert main(["sample", *small, "--n", "1"]) == 0
    assert main(["evaluate", *small, "--n", "4"]) == 0
    assert (copy / "samples.png").read_bytes() == (copy / "scores.json").read_bytes() == b"of another process"
    assert (copy / "samples-2.png").is_file() and (copy / "scores-2.json").is_file()


def test_a_shipped_model_is_left_as_it_is(tmp_path):
    """What is drawn from it by default lies beside its tracked files, not over them."""
    shipped = shutil.copytree(SHIPPED / "fashion-mnist" / "unet-1-epoch", tmp_path / "shipped")
    before = {path.name: path.read_bytes() for path in shipped.iterdir()}
    assert "samples.png" in before
    assert main(["sample", "--checkpoint", str(shipped), "--n", "1", "--steps", "1"]) == 0
    assert {name: (shipped / name).read_bytes() for name in before} == before
    assert (shipped / "samples-2.png").is_file()


def test_evaluate(run, tmp_path, capsys):
    out = tmp_path / "scores.json"
    argv = ["evaluate", "--checkpoint", str(run), "--n", "8", "--steps", "1", "--device", "cpu", "--out", str(out)]
    assert main(argv) == 0
    text, content = capsys.readouterr().out, json.loads(out.read_text())
    assert set(content["scores"]) == {"fid", "kid", "is"} and content["scores"]["fid"]["n"] == 8
    assert content["preset"] == "unet" and content["step"] == 2 and content["sampler_steps"] == 1
    assert "95 % interval" in text and "classifier" in text


def test_demo_trains_resumes_and_starts_afresh(tmp_path, capsys):
    folder = tmp_path / "demo"
    small = ["--n", "3", "--sampler-steps", "2", "--batch-size", "2", "--out", str(folder)]
    assert main(["demo", "--steps", "2", *small]) == 0
    text = capsys.readouterr().out
    assert "2 training steps" in text and "Next:" in text and "95 % interval" in text
    made = [".lock", "checkpoint.safetensors", "film_strip.png", "loss.csv", "loss.png", "samples.png", "scores.json"]
    assert sorted(p.name for p in folder.iterdir()) == made

    (folder / "notes.txt").write_text("mine")
    assert "seed 0" in check_error(capsys, "demo", *small, "--seed", "5")
    assert "batch size 2" in check_error(capsys, "demo", *small, "--batch-size", "3")
    assert main(["demo", "--steps", "2", "--n", "3", "--sampler-steps", "2", "--out", str(folder)]) == 0  # as it was
    assert main(["demo", "--steps", "1", "--fresh", *small, "--seed", "5"]) == 0
    assert (folder / "notes.txt").read_text() == "mine"
    assert load_checkpoint(folder).run_config["seed"] == 5


def test_a_fresh_demo_that_is_killed_can_be_started_afresh(tmp_path, monkeypatch):
    """The checkpoint, by which a demo is known, went first; what was left then counted as another run's."""
    config = RunConfig(demo.PRESET, recipe=TrainConfig(ema_decay=demo.DEMO_EMA, batch_size=2))
    for killed_at in range(6):
        folder = tmp_path / str(killed_at)
        save_checkpoint(
            folder,
            model=torch.nn.Linear(1, 1),
            ema=None,
            optimizer=None,
            step=1,
            run_config=asdict(config),
            generators={},
        )
        for name in ("loss.csv", "samples.png", "film_strip.png", "loss.png", "scores.json"):
            (folder / name).touch()
        unlink, calls = Path.unlink, iter(range(9))
        with monkeypatch.context() as m:
            m.setattr(Path, "unlink", lambda path: unlink(path) if next(calls) < killed_at else sys.exit())  # noqa: B023
            with pytest.raises(SystemExit):
                demo._remove_earlier(folder)
        assert demo._config(folder, None, None, None, True).seed == 0 and (folder / "checkpoint.safetensors").is_file()
        demo._remove_earlier(folder)
        assert not list(folder.iterdir())


def test_fresh_demo_deletes_no_other_files(tmp_path, capsys):
    shipped = shutil.copytree(SHIPPED / "fashion-mnist" / "unet-1-epoch", tmp_path / "shipped")
    (shipped / "samples.png").write_bytes(b"mine")
    check_error(capsys, "demo", "--fresh", "--steps", "1", "--out", shipped)
    assert (shipped / "samples.png").read_bytes() == b"mine"
    long_run = tmp_path / "run"  # the demo's model and data, trained by the recipe
    assert main(["train", "--preset", "1hqconv", "--batch-size", "2", "--steps", "1", "--out", str(long_run)]) == 0
    assert "no demo" in check_error(capsys, "demo", "--fresh", "--out", long_run)
    small = ["--steps", "1", "--n", "3", "--sampler-steps", "1", "--batch-size", "2", "--out", tmp_path / "demo"]
    assert main(["demo", *map(str, small)]) == 0
    with locked(tmp_path / "demo" / ".lock"):
        assert "Another process trains" in check_error(capsys, "demo", "--fresh", *small)
    assert load_checkpoint(tmp_path / "demo").step == 1
    assert load_checkpoint(long_run).step == 1


@pytest.mark.parametrize("option", ["--results=", "--runs=", "--runs= ", "--only="])
def test_an_empty_word_of_an_experiment_is_refused(option, tmp_path, capsys):
    file = tmp_path / "one.toml"
    file.write_text('protocol = "one"\nepochs = 1\n[[cells]]\npreset = "unet"\nseeds = [0]\n')
    assert main(["experiment", "run", str(file), "--dry-run", "--bundled", option]) == 2
    error = capsys.readouterr().err
    assert ("it is empty" in error or "holds ''" in error) and len(error.splitlines()) == 1
