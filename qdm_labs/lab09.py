"""Lab 09: estimates from counts, a noisy channel, two ways to undo errors of a device, and what they cost.

Right answers come from `qdm_lib.simulator.apply_matrix` (Pauli matrices on rows and columns of a density matrix, small
matrices on the axes of a distribution) and from NumPy's polynomial fits. The variant draws the order of the wires, the
meaning of p, the layout of the readout matrices, the way of folding, the scale factors and the extrapolation.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from qdm_labs.answer import LocalAnswer
from qdm_labs.compare import agree, close, numbers, pair
from qdm_labs.lab02 import SPREADS
from qdm_labs.task import Lab, Mistake, Task, Unanswered
from qdm_labs.variant import Variant
from qdm_lib.simulator import FIXED, apply_matrix

PAULIS = {axis: torch.tensor(FIXED[f"Pauli{axis}"], dtype=torch.complex128) for axis in "XYZ"}
CHANNELS = {  # the meaning of p -> how likely a Pauli matrix strikes, all three together
    "**one of the three, X, Y or Z, each equally often, strikes with probability p**": lambda p: p,
    "**each of the three, X, Y and Z, strikes with probability p**, so that nothing happens with 1 − 3p": lambda p: (
        3 * p
    ),
    "**with probability p the wire is replaced by the fully mixed state I/2**, and what it shared with the other wires "
    "is lost": lambda p: 3 * p / 4,
}
FOLDS = {
    "first gates": "each gate G becomes G (G† G)ᵏ, and the **first** r gates of the list are folded once more",
    "last gates": "each gate G becomes G (G† G)ᵏ, and the **last** r gates of the list are folded once more",
    "whole": "the **whole list** U becomes U (U† U)ᵏ, and after it the last r gates of U, L, are once more undone and "
    "done again: L† L",
}
SCALES = ((1, 3, 5), (1, 2, 3), (1, 3, 7), (1, 2, 4), (1, 1.5, 2.5), (1, 2, 5))
LINES = {"two": "through the values at the two smallest scale factors", "three": "of least squares through all three"}
WIRES = 14  # of the largest distribution: the matrix for all of them would take 2 GiB, more than the marker grants
Step = tuple[str, tuple[int, ...], float]  # a gate of this lab: name, wires, angle


@dataclass(frozen=True)
class Conventions:
    """The choices of one variant."""

    zero_first: bool  # wire 0 is the first digit of a string and of an index; else the last
    spread: str  # what `estimate` returns beside the mean, a key of lab 02's SPREADS
    channel: str  # the meaning of p, a key of CHANNELS
    columns: bool  # a readout matrix has a column for each true bit; else a row
    fold: str  # a key of FOLDS
    scales: tuple[float, ...]  # of the noise, the first one 1
    line: str  # of the linear extrapolation, a key of LINES
    degree: int  # of the extrapolation whose price `runs` counts


def conventions(variant: Variant) -> Conventions:
    """Draw them."""
    return Conventions(
        zero_first=variant.choice("wire order", [True, False]), spread=variant.choice("spread", list(SPREADS)),
        channel=variant.choice("channel", list(CHANNELS)), columns=variant.choice("columns", [True, False]),
        fold=variant.choice("fold", list(FOLDS)), scales=variant.choice("scales", SCALES),
        line=variant.choice("line", list(LINES)), degree=variant.choice("degree", [1, 2]),
    )  # fmt: skip


def text(v: Conventions) -> dict[str, str]:
    """The words of the variant."""
    return {
        "end": "first" if v.zero_first else "last",
        "digits": "b_0 b_1 … b_{n−1}" if v.zero_first else "b_{n−1} … b_1 b_0",
        "axis": "w" if v.zero_first else "n - 1 - w",
        "spread": v.spread,
        "channel": v.channel,
        "entry": "M[reported, true]" if v.columns else "M[true, reported]",
        "lines": "columns" if v.columns else "rows",
        "in_layout": "M" if v.columns else "M.T",
        "fold": FOLDS[v.fold],
        "scales": str(v.scales),
        "scale_words": ", ".join(f"{s:g}" for s in v.scales),
        "line": LINES[v.line],
        "degree": "quadratic" if v.degree == 2 else "linear",
        "used": str(used(v, v.degree)),
    }  # fmt: skip


# ------------------------------------------------------------------------------------ right answers


def _axis(v: Conventions, wire: int, n: int) -> int:
    return wire if v.zero_first else n - 1 - wire


def means(v: Conventions, counts: dict[str, int]) -> Tensor:
    """⟨Z⟩ of every wire, the mean of +1 for bit 0 and −1 for bit 1: (n,)."""
    n = len(next(iter(counts)))
    total = sum(counts.values())
    return torch.tensor([sum(c * (1 - 2 * int(s[_axis(v, w, n)])) for s, c in counts.items()) / total
                         for w in range(n)], dtype=torch.float64)  # fmt: skip


def struck(v: Conventions, rho: Tensor, wire: int, axes: str = "XYZ") -> Tensor:
    """Σ P ρ P† over Pauli matrices of one wire: P acts on the rows, its conjugate on the columns."""
    n = int(math.log2(len(rho)))
    axis, start = _axis(v, wire, n), rho.reshape(1, *[2] * (2 * n))
    parts = [apply_matrix(apply_matrix(start, P, (axis,)), P.conj(), (n + axis,)) for P in (PAULIS[a] for a in axes)]
    return torch.stack(parts).sum(0).reshape(rho.shape)


def depolarized(v: Conventions, rho: Tensor, wire: int, p: float) -> Tensor:
    """(1 − q) ρ + q/3 Σ P ρ P, with the q that p means in the variant."""
    q = CHANNELS[v.channel](p)
    return (1 - q) * rho + q / 3 * struck(v, rho, wire)


def read_out(v: Conventions, probabilities: Tensor, matrices: Sequence[Tensor], *, undo: bool = False) -> Tensor:
    """Readout errors of every wire done to a distribution (2**n,), or undone: one small matrix for each axis."""
    n = len(matrices)
    p = probabilities.reshape(1, *[2] * n)
    for wire, M in enumerate(matrices):
        M = M if v.columns else M.T
        p = apply_matrix(p, torch.linalg.inv(M) if undo else M, (_axis(v, wire, n),))
    return p.flatten()


def adjoint(gates: Sequence[Step]) -> list[Step]:
    """The last gate undone first."""
    return [(name, wires, -angle) for name, wires, angle in reversed(gates)]


def folds(n: int, scale: float) -> tuple[int, int]:
    """(k, r): n·k + r folds in all, so that n gates become about scale · n."""
    return divmod(round(n * (scale - 1) / 2), n)


def folded(v: Conventions, gates: Sequence[Step], k: int, r: int) -> list[Step]:
    """The longer list, in the order in which the gates act."""
    gates, n = list(gates), len(gates)
    if v.fold == "whole":
        last = gates[n - r :]
        return gates + k * (adjoint(gates) + gates) + adjoint(last) + last
    more = range(r) if v.fold == "first gates" else range(n - r, n)
    return [g for j, gate in enumerate(gates) for g in [gate] + (k + (j in more)) * (adjoint([gate]) + [gate])]


def fit_weights(scales: Sequence[float], degree: int, at: float = 0.0) -> Tensor:
    """c with Σ c_j y_j = the value at `at` of the least-squares polynomial through (scales, y)."""
    A = np.vander(np.asarray(scales, float), degree + 1, increasing=True)
    return torch.tensor(at ** np.arange(degree + 1) @ np.linalg.pinv(A))


def used(v: Conventions, degree: int) -> int:
    """How many of the scale factors an extrapolation uses."""
    return 2 if degree == 1 and v.line == "two" else 3


def zne_weights(v: Conventions, degree: int) -> Tensor:
    """Of the scale factors that the variant's linear or quadratic extrapolation uses."""
    return fit_weights(v.scales[: used(v, degree)], degree)


