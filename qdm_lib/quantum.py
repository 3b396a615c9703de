"""A bank of variational circuits as a torch module.

`QuantumLayer` maps (B, n_circuits, n_inputs) to (B, n_circuits, n_wires): circuit k turns row k of
its input into ⟨Z⟩ on each of its wires. Its backends compute the same function:

- ``"fast"``: the exact engine of `qdm_lib.engine`, which uses what the circuit does not couple;
- ``"statevector"``: the plain simulator of `qdm_lib.simulator`, short enough to read in class;
- ``"pennylane"``: any PennyLane device, with shots or noise if you ask for them.

Built by hand in notebook 02, sections 3 and 4.
"""

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from qdm_lib.checks import choice, whole
from qdm_lib.circuits import Circuit
from qdm_lib.engine import fast_simulate
from qdm_lib.simulator import full_precision, simulate
from qdm_lib.to_pennylane import to_qnode as to_qnode

BACKENDS = ("fast", "statevector", "pennylane")
_CHUNK = 2**19  # amplitudes the statevector backend keeps per gate before it starts to recompute


class QuantumLayer(nn.Module):
    """``n_circuits`` independent copies of one ansatz, each with its own weights; copy k sees ``x[:, k]``.

    The weights `theta` (n_circuits, n_weights) start uniform in [0, 1), drawn from `generator`; the ansatz scales
    them. backend: "fast", "statevector" or "pennylane". device, diff_method, shots: for "pennylane", as
    `qdm_lib.to_pennylane.to_qnode` takes them.

    TypeError for what is no `Circuit`; ValueError where the backend is unknown, there is no circuit at all, PennyLane's
    options are given to another backend, or shots is below 1; when called, for complex inputs and another shape.
    """

    def __init__(
        self,
        circuit: Circuit,
        n_circuits: int = 1,
        backend: str = "fast",
        *,
        device=None,
        diff_method: str | None = None,
        shots: int | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        if not isinstance(circuit, Circuit):
            raise TypeError(f"Wanted a Circuit, such as hqconv(3); got {circuit!r}.")
        choice("backend", backend, BACKENDS)
        n_circuits = whole("n_circuits", n_circuits)
        if backend != "pennylane" and (device is not None or diff_method or shots is not None):
            raise ValueError(f"device, diff_method and shots need backend='pennylane'; the backend is {backend!r}.")
        self.circuit, self.n_circuits, self.backend = circuit, n_circuits, backend
        self.theta = nn.Parameter(torch.rand(n_circuits, circuit.n_weights, generator=generator))
        if backend == "pennylane":
            self.qnode = to_qnode(circuit, device, shots, diff_method, labels=False)
            self.broadcasts = self.qnode.diff_method == "backprop"

    def forward(self, x: Tensor) -> Tensor:
        """(B, n_circuits, n_inputs) → ⟨Z⟩ (B, n_circuits, n_wires), in [−1, 1]."""
        n, k = self.n_circuits, self.circuit.n_inputs
        if x.ndim != 3 or x.shape[1:] != (n, k):
            raise ValueError(f"{self.circuit.name}: wanted inputs of shape (B, {n}, {k}), got {tuple(x.shape)}.")
        if x.is_complex():
            raise ValueError(f"{self.circuit.name}: wanted real inputs, got {x.dtype}.")
        with full_precision(x):
            x = x.to(self.theta.dtype)
            if self.backend == "fast":
                return fast_simulate(self.circuit, x, self.theta)
            run = self._run_pennylane if self.backend == "pennylane" and len(x) else self._run_statevector
            return torch.stack([run(x[:, k], self.theta[k]) for k in range(self.n_circuits)], 1)

    def _run_statevector(self, x: Tensor, theta: Tensor) -> Tensor:
        """Rows in chunks; with gradients, each chunk's states are recomputed, not stored."""
        rows = max(1, _CHUNK >> self.circuit.n_wires)
        if len(x) <= rows and self.n_circuits == 1 or not torch.is_grad_enabled():
            return torch.cat([simulate(self.circuit, part, theta) for part in x.split(rows)])
        keep = {"use_reentrant": False, "preserve_rng_state": False}
        return torch.cat([checkpoint(simulate, self.circuit, part, theta, **keep) for part in x.split(rows)])

    def _run_pennylane(self, x: Tensor, theta: Tensor) -> Tensor:
        """One broadcast run where gradients allow it, else one run for each row."""
        if self.broadcasts:
            out = torch.stack([z.expand(len(x)) for z in self.qnode(x, theta)], 1)
        else:
            out = torch.stack([torch.stack(self.qnode(row, theta)) for row in x])
        return out.to(x)

    def extra_repr(self) -> str:
        return f"{self.circuit.name}, n_circuits={self.n_circuits}, backend={self.backend!r}"
