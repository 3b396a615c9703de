"""The simulators that `circuits.py` compares, each written as its own documentation shows it.

A contender turns a `Circuit` into a function that returns ⟨Z⟩ of every wire and the gradients of
Σ v·⟨Z⟩ with respect to the inputs x and the weights theta. Those that take a whole bank of circuits
at once are given it; the others run one circuit after another, `CHUNK` rows at a time, and their
weights' gradients are added up, as a training step would (the graphs of 13 circuits of 12 wires do
not fit into memory together).
"""

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch

from qdm_lib.circuits import ANSATZE, Circuit
from qdm_lib.quantum import QuantumLayer, to_qnode
from qdm_lib.simulator import expval_z, gate_angle, simulate

CHUNK = 128


def torch_gradients(forward: Callable) -> Callable:
    """From ⟨Z⟩ of (x, theta) to (⟨Z⟩, its gradient in x, its gradient in theta)."""

    def run(x, theta, v):
        x, theta = x.requires_grad_(), theta.requires_grad_()
        out = forward(x, theta)
        return out.detach(), *torch.autograd.grad(out, (x, theta), v.to(out.dtype))

    return run


def jax_gradients(forward: Callable) -> Callable:
    """The same in JAX, compiled at the first call."""
    import jax

    @jax.jit
    def run(x, theta, v):
        out, pull_back = jax.vjp(forward, x, theta)
        return out, *pull_back(v)

    return run


def batched(vmap: Callable, forward: Callable, bank: bool = False) -> Callable:
    """From one row to rows x (B, n_inputs), and for a bank to x (B, n, n_inputs), theta (n, n_weights)."""
    forward = vmap(forward, (0, None))
    return vmap(forward, (1, 0), 1) if bank else forward


def layer(backend: str) -> Callable:
    """`QuantumLayer` as a model holds it: x (B, n, n_inputs), theta (n, n_weights)."""

    def make(circuit: Circuit) -> Callable:
        bank = lru_cache(lambda n: QuantumLayer(circuit, n, backend))
        call = torch.func.functional_call
        return torch_gradients(lambda x, theta: call(bank(len(theta)), {"theta": theta}, (x,)))

    return make


def default_qubit(circuit: Circuit) -> Callable:
    qnode = to_qnode(circuit, labels=False)  # backprop, one broadcast run for all rows
    return torch_gradients(lambda x, theta: torch.stack([z.expand(len(x)) for z in qnode(x, theta)], 1))


def lightning_qubit(circuit: Circuit) -> Callable:
    import pennylane as qml

    device = qml.device("lightning.qubit", wires=list(circuit.labels), c_dtype=np.complex64)
    qnode = to_qnode(circuit, device, diff_method="adjoint")
    qnode = qnode.update(device_vjp=True)  # one backward pass for all wires of a row
    return torch_gradients(lambda x, theta: torch.stack(qnode(x, theta), 1))


def jax_default_qubit(circuit: Circuit) -> Callable:
    import jax
    import jax.numpy as jnp
    import pennylane as qml

    @qml.qnode(qml.device("default.qubit", wires=circuit.n_wires), interface="jax", diff_method="backprop")
    def qnode(x, theta):
        for gate in circuit.gates:
            getattr(qml, gate.name)(gate_angle(gate, x, theta), wires=gate.wires)
        return [qml.expval(qml.PauliZ(w)) for w in range(circuit.n_wires)]

    return jax_gradients(batched(jax.vmap, lambda x, theta: jnp.stack(qnode(x, theta))))


def torchquantum(circuit: Circuit) -> Callable:
    import torchquantum as tq

    def forward(x, theta):
        device = tq.QuantumDevice(n_wires=circuit.n_wires, bsz=len(x), device=str(x.device))
        for gate in circuit.gates:
            apply = getattr(tq.functional, gate.name.lower())
            apply(device, wires=list(gate.wires), params=gate_angle(gate, x, theta).reshape(-1))
        return tq.MeasureAll(tq.PauliZ)(device)

    return torch_gradients(forward)


def flagquantum(circuit: Circuit) -> Callable:
    import flagquantum as fq

    def forward(x, theta):
        program = fq.Circuit(circuit.n_wires, bsz=len(x), dtype=torch.complex64, device=x.device)
        for gate in circuit.gates:
            getattr(program, gate.name.lower())(*gate.wires, gate_angle(gate, x, theta))
        return program.expectation_z()

    return torch_gradients(forward)


def deepquantum(circuit: Circuit) -> Callable:
    import deepquantum as dq

    program = dq.QubitCircuit(circuit.n_wires)
    for gate in circuit.gates:
        getattr(program, gate.name.lower())(*gate.wires, encode=True)
    for wire in range(circuit.n_wires):
        program.observable(wire)

    def forward(x, theta):
        angles = [gate_angle(gate, x, theta).expand(len(x)) for gate in circuit.gates]
        program(data=torch.stack(angles, 1))
        return program.expectation()

    return torch_gradients(forward)


