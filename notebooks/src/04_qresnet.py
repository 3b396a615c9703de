# %% [markdown]
# # 4 · The quantum ResNet block
#
# The U-Net of the paper is a stack of **ResNet blocks** (He et al. 2015,
# [arXiv:1512.03385](https://arxiv.org/abs/1512.03385)). A hybrid model changes one thing in them: what stands where a
# convolution stood. This notebook builds the block from its parts, puts circuits into it in both ways of the paper
# ([arXiv:2402.16147](https://arxiv.org/abs/2402.16147)), at the *vertex*, where it calls the block **QResNet**, and by
# *quanvolution*, where it calls it **QuanResNet**, and then audits it: which of its weights do anything at all?
#
# **Objectives.** After this notebook you can
#
# 1. write a weight-standardized convolution and a ResNet block, and say the shape at every step;
# 2. build the hybrid convolution and the quanvolution from them, and check both against the library;
# 3. explain what a GroupNorm does to channels of very different scale, and measure it;
# 4. audit a layer: the gradient of every parameter, entry by entry, and what a zero means.
#
# **Prerequisites.** Notebook 03: the two circuits and the wire map. PyTorch modules. Section 6 asks trained models for
# the noise in noisy images, as in notebook 01, sections 1 to 3 and 6; all else does without.
#
# **Measured** on one CPU core, including the start of Python: 39 s of processor time and 1.1 GB of memory; with
# `QDM_SIZE=test` 19 s and 1.1 GB. A busy machine takes longer. No network is needed.

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

import matplotlib
import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from torch import nn
from torch.testing import assert_close

import qdm_lib
from qdm_course.figures import describe_resnet_block, draw_resnet_block
from qdm_course.moving import moving_block
from qdm_course.size import show_size
from qdm_labs.reading import check, solution  # noqa: F401  solution("04.1") shows one way to answer
from qdm_lib.audit import audit_layer, audit_model
from qdm_lib.blocks import CircuitConv, ResnetBlock, SplitConv, WeightStandardizedConv2d
from qdm_lib.checkpoint import SHIPPED, load_model
from qdm_lib.circuits import fqconv, hqconv
from qdm_lib.data import load_images, to_model_range
from qdm_lib.diffusion import NoiseSchedule, cosine_betas
from qdm_lib.plots import OKABE_ITO, show_described
from qdm_lib.quantum import QuantumLayer
from qdm_lib.simulator import simulate
from qdm_lib.unet import build_unet, count_parameters

for name, version in {"Python": platform.python_version(), "torch": torch.__version__.split("+")[0],
                      "matplotlib": matplotlib.__version__, "qdm_lib": qdm_lib.__version__}.items():  # fmt: skip
    print(f"{name:10} {version}")

# %%
FAST = show_size() == "test"  # smaller numbers, the same code
IMAGES = 32 if FAST else 256  # behind every measured scale
DRAWS = 1 if FAST else 3  # random points of every audit
torch.set_num_threads(1)  # the tensors here are small: a second thread would cost more than it brings
torch.manual_seed(0)
BLUE, ORANGE, GREEN, RED, GREY = (*(OKABE_ITO[c] for c in ("blue", "orange", "green", "vermilion")), "#BBBBBB")


def seeded(seed):
    """A source of random numbers that gives the same ones in every run."""
    return torch.Generator().manual_seed(seed)


# %% [markdown]
# ## 1 · Weight-standardized convolution
#
# A convolution multiplies patches with a kernel w of shape $(c_\text{out}, c_\text{in}, 3, 3)$. Its weight-standardized
# form ([Qiao et al. 2019](https://arxiv.org/abs/1903.10520)) first brings the kernel of **each output channel** to mean
# 0 and variance 1 over its $9\,c_\text{in}$ entries (its *fan*), and then convolves:
#
# $$ \hat w = \frac{w - \operatorname{mean}(w)}{\sqrt{\operatorname{var}(w) + 10^{-5}}}. $$


# %%
def standardize(w):
    mean = w.mean((1, 2, 3), keepdim=True)
    variance = w.var((1, 2, 3), correction=0, keepdim=True)
    return (w - mean) / (variance + 1e-5).sqrt()


conv = WeightStandardizedConv2d(40, 40)
nn.init.normal_(conv.weight, std=0.05)
x = torch.randn(8, 40, 2, 2)
assert_close(conv(x), F.conv2d(x, standardize(conv.weight), conv.bias, padding=1))
print("by hand and library agree; output", tuple(conv(x).shape))

# %% [markdown]
# What is it good for? The output no longer depends on the scale of the kernel. Only its *pattern* is learned, and steps
# of the optimizer cannot blow it up. Compare kernels of ten sizes:

# %% jupyter={"source_hidden": true}
sizes = [10**k for k in torch.linspace(-2, 1, 10).tolist()]
spread = {"plain convolution": [], "weight-standardized": []}
for size in sizes:
    w = size * torch.randn(40, 40, 3, 3, generator=seeded(0))
    for name, kernel in (("plain convolution", w), ("weight-standardized", standardize(w))):
        spread[name].append(F.conv2d(x, kernel, padding=1).std().item())