def limit(c: Tensor, values: Tensor, errors: Tensor) -> Tensor:
    """(Σ c_j y_j, √(Σ c_j² s_j²))."""
    y, s = values[: len(c)], errors[: len(c)]
    return torch.stack([(c * y).sum(), (c * s).square().sum().sqrt()])


def shots_for(c: Tensor, error: float) -> float:
    """Σ c² / ε²: shots at each scale factor, not yet rounded, where one shot has at most the deviation 1."""
    return c.square().sum().item() / error**2


def cost(v: Conventions, layers: Sequence[tuple[int, int]], steps: int, error: float) -> int:
    """Runs for one image."""
    c = zne_weights(v, v.degree)
    return sum(a * b for a, b in layers) * steps * len(c) * math.ceil(shots_for(c, error))


# ------------------------------------------------------------------------------------------- tasks

estimate = Task("estimate", "An estimate from counts", "estimate expectation values and their errors from strings", 15)
depolarize = Task("depolarize", "A noisy channel", "compute what errors do to a density matrix", 25)
undo_readout = Task("undo_readout", "Readout errors undone", "invert the errors of many wires one by one", 25)
fold = Task("fold", "Folding", "make a circuit noisier without changing what it computes", 25)
richardson = Task("richardson", "Extrapolation as weights", "derive the weights of an extrapolation to 0", 15)
zero_noise = Task("zero_noise", "To zero noise", "extrapolate measured values, and say at what price", 15)
runs = Task("runs", "What one image costs", "count the runs of a hybrid model on a device", 15)


