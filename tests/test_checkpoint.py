"""Saving and loading, kills at bad moments included, and weights carried from model to model."""

import hashlib
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn

from qdm_lib import files
from qdm_lib.checkpoint import (
    SHIPPED,
    checkpoint_files,
    has_checkpoint,
    has_model,
    load_checkpoint,
    load_model,
    read_info,
    restore,
    save_checkpoint,
    save_model,
    transfer_weights,
)
from qdm_lib.diffusion import NoiseSchedule, cosine_betas, linear_betas
from qdm_lib.files import read_header, read_tensors, write_tensors
from qdm_lib.training import EMA, TrainConfig, make_optimizer, train
from qdm_lib.unet import build_unet

ROOT = Path(__file__).parents[1]
SCHEDULE = NoiseSchedule(cosine_betas(1000))
CONFIG = TrainConfig(ema_start=2, ema_every=2)  # so that the average differs from the weights at once


class Toy(nn.Module):
    def __init__(self, seed=0, width=3):
        super().__init__()
        torch.manual_seed(seed)
        self.vertex_conv = nn.Conv2d(1, width, 3, padding=1)
        self.norm = nn.BatchNorm2d(width)  # for its buffers, one of them an integer
        self.out = nn.Conv2d(width, 1, 1)

    def forward(self, x_t, t):
        return self.out(self.norm(self.vertex_conv(x_t)))


def images(start_step):
    """Batches as a pure function of the step, as `data.batches` makes them."""
    for step in itertools.count(start_step):
        yield torch.rand(2, 1, 28, 28, generator=torch.Generator().manual_seed(step)) * 2 - 1


def new_state(make=Toy):
    model = make()
    return {"model": model, "ema": EMA(model, CONFIG), "optimizer": make_optimizer(model)}, (
        torch.Generator().manual_seed(7)
    )


def train_and_save(folder, steps, *, make=Toy, every=None, resume=True):
    """Train up to `steps` steps in all, from the folder's checkpoint if it has one; save every few steps."""
    state, g = new_state(make)
    start = 0
    if resume and has_checkpoint(folder):
        saved = load_checkpoint(folder)
        restore(saved, **state, generators={"train": g})
        start = saved.step
    loop = train(
        state["model"],
        SCHEDULE,
        images(start),
        state["optimizer"],
        state["ema"],
        generator=g,
        start_step=start,
        steps=steps - start,
        config=CONFIG,
    )
    for step in loop:
        if step.step == steps or (every and step.step % every == 0):
            save(folder, state, g, step.step)
    return state, g


def save(folder, state, g, step):
    run_config = {"preset": "toy", "seed": 7, "train": CONFIG}
    return save_checkpoint(
        folder, **state, step=step, run_config=run_config, generators={"train": g}, schedule=SCHEDULE
    )


def as_version_1(folder):
    """Put the two files that version 1 wrote in the place of a checkpoint or a finished model."""
    kind = "checkpoint" if has_checkpoint(folder) else "model"
    text, all_tensors = read_tensors(folder / f"{kind}.safetensors")
    info = json.loads(text) | {"version": 1}
    del info["schedule"]
    info.pop("optimizer_name", None)
    (folder / f"{kind}.safetensors").unlink()
    info["file"] = f"state-{info['step']:06d}.safetensors" if kind == "checkpoint" else "model.safetensors"
    data = safetensors.torch.save(all_tensors)
    (folder / info["file"]).write_bytes(data)
    (folder / f"{kind}.json").write_text(json.dumps(info | {"sha256": hashlib.sha256(data).hexdigest()}))


def tensors(saved):
    parts = {"model": saved.model, "ema": saved.ema, "optimizer": saved.optimizer, "rng": saved.rng}
    return {f"{part}.{k}": v for part, entries in parts.items() for k, v in entries.items()}


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


# ------------------------------------------------------------------------------------ there and back


def test_a_checkpoint_is_one_file_that_says_what_it_is(tmp_path):
    train_and_save(tmp_path / "deep" / "run", 3, every=1)
    folder = tmp_path / "deep" / "run"
    assert os.listdir(folder) == ["checkpoint.safetensors"]
    assert checkpoint_files(folder) == [folder / "checkpoint.safetensors"]
    info = read_info(folder)
    assert info["format"] == "qdm_lib checkpoint" and info["version"] == 2 and info["step"] == 3
    assert info["schedule"] == {"T": 1000, "betas": "cosine"} and info["optimizer_name"] == "Adam"
    assert info["run_config"]["seed"] == 7 and info["run_config"]["train"]["learning_rate"] == 1e-3
    assert info["versions"]["torch"] == torch.__version__.split("+")[0] or "+" in info["versions"]["torch"]


