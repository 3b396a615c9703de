# %% [markdown]
# # Lab 09 · Towards hardware
#
# You build what stands between a circuit on paper and its value from a device: an estimate from counts, a channel that
# models errors of gates, the inversion of readout errors, and zero-noise extrapolation by folding. Tasks 1 and 2 follow
# notebook 09; tasks 3 to 6 go beyond it, and 7 counts with both: each says all that it needs, and the idea behind 5 and
# 6 is that of Temme, Bravyi and Gambetta ([arXiv:1612.02058](https://arxiv.org/abs/1612.02058)). At the end your
# functions take a trained circuit of the shipped model `fullhqconv`, make it noisy and repair it, and count what one
# image would cost on a device.
#
# **{{points}} points, about {{minutes}} minutes.** Variant `{{variant}}`: orders, meanings of p, ways of folding and
# scale factors are drawn for it, so read them here and not elsewhere. Each task is one function; below it `check`
# tries it on fresh random draws and says what is right and what is not yet. The marker does the same with other draws
# and counts nothing else. NumPy, torch and `qdm_lib` may help you; what PennyLane would do for you earns nothing. You
# may add cells and functions; keep the names of the tasks.
#
# **One order for the whole lab.** The bits of the wires 0, 1, …, n−1 are written {{digits}}: wire 0 is the **{{end}}**
# digit of a string, of the binary index of a probability, and of a row or a column of a density matrix.
#
# {{table}}

# %%
import math

import numpy as np
import torch

from qdm_labs import open_lab
from qdm_lib.checkpoint import SHIPPED, load_model
from qdm_lib.circuits import TWO_PI, hqconv
from qdm_lib.data import load_images, to_model_range
from qdm_lib.quantum import QuantumLayer
from qdm_lib.simulator import apply_matrix, rotation, statevector

lab = open_lab("{{number}}", "{{variant}}")
check = lab.check

# %% [markdown]
# ## 1 · An estimate from counts
#
# A device returns how often it saw each string, such as `{"010": 37, "111": 63}`; strings that it never saw are
# missing. For each wire, the mean m of +1 for bit 0 and −1 for bit 1 over the N shots estimates ⟨Z⟩. Return the means
# of all wires, and beside each {{spread}}.


# %% task="estimate"
def estimate(counts):
    """{string of n bits: how often it was seen} → (means (n,), spreads (n,)), wire 0 first."""
    raise NotImplementedError


# %% check="estimate"
check("estimate", estimate)

# %% [markdown]
# ## 2 · A noisy channel
#
# A gate errs: one wire suffers the *depolarizing channel*. In this variant {{channel}}. A Pauli matrix P that strikes
# turns the density matrix ρ into PρP†, where P acts on that wire and nothing on the others. Return the new ρ.
#
# A hint: as a tensor with 2n axes of length 2, ρ has one axis for each bit of its row, then one for each bit of its
# column. And (ρ + XρX + YρY + ZρZ)/4, with the matrices on one wire, is ρ with that wire fully mixed.


# %% task="depolarize"
def depolarize(rho, wire, p):
    """rho (2**n, 2**n) complex128, wire 0 … n−1, p a number → the new density matrix (2**n, 2**n)."""
    raise NotImplementedError


# %% check="depolarize"
check("depolarize", depolarize)

# %% [markdown]
# ## 3 · Readout errors undone
#
# Reading a bit fails, too, more often for 1 than for 0, and on each wire differently. A wire's matrix holds the
# probabilities **{{entry}}**, so its {{lines}} add up to 1. If the wires fail independently of each other, the matrix
# for all of them is the Kronecker product of theirs: for 12 wires 4096 × 4096, for 14 wires 2 GiB. Nobody needs it. Its
# inverse is the Kronecker product of the inverses, and each of those acts on one axis of the distribution.
#
# Return what inversion gives. Where strings were seen rarely, some entries come out below 0. Leave them: a mean
# computed from them is right on average, and cutting them off would spoil that.


# %% task="undo_readout"
def undo_readout(probabilities, matrices):
    """Shares of the reported strings (2**n,) float64, a list of n matrices (2, 2), wire 0 first → (2**n,)."""
    raise NotImplementedError


# %% check="undo_readout"
check("undo_readout", undo_readout)