def _counts(draw, n: int, kinds: int) -> dict[str, int]:
    strings = draw.some(range(2**n), min(kinds, 2**n))
    return {format(s, f"0{n}b"): draw.whole(1, 400) for s in strings}


@estimate.has("has the right mean for every wire", 2)
def _(answer, v, draw):
    for n, kinds in ((3, 5), (4, 7)):
        counts = _counts(draw, n, kinds)
        found, _ = pair(answer(counts), "the means and their spreads")
        agree(found, means(v, counts), mean_mistakes(v, counts), "the vector of means")


def mean_mistakes(v: Conventions, counts: dict[str, int]) -> list[tuple[Tensor, str]]:
    m, total = means(v, counts), sum(counts.values())
    return [
        (m.flip(0), "The wires are counted from the other end: here wire 0 is the "
                    f"{'first' if v.zero_first else 'last'} digit."),
        (-m, "The sign is the other one: bit 0 counts +1, bit 1 counts −1."),
        ((1 - m) / 2, "These are the shares of bit 1; ⟨Z⟩ = P(0) − P(1) is wanted."),
        ((1 + m) / 2, "These are the shares of bit 0; ⟨Z⟩ = P(0) − P(1) is wanted."),
        (means(v, dict.fromkeys(counts, 1)), "Each string counts once here; it counts as often as it was seen."),
        (m * total, "This is the sum over the shots; divide by their number."),
        (m * total / len(counts), "The divisor is the number of different strings; it is the number of shots."),
    ]  # fmt: skip


@estimate.has("says how far to trust them", 1)
def _(answer, v, draw):
    for n, kinds in ((1, 2), (3, 6)):
        counts = _counts(draw, n, kinds)
        m, total, rule = means(v, counts), sum(counts.values()), SPREADS[v.spread]
        found = numbers(pair(answer(counts), "the means and their spreads")[1], (n,), "the vector of spreads")
        want = [torch.tensor([rule(x, N) for x in m.tolist()]).double() for N in (total, total - 1)]
        if close(1e3 * found, 1e3 * want[1]):
            continue  # N − 1 in the place of N is as good
        one = (1 - m**2).clamp(min=0)
        agree(found, want[0], what="the vector of spreads", tolerance=1e-6, usual=[
            (one.sqrt(), "These are deviations of one shot; those of the mean of N shots are smaller by √N."),
            (one, "These are variances of one shot; divide by N."),
            (one.sqrt() / total, "The spread falls with √N, not with N."),
            ((one / len(counts)).sqrt(), "N is the number of shots, not that of different strings."),
            (torch.full((n,), total**-0.5).double(), "This is 1/√N, the largest it can be; it gets smaller as m nears "
                                                     "±1."),
            *[(torch.tensor([other(x, total) for x in m.tolist()]).double(), f"This is {name}; asked for here is "
               f"{v.spread}.") for name, other in SPREADS.items()],
        ])  # fmt: skip


def _mixed(draw, n: int) -> Tensor:
    """A random density matrix of two states."""
    share = 0.2 + 0.6 * draw.uniform().item()
    psi, phi = draw.state(n), draw.state(n)
    return share * torch.outer(psi, psi.conj()) + (1 - share) * torch.outer(phi, phi.conj())


