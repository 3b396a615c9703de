# %% [markdown]
# # Lab 02 · A simulator, its gradients, and shots
#
# You build what notebook 02 explains: a simulator of variational circuits, two rules that measure its gradients, and an
# estimator from shots. At the end a small circuit trains on your functions alone.
#
# **{{points}} points, about {{minutes}} minutes.** Variant `{{variant}}`: signs, wire order, units and shifts are drawn
# for it, so read them here and not elsewhere. Each task is one function; below it `check` tries it on fresh random
# draws and says what is right and what is not yet. The marker does the same with other draws and counts nothing else:
# not what a cell printed, and not a function that lets `qdm_lib` or PennyLane do the task. You may add cells and
# functions; keep the names of the tasks.
#
# {{table}}

# %%
import math

import matplotlib.pyplot as plt
import torch

from qdm_labs import open_lab
from qdm_lib.circuits import Circuit, Gate

lab = open_lab("{{number}}", "{{variant}}")
check = lab.check

# %% [markdown]
# ## 1 · A rotation
#
# A rotation by the angle φ (in radians) about the axis P is the 2×2 matrix
#
# $$ R_P(\varphi) = \exp\big({{sign}}\tfrac{i\varphi}{2}P\big)
# = \cos\tfrac\varphi2\; I \;{{sign}}\; i\sin\tfrac\varphi2\; P $$
#
# with the Pauli matrices $X = \begin{pmatrix}0&1\\1&0\end{pmatrix}$, $Y = \begin{pmatrix}0&-i\\i&0\end{pmatrix}$,
# $Z = \begin{pmatrix}1&0\\0&-1\end{pmatrix}$. Mind the sign of this variant, **{{sign}}**.


# %% task="rotation"
def rotation(axis, angle):
    """The matrix of a rotation: axis "X", "Y" or "Z", angle a 0-d float64 tensor → (2, 2) complex128.

    Use torch operations on `angle`, so that autograd can follow.
    """
    raise NotImplementedError


# %% check="rotation"
check("rotation", rotation)

# %% [markdown]
# ## 2 · A gate on one wire
#
# The state of n wires is a vector of 2ⁿ amplitudes. The amplitude of the bits b_0, b_1, …, b_{n−1} of the wires 0, 1,
# …, n−1 is {{order}}. With three wires, the state in which only wire 0 is 1 is entry {{example}}.
#
# A gate on a wire multiplies that wire's axis by a matrix: new[…, a, …] = Σ_b U[a, b] · old[…, b, …].


# %% task="apply_gate"
def apply_gate(state, U, wire):
    """state (2**n,) complex128, U (2, 2) complex128, wire 0 … n−1 → the new state (2**n,)."""
    raise NotImplementedError


# %% check="apply_gate"
check("apply_gate", apply_gate)

# %% [markdown]
# ## 3 · A controlled gate
#
# It acts on the target in that part of the state in which the bit of the control is **{{control_on}}**, and leaves the
# other part as it is.


# %% task="apply_controlled"
def apply_controlled(state, U, control, target):
    """state (2**n,), U (2, 2), two different wires → the new state (2**n,)."""
    raise NotImplementedError


# %% check="apply_controlled"
check("apply_controlled", apply_controlled)

# %% [markdown]
# ## 4 · A circuit
#
# A `Circuit` of the library is a description: `circuit.gates` in the order in which they act, `circuit.n_wires`. A gate
# has a `name` (here RX for the encoding, and {{gates}}), `gate.controls` (a tuple of no or one wire), `gate.targets` (a
# tuple of one wire), and its angle is `gate.scale` times one number: `gate.param` is `("input", k)` for x[k] or
# `("weight", k)` for theta[k]. Start in |0…0⟩; return ⟨Z⟩ = P(0) − P(1) of each wire.


# %% task="run_circuit"
def run_circuit(circuit, x, theta):
    """x (n_inputs,), theta (n_weights,), float64 → ⟨Z⟩ of every wire, (n_wires,) float64, differentiable."""
    raise NotImplementedError


# %% check="run_circuit"
check("run_circuit", run_circuit)

