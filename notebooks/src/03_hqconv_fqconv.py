# %% [markdown]
# # 3 · HQConv and FQConv, taken apart
#
# The paper ([arXiv:2402.16147](https://arxiv.org/abs/2402.16147)) puts one of two circuits in the place of a
# convolution: **HQConv** or **FQConv**, two circuits of Jing et al. 2021
# ([arXiv:2107.11099](https://arxiv.org/abs/2107.11099)), who made them for the three colours of an image. Both take the
# 12 numbers of a 2×2 patch of three channels and return 12 numbers. This notebook takes them apart, gate by gate: what
# they join, how much entanglement they make, what they cost, and what the code that the authors released really runs.
#
# **Objectives.** After this notebook you can
#
# 1. say which pixel of which channel is on which wire, and write both circuits down as a list of gates;
# 2. read from the gates which inputs an output can depend on, and check it with derivatives;
# 3. measure the entanglement between two groups of wires, and bound it by counting gates;
# 4. explain why neither circuit needs a quantum computer, and what an exact simulator makes of that;
# 5. audit a circuit: find weights that are there and do nothing.
#
# **Prerequisites.** Notebook 02: state, wires, controlled rotations, $\langle Z\rangle$.
#
# **Measured** on one CPU core, including the start of Python: 22 s of processor time and 1.2 GB of memory; with
# `QDM_SIZE=test` 18 s and 0.9 GB. A busy machine takes longer. No network is needed.

# %% tags=["colab", "remove-cell"] jupyter={"source_hidden": true}
# On Google Colab: fetch the course, and install what is missing there. Anywhere else this cell does nothing.
import sys

if "google.colab" in sys.modules:
    import os
    import subprocess

    course = "/content/qdm-course"
    if not os.path.isdir(course):
        subprocess.run(["git", "clone", "--depth", "1", "https://github.com/OWNER/REPO", course], check=True)
        subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", "-e", course], check=True)
    sys.path.insert(0, course)
    os.chdir(course + "/notebooks")

# %%
import platform
import time
from dataclasses import replace

import matplotlib
import matplotlib.pyplot as plt
import pennylane as qml
import torch
from IPython.display import Markdown
from torch.testing import assert_close

import qdm_lib
from qdm_course.figures import draw_interaction_graph, draw_pennylane, draw_wire_map, liveness_map
from qdm_course.moving import moving_circuits
from qdm_course.size import show_size
from qdm_course.widgets import CircuitFigure, circuit_explorer
from qdm_labs.reading import check, solution  # noqa: F401  solution("03.1") shows one way to answer
from qdm_lib import paper
from qdm_lib.audit import audit_circuit, interaction_graph
from qdm_lib.blocks import CircuitConv, WeightStandardizedConv2d
from qdm_lib.circuits import TWO_PI, Circuit, Gate, fqconv, hqconv, hqconv_released
from qdm_lib.engine import explain, fast_simulate
from qdm_lib.plots import OKABE_ITO, draw_circuit, show_described
from qdm_lib.simulator import simulate, statevector
from qdm_lib.unet import build_unet, count_parameters

for name, version in {"Python": platform.python_version(), "torch": torch.__version__.split("+")[0],
                      "PennyLane": qml.__version__, "matplotlib": matplotlib.__version__,
                      "qdm_lib": qdm_lib.__version__}.items():  # fmt: skip
    print(f"{name:10} {version}")

# %%
FAST = show_size() == "test"  # smaller numbers, the same code
STATES = 8 if FAST else 100  # random states behind every average of entanglement
MAX_LAYERS = 4 if FAST else 6  # up to which entanglement is measured
TIMED_ROWS = 8 if FAST else 16  # patches in the batch that is timed
torch.set_num_threads(1)  # the tensors here are small: a second thread would cost more than it brings
BLUE, ORANGE, GREEN, GREY = (*(OKABE_ITO[c] for c in ("blue", "orange", "green")), "#777777")


def seeded(seed):
    """A source of random numbers that gives the same ones in every run."""
    return torch.Generator().manual_seed(seed)


def random_point(circuit, rows, seed=0):
    """Random inputs (rows, n_inputs) and weights (rows, n_weights), in double precision."""
    g = seeded(seed)
    x = torch.randn(rows, circuit.n_inputs, generator=g, dtype=torch.float64)
    return x, torch.rand(rows, circuit.n_weights, generator=g, dtype=torch.float64)


# %% [markdown]
# ## 1 · Twelve numbers on twelve wires
#
# A convolution with a 3×3 kernel looks at nine pixels of every channel at once. The circuits look at a patch of 2×2
# pixels of **three** channels. Number the channels c = 0, 1, 2 and the pixels p = 2·row + column. The number at
# channel c, pixel p goes to **wire 4·c + p**. It is encoded by RX(x), as it comes: no scaling.