figure, ax = plt.subplots(figsize=(5.5, 2.8), layout="constrained")
for (name, values), colour in zip(spread.items(), ("#777777", BLUE), strict=True):
    ax.loglog(sizes, values, "o-", color=colour, label=name)
ax.set(xlabel="standard deviation of the kernel entries", ylabel="std of the output")
ax.legend(frameon=False, fontsize=9)
show_described(figure, "The output of a plain convolution grows with its kernel; the standardized one is level.")
print(f"level: {spread['weight-standardized'][-1]:.1f}")

# %% [markdown]
# *Figure: standard deviation of the output against that of the kernel. The plain convolution (grey) is proportional to
# it; the standardized one (blue) is level.*
#
# Remember the level. A standardized kernel has entries of size 1, not of size $1/\sqrt{\text{fan}}$ as a usual
# initialization gives, so the output is **larger than the input**, by about $\sqrt{\text{fan}}$ where no padding zeros
# are met. On 2×2 pixels with padding 1 only four of the nine kernel positions meet a pixel, the others meet zeros:
# $\sqrt{40 \cdot 4} = 12.6$. Section 6 needs this. The cell below checks it, and one more property: since the mean is
# subtracted, adding a constant to a kernel changes nothing, so the gradient of each kernel sums to zero.

# %%
expected = (40 * 4) ** 0.5
assert abs(spread["weight-standardized"][-1] / expected - 1) < 0.1
(g,) = torch.autograd.grad((conv(x) * torch.randn(8, 40, 2, 2)).sum(), conv.weight)
print(
    "largest sum of a kernel's gradient:",
    f"{g.sum((1, 2, 3)).abs().max():.1e}",
    " largest entry:",
    f"{g.abs().max():.1f}",
)
assert g.sum((1, 2, 3)).abs().max() < 1e-3 * g.abs().max()  # no gradient along a shift of the whole kernel

# %% [markdown]
# **Question 04.1.** A standardized convolution from 10 to 10 channels, as the outermost level of the U-Net has it, runs
# on 28×28 pixels of independent noise of standard deviation 1. What is the standard deviation of its output, far from
# the border?

# %%
my_level = ...  # a number, to two per cent
check("04.1", my_level)

# %% [markdown]
# ## 2 · The ResNet block
#
# The block maps $(B, c_\text{in}, H, W)$ to (B, c, H, W) and also takes the time embedding, a vector of 40 numbers that
# says at which step t of the diffusion the image is. In order:
#
# 1. convolution $c_\text{in} \to c$;
# 2. **GroupNorm**: the channels form 10 groups; each group of each image is brought to mean 0 and variance 1, then each
#    channel has its own gain and bias;
# 3. **time**: a linear layer of SiLU(time) gives each channel a scale and a shift: h · (1 + scale) + shift;
# 4. **SiLU**, h · sigmoid(h), the nonlinearity;
# 5. convolution c → c, GroupNorm, SiLU;
# 6. plus the input x (through a 1×1 convolution where $c_\text{in} \ne c$).
#
# **Which convolution is an argument.** That is the whole trick: a classical, a hybrid and a quanvolutional block are
# the same class with another convolution put in (Paper, Fig. 4). The drawing is made from the model that it shows:

# %%
show_described(draw_resnet_block("unet"), describe_resnet_block("unet"))

# %% [markdown]
# *Figure: the ResNet block at the vertex of the classical U-Net, from left to right, in the order of the list. The line
# below is what makes it a "residual" network: the input goes past everything and is added at the end, so the rest only
# has to learn a change. "GroupNorm, 10 groups of 4": Wu and He 2018
# ([arXiv:1803.08494](https://arxiv.org/abs/1803.08494)).*
#
# By hand:


# %%
def group_norm(x, groups, gain, bias, eps=1e-6):
    B, C, H, W = x.shape
    g = x.reshape(B, groups, -1)  # a row: all channels and pixels of one group
    g = (g - g.mean(-1, keepdim=True)) / (g.var(-1, correction=0, keepdim=True) + eps).sqrt()
    return g.reshape(x.shape) * gain[:, None, None] + bias[:, None, None]


class Block(nn.Module):
    """The ResNet block by hand; parameters are named as in the library."""

    def __init__(self, c_in, c, time_dim=40, conv=WeightStandardizedConv2d, groups=10):
        super().__init__()
        self.groups = groups
        self.conv1, self.conv2 = conv(c_in, c), conv(c, c)
        self.norm1, self.norm2 = (nn.GroupNorm(groups, c, eps=1e-6) for _ in range(2))
        self.time = nn.Linear(time_dim, 2 * c)
        self.skip = nn.Identity() if c_in == c else nn.Conv2d(c_in, c, 1)

    def forward(self, x, time):
        scale, shift = self.time(F.silu(time)).chunk(2, dim=1)
        h = group_norm(self.conv1(x), self.groups, self.norm1.weight, self.norm1.bias)
        h = F.silu(h * (1 + scale[:, :, None, None]) + shift[:, :, None, None])
        h = F.silu(group_norm(self.conv2(h), self.groups, self.norm2.weight, self.norm2.bias))
        return self.skip(x) + h


