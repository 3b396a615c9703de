"""Lab 07: right answers in any variant, and at least three usual mistakes for each task."""

from dataclasses import replace

import torch

from qdm_labs import lab07


def right(v):
    """task -> a right answer."""

    def interaction(a, b, c, d):
        return ((b - a) - (d - c)) if v.lower_is_better else ((a - b) - (c - d))

    return {
        "hand_over": lambda source, target, words: lab07.handed(v, source, target, words),
        "handed_share": lambda source, target, words: lab07.share(v, source, target, words),
        "frozen_step": lambda w, g, s, words, rate: lab07.moved(v, w, g, s, words, rate),
        "start_left": lab07.left,
        "control_arm": lab07.control,
        "interaction": interaction,
    }


def wrong(v):
    """task -> [(a usual mistake, words of the sentence that the student has to read)]."""
    other = replace(v, rule=next(r for r in lab07.RULES if r != v.rule))
    ends = v.rule.startswith("ends")  # no name begins with the words of that rule, so nothing is left alone
    sign = -1 if v.lower_is_better else 1

    def fits(source, target, words):
        return lab07.handed(v, source, target, ())

    def all_names(source, target, words):
        return {**target, **{k: x for k, x in source.items() if not lab07.left_alone(v, k, words)}}

    def own_shapes(source, target, words):
        return {k: source.get(k, x) if not lab07.left_alone(v, k, words) else x for k, x in target.items()}

    def zero_gradient(w, g, s, words, rate):
        zeros = {k: torch.zeros_like(x) if lab07.left_alone(v, k, words) else x for k, x in g.items()}
        return lab07.moved(v, w, zeros, s, ["nothing of this name"], rate)

    def all_speeds(w, g, s, words, rate):
        return lab07.moved(v, w, g, s, words, rate)[0], lab07.moved(v, w, g, s, ["nothing of this name"], rate)[1]

    return {
        "hand_over": [
            (fits, "is handed over, too"),
            (all_names, "not one of the target's"),
            (own_shapes, "changed its shape"),
            (lambda source, target, words: lab07.handed(other, source, target, words),
             "handed over, too" if ends else "A name is left alone if it"),
            (lambda source, target, words: source, "no others"),
        ],
        "handed_share": [
            (lambda *a: lab07.share(replace(v, of_target=not v.of_target), *a), "share of"),
            (lambda *a: 1 - lab07.share(v, *a), "not handed over"),
            (lambda *a: 100 * lab07.share(v, *a), "per cent"),
            (lambda *a: len(lab07.copied(v, *a)) / len(a[1] if v.of_target else a[0]), "Tensors are counted"),
        ],
        "frozen_step": [
            (zero_gradient, "set to 0"),
            (lambda w, g, s, words, rate: lab07.moved(v, w, g, s, ["nothing of this name"], rate), "Everything moves"),
            (lambda w, g, s, words, rate: lab07.moved(replace(v, decay=0.0), w, g, s, words, rate), "decay is missing"),
            (all_speeds, "waits as it is"),
            (lambda w, g, s, words, rate: lab07.moved(other, w, g, s, words, rate),
             "Everything moves" if ends else "A name is left alone if it"),
        ],
        "start_left": [
            (lambda steps, every, d: d**steps, "not in each"),
            (lambda steps, every, d: 1 - d ** (steps // every), "share of the new weights"),
            (lambda steps, every, d: 1 - (steps // every) * (1 - d), "multiply"),
            (lambda steps, every, d: d ** (steps / every), "count whole ones"),
        ],
        "control_arm": [
            (lambda arm: arm, "the arm itself"),
            (lambda arm: {**lab07.control(arm), "vertex": "trained"}, "two things differ"),
            (lambda arm: {**lab07.control(arm), "after": 0}, "equally long after"),
            (lambda arm: {**arm, "source": arm["target"]}, "control's target"),
        ],
        "interaction": [
            (lambda a, b, c, d: sign * (a - b), "the classical model gains by it, too"),
            (lambda a, b, c, d: sign * (a - c), "differ without one, too"),
            (lambda a, b, c, d: sign * (a - d), "Two things differ"),
            (lambda a, b, c, d: -sign * (a - b - c + d), "sign is the other one"),
        ],
    }  # fmt: skip
