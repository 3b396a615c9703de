# %% [markdown]
# # 9 · Towards hardware
#
# Up to here every circuit was computed exactly. A quantum computer cannot do that: it returns random bits, and its
# gates err. This notebook takes the trained hybrid model and gives its circuits a finite number of shots, then noise,
# then another simulator, and counts what a real device would have to do.
#
# **Objectives.** After this notebook you can
#
# 1. compute how many shots an expectation value needs, and test whether the trained model needs them;
# 2. simulate gate errors in two ways, by a density matrix and by random trajectories, and say when each one fits;
# 3. run the trained circuits on any PennyLane device;
# 4. count circuit runs for drawing and for training, and turn them into a time under named assumptions;
# 5. tell "the model tolerates noise" from "the model hardly listens to its circuits".
#
# **Prerequisites.** Notebooks 01 (steps t, DDIM) and 02 (circuits, shots, parameter-shift).
#
# **Measured** on one CPU core, including the start of Python: 48 s of processor time and 1.0 GB of memory; with
# `QDM_SIZE=test` 28 s and 0.9 GB. A busy machine takes longer. No network is needed, and no quantum computer.

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
import copy
import math
import platform
import time

import matplotlib
import matplotlib.pyplot as plt
import pennylane as qml
import torch
import torch.nn.functional as F
from torch.testing import assert_close

import qdm_lib
from qdm_course.size import show_size
from qdm_labs.reading import check, solution  # noqa: F401  solution("09.1") shows one way to answer
from qdm_lib import diffusion
from qdm_lib.checkpoint import SHIPPED, load_model
from qdm_lib.circuits import TWO_PI, Circuit, Gate, hqconv
from qdm_lib.data import load_images, to_model_range
from qdm_lib.plots import OKABE_ITO, image_grid, show_described
from qdm_lib.quantum import QuantumLayer, to_qnode
from qdm_lib.simulator import apply_gate, apply_matrix, expval_z, simulate, statevector

for name, version in {"Python": platform.python_version(), "torch": torch.__version__.split("+")[0],
                      "PennyLane": qml.__version__, "matplotlib": matplotlib.__version__,
                      "qdm_lib": qdm_lib.__version__}.items():  # fmt: skip
    print(f"{name:10} {version}")

# %%
FAST = show_size() == "test"  # smaller numbers, the same code
N_DRAWN = 4 if FAST else 8  # images drawn by every version of the model
N_FULL = 2 if FAST else 12  # images that `fullhqconv` sees in section 3, where its 56 circuits run one by one
DDIM_STEPS = 5 if FAST else 20  # sampler steps of these drawings
N_REPEAT = 50 if FAST else 400  # repetitions of one measurement with shots
N_TRAJECTORIES = 200 if FAST else 3000  # of the small circuit
N_TRAJECTORIES_12 = 20 if FAST else 200  # of the 12-wire circuit
N_TRAJECTORIES_MODEL = 2 if FAST else 10  # of every circuit inside the model
torch.set_num_threads(1)  # the tensors here are small: a second thread would cost more than it brings
torch.set_grad_enabled(False)  # nothing is trained in this notebook
plt.rcParams["figure.dpi"] = 90
BLUE, ORANGE, GREEN, RED, GREY = (*(OKABE_ITO[c] for c in ("blue", "orange", "green", "vermilion")), "#777777")


def seeded(seed):
    """A source of random numbers that gives the same ones in every run."""
    return torch.Generator().manual_seed(seed)


# %% [markdown]
# ## 1 · What the trained circuits are asked
#
# Two shipped models, both after 20 epochs of training from the same seed. Most of this notebook looks at `1hqconv`,
# which is small enough to be seen in full. Its vertex has two ResNet blocks with two convolutions each, and in each
# convolution one HQConv circuit of 12 wires and 84 weights: four circuits. `fullhqconv`, with 13 of them and a smaller
# one in each convolution, 56 in all, stands beside it where a verdict is due. We send test images with noise of step t
# = 300 through the first model and write down what its circuits get and give.

# %%
model, full = (load_model(SHIPPED / "fashion-mnist" / name) for name in ("1hqconv", "fullhqconv"))
schedule = diffusion.NoiseSchedule(diffusion.cosine_betas())
circuits = {name: layer for name, layer in model.named_modules() if isinstance(layer, QuantumLayer)}
seen = {}  # name of a circuit -> its inputs (B, 12) in the last call of the model
for name, layer in circuits.items():
    layer.register_forward_hook(lambda _, inputs, __, name=name: seen.__setitem__(name, inputs[0][:, 0].clone()))

images = to_model_range(load_images("fashion-mnist", "test", bundled=True).images[:64])
t = torch.full((len(images),), 300)
x_t = schedule.q_sample(images, t, torch.randn(images.shape, generator=seeded(0)))
eps = model(x_t, t)
exact = {name: simulate(hqconv(3), seen[name], layer.theta[0]) for name, layer in circuits.items()}

