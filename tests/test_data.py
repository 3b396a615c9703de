"""data.py: what is loaded, what is refused, and that batches are a pure function of (seed, step)."""

import dataclasses
import errno
import hashlib
import os
import struct
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch

from qdm_lib import data
from qdm_lib.data import DATASETS, batches, load_images, to_model_range, to_uint8

BUNDLED = [name for name, info in DATASETS.items() if info.bundled_sha256]
_places = [os.environ.get("QDM_DATA_DIR"), Path(__file__).parents[2] / "shared" / "data"]
FULL = next((Path(p) for p in _places if p and (Path(p) / "MNIST" / "raw").is_dir()), None)
needs_full = pytest.mark.skipif(FULL is None, reason="no full MNIST under QDM_DATA_DIR or ../shared/data")


@pytest.fixture(autouse=True)
def no_full_set(monkeypatch, tmp_path):
    """Each test starts without full sets, whatever this machine has."""
    monkeypatch.setenv("QDM_DATA_DIR", str(tmp_path))


@pytest.fixture
def tiny(monkeypatch, tmp_path):
    """A root with a made-up MNIST of 30 training and 20 test images, with the right hashes."""
    folder = tmp_path / "MNIST" / "raw"
    folder.mkdir(parents=True)
    hashes = {}
    for prefix, count in (("train", 30), ("t10k", 20)):
        pixels, labels = np.arange(count * 784, dtype=np.uint8), np.arange(count, dtype=np.uint8) % 10
        for name, head, body in (
            (f"{prefix}-images-idx3-ubyte", struct.pack(">4I", 0x803, count, 28, 28), pixels),
            (f"{prefix}-labels-idx1-ubyte", struct.pack(">2I", 0x801, count), labels),
        ):
            (folder / name).write_bytes(head + body.tobytes())
            hashes[name] = hashlib.sha256(head + body.tobytes()).hexdigest()
    info = dataclasses.replace(DATASETS["mnist"], counts=(30, 20), sha256=hashes)
    monkeypatch.setitem(DATASETS, "mnist", info)
    return tmp_path


# ------------------------------------------------------------------------------------------ bundled subset


@pytest.mark.parametrize("name", BUNDLED)
@pytest.mark.parametrize("split, count", [("train", 2000), ("test", 500)])
def test_bundled_subset_is_balanced(name, split, count):
    subset = load_images(name, split, bundled=True)
    assert subset.images.shape == (count, 1, 28, 28) and subset.images.dtype == torch.uint8
    assert subset.labels.dtype == torch.int64 and len(subset) == count
    assert subset.labels.bincount().tolist() == [count // 10] * 10
    assert len(set(subset.labels[:50].tolist())) > 5, "the first 64 must not be one class"
    assert len(subset.class_names) == 10 and subset.source.startswith(f"bundled subset, {count:,} of ")


def test_fallback_says_so_in_one_line(capsys):
    assert len(load_images("mnist", "test")) == 500
    message = capsys.readouterr().err
    assert message.count("\n") == 1 and "bundled subset, 500 of 10,000 images" in message
    load_images("mnist", "test", bundled=True)
    assert capsys.readouterr().err == "", "asked for, so nothing to explain"


def test_damaged_subset_is_named(monkeypatch, tmp_path):
    content = bytearray((data.ASSETS / "mnist-subset.npz").read_bytes())
    content[1000] ^= 1
    (tmp_path / "mnist-subset.npz").write_bytes(content)
    monkeypatch.setattr(data, "ASSETS", tmp_path)
    with pytest.raises(ValueError, match=r"subset\.npz is corrupt: its SHA-256 .* instead of .*install"):
        load_images("mnist", bundled=True)


@needs_full
@pytest.mark.parametrize("name", BUNDLED)
def test_subset_is_cut_from_the_full_set(name):
    full, subset = load_images(name, "test", root=FULL), load_images(name, "test", bundled=True)
    assert full.source == "full set, 10,000 images" and full.images.shape == (10_000, 1, 28, 28)
    with np.load(data.ASSETS / f"{name}-subset.npz", allow_pickle=False) as arrays:
        places = torch.from_numpy(arrays["test_indices"].astype(np.int64))
    assert torch.equal(full.images[places], subset.images) and torch.equal(full.labels[places], subset.labels)


# ---------------------------------------------------------------------------------------- full sets, files


@pytest.mark.filterwarnings("error")
def test_full_set_is_preferred(tiny, capsys):
    loaded = load_images("mnist", "train")
    assert loaded.source == "full set, 30 images" and loaded.images.shape == (30, 1, 28, 28)
    assert loaded.images[1, 0, 0, 0] == 784 % 256 and loaded.labels.tolist() == [i % 10 for i in range(30)]
    assert capsys.readouterr().err == ""


def test_truncated_file_is_named(tiny):
    path = tiny / "MNIST" / "raw" / "train-images-idx3-ubyte"
    load_images("mnist")  # a check that passed must not be remembered for the damaged file
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(ValueError, match=r"train-images-idx3-ubyte has 23,531 bytes instead of 23,536"):
        load_images("mnist")


def test_corrupt_file_is_named(tiny):
    path = tiny / "MNIST" / "raw" / "t10k-labels-idx1-ubyte"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"labels-idx1-ubyte is corrupt: its SHA-256 .* instead of .*delete"):
        load_images("mnist", "test")


