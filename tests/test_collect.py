"""Tables and figures come from the result files alone, byte for byte."""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import matplotlib
import numpy as np
import pytest
import torch
from PIL import Image

from qdm_lib.files import write_json
from qdm_lib.machine import duration
from qdm_lib.statistics import LIMITS, SHARES, limits, rule_of_three
from study.collect import collect, read_results
from study.figures import (
    _style,
    by_epoch,
    figures,
    grids,
    in_common,
    ladder_figure,
    loss_by_epoch,
    null,
    samples,
    sampling_figures,
)
from study.job_files import read_picture, write_picture
from study.remaining import open_table
from study.results import SCORES, Entry, Result, Settings, read_result
from study.spec import load_experiment
from study.tables import (
    RUNGS,
    Table,
    change_text,
    compared,
    cost_table,
    difference_table,
    floor_text,
    loss_table,
    mean_text,
    null_table,
    number,
    over_images,
    paper_table,
    score_table,
    seed_table,
    spent,
    write_table,
)

RESULTS, EXPERIMENTS = (Path(__file__).parent.parent / "study" / name for name in ("results", "experiments"))


def made_up(folder: Path, protocol: str, cell: str, seed: int, fid: float, epochs=None, steps=50, loss=0.03,
            scores=None, machine="x", seconds=True, **config) -> Path:  # fmt: skip
    """A result file with round numbers, and its picture; `scores`, `config`: what differs from the usual."""
    last = 20 if protocol.startswith("paper") else 2
    path = folder / protocol / config.get("dataset", "fashion-mnist") / cell / f"seed-{seed}.json"
    path.parent.mkdir(parents=True, exist_ok=True)

    def score(value):
        counts = {"n": 2000, "n_reference": 1500, "n_floor": 1000}
        return {"value": value, "low": value - 0.196, "high": value + 0.196, "floor": 1.0} | counts

    picture = path.with_suffix(".png")
    write_picture(torch.full((16, 1, 28, 28), 10 * seed, dtype=torch.uint8), picture)
    scores = {name: score(0.5) for name in SCORES} | {
        key: score(value) for key, value in ({"is": 2.0, "fid": fid} | (scores or {})).items()
    }
    entry = Entry(938, loss, scores, 200.0, 100.0, picture.name)
    config = {"protocol": protocol, "cell": cell, "preset": cell, "dataset": "fashion-mnist", "epochs": last,
              "seed": seed, "n_images": 2000, "features": "classifier", "sampler": "ddim",
              "sampler_steps": steps} | config  # fmt: skip
    Result(
        Settings(**config), 483321, {"cpu": machine, "threads": 1, "gpu": None},
        {"seconds": 1.5, "cpu_seconds": 1.0} if seed and seconds else None,
        {epoch: entry for epoch in epochs or (last,)},
    ).write(path)  # fmt: skip
    return path


@pytest.fixture
def results(tmp_path):
    folder = tmp_path / "results"
    for seed, fid in enumerate((100, 102, 104, 102, 102)):
        made_up(folder, "short", "unet", seed, fid, loss=0.03 + seed / 1000)
        made_up(folder, "short", "fullhqconv", seed, fid - 30 - seed, loss=0.0302 + seed * 1.001e-3)
        made_up(folder, "short", "control-zero", seed, fid + 0.1 * seed, loss=0.0302)
    made_up(folder, "short-ddim-10", "unet", 0, 120, steps=10)
    write_json(folder / "seconds.json", {"a machine": {"1hqconv": {"step": 1.0, "call": 0.001}}})
    made_up(folder, "paper", "unet", 0, 40, (1, 10, 20))
    return folder


def test_collect_twice_gives_the_same_bytes(results, tmp_path):
    first = collect(results, experiments=EXPERIMENTS)
    before = {path: path.read_bytes() for path in first}
    assert collect(results, experiments=EXPERIMENTS) == first and {path: path.read_bytes() for path in first} == before
    elsewhere = collect(results, tmp_path / "out", EXPERIMENTS)
    assert [path.read_bytes() for path in elsewhere] == list(before.values())
    names = {path.name for path in first}
    wanted = ["scores.csv", "differences.md", "ladder.png", "null.png", "samples.png", "sampling-steps.png"]
    wanted = [f"short-fashion-mnist-{name}" for name in wanted] + ["open-short.csv", "paper-and-ours.md"]
    assert {*wanted, "paper-fashion-mnist-fid-by-epoch.png"} <= names


