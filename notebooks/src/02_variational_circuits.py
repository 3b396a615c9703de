# %% [markdown]
# # 2 · Variational circuits, and their gradients
#
# The quantum part of a hybrid diffusion model is a **variational quantum circuit**: a function with trainable
# weights, like a layer of a network, that a quantum computer could evaluate. The model of the paper
# ([arXiv:2402.16147](https://arxiv.org/abs/2402.16147)) puts such circuits in the place of convolutions. This
# notebook builds one from vectors and matrices. You need no physics.
#
# **Objectives.** After this notebook you can
#
# 1. say what a qubit, a gate, an encoding, an ansatz and an expectation value are, and compute with them;
# 2. simulate a circuit of rotations and controlled rotations in a dozen lines of PyTorch, and check it against
#    PennyLane;
# 3. train a circuit, and say which functions of its input it can express and which it cannot;
# 4. derive the parameter-shift rule, and explain why the two-term rule (equation 10 of the paper) is not exact for the
#    controlled rotations of the paper's own circuits, and what is;
# 5. estimate what a gradient costs on a simulator and on a quantum computer.
#
# **Prerequisites.** PyTorch with autograd, complex numbers, matrices. Notebook 01 is not needed.
#
# **Measured** on one CPU core, including the start of Python: 22 s of processor time and 1.0 GB of memory; with
# `QDM_SIZE=test` 16 s and 1.0 GB. A busy machine takes longer. No network is needed.

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
import math
import platform
import time

import matplotlib
import matplotlib.pyplot as plt
import pennylane as qml
import torch
from torch.testing import assert_close

import qdm_lib
from qdm_course.figures import draw_loop
from qdm_course.moving import moving_qubit, moving_shift
from qdm_course.size import show_size
from qdm_labs.reading import check, solution  # noqa: F401  solution("02.1") shows one way to answer
from qdm_lib import paper
from qdm_lib.circuits import TWO_PI, Circuit, Gate, fqconv, hqconv
from qdm_lib.data import load_images, to_model_range
from qdm_lib.engine import fast_simulate
from qdm_lib.plots import OKABE_ITO, draw_circuit
from qdm_lib.plots import show_described as show
from qdm_lib.quantum import QuantumLayer, to_qnode
from qdm_lib.simulator import simulate, statevector
from qdm_lib.unet import build_unet

for name, version in {"Python": platform.python_version(), "torch": torch.__version__.split("+")[0],
                      "PennyLane": qml.__version__, "matplotlib": matplotlib.__version__,
                      "qdm_lib": qdm_lib.__version__}.items():  # fmt: skip
    print(f"{name:10} {version}")

# %%
FAST = show_size() == "test"  # smaller numbers, the same code
TRAIN_STEPS = 40 if FAST else 150  # of the classifier in section 4
FIT_STEPS = 60 if FAST else 200  # of the curve fits in section 5
N_POINTS = 2 if FAST else 24  # random points where gradients are compared
TIMED_LAYERS = 1 if FAST else 3  # of HQConv, where gradients are timed
N_GRADIENTS = 20 if FAST else 60  # gradients that PennyLane takes with shots
REPEATS = 200 if FAST else 1000  # of every experiment with shots
torch.set_num_threads(1)  # the tensors here are small: a second thread would cost more than it brings
BLUE, ORANGE, GREEN, RED, GREY = (*(OKABE_ITO[c] for c in ("blue", "orange", "green", "vermilion")), "#777777")


def seeded(seed):
    """A source of random numbers that gives the same ones in every run."""
    return torch.Generator().manual_seed(seed)


# %% [markdown]
# ## 1 · One qubit
#
# **State.** A qubit is described by two complex numbers $\psi_0$ and $\psi_1$, its *amplitudes*, with $|\psi_0|^2 +
# |\psi_1|^2 = 1$. Every circuit starts in the state called $|0\rangle$, which is (1, 0); $|1\rangle$ is (0, 1). A state
# in which both amplitudes are not zero is a *superposition* of the two. The space of all pairs of complex numbers, in
# which states are the vectors of length 1, is called a *Hilbert space*.
#
# **Measurement.** One cannot read amplitudes. A measurement returns one bit: 0 with probability $|\psi_0|^2$, 1 with
# probability $|\psi_1|^2$. One such run is a *shot*.
#
# **Gate.** Between start and measurement, gates multiply the state by unitary matrices (they keep the sum of squares
# at 1). Two of them take an angle $\varphi$; i is the imaginary unit:
#
# $$ RX(\varphi) = \begin{pmatrix}\cos\frac\varphi2 & -i\sin\frac\varphi2\\ -i\sin\frac\varphi2 & \cos\frac\varphi2
# \end{pmatrix},\qquad RZ(\varphi) = \begin{pmatrix}e^{-i\varphi/2} & 0\\ 0 & e^{i\varphi/2}\end{pmatrix}. $$
#
# **Expectation value.** What the circuits of the paper return is $\langle Z\rangle = P(0) - P(1)$, a number from −1 to
# 1: the average of many shots, where bit 0 counts +1 and bit 1 counts −1.

# %% [markdown]
# **Question 02.1** (predict, then run). A qubit starts in $|0\rangle$ and is turned by RX($\pi/3$). What is $\langle
# Z\rangle$, and with which probability does a shot return 1? Answer with a pair.

# %%
my_z_and_chance = ..., ...
check("02.1", my_z_and_chance)


# %%
def rx(angle):
    c, s = torch.cos(angle / 2) + 0j, torch.sin(angle / 2) * -1j
    return torch.stack([torch.stack([c, s]), torch.stack([s, c])])


def rz(angle):
    return torch.diag(torch.exp(torch.stack([-0.5j * angle, 0.5j * angle])))


zero = torch.tensor([1, 0], dtype=torch.complex128)
for angle in torch.linspace(0, TWO_PI, 9, dtype=torch.float64):
    state = rx(angle) @ zero
    p0, p1 = state.abs() ** 2
    assert_close(p0 + p1, torch.ones_like(p0))
    assert_close(p0 - p1, torch.cos(angle))  # RX as an encoding: a number x becomes ⟨Z⟩ = cos x
    assert_close((rz(torch.rand_like(angle)) @ state).abs(), state.abs())  # RZ alone does not show

full_turn = rx(torch.tensor(TWO_PI, dtype=torch.float64)) @ zero
print("RX(2π)|0⟩ =", [round(a, 3) for a in full_turn.real.tolist()], " a full turn gives the state a minus sign")
assert_close(full_turn, -zero)

# %% [markdown]
# Two facts to keep. **RX(x) turns a number x into $\langle Z\rangle = \cos x$**: this is how the paper feeds numbers
# into its circuits. It is called **angle encoding**: one number a qubit, one gate each. The alternative, *amplitude
# encoding*, writes numbers into the amplitudes themselves: $2^n$ numbers fit on n qubits, but preparing such a state
# takes about as many gates, and the numbers have to be normalised together, so that their common scale is lost. The
# paper chose angles. And **a full turn gives a minus sign.** On one qubit that sign is invisible, since only $|\psi|^2$
# is measured. It comes back in section 6.
#
# With N shots, $\langle Z\rangle$ is known up to noise. One shot is ±1, so its variance is $1-\langle Z\rangle^2$ and
# that of the average is $(1-\langle Z\rangle^2)/N$.

