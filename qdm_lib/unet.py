"""The noise predictor eps(x_t, t): a U-Net with a classical, hybrid or fully quantum vertex.

Sizes after arXiv:2402.16147, section 4, and its released code: dim 10, multipliers (1, 2, 3, 4), images 1×28×28,
feature maps of 28, 14, 7 and 2 pixels. The paper's text gives the second level as 14×14×20; its parameter count,
483,321, and its code make it 14×14×10, as here. Built by hand in notebook 05, section 5.
"""

from dataclasses import asdict, dataclass, replace
from functools import partial

import torch
from torch import Tensor, nn

from qdm_lib.blocks import (
    FORMS,
    CircuitConv,
    ResnetBlock,
    SplitConv,
    TimeEmbedding,
    Upsample,
    VertexAttention,
    WeightStandardizedConv2d,
    fast_layout,
    lecun_normal_,
)
from qdm_lib.checks import choice, is_whole, whole
from qdm_lib.circuits import ANSATZE, Circuit, basic
from qdm_lib.controls import CONTROLS
from qdm_lib.diffusion import check_times
from qdm_lib.quantum import BACKENDS, QuantumLayer

VERTEX_CHANNELS = 40
MAX_CIRCUITS = 13  # 39 of the 40 channels; "full" adds one Basic circuit for the last


@dataclass(frozen=True)
class UNetConfig:
    """What a U-Net is made of; ``UNetConfig(**d)`` reads back what `dataclasses.asdict` makes of it, which is JSON.

    preset: the name it was built from, for reports. T: time steps it may be asked about, 0 … T−1.
    n_circuits: circuits in each vertex convolution, 0 … 13, each on 3 of the 40 channels.
    full: the 40th channel is quantum too (a Basic circuit); needs 13 circuits.
    quanv: quanvolution at encoder level two (14×14), in both ResNet blocks. paper_count: with quanv, the reading that
    gives the paper's count of 474,293: one single-layer circuit for each block, shared by its two convolutions, and
    remaining convolutions that see all 10 channels. The default is the released structure.
    ansatz: a key of `qdm_lib.circuits.ANSATZE`, of 12 wires and 12 inputs. layers: of the ansatz.
    normalize: of the vertex attention; "positions" restores the released code's axis.
    backend: of the circuits. forms: of norms and linear attention, "fast" or "plain". Both change speed only.
    control: a key of `qdm_lib.controls.CONTROLS`, which takes the place of the vertex's circuits.

    ValueError where a value lies outside these ranges.
    """

    preset: str = "unet"
    n_circuits: int = 0
    full: bool = False
    quanv: bool = False
    ansatz: str = "hqconv"
    layers: int = 3
    paper_count: bool = False
    normalize: str = "features"
    backend: str = "fast"
    control: str | None = None
    forms: str = "fast"
    T: int = 1000

    def __post_init__(self) -> None:
        for name, least, most in (("n_circuits", 0, MAX_CIRCUITS), ("layers", 1, None), ("T", 1, None)):
            object.__setattr__(self, name, whole(name, getattr(self, name), least, most))
        for name in ("full", "quanv", "paper_count"):  # "no" would count as yes
            if not isinstance(getattr(self, name), bool):
                raise ValueError(f"{name} must be True or False; got {getattr(self, name)!r}.")
        if self.full and self.n_circuits != MAX_CIRCUITS:
            raise ValueError(f"full=True needs n_circuits={MAX_CIRCUITS}, got {self.n_circuits}.")
        if self.ansatz not in ANSATZE:
            own = "Add your own with qdm_lib.circuits.ANSATZE[name] = function of the number of layers."
            raise ValueError(f"Unknown ansatz {self.ansatz!r}; known are {', '.join(ANSATZE)}. {own}")
        self.circuit(self.layers)  # an ansatz that does not fit is refused here
        if self.paper_count and not self.quanv:
            raise ValueError("paper_count=True is a reading of the quanvolution; it needs quanv=True.")
        choice("backend", self.backend, BACKENDS)
        choice("forms", self.forms, FORMS)
        choice("normalize", self.normalize, ("features", "positions"))
        if self.control is not None and choice("control", self.control, CONTROLS) and not self.n_circuits:
            raise ValueError(f"control={self.control!r} replaces circuits: it needs n_circuits of at least 1, got 0.")

    def circuit(self, layers: int) -> Circuit:
        """The ansatz; ValueError where it is no circuit for patches of three channels and four pixels."""
        circuit = ANSATZE[self.ansatz](layers)
        if not isinstance(circuit, Circuit) or (circuit.n_wires, circuit.n_inputs) != (12, 12):
            got = f"{circuit.n_wires} and {circuit.n_inputs}" if isinstance(circuit, Circuit) else repr(circuit)
            raise ValueError(f"Wanted an ansatz of 12 wires and 12 inputs, got {got} from {self.ansatz!r}.")
        return circuit

    @property
    def quantum_channels(self) -> int:
        """How many of the 40 vertex channels circuits process."""
        return VERTEX_CHANNELS if self.full else 3 * self.n_circuits

    def describe(self) -> str:
        """The hybridization in one sentence."""
        k, text = self.quantum_channels, f"{self.n_circuits} {self.ansatz} circuit{'s' * (self.n_circuits != 1)}"
        text += " and one Basic circuit" if self.full else ""
        text += f", replaced by the control {self.control}," if self.control else ""
        text = f"{text} on {k} of {VERTEX_CHANNELS} vertex channels ({k / VERTEX_CHANNELS:.1%})"
        return f"{text if k else 'classical vertex'}{', quanvolution at 14×14' if self.quanv else ''}"


