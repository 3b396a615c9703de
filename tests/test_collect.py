"""Tables and figures come from the result files alone, byte for byte."""

import json
from pathlib import Path

import matplotlib
import numpy as np
import pytest
import torch
from PIL import Image

from qdm_lib.collect import collect, number, read_results, with_interval
from qdm_lib.comparison import Difference
from qdm_lib.evaluation import SCORE_NAMES
from qdm_lib.experiment_run import read_picture, write_picture
from qdm_lib.samples import write_json

RESULTS, EXPERIMENTS = (Path(__file__).parent.parent / name for name in ("results", "experiments"))


def made_up(folder: Path, protocol: str, cell: str, seed: int, fid: float, epochs=("2",), steps=50, loss=0.03) -> None:
    """A result file with round numbers, and its picture."""
    path = folder / protocol / cell / f"seed-{seed}.json"
    path.parent.mkdir(parents=True, exist_ok=True)

    def score(value):
        return {"value": value, "low": value - 0.196, "high": value + 0.196, "floor": 1.0}

    picture = path.with_suffix(".png")
    write_picture(torch.full((16, 1, 28, 28), 10 * seed, dtype=torch.uint8), picture)
    scores = {name: score(0.5) for name in SCORE_NAMES} | {"fid": score(fid)}
    entry = {"step": 938, "loss": loss, "scores": scores, "sampling_seconds": 200.0, "samples": picture.name}
    config = {"protocol": protocol, "cell": cell, "dataset": "fashion-mnist", "seed": seed, "n_images": 2000,
              "features": "classifier", "sampler": "ddim", "sampler_steps": steps}  # fmt: skip
    write_json(path, {
        "config": config, "parameters": 483321, "machine": {"cpu": "x", "threads": 1, "gpu": None},
        "seconds_per_step": {"seconds": 1.5, "cpu_seconds": 1.0} if seed else None,
        "by_epoch": {epoch: entry for epoch in epochs}, "scores": scores, "loss": entry["loss"],
        "finished": True,
    })  # fmt: skip


@pytest.fixture
def results(tmp_path):
    folder = tmp_path / "results"
    for seed, fid in enumerate((100, 102, 104)):
        made_up(folder, "short", "unet", seed, fid, loss=0.03 + seed / 1000)
        made_up(folder, "short", "fullhqconv", seed, fid - 30 - seed, loss=0.0302 + seed / 1000)
        made_up(folder, "short", "control-zero", seed, fid + 0.1 * seed, loss=0.0302)
    made_up(folder, "short-ddim-10", "unet", 0, 120, steps=10)
    write_json(folder / "seconds.json", {"a machine": {"1hqconv": {"step": 1.0, "call": 0.001}}})
    made_up(folder, "paper", "unet", 0, 40, ("1", "10", "20"))
    return folder


def test_collect_twice_gives_the_same_bytes(results, tmp_path):
    first = collect(results, experiments=EXPERIMENTS)
    before = {path: path.read_bytes() for path in first}
    assert collect(results, experiments=EXPERIMENTS) == first and {path: path.read_bytes() for path in first} == before
    elsewhere = collect(results, tmp_path / "out", EXPERIMENTS)
    assert [path.read_bytes() for path in elsewhere] == list(before.values())
    names = {path.name for path in first}
    wanted = ["scores.csv", "differences.md", "ladder.png", "samples.png", "sampling-steps.png"]
    wanted = [f"short-fashion-mnist-{name}" for name in wanted] + ["open-short.csv", "paper-and-ours.md"]
    assert {*wanted, "paper-fashion-mnist-fid-by-epoch.png"} <= names


def test_what_the_tables_say(results):
    collect(results, experiments=EXPERIMENTS)
    tables = results / "tables"
    rows = (tables / "short-fashion-mnist-differences.md").read_text().splitlines()
    (row,) = [r for r in rows if r.startswith("| fullhqconv - unet | FID")]
    assert "| 2 | 3 | -31 |" in row and row.endswith("| lower | 1 |")
    (row,) = [r for r in rows if r.startswith("| control-zero - unet | FID")]
    assert "| +0.1 |" in row and row.endswith("| equivalent | 1 |")
    assert any(r.startswith("| fullhqconv - control-zero | FID") for r in rows)
    (row,) = [r for r in rows if r.startswith("| fullhqconv - unet | training loss")]
    assert "| 3 | +0.0002 | [+0.0002, +0.0002] |" in row and row.endswith(
        "| higher, equivalent | – |"
    )  # small, but sure
    loss, null = (tables / "short-fashion-mnist-null.csv").read_text().splitlines()[1:3]
    assert loss == "training loss,2,3,0.001333,0.002,0.002772,–"
    assert null == "FID,2,3,2.667,4,5.544,1"  # pairs 2, 2, 4; 1.96 · √2 · 2
    todo = (tables / "open-short.csv").read_text().splitlines()
    assert todo[1] == "unet,3,2,not measured"
    assert "1hqconv,0,3,52 min (a machine; 1 s a step)" in todo  # 3 · (938 · 1 s + 2,000 · 50 · 1 ms)
    paper = (tables / "paper-and-ours.md").read_text()
    assert "| fashion-mnist | unet | 39.4563 | 40 | 0.0275 |" in paper and "| mnist | unet | 45.2762 | open |" in paper
    seeds = (tables / "short-fashion-mnist-seeds.csv").read_text()
    assert "short/unet/seed-1.json" in seeds and "102 [101.8, 102.2]" in seeds
    costs = (tables / "short-fashion-mnist-costs.csv").read_text()
    assert 'unet,"483,321",1.5,1,0.1,"x, 1 thread(s)"' in costs
    assert "\n" + "2,000 real images" in (tables / "short-fashion-mnist-scores.csv").read_text().replace('"', "")


def test_one_seed_is_a_number_and_several_have_an_interval():
    nan = (float("nan"),) * 2
    assert with_interval(Difference(3.14159, 1, nan, nan)) == "3.142"
    assert with_interval(Difference(3.0, 3, (2.0, 4.0), (1.0, 3.5))) == "3 [1, 4]"
    assert number(None) == "–"


def test_mistakes(tmp_path):
    with pytest.raises(FileNotFoundError, match="There is no folder"):
        collect(tmp_path / "nowhere")
    (tmp_path / "seed-0.json").write_text(json.dumps({"config": {}}))
    with pytest.raises(ValueError, match="seed-0.json is no result of an experiment"):
        read_results(tmp_path)


def test_pictures_go_around(tmp_path):
    images = torch.randint(256, (11, 1, 28, 28), dtype=torch.uint8)
    write_picture(images, tmp_path / "a.png")
    back = read_picture(tmp_path / "a.png")
    assert back.shape == (16, 28, 28) and np.array_equal(back[:11], images[:, 0]) and not back[11:].any()


def test_the_shared_tables_and_figures_follow_from_the_shared_results(tmp_path):
    """What stands in results/ is what `experiment collect` makes of it; figures if this matplotlib drew them."""
    for path in collect(RESULTS, tmp_path, EXPERIMENTS):
        shared = RESULTS / path.relative_to(tmp_path)
        assert shared.is_file(), f"{shared} is missing: run 'python -m qdm_lib experiment collect'"
        if path.suffix == ".png":
            with Image.open(shared) as picture:
                drawn_by = picture.info["Software"]
            if drawn_by != f"matplotlib {matplotlib.__version__}":
                continue
        assert path.read_bytes() == shared.read_bytes(), shared
