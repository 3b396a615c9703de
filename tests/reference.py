"""The ansätze spelled out gate by gate in PennyLane, from the design's text; no shared `Circuit` data.

Tests hold every backend to these. Each function returns a QNode f(x, theta) on default.qubit.
"""

import pennylane as qml
import torch

PI2 = 2 * torch.pi


def encode(x, n):
    for wire in range(n):
        qml.RX(x[..., wire], wires=wire)


def hqconv_layer(w):
    for slot, channel in enumerate([2, 1, 0]):
        first = 4 * channel
        ring = [(first, first + 3), (first + 3, first + 2), (first + 2, first + 1), (first + 1, first)]
        for j, (control, target) in enumerate(ring):
            qml.CRZ(PI2 * w[8 * slot + 2 * j], wires=[control, target])
            qml.CRX(PI2 * w[8 * slot + 2 * j + 1], wires=[control, target])
    qml.CRZ(PI2 * w[24], wires=[4, 8])
    qml.CRX(PI2 * w[25], wires=[4, 8])
    qml.CRZ(PI2 * w[26], wires=[0, 4])
    qml.CRX(PI2 * w[27], wires=[0, 4])


def fqconv_layer(w):
    pairs = [[(3, 11), (2, 10), (1, 9), (0, 8)], [(11, 7), (10, 6), (9, 5), (8, 4)], [(7, 3), (6, 2), (5, 1), (4, 0)]]
    for slot, channel in enumerate(pairs):
        for j, pair in enumerate(channel):
            qml.CRZ(PI2 * w[8 * slot + j], wires=pair)
        for j, pair in enumerate(channel):
            qml.CRX(PI2 * w[8 * slot + 4 + j], wires=pair)


def basic_layer(w):
    for wire in range(4):
        qml.RX(w[wire], wires=wire)
    for pair in [(0, 1), (1, 2), (2, 3), (3, 0)]:
        qml.CNOT(wires=pair)


def released_layer(w):
    qml.CRZ(PI2 * w[0], wires=[4, 8])
    qml.CRX(PI2 * w[1], wires=[4, 8])
    qml.CRZ(PI2 * w[2], wires=[0, 4])
    qml.CRX(PI2 * w[3], wires=[0, 4])


LAYERS = {"hqconv": (hqconv_layer, 12, 28), "fqconv": (fqconv_layer, 12, 24)}
LAYERS |= {"basic": (basic_layer, 4, 4), "hqconv_released": (released_layer, 12, 28)}


def qnode(name: str, layers: int):
    """f(x, theta): x (n,) or (B, n), theta (layers * weights of a layer,) → list of n ⟨Z⟩."""
    layer, n, size = LAYERS[name]

    @qml.qnode(qml.device("default.qubit", wires=n), interface="torch", diff_method="backprop")
    def f(x, theta):
        encode(x, n)
        for k in range(layers):
            layer(theta[k * size : (k + 1) * size])
        return [qml.expval(qml.PauliZ(wire)) for wire in range(n)]

    return f