def test_resuming_is_bit_identical(tmp_path):
    train_and_save(tmp_path / "whole", 9)
    train_and_save(tmp_path / "parts", 4)
    train_and_save(tmp_path / "parts", 9)
    whole, parts = load_checkpoint(tmp_path / "whole"), load_checkpoint(tmp_path / "parts")
    assert whole.step == parts.step == 9
    assert same(tensors(whole), tensors(parts))
    assert not torch.equal(whole.model["out.weight"], whole.ema["out.weight"])  # else the test would be weak
    assert {"0.step", "0.exp_avg", "0.exp_avg_sq"} <= whole.optimizer.keys()


def test_restore_gives_every_part_back_and_keeps_no_tie_to_the_checkpoint(tmp_path):
    state, g = train_and_save(tmp_path, 5)
    saved = load_checkpoint(tmp_path)
    fresh, fresh_g = new_state(lambda: Toy(seed=1))
    fresh["optimizer"].param_groups[0]["lr"] = 0.5
    restore(saved, **fresh, generators={"train": fresh_g})
    assert same(fresh["model"].state_dict(), state["model"].state_dict())
    assert same(fresh["ema"].state_dict(), state["ema"].state_dict())
    assert torch.equal(fresh_g.get_state(), g.get_state())
    assert fresh["optimizer"].param_groups[0]["lr"] == 1e-3
    assert fresh["optimizer"].param_groups[0]["betas"] == (0.9, 0.99)

    before = {k: v.clone() for k, v in tensors(saved).items()}
    model, ema, optimizer = fresh["model"], fresh["ema"], fresh["optimizer"]
    list(train(model, SCHEDULE, images(5), optimizer, ema, generator=fresh_g, steps=2))
    assert same(tensors(saved), before)


def test_a_second_save_at_the_same_step_replaces_the_first(tmp_path):
    state, g = train_and_save(tmp_path, 2)
    with torch.no_grad():
        state["model"].out.bias.fill_(5.0)
    save(tmp_path, state, g, 2)
    assert load_checkpoint(tmp_path).model["out.bias"] == 5.0
    save(tmp_path, state, g, 2)
    assert len(os.listdir(tmp_path)) == 1
    assert load_checkpoint(tmp_path).model["out.bias"] == 5.0


def test_parts_can_be_left_out(tmp_path):
    model = Toy()
    save_checkpoint(tmp_path, model=model, ema=None, optimizer=None, step=0, run_config={}, generators={})
    saved = load_checkpoint(tmp_path)
    restore(saved, model=Toy(seed=1))
    with pytest.raises(ValueError, match="without an optimiser"):
        restore(saved, optimizer=make_optimizer(model))
    with pytest.raises(ValueError, match="averaged weights"):
        restore(saved, ema=EMA(model))


# ------------------------------------------------------------------------------------- interruptions


class Crash(BaseException):
    """Stands for the power cut: nothing in the library may catch it."""


def crash(monkeypatch, crash_at, action) -> bool:
    """Stop an action at one of its calls that change the disk; False if it ran through before."""
    calls = itertools.count()

    def dangerous(function):
        def call(*args, **kwargs):
            if next(calls) == crash_at:
                raise Crash
            return function(*args, **kwargs)

        return call

    with monkeypatch.context() as m:
        writers = (Path, "write_bytes"), (Path, "write_text"), (Path, "unlink"), (Path, "mkdir")
        for owner, name in ((os, "replace"), (os, "fsync"), *writers):
            m.setattr(owner, name, dangerous(getattr(owner, name)))
        try:
            action()
        except Crash:
            return True
    return False


@pytest.mark.parametrize("same_step", [False, True])
@pytest.mark.parametrize("version", [1, 2])
def test_a_crash_at_any_moment_of_a_save_leaves_a_readable_checkpoint(tmp_path, monkeypatch, same_step, version):
    outcomes = []
    for crash_at in itertools.count():
        folder = tmp_path / str(crash_at)
        state, g = train_and_save(folder, 2)
        if version == 1:
            as_version_1(folder)
        old = tensors(load_checkpoint(folder))
        with torch.no_grad():
            state["model"].out.bias.fill_(5.0)
        crashed = crash(monkeypatch, crash_at, lambda: save(folder, state, g, 2 if same_step else 3))  # noqa: B023
        saved = load_checkpoint(folder)
        is_old = same(tensors(saved), old)
        assert is_old or saved.model["out.bias"] == 5.0
        outcomes.append("old" if is_old else "new")
        save(folder, state, g, 4)  # and the next save clears the ground
        assert os.listdir(folder) == ["checkpoint.safetensors"]
        if not crashed:
            break
    assert len(outcomes) >= (7 if version == 1 else 5) and outcomes[0] == "old" and outcomes[-1] == "new"
    assert outcomes == sorted(outcomes, reverse=True)  # old, …, old, new, …, new