# %%
angles = torch.linspace(0, TWO_PI, 60)
exact = torch.cos(angles)
measured, spread = {}, {}
for n in (20, 1000):
    ones = torch.binomial(torch.full_like(exact, n), (1 + exact) / 2, generator=seeded(n))
    measured[n] = 2 * ones / n - 1
    spread[n] = ((1 - exact**2) / n).sqrt()

# %% jupyter={"source_hidden": true}
figure, axes = plt.subplots(1, 2, figsize=(9, 2.7), sharey=True, layout="constrained")
for ax, n in zip(axes, measured, strict=True):
    low, high = (exact - 2 * spread[n]).numpy(), (exact + 2 * spread[n]).numpy()
    ax.fill_between(angles.numpy(), low, high, color="#D9D9D9", label="two standard deviations")
    ax.plot(angles, exact, color=BLUE, label="cos φ")
    ax.plot(angles, measured[n], ".", color=ORANGE, label=f"{n} shots")
    ax.set(xlabel="φ", title=f"{n} shots a point")
    ax.legend(frameon=False, fontsize=8)
axes[0].set_ylabel("⟨Z⟩ after RX(φ)")
show(figure, "Measured values scatter around the cosine; much less with 1000 shots than with 20.")

# %% [markdown]
# *Figure: $\langle Z\rangle$ after $\mathrm{RX}(\varphi)$. Blue the exact cosine, orange what 20 (left) and 1000 shots
# (right) measure, grey the expected scatter.*
#
# Play with one qubit. Press gates (RX, RY and RZ turn by the angle of the slider; RY has the real rows
# $(\cos\frac\varphi2, -\sin\frac\varphi2)$ and $(\sin\frac\varphi2, \cos\frac\varphi2)$), choose the number of shots,
# measure again. The arrow is the state's point on the **Bloch sphere**: $|0\rangle$ at the top, $|1\rangle$ at the
# bottom, and $\langle Z\rangle$ is its height. The figure needs no running kernel; where no script runs, a still
# picture stands in its place.

# %%
moving_qubit()

# %% [markdown]
# *Figure: a qubit on the Bloch sphere, and what shots return (bars) beside what they should (black lines); the still
# picture has the exact probabilities only. Of its gates X is a turn by $\pi$ about the x axis, up to a phase, and H
# turns $|0\rangle$ into the sum of $|0\rangle$ and $|1\rangle$ with equal weights. Try: RX twice with $\pi/2$, then RZ
# in between. Why does RZ matter now?*
#
# ## 2 · Several qubits, control and entanglement
#
# The state of n qubits has one amplitude for every string of n bits: $2^n$ complex numbers, stored as a tensor with n
# axes of length 2. A qubit in a circuit is called a *wire*; axis w belongs to wire w. A gate on wire w multiplies
# axis w by its 2×2 matrix and leaves the others alone. The 12 wires of the paper's circuits are a tensor of 4,096
# numbers, which any laptop holds. 50 wires would be 10¹⁵ numbers, 18 million gigabytes: that is why quantum computers
# are interesting, and this course stays far below it.
#
# A **controlled** gate, CRX or CRZ, has a control wire and a target wire: it rotates the target in that part of the
# state where the control bit is 1, and does nothing where it is 0. Controlled gates let wires influence one another.
# Two of them have no angle: **CNOT** flips the target where the control is 1, and **CZ** changes the sign of the
# amplitude where both bits are 1.

# %%
quarter_turn, half_turn = torch.tensor(math.pi / 2, dtype=torch.float64), torch.tensor(math.pi, dtype=torch.float64)
psi = torch.zeros(2, 2, dtype=torch.complex128)
psi[0, 0] = 1
psi = torch.tensordot(rx(quarter_turn), psi, ([1], [0]))  # RX(π/2) on wire 0
psi = torch.stack([psi[0], rx(half_turn) @ psi[1]])  # CRX(π): where bit 0 is 1, turn wire 1
p = psi.abs() ** 2
print("probabilities of the bits 00, 01, 10, 11:", [round(v, 3) for v in p.flatten().tolist()])

z0, z1, z0z1 = p[0].sum() - p[1].sum(), p[:, 0].sum() - p[:, 1].sum(), p[0, 0] + p[1, 1] - p[0, 1] - p[1, 0]
print(f"⟨Z⟩ of wire 0: {z0:.3f}, of wire 1: {z1:.3f}, of the product of both: {z0z1:.3f}")
assert_close(z0z1, torch.ones_like(z0z1))

X = torch.tensor([[0, 1], [1, 0]], dtype=torch.complex128)  # another question to a qubit: exchange 0 and 1
xx = (psi.conj().flatten() @ torch.kron(X, X) @ psi.flatten()).real
coin = torch.tensor(
    [0.5, 0, 0, 0.5], dtype=torch.complex128
)  # the classical coin: 00 or 11, probabilities, not amplitudes
xx_coin = torch.trace(torch.diag(coin) @ torch.kron(X, X)).real
print(f"⟨X⟩ of the product: {xx:.3f}; for two copies of one classical coin it would be {xx_coin:.3f}")
assert_close(xx, -torch.ones_like(xx))

# %% [markdown]
# Each wire alone is a fair coin, and yet the two bits always agree. So would two copies of one classical coin. What
# tells them apart is another measurement: asked for X in the place of Z, the two wires of our state always *disagree*,
# while copies of a coin would answer at random. A state that cannot be described wire by wire is called **entangled**.
# Notebook 03 measures how much of it the circuits of the paper create.
#
# ## 3 · A circuit, in a dozen lines
#
# An **ansatz** is a fixed pattern of gates, some of whose angles are trainable weights $\theta$. This library writes an
# ansatz as data: a list of gates, each with its wires and the source of its angle, angle = scale · value. Here is one
# for four wires: encode four numbers x by RX, then a ring of CRZ and CRX gates, from each wire's neighbour to the
# wire. (It is block A of the paper's HQConv, which notebook 03 takes apart.) Angles are $2\pi\theta$.


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


ax = draw_circuit(ring(1))
show(ax.figure, "Circuit diagram: four wires, four RX gates, then CRZ and CRX from each neighbour in a ring.")

# %% [markdown]
# *Figure: time runs from left to right, one line a wire. Blue boxes: the encoding. A dot is a control, the orange box
# at the other end of its line the rotation, $\theta_k$ the weight. $\langle Z\rangle$ is read on every wire.*
#
# What is such a circuit for? It is a function with weights, and it is trained like one. In a loop: numbers go in as
# angles, the ansatz turns the state, a measurement returns numbers, a loss judges them, an optimiser changes the
# weights.

# %%
text = (
    "A loop: encoding, ansatz and measurement on the quantum side; loss and optimiser below lead back to the weights."
)
show(draw_loop(hqconv(3)), text)