short = {name: name.replace(".quantum.layer", "").replace("vertex_", "") for name in circuits}
for name in circuits:
    x, z = seen[name], exact[name]
    print(f"{short[name]}: inputs {x.mean():+.2f} ± {x.std():.2f}, ⟨Z⟩ {z.mean():+.2f} ± {z.std():.2f}")
    assert_close(circuits[name](x[:, None])[:, 0], z, atol=1e-5, rtol=0)

# %% [markdown]
# The first circuit of each block gets angles of a few radians and answers with all kinds of numbers. The second one
# gets angles of a fraction of a radian, since the norm before it makes these channels small (section 3). RX(0)
# leaves a wire in $|0\rangle$; a controlled rotation whose control is $|0\rangle$ does nothing. So with inputs 0 every
# $\langle Z\rangle$ is 1 whatever the weights are, and near 0 it stays not far from 1: these two circuits say much less
# than the first two.

# %%
theta = circuits["vertex_block1.conv2.quantum.layer"].theta[0]
assert_close(simulate(hqconv(3), torch.zeros(1, 12), theta), torch.ones(1, 12))
assert_close(simulate(hqconv(3), torch.zeros(1, 12), torch.rand(84, generator=seeded(1))), torch.ones(1, 12))

# %% jupyter={"source_hidden": true}
figure, axes = plt.subplots(1, 4, figsize=(10, 2.4), sharex=True, layout="constrained")
for ax, name in zip(axes, circuits, strict=True):
    ax.hist(exact[name].flatten().numpy(), bins=40, range=(-1, 1), color=ORANGE if "conv1" in name else BLUE)
    ax.set(title=short[name], xlabel="⟨Z⟩", yticks=[])
for block in ("vertex_block1", "vertex_block2"):
    first_z, second_z = (exact[f"{block}.{conv}.quantum.layer"] for conv in ("conv1", "conv2"))
    assert second_z.mean() > 0.6 > 0.1 > first_z.mean() and second_z.std() < 0.6 * first_z.std()
show_described(figure, "Four histograms: the first circuits of both blocks spread over -1 to 1, the second lie near 1.")

# %% [markdown]
# *Figure: all 12 outputs of the four circuits for 64 images. The first circuit of each block (orange) uses the whole
# range from −1 to 1, the second (blue) stays nearer to 1, most of all in the second block.*
#
# ## 2 · Shots, by hand
#
# One run of a circuit, a **shot**, ends with a measurement of all 12 wires: one string of 12 bits, drawn with
# probability $|\psi|^2$. $\langle Z\rangle$ of wire w is estimated by the average of +1 (bit 0) and −1 (bit 1) over N
# shots. One string serves all 12 wires at once. The standard deviation of the estimate is $\sqrt{(1 - \langle
# Z\rangle^2)/N}$.

# %% [markdown]
# **Question 09.1** (predict, then run). How many shots make the standard deviation of an estimate at most 0.01,
# whatever $\langle Z\rangle$ is?

# %%
my_shots = ...  # a whole number
check("09.1", my_shots)


# %%
def signs_of(n):
    """The outcomes ±1 of n wires for every string of bits: (2ⁿ, n)."""
    return torch.stack([1.0 - 2 * ((torch.arange(2**n) >> (n - 1 - w)) & 1) for w in range(n)], 1)


SIGNS = signs_of(12)


def with_shots(psi, shots, generator):
    """Estimates of ⟨Z⟩: states (B, 2, …, 2) of n wires → (B, n)."""
    probability = psi.abs().square().flatten(1)
    strings = torch.multinomial(probability, shots, replacement=True, generator=generator)  # (B, shots) numbers
    return signs_of(psi.ndim - 1)[strings].mean(1)


first = "vertex_block1.conv1.quantum.layer"
x, theta = seen[first][:1], circuits[first].theta[0]
psi = statevector(hqconv(3), x, theta)
z = expval_z(psi)[0]
assert_close(psi.abs().square().flatten(1) @ SIGNS, z[None], atol=1e-5, rtol=0)  # all strings, weighted: exact

for shots in (100, 1000, 10_000):
    many = with_shots(psi.expand(N_REPEAT, *[2] * 12), shots, seeded(shots))
    spread, predicted = many.std(0), ((1 - z**2) / shots).sqrt()
    print(f"{shots:6} shots: standard deviation {spread.mean():.4f}, by the formula {predicted.mean():.4f}")
    assert abs(spread.mean() / predicted.mean() - 1) < 0.1
    assert ((many.mean(0) - z).abs() < 5 * predicted / N_REPEAT**0.5 + 1e-4).all()  # right on average

