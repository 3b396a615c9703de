"""Lab 02: a simulator of circuits, shift rules for its gradients, and an estimator from shots.

Right answers come from `qdm_lib.simulator`, translated into the conventions of the variant. Variants change which wire
is the first axis, the sign in the exponent, the bit on which a control acts, the shifts of the four-term rule, the unit
of the weights, and the measure of the spread.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from qdm_labs.compare import agree, close, numbers, pair
from qdm_labs.task import Lab, Mistake, Task
from qdm_labs.variant import Variant
from qdm_lib.circuits import Circuit, Gate
from qdm_lib.simulator import apply_matrix, expval_z, simulate, statevector
from qdm_lib.simulator import rotation as rotation_matrix

PI = math.pi
SHIFTS = {"π/2 and 3π/2": (PI / 2, 3 * PI / 2), "π/2 and π": (PI / 2, PI), "π/3 and π": (PI / 3, PI),
          "π/3 and 2π/3": (PI / 3, 2 * PI / 3), "2π/3 and π": (2 * PI / 3, PI)}  # fmt: skip
UNITS = {"turns (the angle is 2π times the weight)": 2 * PI, "half turns (the angle is π times the weight)": PI}
X = torch.tensor([[0, 1], [1, 0]], dtype=torch.complex128)


@dataclass(frozen=True)
class Conventions:
    """The choices of one variant."""

    zero_first: bool  # wire 0 is the first axis (its bit counts most); else the last
    sign: int  # of i·φ/2·P in the exponent: −1 as in most books, or +1
    control_on: int  # the bit of the control on which the gate acts
    axes: str  # of the rotations in the circuits
    shifts: str  # of the four-term rule, a key of SHIFTS
    unit: str  # of the weights, a key of UNITS
    spread: str  # what shot_estimate returns beside the mean

    @property
    def gate_names(self) -> list[str]:
        return [f"R{a}" for a in self.axes] + [f"CR{a}" for a in self.axes]


SPREADS = {
    "the standard error, √((1 − m²)/N)": lambda m, n: math.sqrt(max(0.0, 1 - m**2) / n),
    "half the width of the 95 % interval, 1.96·√((1 − m²)/N)": lambda m, n: 1.96 * math.sqrt(max(0.0, 1 - m**2) / n),
    "the variance of the mean, (1 − m²)/N": lambda m, n: max(0.0, 1 - m**2) / n,
}


def conventions(variant: Variant) -> Conventions:
    """Draw them."""
    return Conventions(
        zero_first=variant.choice("wire order", [True, False]), sign=variant.choice("sign", [-1, 1]),
        control_on=variant.choice("control", [0, 1]), axes=variant.choice("axes", ["XZ", "XY", "YZ"]),
        shifts=variant.choice("shifts", list(SHIFTS)), unit=variant.choice("unit", list(UNITS)),
        spread=variant.choice("spread", list(SPREADS)),
    )  # fmt: skip


def text(v: Conventions) -> dict[str, str]:
    """The words of the variant."""
    index = "b_0 b_1 … b_{n−1}" if v.zero_first else "b_{n−1} … b_1 b_0"
    return {
        "sign": "−" if v.sign < 0 else "+",
        "control_on": str(v.control_on),
        "order": f"the entry whose index has the binary digits {index}, "
        + ("so wire 0 is the **first** axis of `state.reshape(2, …, 2)`" if v.zero_first
           else "so wire 0 is the **last** axis of `state.reshape(2, …, 2)`"),
        "example": "4" if v.zero_first else "1",
        "gates": ", ".join(v.gate_names),
        "shifts": v.shifts,
        "unit": v.unit,
        "u": str(UNITS[v.unit]),
        "first": "R" + ("X" if "X" in v.axes else "Y"),
        "second": v.gate_names[1],
        "spread": v.spread,
    }  # fmt: skip


# ------------------------------------------------------------------- right answers, from the library


def turned(v: Conventions, axis: str, angle: Tensor) -> Tensor:
    """exp(sign · i · angle/2 · P)."""
    return rotation_matrix(axis, -v.sign * torch.as_tensor(angle, dtype=torch.float64))


def _axis(v: Conventions, wire: int, n: int) -> int:
    return wire if v.zero_first else n - 1 - wire


def _n_wires(state: Tensor) -> int:
    return int(math.log2(len(state)))


def applied(v: Conventions, state: Tensor, U: Tensor, *wires: int) -> Tensor:
    """U on the last of the wires, controlled by those before it, in the variant's conventions."""
    n = _n_wires(state)
    axes = tuple(_axis(v, w, n) for w in wires)
    psi = state.reshape(1, *[2] * n)
    flips = axes[:-1] if v.control_on == 0 else ()
    for axis in flips:
        psi = apply_matrix(psi, X, (axis,))
    psi = apply_matrix(psi, U, axes)
    for axis in flips:
        psi = apply_matrix(psi, X, (axis,))
    return psi.flatten()


