"""The U-Net's drawing, and the hybridization widget driven from Python."""

import json
import re
import shutil
import time
from dataclasses import replace
from functools import partial
from io import BytesIO
from pathlib import Path

import ipywidgets
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from PIL import Image
from speed import quickest, slowest

from qdm_course.widgets import hybridization
from qdm_course.widgets.columns import Column, curve, interval
from qdm_course.widgets.evidence import (
    FULL,
    ROOT,
    about_scores,
    card,
    fid_change,
    make_config,
    paper_change,
    paper_fid_change,
    parameter_count,
    shipped_models,
    step_time,
    studied,
)
from qdm_course.widgets.films import ABLATIONS, AS_TRAINED, ablate, difference, draw_film, read_film, start_noise
from qdm_course.widgets.hybrid import COMPARE, PICKED
from qdm_lib import paper
from qdm_lib.checkpoint import load_model, save_model
from qdm_lib.circuits import ANSATZE
from qdm_lib.plots import channel_colour, describe_unet, draw_unet, unet_blocks
from qdm_lib.quantum import QuantumLayer
from qdm_lib.unet import PRESETS, UNet, UNetConfig, build_unet, count_parameters

SHIPPED = ROOT / "checkpoints"
CLOTHES = shipped_models(ROOT, "fashion-mnist")
NAMED = (ipywidgets.Dropdown, ipywidgets.BoundedIntText, ipywidgets.Checkbox, ipywidgets.Button)


@pytest.fixture
def box():
    widget = hybridization()
    yield widget
    widget.close()


def finish(box, seconds=300):
    """Wait until the running job has ended, as the widget reports it."""
    end = time.monotonic() + seconds
    while box.job is not None and time.monotonic() < end:
        time.sleep(0.01)
    assert box.job is None
    with box.lock:  # what the job shows at its end is shown
        pass


def few_models(tmp_path, *names, dataset="mnist", films=True) -> Path:
    """A root with copies of a few shipped models, as if they were of this data set."""
    for name in names:
        leave = None if films else (lambda *_: ["film.png"])
        shutil.copytree(SHIPPED / "fashion-mnist" / name, tmp_path / "checkpoints" / dataset / name, ignore=leave)
    return tmp_path


def cards(folder: Path) -> dict:
    return json.loads((folder / "model.json").read_text())["card"]["scores"]["scores"]


# ---------------------------------------------------------------------------------- the drawing


@pytest.mark.parametrize("preset", ["unet", "7hqconv", "quanv-fqconv"])
def test_the_boxes_are_the_models_blocks(preset):
    """Names, sizes and channels of the drawing, against what the modules of a real model put out."""
    model, seen = UNet(PRESETS[preset], torch.Generator().manual_seed(0)), {}
    for name, part in model.named_modules():
        part.register_forward_hook(lambda _, __, out, name=name: seen.__setitem__(name, tuple(out.shape)))
    model(torch.zeros(1, 1, 28, 28), torch.zeros(1, dtype=torch.int64))
    blocks = [block for group in unet_blocks(preset) for block in group]
    for block in blocks:
        assert seen[block.name] == (1, block.channels, block.size, block.size)
        convolution = getattr(model.get_submodule(block.name), "conv1", None)
        assert block.quantum == getattr(convolution, "k", 0) + (1 if PRESETS[preset].full else 0) * (block.quantum > 0)
    assert list(seen).index("encoder.0.block1") < list(seen).index(blocks[-1].name)
    assert [b.name for b in blocks] == sorted((b.name for b in blocks), key=list(seen).index)


def test_full_has_all_forty_channels_coloured():
    assert [b.quantum for b in unet_blocks("fullhqconv")[5]] == [40, 0, 40]


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_draws_and_reads(name):
    ax = draw_unet(name)
    assert name in ax.get_title()
    text = describe_unet(name)
    assert ("slides" in text) == PRESETS[name].quanv and "28×28×10" in text
    plt.close(ax.figure)


def test_a_control_is_white_and_stands_in_for_the_circuits_of_the_vertex_only():
    for preset, circuits in (("fullhqconv", False), ("quanv-hqconv", True)):
        config = replace(PRESETS[preset], control="zero")
        ax = draw_unet(config)
        labels = [text.get_text() for text in ax.get_legend().get_texts()]
        assert "channels given by the control “zero”" in labels and not any("Basic" in label for label in labels)
        assert any("HQConv circuits" in label for label in labels) == circuits
        assert channel_colour(config)[0] == "#FFFFFF" != channel_colour(PRESETS[preset])[0]
        plt.close(ax.figure)


