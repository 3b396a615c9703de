"""Lab 07: a hand-over of weights, what stays frozen, what is left of the start, and the control that it needs.

The copying itself is `qdm_lib.transfer.transfer_weights`, on dictionaries of tensors; a variant changes which names are
left alone, what an arm of the experiment is made of, and how the optimizer moves.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from qdm_labs.compare import agree, close, numbers
from qdm_labs.task import Lab, Mistake, Task, Unanswered
from qdm_labs.variant import Variant

RULES = {
    "begins with one of them": lambda name, words: name.startswith(tuple(words)),
    "has one of them as a part between its dots": lambda name, words: bool(set(name.split(".")) & set(words)),
    "ends with one of them": lambda name, words: name.endswith(tuple(words)),
}
Weights = dict[str, Tensor]


@dataclass(frozen=True)
class Conventions:
    """The choices of one variant."""

    rule: str  # a key of RULES: which names are left alone
    of_target: bool  # the share is one of the target's numbers, or of the source's
    momentum: float
    decay: float  # of the weights
    lower_is_better: bool


def conventions(variant: Variant) -> Conventions:
    """Draw them."""
    return Conventions(
        rule=variant.choice("rule", list(RULES)), of_target=variant.choice("share", [True, False]),
        momentum=variant.choice("momentum", [0.8, 0.9]), decay=variant.choice("decay", [0.01, 0.02, 0.05]),
        lower_is_better=variant.choice("lower", [True, False]),
    )  # fmt: skip


def text(v: Conventions) -> dict[str, str]:
    """The words of the variant."""
    return {
        "rule": v.rule,
        "share": "the **target**" if v.of_target else "the **source**",
        "momentum": str(v.momentum), "decay": str(v.decay),
        "direction": "lower" if v.lower_is_better else "higher",
        "words": str(list(_words(v))),
    }  # fmt: skip


def _words(v: Conventions) -> tuple[str, ...]:
    """What a vertex is called by this rule, in the example of the notebook."""
    if v.rule.startswith("ends"):
        return ("bias",)
    return ("vertex",) if v.rule.startswith("begins") else ("vertex_block1", "vertex_attention", "vertex_block2")


# ------------------------------------------------------------------------------------ right answers


def left_alone(v: Conventions, name: str, words) -> bool:
    """Whether a tensor of this name is not handed over."""
    return RULES[v.rule](name, words)


def copied(v: Conventions, source: Weights, target: Weights, words) -> list[str]:
    """The names that are handed over."""
    return [k for k, x in target.items()
            if k in source and source[k].shape == x.shape and not left_alone(v, k, words)]  # fmt: skip


def handed(v: Conventions, source: Weights, target: Weights, words) -> Weights:
    """The target afterwards."""
    names = copied(v, source, target, words)
    return {k: source[k] if k in names else x for k, x in target.items()}


def share(v: Conventions, source: Weights, target: Weights, words) -> float:
    """Handed-over numbers as a share of all."""
    whole = target if v.of_target else source
    return sum(target[k].numel() for k in copied(v, source, target, words)) / sum(x.numel() for x in whole.values())


def moved(v: Conventions, weights: Weights, gradients: Weights, velocity: Weights, words, rate: float):
    """(weights, velocity) after a step of the part that is not frozen."""
    free = [k for k in weights if not left_alone(v, k, words)]
    speed = {k: v.momentum * velocity[k] + gradients[k] + v.decay * weights[k] if k in free else x
             for k, x in velocity.items()}  # fmt: skip
    return {k: x - rate * speed[k] if k in free else x for k, x in weights.items()}, speed


def left(steps: int, every: int, decay: float) -> float:
    """The share of its start in an average that is renewed every few steps."""
    return decay ** (steps // every)


def control(arm: dict) -> dict:
    """The same arm with the source's model as target."""
    return {**arm, "target": arm["source"]}


def effect(v: Conventions, scores: dict) -> float:
    """How much more the hybrid gains by the hand-over than the classical model; positive is more."""
    sign = -1 if v.lower_is_better else 1
    gain = {m: scores[m, "handed over"] - scores[m, "from scratch"] for m in ("hybrid", "classical")}
    return sign * (gain["hybrid"] - gain["classical"])


# ------------------------------------------------------------------------------------------- tasks

hand_over = Task("hand_over", "A hand-over", "carry weights from one model to another", 20)
handed_share = Task("handed_share", "How much is handed over", "report what a hand-over did", 15)
frozen_step = Task("frozen_step", "A frozen body", "train a part of a model, and only that", 25)
start_left = Task("start_left", "What is left of the start", "see a hand-over's trace in an average", 10)
control_arm = Task("control_arm", "The control", "plan the arm that a hand-over is compared with", 15)
interaction = Task("interaction", "The circuits' own gain", "read an effect off four scores", 15)


