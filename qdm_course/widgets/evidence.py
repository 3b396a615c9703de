"""What the hybridization widget says about a model: counts, scores, times and losses, each from its source.

Parameters are counted. Scores come from the model's card (model.json) or, where its weights are not here, from the
study's results, the time of a step from the committed benchmark, losses from the study's results, the paper's numbers
from its tables. What is not there is None or empty, and shown as missing.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import torch

from qdm_course.widgets.films import ABLATIONS
from qdm_lib import paper
from qdm_lib.checkpoint import SHIPPED
from qdm_lib.circuits import ANSATZE
from qdm_lib.statistics import relative_change, score_and_noise
from qdm_lib.unet import MAX_CIRCUITS, PRESETS, VERTEX_CHANNELS, UNet, UNetConfig, count_parameters, vertex_conv

ROOT = Path(__file__).resolve().parents[2]
FULL = MAX_CIRCUITS + 1  # thirteen circuits, and a Basic circuit on the fortieth channel
PERCENT = {0: "0 %", 1: "10 %", 7: "50 %", FULL: "100 %"}  # the paper's names for numbers of circuits
KINDS = {"hqconv": "HQConv", "fqconv": "FQConv"}


@dataclass(frozen=True)
class Setting:
    """What a column shows: a name as in the folders of checkpoints/, such as 1hqconv-transfer, and its model."""

    name: str
    config: UNetConfig

    @property
    def circuits(self) -> int:
        return FULL if self.config.full else self.config.n_circuits

    @property
    def label(self) -> str:
        """The setting in a list: the paper's percentage where it has one, the circuits, and what is special."""
        config, kind = self.config, KINDS.get(self.config.ansatz, self.config.ansatz)
        if not config.n_circuits:
            text = "0 %, classical"
        else:
            percent = f"{PERCENT[self.circuits]}, " if self.circuits in PERCENT else ""
            text = f"{percent}{'full' if config.full else config.n_circuits} {kind}"
        text += " + quanvolution" if config.quanv else ""
        text += f", trained with {in_words(config.control)}" if config.control else ""
        if not self.name.endswith("-transfer"):
            return text
        return text + (", hand-over" if config.n_circuits else ", control hand-over")

    @property
    def share(self) -> str:
        """How many channels are quantum, exactly (the paper's 10 % is 7.5 %), and what a control puts there instead."""
        k, control = self.config.quantum_channels, self.config.control
        text = f"{k} of {VERTEX_CHANNELS} channels, {100 * k / VERTEX_CHANNELS:g}\u00a0%"
        return f"{text}: trained with {in_words(control)} in the place of circuits" if control else text


def in_words(control: str) -> str:
    """What stands in the place of the circuits, as the switch "Circuits" calls it where it has it."""
    return next((words for words, name in ABLATIONS.items() if name == control), f"the control {control}")


def make_config(circuits: int, ansatz: str, quanv: bool) -> UNetConfig:
    """The model with 0 … 13 circuits in each vertex convolution, or 14 for full; a preset's where it is one."""
    full = circuits == FULL
    config = UNetConfig("", min(circuits, MAX_CIRCUITS), full, quanv, ansatz)
    if circuits == 0 and not quanv:
        return PRESETS["unet"]
    for preset in PRESETS.values():
        key = (preset.n_circuits, preset.full, preset.quanv, preset.ansatz)
        if key == (config.n_circuits, full, quanv, ansatz):
            return preset
    name = f"{'quanv-' if quanv else ''}{'full' if full else circuits}{ansatz}"
    return UNetConfig(name, config.n_circuits, full, quanv, ansatz)


def all_settings(models: dict[tuple[str, float], Path]) -> dict[str, Setting]:
    """Everything a column can show, by name: every number of circuits, the quanvolutions, and what else is shipped."""
    configs = [PRESETS["unet"]]
    configs += [make_config(n, ansatz, False) for ansatz in KINDS for n in range(1, FULL + 1)]
    configs += [config for config in PRESETS.values() if config.quanv]
    settings = {config.preset: Setting(config.preset, config) for config in configs}
    for name, epochs in models:  # hand-overs and controls, which have no preset of their own
        if name not in settings:
            settings[name] = Setting(name, UNetConfig(**_card_file(models[name, epochs])["model_config"]))
    return settings


# ---------------------------------------------------------------------------------- models and their cards


