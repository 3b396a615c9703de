"""The text and the figures of docs/engine.md: what the fast engine's plans look like. Counted, not timed.

    python study/benchmarks/engine_figures.py

Prints what `explain` says of FQConv and HQConv, and the Schmidt ranks of their states between channels
and between pixels for random inputs and weights. Writes docs/engine-wires.png and docs/engine-cost.png.
"""

import argparse
from pathlib import Path

import matplotlib.pyplot as plt
import torch
from matplotlib.axes import Axes

from qdm_lib.circuits import Circuit, fqconv, hqconv
from qdm_lib.engine import explain
from qdm_lib.engine.plan import decide, plain_cost
from qdm_lib.plots import OKABE_ITO
from qdm_lib.simulator import statevector

DOCS = Path(__file__).resolve().parents[2] / "docs"
COLOURS = [OKABE_ITO[name] for name in ("blue", "vermilion", "green", "purple")]
LAYERS = range(1, 7)
CHANNEL_0, PIXEL_0 = [0, 1, 2, 3], [0, 4, 8]


def schmidt_rank(circuit: Circuit, wires: list[int], seed: int = 0) -> int:
    """How many products (state of ``wires``) ⊗ (state of the others) the final state is the sum of, at least."""
    g = torch.Generator().manual_seed(seed)
    x = 3 * torch.randn(1, circuit.n_inputs, generator=g, dtype=torch.float64)
    theta = torch.rand(circuit.n_weights, generator=g, dtype=torch.float64)
    psi = statevector(circuit, x, theta)[0]
    others = [w for w in range(circuit.n_wires) if w not in wires]
    values = torch.linalg.svdvals(psi.permute(*wires, *others).reshape(2 ** len(wires), -1))
    return int((values > 1e-10).sum())


def draw_wires(circuit: Circuit, ax: Axes) -> Axes:
    """Wires as dots, one column for each channel; gates as lines; one colour for each site or component."""
    plan = decide(circuit)
    sites = []
    for component in plan.components:
        chain = component.chosen.chain
        inside = [site.wires for site in chain.sites] if chain else [range(len(component.wires))]
        sites += [[component.wires[w] for w in site] for site in inside]
    at = {w: (w // 4, -(w % 4)) for w in range(circuit.n_wires)}
    of = {w: k for k, site in enumerate(sites) for w in site}
    for a, b in sorted({tuple(sorted(gate.wires)) for gate in circuit.gates if len(gate.wires) == 2}):
        crosses = of[a] != of[b]
        skips = abs(a // 4 - b // 4) > 1 or abs(a % 4 - b % 4) > 1  # bent around the dots between
        style = {"color": "black" if crosses else COLOURS[of[a] % 4], "lw": 1.5, "ls": "--" if crosses else "-"}
        bend = f"arc3,rad={0.25 if skips else 0.0}"
        ax.annotate("", at[a], at[b], arrowprops={"arrowstyle": "-", "connectionstyle": bend, **style}, zorder=1)
    for wire, (x, y) in at.items():
        ax.scatter(x, y, s=260, color=COLOURS[of[wire] % 4], zorder=2)
        ax.text(x, y, str(wire), color="white", ha="center", va="center", fontsize=8, zorder=3)
    ax.set(xlim=(-0.4, 2.6), ylim=(-3.5, 0.5), title=circuit.name)
    ax.set_xticks([0, 1, 2], ["channel 0", "channel 1", "channel 2"])
    ax.set_yticks([0, -1, -2, -3], [f"pixel {p}" for p in range(4)])
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    return ax


def draw_cost(ax: Axes) -> Axes:
    """Flops of one row, forward, against layers: every way of HQConv and the chosen one of FQConv."""
    curves = {"HQConv, plain statevector": [plain_cost(hqconv(k)).flops for k in LAYERS]}
    for kind, name in (("statevector", "HQConv, fused statevector"), ("chain", "HQConv, chain of sites")):
        curves[name] = [decide(hqconv(k), kind).components[0].chosen.cost.flops for k in LAYERS]
    curves["FQConv, four small matrices"] = [
        sum(component.chosen.cost.flops for component in decide(fqconv(k)).components) for k in LAYERS
    ]
    for (name, flops), colour, marker in zip(curves.items(), COLOURS, "os^D", strict=True):
        ax.plot(LAYERS, flops, color=colour, marker=marker, label=name)
    ax.set(yscale="log", xlabel="layers", ylabel="flops of one row, forward (counted)")
    ax.legend(frameon=False, fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.17), ncols=2)
    return ax


def draw_ranks(ranks: list[tuple[int, int, int]], ax: Axes) -> Axes:
    """Schmidt rank between channel 0 and the others against the bound 2^layers and the dimension of four wires."""
    ax.plot(LAYERS, [2**k for k in LAYERS], color="black", ls=":", label="2^layers")
    ax.axhline(16, color=OKABE_ITO["orange"], ls="--", label="16, all that four wires can have")
    ax.plot(LAYERS, [hq for hq, _, _ in ranks], color=COLOURS[0], marker="o", ls="", label="HQConv, channel 0")
    ax.plot(LAYERS, [fq for _, _, fq in ranks], color=COLOURS[1], marker="s", ls="", label="FQConv, pixel 0")
    ax.set(yscale="log", xlabel="layers", ylabel="Schmidt rank with all other wires")
    ax.set_yticks([1, 2, 4, 8, 16, 32, 64], ["1", "2", "4", "8", "16", "32", "64"])
    ax.minorticks_off()
    ax.legend(frameon=False, fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.17), ncols=2)
    return ax


def main() -> None:
    argparse.ArgumentParser(description=__doc__.split("\n\n")[0]).parse_args()
    for circuit in (fqconv(3), hqconv(3)):
        explain(circuit)
        print()
    ranks = []
    print("Schmidt ranks, random inputs and weights (singular values above 1e-10)")
    print("layers  HQConv, channel 0 | others  FQConv, channel 0 | others  FQConv, pixel 0 | others")
    for k in LAYERS:
        row = schmidt_rank(hqconv(k), CHANNEL_0), schmidt_rank(fqconv(k), CHANNEL_0), schmidt_rank(fqconv(k), PIXEL_0)
        ranks.append(row)
        print(f"{k:6d}  {row[0]:26d}  {row[1]:26d}  {row[2]:24d}")
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    draw_wires(fqconv(3), axes[0])
    draw_wires(hqconv(3), axes[1])
    figure.savefig(DOCS / "engine-wires.png", dpi=120)
    figure, axes = plt.subplots(1, 2, figsize=(10, 4.2), layout="constrained")
    draw_cost(axes[0])
    draw_ranks(ranks, axes[1])
    figure.savefig(DOCS / "engine-cost.png", dpi=120)


if __name__ == "__main__":
    main()
