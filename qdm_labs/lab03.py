"""Lab 03: the paper's two circuits as lists of gates, what they join, how they entangle, and an ansatz of one's own.

The circuits are `qdm_lib.circuits.hqconv` and `fqconv` with the variant's choices: the wire of a pixel, the order of
the loops, the stride and the direction of the joins, the gates, the unit of the weights. The components and the audit
are `qdm_lib.audit`'s. In the library's conventions `hybrid` and `quantum` are its circuits, gate by gate.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from qdm_labs.compare import agree, close, numbers, pair
from qdm_labs.task import Lab, Mistake, Task, Unanswered
from qdm_labs.variant import Variant
from qdm_lib.audit import audit_circuit, interaction_graph
from qdm_lib.circuits import Circuit, Gate, angle_encoding
from qdm_lib.simulator import statevector

PI = math.pi
WIRES = {  # the wire of pixel p (0 … 3) of channel c (0 … 2)
    "4·c + p": lambda c, p: 4 * c + p,
    "3·p + c": lambda c, p: 3 * p + c,
    "4·(2 − c) + p": lambda c, p: 4 * (2 - c) + p,
}
UNITS = {"2π": 2 * PI, "π": PI, "4π": 4 * PI}
PAIRS = [("CRY", "CRZ"), ("CRX", "CRY"), ("CRY", "CRX"), ("CRZ", "CRY")]  # the library's pair is in none
MEASURES = {
    "the entropy −Σ p_j log₂ p_j, in bits": lambda p: -torch.special.xlogy(p, p).sum() / math.log(2),
    "the entropy −Σ p_j ln p_j, in nats": lambda p: -torch.special.xlogy(p, p).sum(),
    "the purity Σ p_j²": lambda p: (p**2).sum(),
    "the effective rank 1/Σ p_j²": lambda p: 1 / (p**2).sum(),
}
MOST_GATES = 400  # of one's own ansatz, so that its audit takes seconds
NAMES = ("RX", "RY", "CRX", "CRZ")


@dataclass(frozen=True)
class Conventions:
    """The choices of one variant."""

    wires: str  # a key of WIRES
    down: bool  # whether channels and pixels are taken from the last to the first
    stride: int  # a pixel of block A is joined with the one so much further
    turned: bool  # whether control and target of every join are exchanged against the library
    gates: tuple[str, str]  # the first and the second gate of a join
    unit: str  # of the weights, a key of UNITS
    pixel: int  # of block B
    step: int  # FQConv joins a channel with the one so much further
    largest: bool  # whether a component is named after its largest wire, or its smallest
    zero_first: bool  # wire 0 is the first axis of a state (its bit counts most); else the last
    measure: str  # of entanglement, a key of MEASURES
    cone: str  # what light_cone returns: "wires" or "weights"
    coupler: str  # the only gate on two wires of one's own ansatz
    budget: int  # its largest number of weights


def conventions(variant: Variant) -> Conventions:
    """Draw them."""
    return Conventions(
        wires=variant.choice("wires", list(WIRES)), down=variant.choice("down", [True, False]),
        stride=variant.choice("stride", [1, 3]), turned=variant.choice("turned", [True, False]),
        gates=variant.choice("gates", PAIRS), unit=variant.choice("unit", list(UNITS)),
        pixel=variant.choice("pixel", [1, 2, 3]), step=variant.choice("step", [1, 2]),
        largest=variant.choice("largest", [True, False]), zero_first=variant.choice("wire order", [True, False]),
        measure=variant.choice("measure", list(MEASURES)), cone=variant.choice("cone", ["wires", "weights"]),
        coupler=variant.choice("coupler", ["CNOT", "CZ"]), budget=variant.choice("budget", [60, 72, 84]),
    )  # fmt: skip


def text(v: Conventions) -> dict[str, str]:
    """The words of the variant."""
    near, far = ("target", "control") if not v.turned else ("control", "target")
    index = "b_0 b_1 … b_{n−1}" if v.zero_first else "b_{n−1} … b_1 b_0"
    return {
        "wires": v.wires,
        "channels": "2, 1, 0" if v.down else "0, 1, 2",
        "pixels": "3, 2, 1, 0" if v.down else "0, 1, 2, 3",
        "lower": "1, 0" if v.down else "0, 1",
        "stride": str(v.stride),
        "near": near,
        "far": far,
        "first": v.gates[0],
        "second": v.gates[1],
        "unit": v.unit,
        "code_unit": {"2π": "2 * math.pi", "π": "math.pi", "4π": "4 * math.pi"}[v.unit],
        "pixel": str(v.pixel),
        "step": str(v.step),
        "label": "largest" if v.largest else "smallest",
        "labels": "[0, 4, 3, 3, 4]" if v.largest else "[0, 1, 2, 2, 1]",
        "order": f"the entry whose index has the binary digits {index}",
        "measure": v.measure,
        "cone": "the wires of its light cone, its own among them" if v.cone == "wires"
        else "the numbers k of the weights whose gates lie in its light cone",
        "coupler": v.coupler,
        "budget": str(v.budget),
    }  # fmt: skip


# ------------------------------------------------------------------------------------ right answers


def _loop(v: Conventions, n: int) -> list[int]:
    return list(range(n))[:: -1 if v.down else 1]


def _assembled(v: Conventions, layers: int, layer: list[tuple[str, tuple[int, int]]], name: str) -> Circuit:
    """The encoding, then the gates (name, wires) of a layer, each time with new weights."""
    gates = angle_encoding(12)
    for k, (gate, wires) in enumerate(layer * layers):
        gates.append(Gate(gate, wires, ("weight", k), UNITS[v.unit]))
    return Circuit(tuple(gates), 12, 12, len(layer) * layers, name)


def _wires(v: Conventions, control: tuple[int, int], target: tuple[int, int]) -> tuple[int, int]:
    """The wires of a join between two (channel, pixel), in the variant's direction."""
    wires = WIRES[v.wires](*control), WIRES[v.wires](*target)
    return wires[::-1] if v.turned else wires