def translated(v: Conventions, circuit: Circuit) -> Circuit:
    """The circuit that does in the library's conventions what this one does in the variant's."""
    gates: list[Gate] = []
    for gate in circuit.gates:
        flip = [Gate("PauliX", gate.controls)] if gate.controls and v.control_on == 0 else []
        gates += [*flip, replace(gate, scale=-v.sign * gate.scale), *flip]
    return replace(circuit, gates=tuple(gates))


def ran(v: Conventions, circuit: Circuit, x: Tensor, theta: Tensor) -> Tensor:
    """⟨Z⟩ on every wire."""
    return simulate(translated(v, circuit), x[None], theta)[0]


# ------------------------------------------------------------------------------------------- tasks

rotation = Task("rotation", "A rotation", "write a gate as a unitary matrix", 10)
apply_gate = Task("apply_gate", "A gate on one wire", "apply a 2×2 matrix to one axis of a state", 20)
apply_controlled = Task("apply_controlled", "A controlled gate", "act on a part of a state", 20)
run_circuit = Task("run_circuit", "A circuit", "simulate a variational circuit from its description", 25)
two_term = Task("two_term", "The two-term rule", "measure a gradient by shifts", 15)
four_term = Task("four_term", "The four-term rule", "derive a shift rule for given frequencies", 20)
needs_four = Task("needs_four", "Which weights need four terms", "say when the two-term rule is exact", 15)
shot_estimate = Task("shot_estimate", "An estimate from shots", "estimate an expectation value and its error", 20)


@rotation.has("has the right entries for every axis and angle", 2)
def _(answer, v, draw):
    for axis in draw.some("XYZ", 3):
        angle = draw.angles()
        right = turned(v, axis, angle)
        agree(answer(axis, angle), right, what=f"the matrix for axis {axis}", usual=[
            (turned(v, axis, 2 * angle), "The angle is not halved: the exponent holds φ/2."),
            (turned(v, axis, -angle), f"The sign in the exponent is the other one: here it is "
                                      f"exp({'−' if v.sign < 0 else '+'}iφ/2·P)."),
            (torch.complex(right.real, -right.real * 0) + right.imag,
             "The imaginary unit is missing: the entries are complex where the axis is X or Z."),
            (turned(v, axis, angle * 180 / PI), "Angles come in radians; this takes them for degrees."),
            (turned(v, axis, angle * PI / 180), "Angles come in radians; this takes them for degrees."),
        ])  # fmt: skip


@rotation.has("lets a gradient through to the angle", 1)
def _(answer, v, draw):
    for axis in "XYZ":
        angle, w = draw.angles(), torch.complex(draw.normal(2, 2), draw.normal(2, 2))
        leaf = angle.clone().requires_grad_()
        (want,) = torch.autograd.grad((w.conj() * turned(v, axis, leaf)).sum().real, leaf)
        agree(answer.gradient(axis, angle, wrt=1, weights=w), want, what="the derivative by the angle")


