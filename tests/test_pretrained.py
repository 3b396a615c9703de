"""The trained models of this repository, by name."""

import json
import re
from pathlib import Path

import pytest
import torch
from test_experiments import runner

from qdm_lib import checkpoint
from qdm_lib.checkpoint import load_model, load_pretrained, save_model
from qdm_lib.unet import build_unet
from study.spec import Experiment, load_experiment


def test_load_pretrained_checks_the_name_and_the_hash(tmp_path, monkeypatch):
    model = load_pretrained("fashion-mnist/1hqconv")
    assert model.config.preset == "1hqconv" and not model.training
    with pytest.raises(ValueError, match="no trained model 'mnist/2hqconv' .*known are .*fashion-mnist/1hqconv"):
        load_pretrained("mnist/2hqconv")
    monkeypatch.setattr(checkpoint, "SHIPPED", tmp_path)
    with pytest.raises(FileNotFoundError, match="no trained models in .*clone of the repository and its wheel"):
        load_pretrained("fashion-mnist/1hqconv")
    save_model(tmp_path / "mnist" / "unet", model, {})
    file = tmp_path / "mnist" / "unet" / "model.safetensors"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    with pytest.raises(ValueError, match="is damaged or was changed: its SHA-256"):
        load_pretrained("mnist/unet")


def test_a_plain_name_gives_the_longest_trained_model_and_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "SHIPPED", tmp_path)
    for epochs, preset in ((2, "1hqconv"), (10, "1fqconv"), (9, "unet")):
        save_model(tmp_path / f"mnist/7hqconv-{epochs}-epochs", build_unet(preset), {"epochs": float(epochs)})
    with pytest.warns(UserWarning, match="longest trained mnist/7hqconv here is 7hqconv-10-epochs"):
        assert load_pretrained("mnist/7hqconv").config.preset == "1fqconv"
    with pytest.raises(ValueError, match="no trained model 'mnist/\\*'"):
        load_pretrained("mnist/*")
    with pytest.raises(ValueError, match="no trained model 'mnist/7hq'"):
        load_pretrained("mnist/7hq")


@pytest.mark.parametrize("spelling", ["{}/", "{}//", "./{}", "fashion-mnist//unet-10-epochs", "fashion-mnist/./{1}"])
def test_a_name_spelled_as_a_shell_completes_it_is_that_name(spelling, recwarn):
    """unet/ once gave unet-10-epochs, with the warning of a plain name that has shorter trained models only."""
    name = spelling.format("fashion-mnist/unet-10-epochs", "unet-10-epochs")
    wanted = load_pretrained("fashion-mnist/unet-10-epochs").state_dict()
    found = load_pretrained(name).state_dict()
    assert all(torch.equal(found[key], wanted[key]) for key in wanted) and not recwarn.list


@pytest.mark.parametrize(
    "name",
    ["fashion-mnist/../fashion-mnist/1hqconv", "../checkpoints/fashion-mnist/unet", "fashion-mnist/unet/../1hqconv",
     "fashion-mnist/..", "..", ".", "", "/", str(checkpoint.SHIPPED / "fashion-mnist" / "unet"), "fashion-mnist",
     "fashion-mnist/1hqconv/model.json", "fashion-mnist/unet*", "fashion-mnist/[1]hqconv", "fashion-mnist\\unet"],
)  # fmt: skip
def test_a_name_is_no_path(name):
    with pytest.raises(ValueError, match="There is no trained model .*; known are .*fashion-mnist/unet"):
        load_pretrained(name)


ROOT = Path(__file__).parent.parent
FOLDERS = sorted(path.parent for path in ROOT.glob("checkpoints/*/*/model.json"))


@pytest.fixture
def tool(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "tools")
    import ship_checkpoint

    return ship_checkpoint


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: f"{folder.parent.name}/{folder.name}")
def test_a_shipped_model_is_small_and_has_its_card(folder, tool):
    """If the card differs, run `python tools/ship_checkpoint.py --cards`; if the scores do, ship the model again."""
    name = f"{folder.parent.name}/{folder.name}"
    info = json.loads((folder / "model.json").read_text())
    card, config = info["card"], info["model_config"]
    assert (folder / "README.md").read_text() == tool.card_text(card, name)
    assert (folder / "model.safetensors").stat().st_size < 2e6 and (folder / "samples.png").is_file()
    assert load_pretrained(name).config.preset == card["preset"] == config["preset"]
    assert card["dataset"] == folder.parent.name
    scored = card["scores"]
    if "file" in scored:  # a dictionary, of an experiment's result
        result = json.loads((ROOT / "study" / scored["file"]).read_text())
        entry = result["by_epoch"][str(scored["epoch"])]
        assert scored["scores"] == entry["scores"] and card["steps"] == entry["step"]
        assert all(card[key] == result["config"][key] for key in ("preset", "dataset", "seed"))


def test_models_that_the_pages_name_are_there():
    """The text may leave some out, but names none that is not shipped."""
    pages = "".join((ROOT / page).read_text(encoding="utf-8") for page in ("README.md", "docs/models.md"))
    named = re.findall(r"[`\"]((?:fashion-)?mnist/[\w-]+)[`\"]", pages)
    assert named and set(named) <= {f"{folder.parent.name}/{folder.name}" for folder in FOLDERS}


MINI = """
protocol = "mini"
epochs = 2
batch_size = 8
evaluate_at = [1, 2]
n_images = 8
sampler_steps = 1
first_weights = "unet"
cells = [
    { preset = "unet", seeds = [3] },
    { preset = "1hqconv", control = "zero", seeds = [3] },
    { preset = "1hqconv", seeds = [3], transfer = { epochs = 1 } },
]
"""


