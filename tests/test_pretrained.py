"""The trained models of this repository, by name."""

import pytest

from qdm_lib import checkpoint
from qdm_lib.checkpoint import load_pretrained, save_model


def test_load_pretrained_checks_the_name_and_the_hash(tmp_path, monkeypatch):
    model = load_pretrained("fashion-mnist/1hqconv")
    assert model.config.preset == "1hqconv" and not model.training
    with pytest.raises(ValueError, match="no trained model 'mnist/2hqconv' .*known are .*fashion-mnist/1hqconv"):
        load_pretrained("mnist/2hqconv")
    monkeypatch.setattr(checkpoint, "SHIPPED", tmp_path)
    save_model(tmp_path / "mnist" / "unet", model, {})
    file = tmp_path / "mnist" / "unet" / "model.safetensors"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    with pytest.raises(ValueError, match="is damaged or was changed: its SHA-256"):
        load_pretrained("mnist/unet")