def test_pickled_copies_of_old_torchvision_are_not_read(tiny):
    (tiny / "MNIST" / "processed").mkdir()
    for name in ("training.pt", "test.pt"):
        (tiny / "MNIST" / "processed" / name).write_bytes(b"not a pickle")
    assert len(load_images("mnist")) == 30


def test_emnist_is_turned_upright_and_labels_start_at_zero(monkeypatch, tmp_path):
    info = dataclasses.replace(DATASETS["emnist-letters"], counts=(2, 2))
    monkeypatch.setitem(DATASETS, "emnist-letters", info)
    folder = tmp_path / "EMNIST" / "raw"
    folder.mkdir(parents=True)
    pixels = np.arange(2 * 784, dtype=np.uint8).reshape(2, 28, 28)
    images, labels = info.files("train")
    (folder / images).write_bytes(struct.pack(">4I", 0x803, 2, 28, 28) + pixels.tobytes())
    (folder / labels).write_bytes(struct.pack(">2I", 0x801, 2) + bytes([1, 26]))
    loaded = load_images("emnist-letters")
    assert [loaded.class_names[i] for i in loaded.labels] == ["a", "z"]
    assert torch.equal(loaded.images[:, 0], torch.from_numpy(pixels).transpose(1, 2))


def test_root_follows_the_environment(monkeypatch, tmp_path):
    assert data.data_root() == tmp_path and data.data_root("~/x") == Path.home() / "x"
    monkeypatch.delenv("QDM_DATA_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert data.data_root() == tmp_path / "cache" / "qdm_lib"


def no_home():
    raise RuntimeError("Could not determine home directory.")


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist"])
def test_a_user_without_a_home_gets_the_bundled_images(monkeypatch, tmp_path, name):
    """As in a container: no HOME, and a user id that the system does not know."""
    monkeypatch.delenv("QDM_DATA_DIR")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", no_home)
    monkeypatch.setattr(Path, "expanduser", lambda self: no_home() if str(self).startswith("~") else self)
    monkeypatch.setattr(data.tempfile, "tempdir", str(tmp_path))
    assert data.data_root() == tmp_path / "qdm_lib"
    assert load_images(name).source.startswith("bundled subset")
    assert data.data_root(tmp_path / "x") == tmp_path / "x"
    monkeypatch.setenv("QDM_DATA_DIR", "~/data")
    with pytest.raises(ValueError, match="The path ~/data begins with a home folder, and this user has none"):
        load_images(name)


@pytest.mark.parametrize(
    ("which", "at", "garbage"),
    [(0, 0, b"\xff" * 16), (0, 3, b"\x01"), (0, 7, b"\x03"), (0, 11, b"\x1d"), (1, 0, b"\xff" * 8), (1, 2, b"\x0d")],
)
def test_a_set_without_hashes_is_known_by_its_headers(monkeypatch, tmp_path, which, at, garbage):
    """A KMNIST file with a garbage header was a traceback of torchvision's."""
    info = dataclasses.replace(data.DATASETS["kmnist"], counts=(2, 2))
    monkeypatch.setitem(data.DATASETS, "kmnist", info)
    folder = data._raw_folder(info, tmp_path)
    folder.mkdir(parents=True)
    for split in ("train", "test"):
        images, labels = info.files(split)
        (folder / images).write_bytes(struct.pack(">4I", 0x803, 2, 28, 28) + bytes(2 * 784))
        (folder / labels).write_bytes(struct.pack(">2I", 0x801, 2) + bytes([0, 9]))
    assert load_images("kmnist").labels.tolist() == [0, 9]
    file = folder / list(info.files("train"))[which]
    good = file.read_bytes()
    file.write_bytes(good[:at] + garbage + good[at + len(garbage) :])
    with pytest.raises(ValueError, match=f"{file.name} is corrupt: it begins with .* instead of 000008"):
        load_images("kmnist")
    file.write_bytes(good)
    labels = folder / list(info.files("train"))[1]
    labels.write_bytes(labels.read_bytes()[:-1] + b"\x0a")
    with pytest.raises(ValueError, match="is corrupt: its labels reach from 0 to 10"):
        load_images("kmnist")


def test_wrong_requests():
    with pytest.raises(ValueError, match="unknown data set 'cifar'; known are mnist, fashion-mnist, kmnist"):
        load_images("cifar")
    with pytest.raises(ValueError, match="split must be 'train' or 'test', not 'val'"):
        load_images("mnist", "val")
    with pytest.raises(ValueError, match="bundled must be True, False or 'auto'"):
        load_images("mnist", bundled="never")
    with pytest.raises(ValueError, match="kmnist has no bundled subset; mnist, fashion-mnist have one"):
        load_images("kmnist", bundled=True)
    with pytest.raises(FileNotFoundError, match="there is no train-images-idx3-ubyte in .*download=True"):
        load_images("mnist", bundled=False)
    with pytest.raises(FileNotFoundError, match="kmnist train cannot be loaded and has no bundled subset"):
        load_images("kmnist")


# ------------------------------------------------------------------------------------------------ download


class NoNetwork:
    """Stands in for torchvision's reader: writes half a file, then the network fails."""

    def __call__(self, info, split, root, download):
        folder = data._raw_folder(info, root)
        folder.mkdir(parents=True)
        (folder / "train-images-idx3-ubyte").write_bytes(b"half")
        raise OSError("no route\nto host")


def test_failed_download_falls_back_and_leaves_nothing(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(data, "_torchvision_set", NoNetwork())
    assert len(load_images("mnist", download=True)) == 2000
    message = capsys.readouterr().err
    assert message.count("\n") == 1 and "download" in message and "no route to host" in message
    assert not any(p.is_file() for p in tmp_path.rglob("*"))
    with pytest.raises(FileNotFoundError, match="no route to host.*check the network"):
        load_images("mnist", download=True, bundled=False)


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS, errno.ENOSPC])
def test_a_folder_that_cannot_be_written_is_no_matter_of_the_network(monkeypatch, tmp_path, number):
    def write(*args, **kwargs):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(data, "_torchvision_set", write)
    with pytest.raises(FileNotFoundError, match=rf"{os.strerror(number)}\); QDM_DATA_DIR \(root=\) names another"):
        load_images("kmnist", root=tmp_path, download=True)
    (tmp_path / "file").write_text("")
    with pytest.raises(FileNotFoundError, match=r"failed \(.*\); QDM_DATA_DIR"):
        load_images("kmnist", root=tmp_path / "file", download=True)
    monkeypatch.setattr(data, "_torchvision_set", NoNetwork())
    with pytest.raises(FileNotFoundError, match="no route to host.*; check the network"):
        load_images("kmnist", root=tmp_path, download=True)


