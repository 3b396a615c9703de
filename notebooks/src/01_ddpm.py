# %% [markdown]
# # 1 · Diffusion models, from the equations up
#
# A diffusion model learns to draw images by learning to remove noise. The paper of this course
# ([arXiv:2402.16147](https://arxiv.org/abs/2402.16147)) reviews the mathematics in its equations 1–8. Here you build
# each of them by hand, beside a box with the paper's form of it, first for data that are single numbers, where
# everything can be computed exactly and plotted, then for images of clothes. There is nothing quantum in this notebook:
# the quantum models of the paper use exactly this process, and replace only parts of the network inside it.
#
# **Objectives.** After this notebook you can
#
# 1. write the forward chain and its closed form, and say what $\bar\alpha$ and the SNR mean;
# 2. say where the posterior $q(x_{t-1} \mid x_t, x_0)$ comes from and which training loss follows from it;
# 3. explain the P2 weight of the paper's recipe, and why it is $1-\bar\alpha$;
# 4. write two samplers by hand, DDPM (denoising diffusion probabilistic model) and DDIM (denoising diffusion implicit
#    model), and say how they differ;
# 5. say why samplers clamp $x_0$, and what a perfect denoiser would do with a finite training set.
#
# **Prerequisites.** PyTorch tensors, the Gaussian distribution, Bayes' rule.
#
# **Measured** on one CPU core, including the start of Python: 60 s of processor time and 1.0 GB of memory; with
# `QDM_SIZE=test` 17 s and 0.9 GB. A busy machine takes longer. No network is needed.

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

import matplotlib
import matplotlib.pyplot as plt
import torch
from torch.testing import assert_close

import qdm_lib
from qdm_course.figures import draw_chain
from qdm_course.moving import moving_reverse
from qdm_course.size import show_size
from qdm_course.widgets import ForwardFigure, forward_process
from qdm_labs.reading import check, solution  # noqa: F401  solution("01.1") shows one way to answer
from qdm_lib import diffusion, paper
from qdm_lib.data import load_images, to_model_range
from qdm_lib.plots import OKABE_ITO, film_strip, image_grid
from qdm_lib.plots import show_described as show
from qdm_lib.training import p2_loss

for name, version in {
    "Python": platform.python_version(),
    "torch": torch.__version__.split("+")[0],
    "matplotlib": matplotlib.__version__,
    "qdm_lib": qdm_lib.__version__,
}.items():
    print(f"{name:10} {version}")

# %%
FAST = show_size() == "test"  # smaller numbers, the same code
N_SAMPLES = 2_000 if FAST else 20_000  # draws from the one-dimensional distributions
N_TRAIN = 600 if FAST else 4_000  # optimiser steps of the small network of section 8
N_DRAWN = 500 if FAST else 4_000  # draws from it
FILM_STEPS = 100 if FAST else 1000  # sampler steps in section 11; 1000 is DDPM itself
torch.set_num_threads(1)  # the tensors here are small: a second thread would cost more than it brings
BLUE, ORANGE, GREEN, RED, GREY = (*(OKABE_ITO[c] for c in ("blue", "orange", "green", "vermilion")), "#777777")


def seeded(seed):
    """A source of random numbers that gives the same ones in every run."""
    return torch.Generator().manual_seed(seed)


# %% [markdown]
# ## 1 · The task, in one dimension
#
# We are given samples $x_0$ of an unknown distribution $q(x_0)$ and want to draw new ones. Here the "images" are single
# numbers between −1 and 1, and we know q, so that we can judge every result: a mixture of three narrow Gaussians.
# Component k has weight $w_k$, mean $\mu_k$ and standard deviation s = 0.05:
#
# $$ q(x_0) = \sum_k w_k\, \mathcal N(x_0;\, \mu_k,\, s^2). $$
#
# $\mathcal N(x; m, v)$ is the Gaussian density at x with mean m and variance v. The function below also takes a
# number `abar`; ignore it until section 3.

# %%
WEIGHTS, MEANS, WIDTH = torch.tensor([0.5, 0.2, 0.3]), torch.tensor([-0.7, 0.0, 0.6]), 0.05


def draw_data(n, generator):
    """n numbers from the mixture, shape (n, 1): a batch of n images with one pixel."""
    k = torch.multinomial(WEIGHTS, n, replacement=True, generator=generator)
    return (MEANS[k] + WIDTH * torch.randn(n, generator=generator)).view(n, 1)


def density(x, abar=1.0):
    """The mixture's density at x (n,), after its signal was scaled by √abar and noise 1 - abar was added."""
    variance = abar * WIDTH**2 + 1 - abar
    distance = x[:, None] - math.sqrt(abar) * MEANS
    return (WEIGHTS * torch.exp(-(distance**2) / (2 * variance)) / math.sqrt(2 * math.pi * variance)).sum(1)


data = draw_data(N_SAMPLES, seeded(0))
line = torch.linspace(-1.2, 1.2, 601)
print("first data:", [round(v, 3) for v in data[:6, 0].tolist()])
assert abs(torch.trapezoid(density(line), line) - 1) < 1e-3  # a density integrates to 1

# %% [markdown]
# ## 2 · The forward chain: add a little noise, T times
#
# Choose T small variances $\beta_0, \dots, \beta_{T-1}$ in (0, 1). Starting from $x_0$, each step shrinks the signal
# a little and adds fresh Gaussian noise:
#
# $$ q(x_t \mid x_{t-1}) = \mathcal N\big(x_t;\ \sqrt{1-\beta_t}\,x_{t-1},\ \beta_t\big)
# \quad\Longleftrightarrow\quad x_t = \sqrt{1-\beta_t}\,x_{t-1} + \sqrt{\beta_t}\,\varepsilon,\qquad
# \varepsilon\sim\mathcal N(0, 1). $$
#
# In the paper, the right-hand form is equation 1 and the left-hand one equation 3. Each step looks at the one before it
# and at nothing earlier, which makes the process a **Markov chain**: the distribution of the whole path is a product.
# That is equation 2.

# %%
paper.equation(1)

# %%
paper.equation(2)

# %%
paper.equation(3)

# %% [markdown]
# For an image the same happens to every pixel independently. Why the square root in front? If $x_{t-1}$ has variance
# 1, $x_t$ has variance $(1-\beta_t)\cdot 1 + \beta_t = 1$: the numbers neither explode nor vanish, and after many
# steps only standard normal noise is left.
#
# **Counting.** Papers count t = 1 … T, with $x_0$ the clean image. Programs count t = 0 … T−1, and so does this course:
# *t = 0 is the first noisy step*, so "$x_t$" in code has t + 1 steps of noise in it. The symbol $x_0$ always means the
# clean image, never $x_t$ at t = 0.
#
# The recipe uses T = 1000 and the cosine schedule of Nichol and Dhariwal
# ([arXiv:2102.09672](https://arxiv.org/abs/2102.09672)). It says how much signal *should* be left after a share $\tau$
# of the chain, $f(\tau)/f(0)$ with $f(\tau) = \cos^2(\pi/2 \cdot (\tau + s)/(1 + s))$ and s = 0.008, and each $\beta_t$
# follows from the ratio of two neighbours.

# %%
T = 1000


def f(tau, s=0.008):
    return torch.cos(math.pi / 2 * (tau + s) / (1 + s)) ** 2


tau = torch.arange(T + 1, dtype=torch.float64) / T
betas = (1 - f(tau[1:]) / f(tau[:-1])).clamp(max=0.999)  # the clip acts at the last step, where f is 0

assert_close(betas, diffusion.cosine_betas(T))
print(f"β_0 = {betas[0]:.2e}, β_500 = {betas[500]:.4f}, β_998 = {betas[998]:.3f}, β_999 = {betas[999]:.3f}")