# %% [markdown]
# PennyLane samples in the same way. Its 10,000 shots agree with the exact values as ours do: the mean squared distance
# of the 12 wires, in units of the expected one, is of the order of 1 for both.

# %%
device = qml.device("default.qubit", wires=12, seed=1)
theirs = torch.stack(to_qnode(hqconv(3), device, shots=10_000)(x[0], theta)).float()
mine = with_shots(psi, 10_000, seeded(2))[0]
for name, estimate in {"PennyLane": theirs, "by hand": mine}.items():
    units = ((estimate - z) ** 2 / ((1 - z**2) / 10_000)).mean().item()
    print(f"{name:10} squared distance {units:.2f}")
    assert units < 3

# %% [markdown]
# ## 3 · Shots inside the model
#
# Now every circuit of the model is replaced by one that answers with N shots, and the model draws images. DDIM adds no
# noise on the way, so the same start gives the same images, and each difference comes from the shots. For comparison,
# a model whose circuits do not answer at all: their outputs are 0.


# %%
class ShotLayer(torch.nn.Module):
    """Trained circuits that are measured with a number of shots: (B, n, wires) → (B, n, wires)."""

    def __init__(self, layer, shots, generator):
        super().__init__()
        self.layer, self.shots, self.generator = layer, shots, generator

    def forward(self, x):
        states = (statevector(self.layer.circuit, x[:, k], theta) for k, theta in enumerate(self.layer.theta))
        return torch.stack([with_shots(psi, self.shots, self.generator) for psi in states], 1)


class Silent(torch.nn.Module):
    """Circuits that answer 0 to everything."""

    def forward(self, x):
        return torch.zeros_like(x)


def forgetful(layer):
    """The same circuits with random angles, as before training."""
    layer.theta.data = torch.rand(layer.theta.shape, generator=seeded(10))
    return layer


def replaced(make, net=model):
    """A copy of a model with `make(layer)` in the place of its circuits."""
    other = copy.deepcopy(net)
    for name, layer in list(other.named_modules()):
        if isinstance(layer, QuantumLayer):
            other.get_submodule(name.removesuffix(".layer")).layer = make(layer)
    return other


START = torch.randn(N_DRAWN, 1, 28, 28, generator=seeded(7))


def drawn(net):
    states = diffusion.ddim_sample(net, schedule, START.shape, steps=DDIM_STEPS, x_T=START)
    return diffusion.sample(states)


# %%
def versions_of(net, shots):
    """Copies of a model: its circuits with shots, with random angles, silent; and its whole vertex silent."""
    made = {f"{n} shots" if n > 1 else "1 shot": replaced(lambda layer, n=n: ShotLayer(layer, n, seeded(n)), net)
            for n in shots}  # fmt: skip
    made["random angles"], made["circuits give 0"] = replaced(forgetful, net), replaced(lambda layer: Silent(), net)
    made["whole vertex gives 0"] = copy.deepcopy(net)  # no circuit, no convolution, no attention: nothing at 2×2
    made["whole vertex gives 0"].vertex_block2.forward = lambda h, time: torch.zeros_like(h)
    return made


def error_of(other, net, level, n):
    """How far the guessed noise moves at step `level`, relative to its size, over n images."""
    step = torch.full((n,), level)
    noisy = schedule.q_sample(images[:n], step, torch.randn(images[:n].shape, generator=seeded(level)))
    reference = net(noisy, step)
    return ((other(noisy, step) - reference).square().mean() / reference.square().mean()).sqrt().item()


LEVELS = (50, 300, 600, 900)
versions = versions_of(model, (1000, 100, 10, 1))
error = {}
for preset, net, made, n in (
    ("1hqconv", model, versions, 64),
    ("fullhqconv", full, versions_of(full, (100, 1)), N_FULL),
):
    print(f"{preset}: the guessed noise moves, at t =".ljust(42), *(f"{level:9}" for level in LEVELS))
    for name, other in made.items():
        error[preset, name] = [error_of(other, net, level, n) for level in LEVELS]
        print(name.rjust(42), *(f"{e:9.3%}" for e in error[preset, name]))
assert max(error["1hqconv", "1 shot"]) < max(error["1hqconv", "circuits give 0"]) < 0.01  # both are small …
assert min(error["1hqconv", "whole vertex gives 0"]) > 0.005  # … and not because the vertex did not matter
silent, one_shot, forgot = (error["fullhqconv", name] for name in ("circuits give 0", "1 shot", "random angles"))
assert FAST or all(r < o < z for r, o, z in zip(forgot, one_shot, silent, strict=True))

# %%
pictures = {"exact": drawn(model)} | {name: drawn(net) for name, net in versions.items()}
print("root mean square difference to the exact images, on the scale -1 … 1")
difference = {name: (p - pictures["exact"]).square().mean().sqrt().item() for name, p in pictures.items()}
difference["the next image"] = (pictures["exact"] - pictures["exact"].roll(1, 0)).square().mean().sqrt().item()
for name, d in difference.items():
    print(f"{name:22} {d:.4f}")
