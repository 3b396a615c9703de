# %% [markdown]
# # Lab 07 · Transfer learning
#
# You build what notebook 07 explains: the hand-over of a trained classical model's weights to a hybrid one, and the
# control without which a hand-over says nothing about circuits. One task goes beyond it, training with a frozen body.
#
# **{{points}} points, about {{minutes}} minutes.** Variant `{{variant}}`: names, shares, numbers and directions are
# drawn for it, so read them here and not elsewhere. Each task is one function; below it `check` tries it on fresh
# random draws and says what is right and what is not yet. The marker does the same with other draws and counts
# nothing else. `qdm_lib.transfer.transfer_weights` earns nothing. You may add cells and functions; keep the names of
# the tasks.
#
# {{table}}

# %%
from qdm_labs import open_lab
from qdm_lib.unet import build_unet

lab = open_lab("{{number}}", "{{variant}}")
check = lab.check

# %% [markdown]
# ## 1 · A hand-over
#
# Two models are given as dictionaries {name: tensor}, like their `state_dict()`. The target takes the source's tensor
# wherever both have one of the same name **and shape**; elsewhere it keeps its own. Some names are left alone even
# so. `exclude` holds words, and in this variant a name is left alone if it **{{rule}}**. Return a new dictionary
# with the target's names.


# %% task="hand_over"
def hand_over(source, target, exclude):
    """Two dictionaries {name: tensor} and a tuple of words → the target's dictionary after the hand-over."""
    raise NotImplementedError


# %% check="hand_over"
check("hand_over", hand_over)

# %% [markdown]
# ## 2 · How much is handed over
#
# Count single numbers, not tensors: of all numbers of {{share}}, which share does this hand-over copy?


# %% task="handed_share"
def handed_share(source, target, exclude):
    """As in task 1 → a number between 0 and 1."""
    raise NotImplementedError


# %% check="handed_share"
check("handed_share", handed_share)

# %% [markdown]
# ## 3 · A frozen body
#
# After the hand-over one may train only the new part. A name is frozen by the rule of task 1, with the words in
# `frozen`. One step of the free part is
#
# - velocity ← {{momentum}}·velocity + gradient + {{decay}}·weight (momentum and weight decay)
# - weight ← weight − rate·velocity
#
# The frozen part keeps its weights *and* its velocity exactly as they are.


# %% task="frozen_step"
def frozen_step(weights, gradients, velocity, frozen, rate):
    """Three dictionaries {name: tensor}, a tuple of words, a number → (new weights, new velocity)."""
    raise NotImplementedError


# %% check="frozen_step"
check("frozen_step", frozen_step)

# %% [markdown]
# ## 4 · What is left of the start
#
# Samples come from a moving average. If it begins, at the hand-over, with the weights of that moment, and is renewed
# after every `every` steps by average ← d·average + (1 − d)·weights, which share of the average is still that
# beginning after `steps` steps?


# %% task="start_left"
def start_left(steps, every, d):
    """Two whole numbers and the decay → a number between 0 and 1."""
    raise NotImplementedError


# %% check="start_left"
check("start_left", start_left)

# %% [markdown]
# ## 5 · The control
#
# An arm of an experiment is written as a dictionary: `"source"`, the model whose trained weights are handed over;
# `"target"`, the model that takes them; `"vertex"` and `"optimizer"`, how these begin after the hand-over; `"before"`
# and `"after"`, the epochs of training; `"seed"`. A hybrid with a hand-over scores well. Is it the circuits, or would
# the classical model have gained as much? Return the arm that answers this.


# %% task="control_arm"
def control_arm(arm):
    """An arm with a hybrid target → its control, a dictionary with the same keys."""
    raise NotImplementedError


# %% check="control_arm"
check("control_arm", control_arm)

# %% [markdown]
# ## 6 · The circuits' own gain
#
# Four scores, for which **{{direction}} is better**: hybrid and classical, each with a hand-over and trained from
# scratch for as long. How much more does the hybrid gain by the hand-over than the classical model does? A positive
# number means more.


# %% task="interaction"
def interaction(hybrid_handed, hybrid_scratch, classical_handed, classical_scratch):
    """Four scores, numbers → one number."""
    raise NotImplementedError


# %% check="interaction"
check("interaction", interaction)

# %% [markdown]
# ## 7 · Your functions at work
#
# No points here: your hand-over between two real models, and the authors' average, which is renewed every 10 steps
# with decay 0.995; an epoch has 469 steps.

# %% tags=["demo"]
source, target = (dict(build_unet(name).state_dict()) for name in ("unet", "1hqconv"))
for exclude in ((), tuple({{words}})):
    after = hand_over(source, target, exclude)
    same = sum(bool(after[k].shape == source[k].shape and (after[k] == source[k]).all()) for k in after if k in source)
    print(f"excluded {exclude}: share {float(handed_share(source, target, exclude)):.4f}, {same} tensors alike")
for epochs in (1, 2, 10):
    print(f"after {epochs} epoch(s) {float(start_left(469 * epochs, 10, 0.995)):.0%} of the average is its beginning")