x, chain = data, []
g = seeded(1)
for t in range(T):  # equation 1, a thousand times
    x = (1 - betas[t]).sqrt() * x + betas[t].sqrt() * torch.randn(x.shape, generator=g)
    chain.append(x.float()[:, 0])
chain = torch.stack(chain)  # (T, N): row t is x_t

# %% jupyter={"source_hidden": true}
figure, axes = plt.subplots(1, 5, figsize=(10, 2.3), sharey=True, layout="constrained")
for ax, t in zip(axes, (None, 99, 299, 599, 999), strict=True):
    values = data[:, 0] if t is None else chain[t]
    ax.hist(values.numpy(), bins=80, range=(-3, 3), density=True, color=BLUE)
    ax.set_title("$x_0$, the data" if t is None else f"$x_{{{t}}}$")
    ax.set_ylim(0, 2)
show(figure, "Five histograms: three narrow peaks blur step by step into one standard normal bell.")

# %% [markdown]
# *Figure: histograms of the data and of the chain after 100, 300, 600 and 1000 steps. Three narrow peaks (the left one
# is cut off at the top of the first panel) widen, merge, and end as one bell around 0.*
#
# For images the same chain looks like this. The paper's first figure has the way back in it, too, which this notebook
# comes to in section 5.

# %% jupyter={"source_hidden": true}
coat = to_model_range(load_images("fashion-mnist", "train", bundled=True).images[3:4])
ax = draw_chain(diffusion.NoiseSchedule(betas), coat, torch.randn(coat.shape, generator=seeded(0)))
show(ax, "A garment at five steps of the chain; arrows to the right add noise, arrows back to the left take it away.")

# %% [markdown]
# *Figure (Paper, Fig. 1): the chain, forward by q (blue) and back by $p_\theta$ (red). Each arrow stands for many
# steps. The cosine schedule still shows the garment at t = 450.*
#
# ## 3 · The closed form: jump to step t at once
#
# Write $\alpha_t = 1-\beta_t$. Put the first step into the second:
#
# $$ x_1 = \sqrt{\alpha_1}\big(\sqrt{\alpha_0}\,x_0 + \sqrt{1-\alpha_0}\,\varepsilon_0\big) + \sqrt{1-\alpha_1}\,
# \varepsilon_1. $$
#
# $\varepsilon_0$ and $\varepsilon_1$ are independent, so their weighted sum is again Gaussian, with variance
# $\alpha_1(1-\alpha_0) + (1-\alpha_1) = 1-\alpha_1\alpha_0$. Two steps look like one step with $\alpha_0\alpha_1$.
# Repeat, and with $\bar\alpha_t = \alpha_0\alpha_1\cdots\alpha_t$ (`alphas_cumprod`)
#
# $$ q(x_t\mid x_0) = \mathcal N\big(x_t;\ \sqrt{\bar\alpha_t}\,x_0,\ 1-\bar\alpha_t\big)
# \quad\Longleftrightarrow\quad x_t = \sqrt{\bar\alpha_t}\,x_0 + \sqrt{1-\bar\alpha_t}\,\varepsilon. $$
#
# $\bar\alpha_t$ is the share of the signal's variance that is left.

# %%
paper.equation(4)

# %% [markdown]
# This one line makes training cheap: no chain has to be run. The **signal-to-noise ratio** is $\mathrm{snr}_t =
# \bar\alpha_t/(1-\bar\alpha_t)$.

# %% [markdown]
# **Question 01.1** (predict, then run). Take one number, $x_0 = 0.5$, and a step at which $\bar\alpha_t = 0.36$. What
# are the mean and the standard deviation of $x_t$? Answer with a pair.

# %%
my_mean_and_deviation = ..., ...
check("01.1", my_mean_and_deviation)

# %%
alphas_cumprod = (1 - betas).cumprod(0)
schedule = diffusion.NoiseSchedule(betas)
assert_close(alphas_cumprod, schedule.alphas_cumprod)

scale, variance = 1.0, 0.0  # follow the two numbers of the Gaussian through the chain, step by step
for t in range(T):
    scale, variance = (1 - betas[t]).sqrt() * scale, (1 - betas[t]) * variance + betas[t]
    assert_close(scale, alphas_cumprod[t].sqrt())
    assert_close(variance, 1 - alphas_cumprod[t])
print(f"1,000 steps, one jump: √ᾱ = {scale:.3e}, noise variance = {variance:.9f}")


def q_sample(x_0, t, eps):
    """Jump to step t: x_0 and eps (B, 1), t (B,)."""
    abar = alphas_cumprod[t].float().view(-1, 1)
    return abar.sqrt() * x_0 + (1 - abar).sqrt() * eps


t, eps = torch.randint(0, T, (len(data),), generator=seeded(2)), torch.randn(data.shape, generator=seeded(3))
assert_close(q_sample(data, t, eps), schedule.q_sample(data, t, eps))

for t in (99, 299, 599, 999):  # the chain of section 2 and the jump: the same distribution
    jump = q_sample(data, torch.full((len(data),), t), eps)[:, 0]
    print(f"t = {t:3}: mean {chain[t].mean():+.3f} {jump.mean():+.3f}   std {chain[t].std():.3f} {jump.std():.3f}")
    assert abs(chain[t].std() - jump.std()) < (0.1 if FAST else 0.03)

# %% [markdown]
# Our mixture stays a mixture of Gaussians under noise: component k has mean $\sqrt{\bar\alpha_t}\,\mu_k$ and variance
# $\bar\alpha_t s^2 + 1-\bar\alpha_t$. That is what `abar` in `density` was for. So we know the exact distribution of
# $x_t$ at every t.

# %% jupyter={"source_hidden": true}
vertical = torch.linspace(-2.5, 2.5, 101)
shade = torch.stack([density(vertical, a) for a in alphas_cumprod[::10].tolist()], 1)
figure, ax = plt.subplots(figsize=(8, 3), layout="constrained")
ax.imshow(shade.clamp(max=1.5).numpy(), origin="lower", aspect="auto", extent=(0, T, -2.5, 2.5), cmap="Blues")
for k, colour in zip((0, 2, 4, 6), (RED, ORANGE, GREEN, "black"), strict=True):
    ax.plot(range(0, T, 4), chain[::4, k].numpy(), color=colour, lw=1)
ax.set(xlabel="t", ylabel="$x_t$", title="Exact density of $x_t$, and four runs of the chain")
show(figure, "Density of x_t against t: three bands merge into one; four random paths wander through them.")

# %% [markdown]
# *Figure: in blue the density of $x_t$, dark where it is high, for t from left to right. Three sharp bands fade and
# blur by about t = 200, flow together into one broad band and end as the bell of pure noise. Four coloured paths of the
# chain start on a band and wander off as noise.*

# %% [markdown]
# **Question 01.2** (predict, then run). At which t does the cosine schedule have as much signal as noise? Give the
# first t with $\mathrm{snr}_t < 1$. Guess it from the formula of $\bar\alpha_t$ first; section 4 draws both curves.

# %%
my_crossing = ...  # a step t
check("01.2", my_crossing)

# %% [markdown]
# ## 4 · Schedules compared
#
# How fast should the signal go? Ho et al. ([arXiv:2006.11239](https://arxiv.org/abs/2006.11239)) let $\beta$ grow
# linearly from 0.0001 to 0.02 over 1000 steps. The cosine schedule was made because that destroys small images too
# early: much of the chain is then spent on almost pure noise.

# %%
schedules = {
    "cosine, T = 1000": schedule,
    "linear, T = 1000": diffusion.NoiseSchedule(diffusion.linear_betas(1000)),
    "linear, T = 100": diffusion.NoiseSchedule(diffusion.linear_betas(100)),
}
print("schedule            ᾱ in the middle   ᾱ at the end   share of steps with SNR < 0.01")
for name, s in schedules.items():
    low = (s.snr < 0.01).double().mean()
    print(f"{name:18}  {s.alphas_cumprod[s.T // 2]:15.4f}   {s.alphas_cumprod[-1]:12.2e}   {low:10.1%}")

