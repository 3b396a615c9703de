"""A `Circuit` as a PennyLane QNode: PennyLane's devices, gradients, noise and drawings for our ansätze."""

from collections.abc import Callable, Iterable

from qdm_lib.checks import whole
from qdm_lib.circuits import GATES, Circuit, Gate
from qdm_lib.simulator import gate_angle


def to_qnode(
    circuit: Circuit,
    device=None,
    shots: int | None = None,
    diff_method: str | None = None,
    labels: bool | None = None,
) -> Callable:
    """The circuit as a PennyLane QNode ``f(x, theta)`` that returns ⟨Z⟩ of every wire.

    x has shape (n_inputs,) or (B, n_inputs), theta (n_weights,). The circuit's wire labels become the names of the
    device's wires.

    device: a PennyLane device, or a name ("lightning.qubit", "default.mixed", …). shots: runs per expectation value;
    None is exact. diff_method: as `qml.qnode` takes it; by default "backprop" on default.qubit, by name, without shots,
    "parameter-shift" with shots and "best" elsewhere. labels: mark each gate with its block and its angle's source, and
    put a barrier between blocks, so that ``qml.draw_mpl(f)(x, theta)`` shows them. Only default.qubit can run a marked
    gate, so the default is to mark when no device is given.

    ValueError where PennyLane has no such device, the device has too few wires, or shots is below 1.
    """
    import pennylane as qml  # here, so that models that do not use it load quickly

    shots = None if shots is None else whole("shots", shots)
    labels = device is None if labels is None else labels
    exact_default = (device is None or device == "default.qubit") and shots is None
    if device is None or isinstance(device, str):
        try:
            device = qml.device(device or "default.qubit", wires=list(circuit.labels))
        except qml.exceptions.DeviceError as error:
            known = "'default.qubit', 'default.mixed' or 'lightning.qubit'"
            raise ValueError(f"PennyLane has no device {device!r}; try {known} ({error}).") from error
    wires = list(device.wires) if device.wires else list(circuit.labels)
    if len(wires) < circuit.n_wires:
        raise ValueError(f"{circuit.name} needs {circuit.n_wires} wires, the device has {len(wires)}.")
    if diff_method is None:
        diff_method = "backprop" if exact_default else "parameter-shift" if shots else "best"

    def f(x, theta):
        for name, values, n in (("inputs", x, circuit.n_inputs), ("weights", theta, circuit.n_weights)):
            shape, kind = qml.math.shape(values), getattr(values, "dtype", type(values).__name__)
            if "complex" in str(kind) or shape[-1:] != (n,):
                raise ValueError(f"{circuit.name}: wanted real {name}, got {kind} of shape {shape}, not (…, {n}).")
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
    """Queue one gate in PennyLane, marked with its block and the source of its angle if asked."""
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
