"""What is alive: which weights of a circuit or layer have an effect, and what an output depends on.

A weight can be declared, counted and stored, and still do nothing: no gate reads it, its result is thrown away, or
a later step cancels it. Training does not complain. The audits here ask the gradient, in float64, at random points,
where an effect that exists is nonzero with probability 1; what stays at the level of rounding errors is called dead.

`audit_circuit` looks at an ansatz, `interaction_graph` at its gates alone, `audit_layer` at the parameters of any
torch module, entry by entry, and `audit_model` at a noise predictor eps(x_t, t).
"""

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from qdm_lib.checks import whole
from qdm_lib.circuits import Circuit
from qdm_lib.simulator import simulate

# ----------------------------------------------------------------------------------------- circuits


@dataclass(frozen=True)
class CircuitAudit:
    """What `audit_circuit` found in a circuit, at `points` random points.

    weight_to_output: (n_weights, n_wires), largest |d⟨Z_w⟩/dθ_k| over the points. input_to_output: (n_inputs, n_wires),
    largest |d⟨Z_w⟩/dx_i|. cosine_outputs: the wires w whose ⟨Z_w⟩ was cos(x_w) at every point: no gate after the
    encoding shows there. tolerance: what counts as zero.
    """

    circuit: Circuit
    points: int
    weight_to_output: Tensor
    input_to_output: Tensor
    cosine_outputs: tuple[int, ...]
    tolerance: float

    @property
    def alive_weights(self) -> tuple[int, ...]:
        """The weights that move at least one output."""
        return _where(self.weight_to_output.gt(self.tolerance).any(1))

    @property
    def dead_weights(self) -> tuple[int, ...]:
        """The weights that move no output."""
        return _where(~self.weight_to_output.gt(self.tolerance).any(1))

    def inputs_of(self, wire: int) -> tuple[int, ...]:
        """The inputs that move the output of a wire."""
        return _where(self.input_to_output[:, wire] > self.tolerance)

    def __str__(self) -> str:
        n_weights, n_wires = self.weight_to_output.shape
        counts = [len(self.inputs_of(w)) for w in range(n_wires)]
        lines = [
            f"{self.circuit.name}, at {self.points} random points",
            f"  weights that move an output: {len(self.alive_weights)} of {n_weights}",
            f"  outputs equal to cos(x) of their own input: {len(self.cosine_outputs)} of {n_wires}",
            f"  inputs that an output depends on: {min(counts)} to {max(counts)} of {len(self.input_to_output)}",
        ]
        if self.dead_weights:
            lines.append(f"  weights without effect: {ranges(self.dead_weights)}")
        if self.cosine_outputs:
            lines.append(f"  wires that return cos(x): {ranges(self.cosine_outputs)}")
        return "\n".join(lines)


def audit_circuit(circuit: Circuit, *, points: int = 4, seed: int = 0, tolerance: float = 1e-9) -> CircuitAudit:
    """Which weights and inputs of a circuit move which outputs.

    At each random point (x normal, θ uniform in [0, 1), both float64) one vector–Jacobian product for each wire
    gives the derivatives of its ⟨Z⟩ by all weights and inputs. The largest size over the points is kept; up to
    `tolerance` it counts as zero (rounding errors are near 1e-16). ValueError where there is no point, or the tolerance
    is not positive.
    """
    _check(points, tolerance)
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(points, circuit.n_inputs, generator=generator, dtype=torch.float64)
    theta = torch.rand(points, circuit.n_weights, generator=generator, dtype=torch.float64)
    with torch.enable_grad():
        out = simulate(circuit, x.requires_grad_(), theta.requires_grad_())
        by_weight, by_input = [], []
        for wire in range(circuit.n_wires):
            # The points are rows of one batch: the gradient of their sum holds each row's own derivative.
            g_theta, g_x = _gradients(out[:, wire].sum(), (theta, x))
            by_weight.append(g_theta.abs().amax(0))
            by_input.append(g_x.abs().amax(0))
    out = out.detach()
    shared = min(circuit.n_inputs, circuit.n_wires)
    same = (out[:, :shared] - x.detach()[:, :shared].cos()).abs().amax(0) <= tolerance
    return CircuitAudit(circuit, points, torch.stack(by_weight, 1), torch.stack(by_input, 1), _where(same), tolerance)


# -------------------------------------------------------------------------------- interaction graph