def gate_mistakes(v: Conventions, state: Tensor, U: Tensor, wire: int):
    """What usual mistakes make of one gate."""
    n = _n_wires(state)
    other = replace(v, zero_first=not v.zero_first)
    front = torch.tensordot(U, state.reshape([2] * n), ([1], [_axis(v, wire, n)])).flatten()
    end = torch.tensordot(state.reshape([2] * n), U, ([_axis(v, wire, n)], [1])).flatten()
    first = "first" if v.zero_first else "last"
    return [
        (applied(other, state, U, wire), f"The wires are counted from the other end: here wire 0 is the {first} axis."),
        (applied(v, state, U.T, wire), "U is transposed: the new entry a is Σ_b U[a, b]·old entry b."),
        (applied(v, state, U.conj(), wire), "U is conjugated."),
        (applied(v, state, U.mH, wire), "This applies the adjoint of U, its inverse, and not U."),
        (front, "The axis of the wire has moved to the front (tensordot does that) and has to go back to its place."),
        (end, "The axis of the wire has moved to the end and has to go back to its place."),
        (applied(v, state, U, wire).abs() ** 2, "These are probabilities; the amplitudes themselves are wanted."),
        (applied(v, state, U, wire).real, "The imaginary parts are lost on the way; keep the state complex."),
        (state, "The state comes back as it went in."),
    ]


@apply_gate.has("is right on a single wire", 1)
def _(answer, v, draw):
    state, U = draw.state(1), draw.unitary()
    agree(answer(state, U, 0), applied(v, state, U, 0), gate_mistakes(v, state, U, 0), "the new state")


@apply_gate.has("is right on any wire of several", 2)
def _(answer, v, draw):
    for n in (2, 3, 4):
        for wire in draw.some(range(n), n):
            state, U = draw.state(n), draw.unitary()
            what = f"the new state (n = {n}, wire {wire})"
            agree(answer(state, U, wire), applied(v, state, U, wire), gate_mistakes(v, state, U, wire), what)


@apply_gate.has("leaves the state that it was given as it was, and lets gradients through", 1)
def _(answer, v, draw):
    state, U, w = draw.state(3), draw.unitary(), draw.state(3)
    if answer.changes(state, U, 1):
        raise Mistake("The state that came in is overwritten; make a new one, or autograd and the caller lose it.")
    leaf = U.clone().requires_grad_()
    (want,) = torch.autograd.grad((w.conj() * applied(v, state, leaf, 1)).sum().real, leaf)
    agree(answer.gradient(state, U, 1, wrt=1, weights=w), want, what="the gradient by U")


def control_mistakes(v: Conventions, state: Tensor, U: Tensor, control: int, target: int):
    """What usual mistakes make of one controlled gate."""
    n = _n_wires(state)
    other_bit = replace(v, control_on=1 - v.control_on)
    other_end = replace(v, zero_first=not v.zero_first)
    p = state.reshape([2] * n)
    axis, t = _axis(v, control, n), _axis(v, target, n)
    kept = applied(v, state, U, control, target).reshape([2] * n)
    lost = kept * torch.tensor([v.control_on == 0, v.control_on == 1]).reshape(
        [2 if a == axis else 1 for a in range(n)]
    )
    slipped = None
    if t > axis and t < n - 1:  # the target's place in the slice, taken as if no axis were gone
        parts = list(p.unbind(axis))
        parts[v.control_on] = apply_matrix(parts[v.control_on][None], U, (t,))[0]
        slipped = torch.stack(parts, axis).flatten()
    return [
        (applied(v, state, U, target), "The gate acts whatever the control is."),
        (applied(other_bit, state, U, control, target),
         f"Your gate acts where the control's bit is {1 - v.control_on}; in this variant it acts where it is "
         f"{v.control_on}."),
        (applied(v, state, U, target, control), "Control and target are exchanged."),
        (applied(other_end, state, U, control, target), "The wires are counted from the other end."),
        (lost.flatten(), "The part of the state on which the gate does not act is lost; it stays as it was."),
        *([(slipped, "The slice of the control has one axis less: a target behind the control moves up by one.")]
          if slipped is not None else []),
        (applied(v, state, U.T, control, target), "U is transposed."),
    ]  # fmt: skip


@apply_controlled.has("is right on two wires", 1)
def _(answer, v, draw):
    for wires in ((0, 1), (1, 0)):
        state, U = draw.state(2), draw.unitary()
        agree(answer(state, U, *wires), applied(v, state, U, *wires), control_mistakes(v, state, U, *wires),
              f"the new state (control {wires[0]}, target {wires[1]})")  # fmt: skip