# %% [markdown]
# *Figure (Paper, Fig. 2): a variational circuit in its loop, with the numbers of the paper's HQConv. Above, what a
# quantum computer or a simulator does; below, in blue, what an ordinary program does.* The idea is that of Mitarai et
# al. 2018 ([arXiv:1803.00745](https://arxiv.org/abs/1803.00745)).
#
# What the upper row computes is equation 9 of the paper. An **observable** $\hat O$ is a matrix that equals its
# conjugate transpose; its eigenvalues are the numbers that a measurement can return, and its expectation value is their
# average.

# %%
paper.equation(9)

# %% [markdown]
# For $Z$, the matrix with +1 and −1 on its diagonal, that average is P(0) − P(1), which is why we can read it from
# bits. Both forms, for one qubit with RX(x) as the encoding and $\mathrm{RX}(\theta)$, then $\mathrm{RZ}(\theta)$, as
# the ansatz; and an observable that is not diagonal:

# %%
Z = torch.diag(torch.tensor([1, -1], dtype=torch.complex128))
x, theta = (torch.tensor(v, dtype=torch.float64) for v in (0.7, 1.9))
phi = rx(x) @ zero  # the encoded state |φ(x)⟩
U = rz(theta) @ rx(theta)  # the ansatz U_W
for name, observable in {"Z": Z, "X": X, "(Z + X)/√2": (Z + X) / 2**0.5}.items():
    expectation = (phi.conj() @ U.conj().T @ observable @ U @ phi).real  # equation 9
    values, vectors = torch.linalg.eigh(observable)  # what can be returned, and in which states for sure
    chances = (vectors.conj().T @ U @ phi).abs() ** 2
    average, outcomes = (chances * values).sum(), [round(v, 2) for v in values.tolist()]
    print(f"{name:10} equation 9: {expectation:+.4f}   average of the outcomes {outcomes}: {average:+.4f}")
    assert_close(expectation, average)
p0, p1 = (U @ phi).abs() ** 2
assert_close((phi.conj() @ U.conj().T @ Z @ U @ phi).real, p0 - p1)

# %% [markdown]
# And the dozen lines that run any circuit made of such gates. `torch.where` keeps the old state where the control bit
# is 0.


# %%
def run(circuit, x, theta):
    """⟨Z⟩ on every wire: x (n_inputs,), theta (n_weights,), both float64."""
    n = circuit.n_wires
    psi = torch.zeros(2**n, dtype=torch.complex128).index_fill(0, torch.tensor(0), 1).reshape([2] * n)
    for gate in circuit.gates:
        source, k = gate.param
        U = {"X": rx, "Z": rz}[gate.name[-1]](gate.scale * (x if source == "input" else theta)[k])
        new = torch.tensordot(U, psi, ([1], [gate.wires[-1]])).movedim(0, gate.wires[-1])
        for control in gate.controls:
            bit = torch.arange(2).reshape([2 if w == control else 1 for w in range(n)])
            new = torch.where(bit == 1, new, psi)
        psi = new
    p = psi.abs() ** 2
    return torch.stack([p.select(w, 0).sum() - p.select(w, 1).sum() for w in range(n)])


@qml.qnode(qml.device("default.qubit", wires=4), interface="torch")
def by_hand_in_pennylane(x, theta):
    for w in range(4):
        qml.RX(x[w], wires=w)
    for k, target in enumerate((3, 2, 1, 0)):
        qml.CRZ(TWO_PI * theta[2 * k], wires=[(target + 1) % 4, target])
        qml.CRX(TWO_PI * theta[2 * k + 1], wires=[(target + 1) % 4, target])
    return [qml.expval(qml.PauliZ(w)) for w in range(4)]


x, theta = torch.randn(4, generator=seeded(0)).double(), torch.rand(8, generator=seeded(1)).double()
print([round(z, 4) for z in run(ring(1), x, theta).tolist()])
assert_close(run(ring(1), x, theta), torch.stack(by_hand_in_pennylane(x, theta)))

# %% [markdown]
# The library has the same simulator for whole batches (`qdm_lib.simulator.simulate`, worth reading), turns any
# circuit into a PennyLane function (`to_qnode`), and into a layer for networks (`QuantumLayer`). All agree, also on
# the 12-wire circuits of the paper:

# %%
for circuit in (ring(2), hqconv(3), fqconv(3)):
    x = torch.randn(circuit.n_inputs, generator=seeded(2)).double()
    theta = torch.rand(circuit.n_weights, generator=seeded(3)).double()
    mine = run(circuit, x, theta)
    assert_close(simulate(circuit, x[None], theta)[0], mine)
    assert_close(torch.stack(to_qnode(circuit)(x, theta)), mine)
    layer = QuantumLayer(circuit).double()
    layer.theta.data[0] = theta
    assert_close(layer(x.view(1, 1, -1))[0, 0].detach(), mine)
    print(f"{circuit.name:18} {circuit.n_wires:2} wires, {circuit.n_weights:2} weights: four programs agree")

# %% [markdown]
# ## 4 · Training a circuit
#
# Everything above is made of differentiable torch operations, so a circuit trains like any layer. A small task: tell an
# ankle boot from a sneaker by four numbers, the mean brightness of the four quarters of the image. The circuit gets
# them as angles (times $\pi/2$, so that −1 … 1 becomes $-\pi/2$ … $\pi/2$); a boot is $\langle Z\rangle$ of wire 0
# above a threshold. Scale and threshold are trained too. Beside it, the plainest classical rival: logistic regression
# on the same four numbers.


# %%
def quarters(split):
    data = load_images("fashion-mnist", split, bundled=True)
    keep = (data.labels == 7) | (data.labels == 9)  # sneaker, ankle boot
    return torch.nn.functional.avg_pool2d(to_model_range(data.images[keep]), 14).flatten(1), data.labels[keep] == 9


class CircuitClassifier(torch.nn.Module):
    def __init__(self, circuit):
        super().__init__()
        self.circuit, self.theta = circuit, torch.nn.Parameter(torch.rand(circuit.n_weights, generator=seeded(4)))
        self.scale, self.shift = (torch.nn.Parameter(torch.tensor(v)) for v in (3.0, 0.0))

    def forward(self, x):
        return self.scale * simulate(self.circuit, x * math.pi / 2, self.theta)[:, :1] + self.shift


def train(model, x, y, lr):
    optimizer, losses = torch.optim.Adam(model.parameters(), lr=lr), []
    for _ in range(TRAIN_STEPS):
        loss = torch.nn.functional.binary_cross_entropy_with_logits(model(x)[:, 0], y.float())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


# %%
(x_train, y_train), (x_test, y_test) = quarters("train"), quarters("test")
logistic = torch.nn.Linear(4, 1)
torch.nn.init.zeros_(logistic.weight)
torch.nn.init.zeros_(logistic.bias)
models = {"circuit, 2 layers": CircuitClassifier(ring(2)), "logistic regression": logistic}
losses, accuracy = {}, {}
for (name, model), lr in zip(models.items(), (0.05, 0.3), strict=True):
    losses[name] = train(model, x_train, y_train, lr)
    n = sum(weight.numel() for weight in model.parameters())
    right = [((model(x)[:, 0] > 0) == y).float().mean().item() for x, y in ((x_train, y_train), (x_test, y_test))]
    print(f"{name:20} {n:2} weights: accuracy {right[0]:.1%} on {len(x_train)} training images, "
          f"{right[1]:.1%} on {len(x_test)} test images")  # fmt: skip
    accuracy[name] = right[1]