def test_own_ansatz_and_unknown_presets():
    plt.close(draw_unet(UNetConfig("mine", 2, ansatz="hqconv_released")).figure)
    for function in (draw_unet, describe_unet, unet_blocks):
        with pytest.raises(ValueError, match="Unknown preset"):
            function("8hqconv")


# ---------------------------------------------------------------------------------- the numbers


def test_counts_are_those_of_the_models():
    for config in (PRESETS["unet"], PRESETS["fullfqconv"], UNetConfig("b", 13, quanv=True, paper_count=True)):
        assert parameter_count(config) == count_parameters(UNet(config))


def test_settings_name_the_presets(box):
    for preset in PRESETS.values():
        circuits = FULL if preset.full else preset.n_circuits
        assert make_config(circuits, preset.ansatz, preset.quanv) == preset == box.settings[preset.preset].config
    assert make_config(4, "fqconv", True).preset == "quanv-4fqconv"
    assert make_config(0, "fqconv", False) == PRESETS["unet"]
    labels = [setting.label for setting in box.settings.values()]
    assert len(set(labels)) == len(labels)
    assert box.settings["1hqconv"].label.startswith("10 %") and "7.5" in box.settings["1hqconv"].share


def test_the_papers_changes_stand_beside_ours(box):
    printed = {name: paper_change(box.settings[name]) for name in box.settings}
    assert printed["1hqconv"] == "−1.66 %" and printed["4hqconv"] == printed["1fqconv"] == ""
    assert printed["quanv-hqconv"] == "−1.86 %" and printed["quanv-fqconv"] == "" == printed["1hqconv-transfer"]
    for preset in ("7hqconv", "fullhqconv"):  # as printed: our count, rounded; of 1hqconv that would be −1.65 %
        change = parameter_count(PRESETS[preset]) / parameter_count(PRESETS["unet"]) - 1
        assert printed[preset] == f"{100 * change:+.2f} %".replace("-", "−")
    for k in range(4):
        rows = dict(box.evidence(k).rows())
        assert f"{parameter_count(box.setting(k).config):,}" in rows["Params"]
        assert printed[box.setting(k).name] in rows["Params"]


def test_the_time_is_the_benchmarks_own_ratio():
    rows = json.loads((ROOT / "study/benchmarks/results/training_step.json").read_text())["parts"]["presets"]["rows"]
    assert {row["name"] for row in rows} >= set(PRESETS)
    for row in rows:
        time_ = step_time(ROOT, row["name"])
        assert time_.relative == row["relative"]  # to the baseline of its own run, not to another row's median
        assert (time_.high - time_.low) * row["baseline_median_s"] == pytest.approx(row["iqr_s"])
        assert time_.low <= time_.relative <= time_.high
    assert step_time(Path("nowhere"), "unet") is None and step_time(ROOT, "quanv-4fqconv") is None


def test_the_scores_are_those_of_the_cards(box):
    seen = 0
    for name, epochs in CLOTHES:
        if name in box.settings:
            box.columns[0].choice.value, box.controls["epochs"].value = name, epochs
            rows, card = dict(box.evidence(0).rows()), cards(CLOTHES[name, epochs])
            for key, title in (("fid", "FID ↓"), ("kid", "KID ↓"), ("is", "IS ↑")):
                numbers = re.findall(r"[-.\d]+", rows[title].replace("−", "-"))
                assert [float(number) for number in numbers] == pytest.approx(
                    [card[key][x] for x in ("value", "low", "high")], rel=5e-3
                )
                assert f"{card[key]['floor']:#.3g}".replace("-", "−") in box.footer.value
                seen += 1
            assert box.columns[0].numbers.value.count("<tr") == len(rows)
    assert seen >= 3 * 10


