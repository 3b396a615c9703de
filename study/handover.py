"""Transfer learning with every choice at the hand-over made explicit (see `study.spec.Transfer`).

*Transfer* is the whole, the paper's word: train one model, hand over, train another on. The *hand-over* is the moment
between the two: which weights, moments and averages go from one model into the other.

The hybrid model takes all weights of a classical one but those of the vertex, and training goes on where the classical
run stood: same step counter, same next batches, same next noise. So a transfer differs from the run that was never
interrupted in what was handed over and in its new vertex, and in nothing else. (arXiv:2402.16147, section 5.)
"""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

import torch
from torch import nn

from qdm_lib.checkpoint import (
    Checkpoint,
    has_checkpoint,
    load_checkpoint,
    load_model,
    save_checkpoint,
    transfer_weights,
)
from qdm_lib.checks import choice
from qdm_lib.runs import VERTEX_STREAM, RunConfig
from qdm_lib.training import EMA, make_optimizer


def start_transfer(
    source: str | Path, target: str | Path, config: RunConfig, *, weights: str = "raw", optimizer: str = "restart",
    ema: str = "restart",
) -> str:  # fmt: skip
    """Write into the folder `target` the first checkpoint of a run that goes on from the run in `source`.

    config: of the target run. Its average starts from the weights at the hand-over; whether it then warms up again is
    the config's `recipe.ema_start`, counted in steps of the whole training. weights: "raw" or "ema". optimizer:
    "restart" or "warm". ema: "carry" takes the source's average for every weight that is handed over; "restart" and
    "warm" are the same here, as `ema_start` makes the difference. Returns what was copied, in words.

    Raises ValueError for other choices or a `target` that already holds a run; errors of `load_checkpoint`.
    """
    choice("kind of weights", weights, ("raw", "ema"))
    choice("hand-over of the optimizer", optimizer, ("restart", "warm"))
    choice("hand-over of the average", ema, ("restart", "warm", "carry"))
    if has_checkpoint(target):
        raise ValueError(f"{target} already holds a run; start the transfer in another folder.")
    saved = load_checkpoint(source)
    before, model = load_model(source, ema=weights == "ema"), target_model(config)
    report = transfer_weights(before, model)
    average, adam = EMA(model, config.recipe), make_optimizer(model, config.recipe)
    if ema == "carry":
        average.load_state_dict(average.state_dict() | {name: saved.ema[name] for name in report.copied})
    if optimizer == "warm":
        hand_over_adam(saved, before, model, adam, report.copied)
    noise = torch.Generator()
    noise.set_state(saved.rng["noise"])
    run_config = asdict(config) | {"data": saved.run_config.get("data")}
    save_checkpoint(target, model=model, ema=average, optimizer=adam, step=saved.step, run_config=run_config,
                    generators={"noise": noise}, schedule=saved.schedule)  # fmt: skip
    return str(report)


def target_model(config: RunConfig) -> nn.Module:
    """The model of a transfer before the hand-over: first weights as `config` draws them, from another seed."""
    return replace(config, seed=(config.seed + VERTEX_STREAM) % 2**31).build_model()


def hand_over_adam(
    saved: Checkpoint, before: nn.Module, model: nn.Module, adam: torch.optim.Adam, copied: tuple[str, ...]
) -> None:
    """Give Adam the saved moments and step count of every weight that was copied; the others start afresh."""
    places = {name: k for k, (name, _) in enumerate(p for p in before.named_parameters() if p[1].requires_grad)}
    for name, weight in model.named_parameters():
        if name in copied and name in places and weight.requires_grad:
            entries = ("step", "exp_avg", "exp_avg_sq")
            adam.state[weight] = {key: saved.optimizer[f"{places[name]}.{key}"].clone() for key in entries}