# %%
time = torch.randn(8, 40)
for c_in, c, size in ((40, 40, 2), (70, 40, 2), (10, 10, 28), (20, 10, 28)):
    mine, library = Block(c_in, c), ResnetBlock(c_in, c, 40)
    library.load_state_dict(mine.state_dict())
    x = torch.randn(8, c_in, size, size)
    assert_close(mine(x, time), library(x, time), rtol=1e-4, atol=1e-4)
    print(f"{c_in:2} → {c} channels at {size:2}×{size:<2}: both agree, {count_parameters(mine):,} parameters")

# %% [markdown]
# Shapes at every step, of the block at the vertex (two pixels by two, 40 channels). A *hook* is called with what a
# module takes and returns. (`FastFilmNorm` is the library's GroupNorm, which does scale, shift and SiLU in the same
# go.)


# %%
def print_shapes(block, x, time):
    """Run the block; print the shapes that each of its parts takes and returns."""

    def watch(name):
        def hook(module, args, out):
            kind = type(module).__name__
            print(f"  {name:24}{kind:26}{str(tuple(args[0].shape)):18} → {tuple(out.shape)}")

        return hook

    hooks = [m.register_forward_hook(watch(name)) for name, m in block.named_modules() if name]
    block(x, time)
    for hook in hooks:
        hook.remove()


x, time = torch.randn(8, 40, 2, 2), torch.randn(8, 40)
print_shapes(ResnetBlock(40, 40, 40), x, time)

# %% [markdown]
# ## 3 · The hybrid convolution
#
# With n circuits, the first 3n of the 40 channels go through circuits, three channels each, every circuit with its own
# weights. The other 40 − 3n go through a weight-standardized convolution among themselves. The results are
# concatenated. At the vertex a channel is 2×2 pixels: one patch, 12 numbers for three channels, no sliding. A ResNet
# block with this convolution is the paper's **QResNet** block. For its three degrees of hybridization, 10, 50 and 100
# %:

# %%
for preset in ("1hqconv", "7hqconv", "fullhqconv"):
    show_described(draw_resnet_block(preset), describe_resnet_block(preset))

# %% [markdown]
# *Figures (Paper, Fig. 4): the QResNet block of `1hqconv`, `7hqconv` and `fullhqconv`. Orange, hatched: circuits, each
# on three channels with its own weights. Blue: the classical convolution on the rest. Pink: the Basic circuit of 4
# wires. The more channels a box takes, the taller it is. Everything behind the convolutions is that of the classical
# block.*
#
# The hybrid convolution by hand:


# %%
class HybridConv(nn.Module):
    """n circuits on the first 3n channels of a 2×2 map, a convolution on the rest."""

    def __init__(self, circuit, n, channels=40):
        super().__init__()
        self.circuit, self.n = circuit, n
        self.theta = nn.Parameter(torch.rand(n, circuit.n_weights))
        self.rest = WeightStandardizedConv2d(channels - 3 * n, channels - 3 * n)

    def forward(self, x):
        out = []
        for k in range(self.n):
            patch = x[:, 3 * k : 3 * k + 3].reshape(len(x), 12)  # wire 4·c + p
            out.append(simulate(self.circuit, patch, self.theta[k]).reshape(len(x), 3, 2, 2))
        return torch.cat([*out, self.rest(x[:, 3 * self.n :])], 1)


for preset, circuit, n in (("1hqconv", hqconv(3), 1), ("7hqconv", hqconv(3), 7), ("7fqconv", fqconv(3), 7)):
    library = build_unet(preset, seed=0).vertex_block1.conv1
    mine = HybridConv(circuit, n)
    mine.theta.data = library.quantum.layer.theta.data
    mine.rest.load_state_dict(library.rest.state_dict())
    assert_close(mine(x), library(x), rtol=1e-4, atol=1e-4)
    print(f"{preset}: agree; {mine.theta.numel()} circuit weights, {count_parameters(mine.rest):,} in the rest")

# %%
print("hybrid block with 7 circuits")
print_shapes(build_unet("7hqconv", seed=0).vertex_block1, x, time)

# %% [markdown]
# The circuits see rows of (B, 7, 12): 7 circuits, 12 wires. In the picture of all 40 channels:

# %% jupyter={"source_hidden": true}
figure, ax = plt.subplots(figsize=(9, 2.7), layout="constrained")
for row, (name, n, full) in enumerate((("unet", 0, 0), ("1hqconv", 1, 0), ("7hqconv", 7, 0), ("fullhqconv", 13, 1))):
    for channel in range(40):
        quantum, basic = channel < 3 * n, full and channel == 39
        colour = ORANGE if quantum else GREEN if basic else BLUE
        alpha = 0.75 if quantum and channel // 3 % 2 else 1
        ax.add_patch(plt.Rectangle((channel, -row), 0.92, 0.7, facecolor=colour, alpha=alpha))
    ax.text(-0.4, -row + 0.35, name, ha="right", va="center")
ax.vlines([4 * group - 0.04 for group in range(11)], -3.1, 0.8, color="black", lw=1)
ax.text(0, 1.0, "black lines: the 10 groups of the GroupNorm, 4 channels each", fontsize=9)
ax.set(xlim=(-5, 40.1), ylim=(-3.2, 1.4))
ax.set_axis_off()
show_described(figure, "Four rows of 40 channels: none, 3, 21 and all of them quantum; groups of four channels marked.")

