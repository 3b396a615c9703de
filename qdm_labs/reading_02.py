"""Questions of notebook 02: a qubit in numbers, frequencies, shift rules and where two terms are enough."""

import math

import torch

from qdm_labs.compare import agree
from qdm_labs.questions import Table
from qdm_lib.circuits import TWO_PI, Circuit, Gate, fqconv, hqconv
from qdm_lib.simulator import simulate

QUESTIONS = Table("02")

QUESTIONS.numbers(
    ("⟨Z⟩", "the probability of bit 1"),
    lambda: (math.cos(math.pi / 3), math.sin(math.pi / 6) ** 2),
    near=1e-3,
    usual=[
        ((0.25, 0.5), "The two are right, in the other order: ⟨Z⟩ first."),
        ((math.cos(math.pi / 6), None), "cos(φ/2) is the amplitude ψ_0; ⟨Z⟩ is |ψ_0|² − |ψ_1|²."),
        ((0.75, None), "That is P(0) = |ψ_0|²; ⟨Z⟩ is P(0) − P(1)."),
        ((None, 0.75), "That is the probability of bit 0."),
        ((None, 0.5), "That is the size of the amplitude ψ_1; the probability is its square."),
        ((1 / 3, None), "RX(φ) does not turn a share φ/π of the bits; its entries are cos(φ/2) and sin(φ/2)."),
    ],
    hint="RX(φ) makes (1, 0) into its first column: cos(φ/2) and −i sin(φ/2). Square their sizes.",
    right="cos φ and sin²(φ/2): half the angle in the amplitudes, the whole angle in ⟨Z⟩.",
    way="The first column of RX(π/3) is (cos π/6, −i sin π/6), so P(0) = 0.75, P(1) = 0.25, and ⟨Z⟩ = 0.75 − 0.25.",
)  # fmt: skip


def _highest_frequency() -> int:
    gates = (Gate("RX", (0,), ("input", 0), scale=2.0), Gate("RZ", (0,), ("weight", 0)), Gate("RX", (0,), ("input", 0)))
    x = torch.arange(16).double().view(-1, 1) * TWO_PI / 16
    out = simulate(Circuit(gates, n_wires=1, n_inputs=1, n_weights=1), x, torch.tensor([0.8]).double())
    return int((torch.fft.rfft(out[:, 0]).abs() > 1e-9).nonzero().max())


QUESTIONS.number(
    _highest_frequency,
    usual=[
        (2, "RX(2x) alone reaches 2. But RX(x) comes after it, and products of waves add their frequencies."),
        (1, "That is RX(x) alone; RX(2x) brings twice that frequency, and both stand in one circuit."),
        (4, "RX(x) brings frequency 1, not 2."),
        (1.5, "That counts frequencies of the amplitudes; ⟨Z⟩ is quadratic in them."),
    ],
    hint="Each encoding RX(kx) brings frequencies up to k, and frequencies add up.",
    right="2 + 1. Scaling an input is a cheap way to higher frequencies, but alone it leaves gaps between them.",
    way="RX(2x) brings frequencies up to 2, RX(x) up to 1, and products of waves add them.",
)  # fmt: skip


@QUESTIONS.function(
    right="For s = π/2 and 3π/2 these are 0.4268 and −0.0732.",
    way="""Two linear equations, Σ_j 2 c_j sin(Ω s_j) = Ω for Ω = 1/2 and 1:

```python
def my_coefficients(s):
    omega = torch.tensor([0.5, 1.0], dtype=torch.float64)
    return torch.linalg.solve(2 * torch.sin(omega[:, None] * s), omega)
```
""",
)
def _(f, draw):
    omega = torch.tensor([0.5, 1.0], dtype=torch.float64)
    standard = torch.tensor([math.pi / 2, 3 * math.pi / 2], dtype=torch.float64)
    for s in (torch.stack([0.5 + draw.uniform(1)[0], 2 + draw.uniform(1)[0]]), standard):
        waves = torch.sin(omega[:, None] * s)
        right = torch.linalg.solve(2 * waves, omega)
        two_term = torch.tensor([0.5 / math.sin(s[0]), 0.0])
        agree(f(s), right, what="your (c_1, c_2)", usual=[
            (torch.linalg.solve(2 * torch.sin(omega[:, None] * standard), omega), "These are the coefficients for "
             "s = π/2 and 3π/2, whatever s is."),
            (torch.linalg.solve(waves, omega), "Twice too large: the equation has 2 c_j sin(Ω s_j)."),
            (torch.linalg.solve(2 * waves.T, omega), "Rows and columns have changed places: one equation for each Ω, "
             "one column for each s."),
            (torch.linalg.solve(2 * waves, torch.ones(2).double()), "The right-hand side is Ω, not 1."),
            (right.flip(0), "The two have changed places: c_1 belongs to s_1."),
            (two_term, "With c_2 = 0 only the frequency 1 comes out right, not 1/2."),
            (torch.tensor([0.5, 0.0]), "That is the two-term rule, and only for s = π/2."),
        ])  # fmt: skip