rows = ("exact", "100 shots", "1 shot", "circuits give 0", "whole vertex gives 0")

# %% jupyter={"source_hidden": true}
figure, axes = plt.subplots(len(rows), 1, figsize=(6.6, 0.78 * len(rows)), layout="constrained")
for ax, name in zip(axes, rows, strict=True):
    image_grid(pictures[name], ax, columns=N_DRAWN)
    ax.text(-0.02, 0.5, name, transform=ax.transAxes, ha="right", va="center", fontsize=10)
show_described(figure, "Five rows of the same images: exact, 100 shots, 1 shot, circuits silent, vertex silent.")

# %% [markdown]
# *Figure: images of `1hqconv` from the same start noise: with exact circuits, with 100 shots, with a single shot, with
# circuits that always answer 0, and with a vertex that always answers 0. The first four rows look the same; in the last
# one some become other garments: a bag turns into a shoe, a shirt into a strip.*
#
# One shot is the worst estimate there is, each output +1 or −1, and yet it moves the noise that `1hqconv` guesses by
# one or two hundredths of a per cent, and the images by nothing one can see. Good news for hardware? Read on: circuits
# that answer **0 to everything** move the guess by as little, while a vertex that answers 0 moves it by 1 to 6.5 %. So
# shots do no harm here because *this model hardly listens to its circuits*.
#
# With circuits on all of its channels, `fullhqconv` does listen, a little: silence moves its guess by up to one per
# cent, a single shot by half to two thirds of that. **Random angles** (one draw of them) move it by less than a single
# shot does, by a third to a little more than a half of what silence does: at most t, the larger part of what the
# circuits contribute does not depend on what they learnt. (Notebook 05 measures another thing, by how much the *error*
# grows, and finds that random angles do not raise it. A guess can move without getting worse.)
#
# Where does the circuits' signal get lost? In `1hqconv`, here:

# %%
block, maps = model.vertex_block1, []
hook = block.conv1.register_forward_hook(lambda _, __, out: maps.append(out))
model(x_t, t)
hook.remove()
out, norm = maps[0], block.norm1
after = F.group_norm(out, norm.num_groups, norm.weight, norm.bias, norm.eps)  # the module goes on with scale and SiLU
print("standard deviation over images and pixels, first block of the vertex, channels 0 to 3")
for name, h in {"convolution": out, "after the norm": after}.items():
    print(f"{name:15}", " ".join(f"{h[:, c].std():7.3f}" for c in range(4)), "  (0, 1, 2: circuit; 3: convolution)")
assert out[:, 3].std() > 3 * out[:, :3].std() and after[:, 3].std() > 2 * after[:, :3].std()

# %% [markdown]
# The norm after the convolution divides each group of four channels by the spread of the whole group. The circuit's
# three channels lie in [−1, 1] and share their group with one channel of the convolution, whose numbers are much
# larger. So they come out small. Then the block adds its input, and three channels of 40 go on to the decoder.
#
# These are two models from one seed: no verdict about hybrid models. But they show what to
# ask when somebody reports that a model *tolerates noise*: **what happens when the circuit says nothing?**
#
# ## 4 · Noise, exactly: the density matrix
#
# Gates err. The plainest model of that is the **depolarising channel**: with probability p a wire is hit by one of the
# three Pauli matrices X, Y, Z, each equally often. X flips the bit, Z the sign of the amplitude of 1, Y both. We put
# it on both wires after every controlled rotation, and leave the encoding and the measurement perfect.
#
# After an accident of unknown kind there is no single state $\psi$ any more, but a mixture of states $\psi_k$ with
# probabilities $w_k$. All that can be measured is in the **density matrix** $\rho = \sum_k w_k \psi_k \psi_k^\dagger$,
# a square matrix with $2^n$ rows († is the conjugate transpose). A gate U turns $\rho$ into $U\rho U^\dagger$, the
# channel into $(1 - p)\rho + (p/3)(X\rho X + Y\rho Y + Z\rho Z)$.

# %% [markdown]
# **Question 09.2** (predict, then run). A complex number takes 16 bytes. How many wires can a density matrix have at
# most, if it has to fit into 1.5 GB (1.5 · 10⁹ bytes)? And a state? Answer with a pair.

# %%
my_wires = ..., ...
check("09.2", my_wires)

# %% [markdown]
# For four wires, block A of one channel, as in notebook 02:


# %%
def ring(layers):
    """Four wires: RX encoding, then `layers` rings of CRZ and CRX; 8 weights a layer."""
    gates, k = [Gate("RX", (w,), ("input", w), block="encoding") for w in range(4)], 0
    for _ in range(layers):
        for target in (3, 2, 1, 0):
            for name in ("CRZ", "CRX"):
                gates.append(Gate(name, ((target + 1) % 4, target), ("weight", k), scale=TWO_PI, block="A"))
                k += 1
    return Circuit(tuple(gates), n_wires=4, n_inputs=4, n_weights=k, name="ring")


