"""A bank of variational circuits as a torch module, and the same circuit as a PennyLane QNode.

`QuantumLayer` maps (B, n_circuits, n_inputs) to (B, n_circuits, n_wires): circuit k turns row k of
its input into ⟨Z⟩ on each of its wires. Its backends compute the same function:

- ``"fast"``: the exact engine of `qdm_lib.engine`, which uses what the circuit does not couple;
- ``"statevector"``: the plain simulator of `qdm_lib.simulator`, short enough to read in class;
- ``"pennylane"``: any PennyLane device, with shots or noise if you ask for them.
"""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from qdm_lib.circuits import GATES, Circuit, Gate
from qdm_lib.engine import fast_simulate
from qdm_lib.simulator import full_precision, gate_angle, simulate

BACKENDS = ("fast", "statevector", "pennylane")
_CHUNK = 2**19  # amplitudes the statevector backend keeps per gate before it starts to recompute


class QuantumLayer(nn.Module):
    """``n_circuits`` independent copies of one ansatz, each with its own weights.

    Args:
        circuit: the ansatz.
        n_circuits: how many copies; copy k sees ``x[:, k]``.
        backend: "fast", "statevector" or "pennylane".
        device: for "pennylane": a PennyLane device or the name of one; default.qubit by default.
        diff_method: for "pennylane": as `qml.qnode` takes it; the default is "backprop" on
            default.qubit without shots, "parameter-shift" with shots and "best" elsewhere.
        shots: for "pennylane": runs per expectation value; None is exact.
        generator: source of the initial weights.

    Attributes:
        theta: (n_circuits, n_weights), uniform in [0, 1) at the start; the ansatz scales them.

    Raises:
        ValueError: an unknown backend, no circuit at all, or PennyLane options without PennyLane.
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
        if backend not in BACKENDS:
            raise ValueError(f"Unknown backend {backend!r}; wanted one of {', '.join(BACKENDS)}.")
        if n_circuits < 1:
            raise ValueError(f"A QuantumLayer holds at least one circuit, got n_circuits={n_circuits}.")
        if backend != "pennylane" and (device is not None or diff_method or shots):
            raise ValueError(f"device, diff_method and shots need backend='pennylane'; the backend is {backend!r}.")
        self.circuit, self.n_circuits, self.backend = circuit, n_circuits, backend
        self.theta = nn.Parameter(torch.rand(n_circuits, circuit.n_weights, generator=generator))
        if backend == "pennylane":
            self.qnode = to_qnode(circuit, device, shots, diff_method, labels=False)
            self.broadcasts = self.qnode.diff_method == "backprop"

    def forward(self, x: Tensor) -> Tensor:
        """(B, n_circuits, n_inputs) → ⟨Z⟩ (B, n_circuits, n_wires), in [−1, 1]."""
        if x.ndim != 3 or x.shape[1:] != (self.n_circuits, self.circuit.n_inputs):
            raise ValueError(
                f"{self.circuit.name}: wanted inputs of shape (B, {self.n_circuits}, "
                f"{self.circuit.n_inputs}), got {tuple(x.shape)}."
            )
        if x.is_complex():
            raise ValueError(f"{self.circuit.name}: wanted real inputs, got {x.dtype}.")
        with full_precision(x):
            x = x.to(self.theta.dtype)
            if self.backend == "fast":
                return fast_simulate(self.circuit, x, self.theta)
            run = self._run_pennylane if self.backend == "pennylane" else self._run_statevector
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


def to_qnode(
    circuit: Circuit,
    device=None,
    shots: int | None = None,
    diff_method: str | None = None,
    labels: bool | None = None,
) -> Callable:
    """The circuit as a PennyLane QNode ``f(x, theta)`` that returns ⟨Z⟩ of every wire.

    Args:
        circuit: any `Circuit`; its wire labels become the device's wire names.
        device: a PennyLane device, or a name ("lightning.qubit", "default.mixed", …).
        shots: runs per expectation value; None is exact.
        diff_method: as `qml.qnode` takes it; see `QuantumLayer` for the default.
        labels: mark each gate with its block and its angle's source, and put a barrier between
            blocks, so that ``qml.draw_mpl(f)(x, theta)`` shows them. Only default.qubit can run a
            marked gate, so the default is to mark when no device is given.

    Returns:
        a QNode; x has shape (n_inputs,) or (B, n_inputs), theta (n_weights,).

    Raises:
        ValueError: PennyLane has no such device; the message lists some.
    """
    import pennylane as qml  # here, so that models without it load quickly

    labels = device is None if labels is None else labels
    exact_default = (device is None or device == "default.qubit") and shots is None
    if device is None or isinstance(device, str):
        try:
            device = qml.device(device or "default.qubit", wires=list(circuit.labels))
        except qml.exceptions.DeviceError as error:
            raise ValueError(
                f"PennyLane has no device {device!r}; try 'default.qubit', 'default.mixed' or "
                f"'lightning.qubit' ({error})."
            ) from error
    wires = list(device.wires) if device.wires else list(circuit.labels)
    if len(wires) < circuit.n_wires:
        raise ValueError(f"{circuit.name} needs {circuit.n_wires} wires, the device has {len(wires)}.")
    if diff_method is None:
        diff_method = "backprop" if exact_default else "parameter-shift" if shots else "best"

    def f(x, theta):
        for name, values in (("inputs", x), ("weights", theta)):
            if "complex" in str(getattr(values, "dtype", "")):
                raise ValueError(f"{circuit.name}: wanted real {name}, got {values.dtype}.")
        previous = None
        for gate in circuit.gates:
            on = [wires[w] for w in gate.wires]
            if labels and previous not in (None, gate.block):
                qml.Barrier(wires=wires[: circuit.n_wires], only_visual=True)
            angle = gate.offset if gate.param is None else gate_angle(gate, x, theta)
            _apply(qml, gate, on, angle, labels)
            previous = gate.block
        return [qml.expval(qml.PauliZ(w)) for w in wires[: circuit.n_wires]]

    qnode = qml.QNode(f, device, interface="torch", diff_method=diff_method)
    return qml.set_shots(qnode, shots) if shots else qnode


def _apply(qml, gate: Gate, wires: Iterable, angle, labels: bool) -> None:
    """Queue one gate in PennyLane, marked with block and source of its angle if asked."""
    if not GATES[gate.name][1]:
        getattr(qml, gate.name)(wires=wires)
    elif not labels:
        getattr(qml, gate.name)(angle, wires=wires)
    else:
        source = f"{'x' if gate.param[0] == 'input' else 'θ'}{gate.param[1]}" if gate.param else ""
        text = " ".join(part for part in (gate.block.replace("encoding", ""), source) if part)
        marked = qml.drawer.label(getattr(qml, gate.name[-2:])(angle, wires=wires[-1]), text)
        if gate.controls:
            qml.ctrl(marked, control=wires[:-1])