def test_what_the_tables_say(results):
    collect(results, experiments=EXPERIMENTS)
    tables = results / "tables"
    rows = (tables / "short-fashion-mnist-differences.md").read_text().splitlines()
    (row,) = [r for r in rows if r.startswith("| fullhqconv - unet | FID")]
    assert "| 2 | 5 | -32 |" in row and "| 2.04 | lower | " in row and row.endswith(" | 1 |")  # 2 % of 102
    (row,) = [r for r in rows if r.startswith("| control-zero - unet | FID")]
    assert "| +0.2 |" in row and "| higher, equivalent | 0.14 |" in row  # sure by itself, but not among others
    assert any(r.startswith("| fullhqconv - control-zero | FID") for r in rows)
    (row,) = [r for r in rows if r.startswith("| fullhqconv - unet | training loss")]
    assert (
        "| 5 | +0.000202 | – | [+0.0002008, +0.0002032] | [+0.0002, +0.000204] |" in row
        and "| 0.00064 | higher, equivalent | " in row
    )  # small, but sure; 2 % of 0.032
    assert rows[-2] == "" and "Differences with two seeds or more: 18." in rows[-1] and "1 in 20" in rows[-1]
    words = [row.split(" | ")[9] for row in rows[2:-2] if int(row.split(" | ")[3]) > 1]
    called, equivalent = sum("er" in word.split(", ")[0] for word in words), sum("equivalent" in w for w in words)
    assert f"lower: {called}; equivalent, some of these among them: {equivalent}." in rows[-1] and called and equivalent
    loss, null = (tables / "short-fashion-mnist-null.csv").read_text().splitlines()[1:3]
    assert loss.startswith("training loss,2,5,0.002,0.004,")
    assert null == "FID,2,5,1.6,4,3.92,0.88,1"  # pairs 0, 0, 0, 2 (six times), 4; 1.96 · √2 · √2
    todo = (tables / "open-short.csv").read_text().splitlines()
    assert "fashion-mnist/unet,5,,0,," in todo
    assert "fashion-mnist/1hqconv,0,,3,,52 min (a machine; 1 s a step)" in todo  # 3 · (938 · 1 s + 2,000 · 50 · 1 ms)
    paper = (tables / "paper-and-ours.md").read_text()
    assert (
        "| fashion-mnist | unet |  |  |  |  |  |  | 39.4563 | 0.0275 | 3.9783 | 40 [39.8, 40.2]* |" in paper
        and "| 45.2762 | 0.0558 | 1.9152 | open |" in paper
    )
    seeds = (tables / "short-fashion-mnist-seeds.csv").read_text()
    assert "short/fashion-mnist/unet/seed-1.json" in seeds and "102 [101.8, 102.2]" in seeds


def test_floors_are_named_by_the_images_they_come_from(results):
    collect(results, experiments=EXPERIMENTS)
    assert '\n"1,000 real images"' in (results / "tables" / "short-fashion-mnist-scores.csv").read_text()  # of 2,000


def test_the_margin_of_a_data_set_is_in_its_table(tmp_path):
    """A difference of 4 % to 6 %, sure: more than the claim on Fashion-MNIST, less than the claim on MNIST."""
    for dataset in ("fashion-mnist", "mnist"):
        for seed in range(4):
            made_up(tmp_path, "short", "unet", seed, 100 + 2 * seed, dataset=dataset)
            made_up(tmp_path, "short", "1hqconv", seed, 105 + 2.01 * seed, dataset=dataset)
    fashion, mnist = (difference_table(group) for group in read_results(tmp_path))
    assert [[row[9] for row in t.rows if row[1] == "FID"] for t in (fashion, mnist)] == [
        ["higher"],
        ["higher, equivalent"],
    ]
    assert "2% of the mean classical score" in fashion.note and "8% of the mean classical score" in mnist.note


def test_a_bar_in_a_heading_makes_no_column(tmp_path):
    csv, markdown = write_table(tmp_path / "a", Table(["mean |x|", "b"], [["1", "2"], ["|", ""]], "A note."))
    *lines, empty, note = markdown.read_text().splitlines()
    cells = [len(line.replace("\\|", "").split("|")) for line in lines]
    assert len(set(cells)) == 1 and (empty, note) == ("", "A note.") and "mean |x|,b" in csv.read_text()


def test_every_shared_table_has_equal_rows():
    for path in sorted((RESULTS / "tables").glob("*.md")):
        lines = [line for line in path.read_text().splitlines() if line.startswith("|")]
        assert len({line.replace("\\|", "").count("|") for line in lines}) == 1, path


def test_costs_by_machine_with_hours(tmp_path):
    made_up(tmp_path, "short", "unet", 1, 100)
    made_up(tmp_path, "short", "unet", 2, 100, machine="y")
    made_up(tmp_path, "short", "unet", 3, 100, machine="y", seconds=False)
    made_up(tmp_path, "short", "unet", 4, 100, machine="z", seconds=False)
    transfer = {"epochs": 1, "source": "unet", "weights": "raw", "optimizer": "restart", "ema": "restart"}
    made_up(tmp_path, "short", "transfer-unet-1-restart", 1, 100, preset="unet", transfer=transfer)
    (group,) = read_results(tmp_path)
    rows = [(row[0], row[1], row[2], row[4], row[6], row[8]) for row in cost_table(group).rows]
    assert rows == [
        ("unet", "x, 1 thread(s)", "1", "1.5", "0.39", "0.47"),  # (938 · 1.5 s + 200 s + 100 s) / 3600
        ("unet", "y, 1 thread(s)", "2", "1.5", "0.39", "0.47, and 1 job(s) not noted"),
        ("unet", "z, 1 thread(s)", "1", "not noted", "not noted", "not noted"),
        ("transfer-unet-1-restart", "x, 1 thread(s)", "1", "1.5", "0.20", "0.28"),  # half the steps are the source's
        ("all", "", "5", "", "0.98", "1.23, and 2 job(s) not noted"),
    ]
    made_up(tmp_path / "b", "short-ddim-10", "unet", 0, 100, steps=10, runs_of="short")
    (group,) = read_results(tmp_path / "b")
    assert spent(group.results()) == "0.08"  # the training is that of the protocol short


