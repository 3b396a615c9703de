# %% [markdown]
# # 6 · Training
#
# Notebook 01 derived the loss, notebook 05 built the network. Now they meet: a hybrid model with quantum circuits in
# its vertex is trained here, on this machine, in a few minutes. You write the loop, watch it learn, stop it, go on
# with it, and draw from it in several ways.
#
# **Objectives.** After this notebook you can
#
# 1. write the training loop of the recipe, with its average of the weights, and check it against the library;
# 2. say what the average (EMA) contains after N steps, and why it lags behind in a short run;
# 3. train a hybrid model and read its loss curve;
# 4. stop a run and go on with it so that the interruption leaves no trace;
# 5. choose a sampler and its number of steps, and say what it costs and what it changes.
#
# **Prerequisites.** Notebook 01 (the process and the loss). Notebooks 02 to 05 tell what is inside the model; here it
# is any function `model(x_t, t)`.
#
# **Measured** on one CPU core, including the start of Python: 165 s of processor time and 1.2 GB of memory; with
# `QDM_SIZE=test` 24 s and 1.0 GB. A busy or slower machine takes longer, as did that of the numbers below. No
# network is needed.

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
import math
import platform
import tempfile
import time
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
import torch
from IPython.display import display
from torch.testing import assert_close

import qdm_lib
from qdm_course.moving import moving_film
from qdm_course.recorded import go_on_from
from qdm_course.size import show_size
from qdm_course.widgets import TrainingFigure, training_job
from qdm_labs.reading import check, solution  # noqa: F401  solution("06.1") shows one way to answer
from qdm_lib import diffusion
from qdm_lib.checkpoint import SHIPPED, load_checkpoint, load_model, restore, save_checkpoint
from qdm_lib.data import batches, load_images, to_model_range
from qdm_lib.machine import keep_memory
from qdm_lib.plots import OKABE_ITO, described_picture, image_grid, show_described
from qdm_lib.training import EMA, TrainConfig, make_optimizer, p2_loss, train
from qdm_lib.unet import build_unet, count_parameters

for name, version in {"Python": platform.python_version(), "torch": torch.__version__.split("+")[0],
                      "matplotlib": matplotlib.__version__, "qdm_lib": qdm_lib.__version__}.items():  # fmt: skip
    print(f"{name:10} {version}")

# %%
SIZE = show_size(  # "test", "binder" or "full"
    binder="The first 380 of the 400 training steps of section 3 are not run here: they were recorded in a full "
    "run, and training goes on from there. All else is as in the full size."
)
FAST = SIZE == "test"  # smaller numbers, the same code
STEPS, BATCH = (24, 8) if FAST else (400, 32)  # of the run in section 3
LIVE_EVERY = 12 if FAST else 20  # steps between two pictures
N_TEST = 64 if FAST else 400  # test images whose loss is compared
N_DRAWN = 2 if FAST else 6  # images for each sampler of section 6
DDPM_STEPS, LIMIT = (50, 60) if FAST else (1000, 400)  # steps of its two longest samplers
N_GALLERY, N_CHECKPOINTS = (4, 2) if FAST else (9, 8)  # images for each checkpoint of section 7, and how many
keep_memory()  # the process keeps freed memory: faster steps, same values
plt.rcParams["figure.dpi"] = 90
BLUE, ORANGE, GREEN, RED, GREY = (*(OKABE_ITO[c] for c in ("blue", "orange", "green", "vermilion")), "#777777")


def seeded(seed):
    """A source of random numbers that gives the same ones in every run."""
    return torch.Generator().manual_seed(seed)


def rows_of_images(rows, description, columns):
    """One row of images for each entry {name: images}, the names at the left."""
    figure, axes = plt.subplots(len(rows), 1, figsize=(1.6 + 0.72 * columns, 0.76 * len(rows)), layout="constrained")
    for ax, (name, batch) in zip([axes] if len(rows) == 1 else axes, rows.items(), strict=True):
        image_grid(batch, ax, columns=columns)
        ax.text(-0.02, 0.5, name, transform=ax.transAxes, ha="right", va="center", fontsize=9)
    show_described(figure, description)


# %% [markdown]
# ## 1 · The recipe, and the loop by hand
#
# The paper trains with Adam (learning rate 0.001, $\beta = 0.9$ and 0.99) on batches of 128 images, 20 epochs of 60,000
# images: 9,375 steps. The loss is the squared error of the guessed noise with the P2 weight $1-\bar\alpha_t$ (notebook
# 01). All of that stands in one small object:

# %%
recipe = TrainConfig()
print(recipe)
print(f"20 epochs: {20 * 60_000 / recipe.batch_size:,.0f} steps")