# %%
show_described(
    draw_wire_map(), "Three squares of 2 by 2 pixels, one a channel: wires 0 to 3, then 4 to 7, then 8 to 11."
)

# %% [markdown]
# *Figure: the wire map. Each square is the patch in one channel; each pixel shows the wire it feeds.*
#
# In a tensor of shape (channel, row, column) that is the order in memory, so the map is one `reshape`. The library's
# `CircuitConv` cuts a feature map into patches and hands rows of 12 numbers to a layer. We give it a "layer" that
# returns its input and keeps a copy, and compare.

# %%
maps = torch.randn(5, 3, 2, 2, generator=seeded(0))  # five patches
by_hand = torch.stack([maps[:, c, row, column] for c in range(3) for row in (0, 1) for column in (0, 1)], 1)
assert_close(by_hand, maps.reshape(5, 12))


class Spy(torch.nn.Module):
    def forward(self, x):
        self.seen = x
        return x


spy = Spy()
back = CircuitConv(spy, n_circuits=1)(maps)
assert_close(spy.seen[:, 0], by_hand)  # (patches, circuits, wires)
assert_close(back, maps)  # output w goes back to where input w came from
print("wire 4·c + p holds channel c, pixel p; outputs return to the place of their inputs")

# %% [markdown]
# **Question 03.1.** Someone stores the patch as (row, column, channel) and reads it in that order, channels last, into
# wires 0 … 11. Which channel and pixel does wire 5 then carry? Answer with a pair (channel, pixel p).

# %%
my_channel_and_pixel = ..., ...
check("03.1", my_channel_and_pixel)

# %% [markdown]
# ## 2 · HQConv
#
# HQConv works in two stages. **Block A** stays inside a channel (*intra-channel*) and joins its four pixels in a ring.
# **Block B** joins neighbouring channels (*inter-channel*) by one wire each, their pixel 0. Each join is a CRZ and then
# a CRX from the same control to the same target, with a weight each; angles are $2\pi\theta$. The paper's formulas
# beside ours:

# %%
paper.block("A")

# %%
paper.block("B")

# %% [markdown]
# Written out for one layer, in the order and the direction of the released code:


# %%
def hqconv_pairs():
    """(control, target, block) of one layer of HQConv, in order."""
    pairs = []
    for c in (2, 1, 0):  # block A: channels last to first
        for i in (3, 2, 1, 0):  # around the ring
            pairs.append((4 * c + (i + 1) % 4, 4 * c + i, "A"))
    pairs.append((4, 8, "B"))  # channel 1 → channel 2
    pairs.append((0, 4, "B"))  # channel 0 → channel 1
    return pairs


def hqconv_by_hand(layers):
    gates = [Gate("RX", (w,), ("input", w), block="encoding") for w in range(12)]
    for control, target, block in hqconv_pairs() * layers:
        for name in ("CRZ", "CRX"):
            weight = ("weight", len(gates) - 12)
            gates.append(Gate(name, (control, target), weight, scale=TWO_PI, block=block))
    return Circuit(tuple(gates), n_wires=12, n_inputs=12, n_weights=len(gates) - 12)


assert hqconv_by_hand(3).gates == hqconv(3).gates  # the library's ansatz is the same list
print("one layer:", [f"{c}→{t} {block}" for c, t, block in hqconv_pairs()])

# %%
show_described(
    draw_circuit(hqconv(1), boxed=True, title=f"{paper.figure(5).name} · HQConv, one layer"),
    "One HQConv layer: a dashed box A in each of three channels, a staircase of gates; then box B with two joins.",
)
show_described(
    draw_pennylane(hqconv(1)), "The same layer as PennyLane draws it: boxes and control lines in the same colours."
)

# %% [markdown]
# *Figures (Paper, Fig. 5): one layer of HQConv, above in the library's own drawing, where grey bands tell the channels
# apart, below as PennyLane draws it. Label "c1 p0" is channel 1, pixel 0: wire 4. Blue: the encoding. Orange: block A,
# a staircase in each of the three channels, side by side in time. Green: block B, channel 1 → 2 and then 0 → 1. Dots
# are controls; RZ and RX at the other end of a line are CRZ and CRX; $\theta_k$ is the weight.*
#
# Both drawings, PennyLane's program, the simulators and the audit below read one list of gates.
#
# ## 3 · FQConv
#
# FQConv has one stage: it joins each pixel of a channel with **the same pixel of the next channel**, all channels in a
# ring 0 → 2 → 1 → 0. First four CRZ (**block C**), then four CRX on the same pairs (**block D**).

# %%
paper.block("C")

# %%
paper.block("D")