def _exact_weights(circuit: Circuit) -> int:
    """How many weights sit in gates whose control is never again a target."""
    gates = [(k, g) for k, g in enumerate(circuit.gates) if g.param[0] == "weight"]
    return sum(all(g.controls[0] not in later.targets for later in circuit.gates[k + 1 :]) for k, g in gates)


QUESTIONS.number(
    lambda: _exact_weights(fqconv(3)),
    usual=[
        (lambda: _exact_weights(hqconv(3)), "That is HQConv's number; FQConv joins other wires."),
        (24, "That is the whole last layer. But its first channel, 8 … 11, has controls 0 … 3, and these are targets "
         "again at the end of the layer."),
        (8, "One channel of the last layer is not all: go through the three in their order, and look for each whether "
         "its controls are targets later."),
        (lambda: 72 - _exact_weights(fqconv(3)), "For that many it is not exact; the question asks for the others."),
        (48, "Two channels are right, but only in the last layer: in the others every control is a target again."),
        (0, "In the last layer some controls are never a target again: which come last?"),
    ],
    hint="Only the last layer can have any. Which of its three channels has controls that are targets later?",
    right="Two of three channels of the last layer, 8 weights each.",
    way="In the last layer the first channel (targets 8 … 11) has controls 0 … 3, which are targets of the third: not "
        "exact. The second has controls 8 … 11 and the third 4 … 7; they are not targets again: 8 + 8 weights.",
)  # fmt: skip


def _period_in_theta() -> int:
    """The first whole shift of weight 0 of three-layer HQConv that changes no output."""
    g = torch.Generator().manual_seed(0)
    x, theta = torch.randn(1, 12, generator=g).double(), torch.rand(84, generator=g).double()
    first, before = torch.eye(84)[0], simulate(hqconv(3), x, theta)
    return next(n for n in range(1, 5) if torch.allclose(simulate(hqconv(3), x, theta + n * first), before))


QUESTIONS.numbers(
    ("the period", "the share"),
    lambda: (_period_in_theta(), 1 / _period_in_theta()),
    usual=[
        ((1, None), "θ = 1 is one full turn, 2π, and a full turn of a controlled rotation leaves a minus sign where "
         "the control is 1."),
        ((4, None), "4π is the period of the angle 2π·θ; what is that in θ?"),
        ((4 * math.pi, None), "4π is the period of the angle 2π·θ; what is that in θ?"),
        ((2 * math.pi, None), "That is a full turn of the angle. The period is two turns, and wanted is θ."),
        ((None, 1), "[0, 1) is not a whole period."),
    ],
    hint="The angle is 2π·θ and its period 4π; θ starts in [0, 1).",
    right="Training can walk to the other half. The weights for which two terms are enough have period 1.",
    way="A controlled rotation has period 4π in its angle, so 2 in θ. Starting in [0, 1) covers half of it.",
)  # fmt: skip


def _four_term() -> list[float]:
    omega, s = torch.tensor([0.5, 1.0]).double(), torch.tensor([0.5, 1.5]).double() * math.pi
    return torch.linalg.solve(2 * torch.sin(omega[:, None] * s), omega).tolist()


QUESTIONS.number(
    lambda: (2 * sum(map(abs, _four_term()))) ** 2,
    near=1e-2,
    usual=[
        (0.5, "Each coefficient counts by its size, and for two evaluations, at +s and at −s: add four sizes, then "
         "square."),
        (lambda: sum(map(abs, _four_term())) ** 2, "Each coefficient stands for two evaluations, at +s and at −s: the "
         "sum has four terms."),
        (lambda: 2 * sum(c**2 for c in _four_term()), "That is the sum of squares; wanted is the square of the sum of "
         "sizes."),
        (0, "The signs are ± in pairs, but sizes do not cancel."),
        (2, "Twice as many evaluations do not cost twice the shots: the coefficients are smaller."),
        (4, "Twice as many evaluations do not cost more shots: the coefficients are smaller."),
    ],
    hint="Four evaluations: 0.4268 twice and 0.0732 twice. Add the sizes, then square.",
    right="The same as for the two-term rule: the exact rule costs not one shot more.",
    way="The sum is 2 · (0.4268 + 0.0732) = 1, squared 1, as for the two-term rule.",
)  # fmt: skip
