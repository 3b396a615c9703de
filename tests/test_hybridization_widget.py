"""The U-Net's drawing, and the hybridization widget driven from Python."""

import json
import shutil
import time
from dataclasses import replace
from functools import partial
from io import BytesIO

import ipywidgets
import matplotlib.pyplot as plt
import pytest
import torch
from matplotlib.image import imread
from speed import quickest

from qdm_lib.plots import describe_unet, draw_unet, unet_blocks
from qdm_lib.unet import PRESETS, UNet, UNetConfig, count_parameters
from qdm_lib.widgets import hybrid as module
from qdm_lib.widgets import hybridization
from qdm_lib.widgets.hybrid import FULL, ROOT, make_config, parameter_count, parameter_text, time_text

NAMED = (ipywidgets.Dropdown, ipywidgets.BoundedIntText, ipywidgets.Checkbox, ipywidgets.Button)
SHIPPED = ROOT / "checkpoints"


@pytest.fixture
def box():
    widget = hybridization()
    yield widget
    widget.stop()


def finish(box, seconds=120):
    """Wait until the running job has ended, as the widget reports it."""
    end = time.monotonic() + seconds
    while box.job is not None and time.monotonic() < end:
        time.sleep(0.01)
    assert box.job is None


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


def test_own_ansatz_and_unknown_presets():
    plt.close(draw_unet(UNetConfig("mine", 2, ansatz="hqconv_released")).figure)
    for function in (draw_unet, describe_unet, unet_blocks):
        with pytest.raises(ValueError, match="Unknown preset"):
            function("8hqconv")


# ---------------------------------------------------------------------------------- the numbers


@pytest.mark.parametrize("name", PRESETS)
def test_counts_without_building_are_those_of_the_models(name):
    config = PRESETS[name]
    assert parameter_count(config) == count_parameters(UNet(config))


@pytest.mark.parametrize(
    "config", [UNetConfig("a", 4, quanv=True), UNetConfig("b", 13), UNetConfig("c", 0, quanv=True)]
)
def test_counts_between_the_presets_too(config):
    for other in (config, replace(config, ansatz="fqconv", layers=2)):
        assert parameter_count(other) == count_parameters(UNet(other))
    if config.quanv:
        paper = replace(config, paper_count=True)
        assert parameter_count(paper) == count_parameters(UNet(paper))


def test_controls_name_the_presets():
    for preset in PRESETS.values():
        circuits = FULL if preset.full else preset.n_circuits
        assert make_config(circuits, preset.ansatz, preset.quanv) == preset
    assert make_config(4, "fqconv", True).preset == "quanv-4fqconv"
    assert make_config(0, "fqconv", False) == PRESETS["unet"]


def test_the_papers_changes_stand_beside_ours():
    assert "−1.65 %" in parameter_text(PRESETS["1hqconv"]) and "−1.66 %" in parameter_text(PRESETS["1hqconv"])
    assert "475,281" in parameter_text(PRESETS["1hqconv"])  # whose count the paper's −1.66 % is
    assert parameter_text(PRESETS["1fqconv"]).count("−1.66 %") == 2
    assert parameter_text(PRESETS["7hqconv"]).count("−8.76 %") == 2
    assert parameter_text(PRESETS["fullhqconv"]).count("−11.03 %") == 2
    assert "474,293" in parameter_text(PRESETS["quanv-hqconv"])
    assert "not in the paper" in parameter_text(make_config(4, "hqconv", False))


def test_times_come_from_the_benchmark_file(tmp_path):
    assert "Measure a step" in time_text(PRESETS["unet"], tmp_path)
    folder = tmp_path / "study" / "benchmarks" / "results"
    folder.mkdir(parents=True)
    rows = [{"name": "unet", "median_s": 0.5}, {"name": "7hqconv", "median_s": 0.6}, {"name": "x", "error": "no"}]
    content = {"parts": {"presets": {"rows": rows, "settings": {"batch": 128}}}}
    (folder / "training_step.json").write_text(json.dumps(content))
    text = time_text(PRESETS["7hqconv"], tmp_path)
    assert "0.6 s for 128 images" in text and "1.20 times" in text
    (folder / "training_step.json").write_text("{")
    assert "Measure a step" in time_text(PRESETS["7hqconv"], tmp_path)


# ---------------------------------------------------------------------------------- the widget


def test_every_control_has_a_name_for_the_keyboard(box):
    controls = list(box.controls.values())
    assert all(isinstance(c, NAMED) and c.description for c in controls)
    assert len({c.description for c in controls}) == len(controls)
    shown, stack = [], [box]
    while stack:
        widget = stack.pop()
        shown.append(widget)
        stack += getattr(widget, "children", ())
    assert all(control in shown for control in [*controls, box.picture, box.samples, box.readout, box.status])
    assert box.picture.alt == describe_unet("1hqconv")
    assert 'role="status"' in box.readout.value and 'role="status"' in box.status.value