def test_intervals_hold_possible_values_only(tmp_path):
    for seed, precision in enumerate((0.1, 0.9)):
        made_up(tmp_path, "short", "unet", seed, 1 + 9 * seed, scores={"precision": precision, "memorised": 0.0,
                                                                      "recall": 0.0005})  # fmt: skip
    (group,) = read_results(tmp_path)
    assert (
        mean_text(group, "unet", "precision") == "0.5 [0, 1]"
        and mean_text(group, "unet", "recall") == "0.0005 [0, 0.06918]"
    )
    assert mean_text(group, "unet", "density") == "0.5 [0.3599, 0.637]"  # equal for both seeds: over images alone
    assert mean_text(group, "unet", "fid").startswith("5.5 [0, ") and mean_text(group, "unet", "is").startswith("2 [1.")
    none = f"0 [0, {number(rule_of_three(2000))}]"
    assert mean_text(group, "unet", "memorised") == none and none in score_table(group).rows[0]
    first = seed_table(group).rows[0]
    assert none in first and "0.0005 [0, 0.1965]" in first and "0.5 [0.304, 0.696]" in first  # KID and others: as noted


def test_one_table_holds_one_scale(tmp_path):
    made_up(tmp_path, "short", "unet", 0, 100)
    made_up(tmp_path, "short", "unet", 1, 100, weights="ema")  # what a file without the word means
    read_results(tmp_path)
    for other in ({"weights": "raw"}, {"features": "inception"}, {"n_images": 500}, {"sampler_steps": 10},
                  {"sampler": "dpm"}, {"batch_size": 64}):  # fmt: skip
        path = made_up(tmp_path, "short", "1hqconv", 0, 100, **other)
        with pytest.raises(ValueError, match=r"unet/seed-0.json and .*1hqconv/seed-0.json .* differ in ") as error:
            read_results(tmp_path)
        assert next(iter(other)) in str(error.value)
        path.unlink()


def test_accuracies_of_one_cnn_and_of_several_are_kept_apart(tmp_path):
    for cell, seed in (("unet", 0), ("unet", 1), ("1hqconv", 1), ("fullhqconv", 0)):
        path = made_up(tmp_path, "short", cell, seed, 100)
        content = json.loads(path.read_text())
        if seed:  # the newer ones; their floor is another, too
            entry = content["by_epoch"]["2"]
            entry["cnns"], entry["scores"]["cnn_accuracy"]["floor"] = 5, 3.0
            path.write_text(json.dumps(content))
    (group,) = read_results(tmp_path)
    assert list(group.scores("unet", "cnn_accuracy")) == [1] and list(group.scores("unet", "fid")) == [0, 1]
    assert floor_text(group, "cnn_accuracy") == "1 (1 CNN), 3 (5 CNNs)" and floor_text(group, "fid") == "1"
    table = difference_table(group)
    accuracies = [row[0] for row in table.rows if row[1] == "CNN accuracy"]
    assert accuracies == ["1hqconv - unet"] and "are not subtracted" in table.note


def test_one_job_has_one_result(tmp_path):
    """A copy that somebody kept would replace the new one, or be replaced, without a word."""
    path = made_up(tmp_path, "short", "unet", 0, 100)
    old = tmp_path / "short" / "fashion-mnist" / "unet-old" / path.name
    old.parent.mkdir()
    old.write_bytes(path.read_bytes())
    with pytest.raises(ValueError, match="unet-old/seed-0.json and .*unet/seed-0.json are both results of unet, seed"):
        read_results(tmp_path)


def test_one_table_holds_pairs_or_none(tmp_path):
    """Hybrids that share the classical model's first weights, or hybrids with their own; the classical fits both."""
    made_up(tmp_path, "short", "unet", 0, 100)
    made_up(tmp_path, "short", "1hqconv", 0, 100, first_weights="unet")
    read_results(tmp_path)
    for changed in ({}, {"first_weights": "1hqconv"}, {"control": "zero", "preset": "unet"}):
        made_up(tmp_path, "short", "fullhqconv", 0, 100, **changed)
        with pytest.raises(ValueError, match="differ in first_weights .* and "):
            read_results(tmp_path)


def test_what_is_compared(tmp_path):
    """Circuits with each rung that says something about them, transfers with their control, hand-overs with another."""
    for cell in ("unet", "control-zero", "1hqconv", *{name for pair in RUNGS for name in pair}):
        made_up(tmp_path, "short", cell, 0, 100)
    for preset in ("unet", "1hqconv"):
        for how, changed in (("restart", {}), ("warm", {"optimizer": "warm", "ema": "warm"})):
            transfer = {"epochs": 1, "source": "unet", "weights": "raw", "optimizer": "restart", "ema": "restart"}
            made_up(tmp_path, "short", f"transfer-{preset}-1-{how}", 0, 100, preset=preset, transfer=transfer | changed)
    pairs = compared(read_results(tmp_path)[0])
    assert len(set(pairs)) == len(pairs) and set(RUNGS) < set(pairs)
    assert sum(base == "unet" for _, base in pairs) == len(RUNGS) + 7 and ("fullhqconv", "control-zero") in pairs
    assert {pair for pair in pairs if pair[1].startswith("transfer")} == {
        ("transfer-1hqconv-1-restart", "transfer-unet-1-restart"),
        ("transfer-1hqconv-1-warm", "transfer-unet-1-warm"),
        ("transfer-1hqconv-1-warm", "transfer-1hqconv-1-restart"),
        ("transfer-unet-1-warm", "transfer-unet-1-restart"),
    }
    rows = difference_table(read_results(tmp_path)[0]).rows
    assert len(rows) == 10 * len(pairs)  # one seed each: the loss and all nine scores
    made_up(tmp_path, "short", "unet", 1, 100)
    assert len(difference_table(read_results(tmp_path)[0]).rows) == 6 * len(pairs)


