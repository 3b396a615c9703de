"""Turn a trained run into a checkpoint that is shipped: averaged weights, a card that says what they are, and samples.

    python tools/ship_checkpoint.py runs/paper/fashion-mnist/unet/seed-0/epoch-10 \\
        checkpoints/fashion-mnist/unet-10-epochs \\
        --result study/results/paper-ddim-50/fashion-mnist/unet/seed-0.json --epoch 10
    python tools/ship_checkpoint.py --cards          # writes every README.md anew from its model.json

RUN is the folder of a run or a state that a run kept after an epoch. The scores come from --result, the JSON file that
`experiment run` wrote; without it from RUN/scores.json, which `evaluate --checkpoint RUN` writes; without that the card
says that the model is not scored yet. Ship it again when it is: the weights stay the same.

The card (in the header of model.safetensors, and in model.json for people) holds protocol, command, recipe, versions,
scores; the README.md beside it says the same in words.
"""

import argparse
import json
import re
import sys
from pathlib import Path

from make_sample_grids import write_grid

from qdm_lib.checkpoint import Checkpoint, load_checkpoint, load_model, read_info, save_model
from qdm_lib.files import replacing
from qdm_lib.paper import scores
from qdm_lib.training import TrainConfig
from study.results import Result, Settings, read_result
from study.run import check_run
from study.spec import TRAINING_IMAGES, Experiment, Job, load_experiment

ROOT = Path(__file__).resolve().parent.parent
STUDY = ROOT / "study"  # cards name experiments and results from here
PAPER_EPOCHS = scores()["protocol"]["epochs"]
LARGEST = 2e6  # bytes


# ------------------------------------------------------------------------------- where a run comes from


def find_job(run: Path, about: Settings | None, experiments: Path) -> tuple[Job, str, str] | None:
    """The job of an experiment file that made a run, the command that trains it, and the one that scores it.

    about: the "config" of a result; without it the run's folder tells. None for a run of no experiment; ValueError for
    a result of none, or of another run.
    """
    here = f"/{run.resolve().as_posix()}"
    here = re.sub(r"/epoch-\d+$", "", here)
    of_folder = of_result = None
    for path in sorted(experiments.glob("*.toml")):
        whole = load_experiment(path)
        for experiment, option in ((whole, ""), (whole.on_subset(), " --bundled")):
            drawn, options = (experiment, "") if about is None else _as_drawn(experiment, about)
            for job, scored in zip(experiment.jobs(), drawn.jobs(), strict=True):
                command = f"python -m qdm_lib experiment run experiments/{path.name}{option}"
                found = job, f"{command} --only {job.name}", f"{command}{options} --only {scored.name}"
                if not experiment.runs_of and here.endswith(f"/{job.folder().as_posix()}"):
                    of_folder = found
                if about is not None and about == scored.settings():
                    of_result = found
    if about is None:
        return of_folder
    if of_result is None:
        raise ValueError(f"No file of {experiments} has the run that the result tells of, with the same settings.")
    if of_folder is not None and of_folder[0].name != of_result[0].name:
        raise ValueError(f"The result is of {of_result[0].name}, the run is {of_folder[0].name}.")
    return of_result


def _as_drawn(experiment: Experiment, about: Settings) -> tuple[Experiment, str]:
    """The experiment with the drawing and scoring of a result, and the options for it."""
    options = ""
    if about.features != experiment.features:
        experiment, options = experiment.with_features(about.features), f" --features {about.features}"
    if (about.sampler, about.sampler_steps) != (experiment.sampler, experiment.sampler_steps):
        experiment = experiment.with_sampler(about.sampler, about.sampler_steps)
        options += f" --sampler {about.sampler} --sampler-steps {about.sampler_steps}"
    return experiment, options


def train_command(config: dict, steps: int) -> str:
    """The command line of a run that no experiment made; ValueError for one that only an experiment makes."""
    if config.get("model_options"):
        raise ValueError(f"No train command sets model_options = {config['model_options']!r}; name the run's --result, "
                         "so that the card can give the experiment's command.")  # fmt: skip
    command = f"python -m qdm_lib train --preset {config['preset']} --dataset {config['dataset']} --steps {steps}"
    command += f" --seed {config['seed']}"
    if config.get("first_weights"):
        command += f" --first-weights {config['first_weights']}"
    if config.get("hybridization") is not None:
        command += f" --hybridization {config['hybridization']}"
    if config["recipe"]["batch_size"] != TrainConfig().batch_size:
        command += f" --batch-size {config['recipe']['batch_size']}"
    return command + (" --bf16" if config.get("bf16") else "")