def models_folder(root: Path) -> Path:
    """Where trained models are: those of this clone or, installed, of the wheel; of another root its checkpoints/."""
    return SHIPPED if root == ROOT else root / "checkpoints"


def shipped_models(root: Path, dataset: str) -> dict[tuple[str, float], Path]:
    """The folder of every model of a data set by (name, epochs): 1hqconv-10-epochs is ("1hqconv", 10)."""
    found = {}
    for path in sorted((models_folder(root) / dataset).glob("*/model.json")):
        epochs = card(path.parent).get("epochs")
        if epochs is not None:
            found[re.sub(r"-\d+-epochs?$", "", path.parent.name), float(epochs)] = path.parent
    return found


def datasets_with_models(root: Path) -> list[str]:
    """The data sets that have at least one shipped model."""
    return sorted({path.parents[1].name for path in models_folder(root).glob("*/*/model.json")})


@cache
def _card_file(folder: Path) -> dict:
    return json.loads((folder / "model.json").read_text(encoding="utf-8"))


def card(folder: Path) -> dict:
    """A model's card: data, recipe, epochs, scores."""
    return _card_file(folder).get("card", {})


def about_scores(folder: Path) -> dict:
    """What a model's card says of its scores: file, sampler, {name: value, low, high, floor …}; empty without any."""
    about = card(folder).get("scores")
    return about if isinstance(about, dict) else {}  # an unscored card has words in its place


def in_epochs(length: float) -> str:
    """A length of training in words: 1 epoch, 20 epochs."""
    return f"{length:g} epoch{'s' * (length != 1)}"


def handed_over(folder: Path) -> str:
    """How a hand-over was made, in the words of the model's card; empty for another model."""
    found = re.search(r"(\d+) of them as ([^;]*)", card(folder).get("protocol", ""))
    return f"{in_epochs(int(found[1]))} as {found[2]}".replace("`", "") if found else ""


@cache
def studied(root: Path, dataset: str) -> dict[tuple[str, float], dict]:
    """{(name, epochs): what a card would say of its scores} of every model that the study scored, seed 0.

    Only by the protocols of the shipped models, so that they compare. For settings whose weights are not here.
    """
    protocols = {about_scores(folder).get("protocol") for folder in shipped_models(root, dataset).values()}
    found = {}
    for path in sorted((root / "study/results").glob(f"*/{dataset}/*/seed-0.json")):
        if path.parents[2].name in protocols:
            content = json.loads(path.read_text(encoding="utf-8"))
            config, file = content["config"], path.relative_to(root / "study").as_posix()
            about = {key: config[key] for key in ("sampler", "sampler_steps")} | {"file": file}
            if move := config["transfer"]:
                how = f"(Adam: {move['optimizer']}, average: {move['ema']})"
                moved = f"its weights ({move['weights']}) without the vertex as {config['preset']} {how}"
                about["hand-over"] = f"{in_epochs(move['epochs'])} as {move['source']}, then {moved}"
            for epoch, entry in content["by_epoch"].items():
                found[_name_of(config), float(epoch)] = about | {"epoch": int(epoch), "scores": entry["scores"]}
    return found


def _name_of(config: dict) -> str:
    """What a checkpoint of a result is called; the result's own cell for a kind that is not shipped."""
    move, control = config["transfer"], config["control"]
    released = {"source": "unet", "weights": "raw", "optimizer": "restart", "ema": "restart"}
    if config.get("nudge") or (move and not released.items() <= move.items()):
        return config["cell"]
    return config["preset"] + (f"-{control}" if control else "") + ("-transfer" if move else "")


def scoring(about: dict) -> tuple:
    """How a model was scored. Two models compare only where this is equal: images, features, reference, sampler."""
    score = about.get("scores", {}).get("fid", {})
    keys = ("n", "extractor", "reference")
    return tuple(score.get(key) for key in keys), about.get("sampler"), about.get("sampler_steps")


@dataclass(frozen=True)
class Change:
    """A relative change, such as −0.12, and the half-width of its 95 % interval, from those of the two scores."""

    value: float
    half: float

    @property
    def beyond(self) -> bool:
        """Whether it is larger than the noise of drawing images."""
        return abs(self.value) > self.half


def fid_change(about: dict, other: dict | None) -> Change | None:
    """FID against another model's, from what is said of both; None without one that was scored the same way."""
    if not other or about == other or scoring(about) != scoring(other):
        return None
    ours, base = about.get("scores", {}).get("fid"), other.get("scores", {}).get("fid")
    if not ours or not base:
        return None
    return Change(*relative_change(score_and_noise(ours), score_and_noise(base)))