def test_the_changes_on_the_screen_follow_from_cards_benchmark_and_the_papers_tables(box):
    """The rows "Step" and "FID vs 0 %" of every model, read off the screen."""
    rows = json.loads((ROOT / "study/benchmarks/results/training_step.json").read_text())["parts"]["presets"]["rows"]
    relative, seen = {row["name"]: row["relative"] for row in rows}, 0
    for dataset in box.controls["dataset"].options:
        box.controls["dataset"].value = dataset
        models = shipped_models(ROOT, dataset)
        for (name, epochs), folder in models.items():
            box.columns[0].choice.value, box.controls["epochs"].value = name, epochs
            text = dict(re.findall(r">([^<>]+)</th><td[^>]*>([^<]*)<", box.columns[0].numbers.value.replace("−", "-")))
            setting = box.setting(0)
            if setting.config.control:
                assert text["Step"] == "not in the benchmark"
            else:
                assert float(text["Step"].split()[0]) == pytest.approx(relative[setting.config.preset], abs=0.005)
            base = models.get(("unet", epochs))
            printed = paper_fid_change(dataset, name, epochs)
            if base and name != "unet":
                ours, theirs = (cards(path)["fid"] for path in (folder, base))
                change = ours["value"] / theirs["value"] - 1
                shares = [(fid["high"] - fid["low"]) / 2 / fid["value"] for fid in (ours, theirs)]
                half = (1 + change) * float(np.hypot(*shares))
                numbers = [float(x) for x in re.findall(r"[-+]?\d+\.\d", text["FID vs 0\xa0%"])]
                wanted = [change, half] + ([] if printed is None else [printed])
                assert numbers == pytest.approx([100 * x for x in wanted], abs=0.06)
                assert ("beyond drawing noise" in text["FID vs 0\xa0%"]) == (abs(change) > half)
                seen += 1
            assert (printed is not None) == ("paper" in text["FID vs 0\xa0%"])
    assert seen >= 7


def test_a_model_without_scores_says_so(tmp_path):
    """Its card has words in their place."""
    root = few_models(tmp_path, "unet", "fullhqconv")
    folder = root / "checkpoints/mnist/fullhqconv"
    save_model(folder, load_model(folder), card(SHIPPED / "fashion-mnist/fullhqconv") | {"scores": "not scored yet"})
    box = hybridization(root=root)
    rows = dict(box.evidence(3).rows())
    assert rows["Scores"] == "not scored yet" and rows["FID vs 0 %"].startswith("paper") and "FID ↓" not in rows


def test_scores_of_models_whose_weights_are_not_here_are_the_study_s(box):
    """The control of the hand-over on Fashion-MNIST: without it the circuits would seem to gain."""
    box.controls["compare"].value = "hand-over"
    file = ROOT / "study/results/paper-ddim-50/fashion-mnist/transfer-unet-18-restart/seed-0.json"
    fid = json.loads(file.read_text())["by_epoch"]["20"]["scores"]["fid"]
    rows = dict(box.evidence(1).rows())
    if box.folder("unet-transfer") is None:
        assert "its scores are the study’s" in box.columns[1].captions[0].value
        assert "18 epochs as unet" in box.columns[1].head.value
    assert rows["FID ↓"] == interval(fid) and "beyond" in rows["FID vs 0 %"]
    assert "within drawing noise" in dict(box.evidence(3).rows())["FID vs control"]
    said = studied(ROOT, "fashion-mnist")
    for (name, epochs), folder in CLOTHES.items():  # where both are there, they say the same
        about = about_scores(folder)
        assert all(said[name, epochs][key] == about[key] for key in ("file", "epoch", "sampler", "scores"))
    assert all(name in box.settings for name, _ in said if "-transfer" in name)


def test_a_hand_over_says_how_it_was_made_and_is_compared_with_its_control(box):
    box.controls["dataset"].value, box.controls["compare"].value = "mnist", "hand-over"
    assert "19 epochs as unet, then its weights (raw)" in box.columns[3].head.value
    models = shipped_models(ROOT, "mnist")
    control, hybrid = (about_scores(models[name, 20]) for name in ("unet-transfer", "1fqconv-transfer"))
    change = fid_change(hybrid, control)
    rows = dict(box.evidence(3).rows())
    assert f"{100 * change.value:+.1f}".replace("-", "−") in rows["FID vs control"]
    assert "within drawing noise" in rows["FID vs control"] and "beyond" in rows["FID vs 0 %"]
    assert "FID vs control" not in dict(box.evidence(1).rows()) and "epochs as" not in box.columns[0].head.value


def test_the_papers_change_stands_there_without_a_model_of_ours(tmp_path):
    box = hybridization(root=few_models(tmp_path, "unet"))
    printed = paper_fid_change("mnist", "7hqconv", 20)
    assert f"paper {100 * printed:+.1f}".replace("-", "−") in box.columns[2].numbers.value