# %% [markdown]
# *Figure: who computes each of the 40 vertex channels. Blue: the convolution. Orange: circuits, three channels each,
# dark and light in turn. Green: the 4-wire Basic circuit of the full model. Threes and fours do not fit: a group of
# circuits mixes two of them, and in `1hqconv` and `7hqconv` one group mixes a circuit with the convolution.*

# %% [markdown]
# **Question 04.2.** The next cell counts for the models of the paper. Count for another one first, on paper: with n = 5
# circuits of 84 weights, how many parameters has *one* vertex convolution (3×3 kernels, biases)?

# %%
my_parameters = ...  # a whole number
check("04.2", my_parameters)

# %%
for preset in ("unet", "1hqconv", "7hqconv", "fullhqconv", "1fqconv", "7fqconv", "fullfqconv"):
    conv = build_unet(preset, seed=0).vertex_block1.conv1
    quantum = sum(m.theta.numel() for m in conv.modules() if isinstance(m, QuantumLayer))
    print(
        f"{preset:11} one vertex convolution: {count_parameters(conv):6,} parameters, {quantum:5,} of them in circuits"
    )

# %% [markdown]
# ## 4 · Quanvolution
#
# On a larger map one circuit can *slide*: cut three channels into 2×2 patches that do not overlap, and send each patch
# through the same circuit with the same weights. That is a convolution of kernel 2×2 and stride 2 whose kernel is a
# circuit, a **quanvolution** (Henderson et al. 2019, [arXiv:1904.04767](https://arxiv.org/abs/1904.04767), with random
# circuits on the image itself; here the circuit is trained, and sees hidden channels). The paper does it in one model,
# QuanvU-Net, at the encoder's second level (14×14 pixels: 49 patches), and calls the block **QuanResNet**.

# %%
show_described(draw_resnet_block("quanv-hqconv", level="encoder"), describe_resnet_block("quanv-hqconv", "encoder"))

# %% [markdown]
# *Figure (Paper, Fig. 8): the QuanResNet block. It is the block of Figure 4 on larger maps: one circuit (orange) slides
# over the 49 patches of three channels, a 3×3 convolution takes the other seven. With 10 channels each norm group is
# one channel.*
#
# By hand, a loop over the patches:


# %%
def quanvolution(circuit, theta, x):
    """x (B, 3, H, W) → the same shape, patch by patch."""
    out = torch.empty_like(x)
    for row in range(0, x.shape[2], 2):
        for column in range(0, x.shape[3], 2):
            patch = x[:, :, row : row + 2, column : column + 2].reshape(len(x), 12)
            z = simulate(circuit, patch, theta)
            out[:, :, row : row + 2, column : column + 2] = z.reshape(len(x), 3, 2, 2)
    return out


model = build_unet("quanv-hqconv", seed=0)
quanv = model.encoder[1]["block1"].conv1
theta = quanv.quantum.layer.theta.detach()[0]
clothes = load_images("fashion-mnist", "train", bundled=True)
x_0 = to_model_range(clothes.images[:IMAGES])
seen = {}
hook = quanv.register_forward_pre_hook(lambda module, args: seen.update(x=args[0].detach()))
with torch.no_grad():
    model(x_0[:8], torch.zeros(8, dtype=torch.int64))
    hook.remove()
    h = seen["x"][:, :3].contiguous()  # what the first three channels hold at 14×14
    z = quanvolution(hqconv(3), theta, h)
    assert_close(quanv.quantum(h), z, rtol=1e-4, atol=1e-5)
print("the loop over 49 patches and the library agree; input", tuple(h.shape), " output", tuple(z.shape))

# %% jupyter={"source_hidden": true}
figure, axes = plt.subplots(2, 4, figsize=(8, 4), layout="constrained", width_ratios=(1, 1, 1, 1))
axes[0, 0].imshow(x_0[3, 0].numpy(), cmap="gray")
axes[0, 0].set_title("image", fontsize=9)
for row, (name, maps) in enumerate((("into the circuit", h), ("⟨Z⟩, out of it", z))):
    for c in range(3):
        axes[row, c + 1].imshow(maps[3, c].numpy(), cmap="gray")
        axes[row, c + 1].set_title(f"{name}, channel {c}", fontsize=8)
for ax in axes.flat:
    ax.set_axis_off()
show_described(figure, "A garment, three hidden maps of 14 by 14 pixels, and the same after the quanvolution.")

# %% [markdown]
# *Figure: an image, the three 14×14 maps that reach the quanvolution in a fresh model (top), and what comes out
# (bottom), with random weights. Each map has its own grey scale, from its smallest to its largest value.*
#
# Two properties set it apart from a 3×3 convolution. A pixel influences its own patch only: patches do not overlap, so
# nothing crosses their borders (the other seven channels have a 3×3 convolution, which does). And the circuit is a
# function of period $2\pi$ in each input (notebook 02), whatever scale the map has.

# %%
with torch.no_grad():
    changed = h.clone()
    changed[:, 1, 5, 8] += 0.3
    moved = (quanv.quantum(changed) - quanv.quantum(h)).abs().amax((0, 1)) > 1e-6
    print("pixels that moved (row, column):", moved.nonzero().tolist())
    assert set(map(tuple, moved.nonzero().tolist())) <= {(r, c) for r in (4, 5) for c in (8, 9)}
    assert_close(quanv.quantum(h + 2 * torch.pi), quanv.quantum(h), rtol=1e-3, atol=1e-4)

