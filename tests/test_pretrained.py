"""The trained models of this repository, by name."""

import json
from pathlib import Path

import pytest

from qdm_lib import checkpoint
from qdm_lib.checkpoint import load_pretrained, save_model


def test_load_pretrained_checks_the_name_and_the_hash(tmp_path, monkeypatch):
    model = load_pretrained("fashion-mnist/1hqconv")
    assert model.config.preset == "1hqconv" and not model.training
    with pytest.raises(ValueError, match="no trained model 'mnist/2hqconv' .*known are .*fashion-mnist/1hqconv"):
        load_pretrained("mnist/2hqconv")
    monkeypatch.setattr(checkpoint, "SHIPPED", tmp_path)
    with pytest.raises(FileNotFoundError, match="no trained models in .*'pip install -e .'"):  # a plain pip install
        load_pretrained("fashion-mnist/1hqconv")
    save_model(tmp_path / "mnist" / "unet", model, {})
    file = tmp_path / "mnist" / "unet" / "model.safetensors"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    with pytest.raises(ValueError, match="is damaged or was changed: its SHA-256"):
        load_pretrained("mnist/unet")


ROOT = Path(__file__).parent.parent
FOLDERS = sorted(path.parent for path in ROOT.glob("checkpoints/*/*/model.json"))


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: f"{folder.parent.name}/{folder.name}")
def test_a_shipped_model_is_small_and_has_its_card(folder, monkeypatch):
    """If the card differs, run `python tools/ship_checkpoint.py --cards`."""
    monkeypatch.syspath_prepend(ROOT / "tools")
    from ship_checkpoint import card_text

    name = f"{folder.parent.name}/{folder.name}"
    card = json.loads((folder / "model.json").read_text())["card"]
    assert (folder / "README.md").read_text() == card_text(card, name)
    assert (folder / "model.safetensors").stat().st_size < 2e6 and (folder / "samples.png").is_file()
    assert load_pretrained(name).config.preset == card["preset"] and card["dataset"] == folder.parent.name