def test_of_one_seed_the_images_alone_give_an_interval():
    a, b = {0: (3.0, 0.3)}, {0: (1.0, 0.4)}  # √(0.3² + 0.4²) = 0.5
    assert over_images(a, b) == "[+1.02, +2.98]"
    assert over_images({0: (3.0, 0.0)}, {0: (1.0, 0.0)}) == "–"  # a loss has no images
    assert over_images(a | {1: (3.0, 0.3)}, b | {1: (1.0, 0.4)}) == "–" == over_images(a, {1: (1.0, 0.4)})


def test_seeds_that_all_score_alike_give_no_share(tmp_path):
    for seed in range(2):
        made_up(tmp_path, "short", "unet", seed, 100 + seed)
    rows = {row[0]: row[5:7] for row in null_table(read_results(tmp_path)[0]).rows}
    assert rows["FID"] == ["1.96", "0.70"] and rows["memorised"] == ["0", "–"]


def test_only_the_released_hand_over_stands_beside_the_papers(tmp_path):
    """A transfer of averaged weights, or after other epochs, is another one, whatever its name ends in."""
    paper = {"scores": {"fashion-mnist": {"unet": {"fid": 1}, "transfer": {"fid": 2}}}, "transfer_into": "1fqconv",
             "classical_transfer": {"fashion-mnist": {"fid": 3, "is": 2.0, "plus_minus": {"is": 0.1}}}}  # fmt: skip
    transfer = {"epochs": 18, "source": "unet", "weights": "raw", "optimizer": "restart", "ema": "restart"}
    for preset, name, fid, changed in (("1hqconv", "18-ema-restart-restart", 10, {"weights": "ema"}),
                                       ("1hqconv", "9-restart", 11, {"epochs": 9}),
                                       ("1fqconv", "18-restart", 12, {}), ("unet", "18-restart", 13, {}),
                                       ("7hqconv", "18-restart", 14, {}), ("unet", "", 15, None)):  # fmt: skip
        made_up(tmp_path, "paper", f"transfer-{preset}-{name}" if name else preset, 0, fid, preset=preset,
                transfer=None if changed is None else transfer | changed)  # fmt: skip
    table = paper_table(paper, read_results(tmp_path))
    fid = [table.header.index(f"FID{what}") for what in (" against unet, %, paper", " against unet, %, ours")]
    fid += [table.header.index("FID, paper"), table.header.index("FID, ours")]
    assert all(abs(a - b) > 1 for a, b in [fid[2:]])  # scores on two scales are no neighbours
    assert [[row[1], *(row[k].split(" ")[0] for k in fid)] for row in table.rows[:-1]] == [
        ["unet", "", "", "1", "15"],
        ["transfer into 1fqconv", "+100.0", "-20.0", "2", "12"],
        ["transfer into 1hqconv", "not", "open", "not", "open"],
        ["classical transfer control", "+200.0", "-13.3", "3", "13"],
    ]
    assert table.rows[3][fid[1]].endswith("]*") and "2.0 ± 0.1" in table.rows[3]


def test_a_change_in_percent_is_paired_by_seed(tmp_path):
    """Over the seeds that both have: (90 - 100 + 108 - 100) / 2 = -1 of 100; the third, good seed does not count."""
    for cell, fids in (("unet", (100, 100)), ("1hqconv", (90, 108, 10))):
        for seed, fid in enumerate(fids):
            made_up(tmp_path, "short", cell, seed, fid)
    (group,) = read_results(tmp_path)
    assert change_text(group, "1hqconv", "fid").startswith("-1.0 [-115.") and "*" not in change_text(
        group, "1hqconv", "fid"
    )
    made_up(tmp_path / "b", "short", "unet", 0, 100)
    made_up(tmp_path / "b", "short", "1hqconv", 0, 99)
    made_up(tmp_path / "b", "short", "7hqconv", 1, 99)
    (group,) = read_results(tmp_path / "b")
    assert change_text(group, "1hqconv", "fid") == "-1.0 [-1.3, -0.7]*"  # each ± 0.196, so ± 0.28
    assert change_text(group, "7hqconv", "fid") == "open"


def test_runs_seen_through_the_papers_features_have_their_own_table(tmp_path):
    made_up(tmp_path, "paper", "unet", 0, 40)
    made_up(tmp_path, "paper-inception", "unet", 0, 30, features="inception", runs_of="paper")
    made_up(tmp_path, "paper-ddim-50", "unet", 0, 20, runs_of="paper")
    made_up(tmp_path, "paper-bundled", "unet", 0, 20)  # the paper's recipe on fewer images: not beside its numbers
    collect(tmp_path, experiments=EXPERIMENTS)
    ours, theirs = ((tmp_path / "tables" / f"paper{p}-and-ours.md").read_text() for p in ("", "-inception"))
    quick = (tmp_path / "tables" / "paper-ddim-50-and-ours.md").read_text()
    assert "| 3.9783 | 20 [19.8, 20.2]* |" in quick
    assert "Ours on fashion-mnist: 2,000 images by DDIM in 50 steps" in quick.splitlines()[-1]
    assert not (tmp_path / "tables" / "paper-bundled-and-ours.md").exists()
    assert "| 3.9783 | 40 [39.8, 40.2]* |" in ours and "| 3.9783 | 30 [29.8, 30.2]* |" in theirs
    assert "| 1 | inception |" in theirs and "one seed" in ours.splitlines()[-1]
    assert "| 0.0600 ± 0.0014 | 1.9094 ± 0.0241 |" in ours  # in the digits of the paper