# %% [markdown]
# **Two counts of one model.** The paper gives its QuanvU-Net 474,293 parameters; the released code, run, has 473,817.
# The text leaves the structure open. The released one, our preset, puts the circuit into both convolutions of both
# ResNet blocks of the level, 3 layers each, with a 7 → 7 convolution beside it. A reading that gives the printed
# number: a single-layer circuit for each block, shared by its two convolutions, and a 10 → 7 convolution beside it.

# %%
for paper_count, expected in ((False, 473_817), (True, 474_293)):
    model = build_unet("quanv-hqconv", paper_count=paper_count)
    conv = model.encoder[1]["block1"].conv1
    weights, rest = conv.quantum.layer.circuit.n_weights, tuple(conv.rest.weight.shape)
    print(f"paper_count={paper_count!s:5} {count_parameters(model):,}: circuit of {weights} weights, rest {rest}")
    assert count_parameters(model) == expected

# %% [markdown]
# **Question 04.3.** How many circuit runs does one forward pass of `quanv-hqconv` need at 14×14, for a batch of 128
# images? (Two ResNet blocks of two quanvolutions each.)

# %%
my_runs = ...  # a whole number
check("04.3", my_runs)

# %% [markdown]
# ## 5 · Injecting your own convolution
#
# Anything that maps $(B, c_\text{in}, H, W)$ to (B, c, H, W) can stand in the block. To compare a circuit with
# something simple, here is a block with cos in the place of the circuit: the encoding alone, no weights.


# %%
class Cosine(nn.Module):
    def forward(self, x):
        return x.cos()


def cosine_conv(c_in, c):
    return SplitConv(Cosine(), 3, WeightStandardizedConv2d(c_in - 3, c - 3))


def circuit_conv(c_in, c):
    circuit = CircuitConv(QuantumLayer(hqconv(3), generator=seeded(0)), n_circuits=1)
    return SplitConv(circuit, 3, WeightStandardizedConv2d(c_in - 3, c - 3))


for name, conv in (("classical", WeightStandardizedConv2d), ("circuit", circuit_conv), ("cosine", cosine_conv)):
    block = ResnetBlock(40, 40, 40, conv)
    print(f"{name:10} {tuple(block(x, time).shape)}  {count_parameters(block):,} parameters")
assert_close(count_parameters(ResnetBlock(40, 40, 40, circuit_conv)),
             count_parameters(ResnetBlock(40, 40, 40, cosine_conv)) + 2 * 84)  # fmt: skip

# %% [markdown]
# **Question 04.4.** Now yours: the cheapest classical convolution, one that mixes the channels of each pixel and looks
# at no neighbour. Return a module (or any function) that maps (B, c_in, H, W) to (B, c, H, W).


# %%
def my_conv(c_in, c):
    return ...  # your line here


check("04.4", my_conv)

# %% [markdown]
# ## 6 · Large and small channels under one norm
#
# A circuit returns $\langle Z\rangle$, between −1 and 1. The convolution beside it is weight-standardized and returns
# numbers of size $\sqrt{\text{fan}}$, around ten and more (section 1). GroupNorm divides a whole group by **one**
# standard deviation. In the model with one circuit, group 0 holds quantum channels 0, 1, 2 and classical channel 3.
# What happens to the small ones? We measure, with noisy Fashion-MNIST images at random steps t, in a fresh model and in
# two that come with the course, from one training: after 10 epochs, and after 20, the paper's number.


# %%
schedule = NoiseSchedule(cosine_betas(1000))
t = torch.randint(0, 1000, (IMAGES,), generator=seeded(1))
x_t = schedule.q_sample(x_0, t, torch.randn(x_0.shape, generator=seeded(2)))


def normed(norm, h):
    """The GroupNorm alone; the library's module goes on with scale, shift and SiLU."""
    return F.group_norm(h, norm.num_groups, norm.weight, norm.bias, norm.eps)


def scales(model):
    """For each vertex convolution: what the 40 channels hold before and after its GroupNorm, and their stds."""
    found, hooks = {}, []
    for b in (1, 2):
        block = getattr(model, f"vertex_block{b}")
        for k in (1, 2):
            norm = getattr(block, f"norm{k}")
            hooks.append(getattr(block, f"conv{k}").register_forward_hook(
                lambda m, a, h, key=(b, k), norm=norm: found.update(
                    {(*key, "conv"): h.detach(), (*key, "norm"): normed(norm, h).detach()})))  # fmt: skip
    with torch.no_grad():
        model(x_t, t)
    for hook in hooks:
        hook.remove()
    return found, {key: out.transpose(0, 1).flatten(1).std(1) for key, out in found.items()}


# %%
CLOTHES = SHIPPED / "fashion-mnist"
models = {"fresh": build_unet("1hqconv", seed=0), "10 epochs": load_model(CLOTHES / "1hqconv-10-epochs"),
          "20 epochs": load_model(CLOTHES / "1hqconv")}  # fmt: skip
maps, measured = {}, {}
for name, model in models.items():
    maps[name], measured[name] = scales(model)
