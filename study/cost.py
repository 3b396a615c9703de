"""What an experiment will cost: seconds per step, measured before it starts, times the steps that are left."""

from __future__ import annotations

import json
import time
from pathlib import Path

import torch

from qdm_lib.diffusion import NoiseSchedule
from qdm_lib.files import write_json
from qdm_lib.machine import describe_machine, duration
from qdm_lib.training import EMA, make_optimizer, train
from study.job_files import claim
from study.results import Settings, place_of
from study.run import Runner
from study.spec import Cell, Experiment, Job

WARM, TIMED = 1, 3  # training steps: not counted, counted


def measure(runner: Runner, job: Job) -> dict[str, float]:
    """Seconds of a training step, and of one model call for one image, on this machine; a few steps are made.

    On the CPU it is CPU time over the number of threads, so that other programs on the machine do not count.
    """
    config, device = job.config(10), runner.device
    model = config.build_model().to(device)
    generator = torch.Generator().manual_seed(0)
    batch = torch.rand(config.recipe.batch_size, 1, 28, 28, generator=generator) * 2 - 1
    steps = train(
        model, NoiseSchedule(), iter([batch] * (WARM + TIMED)), make_optimizer(model), EMA(model),
        generator=generator, steps=WARM + TIMED,
    )  # fmt: skip
    for _ in range(WARM):
        next(steps)
    clock = _clock(device)
    began = clock()
    for _ in steps:
        pass
    training = (clock() - began) / TIMED
    x, t = batch.to(device), torch.full((len(batch),), 500, device=device)
    with torch.no_grad():
        model.eval()(x, t)
        began = clock()
        model(x, t)
    return {"step": round(training, 4), "call": round((clock() - began) / len(batch), 7)}


def _clock(device: torch.device):
    if device.type == "cpu":
        return lambda: time.process_time() / torch.get_num_threads()

    def clock() -> float:
        torch.cuda.synchronize(device)
        return time.perf_counter()

    return clock


def kind(cell: Cell | Settings) -> str:
    """What the cost depends on: 1hqconv, fullhqconv+zero."""
    return f"{cell.preset}+{cell.control}" if cell.control else cell.preset


def place(device: torch.device) -> str:
    """The machine, as far as speed goes."""
    return place_of(describe_machine(device))


def costs(runner: Runner) -> dict[str, dict[str, float]]:
    """`measure` of each kind of model that is left to run, and of transfers' sources.

    What was measured is looked up in results/seconds.json, which is shared and which the tables print, and in
    runs/seconds.json, where new measurements go; both by machine.
    """
    mine, found = runner.runs / "seconds.json", {}
    here = f"{place(runner.device)}, batch {runner.experiment.batch_size}"
    for job in runner.jobs:
        if runner.nothing_to_do(job):
            continue
        for one in filter(None, (job, job.source())):
            name = kind(one.cell)
            known = _read(mine).get(here, {}) | _read(runner.results / "seconds.json").get(here, {}) | found
            if name not in known:
                known[name] = measure(runner, one)
                mine.parent.mkdir(parents=True, exist_ok=True)
                with claim(mine, wait=True):  # another process may have added others meanwhile
                    now = _read(mine)
                    write_json(mine, now | {here: now.get(here, {}) | {name: known[name]}})
            found[name] = known[name]
    return found


def _read(path: Path) -> dict[str, dict]:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def job_seconds(experiment: Experiment, cost: dict[str, float], steps: int, draws: int) -> float:
    """Time for so many training steps and so many evaluations, without the scoring itself."""
    return steps * cost["step"] + draws * experiment.n_images * experiment.sampler_steps * cost["call"]


def plan(runner: Runner) -> list[str]:
    """The lines that `experiment run` prints before it starts: what is left, its cost, and the total."""
    kinds, lines, total, sources = costs(runner), [], 0.0, {}
    e = runner.experiment
    for name in dict.fromkeys(e.cell_name(job.cell) for job in runner.jobs):
        jobs = [job for job in runner.jobs if e.cell_name(job.cell) == name]
        left = [job for job in jobs if not runner.nothing_to_do(job)]
        line = f"{name:32} {sum(map(runner.done, jobs))} of {len(jobs)} seeds done"
        if nothing := sum(not runner.done(job) for job in jobs) - len(left):
            line += f", {nothing} without a trained run in {runner.runs}"
        if not left:
            lines.append(line)
            continue
        cost = kinds[kind(left[0].cell)]
        steps = draws = 0
        for job in left:
            epochs, scored_at = job.own_epochs()
            whole, rest = runner.steps(job, epochs), runner.steps(job, e.epochs) - runner.trained(job)
            steps += max(0, min(whole, rest)) if runner.train else 0
            draws += len(set(scored_at) - set(runner.scored(job))) if runner.evaluate else 0
            if runner.train and (missing := runner.source_steps(job)):
                sources[job.source().name, job.cell.transfer.epochs] = (kind(job.source().cell), missing)
        seconds = job_seconds(e, cost, steps, draws)
        total += seconds
        lines.append(
            f"{line}, {steps:,} steps of {cost['step']:.3f} s and "
            f"{draws} x {e.n_images:,} images of {cost['call'] * e.sampler_steps:.3f} s: {duration(seconds)}"
        )
    if sources:
        seconds = sum(kinds[name]["step"] * steps for name, steps in sources.values())
        total += seconds
        what = f"{sum(steps for _, steps in sources.values()):,} steps: {duration(seconds)}"
        lines.append(f"{'sources of transfers':32} {len(sources)} to train, {what}")
    line = f"Total, for one process on {place(runner.device)}, without the scoring itself: {duration(total)}"
    return [*lines, line + (" of CPU time on an idle core" if runner.device.type == "cpu" else "")]