@pytest.mark.parametrize("version", [1, 2])
def test_a_crash_at_any_moment_leaves_the_old_model_or_the_new_one(tmp_path, monkeypatch, version):
    """As `tools/ship_checkpoint.py` writes over a shipped model; the first line of each is its card's."""
    outcomes, new = [], build_unet("unet", seed=1)
    for crash_at in itertools.count():
        folder = tmp_path / str(crash_at)
        if version == 1:
            shutil.copytree(SHIPPED / "fashion-mnist" / "unet-1-epoch", folder)
        else:
            save_model(folder, load_model(SHIPPED / "fashion-mnist" / "unet-1-epoch"), {"epochs": 1.0})
        old = load_model(folder).state_dict()
        crashed = crash(monkeypatch, crash_at, lambda: save_model(folder, new, {"epochs": 9.0}))  # noqa: B023
        found, epochs = load_model(folder).state_dict(), read_info(folder)["card"]["epochs"]
        is_old = same(found, old)
        assert is_old or same(found, new.state_dict())
        assert epochs == (1.0 if is_old else 9.0)  # the card of these weights
        outcomes.append("old" if is_old else "new")
        save_model(folder, new, {})
        assert not list(folder.glob(".*.tmp"))
        if not crashed:
            break
    assert len(outcomes) >= 8 and outcomes[0] == "old" and outcomes[-1] == "new"
    assert outcomes == sorted(outcomes, reverse=True)


def test_what_a_killed_save_left_goes_and_what_another_process_is_writing_stays(tmp_path):
    """A second process that saved into the folder once made the first one's save fail with FileNotFoundError."""
    save_model(tmp_path, Toy(), {})
    names = [".model.safetensors.7.tmp", ".checkpoint.safetensors.7.tmp", ".state-3.safetensors.7.tmp"]
    for age, left in ((7200, []), (60, names)):
        for name in names:
            (tmp_path / name).write_text("half")
            os.utime(tmp_path / name, (time.time() - age,) * 2)
        save_model(tmp_path, Toy(), {})
        assert sorted(path.name for path in tmp_path.glob(".*")) == sorted(left)


def test_two_processes_that_save_into_one_folder_both_succeed(tmp_path, monkeypatch):
    """The second saves between the first one's writing and its move."""

    def slow(file):
        if str(os.getpid()) in file.name and not meanwhile:
            meanwhile.append(True)
            with monkeypatch.context() as m:
                m.setattr(os, "getpid", lambda: 0)
                save_model(tmp_path, Toy(seed=2), {})
        return to_disk(file)

    meanwhile, to_disk = [], files.to_disk
    monkeypatch.setattr(files, "to_disk", slow)
    save_model(tmp_path, Toy(seed=1), {})
    assert meanwhile and same(read_tensors(tmp_path / "model.safetensors")[1], Toy(seed=1).state_dict())


SCRIPT = """
import sys
import torch
torch.set_num_threads(1)
from tests_checkpoint import Toy, build_unet, train_and_save
folder, kind, steps, every = sys.argv[1:]
make = Toy if kind == "toy" else lambda: build_unet(kind, seed=0)
train_and_save(folder, int(steps), make=make, every=int(every))
"""


def start(folder, kind, steps, every):
    """A training run in a process of its own, which resumes if the folder has a checkpoint."""
    script = SCRIPT.replace("tests_checkpoint", Path(__file__).stem)
    path = os.pathsep.join([str(ROOT), str(Path(__file__).parent)])
    return subprocess.Popen(
        [sys.executable, "-c", script, str(folder), kind, str(steps), str(every)],
        env=os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
    )


def saved_step(folder):
    try:
        return load_checkpoint(folder).step
    except FileNotFoundError:
        return 0


def kill_midway(process, folder, after, delay):
    """Send SIGKILL some time after the folder has a checkpoint of step `after`."""
    for _ in range(6000):
        if process.poll() is not None or saved_step(folder) >= after:
            break
        time.sleep(0.01)
    time.sleep(delay)
    assert process.poll() is None, "the run ended before it could be killed"
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL


def test_a_killed_unet_run_resumes_bit_identically(tmp_path):
    killed = start(tmp_path / "killed", "1hqconv", 10_000, every := 2)  # longer than any machine is fast
    kill_midway(killed, tmp_path / "killed", after=2, delay=0.1)
    steps = load_checkpoint(tmp_path / "killed").step + 3
    whole = start(tmp_path / "whole", "1hqconv", steps, every)
    assert start(tmp_path / "killed", "1hqconv", steps, every).wait() == 0 and whole.wait() == 0
    a, b = load_checkpoint(tmp_path / "whole"), load_checkpoint(tmp_path / "killed")
    assert a.step == b.step == steps and same(tensors(a), tensors(b))
    assert load_model(tmp_path / "killed").config.preset == "1hqconv"


def test_a_run_that_saves_all_the_time_survives_kill_after_kill(tmp_path):
    for kill in range(2):  # saving takes most of its time, so most kills fall into a save
        process = start(tmp_path, "toy", 1_000_000, 1)
        kill_midway(process, tmp_path, after=saved_step(tmp_path) + 3, delay=0.037 * kill)
    reached, whole = load_checkpoint(tmp_path), tmp_path.with_name("whole")
    assert start(whole, "toy", reached.step, reached.step).wait() == 0  # with as many threads as the killed ones
    assert reached.step >= 6 and same(tensors(reached), tensors(load_checkpoint(whole)))


def test_a_reader_follows_a_run_that_saves_meanwhile(tmp_path, monkeypatch):
    state, g = train_and_save(tmp_path, 2)
    read, runs = Path.read_bytes, iter([True])

    def read_then_get_overtaken(path):
        data = read(path)
        if next(runs, False):
            save(tmp_path, state, g, 3)
        return data

    monkeypatch.setattr(Path, "read_bytes", read_then_get_overtaken)
    assert load_checkpoint(tmp_path).step == 2 and load_checkpoint(tmp_path).step == 3


# ------------------------------------------------------------------------------------------ version 1


def test_a_run_of_version_1_goes_on_bit_for_bit_and_is_replaced(tmp_path):
    train_and_save(tmp_path / "whole", 9)
    train_and_save(tmp_path / "parts", 4)
    as_version_1(tmp_path / "parts")
    assert sorted(os.listdir(tmp_path / "parts")) == ["checkpoint.json", "state-000004.safetensors"]
    assert [path.name for path in checkpoint_files(tmp_path / "parts")] == [
        "state-000004.safetensors",
        "checkpoint.json",
    ]
    assert read_info(tmp_path / "parts")["step"] == 4 and load_checkpoint(tmp_path / "parts").schedule is None
    train_and_save(tmp_path / "parts", 9)
    assert os.listdir(tmp_path / "parts") == ["checkpoint.safetensors"]
    whole, parts = load_checkpoint(tmp_path / "whole"), load_checkpoint(tmp_path / "parts")
    assert whole.step == parts.step == 9 and same(tensors(whole), tensors(parts))


def test_a_shipped_model_becomes_one_file_with_the_same_weights_and_card(tmp_path):
    """All shipped ones are loaded in test_pretrained."""
    folder = shutil.copytree(SHIPPED / "fashion-mnist" / "7fqconv-2-epochs", tmp_path / "model")
    before, card = load_model(folder), read_info(folder)["card"]
    save_model(folder, before, card)
    (folder / "model.json").unlink()  # for people alone
    after = load_model(folder)
    assert after.config == before.config and same(after.state_dict(), before.state_dict())
    assert read_info(folder)["card"] == card


# ---------------------------------------------------------------------------------------- bad folders