assert schedules["linear, T = 1000"].alphas_cumprod[500] < 0.2 * schedule.alphas_cumprod[500]
assert schedules["linear, T = 100"].alphas_cumprod[-1] > 0.3

# %% jupyter={"source_hidden": true}
figure, axes = plt.subplots(1, 2, figsize=(9, 3), layout="constrained")
for (name, s), colour in zip(schedules.items(), (BLUE, RED, GREY), strict=True):
    share = torch.linspace(0, 1, s.T)
    axes[0].plot(share.numpy(), s.alphas_cumprod.numpy(), color=colour, lw=2, label=name)
    axes[1].semilogy(share.numpy(), s.snr.numpy(), color=colour, lw=2)
axes[0].set(xlabel="t / (T − 1)", title=r"$\bar\alpha_t$, signal left")
axes[1].set(xlabel="t / (T − 1)", title="SNR, log scale", ylim=(1e-9, 1e5))
axes[1].axhline(1, color="black", lw=0.8, ls=":")
axes[0].legend(frameon=False)
show(figure, "Left: signal left against time for three schedules. Right: signal-to-noise ratio, log scale.")

# %% [markdown]
# *Figure: the cosine schedule (blue) loses its signal evenly over the chain (dotted: as much signal as noise). The
# linear one (red) has almost nothing left after 60 % of it. The linear one over 100 steps (grey) never gets rid of it:
# a sampler that starts from pure noise would start where the forward chain never arrives.*
#
# ## 5 · One step back, if $x_0$ were known: the posterior
#
# To generate, we must walk the chain backwards: from $x_t$ to $x_{t-1}$. Suppose first that we knew $x_0$. Bayes' rule
# gives
#
# $$ q(x_{t-1}\mid x_t, x_0) \ \propto\ q(x_t\mid x_{t-1})\; q(x_{t-1}\mid x_0), $$
#
# a product of two Gaussians in $x_{t-1}$. A product of Gaussians is a Gaussian, whose precision (1/variance) is the
# sum of the two precisions: $\alpha_t/\beta_t$ from the first factor and $1/(1-\bar\alpha_{t-1})$ from the second.
# Completing the square gives
#
# $$ \tilde\mu_t = \frac{\sqrt{\bar\alpha_{t-1}}\,\beta_t}{1-\bar\alpha_t}\,x_0
# + \frac{\sqrt{\alpha_t}\,(1-\bar\alpha_{t-1})}{1-\bar\alpha_t}\,x_t, \qquad
# \tilde\beta_t = \beta_t\,\frac{1-\bar\alpha_{t-1}}{1-\bar\alpha_t}. $$
#
# $\tilde\mu_t$ is the posterior mean, $\tilde\beta_t$ the posterior variance (Ho et al., equations 6 and 7). At t = 0
# there is no noise before: $\bar\alpha_{-1} = 1$, the mean is $x_0$ and the variance 0.


# %%
def q_posterior(x_0, x_t, t):
    """Mean and variance of x_{t-1} for known x_0 and x_t, at one step t."""
    abar, before, beta = alphas_cumprod[t], alphas_cumprod[t - 1] if t > 0 else torch.tensor(1.0), betas[t]
    mean = before.sqrt() * beta / (1 - abar) * x_0 + (1 - beta).sqrt() * (1 - before) / (1 - abar) * x_t
    return mean.to(x_t.dtype), (beta * (1 - before) / (1 - abar)).to(x_t.dtype)


x_0, x_t = torch.tensor([[0.6]]), torch.tensor([[1.5]])
for t in (0, 1, 300, 999):
    mine, library = q_posterior(x_0, x_t, t), schedule.q_posterior(x_0, x_t, torch.tensor([t]))
    assert_close(mine[0], library[0])
    assert_close(mine[1], library[1][0, 0])
assert_close(q_posterior(x_0, x_t, 0), (x_0, torch.tensor(0.0)))


# %%
def gaussian(x, mean, variance):
    return torch.exp(-((x - mean) ** 2) / (2 * variance)) / math.sqrt(2 * math.pi * variance)


t, grid = 990, torch.linspace(-4, 4, 4001, dtype=torch.float64)  # a late t, where β is large enough to see
prior = gaussian(grid, alphas_cumprod[t - 1].sqrt() * 0.6, 1 - alphas_cumprod[t - 1])  # q(x_{t-1} | x_0)
likelihood = gaussian(1.5, (1 - betas[t]).sqrt() * grid, betas[t])  # q(x_t | x_{t-1}), as a function of x_{t-1}
bayes = prior * likelihood
bayes = bayes / torch.trapezoid(bayes, grid)
mean, variance = q_posterior(x_0.double(), x_t.double(), t)
assert_close(bayes, gaussian(grid, mean.item(), variance.item()))

# %% jupyter={"source_hidden": true}
figure, ax = plt.subplots(figsize=(7, 3), layout="constrained")
ax.plot(grid, prior, color=BLUE, label="$q(x_{t-1} | x_0)$: where the chain would be")
ax.plot(grid, likelihood, color=ORANGE, label="$q(x_t | x_{t-1})$: which $x_{t-1}$ explain $x_t$")
ax.plot(grid, bayes, color="black", lw=2.5, label="their product, normalised: the posterior")
ax.set(xlabel="$x_{t-1}$", ylim=(0, 1.5), title=f"t = {t}, $x_0$ = 0.6, $x_t$ = 1.5")
ax.legend(frameon=False, loc="upper left", fontsize=9)
show(figure, "Three bell curves over x_{t-1}: a wide prior, a narrower likelihood, and their product between them.")

ratio = schedule.posterior_variance / schedule.betas
print("posterior variance / β:", {t: round(ratio[t].item(), 4) for t in (0, 1, 2, 5, 20, 100, 999)})
assert ratio[0] == 0 and ratio[20:].min() > 0.9

# %% [markdown]
# *Figure: the posterior (black) lies between the wide blue curve, which knows $x_0$, and the orange curve, which knows
# $x_t$. It is closer to the orange one: a single step changes little.* The cell asserts that Bayes' rule on a grid
# gives the formula.
#
# **Two choices of variance.** A sampler draws $x_{t-1}$ around a mean. The paper's text takes the variance $\beta_t$;
# the released code takes the posterior variance $\tilde\beta_t$, and so does this library. Their ratio is far from 1
# only in the last few steps towards the image, so with T = 1000 both work. Section 7 shows when it matters.

# %% [markdown]
# **Question 01.3.** When we generate, nobody knows $x_0$. But suppose somebody tells us the noise $\varepsilon$ in
# $x_t$. Write the function that gets $x_0$ back, from the closed form of section 3. (It is called with nine numbers at
# nine different t.)


# %%
def my_predict_x0(x_t, t, eps):
    """x_t and eps (B, 1), t (B,) → x_0 (B, 1); alphas_cumprod[t] is ᾱ_t, (B,)."""
    return ...  # your lines here


check("01.3", my_predict_x0)

# %% [markdown]
# ## 6 · The training loss
#
# When we generate, $x_0$ is unknown. A network looks at $x_t$ and t, and guesses it. It is asked for the *noise*
# instead, $\hat\varepsilon = \varepsilon_\theta(x_t, t)$ with weights $\theta$. From $\hat\varepsilon$ follows the
# guess of the clean image, and the reverse step is the posterior with $\hat x_0$ in the place of $x_0$:
#
# $$ \hat x_0 = \frac{x_t - \sqrt{1-\bar\alpha_t}\,\hat\varepsilon}{\sqrt{\bar\alpha_t}},\qquad
# p_\theta(x_{t-1}\mid x_t) = \mathcal N\big(x_{t-1};\ \tilde\mu_t(x_t, \hat x_0),\ \tilde\beta_t\big). $$
#
# The paper writes the same in three equations: where to start, what form a step has, and its mean in terms of the
# noise.

