"""Questions of notebook 09: shots, memory, accidents, readout and the time a device takes."""

import torch

from qdm_labs.compare import agree
from qdm_labs.questions import Table
from qdm_lib.circuits import hqconv

QUESTIONS = Table("09")


def _places() -> int:
    """Where an accident can happen in one run: on both wires of each controlled rotation of HQConv."""
    return 2 * sum(bool(gate.controls) for gate in hqconv(3).gates)


QUESTIONS.number(
    lambda: 1 / 0.01**2,
    usual=[
        (100, "1/√N has to be 0.01, not 1/N: N is the square of that."),
        (200, "1/√N has to be 0.01, not 1/N; and ⟨Z⟩ = 0 has variance 1, not 2."),
        (7500, "That is enough for ⟨Z⟩ = 0.5; another value of ⟨Z⟩ needs more."),
        (0, "At ⟨Z⟩ = ±1 one shot is enough; the worst value of ⟨Z⟩ counts."),
        (1, "At ⟨Z⟩ = ±1 one shot is enough; the worst value of ⟨Z⟩ counts."),
        (1000, "The scatter falls like 1/√N: with 1,000 shots it is 0.03 at ⟨Z⟩ = 0."),
        (40_000, "That would be two standard deviations; the question asks for one."),
    ],
    hint="For which ⟨Z⟩ is √((1 − ⟨Z⟩²)/N) largest, and when is it 0.01 there?",
    right="One digit more costs a hundred times the shots.",
    way="√((1 − ⟨Z⟩²)/N) is largest at ⟨Z⟩ = 0, where it is 1/√N. So N = 1/0.01².",
)  # fmt: skip


def _wires(base: int, size: int = 16) -> int:
    """The most wires whose base**n entries, of so many bytes each, fit into 1.5 GB."""
    return max(n for n in range(40) if size * base**n <= 1.5e9)


QUESTIONS.numbers(
    ("wires of a density matrix", "wires of a state"),
    lambda: (_wires(4), _wires(2)),
    usual=[
        (lambda: (_wires(4, 1), _wires(2, 1)), "That many entries fit only at one byte each; a complex number in "
         "double precision takes 16."),
        ((26, None), "A density matrix has 2ⁿ rows *and* 2ⁿ columns: 4ⁿ entries."),
        ((None, 13), "A state has 2ⁿ entries, the root of what a density matrix has."),
        ((14, None), "16 · 4¹⁴ bytes are 4.3 GB."),
        ((None, 27), "16 · 2²⁷ bytes are 2.1 GB. (8 bytes would be single precision.)"),
        ((12, None), "12 wires fit; more do, too."),
        ((None, 12), "12 wires fit easily; many more do, too."),
    ],
    hint="16 bytes a complex number, 4ⁿ of them in ρ and 2ⁿ in ψ.",
    right="A density matrix of n wires is as large as a state of 2n wires.",
    way="16 · 4¹³ bytes are 1.07 GB, and 16 · 2²⁶ as well.",
)  # fmt: skip

QUESTIONS.numbers(
    ("accidents a run", "p"),
    lambda: (_places() * 0.001, 1 / _places()),
    near=0.02,
    usual=[
        ((0.084, None), "84 is the number of controlled rotations; each has two wires that can be hit."),
        ((None, 1 / 84), "84 is the number of controlled rotations; each has two wires that can be hit."),
        ((168, None), "That is the number of places; each is hit with probability p."),
        ((16.8, None), "0.1 % is 0.001, not 0.1."),
        ((None, 168), "That is the number of places; from which p on is 168 · p more than 1?"),
        ((None, 1 / 168 * 100), "That is in per cent, 0.6 %; write it as a share, 0.006, or with the sign %."),
        ((1 - 0.999**168, None), "That is the probability of at least one accident; the mean number adds p for each "
         "place."),
    ],
    hint="168 places, each hit with probability p: the mean numbers add up.",
    right="So at p = 0.1 % about five of six runs see no accident at all; at 0.6 % a run sees one on average, and some "
          "third of the runs still none.",
    way="168 · 0.001, and 1/168 ≈ 0.6 %. There are two places after each of 84 controlled rotations.",
)  # fmt: skip


@QUESTIONS.function(
    right="It enlarges the scatter, too: the same accuracy costs about 1/(1 − 2e)² times the shots. This is the "
          "simplest case of error mitigation.",
    way="""A flip turns z into −z, so the device reports (1 − e) z + e (−z) = (1 − 2e) z on average:

```python
def my_undone(measured, e):
    return measured / (1 - 2 * e)
```
""",
)  # fmt: skip
def _(f, draw):
    for _ in range(4):
        e, z = float(0.01 + 0.3 * draw.uniform(1)), float(2 * draw.uniform(1) - 1)
        seen = (1 - 2 * e) * z
        agree(f(seen, e), torch.tensor(z), what="your z", tolerance=1e-6, usual=[
            (seen, "That is the measured value as it came."),
            (seen / (1 - e), "A wrong report does not give 0, it gives −1 for +1: (1 − e) z + e (−z) = (1 − 2e) z."),
            (seen * (1 - 2 * e), "That makes the flips once more; undoing them divides."),
            (seen * (1 - e), "That shrinks the value once more; undoing divides, and the factor is 1 − 2e."),
            (seen + e, "The error is no shift: it shrinks z by a factor, towards 0."),
            (seen - e, "The error is no shift: it shrinks z by a factor, towards 0."),
            ((seen - e) / (1 - 2 * e), "That undoes the flips of a probability; ⟨Z⟩ goes from −1 to 1, and 0 stays 0."),
            (seen / (1 - 2 * 0.02), "That is right for e = 0.02 only; take the argument e."),
        ])  # fmt: skip


@QUESTIONS.function(
    right="With 80 ns and 200 µs, 1,000 shots take 0.21 s, and the delay is nearly all of it; for ions it is the "
          "other way round. Put in the numbers of a device that you have looked up.",
    way="""Each shot runs two CNOTs for each of 84 controlled rotations, one after another, and then waits:

```python
def my_seconds(shots, gate, delay):
    return shots * (168 * gate + delay)
```
""",
)  # fmt: skip
def _(f, draw):
    for _ in range(3):
        shots, gate, delay = draw.whole(100, 5000), float(1e-3 * draw.uniform(1)), 0.1 * (0.5 + float(draw.uniform(1)))
        n = _places()
        agree(f(shots, gate, delay), torch.tensor(shots * (n * gate + delay)), what="your time", tolerance=1e-5, usual=[
            (shots * (n / 2 * gate + delay), "A controlled rotation is two CNOTs: 168 gates, not 84."),
            (shots * n * gate, "The delay between shots is missing."),
            (shots * n * gate + delay, "The delay comes before every shot, not once."),
            (n * gate + delay, "That is one shot."),
            (shots * (gate + delay), "A shot runs 168 gates, one after another."),
            (shots * n * (gate + delay), "The delay comes once a shot, not after every gate."),
            (4 * shots * (n * gate + delay), "That is all four circuits of the model; the question is about one."),
        ])  # fmt: skip
