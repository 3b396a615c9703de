# %% [markdown]
# # Lab 03 · HQConv and FQConv
#
# You build what notebook 03 takes apart: the two circuits of the paper from their formulas, the parts that their gates
# join, the entanglement across a cut, and the light cone of an output. With these tools you then design an ansatz of
# your own, in which every weight acts and every output depends on every input.
#
# **{{points}} points, about {{minutes}} minutes.** Variant `{{variant}}`: wires, directions, strides, gates and units
# are drawn for it, so read them here and not elsewhere. Each task is one function; below it `check` tries it on fresh
# random draws and says what is right and what is not yet. The marker does the same with other draws and counts nothing
# else. The circuits of `qdm_lib.circuits` and its interaction graph earn nothing; `Gate`, `Circuit`, all of torch,
# `qdm_lib.simulator` and `audit_circuit` may be used. You may add cells and functions; keep the names of the tasks.
#
# {{table}}

# %%
import math

import matplotlib.pyplot as plt
import torch

from qdm_labs import open_lab
from qdm_lib.audit import audit_circuit
from qdm_lib.circuits import Circuit, Gate
from qdm_lib.simulator import statevector

lab = open_lab("{{number}}", "{{variant}}")
check = lab.check

# %% [markdown]
# A `Circuit` is a list of gates, from the first to the last, and four sizes. A gate has a name, its wires (the control
# first), where its angle comes from, and by what that number is multiplied:

# %% tags=["demo"]
gates = [Gate("RX", (0,), ("input", 0)), Gate("CRX", (0, 1), ("weight", 0), 2 * math.pi)]
print(Circuit(gates, 2, 1, 1, "two wires, one input, one weight"))

# %% [markdown]
# ## 1 · HQConv
#
# A 2×2 patch of 3 channels has twelve values. Pixel p (0 … 3) of channel c (0 … 2) lies on wire
#
# > **{{wires}}**
#
# First come the encoding gates, RX on every wire w by input w, as it is: `Gate("RX", (w,), ("input", w))`. Then, in
# every layer, two blocks of **joins**. A join is a {{first}} and, right after it, a {{second}}, both with the same
# control and target, and each with a weight of its own; its angle is **{{unit}}** times the weight:
# `Gate("{{first}}", (control, target), ("weight", k), {{code_unit}})`. Weights are numbered in the order of the gates,
# on through the layers.
#
# - **Block A** joins the pixels of a channel in a ring: for c = {{channels}}, and within each for i = {{pixels}}, pixel
#   i of channel c is the **{{near}}** and pixel (i + {{stride}}) mod 4 of the same channel is the **{{far}}**.
# - **Block B** joins neighbouring channels: for c = {{lower}}, pixel {{pixel}} of channel c is the **{{far}}** and
#   pixel {{pixel}} of channel c + 1 is the **{{near}}**.
#
# How many weights does a layer have?


# %% task="hqconv"
def hqconv(layers):
    """→ Circuit(gates, n_wires, n_inputs, n_weights) of 12 wires and 12 inputs."""
    raise NotImplementedError


# %% check="hqconv"
check("hqconv", hqconv)

# %% [markdown]
# ## 2 · FQConv
#
# The same encoding, wires and unit, but the joins go from channel to channel. In every layer, for c = {{channels}}:
#
# - **block C**, a {{first}} for each i = {{pixels}}, in which pixel i of channel c is the **{{near}}** and pixel i of
#   channel (c + {{step}}) mod 3 is the **{{far}}**;
# - then **block D**, a {{second}} for each of the same pairs, in the same order.


# %% task="fqconv"
def fqconv(layers):
    """→ Circuit of 12 wires and 12 inputs."""
    raise NotImplementedError


# %% check="fqconv"
check("fqconv", fqconv)

# %% [markdown]
# ## 3 · Components
#
# A gate on two wires joins them, whichever is the control. Wires that gates join, directly or through others, form a
# component; components never influence one another. Name each component after its **{{label}}** wire and return the
# name for every wire. With gates on the wires (2, 3) and (4, 1) of five wires the answer is {{labels}}.
#
# `circuit.gates`, `circuit.n_wires` and `gate.wires` (one or two wires) are all you need.