def test_missing_things_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="no checkpoint in .*nowhere; 'train --out"):
        load_checkpoint(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match="no checkpoint in"):
        load_checkpoint(tmp_path)
    with pytest.raises(FileNotFoundError, match="no checkpoint in"):
        load_model(tmp_path)
    train_and_save(tmp_path, 1)
    for file in ("checkpoint.safetensors", "checkpoint.json"):  # there, and what was there in version 1
        with pytest.raises(FileNotFoundError, match=f"named by its folder; give {tmp_path}, not .*{file}"):
            load_model(tmp_path / file)
    as_version_1(tmp_path)
    (tmp_path / "state-000001.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match="state-000001"):
        load_checkpoint(tmp_path)
    assert not has_model(tmp_path) and has_checkpoint(tmp_path) and not has_checkpoint(tmp_path / "nowhere")


def test_damage_is_named(tmp_path):
    train_and_save(tmp_path, 1)
    path = tmp_path / "checkpoint.safetensors"
    data = path.read_bytes()
    step = data.index(b'"step') if b'"step' in data else data.index(b"step")
    renamed = data.replace(b"model.out.bias", b"model.out.bios")  # the format itself is none the wiser
    for bad in (data[:-1] + bytes([data[-1] ^ 1]), data[:-1], data[:100], data[:5], b"", b"\xff" * 200, renamed):
        path.write_bytes(bad)
        with pytest.raises(ValueError, match=r"checkpoint\.safetensors is damaged"):
            load_checkpoint(tmp_path)
    text = data[step : step + 12]
    path.write_bytes(data.replace(text, text.replace(b"1", b"7")))
    with pytest.raises(ValueError, match="SHA-256"):
        load_checkpoint(tmp_path)


def test_a_header_of_another_kind_is_named(tmp_path):
    train_and_save(tmp_path, 1)
    path = tmp_path / "checkpoint.safetensors"
    text, saved = read_tensors(path)
    info = json.loads(text)
    for change, message in (
        ({"format": "other"}, "format"),
        ({"version": 3}, "format"),
        ({"step": "1"}, "'step'"),
        ({"run_config": []}, "'run_config'"),
        ({"schedule": {"T": 0, "betas": "cosine"}}, "noise schedule"),
        ({"schedule": {"T": 10, "betas": "mine"}}, "noise schedule"),
        ({"schedule": {"betas": [2.0]}}, "noise schedule"),
    ):
        write_tensors(path, saved, json.dumps(info | change))
        with pytest.raises(ValueError, match=f"checkpoint.safetensors.*{message}"):
            load_checkpoint(tmp_path)
    for bad in (text[:-20], "", "[]"):
        write_tensors(path, saved, bad)
        with pytest.raises(ValueError, match=r"checkpoint\.safetensors"):
            load_checkpoint(tmp_path)
    path.write_text("version https://git-lfs.github.com/spec/v1\n")  # its first 8 bytes would be a length of exabytes
    with pytest.raises(ValueError, match=r"checkpoint\.safetensors"):
        read_header(path)
    safetensors.torch.save_file(saved, path)  # of somebody else
    assert read_header(path) is None and read_tensors(path) is None
    with pytest.raises(FileNotFoundError, match="no checkpoint in"):
        load_checkpoint(tmp_path)


def test_damage_of_version_1_is_named(tmp_path):
    train_and_save(tmp_path, 1)
    as_version_1(tmp_path)
    path, state = tmp_path / "checkpoint.json", tmp_path / "state-000001.safetensors"
    text, data = path.read_text(), state.read_bytes()
    for bad in (data[:-1] + bytes([data[-1] ^ 1]), data[:100], b""):
        state.write_bytes(bad)
        with pytest.raises(ValueError, match=r"state-000001\.safetensors is damaged.*SHA-256"):
            load_checkpoint(tmp_path)
    state.write_bytes(data)
    info = json.loads(text)
    for change, message in (({"version": 2}, "format"), ({"step": "1"}, "'step'"), ({"sha256": None}, "'sha256'")):
        path.write_text(json.dumps(info | change))
        with pytest.raises(ValueError, match=f"checkpoint.json.*{message}"):
            load_checkpoint(tmp_path)
    for bad in (text[:-20], "", "[]", "\x00"):
        path.write_text(bad)
        with pytest.raises(ValueError, match=r"checkpoint\.json"):
            load_checkpoint(tmp_path)


def test_numbers_of_numpy_are_written_as_numbers(tmp_path):
    state, g = new_state()
    told = {"recipe": TrainConfig(learning_rate=np.float32(0.5)), "n": np.int64(3), "on": np.bool_(True)}
    save_checkpoint(tmp_path, step=np.int64(1), run_config=told, generators={"train": g}, **state)
    found = load_checkpoint(tmp_path)
    assert found.step == 1 and found.run_config["recipe"]["learning_rate"] == 0.5
    assert found.run_config["n"] == 3 and found.run_config["on"] is True


def test_what_cannot_be_saved_is_refused_before_anything_is_written(tmp_path):
    state, g = new_state()
    options = {"step": 1, "run_config": {}, "generators": {"train": g}} | state
    folder = tmp_path / "run"
    with pytest.raises(TypeError, match="cannot be written as JSON"):
        save_checkpoint(folder, **options | {"run_config": {"f": print}})
    with pytest.raises(ValueError, match="step"):
        save_checkpoint(folder, **options | {"step": -1})
    optimizer = torch.optim.LBFGS(state["model"].parameters())
    optimizer.step(lambda: state["model"].out.bias.sum().requires_grad_())
    with pytest.raises(ValueError, match="only tensors"):
        save_checkpoint(folder, **options | {"optimizer": optimizer})
    assert not folder.exists()


def test_a_folder_that_is_a_file_is_an_os_error(tmp_path):
    (tmp_path / "run").write_text("")
    with pytest.raises(OSError):
        train_and_save(tmp_path / "run", 1)


# -------------------------------------------------------------------------------------- wrong targets


def test_restore_names_the_settings_of_another_preset_and_changes_nothing(tmp_path):
    model = build_unet("7hqconv", seed=0)
    save_checkpoint(tmp_path, model=model, ema=EMA(model), optimizer=None, step=0, run_config={}, generators={})
    other = build_unet("1hqconv", seed=1)
    before = {k: v.clone() for k, v in other.state_dict().items()}
    with pytest.raises(ValueError, match="'7hqconv'.*'1hqconv'.*n_circuits is 7 there and 1 here"):
        restore(load_checkpoint(tmp_path), model=other)
    assert same(before, other.state_dict())
    slower = build_unet("7hqconv", backend="statevector")  # another way to compute the same
    restore(load_checkpoint(tmp_path), model=slower)
    assert same(slower.state_dict(), model.state_dict())
    restore(load_checkpoint(tmp_path), model=build_unet("7hqconv", forms="plain"))


def test_a_run_whose_file_knows_fewer_settings_goes_on(tmp_path):
    """Settings that came later, such as forms and T, have their defaults in an older file."""
    model = build_unet("1hqconv", seed=0)
    save_checkpoint(tmp_path, model=model, ema=None, optimizer=None, step=0, run_config={}, generators={})
    text, saved = read_tensors(tmp_path / "checkpoint.safetensors")
    info = json.loads(text)
    older = {k: v for k, v in info["model_config"].items() if k not in ("forms", "T")}
    write_tensors(tmp_path / "checkpoint.safetensors", saved, json.dumps(info | {"model_config": older}))
    fresh = build_unet("1hqconv", seed=1)
    restore(load_checkpoint(tmp_path), model=fresh)
    assert same(fresh.state_dict(), model.state_dict())
    with pytest.raises(ValueError, match="T is 1000 there and 500 here"):
        restore(load_checkpoint(tmp_path), model=build_unet("1hqconv", T=500))


def test_restore_names_tensors_and_changes_nothing(tmp_path):
    train_and_save(tmp_path, 2)
    saved = load_checkpoint(tmp_path)
    wide, g = new_state(lambda: Toy(width=4))
    with pytest.raises(ValueError, match=r"vertex_conv\.weight has shape \(3, 1, 3, 3\) there and \(4, 1"):
        restore(saved, model=wide["model"])
    with pytest.raises(ValueError, match="averaged weights"):
        restore(saved, ema=wide["ema"])
    with pytest.raises(ValueError, match="does not fit this optimiser"):
        restore(saved, optimizer=wide["optimizer"])
    with pytest.raises(ValueError, match=r"missing there.*and \d+ more"):
        restore(saved, model=nn.Sequential(*[nn.Linear(1, 1)] * 5))

    fresh, _ = new_state(lambda: Toy(seed=1))
    before = {k: v.clone() for k, v in fresh["model"].state_dict().items()}
    with pytest.raises(ValueError, match=r"generator 'data'.*holds: train"):
        restore(saved, model=fresh["model"], generators={"data": g})
    with pytest.raises(ValueError, match="weights"):
        restore(saved, model=fresh["model"], optimizer=make_optimizer(nn.Linear(1, 1)))
    assert same(before, fresh["model"].state_dict())


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize(
    ("made", "wanted"),
    [("SGD", "Adam"), ("AdamW", "Adam"), ("Adam", "AdamW"), ("Adam", "SGD"), ("RMSprop", "Adam"), ("amsgrad", "Adam")],
)
def test_restore_refuses_another_kind_of_optimiser_and_changes_nothing(tmp_path, made, wanted, version):
    """torch takes all of them: SGD's state raised KeyError at Adam's next step, AdamW's made Adam an AdamW."""

    def optimiser(name, model):
        kind, options = (torch.optim.Adam, {"amsgrad": True}) if name == "amsgrad" else (getattr(torch.optim, name), {})
        return kind(model.parameters(), lr=1e-3, **options)

    state, g = new_state()
    state["optimizer"] = optimiser(made, state["model"])
    state["model"].out.bias.sum().backward()
    state["optimizer"].step()
    save(tmp_path, state, g, 1)
    if version == 1:
        as_version_1(tmp_path)
    fresh = Toy(seed=1)
    before = {k: v.clone() for k, v in fresh.state_dict().items()}
    optimizer = optimiser(wanted, fresh)
    said = f"{made}; this one is {wanted}|of another kind of optimiser than this {wanted}"
    with pytest.raises(ValueError, match=said):
        restore(load_checkpoint(tmp_path), model=fresh, optimizer=optimizer)
    assert same(before, fresh.state_dict()) and type(optimizer).__name__ == wanted and not optimizer.state
    restore(load_checkpoint(tmp_path), model=fresh, optimizer=optimiser(made, fresh))
    assert not same(before, fresh.state_dict())


def test_restore_refuses_to_go_on_with_another_schedule(tmp_path):
    state, _ = train_and_save(tmp_path, 1)
    saved, fresh = load_checkpoint(tmp_path), Toy(seed=1)
    assert torch.equal(saved.schedule.betas, SCHEDULE.betas)
    before = {k: v.clone() for k, v in fresh.state_dict().items()}
    for other in (cosine_betas(100), linear_betas(1000), cosine_betas(1000, s=0.01)):
        with pytest.raises(ValueError, match=r"was trained with NoiseSchedule\(T=1000.*not with NoiseSchedule"):
            restore(saved, model=fresh, schedule=NoiseSchedule(other))
    assert same(before, fresh.state_dict())
    restore(saved, model=fresh, schedule=NoiseSchedule(cosine_betas()))
    assert same(state["model"].state_dict(), fresh.state_dict())


# --------------------------------------------------------------------------------------- whole models


def test_load_model_rebuilds_either_set_of_weights(tmp_path):
    model = build_unet("1hqconv", seed=0)
    ema = EMA(model)
    with torch.no_grad():
        model.vertex_block1.conv1.quantum.layer.theta.add_(1.0)
    save_checkpoint(tmp_path, model=model, ema=ema, optimizer=None, step=1, run_config={}, generators={})
    averaged, raw = load_model(tmp_path), load_model(tmp_path, ema=False, backend="statevector")
    assert same(averaged.state_dict(), ema.state_dict()) and same(raw.state_dict(), model.state_dict())
    assert not averaged.training and not raw.training
    assert raw.config.backend == "statevector" and averaged.config == model.config


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16])
def test_double_precision_is_kept_and_half_is_widened_to_what_a_unet_takes(tmp_path, dtype):
    model = build_unet("unet", seed=0).to(dtype)
    with torch.no_grad():
        model.first.bias.fill_(1 / 3)  # no number of float32
    save_model(tmp_path, model, {})
    loaded, wanted = load_model(tmp_path), torch.promote_types(dtype, torch.float32)
    assert {value.dtype for value in loaded.state_dict().values()} == {wanted}
    assert same(loaded.state_dict(), {name: value.to(wanted) for name, value in model.state_dict().items()})