def test_without_runs_of_the_papers_protocol_there_is_no_table_of_them(tmp_path):
    made_up(tmp_path, "paper-ddim-50", "unet", 0, 20, runs_of="paper")
    written = {path.name for path in collect(tmp_path, experiments=EXPERIMENTS)}
    assert "paper-ddim-50-and-ours.md" in written and "paper-and-ours.md" not in written


def test_sampling_steps_compare_the_same_seeds(tmp_path, monkeypatch):
    for seed, fid in enumerate((100, 104, 500)):
        made_up(tmp_path, "short", "unet", seed, fid)
        if seed < 2:
            made_up(tmp_path, "short-ddim-10", "unet", seed, fid + 20, steps=10)
    made_up(tmp_path, "short", "1hqconv", 0, 90)
    made_up(tmp_path, "short-ddim-10", "1hqconv", 1, 90, steps=10)  # no seed in common
    drawn = []
    monkeypatch.setattr("study.figures._save", lambda figure, path: drawn.append(figure))
    sampling_figures(read_results(tmp_path), tmp_path)
    (line,) = drawn[0].axes[0].lines
    assert line.get_label() == "unet, ddim (2 seeds)" and line.get_xydata().tolist() == [[10, 122], [50, 102]]


def test_rows_of_samples_share_seed_and_epoch_where_they_can(tmp_path):
    made_up(tmp_path, "paper", "unet", 0, 40, (1, 10, 20))
    made_up(tmp_path, "paper", "unet", 1, 40, (1, 10, 20))
    made_up(tmp_path, "paper", "1hqconv", 1, 40, (1, 10))
    (group,) = read_results(tmp_path)
    assert in_common(group) == [(1, 1), (1, 10)]
    rows = ["real images\ntest set", "unet\nseed 1, epoch 10", "1hqconv\nseed 1, epoch 10"]
    assert [ax.get_ylabel() for ax in samples(group, (1, 10)).axes] == rows
    names = {path.name.removeprefix("paper-fashion-mnist-") for path in figures(group, tmp_path)}
    assert {"samples.png", "samples-epoch-1.png"} <= names and "samples-epoch-10.png" not in names  # the last: samples
    made_up(tmp_path, "paper", "fullhqconv", 2, 40, (20,))
    (group,) = read_results(tmp_path)
    assert in_common(group) == [] and "do not compare" in samples(group, None).get_suptitle()
    assert grids(group) == {"samples": (1, 10), "samples-epoch-1": (1, 1)}  # the figures keep to what two cells share
    labels = [ax.get_ylabel() for ax in samples(group, None).axes]
    assert labels[1:] == ["unet\nseed 0, epoch 20", "fullhqconv\nseed 2, epoch 20", "1hqconv\nseed 1, epoch 10"]
    transfer = {"epochs": 18, "source": "unet", "weights": "raw", "optimizer": "restart", "ema": "restart"}
    made_up(tmp_path / "b", "paper", "unet", 0, 40, (1, 20))
    made_up(tmp_path / "b", "paper", "transfer-unet-18-restart", 0, 40, (20,), preset="unet", transfer=transfer)
    (other,) = read_results(tmp_path / "b")
    assert in_common(other) == [(0, 1), (0, 20)]
    assert [len(samples(other, pair).axes) for pair in in_common(other)] == [2, 3]


def test_a_cell_without_an_early_epoch_does_not_hide_the_others(tmp_path):
    made_up(tmp_path, "paper", "unet", 0, 40, (1, 10, 20))
    made_up(tmp_path, "paper", "1hqconv", 0, 40, (10, 20))
    made_up(tmp_path, "paper", "fullhqconv", 0, 40, (20,))
    (group,) = read_results(tmp_path)
    names = {path.name.removeprefix("paper-fashion-mnist-") for path in figures(group, tmp_path)}
    assert {"samples.png", "samples-epoch-1.png", "samples-epoch-10.png"} <= names
    rows = ["real images\ntest set", "unet\nseed 0, epoch 10", "1hqconv\nseed 0, epoch 10"]
    assert [ax.get_ylabel() for ax in samples(group, (0, 10)).axes] == rows