@dataclass(frozen=True)
class Coupling:
    """All gates of one block that join the same two wires: control (or first wire), target, how many, which block."""

    control: int
    target: int
    block: str
    gates: int


@dataclass(frozen=True)
class InteractionGraph:
    """Which wires a circuit joins: a graph with a node for each wire and an edge for each `Coupling`."""

    circuit: Circuit
    couplings: tuple[Coupling, ...]

    @property
    def components(self) -> tuple[tuple[int, ...], ...]:
        """Groups of wires with no gate between them; such groups never influence one another."""
        group = {w: {w} for w in range(self.circuit.n_wires)}
        for c in self.couplings:
            joined = group[c.control] | group[c.target]
            for wire in joined:
                group[wire] = joined
        return tuple(sorted({tuple(sorted(members)) for members in group.values()}))

    @property
    def joined(self) -> frozenset[tuple[int, int, str]]:
        """(control, target, block) of every coupling, however many gates it has; the number of layers drops out."""
        return frozenset((c.control, c.target, c.block) for c in self.couplings)

    def between(self, wires: set[int] | frozenset[int]) -> tuple[Coupling, ...]:
        """The couplings that join a wire of `wires` with one that is not: what a cut there would cross."""
        return tuple(c for c in self.couplings if (c.control in wires) != (c.target in wires))

    def __str__(self) -> str:
        name, parts = self.circuit.labels, self.components
        lines = [f"{self.circuit.name}: {len(self.couplings)} couplings, {len(parts)} separate part(s)"]
        for block in dict.fromkeys(c.block for c in self.couplings):
            pairs = [f"{name[c.control]} → {name[c.target]}" for c in self.couplings if c.block == block]
            lines.append(f"  {f'block {block}' if block else 'gates'}: {', '.join(pairs)}")
        if len(parts) > 1:
            lines.append("  parts (wires): " + " | ".join(ranges(part) for part in parts))
        return "\n".join(lines)


def interaction_graph(circuit: Circuit) -> InteractionGraph:
    """Read from the gates which wires are joined, in which direction, by which block, how often."""
    count: dict[tuple[int, int, str], int] = {}
    for gate in circuit.gates:
        if len(gate.wires) == 2:
            key = (*gate.wires, gate.block)
            count[key] = count.get(key, 0) + 1
    return InteractionGraph(circuit, tuple(Coupling(*key, n) for key, n in count.items()))


# ------------------------------------------------------------------------------------------- layers


@dataclass(frozen=True)
class ParameterAudit:
    """One parameter tensor: its name, and for every entry the largest |gradient| that was seen (same shape)."""

    name: str
    gradient: Tensor
    threshold: float

    @property
    def alive(self) -> Tensor:
        """True where an entry has an effect; the parameter's shape."""
        return self.gradient > self.threshold

    @property
    def n_alive(self) -> int:
        """How many entries have an effect."""
        return int(self.alive.sum())

    def __str__(self) -> str:
        shape = "×".join(map(str, self.gradient.shape)) or "1"
        return f"{self.name} ({shape}): {self.n_alive:,} of {self.gradient.numel():,} entries act"


@dataclass(frozen=True)
class LayerAudit:
    """What `audit_layer` found: a `ParameterAudit` for each parameter, by name."""

    parameters: dict[str, ParameterAudit]
    draws: int

    @property
    def n_entries(self) -> int:
        """All trainable entries."""
        return sum(p.gradient.numel() for p in self.parameters.values())

    @property
    def n_alive(self) -> int:
        """The entries that have an effect."""
        return sum(p.n_alive for p in self.parameters.values())

    @property
    def partly_dead(self) -> tuple[ParameterAudit, ...]:
        """The parameters with at least one entry without effect."""
        return tuple(p for p in self.parameters.values() if p.n_alive < p.gradient.numel())

    def only(self, part: str) -> "LayerAudit":
        """The audit of the parameters whose name contains `part`."""
        return LayerAudit({k: p for k, p in self.parameters.items() if part in k}, self.draws)

    def __iter__(self) -> Iterator[ParameterAudit]:
        return iter(self.parameters.values())

    def __getitem__(self, name: str) -> ParameterAudit:
        return self.parameters[name]

    def __str__(self) -> str:
        lines = [f"{self.n_alive:,} of {self.n_entries:,} entries act ({self.draws} random draws)"]
        return "\n".join(lines + [f"  {p}" for p in self.partly_dead])


