# %% [markdown]
# # 0 · Welcome
#
# This course takes you from the mathematics of diffusion models to a **quantum hybrid diffusion
# model**: a neural network that turns noise into pictures of clothes, with small quantum circuits
# in its middle. The models are those of De Falco et al., *Towards Efficient Quantum Hybrid
# Diffusion Models* ([arXiv:2402.16147](https://arxiv.org/abs/2402.16147)), with the exact parameter counts of the
# paper. If you read it beside the course: whatever a notebook builds or checks from it is labelled there in a fixed
# form, such as "Paper, eq. 7" or "Paper, Fig. 4", and the table below says where.
#
# You need to know Python and PyTorch. You do not need to know quantum computing or diffusion
# models: notebooks 1 and 2 start from zero.
#
# **In this notebook you will**
# 1. check that your installation works;
# 2. see the whole pipeline in one figure;
# 3. let a trained hybrid model draw clothes;
# 4. look at the circuit inside it;
# 5. find your way through the course.
#
# Everything runs offline on a laptop; no GPU is needed.
#
# **Measured** on one CPU core, including the start of Python: 9 s of processor time and 0.8 GB of memory; with
# `QDM_SIZE=test` 5 s and 0.7 GB. A busy machine takes longer.

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
import json

import matplotlib.pyplot as plt
import torch
from IPython.display import Markdown

from qdm_course import figures
from qdm_course.moving import moving_film
from qdm_course.size import show_size
from qdm_labs.reading import check, solution  # noqa: F401  solution is yours to call
from qdm_lib import circuits, data, diffusion, paper, plots, unet
from qdm_lib.checkpoint import SHIPPED, load_model
from qdm_lib.cli import report

FAST = show_size() == "test"  # fewer images, for tests and small machines
CHECKPOINT = SHIPPED / "fashion-mnist" / "1hqconv"

# %% [markdown]
# ## Does it work here?
#
# `doctor` checks the installation and ends with a self-test. Three of its parts are printed here; the
# whole, with memory, processor and the data it found, is what to paste into a bug report:
# `python -m qdm_lib doctor` in a terminal.

# %%
for line in report():
    if line.startswith(("packages", "threads", "self-test")):
        print(line)

# %% [markdown]
# ## The pipeline in one figure
#
# A *diffusion model* learns to undo noise. Take a real picture $x_0$ and blend it with Gaussian
# noise $\varepsilon$, a little more at each step $t = 0, 1, \dots, 999$:
#
# $$x_t = \sqrt{\bar\alpha_t}\, x_0 + \sqrt{1-\bar\alpha_t}\,\varepsilon .$$
#
# $\bar\alpha_t$ is the share of the picture's variance that is left at step $t$: close to 1 at the
# start, close to 0 at the end. A network is shown $x_t$ and $t$ and has to guess $\varepsilon$.
# To draw a new picture, start from pure noise and take the guessed noise away, step by step. The first diffusion model
# was that of Sohl-Dickstein et al. 2015 ([1503.03585](https://arxiv.org/abs/1503.03585)); Ho et al. 2020
# ([2006.11239](https://arxiv.org/abs/2006.11239)) made it draw well.
#
# The network is a **U-Net** (Ronneberger et al. 2015, [1505.04597](https://arxiv.org/abs/1505.04597)): it shrinks the
# picture from 28×28 to 2×2 pixels, works on 40 channels there, and grows it back, with *skips* that carry detail
# across. The 2×2 part is called the **vertex**. In a *hybrid* model, some of the channels of the vertex's convolutions
# are processed by quantum circuits of 12 qubits, 3 channels × 4 pixels each. The paper calls the network a **QVU-Net**
# (quantum vertex), its blocks with circuits **QResNet** blocks, and a network that also has circuits at the second
# level of the encoder a **QuanvU-Net**.