# %% [markdown]
# One step: draw a time t and noise $\varepsilon$ for each image of the batch, mix $x_t$, let the model guess
# $\varepsilon$, compute the loss, let Adam change the weights. Then the **EMA**, the exponential moving average of the
# weights, a second set of weights that follows the first one slowly. Samples are drawn from it. Counting steps s from
# 0, its rule is
#
# - s < 100: the average is a copy of the weights;
# - later, whenever s + 1 is a multiple of 10: average ← d · average + (1 − d) · weights, with
#   d = min(0.995, 1 − (s − 100)^(−2/3)).

# %%
schedule = diffusion.NoiseSchedule(diffusion.cosine_betas())
data = load_images("fashion-mnist", "train", bundled=True)  # 2,000 images that come with the library
print(f"{len(data)} training images, {data.source}")


def one_step(model, optimizer, average, x_0, s, generator):
    """Step number s on the images x_0 (B, 1, 28, 28); returns the loss. `average`: name -> averaged weight."""
    t = torch.randint(0, 1000, (len(x_0),), generator=generator)
    eps = torch.randn(x_0.shape, generator=generator)
    abar = schedule.alphas_cumprod[t].float().view(-1, 1, 1, 1)
    x_t = abar.sqrt() * x_0 + (1 - abar).sqrt() * eps
    loss = ((1 - abar) * (model(x_t, t) - eps) ** 2).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    d = 0.0 if s < 100 else min(0.995, 1 - (s - 100) ** (-2 / 3)) if (s + 1) % 10 == 0 else 1.0
    with torch.no_grad():
        for name, weight in model.named_parameters():
            average[name] = d * average[name] + (1 - d) * weight
    return loss.item()


# %% [markdown]
# **Question 06.1.** A first number to hold a loss against: what is the expected loss of a network that always answers
# 0?

# %%
my_baseline = ...  # a number, to one per cent; you may use schedule
check("06.1", my_baseline)

# %% [markdown]
# The library's `train` does the same and yields after each step. Ten steps of both, pretending that 102 steps are done
# already, so that the average comes past a step where it is renewed (s = 109): losses, weights and averages agree.

# %%
mine, theirs = build_unet("1hqconv", seed=0), build_unet("1hqconv", seed=0)
adam = torch.optim.Adam(mine.parameters(), lr=1e-3, betas=(0.9, 0.99))
average = {name: weight.detach().clone() for name, weight in mine.named_parameters()}
feed, g = batches(data, 4, seed=0, start_step=102), seeded(1)
my_losses = [one_step(mine, adam, average, next(feed), s, g) for s in range(102, 112)]

ema = EMA(theirs)
steps = train(theirs, schedule, batches(data, 4, seed=0, start_step=102), make_optimizer(theirs), ema,
              generator=seeded(1), start_step=102, steps=10)  # fmt: skip
their_losses = [step.loss for step in steps]
print("losses by hand   ", [round(v, 4) for v in my_losses[-4:]])
print("losses by library", [round(v, 4) for v in their_losses[-4:]])
assert_close(torch.tensor(my_losses), torch.tensor(their_losses), rtol=1e-3, atol=1e-4)
for name, weight in theirs.named_parameters():
    assert_close(mine.state_dict()[name], weight, rtol=0, atol=2e-3)  # Adam's first steps have size 1e-3 each
    assert_close(average[name], ema.shadow[name], rtol=0, atol=2e-3)
typical = torch.cat([(mine.state_dict()[k] - w).detach().abs().flatten() for k, w in theirs.named_parameters()])
print(f"weights differ by {typical.median():.1e} in the median, after 10 steps of at most 0.001 each")
assert typical.median() < 1e-5

# %% [markdown]
# The tiny difference is rounding. Adam divides each gradient by its own size, so where a gradient is nearly zero,
# rounding alone decides the sign of a step; that is why the weights are compared with a tolerance of two steps.
#
# ## 2 · What is in the average?
#
# After N steps the average is a weighted sum of the weights at the steps where it was renewed. Renewal k counts
# $(1-d_k)$ times all later d's; the copy that was made at step 99 counts the product of all d's.

# %%
rule = EMA(torch.nn.Linear(1, 1))


def shares(n):
    """Steps whose weights are in the average after n steps, and their shares (which add up to 1)."""
    renewed = [s for s in range(100, n) if (s + 1) % 10 == 0]
    steps, share = [min(n, 100) - 1], torch.ones(1, dtype=torch.float64)
    for s in renewed:
        d = rule.decay_at(s)
        share = torch.cat([share * d, torch.tensor([1 - d], dtype=torch.float64)])
        steps.append(s)
    return torch.tensor(steps), share


