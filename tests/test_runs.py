"""A run in its folder: what is refused, when it is described and before a folder is made; its random numbers."""

import copy
import json
import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from qdm_lib import runs
from qdm_lib.checkpoint import load_checkpoint, load_model, load_pretrained, save_model
from qdm_lib.data import load_images
from qdm_lib.diffusion import NoiseSchedule, cosine_betas, linear_betas
from qdm_lib.runs import RunConfig, generate, run_info, sampling, train_run
from qdm_lib.training import TrainConfig
from qdm_lib.unet import build_unet

SMALL = TrainConfig(batch_size=2)


@pytest.fixture(scope="module")
def images():
    return load_images("fashion-mnist", "test", bundled=True)


# ------------------------------------------------------------------------------------- what a run is


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model_options": {"foo": 1}}, "Unknown model option 'foo'"),
        ({"model_options": {"anzatz": "fqconv"}}, "Did you mean 'ansatz'"),
        ({"model_options": {"ansatz": "mine"}}, "Unknown ansatz 'mine'"),
        ({"model_options": {"paper_count": True}}, "needs quanv=True"),
        ({"preset": "unet", "model_options": {"control": "zero"}}, "control='zero' replaces circuits"),
        ({"model_options": {"preset": "unet"}}, "Unknown model option 'preset'"),
        ({"model_options": {"T": 10}}, "Unknown model option 'T'"),
        ({"model_options": {"quanv": "no"}}, "quanv must be True or False"),
        ({"model_options": {"backend": "statevector"}}, "Unknown model option 'backend'"),
        ({"hybridization": 1, "model_options": {"n_circuits": 7}}, "hybridization=1 says n_circuits already"),
        ({"hybridization": "x"}, "hybridization must be"),
        ({"hybridization": 14}, "hybridization must be"),
        ({"hybridization": 1.5}, "hybridization must be"),
        ({"bf16": "no"}, "bf16 must be True or False"),
        ({"bf16": 1}, "bf16 must be True or False"),
        ({"seed": 1.5}, "seed must be a whole number"),
        ({"seed": True}, "seed must be a whole number"),
        ({"seed": -1}, "seed must be a whole number"),
        ({"seed": 2**31}, "seed must be a whole number"),
        ({"steps": 0}, "steps must be a whole number"),
        ({"steps": True}, "steps must be a whole number"),
        ({"nudge": True}, "nudge must be"),
    ],
)
def test_a_run_that_cannot_be_is_refused_when_it_is_described(options, message):
    """A model's options and bf16 were accepted once, and failed, or counted as True, after the images were read."""
    with pytest.raises(ValueError, match=message):
        RunConfig(**options)


def test_a_run_s_config_is_that_of_its_model():
    """And so are its weights those of `build_unet` with the same seed."""
    config = RunConfig("7hqconv", backend="statevector", hybridization=2, seed=3, model_options={"ansatz": "fqconv"})
    wanted = build_unet("7hqconv", hybridization=2, seed=3, verbose=False, backend="statevector", ansatz="fqconv")
    model = config.build_model()
    assert model.config == config.model_config() == wanted.config
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), wanted.parameters(), strict=True))


def test_numbers_of_numpy_are_taken_and_can_be_written(tmp_path, images):
    config = RunConfig("unet", steps=np.int64(1), seed=np.int32(3), recipe=SMALL)
    assert train_run(config, tmp_path, images=images, device="cpu", progress=False).last_step == 1
    assert load_checkpoint(tmp_path).run_config["seed"] == 3
    assert RunConfig(**json.loads(json.dumps({"steps": 1, "seed": 3}))).steps == config.steps
    recipe = TrainConfig(batch_size=SMALL.batch_size, learning_rate=np.float32(1e-3))
    config = RunConfig("unet", steps=1, hybridization=np.int64(1), recipe=recipe)
    for steps in (1, 2):  # the second goes on with what the first saved
        longer = replace(config, steps=steps)
        run = train_run(longer, tmp_path / "x", images=images, device="cpu", progress=False, resume=steps > 1)
        assert run.last_step == steps