@pytest.mark.parametrize("preset, options", [("unet", {}), ("quanv-hqconv", {"paper_count": True})])
def test_save_model_goes_around(tmp_path, preset, options):
    model = build_unet(preset, seed=0, **options)  # the second has convolutions that share weights
    save_model(tmp_path, model, {"dataset": "fashion-mnist", "steps": 5})
    assert sorted(os.listdir(tmp_path)) == ["model.json", "model.safetensors"]
    assert json.loads((tmp_path / "model.json").read_text()) == read_info(tmp_path)  # for people
    assert read_info(tmp_path)["card"]["steps"] == 5
    loaded = load_model(tmp_path)
    assert loaded.config == model.config and same(loaded.state_dict(), model.state_dict())
    with pytest.raises(ValueError, match="one set of weights"):
        load_model(tmp_path, ema=False)
    save_model(tmp_path, build_unet(preset, seed=1, **options), {})  # over the old one
    assert not same(load_model(tmp_path).state_dict(), model.state_dict())
    (tmp_path / "model.safetensors").write_bytes(b"something else")
    with pytest.raises(ValueError, match=r"model\.safetensors is damaged"):
        load_model(tmp_path)


@pytest.mark.parametrize("betas", [cosine_betas(100), linear_betas(50), cosine_betas(30, s=0.02), None])
def test_a_model_knows_the_schedule_it_was_trained_with(tmp_path, betas):
    """A name tells the two usual ones; the numbers of any other are kept to the last bit."""
    schedule = None if betas is None else NoiseSchedule(betas)
    model = build_unet("unet", seed=0)
    options = {"ema": EMA(model), "optimizer": None, "step": 1, "run_config": {}, "generators": {}}
    save_checkpoint(tmp_path / "run", model=model, schedule=schedule, **options)
    save_model(tmp_path / "model", model, {}, schedule)
    save_model(tmp_path / "again", load_model(tmp_path / "run"), {})  # as tools/ship_checkpoint.py does
    for name in ("run", "model", "again"):
        found = load_model(tmp_path / name).schedule
        assert found is None if schedule is None else torch.equal(found.betas, schedule.betas)