def channel_mistakes(v: Conventions, rho: Tensor, wire: int, p: float) -> list[tuple[Tensor, str]]:
    """What usual mistakes make of one channel."""
    q, n = CHANNELS[v.channel](p), int(math.log2(len(rho)))
    axis = _axis(v, wire, n)
    whole = torch.eye(len(rho)).to(rho) / len(rho)
    one_sided = sum(apply_matrix(rho.reshape(1, *[2] * 2 * n), P, (axis,)).reshape(rho.shape) for P in PAULIS.values())
    meant = v.channel.replace("**", "")
    return [
        *[(depolarized(replace(v, channel=c), rho, wire, p), f"p has another meaning here: {meant}.")
          for c in CHANNELS if c != v.channel],
        (depolarized(replace(v, zero_first=not v.zero_first), rho, wire, p),
         "The wires are counted from the other end."),
        *[((1 - s) * rho + s * whole, "This mixes all the wires; only the one that was asked for is struck.")
          for s in (p, 4 * q / 3)],
        (rho + q / 3 * struck(v, rho, wire), "The part without an error keeps its weight 1; the trace has to stay 1."),
        (q / 3 * struck(v, rho, wire), "Only the part with errors is there; add the one in which nothing happens."),
        ((1 - q) * rho + q * struck(v, rho, wire), "The weights add up to more than 1: the three Pauli matrices share "
                                                   "theirs."),
        ((1 - q) * rho + q * struck(v, rho, wire, "X"), "Only X strikes here; that is a bit flip."),
        ((1 - q) * rho + q * struck(v, rho, wire, "Z"), "Only Z strikes here; that is dephasing."),
        ((1 - q) * rho + q / 3 * one_sided, "P acts from the left only; a state becomes Pψ, so ρ becomes P ρ P†."),
        (torch.diag(depolarized(v, rho, wire, p).diagonal()), "The entries beside the diagonal are lost; they stay, "
                                                             "only smaller."),
    ]  # fmt: skip


def _strike(answer, v, draw, n: int, wire: int) -> None:
    rho, p = _mixed(draw, n), 0.05 + 0.2 * draw.uniform().item()
    what = f"the new density matrix (n = {n}, wire {wire})"
    agree(answer(rho, wire, p), depolarized(v, rho, wire, p), channel_mistakes(v, rho, wire, p), what)


@depolarize.has("is right on a single wire", 1)
def _(answer, v, draw):
    for _ in range(2):
        _strike(answer, v, draw, 1, 0)


@depolarize.has("is right on any wire of several", 2)
def _(answer, v, draw):
    for n in (2, 3, 4):
        for wire in draw.some(range(n), n):
            _strike(answer, v, draw, n, wire)


@depolarize.has("leaves the density matrix that it was given as it was", 1)
def _(answer, v, draw):
    if answer.changes(_mixed(draw, 2), 1, 0.1):
        raise Mistake("The density matrix that came in is overwritten; make a new one.")


def _readout(v: Conventions, draw, n: int) -> list[Tensor]:
    """One matrix for each wire, all different, with unequal errors of 0 and 1."""
    out = []
    for _ in range(n):
        zero, one = 0.02 + 0.06 * draw.uniform().item(), 0.1 + 0.1 * draw.uniform().item()
        columns = torch.tensor([[1 - zero, one], [zero, 1 - one]], dtype=torch.float64)
        out.append(columns if v.columns else columns.T.contiguous())
    return out