PAULI = torch.tensor([[[0, 1], [1, 0]], [[0, -1j], [1j, 0]], [[1, 0], [0, -1]]], dtype=torch.complex128)


def density_matrix(circuit, x, theta, p):
    """ρ (2ⁿ, 2ⁿ) after a noisy circuit: x (n_inputs,), theta (n_weights,), float64."""
    n = circuit.n_wires
    basis = torch.eye(2**n, dtype=torch.complex128).view(2**n, *[2] * n)  # row k: the k-th basis state
    rho = torch.zeros(2**n, 2**n, dtype=torch.complex128)
    rho[0, 0] = 1
    for gate in circuit.gates:
        U = apply_gate(basis, gate, x, theta).flatten(1).T  # what the gate does to each basis state: its columns
        rho = U @ rho @ U.conj().T
        for wire in gate.wires if gate.controls else ():
            hits = [apply_matrix(basis, P, (wire,)).flatten(1).T for P in PAULI]
            rho = (1 - p) * rho + p / 3 * sum(P @ rho @ P.conj().T for P in hits)
    return rho


# %%
small = ring(3)
x4, theta4 = torch.randn(4, generator=seeded(3)).double(), torch.rand(24, generator=seeded(4)).double()
bits = torch.stack([1.0 - 2 * ((torch.arange(16) >> (3 - w)) & 1) for w in range(4)], 1).double()
z_of = lambda rho: rho.diagonal().real @ bits  # noqa: E731  the diagonal holds the probabilities
assert_close(z_of(density_matrix(small, x4, theta4, 0.0)), simulate(small, x4[None], theta4)[0])

P_SMALL = 0.01
rho = density_matrix(small, x4, theta4, P_SMALL)
print(f"trace {rho.trace().real:.6f}; purity Tr ρ² = {(rho @ rho).trace().real:.3f} (1 for a pure state)")


def accident(op, **_):
    for wire in op.wires:
        qml.DepolarizingChannel(P_SMALL, wires=wire)


rules = qml.NoiseModel({qml.noise.op_in(["CRZ", "CRX"]): accident})
noisy = qml.noise.add_noise(to_qnode(small, qml.device("default.mixed", wires=4)), rules)
assert_close(torch.stack(noisy(x4, theta4)), z_of(rho))
print("without noise", [round(v, 3) for v in simulate(small, x4[None], theta4)[0].tolist()])
print("with noise   ", [round(v, 3) for v in z_of(rho).tolist()], "the same from PennyLane's default.mixed")

for wires in (4, 8, 12):
    print(f"{wires:2} wires: state {16 * 2**wires / 1e6:9.4f} MB, density matrix {16 * 4**wires / 1e6:9.4f} MB")

# %% [markdown]
# ## 5 · Noise by trajectories
#
# A density matrix of 12 wires takes 268 MB, and each of 84 controlled gates and 168 channels touches all of it. The
# other way: play the accidents. Run the circuit with an ordinary state; after each gate throw the dice for both wires,
# and apply a random Pauli matrix where they say so. One such **trajectory** is what happens in one shot on a device.
# The average over many has the expectation values of $\rho$, with a scatter like 1/√(number of trajectories). A batch
# of states is a batch of trajectories, and only the rows that were hit need work.


# %%
def trajectories(circuit, x, theta, p, generator):
    """⟨Z⟩ of one random trajectory for each row: x (B, n_inputs), theta (n_weights,) → (B, n_wires)."""
    psi = torch.zeros(len(x), 2**circuit.n_wires, dtype=torch.complex64)
    psi[:, 0] = 1
    psi = psi.view(-1, *[2] * circuit.n_wires)
    for gate in circuit.gates:
        psi = apply_gate(psi, gate, x, theta)
        for wire in gate.wires if gate.controls else ():
            hit = (torch.rand(len(x), generator=generator) < p).nonzero()[:, 0]
            kind = torch.randint(3, (len(hit),), generator=generator)
            if len(hit):
                psi[hit] = apply_matrix(psi[hit], PAULI[kind].to(psi.dtype), (wire,))
    return expval_z(psi)


played = trajectories(small, x4.float().expand(N_TRAJECTORIES, 4), theta4.float(), P_SMALL, seeded(5))
mean, scatter = played.mean(0), played.std(0) / N_TRAJECTORIES**0.5
print("density matrix", [round(v, 3) for v in z_of(rho).tolist()])
print("trajectories  ", [round(v, 3) for v in mean.tolist()], "±", [round(v, 3) for v in scatter.tolist()])
assert ((mean - z_of(rho)).abs() < 4 * scatter + 1e-4).all()