# %%
def fqconv_by_hand(layers):
    gates = [Gate("RX", (w,), ("input", w), block="encoding") for w in range(12)]
    for _ in range(layers):
        for base in (8, 4, 0):  # first wire of the target channel
            for name, block in (("CRZ", "C"), ("CRX", "D")):
                for i in (3, 2, 1, 0):  # pixels
                    weight = ("weight", len(gates) - 12)
                    gates.append(Gate(name, ((base + 4 + i) % 12, base + i), weight, scale=TWO_PI, block=block))
    return Circuit(tuple(gates), n_wires=12, n_inputs=12, n_weights=len(gates) - 12)


assert fqconv_by_hand(3).gates == fqconv(3).gates
show_described(
    draw_circuit(fqconv(1), boxed=True, title=f"{paper.figure(6).name} · FQConv, one layer"),
    "One FQConv layer: dashed boxes C and D in turn, three times; four CRZ in each C, four CRX in each D.",
)

# %% [markdown]
# *Figure (Paper, Fig. 6): one layer of FQConv. Orange-red: block C, the CRZ gates; pink: block D, the CRX gates. Every
# line joins two channels, and always the same pixel: p3 with p3, p2 with p2, …*
#
# The boxes above say that the paper's text and its code do not turn all joins the same way. Section 5 asks whether that
# matters.
#
# ## 4 · Counting weights
#
# HQConv: 3 channels × 4 joins × 2 gates + 2 joins × 2 gates = 28 weights a layer. FQConv: 12 joins × 2 = 24. The paper
# uses three layers. For scale: an ordinary 3×3 convolution from 3 to 3 channels.

# %%
conv = torch.nn.Conv2d(3, 3, 3, padding=1)
print(f"HQConv, 3 layers            {hqconv(3).n_weights} weights")
print(f"FQConv, 3 layers            {fqconv(3).n_weights} weights")
print(f"3×3 convolution, 3 → 3      {count_parameters(conv)} weights")
assert (hqconv(3).n_weights, fqconv(3).n_weights, count_parameters(conv)) == (84, 72, 84)

# %% [markdown]
# HQConv has exactly as many weights as the small convolution. Where, then, does the saving of the hybrid model come
# from (1.65 %; the paper prints 1.66 %)? At the vertex of the U-Net (the level of 2×2 pixels and 40 channels) a
# convolution 40 → 40 is replaced by a circuit on 3 channels *and a convolution 37 → 37 on the rest*. The connections
# between the 3 and the 37 are gone.

# %%
full, rest = (count_parameters(WeightStandardizedConv2d(c, c)) for c in (40, 37))
print(f"convolution 40 → 40: {full:,}    37 → 37: {rest:,}    difference: {full - rest:,}")
saved = 4 * (full - rest - 84)  # four convolutions at the vertex
unet, hybrid = (count_parameters(build_unet(preset)) for preset in ("unet", "1hqconv"))
print(f"four vertex convolutions save 4 · ({full - rest:,} − 84) = {saved:,}")
print(f"U-Net {unet:,} → 1HQConv {hybrid:,}: {(hybrid - unet) / unet:+.2%}")
assert unet - hybrid == saved

with_small_conv = unet - 4 * (full - rest - count_parameters(conv))
print(f"with a 3×3 convolution 3 → 3 in the place of each circuit: {with_small_conv:,}")
assert with_small_conv == hybrid

# %% [markdown]
# So the saving is that of *splitting* the channels, and a classical split saves the same number. Whether the circuit
# does better than that small convolution is a question for experiments (notebook 08), not for counting.
#
# ## 5 · What each circuit joins
#
# Forget the order of the gates and keep only which wires meet: the **interaction graph**. Wires that no chain of gates
# connects can never influence one another. Its parts, in a few lines:


# %%
def parts(circuit):
    """Groups of wires that are joined by gates, directly or through others."""
    group = {w: {w} for w in range(circuit.n_wires)}
    for gate in circuit.gates:
        joined = set().union(*(group[w] for w in gate.wires))
        for w in joined:
            group[w] = joined
    return sorted({tuple(sorted(members)) for members in group.values()})


for circuit in (hqconv(3), fqconv(3)):
    print(circuit.name, parts(circuit))
    assert tuple(parts(circuit)) == interaction_graph(circuit).components
assert parts(fqconv(3)) == [(p, p + 4, p + 8) for p in range(4)]

# %% jupyter={"source_hidden": true}
figure, axes = plt.subplots(1, 2, figsize=(8.5, 3.8), layout="constrained")
for ax, circuit in zip(axes, (hqconv(3), fqconv(3)), strict=True):
    draw_interaction_graph(circuit, ax)
show_described(
    figure, "HQConv: three rings of four, joined in a row at pixel 0. FQConv: four separate triangles, one a pixel."
)

