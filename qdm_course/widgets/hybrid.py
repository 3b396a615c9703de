"""The widget of notebook 05: settings of the vertex side by side, what each draws from the same noise, and its price.

Up to four columns, 0, 10, 50 and 100 % at first. Each shows images of the model trained as long as the others, and
under them its parameters, the time of a step, its scores beside the classical model's and the paper's. "Circuits"
puts something else in the place of the circuits and draws again from the same noise, in the background: a bar shows
how far it is, "Stop" stops it. No other control starts a model.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from html import escape
from pathlib import Path

import ipywidgets as widgets
import numpy as np

from qdm_course.widgets.columns import SHARP, Column, Evidence, curve, footer, head, table
from qdm_course.widgets.drawings import HybridizationFigure, describe_circuit
from qdm_course.widgets.evidence import (
    ROOT,
    Setting,
    about_scores,
    all_settings,
    datasets_with_models,
    in_epochs,
    models_folder,
    paper_epochs,
    shipped_models,
    studied,
)
from qdm_course.widgets.films import ABLATIONS, AS_TRAINED, EVERY, STEPS, ablate, draw_film, png_of, read_film, tile
from qdm_course.widgets.jobs import Job, JobError
from qdm_course.widgets.tools import LastingWidget, Picture, image_tag, row
from qdm_lib.checkpoint import load_model
from qdm_lib.checks import choice
from qdm_lib.plots import describe_unet
from qdm_lib.unet import PRESETS

FRAMES = STEPS // EVERY  # the number of the last frame
PICKED = "as picked below"
COMPARE = {
    "0, 10, 50, 100 % HQConv": ("unet", "1hqconv", "7hqconv", "fullhqconv"),
    "0, 10, 50, 100 % FQConv": ("unet", "1fqconv", "7fqconv", "fullfqconv"),
    "HQConv or FQConv": ("1hqconv", "1fqconv", "fullhqconv", "fullfqconv"),
    "quanvolution": ("unet", "1hqconv", "quanv-hqconv", "quanv-fqconv"),
    "trained with circuits or zeros": ("unet", "fullhqconv-zero", "fullhqconv", "1hqconv"),
    "hand-over": ("unet", "unet-transfer", "1hqconv-transfer", "1fqconv-transfer"),  # the second is the control
}
NOTHING = ""  # of a column that is not used
DRAWINGS = ("U-Net", "circuit", "nothing")
NO_LOSSES = '<div style="font-size:11px;line-height:1.2">no losses by epoch are kept</div>'


def hybridization(
    preset: str = "1hqconv", *, dataset: str | None = None, root: str | Path | None = None
) -> LastingWidget:
    """The hybridization widget: settings of the vertex side by side, one of them a preset of the paper.

    dataset: one with trained models; Fashion-MNIST by default. root: the folder that holds checkpoints/<data
    set>/<preset> and, where it is there, study/; the repository by default.
    Returns a VBox; its attributes `controls` (by name), `columns`, `films` (drawn and stored, by model folder, ablation
    and seed), `status` and `footer` (HTML) and `job` (the running thread, or None) are there for tests and for the
    curious.
    ValueError for an unknown preset or a data set without trained models.
    """
    choice("preset", preset, PRESETS)
    root = ROOT if root is None else Path(root)
    known = datasets_with_models(root)
    if dataset is not None:
        if not known:
            raise ValueError(f"There are no trained models in {models_folder(root)}, so none of {dataset!r}.")
        choice("data set with trained models", dataset, known)
    default = "fashion-mnist" if "fashion-mnist" in known or not known else known[0]
    return _Hybridization(preset, dataset or default, root)


class _Hybridization(LastingWidget):
    """Controls, columns and drawing of `hybridization`, and what they do to one another."""

    def __init__(self, preset: str, dataset: str, root: Path) -> None:
        self.root, self.view, self.job, self.busy, self.plays = root, HybridizationFigure(), None, True, 0
        self.models = {name: shipped_models(root, name) for name in datasets_with_models(root) or [dataset]}
        self.settings = all_settings({key: path for models in self.models.values() for key, path in models.items()})
        self.films: dict[tuple[Path, str, int], np.ndarray] = {}
        self.wished: float | None = None  # the length of training that was chosen by hand, or the first one
        self.lock = threading.RLock()
        options = [(setting.label, name) for name, setting in self.settings.items()]
        self.columns = [Column(k + 1, [*options, ("(not used)", NOTHING)] if k > 1 else options) for k in range(4)]
        self.controls = self._controls(dataset) | {f"column{k + 1}": c.choice for k, c in enumerate(self.columns)}
        self.status, self.footer = widgets.HTML(), widgets.HTML()
        self.picture = Picture("max-width: min(100%, 760px); height: auto")
        self.progress = widgets.HTML(layout=widgets.Layout(display="none"))
        c = self.controls
        pairs = [row(self.columns[:2], flex="1 1 380px"), row(self.columns[2:], flex="1 1 380px")]
        columns = row(pairs)
        for box in (columns, *pairs):
            box.layout.align_items = "flex-start"
        super().__init__([
            row([*(c[n] for n in ("dataset", "epochs", "compare", "seed", "frame", "play", "circuits", "draw", "stop")),
                 self.progress]),
            self.status,
            columns,
            self.footer,
            row([c["drawing"], c["of"]]),
            self.picture,
        ])  # fmt: skip
        c["compare"].value = next((name for name, columns in COMPARE.items() if preset in columns), PICKED)
        self._offer_epochs()
        self._compare()
        c["of"].value = next(k for k, column in enumerate(self.columns) if column.choice.value == preset)
        self._connect()
        self.busy = False
        self.show()
        self.settle(preset, dataset, root)

    def _controls(self, dataset: str) -> dict[str, widgets.Widget]:
        known = [name for name, columns in COMPARE.items() if self.settings.keys() >= set(columns)]
        controls = {
            "dataset": widgets.Dropdown(options=list(self.models), value=dataset, description="Data set"),
            "epochs": widgets.Dropdown(description="Epochs"),
            "compare": widgets.Dropdown(options=[*known, PICKED], description="Compare"),
            "seed": widgets.BoundedIntText(value=0, min=0, max=9999, description="Seed"),
            "frame": widgets.BoundedIntText(value=FRAMES, min=0, max=FRAMES, description="Frame"),
            "play": widgets.Button(description="Play"),
            "circuits": widgets.Dropdown(options=list(ABLATIONS), description="Circuits"),
            "draw": widgets.Button(description="Draw"),
            "stop": widgets.Button(description="Stop", disabled=True),
            "drawing": widgets.Dropdown(options=DRAWINGS, description="Drawing"),
            "of": widgets.Dropdown(options=[(str(k + 1), k) for k in range(4)], description="of column"),
        }
        widths = {"dataset": "180px", "epochs": "100px", "compare": "250px", "seed": "95px", "frame": "90px",
                  "play": "55px", "draw": "60px", "stop": "60px", "of": "120px", "circuits": "190px",
                  "drawing": "150px"}  # fmt: skip
        for name, control in controls.items():
            control.layout.width, control.layout.margin = widths.get(name, "auto"), "2px 10px 2px 0"
            if not isinstance(control, widgets.Button):
                control.style.description_width = "initial"
        return controls

    def _connect(self) -> None:
        c = self.controls
        c["dataset"].observe(self._change_dataset, "value")
        c["compare"].observe(self._change_compare, "value")
        for column in self.columns:
            column.choice.observe(self._change_column, "value")
        c["epochs"].observe(self._change_epochs, "value")
        for name in ("seed", "circuits"):
            c[name].observe(lambda _: self._changed(), "value")
        c["frame"].observe(lambda _: self.busy or self.show_pictures(), "value")
        for name in ("drawing", "of"):
            c[name].observe(lambda _: self._show_drawing(), "value")
        c["play"].on_click(lambda _: self.play())
        c["draw"].on_click(lambda _: self.draw(again=True))
        c["stop"].on_click(lambda _: self.stop())

    # ------------------------------------------------------------------------------ what the controls say

    def setting(self, k: int) -> Setting | None:
        """The setting of column k, 0 … 3; None where the column is not used."""
        return self.settings.get(self.columns[k].choice.value)

    def folder(self, name: str) -> Path | None:
        """The model of a setting on the chosen data set, trained as long as the control says; never another length."""
        return self.models[self.controls["dataset"].value].get((name, self.controls["epochs"].value))

    def evidence(self, k: int) -> Evidence:
        """Where the numbers of column k come from."""
        setting, c = self.setting(k), self.controls
        said = [self.about(name) for name in (setting.name, "unet", "unet-transfer")]
        return Evidence(setting, self.folder(setting.name), *said, c["dataset"].value, c["epochs"].value, self.root)

    def about(self, name: str) -> dict:
        """What is said of a setting's scores at the chosen length: by its model's card, else by the study's results."""
        if folder := self.folder(name):
            return about_scores(folder)
        dataset, epochs = self.controls["dataset"].value, self.controls["epochs"].value
        return studied(self.root, dataset).get((name, epochs), {})

    def _offer_epochs(self) -> None:
        """The lengths that the data set has models of: the one asked for, if it is among them, else the longest."""
        control = self.controls["epochs"]
        lengths = sorted({epochs for _, epochs in self.models[self.controls["dataset"].value]}) or [paper_epochs()]
        control.options = [(f"{epochs:g}", epochs) for epochs in lengths]
        control.value = self.wished if self.wished in lengths else lengths[-1]
        if self.wished is None:
            self.wished = control.value

    def _compare(self) -> None:
        """Let the columns follow the comparison, and the length follow them."""
        for column, name in zip(self.columns, COMPARE[self.controls["compare"].value], strict=True):
            column.choice.value = name
        self._fit_length()

    def _fit_length(self) -> None:
        """Leave the wanted length where fewer than two of the columns have models of it, and two have of another."""
        names, models = [column.choice.value for column in self.columns], self.models[self.controls["dataset"].value]
        count = {epochs: sum((name, epochs) in models for name in names) for _, epochs in models}
        if count.get(self.wished, 0) >= 2:
            self.controls["epochs"].value = self.wished
        elif max(count.values(), default=0) >= 2:
            self.controls["epochs"].value = max(count, key=lambda epochs: (count[epochs], epochs))

    def _change_dataset(self, _) -> None:
        self._quietly(self._offer_epochs)
        if self.controls["compare"].value in COMPARE:
            self._quietly(self._fit_length)
        self._changed()

    def _change_epochs(self, change) -> None:
        if not self.busy:
            self.wished = change["new"]
            self._changed()

    def _change_compare(self, change) -> None:
        if not self.busy and change["new"] in COMPARE:
            self._quietly(self._compare)
            self._changed()
        elif not self.busy:
            self._quietly(self._name_comparison)  # "as picked" by itself picks nothing

    def _change_column(self, _) -> None:
        if not self.busy:
            self._quietly(self._name_comparison)
            self._changed()

    def _name_comparison(self) -> None:
        """Let the comparison follow the columns."""
        chosen = tuple(column.choice.value for column in self.columns)
        names = {columns: name for name, columns in COMPARE.items()}
        self.controls["compare"].value = names.get(chosen, PICKED)

    def _quietly(self, act: Callable[[], None]) -> None:
        self.busy = True
        try:
            act()
        finally:
            self.busy = False

    def _changed(self) -> None:
        if not self.busy:
            self.stop()
            self.show()
            self.draw()

    def kept(self) -> dict[str, object]:
        return {**super().kept(), "wished": self.wished}

    def take_over(self, kept: dict[str, object]) -> None:
        """Lengths last, since a comparison moves them."""
        controls, lengths = dict(kept), ("epochs", "wished")
        epochs, wished = (controls.pop(name, None) for name in lengths)
        super().take_over(controls | ({"epochs": epochs} if epochs else {}))
        self.wished = wished or self.wished
        self.show_pictures()

    # ------------------------------------------------------------------------------ showing

    def show(self) -> None:
        """Bring columns, drawing and footer up to what the controls say."""
        used = {k: self.evidence(k) for k in range(4) if self.setting(k)}
        losses = {k: evidence.losses for k, evidence in used.items() if evidence.folder or evidence.about}
        values = [loss for curve_ in losses.values() for loss in curve_.values()]
        last = max((epoch for curve_ in losses.values() for epoch in curve_), default=0)
        for k, column in enumerate(self.columns):
            column.head.value = column.numbers.value = ""
            if k in used:
                drawn = curve(losses[k], (min(values), max(values)), last) if losses.get(k) else ""
                missing = NO_LOSSES if k in losses and not losses[k] else ""
                column.head.value = head(used[k].setting, used[k].hand_over)
                column.numbers.value = table(used[k].rows()) + (drawn or missing)
        self.footer.value = footer([evidence.about for evidence in used.values() if evidence.about], self.root)
        self.show_pictures()
        self._show_drawing()

    def film(self, folder: Path, ablation: str) -> np.ndarray | None:
        """The film of a model for the chosen seed, drawn before or stored beside it; None where there is none yet."""
        key = folder, ablation, self.controls["seed"].value
        if key not in self.films and key[1:] == (AS_TRAINED, 0):
            stored = read_film(folder / "film.png")
            if stored is not None:
                self.films[key] = stored
        return self.films.get(key)

    def wanted(self, k: int) -> list[tuple[Path, str]]:
        """The films that column k shows, as (model, ablation); without circuits there is nothing to replace."""
        setting = self.setting(k)
        folder = self.folder(setting.name) if setting else None
        if folder is None:
            return []
        ablation = self.controls["circuits"].value
        quantum = (setting.config.n_circuits or setting.config.quanv) and not setting.config.control
        return [(folder, name) for name in dict.fromkeys((AS_TRAINED, ablation if quantum else AS_TRAINED))]

    def show_pictures(self, play: int = 0) -> None:
        """The images of every column, or text in their place; play: not 0 to let them run once."""
        with self.lock:
            for k, column in enumerate(self.columns):
                there = [(name, self.film(folder, name)) for folder, name in self.wanted(k)]
                films = [(self._caption(name), film) for name, film in there if film is not None]
                if there and there[0][1] is not None:
                    column.show_films(films, self.controls["frame"].value, play)
                else:
                    column.show_none(self._why_none(k))
            self._running(self.job is not None)
            if self.job is None:
                self._say(self._same_noise())

    def _caption(self, ablation: str) -> str:
        return ablation if ablation == AS_TRAINED else f"circuits: {ablation}, drawn from the same noise"

    def _why_none(self, k: int) -> str:
        """What stands in the place of the images where there are none."""
        setting, c = self.setting(k), self.controls
        if setting is None:
            return ""
        if self.wanted(k):
            return "not drawn yet: press Draw"
        others = sorted(epochs for name, epochs in self.models[c["dataset"].value] if name == setting.name)
        text = f"no trained {setting.name} of {in_epochs(c['epochs'].value)} is here"
        text += f" (only of {', '.join(f'{epochs:g}' for epochs in others)})" if others else ""
        return text + ("; its scores are the study’s" if self.about(setting.name) else "")

    def _same_noise(self) -> str:
        """Whether all films on the screen start from the same noise, compared and not just promised."""
        films = [self.film(*one) for k in range(4) for one in self.wanted(k)]
        starts = [film[0] for film in films if film is not None]
        seed = f"(seed {self.controls['seed'].value}; frame 0 shows it); DDIM with {STEPS} steps."
        if not starts:
            return "No images to show."
        if sum(bool(self.wanted(k)) for k in range(4)) == 1:
            return f"Images from noise {seed}"
        same = all(np.array_equal(starts[0], start) for start in starts)
        models = self.models[self.controls["dataset"].value]
        few = sum((column.choice.value, self.wished) in models for column in self.columns) < 2
        moved = few and self.controls["epochs"].value != self.wished
        return (f"{'All columns start from the same' if same else 'The columns start from different'} noise {seed}"
                + (f" Fewer than two of these have models of {in_epochs(self.wished)}." if moved else ""))  # fmt: skip

    def _show_drawing(self) -> None:
        setting, what = self.setting(self.controls["of"].value), self.controls["drawing"].value
        png, alt = b"", ""
        if setting and what == "U-Net":
            png, alt = self.view.picture(setting.config), describe_unet(setting.config)
        elif setting and what == "circuit" and not setting.config.control:
            png, alt = self.view.circuit(setting.config), describe_circuit(setting.config)
        self.picture.show(png, alt)
        if not png and what != "nothing":
            self.picture.value = "This setting has no circuit." if setting else "This column is not used."

    def _say(self, text: str) -> None:
        self.status.value = f'<div role="status" aria-live="polite">{escape(text)}</div>'

    def play(self) -> None:
        """Let the films of all columns run once, in step, to the images."""
        self.plays += 1
        self._quietly(lambda: setattr(self.controls["frame"], "value", FRAMES))
        self.show_pictures(self.plays)

    def still(self) -> str:
        """The columns; where a page can show it, their films run once."""
        cards = []
        for k, column in enumerate(self.columns):
            films = [self.film(*one) for one in self.wanted(k)[:1]]
            if films and films[0] is not None:
                picture = image_tag(png_of([tile(images) for images in films[0][::2]]), column.pictures[0].alt, SHARP)
            else:
                picture = f"<div>{escape(self._why_none(k))}</div>"
            label = self.setting(k).label if self.setting(k) else ""
            parts = f"<b>{escape(label)}</b>{column.head.value}{picture}{column.numbers.value}"
            cards.append(f'<div style="flex:1 1 190px;max-width:460px">{parts}</div>')
        return f'<div style="display:flex;flex-wrap:wrap;gap:10px">{"".join(cards)}</div>{self.footer.value}'

    # ------------------------------------------------------------------------------ drawing in the background
    # The job's thread and the controls both write into the widget; the lock lets only one do so at a time.

    def on_screen(self) -> list[tuple[Path, str]]:
        """The films that the columns show, drawn or not, each once."""
        return list(dict.fromkeys(one for k in range(4) for one in self.wanted(k)))

    def draw(self, again: bool = False) -> None:
        """Draw what is neither stored nor drawn, in the background; again: all of it, where nothing is missing."""
        with self.lock:
            films = self.on_screen()
            films = [one for one in films if self.film(*one) is None] or (films if again else [])
            if self.job is None and films:
                self.job = Job(draw_all(films, self.controls["seed"].value), self._item, self._end)
                self._running(True)
                self._progress(0)
                self._say(f"drawing {films[0][0].name}, circuits {films[0][1]}")
                self.job.start()

    def _progress(self, share: float) -> None:
        self.progress.value = f'<progress aria-label="drawing" value="{share:.3f}" style="width:120px"></progress>'

    def _running(self, now: bool) -> None:
        self.controls["draw"].disabled = now or not self.on_screen()
        self.controls["stop"].disabled = not now
        self.controls["play"].disabled = now  # a film that arrives would break off the animation
        self.progress.layout.display = "" if now else "none"

    def _item(self, job: Job, item: tuple) -> None:
        share, text, key, film = item
        with self.lock:
            if job is self.job and not job.stopped.is_set():
                self._progress(share)
                if text:
                    self._say(text)
                if film is not None:
                    self.films[key] = film
                    self.show_pictures()

    def _end(self, job: Job, error: str) -> None:
        with self.lock:
            if job is self.job:
                self.job = None
                self.show_pictures()
                if error:
                    self._say(error)

    def stop(self) -> None:
        """Stop drawing; the films that are whole stay."""
        with self.lock:
            job, self.job = self.job, None
            if job is not None:
                job.stopped.set()
                self._running(False)
                self._say("Stopped.")


def draw_all(films: list[tuple[Path, str]], seed: int) -> Iterator[tuple]:
    """Draw films one after the other; yields (share done, text or "", (folder, ablation, seed), film or None).

    `JobError` at the end, where a model could not be loaded or drawn with: the others are drawn all the same.
    """
    failed = []
    for k, (folder, ablation) in enumerate(films):
        try:
            model = ablate(load_model(folder), ablation, seed)
            for step, film in enumerate(draw_film(model, seed)):
                text = f"drawing {folder.name}, circuits {ablation}" if step == 0 else ""  # said once, not at each step
                yield (k + min(1, (step + 1) / STEPS)) / len(films), text, (folder, ablation, seed), film
        except Exception as problem:  # whatever is wrong with the files of one model
            failed.append(f"{folder.name} could not be drawn: {type(problem).__name__}: {problem}")
    if failed:
        raise JobError("; ".join(failed))