# %% jupyter={"source_hidden": true}
figure, ax = plt.subplots(figsize=(7.5, 3), layout="constrained")
for n, colour in ((200, GREY), (400, ORANGE), (938, GREEN), (9375, BLUE)):
    steps, share = shares(n)
    assert abs(share.sum() - 1) < 1e-9
    age = (share * (n - 1 - steps)).sum().item()
    print(f"after {n:5} steps: mean age {age:6.0f} steps, share of the copy of step 99: {share[0]:.1%}")
    ax.plot((steps / n).numpy(), share.cumsum(0).numpy(), color=colour, lw=2, label=f"N = {n}")
ax.set(xlabel="step / N", ylabel="share of the average up to here", xlim=(0, 1), ylim=(0, 1))
ax.legend(frameon=False)
show_described(figure, "Cumulative share of steps in the average: short runs rise early, the long run only at its end.")
assert shares(400)[1][0] > 0.1 and shares(9375)[1][0] < 0.01

# %% [markdown]
# *Figure: how much of the average comes from steps up to the one on the horizontal axis, as a share of the run. In a
# run of 9,375 steps (blue) about two thirds of the average come from the last quarter. In a run of 400 steps (orange)
# a good part of it is older than half of the run.*
#
# So an average smooths away the jitter of single steps; that is what it is for. But in a short run it drags early, poor
# weights along. You will see that in section 4.
#
# A check that `shares` tells the truth: a model with one weight, which has the value s after step s.


# %%
class OneWeight(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))


toy = OneWeight()
ema = EMA(toy)
for s in range(400):
    toy.weight.data.fill_(s)
    ema.update(toy, s)
steps, share = shares(400)
assert_close(ema.shadow["weight"][0], (share * steps).sum())
print(f"the average of the step numbers, after 400 steps: {ema.shadow['weight'].item():.2f}")

# %% [markdown]
# **Question 06.2.** In a long run the average is renewed every 10 steps with d = 0.995. After how many *steps* has the
# share of an old copy fallen below 1 %?

# %%
my_steps = ...  # a whole number
check("06.2", my_steps)

# %% [markdown]
# ## 3 · Train a hybrid model
#
# Now for real: the model `1hqconv`, with four quantum circuits, from random weights. To fit into a few minutes on one
# core we take batches of 32 instead of 128 and a few hundred steps, on the bundled images. The loop is yours: `train`
# yields after each step, and whatever you write in the body happens then, drawing included.

# %% tags=["recorded"]
model = build_unet("1hqconv", seed=0)
optimizer, ema, noise = make_optimizer(model), EMA(model), seeded(1)
start_noise = torch.randn(8, 1, 28, 28, generator=seeded(2))
live = TrainingFigure()
DESCRIPTION = "Left: loss of each step and running mean, falling. Right: eight images drawn with the averaged weights."


def draw(net, steps=10):
    net.eval()
    return diffusion.sample(diffusion.ddim_sample(net, schedule, start_noise.shape, steps=steps, x_T=start_noise))


def picture(*state):
    """What a notebook shows of the run so far: its losses, and images with their step."""
    return {"text/html": described_picture(live.update(*state), DESCRIPTION), "text/plain": DESCRIPTION}


losses, snapshots = [], {}
if SIZE == "binder":
    losses, snapshots = go_on_from("06_training", model=model, ema=ema, optimizer=optimizer, noise=noise)
first = len(losses)  # the step that comes next: 0, unless a record came before
began = time.process_time()
screen = display(picture([1.0]), display_id=True, raw=True)
feed = batches(data, BATCH, seed=0, start_step=first)
for step in train(model, schedule, feed, optimizer, ema, generator=noise, start_step=first, steps=STEPS - first):
    losses.append(step.loss)
    if step.step % LIVE_EVERY == 0:
        with ema.applied_to(model):
            snapshots[step.step] = draw(model)
        screen.update(picture(losses, snapshots[step.step], step.step), raw=True)
seconds = time.process_time() - began

# %% [markdown]
# *Figure: left, the loss of every step (dots) and the mean of the last ones (line), on a logarithmic scale; right, what
# the averaged weights drew at the end. While the cell runs, it is drawn anew every few steps.*

# %%
per_step = seconds / (STEPS - first)
print(f"{count_parameters(model):,} parameters, {STEPS} steps of {BATCH} images")
print(
    f"run here: {STEPS - first} steps in {seconds:.0f} s of processor time, {per_step:.2f} s a step, samples included"
)
hours = per_step / BATCH * 1_200_000 / 3600
print(f"at this speed per image, the 1.2 million images of the paper's 20 epochs would take {hours:.0f} hours")
tenth = len(losses) // 10
first, last = sum(losses[:tenth]) / tenth, sum(losses[-tenth:]) / tenth
print(f"mean loss: first tenth {first:.3f}, last tenth {last:.3f}")
assert last < first