# %% task="components"
def components(circuit):
    """→ n_wires whole numbers: entry w is the {{label}} wire of the component of wire w."""
    raise NotImplementedError


# %% check="components"
check("components", components)

# %% [markdown]
# ## 4 · The Schmidt rank of a cut
#
# Cut the wires into a group and the rest. Written as a matrix, with a row for each string of bits of the group and a
# column for each of the rest, a state has singular values s_j; p_j = s_j² sum to 1. The number of s_j above zero is the
# **Schmidt rank**: 1 means no entanglement across the cut. Return it together with **{{measure}}**.
#
# The state of n wires is a vector of 2ⁿ amplitudes; that of the bits b_0, …, b_{n−1} of the wires 0, …, n−1 is
# {{order}}. What does a singular value look like that is zero on paper? (And 0 · log 0 is 0.)


# %% task="schmidt"
def schmidt(psi, wires):
    """psi (2**n,) complex128, wires: a list of wires of the group, in any order → (rank, measure)."""
    raise NotImplementedError


# %% check="schmidt"
check("schmidt", schmidt)

# %% [markdown]
# ## 5 · The light cone of an output
#
# What can ⟨Z⟩ of one wire depend on? Read the gates from the **last to the first**. The cone starts with that wire
# alone. A gate lies in the cone if at least one of its wires (control or target) is in the cone at that moment, and
# then all its wires are from there on. Gates outside it cannot move the output; those inside it may. Return
# **{{cone}}**.
#
# `gate.param` is `("input", k)`, `("weight", k)` or None.


# %% task="light_cone"
def light_cone(circuit, wire):
    """→ {{cone}}: a set or a list of whole numbers."""
    raise NotImplementedError


# %% check="light_cone"
check("light_cone", light_cone)

# %% [markdown]
# ## 6 · An ansatz of your own
#
# Design a circuit of 12 wires and 12 inputs for which the audit finds that
#
# - every output depends on every input, and
# - every weight moves at least one output.
#
# It has 12 to **{{budget}}** weights, and the only gate on two wires that you may use is **{{coupler}}** (it takes no
# angle: `Gate("{{coupler}}", (a, b))`; CNOT flips the target b where the control a is 1, CZ changes the sign of the
# amplitude where both are 1). All gates on one wire are free, and so is the encoding, as long as every input enters. At
# most 400 gates.
#
# Count first, with your `light_cone`: how far does a layer of your joins carry an input, and how many layers do twelve
# wires need? Then ask `print(audit_circuit(circuit))`. A cone that holds an input is no promise: look for gates that
# commute with Z, or with all that comes after them.


# %% task="own_ansatz"
def own_ansatz():
    """→ Circuit of 12 wires, 12 inputs and 12 to {{budget}} weights, its wires joined by {{coupler}} only."""
    raise NotImplementedError


# %% check="own_ansatz"
check("own_ansatz", own_ansatz)

# %% [markdown]
# ## 7 · Three circuits compared
#
# No points here. What do the three circuits join, what does an audit find in them, and how entangled are four of the
# wires with the other eight?

# %% tags=["demo"]
circuits = {"HQConv": hqconv(3), "FQConv": fqconv(3), "yours": own_ansatz()}
for name, circuit in circuits.items():
    audit = audit_circuit(circuit, points=2)
    seen = [len(audit.inputs_of(w)) for w in range(12)]
    print(
        f"{name:7} {circuit.n_weights:3} weights, {len(audit.dead_weights)} without effect, "
        f"{len(set(components(circuit)))} component(s), outputs depend on {min(seen)} to {max(seen)} inputs"
    )

# %% tags=["demo"]
generator = torch.Generator().manual_seed(0)
figure, ax = plt.subplots(figsize=(5, 3))
for place, circuit in enumerate(circuits.values()):
    for _ in range(5):
        x = torch.randn(1, 12, generator=generator, dtype=torch.float64)
        theta = torch.rand(circuit.n_weights, generator=generator, dtype=torch.float64)
        rank, measure = schmidt(statevector(circuit, x, theta).flatten(), [0, 1, 2, 3])
        ax.plot(place, float(measure), "o", color="C0")
ax.set_xticks(range(3), list(circuits))
ax.set_ylabel("{{measure}}")
ax.set_title("cut between four of the wires and the rest")
plt.show()
