"""Images: MNIST, Fashion-MNIST and other 28 x 28 sets, in two ranges.

On disk and in the metrics images are uint8, 0 ... 255, of shape (N, 1, 28, 28). In the diffusion models
they are float32 in [-1, 1], of the same shape. `to_model_range` and `to_uint8` convert, without loss.

The full sets are read by torchvision, after their files were checked. Without them, and without a network,
a class-balanced subset inside this package (`assets/`) takes their place, so every lesson runs offline.
"""

from __future__ import annotations

import errno
import hashlib
import http.client
import os
import string
import struct
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from qdm_lib.checks import whole
from qdm_lib.files import expanded, network_timeout

ASSETS = Path(__file__).parent / "assets"
SPLITS = ("train", "test")
IMAGE_SHAPE = (1, 28, 28)
NETWORK_TIMEOUT = 5.0  # seconds without a byte before a download counts as failed


@dataclass(frozen=True)
class DatasetInfo:
    """One entry of `DATASETS`: what a set is called, where torchvision keeps it, how to know its files."""

    name: str
    torchvision_class: str  # also the name of its folder under the data root
    class_names: tuple[str, ...]
    counts: tuple[int, int]  # images in train, in test
    prefixes: tuple[str, str] = ("train", "t10k")  # how the file names of train and of test begin
    options: dict[str, str] = field(default_factory=dict)  # further arguments of the torchvision class
    first_label: int = 0
    transposed: bool = False  # EMNIST stores rows and columns exchanged
    sha256: dict[str, str] = field(default_factory=dict)  # of the uncompressed files
    bundled_sha256: str | None = None  # of assets/<name>-subset.npz

    def files(self, split: str) -> dict[str, int]:
        """The two files of a split and their sizes: the idx header (16 or 8 bytes), then one byte a value."""
        which = SPLITS.index(split)
        prefix, count = self.prefixes[which], self.counts[which]
        return {f"{prefix}-images-idx3-ubyte": 16 + 784 * count, f"{prefix}-labels-idx1-ubyte": 8 + count}


_DIGITS = tuple(string.digits)

