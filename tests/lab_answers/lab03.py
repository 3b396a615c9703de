"""Lab 03: right answers in any variant, and at least three usual mistakes for each task."""

import math
from dataclasses import replace

from qdm_labs import lab03
from qdm_lib.circuits import Circuit, Gate, angle_encoding


def ansatz(v, strides=(1, 2, 3), last=True, weights_at_end="RY", encoded=12, extra=0, coupler=None):
    """RY on every wire and rings of joins with growing strides, in turns."""
    gates, k = angle_encoding(12)[:encoded], 0
    for stride in strides:
        for wire in range(12):
            gates.append(Gate("RY", (wire,), ("weight", k), 2 * math.pi))
            k += 1
        gates += [Gate(coupler or v.coupler, (w, (w + stride) % 12)) for w in range(12)]
    for wire in range(12 * last):
        gates.append(Gate(weights_at_end, (wire,), ("weight", k), 2 * math.pi))
        k += 1
    return Circuit(tuple(gates), 12, 12, k + extra, allow_dead_weights=True)


def right(v):
    """task -> a right answer."""
    return {
        "hqconv": lambda layers: lab03.hybrid(v, layers),
        "fqconv": lambda layers: lab03.quantum(v, layers),
        "components": lambda circuit: lab03.labelled(v, circuit),
        "schmidt": lambda psi, wires: lab03.cut(v, psi, wires),
        "light_cone": lambda circuit, wire: lab03.cone(circuit, wire)[v.cone],
        "own_ansatz": lambda: ansatz(v),
    }


def wrong(v):
    """task -> [(a usual mistake, words of the sentence that the student has to read)]."""
    wires = next(name for name in lab03.WIRES if name != v.wires)
    unit = next(name for name in lab03.UNITS if name != v.unit)
    measure = next(name for name in lab03.MEASURES if name != v.measure)

    def either(make):
        def changed(**change):
            return lambda layers: make(replace(v, **change), layers)

        return [
            (changed(turned=not v.turned), "exchanged in every join"),
            (changed(gates=v.gates[::-1]), "two kinds of gates are exchanged"),
            (changed(down=not v.down), "loops run the other way"),
            (changed(wires=wires), "on other wires"),
            (changed(unit=unit), "another unit"),
            (lambda layers: lab03.unscaled(make(v, layers)), "unit of the weights is missing"),
            (lambda layers: lab03.bare(make(v, layers)), "encoding is missing"),
            (lambda layers: make(v, 1), "one layer, whatever"),
            (lambda layers: lab03.shared(make(v, layers), make(v, 1).n_weights), "read the same weights"),
            (lambda layers: list(make(v, layers).gates), "A Circuit is wanted"),
            (lambda layers: make(v, layers + 1), "is right"),
        ]

    def unlimited(psi, wires):
        p = lab03.squares(v, psi, wires)
        return len(p), lab03.cut(v, psi, wires)[1]

    def at_front(psi, wires):
        return lab03.cut(replace(v, zero_first=True), psi, range(len(wires)))

    def unsquared(psi, wires):
        s = lab03.squares(v, psi, wires).clamp_min(0).sqrt()
        return lab03.cut(v, psi, wires)[0], lab03.MEASURES[v.measure](s)

    def mistaken_cone(k):
        return lambda circuit, wire: lab03.cone_mistakes(circuit, wire)[k][0][v.cone]

    def other_cone(circuit, wire):
        return lab03.cone(circuit, wire)["weights" if v.cone == "wires" else "wires"]

    return {
        "hqconv": [
            *either(lab03.hybrid),
            (lambda layers: lab03.hybrid(replace(v, stride=4 - v.stride), layers), "other side"),
            (lambda layers: lab03.hybrid(replace(v, pixel=0), layers), "as in the paper"),
            (lambda layers: lab03.hybrid(replace(v, gates=("CRZ", "CRX")), layers), "gates are the library's"),
            (lambda layers: lab03.without_b(v, layers), "is missing"),
            (lambda layers: lab03.b_first(v, layers), "comes after block A"),
            (lambda layers: lab03.b_turned(v, layers), "exchanged in block B"),
            (lambda layers: lab03.one_kind_first(v, layers), "follow one another"),
            (lambda layers: lab03.quantum(v, layers), "This is FQConv"),
        ],
        "fqconv": [
            *either(lab03.quantum),
            (lambda layers: lab03.quantum(replace(v, step=3 - v.step), layers), "joined channel is the other one"),
            (lambda layers: lab03.join_by_join(v, layers), "Both gates of a join follow one another"),
            (lambda layers: lab03.hybrid(v, layers), "This is HQConv"),
        ],
        "components": [
            (lambda circuit: lab03.labelled(replace(v, largest=not v.largest), circuit), "is named after its"),
            (lambda circuit: lab03.one_pass(v, circuit), "One pass over the gates"),
            (lambda circuit: lab03.neighbours(v, circuit), "through a third"),
            (lambda circuit: lab03.along_arrows(v, circuit), "both directions"),
            (lambda circuit: len(set(lab03.labelled(v, circuit))), "has shape ()"),
        ],
        "schmidt": [
            (unlimited, "count those above 1e-9"),
            (at_front, "the first axes"),
            (lambda psi, wires: lab03.cut(replace(v, zero_first=not v.zero_first), psi, wires), "the other end"),
            (lambda psi, wires: lab03.cut(replace(v, measure=measure), psi, wires), "asked for here is"),
            (unsquared, "p_j is their square"),
            (lambda psi, wires: lab03.cut(v, psi, wires)[0], "Two values are wanted"),
        ],
        "light_cone": [
            (mistaken_cone(0), "from the last gate to the first"),
            (mistaken_cone(1), "the whole component"),
            (mistaken_cone(2), "on the wire itself"),
            (mistaken_cone(3), "where its target is in the cone"),
            (mistaken_cone(4), "what moves the output in fact"),
            (other_cone, f"its {v.cone} are wanted"),
        ],
        "own_ansatz": [
            (lambda: ansatz(v, strides=(2, 4), last=False), "several components"),
            (lambda: ansatz(v, encoded=11), "Inputs 11 feed no gate"),
            (lambda: ansatz(v, weights_at_end="RZ"), "no ⟨Z⟩ sees it"),
            (lambda: ansatz(v, extra=1), "feed no gate"),
            (lambda: ansatz(v, coupler="SWAP"), "may join them"),
            (lambda: ansatz(v, strides=(1, 2, 3) * 3), "weights are allowed"),
            (lambda: lab03.hybrid(v, 2), "may join them"),
            (lambda: ansatz(v, strides=(), last=True), "several components"),
        ],
    }  # fmt: skip
