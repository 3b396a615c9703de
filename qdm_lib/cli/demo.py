"""The first run: train a small hybrid model for a few minutes, draw with it, score what it drew."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

from qdm_lib import runs
from qdm_lib.checkpoint import has_checkpoint, load_model
from qdm_lib.checks import whole
from qdm_lib.cli.words import command
from qdm_lib.data import load_images
from qdm_lib.plots import film_strip, image_grid, loss_curve, save_figure, score_table
from qdm_lib.training import TrainConfig

PRESET, DATASET = "1hqconv", "fashion-mnist"
DEMO_STEPS = 340
DEMO_EMA = 0.9  # averages over about 100 steps; the recipe's 0.995, about 2,000, would still remember the first weights
REFERENCE = 10_000  # real images to compare with: more change the scores little and take longer
OWN_FILES = (  # as they are deleted: last a checkpoint (of version 1, of version 2), which tells that this is a demo
    "samples.png", "film_strip.png", "loss.png", "scores.json", "loss.csv", "state-*.safetensors", "checkpoint.json",
    "checkpoint.safetensors",
)  # fmt: skip


def run_demo(
    out: str | Path = "runs/demo",
    *,
    steps: int | None = None,
    seed: int | None = None,
    fresh: bool = False,
    n: int = 64,
    sampler_steps: int = 50,
    batch_size: int | None = None,
) -> dict:
    """Train, draw, score, and print where everything is; returns the scores.

    A demo that was stopped goes on where it was. A finished one is not trained again: it draws and scores anew.
    fresh=True deletes what an earlier demo left in the folder, and nothing else, and starts over.
    steps, seed, batch_size: None means 340, 0 and 128, or those of the demo that is in the folder. ValueError for
    another seed or batch size than that demo's, and the errors of `train_run`.
    """
    out, began = Path(out), time.perf_counter()
    whole("n", n, 2, 2500)
    runs.check_sampler("ddim", sampler_steps)
    config = _config(out, steps, seed, batch_size, fresh)
    if fresh and has_checkpoint(out):
        with runs.sole_user(out):
            _remove_earlier(out)
    resume = has_checkpoint(out)
    if resume:
        done = runs.run_info(out)["step"]
        rest = "draw and score again" if done >= config.steps else f"go on to step {config.steps:,}"
        print(f"{out} holds a demo at step {done:,}: {rest}. (--fresh starts over.)")
    images, held_out = load_images(DATASET, "train"), load_images(DATASET, "test")
    trained = runs.train_run(config, out, resume=resume, save_every=100, images=images)

    clock = time.perf_counter()
    model, film = load_model(out), runs.Film()
    drawn = runs.generate(model, n, steps=sampler_steps, seed=config.seed, on_state=film)
    drawing, clock = time.perf_counter() - clock, time.perf_counter()
    print("Scoring …")
    about = {
        "preset": PRESET, "dataset": DATASET, "step": trained.last_step, "sampler": "ddim",
        "sampler_steps": sampler_steps, "seed": config.seed,
    }  # fmt: skip
    scores = runs.score_to_json(out / "scores.json", drawn, images, held_out, about, max_reference=REFERENCE)
    scoring = time.perf_counter() - clock

    save_figure(image_grid(drawn), out / "samples.png")
    save_figure(film_strip(film.states), out / "film_strip.png")
    numbers, losses = runs.read_losses(out)
    save_figure(loss_curve(losses, steps=numbers), out / "loss.png")
    made = trained.last_step - trained.first_step
    each = f", {trained.seconds / made:.2f} s each" if made else ""
    print(f"\nDone in {_minutes(time.perf_counter() - began)}: {made:,} training steps in {_minutes(trained.seconds)}"
          f"{each}; {n} images in {_minutes(drawing)}; scores in {_minutes(scoring)}.")  # fmt: skip
    print(_where(out, n, trained.last_step))
    print(score_table(scores))
    print(_next(out, trained.last_step))
    return scores


def _config(out: Path, steps: int | None, seed: int | None, batch_size: int | None, fresh: bool) -> runs.RunConfig:
    recipe = TrainConfig(batch_size=128 if batch_size is None else batch_size, ema_decay=DEMO_EMA)
    config = runs.RunConfig(PRESET, DATASET, recipe=recipe, steps=DEMO_STEPS if steps is None else steps,
                            seed=0 if seed is None else seed)  # fmt: skip
    if not has_checkpoint(out):
        return config
    there = runs.saved_config(out)
    if (there.preset, there.dataset, there.recipe.ema_decay) != (PRESET, DATASET, DEMO_EMA):
        raise ValueError(f"{out} holds a run of {there.preset} on {there.dataset}, no demo; choose another --out.")
    if fresh:
        return config
    for what, asked, own in (("seed", seed, there.seed), ("batch size", batch_size, there.recipe.batch_size)):
        if asked not in (None, own):
            raise ValueError(f"{out} holds a demo of {what} {own}; start over with --fresh or choose another --out.")
    return there if steps is None else replace(there, steps=steps)


def _remove_earlier(out: Path) -> None:
    """Delete what an earlier demo left, and nothing else; `_config` has looked whether it was one."""
    for pattern in OWN_FILES:
        for file in out.glob(pattern):
            file.unlink()


def _minutes(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{seconds:.0f} s" if seconds < 100 else f"{minutes} min {rest} s"


def _where(out: Path, n: int, step: int) -> str:
    return f"""
  {out / "samples.png"}     {n} images the model drew: open this first
  {out / "film_strip.png"}  how three of them came out of noise
  {out / "loss.png"}        the training loss (numbers: loss.csv)
  {out / "scores.json"}     the scores below, with all they depend on
  {out / "checkpoint.safetensors"}  the model after {step:,} steps
"""


def _next(out: Path, step: int) -> str:
    return f"""
Next:
  make lab                                    the course, from notebooks/00_welcome.ipynb on
  {command("train", "--resume", "--out", out, "--steps", 4 * step)}   train longer: better clothes
  {command("sample", "--checkpoint", out, "--n", 16, "--seed", 1, "--out", "more.png")}"""