# %% jupyter={"source_hidden": true}
figure, ax = plt.subplots(figsize=(6, 2.7), layout="constrained")
for (name, values), colour in zip(losses.items(), (BLUE, GREY), strict=True):
    ax.plot(values, color=colour, lw=2, label=name)
    assert values[-1] < values[0]
ax.set(xlabel="training step", ylabel="cross-entropy")
ax.legend(frameon=False)
assert abs(accuracy["circuit, 2 layers"] - accuracy["logistic regression"]) < 0.05  # a few of 100 images
show(figure, "Training losses of the circuit and of logistic regression, both falling.")

# %% [markdown]
# *Figure: cross-entropy on the training images for the circuit (blue) and logistic regression (grey), which ends lower,
# at a learning rate of its own.*
#
# It learns. So does the classical rival, with five weights to its eighteen: it has the lower cross-entropy on the
# training images, and on the test images the two differ by one of 100, which is chance. A circuit is one more way to
# parameterise a function, with no built-in advantage. So the next question is which functions.
#
# ## 5 · Which functions can a circuit express?
#
# An input x that enters once, by RX(x), enters the amplitudes as cos(x/2) and sin(x/2). $\langle Z\rangle$ is quadratic
# in amplitudes, so as a function of x alone it is always
#
# $$ f(x) = a + b\cos x + c\sin x . $$
#
# The circuit and its weights choose a, b, c; nothing else can come out, however many layers follow (Schuld, Sweke and
# Meyer 2020, [arXiv:2008.08605](https://arxiv.org/abs/2008.08605), from whom this section is). With 12 inputs that
# holds for each of them. A Fourier transform over x shows which frequencies are there.

# %%
sweep = torch.arange(16, dtype=torch.float64) * TWO_PI / 16  # one period, 16 points


def spectrum(circuit, theta, k=0, wires=slice(None)):
    """Size of each frequency 0, 1, 2, … in the outputs as functions of input k; the other inputs stay fixed."""
    x = torch.randn(circuit.n_inputs, generator=seeded(5)).double().repeat(len(sweep), 1)
    x[:, k] = sweep
    with torch.no_grad():
        return (torch.fft.rfft(simulate(circuit, x, theta), dim=0) / len(sweep)).abs()[:, wires]


circuit, theta = hqconv(3), torch.rand(84, generator=seeded(6)).double()
largest = torch.stack([spectrum(circuit, theta, k).amax(1) for k in range(12)]).amax(0)
print("HQConv, largest part of each frequency over all inputs and outputs:")
print({n: float(f"{v:.1e}") for n, v in enumerate(largest[:5].tolist())})
assert largest[1] > 0.01 and largest[2:].max() < 1e-12

# %% [markdown]
# Frequencies 0 and 1, and beyond them only rounding errors. Two consequences for the paper's model: in each of its
# inputs a circuit is a constant plus one sine wave, and it cannot tell x from $x + 2\pi$.
#
# **Re-uploading** (Pérez-Salinas et al. 2019, [arXiv:1907.02085](https://arxiv.org/abs/1907.02085)) lifts the limit: if
# x is encoded r times, with trainable gates in between, frequencies up to r appear. One wire is enough to see it.


# %%
def reuploading(r):
    """One wire: r encodings of the same input, with trainable RZ, RX, RZ before, between and after."""
    gates = []
    for step in range(r + 1):
        if step > 0:
            gates.append(Gate("RX", (0,), ("input", 0), block="encoding"))
        for j, name in enumerate(("RZ", "RX", "RZ")):
            gates.append(Gate(name, (0,), ("weight", 3 * step + j), scale=TWO_PI, block="trainable"))
    return Circuit(tuple(gates), 1, 1, 3 * (r + 1), f"{r} uploads")


# %% jupyter={"source_hidden": true}
figure, axes = plt.subplots(1, 3, figsize=(9, 2.5), sharey=True, layout="constrained")
for ax, r in zip(axes, (1, 2, 3), strict=True):
    sizes = spectrum(reuploading(r), torch.rand(3 * (r + 1), generator=seeded(7)).double())[:6, 0]
    ax.bar(range(6), sizes.numpy(), color=BLUE)
    ax.set(xlabel="frequency", title=f"x encoded {r} time{'s' if r > 1 else ''}")
    assert sizes[r] > 1e-3 and sizes[r + 1 :].max() < 1e-12
axes[0].set_ylabel("size")
show(figure, "Bar charts: frequencies up to 1, 2 and 3 for one, two and three encodings of the input.")

# %% [markdown]
# *Figure: frequencies in $\langle Z\rangle$ for random weights. r encodings reach frequency r and no further.*

# %% [markdown]
# **Question 02.2.** One wire, gates RX(2x), RZ($\theta$), RX(x), with $\theta$ not special. What is the highest
# frequency of $\langle Z\rangle$ in x?

# %%
my_frequency = ...  # a whole number
check("02.2", my_frequency)

# %% [markdown]
# Now train on a curve that has frequencies 1, 2 and 3. By Fourier theory a wave A sin(nx) or A cos(nx) that a circuit
# cannot express leaves a mean squared error of $A^2/2$, its *energy*, and the energies of several such waves add up.

# %%
grid = torch.arange(64) * TWO_PI / 64
waves = [0.4 * torch.sin(grid), 0.3 * torch.cos(2 * grid), -0.2 * torch.sin(3 * grid)]
target, fits = sum(waves), {}
for r in (1, 2, 3):
    circuit, starts = reuploading(r), 4  # four random starts at once, as rows of one batch
    theta = torch.rand(starts, circuit.n_weights, generator=seeded(8)).requires_grad_()
    optimizer = torch.optim.Adam([theta], lr=0.05)
    for _ in range(FIT_STEPS):
        out = simulate(circuit, grid.repeat(starts).view(-1, 1), theta.repeat_interleave(64, 0)).view(starts, 64)
        errors = ((out - target) ** 2).mean(1)
        optimizer.zero_grad()
        errors.sum().backward()
        optimizer.step()
    missing = sum((wave**2).mean().item() for wave in waves[r:])
    print(f"uploads: {r}, mean squared error {errors.min():.5f}, energy of the missing waves {missing:.5f}")
    assert abs(errors.min() - missing) < (0.02 if FAST else 0.002)
    fits[r] = out[errors.argmin()].detach()

# %% jupyter={"source_hidden": true}
figure, axes = plt.subplots(1, 3, figsize=(9, 2.5), sharey=True, layout="constrained")
for ax, (r, fit) in zip(axes, fits.items(), strict=True):
    ax.plot(grid, target, color=ORANGE, lw=4, alpha=0.5, label="target")
    ax.plot(grid, fit, color=BLUE, label="circuit")
    ax.set(xlabel="x", title=f"{r} upload{'s' if r > 1 else ''}")
