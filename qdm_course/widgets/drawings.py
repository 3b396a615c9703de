"""The drawings of the hybridization widget: the U-Net of a setting, and its circuit."""

from collections import Counter

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from qdm_course.figures import sketch_circuit
from qdm_course.widgets.tools import picture_of
from qdm_lib.circuits import ANSATZE
from qdm_lib.plots import draw_unet
from qdm_lib.unet import UNetConfig


def _off_screen() -> Figure:
    """A new figure that pyplot does not know and cannot show a second time; quicker than to clear an old one."""
    figure = Figure(figsize=(10.6, 5.0))
    FigureCanvasAgg(figure)
    return figure


def describe_circuit(config: UNetConfig) -> str:
    """The drawing of `HybridizationFigure.circuit` in words: wires, and how many gates of each kind."""
    circuit = ANSATZE[config.ansatz](config.layers)
    gates = ", ".join(f"{n} {name}" for name, n in Counter(gate.name for gate in circuit.gates).items())
    return (f"The gates of one {config.ansatz} circuit on {circuit.n_wires} wires, in time from left to right: "
            f"{gates}; {circuit.n_inputs} inputs, {circuit.n_weights} weights.")  # fmt: skip


class HybridizationFigure:
    """The drawings of the U-Net and of its circuit, off screen; each is a PNG, kept once drawn."""

    def __init__(self) -> None:
        self.pictures: dict[object, bytes] = {}

    def picture(self, config: UNetConfig) -> bytes:
        """The U-Net of a setting, its vertex enlarged."""
        if config not in self.pictures:
            figure = _off_screen()
            draw_unet(config, figure.add_axes((0, 0, 1, 0.95)))
            self.pictures[config] = picture_of(figure, dpi=90)
        return self.pictures[config]

    def circuit(self, config: UNetConfig) -> bytes:
        """The gates of one circuit of a setting; no bytes where it has none."""
        key = config.ansatz, config.layers
        if not config.n_circuits and not config.quanv:
            return b""
        if key not in self.pictures:
            figure = _off_screen()
            sketch_circuit(ANSATZE[config.ansatz](config.layers), figure.add_axes((0.01, 0.02, 0.98, 0.88)))
            self.pictures[key] = picture_of(figure, dpi=90)
        return self.pictures[key]
