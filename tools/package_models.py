"""Put the trained models into the wheel: setuptools' build step, named in pyproject.toml.

A clone has them in checkpoints/, beside the package, and an editable install finds them there. A wheel carries model,
header and film of each in qdm_lib/checkpoints/, and `qdm_lib.checkpoint.SHIPPED` is whichever of the two is there.
"""

import shutil
from pathlib import Path

from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parents[1]
FILES = ("model.safetensors", "model.json", "film.png")  # the last is what the widgets show


class BuildPy(build_py):
    """`build_py` that also copies the models, unless it makes an editable install."""

    def run(self) -> None:
        super().run()
        if self.editable_mode:
            return
        models = [path for path in sorted((ROOT / "checkpoints").glob("*/*/*")) if path.name in FILES]
        if not models:
            raise FileNotFoundError(f"There are no models in {ROOT / 'checkpoints'} to put into the wheel.")
        for path in models:
            target = Path(self.build_lib) / "qdm_lib" / path.relative_to(ROOT)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