@pytest.fixture(scope="module")
def mini(tmp_path_factory):
    """An experiment of three cells, run on 16 images: its folder."""
    folder = tmp_path_factory.mktemp("mini")
    (folder / "experiments").mkdir()
    (folder / "experiments" / "mini.toml").write_text(MINI)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    runner(load_experiment(folder / "experiments" / "mini.toml"), folder).run()
    torch.set_num_threads(threads)
    return folder


CELL = "mini/fashion-mnist/{}/seed-3"
CARDS = {  # cell, folder of the state, epoch: what the card says
    ("unet", "epoch-1", 1): "2 steps of 8 images (1 epoch of 16; the paper trains 20 of 60,000), protocol `mini`.",
    ("control-zero-1hqconv", "", 2): "(2 epochs of 16; the paper trains 20 of 60,000), protocol `mini`; the control "
    "`zero` in the place of the circuits; first weights shared with `unet` of the same seed where they fit.",
    ("transfer-1hqconv-1-restart", "", 2): "1 of them as `unet`, then its weights (raw) without the vertex as `1hqconv`"
    " (Adam: restart, average: restart); first weights shared with `unet` of the same seed where they fit.",
}


@pytest.mark.parametrize(("cell", "state", "epoch"), CARDS)
def test_the_card_of_an_experiment_s_run(mini, tmp_path, tool, monkeypatch, cell, state, epoch):
    if cell != "unet":  # once is enough
        monkeypatch.setattr(tool, "write_grid", lambda folder: None)
    job, target = CELL.format(cell), tmp_path / "fashion-mnist" / "x"
    run, result = mini / "runs" / job / state, mini / "results" / f"{job}.json"
    tool.ship(run, target, experiments=mini / "experiments")
    text = (target / "README.md").read_text()
    command = f"`python -m qdm_lib experiment run study/experiments/mini.toml --only {job}`"
    assert f"**Trained by** {command} (its state after step {2 * epoch})" in text
    assert CARDS[cell, state, epoch] in text and text.endswith("Not scored yet.\n")

    tool.ship(run, target, result, epoch, experiments=mini / "experiments")
    text, card = (target / "README.md").read_text(), json.loads((target / "model.json").read_text())["card"]
    content = json.loads(result.read_text())
    assert card["scores"]["scores"] == content["by_epoch"][str(epoch)]["scores"]
    assert "Scores of 8 images drawn by DDIM in 1 steps, seed 3" in text and f"epoch {epoch}, protocol `mini`" in text
    assert (
        f"{command} makes it." in text
        and f"| FID | {content['by_epoch'][str(epoch)]['scores']['fid']['value']:.4g}" in text
    )
    averaged, shipped = load_model(run).state_dict(), load_model(target).state_dict()
    assert all(torch.equal(averaged[key], shipped[key]) for key in averaged)


def test_scores_of_another_run_are_refused(mini, tmp_path, tool):
    runs, results = mini / "runs", mini / "results"
    unet, zero = CELL.format("unet"), CELL.format("control-zero-1hqconv")
    for run, result, epoch, message in (
        (unet, zero, 2, "The result is of mini/.*/control-zero-1hqconv/seed-3, the run is mini/.*/unet/seed-3"),
        (unet, unet, 1, "The run is at step 4; .* has no scores of it as epoch 1. Scored there: epoch 1 .step 2., ep"),
    ):
        with pytest.raises(ValueError, match=message):
            tool.ship(runs / run, tmp_path / "x", results / f"{result}.json", epoch, experiments=mini / "experiments")
    copy = (runs / zero).rename(tmp_path / "elsewhere")
    with pytest.raises(ValueError, match="No train command sets model_options = .*zero.*; name the run's --result"):
        tool.ship(copy, tmp_path / "x", experiments=mini / "experiments")
    with pytest.raises(ValueError, match="is not a run of .*unet/seed-3: its preset is '1hqconv', not 'unet'"):
        tool.ship(copy, tmp_path / "x", results / f"{unet}.json", experiments=mini / "experiments")
    with pytest.raises(FileNotFoundError, match="There is no result file .*none.json"):
        tool.ship(copy, tmp_path / "x", tmp_path / "none.json", experiments=mini / "experiments")
    other = ROOT / "qdm_lib/assets/paper_tables.json"
    with pytest.raises(ValueError, match="paper_tables.json is no result of an experiment"):
        tool.ship(copy, tmp_path / "x", other, experiments=mini / "experiments")
    assert not (tmp_path / "x").exists()
    copy.rename(runs / zero)


def test_the_words_for_a_run_s_length(tool):
    assert "9,375 steps of 128 images (20 epochs of 60,000; as many as in" in tool.protocol(9375, 128, 60_000, None)
    assert "(10 epochs of 60,000; the paper trains 20)" in tool.protocol(4688, 128, 60_000, None)
    assert "(0.21 epochs of 60,000; the paper" in tool.protocol(100, 128, 60_000, None)


def test_scores_of_another_draw_name_their_command(tool):
    experiment = Experiment("mini", ({"preset": "unet", "seeds": [0]},))
    drawn = experiment.with_features("inception").with_sampler("ddim", 10)
    again, options = tool._as_drawn(experiment, drawn.jobs()[0].settings())
    assert again == drawn and options == " --features inception --sampler ddim --sampler-steps 10"