def pyqtorch(circuit: Circuit) -> Callable:
    import pyqtorch as pyq

    operations = [getattr(pyq, gate.name)(*gate.wires, f"angle{k}") for k, gate in enumerate(circuit.gates)]
    program = pyq.QuantumCircuit(circuit.n_wires, operations).to(dtype=torch.complex64)

    def forward(x, theta):
        zero = pyq.zero_state(circuit.n_wires, batch_size=len(x), dtype=torch.complex64, device=x.device)
        angles = {f"angle{k}": gate_angle(gate, x, theta).reshape(-1) for k, gate in enumerate(circuit.gates)}
        return expval_z(pyq.run(program, zero, angles).movedim(-1, 0))  # its batch axis is the last

    return torch_gradients(forward)


def mindquantum(circuit: Circuit) -> Callable:
    import mindquantum as mq
    from mindquantum.core import gates
    from mindquantum.core.operators import Hamiltonian, QubitOperator

    parts = {"input": mq.Circuit(), "weight": mq.Circuit()}
    for gate in circuit.gates:
        kind, k = gate.param
        operation = getattr(gates, gate.name[-2:])({f"{kind}{k}": gate.scale})
        parts[kind] += operation.on(gate.wires[-1], list(gate.controls)) if gate.controls else operation.on(gate.wires)
    program = parts["input"].as_encoder() + parts["weight"].as_ansatz()
    simulator = mq.Simulator("mqvector", circuit.n_wires, dtype=mq.complex64)
    z = [Hamiltonian(QubitOperator(f"Z{w}")).astype(mq.complex64) for w in range(circuit.n_wires)]
    jacobian = simulator.get_expectation_with_grad(z, program, parallel_worker=torch.get_num_threads())

    def run(x, theta, v):
        out, by_input, by_weight = (part.real for part in jacobian(x.numpy(), theta.numpy()))
        v = v.numpy()
        return out, np.einsum("bw,bwi->bi", v, by_input), np.einsum("bw,bwi->i", v, by_weight)

    return run


def tensorcircuit(backend: str, light_cone: bool = False) -> Callable:
    """TensorCircuit-NG on JAX or torch; with ``light_cone`` each ⟨Z⟩ contracts only gates that reach it."""

    def make(circuit: Circuit) -> Callable:
        import tensorcircuit as tc

        K = tc.set_backend(backend)
        tc.set_dtype("complex64")

        def forward(x, theta):
            program = tc.Circuit(circuit.n_wires)
            for gate in circuit.gates:
                getattr(program, gate.name.lower())(*gate.wires, theta=gate_angle(gate, x, theta))
            options = {"reuse": False, "enable_lightcone": True} if light_cone else {}
            return K.stack([K.real(program.expectation_ps(z=[w], **options)) for w in range(circuit.n_wires)])

        if backend == "jax":
            import jax

            return jax_gradients(batched(jax.vmap, forward, bank=light_cone))
        return torch_gradients(batched(torch.func.vmap, forward, bank=light_cone))

    return make


@dataclass(frozen=True)
class Contender:
    """One way to run a bank of circuits.

    make: from a `Circuit` to ``run(x, theta, v)`` → (⟨Z⟩, gradient in x, gradient in theta). package: the module it
    needs; install: the name that pip knows it by. bank: ``run`` takes all circuits and rows at once; otherwise one
    circuit and `CHUNK` rows. arrays: what ``run`` takes: "torch" tensors or "jax" arrays. limit: rows, over all
    circuits, that one call gets through in reasonable time. ansatze: the ansätze that it is measured on. note: what the
    reader of the table has to know.
    """

    make: Callable
    package: str = "torch"
    install: str = "torch"
    bank: bool = False
    arrays: str = "torch"
    limit: int = 13 * CHUNK
    ansatze: tuple[str, ...] = ("hqconv", "fqconv")
    note: str = ""


