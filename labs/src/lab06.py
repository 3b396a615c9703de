# %% [markdown]
# # Lab 06 · Training and sampling
#
# You build what notebook 06 explains around the network: the moving average of its weights, a training that can be
# cut anywhere and goes on as if nothing had happened, and the sampler DDIM. At the end your sampler draws.
#
# **{{points}} points, about {{minutes}} minutes.** Variant `{{variant}}`: numbers, orders and steps are drawn for it,
# so read them here and not elsewhere. Each task is one function; below it `check` tries it on fresh random draws and
# says what is right and what is not yet. The marker does the same with other draws and counts nothing else. The
# library's average and samplers earn nothing. You may add cells and functions; keep the names of the tasks.
#
# {{table}}

# %%
import math

import matplotlib.pyplot as plt
import torch

from qdm_labs import open_lab

lab = open_lab("{{number}}", "{{variant}}")
check = lab.check

# %% [markdown]
# ## 1 · The decay of the average
#
# Samples are drawn from a moving average of the weights, average ← d·average + (1 − d)·weights. Steps are counted
# from 0. After step s the decay is 0 for s ≤ {{start}}, and later
#
# $$ d = \min\big({{most}},\; 1 - (s - {{start}})^{-{{power}}}\big) . $$


# %% task="ema_decay"
def ema_decay(step):
    """The number of the step, a whole number from 0 → the decay d, a number."""
    raise NotImplementedError


# %% check="ema_decay"
check("ema_decay", ema_decay)

# %% [markdown]
# ## 2 · The moving average
#
# Called after every step s with the weights at that time. For s < {{start}} the average is a copy of them. Later it
# is renewed with your decay whenever the number of finished steps, s + 1, is a multiple of {{every}}, and otherwise
# stays as it is. Return a new dictionary.


# %% task="ema_update"
def ema_update(average, weights, step):
    """Two dictionaries {name: tensor} and the number of the step → the new average, such a dictionary."""
    raise NotImplementedError


# %% check="ema_update"
check("ema_update", ema_update)

# %% [markdown]
# ## 3 · Exact resume
#
# A training that runs for a + b steps, and one that runs for a, is stored, and later runs for b, have to end with the
# same numbers. So a *state* holds everything that the next step needs:
#
# - `"weights"`, `"velocity"`, `"average"`: (n,) float64
# - `"step"`: how many steps are finished
# - `"generator"`: a tensor, the state of a `torch.Generator` (`set_state` takes it, `get_state` gives it)
#
# One step, with the step number s as it is before the step:
#
# 1. noise: `torch.randn` of the weights' shape, in float64, from the generator
# 2. velocity ← {{momentum}}·velocity + gradient(weights, noise)
# 3. weights ← weights − 0.1·min(1, (s + 1)/{{warm_up}})·velocity
#
# The average, 0.9·average + 0.1·weights, takes the weights in every step, {{average}}. Return the state after all
# steps.


# %% task="train_steps"
def train_steps(state, gradient, steps):
    """A state, gradient: (weights (n,), noise (n,)) → (n,), and how many steps → the state after them."""
    raise NotImplementedError


# %% check="train_steps"
check("train_steps", train_steps)

# %% [markdown]
# ## 4 · The steps that DDIM visits
#
# Of T time steps only `steps` are visited. In this variant they are chosen {{grid}}; round to whole numbers. The
# first is T − 1 and the last is 0.


# %% task="time_grid"
def time_grid(T, steps):
    """Two whole numbers, 2 ≤ steps ≤ T → a list of whole numbers, falling."""
    raise NotImplementedError


# %% check="time_grid"
check("time_grid", time_grid)

# %% [markdown]
# ## 5 · One step of DDIM
#
# From the time t to an earlier one u. The network has given ε̂; then x̂_0 = (x_t − √(1−ᾱ_t)·ε̂)/√ᾱ_t, clamped to [−1,
# 1]. In this variant {{noise}}. With the new noise z
#
# $$ \sigma = \eta\sqrt{\frac{1-\bar\alpha_u}{1-\bar\alpha_t}}\sqrt{1-\frac{\bar\alpha_t}{\bar\alpha_u}},\qquad
# x_u = \sqrt{\bar\alpha_u}\,\hat x_0 + \sqrt{1-\bar\alpha_u-\sigma^2}\;\hat\varepsilon + \sigma z . $$


# %% task="ddim_step"
def ddim_step(x, eps, abar_t, abar_u, eta, z):
    """x, eps, z of one shape, float64; abar_t < abar_u and eta numbers → the x of the time u."""
    raise NotImplementedError


# %% check="ddim_step"
check("ddim_step", ddim_step)

# %% [markdown]
# ## 6 · DDIM
#
# Start with x_T, visit the steps of your grid, and at each call `model(x, t)`, t a whole number, **once**. For every
# step that has a next one draw z, whatever eta is, by `torch.randn(x.shape, generator=generator, dtype=x.dtype)`. The
# sample is the clamped x̂_0 of the last step.


# %% task="ddim_sample"
def ddim_sample(model, abar, x_T, steps, eta, generator):
    """model: (x, t) → eps; abar (T,) float64; x_T any shape, float64; a torch.Generator → the samples."""
    raise NotImplementedError


# %% check="ddim_sample"
check("ddim_sample", ddim_sample)

# %% [markdown]
# ## 7 · Your sampler at work
#
# No points here. The data are numbers near −0.6 and 0.6, two bumps, for which the best guess of the noise is known
# without a network. Your DDIM should turn noise into them in 20 calls.

# %% tags=["demo"]
T = 200
abar = torch.cos((torch.arange(T, dtype=torch.float64) + 1) / (T + 1) * math.pi / 2) ** 2
centres, width = torch.tensor([-0.6, 0.6], dtype=torch.float64), 0.1


def best_guess(x, t):
    a = abar[t]
    variance = a * width**2 + 1 - a
    share = torch.softmax(-((x[..., None] - a.sqrt() * centres) ** 2) / (2 * variance), -1)
    x_0 = (share * (centres + a.sqrt() * width**2 / variance * (x[..., None] - a.sqrt() * centres))).sum(-1)
    return (x - a.sqrt() * x_0) / (1 - a).sqrt()


generator = torch.Generator().manual_seed(0)
noise = torch.randn(2000, generator=generator, dtype=torch.float64)
for eta in (0.0, 1.0):
    plt.hist(ddim_sample(best_guess, abar, noise, 20, eta, generator).numpy(), 60, alpha=0.6, label=f"eta = {eta:g}")
plt.xlabel("x")
plt.ylabel("samples")
plt.legend()
plt.show()