def test_a_control_says_what_it_is_and_has_no_circuits_to_replace(tmp_path):
    root = few_models(tmp_path, "unet", "fullhqconv")
    folder = root / "checkpoints/mnist"
    save_model(folder / "fullhqconv-zero", build_unet("fullhqconv", control="zero", seed=0), card(folder / "unet"))
    box = hybridization(root=root)
    box.columns[1].choice.value = "fullhqconv-zero"
    finish(box)  # it has no stored film
    assert "trained with zeros in the place of circuits" in box.columns[1].head.value
    assert box.setting(1).label == "100 %, full HQConv, trained with zeros"
    rows = dict(box.evidence(1).rows())
    assert rows["Step"] == "not in the benchmark" and rows["Params"].startswith("425,561")
    assert len(box.wanted(1)) == 1 and len(box.wanted(0)) == 1
    box.controls["of"].value = 1
    assert "the control “zero” gives 40 of the 40 vertex channels" in box.picture.alt
    assert "go through circuits" not in box.picture.alt
    box.controls["drawing"].value = "circuit"
    assert "no circuit" in box.picture.value
    box.controls["circuits"].value = "zeros"
    assert box.wanted(1) == [(folder / "fullhqconv-zero", AS_TRAINED)]
    box.close()


def test_the_change_of_fid_is_computed_from_two_cards_that_were_scored_alike():
    unet, hybrid, other = (about_scores(CLOTHES[name]) for name in (("unet", 20), ("1hqconv", 20), ("7fqconv", 2)))
    change = fid_change(hybrid, unet)
    fids = [about["scores"]["fid"] for about in (hybrid, unet)]
    assert change.value == pytest.approx(fids[0]["value"] / fids[1]["value"] - 1)
    worst = fids[0]["high"] / fids[1]["low"] - fids[0]["low"] / fids[1]["high"]  # both ends at once: wider than likely
    assert 0.4 * worst < 2 * change.half < worst
    assert fid_change(unet, unet) is None and fid_change(hybrid, {}) is None
    assert fid_change(other, unet) is None  # of other numbers of images


def test_the_papers_fid_is_that_of_its_tables():
    printed = paper.scores()
    by = printed["fid_after_epochs"]["mnist"]
    assert paper_fid_change("mnist", "7hqconv", 10) == by["7hqconv"]["10"] / by["unet"]["10"] - 1
    table = printed["scores"]["fashion-mnist"]
    assert (
        paper_fid_change("fashion-mnist", "1fqconv-transfer", 20) == table["transfer"]["fid"] / table["unet"]["fid"] - 1
    )
    table = printed["scores"]["mnist"]
    assert paper_fid_change("mnist", "quanv-hqconv", 20) == table["quanv-hqconv"]["fid"] / table["unet"]["fid"] - 1
    control = printed["classical_transfer"]["mnist"]["fid"] / printed["scores"]["mnist"]["unet"]["fid"] - 1
    assert paper_fid_change("mnist", "unet-transfer", 20) == control > 0  # worse than without a hand-over
    for nothing in (
        ("mnist", "unet", 20),
        ("mnist", "1fqconv", 20),
        ("mnist", "1hqconv-transfer", 20),  # its best transfer is into 1FQConv
        ("mnist", "7hqconv", 2),
        ("kmnist", "7hqconv", 20),
    ):
        assert paper_fid_change(*nothing) is None


def test_losses_are_drawn_where_results_keep_them_and_said_to_be_missing_elsewhere(tmp_path):
    root = few_models(tmp_path, "unet", "unet-10-epochs", "1hqconv")
    file = json.loads((SHIPPED / "fashion-mnist/unet/model.json").read_text())["card"]["scores"]["file"]
    box = hybridization(root=root)
    assert ["no losses by epoch" in column.numbers.value for column in box.columns] == [True, True, False, False]
    path = root / "study" / file
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"losses": {str(epoch): 0.1 / epoch for epoch in range(1, 21)}}))
    box = hybridization(root=root)
    assert (
        "<svg" in box.columns[0].numbers.value
        and "loss 0.100 → 0.00500, epochs 1 to 20" in box.columns[0].numbers.value
    )
    assert "<svg" not in box.columns[1].numbers.value and "no losses by epoch" in box.columns[1].numbers.value
    box.controls["epochs"].value = 10  # the same run, up to here
    assert "→ 0.0100, epochs 1 to 10" in box.columns[0].numbers.value
    low, high = (curve({1: 0.2, 2: loss}, (0.1, 0.2), 2) for loss in (0.1, 0.2))
    assert 'points="50.00,2.00 100.00,38.00"' in low and 'points="50.00,2.00 100.00,2.00"' in high
    alone = curve({20: 0.01}, (0.01, 0.2), 20)  # a hand-over's run holds the epoch after it
    assert "<svg" not in alone and "loss 0.0100 in epoch 20" in alone