# ------------------------------------------------------------------------------------------- the card


def protocol(steps: int, batch_size: int, n_images: int, job: Job | None) -> str:
    """How long, and how, in words."""
    epochs = steps * batch_size / n_images
    if -(-round(epochs) * n_images // batch_size) == steps:  # the last batch of an epoch reaches into the next
        epochs = round(epochs)
    amount = f"{epochs} epoch{'' if epochs == 1 else 's'}" if isinstance(epochs, int) else f"{epochs:.2f} epochs"
    paper = f"the paper trains {PAPER_EPOCHS}" + ("" if n_images == TRAINING_IMAGES else f" of {TRAINING_IMAGES:,}")
    if (epochs, n_images) == (PAPER_EPOCHS, TRAINING_IMAGES):
        paper = "as many as in the paper"
    text = f"{steps:,} steps of {batch_size} images ({amount} of {n_images:,}; {paper})"
    if job is None:
        return text
    transfer, cell = job.cell.transfer, job.cell
    text += f", protocol `{job.experiment.protocol}`"
    if transfer is not None:
        text += (
            f"; {transfer.epochs} of them as `{transfer.source}`, then its weights ({transfer.weights}) without the "
            f"vertex as `{cell.preset}` (Adam: {transfer.optimizer}, average: {transfer.ema})"
        )
    if cell.control is not None:
        text += f"; the control `{cell.control}` in the place of the circuits"
    if job.first_weights() is not None:
        text += f"; first weights shared with `{job.first_weights()}` of the same seed where they fit"
    return text


def make_card(run: Path, checkpoint: Checkpoint, result: Path | None, epoch: int | None, experiments: Path) -> dict:
    """What model.json says of a run; ValueError where the result is not of this run and epoch."""
    config, step = dict(checkpoint.run_config), checkpoint.step
    if config.get("nudge"):
        raise ValueError(f"{run} is a nudged run, made to be compared with its twin and not to be shipped.")
    count = re.search(r"([\d,]+)(?: of [\d,]+)? images", config.get("data") or "")
    if count is None:
        raise ValueError(f"{run} does not say how many images it was trained on: its data is {config.get('data')!r}.")
    n_images = int(count[1].replace(",", ""))
    content = None if result is None else read_result(result)
    found = find_job(run, content and content.config, experiments)
    job, command, scoring = found or (None, train_command(config, step), None)
    if job is not None:
        check_run(run, job, n_images)
    card = {
        "preset": config["preset"],
        "dataset": config["dataset"],
        "data": config["data"],
        "steps": step,
        "epochs": round(step * config["recipe"]["batch_size"] / n_images, 2),
        "seed": config["seed"],
        "command": command,
        "protocol": protocol(step, config["recipe"]["batch_size"], n_images, job),
        "recipe": config["recipe"],
        "versions": checkpoint.versions,
        "licence": "MIT",
        "scores": "not scored yet",
    }
    if content is not None:
        card["scores"] = scores_of(content, result, epoch, step) | {"command": scoring}
    elif (run / "scores.json").exists():
        card["scores"] = json.loads((run / "scores.json").read_text(encoding="utf-8"))
        card["scores"].pop("checkpoint", None)
    return card


def scores_of(content: Result, result: Path, epoch: int | None, step: int) -> dict:
    """The scores of an experiment's result after an epoch, by default the one with as many steps as the run."""
    about, by_epoch = content.config, content.by_epoch
    if about.weights != "ema":
        raise ValueError(f"{result} scores the raw weights; the averaged ones are shipped.")
    epochs = [e for e, entry in by_epoch.items() if entry.step == step and epoch in (None, e)]
    if not epochs:
        there = ", ".join(f"epoch {e} (step {entry.step})" for e, entry in by_epoch.items()) or "none"
        raise ValueError(f"The run is at step {step}; {result} has no scores of it"
                         f"{'' if epoch is None else f' as epoch {epoch}'}. Scored there: {there}.")  # fmt: skip
    path = result.resolve()
    return {
        "file": (path.relative_to(STUDY) if path.is_relative_to(STUDY) else result).as_posix(),
        "epoch": epochs[0],
        **{name: getattr(about, name) for name in ("protocol", "sampler", "sampler_steps", "seed")},
        "scores": by_epoch[epochs[0]].scores,
    }


def in_study(command: str) -> str:
    """A command of a card as it is typed at the root of the clone; a card names experiments from study/."""
    return command.replace(" experiments/", " study/experiments/")


def card_text(card: dict, name: str) -> str:
    """The model card as Markdown; name: as `load_pretrained` takes it."""
    recipe, scored, command = card["recipe"], card["scores"], in_study(card["command"])
    longer = "" if card.get("epochs", 0) >= PAPER_EPOCHS else "; its training was shorter than the paper’s"
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
        f"- **Trained by** `{command}`"
        + (f" (its state after step {card['steps']:,})" if " experiment run " in command else "")
        + f": Adam, learning rate {recipe['learning_rate']}, batches of "
        f"{recipe['batch_size']}, seed {card['seed']}; the recipe is in model.json.",
        f"- **Made with** {', '.join(f'{k} {v}' for k, v in card['versions'].items())}.",
        "- **For** the course and for trying the library. It draws small grey pictures of clothes or digits, nothing "
        f"else{longer}.",
        f"- **Licence** {card['licence']}.",
        "",
    ]
    if not isinstance(scored, dict):
        return "\n".join([*lines, "Not scored yet.", ""])
    return "\n".join([*lines, *_score_lines(scored)])


