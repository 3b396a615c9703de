"""Fresh random draws for the checks: numbers, unitaries, states, circuits."""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from qdm_lib.circuits import Circuit, Gate


class Draw:
    """Random things from a seed (any text). All tensors are float64 or complex128."""

    def __init__(self, seed: str):
        digest = hashlib.sha256(seed.encode()).digest()
        self.python = random.Random(digest)
        self.torch = torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))

    def whole(self, least: int, most: int) -> int:
        """A whole number in least … most."""
        return self.python.randint(least, most)

    def choice(self, options: Sequence) -> Any:
        """One of the options."""
        return self.python.choice(list(options))

    def some(self, options: Sequence, n: int) -> list:
        """n different ones, in random order."""
        return self.python.sample(list(options), n)

    def normal(self, *shape: int) -> Tensor:
        """Standard normal numbers."""
        return torch.randn(shape, generator=self.torch, dtype=torch.float64)

    def uniform(self, *shape: int) -> Tensor:
        """Numbers in [0, 1)."""
        return torch.rand(shape, generator=self.torch, dtype=torch.float64)

    def angles(self, *shape: int) -> Tensor:
        """Numbers in [-π, π)."""
        return (2 * self.uniform(*shape) - 1) * math.pi

    def unitary(self, size: int = 2) -> Tensor:
        """A random unitary matrix; neither symmetric nor real."""
        return torch.linalg.qr(torch.complex(self.normal(size, size), self.normal(size, size))).Q

    def state(self, n_wires: int) -> Tensor:
        """A random state of n wires as one vector, (2**n,)."""
        psi = torch.complex(self.normal(2**n_wires), self.normal(2**n_wires))
        return psi / psi.norm()

    def generator(self) -> torch.Generator:
        """A new generator of torch, to hand to the student's function."""
        return torch.Generator().manual_seed(self.python.getrandbits(48))

    def circuit(self, n_wires: int, n_gates: int, names: Sequence[str], scale: float = 1.0) -> Circuit:
        """RX encoding of n inputs, then random gates of these names, one weight each; angle = scale · weight."""
        gates = [Gate("RX", (w,), ("input", w)) for w in range(n_wires)]
        for k in range(n_gates):
            name = self.choice(names)
            wires = tuple(self.some(range(n_wires), 2 if name.startswith("C") else 1))
            gates.append(Gate(name, wires, ("weight", k), scale))
        return Circuit(tuple(gates), n_wires, n_wires, n_gates, "a random circuit")
