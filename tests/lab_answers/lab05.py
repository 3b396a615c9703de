"""Lab 05: right answers in any variant, and at least three usual mistakes for each task."""

from dataclasses import replace

import torch

from qdm_labs import lab05


def right(v):
    """task -> a right answer."""
    return {
        "time_embedding": lambda t, dim: lab05.embedded(v, t, dim),
        "linear_attention": lambda qkv, heads: lab05.attended(v, qkv, heads),
        "hybrid_count": lambda *case: lab05.counted(v, *case),
        "hybrid_conv": lambda *case: lab05.convolved(v, *case),
        "ablation": lambda *case: lab05.table(v, *case),
    }


def silenced(v, stand_in, row):
    """The right table, with one row made by another stand-in."""

    def ablation(model, x, draws):
        y = model(x)
        return {**lab05.table(v, model, x, draws), row: lab05.change(v, stand_in(model, x), y)}

    return ablation


def hooks_left_on(v):
    """The zeros stay for the later rows."""

    def ablation(model, x, draws):
        zeros = lab05.table(v, model, x, draws)["zeros"]
        return dict.fromkeys(lab05.ROWS, zeros)

    return ablation


def wrong(v):
    """task -> [(a usual mistake, words of the sentence that the student has to read)]."""
    order = next(o for o in lab05.QKV if o != v.qkv)
    wires = [o for name, o in lab05.WIRES.items() if name != v.wires]
    place = next(p for p in lab05.PLACES if p != v.place)
    measure = next(c for c in lab05.CHANGES if c != v.change)
    summary = next(s for s in lab05.SUMMARIES if s != v.summary)

    def embedding(**other):
        return lambda t, dim: lab05.embedded(replace(v, **other), t, dim)

    def attention(**other):
        return lambda qkv, heads: lab05.attended(replace(v, **other), qkv, heads)

    def full(qkv, heads):
        q, k, value = lab05.thirds(v, qkv, heads)
        weights = (q.mT @ k / q.shape[-2] ** 0.5).softmax(-1)
        return lab05.joined(v, value @ weights.mT, qkv)

    def count(**other):
        return lambda *case: lab05.counted(replace(v, **other), *case)

    def conv(**how):
        return lambda *case: lab05.convolved(v, *case, **how)

    def first_weights(x, circuit, theta, rest):
        return lab05.convolved(v, x, circuit, theta[:1].expand_as(theta), rest)

    def table(**other):
        return lambda *case: lab05.table(replace(v, **other), *case)

    return {
        "time_embedding": [
            (embedding(cosine_first=not v.cosine_first), "exchanged"),
            (embedding(alternating=not v.alternating), "laid out the other way"),
            (embedding(inclusive=not v.inclusive), "The last frequency is wrong"),
            (embedding(base=10000), "the library's"),
            (lambda t, dim: lab05.embedded(v, t / 1000, dim), "divided by 1000"),
            (lambda t, dim: lab05.embedded(v, t.long(), dim), "rounded to whole steps"),
        ],
        "linear_attention": [
            (attention(qkv=order), "in this order"),
            (attention(sharpness=1.0), "before their softmax"),
            (attention(head_first=not v.head_first), "hold other channels"),
            (lambda qkv, heads: lab05.attended(v, qkv, heads) * (qkv.shape[1] / 3 / heads) ** 0.5, "1/√d"),
            (lambda qkv, heads: lab05.attended(v, qkv, heads) * qkv.shape[2] * qkv.shape[3], "division by the number"),
            (full, "full attention"),
            (lambda qkv, heads: lab05.attended(v, qkv, heads).detach(), "Autograd finds no way"),
        ],
        "hybrid_count": [
            (count(sees_all=not v.sees_all), "the circuits reads"),
            (count(bias=not v.bias), "a bias"),
            (count(shared=not v.shared), "counted once" if v.shared else "of its own"),
            (lambda classical, *case: lab05.counted(v, classical, *case) - classical, "difference to the classical"),
            (lambda a, b, n, circuit: lab05.counted(v, a, b, n, circuit)
             - (2 if v.shared else 4) * n * circuit.n_weights, "own weights are missing"),
        ],
        "hybrid_conv": [
            (conv(order=wires[0]), "on other wires"),
            (conv(order=wires[1]), "on other wires"),
            (conv(back=False), "another order"),
            (first_weights, "has its own row"),
            (lambda *case: lab05.convolved(replace(v, place=place), *case), "Other channels are quantum"),
            (lambda *case: lab05.convolved(replace(v, dealt=not v.dealt), *case), "another way"),
            (lambda x, circuit, theta, rest: lab05.convolved(v, x, circuit, theta.detach(), rest), "Autograd"),
        ],
        "ablation": [
            (table(change=measure), "is measured as"),
            (table(by_image=not v.by_image), "whole batch at once"),
            (table(summary=summary), "over the random weights"),
            (silenced(v, lambda model, x: lab05.replaced(model, x, lambda given, z: z.cos()), "cos"),
             "what the circuits answer"),
            (silenced(v, lambda model, x: lab05.replaced(model, x, lambda given, z: 0 * z, slice(1)), "zeros"),
             "Only the first layer"),
            (silenced(v, lambda model, x: lab05.with_weights(
                model, x, [torch.zeros_like(m.theta) for m in lab05.layers(model)]), "zeros"), "weights are zero"),
            (hooks_left_on(v), "still act"),
        ],
    }  # fmt: skip
