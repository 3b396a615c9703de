"""Turn a finished run into a checkpoint that is shipped: averaged weights, and a card that says what they are.

    python -m qdm_lib train --preset 1hqconv --dataset fashion-mnist --epochs 2 --out runs/x
    python -m qdm_lib evaluate --checkpoint runs/x --n 2000
    python tools/ship_checkpoint.py runs/x checkpoints/fashion-mnist/1hqconv

The card (in model.json) holds the run's configuration, its steps, versions and, if it was evaluated, its scores.
"""

import argparse
import json
import sys
from pathlib import Path

from qdm_lib.checkpoint import load_checkpoint, load_model, save_model


def _without_path(scores: dict) -> dict:
    return {key: value for key, value in scores.items() if key != "checkpoint"}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="folder of a finished run")
    parser.add_argument("target", type=Path, help="folder of the shipped checkpoint")
    options = parser.parse_args()
    checkpoint = load_checkpoint(options.run)
    config = dict(checkpoint.run_config)
    epochs = checkpoint.step * config["recipe"]["batch_size"] / 60_000
    scores = options.run / "scores.json"
    card = {
        "preset": config["preset"],
        "dataset": config["dataset"],
        "data": config.get("data", ""),
        "steps": checkpoint.step,
        "seed": config["seed"],
        "command": f"python -m qdm_lib train --preset {config['preset']} --dataset {config['dataset']} "
        f"--steps {checkpoint.step} --seed {config['seed']}",
        "protocol": f"{checkpoint.step:,} steps of {config['recipe']['batch_size']} images ({epochs:.2f} epochs of "
        "60,000), far fewer than the paper's 20 epochs",
        "recipe": config["recipe"],
        "versions": checkpoint.versions,
        "licence": "MIT",
        "scores": _without_path(json.loads(scores.read_text())) if scores.exists() else "not evaluated",
    }
    path = save_model(options.target, load_model(options.run, ema=True), card)
    size = (path.parent / "model.safetensors").stat().st_size
    print(f"{path}: {card['preset']} after {checkpoint.step:,} steps, {size / 1e6:.2f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