def _models(v: Conventions, draw) -> tuple[Weights, Weights, tuple[str, ...]]:
    """Two state dicts that agree in most: other shapes, names of one only, names that nearly hold a word."""
    shapes = {
        "down.0.weight": (3, 2), "down.0.bias": (3,), "vertex.conv.weight": (2, 2), "vertex.conv.bias": (2,),
        "up.vertex.weight": (3,), "up.vertices.weight": (2,), "vertexnorm.scale": (4,), "up.norm.scale": (2,),
        "out.bias": (1,),
    }  # fmt: skip
    target = {k: draw.normal(*s) for k, s in shapes.items()}
    source = {k: draw.normal(*s) for k, s in shapes.items()}
    source["up.norm.scale"], source["down.1.weight"] = draw.normal(3), draw.normal(draw.whole(5, 15))
    target["vertex.circuit.theta"], target["time.weight"] = draw.normal(6), draw.normal(draw.whole(2, 12))
    names = draw.some(target, len(target))
    words = draw.choice([("bias",), ("weight",), ("scale", "bias")]) if v.rule.startswith("ends") else ("vertex",)
    return source, {k: target[k] for k in names}, words


def _vector(value, like: Weights, what: str) -> Tensor:
    """All tensors of a dictionary in the order of `like`."""
    if value is None:
        raise Unanswered("The function returns nothing; is a return missing?")
    if not isinstance(value, dict):
        raise Mistake(f"For {what} a dictionary is wanted, not {type(value).__name__}.")
    more, less = [k for k in value if k not in like], [k for k in like if k not in value]
    if more or less:
        which = f"{more[0]} is not one of the target's" if more else f"{less[0]} is missing"
        raise Mistake(f"{what[0].upper()}{what[1:]} has to have the target's names, and no others: {which}.")
    for k, x in like.items():
        if numbers(value[k], what=k).shape != x.shape:
            raise Mistake(f"{k} has changed its shape from {tuple(x.shape)} to {tuple(numbers(value[k]).shape)}; where "
                          "the shapes differ, the target keeps its own.")  # fmt: skip
    return torch.cat([numbers(value[k]).flatten() for k in like])


def _all(weights: Weights) -> Tensor:
    return torch.cat([x.flatten() for x in weights.values()])


def _other_rules(v: Conventions, result) -> list:
    """What comes out by the other rules for names."""
    return [(result(Conventions(**{**vars(v), "rule": rule})), f"A name is left alone if it {v.rule}; this takes those "
             f"where it {rule}.") for rule in RULES if rule != v.rule]  # fmt: skip


def hand_mistakes(v: Conventions, source: Weights, target: Weights, words):
    names = copied(v, source, target, words)
    fits = [k for k in target if k in source and source[k].shape == target[k].shape]
    loose = [k for k in fits if not any(word in k for word in words)]

    def only(chosen):
        return _all({k: source[k] if k in chosen else x for k, x in target.items()})

    return [
        (_all(target), "Nothing is handed over."),
        (only(fits), "What is to be left alone is handed over, too."),
        (only([k for k in fits if k not in names]), "This hands over what is to be left alone, and nothing else."),
        (_all({k: (x + source[k]) / 2 if k in names else x for k, x in target.items()}), "The two are averaged; the "
                                                                                        "source's are wanted."),
        *_other_rules(v, lambda other: _all(handed(other, source, target, words))),
        (only(loose), "Every name that holds the word anywhere is left alone; "
                      f"only where it {v.rule} should it be."),
    ]  # fmt: skip


@hand_over.has("hands over what fits, and leaves alone what it should", 2)
def _(answer, v, draw):
    for _ in range(2):
        source, target, words = _models(v, draw)
        got = _vector(answer(source, target, words), target, "the result")
        want = handed(v, source, target, words)
        agree(got, _all(want), hand_mistakes(v, source, target, words), "the target after the hand-over", 1e-9)


@hand_over.has("hands over everything that fits where nothing is excluded", 1)
def _(answer, v, draw):
    source, target, _ = _models(v, draw)
    got = _vector(answer(source, target, ()), target, "the result")
    agree(got, _all(handed(v, source, target, ())), [(_all(target), "Nothing is handed over.")],
          "the target after the hand-over", 1e-9)  # fmt: skip


