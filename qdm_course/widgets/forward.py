"""The widget of notebook 01: what the forward process leaves of an image at step t, under three schedules."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import ipywidgets as widgets
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor

from qdm_course.widgets.tools import LastingWidget, Picture, picture_of, row
from qdm_lib.data import load_images, to_model_range
from qdm_lib.diffusion import NoiseSchedule, cosine_betas, linear_betas
from qdm_lib.plots import OKABE_ITO

# What the widget of notebook 01 offers. The last one is there to show what goes wrong with it.
SCHEDULES: dict[str, Callable[[], Tensor]] = {
    "cosine, T = 1000": lambda: cosine_betas(1000),
    "linear, T = 1000": lambda: linear_betas(1000),
    "linear, T = 100": lambda: linear_betas(100),
}
STEP = 0.05  # share of the chain that one press of a step button moves


class ForwardFigure:
    """The four panels of `forward_process`: x_0, x_t, ᾱ against t, and SNR against t.

    What you see: a clean image; the same image as the forward process leaves it at step t; and on two curves, the
    chosen schedule in colour and the others in grey, a dot at t. The horizontal axes show t/(T-1), so that
    schedules of different length share them.

    Attributes: `figure` (matplotlib), `x_t` (1, 1, 28, 28) as drawn, `schedules`. `update` moves everything.
    """

    def __init__(self) -> None:
        self.schedules = {name: NoiseSchedule(make()) for name, make in SCHEDULES.items()}
        self.figure = Figure(figsize=(9.6, 2.9))
        FigureCanvasAgg(self.figure)  # off screen: pyplot does not know it and cannot show it a second time
        grid = self.figure.add_gridspec(
            1, 4, width_ratios=(1, 1, 1.35, 1.35), left=0.01, right=0.985, top=0.86, bottom=0.2, wspace=0.32
        )
        axes = [self.figure.add_subplot(cell) for cell in grid]
        self.pictures = [ax.imshow(torch.zeros(28, 28).numpy(), cmap="gray", vmin=-1, vmax=1) for ax in axes[:2]]
        axes[0].set_title("$x_0$, the clean image", fontsize=11)
        self.title = axes[1].set_title("", fontsize=11)
        for ax in axes[:2]:
            ax.set_axis_off()
        self.curves, self.dots = [], []
        for ax, title in zip(axes[2:], (r"$\bar\alpha_t$: signal left", "SNR (log scale)"), strict=True):
            self._curves(ax, title)
        axes[3].set_yscale("log")
        axes[3].set_ylim(1e-9, 1e5)
        axes[3].set_yticks([1e-8, 1e-4, 1, 1e4])
        axes[3].minorticks_off()

    def _curves(self, ax, title: str) -> None:
        lines = {}
        for name, schedule in self.schedules.items():
            values = schedule.alphas_cumprod if not self.curves else schedule.snr
            (lines[name],) = ax.plot(torch.linspace(0, 1, schedule.T).numpy(), values.numpy())
        self.curves.append(lines)
        (dot,) = ax.plot([0], [1], "o", ms=9, color=OKABE_ITO["vermilion"], zorder=5)
        self.dots.append(dot)
        ax.set_title(title, fontsize=11)
        ax.set_xlabel("t / (T − 1)", fontsize=10)
        ax.tick_params(labelsize=9)
        ax.grid(alpha=0.3)

    def update(self, schedule: str, t: int, x_0: Tensor, eps: Tensor) -> dict[str, float]:
        """Redraw for one schedule, step, image and noise, (1, 1, 28, 28) each; returns the numbers at t."""
        chosen = self.schedules[schedule]
        step = torch.tensor([t])
        self.x_t = chosen.q_sample(x_0, step, eps)
        self.pictures[0].set_data(x_0[0, 0].numpy())
        self.pictures[1].set_data(self.x_t[0, 0].numpy())
        self.title.set_text(f"$x_t$ at t = {t}")
        numbers = {
            "beta": chosen.betas[t].item(),
            "alphas_cumprod": chosen.alphas_cumprod[t].item(),
            "snr": chosen.snr[t].item(),
            "p2": chosen.p2_weight(step).item(),
        }
        for lines, dot, key in zip(self.curves, self.dots, ("alphas_cumprod", "snr"), strict=True):
            for name, line in lines.items():
                here = name == schedule
                line.set(color=OKABE_ITO["blue"] if here else "#BBBBBB", lw=2.5 if here else 1.2, zorder=3 + here)
            dot.set_data([t / max(1, chosen.T - 1)], [numbers[key]])
        return numbers


def forward_process(
    images: Tensor | None = None,
    titles: Sequence[str] | None = None,
    *,
    schedule: str = "cosine, T = 1000",
    t: int = 300,
    seed: int = 0,
) -> LastingWidget:
    """The widget of notebook 01: choose a schedule, a step t and an image; see x_t, ᾱ_t and the SNR.

    images: uint8 (N, 1, 28, 28) or float in [-1, 1] with one title each; by default one image of each class of the
    bundled Fashion-MNIST subset. The noise eps is drawn from `seed` and stays the same while t moves, as it does
    in the closed form x_t = √ᾱ_t x_0 + √(1-ᾱ_t) eps; "New noise" draws another.

    Returns a VBox; its attributes `controls` (by name), `view` (a `ForwardFigure`), `picture` (the PNG) and
    `numbers` (at t) are there for tests and for the curious.
    ValueError for an unknown schedule, a t outside 0 … T-1, or titles that do not fit the images.
    """
    images, titles = _one_of_each_class() if images is None else (images, titles)
    x = to_model_range(images) if images.dtype == torch.uint8 else images
    names = [f"image {k}" for k in range(len(x))] if titles is None else list(titles)
    if x.shape[1:] != (1, 28, 28) or len(names) != len(x):
        raise ValueError(f"Wanted images of shape (N, 1, 28, 28) with N titles, got {tuple(x.shape)}, {len(names)}.")
    if schedule not in SCHEDULES:
        raise ValueError(f"Unknown schedule {schedule!r}; wanted one of {', '.join(SCHEDULES)}.")
    view = ForwardFigure()
    if not 0 <= t < view.schedules[schedule].T:
        raise ValueError(f"t must lie in 0 … {view.schedules[schedule].T - 1}, not {t}.")
    return _ForwardProcess(view, x, names, schedule, t, seed)


class _ForwardProcess(LastingWidget):
    """Controls, picture and numbers of `forward_process`, and what they do to one another."""

    def __init__(self, view, x, names, schedule, t, seed) -> None:
        T = view.schedules[schedule].T
        self.view, self.x, self.names = view, x, names
        self.generator = torch.Generator().manual_seed(seed)
        self.controls = {
            "schedule": widgets.Dropdown(options=list(SCHEDULES), value=schedule, description="Schedule"),
            "t": widgets.BoundedIntText(value=t, min=0, max=T - 1, description="Step t"),
            "image": widgets.Dropdown(options=[(name, k) for k, name in enumerate(names)], description="Image"),
            "less": widgets.Button(description="Less noise"),
            "more": widgets.Button(description="More noise"),
            "redraw": widgets.Button(description="New noise"),
        }
        self.picture, self.readout = Picture(), widgets.HTML()
        rows = list(self.controls.values())
        super().__init__([row(rows[:3]), row(rows[3:]), self.picture, self.readout])
        self.place = t / (T - 1)  # where on the chain the reader stands, whatever the schedule's length
        self.busy = False  # while T and t change together, draw once at the end
        self.noise = self._draw()
        self.controls["schedule"].observe(self._change_schedule, "value")
        self.controls["t"].observe(self._change_t, "value")
        self.controls["image"].observe(lambda _: self.show(), "value")
        self.controls["less"].on_click(lambda _: self._move(-STEP))
        self.controls["more"].on_click(lambda _: self._move(STEP))
        self.controls["redraw"].on_click(self._new_noise)
        self.show()
        self.settle(schedule, t, seed, names)

    def still(self) -> str:
        return self.picture.value

    def show(self) -> None:
        """Bring picture and numbers up to what the controls say."""
        schedule, t, k = (self.controls[name].value for name in ("schedule", "t", "image"))
        self.numbers = self.view.update(schedule, t, self.x[k : k + 1], self.noise)
        alt = f"{self.names[k]} at step {t} of the schedule {schedule}"
        self.picture.show(picture_of(self.view.figure), alt)
        self.readout.value = _forward_text(t, self.numbers)

    def _draw(self) -> Tensor:
        return torch.randn(1, 1, 28, 28, generator=self.generator)

    def _new_noise(self, _) -> None:
        self.noise = self._draw()
        self.show()

    def _move(self, share: float) -> None:
        t = self.controls["t"]
        t.value += round(share * (t.max + 1))  # the control keeps it in range

    def _change_t(self, change) -> None:
        if not self.busy:
            self.place = change["new"] / self.controls["t"].max
            self.show()

    def _change_schedule(self, change) -> None:
        last = self.view.schedules[change["new"]].T - 1
        self.busy = True
        self.controls["t"].max = last
        self.controls["t"].value = round(self.place * last)
        self.busy = False
        self.show()


def _one_of_each_class() -> tuple[Tensor, tuple[str, ...]]:
    """The first image of each class of the bundled Fashion-MNIST subset, and the class names."""
    data = load_images("fashion-mnist", "train", bundled=True)
    first = [int((data.labels == k).nonzero()[0]) for k in range(len(data.class_names))]
    return data.images[first], data.class_names


def _forward_text(t: int, n: dict[str, float]) -> str:
    """The numbers at t as a line that screen readers announce when it changes."""
    share, noise = n["alphas_cumprod"] ** 0.5, (1 - n["alphas_cumprod"]) ** 0.5
    return (
        '<div role="status" aria-live="polite" style="font-size:110%">'
        f"x<sub>t</sub> = {share:.4f} · x<sub>0</sub> + {noise:.4f} · ε &emsp; "
        f"ᾱ<sub>t</sub> = {n['alphas_cumprod']:.4g} &emsp; SNR = {n['snr']:.4g} &emsp; "
        f"β<sub>t</sub> = {n['beta']:.4g} &emsp; P2 weight = {n['p2']:.4g} &emsp; (t = {t})</div>"
    )