def audit_layer(
    module: nn.Module, *inputs: Tensor, draws: int = 3, seed: int = 0, tolerance: float = 1e-14
) -> LayerAudit:
    """The gradient of every parameter of a module, entry by entry.

    A float64 copy of the module is run on `draws` perturbed copies of the inputs; each output is weighed with random
    numbers v, and the gradient of v·output by every parameter is kept where it is largest. An entry acts if that is
    more than `tolerance` times the largest gradient in the module.

    Some entries have no effect for mathematical reasons. The bias of a convolution just before a GroupNorm with one
    channel in each group is one: the norm subtracts the channel's mean, and the bias with it.

    module: any whose output is one tensor; it is not changed. inputs: its arguments; normal noise of their own scale is
    added to those of floating type. ValueError where there is no draw, the tolerance is not positive, the module has no
    trainable parameters, or its output or a gradient is not finite.
    """
    _check(draws, tolerance)
    module = deepcopy(module).double()
    trainable = {name: p for name, p in module.named_parameters() if p.requires_grad}
    if not trainable:
        raise ValueError(f"{type(module).__name__} has no trainable parameters to audit.")
    parameters = tuple(trainable.values())
    generator = torch.Generator().manual_seed(seed)
    largest = [torch.zeros_like(p) for p in parameters]
    for _ in range(draws):
        with torch.enable_grad():
            out = module(*(_perturbed(a, generator) for a in inputs))
            v = torch.randn(out.shape, generator=generator, dtype=torch.float64).to(out.device)
            gradients = _gradients((out * v).sum(), parameters)
        if not all(numbers.isfinite().all() for numbers in (out, *gradients)):
            raise ValueError(f"{type(module).__name__} gives NaN or infinity, as output or gradient: nothing is told.")
        largest = [torch.maximum(a, g.abs()) for a, g in zip(largest, gradients, strict=True)]
    threshold = tolerance * max(g.max().item() for g in largest)
    found = {name: ParameterAudit(name, g, threshold) for name, g in zip(trainable, largest, strict=True)}
    return LayerAudit(found, draws)


def audit_model(model: nn.Module, *, images: int = 2, draws: int = 2, seed: int = 0) -> LayerAudit:
    """`audit_layer` of a noise predictor eps(x_t, t), on noise images (images, 1, 28, 28) and random steps t."""
    generator = torch.Generator().manual_seed(seed)
    device = next(model.parameters()).device
    x_t = torch.randn(whole("images", images), 1, 28, 28, generator=generator).to(device)
    t = torch.randint(0, getattr(getattr(model, "config", None), "T", 1000), (images,), generator=generator).to(device)
    return audit_layer(model, x_t, t, draws=draws, seed=seed)


# ------------------------------------------------------------------------------------------ helpers


def ranges(numbers: tuple[int, ...]) -> str:
    """(0, 1, 2, 5) → '0–2, 5'."""
    runs: list[list[int]] = []
    for n in numbers:
        if runs and n == runs[-1][-1] + 1:
            runs[-1].append(n)
        else:
            runs.append([n])
    return ", ".join(str(r[0]) if len(r) == 1 else f"{r[0]}–{r[-1]}" for r in runs)


def _gradients(value: Tensor, of: tuple[Tensor, ...]) -> list[Tensor]:
    """Gradients with zeros where there is no path, keeping the graph for the next call."""
    if not value.requires_grad:
        return [torch.zeros_like(p) for p in of]
    found = torch.autograd.grad(value, of, retain_graph=True, allow_unused=True)
    return [torch.zeros_like(p) if g is None else g for p, g in zip(of, found, strict=True)]


def _perturbed(a: Tensor, generator: torch.Generator) -> Tensor:
    if not a.is_floating_point():
        return a
    a = a.detach().double()
    scale = a.std().item() if a.numel() > 1 else 0.0
    noise = torch.randn(a.shape, generator=generator, dtype=torch.float64).to(a.device)
    return a + (scale or 1.0) * noise


def _where(mask: Tensor) -> tuple[int, ...]:
    return tuple(mask.nonzero().flatten().tolist())


def _check(points: int, tolerance: float) -> None:
    whole("points or draws", points)
    if not tolerance > 0:
        raise ValueError(f"The tolerance must be positive, got {tolerance}.")