@apply_controlled.has("is right on any two of several wires", 2)
def _(answer, v, draw):
    for n in (3, 4):
        for control in range(n):
            for target in set(range(n)) - {control}:
                state, U = draw.state(n), draw.unitary()
                agree(answer(state, U, control, target), applied(v, state, U, control, target),
                      control_mistakes(v, state, U, control, target),
                      f"the new state (n = {n}, control {control}, target {target})")  # fmt: skip


def circuit_mistakes(v: Conventions, circuit: Circuit, x: Tensor, theta: Tensor):
    """What usual mistakes make of a run."""
    plain = replace(circuit, gates=tuple(replace(g, scale=1.0) for g in circuit.gates))
    backwards = replace(circuit, gates=circuit.gates[::-1])
    no_control = tuple(replace(g, name=g.name[1:], wires=g.targets) if g.controls else g for g in circuit.gates)
    final = statevector(translated(v, circuit), x[None], theta)
    one = 1 - expval_z(final)[0]
    return [
        (lambda: ran(v, plain, x, theta), "gate.scale is left out: the angle is scale times the value."),
        (lambda: ran(v, backwards, x, theta), "The gates act in the wrong order: the first of the list acts first."),
        (lambda: ran(v, replace(circuit, gates=no_control), x, theta), "The controls are ignored."),
        (lambda: ran(replace(v, control_on=1 - v.control_on), circuit, x, theta),
         f"The controls act on the wrong bit; here on {v.control_on}."),
        (lambda: ran(replace(v, sign=-v.sign), circuit, x, theta), "The rotations turn the other way."),
        (lambda: -ran(v, circuit, x, theta), "The sign of ⟨Z⟩ is the other one: P(0) − P(1)."),
        (lambda: one / 2, "This is P(1) of each wire; ⟨Z⟩ = P(0) − P(1) is wanted."),
        (lambda: 1 - one / 2, "This is P(0) of each wire; ⟨Z⟩ = P(0) − P(1) is wanted."),
        (lambda: ran(v, circuit, x, theta).flip(0), "The outputs are in the reversed order: entry w is of wire w."),
    ]  # fmt: skip


def _one_run(answer, v, draw, n, n_gates, names):
    circuit = draw.circuit(n, n_gates, names, scale=draw.choice([0.5, 1.5, 2.0]))
    x, theta = draw.normal(n), draw.normal(n_gates)
    wanted = ran(v, circuit, x, theta)
    agree(
        answer(circuit, x, theta), wanted, circuit_mistakes(v, circuit, x, theta), f"⟨Z⟩ ({n} wires, {n_gates} gates)"
    )


@run_circuit.has("gives cos x for the encoding alone", 1)
def _(answer, v, draw):
    for n in (1, 3):
        _one_run(answer, v, draw, n, 0, v.gate_names)


@run_circuit.has("is right with plain rotations", 1)
def _(answer, v, draw):
    for n in (1, 2, 3):
        _one_run(answer, v, draw, n, 5, v.gate_names[:2])


@run_circuit.has("is right with controlled rotations", 1)
def _(answer, v, draw):
    for n in (2, 3, 4):
        _one_run(answer, v, draw, n, 8, v.gate_names)


@run_circuit.has("lets gradients through to the weights", 1)
def _(answer, v, draw):
    circuit = draw.circuit(3, 6, v.gate_names)
    x, theta, w = draw.normal(3), draw.normal(6), draw.normal(3)
    leaf = theta.clone().requires_grad_()
    (want,) = torch.autograd.grad((w * ran(v, circuit, x, leaf)).sum(), leaf)
    agree(answer.gradient(circuit, x, theta, wrt=2, weights=w), want, what="the gradient by the weights")


class Watched:
    """A function of the weights that remembers where it was asked."""

    def __init__(self, f):
        self.f, self.asked = f, []

    def __call__(self, theta):
        theta = numbers(theta, what="the argument of f").flatten()
        self.asked.append(theta)
        return self.f(theta)