def _block_a(v: Conventions) -> list[tuple[int, int]]:
    return [_wires(v, (c, (i + v.stride) % 4), (c, i)) for c in _loop(v, 3) for i in _loop(v, 4)]


def _block_b(v: Conventions) -> list[tuple[int, int]]:
    """The lower channel is the control in the library, the higher one where the variant turns the joins."""
    return [_wires(v, (c, v.pixel), (c + 1, v.pixel)) for c in _loop(v, 2)]


def hybrid(v: Conventions, layers: int) -> Circuit:
    """HQConv in the variant's conventions."""
    joins = _block_a(v) + _block_b(v)
    return _assembled(v, layers, [(name, wires) for wires in joins for name in v.gates], "HQConv")


def quantum(v: Conventions, layers: int) -> Circuit:
    """FQConv in the variant's conventions."""
    layer = [(name, _wires(v, ((c + v.step) % 3, i), (c, i)))
             for c in _loop(v, 3) for name in v.gates for i in _loop(v, 4)]  # fmt: skip
    return _assembled(v, layers, layer, "FQConv")


def labelled(v: Conventions, circuit: Circuit) -> list[int]:
    """The name of each wire's component."""
    name = max if v.largest else min
    found = {wire: name(part) for part in interaction_graph(circuit).components for wire in part}
    return [found[wire] for wire in range(circuit.n_wires)]


def squares(v: Conventions, psi: Tensor, wires) -> Tensor:
    """The squared singular values of the cut between some wires and the rest."""
    n = int(math.log2(len(psi)))
    axes = [w if v.zero_first else n - 1 - w for w in wires]
    rest = [a for a in range(n) if a not in axes]
    return torch.linalg.svdvals(psi.reshape([2] * n).permute(*axes, *rest).reshape(2 ** len(axes), -1)) ** 2