# %% [markdown]
# **Question 09.3** (predict, then run). In HQConv an accident can happen on both wires after each of 84 controlled
# rotations. At p = 0.1 %, how many happen in one run, on average? And from which p on are there more than one, on
# average? Answer with a pair.

# %%
my_accidents_and_p = ..., ...
check("09.3", my_accidents_and_p)

# %% [markdown]
# Now the trained circuit of the first block, 12 wires and 84 controlled rotations, for one real input. What p is
# realistic? Section 7 shows that a controlled rotation is two CNOTs; if a CNOT errs with probability e, shared by its
# two wires, then p ≈ e. Two published values: 0.10 % for a CZ gate, as good as a CNOT, of a superconducting pair
# ([arXiv:2402.18926](https://arxiv.org/abs/2402.18926), fidelity 99.90 %), and 0.03 % for entangling two trapped ions
# ([arXiv:2407.07694](https://arxiv.org/abs/2407.07694), 99.97 %). These are best pairs in a laboratory. We take 0.1 %
# as good, 1 % as poor.

# %%
levels = (0.001, 0.003, 0.01, 0.03)
means, kept = {}, []
for p in levels:
    played = trajectories(hqconv(3), x.expand(N_TRAJECTORIES_12, 12), theta, p, seeded(6))
    mean = means[p] = played.mean(0)
    kept.append(((mean @ z) / (z @ z)).item())  # the share of the signal that is left: best factor mean ≈ factor · z
    print(f"p = {p:.1%}: share of the signal left {kept[-1]:.2f}, runs without any accident {(1 - p) ** 168:.2f}")

# %% jupyter={"source_hidden": true}
figure, axes = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained", width_ratios=(1.5, 1))
axes[0].plot([w - 0.3 for w in range(12)], z, "o", color="black", label="no noise")
for k, ((p, mean), colour, marker) in enumerate(zip(means.items(), (BLUE, GREEN, ORANGE, RED), "^sDv", strict=True)):
    beside = [w - 0.15 + 0.15 * k for w in range(12)]  # so that no mark hides another one
    axes[0].plot(beside, mean, marker, ms=5, color=colour, label=f"p = {p:.1%}")
axes[0].axhline(0, color=GREY, lw=0.6)
axes[0].set(xlabel="wire", ylabel="⟨Z⟩", xticks=range(12))
axes[0].legend(frameon=False, fontsize=8, ncols=5, loc="lower center", bbox_to_anchor=(0.5, 1), columnspacing=1)
axes[1].semilogx(levels, kept, "o-", color=BLUE, label="signal left")
axes[1].semilogx(levels, [(1 - p) ** 168 for p in levels], color=GREY, ls=":", label="no accident at all")
axes[1].set(xlabel="p", ylim=(0, 1.05), xticks=levels, xticklabels=[f"{p:.1%}" for p in levels])
axes[1].minorticks_off()
axes[1].legend(frameon=False, fontsize=9)
show_described(figure, "Left: 12 expectation values shrink towards 0 with growing p. Right: the share left, against p.")
assert kept[0] > 0.85 and kept[0] > kept[1] > kept[2] > kept[3]
assert kept[2] > (1 - 0.01) ** 168  # an accident does not spoil every wire

# %% [markdown]
# *Figure: the 12 expectation values of a trained circuit (black) and, beside each, its averages under noise (left);
# the share of the signal that is left against p, and the share of runs without any accident (right). Noise pulls all
# values towards 0; much more is left than the count of accident-free runs suggests, since an accident spoils its own
# wire and those to which later gates carry it, not all 12.*
#
# The same in the model, as the change of the guessed noise at t = 300:


# %%
class NoisyLayer(torch.nn.Module):
    """Trained circuits whose gates err, averaged over some trajectories: (B, n, wires) → (B, n, wires)."""

    def __init__(self, layer, p):
        super().__init__()
        self.layer, self.p, self.generator = layer, p, seeded(8)

    def forward(self, x):
        means = []
        for k, theta in enumerate(self.layer.theta):
            rows = x[:, k].repeat_interleave(N_TRAJECTORIES_MODEL, 0)
            z = trajectories(self.layer.circuit, rows, theta, self.p, self.generator)
            means.append(z.view(len(x), N_TRAJECTORIES_MODEL, -1).mean(1))
        return torch.stack(means, 1)


for preset, net, n in (("1hqconv", model, 16), ("fullhqconv", full, 2 if FAST else 4)):  # the first n images
    noisy = {f"p = {p:.1%}": replaced(lambda layer, p=p: NoisyLayer(layer, p), net) for p in (0.001, 0.01)}
    for name, other in {**noisy, "circuits give 0": replaced(lambda layer: Silent(), net)}.items():
        print(f"{preset:11} {name:15} the guess moves by {error_of(other, net, 300, n):.3%}")