def wave(draw, n: int, frequencies, u: float):
    """A random product of waves of each weight with these frequencies of the angle: (n,) → number, and its gradient."""
    a, b = draw.normal(n, len(frequencies)), draw.normal(n, len(frequencies))
    c, omega = draw.normal(n), torch.tensor(frequencies, dtype=torch.float64)

    def f(theta):
        phases = omega * (u * theta)[:, None]
        return (c + (a * phases.cos() + b * phases.sin()).sum(1)).prod()

    return f


def gradient_of(f, theta: Tensor) -> Tensor:
    leaf = theta.clone().requires_grad_()
    return torch.autograd.grad(f(leaf), leaf)[0]


def shifted(f, theta: Tensor, s: float) -> Tensor:
    return torch.stack([f(row) for row in theta + s * torch.eye(len(theta), dtype=theta.dtype)])


def by_two(f, theta: Tensor, u: float) -> Tensor:
    return u * (shifted(f, theta, PI / 2 / u) - shifted(f, theta, -PI / 2 / u)) / 2


def coefficients(shifts: tuple[float, float]) -> list[float]:
    """Of the four-term rule: Σ_j 2 c_j sin(Ω s_j) = Ω for Ω = 1/2 and 1."""
    omega, s = torch.tensor([0.5, 1.0], dtype=torch.float64), torch.tensor(shifts, dtype=torch.float64)
    return torch.linalg.solve(2 * torch.sin(omega[:, None] * s), omega).tolist()


def by_four(f, theta: Tensor, u: float, shifts, c) -> Tensor:
    return u * sum(k * (shifted(f, theta, s / u) - shifted(f, theta, -s / u)) for k, s in zip(c, shifts, strict=True))


def _step(watched: Watched, theta: Tensor) -> float:
    """The largest change of a weight among the places where f was asked."""
    return max(((t - theta).abs().max().item() for t in watched.asked if t.shape == theta.shape), default=0.0)


def _no_differences(watched: Watched, theta: Tensor) -> None:
    if 0 < _step(watched, theta) < 0.02:
        raise Mistake(
            f"These are finite differences (a step of {_step(watched, theta):.2g}); the rule uses large shifts and is "
            "exact, and shots would drown a step this small."
        )


def _rule(answer, v, f, theta, usual, what):
    watched = Watched(f)
    out = answer(watched, theta)
    _no_differences(watched, theta)
    agree(out, gradient_of(f, theta), usual(f, theta), what)
    return watched


def two_mistakes(v: Conventions):
    u = UNITS[v.unit]

    def usual(f, theta):
        right = by_two(f, theta, u)
        full = u * (shifted(f, theta, PI / u) - shifted(f, theta, -PI / u)) / 2
        raw = (shifted(f, theta, PI / 2) - shifted(f, theta, -PI / 2)) / 2
        once = torch.stack([f(theta + PI / 2 / u) - f(theta - PI / 2 / u)]).expand(len(theta)) * u / 2
        return [
            (2 * right, "Twice too large: the difference of the two runs is halved."),
            (right / u, "The chain rule is missing: this is the derivative by the angle; by the weight it has the "
                        "factor d angle/d weight."),
            (2 * right / u, "This is the bare difference of two runs: half of it, times d angle/d weight, is wanted."),
            (-right, "The sign is the other one: f(φ + π/2) comes first."),
            (raw, "The weights themselves are shifted by π/2; the *angle* is to be shifted, and a weight is an angle "
                  "over d angle/d weight."),
            (u * raw, "The weights themselves are shifted by π/2; the *angle* is to be shifted by it."),
            (full, "The shift is π; it is π/2."),
            (once, "All weights are shifted at once; each entry of the gradient shifts its own weight only."),
        ]  # fmt: skip

    return usual


@two_term.has("is exact for a single rotation", 1)
def _(answer, v, draw):
    _rule(answer, v, wave(draw, 1, (1.0,), UNITS[v.unit]), draw.normal(1), two_mistakes(v), "the gradient")


@two_term.has("is exact for every weight of several", 1)
def _(answer, v, draw):
    for n in (2, 4):
        f, theta = wave(draw, n, (1.0,), UNITS[v.unit]), draw.normal(n)
        _rule(answer, v, f, theta, two_mistakes(v), "the gradient")