# %% [markdown]
# ## 4 · Folding
#
# To see what noise does, make more of it: G G† G computes the same as G, with three times as many chances to err. Here
# a gate is a tuple (name, wires, angle) of a rotation or a controlled rotation, and G† is the same with −angle. The
# adjoint of a list undoes its last gate first.
#
# A list of n gates becomes about λ times as long by n (λ − 1)/2 folds, **rounded to the nearest whole number** and
# written as n·k + r with 0 ≤ r < n. In this variant {{fold}}. Return the new list, in the order in which the gates act.


# %% task="fold"
def fold(gates, scale):
    """A list of (name, wires, angle) and λ ≥ 1 → the longer list."""
    raise NotImplementedError


# %% check="fold"
check("fold", fold)

# %% [markdown]
# ## 5 · Extrapolation as weights
#
# Values y_j at n scale factors λ_j fix one polynomial of degree n − 1. Its value at λ = 0 is a weighted sum Σ c_j y_j,
# and the weights depend on the scale factors alone (Richardson's extrapolation). Derive them: c_j is the value at 0 of
# the polynomial that is 1 at λ_j and 0 at the other scale factors.


# %% task="richardson"
def richardson(scales):
    """A list of n different scale factors → the weights c (n,)."""
    raise NotImplementedError


# %% check="richardson"
check("richardson", richardson)

# %% [markdown]
# ## 6 · To zero noise
#
# A value was measured at the scale factors **{{scale_words}}**. Extrapolate it to λ = 0 twice: by the straight line
# {{line}}, and by the parabola. Every value counts alike: the errors do not weigh them. Each result is a weighted sum
# of values whose errors are independent; the given errors are standard errors, and so are yours.


# %% task="zero_noise"
def zero_noise(values, errors):
    """Values (3,) and their errors (3,), float64 → ((value, error) of the line, (value, error) of the parabola)."""
    raise NotImplementedError


# %% check="zero_noise"
check("zero_noise", zero_noise)

# %% [markdown]
# ## 7 · What one image costs
#
# A sampler calls the network once a step. In each call a hybrid layer runs each of its circuits once at each position
# of the image, and all wires are read at once. Each such circuit runs at every scale factor that the **{{degree}}**
# extrapolation of task 6 uses ({{used}} in this variant), with N shots at each. A mean of N values ±1 has a standard
# error of at most 1/√N. Take the smallest whole N with which the extrapolated value's error is at most `error` even
# then, and return the number of runs for one image.


# %% task="runs"
def runs(layers, steps, error):
    """A list of (circuits, positions) for each hybrid layer, sampler steps, an error → a whole number."""
    raise NotImplementedError


# %% check="runs"
check("runs", runs)

# %% [markdown]
# ## 8 · Your functions at work
#
# No points here. The model is the shipped `fullhqconv`. Its first hybrid layer gets an image in the middle of its
# noise, and we look at one of that layer's circuits: 12 wires, 84 trained weights. The layers are listed as
# (circuits, positions); a Basic circuit counts like the others.

# %% tags=["demo"]
torch.set_grad_enabled(False)
model = load_model(SHIPPED / "fashion-mnist" / "fullhqconv")
seen = {}
for name, layer in model.named_modules():
    if isinstance(layer, QuantumLayer):
        layer.register_forward_hook(lambda layer, inputs, _, name=name: seen.__setitem__(name, (layer, inputs[0])))
image = to_model_range(load_images("fashion-mnist", "test", bundled=True).images[:1])
model(image + torch.randn(image.shape, generator=torch.Generator().manual_seed(0)), torch.tensor([300]))
layers = [(x.shape[1], x.shape[0]) for _, x in seen.values()]
print("(circuits, positions):", layers)
for steps in (50, 1000):
    print(f"{steps} steps, error 0.01: {int(runs(layers, steps, 0.01)):,} runs for one image")

# %% [markdown]
# **Readout of 12 wires.** The trained circuit is simulated exactly, its distribution gets readout errors, 20,000
# strings are drawn, and your inversion brings the means back.

# %% tags=["demo"]
layer, x = next((layer, x) for layer, x in seen.values() if layer.circuit.n_wires == 12)
circuit, theta, x = layer.circuit, layer.theta[0].double(), x[0, 0].double()
errors = [torch.tensor([[0.98, 0.08 + 0.005 * w], [0.02, 0.92 - 0.005 * w]], dtype=torch.float64) for w in range(12)]
matrices = [{{in_layout}} for M in errors]  # in this variant's layout
generator = torch.Generator().manual_seed(1)


def in_order(p, n):
    """From the library's order, wire 0 the first axis, to this variant's, or back."""
    return p.reshape([2] * n).permute([{{axis}} for w in range(n)]).flatten()