@handed_share.has("is the share of numbers", 2)
def _(answer, v, draw):
    cases = [_models(v, draw) for _ in range(3)]
    right = torch.tensor([share(v, *case) for case in cases])
    other = Conventions(**{**vars(v), "of_target": not v.of_target})
    names = [copied(v, *case) for case in cases]
    tensors = [len(n) / len(target if v.of_target else source)
               for n, (source, target, _) in zip(names, cases, strict=True)]  # fmt: skip
    counts = [sum(target[k].numel() for k in n) for n, (_, target, _) in zip(names, cases, strict=True)]
    whose = "the target's" if v.of_target else "the source's"
    agree([answer(*case) for case in cases], right, what="the share", usual=[
        (torch.tensor([share(other, *case) for case in cases]), f"It is to be a share of {whose} numbers."),
        (torch.tensor(tensors), "Tensors are counted; a large tensor holds more numbers than a small one."),
        (torch.tensor(counts).double(), "This is the number of handed-over numbers; divide by all."),
        (1 - right, "This is the share that is not handed over."),
        (100 * right, "This is in per cent; a share is between 0 and 1."),
    ], tolerance=1e-6)  # fmt: skip


@handed_share.has("is right where nothing is excluded", 1)
def _(answer, v, draw):
    source, target, _ = _models(v, draw)
    agree(answer(source, target, ()), torch.tensor(share(v, source, target, ())), what="the share", tolerance=1e-6)


def _step(answer, v, draw, check_velocity: bool) -> None:
    _, weights, words = _models(v, draw)
    gradients, velocity = ({k: draw.normal(*x.shape) for k, x in weights.items()} for _ in range(2))
    rate = 0.1 + draw.uniform().item()
    value = answer(weights, gradients, velocity, words, rate)
    if value is None:
        raise Unanswered("The function returns nothing; is a return missing?")
    if not isinstance(value, tuple | list) or len(value) != 2:
        raise Mistake("Two dictionaries are wanted, the new weights and the new velocity.")
    new, speed = moved(v, weights, gradients, velocity, words, rate)
    froze = [k for k in weights if left_alone(v, k, words)]

    def stepped(speeds, of):
        return _all({k: weights[k] - rate * speeds[k] if k in of else weights[k] for k in weights})

    free = [k for k in weights if k not in froze]
    no_gradient = {
        k: v.momentum * velocity[k] + (0 if k in froze else gradients[k]) + v.decay * weights[k] for k in weights
    }
    no_decay = {k: v.momentum * velocity[k] + gradients[k] for k in weights}
    every = {k: no_decay[k] + v.decay * weights[k] for k in weights}
    drift = {k: v.momentum * velocity[k] if k in froze else every[k] for k in weights}
    usual = [
        (_all(weights), "Nothing moves."),
        (stepped(every, weights), "Everything moves, also what is to be frozen."),
        (stepped(every, froze), "The frozen part moves, and the other does not."),
        (
            stepped(no_gradient, weights),
            "The gradient of the frozen part is set to 0, but its velocity and the weight "
            "decay still move it; leave it out of the step altogether.",
        ),
        (
            stepped(drift, weights),
            "The velocity of the frozen part still moves it; leave it out of the step altogether.",
        ),
        (stepped(no_decay, free), "The weight decay is missing."),
        (stepped({k: gradients[k] + v.decay * weights[k] for k in weights}, free), "The momentum is missing."),
        (stepped({k: -x for k, x in every.items()}, free), "The step goes up the slope; it is subtracted."),
        *_other_rules(v, lambda other: _all(moved(other, weights, gradients, velocity, words, rate)[0])),
    ]
    agree(_vector(value[0], weights, "the new weights"), _all(new), usual, "the new weights", 1e-9)
    if check_velocity:
        got = _vector(value[1], weights, "the new velocity")
        usual = [
            (_all(every), "The velocity of the frozen part changes; it waits as it is."),
            (_all(velocity), "The velocity comes back as it went in."),
        ]
        agree(got, _all(speed), usual, "the new velocity", 1e-9)


@frozen_step.has("moves the free part, and not one frozen number", 2)
def _(answer, v, draw):
    for _ in range(2):
        _step(answer, v, draw, False)


@frozen_step.has("carries the velocity on", 1)
def _(answer, v, draw):
    _step(answer, v, draw, True)


@start_left.has("is right for whole numbers of renewals", 1)
def _(answer, v, draw):
    every, d = draw.choice([5, 10, 20]), 0.9 + 0.09 * draw.uniform().item()
    _left(answer, every * draw.whole(3, 30), every, d)


@start_left.has("counts a renewal only when it has happened", 1)
def _(answer, v, draw):
    every, d = draw.choice([5, 10, 20]), 0.9 + 0.09 * draw.uniform().item()
    _left(answer, every * draw.whole(2, 9) + every - 1, every, d)
    _left(answer, every - 1, every, d)