PRESETS: dict[str, UNetConfig] = {
    config.preset: config
    for config in (
        UNetConfig("unet"),
        UNetConfig("1hqconv", 1),
        UNetConfig("7hqconv", 7),
        UNetConfig("fullhqconv", 13, full=True),
        UNetConfig("1fqconv", 1, ansatz="fqconv"),
        UNetConfig("7fqconv", 7, ansatz="fqconv"),
        UNetConfig("fullfqconv", 13, full=True, ansatz="fqconv"),
        UNetConfig("quanv-hqconv", 1, quanv=True),
        UNetConfig("quanv-fqconv", 1, quanv=True, ansatz="fqconv"),
    )
}


def resolve_hybridization(value: int | float | str) -> tuple[int, bool]:
    """(n_circuits, full) for a number of circuits 0 … 13, a fraction 0.0 … 1.0 or "full".

    An int counts circuits; a float is the fraction of the 40 vertex channels, rounded to whole
    circuits of 3 channels: 0.1 → 1, 0.5 → 7 (the paper's 10 % and 50 %), 1.0 → full. ValueError for any other value.
    """
    if isinstance(value, str) and value == "full":
        return MAX_CIRCUITS, True
    if is_whole(value) and 0 <= value <= MAX_CIRCUITS:
        return int(value), False
    if isinstance(value, float) and 0 <= value <= 1:
        full = bool(value == 1)  # NumPy's numbers have a bool of their own
        return MAX_CIRCUITS if full else min(MAX_CIRCUITS, round(value * VERTEX_CHANNELS / 3)), full
    known = f"a number of circuits (int 0 … {MAX_CIRCUITS}), a fraction of the vertex channels (float 0.0 … 1.0)"
    raise ValueError(f"hybridization must be {known} or 'full', got {value!r}.")


class UNet(nn.Module):
    """eps = UNet(config)(x_t, t): x_t (B, 1, 28, 28) float, t (B,) int64 0 … T−1 → (B, 1, 28, 28).

    Encoder levels: ResNet → skip → ResNet → linear attention → skip → downsample. The vertex
    works on 2×2×40. The decoder mirrors the encoder and concatenates the skips, last in first out.

    generator: source of the initial weights: LeCun-normal kernels, zero biases, θ ~ U[0, 1). When called, ValueError
    for other shapes, and what `check_times` raises; TypeError where, outside of autocast, x_t has another dtype.
    """

    def __init__(self, config: UNetConfig, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.config = config
        widths, sizes, time_dim = (10, 10, 20, 30, 40), (28, 14, 7, 2), 40
        norm, attention = FORMS[config.forms]
        block = partial(ResnetBlock, time_dim=time_dim, norm=norm)
        self.time = TimeEmbedding(10)
        self.first = nn.Conv2d(1, 10, 7, padding=3)

        self.encoder = nn.ModuleList()
        for level, (c, c_next) in enumerate(zip(widths, widths[1:], strict=False)):
            conv = _quanvolutions(config, generator) if config.quanv and level == 1 else [WeightStandardizedConv2d] * 2
            blocks = {"block1": block(c, c, conv=conv[0]), "block2": block(c, c, conv=conv[1])}
            rest = {"attention": attention(c), "down": nn.Conv2d(c, c_next, *_DOWN[level])}
            self.encoder.append(nn.ModuleDict(blocks | rest))

        conv = partial(vertex_conv, config=config, generator=generator)
        self.vertex_block1 = block(40, 40, conv=conv)
        self.vertex_attention = VertexAttention(40, normalize=config.normalize)
        self.vertex_block2 = block(40, 40, conv=conv)

        self.decoder = nn.ModuleList()
        for level in (3, 2, 1, 0):
            skip, c = widths[level], widths[level + 1]
            up = Upsample(c, skip, sizes[level - 1]) if level else nn.Conv2d(c, c, 3, padding=1)
            blocks = {"block1": block(c + skip, c), "block2": block(c + skip, c)}
            self.decoder.append(nn.ModuleDict(blocks | {"attention": attention(c), "up": up}))
        self.last_block = block(20, 10)
        self.last = nn.Conv2d(10, 1, 1)

        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                lecun_normal_(module.weight, generator)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        self._check(x_t, t)
        time = self.time(t)
        h = self.first(x_t)
        h = outermost = fast_layout(h) if self.config.forms == "fast" else h
        skips = []
        for stage in self.encoder:
            h = stage["block1"](h, time)
            skips.append(h)
            h = stage["attention"](stage["block2"](h, time))
            skips.append(h)
            h = stage["down"](h)

        h = self.vertex_block1(h, time)
        h = self.vertex_attention(h)
        h = self.vertex_block2(h, time)

        for stage in self.decoder:
            h = stage["block1"](torch.cat([h, skips.pop()], 1), time)
            h = stage["block2"](torch.cat([h, skips.pop()], 1), time)
            h = stage["up"](stage["attention"](h))
        h = self.last_block(torch.cat([h, outermost], 1), time)
        return self.last(h)

    def _check(self, x_t: Tensor, t: Tensor) -> None:
        check_times(t, self.config.T)
        if x_t.ndim != 4 or x_t.shape[1:] != (1, 28, 28) or t.shape != x_t.shape[:1]:
            got = f"{tuple(x_t.shape)} and {tuple(t.shape)}"
            raise ValueError(f"Wanted x_t of shape (B, 1, 28, 28) and t of shape (B,), got {got}.")
        wanted, kind = self.first.weight.dtype, x_t.device.type
        if wanted not in (torch.float32, torch.float64):
            raise TypeError(f"Wanted weights in float32 or float64, got {wanted}; for less use torch.autocast.")
        autocast = torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)
        if x_t.dtype != wanted and not autocast:
            raise TypeError(f"Wanted x_t of the weights' dtype {wanted}, got {x_t.dtype}.")