# ---------------------------------------------------------------------------------- counts, times, losses, the paper


@cache
def parameter_count(config: UNetConfig) -> int:
    """The trainable parameters of `UNet(config)`."""
    classical = replace(config, preset="unet", n_circuits=0, full=False, control=None)
    with torch.device("meta"):  # shapes are enough
        if config == classical:
            return count_parameters(UNet(config, torch.Generator()))
        size = 2 * (VERTEX_CHANNELS,)
        new, old = (count_parameters(vertex_conv(*size, config=each)) for each in (config, classical))
    return parameter_count(classical) + 4 * (new - old)  # only the four convolutions of the vertex differ


def percent(value: float, digits: int = 2) -> str:
    """A relative change with a sign, as the paper prints it: −1.65 %."""
    return f"{100 * value:+.{digits}f} %".replace("-", "−")


def paper_change(setting: Setting) -> str:
    """The change of the parameters that the paper prints for a setting; empty where it prints none."""
    other = setting.config.control or setting.name.endswith("-transfer")
    return "" if other else paper.CHANGE.get(setting.config.preset, "")


@dataclass(frozen=True)
class StepTime:
    """A training step against the classical one of the same run: ratio of medians, and the middle half of rounds."""

    relative: float
    low: float
    high: float


@cache
def benchmark(root: Path) -> dict:
    """The presets' part of study/benchmarks/results/training_step.json; empty where it is not there."""
    try:
        text = (root / "study/benchmarks/results/training_step.json").read_text(encoding="utf-8")
        return json.loads(text)["parts"]["presets"]
    except (OSError, ValueError, KeyError):
        return {}


def benchmark_settings(root: Path) -> str:
    """Where the benchmark's times were measured, in words; empty where there is none."""
    about = benchmark(root)
    if not about:
        return ""
    on = about["settings"]
    return f" ({about['machine']['cpu']}, {on['device']}, {on['threads']} threads, {on['batch']} images a step)"


def step_time(root: Path, preset: str) -> StepTime | None:
    """The time of a training step relative to unet's, as the benchmark says."""
    try:
        row = next(row for row in benchmark(root)["rows"] if row["name"] == preset)
        low, high = np.percentile(row["times_s"], (25, 75)) / row["baseline_median_s"]
        return StepTime(row["relative"], float(low), float(high))
    except (KeyError, StopIteration):
        return None


def losses_of(root: Path, about: dict) -> dict[int, float]:
    """{epoch: mean training loss} of the run a model comes from, up to the model's epoch; empty where none is kept."""
    file = about.get("file", "")
    path = root / "study" / file[max(0, file.find("results/")) :]
    try:
        losses = json.loads(path.read_text(encoding="utf-8")).get("losses") or {}
    except (OSError, ValueError):
        return {}
    return {int(epoch): loss for epoch, loss in losses.items() if int(epoch) <= about["epoch"]}


def paper_epochs() -> float:
    """How long the paper trains."""
    return float(paper.scores()["protocol"]["epochs"])


def paper_fid_change(dataset: str, name: str, epochs: float) -> float | None:
    """The paper's change of FID against its classical U-Net after as many epochs; None where it has none."""
    printed, length = paper.scores(), f"{epochs:g}"
    if name.endswith("-transfer"):  # into its 1FQConv, and its control, each after all of its epochs
        fids = {n: scores["fid"] for n, scores in printed["scores"].get(dataset, {}).items()}
        control = printed["classical_transfer"].get(dataset, {}).get("fid")
        given = {f"{printed['transfer_into']}-transfer": fids.get("transfer"), "unet-transfer": control}
        fid = given.get(name) if epochs == printed["protocol"]["epochs"] else None
    elif epochs == printed["protocol"]["epochs"]:  # its tables have more models than its figures
        fids = {n: scores["fid"] for n, scores in printed["scores"].get(dataset, {}).items()}
        fid = fids.get(name)
    else:
        fids = {n: by.get(length) for n, by in printed["fid_after_epochs"].get(dataset, {}).items()}
        fid = fids.get(name)
    base = fids.get("unet")
    return None if name == "unet" or fid is None or base is None else fid / base - 1


assert set(KINDS) <= set(ANSATZE)