axes[0].legend(frameon=False, fontsize=8)
show(figure, "A target curve with three waves: one upload fits one sine, two come closer, three fit it exactly.")

# %% [markdown]
# *Figure: target (wide, orange) and best circuit (blue) with one, two and three encodings. Each encoding adds the
# next wave.*
#
# ## 6 · Gradients: the parameter-shift rule
#
# Autograd differentiates our simulator because it sees the amplitudes. A quantum computer shows only shots. Can a
# gradient be measured? Take a gate $\mathrm{RX}(\varphi)$ anywhere in a circuit, and all else fixed. By the argument of
# section 5, $f(\varphi) = a + b\cos\varphi + c\sin\varphi$, and so $f'(\varphi) = -b\sin\varphi + c\cos\varphi$. Two
# runs of the same circuit with $\varphi$ shifted give
#
# $$ f(\varphi+\tfrac\pi2) - f(\varphi-\tfrac\pi2) = -2b\sin\varphi + 2c\cos\varphi
# \quad\Longrightarrow\quad f'(\varphi) = \tfrac12\big[f(\varphi+\tfrac\pi2)-f(\varphi-\tfrac\pi2)\big]. $$
#
# This is the **two-term parameter-shift rule** (Mitarai et al.; Schuld et al. 2018,
# [arXiv:1811.11184](https://arxiv.org/abs/1811.11184)), equation 10 of the paper:

# %%
paper.equation(10)

# %% [markdown]
# It looks like a finite difference, but it
# is exact, with shifts so large that noise does not drown them. It needs one thing: that f has only frequencies 0 and
# 1.

# %%
encode = tuple(Gate("RX", (w,), ("input", w), block="encoding") for w in (0, 1))
turns = tuple(Gate(name, (w,), ("weight", k)) for k, (name, w) in enumerate([("RX", 0), ("RX", 1), ("RX", 0)]))
plain = Circuit(encode + turns[:2] + (Gate("CNOT", (1, 0)),) + turns[2:], 2, 2, 3, "plain rotations")
crossed = (Gate("CRX", (0, 1), ("weight", 0)), Gate("CRX", (1, 0), ("weight", 1)))
controlled = Circuit(encode + crossed, 2, 2, 2, "controlled rotations")


def value(circuit, angles, x=(1.0, 2.0)):
    """⟨Z⟩ of wire 0 for many rows of weights (B, n_weights)."""
    return simulate(circuit, torch.tensor([x], dtype=torch.float64).expand(len(angles), -1), angles)[:, 0]


def shifted(f, angles, s):
    """f(angles + s in one weight) for each weight in turn, all in one batch: (n_weights,)."""
    return f(angles + s * torch.eye(len(angles), dtype=torch.float64))


def two_term(f, angles):
    return (shifted(f, angles, math.pi / 2) - shifted(f, angles, -math.pi / 2)) / 2


def autograd(f, angles):
    angles = angles.clone().requires_grad_()
    return torch.autograd.grad(f(angles[None])[0], angles)[0]


# %%
for circuit in (plain, controlled):
    f = lambda angles, circuit=circuit: value(circuit, angles)  # noqa: E731
    angles = torch.tensor([0.4, 1.1, -0.7][: circuit.n_weights], dtype=torch.float64)
    exact, rule = autograd(f, angles), two_term(f, angles)
    print(f"{circuit.name:21} autograd {[round(v, 4) for v in exact.tolist()]}")
    print(f"{'':21} two-term {[round(v, 4) for v in rule.tolist()]}")
    assert torch.allclose(exact, rule) == (circuit is plain)

# %% [markdown]
# For plain rotations the rule is exact. For controlled ones it is not: the first weight is wrong, the second right.
# Why?
#
# ### Why controlled rotations need four terms
#
# A rotation is $\exp(-i\varphi G)$ with a Hermitian matrix G (one that equals its conjugate transpose), its
# *generator*. The angle $\varphi$ enters amplitudes through $\exp(-i\varphi g)$ for the eigenvalues g of G, and
# $\langle Z\rangle$, quadratic in amplitudes, through *differences of two eigenvalues*. Those are the frequencies. RX
# and RZ have g = ±1/2: frequencies 0 and 1. A controlled rotation does nothing while the control is 0, which adds g =
# 0: the eigenvalues are 0, 0, +1/2, −1/2, and the frequencies **0, 1/2 and 1**. The half frequency is the minus sign of
# section 1, seen at last: after a turn of $2\pi$ only the part with control 1 has changed sign, and a relative sign is
# visible. So the period is $4\pi$.

# %%
turn = torch.arange(64, dtype=torch.float64) * 2 * TWO_PI / 64  # 0 … 4π
curves = {}
for k in (0, 1):
    angles = torch.tensor([0.4, 1.1], dtype=torch.float64).repeat(64, 1)
    angles[:, k] = turn
    curves[k] = value(controlled, angles)

# %% jupyter={"source_hidden": true}
figure, axes = plt.subplots(1, 2, figsize=(9, 2.8), layout="constrained", width_ratios=(1.6, 1))
for (k, curve), colour, dx in zip(curves.items(), (BLUE, ORANGE), (-0.06, 0.06), strict=True):
    axes[0].plot(turn / math.pi, curve, color=colour, lw=2, label=f"weight {k}")
    sizes = (torch.fft.rfft(curve) / 64).abs()[:5]
    axes[1].bar((torch.arange(5) / 2 + dx).numpy(), sizes.numpy(), width=0.12, color=colour)
    print(f"weight {k}: size of frequency 0, 1/2, 1, 3/2, 2:", [round(v, 4) for v in sizes.tolist()])
    assert (sizes[1] > 0.01) == (k == 0) and sizes[3:].max() < 1e-12
axes[0].set(xlabel="angle / π", ylabel="⟨Z⟩ of wire 0")
axes[0].legend(frameon=False)
axes[1].set(xlabel="frequency", ylabel="size", xticks=[0, 0.5, 1, 1.5, 2])
show(
    figure,
    "Left: weight 0 gives a curve of period 4 pi, weight 1 of 2 pi. Right: only weight 0 has frequency one half.",
)

# %% [markdown]
# *Figure: $\langle Z\rangle$ of wire 0 as a function of each angle over two full turns (left) and its frequencies
# (right). Weight 0 (blue) repeats only after $4\pi$: it contains frequency 1/2. Weight 1 (orange) does not.*
#
# What does the two-term rule do to a wave $\sin(\Omega\varphi)$ of frequency $\Omega$? It returns
# $\sin(\Omega\pi/2)\cos(\Omega\varphi)$, where the truth is $\Omega\cos(\Omega\varphi)$. The ratio is 1 for $\Omega =
# 1$ and $\sqrt{2}$ for $\Omega = 1/2$: **the half-frequency part of the gradient comes out 41 % too large.**
#
# The repair: two more runs (Anselmetti et al. 2021, [arXiv:2104.05695](https://arxiv.org/abs/2104.05695); Wierichs et
# al. 2021, [arXiv:2107.12390](https://arxiv.org/abs/2107.12390), for any set of frequencies). With shifts $s_1 = \pi/2$
# and $s_2 = 3\pi/2$ and coefficients $c_1$, $c_2$,
#
# $$ f'(\varphi) = \sum_{j=1,2} c_j\,\big[f(\varphi+s_j) - f(\varphi-s_j)\big] \quad\text{if}\quad
# \sum_j 2\,c_j\sin(\Omega s_j) = \Omega \ \text{ for } \Omega = \tfrac12 \text{ and } \Omega = 1, $$
#
# two linear equations for two unknowns.