# torchvision publishes checksums of the compressed downloads only. These are of the uncompressed files it
# leaves on disk: `sha256sum MNIST/raw/*-ubyte FashionMNIST/raw/*-ubyte`.
DATASETS: dict[str, DatasetInfo] = {
    info.name: info
    for info in (
        DatasetInfo(
            "mnist", "MNIST", _DIGITS, (60_000, 10_000),
            sha256={
                "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
                "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
                "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
                "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
            },
            bundled_sha256="26790454c3decccc590775e524d0ba5bfb1bda7211f0a2b327ebf55fa5be55b2",
        ),
        DatasetInfo(
            "fashion-mnist", "FashionMNIST",
            ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat",
             "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
            (60_000, 10_000),
            sha256={
                "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
                "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
                "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
                "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
            },
            bundled_sha256="f81aa22d5612019173463221fda68f09c953778e6b970e3ea2829cc042b31349",
        ),
        DatasetInfo("kmnist", "KMNIST", ("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo"),
                    (60_000, 10_000)),
        DatasetInfo("emnist-letters", "EMNIST", tuple(string.ascii_lowercase), (124_800, 20_800),
                    prefixes=("emnist-letters-train", "emnist-letters-test"), options={"split": "letters"},
                    first_label=1, transposed=True),
        DatasetInfo("emnist-digits", "EMNIST", _DIGITS, (240_000, 40_000),
                    prefixes=("emnist-digits-train", "emnist-digits-test"), options={"split": "digits"},
                    transposed=True),
    )
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Labelled images and where they come from: images uint8 (N, 1, 28, 28), labels int64 (N,)."""

    name: str
    split: str
    images: Tensor
    labels: Tensor
    class_names: tuple[str, ...]
    source: str  # for people: "full set, 60,000 images"

    def __len__(self) -> int:
        return len(self.images)


def data_root(root: str | os.PathLike | None = None) -> Path:
    """The folder of the full sets: `root`, else QDM_DATA_DIR, else a cache folder (XDG_CACHE_HOME, ~/.cache).

    A user without a home folder, as in some containers, gets one among the temporary files.
    """
    chosen = root or os.environ.get("QDM_DATA_DIR")
    if chosen:
        return expanded(chosen)
    try:
        cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    except RuntimeError:  # no HOME, and an unknown user id
        cache = tempfile.gettempdir()
    return Path(cache) / "qdm_lib"


def load_images(
    name: str,
    split: str = "train",
    root: str | os.PathLike | None = None,
    download: bool = False,
    bundled: bool | str = "auto",
) -> ImageSet:
    """Load one split of a data set as uint8 images.

    The full set is read from `root` (see `data_root`), laid out as torchvision does it
    (`FashionMNIST/raw/train-images-idx3-ubyte`, ...). With `download=True` it is fetched first if need be.

    bundled: "auto" takes the subset in this package where the full set is missing, and says so in one line on
    stderr; True always takes the subset; False never does.

    ValueError for an unknown name or split and for a file that is corrupt, FileNotFoundError where
    neither the full set nor, if allowed, a subset exists. Both say what to do.
    """
    info = _lookup(name)
    if split not in SPLITS:
        raise ValueError(f"split must be 'train' or 'test', not {split!r}.")
    if not isinstance(bundled, bool) and bundled != "auto":
        raise ValueError(f"bundled must be True, False or 'auto', not {bundled!r}.")
    if bundled is True:
        return _load_bundled(info, split)
    folder = data_root(root)
    problem = _what_is_missing(info, split, folder)
    advice = f"`python -m qdm_lib download {name}` (in Python download=True) fetches it, QDM_DATA_DIR (root=) names"
    advice += " another folder"
    if problem and download:
        problem, advice = _download(info, split, folder)
    if not problem:
        return _load_full(info, split, folder)
    if bundled == "auto" and info.bundled_sha256 is not None:
        subset = _load_bundled(info, split)
        print(f"qdm_lib: {name} {split}: using the {subset.source}, because {problem}.", file=sys.stderr)
        return subset
    subset = "has no bundled subset" if info.bundled_sha256 is None else "may not use its bundled subset"
    raise FileNotFoundError(f"{name} {split} cannot be loaded and {subset}: {problem}; {advice}.")


def to_model_range(images: Tensor) -> Tensor:
    """uint8 in 0 ... 255 to float32 in [-1, 1]: x / 127.5 - 1. Any shape. TypeError for another dtype."""
    if not isinstance(images, Tensor) or images.dtype != torch.uint8:
        raise TypeError(f"to_model_range wants a uint8 tensor, not {_kind(images)}.")
    return images.float() / 127.5 - 1.0


def to_uint8(images: Tensor) -> Tensor:
    """Float in [-1, 1] to uint8 in 0 ... 255, to the nearest level; values beyond are clamped. Any shape.

    A plain cast would cut the fraction off and darken every image by half a grey level on average.
    TypeError for anything but a floating-point tensor; ValueError where a value is NaN or infinite, and for images
    without one negative pixel, as torchvision's ToTensor makes them, which all would come out pale.
    """
    if not isinstance(images, Tensor) or not images.is_floating_point():
        raise TypeError(f"to_uint8 wants a floating-point tensor in [-1, 1], not {_kind(images)}.")
    bad = int((~torch.isfinite(images)).sum())
    if bad:
        raise ValueError(f"to_uint8 wants finite values, but {bad} of {images.numel()} are NaN or infinite.")
    if images.ndim > 2 and images.numel() and 0 <= images.min() < images.max():  # images, and not all of one grey
        raise ValueError(f"to_uint8 wants images in [-1, 1]; these reach from {images.min():.4g} to {images.max():.4g},"
                         " without one negative pixel. If they are in [0, 1], give it 2 * images - 1.")  # fmt: skip
    return ((images.float() + 1.0) * 127.5).round().clamp(0, 255).to(torch.uint8)


def batches(images: Tensor | ImageSet, batch_size: int, seed: int, start_step: int = 0) -> Iterator[Tensor]:
    """Yield float32 batches (batch_size, 1, 28, 28) in [-1, 1] for ever, from step `start_step` on.

    Each epoch is a new permutation of all N images, drawn from (seed, epoch). The permutations are laid end
    to end, and step s takes the places s * batch_size ... (s + 1) * batch_size - 1, so the batch of a step
    depends on (seed, step) alone: a run resumed at step s sees what the uninterrupted run saw.

    A batch may cross from one epoch into the next, so that 20 epochs of 60,000 images are exactly the 9,375
    steps of the recipe at batch size 128. (Dropping the 96 images left over in each epoch would give 468
    steps an epoch, 9,360 in all.)

    images: uint8 (N, 1, 28, 28) or an ImageSet. TypeError and ValueError come at the call, not later; ValueError also
    for images of the two levels 0 and 1 alone, as a cast of images in [0, 1] makes them.
    """
    images = getattr(images, "images", images)
    if not isinstance(images, Tensor) or images.dtype != torch.uint8:
        raise TypeError(f"batches wants uint8 images, not {_kind(images)}.")
    if images.shape[1:] != IMAGE_SHAPE:
        raise ValueError(f"batches wants images of shape (N, 1, 28, 28), not {tuple(images.shape)}.")
    if len(images) == 0:
        raise ValueError("batches wants at least one image, but there are none.")
    if images.max() <= 1:
        raise ValueError("batches wants grey levels 0 … 255; these images hold 0 and 1 alone. From images in [0, 1] "
                         "to_uint8(2 * images - 1) makes them.")  # fmt: skip
    batch_size, seed = whole("batch_size", batch_size), whole("seed", seed, 0)
    start_step = whole("start_step", start_step, 0)

    def walk(step: int) -> Iterator[Tensor]:
        n = len(images)
        epoch, order = -1, None
        while True:
            place, wanted, chosen = step * batch_size, batch_size, []
            while wanted:
                if place // n != epoch:  # a new epoch: a new order, from (seed, epoch) and nothing else
                    epoch = place // n
                    order = torch.from_numpy(np.random.default_rng([seed, epoch]).permutation(n))
                piece = order[place % n : place % n + wanted]
                chosen.append(piece)
                place, wanted = place + len(piece), wanted - len(piece)
            yield to_model_range(images[torch.cat(chosen)])
            step += 1

    return walk(start_step)


def _lookup(name: str) -> DatasetInfo:
    if name not in DATASETS:
        raise ValueError(f"unknown data set {name!r}; known are {', '.join(DATASETS)}.")
    return DATASETS[name]


def _kind(value: object) -> str:
    return f"a {value.dtype} tensor" if isinstance(value, Tensor) else f"a {type(value).__name__}"


def _raw_folder(info: DatasetInfo, root: Path) -> Path:
    return root / info.torchvision_class / "raw"


def _what_is_missing(info: DatasetInfo, split: str, root: Path) -> str:
    """Why the full set cannot be read, as the end of a sentence; empty if its files are there."""
    for file in info.files(split):
        if not (_raw_folder(info, root) / file).is_file():
            return f"there is no {file} in {_raw_folder(info, root)}"
    return ""


@lru_cache(maxsize=64)
def _sha256(path: Path, size: int, mtime_ns: int) -> str:
    """Hash of a file. Size and time of change are in the cache's key, so a changed file is read again."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _check_file(path: Path, size: int | None, sha256: str | None, advice: str) -> None:
    """ValueError that names the file, what was wanted and what was found, unless size and hash are right."""
    found = path.stat()
    if size is not None and found.st_size != size:
        raise ValueError(f"{path} has {found.st_size:,} bytes instead of {size:,}; {advice}.")
    if sha256 is not None and (digest := _sha256(path, found.st_size, found.st_mtime_ns)) != sha256:
        raise ValueError(f"{path} is corrupt: its SHA-256 is {digest} instead of {sha256}; {advice}.")


def _check_header(path: Path, count: int, dims: tuple[int, ...]) -> None:
    """ValueError unless an idx file's header states this count and these dimensions (not every set has a hash)."""
    wanted = struct.pack(f">{2 + len(dims)}I", 0x801 + len(dims), count, *dims)
    with path.open("rb") as file:
        found = file.read(len(wanted))
    if found != wanted:
        raise ValueError(f"{path} is corrupt: it begins with {found.hex()} instead of {wanted.hex()}; delete it and "
                         "pass download=True.")  # fmt: skip


def _torchvision_set(info: DatasetInfo, split: str, root: Path, download: bool):
    from torchvision import datasets  # a slow import, which the bundled subset does not need

    base = getattr(datasets, info.torchvision_class)
    # Early versions of torchvision left pickled copies in processed/; it would prefer them to checked files.
    reader = type(base.__name__, (base,), {"_check_legacy_exist": lambda self: False})
    return reader(root, train=split == "train", download=download, **info.options)


def _load_full(info: DatasetInfo, split: str, root: Path) -> ImageSet:
    folder = _raw_folder(info, root)
    for (file, size), dims in zip(info.files(split).items(), ((28, 28), ()), strict=True):
        _check_file(folder / file, size, info.sha256.get(file), "delete it and pass download=True")
        _check_header(folder / file, info.counts[SPLITS.index(split)], dims)
    try:
        raw = _torchvision_set(info, split, root, download=False)
    except RuntimeError as error:  # torchvision wants the files of both splits
        advice = "are the files of both splits there? If not, pass download=True"
        raise FileNotFoundError(f"torchvision cannot read {info.name} in {folder} ({error}); {advice}.") from error
    images = raw.data.transpose(1, 2) if info.transposed else raw.data
    labels = raw.targets - info.first_label
    if labels.min() < 0 or labels.max() >= len(info.class_names):
        raise ValueError(f"{folder / file} is corrupt: its labels reach from {raw.targets.min()} to "
                         f"{raw.targets.max()}; delete it and pass download=True.")  # fmt: skip
    source = f"full set, {len(images):,} images"
    return ImageSet(info.name, split, images.unsqueeze(1).contiguous(), labels, info.class_names, source)


def _load_bundled(info: DatasetInfo, split: str) -> ImageSet:
    if info.bundled_sha256 is None:
        known = ", ".join(name for name, other in DATASETS.items() if other.bundled_sha256 is not None)
        raise ValueError(f"{info.name} has no bundled subset; {known} have one.")
    path = ASSETS / f"{info.name}-subset.npz"
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing from the installation; install qdm_lib again.")
    _check_file(path, None, info.bundled_sha256, "install qdm_lib again")
    with np.load(path, allow_pickle=False) as arrays:
        images = torch.from_numpy(arrays[f"{split}_images"]).unsqueeze(1)
        labels = torch.from_numpy(arrays[f"{split}_labels"]).long()
    total = info.counts[SPLITS.index(split)]
    source = f"bundled subset, {len(images):,} of {total:,} images"
    return ImageSet(info.name, split, images, labels, info.class_names, source)


# Errors of a folder that cannot be written, or no longer; all others are the network's.
_OF_THE_FOLDER = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST, errno.ENOSPC, errno.EDQUOT)


def _download(info: DatasetInfo, split: str, root: Path) -> tuple[str, str]:
    """Fetch the full set into `root`; returns why it failed, as the end of a sentence, and what helps; or empty texts.

    torchvision works in a temporary folder beside the target. Only complete, checked files are moved from
    there, so an interrupted download leaves nothing that a later run could take for data.
    """
    try:
        root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".download-", dir=root) as temporary:
            with network_timeout(NETWORK_TIMEOUT):
                _torchvision_set(info, split, Path(temporary), download=True)
            arrived, target = _raw_folder(info, Path(temporary)), _raw_folder(info, root)
            target.mkdir(parents=True, exist_ok=True)
            files = info.files("train") | info.files("test")
            for file, size in files.items():
                _check_file(arrived / file, size, info.sha256.get(file), "try again")
            for file in files:
                os.replace(arrived / file, target / file)
    except (OSError, RuntimeError, ValueError, http.client.HTTPException) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        folder = isinstance(error, OSError) and error.errno in _OF_THE_FOLDER
        advice = "QDM_DATA_DIR (root=) names another folder" if folder else "check the network"
        return f"the download into {root} failed ({reason})", advice
    return "", ""