# %%
paper.equation(5)

# %%
paper.equation(6)

# %%
paper.equation(7)

# %% [markdown]
# **Are the two forms of the mean the same?** Put $\hat x_0$ into $\tilde\mu_t$. The factor of $x_t$ becomes
# $\frac{\beta_t}{(1-\bar\alpha_t)\sqrt{\alpha_t}} + \frac{\sqrt{\alpha_t}(1-\bar\alpha_{t-1})}{1-\bar\alpha_t} =
# \frac{\beta_t + \alpha_t - \bar\alpha_t}{(1-\bar\alpha_t)\sqrt{\alpha_t}} = \frac1{\sqrt{\alpha_t}}$, and that of
# $\hat\varepsilon$ becomes $-\frac{\beta_t}{\sqrt{\alpha_t}\sqrt{1-\bar\alpha_t}}$: equation 7, for every
# $\hat\varepsilon$. In numbers, and with the clamp of section 10 for comparison:


# %%
def mu_of_equation_7(x_t, t, eps_hat):
    alpha, abar = 1 - betas[t], alphas_cumprod[t]
    return (x_t - (1 - alpha) / (1 - abar).sqrt() * eps_hat) / alpha.sqrt()


x_t, eps_hat = torch.tensor([[1.2]]).double(), torch.tensor([[0.3]]).double()
print("  t    equation 7   with x̂_0   with x̂_0 clamped        x̂_0")
for t in (10, 300, 600, 990):
    steps = torch.tensor([t])
    guess_0 = schedule.predict_x0(x_t, steps, eps_hat)
    means = [schedule.q_posterior(x, x_t, steps)[0] for x in (guess_0, guess_0.clamp(-1, 1))]
    assert_close(mu_of_equation_7(x_t, t, eps_hat), means[0])
    print(f"{t:3} {mu_of_equation_7(x_t, t, eps_hat).item():12.5f} {means[0].item():10.5f} {means[1].item():18.5f} "
          f"{guess_0.item():10.2f}")  # fmt: skip
    assert not torch.isclose(means[0], means[1])  # x̂_0 is above 1 at each of these steps

# %% [markdown]
# The two columns agree to the last digit printed. The third differs, since $\hat x_0$ is above 1 here, which no pixel
# can be: **equation 7 and the sampler that is really used part exactly where the clamp acts.** That is why samplers are
# written with $\hat x_0$, here and in the released code.
#
# **Where the loss comes from.** The likelihood itself is out of reach, but it has a bound: $-\log p_\theta(x_0)$ is
# on average at most a constant plus a sum over t of Kullback–Leibler divergences
# $\mathrm{KL}\big(q(x_{t-1}\mid x_t, x_0)\,\|\,p_\theta(x_{t-1}\mid x_t)\big)$. Both are Gaussians with the same
# variance, so each KL is a squared distance of means over twice the variance. Write $\mu_\theta$ for the mean of
# $p_\theta$. With $\varepsilon$ in the place of $x_0$ on both sides, that is (for t ≥ 1; the last step to the image has
# a term of its own, left out here)
#
# $$ \frac{\|\tilde\mu_t - \mu_\theta\|^2}{2\tilde\beta_t}
# = \underbrace{\frac{\beta_t^2}{2\,\tilde\beta_t\,\alpha_t\,(1-\bar\alpha_t)}}_{\text{weight of step } t}\;
# \|\varepsilon - \hat\varepsilon\|^2 . $$
#
# (A KL divergence measures how far one distribution is from another; it is 0 only if they are the same.) Guess the
# noise, and be fined by the squared error. The next cell checks the identity for random guesses.

# %%
g = seeded(4)
for t in (1, 10, 500, 990):
    x_0, eps, eps_hat = (torch.randn(50, 1, generator=g, dtype=torch.float64) for _ in range(3))
    steps = torch.full((50,), t)
    x_t = schedule.q_sample(x_0, steps, eps)
    mu, variance = schedule.q_posterior(x_0, x_t, steps)
    mu_theta, _ = schedule.q_posterior(schedule.predict_x0(x_t, steps, eps_hat), x_t, steps)
    kl = (mu - mu_theta) ** 2 / (2 * variance)
    weight = betas[t] ** 2 / (2 * schedule.posterior_variance[t] * (1 - betas[t]) * (1 - alphas_cumprod[t]))
    assert_close(kl, weight * (eps - eps_hat) ** 2)
    print(f"t = {t:3}: weight of the bound {weight:.4f}")

# %% [markdown]
# **Three weights.** The bound gives the two ends of the chain ten times the weight of its middle and more: the nearly
# clean images, where only invisible detail is at stake, and the last steps, which are nearly pure noise (the very last
# one far more than all others, as the figure below shows). Ho et al. dropped the weight altogether (weight 1, the
# "simple" loss) and got better images. The recipe of the paper goes further with the **P2 weight** (perception
# prioritised) of Choi et al. ([arXiv:2204.00227](https://arxiv.org/abs/2204.00227)), $(k + \mathrm{snr}_t)^{-\gamma}$
# with $k = \gamma = 1$. Insert $\mathrm{snr}_t = \bar\alpha_t/(1-\bar\alpha_t)$:
#
# $$ \frac{1}{1 + \bar\alpha_t/(1-\bar\alpha_t)}
# = \frac{1-\bar\alpha_t}{(1-\bar\alpha_t)+\bar\alpha_t} = 1-\bar\alpha_t . $$
#
# So nearly clean images count for nearly nothing. The paper prints the simple loss; the loss that its released code,
# and this course, really use has that weight in it:

# %%
paper.equation(8)

# %% [markdown]
# In terms of $x_0$ the weighted error is
# $(1-\bar\alpha_t)\,\|\varepsilon-\hat\varepsilon\|^2 = \bar\alpha_t\,\|x_0-\hat x_0\|^2$: an error of the *image*,
# weighted by the signal left in it.


# %%
def weighted_loss(model, x_0, t, eps):
    """The training loss of the recipe, for one-pixel images."""
    error = eps - model(q_sample(x_0, t, eps), t)
    return ((1 - alphas_cumprod[t]).float() * error[:, 0] ** 2).mean()


every_t = torch.arange(T)
assert_close(schedule.p2_weight(every_t, k=1, gamma=1), 1 - alphas_cumprod)

guess = lambda x_t, t: 0.8 * x_t  # noqa: E731  any function is a model
g = seeded(5)
t, eps = torch.randint(0, T, (len(data),), generator=g), torch.randn(data.shape, generator=g)
assert_close(weighted_loss(guess, data, t, eps), p2_loss(guess, schedule, data, t, eps))
x_0_hat = schedule.predict_x0(q_sample(data, t, eps).double(), t, guess(q_sample(data, t, eps), t).double())
in_x_0 = (alphas_cumprod[t] * (data.double() - x_0_hat)[:, 0] ** 2).mean()
assert_close(in_x_0.float(), weighted_loss(guess, data, t, eps), rtol=1e-4, atol=1e-5)
simple = ((eps - guess(q_sample(data, t, eps), t)) ** 2).mean()  # equation 8
print(f"the guess 'the noise is 0.8 x_t': simple loss {simple:.4f}, with the P2 weight "
      f"{weighted_loss(guess, data, t, eps):.4f}")  # fmt: skip


# %% jupyter={"source_hidden": true}
bound = (betas**2 / (2 * schedule.posterior_variance * (1 - betas) * (1 - alphas_cumprod)))[1:]
figure, ax = plt.subplots(figsize=(7, 3), layout="constrained")
ax.semilogy(every_t[1:], bound, color=ORANGE, lw=2, label="likelihood bound")
ax.semilogy(every_t, torch.ones(T), color=GREY, lw=2, label="simple: 1")
ax.semilogy(every_t, 1 - alphas_cumprod, color=BLUE, lw=2, label=r"P2: $1-\bar\alpha_t$")
ax.set(xlabel="t", ylabel="weight of the error of ε")
ax.legend(frameon=False)
show(figure, "Three loss weights against t, log scale: the bound is high at both ends, simple is flat, P2 rises to 1.")