# ---------------------------------------------------------------------------------- films, and what replaces circuits


def test_every_stored_film_starts_from_the_same_noise():
    noise = ((start_noise(0)[:, 0].clamp(-1, 1) + 1) * 127.5).round().byte().numpy()
    for folder in sorted(path.parent for path in SHIPPED.glob("*/*/model.json")):
        film = read_film(folder / "film.png")
        assert film is not None, f"{folder}: run tools/make_sample_grids.py"
        assert np.array_equal(film[0], noise)
        assert film[-1].std() > 20 and not np.array_equal(film[-1], noise)


def test_a_stored_film_is_what_its_model_draws():
    *steps, film = draw_film(load_model(CLOTHES["1hqconv", 20]))
    stored = read_film(CLOTHES["1hqconv", 20] / "film.png")
    assert steps == [None] * 20 and film.shape == stored.shape == (11, 8, 28, 28)
    assert np.abs(film.astype(int) - stored).mean() < 0.5  # of 255; other processors round otherwise


def test_no_film_where_there_is_none_or_another(tmp_path):
    assert read_film(tmp_path / "film.png") is None
    (tmp_path / "film.png").write_bytes(b"no picture")
    assert read_film(tmp_path / "film.png") is None
    shutil.copy(CLOTHES["unet", 20] / "samples.png", tmp_path / "film.png")
    assert read_film(tmp_path / "film.png") is None


@pytest.mark.parametrize("preset", ["1hqconv", "fullfqconv", "quanv-hqconv"])
def test_an_ablation_replaces_every_circuit_and_nothing_else(preset):
    x, t = torch.randn(2, 1, 28, 28, generator=torch.Generator().manual_seed(1)), torch.tensor([5, 700])
    with torch.no_grad():
        outputs = {name: ablate(build_unet(preset, seed=0).eval(), name)(x, t) for name in ABLATIONS}
        again = ablate(build_unet(preset, seed=0).eval(), "random weights")(x, t)
    assert torch.equal(outputs[AS_TRAINED], build_unet(preset, seed=0).eval()(x, t))
    values = list(outputs.values())
    assert all(not torch.equal(a, b) for k, a in enumerate(values) for b in values[:k])
    assert torch.equal(again, outputs["random weights"])
    for name in ("zeros", "cos(x)"):
        model = ablate(build_unet(preset, seed=0), name)
        assert not any(isinstance(module, QuantumLayer) for module in model.modules())
    if preset == "1hqconv":
        for name in ("zero", "cos"):
            same = build_unet(preset, seed=0, control=name).eval()(x, t)
            assert torch.equal(same, outputs[{"zero": "zeros", "cos": "cos(x)"}[name]])


def test_the_difference_is_signed_and_its_mean_exact():
    a = np.array([[[0, 100, 255]]], np.uint8)
    picture, mean = difference(a, np.array([[[255, 100, 0]]], np.uint8))
    assert picture.tolist() == [[[255, 128, 1]]] and mean == pytest.approx(2 / 3)
    assert difference(a, a) == (pytest.approx(np.full_like(a, 128)), 0)


# ---------------------------------------------------------------------------------- the widget


def shown(box):
    return [[picture.png for picture in column.pictures] for column in box.columns]


def shown_images(box, k):
    """The first image on the screen in column k."""
    return np.array(Image.open(BytesIO(box.columns[k].pictures[0].png)))[:28, :28]


def test_every_control_has_a_name_and_is_on_the_screen(box):
    for control in box.controls.values():
        assert control.description and isinstance(control, NAMED)
    inside, stack = [], [box]
    while stack:
        widget = stack.pop()
        inside.append(widget)
        stack += getattr(widget, "children", ())
    assert all(control in inside for control in [*box.controls.values(), box.picture, box.footer, box.status])
    assert 'role="status"' in box.status.value and box.picture.alt == describe_unet("1hqconv")


def test_columns_show_models_of_equal_length_and_say_where_there_is_none(box):
    assert [box.setting(k).name for k in range(4)] == ["unet", "1hqconv", "7hqconv", "fullhqconv"]
    for epochs in (20, 10, 2, 1):
        box.controls["epochs"].value = epochs
        for k, column in enumerate(box.columns):
            folder = CLOTHES.get((box.setting(k).name, epochs))
            assert box.folder(box.setting(k).name) == folder
            if folder is None:
                length = "1 epoch" if epochs == 1 else f"{epochs} epochs"
                assert f"of {length} is here" in column.captions[0].value and not column.pictures[0].png
                known = bool(studied(ROOT, "fashion-mnist").get((box.setting(k).name, epochs)))
                assert ("FID ↓" in column.numbers.value) == ("the study’s" in column.captions[0].value) == known
            else:
                picture = np.array(Image.open(BytesIO(column.pictures[0].png)))
                assert np.array_equal(picture[:28, :28], read_film(folder / "film.png")[-1][0])
                assert "FID" in column.numbers.value


