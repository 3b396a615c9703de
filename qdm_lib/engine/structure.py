"""What the fast engine reads off a circuit before it computes anything. Plain Python, no tensors.

Four questions, in this order: which wires does no gate connect (`components`); where do the inputs enter
(`split_encoding`); can a component be cut into sites that only a few controlled gates join (`partitions`, `lay_chain`);
and which gates can be multiplied together first (`fuse`, `group`).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import permutations

from qdm_lib.circuits import Circuit, Gate

DIAGONAL = {"RZ", "CRZ", "CZ", "PauliZ", "S", "T"}  # these commute with Z on every wire they touch


def reads_input(gate: Gate) -> bool:
    """Whether the angle of this gate comes from the data."""
    return gate.param is not None and gate.param[0] == "input"


def untangle(circuit: Circuit) -> tuple[list[Gate], list[int]]:
    """Take the SWAPs out by renaming wires, and give every CZ its lower wire as control.

    Returns the other gates, and for each output the wire on which its Z is now measured.
    """
    where, gates = list(range(circuit.n_wires)), []
    for gate in circuit.gates:
        if gate.name == "SWAP":
            a, b = gate.wires
            where[a], where[b] = where[b], where[a]
        else:
            wires = tuple(where[w] for w in gate.wires)
            gates.append(replace(gate, wires=tuple(sorted(wires)) if gate.name == "CZ" else wires))
    return gates, where


def components(gates: Sequence[Gate], n_wires: int) -> list[list[int]]:
    """Groups of wires that gates connect, directly or through others; no gate joins two groups."""
    group = list(range(n_wires))
    for gate in gates:
        joined = {group[w] for w in gate.wires}
        group = [min(joined) if g in joined else g for g in group]
    return [[w for w in range(n_wires) if group[w] == g] for g in sorted(set(group))]


def restrict(gates: Sequence[Gate], wires: Sequence[int]) -> list[Gate]:
    """The gates whose wires all lie in ``wires``, with wires renumbered by their place there."""
    place = {w: k for k, w in enumerate(wires)}
    inside = [g for g in gates if all(w in place for w in g.wires)]
    return [replace(g, wires=tuple(place[w] for w in g.wires)) for g in inside]


@dataclass(frozen=True)
class Encoding:
    """The rotation of one wire out of |0⟩, by the sum of these gates' angles about one axis.

    RX by a gives (cos a/2, −i sin a/2) and RY gives (cos a/2, sin a/2): real numbers, but for a factor −i that is moved
    into the matrix that follows.
    """

    axis: str = "RX"
    gates: tuple[Gate, ...] = ()


def split_encoding(gates: Sequence[Gate], n_wires: int) -> tuple[list[Encoding], list[Gate]]:
    """Split off the first RX (or RY) rotations of each wire, up to the last that reads an input.

    Returns one `Encoding` for each wire (without gates where the wire starts as |0⟩), and all other gates in their
    order.
    """
    leading: list[list[int]] = [[] for _ in range(n_wires)]
    closed: set[int] = set()
    for k, gate in enumerate(gates):
        (wire, *others) = gate.wires
        same_axis = all(gates[j].name == gate.name for j in leading[wire])
        if not others and wire not in closed and gate.name in ("RX", "RY") and same_axis:
            leading[wire].append(k)
        else:
            closed.update(gate.wires)
    found, taken = [], set()
    for run in leading:
        while run and not reads_input(gates[run[-1]]):
            run.pop()
        found.append(Encoding(gates[run[0]].name, tuple(gates[k] for k in run)) if run else Encoding())
        taken.update(run)
    return found, [g for k, g in enumerate(gates) if k not in taken]


def fuse(gates: Sequence[Gate]) -> list[list[Gate]]:
    """Runs of neighbours with the same control and the same target: each run is one 2×2 matrix.

    Gates on other wires may stand between neighbours. Applying the runs one after another is the same as applying the
    gates one after another.
    """
    runs: list[list[Gate]] = []
    latest: dict[int, int] = {}  # wire -> the last run that touches it
    for gate in gates:
        before = {latest.get(wire, -1) for wire in gate.wires}
        run = before.pop() if len(before) == 1 else -1
        if run >= 0 and runs[run][0].wires == gate.wires:
            runs[run].append(gate)
        else:
            latest.update(dict.fromkeys(gate.wires, len(runs)))
            runs.append([gate])
    return runs


def group(gates: Sequence[Gate], max_wires: int) -> list[tuple[tuple[int, ...], list[Gate]]]:
    """Gather gates into blocks of at most ``max_wires`` wires, for the statevector.

    A gate joins the last block that touches its wires if the block stays small; a gate that reads an input (a different
    matrix for each row) stays alone. Returns (wires, gates) of each block.
    """
    blocks: list[tuple[set[int], list[Gate]]] = []
    latest: dict[int, int] = {}
    for gate in gates:
        k = max(latest.get(w, -1) for w in gate.wires)
        joins = k >= 0 and not reads_input(gate) and not reads_input(blocks[k][1][0])
        if not joins or len(blocks[k][0] | set(gate.wires)) > max_wires:
            k = len(blocks)
            blocks.append((set(), []))
        blocks[k][0].update(gate.wires)
        blocks[k][1].append(gate)
        latest.update(dict.fromkeys(gate.wires, k))
    return [(tuple(sorted(wires)), mine) for wires, mine in blocks]


# ----------------------------------------------------------------------------------- sites: where to cut


def coupling(gates: Sequence[Gate], n_wires: int) -> list[list[int]]:
    """How many runs of two-wire gates join each pair of wires: (n_wires, n_wires), symmetric."""
    weight = [[0] * n_wires for _ in range(n_wires)]
    for run in fuse(gates):
        if len(run[0].wires) == 2:
            a, b = run[0].wires
            weight[a][b] += 1
            weight[b][a] += 1
    return weight


def minimum_cut(wires: Sequence[int], weight: list[list[int]]) -> tuple[list[int], list[int]]:
    """The two halves of ``wires`` that the fewest gates join (Stoer and Wagner's algorithm)."""
    merged = {w: [w] for w in wires}
    best, side = None, [wires[0]]
    w = {a: {b: weight[a][b] for b in wires if b != a} for a in wires}
    while len(w) > 1:
        order = [next(iter(w))]
        pull = dict(w[order[0]])
        while pull:  # the next wire is the one most strongly tied to those already taken
            last = max(pull, key=pull.get)
            strength = pull.pop(last)
            order.append(last)
            for other in pull:
                pull[other] += w[last][other]
        if best is None or strength < best:
            best, side = strength, list(merged[last])
        before = order[-2]  # merge the last two
        merged[before] += merged.pop(last)
        for other, value in w.pop(last).items():
            w[other].pop(last)
            if other != before:
                w[before][other] += value
                w[other][before] += value
    return sorted(side), sorted(set(wires) - set(side))


def partitions(gates: Sequence[Gate], n_wires: int) -> Iterator[list[list[int]]]:
    """Ways to cut the wires into sites, coarse to fine: the largest site is cut where it is weakest."""
    weight = coupling(gates, n_wires)
    sites = [list(range(n_wires))]
    while len(sites) < n_wires:
        largest = max(sites, key=len)
        sites.remove(largest)
        sites += minimum_cut(largest, weight)
        yield order_sites(sites, weight)


def order_sites(sites: list[list[int]], weight: list[list[int]]) -> list[list[int]]:
    """Put the sites in a row so that few gates reach over each gap."""

    def gaps(row: Sequence[list[int]]) -> int:
        total = 0
        for k in range(1, len(row)):
            left, right = [w for site in row[:k] for w in site], [w for site in row[k:] for w in site]
            total += 2 ** sum(weight[a][b] for a in left for b in right)
        return total

    rows = permutations(sorted(sites)) if len(sites) <= 5 else [tuple(sorted(sites))]
    return list(min(rows, key=gaps))


# --------------------------------------------------------------------------- sites: what happens on each


@dataclass
class Site:
    """A few wires of a chain, and what happens to them in time.

    ``events`` holds ("block", gates), ("control", bond, wire) and ("target", bond, gates), wires numbered within the
    site. ``left`` and ``right`` list the crossing gates ("bonds") that reach over the gap on that side; a bond in both
    passes over this site.
    """

    wires: list[int]
    events: list[tuple] = field(default_factory=list)
    left: list[int] = field(default_factory=list)
    right: list[int] = field(default_factory=list)
    n_open: int = 0  # the last n_open wires take part in a readout


@dataclass
class Readout:
    """Outputs that the last crossing gates mix: read from the density matrix of ``wires``.

    ``first`` and ``last`` are the sites involved, ``gates`` the crossing gates on these wires (numbered by their place
    in ``wires``), ``outputs`` the wires whose Z is read here.
    """

    first: int
    last: int
    wires: list[int]
    gates: list[Gate]
    outputs: list[int]


@dataclass
class Chain:
    """A component as a row of sites joined by bonds of dimension 2, one for each crossing gate."""

    sites: list[Site]
    readouts: list[Readout]
    plain: list[int]  # wires whose Z is read on their site alone


def split_trailing(gates: Sequence[Gate], site_of: Sequence[int]) -> tuple[list[Gate], list[Gate]]:
    """Split off the crossing gates after which nothing happens inside the sites on their wires.

    With them go the single-wire gates on these wires that no remaining gate follows. Returns (body, trailing).
    """
    blocked: set[int] = set()
    crossing_wires: set[int] = set()
    taken: list[int] = []
    for k in reversed(range(len(gates))):
        wires = gates[k].wires
        crosses = len({site_of[w] for w in wires}) == 2
        inside = len(wires) == 2 and not crosses
        if inside or reads_input(gates[k]) or not blocked.isdisjoint(wires):
            blocked.update(wires)
        else:
            taken.append(k)
            crossing_wires.update(wires if crosses else ())
    trailing = {k for k in taken if set(gates[k].wires) <= crossing_wires}
    body = [g for k, g in enumerate(gates) if k not in trailing]
    return body, [g for k, g in enumerate(gates) if k in trailing]


def light_cone(gates: Sequence[Gate], wire: int) -> set[int]:
    """The wires before ``gates`` on which Z of ``wire``, measured after them, depends.

    Going back in time, a controlled gate matters only if the observable acts on its target, or on its control other
    than by a diagonal matrix: Z on a control commutes with the gate. The set is empty if no gate matters at all.
    """
    diagonal = {wire: True}  # wires the observable acts on, and whether it is diagonal there
    unchanged = True
    for gate in reversed(gates):
        (target,) = gate.targets
        commutes = all(diagonal.get(c, True) for c in gate.controls) and (
            target not in diagonal or (gate.name in DIAGONAL and diagonal[target])
        )
        if not commutes:
            unchanged = False
            diagonal[target] = diagonal.get(target, True) and gate.name in DIAGONAL
            for control in gate.controls:
                diagonal.setdefault(control, True)
    return set() if unchanged else set(diagonal)


def lay_chain(gates: Sequence[Gate], sites: list[list[int]], max_open: int = 4, max_bonds: int = 8) -> Chain | None:
    """The chain of these sites, or None where it would not pay (or a crossing gate reads an input)."""
    n_wires = sum(map(len, sites))
    site_of = [next(k for k, site in enumerate(sites) if w in site) for w in range(n_wires)]
    body, trailing = split_trailing(gates, site_of)
    chain = Chain([], [], [])
    cones = {w: light_cone(trailing, w) for w in range(n_wires)}
    chain.plain = [w for w in range(n_wires) if not cones[w]]
    open_wires = set().union(*cones.values())
    for site in sites:
        mine = [w for w in site if w in open_wires]
        chain.sites.append(Site([w for w in site if w not in mine] + mine, n_open=len(mine)))
    for w, cone in cones.items():
        if cone:
            reached = [site_of[v] for v in cone]
            first, last, outputs = min(reached), max(reached), [w]
            for other in [r for r in chain.readouts if r.first <= last and first <= r.last]:  # they share a site
                chain.readouts.remove(other)
                first, last = min(first, other.first), max(last, other.last)
                outputs = other.outputs + outputs
            chain.readouts.append(Readout(first, last, [], [], outputs))
    for readout in chain.readouts:
        sites_read = chain.sites[readout.first : readout.last + 1]
        readout.wires = [w for site in sites_read for w in site.wires[len(site.wires) - site.n_open :]]
        readout.gates = restrict(trailing, readout.wires)
    chain.readouts.sort(key=lambda readout: readout.first)
    if any(len(readout.wires) > max_open for readout in chain.readouts):
        return None
    return chain if add_events(chain, body, site_of, max_bonds) else None


def add_events(chain: Chain, body: Sequence[Gate], site_of: Sequence[int], max_bonds: int) -> bool:
    """Fill in what happens on each site; False if a gate reads an input, or more than max_bonds cross one gap."""
    place = {w: k for site in chain.sites for k, w in enumerate(site.wires)}
    bond = 0
    for run in fuse(body):
        ends = [site_of[w] for w in run[0].wires]
        if len(set(ends)) == 1:
            events = chain.sites[ends[0]].events
            if not events or events[-1][0] != "block":
                events.append(("block", []))
            events[-1][1].extend(replace(g, wires=tuple(place[w] for w in g.wires)) for g in run)
            continue
        if any(map(reads_input, run)):
            return False
        control, target = ends
        applied = [target_gate(g, place[g.targets[0]]) for g in run]
        chain.sites[control].events.append(("control", bond, place[run[0].wires[0]]))
        chain.sites[target].events.append(("target", bond, applied))
        for k in range(min(ends), max(ends)):
            chain.sites[k].right.append(bond)
            chain.sites[k + 1].left.append(bond)
        bond += 1
    inputs_left = any(reads_input(g) for site in chain.sites for e in site.events if e[0] == "block" for g in e[1])
    return not inputs_left and all(len(site.right) <= max_bonds for site in chain.sites)


def target_gate(gate: Gate, wire: int) -> Gate:
    """What a controlled gate does to its target when the control is 1, as a gate on ``wire``."""
    name = {"CNOT": "PauliX", "CZ": "PauliZ"}.get(gate.name, gate.name.removeprefix("C"))
    return replace(gate, name=name, wires=(wire,))


@dataclass(frozen=True)
class Role:
    """A site's part in a `Readout`: ``bits`` = 2^(open wires); the readout passes on to the next site, or ends here.

    ``diagonal``: only equal bits in bra and ket are needed, because these wires are mere controls.
    """

    bits: int = 1
    passes: bool = False
    ends: bool = False
    diagonal: bool = False

    @property
    def pairs(self) -> int:
        """How many pairs (bra bits, ket bits) are kept."""
        return self.bits if self.diagonal else self.bits**2

    @property
    def equal(self) -> range:
        """Which of these pairs have the same bits in bra and ket: all, or the diagonal of a square table."""
        return range(0, self.pairs, 1 if self.diagonal else self.bits + 1)


def roles(chain: Chain) -> list[Role]:
    """The part of each site in the readouts; a site outside all of them has no open bits."""
    found = [Role() for _ in chain.sites]
    for readout in chain.readouts:
        changed = {readout.wires[g.targets[0]] for g in readout.gates} | set(readout.outputs)
        for k in range(readout.first, readout.last + 1):
            first, last = k == readout.first, k == readout.last
            controls_only = first and not last and changed.isdisjoint(chain.sites[k].wires)
            found[k] = Role(2 ** chain.sites[k].n_open, not last, last, controls_only)
    return found