def test_a_failed_save_leaves_the_model_that_was_there(tmp_path, monkeypatch):
    model = build_unet("unet", seed=0)
    save_model(tmp_path, model, {"name": "old"})

    def full(handle):
        raise OSError("No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        save_model(tmp_path, build_unet("unet", seed=1), {"name": "new"})
    monkeypatch.undo()
    back = load_model(tmp_path)
    assert all(torch.equal(a, b) for a, b in zip(back.parameters(), model.parameters(), strict=True))
    save_model(tmp_path, model, {"name": "newer"})  # and what the failed one left behind goes
    assert sorted(os.listdir(tmp_path)) == ["model.json", "model.safetensors"]


def test_load_model_says_what_it_cannot_build(tmp_path):
    train_and_save(tmp_path / "toy", 1)
    with pytest.raises(ValueError, match="no UNet"):
        load_model(tmp_path / "toy")
    save_model(tmp_path, build_unet("unet", seed=0), {})
    text, saved = read_tensors(tmp_path / "model.safetensors")
    info = json.loads(text)
    for config, message in (
        (info["model_config"] | {"flux": 1}, "cannot build.*flux"),
        (info["model_config"] | {"ansatz": "mine"}, "ansatz 'mine'"),
        (info["model_config"] | {"n_circuits": 1}, "does not fit the model"),
    ):
        write_tensors(tmp_path / "model.safetensors", saved, json.dumps(info | {"model_config": config}))
        with pytest.raises(ValueError, match=message):
            load_model(tmp_path)


# ------------------------------------------------------------------------------------------- transfer


def test_transfer_copies_all_but_the_vertex():
    src, dst = build_unet("unet", seed=0), build_unet("1hqconv", seed=1)
    vertex = {k: v.clone() for k, v in dst.state_dict().items() if k.startswith("vertex")}
    report = transfer_weights(src, dst)
    a, b = src.state_dict(), dst.state_dict()
    assert set(report.copied) | set(report.excluded) == set(b)
    assert set(report.excluded) == set(vertex)
    assert not report.missing and not report.mismatched and not report.unused
    assert all(torch.equal(a[k], b[k]) for k in report.copied)
    assert all(torch.equal(vertex[k], b[k]) for k in vertex)
    assert report.numbers_copied + sum(v.numel() for v in vertex.values()) == report.numbers_total
    assert f"Copied {len(report.copied)} tensors" in str(report) and "excluded by name" in str(report)


def test_transfer_says_why_a_weight_stays():
    src, dst = Toy(seed=0), Toy(seed=1, width=5)
    del src.norm
    src.extra = nn.Linear(1, 1)
    report = transfer_weights(src, dst)
    assert report.copied == ("out.bias",) and torch.equal(src.out.bias, dst.out.bias)
    assert set(report.excluded) == {"vertex_conv.weight", "vertex_conv.bias"}
    assert report.mismatched == {"out.weight": ((1, 3, 1, 1), (1, 5, 1, 1))}
    assert "norm.weight" in report.missing and report.unused == ("extra.weight", "extra.bias")
    text = str(report)
    assert "another shape" in text and "not in the source" in text and "Without a place" in text
    everything = transfer_weights(Toy(seed=0), Toy(seed=1), exclude=None)
    assert not everything.excluded and "vertex_conv.weight" in everything.copied


def test_transfer_refuses_models_with_nothing_in_common():
    with pytest.raises(ValueError, match="no weight"):
        transfer_weights(nn.Linear(2, 2), Toy())
    with pytest.raises(ValueError, match="empty text"):
        transfer_weights(Toy(), Toy(), exclude="")
