"""README's table of presets: every cell is the model's own."""

import re
from pathlib import Path

import pytest

from qdm_lib.cli.commands import PAPER_COUNTS
from qdm_lib.unet import PRESETS, VERTEX_CHANNELS, build_unet, count_parameters

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")


def preset_rows() -> dict[str, list[str]]:
    """The table's rows by preset: parameters, paper, against unet, what is quantum."""
    _, _, table = README.partition("| preset | trainable parameters | paper | against `unet` | what is quantum |\n")
    lines = table.partition("\n\n")[0].splitlines()[1:]  # without the line under the head
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {name.strip("`"): cells for name, *cells in rows}


ROWS = preset_rows()


def test_the_table_has_every_preset_once():
    assert list(ROWS) == list(PRESETS) and README.count("\n| `1hqconv` | 475,329 |") == 1


@pytest.mark.parametrize("preset", ROWS)
def test_the_counts_of_a_preset(preset):
    count, classical = (count_parameters(build_unet(name, seed=0)) for name in (preset, "unet"))
    paper = f"{PAPER_COUNTS[preset]:,}" if preset in PAPER_COUNTS else ""
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