# %% [markdown]
# *Figure: interaction graphs. A circle is a wire, a column a channel, a row a pixel, an arrow runs from control to
# target. HQConv: a ring in each channel (orange), and a bridge of one wire between neighbours (green). FQConv: each
# pixel has a triangle of its own, and nothing joins the four.*
#
# That is a strong statement about FQConv: **it never mixes two pixels of a patch.** It is four circuits of three
# wires, side by side. In the words of classical networks it acts like a 1×1 convolution: it mixes channels at each
# pixel alone (here with its own weights at each of the four pixels). HQConv mixes everything, but between channels
# only through pixel 0.

# %% [markdown]
# **Question 03.2.** Make FQConv mix pixels. Write down the fewest joins (control, target) that connect its four
# triangles into one graph, as a list of pairs of wires.

# %%
my_joins = ...  # such as [(0, 5), (2, 7)]
check("03.2", my_joins)

# %% [markdown]
# The graph says what is possible. Derivatives say what happens: if $\partial \langle Z_w\rangle/\partial x_i$ is zero
# at random points, output w does not depend on input i. One backward pass for each output gives a row of that table.


# %%
def moved_by_inputs(circuit, points=4):
    """(n_inputs, n_wires): the largest |∂⟨Z_w⟩/∂x_i| over random points."""
    x, theta = random_point(circuit, points)
    out = simulate(circuit, x.requires_grad_(), theta)
    rows = [torch.autograd.grad(out[:, w].sum(), x, retain_graph=True)[0] for w in range(circuit.n_wires)]
    return torch.stack([row.abs().amax(0) for row in rows], 1)


circuits = (hqconv(1), hqconv(2), hqconv(3), fqconv(3))
audits = [audit_circuit(circuit) for circuit in circuits]  # the library does the same
for circuit, audit in zip(circuits, audits, strict=True):
    assert ((moved_by_inputs(circuit) > 1e-9) == (audit.input_to_output > 1e-9)).all()
    print(f"{circuit.name}: inputs behind each output", [len(audit.inputs_of(w)) for w in range(12)])
assert all(len(audits[2].inputs_of(w)) == 12 for w in range(12))
assert all(audits[3].inputs_of(w) == (w % 4, w % 4 + 4, w % 4 + 8) for w in range(12))

# %% jupyter={"source_hidden": true}
figure, axes = plt.subplots(2, 2, figsize=(8.5, 5.6), layout="constrained")
for ax, audit in zip(axes.flat, audits, strict=True):
    liveness_map(audit, ax, of="inputs")
show_described(
    figure, "Four 12 by 12 tables: HQConv fills up from one to three layers; FQConv stays on stripes four wires apart."
)

# %% [markdown]
# *Figure: which input (across) moves which output (down); white is no influence at all. HQConv needs three layers,
# the paper's number, until every output depends on every input. FQConv has three inputs in every row, four wires
# apart: one pixel in three channels. More layers do not change that.*
#
# Look at row 4 of the first table: output 4 depends on inputs 8 … 11, though channel 2 is only ever a *target* of
# channel 1. In a quantum circuit influence runs both ways through a controlled gate: it also turns the control's state,
# a *phase kickback*, and a later gate makes that visible in $\langle Z\rangle$. Here it is the last join of block B, 0
# → 4.
#
# **See it move.** Choose an output: its *light cone* lights up, the gates and inputs that can move it, found by walking
# back through the gates. Click a gate, or choose an input or angle from the list, and move its value: $\langle
# Z\rangle$ of all wires follows. Things to try: output c1 p0 with one layer and then c2 p3; FQConv with three layers.

# %%
moving_circuits()

# %% [markdown]
# *Figure that moves, without a kernel: the circuit, pale where it cannot move the chosen output; on the right $\langle
# Z\rangle$ of every wire as bars. Where no script runs: how many inputs stand behind each output, after one layer.*
#
# ### Which way do the joins point?
#
# In the paper's text a join of block A has its control on wire p and its target s wires further on (s is the *stride*);
# in the code control and target are the other way round. So it is in blocks C and D. For block B text and code agree.
# These and the other places where text, figures and code differ:

# %%
Markdown(paper.differences())

# %% [markdown]
# The figure's direction is for you to look at: hold your copy of Figures 5 and 6 beside ours and compare the dots,
# which are the controls. Does it matter? Turn the joins of a block, leave everything else as it is, and count two
# things: how many inputs stand behind each output (by derivatives, as above), and for how many weights the two-term
# rule is exact (by the criterion of notebook 02: the control is never a target again).


# %%
def turned(circuit, blocks):
    """The same circuit with control and target exchanged in some blocks."""
    gates = tuple(replace(g, wires=g.wires[::-1]) if g.block in blocks else g for g in circuit.gates)
    return Circuit(gates, 12, 12, circuit.n_weights, circuit.name)


def two_term_exact(circuit):
    trainable = [(k, g) for k, g in enumerate(circuit.gates) if g.param[0] == "weight"]
    return sum(all(g.controls[0] not in h.targets for h in circuit.gates[k + 1 :]) for k, g in trainable)