@two_term.has("asks f twice for each weight, and no more", 1)
def _(answer, v, draw):
    f, theta = wave(draw, 3, (1.0,), UNITS[v.unit]), draw.normal(3)
    watched = _rule(answer, v, f, theta, two_mistakes(v), "the gradient")
    if len(watched.asked) > 6:
        raise Mistake(f"f is run {len(watched.asked)} times for 3 weights; 6 are enough, and each costs many shots.")


def four_mistakes(v: Conventions):
    u, s = UNITS[v.unit], SHIFTS[v.shifts]
    c = coefficients(s)
    usual_c = coefficients(SHIFTS["π/2 and 3π/2"])

    def usual(f, theta):
        right = by_four(f, theta, u, s, c)
        return [
            (by_two(f, theta, u), "This is the two-term rule; the frequency 1/2 comes out too large by a factor √2."),
            (right / u, "The chain rule is missing: the derivative by the weight has the factor d angle/d weight."),
            (by_four(f, theta, u, s, usual_c),
             f"The coefficients are those for π/2 and 3π/2; here the shifts are {v.shifts}, with others."),
            (2 * right, "Twice too large: the equations hold 2·c_j·sin(Ω s_j)."),
            *[(k * by_four(f, theta, 1.0, s, c), "The weights themselves are shifted; the *angle* is to be shifted, "
               "and a weight is an angle over d angle/d weight.") for k in (1, u)],
            (by_four(f, theta, u, s, [c[0], -c[1]]), "The second coefficient has the wrong sign."),
            (by_four(f, theta, u, s, [c[0], 0.0]), "The second pair of shifts is missing."),
            (by_four(f, theta, u, s, c[::-1]), "The two coefficients are exchanged."),
            (-right, "The sign is the other one: f(φ + s) comes first."),
        ]  # fmt: skip

    return usual


@four_term.has("is exact for the frequencies 0, 1/2 and 1", 2)
def _(answer, v, draw):
    for n in (1, 3):
        f, theta = wave(draw, n, (0.5, 1.0), UNITS[v.unit]), draw.normal(n)
        _rule(answer, v, f, theta, four_mistakes(v), "the gradient")


@four_term.has("shifts as asked, and asks f four times for each weight", 1)
def _(answer, v, draw):
    f, theta = wave(draw, 2, (0.5, 1.0), UNITS[v.unit]), draw.normal(2)
    watched = _rule(answer, v, f, theta, four_mistakes(v), "the gradient")
    wanted = {round(s / UNITS[v.unit], 6) for s in SHIFTS[v.shifts]}
    used = {round((t - theta).abs().max().item(), 6) for t in watched.asked}
    if used - {0.0} != wanted:
        raise Mistake(f"The angles are to be shifted by {v.shifts}.")
    if len(watched.asked) > 8:
        raise Mistake(f"f is run {len(watched.asked)} times for 2 weights; 8 are enough.")


def needing_four(v: Conventions, circuit: Circuit, draw) -> set[int]:
    """The weights of which some output has frequency 1/2: a full turn of the angle changes it."""
    found: set[int] = set()
    same = translated(v, circuit)
    for _ in range(3):
        x, theta = draw.normal(1, circuit.n_inputs), draw.normal(circuit.n_weights)
        rows = theta.repeat(circuit.n_weights + 1, 1)
        for gate in circuit.gates:
            if gate.param[0] == "weight":
                rows[gate.param[1], gate.param[1]] += 2 * PI / gate.scale
        out = simulate(same, x.expand(len(rows), -1), rows)
        found |= set(((out[:-1] - out[-1]).abs().amax(1) > 1e-9).nonzero().flatten().tolist())
    return found


def by_criterion(circuit: Circuit) -> set[int]:
    """The weights of controlled gates whose control is the target of a later gate."""
    return {g.param[1] for k, g in enumerate(circuit.gates) if g.controls and g.param[0] == "weight"
            and any(g.controls[0] in later.targets for later in circuit.gates[k + 1:])}  # fmt: skip


