"""Experiment files, the runner in miniature (every cell and control for two steps), locks, hand-overs."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch

from qdm_lib.checkpoint import SHIPPED, has_checkpoint, load_checkpoint, load_model, save_model
from qdm_lib.controls import CONTROLS
from qdm_lib.data import ImageSet, load_images
from qdm_lib.diffusion import NoiseSchedule, cosine_betas
from qdm_lib.machine import duration
from qdm_lib.runs import sampling as samples
from qdm_lib.runs.run import RunConfig, read_losses, sole_user, train_run
from qdm_lib.training import EMA, TrainConfig
from qdm_lib.unet import PRESETS
from study import run as experiment_run
from study.cost import plan
from study.figures import is_other_draw
from study.handover import target_model
from study.job_files import claim, epoch_losses, note_time, read_picture, seconds_per_step, shipped_model, trained_on
from study.results import SCORES, read_result
from study.run import Runner
from study.spec import Cell, Experiment, Transfer, load_experiment
from study.tables import spent

ROOT = Path(__file__).parent.parent
FILES = sorted((ROOT / "study" / "experiments").glob("*.toml"))


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def few(dataset: str, split: str, n: int) -> ImageSet:
    full = load_images(dataset, split, bundled=True)
    return replace(full, images=full.images[:n], labels=full.labels[:n], source=f"{n} images")


TINY = {(d, s): few(d, s, 16) for d in ("mnist", "fashion-mnist") for s in ("train", "test")}


def tiny(*cells: Cell, **changes) -> Experiment:
    options = {"epochs": 1, "batch_size": 8, "n_images": 8, "sampler_steps": 1} | changes
    return Experiment("mini", tuple(cells), **options)


def runner(experiment: Experiment, folder: Path, **options) -> Runner:
    options = {
        "scorer_options": {"cnn_steps": 2, "cnn_seeds": 2, "n_bootstrap": 2},
        "progress": False,
        "say": lambda text: None,
    } | options
    return Runner(experiment, runs=folder / "runs", results=folder / "results", images=TINY, device="cpu", **options)


# --------------------------------------------------------------------------------------------- files


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_experiment_files_can_be_read(path):
    experiment = load_experiment(path)
    assert experiment.jobs() and path.stem.startswith(experiment.protocol)


def test_the_short_protocol_is_what_the_command_line_trains():
    experiment = load_experiment(ROOT / "study" / "experiments" / "short.toml")
    job = experiment.jobs()[0]
    assert job.name == "short/fashion-mnist/unet/seed-0"
    assert job.config(job.steps(2)) == RunConfig("unet", "fashion-mnist", 938, 0)
    job = next(job for job in experiment.jobs() if job.name == "short/fashion-mnist/fullhqconv/seed-0")
    assert job.config(938) == RunConfig("fullhqconv", "fashion-mnist", 938, 0, first_weights="unet")
    seeds = {cell.label: len(cell.seeds) for cell in experiment.cells}
    assert all(seeds[name] >= 5 for name in ("unet", "control-zero", "fullhqconv")) and min(seeds.values()) >= 3
    ladder = {f"control-{name}" for name in CONTROLS if name != "bare"} | {"fullhqconv", "fullfqconv"}
    assert ladder | {"unet", "1hqconv", "1fqconv"} <= set(seeds)


UNET = "[[cells]]\npreset = 'unet'\nseeds = [0]\n"


@pytest.mark.parametrize(
    "text, words",
    [
        ("protocol = 'a b'\ncells = []", "protocol must be a name"),
        ("protocol = 'x'", "The experiment needs 'cells'"),
        ("protocol = 'x'\nepoch = 3\ncells = []", "Unknown key 'epoch' of experiment"),
        ("protocol = 'x'\n[[cells]]\npreset = 'unett'\nseeds = [0]", "Did you mean 'unet'?"),
        (
            "protocol = 'x'\n[[cells]]\npreset = 'unet'\nseeds = 3",
            "cells.0.seeds: A cell needs seeds, .*; got 3",
        ),
        (
            "protocol = 'x'\n[[cells]]\npreset = 'unet'\nseeds = [0]\ncontrol = 'zero'",
            "control='zero' replaces circuits",
        ),
        ("protocol = 'x'\n[[cells]]\npreset = 'unet'\nseeds = [0]\ntransfer = {epochs = 20}", "leaves none"),
        ("protocol = 'x'\n" + "[[cells]]\npreset = 'unet'\nseeds = [0]\n" * 2, "twice are fashion-mnist/unet"),
        ("protocol = 'x'\ncells = []", "needs at least one"),
        ("protocol = 'x'\ncells = ['unet']", "cells.0: Input should be a dictionary .*, not 'unet'"),
        (
            "protocol = 'x'\n[[cells]]\npreset = 'unet'\nseeds = [0]\ntransfer = 'warm'",
            "cells.0.transfer: Input .*, not 'warm'",
        ),
        ("protocol = 'x'\n[[cells]]\npreset = 'unet'\nseeds = [0, 0]", "seeds, each once, such as .0, 1.; got .0, 0."),
        ("protocol = 'x'\n[[cells]]\npreset = 'unet'\nseeds = []", "seeds, each once, such as .0, 1.; got"),
        ("protocol = 'x'\nruns_of = 3\ncells = []", "runs_of must be a name of letters, digits, - and _ .*, not 3"),
        ("protocol = 'x'\nruns_of = '../y'\ncells = []", "runs_of must be a name of .*, not '../y'"),
        ("protocol = ['x']\ncells = []", "protocol must be a name of"),
        ("protocol = 'x'\nn_images = 5\ncells = []", "n_images must be a whole number, 6 … 1,000,000; got 5"),
        ("protocol = ", "file.toml: Invalid value"),
        (UNET, "The experiment needs 'protocol'"),
        ("protocol = 'x'\n" + UNET + "[[cells]]\npreset = '1hqcnv'\nseeds = [0]", "cells.1.preset: .*mean '1hqconv'"),
        ("protocol = 'x'\n" + UNET + "seed = [0]", "cells.0: Unknown key 'seed' of cell. Did you mean 'seeds'?"),
        ("protocol = 'x'\n" + UNET + "control = 'zro'", "cells.0.control: .*mean 'zero'"),
        ("protocol = 'x'\n" + UNET + "transfer = {epochs = 1, ema = 'wram'}", "cells.0.transfer.ema: .*mean 'warm'"),
        ("protocol = 'x'\n" + UNET + "transfer = {ema = 'warm'}", "cells.0.transfer: The transfer needs 'epochs'"),
        ("protocol = 'x'\ndrawn_as = {sampler = 'dim'}\n" + UNET, "drawn_as: Unknown sampler 'dim'. Did you mean"),
        ("protocol = 'x'\nepochs = 1" + "0" * 54 + "\n" + UNET, "epochs must be a whole number, 1 … 10,000"),
        ("protocol = 'x'\nn_images = 7" + "0" * 9 + "\n" + UNET, "n_images must be a whole number, 6 … 1,000,000"),
        ("protocol = 'x'\nbatch_size = 60001\n" + UNET, "batch_size must be a whole number, 1 … 60,000"),
        ("protocol = 'x'\nepochs = 1" + "0" * 5000, "limit"),
        ("protocol = " + "[" * 5000, "too deep"),
        ("a = " + "{b = " * 3000, "too deep"),
        ("protocol = " + "[" * 300 + "]" * 300, "protocol must be a name of"),
        ("protocol = 'é'\n" + UNET, "protocol must be a name of .*not 'é'"),
        ("protocol = '-x'\n" + UNET, "protocol must be a name of .*not '-x'"),
        ("protocol = 'a\\b'\n" + UNET, "protocol must be a name of"),
        ('protocol = "a\\nb"\n' + UNET, "protocol must be a name of"),
        ("protocol = '" + "x" * 101 + "'\n" + UNET, "protocol must be a name of"),
    ],
)
def test_mistakes_in_a_file_are_named(text, words, tmp_path):
    path = tmp_path / "file.toml"
    path.write_text(text)
    with pytest.raises(ValueError, match=words.replace("?", "[?]")) as error:
        load_experiment(path)
    said = str(error.value)
    assert str(path) in said and "\n" not in said and len(said) < len(str(path)) + 320
    with pytest.raises(FileNotFoundError, match="in that folder are: .*file.toml"):
        load_experiment(tmp_path / "other.toml")


def test_the_papers_cells_are_all_there():
    for dataset, before in (("fashion-mnist", 18), ("mnist", 19)):
        experiment = load_experiment(ROOT / "study" / "experiments" / f"paper-{dataset}.toml")
        names = {cell.label for cell in experiment.cells}
        assert set(PRESETS) <= names and experiment.jobs()[0].name == f"paper/{dataset}/unet/seed-0"
        for target in ("unet", "1hqconv", "1fqconv"):
            assert {f"transfer-{target}-{before}-{how}" for how in ("restart", "warm")} <= names
        assert (experiment.evaluate_at, experiment.keep_at) == ((1, 10, 20), (before,))
        assert (experiment.n_images, experiment.sampler_steps) == (7000, 1000)


def test_cells_are_of_the_files_data_set_unless_they_say_otherwise(tmp_path):
    path = tmp_path / "a.toml"
    path.write_text("protocol = 'x'\ndataset = 'mnist'\n" + UNET + UNET + "dataset = 'fashion-mnist'\n")
    assert [job.name for job in load_experiment(path).jobs()] == ["x/mnist/unet/seed-0", "x/fashion-mnist/unet/seed-0"]


def test_a_folder_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("something")
    for options in ({"results": tmp_path / "file"}, {"runs": tmp_path / "file" / "below"}):
        with pytest.raises(ValueError, match="The folder of (results|runs) cannot be .*file is a file"):
            Runner(tiny(Cell("unet", (0,))), **options)


def test_first_seeds_of_all_cells_come_first():
    experiment = tiny(Cell("unet", (0, 1)), Cell("1hqconv", (5,)))
    assert [job.name[19:] for job in experiment.jobs()] == ["unet/seed-0", "1hqconv/seed-5", "unet/seed-1"]


# --------------------------------------------------------------------------------------------- in miniature

NUDGED = Cell("unet", (0,), nudge=0.001)
IN_FILES = [cell for path in FILES for cell in load_experiment(path).cells]
CELLS = [Cell(preset, (0,), dataset=d) for preset in PRESETS for d in ("fashion-mnist", "mnist")]
CELLS += [*(Cell("fullhqconv", (0,), control=name) for name in CONTROLS), NUDGED]
CELLS += [Cell("fullhqconv", (0,), control="zero", dataset="mnist")]
TRANSFERS = list(
    dict.fromkeys(replace(c, seeds=(0,), transfer=replace(c.transfer, epochs=1)) for c in IN_FILES if c.transfer)
)


def test_the_miniature_has_every_cell_of_the_files():
    assert {replace(cell, seeds=(0,)) for cell in IN_FILES if not cell.transfer} <= set(CELLS)


def test_every_cell_and_control_for_two_steps(tmp_path):
    experiment = tiny(*CELLS)
    assert runner(experiment, tmp_path).run() == 0
    for job in experiment.jobs():
        result = json.loads(job.result(tmp_path / "results").read_text())
        assert result["finished"] and result["by_epoch"]["1"]["step"] == 2
        assert {k: result["config"][k] for k in ("preset", "dataset", "epochs", "seed", "control")} == {
            "preset": job.cell.preset, "dataset": job.cell.dataset, "epochs": 1, "seed": 0, "control": job.cell.control,
        }  # fmt: skip
        assert set(result["scores"]) == set(SCORES)
        for score in result["scores"].values():
            assert score["low"] <= score["value"] <= score["high"] and score["n"] == 8
        assert result["seconds_per_step"]["seconds"] > 0 and result["loss"] > 0
        assert result["losses"] == {"1": result["loss"]}  # both are of the run's two steps
        assert len(read_picture(job.result(tmp_path / "results").parent / result["by_epoch"]["1"]["samples"])) == 8
        saved = load_model(job.folder(tmp_path / "runs"))
        assert (saved.config.preset, saved.config.control) == (job.cell.preset, job.cell.control)


# --------------------------------------------------------------------------------------------- the runner


def test_a_finished_job_is_not_run_again_and_a_running_one_is_adopted(tmp_path):
    experiment = tiny(Cell("unet", (0,)))
    (job,) = experiment.jobs()
    folder = job.folder(tmp_path / "runs")
    train_run(replace(job.config(2, 16), steps=1), folder, images=TINY["fashion-mnist", "train"], progress=False,
              device="cpu")  # fmt: skip
    first = runner(experiment, tmp_path)
    first.run()
    steps, losses = read_losses(folder)
    assert steps == [1, 2] and json.loads((folder / "timing.json").read_text())[0]["steps"] == 1
    text = job.result(tmp_path / "results").read_text()
    again = runner(experiment, tmp_path)
    again.run_job = None  # would fail
    assert again.run() == 0 and job.result(tmp_path / "results").read_text() == text
    assert plan(again)[0].endswith("1 of 1 seeds done")


def test_training_and_scoring_can_be_done_by_two_processes(tmp_path):
    experiment = tiny(Cell("unet", (0,)))
    (job,) = experiment.jobs()
    runner(experiment, tmp_path, evaluate=False).run()
    assert not job.result(tmp_path / "results").exists()
    runner(experiment, tmp_path, train=False).run()
    assert json.loads(job.result(tmp_path / "results").read_text())["finished"]


def test_a_claimed_job_is_left_alone_until_its_process_ends(tmp_path):
    experiment = tiny(Cell("unet", (0,)))
    (job,) = experiment.jobs()
    folder = job.folder(tmp_path / "runs")
    code = "import sys; from pathlib import Path; from study.job_files import claim\n"
    code += "with claim(Path(sys.argv[1])) as mine: print(mine, flush=True); sys.stdin.read()"
    other = subprocess.Popen([sys.executable, "-c", code, folder], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert other.stdout.readline() == b"True\n"
    assert runner(experiment, tmp_path).run() == 1 and not folder.exists()
    other.kill()
    other.wait()
    other.stdin.close(), other.stdout.close()
    with claim(folder) as mine:
        assert mine
    assert runner(experiment, tmp_path).run() == 0 and folder.exists()


def test_a_folder_in_which_somebody_trains_is_left_for_later(tmp_path):
    experiment = tiny(Cell("unet", (0, 1)))
    first, second = experiment.jobs()
    folder = first.folder(tmp_path / "runs")
    folder.mkdir(parents=True)
    said = []
    with sole_user(folder):
        assert runner(experiment, tmp_path, say=said.append, evaluate=False).run() == 1
    assert any(f"{first.name} has to wait: Another process trains in {folder}" in text for text in said)
    assert has_checkpoint(second.folder(tmp_path / "runs"))
    assert runner(experiment, tmp_path, evaluate=False).run() == 0 and has_checkpoint(folder)


def test_shards_share_the_jobs():
    experiment = tiny(Cell("unet", (0, 1, 2)), Cell("1hqconv", (0, 1)))
    parts = [[job.name for job in runner(experiment, Path("."), shard=(i, 2)).jobs] for i in (0, 1)]
    assert sorted(parts[0] + parts[1]) == sorted(job.name for job in experiment.jobs())
    assert [j.name for j in runner(experiment, Path("."), only=("1hq",)).jobs] == parts[0][:0] + [
        job.name for job in experiment.jobs() if "1hqconv" in job.name
    ]
    with pytest.raises(ValueError, match="0 <= i < n; got 2/2"):
        runner(experiment, Path("."), shard=(2, 2))


def test_scores_at_several_epochs_and_kept_states(tmp_path):
    experiment = tiny(Cell("unet", (0,)), epochs=3, evaluate_at=(1,), keep_at=(2,))
    (job,) = experiment.jobs()
    runner(experiment, tmp_path).run()
    result, folder = json.loads(job.result(tmp_path / "results").read_text()), job.folder(tmp_path / "runs")
    assert {epoch: entry["step"] for epoch, entry in result["by_epoch"].items()} == {"1": 2, "3": 6}
    assert [load_checkpoint(folder / f"epoch-{e}").step for e in (1, 2)] == [2, 4]
    assert (
        result["scores"] == result["by_epoch"]["3"]["scores"] and result["scores"] != result["by_epoch"]["1"]["scores"]
    )


def test_a_result_from_before_losses_were_kept_gets_those_of_its_run(tmp_path):
    experiment = tiny(Cell("unet", (0,)), epochs=2)
    (job,) = experiment.jobs()
    path, said = job.result(tmp_path / "results"), []
    runner(experiment, tmp_path).run()
    whole = path.read_text()
    content = json.loads(whole)
    assert list(content["losses"]) == ["1", "2"] and content["loss"] is not None
    path.write_text(json.dumps({key: value for key, value in content.items() if key != "losses"}))
    runner(experiment, tmp_path, train=False, say=said.append).run()
    assert path.read_text() == whole and "losses of its epochs are in its result now" in said[0]
    old = json.dumps({key: value for key, value in content.items() if key != "losses"})
    path.write_text(old)
    (job.folder(tmp_path / "runs") / "loss.csv").unlink()
    runner(experiment, tmp_path, train=False).run()
    assert path.read_text() == old  # without the run nothing is made up


def test_another_sampler_draws_from_the_same_runs(tmp_path):
    experiment = tiny(Cell("unet", (0,)))
    runner(experiment, tmp_path).run()
    other = experiment.with_sampler("ddim", 2)
    assert other.protocol == "mini-ddim-2"
    runner(other, tmp_path).run()
    results = [json.loads(e.jobs()[0].result(tmp_path / "results").read_text()) for e in (experiment, other)]
    assert [r["config"]["sampler_steps"] for r in results] == [1, 2] and results[0]["loss"] == results[1]["loss"]
    assert results[0]["scores"] != results[1]["scores"] and len(list((tmp_path / "runs").iterdir())) == 2  # and cache


def test_raw_weights_draw_from_the_same_runs(tmp_path, monkeypatch):
    averaged = []
    monkeypatch.setattr(
        experiment_run, "load_model", lambda folder, ema: averaged.append(ema) or load_model(folder, ema=ema)
    )
    experiment = tiny(Cell("unet", (0,)))
    other = experiment.with_weights("raw")
    assert other.protocol == "mini-raw" and experiment.with_weights("ema") is experiment
    again = other.with_sampler("ddim", 2).protocol
    assert is_other_draw(again, "mini-raw") and not is_other_draw(again, "mini")
    assert not is_other_draw(experiment.with_sampler("ddim", 2).with_weights("raw").protocol, "mini")
    for e, drawn in ((experiment, "drawn-1-ddim-1.npz"), (other, "drawn-1-ddim-1-raw.npz")):
        runner(e, tmp_path).run()
        (job,) = e.jobs()
        assert (job.folder(tmp_path / "runs") / drawn).is_file()
        result = json.loads(job.result(tmp_path / "results").read_text())
        assert result["config"]["weights"] == e.weights and result["config"]["protocol"] == e.protocol
    assert averaged == [True, False]
    with pytest.raises(ValueError, match="Unknown kind of weights 'mean'"):
        experiment.with_weights("mean")


def test_a_shipped_model_scores_as_its_run_that_is_not_here_any_more(tmp_path):
    experiment, models = tiny(Cell("unet", (0,)), Cell("1hqconv", (0,))), tmp_path / "checkpoints"
    job, other = experiment.jobs()
    runner(experiment, tmp_path).run()
    for name, command, epochs in (("unet", job.name, 1.0), ("older", job.name, 0.5), ("1hqconv", "mini/…", 1.0)):
        card = {"command": f"python -m qdm_lib experiment run mini.toml --only {command}", "epochs": epochs}
        save_model(models / "fashion-mnist" / name, load_model(job.folder(tmp_path / "runs")), card)
    elsewhere = runner(experiment, tmp_path / "elsewhere", shipped=models)
    elsewhere.run()
    assert elsewhere.done(job) and not elsewhere.done(other)  # which nobody shipped, and nothing was trained
    here, there = (
        json.loads(job.result(root / "results").read_text()) for root in (tmp_path, elsewhere.results.parent)
    )
    assert there["scores"] == here["scores"] and there["loss"] is None and "losses" not in there
    with pytest.raises(ValueError, match="averaged weights only: leave out --weights raw or --shipped"):
        runner(experiment.with_weights("raw"), tmp_path, shipped=models)


def test_every_scored_model_that_ships_is_found_by_the_job_that_scored_it(tmp_path):
    found = set()
    for path in FILES:
        e = load_experiment(path)
        for job in e.jobs():
            found |= {shipped_model(SHIPPED, job.folder(".").as_posix(), epoch) for epoch in job.own_epochs()[1]}
    assert found - {None} == {path.parent for path in SHIPPED.glob("*/*/model.json")}


def test_the_subset_is_a_protocol_of_its_own():
    experiment = tiny(Cell("unet", (0,))).on_subset()
    assert experiment.jobs()[0].name == "mini-subset/fashion-mnist/unet/seed-0"
    assert len(Runner(experiment).images("fashion-mnist")) == 2000


def test_seconds_of_a_step_over_all_parts_of_a_run(tmp_path):
    assert seconds_per_step(tmp_path) is None
    note_time(tmp_path, 0, 10, 20.0, 10.0, {"cpu": "a"})
    note_time(tmp_path, 10, 40, 20.0, 14.0, {"cpu": "a"})
    assert seconds_per_step(tmp_path) == {"seconds": 1.0, "cpu_seconds": 0.6}
    note_time(tmp_path, 40, 50, 30.0, 30.0, {"cpu": "b"})  # went on elsewhere: times of two machines have no mean
    assert seconds_per_step(tmp_path) == {"seconds": 3.0, "cpu_seconds": 3.0} and trained_on(tmp_path) == {"cpu": "b"}
    assert [duration(s) for s in (40, 720, 3900, 7500)] == ["40 s", "12 min", "65 min", "2 h 05 min"]


def test_losses_of_whole_epochs(tmp_path):
    """Three steps an epoch; of a run that began at step 3 and is at step 8, epoch 2 alone is whole."""
    (tmp_path / "loss.csv").write_text("step,loss\n" + "".join(f"{n},{n / 10}\n" for n in range(4, 9)))
    assert epoch_losses(tmp_path, {0: 0, 1: 3, 2: 6, 3: 9}) == {2: 0.5}


# --------------------------------------------------------------------------------------------- hand-over


def transfers(preset: str, **options) -> Experiment:
    return tiny(Cell(preset, (0,), transfer=Transfer(1, **options)), epochs=2)


@pytest.mark.parametrize("preset", ["unet", "1hqconv"])
def test_what_is_handed_over(preset, tmp_path):
    for options in ({}, {"optimizer": "warm", "ema": "warm"}):
        (job,) = transfers(preset, **options).jobs()
        here = runner(job.experiment, tmp_path, evaluate=False)
        here._start_transfer(job)
        source = load_checkpoint(tmp_path / "runs" / "mini" / "fashion-mnist" / "unet-to-epoch-1" / "seed-0")
        target = load_checkpoint(job.folder(tmp_path / "runs"))
        assert target.step == source.step == 2 and torch.equal(target.rng["noise"], source.rng["noise"])
        fresh = target_model(job.config(4, 16)).state_dict()
        first = job.source().config(4, 16).build_model().state_dict()
        for name, value in target.model.items():
            wanted = fresh[name] if name.startswith("vertex") else source.model[name]
            assert torch.equal(value, wanted) and torch.equal(target.ema[name], wanted)
            if name.startswith("vertex") and value.unique().numel() > 1:  # drawn, not set to 0 or 1:
                assert name not in first or not torch.equal(value, first[name])  # not what the source began with
        warm = bool(options)
        assert bool(target.optimizer) == warm
        if warm:
            names = [name for name, _ in load_model(source.folder).named_parameters()]
            here_names = [name for name, _ in load_model(target.folder).named_parameters()]
            for key, value in target.optimizer.items():
                k, _, entry = key.partition(".")
                name = here_names[int(k)]
                assert not name.startswith("vertex")
                assert torch.equal(value, source.optimizer[f"{names.index(name)}.{entry}"])
        assert target.run_config["recipe"]["ema_start"] == (102 if warm else 100)
        here.run()
        assert read_losses(job.folder(tmp_path / "runs"))[0] == [3, 4]


def test_a_transfer_takes_a_kept_state_of_the_sources_own_run(tmp_path):
    (job,) = transfers("1hqconv").jobs()
    runner(tiny(Cell("unet", (0,)), epochs=2, keep_at=(1,)), tmp_path, evaluate=False).run()
    runner(job.experiment, tmp_path, evaluate=False).run()
    assert not list((tmp_path / "runs").glob("mini/*/unet-to-epoch*"))
    assert job.cell.label == "transfer-1hqconv-1-restart"


def test_restarted_average_keeps_most_of_the_hand_over():
    """79 % of the initial weights after one epoch, 62 % after two, as in the released code; warm: next to nothing."""
    warm = TrainConfig(ema_start=8907 + 100)
    for recipe, wanted in ((TrainConfig(), {9376: 0.79, 9845: 0.62}), (warm, {9376: 0.0, 9845: 0.0})):
        model = torch.nn.Linear(1, 1, bias=False)
        torch.nn.init.ones_(model.weight)
        ema = EMA(model, recipe)
        torch.nn.init.zeros_(model.weight)
        for step in range(8907, 8907 + 938):
            ema.update(model, step)
            if step + 1 in wanted:
                assert abs(float(ema.shadow["weight"]) - wanted[step + 1]) < 0.005


def test_models_of_one_seed_begin_alike_wherever_they_can():
    experiment = tiny(*CELLS[: 2 * len(PRESETS) : 2], CELLS[-3], first_weights="unet")
    (classical,) = [job for job in experiment.jobs() if job.cell.preset == "unet"]
    assert classical.config(1).first_weights is None and classical.settings().first_weights is None
    there = classical.config(1).build_model().state_dict()
    for job in experiment.jobs():
        assert job == classical or job.settings().first_weights == "unet"
        here = job.config(1).build_model().state_dict()
        common = [name for name in here if name in there and there[name].shape == here[name].shape]
        assert len(common) > 150 and all(torch.equal(here[name], there[name]) for name in common)
    own = replace(job.config(1), first_weights=None).build_model().state_dict()
    assert not torch.equal(own["first.weight"], there["first.weight"])  # without the option each draws its own
    with pytest.raises(ValueError, match="Unknown preset of first_weights 'u-net'. Did you mean 'unet'"):
        tiny(Cell("unet", (0,)), first_weights="u-net")


def test_a_nudge_changes_every_weight_by_a_little():
    plain, nudged = (job.config(1) for job in tiny(Cell("unet", (0,)), NUDGED).jobs())
    before, after, again = (config.build_model().state_dict() for config in (plain, nudged, nudged))
    assert all(torch.equal(value, again[name]) for name, value in after.items())
    share = torch.cat([(after[k] / v - 1).flatten() for k, v in before.items() if v.is_floating_point()])
    share = share[share.isfinite() & (share != 0)]  # zeros and buffers stay
    moved = torch.cat([(after[k] - v).abs().flatten() for k, v in before.items() if v.is_floating_point()])
    assert (moved < 0.001).float().mean() > 0.99 and moved.median() < 1e-4  # Adam's first step: 0.001
    assert len(share) > 400_000 and abs(share.mean()) < 1e-5 and 0.00099 < share.std() < 0.00101
    for nudge in (0, 1, "much"):
        with pytest.raises(ValueError, match="nudge must be a number above 0 and below 1"):
            Cell("unet", (0,), nudge=nudge)
    with pytest.raises(ValueError, match="A nudge is of first weights"):
        Cell("unet", (0,), nudge=0.1, transfer=Transfer(1))


# --------------------------------------------------------------------------------------------- sharing, stopping


def test_every_transfer_is_scored_and_its_source_is_trained_once(tmp_path):
    """They stand before their source in the file, and wait for it; nothing is trained twice."""
    sources = [Cell("unet", (0,), dataset=name) for name in ("fashion-mnist", "mnist")]
    experiment = tiny(*TRANSFERS, *sources, epochs=2, keep_at=(1,), first_weights="unet")
    begun = []
    assert runner(experiment, tmp_path, say=begun.append).run() == 0
    jobs = [text for text in begun if "jobs done" in text]
    for dataset in ("fashion-mnist", "mnist"):
        assert next(text for text in jobs if f"/{dataset}/" in text).startswith(f"mini/{dataset}/unet/")
    assert len(jobs) == len(TRANSFERS) + 2 > 12 and "rest at the pace so far" in jobs[1]
    assert not list((tmp_path / "runs").glob("mini/*/unet-to-epoch*"))
    for job in experiment.jobs():
        result = json.loads(job.result(tmp_path / "results").read_text())
        assert result["finished"] and set(result["scores"]) == set(SCORES)
        assert result["config"] == asdict(job.settings())
        assert read_losses(job.folder(tmp_path / "runs"))[0] == ([3, 4] if job.cell.transfer else [1, 2, 3, 4])


def test_a_transfer_alone_does_its_sources_part(tmp_path):
    cells = [Cell(preset, (0,), transfer=Transfer(1)) for preset in ("unet", "1hqconv")]
    experiment = tiny(*cells, Cell("unet", (0,)), epochs=2, keep_at=(1,))
    transfer = runner(experiment, tmp_path, only=("transfer-1hqconv",), evaluate=False)
    assert any(line.startswith("sources of transfers") and "2 steps" in line for line in plan(transfer))
    transfer.run()
    source = tmp_path / "runs" / "mini" / "fashion-mnist" / "unet" / "seed-0"
    assert read_losses(source)[0] == [1, 2] and load_checkpoint(source / "epoch-1").step == 2
    assert not any(line.startswith("sources of transfers") for line in plan(runner(experiment, tmp_path)))
    runner(experiment, tmp_path, evaluate=False).run()  # and the source's own job goes on from there
    assert read_losses(source)[0] == [1, 2, 3, 4]


def test_the_average_can_be_carried_over(tmp_path):
    (job,) = transfers("1hqconv", ema="carry").jobs()
    recipe = TrainConfig(batch_size=8, ema_start=0, ema_every=1)  # so that average and weights soon differ
    source_config = replace(job.source().config(4, 16), recipe=recipe)
    options = {"images": TINY["fashion-mnist", "train"], "progress": False, "device": "cpu"}
    train_run(source_config, tmp_path / "source", **options)
    experiment_run.start_transfer(tmp_path / "source", tmp_path / "target", job.config(6, 16), ema="carry")
    source, target = (load_checkpoint(tmp_path / name) for name in ("source", "target"))
    name, theta = "first.weight", "vertex_block1.conv1.quantum.layer.theta"
    assert not torch.equal(source.ema[name], source.model[name])
    assert torch.equal(target.ema[name], source.ema[name]) and torch.equal(target.model[name], source.model[name])
    assert torch.equal(target.ema[theta], target.model[theta])  # has no average to carry
    here = runner(job.experiment, tmp_path, evaluate=False)  # and the runner asks for it
    here.run()
    assert job.cell.label.endswith("-raw-restart-carry") and read_losses(job.folder(here.runs))[0] == [3, 4]


def test_a_killed_runner_goes_on_and_ends_alike(tmp_path):
    script = tmp_path / "run.py"
    script.write_text(
        "import sys, time, torch\nfrom pathlib import Path\ntorch.set_num_threads(1)\n"
        "from test_experiments import Cell, runner, tiny\n"
        "step = torch.optim.Adam.step\n"
        "torch.optim.Adam.step = lambda self, *closure: (time.sleep(0.2), step(self, *closure))[1]\n"
        "runner(tiny(Cell('1hqconv', (0,)), epochs=6), Path(sys.argv[1]), evaluate=False, save_every=3).run()\n"
    )
    (job,) = tiny(Cell("1hqconv", (0,)), epochs=6).jobs()
    folder = job.folder(tmp_path / "killed" / "runs")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")]), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen([sys.executable, script, tmp_path / "killed"], env=environment)
    while not (folder / "loss.csv").is_file() or len((folder / "loss.csv").read_text().splitlines()) < 6:
        assert process.poll() is None, "the run ended before it could be killed"
        time.sleep(0.02)
    process.kill()
    assert process.wait() == -signal.SIGKILL and load_checkpoint(folder).step < 12
    for where in ("killed", "whole"):
        assert runner(tiny(Cell("1hqconv", (0,)), epochs=6), tmp_path / where, evaluate=False, save_every=3).run() == 0
    whole = job.folder(tmp_path / "whole" / "runs")
    assert (folder / "loss.csv").read_text() == (whole / "loss.csv").read_text()
    a, b = load_checkpoint(folder), load_checkpoint(whole)
    assert a.step == b.step == 12 and all(torch.equal(a.model[name], b.model[name]) for name in a.model)


@pytest.mark.parametrize("sampler", ["ddim", "ddpm"])
def test_a_stopped_draw_goes_on_and_ends_alike(sampler, tmp_path, monkeypatch):
    monkeypatch.setattr(samples, "NoiseSchedule", lambda: NoiseSchedule(cosine_betas(4)))
    monkeypatch.setattr(samples, "check_sampler", lambda *_: 4)
    calls, stop_at = [], None

    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.w = torch.nn.Parameter(torch.ones(()))

        def forward(self, x, t):
            calls.append(len(x))
            if len(calls) == stop_at:
                raise KeyboardInterrupt
            return 0.1 * self.w * x

    options = {"sampler": sampler, "steps": 4, "batch_size": 3, "device": "cpu", "progress": False}
    whole = samples.generate(Net(), 10, **options)
    assert len(calls) == 16
    calls.clear()
    part, stop_at = tmp_path / "part.npz", 11  # in the third of four batches
    with pytest.raises(KeyboardInterrupt):
        samples.generate(Net(), 10, part=part, **options)
    calls.clear()
    stop_at = None
    assert torch.equal(samples.generate(Net(), 10, part=part, **options), whole) and len(calls) == 8
    assert torch.equal(samples.generate(Net(), 10, part=part, **options), whole) and len(calls) == 8  # all is there
    samples.generate(Net(), 10, seed=1, part=part, **options)  # another call's images are not taken
    assert len(calls) == 8 + 16
    other = Net()
    torch.nn.init.constant_(other.w, 2)
    wanted = samples.generate(other, 10, seed=1, **options)  # nor those of another model
    assert torch.equal(samples.generate(other, 10, seed=1, part=part, **options), wanted)
    whole_file = part.read_bytes()
    for damaged in (b"", b"no npz", whole_file[:-9], whole_file[:300] + b"oops" + whole_file[304:]):
        part.write_bytes(damaged)  # made anew
        assert torch.equal(samples.generate(other, 10, seed=1, part=part, **options), wanted)


def test_writing_that_fails_leaves_nothing_and_keeps_what_was_there(tmp_path, monkeypatch):
    def stopped(*_):
        raise KeyboardInterrupt

    writers = ((samples.write_npz, {"images": TINY["mnist", "test"].images.numpy()}), (samples.write_json, {"a": 1}))
    for write, content in writers:
        path = tmp_path / f"{write.__name__}.{write.__name__[6:]}"
        put = lambda: write(path, **content) if write is samples.write_npz else write(path, content)  # noqa: B023, E731
        put()
        before = path.read_bytes()
        with monkeypatch.context() as patch:
            patch.setattr(samples.os, "replace", stopped)
            with pytest.raises(KeyboardInterrupt):
                put()
        assert path.read_bytes() == before
    with pytest.raises(TypeError):
        samples.write_json(path, {"a": object()})
    assert len(list(tmp_path.iterdir())) == 2


def test_damaged_drawn_images_are_drawn_again(tmp_path):
    experiment = tiny(Cell("unet", (0,)))
    (job,) = experiment.jobs()
    here = runner(experiment, tmp_path)
    here.run()
    (path,) = job.folder(here.runs).glob("drawn-*.npz")
    model, kept = load_model(job.folder(here.runs)), path.read_bytes()
    wanted = here._draw(job, 1, model)  # they are there
    for damaged in (b"", kept[:-30]):
        path.write_bytes(damaged)
        assert torch.equal(here._draw(job, 1, model), wanted) and path.stat().st_size == len(kept)


def test_the_time_of_images_drawn_earlier_is_not_noted(tmp_path):
    """A process that finds images drawn, or begun, cannot say how long they took: null, not the time of reading."""
    experiment = tiny(Cell("unet", (0,)))
    (job,) = experiment.jobs()
    here = runner(experiment, tmp_path)
    here.run()
    result = job.result(here.results)

    def noted():
        return json.loads(result.read_text())["by_epoch"]["1"]["sampling_seconds"]

    assert noted() >= 0
    result.unlink()
    runner(experiment, tmp_path).run()
    assert noted() is None
    assert spent([read_result(result)]).endswith(", and 1 drawing(s) not noted")


# --------------------------------------------------------------------------------------------- mistakes of users


def test_results_of_another_experiment_are_not_mixed_in(tmp_path):
    experiment = tiny(Cell("unet", (0,)))
    runner(experiment, tmp_path).run()
    changed = replace(experiment, n_images=10)
    with pytest.raises(ValueError, match="seed-0.json was made with n_images 8, this experiment has 10: give it"):
        runner(changed, tmp_path).run()
    (path,) = (tmp_path / "results").rglob("seed-0.json")
    old = json.loads(path.read_text())
    del old["config"]["weights"], old["config"]["first_weights"]  # as files from before these settings
    path.write_text(json.dumps(old))
    assert runner(experiment, tmp_path).run() == 0
    path.write_text("<<<<<<< HEAD\n" + path.read_text())
    with pytest.raises(ValueError, match="seed-0.json is no result of an experiment"):
        runner(experiment, tmp_path).run()
    other = experiment.with_features("inception")
    assert other.protocol == "mini-inception" and other.runs_of == "mini" and not runner(other, tmp_path).train
    assert other.jobs()[0].settings().runs_of == "mini"
    assert (
        other.jobs()[0].folder() == experiment.jobs()[0].folder()
        and experiment.with_features("classifier") is experiment
    )


def test_a_word_that_no_job_holds_is_an_error():
    with pytest.raises(ValueError, match="No job's name holds '1hq-conv'. The cells are fashion-mnist/1hqconv; a job"):
        runner(tiny(Cell("1hqconv", (0,))), Path("."), only=("1hq", "1hq-conv"))


def test_a_job_without_a_run_is_not_called_done(tmp_path):
    here = runner(tiny(Cell("unet", (0, 1))).with_sampler("ddim", 2), tmp_path)
    assert plan(here)[0].endswith(f"0 of 2 seeds done, 2 without a trained run in {tmp_path / 'runs'}")
    assert here.run() == 0 and not any(map(here.done, here.jobs)) and all(map(here.nothing_to_do, here.jobs))


def test_a_run_whose_loss_breaks_down_is_named(tmp_path, monkeypatch):
    def broken(*args, **kwargs):
        raise FloatingPointError("The loss after step 1 is nan.")

    monkeypatch.setattr(experiment_run, "train_run", broken)
    here = runner(tiny(Cell("unet", (0,)), Cell("1hqconv", (0,))), tmp_path)
    assert here.run() == 0 and len(here.failed) == 2 and "is nan" in here.failed[here.jobs[0].name]


def test_what_scoring_lacks_is_missed_before_training(tmp_path, monkeypatch):
    def missing(*args, **kwargs):
        raise FileNotFoundError("There are no weights of Inception.")

    monkeypatch.setattr(experiment_run, "Scorer", missing)
    here = runner(tiny(Cell("unet", (0,))), tmp_path)
    with pytest.raises(FileNotFoundError, match="no weights of Inception"):
        here.run()
    assert not here.trained(here.jobs[0])
    with pytest.raises(ValueError, match="batch_size"):
        runner(tiny(Cell("unet", (0,))), tmp_path, batch_size=0)


def test_who_waits_for_a_source_says_so(tmp_path):
    said = []
    here = runner(tiny(Cell("unet", (0,))), tmp_path, say=said.append)
    with here._wait_for(tmp_path / "free"):
        assert not said
    script = "import sys\nfrom pathlib import Path\nfrom study.job_files import claim\n" \
             "with claim(Path(sys.argv[1])):\n    print('held', flush=True)\n    input()\n"  # fmt: skip
    other = subprocess.Popen([sys.executable, "-c", script, tmp_path / "held"], stdout=subprocess.PIPE,
                             stdin=subprocess.PIPE, cwd=ROOT, text=True)  # fmt: skip
    other.stdout.readline()
    here.say = lambda text: (said.append(text), other.communicate("\n"))  # only then it lets go
    with here._wait_for(tmp_path / "held"):
        assert said == [f"Waiting for {tmp_path / 'held'}, which another process holds …"]


def test_scores_of_two_runs_do_not_get_into_one_result(tmp_path):
    """The losses tell runs apart; where they cannot, what is known of the first run stays."""
    experiment = tiny(Cell("unet", (0,)), epochs=3)
    (job,) = experiment.jobs()
    path, loss = job.result(tmp_path / "results"), job.folder(tmp_path / "runs") / "loss.csv"
    runner(experiment, tmp_path).run()
    whole, more = path.read_text(), replace(experiment, evaluate_at=(1, 2, 3))
    content = json.loads(whole)

    def rewritten(**other):
        path.write_text(json.dumps(content | other))

    other = {epoch: entry | {"loss": 0.5} for epoch, entry in content["by_epoch"].items()}
    rewritten(by_epoch=other, machine={"cpu": "first", "threads": 1, "gpu": None}, losses=None)
    scorer = runner(more, tmp_path, train=False)
    scorer.state_at = lambda job, epoch: loss.parent  # the last weights stand for those of epoch 1
    with pytest.raises(ValueError, match="seed-0.json tells of another run than the one in .*: their losses differ"):
        scorer.run()
    loss.write_text("".join(loss.read_text().splitlines(keepends=True)[:5]))  # a run that went to epoch 2 only
    scorer.run()
    scorer.run()  # the losses of epochs 1 and 2 agree now; that of epoch 3 is still the first run's
    mixed = read_result(path)
    assert sorted(mixed.by_epoch) == [1, 2, 3] and mixed.by_epoch[2].loss != 0.5 == mixed.by_epoch[3].loss
    assert mixed.machine["cpu"] == "first" and mixed.losses is None
    assert mixed.by_epoch[1].sampling_seconds is mixed.by_epoch[2].sampling_seconds is None  # drawn here


def test_a_transfer_is_not_scored_at_the_hand_over(tmp_path):
    """Its run begins with that state, whose vertex nobody has trained."""
    cell = Cell("1hqconv", (0,), transfer=Transfer(1))
    experiment = tiny(Cell("unet", (0,)), cell, epochs=2, evaluate_at=(1,), keep_at=(1,))
    runner(experiment, tmp_path).run()
    job = experiment.jobs()[1]
    assert (job.folder(tmp_path / "runs") / "epoch-1").is_dir()
    assert list(read_result(job.result(tmp_path / "results")).by_epoch) == [2]


def test_a_run_on_other_data_is_not_scored_as_the_cells(tmp_path):
    experiment = tiny(Cell("unet", (0,)))
    (job,) = experiment.jobs()
    folder, images = job.folder(tmp_path / "runs"), TINY["fashion-mnist", "train"]
    train_run(job.config(2, 16), folder, images=replace(images, source="a part"), progress=False, device="cpu")
    with pytest.raises(ValueError, match=f"was trained on a part, not on {images.source}"):
        runner(experiment, tmp_path).run()


def test_a_run_trained_otherwise_is_not_scored_as_the_cells(tmp_path):
    """Made by `train` without --first-weights, say, and whole: nothing is left to train that would refuse it."""
    experiment = tiny(Cell("1hqconv", (0,)), first_weights="unet")
    (job,) = experiment.jobs()
    config = replace(job.config(2, 16), first_weights=None)
    train_run(
        config, job.folder(tmp_path / "runs"), images=TINY["fashion-mnist", "train"], progress=False, device="cpu"
    )
    with pytest.raises(ValueError, match="is not a run of .*1hqconv/seed-0: its first_weights is None, not 'unet'"):
        runner(experiment, tmp_path).run()


def test_a_plan_leaves_the_shared_measurements_alone(tmp_path):
    here = runner(tiny(Cell("unet", (0,))), tmp_path)
    plan(here)
    assert not (tmp_path / "results").exists()
    (measured,) = json.loads((tmp_path / "runs" / "seconds.json").read_text()).values()
    assert set(measured["unet"]) == {"step", "call"}
