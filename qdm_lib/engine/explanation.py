"""The fast engine's plan for a circuit, in words and numbers to read in class."""

from collections.abc import Sequence
from dataclasses import dataclass

from qdm_lib.circuits import Circuit
from qdm_lib.engine.plan import MAX_UNITARY, Candidate, Component, Cost, Plan, decide, plain_cost
from qdm_lib.engine.structure import reads_input


@dataclass(frozen=True)
class Explanation:
    """What `explain` found; its text is ``str(explanation)``.

    plan: components with their wires, candidates and the chosen one; a chosen chain holds sites (``wires``, ``left``
    and ``right`` bonds) and readouts. n_circuits, batch: what the totals are computed for. cost: of one row of one
    circuit, forward, as planned. plain: the same for the plain statevector, gate by gate.
    """

    plan: Plan
    n_circuits: int
    batch: int
    cost: Cost
    plain: Cost

    @property
    def kinds(self) -> list[str]:
        """The chosen way of each component."""
        return [component.chosen.kind for component in self.plan.components]

    @property
    def sites(self) -> list[list[list[int]]]:
        """For each component, the circuit's wires on each site; one site where it is not a chain."""
        return [component_sites(component) for component in self.plan.components]

    @property
    def bonds(self) -> list[list[int]]:
        """For each component, the dimensions of the bonds between neighbouring sites."""
        chains = [component.chosen.chain for component in self.plan.components]
        return [[2 ** len(site.right) for site in chain.sites[:-1]] if chain else [] for chain in chains]

    def __str__(self) -> str:
        c = self.plan.circuit
        lines = [f"{c.name}: {len(c.gates)} gates, {c.n_inputs} inputs, {c.n_weights} weights, {c.n_wires} wires", ""]
        many = len(self.plan.components) > 1
        lines.append(
            f"Gates connect these wires with each other and with no others: {len(self.plan.components)} independent "
            "components."
            if many
            else "Gates connect all wires, directly or through others: one component."
        )
        for number, component in enumerate(self.plan.components, 1):
            lines += describe(number, component)
        lines += ["", "Cost of one row, forward (* = chosen; all candidates give the same numbers)", ""]
        lines += align(self.rows())
        lines += [
            "",
            "  flops, bytes: arithmetic, and results written in single precision, for each row;",
            "  for the weights: flops once for all rows; calls: operations started, roughly, once for all rows.",
            "",
            *self.totals(),
        ]
        return "\n".join(lines)

    def rows(self) -> list[tuple[str, ...]]:
        """The table of candidates; components with the same candidates share their lines."""
        same: dict[tuple, list[int]] = {}
        for number, component in enumerate(self.plan.components, 1):
            key = tuple((way.kind, way.cost, way is component.chosen) for way in component.candidates)
            same.setdefault(key, []).append(number)
        table = [("component", "way", "", "flops", "bytes", "for the weights", "calls")]
        for numbers in same.values():
            component = self.plan.components[numbers[0] - 1]
            label = ", ".join(map(str, numbers)) + (" (each)" if len(numbers) > 1 else "")
            for way in component.candidates:
                mark = "*" if way is component.chosen else ""
                table.append((label, way_name(way), mark, *numbers_of(way.cost)))
                label = ""
        table.append(("whole circuit", "as planned", "", *numbers_of(self.cost)))
        table.append(("", "plain statevector", "", *numbers_of(self.plain)))
        return table

    def totals(self) -> list[str]:
        n = self.n_circuits * self.batch
        flops = n * self.cost.flops + self.n_circuits * self.cost.weights
        circuits = "1 circuit" if self.n_circuits == 1 else f"{self.n_circuits} circuits"
        return [
            f"{circuits} with {self.batch} rows each: {flops / 1e6:,.1f} million flops and "
            f"{n * self.cost.bytes / 1e6:,.1f} MB written;",
            f"plain statevector: {n * self.plain.flops / 1e6:,.1f} million flops and "
            f"{n * self.plain.bytes / 1e6:,.1f} MB.",
        ]


