"""What a hand-over refuses; what it copies is in test_experiments.py."""

import pytest

from qdm_lib.runs.run import RunConfig
from study.handover import start_transfer

CONFIG = RunConfig("1hqconv", "fashion-mnist", steps=4)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"weights": "emma"}, "Unknown kind of weights 'emma'. Did you mean 'ema'"),
        ({"optimizer": "wram"}, "Unknown hand-over of the optimizer 'wram'. Did you mean 'warm'"),
        ({"ema": "cary"}, "Unknown hand-over of the average 'cary'. Did you mean 'carry'"),
    ],
)
def test_a_misspelt_choice_is_named_before_anything_is_read(options, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        start_transfer(tmp_path / "no source", tmp_path / "target", CONFIG, **options)


def test_a_run_that_is_there_is_not_replaced(tmp_path):
    for name in ("checkpoint.safetensors", "checkpoint.json"):  # the second of version 1
        (tmp_path / name).write_text("another run")
        with pytest.raises(ValueError, match="already holds a run"):
            start_transfer(tmp_path / "no source", tmp_path, CONFIG)
        assert (tmp_path / name).read_text() == "another run"
        (tmp_path / name).unlink()