def _judged(answer, v, draw, n_wires, n_gates):
    while True:  # a circuit on which the course's criterion and the frequencies agree, and that has both kinds
        circuit = draw.circuit(n_wires, n_gates, v.gate_names)
        right = needing_four(v, circuit, draw)
        controlled = {g.param[1] for g in circuit.gates if g.controls}
        if right == by_criterion(circuit) and right and controlled - right:
            break
    value = answer(circuit)
    got = {int(k) for k in numbers(sorted(value) if isinstance(value, set | frozenset) else value).flatten().tolist()}
    if got == right:
        return
    if got == controlled:
        raise Mistake("These are all controlled gates; for some of them the two-term rule is exact all the same: "
                      "what has to come after a gate for its frequency 1/2 to show?")  # fmt: skip
    if got == set(range(n_gates)) - right:
        raise Mistake("These are the weights for which two terms are enough; the others are wanted.")
    if got == {g.param[1] for g in circuit.gates if not g.controls}:
        raise Mistake("These are the plain rotations; for them two terms are always enough.")
    earlier = {g.param[1] for k, g in enumerate(circuit.gates) if g.controls
               and any(g.controls[0] in e.targets for e in circuit.gates[circuit.n_inputs:k])}  # fmt: skip
    if got == earlier:
        raise Mistake("This looks at the gates before; what counts is what comes after.")
    as_control = {g.param[1] for k, g in enumerate(circuit.gates) if g.controls
                  and any(g.controls[0] in e.wires for e in circuit.gates[k + 1:])}  # fmt: skip
    if got == as_control:
        raise Mistake("A later gate that only uses the wire as a control again does not mix its 0 and 1.")
    more, less = sorted(got - right), sorted(right - got)
    said = [f"weights {more} need only two terms"] * bool(more) + [f"weights {less} need four"] * bool(less)
    raise Mistake(f"On a random circuit {' and '.join(said)}.")


@needs_four.has("is right on circuits of three wires", 1)
def _(answer, v, draw):
    for _ in range(3):
        _judged(answer, v, draw, 3, 6)


@needs_four.has("is right on circuits of four wires", 1)
def _(answer, v, draw):
    for _ in range(3):
        _judged(answer, v, draw, 4, 10)


def parity(v: Conventions, state: Tensor, wires: tuple[int, int], weights: Tensor | None = None) -> float:
    """⟨Z_a Z_b⟩ exactly."""
    n = _n_wires(state)
    p = (state.abs() ** 2 if weights is None else weights).reshape([2] * n)
    for wire in wires:
        z = torch.tensor([1.0, -1.0], dtype=p.dtype)
        p = p * z.reshape([2 if a == _axis(v, wire, n) else 1 for a in range(n)])
    return p.sum().item()


def _unbiased(m: Tensor, mean: float, shots: int) -> bool:
    """Whether the average of many estimates is `mean`, within five of its standard errors."""
    return abs(m.mean().item() - mean) < 5 * math.sqrt((1 - mean**2 + 1e-3) / (shots * len(m)))


def _single(v: Conventions, state: Tensor, wire: int) -> float:
    n = _n_wires(state)
    p = (state.abs() ** 2).reshape([2] * n).movedim(_axis(v, wire, n), 0).flatten(1).sum(1)
    return (p[0] - p[1]).item()


def estimate_mistakes(v: Conventions, state: Tensor, wires: tuple[int, int]) -> list[tuple[float, str]]:
    """The averages that usual mistakes have."""
    exact, single = parity(v, state, wires), [_single(v, state, w) for w in wires]
    amplitudes = state.abs() / state.abs().sum()
    return [
        (-exact, "The sign is the other one: equal bits count +1."),
        (parity(replace(v, zero_first=not v.zero_first), state, wires), "The wires are counted from the other end."),
        (parity(v, state, wires, amplitudes), "Probabilities are |amplitude|², not |amplitude|."),
        (single[0] * single[1],
         "This multiplies two separate averages; the product of the two bits *of one shot* is averaged."),
        (single[0], "Only the first of the two wires is read."),
        (single[1], "Only the second of the two wires is read."),
        ((1 + exact) / 2, "This is the share of equal bits; equal bits count +1, different ones −1."),
    ]  # fmt: skip