# %% [markdown]
# *Figure: the bound (orange) is a trough, high at both ends. The P2 weight (blue) rises from nearly 0 to 1, where the
# simple loss (grey) is all along: it takes weight off the cleaner half of the chain, most of all where it is nearly
# clean.*
#
# ## 7 · The exact denoiser, and the way back
#
# Which function $\varepsilon_\theta(x_t, t)$ makes the squared error smallest? The conditional mean $\mathbb
# E[\varepsilon\mid x_t]$, whatever the weight. For our mixture it can be written down. Given $x_t$, component k is
# responsible with probability $r_k \propto w_k\,\mathcal N(x_t; \sqrt{\bar\alpha_t}\,\mu_k, v)$ where $v = \bar\alpha_t
# s^2 + 1-\bar\alpha_t$, and within one component everything is Gaussian:
#
# $$ \varepsilon^*(x_t, t) = \mathbb E[\varepsilon\mid x_t] = \frac{\sqrt{1-\bar\alpha_t}}{v}\sum_k r_k\,
# \big(x_t - \sqrt{\bar\alpha_t}\,\mu_k\big). $$
#
# This is the network that perfect training would give. No diffusion model of images has it; here we do.


# %%
def exact_denoiser(s):
    """The function (x_t, t) → E[eps | x_t] for the mixture and a schedule s: x_t (B, 1), t (B,) → (B, 1)."""

    def model(x_t, t):
        abar = s.alphas_cumprod[t].to(x_t.dtype).view(-1, 1)
        v = abar * WIDTH**2 + 1 - abar
        distance = x_t - abar.sqrt() * MEANS  # (B, 3), one column for each component
        r = torch.softmax(WEIGHTS.log() - distance**2 / (2 * v), dim=1)
        return (1 - abar).sqrt() / v * (r * distance).sum(1, keepdim=True)

    return model


exact = exact_denoiser(schedule)

# %% jupyter={"source_hidden": true}
g = seeded(6)
many = draw_data(200_000, g)
noise = torch.randn(many.shape, generator=g)
figure, axes = plt.subplots(1, 3, figsize=(10, 2.9), layout="constrained")
for ax, t in zip(axes, (100, 200, 500), strict=True):
    x_t = q_sample(many, torch.full((len(many),), t), noise)[:, 0]
    edges = torch.linspace(-1.5, 1.5, 61)
    which = torch.bucketize(x_t, edges) - 1  # the mean noise among all x_t that fall in one bin
    means = torch.stack([noise[which == b].mean() for b in range(60)])
    centres = (edges[1:] + edges[:-1]) / 2
    curve = exact(centres.view(-1, 1), torch.full((60,), t))[:, 0]
    full = torch.stack([(which == b).sum() > 1000 for b in range(60)])
    assert (means - curve)[full].abs().max() < 0.15  # the rest is scatter and the width of a bin
    ax.plot(centres[full], means[full], "o", ms=4, color=ORANGE, label="mean of ε in a bin of $x_t$")
    ax.plot(centres, curve, color=BLUE, label="formula")
    ax.set(title=f"t = {t}", xlabel="$x_t$")
axes[0].set_ylabel("E[ε | $x_t$]")
axes[0].legend(frameon=False, fontsize=9)
show(
    figure, "Three panels: binned averages of the noise lie on the curve of the formula, which gets straighter with t."
)

# %% [markdown]
# *Figure: average noise among 200,000 noisy data in bins of $x_t$ (dots), and the formula (line). Little noise: a saw
# tooth that pulls towards the nearest of the three peaks. Much noise: nearly a straight line.*
#
# Even the exact denoiser has a loss above zero, because $x_t$ does not determine $\varepsilon$. No training can go
# below this **floor**, so a loss curve that flattens is not a sign of failure.

# %%
g = seeded(7)
test_t, test_noise = torch.randint(0, T, (len(many),), generator=g), torch.randn(many.shape, generator=g)


def test_loss(model):
    """The loss on 200,000 draws that are the same for every model."""
    with torch.no_grad():
        return weighted_loss(model, many, test_t, test_noise).item()


floor = test_loss(exact)
print(f"loss of the exact denoiser: {floor:.4f}")
for text, change in {"+ 0.1": lambda e: e + 0.1, "× 0.9": lambda e: 0.9 * e, "always 0": lambda e: 0 * e}.items():
    worse = test_loss(lambda x_t, t, change=change: change(exact(x_t, t)))
    print(f"exact denoiser {text:8}:  {worse:.4f}")
    assert worse > floor > 0

# %% [markdown]
# **The way back (DDPM, ancestral sampling; Paper, eq. 6).** Start from noise. At each t: ask for $\hat\varepsilon$,
# turn it into $\hat x_0$, draw $x_{t-1}$ from the posterior. At t = 0 add nothing: $\hat x_0$ is the sample.


# %%
def reverse(model, n, generator, variance="posterior", s=schedule):
    """The reverse process: n one-pixel images, drawn in s.T steps."""
    x = torch.randn(n, 1, generator=generator)
    for t in reversed(range(s.T)):
        steps = torch.full((n,), t)
        x_0 = s.predict_x0(x, steps, model(x, steps))
        if t == 0:
            return x_0
        mean, spread = s.q_posterior(x_0, x, steps)
        if variance == "beta":
            spread = torch.full_like(spread, s.betas[t])
        x = mean + spread.sqrt() * torch.randn(x.shape, generator=generator)


samples = reverse(exact, N_SAMPLES, seeded(8))
library = diffusion.sample(diffusion.ddpm_sample(exact, schedule, (N_SAMPLES, 1), generator=seeded(8), clip=False))
assert_close(samples, library)

# %%
fine = torch.linspace(-1.2, 1.2, 24_001)
cumulative = density(fine).cumsum(0) * (fine[1] - fine[0])


def distance(x):
    """Wasserstein-1 distance of the numbers x to the mixture: mean |sorted x - quantile of the same rank|."""
    ranks = (torch.arange(len(x)) + 0.5) / len(x)
    quantiles = fine[torch.searchsorted(cumulative, ranks).clamp(max=len(fine) - 1)]
    return (x.flatten().sort().values - quantiles).abs().mean().item()


fresh = sum(distance(draw_data(N_SAMPLES, seeded(100 + k))) for k in range(10)) / 10
print(f"distance to the mixture: samples {distance(samples):.4f}, as many fresh data {fresh:.4f} (mean of ten sets)")
share = [
    ((samples > low) & (samples < high)).float().mean().item() for low, high in ((-1, -0.35), (-0.35, 0.3), (0.3, 1))
]
print("shares of the three peaks:", [round(s, 3) for s in share], "wanted", [round(w, 1) for w in WEIGHTS.tolist()])
assert distance(samples) < 3 * fresh

# %% jupyter={"source_hidden": true}
figure, ax = plt.subplots(figsize=(7, 2.8), layout="constrained")
ax.hist(samples[:, 0].numpy(), bins=150, range=(-1.2, 1.2), density=True, color=BLUE, label="samples")
ax.plot(line, density(line), color=ORANGE, lw=2, label="the density q($x_0$)")
ax.legend(frameon=False)
ax.set_xlabel("$x_0$")
show(figure, "Histogram of generated numbers: three narrow peaks that match the true density.")

# %%
print("standard deviation of the right-hand peak (data: 0.05)")
for steps in (500, 100, 20):
    short = diffusion.NoiseSchedule(diffusion.cosine_betas(steps))
    widths = {}
    for variance in ("posterior", "beta"):
        x = reverse(exact_denoiser(short), N_SAMPLES, seeded(11), variance, short)
        widths[variance] = x[x > 0.3].std().item()
    print(f"T = {steps:4}: posterior variance {widths['posterior']:.4f}, β {widths['beta']:.4f}")
    assert widths["posterior"] < widths["beta"]