rows = {
    "HQConv as in the code, ours": hqconv(3),
    "HQConv, block A as in the text": turned(hqconv(3), "A"),
    "HQConv, A and B turned": turned(hqconv(3), "AB"),
    "FQConv as in the code, ours": fqconv(3),
    "FQConv, C and D as in the text": turned(fqconv(3), "CD"),
}
print(f"{'three layers':32}{'inputs behind outputs 0 … 11':40}two-term rule exact")
counts = {}
for name, circuit in rows.items():
    audit = audit_circuit(circuit)
    seen = [len(audit.inputs_of(w)) for w in range(12)]
    counts[name] = seen, two_term_exact(circuit)
    print(f"{name:32}{' '.join(f'{n:2}' for n in seen):40}{counts[name][1]:3} of {circuit.n_weights} weights")
assert counts["HQConv as in the code, ours"] == ([12] * 12, 20)
assert counts["HQConv, block A as in the text"] == ([12] * 9 + [10] * 3, 4)

# %% [markdown]
# It matters for HQConv. With the direction of the text three layers do *not* join everything: outputs 9, 10 and 11 see
# 10 of the 12 inputs, and the two-term rule is exact for 4 weights in the place of 20. So "three layers, until every
# output depends on every input" above, and the 20 of notebook 02, are facts about the direction of the released code,
# which this library follows. FQConv stays four triangles, whichever way its joins point.
#
# ## 6 · Entanglement between channels
#
# Notebook 02 called a state entangled if it cannot be described wire by wire. How much? Take a group of wires, say the
# four of channel 0, and arrange the 4,096 amplitudes as a matrix with $2^4$ rows (bits of the group) and $2^8$ columns
# (all other bits). Its singular values $s_j$ (every linear algebra library computes them) say how many pairs of "state
# of the group, state of the rest" are needed to write the state as a sum:
#
# - the number of those above zero, the **rank**: 1 means a product, no entanglement;
# - with $p_j = s_j^2$ (they sum to 1), the **entropy** $S = -\sum_j p_j \log_2 p_j$ in bits: 0 for a product; at most
#   $\log_2(\text{rank})$.


# %%
def schmidt(psi, group):
    """Squared singular values p (B, k) of the cut between a group of wires and the rest; psi (B, 2, …, 2)."""
    rest = [w for w in range(psi.ndim - 1) if w not in group]
    matrix = psi.permute(0, *[w + 1 for w in group], *[w + 1 for w in rest]).reshape(len(psi), 2 ** len(group), -1)
    return torch.linalg.svdvals(matrix) ** 2


def entropy(p):
    return -(p * p.clamp_min(1e-300).log2()).sum(-1)


def rank(p):
    return (p > 1e-18).sum(-1)  # p is a square: singular values above 1e-9


product = torch.zeros(1, 2, 2, dtype=torch.complex128)
product[0, 0, 0] = 1
pair = torch.zeros(1, 2, 2, dtype=torch.complex128)
pair[0, 0, 0] = pair[0, 1, 1] = 0.5**0.5  # both bits always agree
for name, psi in (("product state", product), ("two wires that always agree", pair)):
    p = schmidt(psi, [0])
    print(f"{name}: rank {rank(p).item()}, entropy {abs(entropy(p).item()):.3f} bits")

# %% [markdown]
# Now both circuits, with random inputs and weights, cut between each channel and the other two, for L = 1, 2, … layers.
# (The third row, `hqconv_released`, is explained in section 8.)

# %%
CHANNELS = [list(range(4 * c, 4 * c + 4)) for c in range(3)]
measured = {}
print("rank of the cut around channels 0, 1 and 2")
for make in (hqconv, fqconv, hqconv_released):
    for layers in range(1, MAX_LAYERS + 1):
        x, theta = random_point(make(layers), STATES, seed=layers)
        psi = statevector(make(layers), x, theta)
        cuts = [schmidt(psi, wires) for wires in CHANNELS]
        measured[make.__name__, layers] = [(entropy(p), rank(p).max().item()) for p in cuts]
    ranks = {n: [r for _, r in measured[make.__name__, n]] for n in range(1, 5)}
    print(f"{make.__name__:16}", "  ".join(f"L = {n}: {r}" for n, r in ranks.items()))

# %% jupyter={"source_hidden": true}
figure, axes = plt.subplots(1, 2, figsize=(9, 3.2), sharey=True, layout="constrained")
steps = list(range(1, MAX_LAYERS + 1))
for ax, name in zip(axes, ("hqconv", "fqconv"), strict=True):
    for c, (colour, marker) in enumerate(zip((BLUE, ORANGE, GREEN), "os^", strict=True)):
        values = torch.stack([measured[name, n][c][0] for n in steps])
        ax.plot(steps, values.mean(1), marker=marker, color=colour, label=f"channel {c}, mean")
        ax.plot(steps, values.amax(1), marker=marker, ls="", mfc="none", color=colour)
    ax.axhline(4, color="black", lw=0.8, ls=":")
    ax.set(xlabel="layers", title={"hqconv": "HQConv", "fqconv": "FQConv"}[name], xticks=steps, ylim=(0, 4.3))
