"""Which way to simulate a circuit is cheapest: counted from the plan, before anything is computed.

Three ways are weighed for every component (see `qdm_lib.engine.structure`): ``"unitary"``, the whole component as one
matrix; ``"chain"``, sites joined by bonds, for several ways to cut; ``"statevector"``. What is counted, for one row of
one circuit and the forward pass alone:

- flops: real additions and multiplications. A product of complex matrices (a, b) and (b, c) takes 8·a·b·c, a real one
  2·a·b·c. The backward pass repeats these products about twice, whichever way is taken, so it does not change the
  choice.
- bytes: the results that are written, in single precision (8 for a complex number). With gradients most of them also
  stay in memory until the backward pass.
- weights: flops that serve all rows of a circuit, to turn its weights into matrices.
- calls: roughly how many tensor operations are started; each takes some time however small it is.

The cheapest way has the smallest ``flops + FLOPS_PER_BYTE · bytes + (weights + FLOPS_PER_CALL · calls) / ROWS``. The
three constants are round numbers that put the ways in the order of their measured times on one processor
(`study/benchmarks/scaling.py` measures where the chain stops paying).
"""

from collections.abc import Sequence
from dataclasses import astuple, dataclass, replace
from functools import lru_cache

from qdm_lib.circuits import Circuit, Gate
from qdm_lib.engine.structure import (
    Chain,
    Encoding,
    components,
    fuse,
    group,
    lay_chain,
    partitions,
    reads_input,
    restrict,
    roles,
    split_encoding,
    untangle,
)

KINDS = ("unitary", "chain", "statevector")
FLOPS_PER_BYTE = 16  # this many flops take about as long as writing one byte of results
FLOPS_PER_CALL = 200_000  # … and this many about as long as starting one operation, forward and backward
ROWS = 128  # rows of a circuit that share, for the choice, the cost of weights and calls
MAX_UNITARY = 6  # wires of the largest component, and of the largest site, that is made into one matrix
MAX_BLOCK = 4  # wires of the largest block of gates that the statevector multiplies first


@dataclass(frozen=True)
class Cost:
    """Flops and bytes for one row, forward; flops for the weights of one circuit; operations started."""

    flops: int = 0
    bytes: int = 0
    weights: int = 0
    calls: int = 0

    def __add__(self, other: "Cost") -> "Cost":
        pairs = zip(astuple(self), astuple(other), strict=True)
        return Cost(*(mine + theirs for mine, theirs in pairs))

    @property
    def total(self) -> float:
        """What the choice compares: everything for one row, in flops."""
        return self.flops + FLOPS_PER_BYTE * self.bytes + (self.weights + FLOPS_PER_CALL * self.calls) / ROWS


@dataclass(frozen=True)
class Candidate:
    """One way to run a component; ``chain`` for kind "chain" only."""

    kind: str
    cost: Cost
    chain: Chain | None = None


@dataclass(frozen=True)
class Component:
    """Wires that gates connect, the rotations that open them, the other gates, and the ways to run them.

    Gates and encodings number the wires by their place in ``wires``. The cheapest candidate comes first and is the
    ``chosen`` one, unless another was forced.
    """

    wires: tuple[int, ...]
    encoding: tuple[Encoding, ...]
    gates: tuple[Gate, ...]
    candidates: tuple[Candidate, ...]
    chosen: Candidate


@dataclass(frozen=True)
class Plan:
    """How to run a circuit; output k is Z of wire ``where[k]`` once SWAPs are taken out."""

    circuit: Circuit
    components: tuple[Component, ...]
    where: tuple[int, ...]


@lru_cache(maxsize=256)
def decide(circuit: Circuit, force: str | None = None) -> Plan:
    """Choose the cheapest way for every component of a circuit.

    force: "unitary", "chain" or "statevector" takes this way wherever it is possible, and the statevector elsewhere.
    The answer is the same; forcing is for tests and comparisons.

    ValueError where ``force`` is something else.
    """
    if force is not None and force not in KINDS:
        raise ValueError(f"Unknown plan {force!r}; wanted None or one of {', '.join(KINDS)}.")
    gates, where = untangle(circuit)
    found, groups = [], components(gates, circuit.n_wires)
    for wires in groups:
        encoding, rest = split_encoding(restrict(gates, wires), len(wires))
        alike = sum(len(other) == len(wires) for other in groups)
        ways = sorted(candidates(rest, len(wires), alike), key=lambda way: way.cost.total)
        wanted = [way for way in ways if way.kind == force] or [way for way in ways if way.kind == "statevector"]
        chosen = ways[0] if force is None else wanted[0]
        found.append(Component(tuple(wires), tuple(encoding), tuple(rest), tuple(ways), chosen))
    return Plan(circuit, tuple(found), tuple(where))


def candidates(gates: Sequence[Gate], n_wires: int, alike: int = 1) -> list[Candidate]:
    """The ways to run a component, given its gates after the encoding; of all chains only the cheapest.

    alike: how many components have this many wires; as unitaries they run together, so they share the calls.
    """
    found = [Candidate("statevector", statevector_cost(gates, n_wires))]
    if not any(map(reads_input, gates)):
        if n_wires <= MAX_UNITARY:
            found.append(Candidate("unitary", unitary_cost(gates, n_wires, alike)))
        fit = [sites for sites in partitions(gates, n_wires) if max(map(len, sites)) <= MAX_UNITARY]
        chains = [chain for chain in (lay_chain(gates, sites) for sites in fit) if chain]
        found += sorted((Candidate("chain", chain_cost(c), c) for c in chains), key=lambda way: way.cost.total)[:1]
    return found