# %% jupyter={"source_hidden": true}
clothes = data.load_images("fashion-mnist", "train", bundled=True)
schedule = diffusion.NoiseSchedule(diffusion.cosine_betas())
x_0 = data.to_model_range(clothes.images[3:4])
eps = torch.randn(x_0.shape, generator=torch.Generator().manual_seed(0))
figure, axes = plt.subplots(2, 1, figsize=(10.4, 7.4), height_ratios=(2.5, 4.9), layout="constrained")
figures.draw_chain(schedule, x_0, eps, axes[0])
plots.draw_unet("1hqconv", axes[1], title=f"{paper.figure(3).name} · the network that takes the way back: 1hqconv")
text = "Above, a garment that turns into noise in four steps, arrows to the right, and arrows back to the left. Below, "
plots.show_described(figure, text + plots.describe_unet("1hqconv"))

# %% [markdown]
# *Figure: the pipeline (Paper, Fig. 1, and Paper, Fig. 3). Above, one Fashion-MNIST picture, clean on the left and only
# noise on the right. Blue arrows: the forward process adds noise, no network is needed. Red arrows: the way back, where
# the network is asked at every step. Below, that network, to scale: a box's height is the number of pixels, its width
# the number of channels. The low boxes in the middle are the vertex; the orange, hatched sliver in them is the
# circuit's three channels. Dashed: skips.*

# %% [markdown]
# **Question 00.1.** At about which step $t$ of this schedule is half of the picture's variance left, $\bar\alpha_t
# \approx 0.5$? Guess from the figure, then ask `schedule.alphas_cumprod`: a few steps more or less are right, too.

# %%
my_half_way = ...  # a step t: put it in the place of the dots, and run the cell
check("00.1", my_half_way)

# %% [markdown]
# **Such questions** stand all through the course, where they help: predict, then run on. Put your answer in the place
# of the dots; `check` says whether it is right, and if not, which mistake it looks like. A number may come as `3`,
# `3.0`, `"3"` or a tensor. Ask as often as you like, and run on where you leave the dots. Nobody else sees it: what is
# handed in and marked are the [labs](../labs/README.md). Where you are stuck, `solution("00.1")` in a cell of its own
# shows one way to answer. It is the same in every notebook: no answer stands in a cell that you edit.

# %% [markdown]
# ## The models of the paper
#
# A *preset* is a model of the paper by name. `7hqconv` means: 7 circuits of the HQConv kind, on
# 21 of the 40 vertex channels. Fewer parameters than the classical `unet` is one of the paper's points; notebook 3 asks
# how much of that saving is the circuit's.

# %%
classical = unet.count_parameters(unet.build_unet("unet", seed=0))
for name, config in unet.PRESETS.items():
    count = unet.count_parameters(unet.build_unet(name, seed=0))
    print(f"{name:13}{count:>9,}{count / classical - 1:>9.2%}   {config.describe()}")

# %% [markdown]
# These counts are held by tests. Four of them are printed in the paper: those of `unet`, `1hqconv`,
# `7hqconv` and `fullhqconv`. For a fifth, `quanv-hqconv`, its QuanvU-Net, it gives 474,293,
# where its released code has 473,817; notebook 4 says why there are two.

# %% [markdown]
# **Question 00.2.** Not only the paper's presets can be built: `unet.build_unet("unet", hybridization=0.25)` sends a
# quarter of the 40 vertex channels through circuits, as nearly as whole circuits of three channels can. How many
# circuits are in each vertex convolution then?

# %%
my_circuits = ...  # a whole number
check("00.2", my_circuits)

# %% [markdown]
# ## A trained hybrid model draws clothes
#
# The checkpoint below is a `1hqconv` model: one circuit in each of the four vertex convolutions.
# It was trained on Fashion-MNIST with the command printed here.

# %%
model = load_model(CHECKPOINT)
card = json.loads((CHECKPOINT / "model.json").read_text())["card"]
print("trained by:", card["command"])
print("steps:", card["steps"], " seed:", card["seed"], " data:", card["data"])

