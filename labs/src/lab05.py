# %% [markdown]
# # Lab 05 · The hybrid U-Net
#
# You build what notebook 05 explains: how the network learns the time, how its pixels attend to one another, how many
# parameters a hybrid has, a hybrid convolution for an ansatz of your own, and the ablation that asks what it is for.
#
# **{{points}} points, about {{minutes}} minutes.** Variant `{{variant}}`: frequencies, layouts, channels, wires and
# measures are drawn for it, so read them here and not elsewhere. Each task is one function; below it `check` tries it
# on fresh random draws and says what is right and what is not yet. The marker does the same with other draws and
# counts nothing else. `TimeEmbedding`, `LinearAttention`, `CircuitConv`, `SplitConv` and `count_parameters` earn
# nothing; all of torch and `qdm_lib.simulator` may be used. You may add cells and functions; keep the names of the
# tasks.
#
# {{table}}

# %%
import torch
from torch import nn

from qdm_labs import open_lab
from qdm_lib.circuits import Circuit, Gate, hqconv
from qdm_lib.quantum import QuantumLayer
from qdm_lib.simulator import simulate  # noqa: F401

lab = open_lab("{{number}}", "{{variant}}")
check = lab.check

# %% [markdown]
# ## 1 · The time embedding
#
# With K = dim/2 frequencies, k = 0 … K − 1,
#
# $$ {{omega}} $$
#
# return the sines and cosines of tω in the order **{{order}}**. t enters raw. (The two dense layers that follow in the
# network are not wanted here.)


# %% task="time_embedding"
def time_embedding(t, dim):
    """t (B,) whole or real numbers, dim even, at least 4 → (B, dim) float64."""
    raise NotImplementedError


# %% check="time_embedding"
check("time_embedding", time_embedding)

# %% [markdown]
# ## 2 · Linear attention
#
# A 1×1 convolution has made three maps out of one; its channels are three thirds, in the order **{{qkv}}**. In each
# third, with d features for each head, a channel has the number **{{heads}}**. For each head, with the n = H·W pixels
# as positions:
#
# - q ← softmax of q over the **features**, then divided by √d;
# - k ← softmax over the **positions** of {{sharpness}}·k;
# - context = k·vᵀ/n, a d×d matrix (features of k, features of v);
# - output = contextᵀ·q.
#
# The channels of the output are laid out as those of a third. No convolution and no norm here.


# %% task="linear_attention"
def linear_attention(qkv, heads):
    """qkv (B, 3·heads·d, H, W) float64 → (B, heads·d, H, W), differentiable."""
    raise NotImplementedError


# %% check="linear_attention"
check("linear_attention", linear_attention)

# %% [markdown]
# ## 3 · The parameters of any hybrid
#
# A classical U-Net has `classical` parameters. Its vertex has two ResNet blocks with two convolutions each; each has
# kernels of {{kernel}}×{{kernel}}, {{bias}}, and maps C = `channels` channels to C. In the hybrid, n circuits take
# channels out of each: a circuit needs one wire for each of the 2×2 pixels of each of its channels. One convolution of
# the same kind makes the channels that are left; it {{sees}}. Where none are left, there is none. The two convolutions
# of a block {{shared}}. A parameter that is used twice counts once.


# %% task="hybrid_count"
def hybrid_count(classical, channels, n, circuit):
    """Three whole numbers and a Circuit (n_wires, n_weights) → the hybrid's number of parameters."""
    raise NotImplementedError


# %% check="hybrid_count"
check("hybrid_count", hybrid_count)

# %% [markdown]
# ## 4 · A hybrid convolution
#
# Any `Circuit` with 4c wires and 4c inputs can stand in a convolution. `theta` holds a row of weights for each of n
# circuits; together they take n·c of the C channels: **{{place}}**. Of these, {{dealt}}. Every circuit gets each
# non-overlapping 2×2 patch of its channels; the pixel (channel, row, column), each counted from 0 within the patch,
# lies on wire
#
# > **{{wires}}**
#
# and ⟨Z⟩ of that wire goes back to the place of that pixel. `rest` is a function for the channels that are left: it
# {{sees}}, in their order, and its outputs go where these channels are. With n·c = C, `rest` is `None`.
# `simulate(circuit, inputs, weights)` takes (rows, n_inputs) and (rows, n_weights) and gives (rows, n_wires).


# %% task="hybrid_conv"
def hybrid_conv(x, circuit, theta, rest):
    """x (B, C, H, W), H and W even; theta (n, n_weights); rest a function or None → (B, C, H, W), differentiable."""
    raise NotImplementedError


# %% check="hybrid_conv"
check("hybrid_conv", hybrid_conv)

# %% [markdown]
# ## 5 · An ablation
#
# What if the circuits fell silent? `model` is any module with one or several `QuantumLayer`s in it (each maps (B, n,
# inputs) to (B, n, wires) and holds its weights in `theta`). y is its output for x, y′ that with something else in the
# place of **all** its circuits:
#
# - `"zeros"`: they answer 0;
# - `"cos"`: they answer the cosine of what they are given, each wire alone: the encoding with nothing behind it;
# - `"random"`: they have other weights. `draws` is a list of sets; a set holds a tensor for each `QuantumLayer`, in the
#   order of `model.modules()`. Take the **{{summary}}** of the changes of all sets.
#
# The change is **{{change}}**, {{by_image}}. Each row begins with the intact model: take every stand-in off again.
# `register_forward_hook` (as in notebook 05) or `copy.deepcopy` will help.


# %% task="ablation"
def ablation(model, x, draws):
    """A module, its input (B, …), a list of lists of tensors → {"zeros": number, "cos": number, "random": number}."""
    raise NotImplementedError


# %% check="ablation"
check("ablation", ablation)

# %% [markdown]
# ## 6 · Your own ansatz at work
#
# No points here. Change `mine` as you like: keep 12 wires and 12 inputs. How many parameters does a U-Net of this
# variant's rules have with it (the course's own, by its rules, has 440,985 with HQConv and n = 7)? And how much does a
# small network with random weights lean on it? What would a trained one say?

# %% tags=["demo"]
encoding = [Gate("RX", (w,), ("input", w)) for w in range(12)]
ring = [Gate("CRX", (w, (w + 5) % 12), ("weight", w)) for w in range(12)]
mine = Circuit((*encoding, *ring), 12, 12, 12, "mine")
for circuit in (mine, hqconv(3)):
    print(f"{circuit.name}:", *(f"n = {n}: {hybrid_count(483_321, 40, n, circuit):,}" for n in (1, 7, 13)))


# %% tags=["demo"]
class Hybrid(nn.Module):
    """Two circuits on 2×2 maps of 6 channels, and a dense layer."""

    def __init__(self, circuit):
        super().__init__()
        self.layer, self.out = QuantumLayer(circuit, 2), nn.Linear(24, 4)

    def forward(self, x):
        rows = x.reshape(len(x), 2, 12)
        return self.out(self.layer(rows).flatten(1))


x = torch.randn(3, 6, 2, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
torch.manual_seed(0)
for circuit in (mine, hqconv(3)):
    theta = torch.rand(2, circuit.n_weights, dtype=torch.float64)
    same = hybrid_conv(x, circuit, theta, None)
    draws = [[torch.rand(2, circuit.n_weights)] for _ in range(5)]
    rows = {name: round(float(value), 3) for name, value in ablation(Hybrid(circuit).double(), x, draws).items()}
    print(f"{circuit.name}: outputs from {same.min():.2f} to {same.max():.2f}; relative change {rows}")