def test_download_moves_only_checked_files(tiny, monkeypatch, tmp_path_factory):
    source, target = tiny, tmp_path_factory.mktemp("target")
    real = data._torchvision_set

    def from_disk(info, split, root, download):
        if download:
            data._raw_folder(info, root).parent.mkdir(parents=True)
            os.symlink(source / "MNIST" / "raw", data._raw_folder(info, root))
        return real(info, split, root, False)

    monkeypatch.setattr(data, "_torchvision_set", from_disk)
    assert len(load_images("mnist", root=target, download=True)) == 30
    assert len(list((target / "MNIST" / "raw").iterdir())) == 4


# -------------------------------------------------------------------------------------- ranges and batches


def test_ranges_are_inverse_and_rounded():
    levels = torch.arange(256, dtype=torch.uint8)
    x = to_model_range(levels)
    assert x.dtype == torch.float32 and x.min() == -1 and x.max() == 1
    assert torch.equal(to_uint8(x), levels)
    half = 1 / 127.5
    assert to_uint8(x[100:101] + 0.4 * half).item() == 100 and to_uint8(x[100:101] + 0.6 * half).item() == 101
    assert to_uint8(torch.tensor([-3.0, 3.0])).tolist() == [0, 255]


def test_ranges_refuse_what_they_cannot_mean():
    with pytest.raises(ValueError, match="1 of 2 are NaN or infinite"):
        to_uint8(torch.tensor([0.0, float("nan")]))
    with pytest.raises(TypeError, match="floating-point.*uint8"):
        to_uint8(torch.zeros(2, dtype=torch.uint8))
    with pytest.raises(TypeError, match="uint8.*float32"):
        to_model_range(torch.zeros(2))


