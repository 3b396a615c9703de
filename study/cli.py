"""``python -m qdm_lib experiment …``: run the experiments of a file, and collect their results."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from qdm_lib.checks import typed_path

app = typer.Typer(rich_markup_mode=None, help="Run an experiment file; build tables and figures from the results.")

RunsFolder = Annotated[
    Path, typer.Option(help="Folder of the runs, where they train.", parser=typed_path, metavar="PATH")
]
ResultsFolder = Annotated[
    Path, typer.Option(help="Folder of the results, one JSON file a job.", parser=typed_path, metavar="PATH")
]


@app.command()
def run(
    file: Annotated[Path, typer.Argument(help="The experiment, such as study/experiments/short.toml.")],
    only: Annotated[list[str] | None, typer.Option(help="Only jobs whose name holds this word; repeatable.")] = None,
    shard: Annotated[str, typer.Option(help="i/n: every n-th job, from the i-th on, counted from 0.")] = "0/1",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan and stop.")] = False,
    train: Annotated[bool, typer.Option("--train/--no-train", help="Train.")] = True,
    evaluate: Annotated[bool, typer.Option("--evaluate/--no-evaluate", help="Draw and score.")] = True,
    sampler: Annotated[
        str | None, typer.Option(help="Draw from the finished runs in another way, as a protocol of its own.")
    ] = None,
    sampler_steps: Annotated[int | None, typer.Option(help="Of --sampler.")] = None,
    weights: Annotated[
        str | None, typer.Option(help="ema or raw: draw from the finished runs so, as a protocol of its own.")
    ] = None,
    features: Annotated[
        str | None, typer.Option(help="classifier or inception: score the finished runs so, as a protocol of its own.")
    ] = None,
    bundled: Annotated[
        bool, typer.Option("--bundled", help="Use the bundled subset, as a protocol of its own, to try things out.")
    ] = False,
    shipped: Annotated[
        bool, typer.Option("--shipped", help="Draw from the shipped models of runs that are not here; train nothing.")
    ] = False,
    runs: RunsFolder = Path("runs"),
    results: ResultsFolder = Path("study/results"),
    save_every: Annotated[int, typer.Option(help="Steps between two checkpoints.")] = 100,
    batch_size: Annotated[int, typer.Option(help="Images drawn at a time.")] = 250,
    device: Annotated[str, typer.Option(help="auto (the GPU if there is one), cpu, cuda, cuda:1 …")] = "auto",
    threads: Annotated[int | None, typer.Option(help="CPU threads for torch; by default torch decides.")] = None,
) -> None:
    """Train and score every cell of an experiment with every seed; go on where it was stopped.

    Start it as often as you like: processes on one file system share the jobs through lock files, others by --shard.

    \b
    Example:
      python -m qdm_lib experiment run study/experiments/short.toml --dry-run
    """
    from qdm_lib.checkpoint import SHIPPED
    from qdm_lib.checks import whole
    from qdm_lib.machine import set_threads
    from qdm_lib.runs import Interrupted
    from study.cost import plan
    from study.run import Runner
    from study.spec import load_experiment

    experiment = load_experiment(file)
    if bundled:
        experiment = experiment.on_subset()
    if sampler is None and sampler_steps is not None:
        raise ValueError("--sampler-steps goes with --sampler; without it the file's own sampler and steps are used.")
    if features is not None:
        experiment = experiment.with_features(features)
    if weights is not None:
        experiment = experiment.with_weights(weights)
    if sampler is not None:  # last: short-raw-ddim-10 is another draw of short-raw, as figures group them
        experiment = experiment.with_sampler(sampler, sampler_steps)
    set_threads(threads)
    whole("save-every", save_every)
    try:
        i, n = (int(part) for part in shard.split("/"))
    except ValueError:
        raise ValueError(f"--shard must be i/n, such as 0/2, not {shard!r}.") from None
    runner = Runner(experiment, runs=runs, results=results, train=train, evaluate=evaluate, shard=(i, n),
                    only=tuple(only or ()), device=device, save_every=save_every, batch_size=batch_size,
                    shipped=SHIPPED if shipped else None)  # fmt: skip
    for line in plan(runner):
        print(line, flush=True)
    if dry_run:
        return
    try:
        held = runner.run()
    except Interrupted as stop:
        print("Stopped; all steps are saved. The same command goes on from there.", file=sys.stderr)
        raise typer.Exit(128 + stop.signal) from None
    _say_what_is_left(runner, held)


def _say_what_is_left(runner, held: int) -> None:
    """The last lines of a run; exit code 1 where a job could not be done."""
    if held:
        print(f"{held} job(s) are with other processes.")
        return
    if not (open_jobs := [job.name for job in runner.jobs if not runner.done(job)]):
        print("Nothing is left to do.")
        return
    for name in open_jobs:
        why = runner.failed.get(name, f"no trained run of it is in {runner.runs}")
        print(f"Not done: {name}: {why}", file=sys.stderr)
    raise typer.Exit(1)


@app.command("collect")
def collect_results(
    results: ResultsFolder = Path("study/results"),
    experiments: Annotated[
        Path, typer.Option(help="Folder of the experiment files, for the tables of what is open.")
    ] = Path("study/experiments"),
) -> None:
    """Build every table and figure from the result files; the same files give the same bytes.

    \b
    Example:
      python -m qdm_lib experiment collect
    """
    import matplotlib

    matplotlib.use("Agg")
    from study.collect import collect

    if not any(experiments.glob("*.toml")):
        raise FileNotFoundError(f"There are no experiment files in {experiments}; name their folder by --experiments.")
    for path in collect(results, experiments=experiments):
        print(f"Wrote {path}")