axes[0].plot(steps, [min(n, 4) for n in steps], color=GREY, ls="--", label="bound, channels 0 and 2")
axes[0].plot(steps, [min(2 * n, 4) for n in steps], color=GREY, ls="-.", label="bound, channel 1")
axes[0].set_ylabel("entropy of a channel (bits)")
handles, labels = axes[0].get_legend_handles_labels()
figure.legend(handles, labels, frameon=False, fontsize=9, loc="outside right center")
show_described(
    figure, "Entropy of a channel grows slowly with layers for HQConv, below its bounds; FQConv starts near 2 bits."
)

# %% [markdown]
# *Figure: entropy between one channel and the other two against the number of layers; lines are means over random
# states, open symbols the largest seen. Dashed and dash-dotted, in the left panel: bounds for HQConv, explained next.
# Dotted: 4 bits, all that four wires can hold.*
#
# **The bound.** The CRZ and CRX of one join have the same control, so together they are one operation: do nothing if
# the control is 0, apply U = RX·RZ if it is 1. As a sum over the control's two values it has two terms, so it can at
# most **double the rank** of a cut that it crosses. One layer of HQConv crosses the cut around channel 0 once, that
# around channel 2 once, and that around channel 1 twice. With L layers:
#
# $$ S \le \min(L, 4)\ \text{bits for channels 0 and 2},\qquad S \le \min(2L, 4)\ \text{bits for channel 1}. $$
#
# (In natural logarithms: $L \log 2$.) The ranks printed above *reach* these bounds, 2, 4, 8, 16 and 4, 16, 16, 16; the
# mean entropies stay well below, since the singular values are far from equal in most states. For FQConv each of the
# four triangles can give one bit to a channel, from the first layer on.

# %% [markdown]
# **Question 03.3.** How many bits of entropy can there be at most between channel 1 and the others, after two layers of
# HQConv, if block B had only its first join, 4 → 8?

# %%
my_bits = ...  # a number
check("03.3", my_bits)

# %%
for layers in steps:
    for c in range(3):
        crossings = len({(g.control, g.target) for g in interaction_graph(hqconv(1)).between(set(CHANNELS[c]))})
        S, r = measured["hqconv", layers][c]
        assert crossings == (2 if c == 1 else 1)
        assert r == 2 ** min(crossings * layers, 4) and S.max() <= min(crossings * layers, 4) + 1e-9
        assert measured["fqconv", layers][c][1] == 16

x, theta = random_point(fqconv(3), STATES)
psi = statevector(fqconv(3), x, theta)
assert all(rank(schmidt(psi, [p, p + 4, p + 8])).max() == 1 for p in range(4))
print("bounds hold, ranks reach them; between the pixels of FQConv the rank is 1: no entanglement at all")

# %% [markdown]
# Is more entanglement better? Nothing here says so. It says how far a circuit is from a product of small ones, that
# is, **how much a classical simulation has to keep**, and that is the next section.
#
# ## 7 · Why no quantum computer is needed
#
# A general state of 12 wires has 4,096 amplitudes, which any laptop holds. But both circuits need far less, and that
# would stay so for many more channels.
#
# **FQConv** falls apart into four circuits of three wires. By hand: pick the gates of each triangle, renumber the
# wires, run four small circuits.

# %%
circuit = fqconv(3)
x, theta = random_point(circuit, 5)
theta = theta[0]
z = torch.empty(5, 12, dtype=torch.float64)
for wires in parts(circuit):
    small = []
    for g in circuit.gates:
        if set(g.wires) <= set(wires):
            renumbered = tuple(wires.index(w) for w in g.wires)
            small.append(Gate(g.name, renumbered, g.param, g.scale, block=g.block))
    triangle = Circuit(tuple(small), 3, 12, 72, allow_dead_weights=True)
    z[:, list(wires)] = simulate(triangle, x, theta)
assert_close(z, simulate(circuit, x, theta))
print(f"4 states of 8 amplitudes instead of one of {2**12:,}: the same numbers")

# %% [markdown]
# **HQConv** does not fall apart, but section 6 says that the rank between neighbouring channels is small. Keep only
# $2^L$ terms of the cut after channel 0, and $2^L$ of that before channel 2; nothing is lost. Such a chain of small
# tensors is called a *matrix product state*; that weakly entangled circuits are easy this way is due to Vidal 2003
# ([quant-ph/0301063](https://arxiv.org/abs/quant-ph/0301063)). Check the first cut for L = 1, 2, 3 layers, by ending
# the sum over singular vectors after $2^L$ terms:

# %%
for layers in (1, 2, 3):
    x, theta = random_point(hqconv(layers), 3)
    matrix = statevector(hqconv(layers), x, theta).reshape(3, 2**4, 2**8)  # channel 0 | channels 1 and 2
    U, s, V = torch.linalg.svd(matrix, full_matrices=False)
    k = 2**layers
    assert_close(U[..., :k] * s[:, None, :k] @ V[:, :k], matrix)
    error = (U[..., : k - 1] * s[:, None, : k - 1] @ V[:, : k - 1] - matrix).norm() / matrix.norm()
    print(f"{layers} layer(s): {k} terms are exact; with {k - 1} the relative error is {error:.3f}")

# %% [markdown]
# The library's fast engine finds this by itself, for any circuit. `explain` prints its plan; a *site* is a tensor of
# the chain, a *bond* the number of terms kept between two of them, a *flop* one addition or multiplication. It does one
# step better than our counting: the joins of the last layer are the last gates of all and meet only wires 0, 4 and 8,
# so their effect on $\langle Z\rangle$ is computed from those three wires alone. They need no bond, and three layers
# get by with $2^2 = 4$.

# %%
plan = explain(hqconv(3))
assert plan.bonds == [[4, 4]]
print("\n" + "=" * 100 + "\n")
plan = explain(fqconv(3))
assert [len(sites[0]) for sites in plan.sites] == [3, 3, 3, 3]

# %% [markdown]
# (The *statevector* among the candidates is the engine's own: it first multiplies neighbouring gates into matrices of
# up to four wires. That is more arithmetic than the plain one, but fewer passes over memory and fewer calls.)
#
# Exact, not approximate: same numbers and same gradients, to rounding. Forward and backward for a batch of patches:

# %%
for circuit in (hqconv(3), fqconv(3)):
    x, theta = random_point(circuit, TIMED_ROWS)
    results = {}
    ways = {"statevector": simulate, "fast engine": lambda c, x, th: fast_simulate(c, x[:, None], th[None])[:, 0]}
    for name, run in ways.items():
        seconds = []
        for _ in range(5):  # the first run also makes the plan
            th = theta[0].clone().requires_grad_()
            start = time.process_time()
            out = run(circuit, x, th)
            out.square().sum().backward()
            seconds.append(time.process_time() - start)
        results[name] = out.detach(), th.grad
        print(f"{circuit.name}, {TIMED_ROWS} rows, {name}: {1000 * min(seconds):7.1f} ms")
    for a, b in zip(*results.values(), strict=True):
        assert_close(a, b)

# %% [markdown]
# (Processor time on one core of the machine that made this page.)
#
# What would make a circuit hard? Many wires *and* a rank that grows with them: joins between all pixels of all
# channels, many layers. With more layers the bonds of HQConv double until they are as wide as the channel; beyond that
# the chain is no cheaper than the 4,096 amplitudes. The paper's circuits, at three layers, are on the easy side. **So
# no claim of a quantum speed-up can rest on them, and training them on a laptop is no approximation.**
#
# ## 8 · What the released code runs
#
# The authors published their code (NesyaLab/Quantum-Hybrid-Diffusion-Models, MIT licence; looked at in commit
# 6dec334). For its HQConv, the released code takes the number of channels for block A to be `len(wires) % 4`, the
# *remainder* of the division by 4. For 12 wires:

# %%
wires = list(range(12))
print("channels the loop visits:", list(range(len(wires) % 4)), "  with // in the place of %:", list(range(12 // 4)))
show_described(draw_circuit(hqconv_released(3)), "Released HQConv: four gates a layer, on wires 0, 4 and 8 only.")

# %% [markdown]
# *Figure: HQConv with three layers as the released code executes it (`hqconv_released`). Block A never runs. Nine wires
# carry the encoding and nothing else.*

# %% [markdown]
# **Question 03.4** (predict, then run). The circuit in the figure is created with 84 weights. How many of them can
# change an output?

# %%
my_acting_weights = ...  # a whole number
check("03.4", my_acting_weights)

# %% [markdown]
# **Question 03.5** (predict, then run). And on which of the 12 wires does $\langle Z\rangle$ depend on *input* 8? Think
# of phase kickback (end of section 5, first part). Answer with a set of wires.

# %%
my_wires = ...  # such as {1, 2}
check("03.5", my_wires)

# %% [markdown]
# The weights of block A are still created, stored, given to the optimizer and counted: 84. No test of shapes or counts
# can see that they do nothing. Derivatives can:

# %%
ours, released = audit_circuit(hqconv(3)), audit_circuit(hqconv_released(3))
print(ours, "\n")
print(released)
assert len(ours.alive_weights) == 84 and len(released.alive_weights) == 12
assert len(released.cosine_outputs) == 10 and not ours.cosine_outputs

# %% jupyter={"source_hidden": true}
figure, axes = plt.subplots(2, 1, figsize=(8, 4.6), layout="constrained")
for ax, audit in zip(axes, (ours, released), strict=True):
    liveness_map(audit, ax)
show_described(
    figure, "Two tables of weights against outputs: ours has entries in every column, the released one in 12 of 84."
)

# %% [markdown]
# *Figure: how strongly each weight (across) moves each output (down); white is not at all. Above, HQConv: every column
# has dark cells; weights of the last layer reach fewer outputs. Below, the released circuit: 12 columns, two outputs.*
#
# Ten of its twelve outputs are $\cos(x_i)$, a fixed function without a weight. We check that once more by hand, at
# points of our own:

# %%
x, theta = random_point(hqconv_released(3), 50, seed=7)
out = simulate(hqconv_released(3), x, theta)
same = (out - x.cos()).abs().amax(0) < 1e-12
print("wires that return cos(x):", same.nonzero().flatten().tolist())
assert same.sum() == 10

for layers in (1, 3):
    psi = statevector(hqconv_released(layers), *random_point(hqconv_released(layers), STATES))
    print(f"{layers} layer(s): rank between channel 1 and the others {rank(schmidt(psi, CHANNELS[1])).max().item()}")
    assert rank(schmidt(psi, CHANNELS[1])).max() == 2

# %% [markdown]
# What follows, and what does not:
#
# - A hybrid model trained with the released code has a vertex in which ten of every twelve circuit outputs are a
#   cosine. Such a model can train well; the rest of the network has 475,000 weights.
# - It does not follow that the paper's numbers came from exactly this version; that cannot be seen from outside.
# - Its FQConv runs all gates of the paper, joined in its own direction (section 5). The ResNet block around the
#   circuits adds an effect of its own, which notebook 04 audits.
#
# The presets of this library run all blocks of the paper, joined in the direction of the released code (section 5);
# `ansatz="hqconv_released"` gives the circuit that it runs, for comparisons. The test that finds such things is four
# lines long:

# %%
for circuit in (hqconv(3), fqconv(3)):
    x, theta = random_point(circuit, 4)
    v = torch.randn(12, generator=seeded(1), dtype=torch.float64)
    (g,) = torch.autograd.grad((simulate(circuit, x, theta.requires_grad_()) @ v).sum(), theta)
    assert (g.abs().amax(0) > 1e-8).all()
    print(f"{circuit.name}: every one of {circuit.n_weights} weights moves the output")

# %% [markdown]
# ## 9 · Try it
#
# Choose an ansatz, a number of layers and the inputs. "Wire" chooses which input the field beside it shows and
# changes. Below the picture are the numbers. Things to try: FQConv, and change the input of wire 0: which outputs
# move? HQConv as released: where do bars and circles differ?
#
# **Basic** is a third circuit, of 4 wires, which each convolution of the full quantum vertex needs once (notebook 05):
# after the encoding four layers, each an RX on every wire and a ring of CNOTs 0 → 1 → 2 → 3 → 0, so 16 weights. Here a
# weight *is* the angle, without the factor $2\pi$ of the other two.

# %%
circuit_explorer("HQConv", layers=1)

# %%
view = CircuitFigure()
view.update(hqconv(1), torch.randn(12, generator=seeded(3)), torch.rand(28, generator=seeded(4)))
show_described(
    view.figure, "The widget's picture: HQConv with one layer, its interaction graph, and a bar chart of Z by wire."
)

# %% [markdown]
# *Figure: what the widget shows. Above, the gates. Below left, the interaction graph, each wire filled by its $\langle
# Z\rangle$. Below right, $\langle Z\rangle$ as bars, and as circles cos(x), what the encoding alone would give.*
#
# ## Summary
#
# - HQConv joins pixels inside each channel (block A) and channels through pixel 0 (block B); FQConv joins channels
#   pixel by pixel (blocks C and D) and never mixes pixels.
# - A saving of parameters comes from splitting the channels; a small classical convolution has as many weights.
# - The rank between channels is small after three layers: an exact simulation on a laptop is cheap.
# - Weights can be there and do nothing. Derivatives show it, counts do not.
#
# **A little history.** Convolutions made of circuits began with one grey channel (Henderson et al. 2019,
# [1904.04767](https://arxiv.org/abs/1904.04767)). Jing et al. asked in 2021 how a circuit should treat the channels of
# a colour image, together or one after the other, and proposed both circuits of this notebook; the paper used them for
# hidden channels of a U-Net. That a simulation gets cheap where entanglement is small has been known since 2003.
#
# **Further reading.** Jing et al. for the two ansätze and their first use; Vidal for matrix product states; the
# [bibliography](../docs/bibliography.md) for the rest, and the [glossary](../docs/glossary.md) for the words.
#
# **Next:** [04 · The quantum ResNet block](04_qresnet.ipynb) builds the ResNet block that these circuits live in.