# %% [markdown]
# (Processor time adds up the time of all cores. Batches of 128 cost less for each image than batches of 32, so the
# recipe's own run takes less than this estimate.)
#
# **Reading the curve.** Single steps scatter, since every step draws its own images, t and $\varepsilon$, and the
# weight $1-\bar\alpha_t$ makes small t count for little. The mean of the last steps lags behind them while they fall.
# The loss falls fast at first, then ever more slowly, and it cannot reach 0: $x_t$ does not determine $\varepsilon$
# (notebook 01). How good the images are cannot be read from it; one has to look at them.

# %%
chosen = [s for s in snapshots if s in (2 * LIVE_EVERY, STEPS // 4, STEPS // 2, STEPS)]
rows_of_images(
    {f"step {s}": snapshots[s] for s in chosen},
    "Rows of eight images from the same noise after more and more training steps, from noise to grainy shapes.", 8,
)  # fmt: skip

# %% [markdown]
# *Figure: the same eight start noises, drawn with the averaged weights after more and more steps. Step 40 is noise;
# then bright shapes on a darker ground appear, still grainy at the end.*

# %% [markdown]
# **Question 06.3.** `train` yields after each step, so any rule can end a run. Write one: stop when the mean of the
# last five losses is below 0.6.


# %%
def my_stop(seen):
    """seen: list of the losses so far, possibly empty → True to stop, False to go on."""
    return ...  # your line here


check("06.3", my_stop)

# %% [markdown]
# ## 4 · The average, or the weights themselves?
#
# Two sets of weights, two models. We compare their loss on test images that neither has seen, with the same t and
# $\varepsilon$ for both, and their images.

# %% [markdown]
# **Question 06.4** (predict, then run). After 400 steps, which will have the lower loss on test images, the "weights"
# of the last step or their "average"? Or are both the "same"? Section 2 has what you need.

# %%
my_favourite = ...  # one of the three words
check("06.4", my_favourite)

# %%
test = to_model_range(load_images("fashion-mnist", "test", bundled=True).images[:N_TEST])
t_test = torch.randint(0, 1000, (N_TEST,), generator=seeded(3))
eps_test = torch.randn(test.shape, generator=seeded(4))


@torch.no_grad()
def test_loss(net):
    net.eval()
    parts = zip(test.split(64), t_test.split(64), eps_test.split(64), strict=True)
    return sum(p2_loss(net, schedule, *part).item() * len(part[0]) for part in parts) / N_TEST


rows, compared = {}, {}
rows["weights"], compared["weights"] = draw(model, 20), test_loss(model)
with ema.applied_to(model):
    rows["average"], compared["average"] = draw(model, 20), test_loss(model)
for name, value in compared.items():
    print(f"{name:8} loss on {N_TEST} test images {value:.4f}")
rows_of_images(rows, "Two rows of eight images from the same noise: raw weights above, averaged weights below.", 8)

# %% [markdown]
# *Figure: the same noise, drawn with the weights of the last step (above) and with their average (below).*
#
# In this short run the weights themselves are better, by their loss and to the eye: the average is grainier. Its mean
# age is 190 steps by section 2, nearly half of this run, and back then the weights were worse. In a run of the paper's
# length the mean age is a fifth of the run. The recipe always draws from the average; after a short run, look at both.
#
# ## 5 · Stop, and go on
#
# A run of hours gets interrupted. To go on *as if nothing had happened*, more has to be kept than the weights: the
# average, Adam's two moments for each weight, the step number (the rule of the average and the order of the images
# depend on it), and the state of the random generator that draws t and $\varepsilon$. `save_checkpoint` writes all of
# it into one file, and `restore` puts it back. Six steps in one go, and three plus three with a stop between:


# %%
def fresh(seed=5):
    net = build_unet("1hqconv", seed=seed)
    return {"model": net, "ema": EMA(net), "optimizer": make_optimizer(net)}, seeded(6)


def go(run, generator, start, steps):
    feed = batches(data, 4, seed=0, start_step=start)  # the batch of a step depends on seed and step only
    made = train(run["model"], schedule, feed, run["optimizer"], run["ema"], generator=generator,
                 start_step=start, steps=steps)  # fmt: skip
    return [step.loss for step in made]


whole, generator = fresh()
uninterrupted = go(whole, generator, 0, 6)

with tempfile.TemporaryDirectory() as folder:
    run, generator = fresh()
    before = go(run, generator, 0, 3)
    save_checkpoint(folder, **run, step=3, run_config={"preset": "1hqconv"}, generators={"noise": generator})
    for path in sorted(Path(folder).iterdir()):
        print(f"{path.name:28} {path.stat().st_size / 1e6:6.2f} MB")
    run, generator = fresh(seed=99)  # another start, to show that nothing of it is left
    saved = load_checkpoint(folder)
    restore(saved, **run, generators={"noise": generator})
    after = go(run, generator, saved.step, 3)
assert before + after == uninterrupted  # not close: equal
for name, weight in whole["model"].state_dict().items():
    assert torch.equal(weight, run["model"].state_dict()[name])
print("losses", [round(v, 4) for v in before], "| stop |", [round(v, 4) for v in after], "equal to the run in one go")

# %% [markdown]
# Equal to the last bit. From a terminal, `python -m qdm_lib train --preset 1hqconv --out runs/mine` saves every 250
# steps and when you press Ctrl-C; the same with `--resume` goes on.
#
# What if one forgets a part? Here the step number and Adam are kept, but the generator is not:

# %%
restore(saved, **run)
forgotten = go(run, seeded(7), 3, 3)
print("with another generator", [round(v, 4) for v in forgotten])
assert forgotten != after

# %% [markdown]
# The losses differ, and yet nothing looks wrong. That is the danger: such a run is fine, but it is no longer the run
# that was started, and nobody can repeat it.
#
# ## 6 · Drawing: DDPM, DDIM, and how many steps
#
# The model is trained for all 1000 steps, but how to walk back is decided when drawing. **DDPM** visits every step
# and adds fresh noise at each. **DDIM** ([arXiv:2010.02502](https://arxiv.org/abs/2010.02502)) skips steps and adds
# none, so the image is a function of the start noise. **DPM-Solver++**
# ([arXiv:2211.01095](https://arxiv.org/abs/2211.01095)) follows the same path as DDIM with larger strides, using two
# guesses instead of one. For this the checkpoint that comes with the course is better than our few minutes: 9,375
# steps of 128 images, the paper's twenty epochs of the full set.
#
# One sampler covers DDIM, DDPM and what lies between: `ddim_sample` with $\eta$, the share of fresh noise. $\eta = 0$
# is DDIM, $\eta = 1$ with all 1000 steps is DDPM, and $\eta = 1$ with fewer steps is DDPM in larger strides.

# %% [markdown]
# **Question 06.5.** For a score, 7,000 images are drawn in batches of 250. How many times is the network called, by
# DDPM, and by DDIM with 50 steps? Answer with a pair.

# %%
my_calls = ..., ...
check("06.5", my_calls)

# %%
trained = load_model(SHIPPED / "fashion-mnist" / "1hqconv")
pure_noise = torch.randn(N_DRAWN, 1, 28, 28, generator=seeded(8))
samplers = {f"DDIM, {n} steps": (diffusion.ddim_sample, {"steps": n}) for n in (5, 10, 20, 50, LIMIT)}
samplers |= {f"DPM-Solver++, {n} steps": (diffusion.dpm_solver_sample, {"steps": n}) for n in (5, 10, 20, 50)}
samplers["DDIM, η = 1, 20 steps"] = (diffusion.ddim_sample, {"steps": 20, "eta": 1.0})
samplers[f"DDPM, {DDPM_STEPS} steps"] = (diffusion.ddim_sample, {"steps": DDPM_STEPS, "eta": 1.0})
drawn, cost = {}, {}
for name, (sampler, options) in samplers.items():
    start = time.process_time()
    drawn[name] = diffusion.sample(
        sampler(trained, schedule, pure_noise.shape, x_T=pure_noise, generator=seeded(9), **options)
    )
    cost[name] = time.process_time() - start

limit = drawn[f"DDIM, {LIMIT} steps"]
distance = {name: (batch - limit).square().flatten(1).mean(1).sqrt() for name, batch in drawn.items()}
distance = {name: far.quantile(0.5).item() for name, far in distance.items()}  # one image of six does not rule it
print(f"{'':24} seconds   distance to DDIM with {LIMIT} steps, median over the images")
for name in samplers:
    print(f"{name:24} {cost[name]:7.1f}   {distance[name]:.3f}")
for sampler in ("DDIM", "DPM-Solver++"):
    path = [distance[f"{sampler}, {n} steps"] for n in (5, 10, 20, 50)]
    assert path == sorted(path, reverse=True)

# %%
rows_of_images(
    drawn, "Rows of images by eleven samplers from the same start noise; DDIM rows agree more and more.", N_DRAWN
)

# %% [markdown]
# *Figure: one start noise a column, one sampler a row. Down the DDIM rows most columns are the same picture, sharper
# and nearer to its limit; the fourth changes its garment after 5 steps, and the fifth from 50 steps to 400, as where a
# path forks a small error decides. DPM-Solver++ has that sandal with 50 steps. The rows with fresh noise, $\eta = 1$
# and DDPM, show other pictures.*
#
# DDIM solves a differential equation, and more steps make the solution more exact: its distance to 400 steps, which are
# not the limit either but near it, falls from 10 steps on about in proportion to the stride. DPM-Solver++ is made to
# come nearer with as many steps. With 5 steps of this model it does not, with 10 and 20 it does by a little, with 50 it
# has 60 % of DDIM's distance: what it uses, the slope between two guesses, tells something only where the strides are
# small. (The table has medians: one forked column would rule a mean over six images.) DDPM does not converge to that
# image and is not meant to: its fresh noise leads elsewhere.
#
# Whether its images are *better* cannot be seen from six of them; that takes scores, and many images. The study
# (`study/REPORT.md`) drew 1,000 by each from `unet`, after 20 epochs on clothes:

# %%
for protocol in ("paper-n1000", "paper-n1000-ddim-50"):
    file = SHIPPED.parent / "study" / "results" / protocol / "fashion-mnist" / "unet" / "seed-0.json"
    if file.is_file():
        result = json.loads(file.read_text())
        config, fid = result["config"], result["scores"]["fid"]
        print(f"{config['sampler'].upper()} in {config['sampler_steps']:,} steps: FID {fid['value']:.1f} "
              f"({fid['low']:.1f} to {fid['high']:.1f}); 1,000 real images: {fid['floor']:.1f}")  # fmt: skip

# %% [markdown]
# FID is a distance between generated and real images (notebook 08). So DDIM with 50 steps costs a twentieth of DDPM,
# and its FID is twice as large. For this model the sampler alone gains more in FID than any hybrid model or hand-over
# on clothes does after 20 epochs: scores by two samplers do not compare.
#
# ## 7 · Longer training
#
# What would hours have given? The models of `unet` and `1hqconv` that came with your copy, clothes first, then digits,
# each trained on all 60,000 images of its data set:

# %%
DATASETS = {"fashion-mnist": "Fashion-MNIST", "mnist": "MNIST"}
cards = {path.parent: json.loads(path.read_text())["card"] for path in SHIPPED.rglob("model.json")}
for dataset, title in DATASETS.items():
    mine = [path for path in sorted(cards) if path.parent.name == dataset and cards[path]["epochs"] != 2]
    of_two = [p for p in mine if cards[p]["preset"] in ("unet", "1hqconv") and "transfer" not in p.name]
    shown = sorted(of_two, key=lambda path: cards[path]["steps"])[:N_CHECKPOINTS]
    gallery = {}
    for path in shown:
        name = f"{path.name}: epoch {cards[path]['epochs']:.3g}"
        walk = diffusion.ddim_sample(load_model(path), schedule, (N_GALLERY, 1, 28, 28), steps=50, generator=seeded(10))
        gallery[name] = diffusion.sample(walk)
        print(f"{title + ', ' + name:46} {cards[path]['steps']:,} steps of 128 images")
    rows_of_images(gallery, f"{title}: a row of images for each of these models, all from the same noise.", N_GALLERY)

# %% [markdown]
# *Figures: a row of images for each shipped model of `unet` and `1hqconv` with its epochs, from the same noise. After
# one epoch there is little but texture (of digits, strokes); see for yourself how many garments and digits can be named
# after ten and after twenty. The classical and the hybrid model of one seed begin with the same weights wherever both
# have them, and see the same batches: from one noise, after as many epochs, they draw much the same picture, in a few
# columns another one. (Models that were handed over are in notebook 07.)*
#
# The way from noise to picture, of one training of `unet` after 1 epoch and after 20, from the same noise in the same
# 20 steps of DDIM, and of digits after 20. (The hybrid models' films stand beside them in notebook 05's widget.) Press
# "play", or move the frame by hand; no kernel is needed.

# %%
moving_film(SHIPPED / "fashion-mnist" / "unet-1-epoch")

# %%
moving_film(SHIPPED / "fashion-mnist" / "unet")

# %%
moving_film(SHIPPED / "mnist" / "unet")

# %% [markdown]
# *Figures that move: eight pictures from pure noise, clothes after 1 epoch of training and after 20, and digits after
# 20. Where no script runs, a row is a frame, from noise to the finished pictures.* After one epoch the model finds
# bright and dark places and hardly an outline; after twenty, coats, shirts and shoes come out of the same noise.
#
# How good these images are, and how good the paper's were, after 1, 10 and 20 epochs (Paper, Fig. 10 and Paper, Fig. 11
# for Fashion-MNIST, Paper, Fig. 12 for MNIST). FID is a distance between generated and real images, smaller is better;
# notebook 08 builds it. The paper's FID is by the features of Inception and of images by DDPM in 1,000 steps; ours by
# those of a small classifier and of 7,000 images by DDIM in 50 steps. **So the two rows of the figure are on different
# scales:** compare the order of the curves in a panel and how fast they fall, never a number above with one below.

# %% jupyter={"source_hidden": true}
paper = json.loads((Path(qdm_lib.__file__).parent / "assets" / "paper_tables.json").read_text())
results = {}  # (data set, model): what the study keeps of the run with seed 0
for dataset in DATASETS:
    for model_name in (*paper["fid_after_epochs"][dataset], "control-zero"):  # fullhqconv, zeros for its circuits
        file = SHIPPED.parent / "study" / "results" / "paper-ddim-50" / dataset / model_name / "seed-0.json"
        if file.is_file():
            results[dataset, model_name] = json.loads(file.read_text())
ours = {dataset: {} for dataset in DATASETS}
for (dataset, model_name), result in results.items():
    fids = {epoch: entry["scores"]["fid"]["value"] for epoch, entry in result["by_epoch"].items()}
    ours[dataset][model_name] = fids

figure, axes = plt.subplots(2, 2, figsize=(8.6, 5), layout="constrained", sharex=True, sharey="row")
colours = (BLUE, ORANGE, GREEN, RED, OKABE_ITO["purple"], OKABE_ITO["black"])
names = (*paper["fid_after_epochs"]["fashion-mnist"], "control-zero")
looks = dict(zip(names, zip(colours, "o^sDvx", strict=True), strict=True))
for column, (dataset, title) in enumerate(DATASETS.items()):
    for ax, who, curves in zip(axes[:, column], ("the paper", "ours"), (paper["fid_after_epochs"], ours), strict=True):
        print(f"{title}, {who}")
        for model_name, fids in curves[dataset].items():
            colour, marker = looks[model_name]
            heights = [fids.get(e, math.nan) for e in ("1", "10", "20")]  # no line across a length that is missing
            ax.semilogy((1, 10, 20), heights, marker + "-", color=colour, lw=1.2, label=model_name)
            print(f"   {model_name:13}", "  ".join(f"epoch {epoch:>2}: {value:6.2f}" for epoch, value in fids.items()))
        ax.set(title=f"{title}, {who}", xticks=[1, 10, 20], ylabel="FID (log scale)" if column == 0 else None)
        ax.grid(axis="y", lw=0.3)
        ticks = (40, 60, 100, 200, 300) if who == "the paper" else (1, 2, 5, 10, 20, 50, 100)
        ax.set_yticks(ticks, [str(tick) for tick in ticks])
        ax.minorticks_off()
for ax in axes[1]:
    ax.set(xlabel="epochs")
handles = {label: h for ax in axes.flat for h, label in zip(*ax.get_legend_handles_labels(), strict=True)}
figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=6, frameon=False, fontsize=9)
show_described(
    figure,
    "Four panels of FID after 1, 10 and 20 epochs: the paper's above, ours below, Fashion-MNIST left, MNIST right. "
    "Where there is more than one length, the curves of all models fall together.",
)

# %% [markdown]
# *Figure: FID against training length, the paper's ([arXiv:2402.16147](https://arxiv.org/abs/2402.16147)) above, ours
# below; ours with a control; models and lengths that nobody trained or drew here so far are missing.* In the paper's
# figures for Fashion-MNIST the five models fall together: by more than 230 from epoch 1 to 10, by 12 to 21 from 10 to
# 20, and at the end they lie within 2.6. In between, after 10 epochs, the four hybrids are 6 to 13 % ahead of `unet`;
# after 20 one of them still is. On MNIST two of the three hybrids are behind `unet` after 10 epochs. Our `1hqconv` is
# ahead on clothes after 1, 10 and 20 epochs, by 2, 7 and 12 %; `7hqconv` after 1 and 20, by 3 and 9 %, and behind by 8
# % in between; `fullhqconv` is behind by 1 % after 1 epoch and ahead by 7 % after 20. On digits all three are ahead
# after 1 epoch, by 2.8, 3.9 and 3.6 % (in the paper by 1.7, 2.7 and 3.6 %). It need not be their circuits: the control,
# `fullhqconv` trained with zeros in their place (`control-zero`), is ahead after 1 epoch by 2 and 5 %, and on digits
# ahead of every hybrid; after 20 by 1 and 3 %. On digits after 10 it is behind `unet` (4.6 against 4.0), as is
# `1hqconv` (4.5), and `fullhqconv` is ahead (3.8); after 20 `1hqconv` is ahead, by 12 %, `fullhqconv`, too, by 20 % (in
# the paper it is behind by 1 %), and `7hqconv` is behind by 35 %. On clothes after 2 epochs of a shorter protocol, over
# three seeds, `1hqconv` is behind, by 3 to 13 of FID (section 9 of notebook 08). As far as the paper says, each number
# is of one run, and so is each of ours, with two runs of one seed joined where the first epoch was drawn from a run of
# its own (not all by one version of PyTorch and on one processor: steps of one seed differ by rounding, which after 2
# epochs, where it was tried, left FID the same in five digits).
#
# "Hybrid models converge faster" is a sentence about the loss, too. The mean training loss of each epoch, in the runs
# that kept it:

# %% jupyter={"source_hidden": true}
figure, ax = plt.subplots(figsize=(6.4, 2.6), layout="constrained")
for (dataset, model_name), result in results.items():
    if losses_by_epoch := result.get("losses"):
        colour, marker = looks[model_name]
        marker += "-" if dataset == "mnist" else "--"
        ax.semilogy([int(e) for e in losses_by_epoch], losses_by_epoch.values(), marker, color=colour, lw=1.2, ms=4,
                    markevery=3, label=f"{DATASETS[dataset]}, {model_name}")  # fmt: skip
        told = {e: losses_by_epoch[e] for e in ("1", "2", "5", "10", "20") if e in losses_by_epoch}
        print(f"{DATASETS[dataset]:14} {model_name:12}", "  ".join(f"epoch {e:>2}: {v:.5f}" for e, v in told.items()))
ax.set(xlabel="epoch", ylabel="mean loss (log scale)", xticks=[1, 5, 10, 15, 20])
ax.set_yticks([0.01, 0.02, 0.03, 0.06], ["0.01", "0.02", "0.03", "0.06"])
ax.minorticks_off()
ax.legend(frameon=False, fontsize=9)
show_described(figure, "Mean training loss of each epoch: steep in the first epochs, then nearly level.")

# %% [markdown]
# *Figure: the mean training loss of each epoch, on clothes dashed. On digits the curves of `unet`, the three hybrids
# and zeros lie within 1.2 % of each other in every epoch; those of the hybrids and of zeros are lower than that of
# `unet` in epochs 2 to 4, and none is from epoch 11 on. On clothes two runs kept their losses, `7hqconv` and zeros;
# those of zeros are the lower ones in every epoch, by half a per cent at most.*

# %% [markdown]
# ## 8 · Your own run
#
# Choose a model and a number of steps, and press **Start**. The run goes on in the background; the notebook stays
# usable. **Stop** ends it after the step under way, Start goes on from there, **From scratch** throws it away. It
# trains on the bundled images, like section 3.

# %%
widget = training_job(data, preset="1hqconv", steps=100)
display(widget)

# %% [markdown]
# The same from Python: `widget.job` is a `TrainingJob` with `losses`, `step` and `samples`, and the picture it shows is
# the one of section 3. Here a job of its own is started, and stopped while it runs.

# %%
from qdm_course.widgets import TrainingJob  # noqa: E402

job = TrainingJob("unet", data, batch_size=4, n_samples=2, sampler_steps=2)
job.start(100_000)
while job.step < 3:
    time.sleep(0.05)
job.stop(wait=60)
print(
    f"asked for {job.last_step:,} steps, stopped after {job.step if job.step < 100 else 'many'}; running: {job.running}"
)
assert not job.running and job.step < 100_000

# %% [markdown]
# ## Summary
#
# - The loop of the recipe: random t, random noise, weighted squared error, Adam, and an average of the weights.
# - Samples come from the average. In a long run it forgets its start; in a short one it lags behind.
# - A checkpoint holds everything that decides what comes next: weights, average, optimiser, step, random streams.
# - A sampler is chosen when drawing, not when training: DDIM with 50 steps costs a twentieth of DDPM.
#
# **A little history.** Averages of the iterates of stochastic gradient descent were studied by Polyak, Ruppert and
# Juditsky around 1990. Kingma and Ba proposed Adam in 2014 ([1412.6980](https://arxiv.org/abs/1412.6980)). Song and
# Ermon reported in 2020 ([2006.09011](https://arxiv.org/abs/2006.09011)) that without an average the pictures of a
# score-based model change their colours from checkpoint to checkpoint; since then nearly all diffusion models are drawn
# with one. Samplers that solve the way back as a differential equation followed DDIM, among them DPM-Solver++ (Lu et
# al. 2022, [2211.01095](https://arxiv.org/abs/2211.01095)).
#
# **Further reading.** Kingma and Ba, algorithm 1; Karras et al. 2023 ([2312.02696](https://arxiv.org/abs/2312.02696)),
# who choose the length of the average after training. All sources are in the [bibliography](../docs/bibliography.md),
# all words in the [glossary](../docs/glossary.md).
#
# **Next:** notebook 07 hands the weights of a classical model over to a hybrid one.