CONVS = ((1, 1), (1, 2), (2, 1), (2, 2))
print("std of                    before the norm                    after the norm")
print("                          circuits  channel 3    ratio       circuits  channel 3   others")
for name, found in measured.items():
    for b, k in CONVS:
        before, after = found[b, k, "conv"], found[b, k, "norm"]
        print(f"{name:10}block {b} conv {k}  {before[:3].mean():8.3f}{before[3]:11.1f}"
              f"{before[3] / before[:3].mean():9.1f}{after[:3].mean():15.2f}{after[3]:11.2f}"
              f"{after[4:].mean():9.2f}")  # fmt: skip

# %% jupyter={"source_hidden": true}
figure, axes = plt.subplots(2, 3, figsize=(10.5, 4.6), layout="constrained", sharex=True)
colours = [ORANGE] * 3 + [RED] + [GREY] * 36
for column, (name, found) in enumerate(measured.items()):
    for row, (part, when) in enumerate((("conv", "before"), ("norm", "after"))):
        ax = axes[row, column]
        ax.bar(range(40), found[1, 1, part].numpy(), color=colours)
        ax.set(title=f"{name}, {when} the norm", ylabel="std")
        if part == "conv":
            ax.set_yscale("log")
for ax in axes[1]:
    ax.set(xlabel="vertex channel", xticks=range(0, 40, 4))
show_described(
    figure, "Bars of channel scales: the three quantum channels are far below the others, also after the norm."
)

# %% [markdown]
# *Figure: standard deviation of the 40 channels of the first vertex convolution, before (log scale) and after its
# GroupNorm. Orange: the three quantum channels. Red: the classical channel that shares their group. Grey: the others.*

# %% jupyter={"source_hidden": true}
for found in measured.values():
    for b, k in CONVS:
        before, after = found[b, k, "conv"], found[b, k, "norm"]
        assert before[3] > 10 * before[:3].mean()
        assert after[:3].mean() < 0.5 * after[4:].mean() and after[3] > 1.3 * after[4:].mean()

# %% [markdown]
# How does that depend on the number of circuits? Fresh models with 0 to 13 circuits, and the full one, measured by the
# library in the same way; move the slider.

# %%
moving_block()

# %% [markdown]
# *Figure that moves, without a kernel: who computes each of the 40 channels of the first vertex convolution, which of
# the 10 groups are all quantum (Q), all classical (C) or mixed, how many parameters there are, and every channel's
# scale before and after the norm. Where no script runs: the scales after the norm with one circuit.*
#
# The group's one standard deviation is that of its classical channel. So the circuits' outputs leave the norm at a
# fraction of the size of all other channels, and channel 3, one large among three small, leaves it at about twice their
# size ($\sqrt{4}$: it alone makes up the variance of four).
#
# And what do those small numbers carry? The norm also subtracts the group's mean, and that mean is a quarter of channel
# 3's. To see what is left of the circuits, put each circuit output's average over the images in the place of the output
# itself, and compare what the norm makes of both.

# %%
for name, model in models.items():
    for b, k in CONVS:
        norm, h = getattr(getattr(model, f"vertex_block{b}"), f"norm{k}"), maps[name][b, k, "conv"]
        frozen = h.clone()
        frozen[:, :3] = h[:, :3].mean(0)
        with torch.no_grad():
            pair = torch.stack([normed(norm, part)[:, :3] for part in (h, frozen)])
        varying = (pair - pair.mean(1, keepdim=True)).flatten(1)  # over the images, without what is constant
        correlation = torch.corrcoef(varying)[0, 1].item()
        print(f"{name:9} block {b} conv {k}: quantum channels after the norm, circuits running against frozen: "
              f"correlation {correlation:.3f}")  # fmt: skip
        assert correlation > 0.8

# %% [markdown]
# A correlation near 1 means that what leaves the norm in the three quantum channels is, for the most part, the mean of
# channel 3 with a minus sign, and little of what the circuits computed. Does the model's answer depend on the circuits
# at all? Freeze them: replace what they return, in all four vertex convolutions, by its average over the images, and
# see by how much the predicted noise changes. By itself that number says little: **is 0.01 % small?** So freeze three
# *classical* channels of the same convolutions, too, for four choices of three: that is the yardstick.

# %% [markdown]
# **Question 04.5** (predict, then run). What do you expect: which freezing moves the predicted noise more, that of the
# three "quantum" channels or that of three "classical" ones, or is it the "same"?

# %%
my_expectation = ...  # one of the three words
check("04.5", my_expectation)


# %%
def frozen_change(model, channels):
    """Relative change of the predicted noise when these channels of every vertex convolution return their average."""

    def freeze(module, args, out):
        out = out.clone()
        out[:, channels] = out[:, channels].mean(0)
        return out

    with torch.no_grad():
        eps = model(x_t, t)
        convs = [getattr(block, f"conv{k}") for block in (model.vertex_block1, model.vertex_block2) for k in (1, 2)]
        hooks = [conv.register_forward_hook(freeze) for conv in convs]
        frozen = model(x_t, t)
    for hook in hooks:
        hook.remove()
    return ((frozen - eps).norm() / eps.norm()).item()