# %%
frequencies = torch.tensor([0.5, 1.0], dtype=torch.float64)
shifts = torch.tensor([math.pi / 2, 3 * math.pi / 2], dtype=torch.float64)
c = torch.linalg.solve(2 * torch.sin(frequencies[:, None] * shifts), frequencies)
print("coefficients:", [round(v, 4) for v in c.tolist()])
assert_close(c, torch.tensor([math.sqrt(2) + 1, 1 - math.sqrt(2)], dtype=torch.float64) / (4 * math.sqrt(2)))
theirs = {round(s / math.pi, 6): k for k, s in qml.gradients.generate_shift_rule((0.5, 1.0)).tolist()}
assert_close(torch.tensor([theirs[0.5], theirs[1.5]], dtype=torch.float64), c)  # PennyLane uses the same rule


def four_term(f, angles):
    return sum(
        k * (shifted(f, angles, s) - shifted(f, angles, -s)) for k, s in zip(c.tolist(), shifts.tolist(), strict=True)
    )


f = lambda angles: value(controlled, angles)  # noqa: E731
angles = torch.tensor([0.4, 1.1], dtype=torch.float64)
assert_close(four_term(f, angles), autograd(f, angles))
half_wave = lambda angles: torch.sin(angles / 2).sum(1)  # noqa: E731
assert_close(two_term(half_wave, angles[:1]), math.sqrt(2) * autograd(half_wave, angles[:1]))

# %% [markdown]
# **Question 02.3.** Other shifts work too. Write a function that returns the two coefficients for any two shifts. (For
# $\pi/2$ and $3\pi/2$ it has to give those printed above; it is asked for others, too.)


# %%
def my_coefficients(s):
    """s = (s_1, s_2), a tensor (2,) in float64 → (c_1, c_2)."""
    return ...  # your lines here


check("02.3", my_coefficients)

# %% [markdown]
# Drag the angle, and change the gate. With RX the two rules agree with the slope everywhere. With CRX the red points
# alone miss it; with the green ones it is exact.

# %%
moving_shift()

# %% [markdown]
# *Figure: f, the expectation value of wire 0, against the angle of one gate, from $-4\pi$ to $4\pi$, two full turns to
# each side. Black: the angle and the slope there. Red: the points of the two-term rule. Green: the two more of the
# four-term rule.*
#
# ## 7 · How wrong is the two-term rule on HQConv?
#
# All 84 weights of the paper's three-layer HQConv sit in CRZ and CRX gates. A loss is some function of its 12 outputs;
# near a point it is a weighted sum $\sum_w v_w \langle Z_w\rangle$, so take random v. Angles are $2\pi\theta$, so a
# shift s of the angle is a shift $s/2\pi$ of $\theta$. We compare two gradients at many random points, exact and by the
# two-term rule (Paper, eq. 10), and at the last of them the four-term one, too. The library's engine stands in for
# `simulate` here: the same numbers, sooner.

# %%
hq = hqconv(3)


def random_point(seed):
    g = seeded(seed)
    x, v = torch.randn(12, generator=g).double(), torch.randn(12, generator=g).double()
    f = lambda angles: fast_simulate(hq, x.expand(1, len(angles), -1), angles / TWO_PI)[0] @ v  # noqa: E731
    return f, TWO_PI * torch.rand(84, generator=g).double()


with torch.no_grad():
    rows = []
    for seed in range(N_POINTS):
        f, angles = random_point(seed)
        with torch.enable_grad():
            exact = autograd(f, angles)
        rule = two_term(f, angles)
        rows.append((((rule - exact).abs() < 1e-9), (rule - exact).norm() / exact.norm(),
                     torch.cosine_similarity(rule, exact, 0)))  # fmt: skip
        if seed < 3:
            print(f"point {seed}: exact for {rows[-1][0].sum()} of 84 weights, relative error {rows[-1][1]:.1%}, "
                  f"cosine {rows[-1][2]:.4f}")  # fmt: skip
    assert_close(four_term(f, angles), exact)
print("the four-term rule: exact for all 84")
error, cosine = (torch.stack([row[k] for row in rows]) for k in (1, 2))
print(f"\n{N_POINTS} points: smallest, median and largest")
print("relative error ", *(f"{v:8.1%}" for v in (error.min(), error.quantile(0.5), error.max())))
print("cosine         ", *(f"{v:8.4f}" for v in (cosine.min(), cosine.quantile(0.5), cosine.max())))
assert 0.05 < error.min() and error.max() < 0.25 and cosine.min() > 0.98
assert 0.1 < error.quantile(0.5) < 0.2
assert all((row[0] == rows[0][0]).all() and row[0].sum() == 20 for row in rows)  # the same 20 at every point

# %% [markdown]
# So at these points the two-term gradient points almost the right way. Its error is between 6 % and 22 % of the
# gradient's length, with a median of 14 %. The same 20 weights are exact at every point. Which, and why?
#
# Write a controlled rotation as: do nothing where the control is 0, rotate by $R(\varphi)$ where it is 1. With $\psi$
# the final state and Z the diagonal matrix of +1 (bit 0) and −1 (bit 1), $\langle Z\rangle$ is the product
# $\psi^\dagger Z\psi$, where † is the conjugate transpose. So each gate stands in it twice, once on each side of Z.
# Control 0 on both sides: no $\varphi$. Control 1 on both sides: R twice, frequencies 0 and 1. Control 0 on one side
# and 1 on the other: R once, frequency 1/2. Those mixed terms survive only if something *after* the gate mixes the
# control's 0 and 1. A later gate mixes them only if it **rotates the control wire as a target**; serving as a control
# again does not, and neither does reading Z. Hence: *the two-term rule is exact for a gate if its control wire is never
# again a target.* The circuit is data, so that can be checked by a program:


# %%
def no_later_target(circuit):
    """For each weight: is the control of its gate never the target of a later gate?"""
    trainable = [(k, g) for k, g in enumerate(circuit.gates) if g.param[0] == "weight"]
    return torch.tensor(
        [all(g.controls[0] not in later.targets for later in circuit.gates[k + 1 :]) for k, g in trainable]
    )


predicted = no_later_target(hq)
assert (predicted == rows[0][0]).all()
for k in predicted.nonzero().flatten().tolist()[::2]:
    gate = hq.gates[12 + k]
    print(
        f"weights {k}, {k + 1}: CRZ, CRX from wire {gate.wires[0]:2} to {gate.wires[1]:2}, "
        f"block {gate.block}, layer {k // 28}"
    )

