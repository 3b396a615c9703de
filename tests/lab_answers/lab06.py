"""Lab 06: right answers in any variant, and at least three usual mistakes for each task."""

from dataclasses import replace

import torch

from qdm_labs import lab06


def mixed(old, new, share):
    return {k: share * old[k] + (1 - share) * new[k] for k in old}


def right(v):
    """task -> a right answer."""
    return {
        "ema_decay": lambda step: lab06.decay(v, step),
        "ema_update": lambda old, new, step: lab06.averaged(v, old, new, step),
        "train_steps": lambda state, gradient, steps: lab06.trained(v, state, gradient, steps),
        "time_grid": lambda T, steps: lab06.visited(v, T, steps),
        "ddim_step": lambda x, eps, a, b, eta, z: lab06.stepped(v, x, eps, a, b, eta, z),
        "ddim_sample": lambda model, abar, x, steps, eta, g: lab06.sampled(v, model, abar, x, steps, eta, g),
    }


def wrong(v):
    """task -> [(a usual mistake, words of the sentence that the student has to read)]."""
    other_grid = replace(v, grid=next(g for g in lab06.GRIDS if g != v.grid))
    other_noise = replace(v, anew=not v.anew)

    def d(step):
        return lab06.decay(v, step)

    def forgets(part):
        return lambda state, gradient, steps: lab06.trained(v, state, gradient, steps, part)

    def keeps_generator(state, gradient, steps):
        return {**lab06.trained(v, state, gradient, steps), "generator": state["generator"]}

    def step_mistake(k):
        return lambda *point: lab06.step_mistakes(v, *point)[k][0]

    def twice(model, abar, x, steps, eta, g):
        model(x, len(abar) - 1)
        return lab06.sampled(v, model, abar, x, steps, eta, g)

    return {
        "ema_decay": [
            (lambda step: 1 - d(step), "shares, 1 − d"),
            (lambda step: v.most, "grows to that"),
            (lambda step: min(v.most, 1 - max(1, step) ** -v.power), "counted from the beginning"),
            (lambda step: 0.0 if step <= v.start else 1 - (step - v.start) ** -v.power, "not held at"),
        ],
        "ema_update": [
            (lambda old, new, step: mixed(old, new, 1 - d(step)), "exchanged"),
            (lambda old, new, step: mixed(old, new, d(step)), "stays as it is"),
            (lambda old, new, step: new, "are copied"),
            (lambda old, new, step: lab06.averaged(v, old, new, step - 1), "left alone"),
            (lambda old, new, step: mixed(old, new, v.most), "not always"),
            (lambda old, new, step: list(new.values()), "dictionary"),
        ],
        "train_steps": [
            (forgets("velocity"), "velocity starts from 0"),
            (forgets("average"), "average starts from the weights"),
            (forgets("step"), "warms up again"),
            (forgets("generator"), "seeded anew"),
            (keeps_generator, "not the one after these draws"),
        ],
        "time_grid": [
            (lambda T, steps: lab06.visited(other_grid, T, steps), "distances are others"),
            (lambda T, steps: lab06.visited(v, T, steps)[::-1], "order is the other one"),
            (lambda T, steps: lab06.visited(v, T + 1, steps), "T − 1"),
            (lambda T, steps: lab06.visited(v, T, steps + 1), "one step too many"),
        ],
        "ddim_step": [
            (step_mistake(0), "After clamping"),
            (step_mistake(1), "not clamped"),
            (step_mistake(2), "−σ² is missing"),
            (step_mistake(3), "σ·z is missing"),
            (step_mistake(6), "under a root"),
            (step_mistake(9), "no factor eta"),
        ],
        "ddim_sample": [
            (lambda m, abar, x, n, eta, g: lab06._before_last(v, m, abar, x, n, eta, g), "not asked at the last step"),
            (lambda m, abar, x, n, eta, g: lab06.sampled(v, m, abar, x, n, 0.0, g), "eta has no effect"),
            (lambda m, abar, x, n, eta, g: lab06.sampled(other_grid, m, abar, x, n, eta, g), "asked at the steps"),
            (lambda m, abar, x, n, eta, g: lab06.sampled(other_noise, m, abar, x, n, eta, g), "other noise"),
            (twice, "once each"),
            (lambda m, abar, x, n, eta, g: lab06.sampled(v, m, abar, x, n, eta, torch.Generator().manual_seed(0)),
             "not drawn from the generator"),
        ],
    }  # fmt: skip
