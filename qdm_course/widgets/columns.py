"""A column of the hybridization widget: one setting, the images its model draws, and what is known of it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from html import escape
from pathlib import Path

import ipywidgets as widgets
import numpy as np

from qdm_course.widgets.evidence import (
    Setting,
    benchmark_settings,
    fid_change,
    handed_over,
    losses_of,
    paper_change,
    paper_fid_change,
    parameter_count,
    percent,
    scoring,
    step_time,
)
from qdm_course.widgets.films import IMAGES, difference, png_of, tile
from qdm_course.widgets.tools import Picture
from qdm_lib.plots import KIND_COLOURS, channel_colour
from qdm_lib.unet import PRESETS, VERTEX_CHANNELS, UNetConfig

SHARP = "display: block; width: 100%; height: auto; image-rendering: pixelated"  # each pixel stays a square at any zoom
CLASSICAL = PRESETS["unet"]
NAMES = {"fid": "FID ↓", "kid": "KID ↓", "is": "IS ↑"}  # ↓: lower is better


class Column(widgets.VBox):
    """A list of settings, the strip of vertex channels, up to three pictures with captions, and the numbers.

    `choice` is the list, `pictures` are: as trained, with the circuits replaced, and how these differ.
    """

    def __init__(self, number: int, options: list[tuple[str, str]]) -> None:
        self.choice = widgets.Dropdown(options=options, description=f"Column {number}")
        self.choice.style.description_width = "initial"
        self.choice.layout.width = "auto"
        self.head, self.numbers = widgets.HTML(), widgets.HTML()
        self.captions, self.pictures = [widgets.HTML() for _ in range(3)], [Picture(SHARP) for _ in range(3)]
        pairs = [part for pair in zip(self.captions, self.pictures, strict=True) for part in pair]
        super().__init__([self.choice, self.head, *pairs, self.numbers])
        self.layout = widgets.Layout(flex="1 1 0", min_width="170px", padding="0 6px 0 0", overflow="hidden")

    def show_films(self, films: list[tuple[str, np.ndarray]], frame: int, play: int = 0) -> None:
        """One film, or two to be compared, each with its caption, at a frame; play: not 0 to play them, once.

        Alone it shows all its images, and two show half of them and how these differ.
        """
        shown, many = [], None if len(films) == 1 else IMAGES // 2
        for caption, film in films:
            png = png_of([tile(images[:many]) for images in (film if play else film[frame : frame + 1])], play)
            what = f"{self.choice.label}: {len(film[frame][:many])} images, {caption}, frame {frame} of {len(film) - 1}"
            shown.append((caption, png, what))
        if many:
            apart, mean = difference(*(film[frame][:many] for _, film in films))
            caption = f"difference: {short(100 * mean)} % of the range (grey: none)"
            shown.append((caption, png_of([tile(apart)]), f"{self.choice.label}: {caption}, frame {frame}"))
        self._show(shown)

    def show_none(self, why: str) -> None:
        """Text in place of the images."""
        self._show([(why, b"", "")])

    def _show(self, shown: list[tuple[str, bytes, str]]) -> None:
        shown = shown + [("", b"", "")] * (3 - len(shown))
        for line, picture, (caption, png, alt) in zip(self.captions, self.pictures, shown, strict=True):
            line.layout.display, picture.layout.display = "" if caption else "none", "" if png else "none"
            line.value = f'<div style="line-height:1.3;font-size:12px">{escape(caption)}</div>'
            picture.show(png, alt)


# ---------------------------------------------------------------------------------- what stands in a column


def strip(config: UNetConfig) -> str:
    """The vertex enlarged: its 40 channels as cells, of circuits in colour, of a control white, a line after each."""
    cells = []
    for k in range(VERTEX_CHANNELS):
        quantum = k < config.quantum_channels
        basic = "basic" if config.full and k == VERTEX_CHANNELS - 1 else None
        colour = channel_colour(config, basic)[0] if quantum else KIND_COLOURS["resnet"]
        last = (quantum and k % 3 == 2) or k + 1 == config.quantum_channels
        edge = "2px solid #000" if last else "1px solid #777"
        cells.append(f'<span style="flex:1;background:{colour};border-right:{edge}"></span>')
    return (
        '<div aria-hidden="true" style="display:flex;height:14px;border:1px solid #777;margin:2px 0">'
        f"{''.join(cells)}</div>"
    )


def head(setting: Setting, hand_over: str) -> str:
    """The strip, in words how much of the vertex is quantum (the paper's 10 % is 7.5 %), and how it was handed over."""
    texts = [setting.share, hand_over]
    lines = "".join(f'<div style="line-height:1.3;font-size:12px">{escape(text)}</div>' for text in texts if text)
    return strip(setting.config) + lines


def short(value: float) -> str:
    """A number to three digits: 8.50, 0.116, 141, −0.000512."""
    return f"{value:#.3g}".rstrip(".").replace("-", "−")


def interval(score: dict) -> str:
    """A score with its 95 % interval: 8.50 [8.08, 9.03]."""
    return f"{short(score['value'])} [{short(score['low'])}, {short(score['high'])}]"


def parameter_text(setting: Setting) -> str:
    """The count, its change against the classical model, and the change that the paper prints."""
    count, base = parameter_count(setting.config), parameter_count(CLASSICAL)
    if setting.config == CLASSICAL:
        return f"{count:,}"
    paper = paper_change(setting)
    return f"{count:,}, {percent(count / base - 1)}" + (f"; paper {paper}" if paper else "")


def time_text(setting: Setting, root: Path) -> str:
    """The time of a training step relative to unet's in the same benchmark, with the middle half of its rounds."""
    time = None if setting.config.control else step_time(root, setting.config.preset)
    if time is None:
        return "not in the benchmark"
    spread = f"[{time.low:.2f}, {time.high:.2f}]"
    return f"1 {spread}" if setting.name == "unet" else f"{time.relative:.2f} × {spread}"


def change_text(about: dict, other: dict | None) -> str:
    """FID against that of another model trained as long, and whether the change is more than the noise of drawing."""
    if about == other:
        return "the one to compare with"
    if not other:
        return "no such model of this length"
    change = fid_change(about, other)
    if change is None:
        return "not scored in the same way"
    size = f"{percent(change.value, 1).removesuffix(' %')} ± {100 * change.half:.1f} %"
    return f"{size}, {'beyond' if change.beyond else 'within'} drawing noise"


def paper_text(setting: Setting, dataset: str, epochs: float) -> str:
    """The paper's change of FID against its classical model; empty where it has none."""
    change = paper_fid_change(dataset, setting.name, epochs)
    return "" if change is None else f"paper {percent(change, 1)}"


def curve(losses: dict[int, float], limits: tuple[float, float], epochs: int) -> str:
    """Loss against epochs as a small drawing on a logarithmic scale; limits and epochs are those of all columns."""
    low, high = (math.log(limit) for limit in limits)
    points = " ".join(
        f"{100 * epoch / epochs:.2f},{38 - 36 * (math.log(loss) - low) / max(high - low, 1e-9):.2f}"
        for epoch, loss in sorted(losses.items())
    )
    first, last = min(losses), max(losses)
    words = f"loss {losses[first]:#.3g} → {losses[last]:#.3g}, epochs {first} to {last}, log scale"
    if first == last:  # of one epoch, or the one after a hand-over
        words = f"loss {losses[last]:#.3g} in epoch {last}{', the only one of its own' if last > 1 else ''}"
        return f'<div style="font-size:11px;line-height:1.2">{words}</div>'
    return (
        f'<svg role="img" aria-label="{words}" viewBox="0 0 100 40" preserveAspectRatio="none" '
        'style="display:block;width:100%;height:32px;border-left:1px solid;border-bottom:1px solid">'
        f'<polyline points="{points}" fill="none" stroke="currentColor" stroke-width="1.5" '
        f'vector-effect="non-scaling-stroke"/></svg><div style="font-size:11px;line-height:1.2">{words}</div>'
    )


@dataclass(frozen=True)
class Evidence:
    """Where a column's numbers come from: the folder of its model, and what is said of its scores and of others'.

    Of the classical model and of the control hand-over, all of one length. folder is None, the others are empty, where
    there is none.
    """

    setting: Setting
    folder: Path | None
    about: dict
    classical: dict
    control: dict
    dataset: str
    epochs: float
    root: Path

    def rows(self) -> list[tuple[str, str]]:
        """(name, text) of every number under a column."""
        setting, scores = self.setting, self.about.get("scores", {})
        rows = [("Params", parameter_text(setting)), ("Step", time_text(setting, self.root))]
        paper = paper_text(setting, self.dataset, self.epochs)
        if not scores:
            rows += [("Scores", "not scored yet")] if self.folder else []
            return [*rows, ("FID vs 0 %", paper)] if paper else rows
        changes = [("FID vs 0 %", "; ".join(filter(None, (change_text(self.about, self.classical), paper))))]
        if self.hand_over and self.about != self.control:
            changes.append(("FID vs control", change_text(self.about, self.control)))
        for key, name in NAMES.items():
            rows += [(name, interval(scores[key]))] if key in scores else []
            rows += changes if key == "fid" else []
        return rows

    @property
    def losses(self) -> dict[int, float]:
        """{epoch: training loss} of the model's run, empty where none is kept."""
        return losses_of(self.root, self.about) if self.about else {}

    @property
    def hand_over(self) -> str:
        """How its model was handed over, in words; empty for another."""
        return handed_over(self.folder) if self.folder else self.about.get("hand-over", "")


def table(rows: list[tuple[str, str]]) -> str:
    """Names and texts as a small table."""
    lines = "".join(
        '<tr style="background:none"><th scope="row" style="text-align:left;vertical-align:top;padding:0 4px 0 0;'
        f'white-space:nowrap">{name}</th><td style="padding:0;text-align:left">{escape(text)}</td></tr>'
        for name, text in rows
    )
    lines = lines.replace(" %", "\u00a0%")  # a number and its sign stay together
    return f'<table style="font-size:12px;line-height:1.3;border-spacing:0;margin:2px 0">{lines}</table>'


def footer(shown: list[dict], root: Path) -> str:
    """How the numbers are to be read, from what is said of the scores shown and from the benchmark's file."""
    texts, ways = [], {scoring(about): about.get("scores", {}) for about in shown}
    for ((n, extractor, _), sampler, steps), scores in ways.items():
        if n:
            floors = ", ".join(f"{NAMES[key][:-2]} {short(scores[key]['floor'])}" for key in NAMES if key in scores)
            texts.append(f"Scores of {n:,} images by {sampler.upper()} in {steps} steps, features: {extractor}.")
            texts.append(f"↓ lower is better, ↑ higher; real images score {floors}.")
    if texts:
        texts.append("[95 % interval] and “drawing noise”: what other images of the same model would change. Each was "
                     "trained once; another training may change more.")  # fmt: skip
    texts.append("The paper’s features are Inception’s: compare its changes, not its values.")
    texts.append("Step: the time of a training step over unet’s, circuits simulated; median [middle half] of the "
                 f"benchmark’s rounds{benchmark_settings(root)}.")  # fmt: skip
    return f'<div style="font-size:11px;line-height:1.3">{escape(" ".join(texts))}</div>'