def test_the_same_noise_is_said_because_it_was_compared(box):
    assert "All columns start from the same noise (seed 0" in box.status.value
    box.controls["frame"].value = 0
    starts = [column.pictures[0].png for column in box.columns if column.pictures[0].png]
    assert len(starts) > 1 and len(set(starts)) == 1
    key = (CLOTHES["1hqconv", 20], AS_TRAINED, 0)
    box.films[key] = box.films[key][::-1]
    box.show_pictures()
    assert "different noise" in box.status.value


def test_columns_show_models_of_the_chosen_length_only(box):
    seen = set()
    for dataset in box.controls["dataset"].options:
        box.controls["dataset"].value = dataset
        for _, epochs in box.controls["epochs"].options:
            box.controls["epochs"].value = epochs
            for comparison in box.controls["compare"].options[:-1]:  # the last is what the columns say
                box.controls["compare"].value = comparison
                folders = [box.folder(box.setting(k).name) for k in range(4)]
                lengths = {card(folder)["epochs"] for folder in folders if folder}
                assert lengths <= {box.controls["epochs"].value}
                seen |= {(dataset, length) for length in lengths}
    assert {("fashion-mnist", 20), ("fashion-mnist", 2), ("mnist", 20)} <= seen


def test_comparisons_and_columns_follow_one_another(box):
    for name in box.controls["compare"].options[:-1]:
        box.controls["compare"].value = name
        assert tuple(box.setting(k).name for k in range(4)) == COMPARE[name]
    box.controls["column4"].value = "5fqconv"
    assert box.controls["compare"].value == PICKED and "no trained 5fqconv" in box.columns[3].captions[0].value
    box.controls["column4"].value = ""
    assert box.setting(3) is None and box.columns[3].numbers.value == ""
    box.controls["column4"].value = "1fqconv-transfer"
    assert box.controls["compare"].value == "hand-over"
    box.controls["compare"].value = PICKED  # by itself it picks nothing
    assert box.controls["compare"].value == "hand-over"


def test_the_length_outlasts_a_visit_to_the_other_data_set_and_a_second_run_of_the_cell(box):
    box.controls["compare"].value = "0, 10, 50, 100 % FQConv"
    box.controls["epochs"].value = 2
    for dataset in ("mnist", "fashion-mnist"):  # MNIST has no models of 2 epochs
        box.controls["dataset"].value = dataset
    assert box.controls["epochs"].value == 2
    box.controls["compare"].value = "0, 10, 50, 100 % HQConv"
    box.controls["epochs"].value = 20
    box.controls["compare"].value = "0, 10, 50, 100 % FQConv"
    shown = [sum(bool(box.wanted(k)) for k in range(4))]
    for dataset in ("mnist", "fashion-mnist"):
        box.controls["dataset"].value = dataset
    shown.append(sum(bool(box.wanted(k)) for k in range(4)))
    assert shown[0] == shown[1] > 1
    box.controls["compare"].value = "hand-over"
    box.controls["epochs"].value = 10
    again = hybridization()
    again.take_over(box.kept())
    assert again.controls["epochs"].value == again.wished == 10 and again.controls["compare"].value == "hand-over"
    box.controls["epochs"].value = 20
    box.controls["compare"].value = "0, 10, 50, 100 % FQConv"
    again.take_over(box.kept())
    assert (again.controls["epochs"].value, again.wished) == (2, 20) and "Fewer than two" in again.status.value


def test_a_comparison_moves_to_a_length_that_has_models_of_it(box):
    box.controls["compare"].value = "0, 10, 50, 100 % FQConv"
    assert box.controls["epochs"].value == 2 and sum(bool(box.wanted(k)) for k in range(4)) > 1
    assert "Fewer than two of these have models of 20 epochs" in box.status.value
    box.controls["compare"].value = "0, 10, 50, 100 % HQConv"  # and back to what was asked for
    assert box.controls["epochs"].value == 20 and "Fewer" not in box.status.value
    box.controls["compare"].value = "0, 10, 50, 100 % FQConv"
    box.controls["column2"].value = "1hqconv"  # now two have models of what was asked for, and nothing false is said
    assert "Fewer than two" not in box.status.value
    box.controls["compare"].value = "0, 10, 50, 100 % FQConv"
    box.controls["epochs"].value = 20  # what one asks for by hand is kept, and said
    assert sum(bool(box.wanted(k)) for k in range(4)) < 2 and "of 20 epochs is here" in box.columns[1].captions[0].value
    assert "Images from noise (seed 0" in box.status.value  # one column alone shares nothing