@pytest.mark.parametrize(
    ("control", "value"), [("percent", "100 %"), ("circuits", 4), ("ansatz", "fqconv"), ("quanv", True)]
)
def test_every_setting_recolours_and_recounts(box, control, value):
    before = box.picture.value, box.readout.value, box.picture.alt
    box.controls[control].value = value
    after = box.picture.value, box.readout.value, box.picture.alt
    assert all(a != b for a, b in zip(before, after, strict=True))
    assert f"{parameter_count(box.config):,}" in box.readout.value
    fresh = hybridization()
    for name in ("circuits", "ansatz", "quanv"):
        fresh.controls[name].value = box.controls[name].value
    assert (fresh.picture.value, fresh.readout.value) == after[:2]


def test_percent_and_circuits_follow_one_another(box):
    percent, circuits = box.controls["percent"], box.controls["circuits"]
    for name, n in module.PERCENT.items():
        percent.value = name
        assert circuits.value == n
    circuits.value = 5
    assert percent.value == module.OTHER and box.config.n_circuits == 5
    circuits.value = 7
    assert percent.value == "50 %"
    percent.value = module.OTHER  # by itself it chooses nothing
    assert (percent.value, circuits.value) == ("50 %", 7)


def test_fast_moves_lose_nothing_and_leave_no_figure_behind(box):
    figures = plt.get_fignums()
    for n in (0, 3, 13, FULL, 7):
        box.controls["circuits"].value = n
    assert box.config == PRESETS["7hqconv"] and "440,985" in box.readout.value
    assert plt.get_fignums() == figures


def test_it_answers_quickly(box):
    control = box.controls["circuits"]
    assert quickest([partial(setattr, control, "value", value) for value in (0, 3, 6, 9, 12)]) < 0.2


def test_samples_are_shown_where_a_checkpoint_ships_and_said_to_be_missing_elsewhere(box):
    assert (SHIPPED / "fashion-mnist/1hqconv/samples.png").exists()
    assert box.samples.png == (SHIPPED / "fashion-mnist/1hqconv/samples.png").read_bytes()
    assert not box.controls["draw"].disabled and box.samples.layout.display == ""
    assert "trained for 20 epochs" in box.status.value
    box.controls["circuits"].value = 7  # no 7hqconv is shipped, but one of the short protocol
    assert box.samples.png == (SHIPPED / "fashion-mnist/7hqconv-2-epochs/samples.png").read_bytes()
    assert "7hqconv-2-epochs" in box.status.value and "trained for 2 epochs" in box.status.value
    box.controls["circuits"].value = 4
    assert box.samples.png == b"" and box.samples.layout.display == "none"
    assert box.controls["draw"].disabled and "No trained checkpoint" in box.status.value


def test_of_several_shorter_checkpoints_the_longest_trained_is_shown(tmp_path):
    for epochs in (10, 2, 9):
        folder = tmp_path / f"checkpoints/mnist/1hqconv-{epochs}-epochs"
        folder.mkdir(parents=True)
        info = {"format": "qdm_lib model", "version": 1, "file": "", "sha256": "", "model_config": None, "versions": {}}
        (folder / "model.json").write_text(json.dumps(info | {"card": {"epochs": epochs}}))
    assert hybridization(dataset="mnist", root=tmp_path).folder.name == "1hqconv-10-epochs"


def test_draws_samples_of_its_own(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "DRAW_STEPS", 3)
    folder = tmp_path / "checkpoints/mnist/1hqconv"
    shutil.copytree(SHIPPED / "fashion-mnist/1hqconv", folder, ignore=lambda *_: ["samples.png"])
    box = hybridization(dataset="mnist", root=tmp_path)
    assert box.samples.png == b"" and "press" in box.status.value
    box.controls["draw"].click()
    finish(box)
    assert "3 steps, seed 0" in box.status.value and box.controls["stop"].disabled
    first = box.samples.png
    assert imread(BytesIO(first), format="png").std() > 0.05
    box.controls["seed"].value = 5
    box.controls["draw"].click()
    finish(box)
    assert box.samples.png not in (b"", first)


def test_measures_a_step_here(box):
    box.controls["measure"].click()
    finish(box)
    assert "measured here" in box.status.value and "times the classical" in box.status.value
    assert not box.controls["measure"].disabled


def endless():
    while True:
        yield 0.5, "working"
        time.sleep(0.001)


def test_stop_stops(box):
    box._start(endless())
    job = box.job
    box._start(endless())  # one at a time
    assert box.job is job and not box.controls["stop"].disabled and box.controls["draw"].disabled
    box.controls["stop"].click()
    job.join(10)
    assert not job.is_alive() and box.job is None
    assert "Stopped" in box.status.value and box.controls["stop"].disabled


def test_a_move_calls_the_running_job_off(box):
    box._start(endless())
    job = box.job
    box.controls["circuits"].value = 4
    assert box.job is None and "No trained checkpoint" in box.status.value
    job.join(10)
    assert not job.is_alive() and "No trained checkpoint" in box.status.value


def test_a_failing_job_says_so(box):
    def failing():
        yield 0.5, "working"
        raise ValueError("a reason")

    box._start(failing())
    finish(box)
    assert "ValueError: a reason" in box.status.value and not box.controls["measure"].disabled


def test_bad_arguments():
    for bad in (dict(preset="x"), dict(dataset="x")):
        with pytest.raises(ValueError, match="Unknown"):
            hybridization(**bad)
