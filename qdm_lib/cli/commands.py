"""The command line: ``python -m qdm_lib COMMAND``. Every mistake is one line on stderr and exit code 2.

Commands import what they need when they run, so that ``--help`` answers at once. QDM_DEBUG=1 shows the whole
traceback of an error instead of one line.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from qdm_lib import __version__
from qdm_lib.checks import choice, whole
from qdm_lib.cli.paths import check_file, free_name, model_option, path_option
from qdm_lib.cli.presets import preset_table
from qdm_lib.cli.words import command, lasting_streams, program
from qdm_lib.machine import pick_device, ran_out_of_memory, set_threads

app = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Quantum hybrid diffusion models: train them, draw with them, score them.\n\n"
    "\b\nExample:\n  python -m qdm_lib demo\n\nEach command has its own --help with an example.",
)


# Options that several commands share.
Checkpoint = Annotated[
    Path, model_option("Folder of a run, as train leaves it; or a trained model, such as fashion-mnist/1hqconv.")
]
Sampler = Annotated[str, typer.Option(help="ddim, dpm or ddpm.")]
SamplerSteps = Annotated[int | None, typer.Option(help="Model calls for each image: ddim 50, dpm 20, ddpm 1000.")]
Seed = Annotated[int, typer.Option(help="Of the random numbers; the same seed draws the same images.")]
Device = Annotated[str, typer.Option(help="auto (the GPU if there is one), cpu, cuda, cuda:1 …")]
Threads = Annotated[int | None, typer.Option(help="CPU threads; by default as many as this process can keep busy.")]


def say_version(asked: bool) -> None:
    """For --version: print it and stop."""
    if asked:
        print(f"qdm_lib {__version__}")
        raise typer.Exit()


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=say_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Options of qdm itself."""


MOST_IN_A_PICTURE, MOST_DRAWN, MOST_LAYERS, MOST_STEPS = 2500, 100_000, 24, 1_000_000_000


@app.command()
def presets() -> None:
    """List the models of the paper with their parameter counts.

    \b
    Example:
      python -m qdm_lib presets
    """
    for line in preset_table():
        print(line)


@app.command()
def draw(
    ansatz: Annotated[str, typer.Argument(help="hqconv, fqconv, basic or hqconv_released.")],
    layers: Annotated[int | None, typer.Option(help="Layers: 3 by default, 4 for basic.")] = None,
    out: Annotated[Path | None, path_option("File to write (.png, .pdf, .svg); without it, text.")] = None,
) -> None:
    """Draw a circuit, as a picture or as text.

    \b
    Example:
      python -m qdm_lib draw hqconv --layers 3 --out hqconv.png
    """
    from qdm_lib.circuits import ANSATZE, basic

    known = {**ANSATZE, "basic": lambda layers: basic(layers=layers)}
    choice("ansatz", ansatz, known)
    layers = whole("layers", layers if layers is not None else 4 if ansatz == "basic" else 3, 1, MOST_LAYERS)
    circuit = known[ansatz](layers)
    if out is not None:
        check_file(out, ".png", ".pdf", ".svg")
    plots = _plots()
    if out is None:
        print(plots.circuit_text(circuit, shutil.get_terminal_size((100, 24)).columns))
        return
    print(f"Wrote {plots.save_figure(plots.draw_circuit(circuit), out)}")


