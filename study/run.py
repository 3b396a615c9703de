"""Run an experiment: claim a job, train it, score it, write its JSON file; until nothing is left to do.

Any number of processes may run the same file. A job is claimed by an exclusive lock (flock) on the file
`seed-k.lock` beside its folder, which the system frees when the process ends, however it ends. Training goes on from
the last checkpoint; a job whose JSON file is complete is never run again. Machines without a common file system share
the work by `shard=(i, n)`.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from qdm_lib.checkpoint import has_checkpoint, load_model
from qdm_lib.checks import whole
from qdm_lib.data import ImageSet, load_images
from qdm_lib.features import fingerprint
from qdm_lib.files import read_npz, write_npz
from qdm_lib.machine import describe_machine, duration, pick_device, versions
from qdm_lib.runs import FolderInUseError, generate, run_info, train_run
from qdm_lib.unet import count_parameters
from study.handover import start_transfer
from study.job_files import (
    claim,
    copy_state,
    epoch_losses,
    is_run_of,
    note_time,
    recent_loss,
    seconds_per_step,
    shipped_model,
    trained_on,
    write_picture,
)
from study.results import Entry, Result, read_result
from study.scores import Scorer
from study.spec import RESULTS, RUNS, Experiment, Job

SHOWN = 64  # images of each job that are kept with its result


class Runner:
    """Runs the jobs of an experiment. `on_step`, `images` and `scorer_options` are for tests and small machines.

    experiment: what to run. runs, results: the two roots (see `study.spec.Job`). train, evaluate: leave one of the two
    steps out. shard: (i, n), i from 0: only every n-th job, from the i-th on. only: words; a job runs if its name holds
    one of them. save_every: steps between two checkpoints. batch_size: images drawn at a time. images: {(dataset,
    split): ImageSet} in place of the data sets. shipped: a folder such as checkpoints/; where a run is not here, its
    model from there is drawn from, and nothing is trained. ValueError with raw weights, which no shipped model has.
    """

    def __init__(self, experiment: Experiment, *, runs=RUNS, results=RESULTS, train: bool = True,
                 evaluate: bool = True, shard: tuple[int, int] = (0, 1), only: tuple[str, ...] = (), device=None,
                 save_every: int = 100, batch_size: int = 250, progress: bool = True,
                 images: dict[tuple[str, str], ImageSet] | None = None, scorer_options: dict | None = None,
                 shipped: Path | None = None, say: Callable[[str], None] = print) -> None:  # fmt: skip
        i, n = shard
        if not 0 <= i < n:
            raise ValueError(f"A shard i/n needs 0 <= i < n; got {i}/{n}.")
        for what, folder in (("runs", Path(runs)), ("results", Path(results))):
            there = next((place for place in (folder, *folder.parents) if place.exists()), Path("."))
            if not there.is_dir():
                raise ValueError(f"The folder of {what} cannot be {folder}: {there} is a file.")
        whole("save_every", save_every)
        whole("batch_size", batch_size)
        self.experiment, self.runs, self.results = experiment, Path(runs), Path(results)
        if shipped is not None and experiment.weights != "ema":
            raise ValueError("Shipped models hold the averaged weights only: leave out --weights raw or --shipped.")
        self.train = train and not experiment.runs_of and shipped is None
        self.evaluate, self.device, self.shipped = evaluate, pick_device(device), shipped
        self.save_every, self.batch_size, self.progress, self.say = save_every, batch_size, progress, say
        self.scorer_options = scorer_options or {}
        jobs = experiment.jobs()
        for word in only:
            if not word.strip() or not any(word in job.name for job in jobs):
                cells = ", ".join(experiment.cell_name(cell) for cell in experiment.cells)
                raise ValueError(f"No job's name holds {word!r}. The cells are {cells}; a job is {jobs[0].name}.")
        self.jobs = [job for k, job in enumerate(jobs) if k % n == i]
        self.jobs = [job for job in self.jobs if not only or any(word in job.name for word in only)]
        self.failed: dict[str, str] = {}  # jobs whose training broke down, and why
        self._images, self._scorers = dict(images or {}), {}

    # ------------------------------------------------------------------------------ what is there

    def images(self, dataset: str, split: str = "train") -> ImageSet:
        """A data set, read once: the full one, unless the experiment is on the subset. FileNotFoundError without it."""
        if (dataset, split) not in self._images:
            subset = self.experiment.subset
            self._images[dataset, split] = load_images(dataset, split, bundled=subset)
        return self._images[dataset, split]

    def steps(self, job: Job, epoch: int) -> int:
        return job.steps(epoch, len(self.images(job.cell.dataset)))

    def trained(self, job: Job) -> int:
        """Steps that the job's run has on disk."""
        return self._step(job.folder(self.runs))

    def _step(self, folder: Path) -> int:
        return run_info(folder)["step"] if has_checkpoint(folder) else 0

    def scored(self, job: Job) -> dict[int, Entry]:
        """What its result holds, by epoch. ValueError if that file tells of another experiment."""
        path = job.result(self.results)
        if not path.is_file():
            return {}
        result = read_result(path)
        there, here = asdict(result.config), asdict(job.settings())
        for name in here:
            if there[name] != here[name]:
                raise ValueError(
                    f"{path} was made with {name} {there[name]!r}, this experiment has {here[name]!r}: give it "
                    "another protocol name, or move the old results away."
                )
        return result.by_epoch

    def nothing_to_do(self, job: Job) -> bool:
        """Whether nothing is left to do that this runner was asked to do, and can do; see `done` for a complete job."""
        if self.all_scored(job):
            return True
        to_train = self.train and self.trained(job) < self.steps(job, self.experiment.epochs)
        return not to_train and not (self.evaluate and self._to_score(job))

    def all_scored(self, job: Job) -> bool:
        """Whether its JSON file is complete."""
        return all(epoch in self.scored(job) for epoch in job.own_epochs()[1])

    def done(self, job: Job) -> bool:
        """Whether the job is complete: trained, and scored if this runner scores."""
        trained = self.all_scored(job) or self.trained(job) >= self.steps(job, self.experiment.epochs)
        return self.all_scored(job) if self.evaluate else trained

    def _to_score(self, job: Job) -> list[int]:
        """Epochs whose weights are on disk and whose scores are not."""
        scored = self.scored(job)
        return [e for e in job.own_epochs()[1] if e not in scored and self.state_at(job, e)]

    def state_at(self, job: Job, epoch: int) -> Path | None:
        """The folder with the training state after an epoch, else with its shipped model, if one is there."""
        folder, step = job.folder(self.runs), self.steps(job, epoch)
        for place in (folder / f"epoch-{epoch}", folder):
            if step and self._step(place) == step:
                return place
        run = job.folder(".").as_posix()
        return shipped_model(self.shipped, run, epoch) if self.shipped and not self.trained(job) else None

    # ------------------------------------------------------------------------------ the loop

    def run(self) -> int:
        """Do all that can be done here; returns how many jobs other processes still hold.

        Afterwards `failed` names the jobs whose loss was no number any more, and why.
        """
        for job in self.jobs:
            self._add_losses(job)
        for dataset in sorted({job.cell.dataset for job in self.jobs if not self.all_scored(job)}):
            for split in ("train", "test"):
                self.images(dataset, split)  # what is missing is missed before the work starts
            if self.evaluate:
                self.scorer(dataset)  # also the weights of its features
        began, at_first = time.perf_counter(), None
        while True:
            left = [job for job in self.jobs if job.name not in self.failed and not self.nothing_to_do(job)]
            at_first = len(left) if at_first is None else at_first
            left.sort(key=self._source_is_coming)  # such transfers last, the others in their order
            for job in left:  # from the top each time: what another process held may be free now
                with claim(job.folder(self.runs)) as mine:
                    if not mine or self.nothing_to_do(job):
                        continue
                    rest = ""
                    if made := at_first - len(left):  # by all processes
                        pace = (time.perf_counter() - began) / made
                        rest = f", {duration(pace * len(left))} for the rest at the pace so far"
                    self.say(f"{job.name}: {sum(map(self.done, self.jobs))} of {len(self.jobs)} jobs done{rest}")
                    try:
                        self.run_job(job)
                    except FolderInUseError as error:  # by somebody's own `train`: others are to be done meanwhile
                        self.say(f"{job.name} has to wait: {error}")
                        continue
                    except FloatingPointError as error:
                        self.failed[job.name] = str(error)
                        self.say(f"{job.name} failed: {error}")
                    break
            else:
                return len(left)

    def run_job(self, job: Job) -> None:
        """Train and score one job, from where it stands. The caller holds its claim."""
        if self.trained(job):
            images = self.images(job.cell.dataset)
            check_run(job.folder(self.runs), job, len(images), images.source)
        if self.train:
            self._train(job)
        for epoch in self._to_score(job) if self.evaluate else ():
            self._evaluate(job, epoch)

    # ------------------------------------------------------------------------------ training

    def _train(self, job: Job) -> None:
        if job.cell.transfer and not self._step(job.folder(self.runs)):
            self._start_transfer(job)
        for epoch in self._stops():
            self._train_and_keep(job, epoch)

    def _stops(self) -> list[int]:
        """Epochs at which training states are kept, the last one among them."""
        return sorted({*self.experiment.evaluate_at, *self.experiment.keep_at})

    def _train_and_keep(self, job: Job, epoch: int) -> None:
        folder = job.folder(self.runs)
        self._train_to(job, folder, epoch)
        kept = folder / f"epoch-{epoch}"
        if epoch < self.experiment.epochs and self._step(folder) == self.steps(job, epoch) and not kept.exists():
            copy_state(folder, kept)

    def _train_to(self, job: Job, folder: Path, epoch: int) -> None:
        """Train up to an epoch, if the run is not there yet, and note how long the steps took."""
        steps, there = self.steps(job, epoch), self._step(folder)
        if there >= steps:
            return
        images = self.images(job.cell.dataset)
        busy = time.process_time()
        done = train_run(
            job.config(steps, len(images)), folder, resume=has_checkpoint(folder),
            save_every=self.save_every, device=self.device, progress=self.progress, images=images,
        )  # fmt: skip
        note_time(folder, done.first_step, done.last_step, done.seconds, time.process_time() - busy,
                  describe_machine(self.device))  # fmt: skip

    def _source_is_coming(self, job: Job) -> bool:
        """Whether a transfer's source is a job of this experiment that will pass, and keep, the epoch it needs."""
        if not job.cell.transfer or self._step(job.folder(self.runs)):
            return False
        source, epoch = job.source(), job.cell.transfer.epochs
        is_job = any(other.name == source.name for other in self.experiment.jobs())
        return is_job and epoch in self._stops() and self.trained(source) < self.steps(source, epoch)

    def source_steps(self, job: Job) -> int:
        """Training steps that a transfer needs before its own and that no job of this runner makes: 0 for others."""
        if not job.cell.transfer or self._step(job.folder(self.runs)):
            return 0
        source, epoch = job.source(), job.cell.transfer.epochs
        if self.state_at(source, epoch) or (
            self._source_is_coming(job) and any(other.name == source.name for other in self.jobs)
        ):
            return 0
        return self.steps(source, epoch)

    def _start_transfer(self, job: Job) -> None:
        """Find or train the run that is handed over, and begin this one with it.

        The source is the state that its own job kept at that epoch. Where that job is still to come, this process does
        its part of it; where it went past the epoch without keeping it, or is none of this experiment, the source is
        trained in a folder of its own.
        """
        source, epoch = job.source(), job.cell.transfer.epochs
        own = source.folder(self.runs)
        if not (own / f"epoch-{epoch}").is_dir() and self._source_is_coming(job):
            with self._wait_for(own):
                for stop in self._stops():
                    if stop <= epoch:
                        self._train_and_keep(source, stop)
        if (own / f"epoch-{epoch}").is_dir():
            return self._hand_over(job, own / f"epoch-{epoch}")
        with claim(own, wait=False) as mine:  # nobody trains it on while it is read
            if mine and self._step(own) == self.steps(source, epoch):
                return self._hand_over(job, own)
        state = own.parent.with_name(f"{source.cell.label}-to-epoch-{epoch}") / f"seed-{job.seed}"
        with self._wait_for(state):
            self._train_to(source, state, epoch)
            self._hand_over(job, state)

    @contextmanager
    def _wait_for(self, folder: Path) -> Iterator[None]:
        """Hold the lock of a folder; says so where another process has it and this one has to wait."""
        with claim(folder) as mine:
            if mine:
                yield
                return
        self.say(f"Waiting for {folder}, which another process holds …")
        with claim(folder, wait=True):
            yield

    def _hand_over(self, job: Job, state: Path) -> None:
        transfer = job.cell.transfer
        config = job.config(self.steps(job, self.experiment.epochs), len(self.images(job.cell.dataset)))
        self.say(start_transfer(state, job.folder(self.runs), config, weights=transfer.weights,
                                optimizer=transfer.optimizer, ema=transfer.ema))  # fmt: skip

    # ------------------------------------------------------------------------------ scores

    def scorer(self, dataset: str) -> Scorer:
        """What scores a data set's images, made once in a process."""
        if dataset not in self._scorers:
            self._scorers[dataset] = Scorer(
                self.images(dataset), self.images(dataset, "test"), self.experiment.n_images, device=self.device,
                features=self.experiment.features, cache=self.runs / "cache", **self.scorer_options,
            )  # fmt: skip
        return self._scorers[dataset]

    def _evaluate(self, job: Job, epoch: int) -> None:
        folder, path, run = self.state_at(job, epoch), job.result(self.results), job.folder(self.runs)
        about = self._about_run(job)
        begun = any(path.exists() for path in self._image_files(job, epoch))  # by a process whose time is not known
        clock = time.perf_counter()
        model = load_model(folder, ema=self.experiment.weights == "ema")
        drawn = self._draw(job, epoch, model)
        sampling, clock = time.perf_counter() - clock, time.perf_counter()
        scores = self.scorer(job.cell.dataset).scores(drawn, job.seed)
        begun |= describe_machine(self.device) != about["machine"]  # one machine a result: no times of another
        picture = path.with_name(f"{path.stem}-epoch-{epoch}.png")
        entry = Entry(
            step=self.steps(job, epoch), loss=recent_loss(run, self.steps(job, epoch)),
            scores={key: score.to_json() for key, score in scores.items()},
            sampling_seconds=None if begun else round(sampling, 1),
            scoring_seconds=round(time.perf_counter() - clock, 1), samples=picture.name,
            cnns=self.scorer(job.cell.dataset).cnn_seeds,
        )  # fmt: skip
        path.parent.mkdir(parents=True, exist_ok=True)
        write_picture(drawn[:SHOWN], picture)
        about["by_epoch"][epoch] = entry
        data = self.images(job.cell.dataset).source
        Result(job.settings(), count_parameters(model), data=data, **about).write(path)
        self.say(f"{job.name}, epoch {epoch}: " + ", ".join(f"{k} {s.value:.4g}" for k, s in scores.items()))

    def _about_run(self, job: Job) -> dict:
        """What a job's result says of its run: machine, seconds_per_step, versions, losses and the entries so far.

        ValueError where the result is of another run. Where nothing tells, what it says of its own run stays.
        """
        run, path = job.folder(self.runs), job.result(self.results)
        about = {"machine": trained_on(run), "seconds_per_step": seconds_per_step(run), "versions": versions(),
                 "losses": self._losses(job) or None, "by_epoch": {}}  # fmt: skip
        if not path.is_file():
            return about | {"machine": about["machine"] or describe_machine(self.device)}
        before = read_result(path)
        same = is_run_of(run, {entry.step: entry.loss for entry in before.by_epoch.values()})
        if same is False:
            raise ValueError(f"{path} tells of another run than the one in {run}: their losses differ. Move the result "
                             "away, or give --results another folder.")  # fmt: skip
        noted = {name: about[name] or getattr(before, name) for name in about} if same else {}
        about = {name: getattr(before, name) for name in about} | noted
        if about["machine"] != before.machine:  # one machine a result: no times of another
            about["by_epoch"] = {e: replace(one, sampling_seconds=None) for e, one in before.by_epoch.items()}
        return about

    def _add_losses(self, job: Job) -> None:
        """Give a result from before losses were kept those of its run, where that is still here."""
        path, folder = job.result(self.results), job.folder(self.runs)
        if not path.is_file() or not (folder / "loss.csv").is_file():
            return
        with claim(folder) as mine:
            result = read_result(path)
            known = {entry.step: entry.loss for entry in result.by_epoch.values()}
            if mine and result.losses is None and self.scored(job) and is_run_of(folder, known):
                check_run(folder, job, len(self.images(job.cell.dataset)))
                replace(result, losses=self._losses(job)).write(path)
                self.say(f"{job.name}: the losses of its epochs are in its result now.")

    def _losses(self, job: Job) -> dict[int, float]:
        last_steps = {epoch: self.steps(job, epoch) for epoch in range(self.experiment.epochs + 1)}
        return epoch_losses(job.folder(self.runs), last_steps)

    def _image_files(self, job: Job, epoch: int) -> tuple[Path, Path]:
        """Where a job's drawn images are kept, and the first batches of them until all are drawn."""
        e = self.experiment
        raw = "" if e.weights == "ema" else f"-{e.weights}"
        path = job.folder(self.runs) / f"drawn-{epoch}-{e.sampler}-{e.sampler_steps}{raw}.npz"
        return path, path.with_name(f"{path.stem}-to-step-{self.steps(job, epoch)}.part.npz")

    def _draw(self, job: Job, epoch: int, model) -> Tensor:
        """The job's images, drawn by its seed; kept in its folder, so that they can be scored again."""
        e = self.experiment
        path, part = self._image_files(job, epoch)
        about = json.dumps([e.n_images, e.sampler, e.sampler_steps, job.seed, fingerprint(model.state_dict())])
        if kept := read_npz(path, about):
            return torch.from_numpy(kept["images"])
        path.parent.mkdir(parents=True, exist_ok=True)  # not there yet where a shipped model is drawn from
        drawn = generate(model, e.n_images, sampler=e.sampler, steps=e.sampler_steps, seed=job.seed, part=part,
                         batch_size=self.batch_size, device=self.device, progress=self.progress)  # fmt: skip
        write_npz(path, images=drawn.numpy(), about=np.array(about))
        part.unlink(missing_ok=True)
        return drawn


def check_run(folder: Path, job: Job, n_images: int, data: str | None = None) -> None:
    """ValueError unless the run in a folder was trained as the job says, on these data if given, as far as it went."""
    info = run_info(folder)
    there = info["run_config"].get("data")
    if data is not None and there not in (None, data):
        raise ValueError(f"{folder} is not a run of {job.name}: it was trained on {there}, not on {data}.")
    if info["run_config"].get("bf16"):
        raise ValueError(f"{folder} is not a run of {job.name}: it was trained in bfloat16.")
    wanted = json.loads(json.dumps(asdict(job.config(max(1, info["step"]), n_images))))
    for name in ("preset", "dataset", "seed", "hybridization", "first_weights", "nudge", "model_options", "recipe"):
        here = info["run_config"].get(name)
        if here != wanted[name]:
            raise ValueError(f"{folder} is not a run of {job.name}: its {name} is {here!r}, not {wanted[name]!r}.")