def _telling_state(v: Conventions, draw, wires: tuple[int, int], gap: float = 0.07) -> Tensor:
    """A state on which no two mistakes look alike."""
    while True:
        state = draw.state(3)
        values = sorted([parity(v, state, wires), *(m for m, _ in estimate_mistakes(v, state, wires))])
        if min(b - a for a, b in zip(values, values[1:], strict=False)) > gap:
            return state


@shot_estimate.has("is right on average", 1)
def _(answer, v, draw):
    shots, repeats, wires = 200, 60, (0, 1)
    state = _telling_state(v, draw, wires)
    exact = parity(v, state, wires)
    m = torch.stack([
        numbers(pair(answer(state, wires, shots, draw.generator()), "the mean and its spread")[0], (), "the mean")
        for _ in range(repeats)
    ])  # fmt: skip
    if m.unique().numel() == 1:
        why = "this is the exact value, nothing is drawn" if close(m[0], exact) else "use the one that is handed in"
        raise Mistake(f"Every generator gives the same mean: {why}.")
    if not close((m + 1) * shots / 2, ((m + 1) * shots / 2).round(), 1e-5):
        raise Mistake(f"The mean of {shots} values of ±1 can only be a multiple of 2/{shots} from −1; this one is not.")
    if _unbiased(m, exact, shots):
        return
    for wrong, why in estimate_mistakes(v, state, wires):
        if _unbiased(m, wrong, shots):
            raise Mistake(why)
    raise Mistake(f"Averaged over {repeats} estimates it is {m.mean():.3f}; exactly it would be {exact:.3f}.")


@shot_estimate.has("says how far to trust it", 1)
def _(answer, v, draw):
    for shots in (30, 200):
        mean, spread = pair(answer(draw.state(2), (0, 1), shots, draw.generator()), "the mean and its spread")
        m = numbers(mean, (), "the mean").item()
        right = SPREADS[v.spread](m, shots)
        value = numbers(spread, (), "the spread")
        if any(abs(value.item() - SPREADS[v.spread](m, n)) < 1e-4 * max(right, 1e-3) for n in (shots, shots - 1)):
            continue  # N − 1 in the place of N is as good
        one = math.sqrt(max(0.0, 1 - m**2))
        agree(value, torch.tensor(right, dtype=torch.float64), what="the spread", tolerance=1e-6, usual=[
            *[(torch.tensor(spread).double(), "This is the spread of one shot; that of the mean of N is smaller by √N.")
              for spread in (one, 1.96 * one)],
            (torch.tensor(one**2).double(), "This is the variance of one shot; divide by N."),
            (torch.tensor(one / shots).double(), "The spread falls with √N, not with N."),
            *[(torch.tensor(rule(m, shots)).double(), f"This is {name}; asked for here is {v.spread}.")
              for name, rule in SPREADS.items()],
        ])  # fmt: skip


@shot_estimate.has("draws from the generator that it is given", 1)
def _(answer, v, draw):
    state, seeds = draw.state(3), [draw.whole(0, 2**40) for _ in range(6)]  # one pair may agree by chance
    for seed in seeds:
        again = [pair(answer(state, (0, 2), 50, torch.Generator().manual_seed(seed)), "the mean and its spread")[0]
                 for _ in range(2)]  # fmt: skip
        if not close(numbers(again[0]), numbers(again[1])):
            raise Mistake("The same generator gives two different estimates; hand it on to torch's random functions.")


LAB = Lab(
    "02", "Variational circuits", conventions=conventions, text=text,
    tasks=(rotation, apply_gate, apply_controlled, run_circuit, two_term, four_term, needs_four, shot_estimate),
    forbidden=("qdm_lib.simulator.rotation", "qdm_lib.simulator.gate_matrix", "qdm_lib.simulator.apply_matrix",
               "qdm_lib.simulator.apply_gate", "qdm_lib.simulator.statevector", "qdm_lib.simulator.simulate",
               "qdm_lib.simulator.expval_z", "qdm_lib.engine.fast_simulate", "qdm_lib.quantum.QuantumLayer",
               "qdm_lib.quantum.to_qnode", "pennylane"),
)  # fmt: skip
