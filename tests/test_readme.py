"""The pages about the library: every cell of the table of presets is the model's own, every door is described."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from qdm_lib.paper import COUNTS
from qdm_lib.unet import PRESETS, VERTEX_CHANNELS, build_unet, count_parameters

ROOT = Path(__file__).parent.parent
MODELS = (ROOT / "docs" / "models.md").read_text(encoding="utf-8")


def preset_rows() -> dict[str, list[str]]:
    """The table's rows by preset: parameters, paper, against unet, what is quantum."""
    _, _, table = MODELS.partition("| preset | trainable parameters | paper | against `unet` | what is quantum |\n")
    lines = table.partition("\n\n")[0].splitlines()[1:]  # without the line under the head
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {name.strip("`"): cells for name, *cells in rows}


ROWS = preset_rows()


def test_the_table_has_every_preset_once():
    assert list(ROWS) == list(PRESETS) and MODELS.count("\n| `1hqconv` | 475,329 |") == 1


@pytest.mark.parametrize("preset", ROWS)
def test_the_counts_of_a_preset(preset):
    count, classical = (count_parameters(build_unet(name, seed=0)) for name in (preset, "unet"))
    paper = f"{COUNTS[preset]:,}" if preset in COUNTS else ""
    change = "" if preset == "unet" else f"{(count / classical - 1) * 100:+.2f} %".replace("-", "−")
    assert ROWS[preset][:3] == [f"{count:,}", paper, change]


@pytest.mark.parametrize("preset", ROWS)
def test_what_is_quantum_in_a_preset(preset):
    config, text = PRESETS[preset], ROWS[preset][3]
    if same := re.match(r"as `(\w+)`, and (\d+) of (\d+) channels at 14×14$", text):
        there = PRESETS[same[1]]
        assert config.quanv and (config.n_circuits, config.full, config.ansatz) == (
            there.n_circuits, there.full, there.ansatz,
        )  # fmt: skip
        for block in (build_unet(preset, seed=0).encoder[1][name] for name in ("block1", "block2")):
            for conv in (block.conv1, block.conv2):
                assert (conv.k, block.norm1.num_channels) == (int(same[2]), int(same[3]))
        return
    assert not config.quanv
    if text == "nothing":
        assert config.quantum_channels == 0
        return
    channels, whole = re.match(r"(?:(\d+) of|all) (\d+)", text).groups()
    assert int(whole) == VERTEX_CHANNELS and config.quantum_channels == int(channels or whole)
    assert config.full == text.startswith("all")
    assert config.ansatz == ("fqconv" if "FQConv" in text else "hqconv")
    if said := re.search(r"(\d+) HQConv circuit a convolution", text):
        assert config.n_circuits == int(said[1])


def test_the_table_of_trained_models_is_up_to_date():
    done = subprocess.run(
        [sys.executable, ROOT / "tools" / "model_table.py", "--check"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


DOORS = [f"qdm_lib/{folder}" for folder in ("engine", "plots", "runs", "cli")]
DOORS += ["qdm_course/widgets", "qdm_course/moving"]


@pytest.mark.parametrize("door", DOORS)
def test_every_public_name_of_a_door_is_in_the_docs(door):
    """What a folder's `__init__` exports, by `X as X` or in a table of modules, stands in docs/library.md."""
    tree = ast.parse((ROOT / door / "__init__.py").read_text(encoding="utf-8"))
    names = {a.asname for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) for a in n.names if a.asname}
    names |= {k.value for n in ast.walk(tree) if isinstance(n, ast.Dict) for k in n.keys}
    page = (ROOT / "docs" / "library.md").read_text(encoding="utf-8")
    assert names and not {name for name in names if f"`{name}`" not in page}


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 120


def test_the_report_fits_four_pages():
    """By its words: printed at 10.5 points on A4 with margins of 16 mm, tables included, that many fit."""
    words = [word for word in (ROOT / "study" / "REPORT.md").read_text(encoding="utf-8").split() if word != "|"]
    assert len(words) <= 2400
