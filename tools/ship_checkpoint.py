"""Turn a finished run into a checkpoint that is shipped: averaged weights, and a card that says what they are.

    python -m qdm_lib train --preset 1hqconv --dataset fashion-mnist --epochs 2 --out runs/x
    python -m qdm_lib evaluate --checkpoint runs/x --n 2000
    python tools/ship_checkpoint.py runs/x checkpoints/fashion-mnist/1hqconv
    python tools/ship_checkpoint.py --cards          # writes every README.md anew from its model.json

The card (in model.json) holds the run's configuration, its steps, versions and, if it was evaluated, its scores; the
README.md beside it says the same for people.
"""

import argparse
import json
import sys
from pathlib import Path

from qdm_lib.checkpoint import load_checkpoint, load_model, save_model

ROOT = Path(__file__).resolve().parent.parent


def _without_path(scores: dict) -> dict:
    return {key: value for key, value in scores.items() if key != "checkpoint"}


def card_text(card: dict, name: str) -> str:
    """The model card as Markdown; name: as `load_pretrained` takes it."""
    recipe, scored = card["recipe"], card["scores"]
    lines = [
        f"# {name}",
        "",
        f"The `{card['preset']}` noise predictor of `qdm_lib`, trained on {card['dataset']} ({card['data']}): "
        f"{card['protocol']}. Averaged weights.",
        "",
        "```python",
        "from qdm_lib.checkpoint import load_pretrained",
        "",
        f'model = load_pretrained("{name}")  # model(x_t, t); checks the hash of the weights',
        "```",
        "",
        f"- **Trained by** `{card['command']}`: Adam, learning rate {recipe['learning_rate']}, batches of "
        f"{recipe['batch_size']}, seed {card['seed']}; the recipe is in model.json.",
        f"- **Made with** {', '.join(f'{k} {v}' for k, v in card['versions'].items())}.",
        "- **For** the course and for trying the library. It draws small grey pictures of clothes or digits, nothing "
        "else, and not as well as longer training would.",
        f"- **Licence** {card['licence']}.",
        "",
    ]
    if not isinstance(scored, dict):
        return "\n".join([*lines, "Not evaluated.", ""])
    rows = list(scored["scores"].values())
    lines += [
        f"Scores of {rows[0]['n']:,} images drawn by {scored['sampler'].upper()} in {scored['sampler_steps']} steps, "
        f"seed {scored['seed']}, by the features of {rows[0]['extractor']}; not on the scale of the paper's Inception "
        "scores:",
        "",
        "| score | value | 95 % interval | real images |",
        "|---|---:|---:|---:|",
        *(f"| {s['name']} | {s['value']:.4g} | {s['low']:.4g} … {s['high']:.4g} | {s['floor']:.2g} |" for s in rows),
        "",
    ]
    return "\n".join(lines)


def write_card(folder: Path) -> None:
    card = json.loads((folder / "model.json").read_text(encoding="utf-8"))["card"]
    (folder / "README.md").write_text(card_text(card, f"{folder.parent.name}/{folder.name}"), encoding="utf-8")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, nargs="?", help="folder of a finished run")
    parser.add_argument("target", type=Path, nargs="?", help="folder of the shipped checkpoint")
    parser.add_argument("--cards", action="store_true", help="only write the README.md of every shipped checkpoint")
    options = parser.parse_args()
    if options.cards:
        for path in sorted(ROOT.glob("checkpoints/*/*/model.json")):
            write_card(path.parent)
        return 0
    if options.target is None:
        parser.error("two folders are needed, a run and a target (or --cards).")
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
        "60,000), where the paper has 20 epochs",
        "recipe": config["recipe"],
        "versions": checkpoint.versions,
        "licence": "MIT",
        "scores": _without_path(json.loads(scores.read_text())) if scores.exists() else "not evaluated",
    }
    path = save_model(options.target, load_model(options.run, ema=True), card)
    write_card(path.parent)
    size = (path.parent / "model.safetensors").stat().st_size
    print(f"{path}: {card['preset']} after {checkpoint.step:,} steps, {size / 1e6:.2f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