TRIPLES = [slice(first, first + 3) for first in (5, 15, 25, 35)]
changes = {}
print("1hqconv     three quantum channels    three classical channels, four choices      ratio of the mean")
for name, model in models.items():
    quantum, classical = frozen_change(model, slice(0, 3)), [frozen_change(model, triple) for triple in TRIPLES]
    changes[name] = quantum, sum(classical) / 4
    print(
        f"{name:10} {quantum:22.4%}   {'  '.join(f'{c:.3%}' for c in classical):42} {changes[name][1] / quantum:10.0f}"
    )
    assert quantum < 0.2 * min(classical)

# %% [markdown]
# So at 10 % hybridization (the paper's name for one circuit on 3 of 40 channels), circuits can sit in a model, be
# trained, have a gradient in every weight (section 7), and hardly take part: after 10 epochs and after 20, freezing
# them moves the answer by a small fraction of what freezing three classical channels does. (That is a measurement of
# these models, one seed each, not of every hybrid model.) It is not that the trained circuits return constants: their
# outputs vary, as the first table shows. The likely reason is the norm that they share: the group's scale drowns them.
#
# What of a vertex that is *all* quantum, `fullhqconv`, where no classical channel shares a group? There the yardstick
# is the classical U-Net with all 40 channels of its vertex convolutions frozen, trained for as long:

# %%
for name in ("fullhqconv", "unet"):
    change = frozen_change(load_model(CLOTHES / name), slice(0, 40))
    changes[name] = change
    print(f"{name:11} 20 epochs, all 40 channels of its vertex convolutions frozen: {change:.3%}")
assert changes["fullhqconv"] > 5 * changes["20 epochs"][0]

# %% [markdown]
# Its circuits do take part, and less than the classical convolutions in the same place. In neither model does the
# predicted noise depend much on the vertex: four levels of skips carry the image past it. Notebook 05 asks what happens
# without it.
#
# With 7 circuits five of the ten groups are all quantum, and one is mixed; with 4, 8 or 12 none is. The norm's gain
# can learn to make up for the scale, though not for the mixing; the design of a hybrid layer can avoid the problem,
# by groups that do not mix, or by a factor for each channel, which could be learned. It is the kind of thing that a
# table of scores does not show.
#
# ## 7 · Which weights act? The audit
#
# A parameter can be created, counted and saved, and still have no effect. Three ways to get there: nothing reads it;
# its result is computed and then not used; or a later step cancels it. The gradient finds all three. By hand: weigh the
# block's output with random numbers v, take the gradient of the sum by every parameter, and count zeros, **entry by
# entry**. In double precision, so that "zero" is far below anything real.


# %%
def dead_entries(block, x, time):
    """For each parameter the number of entries without gradient, in double precision."""
    block = block.double()
    out = block(x.double(), time.double())
    names, parameters = zip(*block.named_parameters(), strict=True)
    g = torch.autograd.grad((out * torch.randn_like(out)).sum(), parameters)
    largest = max(part.abs().max() for part in g)
    return {name: int((part.abs() < 1e-14 * largest).sum()) for name, part in zip(names, g, strict=True)}


for c in (40, 10):
    x, time = torch.randn(4, c, 2, 2), torch.randn(4, 40)
    block = ResnetBlock(c, c, 40)
    mine, library = dead_entries(block, x, time), audit_layer(block, x, time, draws=DRAWS)
    assert mine == {p.name: p.gradient.numel() - p.n_alive for p in library}
    print(f"{c} channels:", {name: n for name, n in mine.items() if n} or "every entry acts")

# %% [markdown]
# With 10 channels the convolution's biases are dead, all of them, and with 40 they are not. That is mathematics, not a
# mistake: 10 groups of 10 channels are groups of *one* channel. A bias adds a constant to its channel, and the norm
# subtracts the channel's mean, constant included. With four channels in a group, the *differences* between their biases
# survive.

# %%
block = ResnetBlock(10, 10, 40).double()
x, time = torch.randn(4, 10, 2, 2).double(), torch.randn(4, 40).double()
before = block(x, time)
block.conv1.bias.data += torch.randn(10) * 5
assert_close(block(x, time), before)
print("biases changed by about 5, largest change of the output:", f"{(block(x, time) - before).abs().max():.1e}")

# %% [markdown]
# **Question 04.6.** For which numbers of groups, from 1, 2, 4, 5, 8, 10, 20, 40, are *all* biases of a 40-channel
# convolution before the norm dead? Answer with a list.

# %%
my_groups = ...  # such as [1, 2]
check("04.6", my_groups)

# %% [markdown]
# Now whole models. `audit_model` runs a noise predictor on noise images and random steps:

# %%
for preset in ("unet", "1hqconv", "fullhqconv", "1fqconv", "quanv-hqconv"):
    audit = audit_model(build_unet(preset, seed=0), draws=DRAWS)
    theta = audit.only("theta")
    print(f"{preset:13} {audit.n_alive:,} of {audit.n_entries:,} entries act; "
          f"circuit weights {theta.n_alive:,} of {theta.n_entries:,}")  # fmt: skip
    assert theta.n_alive == theta.n_entries
    assert all(p.name.endswith("bias") and p.n_alive == 0 for p in audit.partly_dead)
