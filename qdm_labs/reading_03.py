"""Questions of notebook 03: wires, joins, entropy, and which weights of the released circuit act."""

import torch

from qdm_labs import forms
from qdm_labs.questions import Table
from qdm_labs.task import Mistake
from qdm_lib.audit import audit_circuit, interaction_graph
from qdm_lib.circuits import Circuit, Gate, fqconv, hqconv, hqconv_released
from qdm_lib.simulator import statevector

QUESTIONS = Table("03")


def _channels_last(wire: int) -> tuple[int, int]:
    """(channel, pixel) on a wire where a patch (row, column, channel) is read in that order."""
    ours = torch.arange(12).reshape(3, 2, 2)  # entry: 4·channel + pixel
    return divmod(int(ours.permute(1, 2, 0).reshape(12)[wire]), 4)


QUESTIONS.numbers(
    ("the channel", "the pixel p"),
    lambda: _channels_last(5),
    usual=[
        (divmod(5, 4), "That is wire 5 of this library, channels first. With channels last the channel changes from "
         "one wire to the next."),
        ((9,), "That is our number 4·c + p of it; write it as (c, p)."),
        ((5,), "Write what is on wire 5 as (channel, pixel)."),
        ((1, 2), "The right numbers, in the other order: (channel, pixel)."),
    ],
    hint="Read in the order (row, column, channel): wires 0, 1, 2 hold the three channels of pixel 0.",
    right="The four wires of one channel in the text would be a mix of channels then. The released code feeds that.",
    way="Wire w carries pixel w // 3 of channel w % 3: pixel 1 of channel 2.",
)  # fmt: skip


@QUESTIONS.other(
    right="Four parts need three joins. With enough layers, every output can depend on every input now.",
    way="Four parts need at least three joins, each between two parts, for example `[(0, 1), (1, 2), (2, 3)]`.",
)
def _(pairs):
    found = forms.several(pairs)
    if len(found) % 2 or any(w not in range(12) for w in found):
        raise Mistake("Wanted are pairs (control, target) of wires 0 … 11, such as [(0, 5), (2, 7)].")
    joins = [(int(a), int(b)) for a, b in zip(found[::2], found[1::2], strict=True)]
    if any(a == b for a, b in joins):
        raise Mistake("Control and target have to be two different wires.")
    if inside := [join for join in joins if join[0] % 4 == join[1] % 4]:
        raise Mistake(f"{inside[0]} joins two channels at one pixel: both wires are in one triangle already.")
    extra = tuple(Gate("CZ", join) for join in joins)
    left = len(interaction_graph(Circuit(fqconv(1).gates + extra, 12, 12, 24)).components)
    if left > 1:
        raise Mistake(f"With these joins there are still {left} parts that do not meet.")
    if len(joins) > left + 2:
        raise Mistake(f"All is joined, but fewer than {len(joins)} joins do it.")


def _bits_of_channel_1(layers: int) -> float:
    """log2 of the rank between channel 1 and the others, where block B has only its first join."""
    gates = tuple(g for g in hqconv(layers).gates if g.wires != (0, 4))
    circuit = Circuit(gates, 12, 12, 28 * layers, allow_dead_weights=True)
    g = torch.Generator().manual_seed(0)
    x, theta = torch.randn(1, 12, generator=g).double(), torch.rand(28 * layers, generator=g).double()
    psi = statevector(circuit, x, theta)[0].reshape(16, 16, 16).movedim(1, 0).reshape(16, 256)
    return float((torch.linalg.svdvals(psi) > 1e-9).sum().log2())


QUESTIONS.number(
    lambda: _bits_of_channel_1(2),
    usual=[
        (4, "4 is the largest rank; the entropy in bits is at most its log₂. (Or is it both joins, counted in bits?)"),
        (1, "That is one layer; two layers cross the cut twice."),
        (1.386, "That is in natural logarithms; wanted are bits."),
        (3, "The join 0 → 4 is gone: how often do two layers cross the cut now?"),
        (8, "Each layer crosses the cut once now, not 1.5 times; and 8 would be a rank, not bits."),
    ],
    hint="Each join across the cut can double the rank, which is one bit. How many are there in two layers?",
    right="The cut is crossed once a layer, so the rank is at most 2² = 4.",
    way="With 4 → 8 alone the cut is crossed once a layer. Two layers: rank at most 2² = 4, so 2 bits.",
)  # fmt: skip

QUESTIONS.number(
    lambda: len(audit_circuit(hqconv_released(3)).alive_weights),
    usual=[
        (84, "All of them are created and counted; but block A never runs."),
        (4, "That is one layer."),
        (28, "That is a whole layer, block A included, which never runs."),
        (6, "Each join has two weights, one of a CRZ and one of a CRX."),
        (72, "That is the number of weights that do nothing."),
        (8, "The last layer has to be seen, too: do its gates move an output?"),
    ],
    hint="Count the gates in the drawing that have a weight.",
    right="Four a layer. The other 72 are created, stored, given to the optimizer, and read by no gate.",
    way="Block B alone runs: two joins of two gates, three layers.",
)  # fmt: skip


def _outputs_of_input_8() -> set[int]:
    released = audit_circuit(hqconv_released(3))
    return {w for w in range(12) if 8 in released.inputs_of(w)}


QUESTIONS.wholes(
    _outputs_of_input_8,
    usual=[
        ({8}, "Wire 8 belongs. But influence runs both ways through a controlled gate: it also turns its control's "
         "state, and a later gate may make that visible."),
        ({4}, "Wire 8 itself depends on its own input, too."),
        ({0, 4, 8}, "Wire 0 is only ever a control. Its state is turned by the kickback, but no gate after makes that "
         "visible: it returns cos(x_0)."),
        ({0, 8}, "The kickback reaches wire 8's own control, wire 4. And wire 0 is only ever a control."),
        (set(range(12)), "Nine wires meet no gate but their own encoding."),
    ],
    hint="Which wires meet wire 8, and on which of them acts a CRX afterwards?",
    right="Wire 8 itself, and wire 4, its control, on which a CRX acts in the same and in later layers.",
    way="Wire 8 itself; and wire 4, its control, by phase kickback, since a CRX acts on wire 4 afterwards. Wire 0 is "
        "only a control and never rotated again: it returns cos(x_0).",
)  # fmt: skip
