# %% [markdown]
# # Lab 01 · A diffusion model, step by step
#
# You build what notebook 01 explains: the jump to any noise level, the posterior, one step of two samplers, the
# training loss; then you train a small network on single numbers and draw new ones with your own sampler.
#
# **{{points}} points, about {{minutes}} minutes.** Variant `{{variant}}`: what the network predicts, how steps are
# counted and several constants are drawn for it, so read them here and not elsewhere. Each task is one function; below
# it `check` tries it on fresh random draws and says what is right and what is not yet. The marker does the same with
# other draws and counts nothing else: not what a cell printed, and not a function that lets `qdm_lib` do the task. You
# may add cells and functions; keep the names of the tasks.
#
# {{table}}
#
# **Notation.** Steps are counted {{counted}}. The first noisy step is t = {{first}}. α_t is the quotient of ᾱ_t and the
# ᾱ before it, β_t = 1 − α_t. Batches have shape (B, …): (B, 1) for numbers, (B, 1, H, W) for images. `abar` is a
# float64 table.

# %%
import matplotlib.pyplot as plt
import torch

from qdm_labs import open_lab
from qdm_lib.diffusion import NoiseSchedule, cosine_betas

lab = open_lab("{{number}}", "{{variant}}")
check = lab.check

# %% [markdown]
# ## 1 · The forward process
#
# $$ x_t = \sqrt{\bar\alpha_t}\,x_0 + \sqrt{1-\bar\alpha_t}\,\varepsilon $$


# %% task="q_sample"
def q_sample(x_0, t, eps, abar):
    """x_0, eps (B, …), t (B,) int64, a step for each image, abar the table → x_t (B, …)."""
    raise NotImplementedError


# %% check="q_sample"
check("q_sample", q_sample)

# %% [markdown]
# ## 2 · The posterior
#
# Mean and variance of $q(x_{t-1}\mid x_t, x_0)$ (section 5 of notebook 01), for one step t, a whole number. Mind the
# first step.


# %% task="posterior"
def posterior(x_0, x_t, t, abar):
    """x_0, x_t (B, …), t a whole number, abar the table → mean (B, …) and variance, a number."""
    raise NotImplementedError


# %% check="posterior"
check("posterior", posterior)

# %% [markdown]
# ## 3 · From the network's answer to the clean image
#
# In this variant the network predicts **{{predicts}}**, ${{formula}}$. Solve for x_0, and clamp it to −1 … 1.


# %% task="clean_image"
def clean_image(x_t, t, out, abar):
    """x_t (B, …), t a whole number, out (B, …) what the network said, abar the table → x_0 (B, …) in −1 … 1."""
    raise NotImplementedError


# %% check="clean_image"
check("clean_image", clean_image)

# %% [markdown]
# ## 4 · A DDPM step
#
# Ask the model, take the clamped x_0 of task 3, and draw x_{t−1} around the posterior mean. The variance of the step is
# **{{variance}}**. The last step, t = {{first}}, adds no noise. Call the model with a step for each image, (B,) int64.


# %% task="ddpm_step"
def ddpm_step(model, x_t, t, abar, z):
    """model(x_t, t), x_t (B, …), t a whole number, z (B, …) standard normal noise → x_{t−1} (B, …)."""
    raise NotImplementedError


# %% check="ddpm_step"
check("ddpm_step", ddpm_step)

# %% [markdown]
# ## 5 · A DDIM step
#
# From t to any earlier step u, with **η = {{eta}}**. Take the clamped x_0 of task 3 and the noise ε that x_t and this
# x_0 imply; then
#
# $$ \sigma = \eta\sqrt{\frac{1-\bar\alpha_u}{1-\bar\alpha_t}\Big(1-\frac{\bar\alpha_t}{\bar\alpha_u}\Big)},\qquad
# x_u = \sqrt{\bar\alpha_u}\,x_0 + \sqrt{1-\bar\alpha_u-\sigma^2}\,\varepsilon + \sigma z . $$


# %% task="ddim_step"
def ddim_step(model, x_t, t, u, abar, z):
    """model(x_t, t), x_t (B, …), whole numbers u < t, z (B, …) standard normal noise → x_u (B, …)."""
    raise NotImplementedError


# %% check="ddim_step"
check("ddim_step", ddim_step)

# %% [markdown]
# ## 6 · The P2 loss
#
# The mean over the images of $(k+\mathrm{snr}_t)^{-\gamma}$ times the mean over the pixels of (target − model)², with
# snr = ᾱ/(1 − ᾱ), **k = {{k}} and γ = {{gamma}}**. The target is {{predicts}}.


# %% task="p2_loss"
def p2_loss(model, x_0, t, eps, abar):
    """model(x_t, t), x_0, eps (B, …), t (B,) int64 → the loss, a 0-d tensor."""
    raise NotImplementedError


# %% check="p2_loss"
check("p2_loss", p2_loss)

# %% [markdown]
# ## 7 · A denoiser for numbers
#
# `data(n)` draws n numbers of an unknown distribution with narrow peaks, (n, 1) float32. Train a network on them and
# return a function `model(x_t, t)`: x_t (B, 1) float32, t (B,) int64 → {{predicts}}, (B, 1). A few hundred steps of
# Adam with 256 numbers each, in a few seconds, are enough; the marker stops after 60. Tell the network how noisy x_t is
# (the logarithm of the snr is a good measure). The loss is your choice: a plain one, without the P2 weight, learns the
# peaks sooner.


# %% task="train_denoiser"
def train_denoiser(data, abar):
    """data(n) → (n, 1) numbers, abar the table → model(x_t, t)."""
    raise NotImplementedError


# %% check="train_denoiser"
check("train_denoiser", train_denoiser)

# %% [markdown]
# ## 8 · Your model draws
#
# No points here: numbers drawn by your DDPM steps and, in ten DDIM steps, from the same model.

# %% tags=["demo"]
first = int("{{first}}")  # the number of the first noisy step
abar = NoiseSchedule(cosine_betas(50)).alphas_cumprod
abar = torch.cat([torch.ones(first, dtype=torch.float64), abar])
source = torch.Generator().manual_seed(0)


def data(n):
    peaks = torch.tensor([-0.7, 0.6])[torch.randint(2, (n,), generator=source)]
    return (peaks + 0.05 * torch.randn(n, generator=source)).view(n, 1)


def noise():
    return torch.randn(2000, 1, generator=source)


model = train_denoiser(data, abar)
last, drawn = len(abar) - 1, {}
x = noise()
for t in range(last, first - 1, -1):
    x = ddpm_step(model, x.float(), t, abar, noise()).detach()
drawn["DDPM, 50 steps"] = x
x, stops = noise(), torch.linspace(last, first, 10).round().int().tolist()
for t, u in zip(stops[:-1], stops[1:], strict=True):
    x = ddim_step(model, x.float(), t, u, abar, noise()).detach()
x = clean_image(x.float(), first, model(x.float(), torch.full((len(x),), first)), abar).detach()  # the last of ten
drawn["DDIM, 10 steps"] = x
for name, numbers in {"data": data(2000), **drawn}.items():
    plt.hist(torch.as_tensor(numbers).flatten().tolist(), bins=80, range=(-1.2, 1.2), histtype="step", label=name)
plt.legend()
plt.show()
