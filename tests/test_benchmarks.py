"""The benchmarks run, and what they compare is the same computation."""

import importlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

FOLDER = Path(__file__).parent.parent / "study" / "benchmarks"
QUICK = ["--rounds", "1", "--seconds", "0.01", "--threads", "1", "--ansatz", "fqconv"]


def run(script: str, out: Path, *options: str) -> dict:
    """Run a benchmark as a user would, and read what it wrote."""
    command = [sys.executable, str(FOLDER / f"{script}.py"), *QUICK, *options, "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (out / f"{script}.png").stat().st_size > 10_000
    return json.loads((out / f"{script}.json").read_text())


@pytest.fixture
def modules(monkeypatch):
    """The benchmarks' own modules by name, as their scripts import them."""
    monkeypatch.syspath_prepend(FOLDER)
    yield importlib.import_module
    for name in ("circuits", "contenders", "common", "training_step"):
        sys.modules.pop(name, None)


def test_circuits_measures_equal_computations(tmp_path):
    names = ["fast", "default.qubit, torch"]
    content = run("circuits", tmp_path, "--sizes", "2x3", "--only", *names)
    assert set(content) == {"benchmark", "machine", "settings", "rows"}
    assert content["machine"]["versions"]["torch"] and content["settings"]["threads"] == 1
    assert [row["name"] for row in content["rows"]] == names
    for row in content["rows"]:
        assert "error" not in row, row
        assert row["run"] == [2, 3] and row["median_s"] > 0 and row["iqr_s"] >= 0 and row["peak_mb"] >= 0
        assert row["error_out"] < 1e-5 and row["error_x"] < 1e-4 and row["error_theta"] < 1e-4
    more = run("circuits", tmp_path, "--sizes", "1x2", "--only", "fast", "--keep")
    assert [(row["name"], row["size"]) for row in more["rows"]] == [*((name, "2x3") for name in names), ("fast", "1x2")]


def test_scaling_fits_slopes(tmp_path):
    content = run("scaling", tmp_path, "--along", "rows", "--sizes", "2", "4")
    assert [(row["backend"], row["size"]) for row in content["rows"]] == [
        ("fast", 2), ("statevector", 2), ("fast", 4), ("statevector", 4)
    ]  # fmt: skip
    assert [fit["backend"] for fit in content["slopes"]] == ["fast", "statevector"]
    assert all(np.isfinite(fit["slope"]) and fit["along"] == "rows" for fit in content["slopes"])


def test_a_wrong_contender_is_not_timed(modules):
    circuits, common = modules("circuits"), modules("common")
    rng = np.random.default_rng(0)
    want = {"arr_0": rng.random((4, 2, 12)), "arr_1": rng.random((4, 2, 12)), "arr_2": rng.random((1, 2, 72))}
    got = {"arr_0": want["arr_0"], "arr_1": want["arr_1"], "arr_2": want["arr_2"].sum(0)}
    assert max(circuits.errors(got, want, 2, 4).values()) == 0
    for key, value in got.items():
        for bad in (value + 0.01, value * np.nan):
            with pytest.raises(common.WorkerError, match="wrong result"):
                circuits.errors({**got, key: bad}, want, 2, 4)


def test_slow_contenders_get_a_piece(modules):
    piece = modules("contenders").piece
    assert piece("fast", 13, 6272) == (13, 6272)
    assert piece("torchquantum", 13, 128) == (13, 128)
    assert piece("torchquantum", 1, 6272) == (1, 1664)
    assert piece("lightning.qubit", 13, 128) == (1, 128)
    assert piece("lightning.qubit", 2, 3) == (2, 3)


def test_a_failing_contender_spares_the_others(modules):
    common = modules("common")
    case = {"ansatz": "fqconv", "layers": 1, "circuits": 1, "rows": 2}
    names = ["no such contender", "fast"]
    contenders = [common.Entrant(name, "contenders:build", {"name": name, **case}) for name in names]
    failed, fine = common.measure(contenders, rounds=2, seconds=0.01, threads=1)
    assert "KeyError" in failed["error"] and "median_s" not in failed
    assert fine["blocks"] == 2 and fine["median_s"] > 0


def test_plain_and_default_forms_stay_what_they_are(modules):
    common, fixed = modules("common"), {"preset": "unet", "batch": 2, "device": "cpu", "bf16": False}
    contenders = [
        common.Entrant(name, "training_step:training_step", {**fixed, "form": name}, "", common.KEEP_MEMORY)
        for name in ("plain", "default")
    ]
    rows = common.measure(contenders, rounds=1, seconds=0.01, threads=1)
    assert [row.get("plain_forms") for row in rows] == [True, False], rows


def test_training_step_keeps_the_parts_that_it_does_not_replace(tmp_path):
    quick = ["--batch", "2", "--threads", "1", "--out", str(tmp_path)]
    for only in (["limit"], ["curves", "--curve-steps", "2"]):
        command = [sys.executable, str(FOLDER / "training_step.py"), "--only", *only, *quick]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    parts = json.loads((tmp_path / "training_step.json").read_text())["parts"]
    assert parts["limit"]["rows"][1]["gflop"] < parts["limit"]["rows"][2]["gflop"]
    single, bf16 = (row["loss"] for row in parts["curves"]["rows"])
    assert len(single) == len(bf16) == 2 and single == pytest.approx(bf16, rel=0.05)
    assert (tmp_path / "training_step_curves.png").stat().st_size > 10_000