def test_what_a_preset_can_be_is_taken():
    for options in ({"hybridization": "full"}, {"hybridization": 0.5}, {"model_options": {"control": "zero"}}):
        assert RunConfig("1hqconv", **options).build_model()
    assert RunConfig("quanv-hqconv", model_options={"paper_count": True}).build_model().config.paper_count


def test_no_two_uses_of_a_seed_read_one_stream():
    """And what they are is part of every result: other numbers draw other images from the same seed."""
    streams = {name: value for name, value in vars(runs).items() if name.endswith("_STREAM")}
    assert streams == {
        "NOISE_STREAM": 1_000_003, "DRAW_STREAM": 2_000_003, "VERTEX_STREAM": 3_000_017, "NUDGE_STREAM": 4_000_037
    }  # fmt: skip
    values = sorted([0, *streams.values()])
    assert all(b - a > 100_000 for a, b in zip(values, values[1:], strict=False))  # no run has so many seeds


# ---------------------------------------------------------------------------------- a run in its folder


class TwoProcesses:
    """What an accelerator tells the first of two processes."""

    process_index, num_processes, device, is_main_process = 0, 2, torch.device("cpu"), True


@pytest.mark.parametrize("size", [1, 3, 127])
def test_a_batch_that_processes_cannot_share_is_refused_before_the_folder_is_made(tmp_path, images, size):
    config = RunConfig("unet", steps=1, recipe=TrainConfig(batch_size=size))
    with pytest.raises(ValueError, match=f"2 processes cannot share a batch of {size} images equally"):
        train_run(config, tmp_path / "run", images=images, processes=runs.Processes(TwoProcesses()))
    assert not (tmp_path / "run").exists()


def test_other_images_or_another_model_than_the_run_s_are_refused(tmp_path, images):
    """A checkpoint once told of a unet on clothes and held a 7hqconv trained on digits."""
    options = {"device": "cpu", "progress": False, "images": images}
    config, run = RunConfig("unet", steps=1, recipe=SMALL), tmp_path / "run"
    with pytest.raises(ValueError, match="These images are of 'mnist'; the run is to learn from 'fashion-mnist'"):
        train_run(config, run, **options | {"images": replace(images, name="mnist")})
    with pytest.raises(ValueError, match="run is of preset 'unet' .* model of preset '7hqconv': n_circuits is 0 there"):
        train_run(config, run, model=build_unet("7hqconv"), **options)
    assert not run.exists()
    train_run(config, run, model=torch.compile(build_unet("unet", forms="plain"), backend="eager"), **options)
    assert load_checkpoint(run).step == 1  # what changes speed only may differ
    own = options | {"images": replace(images, name="mine")}
    assert train_run(config, tmp_path / "own", **own).last_step == 1  # of no known set: one's own images


def test_a_file_in_the_place_of_a_run_gets_the_folder_as_advice(tmp_path, images):
    run = tmp_path / "run"
    train_run(RunConfig("unet", steps=1, recipe=SMALL), run, images=images, device="cpu", progress=False)
    for name in ("checkpoint.safetensors", "checkpoint.json", "loss.csv"):
        with pytest.raises(FileNotFoundError, match=f"named by its folder; give {run}, not {run / name}"):
            run_info(run / name)
    with pytest.raises(FileNotFoundError, match=f"no checkpoint in {tmp_path}; 'train --out {tmp_path}' makes one"):
        run_info(tmp_path)
    with pytest.raises(FileNotFoundError, match="'train --out .*nowhere' makes one"):
        run_info(tmp_path / "nowhere")
    assert run_info(run)["step"] == 1 and sorted(os.listdir(run)) == [".lock", "checkpoint.safetensors", "loss.csv"]
    assert load_checkpoint(run).schedule.T == 1000


@pytest.mark.parametrize("rest", ["", "2", "2,", "2,0.12", "2,0.125,3", "st"])
def test_a_last_loss_that_is_half_written_is_left_out(tmp_path, rest):
    (tmp_path / "loss.csv").write_text("step,loss,grad_norm\n1,0.5,1.5\n" + rest)
    assert runs.read_losses(tmp_path) == ([1], [0.5])
    (tmp_path / "loss.csv").write_text("step,loss\n1\n")
    with pytest.raises(ValueError, match="is not a loss file"):
        runs.read_losses(tmp_path)