def explain(circuit: Circuit, *, n_circuits: int = 1, batch: int = 128) -> Explanation:
    """Print how the fast engine runs a circuit and what each way it could have taken costs.

    The numbers are counted from the plan, not measured; `qdm_lib.engine.plan` states the formulas. n_circuits, batch:
    at least 1; the totals at the end are for that many circuits with that many rows each. The plan does not depend on
    them. Returns an `Explanation`; what was printed is its ``str``.

    ValueError where n_circuits or batch is below 1.
    """
    if n_circuits < 1 or batch < 1:
        raise ValueError(f"Wanted n_circuits and batch of at least 1, got {n_circuits} and {batch}.")
    plan = decide(circuit)
    cost = sum((component.chosen.cost for component in plan.components), Cost())
    found = Explanation(plan, n_circuits, batch, cost, plain_cost(circuit))
    print(found)
    return found


def component_sites(component: Component) -> list[list[int]]:
    """The circuit's wires on each site of a component."""
    chain = component.chosen.chain
    sites = [site.wires for site in chain.sites] if chain else [range(len(component.wires))]
    return [sorted(component.wires[w] for w in site) for site in sites]


def describe(number: int, component: Component) -> list[str]:
    """What a component is and how it is run, in a few lines."""
    lines = [f"  {number}. {named(component.wires)}: {way_in_words(component)}"]
    chain = component.chosen.chain
    if not chain:
        return lines
    for k, (site, wires) in enumerate(zip(chain.sites, component_sites(component), strict=True), 1):
        left, right = len(site.left), len(site.right)
        shape = f"{2**left} × {2 ** len(site.wires)} × {2**right}"
        lines.append(f"       site {k}: {named(wires)}; {shape} amplitudes (left bond × site × right bond)")
        if k < len(chain.sites):
            gates = "1 gate" if right == 1 else f"{right} gates"
            lines.append(f"         | bond of dimension {2**right} = 2^{right}: {gates} over this gap")
    for readout in chain.readouts:
        outputs = named(sorted(component.wires[w] for w in readout.outputs))
        wires = named(sorted(component.wires[w] for w in readout.wires))
        lines.append(f"       Z of {outputs} is read after the last gates between sites, from {wires};")
        lines.append("         these gates need no bond")
    return lines


def way_in_words(component: Component) -> str:
    size = 2 ** len(component.wires)
    if component.chosen.kind == "unitary":
        return f"one {size} × {size} matrix, made from the weights once for all rows"
    if component.chosen.kind == "chain":
        return f"a chain of {len(component.chosen.chain.sites)} sites, an exact matrix product state"
    ways = {way.kind for way in component.candidates}
    if any(map(reads_input, component.gates)):
        reason = "inputs enter between other gates, so no matrix serves all rows"
    elif ways == {"statevector"}:
        reason = f"more than {MAX_UNITARY} wires, and no cut between sites that few gates cross"
    else:
        reason = "cheaper than the other ways"
    return f"a statevector of {size} amplitudes ({reason})"


def way_name(way: Candidate) -> str:
    return f"chain of {len(way.chain.sites)} sites" if way.chain else way.kind


def named(wires: Sequence[int]) -> str:
    """The wires as "wire 3" or "wires 0 4 8"."""
    return ("wire " if len(wires) == 1 else "wires ") + " ".join(map(str, wires))


def numbers_of(cost: Cost) -> tuple[str, ...]:
    return tuple(f"{n:,}" if n else "-" for n in (cost.flops, cost.bytes, cost.weights, cost.calls))


def align(table: Sequence[Sequence[str]]) -> list[str]:
    """Lines of aligned columns: text to the left, the last four columns (numbers) to the right."""
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = []
    for row in table:
        cells = [
            cell.rjust(w) if k >= 3 else cell.ljust(w) for k, (cell, w) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  " + "  ".join(cells).rstrip())
    return lines
