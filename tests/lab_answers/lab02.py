"""Lab 02: right answers in any variant, and at least three usual mistakes for each task."""

import math
from dataclasses import replace

import torch

from qdm_labs import lab02
from qdm_labs.lab02 import SHIFTS, SPREADS, UNITS

PI = math.pi


def signs(v, n, wires):
    """±1 for each of the 2**n strings of bits: the product over the wires."""
    total = torch.ones([2] * n)
    for wire in wires:
        axis = wire if v.zero_first else n - 1 - wire
        total = total * torch.tensor([1.0, -1.0]).reshape([2 if a == axis else 1 for a in range(n)])
    return total.flatten()


def estimate(v, power=2, spread=None, scale=1.0, wires=None):
    def shot_estimate(state, pair, shots, generator):
        p = state.abs() ** power
        n = int(math.log2(len(state)))
        drawn = torch.multinomial(p, shots, replacement=True, generator=generator)
        m = scale * signs(v, n, wires(pair) if wires else pair)[drawn].mean().item()
        return m, (spread or SPREADS[v.spread])(m, shots)

    return shot_estimate


def right(v):
    """task -> a right answer."""
    u, s = UNITS[v.unit], SHIFTS[v.shifts]
    c = lab02.coefficients(s)
    return {
        "rotation": lambda axis, angle: lab02.turned(v, axis, angle),
        "apply_gate": lambda state, U, wire: lab02.applied(v, state, U, wire),
        "apply_controlled": lambda state, U, control, target: lab02.applied(v, state, U, control, target),
        "run_circuit": lambda circuit, x, theta: lab02.ran(v, circuit, x, theta),
        "two_term": lambda f, theta: lab02.by_two(f, theta, u),
        "four_term": lambda f, theta: lab02.by_four(f, theta, u, s, c),
        "needs_four": lab02.by_criterion,
        "shot_estimate": estimate(v),
    }


def by_differences(f, theta):
    h = 1e-4
    return (lab02.shifted(f, theta, h) - lab02.shifted(f, theta, -h)) / (2 * h)


def in_place(v):
    def apply_gate(state, U, wire):
        state.copy_(lab02.applied(v, state, U, wire))
        return state

    return apply_gate


def controlled(circuit):
    return [g.param[1] for g in circuit.gates if g.controls]


def looks_back(circuit):
    return [g.param[1] for k, g in enumerate(circuit.gates)
            if g.controls and any(g.controls[0] in e.targets for e in circuit.gates[circuit.n_inputs : k])]  # fmt: skip