# %% [markdown]
# *Figure: numbers drawn from pure noise by the reverse process (blue) have the three peaks of the data (orange line),
# with the right places, widths and weights.* They are about as close to the mixture as fresh data are.
#
# The last lines answer the question of section 5, $\beta_t$ or $\tilde\beta_t$? The true variance of $x_{t-1}$ given
# $x_t$ lies, on average over $x_t$, between the two: $\tilde\beta_t$ would be right if the data were a single point,
# $\beta_t$ if they were standard normal (Ho et al., section 3.2). With 500 steps the choice shows little; with 100
# steps $\tilde\beta_t$ draws the peaks too narrow, $\beta_t$ a little too wide.
#
# ## 8 · A learned denoiser
#
# For images the exact denoiser is unknown, so a network is trained on the loss of section 6. Here a small one learns
# the mixture. Its inputs are $x_t$, the logarithm of the SNR, which tells it how noisy $x_t$ is, and sines and cosines
# of $x_t$, since networks learn sharp bends slowly from $x_t$ alone. The training step is the whole algorithm: draw
# clean data, a random t for each, noise; jump; compare.

# %%
net = torch.nn.Sequential(
    torch.nn.Linear(18, 64), torch.nn.SiLU(), torch.nn.Linear(64, 64), torch.nn.SiLU(),
    torch.nn.Linear(64, 64), torch.nn.SiLU(), torch.nn.Linear(64, 1),
)  # fmt: skip
g = seeded(12)
for weight in net.parameters():  # the same start in every run
    torch.nn.init.uniform_(weight, -1, 1, generator=g).data.mul_(weight.shape[-1] ** -0.5)


def learned(x_t, t):
    waves = x_t * math.pi * torch.arange(1, 9)
    return net(torch.cat([x_t, schedule.snr[t].log().float().view(-1, 1) / 5, waves.sin(), waves.cos()], 1))


optimizer, losses = torch.optim.Adam(net.parameters(), lr=3e-3), []
decay = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, N_TRAIN)
for step in range(N_TRAIN):
    if step == N_TRAIN // 8:
        with torch.no_grad():
            early, early_loss = reverse(learned, N_DRAWN, seeded(13)), test_loss(learned)
    x_0, t = draw_data(512, g), torch.randint(0, T, (512,), generator=g)
    loss = weighted_loss(learned, x_0, t, torch.randn(512, 1, generator=g))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    decay.step()
    losses.append(loss.item())

# %%
with torch.no_grad():
    late, late_loss = reverse(learned, N_DRAWN, seeded(13)), test_loss(learned)
    x_t = q_sample(many, test_t, test_noise)
    off = ((learned(x_t, test_t) - exact(x_t, test_t)) ** 2).mean().sqrt().item()
print(f"root mean square distance of the trained network to the exact denoiser: {off:.3f}")