def test_a_preset_opens_the_comparison_it_stands_in():
    for preset in PRESETS:
        box = hybridization(preset)
        assert preset in [box.setting(k).name for k in range(4)] and box.picture.alt == describe_unet(preset)


def test_the_drawing_is_the_u_net_or_the_circuit_or_nothing(box):
    box.controls["of"].value = 3
    assert box.picture.alt == describe_unet("fullhqconv")
    u_net = box.picture.png
    box.controls["drawing"].value = "circuit"
    assert box.picture.png not in (b"", u_net) and "hqconv circuit on 12 wires" in box.picture.alt
    circuit = ANSATZE["hqconv"](box.setting(3).config.layers)
    assert sum(int(n) for n in re.findall(r"(\d+) [A-Z]", box.picture.alt)) == len(circuit.gates)
    box.controls["of"].value = 0
    assert "no circuit" in box.picture.value
    box.controls["of"].value, box.controls["column4"].value = 3, ""
    assert "not used" in box.picture.value
    box.controls["drawing"].value = "U-Net"
    assert "not used" in box.picture.value
    box.controls["drawing"].value = "nothing"
    assert box.picture.value == ""


def test_play_sends_each_column_its_animation_only(box, monkeypatch):
    """Not first the last images, which would give the end away."""
    box.controls["frame"].value, sent = 0, []
    monkeypatch.setattr(Column, "show_films", lambda self, films, frame, play=0: sent.append((frame, play)))
    box.controls["play"].click()
    assert set(sent) == {(10, 1)}


def test_play_runs_the_films_once_and_stays_at_the_images(box):
    for _ in range(2):
        before = box.columns[0].pictures[0].png
        box.controls["play"].click()
        after = box.columns[0].pictures[0].png
        assert after != before  # also the second time, or a browser would not play it again
        film = Image.open(BytesIO(after))
        assert film.n_frames == 11 and film.info["loop"] == 1
        film.seek(10)
        last = read_film(CLOTHES["unet", 20] / "film.png")[-1][0]
        assert np.array_equal(np.array(film.convert("L"))[:28, :28], last)


def test_moves_leave_no_figure_behind_and_answer_quickly(box):
    figures = plt.get_fignums()
    set_ = lambda name, *values: [partial(setattr, box.controls[name], "value", value) for value in values]  # noqa: E731
    moves = set_("column2", *(f"{n}hqconv" for n in (2, 3, 4, 5, 6, 8, 9, 10, 11, 12)))
    assert quickest(moves) < 0.2  # counts the parameters and draws the U-Net of settings not seen before
    moves += set_("epochs", 1, 10, 2, 20) + set_("dataset", "mnist", "fashion-mnist") + set_("frame", 0, 5, 10)
    moves += set_("compare", *box.controls["compare"].options[:-1]) + [box.controls["play"].click]
    for move in moves:
        move()
    assert slowest(moves) < 0.2  # nothing is computed
    assert plt.get_fignums() == figures and box.job is None


def test_data_sets_are_those_with_models(box, tmp_path):
    assert set(box.controls["dataset"].options) == {path.parents[1].name for path in SHIPPED.glob("*/*/model.json")}
    root = few_models(tmp_path, "unet", "1hqconv-10-epochs")
    few_models(tmp_path, "unet-1-epoch", dataset="kmnist")
    both = hybridization(root=root, dataset="mnist")
    assert both.controls["dataset"].options == ("kmnist", "mnist")
    assert [epochs for _, epochs in both.controls["epochs"].options] == [10, 20]
    both.controls["dataset"].value = "kmnist"
    assert (
        both.controls["epochs"].value == 1 and both.columns[0].pictures[0].png and not both.columns[1].pictures[0].png
    )
    empty = hybridization(root=tmp_path / "nowhere")  # as installed without the repository: counts, but no models
    assert "no trained unet" in empty.columns[0].captions[0].value and "483,321" in empty.columns[0].numbers.value


