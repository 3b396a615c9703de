"""What of an experiment is still open, and what it costs as measured: the tables open-* of `collect`."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from pathlib import Path

from qdm_lib.machine import duration
from study.cost import TIMED, job_seconds, kind
from study.results import Group, Result, read_result
from study.spec import Experiment, Job
from study.tables import Table


def open_table(experiment: Experiment, folder: Path, groups: Iterable[Group] = ()) -> Table:
    """Each cell of an experiment file: seeds done and open, epochs already scored, and what is left costs as measured.

    experiment: as its runs are really drawn (`Experiment.as_used`). Costs are those that the runs of `groups` noted,
    else those of results/seconds.json. The epochs before a transfer's hand-over are trained once for all cells that
    share them and are not in the table; `experiment run --dry-run` counts those that are missing on your machine.
    """
    measured, jobs, rows = costs_of_runs(folder / "seconds.json", groups), experiment.jobs(), []
    for cell in experiment.cells:
        mine = [job for job in jobs if job.cell == cell]
        scored = {job.seed: _scored(job.result(folder)) for job in mine}
        todo = [job for job in mine if experiment.epochs not in scored[job.seed]]
        missing = {job.seed: set(job.own_epochs()[1]) - set(scored[job.seed]) for job in mine if job not in todo}
        unscored = [f"seed {seed}: {', '.join(map(str, sorted(epochs)))}" for seed, epochs in missing.items() if epochs]
        begun = [f"seed {job.seed}: {', '.join(map(str, scored[job.seed]))}" for job in todo if scored[job.seed]]
        texts = []
        for machine, costs in sorted(measured.items()):
            if todo and kind(cell) in costs:
                seconds = sum(_left(job, scored[job.seed], costs[kind(cell)]) for job in todo)
                texts.append(f"{duration(seconds)} ({machine}; {costs[kind(cell)]['step']:.3g} s a step)")
        cost = "; ".join(texts) or ("not measured" if todo else "")
        done = str(len(mine) - len(todo))
        rows.append([experiment.cell_name(cell), done, "; ".join(unscored), str(len(todo)), "; ".join(begun), cost])
    without = (
        "scoring and without the first epochs of transfers" if any(c.transfer for c in experiment.cells) else "scoring"
    )
    header = ["cell", "seeds done", "their epochs without scores", "seeds open", "epochs scored of open ones"]
    header += [f"time for the open ones, without {without}"]
    e = experiment
    note = (
        f"Protocol {e.protocol}: {e.epochs} epochs, scores after {', '.join(map(str, e.evaluate_at))}, {e.n_images:,} "
        f"images by {e.sampler.upper()} in {e.sampler_steps:,} steps. Done: scored after the last epoch. Times: CPU "
        "time of a training step (of one thread; on a GPU by the clock) and clock time of drawing, the least that any "
        f"run here noted; of kinds that have not been run, as measured over {TIMED} steps on an otherwise idle core."
    )
    return Table(header, rows, note)


def costs_of_runs(path: Path, groups: Iterable[Group]) -> dict[str, dict[str, dict[str, float]]]:
    """{machine: {kind of model: {"step": seconds of a training step, "call": seconds of a model call an image}}}.

    The least that any result noted, as other programs on the machine and older versions only add to it; else what the
    file results/seconds.json says. Kinds of which one of the two is not known are left out.
    """
    found = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    noted: dict[str, dict[str, dict[str, float]]] = {}
    for result in (result for group in groups for result in group.results()):
        config, seconds = result.config, result.seconds_per_step
        mine = noted.setdefault(f"{result.place}, batch {config.batch_size}", {}).setdefault(kind(config), {})
        drawing = [e.sampling_seconds for e in result.by_epoch.values() if e.sampling_seconds is not None]
        values = {"step": [_step_seconds(result)] if seconds else [],
                  "call": [d / config.n_images / (config.sampler_steps or 1) for d in drawing]}  # fmt: skip
        for key, several in values.items():
            if several:
                mine[key] = min([*several, mine.get(key, math.inf)])
    costs = {}
    for machine in (*found, *(set(noted) - set(found))):
        both = {name: found.get(machine, {}).get(name, {}) | noted.get(machine, {}).get(name, {})
                for name in (*found.get(machine, {}), *noted.get(machine, {}))}  # fmt: skip
        costs[machine] = {name: cost for name, cost in both.items() if {"step", "call"} <= set(cost)}
    return costs


def _step_seconds(result: Result) -> float:
    """Of a training step: CPU time of a thread, and by the clock on a GPU, whose time the CPU's is not."""
    seconds, machine = result.seconds_per_step, result.machine
    if machine["gpu"] or "cpu_seconds" not in seconds:
        return seconds["seconds"]
    return seconds["cpu_seconds"] / machine["threads"]


def _scored(path: Path) -> list[int]:
    """The epochs in a job's result; none without one."""
    return list(read_result(path).by_epoch) if path.is_file() else []


def _left(job: Job, scored: list[int], cost: dict[str, float]) -> float:
    """Seconds for the steps after the last scored epoch, and for the drawings that are missing."""
    epochs, scored_at = job.own_epochs()
    last = max(scored, default=job.experiment.epochs - epochs)
    steps = job.steps(job.experiment.epochs) - job.steps(last)
    return job_seconds(job.experiment, cost, steps, len(set(scored_at) - set(scored)))