# %%
n = 4 if FAST else 32
generator = torch.Generator().manual_seed(7)
states = list(diffusion.ddim_sample(model, schedule, (n, 1, 28, 28), steps=10 if FAST else 50, generator=generator))

# %% jupyter={"source_hidden": true}
figure, ax = plt.subplots(figsize=(9, 4.6), layout="constrained")
plots.image_grid(states[-1].x_0, ax, columns=8 if not FAST else 4)
plots.show_described(figure, f"{n} grey pictures of clothes that the model drew from noise; most can be named.")

# %% [markdown]
# *Figure: pictures that the model drew from noise. The training was as long as the paper's: twenty
# passes over the data.*
#
# And this is how it got there. In each pair of rows, the upper shows what the network sees, $x_t$;
# the lower its current guess of the clean picture, $\hat x_0$.

# %% jupyter={"source_hidden": true}
figure, ax = plt.subplots(figsize=(9, 4.4), layout="constrained")
plots.film_strip(states, ax, n_images=2)
text = "Two pictures emerging from noise in nine frames each, with the model's guess of the clean picture below."
plots.show_described(figure, text)

# %% [markdown]
# *Figure: two pictures emerging from noise in nine frames. The guess $\hat x_0$ starts as black and
# white speckle, has an outline in the second frame already, and gains detail from there.*
#
# The same as a film, of eight pictures that the same model drew in 20 steps; below it eight digits, by the same network
# trained on digits. Press "play", or move the frame by hand (or with the arrow keys); it needs no running kernel.

# %%
moving_film(CHECKPOINT)

# %%
moving_film(SHIPPED / "mnist" / "1hqconv")

# %% [markdown]
# *Figures that move: eight pictures from pure noise to clothes, and to digits, in eleven frames. Where no script runs,
# a row is a frame, from noise above to the finished pictures below.*
#
# ## The circuit inside
#
# One layer of the HQConv circuit (Jing et al. 2021, [2107.11099](https://arxiv.org/abs/2107.11099), from where the
# paper takes it). Each line is a qubit, holding one pixel of one channel. The first gate of each line writes the
# pixel's value into the qubit as a rotation angle; the orange gates couple the pixels of one channel, the green ones
# couple neighbouring channels. On the right, $\langle Z\rangle$ is the number that is read out of each qubit. Notebooks
# 2 and 3 explain all of it.

# %%
ax = plots.draw_circuit(circuits.hqconv(layers=1), boxed=True, title=f"{paper.figure(5).name} · HQConv, one layer")
text = "Circuit diagram of one HQConv layer: twelve wires in three groups of four, coloured by block."
plots.show_described(ax, text)

# %% [markdown]
# *Figure (Paper, Fig. 5): twelve horizontal lines in three groups of four. After the encoding, each group has four
# pairs of controlled rotations in a ring (boxes A); then two pairs connect the first lines of the groups (box B).*

# %% [markdown]
# **Question 00.3.** Each orange or green gate has one trainable weight. How many has HQConv with *five* layers?

# %%
my_weights = ...  # count one layer in the figure
check("00.3", my_weights)

