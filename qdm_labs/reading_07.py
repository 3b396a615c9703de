"""Questions of notebook 07: what is copied, what an average remembers, and which control belongs to a claim."""

import math

import torch

from qdm_labs import forms
from qdm_labs.compare import numbers
from qdm_labs.questions import Table
from qdm_labs.task import Mistake
from qdm_lib.transfer import transfer_weights
from qdm_lib.unet import build_unet

QUESTIONS = Table("07")


@QUESTIONS.other(
    right="It leaves out `vertex_block1` and `vertex_block2` only.",
    way='`exclude="vertex_block"`: names that begin so are those of `vertex_block1` and `vertex_block2` only.',
)
def _(exclude):
    if not isinstance(exclude, str) and not (
        isinstance(exclude, list | tuple | set) and all(isinstance(p, str) for p in exclude)
    ):
        raise Mistake("The beginning of a name is wanted, in quotes, or several of them.")
    prefixes = tuple(p.strip(" *") for p in ((exclude,) if isinstance(exclude, str) else exclude))
    net = build_unet("1hqconv", seed=1)
    try:
        copied = transfer_weights(build_unet("unet", seed=0), net, exclude=prefixes).copied
    except ValueError as error:
        raise Mistake(str(error)) from None
    if any(name.startswith("vertex_block") for name in copied):
        raise Mistake("This lets weights of the vertex's ResNet blocks be copied, too; they shall start anew.")
    if any(name.startswith("vertex_attention") and name not in copied for name in net.state_dict()):
        raise Mistake("The vertex's attention, or a part of it, is left out, too; only its ResNet blocks shall be.")
    if any(not name.startswith("vertex") and name not in copied for name in net.state_dict()):
        raise Mistake("This leaves out weights outside the vertex, too.")


def _epochs(share: float = 0.05, renewals: float = 46.875) -> float:
    return math.log(share) / (renewals * math.log(0.995))


QUESTIONS.number(
    lambda: math.ceil(_epochs()),
    usual=[
        (12, "After 12 epochs 5.96 % are left, which is not below 5 %."),
        (_epochs(), "Whole epochs are wanted: round up."),
        (lambda: math.ceil(_epochs(renewals=468.75)), "The average is renewed every 10 steps, not at every step."),
        (598, "That is the number of renewals; an epoch has about 47."),
        (599, "That is the number of renewals; an epoch has about 47."),
        (lambda: math.ceil(_epochs(0.5)), "That is 50 %, not 5 %."),
        (4, "After 4 epochs 39 % are left: each takes the same share of what is left, not of the first."),
        (5, "After 5 epochs 31 % are left: each takes the same share of what is left, not of the first."),
    ],
    hint="An epoch leaves a share 0.995^46.9 of what was there before. Which power of that is below 0.05?",
    right="More than half of the whole training of 20 epochs.",
    way="0.995^(46.875 e) < 0.05 for e > ln 0.05 / (46.875 · ln 0.995) = 12.7, so 13 epochs.",
)  # fmt: skip


@QUESTIONS.other(
    right="With a fresh vertex, as the hybrid has: everything the same but the circuits.",
    way='`("unet", "unet")`, with a fresh vertex: it goes through everything the other goes through, the loss of the '
        "vertex, the new optimiser, the average, except for the circuits.",
)  # fmt: skip
def _(pair):
    got = [{"classical": "unet", "u-net": "unet"}.get(word, word) for word in forms.words(pair)]
    got = [word for word in got if word not in ("to", "fresh", "vertex", "with", "a", "and")]
    if len(got) != 2:
        raise Mistake("Two presets are wanted, (source, target), such as ('unet', '7hqconv').")
    source, target = got
    if got == ["unet", "7hqconv"]:
        raise Mistake("That is the claim itself; its control goes through the same without any circuit.")
    if target != "unet":
        raise Mistake("There are circuits in the target. What they do cannot be told from what a hand-over does, "
                      "unless one runs a hand-over without them.")  # fmt: skip
    if source != "unet":
        raise Mistake("Source and everything else stay as in the claim; only the circuits go.")


@QUESTIONS.function(
    right="Load it into a model and compare its `test_loss` with the four columns above: here the average lags outside "
          "the vertex, too.",
    way="""Go by how a name begins:

```python
def my_mixed(weights, average):
    return {name: (weights if name.startswith("vertex") else average)[name] for name in weights}
```
""",
)  # fmt: skip
def _(f, draw):
    names = ["first.weight", "vertex_block1.conv1.rest.weight", "vertex_attention.out.bias", "encoder.0.vertex", "last"]
    weights, average = ({name: draw.normal(3) for name in names} for _ in range(2))
    out = f(dict(weights), lent := dict(average))
    if not hasattr(out, "keys"):
        raise Mistake(f"A state dict is wanted, name → tensor; this is of type {type(out).__name__}.")
    if set(out) != set(names):
        raise Mistake(f"It holds {len(out)} of the {len(names)} names; all are wanted.")
    if any(lent.get(name) is not average[name] for name in names):
        raise Mistake("It writes into the average that it is given; make a new dict.")
    took = {name: "weights" if torch.equal(numbers(out[name]), weights[name]) else
            "average" if torch.equal(numbers(out[name]), average[name]) else "neither" for name in names}  # fmt: skip
    wanted = {name: "weights" if name.startswith("vertex") else "average" for name in names}
    if len(set(took.values())) == 1:
        raise Mistake(f"Everything comes from {took['last']}, at the vertex and outside of it.")
    if took != wanted and all(took[name] != wanted[name] for name in names if name != "encoder.0.vertex"):
        raise Mistake("The other way round: at the vertex the weights are wanted, outside of it the average.")
    for name in names:
        if took[name] != wanted[name]:
            raise Mistake(f"“{name}” comes from {took[name]}. Which names are the vertex's? Those that begin so.")