_TC = {"package": "tensorcircuit", "install": "tensorcircuit-ng jax"}
_ALL = 10**9
CONTENDERS = {
    "fast": Contender(layer("fast"), bank=True, limit=_ALL),
    "statevector": Contender(layer("statevector"), bank=True),
    "default.qubit, torch": Contender(default_qubit, note="PennyLane, backprop and broadcasting; computes in double"),
    "lightning.qubit": Contender(lightning_qubit, limit=CHUNK, note="PennyLane, adjoint, row by row"),
    "default.qubit, jax": Contender(
        jax_default_qubit, "jax", "jax", arrays="jax", note="PennyLane in jax.jit(vmap), the authors' way"
    ),
    "torchquantum": Contender(torchquantum, "torchquantum", "torchquantum-ng"),
    "flagquantum": Contender(flagquantum, "flagquantum", "--no-deps flagquantum"),
    "deepquantum": Contender(deepquantum, "deepquantum", "deepquantum"),
    "pyqtorch": Contender(pyqtorch, "pyqtorch", "pyqtorch"),
    "mindquantum": Contender(
        mindquantum, "mindquantum", "--no-deps mindquantum", limit=CHUNK, note="adjoint, a Jacobian for each row"
    ),
    "tensorcircuit, jax": Contender(tensorcircuit("jax"), **_TC, arrays="jax"),
    "tensorcircuit, torch": Contender(tensorcircuit("pytorch"), **_TC),
    "tensorcircuit, jax, light cone": Contender(
        tensorcircuit("jax", True), **_TC, arrays="jax", bank=True, limit=_ALL, ansatze=("fqconv",)
    ),
    "tensorcircuit, torch, light cone": Contender(
        tensorcircuit("pytorch", True), **_TC, bank=True, limit=_ALL, ansatze=("fqconv",)
    ),
}


def missing(name: str) -> bool:
    """Whether the package of this contender is not installed."""
    return importlib.util.find_spec(CONTENDERS[name].package) is None


def piece(name: str, circuits: int, rows: int) -> tuple[int, int]:
    """(circuits, rows) that this contender is measured on: all of them, or as many as its limit allows."""
    limit = max(CONTENDERS[name].limit, min(rows, CHUNK))
    if circuits * rows <= limit:
        return circuits, rows
    return max(1, min(circuits, limit // rows)), min(rows, limit)


def draw(circuit: Circuit, circuits: int, rows: int) -> tuple[torch.Tensor, ...]:
    """x (rows, circuits, n_inputs) and v (rows, circuits, n_wires) normal, theta (circuits, n_weights) in [0, 1)."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(rows, circuits, circuit.n_inputs, generator=generator)
    theta = torch.rand(circuits, circuit.n_weights, generator=generator)
    return x, theta, torch.randn(rows, circuits, circuit.n_wires, generator=generator)


def array(part) -> np.ndarray:
    """A torch tensor of any device, or a JAX array, as NumPy's."""
    return np.asarray(part.cpu() if isinstance(part, torch.Tensor) else part)


def build(name: str, ansatz: str, layers: int, circuits: int, rows: int, device: str = "cpu") -> Callable:
    """The function that `common.measure` times: forward and backward of this contender's `piece`.

    It returns (⟨Z⟩ (rows, circuits, n_wires), its gradient in x, in theta).
    """
    contender, circuit = CONTENDERS[name], ANSATZE[ansatz](layers)
    x, theta, v = draw(circuit, circuits, rows)
    circuits, rows = piece(name, circuits, rows)
    x, theta, v = (part.to(device) for part in (x[:rows, :circuits], theta[:circuits], v[:rows, :circuits]))
    pieces = [(x, theta, v)]
    if not contender.bank:
        split = zip(x.split(CHUNK), v.split(CHUNK), strict=True)
        pieces = [(a[:, k], theta[k], b[:, k]) for a, b in split for k in range(circuits)]
    pieces = [[part.clone() for part in parts] for parts in pieces]  # leaves of autograd
    if contender.arrays == "jax":
        import jax.numpy as jnp

        pieces = [[jnp.asarray(part.numpy()) for part in parts] for parts in pieces]
    run = contender.make(circuit)

    def call():
        done = [run(*parts) for parts in pieces]
        if contender.bank:
            return [array(part) for part in done[0]]
        out, by_x, by_theta = ([array(part) for part in parts] for parts in zip(*done, strict=True))
        chunks = range(0, len(done), circuits)
        joined = [np.concatenate([np.stack(parts[k : k + circuits], 1) for k in chunks]) for parts in (out, by_x)]
        return *joined, np.stack([sum(by_theta[k::circuits]) for k in range(circuits)])

    return call


def reference(ansatz: str, layers: int, circuits: int, rows: int) -> Callable:
    """The plain statevector in float64: (⟨Z⟩, gradient in x, gradient in theta for each `CHUNK` of rows)."""
    circuit = ANSATZE[ansatz](layers)
    x, theta, v = (part.double() for part in draw(circuit, circuits, rows))
    run = torch_gradients(lambda x, theta: simulate(circuit, x, theta))

    def call():
        out, by_x, by_theta = torch.empty_like(v), torch.empty_like(x), []
        for k in range(0, rows, CHUNK):
            here = slice(k, k + CHUNK)
            parts = [run(x[here, n].clone(), theta[n].clone(), v[here, n]) for n in range(circuits)]
            out[here], by_x[here] = (torch.stack([part[j] for part in parts], 1) for j in (0, 1))
            by_theta.append(torch.stack([part[2] for part in parts]))
        return out, by_x, torch.stack(by_theta)

    return call