# %% [markdown]
# All in the last layer: in each channel's ring the last three of four steps, whose controls have been targets already
# (the control of the first step is the target of the last), and the last coupling of block B. In layers 0 and 1 every
# control is a target again in the next layer.

# %%
f, angles = random_point(0)
exact = autograd(f, angles)
with torch.no_grad():
    rule = two_term(f, angles)

# %% jupyter={"source_hidden": true}
figure, ax = plt.subplots(figsize=(8.5, 3), layout="constrained")
number, wrong = torch.arange(84), rule - exact
ax.bar(number.numpy(), exact.numpy(), color="#CCCCCC", label="true derivative")
ax.plot(number[~predicted], wrong[~predicted], "o", ms=4, color=RED, label="error of the two-term rule")
ax.plot(
    number[predicted], wrong[predicted], "s", ms=4, color=BLUE, label="error where the control is never a target again"
)
for first, name in ((0, "layer 0"), (28, "layer 1"), (56, "layer 2")):
    ax.axvline(first - 0.5, color="black", lw=0.6, ls=":")
    ax.text(first + 0.5, exact.min(), name, va="bottom", fontsize=9)
ax.set(xlabel="weight", xlim=(-1, 84), ylabel="derivative by the angle")
ax.legend(frameon=False, fontsize=8, ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1))
show(
    figure,
    "Bars: the 84 true derivatives. Dots: errors of the two-term rule, zero only for 20 weights of the last layer.",
)

# %% [markdown]
# *Figure: for each of the 84 weights of HQConv the true derivative (grey bar) and the error of the two-term rule (dot).
# The squares (blue), all in layer 2, are zero.*

# %% [markdown]
# **Question 02.4.** For how many of the 72 weights of three-layer FQConv is the two-term rule exact? In each layer
# FQConv goes through the channels with first wires 8, 4, 0, in this order; channel `base` has controls (base + 4 + i)
# mod 12 and targets base + i, for i = 0 … 3, with a CRZ and a CRX each.

# %%
my_exact_weights = ...  # a whole number
check("02.4", my_exact_weights)

# %% [markdown]
# **Question 02.5.** $\theta$ is drawn from [0, 1) in this library, with angle $2\pi\theta$. What is the period, in
# $\theta$, of the outputs of three-layer HQConv in its first weight, $\theta_0$? So which share of all different
# circuits can the start reach, in this one weight? Answer with a pair.

# %%
my_period_and_share = ..., ...
check("02.5", my_period_and_share)

# %% [markdown]
# ## 8 · What does a gradient cost?
#
# - **Backpropagation** (our simulator): one run forward, one back, and every intermediate state in memory.
# - **Adjoint** (simulators only, [arXiv:2009.02823](https://arxiv.org/abs/2009.02823)): the same idea, but since gates
#   can be undone, states are recomputed on the way back. A few states in memory, whatever the depth.
# - **Parameter-shift** (the only one of the three on a quantum computer): four runs for every controlled rotation, two
#   for every plain one, encodings included, as the layers before the circuit need their gradients too.

# %%
circuit = hqconv(TIMED_LAYERS)
x, v = torch.randn(12, generator=seeded(9)).double(), torch.randn(12, generator=seeded(10)).double()
theta = torch.rand(circuit.n_weights, generator=seeded(11)).double()


def gradient(f):
    a, b = x.clone().requires_grad_(), theta.clone().requires_grad_()
    return torch.cat(torch.autograd.grad(torch.stack(list(f(a, b))).double() @ v, (a, b)))


device = qml.device("lightning.qubit", wires=12)
methods = {
    "backpropagation, this library": lambda a, b: simulate(circuit, a[None], b)[0],
    "adjoint, lightning.qubit": to_qnode(circuit, device, diff_method="adjoint"),
    "parameter-shift, lightning.qubit": to_qnode(circuit, device, diff_method="parameter-shift"),
}
reference, seconds = None, {}
for name, f in methods.items():
    with qml.Tracker(device) as tracker:
        start = time.process_time()
        result = gradient(f)
        seconds[name] = time.process_time() - start
    reference = result if reference is None else reference
    assert_close(result, reference, atol=1e-5, rtol=0)  # lightning hands single precision back
    print(f"{name:33} {seconds[name]:6.2f} s, circuit runs on the device: {tracker.totals.get('executions', 0)}")
runs = 4 * circuit.n_weights + 2 * circuit.n_inputs + 1
print(f"expected for parameter-shift: 4 · {circuit.n_weights} + 2 · {circuit.n_inputs} + 1 = {runs}")
assert tracker.totals["executions"] == runs

# %% [markdown]
# The times are processor time of one run on the machine that made this page; the counts hold anywhere. Now count for
# the whole model, one image, one training step:

# %%
print("gradient of one image by parameter-shift")
for preset in ("1hqconv", "7hqconv", "fullhqconv"):
    layers = [module for module in build_unet(preset).modules() if isinstance(module, QuantumLayer)]
    total = 0
    for layer in layers:
        controlled_gates = sum(len(g.controls) == 1 and g.param is not None for g in layer.circuit.gates)
        plain_gates = sum(not g.controls and g.param is not None for g in layer.circuit.gates)
        total += layer.n_circuits * (4 * controlled_gates + 2 * plain_gates + 1)
    print(f"{preset:10} {sum(layer.n_circuits for layer in layers):3} circuits, {total:6,} runs; "
          f"20 epochs of 60,000 images: {total * 1_200_000:.1e} runs, each of many shots")  # fmt: skip

state = 16 * 2**12  # bytes: 4,096 complex numbers
print(
    f"\none state of 12 wires: {state / 1e6:.2f} MB; one for each gate of HQConv: {state * len(hq.gates) / 1e6:.1f} MB"
)

# %% [markdown]
# That is why models like this one are trained on simulators, and why a fast exact simulator is worth building.
#
# ## 9 · Gradients from shots
#
# On a device each of those runs returns an average over N shots. How good is the derivative then? If evaluation j has
# coefficient $c_j$, expected value $f_j$, so the single-shot variance $\sigma_j^2 = 1 - f_j^2$, and gets $N_j$ shots,
# the variance of the sum is $\sum_j c_j^2 \sigma_j^2 / N_j$. We compare, for weight 0 of the two-wire circuit and the
# same *total* number of shots: the two-term rule, the four-term rule, and a finite difference $[f(\varphi + h) -
# f(\varphi - h)]/2h$ with h = 0.1, whose coefficients are ±5.

# %%
h = 0.1
rules = {  # (coefficient, shift) pairs
    "two-term rule": [(0.5, math.pi / 2), (-0.5, -math.pi / 2)],
    "four-term rule": [
        (sign * k, sign * s) for k, s in zip(c.tolist(), shifts.tolist(), strict=True) for sign in (1, -1)
    ],
    "finite difference, h = 0.1": [(0.5 / h, h), (-0.5 / h, -h)],
}
budgets = [10**k for k in range(2, 8)]  # shots for one derivative, all evaluations together
angles = torch.tensor([0.4, 1.1], dtype=torch.float64)
truth = autograd(lambda a: value(controlled, a), angles)[0].item()