def test_a_cell_that_is_not_at_the_end_yet_does_not_hide_the_others(tmp_path):
    """After 1 and 10 epochs of 20: its scores so far are in tables and figures, "open" where the end is asked for."""
    made_up(tmp_path, "paper-ddim-50", "unet", 0, 40, (1, 10, 20), runs_of="paper")
    made_up(tmp_path, "paper-ddim-50", "1hqconv", 0, 40, (1, 10, 20), runs_of="paper")
    made_up(tmp_path, "paper-ddim-50", "7hqconv", 0, 50, (1, 10), runs_of="paper")
    made_up(
        tmp_path, "paper-ddim-50", "control-zero", 0, 50, (1,), preset="fullhqconv", control="zero", runs_of="paper"
    )
    made_up(tmp_path, "paper-ddim-50", "fullhqconv", 0, 50, (1,), runs_of="paper")
    (group,) = read_results(tmp_path)
    assert grids(group) == {"samples": (0, 20), "samples-epoch-1": (0, 1), "samples-epoch-10": (0, 10)}
    names = {path.name.removeprefix("paper-ddim-50-fashion-mnist-") for path in collect(tmp_path, None, EXPERIMENTS)}
    assert "fid-by-epoch.png" in names and "ladder.png" not in names  # no rung is at the end
    tables = tmp_path / "tables"
    rows = (tables / "paper-ddim-50-fashion-mnist-scores.md").read_text()
    assert "| 7hqconv | 10 | 0 | 50 [" in rows and "| 7hqconv | 20 |" not in rows
    (ours,) = [r for r in (tables / "paper-ddim-50-and-ours.md").read_text().splitlines() if "mnist | 7hqconv" in r][:1]
    assert ours.endswith("| open | open | open | 0 |  |")
    still = (tables / "open-paper-ddim-50-fashion-mnist.md").read_text()
    assert "| fashion-mnist/7hqconv | 0 |  | 3 | seed 0: 1, 10 |" in still
    assert "control-zero | 0 |  | 3 | seed 0: 1 |" in still


def test_the_null_stands_above_the_paired_differences(results):
    group = next(group for group in read_results(results) if group.protocol == "short")
    ax = null(group).axes[0]
    marks = [line for line in ax.lines if line.get_linestyle() == "None" and line.get_marker() != "|"]
    chance, zero, hybrid = (
        [x for line in marks if set(line.get_ydata()) == {y} for x in line.get_xdata()] for y in range(3)
    )
    assert sorted(chance) == [-4] + [-2] * 6 + [0] * 6 + [2] * 6 + [4]
    assert zero == pytest.approx([0, 0.1, 0.2, 0.3, 0.4]) and hybrid == [-30, -31, -32, -33, -34]
    band = ax.patches[0]
    assert band.get_x() == pytest.approx(-3.92, abs=0.001) and band.get_width() == pytest.approx(7.84, abs=0.001)
    assert [text.get_text() for text in ax.get_yticklabels()][0] == "unet - unet (pairs of 5)"
    assert "s from 5 seeds" in null(group).get_suptitle()
    margins = [line.get_xdata()[0] for line in ax.lines if line.get_linestyle() == "--"]
    assert margins == pytest.approx([-2.04, 2.04])  # 2 % of 102


def test_bars_of_the_ladder_compare(tmp_path):
    """fullhqconv has a third, good seed, which no other rung has: its bar is the mean over the two common ones."""
    for cell, fids in (("unet", (100, 102)), ("control-zero", (103, 105)), ("fullhqconv", (104, 106, 50))):
        for seed, fid in enumerate(fids):
            made_up(tmp_path, "short", cell, seed, fid)
    (group,) = read_results(tmp_path)
    figure = ladder_figure(group)
    bars = {line.get_ydata()[0]: line.get_xdata()[0] for line in figure.axes[0].lines if line.get_marker() == "|"}
    assert bars == {0: 101, 1: 104, 2: 105} and "means over the common seeds 0, 1" in figure.get_suptitle()


def test_no_line_leads_across_a_length_that_was_not_scored(tmp_path):
    made_up(tmp_path, "paper", "unet", 0, 40, (1, 10, 20))
    made_up(tmp_path, "paper", "7hqconv", 0, 42, (1, 20))
    (group,) = read_results(tmp_path)
    (ax,) = by_epoch(group).axes
    heights = {line.get_label(): line.get_ydata() for line in ax.lines}
    assert np.isnan(heights["7hqconv (1 seed)"]).tolist() == [False, True, False]
    assert not np.isnan(heights["unet (1 seed)"]).any() and ax.get_title().endswith("real images: 1")


def test_losses_of_every_epoch_are_told_or_said_to_be_missing(tmp_path):
    for cell, losses in (("unet", {1: 0.04, 2: 0.02}), ("1hqconv", {1: 0.05, 2: 0.019}), ("7hqconv", None)):
        path = made_up(tmp_path, "short", cell, 0, 100)
        dataclasses.replace(read_result(path), losses=losses).write(path)
    (group,) = read_results(tmp_path)
    assert loss_table(group).rows == [["unet", "0", "0.04", "0.02"], ["1hqconv", "0", "0.05", "0.019"],
                                      ["7hqconv", "0", "not kept", "not kept"]]  # fmt: skip
    (curve,) = [line for line in loss_by_epoch(group).axes[0].lines if line.get_label() == "1hqconv (1 seed)"]
    assert np.allclose(curve.get_xydata(), [[1, 25], [2, -5]])
    names = {path.name for path in collect(tmp_path, experiments=EXPERIMENTS)}
    assert {"short-fashion-mnist-losses.md", "short-fashion-mnist-loss-by-epoch.png"} <= names


def test_an_accuracy_of_one_cnn_is_said_to_be_one(tmp_path):
    made_up(tmp_path, "short", "unet", 0, 100)
    path = made_up(tmp_path, "short", "1hqconv", 0, 100)
    assert "over the test images of one CNN" in seed_table(read_results(tmp_path)[0]).note
    result = read_result(path)
    dataclasses.replace(result, by_epoch={2: dataclasses.replace(result.by_epoch[2], cnns=5)}).write(path)
    assert "among those of unet, over the test images of one CNN" in seed_table(read_results(tmp_path)[0]).note


