"""Draw the grid of samples that the hybridization widget shows for each shipped checkpoint.

    python tools/make_sample_grids.py                  # every folder under checkpoints/
    python tools/make_sample_grids.py checkpoints/fashion-mnist/1hqconv

Writes samples.png into the folder: 16 images by DDIM with 50 steps, seed 0, as `python -m qdm_lib sample` draws them.
"""

import sys
from pathlib import Path

from qdm_lib.checkpoint import load_model
from qdm_lib.runs import generate
from qdm_lib.widgets.hybrid import grid_png

ROOT = Path(__file__).resolve().parent.parent


def write_grid(folder: Path) -> None:
    images = generate(load_model(folder), 16, steps=50, seed=0, progress=False)
    (folder / "samples.png").write_bytes(grid_png(images))


def main() -> None:
    folders = [Path(a) for a in sys.argv[1:]] or sorted(p.parent for p in ROOT.glob("checkpoints/*/*/model.json"))
    for folder in folders:
        write_grid(folder)
        print(f"{folder}/samples.png: {(folder / 'samples.png').stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