# ------------------------------------------------------------------------------------------ the formulas


def encoding_cost(n_wires: int) -> Cost:
    """The real product vector of a group of wires, one wire after the other: 2 + 4 + … + 2^n numbers."""
    return Cost(2 * 2**n_wires, 4 * 2 * 2**n_wires, calls=7 + n_wires)


def matrices_cost(blocks: Sequence[Sequence[Gate]], n_wires: int) -> Cost:
    """Blocks of gates on n wires, each multiplied to one 2^n × 2^n matrix; for weights only."""
    size, runs = 2**n_wires, [len(fuse(block)) for block in blocks]
    written = sum(runs) * 8 * 4 * size**2  # the 2×2 matrices, put into large ones
    return Cost(weights=written + sum(max(0, n - 1) for n in runs) * 8 * size**3, calls=15)


def unitary_cost(gates: Sequence[Gate], n_wires: int, alike: int = 1) -> Cost:
    """A real (2·2^n, 2^n) matrix times the encoded vector, squares, and signed sums."""
    size = 2**n_wires
    flops = 2 * 2 * size * size + 2 * size + 2 * 2 * size * n_wires
    cost = encoding_cost(n_wires) + matrices_cost([gates], n_wires) + Cost(flops, 4 * (2 * size + 2 * size), calls=6)
    return replace(cost, calls=-(-cost.calls // alike))


def statevector_cost(gates: Sequence[Gate], n_wires: int) -> Cost:
    """Each block of m wires: the state's axes put in order, then a 2^m × 2^m matrix times 2^(n−m) columns."""
    size = 2**n_wires
    cost = encoding_cost(n_wires) + Cost(2 * size, 8 * size)  # and its phases
    for wires, block in group(gates, MAX_BLOCK):
        cost += Cost(8 * 2 ** len(wires) * size, 2 * 8 * size, calls=6)
        if not reads_input(block[0]):
            cost += matrices_cost([block], len(wires))
    return cost + Cost(3 * size + 2 * size * n_wires, 3 * 4 * size, calls=12)


def plain_cost(circuit: Circuit) -> Cost:
    """`qdm_lib.simulator`: each gate a 2×2 matrix on the state, half of it if the gate has a control."""
    size, cost = 2**circuit.n_wires, Cost()
    for gate in circuit.gates:
        if gate.name != "SWAP":
            cost += Cost(16 * size // 2 ** len(gate.controls), 8 * size, calls=12)
    return cost + Cost(3 * size + size * circuit.n_wires, 3 * 4 * size, calls=4 + 4 * circuit.n_wires)


def chain_cost(chain: Chain) -> Cost:
    """The vectors of every site, and the sweeps of `qdm_lib.engine.contraction` over them."""
    cost, pairs = Cost(), 1
    for k, (site, role) in enumerate(zip(chain.sites, roles(chain), strict=True)):
        size, left, right = 2 ** len(site.wires), 2 ** len(site.left), 2 ** len(site.right)
        amplitudes = left * size * right
        vector = Cost(2 * size * 2 * amplitudes, 8 * amplitudes)  # a real matrix times the encoded vector
        absorb_left, absorb_right = Cost(8 * left * amplitudes, 8 * amplitudes), Cost(8 * right * amplitudes)
        cost += encoding_cost(len(site.wires)) + vector + site_matrices_cost(chain, k)
        through = pairs if role.passes else 1  # environments that are carried over this site
        for _ in range(through):
            cost += absorb_left if k else Cost()
            cost += Cost(8 * right * role.bits * amplitudes, 8 * (right * role.bits) ** 2, calls=4)  # overlap
        last = k + 1 == len(chain.sites)
        cost += Cost() if last else absorb_right + Cost(0, 8 * amplitudes)
        cost += Cost(8 * left * amplitudes, 8 * left**2)  # overlap from the right
        plain = sum(w in chain.plain for w in site.wires)
        cost += Cost(2 * 2 * amplitudes + 2 * 2 * size * right * plain, 2 * 8 * size * right, calls=20)
        if role.ends:  # the density matrix of the readout
            cost += Cost(8 * left * role.bits * amplitudes + 8 * pairs * (left * role.bits) ** 2)
            cost += Cost(0, 8 * (left * role.bits) ** 2 + 8 * pairs * role.bits**2)
        pairs = pairs * role.pairs if role.passes else 1
    for readout in chain.readouts:
        cost += Cost(2 * 2 * len(readout.outputs) * 4 ** len(readout.wires), calls=10)
        cost += matrices_cost([readout.gates], len(readout.wires))
    return cost


def site_matrices_cost(chain: Chain, k: int) -> Cost:
    """The matrices K of one site: they grow by a factor of 2 with every bond that starts or ends here."""
    site, flops, branches = chain.sites[k], 0, 1
    size = 2 ** len(site.wires)
    for kind, *_ in site.events:
        flops += 0 if kind == "control" else 8 * branches * size**3
        branches *= 1 if kind == "block" else 2
    blocks = [event[-1] for event in site.events if event[0] != "control"]
    return Cost(weights=flops, calls=4 * len(site.events)) + matrices_cost(blocks, len(site.wires))