def cut(v: Conventions, psi: Tensor, wires) -> tuple[int, float]:
    """The Schmidt rank, and the variant's measure."""
    p = squares(v, psi, wires)
    return int((p > 1e-18).sum()), MEASURES[v.measure](p).item()


def walked(gates, wire: int, counts: Callable) -> dict[str, set[int]]:
    """Wires and weights met by a walk along gates: a gate counts by the rule, and then its wires do, too."""
    wires, weights = {wire}, set()
    for gate in gates:
        if counts(gate, wires):
            wires |= set(gate.wires)
            if gate.param is not None and gate.param[0] == "weight":
                weights.add(gate.param[1])
    return {"wires": wires, "weights": weights}


def _touches(gate: Gate, wires: set[int]) -> bool:
    return bool(wires & set(gate.wires))


def cone(circuit: Circuit, wire: int) -> dict[str, set[int]]:
    """The light cone of an output: from the last gate to the first."""
    return walked(circuit.gates[::-1], wire, _touches)


# ------------------------------------------------------------------------------------------- tasks

hqconv = Task("hqconv", "HQConv", "turn the formulas of a circuit into a list of gates", 25)
fqconv = Task("fqconv", "FQConv", "see how two circuits differ in what they join", 15)
components = Task("components", "Components", "read from the gates which wires can never influence one another", 15)
schmidt = Task(
    "schmidt", "The Schmidt rank of a cut", "say whether a state is entangled across a cut, and how much", 25
)
light_cone = Task("light_cone", "The light cone of an output", "bound what an output can depend on", 20)
own_ansatz = Task("own_ansatz", "An ansatz of your own", "design a circuit in which nothing is without effect", 35, 30)


def _same(a: Circuit, b: Circuit, x: Tensor, theta: Tensor) -> bool:
    """Whether both give the same state at a random point: so the order of gates that commute is free."""
    if (a.n_wires, a.n_inputs, a.n_weights) != (b.n_wires, b.n_inputs, b.n_weights):
        return False
    theta = theta[: a.n_weights]
    return close(statevector(a, x, theta), statevector(b, x, theta), 1e-6)


def _as_circuit(value) -> Circuit:
    if value is None:
        raise Unanswered("The function returns nothing; is a return missing?")
    if not isinstance(value, Circuit):
        hint = "; a list of gates becomes one by Circuit(gates, n_wires, n_inputs, n_weights)"
        raise Mistake(f"A Circuit is wanted, this is a {type(value).__name__}{hint * isinstance(value, list | tuple)}.")
    return value


def _with_gates(circuit: Circuit, change: Callable) -> Circuit:
    """The circuit with every gate behind the encoding changed."""
    encoding, rest = circuit.gates[:12], circuit.gates[12:]
    return replace(circuit, gates=encoding + tuple(map(change, rest)), allow_dead_weights=True)


def shared(circuit: Circuit, per_layer: int) -> Circuit:
    """Every layer reads the weights of the first."""
    same = _with_gates(circuit, lambda g: replace(g, param=("weight", g.param[1] % per_layer)))
    return replace(same, n_weights=per_layer)


def unscaled(circuit: Circuit) -> Circuit:
    return _with_gates(circuit, lambda g: replace(g, scale=1.0))


def bare(circuit: Circuit) -> Circuit:
    """Without the encoding."""
    return replace(circuit, gates=circuit.gates[12:])


def without_b(v: Conventions, layers: int) -> Circuit:
    return _assembled(v, layers, [(name, wires) for wires in _block_a(v) for name in v.gates], "A")


def b_first(v: Conventions, layers: int) -> Circuit:
    joins = _block_b(v) + _block_a(v)
    return _assembled(v, layers, [(name, wires) for wires in joins for name in v.gates], "BA")


def one_kind_first(v: Conventions, layers: int) -> Circuit:
    """HQConv with all first gates of a block before its second ones."""
    layer = [(name, w) for block in (_block_a(v), _block_b(v)) for name in v.gates for w in block]
    return _assembled(v, layers, layer, "by kind")


