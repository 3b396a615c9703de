# %% [markdown]
# # Lab 04 · The hybrid network
#
# You build what notebook 04 explains: the standardized kernels, the ResNet block with its injected convolutions, the
# convolution whose kernel is a circuit, and an audit that says which of all the weights act.
#
# **{{points}} points, about {{minutes}} minutes.** Variant `{{variant}}`: the details of the norms, the order of
# scale and shift and the wires of the pixels are drawn for it, so read them here and not elsewhere. Each task is one
# function; below it `check` tries it on fresh random draws and says what is right and what is not yet. The marker
# does the same with other draws and counts nothing else. What `qdm_lib.blocks` and `qdm_lib.audit` would do for you
# earns nothing; all of torch and `qdm_lib.simulator` may be used. You may add cells and functions; keep the names of
# the tasks.
#
# {{table}}

# %%
import matplotlib.pyplot as plt
import torch
from torch import nn

from qdm_labs import open_lab
from qdm_lib.circuits import hqconv, hqconv_released
from qdm_lib.simulator import simulate

lab = open_lab("{{number}}", "{{variant}}")
check = lab.check

# %% [markdown]
# ## 1 · A standardized kernel
#
# A convolution has a kernel w of shape (c_out, c_in, k, k). Before use, the part of each **output channel** is
# standardized over its fan, all its other axes:
#
# $$ {{kernel}} $$
#
# with the mean $\bar w$ and the variance $s^2$, here the {{variance}}.


# %% task="standardize"
def standardize(weight):
    """weight (c_out, c_in, k, k) float64 → the standardized kernel, of the same shape, differentiable."""
    raise NotImplementedError


# %% check="standardize"
check("standardize", standardize)

# %% [markdown]
# ## 2 · Group norm
#
# The channels of a map are divided into `groups` groups of equal size; in this variant {{groups}}. Within an image,
# all values of a group (its channels and all their pixels) share one mean and one biased variance; return (x −
# mean)/√(variance + 1e-6), with no gain and no offset.


# %% task="group_norm"
def group_norm(x, groups):
    """x (B, C, H, W) float64, groups a divisor of C → the normalised map (B, C, H, W)."""
    raise NotImplementedError


# %% check="group_norm"
check("group_norm", group_norm)

# %% [markdown]
# ## 3 · Norm, scale and shift, SiLU
#
# The time steers the map h that comes out of the norm by two numbers for each channel of each image, in the order
# **{{order}}**. Where both are `None`, only norm and SiLU are left. Use your `group_norm`.


# %% task="modulate"
def modulate(x, groups, scale, shift):
    """x (B, C, H, W), scale and shift (B, C) or None → (B, C, H, W)."""
    raise NotImplementedError


# %% check="modulate"
check("modulate", modulate)

# %% [markdown]
# ## 4 · The ResNet block
#
# The block does not know what its convolutions are: they come in `parts`, a dictionary of things to call, `"conv1"`,
# `"conv2"`, `"project"` and `"skip"`. That is how the same block is classical or hybrid.
#
# - SiLU of the time goes through `project`: (B, d) → (B, 2·c_out). Of its result the {{halves}}.
# - `conv1`, then task 3 with scale and shift.
# - `conv2`, then task 3 without.
# - plus `skip` of x, which is x itself where the number of channels stays.


# %% task="resnet_block"
def resnet_block(x, time, parts, groups):
    """x (B, c_in, H, W), time (B, d), parts: name → function → (B, c_out, H, W), differentiable."""
    raise NotImplementedError


# %% check="resnet_block"
check("resnet_block", resnet_block)

# %% [markdown]
# ## 5 · Quanvolution
#
# A list of n circuits takes the place of a kernel of 2×2 pixels and stride 2. The C channels form n runs of c = C/n
# neighbours; circuit k gets every non-overlapping 2×2 patch of run k on its 4c wires. In this variant the pixel
# (channel, row, column) of the patch, each counted from 0, lies on wire
#
# > **{{wires}}**
#
# and ⟨Z⟩ of that wire goes back to the place of that pixel. A circuit is a function (rows, 4c) → (rows, 4c); one call
# with many rows costs little more than one with a single row.


# %% task="quanvolve"
def quanvolve(x, circuits):
    """x (B, C, H, W), H and W even; circuits: list of n functions (rows, 4C/n) → (rows, 4C/n) → (B, C, H, W)."""
    raise NotImplementedError


# %% check="quanvolve"
check("quanvolve", quanvolve)

# %% [markdown]
# ## 6 · Which weights of a circuit act
#
# A weight can stand in a gate and still do nothing, and training does not complain. A weight acts if it moves ⟨Z⟩ of
# at least one wire for some x and θ. Return the weights that {{wanted}}. `simulate(circuit, x, theta)` takes x (rows,
# n_inputs) and theta (rows, n_weights) in float64, gives (rows, n_wires), and autograd follows. At which points do
# you ask, and what counts as zero?


# %% task="audit_weights"
def audit_weights(circuit):
    """→ the numbers k of the weights that {{wanted}}: a set or a list."""
    raise NotImplementedError


# %% check="audit_weights"
check("audit_weights", audit_weights)

# %% [markdown]
# ## 7 · Which entries of a layer act
#
# The same for any module: for every parameter, how many of its entries move the output? Ask the gradient of a
# randomly weighted sum of the outputs. One kind of entry is without effect by mathematics: when you find it, say why.


# %% task="audit_entries"
def audit_entries(module, x):
    """A module in float64 and an input → {name of a parameter: how many of its entries act}."""
    raise NotImplementedError


# %% check="audit_entries"
check("audit_entries", audit_entries)

# %% [markdown]
# ## 8 · Your parts at work
#
# No points here. Your audit looks at two circuits of the library, as the paper's text describes HQConv and as the
# released code runs it; and your block takes circuits in the place of its convolutions.

# %% tags=["demo"]
for circuit in (hqconv(1), hqconv_released(1)):
    print(f"{circuit.name}: of {circuit.n_weights} weights audit_weights returns {sorted(audit_weights(circuit))}")

# %% tags=["demo"]
circuit = hqconv(1)
theta = torch.rand(circuit.n_weights, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def circuits_on(x):
    return quanvolve(x, [lambda rows: simulate(circuit, rows, theta.expand(len(rows), -1))])


torch.manual_seed(0)
parts = {"conv1": circuits_on, "conv2": circuits_on, "project": nn.Linear(4, 6).double(), "skip": nn.Identity()}
x = torch.randn(1, 3, 8, 8, dtype=torch.float64)
maps = [("x", x), ("quanvolution", circuits_on(x)), ("block", resnet_block(x, torch.randn(1, 4).double(), parts, 1))]
figure, axes = plt.subplots(1, 3, figsize=(8, 3))
for ax, (name, image) in zip(axes, maps, strict=True):
    ax.imshow(image[0, 0].detach(), cmap="gray")
    ax.set_title(name)
    ax.axis("off")
plt.show()