def _shares(draw, n: int) -> Tensor:
    """Shares of strings, some of them never seen, as with few shots: there the inverse is below 0."""
    shares = torch.zeros(2**n, dtype=torch.float64)
    shares[draw.some(range(2**n), 3 * 2**n // 4)] = 1.0
    shares *= 0.2 + draw.uniform(2**n)
    return shares / shares.sum()


def readout_mistakes(v: Conventions, p: Tensor, matrices: Sequence[Tensor]) -> list[tuple[Tensor, str]]:
    """What usual mistakes make of the inversion."""
    other, n = [M.T for M in matrices], len(matrices)
    right = read_out(v, p, matrices, undo=True)
    clipped = right.clamp(min=0)
    entry = "M[reported, true]" if v.columns else "M[true, reported]"
    rolled = right.reshape([2] * n).permute(*reversed(range(n))).flatten()
    return [
        (read_out(v, p, matrices), "This adds the errors once more; take the inverse of each matrix."),
        (read_out(v, p, other, undo=True), f"The matrices are transposed: here the entry is {entry}."),
        (read_out(v, p, other), f"A transpose is no inverse: the matrices are {entry}, and not unitary."),
        (read_out(replace(v, zero_first=not v.zero_first), p, matrices, undo=True),
         "The wires are counted from the other end."),
        (clipped / clipped.sum(), "Entries below 0 are cut off. They come from the scatter of the counts; without them "
                                  "every mean is off, so they stay."),
        (clipped, "Entries below 0 are cut off. They come from the scatter of the counts; they stay."),
        (read_out(v, p, [matrices[0]] * n, undo=True), "Each wire has its own matrix; this takes the first for all."),
        (rolled, "The axes come back in another order; an axis that was moved has to go back to its place."),
    ]  # fmt: skip


@undo_readout.has("is right on a single wire", 1)
def _(answer, v, draw):
    for p in (_shares(draw, 1), draw.uniform(2)):
        matrices, p = _readout(v, draw, 1), p / p.sum()
        agree(answer(p, matrices), read_out(v, p, matrices, undo=True), readout_mistakes(v, p, matrices), "the result")


@undo_readout.has("is right on several wires, entries below 0 included", 2)
def _(answer, v, draw):
    for n in (2, 3, 4):
        p, matrices = _shares(draw, n), _readout(v, draw, n)
        agree(answer(p, matrices), read_out(v, p, matrices, undo=True), readout_mistakes(v, p, matrices), "the result")


@undo_readout.has(f"copes with {WIRES} wires", 1)
def _(answer, v, draw):
    p, matrices = draw.uniform(2**WIRES), _readout(v, draw, WIRES)
    p = p / p.sum()
    with little_memory() if isinstance(answer, LocalAnswer) else contextlib.nullcontext():
        try:
            value = answer(p, matrices)
        except Unanswered:
            raise
        except Mistake as mistake:
            if any(word in str(mistake) for word in ("emory", "llocate")):
                raise Mistake(f"The memory ends: a matrix for all {WIRES} wires has 2^{2 * WIRES} entries. Undo one "
                              "wire after the other, each with its 2×2 matrix.") from None  # fmt: skip
            raise
    want = read_out(v, p, matrices, undo=True)  # entries of about 2^−14: scaled, so that the tolerance means something
    agree(2**WIRES * numbers(value, want.shape, "the result"), 2**WIRES * want, what="2^n times the result")


@contextlib.contextmanager
def little_memory(mb: int = 1200) -> Iterator[None]:
    """In a notebook on Linux: at most so much more address space, about what the marker grants; elsewhere nothing."""
    try:
        import resource

        now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    except (ImportError, OSError):
        yield
        return
    most = [x for x in (now + mb * 2**20, soft, hard) if x != resource.RLIM_INFINITY]
    resource.setrlimit(resource.RLIMIT_AS, (min(most), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def _steps(draw, n: int) -> list[Step]:
    """Random gates on three wires, no two neighbours alike."""
    out = []
    for _ in range(n):
        name = draw.choice(["RX", "RZ", "CRX", "CRZ"])
        out.append((name, tuple(draw.some(range(3), len(name) - 1)), round(draw.angles().item(), 4)))
    return out


def _as_steps(value) -> list[Step]:
    """A student's list of gates."""
    if value is None:
        raise Unanswered("The function returns nothing; is a return missing?")
    if not isinstance(value, list | tuple):
        raise Mistake(f"A list of gates is wanted, not {type(value).__name__}.")
    out = []
    for gate in value:
        if not isinstance(gate, list | tuple) or len(gate) != 3 or not isinstance(gate[1], list | tuple):
            raise Mistake(f"Each gate is (name, wires, angle), as in the list that came in; not {str(gate)[:60]}.")
        name, wires, angle = gate
        out.append((str(name), tuple(int(w) for w in wires), numbers(angle, (), "the angle of a gate").item()))
    return out


def _same(a: Sequence[Step], b: Sequence[Step]) -> bool:
    return len(a) == len(b) and all(x[:2] == y[:2] and abs(x[2] - y[2]) < 1e-6 for x, y in zip(a, b, strict=True))


def fold_mistakes(v: Conventions, gates: list[Step], scale: float) -> list[tuple[list[Step], str]]:
    """What usual mistakes make of a list."""
    n = len(gates)
    k, r = folds(n, scale)
    last = gates[n - r :]
    alike = [(name, wires, math.copysign(1, angle) * abs(angle)) for name, wires, angle in folded(v, gates, k, r)]
    signs = {(name, wires, abs(angle)): angle for name, wires, angle in gates}
    alike = [(name, wires, signs[name, wires, abs(angle)]) for name, wires, angle in alike]
    whole_k = min(round(scale), 9)
    forward = [(a, b, -c) for a, b, c in gates]
    undone = [g for gate in gates for g in [gate] + k * adjoint([gate])]
    wrong = [
        (gates, "The list comes back as it went in."),
        (alike, "The gates are repeated, not undone: G† turns by −angle."),
        (gates + k * (forward + gates) + [(a, b, -c) for a, b, c in last] + last,
         "U† undoes the last gate first; this undoes the gates in the order in which they acted."),
        (undone, "After G† the gate has to be done again: G G† G."),
        (gates + k * adjoint(gates), "After U† the list has to be done again: U U† U."),
        (folded(v, gates, whole_k, 0), "λ is how often longer the list gets; k folds make it 2k + 1 times as long."),
        (folded(v, gates, *divmod(math.floor(n * (scale - 1) / 2), n)), "The number of folds is rounded down; take the "
                                                                       "nearest whole number."),
        (folded(v, gates, *divmod(math.ceil(n * (scale - 1) / 2), n)), "The number of folds is rounded up; take the "
                                                                      "nearest whole number."),
        (folded(v, gates, k, 0), "Only whole rounds are folded; r more folds remain."),
        (folded(v, gates, *divmod(min(round(n * (scale - 1)), 9 * n), n)),
         "A fold adds two gates, so n (λ − 1)/2 folds are needed; these are twice as many."),
    ]  # fmt: skip
    wrong += [(folded(replace(v, fold=f), gates, k, r), f"This folds in another way. Here {FOLDS[v.fold]}.".replace(
        "**", "")) for f in FOLDS if f != v.fold]  # fmt: skip
    return wrong


def _folded_right(answer, v, gates: list[Step], scale: float) -> None:
    got, want = _as_steps(answer(gates, scale)), folded(v, gates, *folds(len(gates), scale))
    if _same(got, want):
        return
    for wrong, why in fold_mistakes(v, gates, scale):
        if _same(got, wrong):
            raise Mistake(why)
    if len(got) != len(want):
        raise Mistake(f"For λ = {scale:.3g} and {len(gates)} gates there are {len(got)} gates; {len(want)} are right.")
    k = next(k for k in range(len(want)) if not _same(got[k : k + 1], want[k : k + 1]))
    raise Mistake(f"For λ = {scale:.3g} gate {k} of the result is {got[k]} where {want[k]} is right.")


@fold.has("makes three gates of each for λ = 3", 2)
def _(answer, v, draw):
    for n in (3, 5):
        _folded_right(answer, v, _steps(draw, n), 3)


@fold.has("is right for λ = 1, 5 and 7, too", 1)
def _(answer, v, draw):
    for scale in (1, 5, 7):
        _folded_right(answer, v, _steps(draw, 4), scale)


@fold.has("folds a part of the list for any λ between", 1)
def _(answer, v, draw):
    for k, off in ((1, 0.3), (1, -0.3), (0, -0.2), (2, 0.2)):
        n = draw.whole(5, 7)
        r = draw.whole(2, n - 2)
        _folded_right(answer, v, _steps(draw, n), 1 + 2 * (k * n + r + off) / n)


def _factors(draw, n: int) -> list[float]:
    """Different scale factors from 1 on."""
    return [1.0, *(round(1 + 0.5 * k + 0.3 * draw.uniform().item(), 3) for k in sorted(draw.some(range(1, 9), n - 1)))]


def weight_mistakes(scales: Sequence[float]) -> list[tuple[Tensor, str]]:
    """What usual mistakes make of the weights."""
    s, n = torch.tensor(scales, dtype=torch.float64), len(scales)
    c, at_one = fit_weights(scales, n - 1), torch.eye(n, dtype=torch.float64)[0]
    others = [[k for k in range(n) if k != j] for j in range(n)]
    halves = torch.stack([torch.stack([1 / (s[k] - s[j]) for k in others[j]]).prod() for j in range(n)])
    return [
        (at_one, "This is the value at λ = 1, the noise that there is; the value at λ = 0 is wanted."),
        *([(-c, "The sign is the other one: the denominators are λ_k − λ_j, with j the weight's own.")] if n == 2
          else []),
        (halves, "The factors λ_k above the fractions are missing."),
        (torch.stack([torch.stack([s[j] / (s[j] - s[k]) for k in others[j]]).prod() for j in range(n)]),
         "λ_j stands above the fractions; it is λ_k, the other one."),
        (torch.stack([torch.stack([s[k] / (s[k] - s[j]) for k in others[j]]).sum() for j in range(n)]),
         "The fractions are multiplied, not added."),
        (c.flip(0), "The weights are in the reversed order: weight j belongs to λ_j."),
        (torch.full((n,), 1 / n).double(), "This is the mean of the values; it has the noise of the mean λ."),
        (fit_weights(range(1, n + 1), n - 1), "These are the weights of λ = 1, 2, 3, …; take the factors as they are."),
        (fit_weights(scales, 1), "This is a straight line by least squares; n values fix a polynomial of degree "
                                 "n − 1."),
    ]  # fmt: skip


@richardson.has("is right for two scale factors: a straight line", 2)
def _(answer, v, draw):
    for _ in range(2):
        scales = _factors(draw, 2)
        agree(answer(scales), fit_weights(scales, 1), weight_mistakes(scales), "the vector of weights")


@richardson.has("is right for three and four: a parabola, a cubic", 1)
def _(answer, v, draw):
    for n in (3, 4):
        scales = _factors(draw, n)
        agree(answer(scales), fit_weights(scales, n - 1), weight_mistakes(scales), "the vector of weights")


def _measured(v: Conventions, draw) -> tuple[Tensor, Tensor]:
    """Values that fall with λ, and their standard errors."""
    s = torch.tensor(v.scales, dtype=torch.float64)
    values = (0.5 + 0.4 * draw.uniform()) * torch.exp(-(0.1 + 0.1 * draw.uniform()) * s) + 0.03 * draw.normal(3)
    return values, 0.01 + 0.02 * draw.uniform(3)


def _limits(answer, values: Tensor, errors: Tensor) -> list[tuple]:
    what = "(value, error) of the line and (value, error) of the parabola"
    return [pair(x, "a value and its error") for x in pair(answer(values, errors), what)]


def value_mistakes(v: Conventions, values: Tensor, degree: int) -> list[tuple[Tensor, str]]:
    """What usual mistakes make of an extrapolated value."""
    other = replace(v, line="three" if v.line == "two" else "two")
    steps = fit_weights(range(1, 1 + used(v, degree)), degree)

    def by(c: Tensor) -> Tensor:
        return (c * values[: len(c)]).sum()

    return [
        (by(zne_weights(v, 3 - degree)), "The two results are exchanged: first the line, then the parabola."),
        *([(by(zne_weights(other, 1)), f"The line is the other one: here it is the one {LINES[v.line]}.")]
          if degree == 1 else []),
        *([(by(fit_weights(v.scales[::2], 1)), f"The line goes {LINES[v.line]}, not through the first and the last.")]
          if degree == 1 else []),
        (by(steps), f"This takes the scale factors 1, 2, 3; in this variant they are {text(v)['scale_words']}."),
        (values[0], "This is the value at λ = 1, the noise that there is; go on to λ = 0."),
        (values.mean(), "This is the mean of the values; go on to λ = 0."),
    ]  # fmt: skip


@zero_noise.has("finds both limits", 2)
def _(answer, v, draw):
    for _ in range(2):
        values, errors = _measured(v, draw)
        for degree, (value, _) in enumerate(_limits(answer, values, errors), 1):
            want, _ = limit(zne_weights(v, degree), values, errors)
            what = f"the value of the {'line' if degree == 1 else 'parabola'}"
            agree(value, want, value_mistakes(v, values, degree), what, tolerance=1e-5)


def error_mistakes(c: Tensor, errors: Tensor) -> list[tuple[Tensor, str]]:
    """What usual mistakes make of the error of an extrapolated value."""
    s = errors[: len(c)]
    return [
        ((c.abs() * s).sum(), "The errors are added; those of independent values add by their squares."),
        ((c * s).sum().abs(), "The errors are added with signs; those of independent values add by their squares."),
        (s.square().sum().sqrt(), "Each error is multiplied by its weight, as its value is."),
        ((c.abs() * s.square()).sum().sqrt(), "The weights enter squared, too."),
        ((c * s).square().sum(), "This is the variance; the error is its root."),
        (errors[0], "This is the error at λ = 1; an extrapolation enlarges it."),
        (errors.mean(), "This is the mean of the errors; an extrapolation enlarges them."),
    ]


@zero_noise.has("says how far to trust them", 1)
def _(answer, v, draw):
    values, errors = _measured(v, draw)
    for degree, (_, error) in enumerate(_limits(answer, values, errors), 1):
        c = zne_weights(v, degree)
        what = f"the error of the {'line' if degree == 1 else 'parabola'}"
        agree(error, limit(c, values, errors)[1], error_mistakes(c, errors), what, tolerance=1e-5)


def _image(draw) -> tuple[list[tuple[int, int]], int]:
    """Layers of a hybrid model, and steps of a sampler."""
    return [(draw.whole(2, 14), draw.whole(2, 9)) for _ in range(draw.whole(2, 4))], draw.whole(20, 90)


def cost_mistakes(v: Conventions, layers: Sequence[tuple[int, int]], steps: int, error: float):
    """What usual mistakes make of the count."""
    c, right = zne_weights(v, v.degree), cost(v, layers, steps, error)
    N, circuits, places = math.ceil(shots_for(c, error)), sum(a for a, _ in layers), sum(a * b for a, b in layers)
    evaluations = places * steps * len(c)
    return [
        (right / steps, "This is one step of the sampler; an image takes all of them."),
        (right / len(c), f"Each circuit runs at {len(c)} scale factors, with N shots at each."),
        (right / len(c) * (5 - len(c)), f"The extrapolation of this variant uses {len(c)} scale factors."),
        (circuits * steps * len(c) * N, "Every circuit runs at all positions of its layer; multiply by them."),
        (circuits * sum(b for _, b in layers) * steps * len(c) * N,
         "Circuits and positions belong together layer by layer: multiply first, then add."),
        (evaluations, "These are circuits; each of them runs N times."),
        (evaluations * math.ceil(1 / error**2), "These are shots for a value without extrapolation; that enlarges the "
                                                "error, so more are needed."),
        (evaluations * math.ceil(c.abs().sum().item() ** 2 / error**2), "Errors of independent values add by their "
                                                                        "squares: Σ c², not (Σ |c|)²."),
        (evaluations * math.ceil(c.square().sum().item() / error), "The error falls with √N: to halve it takes four "
                                                                   "times as many shots."),
        (evaluations * math.ceil(c.square().sum().sqrt().item() / error), "Square it: the error falls with √N."),
    ]  # fmt: skip


@runs.has("multiplies what has to be multiplied", 2)
def _(answer, v, draw):
    for _ in range(2):
        (layers, steps), error = _image(draw), 0.005 + 0.004 * draw.uniform().item()
        usual = [(float(x), why) for x, why in cost_mistakes(v, layers, steps, error)]
        agree(answer(layers, steps, error), float(cost(v, layers, steps, error)), usual, "the number of runs")


@runs.has("counts whole shots", 1)
def _(answer, v, draw):
    c = zne_weights(v, v.degree)
    for part in (0.25, 0.75):  # of a shot: rounding down and to the nearest are both wrong once
        layers, steps = _image(draw)
        shots = draw.whole(20, 60) + part
        error = math.sqrt(c.square().sum().item() / shots)
        got, want = (
            numbers(answer(layers, steps, error), (), "the number of runs").item(),
            cost(v, layers, steps, error),
        )
        evaluations = want // math.ceil(shots)
        if abs(got - want) < 0.5:
            continue
        if abs(got - evaluations * math.floor(shots)) < 0.5:
            raise Mistake("The shots are rounded down; then the error is larger than was asked for.")
        if abs(got - evaluations * shots) < 1.5:
            raise Mistake("Round N up before you multiply: each circuit runs a whole number of times.")
        agree(got, float(want), [(float(x), why) for x, why in cost_mistakes(v, layers, steps, error)],
              "the number of runs", tolerance=1e-9)  # fmt: skip


LAB = Lab(
    "09", "Towards hardware", conventions=conventions, text=text,
    tasks=(estimate, depolarize, undo_readout, fold, richardson, zero_noise, runs),
    forbidden=("pennylane",),
)  # fmt: skip