def estimates(rule, shots, generator):
    """REPEATS estimates of the derivative; evaluations get shots in proportion to the size of their coefficient."""
    weight, total = sum(abs(k) for k, _ in rule), torch.zeros(REPEATS, dtype=torch.float64)
    for k, s in rule:
        p0 = (1 + value(controlled, (angles + torch.tensor([s, 0])).view(1, 2)).item()) / 2
        n = round(shots * abs(k) / weight)
        ones = torch.binomial(
            torch.full((REPEATS,), n).double(), torch.full((REPEATS,), p0).double(), generator=generator
        )
        total += k * (2 * ones / n - 1)
    return total


# %%
error = {}
for name, rule in rules.items():
    error[name] = [(estimates(rule, n, seeded(n)) - truth).square().mean().sqrt().item() for n in budgets]
    print(f"{name:27}", [f"{e:.4f}" for e in error[name]])
bias = abs(two_term(lambda a: value(controlled, a), angles)[0].item() - truth)
print(f"\ntrue derivative {truth:.4f}, error of the two-term rule without shot noise {bias:.4f}")

# %% jupyter={"source_hidden": true}
figure, ax = plt.subplots(figsize=(6.5, 3.2), layout="constrained")
for (name, values), colour in zip(error.items(), (RED, BLUE, GREY), strict=True):
    ax.loglog(budgets, values, "o-", color=colour, label=name)
ax.loglog(budgets, [n**-0.5 for n in budgets], color="black", lw=0.8, ls=":", label="1/√shots")
ax.set(xlabel="shots for one derivative", ylabel="root mean square error")
ax.legend(frameon=False, fontsize=9)
show(
    figure, "Error against shots, log axes: four-term falls as one over root shots, the others level off or start high."
)
assert 0.9 * bias < error["two-term rule"][-1] < 1.1 * bias and error["four-term rule"][-1] < 0.1 * bias
assert error["finite difference, h = 0.1"][0] > 5 * error["four-term rule"][0]

# %% [markdown]
# *Figure: error of a derivative against the shots spent on it. The four-term rule (blue) falls like
# $1/\sqrt{\text{shots}}$ for ever. The two-term rule (red) falls with it and then stays at its bias. The finite
# difference (grey) is ten times worse than the four-term rule all along, since dividing by a small h multiplies the
# noise.*

# %% [markdown]
# **Question 02.6.** Shots are split over the evaluations in proportion to $|c_j|$. If all single-shot variances are
# $\sigma^2$, the variance of the estimate is $\sigma^2 (\sum_j |c_j|)^2 / (\text{total shots})$. For the two-term rule
# $(\sum_j |c_j|)^2 = (½ + ½)^2 = 1$. What is it for the four-term rule? So which of the two costs more shots?

# %%
my_price = ...  # a number
check("02.6", my_price)

# %% [markdown]
# So the exact rule has its price in *different* runs, not in shots. A check with PennyLane's own shots, where each of
# the four evaluations gets N = 1000:

# %%
noisy = to_qnode(controlled, qml.device("default.qubit", wires=2, seed=1), shots=1000, diff_method="parameter-shift")
x = torch.tensor([1.0, 2.0], dtype=torch.float64)
measured = []
for _ in range(N_GRADIENTS):
    weights = angles.clone().requires_grad_()
    measured.append(torch.autograd.grad(noisy(x, weights)[0], weights)[0][0].item())
measured = torch.tensor(measured)
at = [value(controlled, (angles + torch.tensor([s, 0])).view(1, 2)).item() for _, s in rules["four-term rule"]]
spread = sum(k**2 * (1 - z**2) / 1000 for (k, _), z in zip(rules["four-term rule"], at, strict=True)) ** 0.5
print(f"standard deviation of {len(measured)} gradients: {measured.std():.4f}, by the formula {spread:.4f}")
assert 0.6 < measured.std() / spread < 1.5
assert abs(measured.mean() - truth) < 4 * spread / len(measured) ** 0.5

# %% [markdown]
# **Does the bias matter, then?** Only beyond a number of shots: below it the noise of the estimate is larger than the
# error of the rule. For all 84 weights of HQConv at once, that number follows from the variances. A single run gives
# all 12 bits, so one shot gives one value of $\sum_w v_w Z_w$.

# %%
f, angles = random_point(0)
g = seeded(0)
x, v = torch.randn(12, generator=g).double(), torch.randn(12, generator=g).double()
signs = torch.stack([1.0 - 2 * ((torch.arange(4096) >> (11 - w)) & 1) for w in range(12)], 1).double()
outcome = signs @ v  # what one shot contributes, for each of the 4,096 bit strings
noise = 0.0
with torch.no_grad():
    for k, s in rules["two-term rule"]:
        rows = (angles + s * torch.eye(84, dtype=torch.float64)) / TWO_PI
        p = statevector(hq, x.expand(84, -1), rows).flatten(1).abs() ** 2
        assert_close(p @ outcome, shifted(f, angles, s))
        noise += (k**2 * (p @ outcome**2 - (p @ outcome) ** 2)).sum().item()
bias = (two_term(f, angles).detach() - autograd(f, angles)).norm().item()
print(f"squared bias {bias**2:.4f}; variance of the whole gradient {noise:.2f} / shots")
print(f"noise and bias are equal at {noise / bias**2:.0f} shots a run")

# %% [markdown]
# With fewer shots than that in each run, the error of one gradient is mostly noise; with more, mostly bias. (Over many
# training steps noise averages out and bias does not, which speaks for the four-term rule earlier.) On a simulator
# there is no reason to use either: backpropagation and adjoint are exact and cheaper.
#
# ## Summary
#
# - A circuit is a function: encode by angles, turn by an ansatz, measure an observable (equation 9). It trains like a
#   layer.
# - In each input, encoded once, it is a constant and one sine wave. Re-uploading adds frequencies.
# - Equation 10 is exact for RX and RZ. The paper's circuits are made of CRX and CRZ, which need four terms: with two,
#   64 of 84 weights of HQConv get a wrong derivative.
# - On a quantum computer a gradient costs hundreds of runs for one circuit and thousands for one image of a model; on a
#   simulator it costs two passes.
#
# **A little history.** In 2018 Mitarai et al. trained circuits as functions and found that derivatives can be measured
# with shifted angles; the same year's Schuld et al. said for which gates. In 2020 the Fourier picture of section 5
# settled what such a function can be, and in 2021 general shift rules what its derivative costs.
#
# **Further reading.** Schuld, Sweke and Meyer, sections 1 and 2, with their figures, are the best start; Wierichs et
# al. for the rules. Something that this notebook leaves out: in deep circuits with random weights gradients vanish with
# the number of wires, the *barren plateaus* of McClean et al. 2018
# ([arXiv:1803.11173](https://arxiv.org/abs/1803.11173)). All sources are in the
# [bibliography](../docs/bibliography.md), all words in the [glossary](../docs/glossary.md).
#
# **Next:** [03 · HQConv and FQConv](03_hqconv_fqconv.ipynb) takes the two circuits of the paper apart.