def test_silenced_circuits_draw_again_from_the_same_noise(tmp_path):
    box = hybridization(root=few_models(tmp_path, "unet", "fullhqconv"))
    before = shown(box)
    box.controls["circuits"].value = "zeros"
    assert not box.controls["stop"].disabled and "drawing fullhqconv" in box.status.value
    box.controls["stop"].click()  # what is still on the screen says what it is
    assert AS_TRAINED in box.columns[3].captions[0].value and "Stopped" in box.status.value
    box.controls["draw"].click()
    assert box.controls["play"].disabled  # a film that arrives would break off the animation
    box.controls["frame"].value = 3  # while the job runs
    finish(box)
    assert "frame 3" in box.columns[3].pictures[1].alt and not box.controls["play"].disabled
    box.controls["frame"].value = 10
    assert shown(box)[0] == before[0]  # a classical model has no circuits
    assert "zeros" in box.columns[3].captions[1].value and "% of the range" in box.columns[3].captions[2].value
    trained, silent = (box.film(box.folder("fullhqconv"), name) for name in (AS_TRAINED, "zeros"))
    assert np.array_equal(trained[0], silent[0]) and not np.array_equal(trained[-1], silent[-1])
    *_, film = draw_film(ablate(load_model(box.folder("fullhqconv")), "zeros"))
    assert np.array_equal(silent, film)
    assert "All columns start from the same noise" in box.status.value
    box.controls["circuits"].value = AS_TRAINED
    assert shown(box) == before and box.job is None
    box.controls["circuits"].value = "zeros"  # drawn once, kept
    assert box.job is None and box.columns[3].pictures[1].png
    box.films[box.folder("unet"), AS_TRAINED, 0] = np.zeros_like(film)
    box.controls["draw"].click()  # nothing is missing: all of it afresh, the stored ones too
    assert "<progress" in box.progress.value and "drawing unet" in box.status.value
    finish(box)
    assert np.abs(shown_images(box, 0).astype(int) - read_film(box.folder("unet") / "film.png")[-1][0]).mean() < 0.5


def test_another_seed_draws_and_a_stopped_job_stops(tmp_path):
    box = hybridization(root=few_models(tmp_path, "unet", films=False))
    assert "press Draw" in box.columns[0].captions[0].value and not box.controls["draw"].disabled
    box.controls["seed"].value = 7
    job = box.job
    box.draw()  # one at a time
    assert box.job is job and job.is_alive()
    box.controls["stop"].click()
    job.join(60)
    assert not job.is_alive() and box.job is None and "Stopped" in box.status.value
    assert not box.films and box.controls["stop"].disabled and not box.controls["draw"].disabled
    assert "not drawn yet" in box.still() and "no trained unet" not in box.still()
    box.controls["draw"].click()
    finish(box)
    *_, film = draw_film(load_model(box.folder("unet")), seed=7)
    assert np.array_equal(box.film(box.folder("unet"), AS_TRAINED), film) and "seed 7" in box.status.value


def test_a_move_calls_the_running_job_off_and_closing_stops_it(tmp_path):
    box = hybridization(root=few_models(tmp_path, "unet", "fullhqconv"))
    for end in (partial(setattr, box.controls["circuits"], "value", AS_TRAINED), box.close):
        box.controls["circuits"].value = "cos(x)"
        job = box.job
        end()
        job.join(60)
        assert not job.is_alive() and box.job is None


def test_a_failing_job_says_so(tmp_path):
    root = few_models(tmp_path, "unet", films=False)
    box = hybridization(root=root)
    (root / "checkpoints/mnist/unet/model.safetensors").write_bytes(b"broken")
    box.controls["draw"].click()
    finish(box)
    assert ">unet could not be drawn: " in box.status.value and not box.controls["draw"].disabled


def test_the_other_models_are_drawn_where_one_fails(tmp_path):
    root = few_models(tmp_path, "unet", "1hqconv", films=False)
    (root / "checkpoints/mnist/unet/model.safetensors").write_bytes(b"broken")
    box = hybridization(root=root)
    box.controls["draw"].click()
    finish(box)
    assert "unet could not be drawn" in box.status.value and box.columns[1].pictures[0].png


def test_bad_arguments():
    for bad in (dict(preset="x"), dict(dataset="x"), dict(dataset="emnist-digits")):
        with pytest.raises(ValueError, match="Known are"):
            hybridization(**bad)


def test_a_data_set_is_asked_for_where_there_are_no_models(tmp_path):
    with pytest.raises(ValueError, match="There are no trained models in .*, so none of 'mnist'"):
        hybridization(dataset="mnist", root=tmp_path)