# ------------------------------------------------------------------------------------------- drawing


def draw(model, n=2, **options):
    return generate(model, n, device="cpu", progress=False, **{"steps": 2} | options)


def test_images_are_drawn_with_the_model_s_own_schedule(tmp_path):
    """A model trained with T = 100 once gave garbage without a word: the steps of T = 1000 mean nothing to it."""
    schedule = NoiseSchedule(cosine_betas(100))
    save_model(tmp_path, build_unet("unet", seed=0), {}, schedule)
    model, seen = load_model(tmp_path), []
    images = draw(model, on_state=lambda state: seen.append(state.t))
    assert seen == [99, 0]
    assert torch.equal(images, draw(build_unet("unet", seed=0), schedule=schedule))
    assert not torch.equal(images, draw(build_unet("unet", seed=0)))
    assert torch.equal(images, draw(model, schedule=NoiseSchedule(cosine_betas(100))))  # told the same
    assert draw(model, sampler="ddpm", steps=None, n=1).shape == (1, 1, 28, 28)  # its T steps


@pytest.mark.parametrize(
    "other", [cosine_betas(1000), cosine_betas(99), linear_betas(100), cosine_betas(100, s=0.01)], ids=range(4)
)
def test_another_schedule_than_that_of_training_is_refused(tmp_path, other):
    save_model(tmp_path, build_unet("unet", seed=0), {}, NoiseSchedule(cosine_betas(100)))
    with pytest.raises(ValueError, match=r"trained with NoiseSchedule\(T=100.*cannot be drawn from it with Noise"):
        draw(load_model(tmp_path), schedule=NoiseSchedule(other))
    with pytest.raises(ValueError, match="steps must be a whole number, 1 … 100"):
        draw(load_model(tmp_path), steps=101)
    with pytest.raises(ValueError, match="ddpm sampler always takes 100 steps"):
        draw(load_model(tmp_path), sampler="ddpm", steps=1000)


def test_a_shipped_model_draws_by_the_recipe_s_schedule():
    model = load_pretrained("fashion-mnist/unet-1-epoch")
    assert torch.equal(draw(model), draw(model, schedule=NoiseSchedule(cosine_betas(1000))))


def test_the_batches_of_another_schedule_are_not_taken_for_one_s_own(tmp_path):
    """Only the schedule told them apart, and a second call once gave the first one's images."""
    model, part = build_unet("unet", seed=0), tmp_path / "part.npz"
    told = [{"schedule": NoiseSchedule(betas)} for betas in (cosine_betas(100), linear_betas(100))]
    first, second = (draw(model, part=part, **options) for options in told)
    assert not torch.equal(first, second) and torch.equal(second, draw(model, **told[1]))


def test_a_new_folder_is_made_and_one_that_cannot_be_is_refused_before_the_work(tmp_path, images, monkeypatch):
    """Scores took hours and could then not be written; `part` failed after its first batch."""
    few, rest = (replace(images, images=images.images[rows]) for rows in (slice(4), slice(4, 8)))
    options = {"features": "classifier", "n_bootstrap": 2, "max_reference": 4}
    draw(build_unet("unet", seed=0), part=tmp_path / "a" / "b" / "part.npz")
    runs.score_to_json(tmp_path / "c" / "d" / "scores.json", few.images, few, rest, {}, **options)
    assert len(list(tmp_path.glob("*/*/*"))) == 2
    (tmp_path / "file").touch()
    monkeypatch.setattr("qdm_lib.metrics.evaluate", lambda *_, **__: pytest.fail("scored"))
    monkeypatch.setattr(sampling, "SAMPLERS", {"ddim": (lambda *_, **__: pytest.fail("drawn"), 50)})
    with pytest.raises(OSError, match="Cannot write into the folder .*file"):
        runs.score_to_json(tmp_path / "file" / "scores.json", few.images, few, rest, {}, **options)
    with pytest.raises(OSError, match="Cannot write into the folder .*file"):
        draw(build_unet("unet", seed=0), part=tmp_path / "file" / "part.npz")