def test_what_is_open_of_the_protocol_that_is_used(tmp_path):
    """paper-fashion-mnist, drawn by DDIM: one seed done, one at epoch 10, one open; costs as noted."""
    used = load_experiment(EXPERIMENTS / "paper-fashion-mnist.toml").as_used()
    assert used.protocol == "paper-ddim-50" and used.as_used() is not used
    about = {"n_images": 7000, "batch_size": 128, "runs_of": "paper"}
    made_up(tmp_path, used.protocol, "unet", 1, 10, (1, 10, 20), **about)
    made_up(tmp_path, used.protocol, "unet", 2, 10, (1, 10), **about)
    table = open_table(used, tmp_path, read_results(tmp_path))
    rows = {row[0]: row[1:] for row in table.rows}
    seconds = 9375 * 1.0 + 3 * 200 + (9375 - 4688) * 1.0 + 200  # seed 0 whole; seed 2 from epoch 10 on
    assert rows["fashion-mnist/unet"] == [
        "1", "", "2", "seed 2: 1, 10",
        f"{duration(seconds)} (x, 1 thread(s); 1 s a step)".replace(";", ", batch 128;", 1),
    ]  # fmt: skip
    assert rows["fashion-mnist/control-zero"] == ["0", "", "3", "", "not measured"]
    assert "7,000 images by DDIM in 50 steps" in table.note
    names = {path.name for path in collect(tmp_path, experiments=EXPERIMENTS)}
    assert {"open-paper-ddim-50-mnist.md", "open-short.md", "open-paper-n1000.md"} <= names
    assert {"open-paper-raw-ddim-50-fashion-mnist.md", "open-paper-raw-ddim-50-mnist.md"} <= names
    assert not any("open-paper-mnist" in name for name in names)


def test_a_stopped_collect_leaves_whole_files(results, monkeypatch):
    """Killed in the middle of any picture or table: what was there is there still, and no half of a new one."""
    before = {path: path.read_bytes() for path in collect(results, experiments=EXPERIMENTS)}
    for stopped_at in ("ladder.png", "samples.png", "null.png", "scores.md"):

        def stop(old, new, stopped_at=stopped_at, replace=os.replace):
            if str(new).endswith(stopped_at):
                raise KeyboardInterrupt
            replace(old, new)

        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr("os.replace", stop)
            collect(results, experiments=EXPERIMENTS)
        assert {path: path.read_bytes() for path in before} == before
    assert not [path for path in results.rglob("*") if path.name.endswith(".tmp")]


def test_labels_are_neither_cut_nor_on_one_another(results):
    """In every figure with rows: all text inside the picture, and no two tick labels of an axis overlap."""
    made_up(results, "short", "control-hqconv_released", 0, 99.123)
    group = next(group for group in read_results(results) if group.protocol == "short")
    for figure in (ladder_figure(group), null(group), samples(group, (0, 2))):
        figure.draw_without_rendering()
        whole = figure.bbox
        for ax in figure.axes:
            for axis, (first, last) in ((ax.xaxis, ax.get_xlim()), (ax.yaxis, sorted(ax.get_ylim()))):
                ticks = [tick for tick in axis.get_major_ticks() if first <= tick.get_loc() <= last]
                boxes = [tick.label1.get_window_extent() for tick in ticks if tick.label1.get_text()]
                assert not any(a.overlaps(b) for k, a in enumerate(boxes) for b in boxes[:k])
                assert all(whole.x0 <= b.x0 and b.x1 <= whole.x1 and whole.y0 <= b.y0 for b in boxes)
        title = figure._suptitle.get_window_extent()
        assert whole.x0 <= title.x0 and title.x1 <= whole.x1


def test_samples_of_a_data_set_without_bundled_images(tmp_path):
    made_up(tmp_path, "short", "unet", 0, 100, dataset="kmnist")
    (group,) = read_results(tmp_path)
    assert [ax.get_ylabel() for ax in samples(group, (0, 2)).axes] == ["unet\nseed 0, epoch 2"]


def test_a_ladder_without_the_classical_model_is_drawn(tmp_path):
    for cell in ("control-zero", "fullhqconv"):
        made_up(tmp_path, "short", cell, 0, 100)
    (group,) = read_results(tmp_path)
    assert sorted(path.name for path in figures(group, tmp_path)) == [
        "short-fashion-mnist-ladder.png",
        "short-fashion-mnist-samples.png",
    ]


def test_the_null_is_drawn_first(tmp_path):
    """Before any other cell is there, and only once two classical seeds are."""
    made_up(tmp_path, "short", "unet", 0, 100)
    assert not any(path.name.endswith("null.png") for path in figures(read_results(tmp_path)[0], tmp_path))
    made_up(tmp_path, "short", "unet", 1, 102)
    assert any(path.name.endswith("null.png") for path in figures(read_results(tmp_path)[0], tmp_path))
    assert len(null(read_results(tmp_path)[0]).axes[0].get_yticks()) == 1


def test_one_seed_has_a_star(tmp_path):
    made_up(tmp_path, "short", "unet", 0, 3.14159)
    assert mean_text(read_results(tmp_path)[0], "unet", "fid") == "3.142 [2.946, 3.338]*" and number(None) == "–"


def test_curves_are_told_apart():
    styles = [tuple(_style(k).values()) for k in range(49)]
    assert len(set(styles)) == 49 and all(
        a != b for k in range(48) for a, b in zip(styles[k], styles[k + 1], strict=True)
    )