def join_by_join(v: Conventions, layers: int) -> Circuit:
    """FQConv with both gates of a join in a row, as HQConv has them."""
    layer = [(name, _wires(v, ((c + v.step) % 3, i), (c, i)))
             for c in _loop(v, 3) for i in _loop(v, 4) for name in v.gates]  # fmt: skip
    return _assembled(v, layers, layer, "by join")


def b_turned(v: Conventions, layers: int) -> Circuit:
    """HQConv with control and target exchanged in block B."""
    joins = _block_a(v) + [wires[::-1] for wires in _block_b(v)]
    return _assembled(v, layers, [(name, wires) for wires in joins for name in v.gates], "B turned")


def circuit_mistakes(v: Conventions, make: Callable, layers: int) -> Iterator[tuple[Circuit, str]]:
    """What usual mistakes make of either circuit."""
    right, text_of = make(v, layers), text(v)
    for change, why in (
        ({"turned": not v.turned}, "Control and target are exchanged in every join: in Gate(name, wires, …) the "
                                   f"control comes first, and here the neighbour is the {text_of['far']}."),
        ({"gates": ("CRZ", "CRX")}, f"The gates are the library's; in this variant they are {' and '.join(v.gates)}."),
        ({"gates": v.gates[::-1]}, f"The two kinds of gates are exchanged: first {v.gates[0]}, then {v.gates[1]}."),
        ({"down": not v.down}, f"The loops run the other way: here over the channels {text_of['channels']} and the "
                               f"pixels {text_of['pixels']}, and the gates do not commute."),
        ({"stride": 4 - v.stride}, f"The neighbour lies on the other side: here it is {v.stride} further."),
        ({"step": 3 - v.step}, f"The joined channel is the other one: here it is {v.step} further."),
        ({"pixel": 0}, f"Block B joins pixels 0 as in the paper; in this variant it joins pixels {v.pixel}."),
        *[({"wires": other}, f"The pixels lie on other wires: here pixel p of channel c lies on wire {v.wires}.")
          for other in WIRES if other != v.wires],
        *[({"unit": other}, f"The angles have another unit: here an angle is {v.unit} times its weight.")
          for other in UNITS if other != v.unit],
    ):  # fmt: skip
        yield make(replace(v, **change), layers), why
    yield unscaled(right), f"The unit of the weights is missing: an angle is {v.unit} times its weight (scale=…)."
    yield bare(right), "The encoding is missing: RX by the inputs on all wires, before everything else."
    if layers > 1:
        yield shared(right, right.n_weights // layers), "All layers read the same weights; each layer has its own."
        yield make(v, 1), "This is one layer, whatever `layers` says."
    if make is hybrid:
        yield without_b(v, layers), "Block B, which joins the channels, is missing."
        yield b_first(v, layers), "Block B comes after block A."
        yield one_kind_first(v, layers), (f"All {v.gates[0]} of a block come before its {v.gates[1]}; in HQConv both "
                                          "gates of a join follow one another.")  # fmt: skip
        yield b_turned(v, layers), "Control and target are exchanged in block B."
        yield quantum(v, layers), "This is FQConv."
    else:
        yield join_by_join(v, layers), (f"Both gates of a join follow one another; in FQConv the four {v.gates[0]} of "
                                        f"a channel come before its four {v.gates[1]}.")  # fmt: skip
        yield hybrid(v, layers), "This is HQConv."


def _first_difference(got: Circuit, want: Circuit) -> str:
    def words(gates, k):
        if k >= len(gates):
            return "missing"
        gate = gates[k]
        return f"{gate.name} on wires {gate.wires} by {gate.param[0]} {gate.param[1]}" if gate.param else gate.name

    for k in range(max(len(got.gates), len(want.gates))):
        a, b = words(got.gates, k), words(want.gates, k)
        if a != b:
            right = "none" if b == "missing" else b
            return f"Gate {k} (counted from 0, encoding included) is {a}, where {right} is right."
    return "The gates are right, their angles are not: an angle is scale · weight + offset."


def _built(answer, v, draw, make, layers: int) -> None:
    circuit, want = _as_circuit(answer(layers)), make(v, layers)
    x, theta = draw.normal(1, 12), draw.uniform(28 * layers)
    if _same(circuit, want, x, theta):
        return
    for wrong, why in circuit_mistakes(v, make, layers):
        if _same(circuit, wrong, x, theta):
            raise Mistake(why)
    for what in ("n_wires", "n_inputs", "n_weights"):
        if getattr(circuit, what) != getattr(want, what):
            raise Mistake(f"With layers={layers} the circuit has {what} = {getattr(circuit, what)}; "
                          f"{getattr(want, what)} is right.")  # fmt: skip
    raise Mistake(_first_difference(circuit, want))


@hqconv.has("is right with one layer", 2)
def _(answer, v, draw):
    _built(answer, v, draw, hybrid, 1)


@hqconv.has("is right with several layers, each with weights of its own", 1)
def _(answer, v, draw):
    for layers in (2, 3):
        _built(answer, v, draw, hybrid, layers)


@fqconv.has("is right with one layer", 2)
def _(answer, v, draw):
    _built(answer, v, draw, quantum, 1)


@fqconv.has("is right with several layers, each with weights of its own", 1)
def _(answer, v, draw):
    for layers in (2, 3):
        _built(answer, v, draw, quantum, layers)


def one_pass(v: Conventions, circuit: Circuit) -> list[int]:
    """Names handed on once along the gates."""
    name, label = (max if v.largest else min), list(range(circuit.n_wires))
    for gate in circuit.gates:
        for wire in gate.wires:
            label[wire] = name(label[w] for w in gate.wires)
    return label


def neighbours(v: Conventions, circuit: Circuit) -> list[int]:
    """Only wires that share a gate."""
    name = max if v.largest else min
    return [name({w, *(b for g in circuit.gates if w in g.wires for b in g.wires)}) for w in range(circuit.n_wires)]


def along_arrows(v: Conventions, circuit: Circuit) -> list[int]:
    """Only from control to target, again and again."""
    name, label = (max if v.largest else min), list(range(circuit.n_wires))
    for _ in range(circuit.n_wires):
        for gate in circuit.gates:
            if gate.controls:
                label[gate.wires[1]] = name(label[w] for w in gate.wires)
    return label


def _judged_parts(answer, v, circuit: Circuit) -> None:
    right = labelled(v, circuit)
    numbered = [sorted(set(right)).index(k) for k in right]
    agree(answer(circuit), torch.tensor(right).double(), what="the names", usual=[
        (torch.tensor(labels).double(), why) for labels, why in (
            (labelled(replace(v, largest=not v.largest), circuit),
             f"A component is named after its {'smallest' if v.largest else 'largest'} wire; in this variant after its "
             f"{'largest' if v.largest else 'smallest'}."),
            (one_pass(v, circuit), "One pass over the gates is not enough: a later gate may join two groups of wires "
                                   "that earlier gates have named already."),
            (neighbours(v, circuit), "Only wires with a gate in common count as joined; wires joined through a third "
                                     "one belong together, too."),
            (along_arrows(v, circuit), "Names go from control to target only; a join holds in both directions."),
            (list(range(circuit.n_wires)), "Every wire is on its own; gates on two wires join them."),
            (numbered, "The components are numbered; each is to be named after one of its wires."),
        )
    ])  # fmt: skip


def parted(v: Conventions, draw, n_wires: int, n_gates: int) -> Circuit:
    """A random circuit of several components that takes more than one pass."""
    while True:
        circuit = draw.circuit(n_wires, n_gates, NAMES)
        right = labelled(v, circuit)
        if len(set(right)) > 1 and right not in (f(v, circuit) for f in (one_pass, neighbours, along_arrows)):
            return circuit


@components.has("is right on random circuits", 2)
def _(answer, v, draw):
    for n_wires in (6, 7, 8):
        _judged_parts(answer, v, parted(v, draw, n_wires, n_wires + 1))


@components.has("is right on a long chain, whatever the order and direction of its gates", 1)
def _(answer, v, draw):
    for n in (9, 12):
        order = draw.some(range(n), n)
        joins = [draw.some(two, 2) for two in zip(order, order[1:], strict=False)]
        gates = [Gate(draw.choice(["CNOT", "CZ", "SWAP"]), tuple(w)) for w in draw.some(joins, n - 1)]
        _judged_parts(answer, v, Circuit(tuple(gates), n, 0, 0))


def of_rank(v: Conventions, draw, n: int, wires: list[int], rank: int) -> Tensor:
    """A random state whose Schmidt rank across the cut around these wires is `rank`."""
    inside, outside = draw.unitary(2 ** len(wires)), draw.unitary(2 ** (n - len(wires)))
    s = (0.3 + draw.uniform(rank)).to(torch.complex128)
    psi = ((inside[:, :rank] * (s / s.norm())) @ outside[:rank]).reshape([2] * n)
    axes = [w if v.zero_first else n - 1 - w for w in wires]
    axes += [a for a in range(n) if a not in axes]
    return psi.permute(*torch.tensor(axes).argsort().tolist()).flatten()


def _cuts(v: Conventions, draw, ranks) -> Iterator[tuple[Tensor, list[int], int]]:
    """States with cuts that are others when taken around the first axes, or counted from the other end."""
    for n, size, rank in ranks:
        while True:
            wires = draw.some(range(n), size)
            same = (set(wires), set(range(n)) - set(wires))
            elsewhere = set(range(size)), set(range(n - size, n)), {n - 1 - w for w in wires}
            if not any(place in same for place in elsewhere):
                break
        yield of_rank(v, draw, n, wires, rank), wires, rank


def elsewhere(v: Conventions, psi: Tensor, wires) -> list[tuple[tuple[int, float], str]]:
    """The cut at wrong places."""
    return [
        (cut(replace(v, zero_first=True), psi, range(len(wires))),
         "The cut is around the first axes of the state; bring the axes of the given wires to the front."),
        (cut(replace(v, zero_first=not v.zero_first), psi, wires),
         "The wires are counted from the other end of the index."),
    ]  # fmt: skip


@schmidt.has("gives the rank", 2)
def _(answer, v, draw):
    for psi, wires, rank in _cuts(v, draw, [(5, 2, 1), (5, 2, 2), (5, 3, 3), (6, 3, 5)]):
        got, measure = pair(answer(psi, wires), "the rank and the measure")
        got, n = numbers(got, (), "the rank"), int(math.log2(len(psi)))
        for (other, value), why in elsewhere(v, psi, wires):  # the ranks alone would not tell them apart
            if got == other != rank and close(numbers(measure, (), "the measure"), torch.tensor(value)):
                raise Mistake(why)
        full = min(2 ** len(wires), 2 ** (n - len(wires)))
        agree(got, torch.tensor(rank).double(), what=f"the rank ({n} wires, cut around wires {wires})", usual=[
            (torch.tensor(full), "This is the largest rank that the cut can have. A singular value that is zero comes "
                                 "out near 1e-17: count those above 1e-9."),
            (torch.tensor(math.log2(rank)), "This is the logarithm of the rank."),
            (torch.tensor(2 ** len(wires)), "This is the number of rows; only singular values above 1e-9 count."),
        ])  # fmt: skip


@schmidt.has("measures the entanglement", 2)
def _(answer, v, draw):
    for psi, wires, _ in _cuts(v, draw, [(5, 2, 3), (6, 3, 4), (5, 3, 1)]):
        p = squares(v, psi, wires)
        s = p.clamp_min(0).sqrt()
        got = pair(answer(psi, wires), "the rank and the measure")[1]
        agree(got, torch.tensor(cut(v, psi, wires)[1]).double(), what="the measure", usual=[
            *[(rule(p), f"This is {name}; asked for here is {v.measure}.") for name, rule in MEASURES.items()],
            (MEASURES[v.measure](s), "This takes the singular values s_j; p_j is their square."),
            (MEASURES[v.measure](s / s.sum()), "This normalises the singular values s_j; p_j is s_j², whose sum is 1."),
            (-MEASURES[v.measure](p), "The sign is the other one."),
        ])  # fmt: skip


def misread(circuit: Circuit, wire: int) -> list[tuple[dict[str, set[int]], str]]:
    """What usual mistakes in reading the gates make of a light cone: wires and weights."""
    part = next(set(p) for p in interaction_graph(circuit).components if wire in p)
    back = circuit.gates[::-1]
    return [
        (walked(circuit.gates, wire, _touches),
         "This walks from the first gate to the last, and finds what the wire can influence; the cone is found from "
         "the last gate to the first."),
        (walked(back, wire, lambda g, _: bool(set(g.wires) & part)),
         "This is the whole component: a gate that acts after all gates of the cone on its wires cannot matter."),
        (walked(back, wire, lambda g, _: wire in g.wires),
         "Only gates on the wire itself are counted; the wires they join carry the cone on to earlier gates."),
        (walked(back, wire, lambda g, found: bool(found & set(g.targets))),
         "A gate counts here only where its target is in the cone; by the definition above its control counts, too."),
    ]  # fmt: skip


def moving(circuit: Circuit, wire: int) -> dict[str, set[int]]:
    """The inputs and weights that move an output in fact."""
    audit = audit_circuit(circuit, points=2)
    weights = audit.weight_to_output[:, wire] > 1e-9
    return {"wires": set(audit.inputs_of(wire)), "weights": set(weights.nonzero().flatten().tolist())}


def cone_mistakes(circuit: Circuit, wire: int) -> list[tuple[dict[str, set[int]], str]]:
    """What usual mistakes make of a light cone."""
    audited = ("This is what moves the output in fact, as an audit finds it; the cone, read from the gates alone, is a "
               "bound and may hold more.")  # fmt: skip
    return [*misread(circuit, wire), (moving(circuit, wire), audited)]


def _other(v: Conventions) -> str:
    return "weights" if v.cone == "wires" else "wires"


def telling(v: Conventions, draw, n_wires: int, n_gates: int) -> tuple[Circuit, int]:
    """A random circuit and an output for which the right cone and those by usual mistakes are all different."""
    while True:
        circuit = draw.circuit(n_wires, n_gates, NAMES)
        for wire in range(n_wires):
            right = cone(circuit, wire)
            answers = [right[v.cone], right[_other(v)], *(found[v.cone] for found, _ in misread(circuit, wire))]
            if _all_different(answers) and _all_different([*answers, moving(circuit, wire)[v.cone]]):
                return circuit, wire


def _all_different(sets: list[set[int]]) -> bool:
    return len({frozenset(s) for s in sets}) == len(sets)


def _judged_cone(answer, v, draw, n_wires: int, n_gates: int) -> None:
    circuit, wire = telling(v, draw, n_wires, n_gates)
    right, value = cone(circuit, wire), answer(circuit, wire)
    got = {int(k) for k in numbers(sorted(value) if isinstance(value, set | frozenset) else value).flatten().tolist()}
    want = right[v.cone]
    if got == want:
        return
    if got == right[_other(v)]:
        raise Mistake(f"These are the {_other(v)} of the cone; its {v.cone} are wanted.")
    if got == want - {wire} and v.cone == "wires":
        raise Mistake("The wire of the output itself is missing; it belongs to its cone.")
    for found, why in cone_mistakes(circuit, wire):
        if got == found[v.cone]:
            raise Mistake(why)
    more, less = sorted(got - want), sorted(want - got)
    said = [f"{v.cone} {more} do not belong in it"] * bool(more) + [f"{v.cone} {less} are missing"] * bool(less)
    raise Mistake(f"For output {wire} of a random circuit, {' and '.join(said)}.")


@light_cone.has("is right on circuits of five and six wires", 2)
def _(answer, v, draw):
    for n_wires in (5, 6, 6):
        _judged_cone(answer, v, draw, n_wires, n_wires + 4)


@light_cone.has("is right on circuits of eight wires", 1)
def _(answer, v, draw):
    for _ in range(2):
        _judged_cone(answer, v, draw, 8, 14)


def _own(answer, v) -> Circuit:
    """The student's ansatz, if its form is as asked."""
    circuit = _as_circuit(answer())
    sizes = circuit.n_wires, circuit.n_inputs
    if sizes != (12, 12):
        raise Mistake(f"12 wires and 12 inputs are wanted; this circuit has {sizes[0]} and {sizes[1]}.")
    if not 12 <= circuit.n_weights <= v.budget:
        raise Mistake(f"12 to {v.budget} weights are allowed; this circuit has {circuit.n_weights}.")
    others = sorted({g.name for g in circuit.gates if len(g.wires) == 2} - {v.coupler})
    if others:
        raise Mistake(f"Wires are joined by {', '.join(others)}; in this variant only {v.coupler} may join them.")
    if len(circuit.gates) > MOST_GATES:
        raise Mistake(
            f"The circuit has {len(circuit.gates)} gates; {MOST_GATES} are allowed, and far fewer are enough."
        )
    return circuit


def _some(numbers_: list[int]) -> str:
    return ", ".join(map(str, numbers_[:8])) + " …" * (len(numbers_) > 8)


@own_ansatz.has("lets every output depend on every input", 2)
def _(answer, v, draw):
    circuit = _own(answer, v)
    audit = audit_circuit(circuit, points=3, seed=draw.whole(0, 2**31))
    seen = [audit.inputs_of(w) for w in range(12)]
    unused = sorted(set(range(12)) - {g.param[1] for g in circuit.gates if g.param and g.param[0] == "input"})
    if unused:
        raise Mistake(f"Inputs {_some(unused)} feed no gate: encode all twelve.")
    if all(len(s) == 12 for s in seen):
        return
    worst = min(range(12), key=lambda w: len(seen[w]))
    missing = sorted(set(range(12)) - set(seen[worst]))
    if len(interaction_graph(circuit).components) > 1:
        why = "the circuit has several components"
    elif set(missing) & (set(range(12)) - cone(circuit, worst)["wires"]):
        why = "its light cone does not hold them all"
    else:
        why = "its light cone holds them, but nothing carries them on: what commutes with Z is not seen by ⟨Z⟩"
    raise Mistake(f"Output {worst} does not depend on input(s) {_some(missing)}: {why}.")


@own_ansatz.has("has no weight without effect", 2)
def _(answer, v, draw):
    circuit = _own(answer, v)
    dead = list(audit_circuit(circuit, points=3, seed=draw.whole(0, 2**31)).dead_weights)
    if not dead:
        return
    gates = [g for g in circuit.gates if g.param and g.param[0] == "weight" and g.param[1] in dead]
    if not gates:
        raise Mistake(f"Weights {_some(dead)} feed no gate.")
    turns_z = all(g.name == "RZ" for g in gates)
    why = ": an RZ turns a phase, and without a gate behind it that mixes 0 and 1 no ⟨Z⟩ sees it" * turns_z
    raise Mistake(f"Weights {_some(dead)} move no output{why}.")


LAB = Lab(
    "03", "HQConv and FQConv", conventions=conventions, text=text,
    tasks=(hqconv, fqconv, components, schmidt, light_cone, own_ansatz),
    forbidden=("qdm_lib.circuits.hqconv", "qdm_lib.circuits.fqconv", "qdm_lib.circuits.hqconv_released",
               "qdm_lib.circuits.ANSATZE", "qdm_lib.audit.interaction_graph", "qdm_lib.audit.InteractionGraph"),
)  # fmt: skip