# %% jupyter={"source_hidden": true}
figure, axes = plt.subplots(1, 3, figsize=(10, 2.9), layout="constrained")
axes[0].plot(
    range(25, N_TRAIN, 50), torch.tensor(losses).unfold(0, 50, 50).mean(1), color=BLUE, label="mean of 50 steps"
)
axes[0].axhline(floor, color=RED, ls="--", label="floor")
axes[0].set(xlabel="training step", title="loss", ylim=(0, 3 * floor))
axes[0].legend(frameon=False)
for ax, x, end, loss in ((axes[1], early, N_TRAIN // 8, early_loss), (axes[2], late, N_TRAIN, late_loss)):
    ax.hist(x[:, 0].clamp(-1.2, 1.2).numpy(), bins=120, range=(-1.2, 1.2), density=True, color=BLUE)
    ax.plot(line, density(line), color=ORANGE, lw=1.5)
    ax.set(xlabel="$x_0$", title=f"samples after {end} steps")
    print(
        f"after {end:4} steps: loss {loss / floor - 1:.1%} above the floor, distance of the samples {distance(x):.3f}"
    )
assert floor < late_loss < early_loss < 1.15 * floor and distance(late) < distance(early)
show(figure, "Left: the loss falls to a dashed floor. Middle: blurred early samples. Right: late samples, three peaks.")

# %% [markdown]
# *Figure: left, the loss drops fast and then creeps along the floor (red, dashed). Middle and right, samples (blue)
# against the density (orange), early and at the end.* In the middle panel the loss is within a tenth of the floor,
# and the samples are still poor: most of the loss is noise that nobody can predict, and the little above it decides
# the quality. Even at the end, within a hundredth of the floor, the middle peak comes out too small. Never judge a
# diffusion model by its training loss alone.

# %% [markdown]
# **Question 01.4.** Some models (Salimans and Ho 2022, [arXiv:2202.00512](https://arxiv.org/abs/2202.00512)) are
# trained to predict $v = \sqrt{\bar\alpha_t}\,\varepsilon - \sqrt{1-\bar\alpha_t}\,x_0$ instead of $\varepsilon$. Write
# $\varepsilon$ in terms of $x_t$, v and $\bar\alpha_t$, so that the samplers of this notebook can use such a model.
# (Hint: $(x_t, v)$ is $(x_0, \varepsilon)$, rotated.)


# %%
def my_eps_from_v(x_t, v, abar):
    """Three tensors of one shape → eps."""
    return ...  # your line here


check("01.4", my_eps_from_v)

# %% [markdown]
# ## 9 · DDIM: the same denoiser, fewer steps, no dice
#
# DDPM draws fresh noise in every step. Song et al. ([arXiv:2010.02502](https://arxiv.org/abs/2010.02502)) noticed that
# the loss only uses $q(x_t\mid x_0)$, so any way back that keeps these distributions will do. The simplest one keeps
# the noise that the model has found. From step t to any earlier step u:
#
# $$ x_u = \sqrt{\bar\alpha_u}\;\hat x_0 + \sqrt{1-\bar\alpha_u}\;\hat\varepsilon . $$
#
# It is the closed form of section 3 with guesses in the place of $x_0$ and $\varepsilon$. No noise is drawn, so a start
# noise determines the sample, and u need not be t − 1: steps can be skipped.


# %%
def ddim(model, x, steps):
    """Deterministic sampling through `steps` of the T steps, from the noise x; yields (t, x_t)."""
    times = torch.linspace(T - 1, 0, steps, dtype=torch.float64).round().long().tolist()
    for t, u in zip(times, times[1:] + [None], strict=True):
        yield t, x
        batch = torch.full((len(x),), t)
        eps = model(x, batch)
        x_0 = schedule.predict_x0(x, batch, eps)
        x = x_0 if u is None else alphas_cumprod[u].sqrt().float() * x_0 + (1 - alphas_cumprod[u]).sqrt().float() * eps
    yield None, x_0


start = torch.randn(N_SAMPLES, 1, generator=seeded(14))
path = torch.stack([x for _, x in ddim(exact, start, 200)])  # (201, N, 1)
library = diffusion.sample(diffusion.ddim_sample(exact, schedule, start.shape, steps=200, x_T=start, clip=False))
assert_close(path[-1], library, atol=1e-3, rtol=0)

order = start[:, 0].argsort()
assert (path[-1][order, 0].diff() > -1e-3).all()  # a larger start noise gives a larger sample

# %% jupyter={"source_hidden": true}
few = torch.linspace(-2.2, 2.2, 8).view(-1, 1)
states = diffusion.ddpm_sample(exact, schedule, few.shape, x_T=few, generator=seeded(15), clip=False)
wander = torch.stack([state.x_t[:, 0] for state in states])
glide = torch.stack([x[:, 0] for _, x in ddim(exact, few, T)][:-1])
figure, axes = plt.subplots(1, 3, figsize=(10, 3), layout="constrained", width_ratios=(1.2, 1.2, 1))
for ax, paths, title in zip(axes, (wander, glide), ("DDPM: dice at every step", "DDIM: no dice"), strict=False):
    ax.plot(range(T - 1, -1, -4), paths[::4], lw=0.8, color=BLUE)
    ax.set(xlim=(T, 0), xlabel="t (time runs backwards)", title=title, ylim=(-3, 3))
axes[0].set_ylabel("$x_t$")
again = diffusion.sample(diffusion.ddpm_sample(exact, schedule, start.shape, x_T=start, generator=seeded(16)))
axes[2].plot(start[:400, 0], again[:400, 0], ".", ms=3, color=GREY)
axes[2].plot(start[:400, 0], path[-1][:400, 0], ".", ms=4, color=RED)
axes[2].set(xlabel="start noise", title="sample: DDPM grey, DDIM red")
show(figure, "Left: eight ragged DDPM paths. Middle: eight smooth DDIM paths. Right: sample against start noise.")

# %% [markdown]
# *Figure: from the same eight start values, DDPM's paths jitter and cross, DDIM's are smooth and never cross. Right:
# the sample of DDIM is a rising staircase of the start noise (red); that of DDPM hardly depends on it (grey).*
#
# Both are exact in the limit of many steps. With few steps both make an error:

# %%
STEPS = (5, 10, 20, 50, 200) if FAST else (5, 10, 20, 50, 200, 1000)
DRAWS = 2 if FAST else 4  # sets of samples behind each point: one set scatters by half of what fresh data have
errors = {}
for eta, name in ((0.0, "DDIM"), (1.0, "DDPM, strided (η = 1)")):
    errors[name] = torch.zeros(len(STEPS), DRAWS)
    for j, n in enumerate(STEPS):
        for k in range(DRAWS):
            noise = torch.randn(start.shape, generator=seeded(200 + k))
            x = diffusion.ddim_sample(exact, schedule, start.shape, steps=n, eta=eta, x_T=noise,
                                      generator=seeded(300 + k), clip=False)  # fmt: skip
            errors[name][j, k] = distance(diffusion.sample(x))
    print(f"{name:22}", {n: round(v, 4) for n, v in zip(STEPS, errors[name].mean(1).tolist(), strict=True)})

# %% jupyter={"source_hidden": true}
figure, ax = plt.subplots(figsize=(6.5, 3), layout="constrained")
for (name, values), colour in zip(errors.items(), (RED, GREY), strict=True):
    ax.loglog(STEPS, values.mean(1), "o-", color=colour, label=f"{name}, mean of {DRAWS}")
    ax.loglog(STEPS, values, ".", color=colour, ms=3)
ax.axhline(fresh, color="black", ls=":", label="fresh data")
ax.set(xlabel="steps", ylabel="distance to the mixture")
ax.set_xticks(STEPS, [str(n) for n in STEPS])
ax.minorticks_off()
ax.legend(frameon=False, fontsize=9)
show(figure, "Distance against number of steps, log axes: both samplers fall towards the level of fresh data.")
ddim_mean, ddpm_mean = (errors[name].mean(1) for name in errors)
assert ddim_mean[3] < ddim_mean[0] and ddim_mean[-1] < 3 * fresh and ddpm_mean[-1] < ddpm_mean[0]

# %% [markdown]
# *Figure: distance between samples and mixture for 5 to 1000 calls of the exact denoiser: means over a few sets of
# samples (line), and each set (dots). The dotted line is what as many fresh data have; the dots show how much of a
# single point near it would be chance.* With the exact denoiser DDIM is at the level of fresh data after 200 steps,
# DDPM after 1000. The library's `ddim_sample(..., eta=…)` puts part of the dice back for $\eta$ between 0 and 1.
#
# ## 10 · Why samplers clamp $x_0$
#
# $\hat x_0 = (x_t - \sqrt{1-\bar\alpha_t}\,\hat\varepsilon)/\sqrt{\bar\alpha_t}$ divides by $\sqrt{\bar\alpha_t}$. At
# the noisy end that is almost nothing, so a tiny error of $\hat\varepsilon$ becomes an enormous one of $\hat x_0$.
# But we know that images lie in [−1, 1]. So every sampler here first clamps $\hat x_0$ to [−1, 1] (`clip=True`, the
# default), and so departs from equation 7 of the paper ("Paper, eq. 7" in section 6) where $\hat x_0$ lies outside.

# %%
for t in (0, 500, 900, 998, 999):
    amplified = 0.01 * ((1 - alphas_cumprod[t]) / alphas_cumprod[t]).sqrt()
    print(f"t = {t:3}: an error of 0.01 in ε is an error of {amplified:8.4f} in x_0")

slightly_wrong = lambda x_t, t: exact(x_t, t) + 0.01  # noqa: E731
print("\ndistance to the mixture     clamped   not clamped")
result = {}
for n in (10, 50, 200):
    for clip in (True, False):
        x = diffusion.ddim_sample(slightly_wrong, schedule, start.shape, steps=n, x_T=start, clip=clip)
        result[n, clip] = distance(diffusion.sample(x))
    print(f"DDIM, {n:4} steps             {result[n, True]:.4f}        {result[n, False]:.4f}")
assert result[50, True] < 0.1 < result[50, False]
assert off > 0.01  # the network of section 8 errs by more

both = [diffusion.ddim_sample(exact, schedule, start.shape, steps=50, x_T=start, clip=clip) for clip in (True, False)]
assert_close(diffusion.sample(both[0]), diffusion.sample(both[1]))  # nothing to clamp

# %% [markdown]
# An error of one hundredth in $\varepsilon$, less than that of the trained network of section 8, ruins the samples
# without the clamp. With it the damage is bounded. With the exact denoiser the clamp does nothing: $\mathbb E[x_0\mid
# x_t]$ is an average of data, and lies in their range.
#
# **Try it.** The figure below is the whole of sections 7 to 10 in one: 400 particles, drawn back from noise by the
# exact denoiser of the mixture, as `ddim_sample` does it. Move the frame (or press "play"); then choose the number of
# steps, $\eta$ from DDIM to DDPM, an error added to every $\varepsilon$, and whether $\hat x_0$ is clamped. It needs no
# running kernel. Things to try: 5 steps with $\eta = 0$ and with $\eta = 1$; an error of 0.01 without the clamp.

# %%
moving_reverse(WEIGHTS.tolist(), MEANS.tolist(), WIDTH)

# %% [markdown]
# *Figure that moves: above, the particles as a histogram (blue) and the exact density of $x_t$ (red); below, the paths
# of some of them, time running downwards from noise to $x_0$. In numbers: the distance of the samples to the mixture.
# Where no script runs, 16 paths of DDIM, which end on the three peaks.*
#
# ## 11 · Images
#
# Everything above holds for images, pixel by pixel: $x_0$ has shape (B, 1, 28, 28), $\varepsilon$ has the same shape,
# and one t belongs to each image. The library comes with 2,000 of the 60,000 training images of Fashion-MNIST, so this
# runs offline.

# %%
bundle = load_images("fashion-mnist", "train", bundled=True)
clothes = to_model_range(bundle.images)
print(bundle.source, tuple(clothes.shape), f"range [{clothes.min():.0f}, {clothes.max():.0f}]")

shoe = clothes[(bundle.labels == 9).nonzero()[0]]  # (1, 1, 28, 28)
noise = torch.randn(shoe.shape, generator=seeded(18))
when = torch.tensor([0, 100, 250, 500, 750, 999])
strip = [schedules[f"{kind}, T = 1000"].q_sample(shoe.expand(6, -1, -1, -1), when, noise.expand(6, -1, -1, -1))
         for kind in ("cosine", "linear")]  # fmt: skip

# %% jupyter={"source_hidden": true}
figure, ax = plt.subplots(figsize=(8, 3.2), layout="constrained")
image_grid(torch.cat(strip).clamp(-1, 1), ax, columns=6, titles=[f"t = {t}" for t in when.tolist()] + [""] * 6)
for name, y in (("cosine", 24), ("linear", 64)):
    ax.text(-4, y, name, ha="right", va="center")
show(figure, "A boot turning into noise at six steps; the lower row, linear schedule, is unreadable much earlier.")

# %% [markdown]
# *Figure: an ankle boot under the cosine (top) and the linear schedule (bottom), with the same noise. At t = 500 the
# boot is still visible above and gone below.*
#
# The widget lets you walk along the chain. Choose a schedule and an image; type a step or use the arrow keys in its
# field; the buttons move by 5 % of the chain. The static picture is for readers without a running kernel.

# %%
still = ForwardFigure()
numbers = still.update("cosine, T = 1000", 300, shoe, noise)
assert_close(still.x_t, schedule.q_sample(shoe, torch.tensor([300]), noise))
print({name: float(f"{value:.4g}") for name, value in numbers.items()})
show(still.figure, "The widget's view: a clean boot, the boot at t = 300, and the curves of alpha-bar and SNR.")

# %% [markdown]
# *Figure: what the widget shows. From left to right: $x_0$; $x_t$; $\bar\alpha_t$ and SNR of the chosen schedule in
# blue, of the others in grey, with a dot at t.*

# %%
forward_process(t=300)

# %% [markdown]
# **The exact denoiser of a finite set of images.** Take "the data" to be exactly the 2,000 images at hand, each with
# probability 1/2000: a mixture like ours with s = 0. Then $\mathbb E[x_0\mid x_t]$ is an average of the images,
# weighted by how well each explains $x_t$. No network, no training, and no model has a lower loss on these images.


# %%
def denoiser_of(images, candidates=None):
    """The function (x_t, t) → E[eps | x_t] if the data are exactly these images; notes how many are in question."""
    y = images.flatten(1)

    def model(x_t, t):
        abar, x = schedule.alphas_cumprod[t].float().view(-1, 1), x_t.flatten(1)
        squared = -2 * abar.sqrt() * x @ y.T + abar * y.norm(dim=1) ** 2  # ‖x - √abar y‖², without ‖x‖²
        weights = torch.softmax(-squared / (2 * (1 - abar)), dim=1)
        if candidates is not None:
            candidates.append((int(t[0]), torch.special.entr(weights).sum(1).exp().median().item()))
        return schedule.predict_eps(x_t, t, (weights @ y).view_as(x_t))

    return model


candidates = []
dataset_denoiser = denoiser_of(clothes, candidates)
sampler = diffusion.ddim_sample(
    dataset_denoiser, schedule, (8, 1, 28, 28), steps=FILM_STEPS, eta=1.0, generator=seeded(19)
)
states = list(sampler)

# %% jupyter={"source_hidden": true}
figure, ax = plt.subplots(figsize=(9, 4.2), layout="constrained")
film_strip(states[:: FILM_STEPS // 100] + states[-1:], ax, n_images=2, n_frames=9)
show(figure, "Two images emerge from noise over nine frames; below each noisy frame, the denoiser's guess.")

# %% [markdown]
# *Figure: two samples, time from left to right. Upper rows $x_t$, lower rows the guess $\hat x_0$: first the average of
# all clothes, then a blend of a few, then one piece of clothing.*

# %% [markdown]
# **Question 01.5** (predict, then run). No network was trained, and these are clothes. What are they: "new" clothes,
# "mixtures" of several images, or "copies" of single ones?

# %%
my_guess = ...  # one of the three words
check("01.5", my_guess)

# %% [markdown]
# Sharp clothes, from pure noise! Look at where they come from:

# %%
new = states[-1].x_0.flatten(1)
nearest = torch.cdist(new, clothes.flatten(1)).min(1).values
test = to_model_range(load_images("fashion-mnist", "test", bundled=True).images).flatten(1)
typical = torch.cdist(test, clothes.flatten(1)).min(1).values.median()
print("distance of each sample to the nearest training image:", [round(d, 3) for d in nearest.tolist()])
print(f"the same for unseen test images, median: {typical:.2f}")
assert nearest.max() < 0.05 * typical
assert all(left < 1.01 for t, left in candidates if t < 500)  # one image is left before the middle of the chain

# %% jupyter={"source_hidden": true}
figure, ax = plt.subplots(figsize=(6.5, 2.9), layout="constrained")
ax.semilogy(*zip(*candidates, strict=True), color=BLUE, lw=2)
ax.set(xlabel="t", ylabel="images still in question", xlim=(T, 0), title="What the denoiser still does not know")
show(
    figure, "Effective number of candidate images against t: 2000 at the noisy end, 1 from the middle of the chain on."
)

# %% [markdown]
# *Figure: the effective number of images that still explain $x_t$ (the exponential of the entropy of the weights), as
# the sampler walks from noise (left) to image (right). It falls from 2,000 to 1 before the middle of the chain.*
#
# Two lessons. **The perfect minimiser of the training loss copies its training set.** A network is useful because it
# cannot be that perfect: it has few weights and has to share what it learns between images. So a lower training loss
# is not the goal, and notebook 08 measures something else. And **the large t decide what is drawn**; the small t only
# polish. That is a reason to give the large t more weight, as P2 does.
#
# At last, the clamp again, on images:

# %%
wrong = lambda x_t, t: dataset_denoiser(x_t, t) + 0.01  # noqa: E731
pictures = [
    diffusion.sample(diffusion.ddim_sample(wrong, schedule, (6, 1, 28, 28), steps=50, generator=seeded(20), clip=clip))
    for clip in (True, False)
]

# %% jupyter={"source_hidden": true}
figure, axes = plt.subplots(1, 2, figsize=(9, 1.6), layout="constrained")
for ax, images, title in zip(axes, pictures, ("with clamp", "without clamp"), strict=True):
    image_grid(images.clamp(-1, 1), ax, columns=6, title=title)
assert pictures[1].std(0).max() < 0.01 < pictures[0].std(0).max()  # without clamp: six times the same image
show(figure, "With the clamp six different clothes; without it six times the same dark sandal.")

# %% [markdown]
# *Figure: the dataset denoiser with 0.01 added to each $\varepsilon$. Left, clamped: six different clothes. Right, not
# clamped, from the same six start noises: the first step throws all of them far to the dark side, and they end on the
# same dark image.*
#
# ## Summary
#
# - Forward: a Markov chain of Gaussian steps, and a closed form that jumps to any t (equations 1 to 4).
# - Back: a Gaussian step whose mean is the posterior's, with the guess $\hat x_0$ in the place of $x_0$. Equation 7 is
#   that mean, as long as nothing is clamped (equations 5 to 7).
# - The loss is a squared error of the noise. Equation 8 weighs all t alike, the recipe by $1-\bar\alpha_t$.
# - The perfect minimiser copies its training set; the loss has a floor above zero.
#
# **A little history.** Sohl-Dickstein et al. ([arXiv:1503.03585](https://arxiv.org/abs/1503.03585)) had the chain, the
# reverse process and the bound in 2015. Ho et al. found in 2020 that predicting the noise with the simple loss draws
# far better; in the same year Song et al. cut a thousand steps to fifty. Schedules (Nichol and Dhariwal 2021) and
# weights (Choi et al. 2022) followed, and the paper of this course uses both through the code that it builds on.
#
# **Further reading.** Ho et al., sections 2 and 3, for the bound line by line; Song et al., section 4, for DDIM. All
# sources are in the [bibliography](../docs/bibliography.md), all words in the [glossary](../docs/glossary.md).
#
# **Next:** [02 · Variational circuits](02_variational_circuits.ipynb), the quantum part of the hybrid.
