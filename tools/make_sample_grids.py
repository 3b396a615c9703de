"""Draw the images that stand beside each shipped checkpoint.

    python tools/make_sample_grids.py                  # every folder under checkpoints/
    python tools/make_sample_grids.py checkpoints/fashion-mnist/1hqconv

Writes samples.png into the folder: 16 images by DDIM with 50 steps, seed 0, as `python -m qdm_lib sample` draws them;
and film.png, which the hybridization widget plays: 8 images from noise to the end, DDIM with 20 steps, seed 0.
"""

import sys
from pathlib import Path

from qdm_course.widgets.films import draw_film, png_of, save_film, tile
from qdm_lib.checkpoint import load_model
from qdm_lib.runs import generate

ROOT = Path(__file__).resolve().parent.parent


def write_grid(folder: Path) -> None:
    model = load_model(folder)
    images = generate(model, 16, steps=50, seed=0, progress=False)
    picture = tile(images[:, 0].numpy(), columns=8).repeat(3, 0).repeat(3, 1)
    (folder / "samples.png").write_bytes(png_of([picture]))
    write_film(folder)


def write_film(folder: Path) -> None:
    *_, film = draw_film(load_model(folder))
    save_film(folder / "film.png", film)


def main() -> None:
    folders = [Path(a) for a in sys.argv[1:]] or sorted(p.parent for p in ROOT.glob("checkpoints/*/*/model.json"))
    for folder in folders:
        write_grid(folder)
        print(f"{folder}: samples.png and film.png, {(folder / 'film.png').stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