def _score_lines(scored: dict) -> list[str]:
    rows = list(scored["scores"].values())
    inception = rows[0]["extractor"].startswith("inception")
    origin = ""
    if "file" in scored:
        file = ("study/" if scored["file"].startswith("results/") else "") + scored["file"]
        origin = f" From `{file}`, epoch {scored['epoch']}, protocol `{scored['protocol']}`; "
        origin += f"`{in_study(scored['command'])}` makes it."
    return [
        f"Scores of {rows[0]['n']:,} images drawn by {scored['sampler'].upper()} in {scored['sampler_steps']} steps, "
        f"seed {scored['seed']}, by the features of {rows[0]['extractor']}"
        + ("" if inception else "; not on the scale of the paper's Inception scores")
        + (f".{origin}" if origin else ":"),
        "",
        "| score | value | 95 % interval | real images |",
        "|---|---:|---:|---:|",
        *(f"| {s['name']} | {s['value']:.4g} | {s['low']:.4g} … {s['high']:.4g} | {s['floor']:.2g} |" for s in rows),
        "",
        *(f"- {s['name']}: {s['note']}" for s in rows if s["note"]),
        *([""] if any(s["note"] for s in rows) else []),
    ]


def write_card(folder: Path) -> None:
    with replacing(folder / "README.md") as temporary:
        text = card_text(read_info(folder)["card"], f"{folder.parent.name}/{folder.name}")
        temporary.write_text(text, encoding="utf-8")


def ship(run: Path, target: Path, result: Path | None = None, epoch: int | None = None,
         experiments: Path = STUDY / "experiments") -> dict:  # fmt: skip
    """Write a shipped checkpoint, its samples and their film; its card. All is checked before anything is written."""
    checkpoint, model = load_checkpoint(run), load_model(run, ema=True)
    card = make_card(run, checkpoint, result, epoch, experiments)
    size = sum(tensor.numel() * tensor.element_size() for tensor in model.state_dict().values())
    if size > LARGEST:
        raise ValueError(f"The weights have {size / 1e6:.2f} MB; a shipped model has at most {LARGEST / 1e6:.0f} MB.")
    path = save_model(target, model, card)
    write_card(target)
    write_grid(target)
    size = (target / "model.safetensors").stat().st_size
    print(f"{path}: {card['preset']} after {card['steps']:,} steps, {size / 1e6:.2f} MB")
    print("python tools/model_table.py puts it, once scored, into docs/models.md.")
    return card


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, nargs="?", help="folder of a run, or of a state that it kept")
    parser.add_argument("target", type=Path, nargs="?", help="folder of the shipped checkpoint")
    parser.add_argument("--result", type=Path, help="JSON file of an experiment with the run's scores")
    parser.add_argument("--epoch", type=int, help="which scores of --result; by default those of the run's step")
    parser.add_argument("--cards", action="store_true", help="only write the README.md of every shipped checkpoint")
    options = parser.parse_args()
    if options.cards:
        for path in sorted(ROOT.glob("checkpoints/*/*/model.json")):
            write_card(path.parent)
        return 0
    if options.target is None:
        parser.error("two folders are needed, a run and a target (or --cards).")
    if options.epoch is not None and options.result is None:
        parser.error("--epoch chooses among the scores of --result, which is missing.")
    try:
        ship(options.run, options.target, options.result, options.epoch)
    except (ValueError, FileNotFoundError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