@app.command()
def train(
    out: Annotated[Path, path_option("Folder of the run; it must hold no run yet, unless with --resume.")],
    preset: Annotated[str | None, typer.Option(help="Model; the command presets lists them. [1hqconv]")] = None,
    dataset: Annotated[str | None, typer.Option(help="Images to learn from. [fashion-mnist]")] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes through all images. [20]")] = None,
    steps: Annotated[int | None, typer.Option(help="Optimiser steps in all, instead of --epochs.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Images a step. [128]")] = None,
    seed: Annotated[int | None, typer.Option(help="Of weights, batches and noise. [0]")] = None,
    hybridization: Annotated[
        str | None, typer.Option(help="Another vertex: circuits (0 to 13), a fraction (0.5) or full.")
    ] = None,
    first_weights: Annotated[
        str | None, typer.Option(help="Begin like this model with the same seed, wherever both have the same weights.")
    ] = None,
    backend: Annotated[str | None, typer.Option(help="Of the circuits: fast, statevector, pennylane. [fast]")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --out.")] = False,
    save_every: Annotated[int, typer.Option(help="Steps between two checkpoints.")] = 250,
    bf16: Annotated[bool | None, typer.Option("--bf16/--no-bf16", help="Train in bfloat16.")] = None,
    device: Device = "auto",
    threads: Threads = None,
) -> None:
    """Train a model, with a checkpoint every few hundred steps.

    Ctrl-C finishes the step, saves and stops; --resume goes on from there to the same end. With --resume, options that
    are left out are those of the run; a larger --steps or --epochs makes it longer. The numbers in [ ] are defaults.

    \b
    Example:
      python -m qdm_lib train --preset 1hqconv --dataset fashion-mnist --epochs 20 --seed 0 --out runs/x
    """
    from qdm_lib.checkpoint import has_checkpoint
    from qdm_lib.data import load_images
    from qdm_lib.runs import Interrupted, RunConfig, launched_processes, saved_config, train_run

    if steps is not None and epochs is not None:
        raise ValueError("Give --steps or --epochs, not both.")
    set_threads(threads)
    whole("save-every", save_every)
    if steps is not None:
        whole("steps", steps, 1, MOST_STEPS)
    given = {"preset": preset, "dataset": dataset, "steps": steps, "seed": seed, "backend": backend, "bf16": bf16,
             "first_weights": first_weights, "hybridization": _hybridization(hybridization)}  # fmt: skip
    given = {name: value for name, value in given.items() if value is not None}
    if resume and not has_checkpoint(out):
        raise FileNotFoundError(f"There is no run to resume in {out}; leave --resume out to start one.")
    config = saved_config(out, **given) if resume else RunConfig(**given)
    if batch_size is not None:
        config = replace(config, recipe=replace(config.recipe, batch_size=batch_size))
    model = config.build_model()  # a wrong hybridization shows here, before the images are read
    pick_device(device)
    images = load_images(config.dataset)
    whole("batch-size", config.recipe.batch_size, 1, len(images))
    if epochs is not None or not (resume or steps):
        epochs = whole("epochs", 20 if epochs is None else epochs, 1, MOST_STEPS // len(images))
        config = replace(config, steps=-(-epochs * len(images) // config.recipe.batch_size))  # rounded up
    processes = launched_processes(device)
    try:
        result = train_run(config, out, resume=resume, save_every=save_every, device=device, model=model, images=images,
                           processes=processes)  # fmt: skip
    except Interrupted as stop:
        print(f"Stopped after step {stop.step:,} of {config.steps:,}, which is saved. To go on:", file=sys.stderr)
        print(f"  {command('train', '--resume', '--out', out)}", file=sys.stderr)
        raise typer.Exit(128 + stop.signal) from None
    except FloatingPointError as error:
        raise FloatingPointError(f"{error} The last checkpoint is in {out}.") from None
    if processes is not None:
        processes.close()
    if processes is None or processes.is_main:
        _say_what_was_trained(result, out)


def _say_what_was_trained(result, out: Path) -> None:
    """The last lines of `train`: what it did, and the command to draw with."""
    made = result.last_step - result.first_step
    if not made:
        print(f"{out} is at step {result.last_step:,} already; a larger --steps makes it longer.")
        return
    pace = f"{result.seconds:.0f} s ({result.seconds / made:.3f} s each)"
    print(f"{made:,} step{'s' * (made > 1)} in {pace}, saved in {out}. To draw:")
    print(f"  {command('sample', '--checkpoint', out, '--n', 64, '--out', out / 'samples.png')}")


@app.command()
def sample(
    checkpoint: Checkpoint,
    n: Annotated[int, typer.Option(help="How many images.")] = 64,
    sampler: Sampler = "ddim",
    steps: SamplerSteps = None,
    seed: Seed = 0,
    out: Annotated[
        Path | None,
        path_option(
            "A picture (.png, .pdf) or pixels (.npz). [samples.png in --checkpoint, if taken samples-2.png, …]"
        ),
    ] = None,
    film: Annotated[Path | None, path_option("Also draw the way from noise to image into this file.")] = None,
    raw_weights: Annotated[bool, typer.Option("--raw-weights", help="Not the averaged (EMA) weights.")] = False,
    backend: Annotated[str | None, typer.Option(help="Of the circuits, if not the saved one.")] = None,
    device: Device = "auto",
    threads: Threads = None,
) -> None:
    """Draw images with a trained model.

    \b
    Example:
      python -m qdm_lib sample --checkpoint runs/x --n 64 --sampler ddim --steps 50 --seed 0 --out grid.png
    """
    from qdm_lib.files import write_npz
    from qdm_lib.quantum import BACKENDS
    from qdm_lib.runs import Film, generate

    named, out = out is not None, out or free_name(checkpoint / "samples.png")
    as_pixels = out.suffix.lower() == ".npz"
    whole("n", n, 1, MOST_DRAWN if as_pixels else MOST_IN_A_PICTURE)
    if backend is not None:
        choice("backend", backend, BACKENDS)
    set_threads(threads)
    model = _load(checkpoint, ema=not raw_weights, backend=backend)
    check_file(out, ".png", ".pdf", ".npz")
    if film is not None:
        check_file(film, ".png", ".pdf")
        if film.resolve() == out.resolve():
            raise ValueError(f"--out and --film are the same file, {out}; give --film another name.")
    plots, states = _plots(), Film()
    images = generate(model, n, sampler=sampler, steps=steps, seed=seed, device=device, on_state=states)
    out = out if named else free_name(checkpoint / "samples.png")  # another process may have taken the name meanwhile
    if as_pixels:
        write_npz(out, images=images.numpy())
    else:
        plots.save_figure(plots.image_grid(images), out)
    print(f"Wrote {out}: {n} images of {model.config.preset} by {sampler}, seed {seed}")
    if film is not None:
        print(f"Wrote {plots.save_figure(plots.film_strip(states.states), film)}")


@app.command()
def evaluate(
    checkpoint: Checkpoint,
    n: Annotated[int, typer.Option(help="How many images to draw and score.")] = 7000,
    features: Annotated[str, typer.Option(help="What compares the images: classifier or inception.")] = "classifier",
    sampler: Sampler = "ddim",
    steps: SamplerSteps = None,
    seed: Seed = 0,
    dataset: Annotated[str | None, typer.Option(help="Real images, if not those of the run.")] = None,
    batch_size: Annotated[int, typer.Option(help="Images drawn at a time.")] = 250,
    out: Annotated[
        Path | None, path_option("File for the scores. [scores.json in --checkpoint, if taken scores-2.json, …]")
    ] = None,
    device: Device = "auto",
    threads: Threads = None,
) -> None:
    """Score a trained model: FID, KID and IS of images it draws, against real ones.

    Beside each score stands what as many real images score. Numbers compare only with the same features and n.

    \b
    Example:
      python -m qdm_lib evaluate --checkpoint runs/x --n 7000
    """
    from qdm_lib.data import DATASETS, load_images
    from qdm_lib.features import load_extractor
    from qdm_lib.runs import check_sampler, generate, run_info, score_to_json

    whole("n", n, 2, MOST_DRAWN)
    choice("feature extractor", features, ("classifier", "inception"))
    set_threads(threads)
    named, out = out is not None, out or free_name(checkpoint / "scores.json")
    model, info = _load(checkpoint), run_info(checkpoint)
    sampler_steps = check_sampler(sampler, steps, model.schedule.T if model.schedule else 1000)
    dataset = info["run_config"].get("dataset") if dataset is None else dataset
    if dataset is None:
        raise ValueError(f"{checkpoint} does not say what it was trained on; give --dataset.")
    choice("data set", dataset, DATASETS)
    check_file(out, ".json")
    extractor = load_extractor(features, dataset, device=device)
    reference, held_out = load_images(dataset, "train"), load_images(dataset, "test")
    images = generate(model, n, sampler=sampler, steps=steps, seed=seed, batch_size=batch_size, device=device)
    about = {"checkpoint": str(checkpoint), "preset": model.config.preset, "dataset": dataset, "step": info["step"],
             "sampler": sampler, "sampler_steps": sampler_steps, "seed": seed}  # fmt: skip
    out = out if named else free_name(checkpoint / "scores.json")
    scores = score_to_json(out, images, reference, held_out, about, features=extractor, seed=seed, progress=True)
    print(_plots().score_table(scores))
    print(f"Wrote {out}")


@app.command()
def demo(
    out: Annotated[Path, path_option("Folder for all that it makes.")] = Path("runs/demo"),
    steps: Annotated[int | None, typer.Option(help="Training steps, for more or less than a few minutes.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of everything random. [0]")] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Delete an earlier demo in --out and start over.")] = False,
    n: Annotated[int, typer.Option(help="Images to draw and score.")] = 64,
    sampler_steps: Annotated[int, typer.Option(help="DDIM steps.")] = 50,
    batch_size: Annotated[int | None, typer.Option(help="Images a training step. [128]")] = None,
    threads: Threads = None,
) -> None:
    """Train a hybrid model for a few minutes, draw clothes with it, score them.

    A demo that was stopped goes on where it was; a finished one draws again without training.

    \b
    Example:
      python -m qdm_lib demo
    """
    from qdm_lib.runs import Interrupted

    set_threads(threads)
    _plots()
    from qdm_lib.cli.demo import run_demo

    try:
        run_demo(out, steps=steps, seed=seed, fresh=fresh, n=n, sampler_steps=sampler_steps, batch_size=batch_size)
    except Interrupted as stop:
        print(
            f"Stopped after step {stop.step:,}, which is saved; the same command goes on from there.", file=sys.stderr
        )
        raise typer.Exit(128 + stop.signal) from None


@app.command()
def download(dataset: Annotated[str, typer.Argument(help="Data set, such as fashion-mnist.")]) -> None:
    """Fetch a full data set, once: every command and notebook finds it.

    \b
    Example:
      python -m qdm_lib download fashion-mnist
    """
    from qdm_lib.data import load_images

    for split in ("train", "test"):
        images = load_images(dataset, split, download=True, bundled=False)
        print(f"{dataset} {split}: {len(images):,} images, {images.source}", flush=True)


@app.command()
def doctor() -> None:
    """Say what this machine and installation are: paste the answer into a bug report.

    \b
    Example:
      python -m qdm_lib doctor
    """
    from qdm_lib.cli.doctor import report

    for line in report():
        print(line, flush=True)


def _mount_study() -> None:
    """Add the commands of the study, ``experiment …``, where it lies beside the library; a wheel is without it."""
    beside = Path(__file__).resolve().parents[2]
    if (beside / "study" / "cli.py").is_file():
        sys.path.extend([] if str(beside) in sys.path else [str(beside)])
        from study.cli import app as study

        app.add_typer(study, name="experiment")


_mount_study()


def _plots():
    """The plots module, set to draw into files: no window, no display needed."""
    import matplotlib

    matplotlib.use("Agg")
    from qdm_lib import plots

    return plots


def _load(checkpoint: Path, **options):
    from qdm_lib.checkpoint import load_model
    from qdm_lib.runs import run_info

    if checkpoint.is_file():
        raise ValueError(f"{checkpoint} is a file; give the folder that it lies in: {checkpoint.parent}.")
    run_info(checkpoint)  # its message for a missing checkpoint says how to make one
    return load_model(checkpoint, **options)


def _hybridization(text: str | None) -> int | float | str | None:
    """7 → seven circuits, 0.5 → half of the channels, full → all."""
    for kind in (int, float):
        try:
            return None if text is None else kind(text)
        except ValueError:
            continue
    return text


def main(argv: list[str] | None = None) -> int:
    """Run one command; returns the exit code: 0, 2 for a mistake, 130 after Ctrl-C."""
    argv = sys.argv[1:] if argv is None else argv
    with lasting_streams():
        return _run(list(argv) or ["--help"])


def _run(argv: list[str]) -> int:
    try:
        code = app(args=argv, prog_name=program(), standalone_mode=False)
    except (KeyboardInterrupt, typer.Abort):
        return 130
    except Exception as error:
        message = _one_line(error)
        if message is None or os.environ.get("QDM_DEBUG", "").strip().lower() not in ("", "0", "false", "no", "off"):
            raise
        print(f"error: {message}", file=sys.stderr)
        return 2
    return code if isinstance(code, int) else 0


def _one_line(error: Exception) -> str | None:
    """What to tell the user; None for an error that is no user's mistake but ours."""
    if hasattr(error, "format_message"):  # from typer: an unknown option, a missing argument
        text = error.format_message()
    elif isinstance(error, OSError) and error.strerror:
        text = f"{error.filename}: {error.strerror}." if error.filename else f"{error.strerror}."
    elif isinstance(error, ValueError | OSError | FloatingPointError):
        text = str(error)
    elif isinstance(error, RuntimeError | MemoryError) and ran_out_of_memory(error):
        reason = re.split(r"(?<=\D)\. ", str(error))[0]  # the first sentence; NumPy writes "104. MiB"
        text = f"Out of memory; try a smaller --batch-size or --n{f' ({reason})' if reason else ''}."
    else:
        return None
    return " ".join(text.split())
