# %% [markdown]
# # Lab 08 · Evaluation
#
# You build what notebook 08 explains: FID from two moments, an interval and a limit beside it, the reach of chance, and
# a rule that turns an interval into a verdict. At the end your rule judges two sets of results. In one of them the
# model truly differs from the classical one; in the other it does not.
#
# **{{points}} points, about {{minutes}} minutes.** Variant `{{variant}}`: divisors, levels, directions, words and
# results are drawn for it, so read them here and not elsewhere. Each task is one function; below it `check` tries it
# on fresh random draws and says what is right and what is not yet. The marker does the same with other draws and
# counts nothing else. NumPy, SciPy and torch do the linear algebra and the quantiles; what `qdm_lib.metrics`,
# `qdm_lib.statistics` or torchmetrics would do for you earns nothing. You may add cells and functions; keep the names
# of the tasks.
#
# {{table}}

# %%
import matplotlib.pyplot as plt
import numpy as np
import torch

from qdm_labs import open_lab

lab = open_lab("{{number}}", "{{variant}}")
check = lab.check

# %% [markdown]
# ## 1 · Mean and covariance
#
# A network turns each of N images into D features. FID keeps two moments of them: the mean of each feature, and the
# covariance of each two features. In this variant the covariance, and only it, has the divisor **{{divisor}}**.


# %% task="moments"
def moments(features):
    """features (N, D) float64 → (mean (D,), covariance (D, D))."""
    raise NotImplementedError


# %% check="moments"
check("moments", moments)

# %% [markdown]
# ## 2 · The Fréchet distance
#
# $$ d^2 = |\mu-\mu'|^2 + \mathrm{Tr}\big(\Sigma + \Sigma' - 2\,(\Sigma\Sigma')^{1/2}\big) $$
#
# Return {{which}}. The root is that of a matrix: R with R·R = ΣΣ'. Two hints: a trace is the sum of the eigenvalues,
# and with fewer images than features some of them are 0, which rounding makes slightly negative.


# %% task="fid"
def fid(mean_a, cov_a, mean_b, cov_b):
    """Means (D,) and covariances (D, D), float64 → the distance, a number."""
    raise NotImplementedError


# %% check="fid"
check("fid", fid)

# %% [markdown]
# ## 3 · FID of infinitely many images
#
# The fewer images, the higher FID: its expectation is nearly FID∞ + b/N. Fit this line to FID at several N by least
# squares, and return FID∞. (FID here means the squared distance, in every variant.)


# %% task="extrapolate"
def extrapolate(counts, values):
    """A list of numbers of images N and a list of the FID at each → FID∞, a number."""
    raise NotImplementedError


# %% check="extrapolate"
check("extrapolate", extrapolate)

# %% [markdown]
# ## 4 · An interval from a bootstrap
#
# The images are drawn again with replacement, many times, and each set gets its score: a *replicate*. A set that
# repeats images scores worse, so the replicates lie beside the score, all by about as much; only their spread is of
# use. Move them until their mean is the score, and return the two quantiles between which {{level}} of them lie, as
# many beyond each end (between two replicates a quantile is interpolated linearly, as PyTorch and NumPy do).


# %% task="interval"
def interval(value, replicates):
    """A score, a number, and its replicates (n,) float64 → (lower end, upper end)."""
    raise NotImplementedError


# %% check="interval"
check("interval", interval)

# %% [markdown]
# ## 5 · The reach of chance
#
# Train the same classical model from several seeds: all their differences are chance. Were s, the standard deviation of
# the score from seed to seed, known, 95 of 100 differences of two such models would lie within ±1.96·√2·s: their
# *reach*. Estimate it, with s from the scores of n seeds, with the divisor n − 1 in every variant. (It is no margin:
# the noisier an experiment, the further chance reaches, and the more easily two models would be found "equivalent".)


# %% task="reach"
def reach(scores):
    """{seed: score} of one model → 1.96·√2·s, a number."""
    raise NotImplementedError


# %% check="reach"
check("reach", reach)

# %% [markdown]
# ## 6 · Paired differences
#
# Two models that share a seed share their batches and their noise, and some of their luck. Take the difference
# **{{difference}}** of each seed that both have; return the mean, and the ends of Student's interval of {{level}} for
# it. (`scipy.stats.t.ppf` gives the quantiles of Student's distribution.)


# %% task="paired_difference"
def paired_difference(model, classical):
    """Two dictionaries {seed: score}, not always of the same seeds → (mean, lower end, upper end)."""
    raise NotImplementedError


# %% check="paired_difference"
check("paired_difference", paired_difference)

# %% [markdown]
# ## 7 · A verdict rule
#
# Fixed before anybody looks at results. The score is one for which **{{direction}} is better**, and the interval is
# that of {{difference}}. The verdict is on the model:
#
# - the interval lies on one side of 0 and reaches beyond ±margin: `"better"` or `"worse"`;
# - it lies on one side of 0 *and* within ±margin: {{both}};
# - it contains 0 and lies within ±margin: `"equivalent"`;
# - it contains 0 and reaches beyond ±margin: `"undecided"`.


# %% task="verdict"
def verdict(low, high, margin):
    """The ends of the interval and the margin, numbers → one of the four words."""
    raise NotImplementedError


# %% check="verdict"
check("verdict", verdict)

# %% [markdown]
# ## 8 · Two sets of results
#
# Here are two sets, each with the scores of a classical model and of another one, by seed. What does your rule say of
# each? The margin was fixed before anybody looked: a difference of less than **{{margin}}** is of no interest. Plot the
# scores too, and ask yourself what you would have said without a rule.

# %%
classical_1 = {{classical_1}}
model_1 = {{model_1}}
classical_2 = {{classical_2}}
model_2 = {{model_2}}


# %% task="conclusions"
def conclusions():
    """→ (word for the first set, word for the second set)."""
    raise NotImplementedError


# %% check="conclusions"
check("conclusions", conclusions)

# %% [markdown]
# ## 9 · Your functions at work
#
# No points here: how FID of two sets drawn from *one* distribution falls with N, what your line makes of it, and the
# two sets of results, pair by pair.

# %% tags=["demo"]
generator = torch.Generator().manual_seed(0)
counts, values = [50, 100, 200, 400, 800], []
for n in counts:
    repeats = []
    for _ in range(10):
        a, b = (torch.randn(n, 8, generator=generator, dtype=torch.float64) for _ in range(2))
        repeats.append(float(np.real(fid(*moments(a), *moments(b)))) ** {{power}})
    values.append(float(np.mean(repeats)))
print(
    "squared distance",
    [round(x, 3) for x in values],
    "limit",
    round(float(extrapolate(counts, values)), 3),
    "(the truth is 0)",
)

# %% tags=["demo"]
figure, axes = plt.subplots(1, 2, figsize=(8, 3), sharey=True)
for ax, a, b, word in zip(axes, (classical_1, classical_2), (model_1, model_2), conclusions(), strict=True):
    for seed in set(a) & set(b):
        ax.plot([0, 1], [a[seed], b[seed]], "o-", color="tab:blue")
    mean, low, high = paired_difference(b, a)
    ax.set_title(f"{word}: {float(mean):.2f}, {float(low):.2f} to {float(high):.2f}")
    ax.set_xticks([0, 1], ["classical", "model"])
axes[0].set_ylabel("score")
plt.show()
