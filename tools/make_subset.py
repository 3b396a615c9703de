"""Make the bundled subset of a data set: class-balanced, chosen by a seed, without pickle.

    python tools/make_subset.py mnist
    python tools/make_subset.py fashion-mnist

reads the full set (QDM_DATA_DIR or --root), writes qdm_lib/assets/<name>-subset.npz, and prints the SHA-256
that belongs into `DATASETS` in qdm_lib/data.py. The file holds, for each split, `images` (N, 28, 28) uint8,
`labels` (N,) uint8 and `indices` (N,) uint32: the places of the images in the full set.
"""

import argparse
import hashlib
import os
import tempfile
from pathlib import Path

import numpy as np

from qdm_lib.data import ASSETS, DATASETS, SPLITS, load_images


def balanced_indices(labels: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Places of `count` items, equally many of each class, in random order."""
    classes = np.unique(labels)
    each, rest = divmod(count, len(classes))
    if rest:
        raise ValueError(f"{count} images cannot be shared equally by {len(classes)} classes.")
    chosen = [rng.choice(np.flatnonzero(labels == label), each, replace=False) for label in classes]
    return rng.permutation(np.concatenate(chosen))


def make_subset(name: str, counts: dict[str, int], seed: int, root: str | None, out: Path) -> str:
    """Write the subset atomically to `out` and return its SHA-256."""
    arrays = {}
    for number, split in enumerate(SPLITS):
        full = load_images(name, split, root=root, bundled=False)
        labels = full.labels.numpy()
        indices = balanced_indices(labels, counts[split], np.random.default_rng([seed, number]))
        arrays[f"{split}_images"] = full.images[indices, 0].numpy()
        arrays[f"{split}_labels"] = labels[indices].astype(np.uint8)
        arrays[f"{split}_indices"] = indices.astype(np.uint32)
    with tempfile.NamedTemporaryFile(dir=out.parent, suffix=".npz", delete=False) as file:
        np.savez_compressed(file, **arrays)
        file.flush()
        os.fsync(file.fileno())
    os.chmod(file.name, 0o644)
    os.replace(file.name, out)
    return hashlib.sha256(out.read_bytes()).hexdigest()


def main() -> None:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("name", choices=list(DATASETS))
    parser.add_argument("--train", type=int, default=2000, help="training images (default 2000)")
    parser.add_argument("--test", type=int, default=500, help="test images (default 500)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--root", help="folder of the full sets (default: QDM_DATA_DIR)")
    parser.add_argument("--out", type=Path, help="default: qdm_lib/assets/<name>-subset.npz")
    args = parser.parse_args()
    out = args.out or ASSETS / f"{args.name}-subset.npz"
    digest = make_subset(args.name, {"train": args.train, "test": args.test}, args.seed, args.root, out)
    print(f"{out}: {out.stat().st_size:,} bytes\nbundled_sha256={digest!r}")


if __name__ == "__main__":
    main()