def _left(answer, steps: int, every: int, d: float) -> None:
    n = steps // every
    agree(answer(steps, every, d), torch.tensor(left(steps, every, d)), what=f"the share after {steps} steps", usual=[
        (d**steps, f"The average is renewed every {every} steps, not in each."),
        (1 - d**n, "This is the share of the new weights; what is left of the start is wanted."),
        (1 - n * (1 - d), "The shares multiply: every renewal takes a part of what is left."),
        (d ** (n + 1), "One renewal too many."),
        (d ** (steps / every), "A part of a renewal does not happen; count whole ones."),
        ((1 - d) ** n, "d is the share of the old average that stays, not 1 − d."),
    ], tolerance=1e-6)  # fmt: skip


FIELDS = ("source", "target", "vertex", "optimizer", "before", "after", "seed")


def _arm(draw) -> dict:
    """An arm with a hand-over to a hybrid."""
    return {"source": draw.choice(["unet", "unet-wide"]), "target": draw.choice(["1hqconv", "7fqconv", "fullhqconv"]),
            "vertex": draw.choice(["fresh", "fresh, narrow"]), "optimizer": draw.choice(["fresh", "carried over"]),
            "before": draw.whole(8, 18), "after": draw.whole(1, 6), "seed": draw.whole(0, 99)}  # fmt: skip


def _control(answer, draw) -> tuple[dict, dict]:
    arm = _arm(draw)
    value = answer(dict(arm))
    if value is None:
        raise Unanswered("The function returns nothing; is a return missing?")
    if not isinstance(value, dict) or set(value) != set(FIELDS):
        raise Mistake(f"An arm is a dictionary with {', '.join(FIELDS)}.")
    return arm, value


@control_arm.has("has the source's model as target", 1)
def _(answer, v, draw):
    for _ in range(3):
        arm, value = _control(answer, draw)
        if value == arm:
            raise Mistake("This is the arm itself; a control has no circuits.")
        if str(value["target"]) != arm["source"]:
            raise Mistake(f"From {arm['source']} to {arm['target']}: what would {arm['source']} itself do with the "
                          f"same hand-over? The control's target is that, not {value['target']}.")  # fmt: skip


@control_arm.has("differs in nothing else", 2)
def _(answer, v, draw):
    for _ in range(3):
        arm, value = _control(answer, draw)
        differ = [k for k in FIELDS if k != "target" and value[k] != arm[k]]
        why = {
            "vertex": "a classical target could keep its trained vertex, but the hybrid cannot: with a fresh one in "
            "one arm only, two things differ",
            "after": "both train equally long after the hand-over",
            "before": "both train equally long before the hand-over",
            "seed": "the same seed makes a pair",
            "optimizer": "the optimizer begins alike",
            "source": "both take their weights from the same model",
        }
        if differ:
            raise Mistake(f"The control differs in {differ[0]}, too: {why[differ[0]]}.")


@interaction.has("is the difference of the two gains", 2)
def _(answer, v, draw):
    for _ in range(2):
        a, b, c, d = (30 + 10 * draw.uniform(4)).tolist()
        scores = {("hybrid", "handed over"): a, ("hybrid", "from scratch"): b,
                  ("classical", "handed over"): c, ("classical", "from scratch"): d}  # fmt: skip
        sign = -1 if v.lower_is_better else 1
        agree(answer(a, b, c, d), torch.tensor(effect(v, scores)), what="the circuits' own gain", usual=[
            (-effect(v, scores), f"The sign is the other one: a {'lower' if v.lower_is_better else 'higher'} score is "
                                 "better, and a positive gain is a good one."),
            (sign * (a - b), "This is the hybrid's gain by the hand-over; the classical model gains by it, too, and "
                             "that is no merit of the circuits."),
            (sign * (a - c), "This compares hybrid and classical after the hand-over; they differ without one, too."),
            (sign * (a - d), "Two things differ between these two scores: the model and the hand-over."),
            (sign * (a - b + c - d), "The two gains are added; their difference is wanted."),
            (effect(v, scores) / 2, "This is half of it: the difference of the two gains is not divided."),
        ], tolerance=1e-6)  # fmt: skip


@interaction.has("is 0 where both gain alike", 1)
def _(answer, v, draw):
    a, b, gain = (30 + 10 * draw.uniform(3)).tolist()
    got = numbers(answer(a + gain, a, b + gain, b), (), "the circuits' own gain")
    if not close(got, torch.tensor(0.0), 1e-6):
        raise Mistake(f"Both gain {gain:.2f}, so the circuits add nothing; this says {got.item():.2f}.")


LAB = Lab(
    "07", "Transfer learning", conventions=conventions, text=text,
    tasks=(hand_over, handed_share, frozen_step, start_left, control_arm, interaction),
    forbidden=("qdm_lib.transfer.transfer_weights",),
)  # fmt: skip