def wrong(v):
    """task -> [(a usual mistake, words of the sentence that the student has to read)]."""
    u, s = UNITS[v.unit], SHIFTS[v.shifts]
    c = lab02.coefficients(s)
    end, bit = replace(v, zero_first=not v.zero_first), replace(v, control_on=1 - v.control_on)
    ran, applied, turned = lab02.ran, lab02.applied, lab02.turned

    def scaled(circuit):
        return replace(circuit, gates=tuple(replace(g, scale=1.0) for g in circuit.gates))

    def without_controls(circuit):
        return replace(circuit, gates=tuple(replace(g, name=g.name[1:], wires=g.targets) if g.controls else g
                                            for g in circuit.gates))  # fmt: skip

    def front(state, U, wire):
        n = int(math.log2(len(state)))
        axis = wire if v.zero_first else n - 1 - wire
        return torch.tensordot(U, state.reshape([2] * n), ([1], [axis])).flatten()

    return {
        "rotation": [
            (lambda axis, angle: turned(v, axis, 2 * angle), "not halved"),
            (lambda axis, angle: turned(v, axis, -angle), "sign in the exponent"),
            (lambda axis, angle: turned(v, axis, angle / 180 * PI), "radians"),
            (lambda axis, angle: turned(v, axis, angle).real + turned(v, axis, angle).imag, "imaginary unit"),
            (lambda axis, angle: turned(v, axis, torch.tensor(angle.item())), "Autograd finds no way"),
        ],
        "apply_gate": [
            (lambda state, U, wire: applied(end, state, U, wire), "other end"),
            (lambda state, U, wire: applied(v, state, U.T, wire), "transposed"),
            (lambda state, U, wire: applied(v, state, U.mH, wire), "adjoint"),
            (front, "moved to the front"),
            (lambda state, U, wire: applied(v, state, U, wire).abs() ** 2, "probabilities"),
            (lambda state, U, wire: applied(v, state, U, wire).real, "imaginary parts are lost"),
            (lambda state, U, wire: state, "as it went in"),
            (in_place(v), "overwritten"),
            (lambda state, U, wire: applied(v, state, U, wire).reshape(2, -1).T, "has shape"),
        ],
        "apply_controlled": [
            (lambda state, U, a, b: applied(v, state, U, b), "whatever the control is"),
            (lambda state, U, a, b: applied(bit, state, U, a, b), "bit is"),
            (lambda state, U, a, b: applied(v, state, U, b, a), "exchanged"),
            (lambda state, U, a, b: applied(end, state, U, a, b), "other end"),
        ],
        "run_circuit": [
            (lambda circuit, x, theta: ran(v, scaled(circuit), x, theta), "scale is left out"),
            (lambda circuit, x, theta: ran(v, without_controls(circuit), x, theta), "controls are ignored"),
            (lambda circuit, x, theta: ran(bit, circuit, x, theta), "wrong bit"),
            (lambda circuit, x, theta: (1 - ran(v, circuit, x, theta)) / 2, "P(1) of each wire"),
            (lambda circuit, x, theta: ran(v, circuit, x, theta).flip(0), "reversed order"),
            (lambda circuit, x, theta: ran(v, circuit, x, theta).numpy(force=True), "Autograd finds no way"),
        ],
        "two_term": [
            (lambda f, t: 2 * lab02.by_two(f, t, u), "Twice too large"),
            (lambda f, t: lab02.by_two(f, t, u) / u, "chain rule is missing"),
            (lambda f, t: -lab02.by_two(f, t, u), "sign is the other one"),
            (lambda f, t: (lab02.shifted(f, t, PI / 2) - lab02.shifted(f, t, -PI / 2)) / 2, "weights themselves"),
            (by_differences, "finite differences"),
            (lambda f, t: lab02.by_four(f, t, u, s, c), "6 are enough"),
        ],
        "four_term": [
            (lambda f, t: lab02.by_two(f, t, u), "two-term rule"),
            (lambda f, t: lab02.by_four(f, t, u, s, c) / u, "chain rule is missing"),
            (lambda f, t: lab02.by_four(f, t, u, s, [2 * k for k in c]), "Twice too large"),
            (lambda f, t: lab02.by_four(f, t, u, s, [c[0], -c[1]]), "wrong sign"),
            (lambda f, t: u * lab02.by_four(f, t, 1, s, c), "weights themselves"),
            (by_differences, "finite differences"),
        ],
        "needs_four": [
            (controlled, "all controlled gates"),
            (lambda circuit: set(range(circuit.n_weights)) - lab02.by_criterion(circuit), "two terms are enough"),
            (looks_back, "gates before"),
        ],
        "shot_estimate": [
            (lambda state, wires, shots, g: (lab02.parity(v, state, wires), 0.1), "exact value"),
            (estimate(v, power=1), "not |amplitude|"),
            (estimate(end), "other end"),
            (estimate(v, scale=-1), "equal bits count +1"),
            (estimate(v, wires=lambda pair: pair[:1]), "Only the first"),
            (estimate(v, spread=lambda m, n: math.sqrt(1 - m * m)), "spread of one shot"),
            (estimate(v, spread=lambda m, n: 1.96 * math.sqrt(1 - m * m)), "spread of one shot"),
            (estimate(v, spread=lambda m, n: math.sqrt(1 - m * m) / n), "not with N"),
            (lambda state, wires, shots, g: estimate(v)(state, wires, shots, None), "same generator"),
        ],
    }  # fmt: skip
