"""Experimental controls, not control wires: how much of a result is left when a stand-in replaces the circuit?

A control takes the place of a `QuantumLayer` and maps (B, n_circuits, wires) to the same shape; all else of the
U-Net stays. It is made from the layer it replaces: so the random numbers for the circuit are drawn nevertheless,
and every other weight of the model starts where it starts in the hybrid model of that seed.

    build_unet("fullhqconv", control="zero", seed=0)

From nothing to everything: `zero`, `identity`, `cos`, `classical`, `frozen`, `bare`, `uncontrolled`,
`hqconv_released`; then the circuit itself. The paper (arXiv:2402.16147) has no such controls.
"""

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor, nn

from qdm_lib.circuits import GATES, Circuit, basic, hqconv, hqconv_released
from qdm_lib.quantum import QuantumLayer


class Pointwise(nn.Module):
    """A function of each input alone, without weights: (B, n, wires) → the same shape."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)

    def extra_repr(self) -> str:
        return self.function.__name__


class LowRank(nn.Module):
    """y = U V x + b for each circuit's inputs x, with as many weights as the circuit has, all of them alive.

    84 weights on 12 wires are V (3, 12), U (12, 3) and b (12,); where the numbers do not fit a bias, as with 16
    weights on 4 wires, there is none. Its weights start from those of the circuit, θ in [0, 1), moved to a uniform
    distribution of variance 1/fan_in. (Of a product U V, rank² numbers only choose a basis between U and V.)

    ValueError where no rank gives the circuit's number of weights.
    """

    def __init__(self, layer: QuantumLayer) -> None:
        super().__init__()
        wires, n_weights = layer.circuit.n_wires, layer.circuit.n_weights
        self.wires, self.bias = wires, (n_weights - wires) % (2 * wires) == 0
        self.rank = (n_weights - wires * self.bias) // (2 * wires)
        if self.rank < 1 or self.rank * 2 * wires + wires * self.bias != n_weights:
            raise ValueError(
                f"No low-rank layer of {wires} inputs has {n_weights} weights, as {layer.circuit.name} does."
            )
        half = self.rank * wires
        start = (2 * layer.theta.detach() - 1) * 3**0.5
        v, u = start[:, :half] / wires**0.5, start[:, half : 2 * half] / self.rank**0.5
        self.weights = nn.Parameter(torch.cat([v, u, 0 * start[:, 2 * half :]], 1))

    def forward(self, x: Tensor) -> Tensor:
        half = self.rank * self.wires
        v = self.weights[:, :half].unflatten(1, (self.rank, self.wires))
        u = self.weights[:, half : 2 * half].unflatten(1, (self.wires, self.rank))
        y = torch.einsum("nir,nrj,bnj->bni", u, v, x)
        return y + self.weights[:, 2 * half :] if self.bias else y


def always_on(circuit: Circuit) -> Circuit:
    """Every controlled rotation becomes a plain one: as many angles, but no wire acts on another.

    Controlled gates without an angle (CNOT, CZ) and SWAP are left out.
    """
    gates = []
    for gate in circuit.gates:
        if len(gate.wires) == 1:
            gates.append(gate)
        elif gate.controls and GATES[gate.name][1]:
            gates.append(replace(gate, name=gate.name[1:], wires=gate.targets))  # CRX → RX
    return replace(circuit, gates=tuple(gates), name=f"{circuit.name}, controls removed")


def single_wire_gates(circuit: Circuit) -> Circuit:
    """Only the gates on single wires. Of HQConv and FQConv this leaves the encoding, so ⟨Z⟩ = cos(x)."""
    gates = tuple(gate for gate in circuit.gates if len(gate.wires) == 1)
    return replace(circuit, gates=gates, name=f"{circuit.name}, controlled gates removed", allow_dead_weights=True)


def _other_circuit(layer: QuantumLayer, circuit: Circuit) -> QuantumLayer:
    """A layer of another circuit with the same number of weights, which start from the same values."""
    with torch.random.fork_rng(devices=[]):  # its own first draw is thrown away
        other = QuantumLayer(circuit, layer.n_circuits, layer.backend)
    other.theta = nn.Parameter(layer.theta.detach().clone())
    return other


def _released(layer: QuantumLayer) -> QuantumLayer:
    """HQConv as the released code runs it; the Basic circuit on 4 wires stays. ValueError for any other circuit."""
    circuit = layer.circuit
    if circuit == basic(4, max(1, circuit.n_weights // 4)):
        return layer
    layers = max(1, circuit.n_weights // 28)
    if circuit != hqconv(layers):
        raise ValueError(f"The control hqconv_released wanted HQConv to replace, got {circuit.name}.")
    return _other_circuit(layer, hqconv_released(layers))


# Control by name: a function of the QuantumLayer that it replaces.
CONTROLS: dict[str, Callable[[QuantumLayer], nn.Module]] = {
    "zero": lambda layer: Pointwise(torch.zeros_like),
    "identity": lambda layer: Pointwise(torch.clone),
    "cos": lambda layer: Pointwise(torch.cos),
    "classical": LowRank,
    "frozen": lambda layer: layer.requires_grad_(False),
    "bare": lambda layer: _other_circuit(layer, single_wire_gates(layer.circuit)),
    "uncontrolled": lambda layer: _other_circuit(layer, always_on(layer.circuit)),
    "hqconv_released": _released,
}