@pytest.mark.parametrize("sampler", ["ddim", "dpm"])
def test_a_model_in_double_precision_draws_the_same_images(sampler):
    model = build_unet("unet", seed=0)
    single, double = (draw(m, 2, sampler=sampler, steps=2).int() for m in (model, copy.deepcopy(model).double()))
    assert (single - double).abs().max() <= 1


def test_numbers_of_numpy_draw_the_same_images():
    model = build_unet("unet", seed=0)
    numbers = [{name: kind(2) for name in ("n", "seed", "batch_size", "steps")} for kind in (int, np.int64, np.int32)]
    drawn = [generate(model, device="cpu", progress=False, **options) for options in numbers]
    assert torch.equal(drawn[0], drawn[1]) and torch.equal(drawn[0], drawn[2])


@pytest.mark.parametrize("seed", [1.5, True, -1, 2**31, "1", None])
def test_a_seed_is_a_whole_number(seed):
    with pytest.raises(ValueError, match="seed must be a whole number"):
        draw(build_unet("unet", seed=0), seed=seed)


@pytest.mark.parametrize(("room", "pieces"), [(1e9, [8]), (24e6, [3, 3, 2]), (8e6, [1] * 8), (0, [1] * 8)])
def test_pieces_follow_from_the_memory_that_is_free(monkeypatch, room, pieces):
    model = build_unet("unet", seed=0)
    whole = draw(model, 8)
    sizes = []
    model.register_forward_hook(lambda module, inputs, output: sizes.append(len(output)))
    monkeypatch.setattr(sampling, "free_memory", lambda: room)
    images = draw(model, 8, steps=1)
    assert sizes == pieces
    assert images.shape == whole.shape
    difference = (draw(model, 8).int() - whole.int()).abs().float()  # the same images, up to rounding
    assert difference.mean() < 0.01 and difference.max() < 10


@pytest.mark.parametrize(
    "error", [MemoryError(), MemoryError("std::bad_alloc"), RuntimeError("std::bad_alloc"),
              RuntimeError("DefaultCPUAllocator: can't allocate memory"), torch.OutOfMemoryError("CUDA out of memory")],
    ids=range(5),
)  # fmt: skip
def test_memory_that_ran_out_is_one_error(error):
    def greedy(x_t, t):
        raise error

    model = build_unet("unet", seed=0)
    model.forward = greedy
    with pytest.raises(MemoryError, match="no memory to draw 250 images at a time"):
        draw(model)
    with pytest.raises(MemoryError, match="no memory to draw"), sampling._memory_errors(250):
        raise RuntimeError("[enforce fail] DefaultCPUAllocator: not enough memory: you tried to allocate 8 bytes.")
    for text in ("CUDA error: an illegal memory access was encountered", "could not create a memory object"):
        with pytest.raises(RuntimeError, match=text), sampling._memory_errors(250):
            raise RuntimeError(text)
    model.forward = lambda x_t, t: 1 / 0
    with pytest.raises(ZeroDivisionError):
        draw(model)


GROWTH = """
import resource, torch
from qdm_lib.machine import keep_memory
from qdm_lib.runs import generate
from qdm_lib.unet import build_unet
torch.set_num_threads(1)
print(keep_memory())
model = build_unet("unet", seed=0)
for n in (8, 96, 8, 60, 8):
    generate(model, n, steps=1, device="cpu", progress=False)
    with open("/proc/self/statm") as file:
        print(int(file.read().split()[1]) * resource.getpagesize())
"""


def test_a_process_that_draws_again_and_again_does_not_grow():
    """`keep_memory` keeps what it has for the next step; what a finished job leaves goes back to the system."""
    done = subprocess.run([sys.executable, "-c", GROWTH], capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr[-2000:]
    worked, *sizes = done.stdout.split()
    if worked == "False":
        pytest.skip("keep_memory works with glibc alone")
    sizes = [int(size) for size in sizes]
    assert max(sizes[1:]) - sizes[0] < 25e6, sizes  # 45 MB stayed where nothing was handed back