# %% [markdown]
# In `1hqconv` tiny again, and again it says more about the model than about the noise: the third line is the price of
# circuits that say nothing at all. `fullhqconv`, which listens to its circuits a little, is moved by poor gates (p = 1
# %) two thirds as far as by silence, and by good ones (0.1 %) a quarter as far, on the first four images. Some of that
# is no error of gates but the scatter of an average over ten trajectories only. The circuit itself, above, lost a fifth
# of its signal at p = 1 %.

# %% [markdown]
# **Question 09.4.** Reading a bit can fail, too: with probability e the device reports the other one. What does that
# make of $\langle Z\rangle$, on average? Write the function that undoes it.


# %%
def my_undone(measured, e):
    """The measured average of ±1, and the probability of a wrong report → ⟨Z⟩."""
    return ...  # your line here


check("09.4", my_undone)

# %% [markdown]
# ## 6 · Another machine behind the same model
#
# PennyLane calls whatever runs a circuit a *device*. `lightning.qubit` is a fast simulator in C++; `default.mixed` you
# have met; packages of the makers add real ones under other names. `to_qnode` runs a circuit on any of them, and a
# `QuantumLayer` with `backend="pennylane"` puts it into the model.

# %%
lightning = replaced(lambda layer: QuantumLayer(layer.circuit, backend="pennylane", device="lightning.qubit"))
for name, layer in circuits.items():
    lightning.get_submodule(name).theta.data.copy_(layer.theta)
seconds = {}
step = torch.full((16,), 300)
x_few = schedule.q_sample(images[:16], step, torch.randn(images[:16].shape, generator=seeded(9)))
reference = model(x_few, step)
for name, net in {"this library": model, "lightning.qubit": lightning}.items():
    start = time.process_time()
    result = net(x_few, step)
    seconds[name] = time.process_time() - start
    assert_close(result, reference, atol=1e-4, rtol=0)
    print(f"{name:16} 16 images, 64 circuit evaluations, in {seconds[name]:.2f} s")

# %% [markdown]
# The same guesses to four digits. The times are processor time of one call on the machine that made this page. The
# engine of this library is faster because it takes all images at once and uses that HQConv couples its wires weakly
# (notebook 03 explains how); PennyLane runs circuit by circuit and knows nothing of that.
#
# ## 7 · What a real device would need
#
# **Gates.** Devices offer one kind of two-qubit gate, such as CNOT (flip the target where the control is 1), and free
# rotations. $\mathrm{CRZ}(\varphi)$ is $\mathrm{RZ}(\varphi/2)$ on the target, CNOT, $\mathrm{RZ}(-\varphi/2)$, CNOT:
# where the control is 0 the two rotations cancel, where it is 1 the flips turn the second one round. CRX is the same
# between two Hadamard gates H, since HZH = X.

# %%
Z0, Z1 = torch.diag(torch.tensor([1.0, 0])).cdouble(), torch.diag(torch.tensor([0, 1.0])).cdouble()  # control 0, 1
X, H = PAULI[0], torch.tensor([[1, 1], [1, -1]]).cdouble() / math.sqrt(2)
one = torch.eye(2).cdouble()
cnot = torch.kron(Z0, one) + torch.kron(Z1, X)


def rz(angle):
    return torch.diag(torch.exp(torch.tensor([-0.5j * angle, 0.5j * angle]))).cdouble()


angle = 1.234
crz = torch.kron(Z0, one) + torch.kron(Z1, rz(angle))
by_cnots = cnot @ torch.kron(one, rz(-angle / 2)) @ cnot @ torch.kron(one, rz(angle / 2))
assert_close(by_cnots, crz)
rx = H @ rz(angle) @ H
crx = torch.kron(Z0, one) + torch.kron(Z1, rx)
assert_close(torch.kron(one, H) @ crz @ torch.kron(one, H), crx)

controlled = [gate for gate in hqconv(3).gates if gate.controls]
pairs = {gate.wires for gate in controlled}
print(f"HQConv: {len(controlled)} controlled rotations, {2 * len(controlled)} CNOTs, on {len(pairs)} pairs of wires")

# %% [markdown]
# On a device whose wires form a line or a grid, not all of these pairs are neighbours, and swaps add more gates. We
# leave them out.
#
# **Runs.** Drawing one image takes 4 circuits at each sampler step, each with N shots. Training by parameter-shift
# (notebook 02) takes, for each image and each circuit, four evaluations for each of 84 controlled rotations, two for
# each of 12 encodings, and one for the value: 361, each with N shots.
#
# **Time, under named assumptions.** We count only the time of the shots: no queue, no network, no loading of programs.
#
# - *Superconducting*: 250 µs a shot. The circuit itself takes far less, but the qubits have to fall back to $|0\rangle$
#   before the next shot. IBM's documentation describes this repetition delay; each device has its own default, a
#   balance between a clean start and the total time
#   ([repetition rate execution](https://quantum.cloud.ibm.com/docs/en/guides/repetition-rate-execution)).
#   250 µs is our round number, not a measurement.
# - *Trapped ions*: 1 ms for each two-qubit gate with the moving of ions that it needs, one after another: 168 ms a
#   shot. Again our round number. Question 09.5 asks for yours.