# %% [markdown]
# ## 5 · The two-term rule
#
# On a device you see values, not amplitudes. Let f be a function of some weights, measured in {{unit}}, and let it have
# only the frequencies 0 and 1 *in each angle*. The two-term rule (equation 10 of the paper) shifts one angle by ±π/2.
# Return the derivatives of f **by the weights**. f takes one vector of weights and gives one number; it cannot be
# differentiated by autograd.


# %% task="two_term"
def two_term(f, theta):
    """f: (n,) → number; theta (n,) float64 → the gradient (n,)."""
    raise NotImplementedError


# %% check="two_term"
check("two_term", two_term)

# %% [markdown]
# ## 6 · The four-term rule
#
# A controlled rotation also has frequency 1/2, and needs two pairs of shifts. In this variant the angle is shifted by
# ±**{{shifts}}**. Find the two coefficients from
#
# $$ f'(\varphi) = \sum_{j=1,2} c_j\,\big[f(\varphi+s_j)-f(\varphi-s_j)\big],\qquad
# \sum_j 2\,c_j\sin(\Omega s_j)=\Omega\ \text{ for }\ \Omega=\tfrac12,\,1 . $$
#
# Weights are measured in {{unit}}, as before.


# %% task="four_term"
def four_term(f, theta):
    """f: (n,) → number, with frequencies 0, 1/2 and 1 in each angle; theta (n,) → the gradient (n,)."""
    raise NotImplementedError


# %% check="four_term"
check("four_term", four_term)

# %% [markdown]
# ## 7 · Which weights need four terms?
#
# For some controlled gates two terms are exact all the same (section 7 of notebook 02). Given a circuit in which each
# weight feeds one gate, return the set of the weights that need four. You may reason about the gates or run your
# simulator.


# %% task="needs_four"
def needs_four(circuit):
    """→ the numbers k of the weights for which the two-term rule is not exact: a set or a list."""
    raise NotImplementedError


# %% check="needs_four"
check("needs_four", needs_four)

# %% [markdown]
# ## 8 · An estimate from shots
#
# One shot reads all wires: one string of bits, with probability |amplitude|². For two given wires count +1 if the bits
# are equal and −1 if they differ. Draw `shots` strings with the generator that you are given (`torch.multinomial`),
# return the mean m of these values and, beside it, {{spread}}.


# %% task="shot_estimate"
def shot_estimate(state, wires, shots, generator):
    """state (2**n,), wires (a, b), a torch.Generator → (mean, spread), two numbers."""
    raise NotImplementedError


# %% check="shot_estimate"
check("shot_estimate", shot_estimate)

# %% [markdown]
# ## 9 · Your simulator at work
#
# No points here: a circuit of two wires learns a curve by your functions alone, with gradients from your four-term
# rule, as a device would measure them. The loss should fall to less than a third.

# %% tags=["demo"]
U = float("{{u}}")  # d angle / d weight
pattern = [("{{first}}", 0), ("C{{first}}", 0, 1), ("C{{second}}", 1, 0), ("C{{first}}", 0, 1), ("{{first}}", 1)]
gates = [Gate("RX", (w,), ("input", w)) for w in (0, 1)]
gates += [Gate(name, tuple(wires), ("weight", k), U) for k, (name, *wires) in enumerate(pattern)]
circuit = Circuit(tuple(gates), 2, 2, 5, "a small circuit")


def random_numbers(seed, *shape):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def derivatives(row, theta):
    return torch.as_tensor(four_term(lambda weights: run_circuit(circuit, row, weights)[1].detach(), theta))


x, hidden, theta = (random_numbers(0, 10, 2) * 2 - 1) * math.pi, random_numbers(1, 5), random_numbers(2, 5)
y = torch.stack([run_circuit(circuit, row, hidden)[1] for row in x])
losses = []
while len(losses) < 20:
    errors = torch.stack([run_circuit(circuit, row, theta)[1] for row in x]) - y
    losses.append(float((errors**2).mean()))
    slopes = torch.stack([derivatives(row, theta) for row in x])
    theta = theta - 0.6 / U**2 * 2 * (errors[:, None] * slopes).mean(0)
print(f"loss {losses[0]:.3f} at the start, {losses[-1]:.4f} at the end")
plt.plot(losses)
plt.xlabel("step")
plt.ylabel("mean squared error")
plt.show()