def vertex_conv(c_in: int, c_out: int, *, config: UNetConfig, generator: torch.Generator | None = None) -> nn.Module:
    """The vertex convolution of a config: n circuits on 3n channels, a classical (or Basic) one on the rest."""
    n, k = config.n_circuits, 3 * config.n_circuits
    if not n:
        return WeightStandardizedConv2d(c_in, c_out)
    layer = partial(QuantumLayer, backend=config.backend, generator=generator)
    control = CONTROLS[config.control] if config.control else lambda layer: layer
    quantum = CircuitConv(control(layer(config.circuit(config.layers), n)), n)
    if config.full:
        rest = CircuitConv(control(layer(basic(), 1)), 1, channels=1)
    else:
        rest = WeightStandardizedConv2d(c_in - k, c_out - k)
    return SplitConv(quantum, k, rest)


def _quanvolutions(config: UNetConfig, generator: torch.Generator | None) -> list:
    """Convolution builders for the two blocks of level two (see `UNetConfig.paper_count`)."""

    def circuit(layers: int) -> CircuitConv:
        return CircuitConv(QuantumLayer(config.circuit(layers), 1, config.backend, generator=generator), 1)

    def released(c_in: int, c_out: int) -> SplitConv:
        return SplitConv(circuit(config.layers), 3, WeightStandardizedConv2d(c_in - 3, c_out - 3))

    def paper(shared: CircuitConv, c_in: int, c_out: int) -> SplitConv:
        return SplitConv(shared, 3, WeightStandardizedConv2d(c_in, c_out - 3), rest_sees_all=True)

    return [partial(paper, circuit(1)) for _ in range(2)] if config.paper_count else [released] * 2


# Kernel, stride and padding of each level's way down: 28 → 14 → 7 → 2 → 2 pixels.
_DOWN = ((4, 2, 1), (4, 2, 1), (7, 2, 1), (3, 1, 1))


def preset_config(preset: str, hybridization: int | float | str | None = None, **overrides) -> UNetConfig:
    """The config of the model that `build_unet` makes of these; errors as there."""
    choice("preset", preset, PRESETS)
    for option in overrides:
        choice("option", option, asdict(PRESETS[preset]))
    if hybridization is not None:
        if twice := [name for name in ("n_circuits", "full") if name in overrides]:
            raise ValueError(f"hybridization={hybridization!r} says {' and '.join(twice)} already; leave one out.")
        overrides["n_circuits"], overrides["full"] = resolve_hybridization(hybridization)
    return replace(PRESETS[preset], **overrides)


def build_unet(
    preset: str = "unet",
    *,
    hybridization: int | float | str | None = None,
    seed: int | None = None,
    verbose: bool = True,
    **overrides,
) -> UNet:
    """Build a model of the paper by name, a key of `PRESETS`, with fresh weights.

    hybridization: overrides the vertex: a number of circuits (int 0 … 13), a fraction of the vertex channels (float),
    or "full"; with `verbose` one printed line says what it resolved to. seed: the same one gives the same weights.
    overrides: fields of `UNetConfig`, such as ``ansatz="fqconv"`` or ``backend="statevector"``.

    ValueError where the preset or a field is unknown, or a value is out of range; and for n_circuits or full beside
    hybridization, which says both.
    """
    config = preset_config(preset, hybridization, **overrides)
    if hybridization is not None and verbose:
        print(f"hybridization={hybridization!r}: {config.describe()}")
    generator = None if seed is None else torch.Generator().manual_seed(whole("seed", seed, 0, 2**63 - 1))
    return UNet(config, generator)


def count_parameters(model: nn.Module) -> int:
    """The number of trainable parameters; a shared one counts once."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)