# %% [markdown]
# **Question 09.5.** How long do the shots of one HQConv circuit take, if its CNOTs run one after another and a delay
# comes before each shot? Then look up a device, its time for a two-qubit gate and its delay, and call your function
# with them.


# %%
def my_seconds(shots, gate, delay):
    """Number of shots, seconds a CNOT, seconds before each shot → seconds."""
    return ...  # your line here


check("09.5", my_seconds)

# %%
SHOTS = 1000
SECONDS_A_SHOT = {"superconducting": 250e-6, "trapped ions": 2 * len(controlled) * 1e-3}
per_gradient = 4 * len(controlled) + 2 * 12 + 1
jobs = {
    "one image, DDIM with 50 steps": 4 * 50,
    "one image, DDPM with 1000 steps": 4 * 1000,
    "7,000 images, DDPM": 4 * 1000 * 7000,
    "one training step of 128 images": 4 * per_gradient * 128,
    "20 epochs of 60,000 images": 4 * per_gradient * 60_000 * 20,
}


def duration(seconds):
    for unit, size in (("years", 365.25 * 86400), ("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= size:
            return f"{seconds / size:,.3g} {unit}" if seconds / size < 1000 else f"{seconds / size:,.0f} {unit}"
    return f"{seconds:.3g} s"


print(f"{'':33}{'circuits':>14}   " + "".join(f"{name:>18}" for name in SECONDS_A_SHOT))
for job, evaluations in jobs.items():
    times = [duration(evaluations * SHOTS * s) for s in SECONDS_A_SHOT.values()]
    print(f"{job:33}{evaluations:14,}   " + "".join(f"{each:>18}" for each in times))
assert per_gradient == 361

# %%
start = time.process_time()
drawn(model)
simulated = time.process_time() - start
evaluations = 4 * N_DRAWN * DDIM_STEPS
on_device = evaluations * SHOTS * SECONDS_A_SHOT["superconducting"]
print(f"{N_DRAWN} images by DDIM with {DDIM_STEPS} steps: {simulated:.1f} s on this machine, network included;")
print(f"their {evaluations} circuits with {SHOTS} shots: {duration(on_device)} on the superconducting device")
assert on_device > simulated

# %% [markdown]
# **So should one?** Not with these circuits. 12 wires are simulated exactly in less time than a device takes for its
# shots, and training by parameter-shift is out of reach by orders of magnitude. A device would be needed for circuits
# that nobody can simulate, and then their outputs would have to matter to the model. Both are open; notebook 08 shows
# how to test the second.
#
# ## Summary
#
# - N shots give $\langle Z\rangle$ to within $\sqrt{(1 - \langle Z\rangle^2)/N}$; one string of bits serves all wires.
# - Noise is exact in a density matrix of $4^n$ numbers, or played out in trajectories of $2^n$.
# - A model that tolerates shots and noise may simply not listen to its circuits. Ask what happens if they say nothing.
# - Training these circuits on a device takes orders of magnitude longer than simulating them exactly.
#
# **A little history.** Preskill named the time of noisy devices of some fifty to a few hundred qubits in 2018
# ([1801.00862](https://arxiv.org/abs/1801.00862)). Random trajectories come from quantum optics, where Dalibard, Castin
# and Mølmer used them in 1992. Temme, Bravyi and Gambetta 2016 ([1612.02058](https://arxiv.org/abs/1612.02058)) showed
# how to compute part of the noise away, at the price of more shots. PennyLane (Bergholm et al. 2018,
# [1811.04968](https://arxiv.org/abs/1811.04968)) put simulators and devices behind one interface. Whether circuits that
# can be trained can also be simulated is an open question (Cerezo et al. 2023,
# [2312.09121](https://arxiv.org/abs/2312.09121)).
#
# **Further reading.** Preskill for the landscape; Cerezo et al. 2020 ([2012.09265](https://arxiv.org/abs/2012.09265)),
# a review of variational algorithms; Cerezo et al. 2023 with notebook 03 in mind. All sources are in the
# [bibliography](../docs/bibliography.md), all words in the [glossary](../docs/glossary.md).
#
# **Where to go on.** You have seen all of it: the process, the circuits, the network, training, judging. Put your own
# ansatz into the model: `qdm_lib.circuits.ANSATZE["mine"] = my_function`, then
# `build_unet("1hqconv", ansatz="mine")`.