# %% [markdown]
# ## Does the quantum part help?
#
# That is the question to keep in mind. The paper reports small differences from one run of each model, as far as it
# says. At the end of training its gains in FID, a distance between drawn and real images (notebook 08), are no larger
# than what its own classical controls move by; the larger gains that it has earlier in training have no such control.
# This course gives you the means to judge: exact circuits, controls in which the circuit is switched off, several
# seeds, and error bars. We do not know the answer in advance, and results that disappoint stay in. One is in this
# notebook already: the model above draws clothes, and notebook 04 measures how little of that its four circuits do.
#
# ## The course
#
# | notebook | you will | needs |
# |---|---|---|
# | [01 · Diffusion models](01_ddpm.ipynb) | build the process by hand, first for numbers, then for images | PyTorch |
# | [02 · Variational circuits](02_variational_circuits.ipynb) | build a circuit, train it, differentiate it | PyTorch |
# | [03 · HQConv and FQConv](03_hqconv_fqconv.ipynb) | take the paper's two circuits apart | 02 |
# | [04 · The quantum ResNet block](04_qresnet.ipynb) | put circuits into a block and audit its weights | 03 |
# | [05 · The hybrid U-Net](05_hybrid_unet.ipynb) | build the network, choose how much of it is quantum | 01, 04 |
# | [06 · Training](06_training.ipynb) | train a hybrid model, stop it, go on, draw | 01 |
# | [07 · Transfer learning](07_transfer_learning.ipynb) | start it from a trained classical model, with controls | 06 |
# | [08 · Evaluation](08_evaluation.ipynb) | score models by hand, and see how scores mislead | 06 |
# | [09 · Towards hardware](09_towards_hardware.ipynb) | give the circuits shots and noise; count runs | 01, 02 |
#
# Each opens with its prerequisites and with the time and memory it took, and asks questions on the way.
# Words of the field and of the paper are in the [glossary](../docs/glossary.md), sources in the
# [bibliography](../docs/bibliography.md).

# %% jupyter={"source_hidden": true}
NEEDS = {"03": ["02"], "04": ["03"], "05": ["01", "04"], "06": ["01"], "07": ["06"], "08": ["06"], "09": ["01", "02"]}
AT = {"01": (0, 1), "02": (0, 0), "03": (1, 0), "04": (2, 0), "05": (3, 0.5), "06": (1, 1.5), "07": (2, 2),
      "08": (2, 1), "09": (1, -0.8)}  # fmt: skip
figure, ax = plt.subplots(figsize=(9, 3.4), layout="constrained")
for name, (x, y) in AT.items():
    words = paper.NOTEBOOKS[name][3:].replace("_", " ")
    colour = "#D6EAF8" if name in ("02", "03", "04", "09") else "#F2F2F2"
    ax.text(2.6 * x, y, f"{name}\n{words}", ha="center", va="center", fontsize=9,
            bbox={"boxstyle": "round", "facecolor": colour})  # fmt: skip
    for other in NEEDS.get(name, ()):
        ax.annotate("", (2.6 * x - 0.85, y), (2.6 * AT[other][0] + 0.85, AT[other][1]), arrowprops={"arrowstyle": "->"})
ax.set(xlim=(-1.2, 9.2), ylim=(-1.3, 2.5), title="What needs what")
ax.axis("off")
text = (
    "Map of the course: 02 leads to 03, to 04, and with 01 to 05; 01 and 02 lead to 09; 01 leads to 06, and that to 07 "
    "and 08."
)
plots.show_described(figure, text)

# %% [markdown]
# *Figure: a map of the course. An arrow leads from a notebook to one that needs it. Blue: about circuits.*
#
# ## The paper beside the course
#
# Everything that is numbered in the paper, and where it is built, drawn or checked. The same table with the paper's
# claims, and with the places where its text, figures and code disagree, is in [docs/paper.md](../docs/paper.md).

# %%
Markdown(paper.index())

# %% [markdown]
# ## Summary
#
# - A diffusion model adds noise by a formula and removes it with a network, step by step.
# - The network here is a U-Net; a hybrid one has circuits at its vertex, on 3 of 40 channels each.
# - Fewer parameters are certain, better pictures are a question for experiments with controls.
#
# **A little history.** Diffusion models were proposed in 2015 out of non-equilibrium physics, drew convincing images
# from 2020 on, and were everywhere by 2022. Circuits as trainable layers go back to 2018 (Mitarai et al.,
# [1803.00745](https://arxiv.org/abs/1803.00745)), circuits as convolutions to 2019 (Henderson et al.,
# [1904.04767](https://arxiv.org/abs/1904.04767)). The paper, of 2024, put the second into the first.
#
# **Further reading.** Ho et al., the paper that everybody builds on; the paper of this course itself, in one go,
# without stopping at what you do not know yet; then the [bibliography](../docs/bibliography.md).
#
# **Next:** [01 · Diffusion models](01_ddpm.ipynb).