print("\nthe parameters without effect in the last one:")
print(*(p.name for p in audit.partly_dead), sep="\n")

# %% [markdown]
# In all of these **every circuit weight acts** (in the other four presets, too: `tests/test_audit.py`), and what does
# not act are the biases before norms with one channel a group. They are kept because the paper's counts include them.
#
# ## 8 · What the released block runs
#
# The block in the authors' released code (commit 6dec334) differs from section 2 in one line. Its second convolution
# computes its circuits, and then concatenates **the first convolution's** circuit outputs. Written with our parts:


# %%
class ReleasedBlock(ResnetBlock):
    """The quantum ResNet block as the released code executes it; for study."""

    def forward(self, x, time):
        k = self.conv1.k
        scale, shift = self.time(F.silu(time)).chunk(2, dim=1)
        first = self.conv1.quantum(x[:, :k])
        h = self.norm1(torch.cat([first, self.conv1.rest(x[:, k:])], 1), scale, shift)  # SiLU included
        _second = self.conv2.quantum(h[:, :k])  # computed, and then not used:
        h = self.norm2(torch.cat([first, self.conv2.rest(h[:, k:])], 1))
        return self.skip(x) + h


def as_released(preset, ansatz):
    model = build_unet(preset, ansatz=ansatz, seed=0)
    for block in (model.vertex_block1, model.vertex_block2):
        block.__class__ = ReleasedBlock  # the same parts, run in another way
    return model


# %%
audits = {
    "1hqconv, this library": audit_model(build_unet("1hqconv", seed=0), draws=DRAWS),
    "1hqconv, as released": audit_model(as_released("1hqconv", "hqconv_released"), draws=DRAWS),
    "1fqconv, this library": audit_model(build_unet("1fqconv", seed=0), draws=DRAWS),
    "1fqconv, as released": audit_model(as_released("1fqconv", "fqconv"), draws=DRAWS),
}
counts = {name: (audit.only("theta").n_alive, audit.only("theta").n_entries) for name, audit in audits.items()}
for name, (alive, all_of_them) in counts.items():
    print(f"{name:22} {alive:3} of {all_of_them} circuit weights act; {audits[name].n_entries:,} parameters in all")
assert counts["1hqconv, as released"] == (24, 336) and counts["1fqconv, as released"] == (144, 288)

# %% jupyter={"source_hidden": true}
figure, axes = plt.subplots(4, 1, figsize=(8.5, 5), layout="constrained")
for ax, (name, audit) in zip(axes, audits.items(), strict=True):
    g = torch.cat([p.gradient for p in audit.only("theta")])  # (4 convolutions, weights of a circuit)
    scale = g.amax()
    shown = torch.where(g > 1e-9 * scale, (g / scale).log10(), torch.nan).numpy()
    picture = ax.imshow(shown, aspect="auto", cmap="cividis_r", vmin=-3, vmax=0, interpolation="nearest")
    ax.set_title(f"{name}: {counts[name][0]} of {counts[name][1]} act", fontsize=9, loc="left")
    ax.set_yticks(range(4), ["block 1, conv 1", "block 1, conv 2", "block 2, conv 1", "block 2, conv 2"], fontsize=7)
    ax.tick_params(axis="x", labelsize=8)
axes[-1].set_xlabel("weight of the circuit")
figure.colorbar(picture, ax=axes, label="log₁₀ of |gradient| / largest")
show_described(
    figure, "Gradients of circuit weights: full rows for this library; a few cells, or every other row, as released."
)

# %% [markdown]
# *Figure: gradient by entry of the circuit weights of the four vertex convolutions (rows), white where there is none.
# This library: every cell. As released: HQConv has 12 weights in the first convolution of each block, since block A
# does not run (notebook 03); FQConv has full first convolutions; the second ones are empty in both.*
#
# The parameter counts are the same to the last one, and a loss that falls does not show it either: the rest of the
# network learns all the same. The other differences found by running the released code, for completeness: the full
# block uses the weights of one 4-wire circuit twice and leaves 16 unused; the second pass of its quanvolutional block
# reads the block's input in the place of the hidden map; channels-last data give its circuits interleaved channels
# (question 03.1).
#
# ## Summary
#
# - A ResNet block takes its convolution as an argument; QResNet and QuanResNet are the same block with circuits in it.
# - Circuits return numbers below 1, weight-standardized convolutions numbers around 10 and more. Under one GroupNorm
#   the small ones are drowned, before and after training.
# - A change of the answer needs a yardstick: freeze as many classical channels, and compare.
# - The audit finds weights without effect, entry by entry; in every preset of this library every circuit weight acts.
#
# **A little history.** Residual blocks (He et al. 2015) made networks of a hundred layers trainable. Diffusion models
# took them into their U-Nets, with GroupNorm (2018) and a time embedding. Quanvolution (Henderson et al. 2019) put a
# circuit into the place of a kernel; the paper does so inside the residual block.
#
# **Further reading.** He et al., section 3; Henderson et al. for quanvolution with random circuits; Qiao et al. for
# weight standardization. Sources are in the [bibliography](../docs/bibliography.md), words in the
# [glossary](../docs/glossary.md).
#
# **Next:** [05 · The hybrid U-Net](05_hybrid_unet.ipynb) puts the blocks into the network.