@pytest.mark.parametrize(
    "images",
    [torch.rand(2, 1, 28, 28), torch.rand(1, 28, 28), torch.rand(2, 1, 28, 28) * 255, torch.rand(4, 3, 2, 2) / 2],
    ids=["ToTensor", "one", "grey levels", "faint"],
)  # fmt: skip
def test_images_without_a_negative_pixel_are_refused(images):
    """They came out pale, or white, without a word."""
    with pytest.raises(ValueError, match=r"wants images in \[-1, 1\]; these reach from .* without one negative pixel"):
        to_uint8(images)
    assert to_uint8(2 * images / images.max() - 1).dtype == torch.uint8


@pytest.mark.parametrize("grey", [-1.0, 0.0, 0.5, 1.0])
def test_images_of_one_grey_may_be_any_grey(grey):
    assert to_uint8(torch.full((2, 1, 28, 28), grey)).unique().numel() == 1


@pytest.mark.parametrize("n", [1, 7])
def test_a_cast_of_images_in_0_1_is_no_image_set(n):
    images = (torch.rand(n, 1, 28, 28) + 0.5).to(torch.uint8)  # 0 and 1 of 255 levels: black for every model
    with pytest.raises(ValueError, match=r"hold 0 and 1 alone\. From images in \[0, 1\] to_uint8"):
        batches(images, 2, 0)
    with pytest.raises(TypeError, match="uint8 images, not a torch.float32 tensor"):
        batches(torch.rand(n, 1, 28, 28), 2, 0)


def numbered(n: int) -> torch.Tensor:
    """n images whose first pixel is their number."""
    images = torch.zeros(n, 1, 28, 28, dtype=torch.uint8)
    images[:, 0, 0, 0] = torch.arange(n)
    return images


def numbers(batch: torch.Tensor) -> list[int]:
    return to_uint8(batch)[:, 0, 0, 0].tolist()


def test_resumed_batches_equal_the_uninterrupted_ones():
    images = numbered(50)
    whole = list(islice(batches(images, 16, seed=3), 20))
    for start in (0, 1, 3, 7, 19):
        rest = list(islice(batches(images, 16, seed=3, start_step=start), 20 - start))
        assert all(torch.equal(a, b) for a, b in zip(rest, whole[start:], strict=True))
    assert not torch.equal(whole[0], next(batches(images, 16, seed=4)))


def test_batches_cover_each_epoch_once_across_its_border():
    stream = [i for batch in islice(batches(numbered(50), 16, seed=0), 25) for i in numbers(batch)]
    assert len(stream) == 400
    epochs = [stream[i : i + 50] for i in range(0, 400, 50)]
    assert all(sorted(epoch) == list(range(50)) for epoch in epochs)
    assert epochs[0] != epochs[1]


def test_batches_larger_than_the_set_and_far_ahead():
    batch = next(batches(numbered(5), 12, seed=0, start_step=10**9))
    assert batch.shape == (12, 1, 28, 28) and batch.dtype == torch.float32
    assert sorted(numbers(batch)[-2 - 5 : -2]) == list(range(5)) or len(set(numbers(batch))) == 5


def test_batches_refuse_at_the_call():
    wrong = {"batch_size": 0}, {"batch_size": 2.0}, {"seed": -1}, {"seed": 1.5}, {"seed": True}, {"start_step": -1}
    for bad in wrong:
        with pytest.raises(ValueError, match=next(iter(bad))):
            batches(numbered(5), **{"batch_size": 2, "seed": 0, **bad})
    with pytest.raises(TypeError, match="uint8 images, not a torch.float32 tensor"):
        batches(torch.zeros(5, 1, 28, 28), 2, 0)
    with pytest.raises(ValueError, match="at least one image"):
        batches(numbered(0), 2, 0)
    with pytest.raises(ValueError, match=r"shape \(N, 1, 28, 28\), not \(5, 28, 28\)"):
        batches(numbered(5)[:, 0], 2, 0)