def with_readout(p, n):
    """Readout errors added, in the library's order."""
    p = p.reshape(1, *[2] * n)
    for w in range(n):
        p = apply_matrix(p, errors[w], (w,))
    return p.flatten()


def z_means(p, n):
    """⟨Z⟩ of every wire from a distribution in this variant's order."""
    p = in_order(torch.as_tensor(p), n).reshape([2] * n)
    return torch.stack([p.movedim(w, 0)[0].sum() - p.movedim(w, 0)[1].sum() for w in range(n)])


def drawn(p, n, shots):
    """Strings from a distribution in the library's order: ({string: count}, their shares), in this variant's order."""
    number = torch.bincount(torch.multinomial(p, shots, replacement=True, generator=generator), minlength=2**n)
    number = in_order(number, n)
    return {format(k, f"0{n}b"): int(number[k]) for k in number.nonzero()[:, 0].tolist()}, number.double() / shots


p = statevector(circuit, x[None], theta).abs().square().flatten()
counts, shares = drawn(with_readout(p, 12), 12, 20_000)
exact = z_means(in_order(p, 12), 12)
measured, spread = (torch.as_tensor(np.asarray(part)) for part in estimate(counts))
repaired = z_means(undo_readout(shares, matrices), 12)
print("largest error over the 12 wires")
print(f"as measured     {(measured - exact).abs().max():.4f}   (largest spread beside a mean: {spread.max():.2g})")
print(f"readout undone  {(repaired - exact).abs().max():.4f}")

# %% [markdown]
# **Gates that err.** A density matrix of 12 wires takes 268 MB, so here we take the part of the trained circuit that
# couples the four pixels of channel 0, in its three layers: 4 wires, 24 gates after the encoding. After each gate both
# its wires are depolarized with p = 0.3 %. Your folding makes it noisier, your readout inversion and your
# extrapolation repair it.

# %% tags=["demo"]
part = [g for g in circuit.gates if g.controls and max(g.wires) < 4]
gates = [(g.name, g.wires, TWO_PI * float(theta[g.param[1]])) for g in part]
assert len(gates) == 24 and circuit.gates == hqconv(3).gates


def on_rho(rho, name, wires, angle, n=4):
    """UρU†: the matrix acts on the rows, its conjugate on the columns."""
    U = rotation(name[-1], torch.tensor(angle, dtype=torch.float64))
    wires = [{{axis}} for w in wires]
    rho = apply_matrix(rho.reshape(1, *[2] * 2 * n), U, tuple(wires))
    return apply_matrix(rho, U.conj(), tuple(n + w for w in wires)).reshape(2**n, 2**n)


def device(gates, p, n=4):
    """The distribution of the true bits in the library's order, after encoding and noisy gates."""
    rho = torch.zeros(2**n, 2**n, dtype=torch.complex128)
    rho[0, 0] = 1
    for w in range(n):
        rho = on_rho(rho, "RX", (w,), float(x[w]))
    for name, wires, angle in gates:
        rho = on_rho(rho, name, wires, float(angle))
        for w in wires if p else ():
            rho = torch.as_tensor(depolarize(rho, w, p))
    return in_order(rho.diagonal().real.clamp(min=0), n)


SHOTS, P = 100_000, 0.003
true, noisy = z_means(in_order(device(gates, 0), 4), 4), []
for scale in {{scales}}:
    _, shares = drawn(with_readout(device(fold(gates, scale), P), 4), 4, SHOTS)
    noisy.append(z_means(undo_readout(shares, matrices[:4]), 4))
noisy = torch.stack(noisy)
print("wire    exact    λ = 1     line           parabola")
for w in range(4):
    line, parabola = zero_noise(noisy[:, w], torch.full((3,), 1 / math.sqrt(SHOTS), dtype=torch.float64))
    results = "   ".join(f"{float(value):+.3f} ± {float(error):.3f}" for value, error in (line, parabola))
    print(f"{w:4}   {true[w]:+.3f}   {noisy[0, w]:+.3f}   {results}")
print("weights of the parabola", [round(float(c), 3) for c in richardson(list({{scales}}))])

# %% [markdown]
# Compare the last two columns with the exact values, and with their errors; of the two, the parabola has the larger
# error. (The errors leave out that the inversion of the readout enlarges the scatter by about a tenth.) Then change `P`
# to 0.03 and look again: which of the two is nearer, and where does extrapolation end?