def test_mistakes(tmp_path):
    with pytest.raises(FileNotFoundError, match="There is no folder"):
        collect(tmp_path / "nowhere")
    (tmp_path / "seed-0.json").write_text(json.dumps({"config": {}}))
    with pytest.raises(ValueError, match="seed-0.json is no result of an experiment"):
        read_results(tmp_path)
    (tmp_path / "seed-0.json").unlink()
    path = made_up(tmp_path, "short", "unet", 0, 100)
    whole = json.loads(path.read_text())
    for part, lost in ((None, "parameters"), ("config", "seed"), ("by_epoch", "samples"), ("scores", "kid")):
        broken = json.loads(json.dumps(whole))
        entry = broken["by_epoch"]["2"]
        parts = {None: broken, "config": broken["config"], "by_epoch": entry, "scores": entry["scores"]}
        del parts[part][lost]
        path.write_text(json.dumps(broken))
        with pytest.raises(ValueError, match=f"seed-0.json is no result of an experiment .*{lost}"):
            read_results(tmp_path)


def test_a_result_goes_through_its_file_and_back(tmp_path):
    path = made_up(tmp_path, "paper", "unet", 3, 40, (1, 20), control="zero", nudge=0.1)
    result = dataclasses.replace(read_result(path), losses={1: 0.2, 2: 0.1})
    result.write(path)
    assert read_result(path) == result and read_result(path).losses == {1: 0.2, 2: 0.1}
    content = json.loads(path.read_text())
    assert content["finished"] and content["scores"] == content["by_epoch"]["20"]["scores"]
    assert list(content["by_epoch"]) == ["1", "20"] and "path" not in content
    again = {"machine": {"cpu": "another"}, "versions": {"torch": "2.14.1"}}
    mixed = dataclasses.replace(
        result, by_epoch=result.by_epoch | {1: dataclasses.replace(result.by_epoch[1], second_run=again)}
    )
    mixed.write(path)
    content = json.loads(path.read_text())
    assert read_result(path) == mixed and content["by_epoch"]["1"]["second_run"] == again
    assert not {"second_run", "again"} & set(content["by_epoch"]["20"])
    early = dataclasses.replace(result, by_epoch={1: result.by_epoch[1]})
    assert early.last is None and early.to_json()["finished"] is False and early.to_json()["scores"] is None


def test_older_files_are_read(tmp_path):
    """Without losses and without the settings that came later; what they lack has the old meaning."""
    path = made_up(tmp_path, "short", "unet", 0, 100)
    content = json.loads(path.read_text())
    for later in ("weights", "first_weights", "runs_of", "nudge", "batch_size"):
        del content["config"][later]
    path.write_text(json.dumps(content | {"a later part": 1}))
    result = read_result(path)
    assert (result.config.weights, result.config.runs_of, result.losses) == ("ema", None, None)
    for damaged in ("[]", "{", json.dumps(content | {"by_epoch": [1]}), json.dumps(content | {"config": 3})):
        path.write_text(damaged)
        with pytest.raises(ValueError, match="seed-0.json is no result of an experiment"):
            read_result(path)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "7", None, [1.0]])
@pytest.mark.parametrize("part", ["value", "low", "high", "floor"])
def test_a_score_that_is_no_number_is_no_result(part, value, tmp_path):
    path = made_up(tmp_path, "short", "unet", 0, 100)
    content = json.loads(path.read_text())
    last = content["by_epoch"][max(content["by_epoch"])]["scores"]["recall"]
    last[part] = value
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match="seed-0.json is no result of an experiment"):
        read_result(path)


def test_results_are_read_without_torch():
    code = "import sys; from study.results import read_results; read_results('study/results'); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=RESULTS.parent.parent)
    assert "study.results" in done.stdout.split() and "torch" not in done.stdout.split(), done.stderr


def test_every_score_has_a_heading_and_a_range():
    assert all(limits(key)[0] < limits(key)[1] for key in SCORES) and set(SHARES) | set(LIMITS) == set(SCORES)


def test_pictures_go_around(tmp_path):
    images = torch.randint(256, (11, 1, 28, 28), dtype=torch.uint8)
    write_picture(images, tmp_path / "a.png")
    back = read_picture(tmp_path / "a.png")
    assert back.shape == (16, 28, 28) and np.array_equal(back[:11], images[:, 0]) and not back[11:].any()


def test_the_shared_tables_and_figures_follow_from_the_shared_results(tmp_path):
    """What stands in results/ is what `experiment collect` makes of it; figures if this matplotlib drew them."""
    made = collect(RESULTS, tmp_path, EXPERIMENTS)
    there = {path for folder in ("tables", "figures") for path in (RESULTS / folder).iterdir()}
    assert there <= {RESULTS / path.relative_to(tmp_path) for path in made}, "files that no result gives: remove them"
    hint = "run 'python -m qdm_lib experiment collect'"
    for path in made:
        shared = RESULTS / path.relative_to(tmp_path)
        assert shared.is_file(), f"{shared} is missing: {hint}"
        if path.suffix == ".png":
            with Image.open(shared) as picture:
                drawn_by = picture.info["Software"]
            if drawn_by != f"matplotlib {matplotlib.__version__}":
                continue
        assert path.read_bytes() == shared.read_bytes(), f"{shared} is not what the result files give: {hint}"
