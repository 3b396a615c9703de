"""Training state and finished models on disk.

A run's checkpoint and a finished model are one safetensors file each, with JSON in the file's own header:

    checkpoint.safetensors   tensors model.…, ema.…, optimizer.…, rng.…; in the header step, run configuration, model
                             configuration, noise schedule, optimiser settings, library versions
    model.safetensors        the weights; in the header model configuration, noise schedule, card

A file is replaced in one move, so a run can be killed at any instant and leaves the old state or the new one. Beside a
model stands model.json, its header for people to read; loading does not need it. Version 1 kept the JSON in a file of
its own; `qdm_lib.checkpoint_v1` still reads it, and the next save replaces it. Nothing is pickled: reading a checkpoint
from somebody else runs no code of theirs.
"""

from __future__ import annotations

import dataclasses
import json
import re
import shlex
import time
import warnings
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path, PurePosixPath

import numpy as np
import torch
from torch import Tensor, nn

from qdm_lib import checkpoint_v1
from qdm_lib.checks import whole
from qdm_lib.diffusion import NoiseSchedule, cosine_betas, linear_betas
from qdm_lib.files import read_header, read_tensors, replacing, write_tensors
from qdm_lib.machine import versions
from qdm_lib.restoring import Checkpoint, check_fit
from qdm_lib.restoring import restore as restore
from qdm_lib.transfer import TransferReport as TransferReport
from qdm_lib.transfer import transfer_weights as transfer_weights
from qdm_lib.transfer import unwrap
from qdm_lib.unet import UNet, UNetConfig

# The trained models of this repository, <data set>/<preset>: beside the package in a clone, inside it in a wheel.
_IN_WHEEL = Path(__file__).resolve().parent / "checkpoints"
SHIPPED = _IN_WHEEL if _IN_WHEEL.is_dir() else _IN_WHEEL.parents[1] / "checkpoints"
CHECKPOINT, MODEL = "checkpoint", "model"  # the two kinds of file, and how their names begin
VERSION = 2
BETAS = {"cosine": cosine_betas, "linear": linear_betas}  # schedules that a name and T tell completely


# --------------------------------------------------------------------------------------------- saving


def save_checkpoint(
    folder: str | Path, *, model: nn.Module, ema, optimizer: torch.optim.Optimizer | None, step: int,
    run_config: Mapping, generators: Mapping[str, torch.Generator], schedule: NoiseSchedule | None = None,
) -> Path:  # fmt: skip
    """Write everything a killed run needs to go on, bit for bit on the CPU; return the path of the file.

    ema: a `training.EMA` or None. step: steps finished. run_config: a dictionary that JSON can hold (data classes are
    written as dictionaries). generators: by name, each in its present state. schedule: the one it is trained with;
    `load_model` gives it to the model. TypeError or ValueError, nothing written, for what cannot be written; OSError
    where the folder cannot.
    """
    model, folder = unwrap(model), Path(folder)
    moments, param_groups = _flatten_optimizer(optimizer)
    parts = {"model": model.state_dict(), "ema": ema.state_dict() if ema is not None else {}, "optimizer": moments,
             "rng": {name: generator.get_state() for name, generator in generators.items()}}  # fmt: skip
    tensors = {f"{part}.{name}": value for part, entries in parts.items() for name, value in entries.items()}
    info = _about(CHECKPOINT, model, schedule) | {
        "step": whole("step", step, 0),
        "run_config": dict(run_config),
        "optimizer_name": None if optimizer is None else type(optimizer).__name__,
        "param_groups": param_groups,
    }
    path = _write(folder, CHECKPOINT, tensors, info)
    checkpoint_v1.remove(folder)
    return path


def save_model(folder: str | Path, model: nn.Module, card: Mapping, schedule: NoiseSchedule | None = None) -> Path:
    """Write a finished model to be shared, model.safetensors, and model.json for people; return the former's path.

    Only the model's present weights are written, so save inside `with ema.applied_to(model):` to share the averaged
    ones. card: a description that JSON can hold (data set, steps, scores, licence). schedule: as in `save_checkpoint`;
    None takes what `load_model` found.
    """
    model, folder = unwrap(model), Path(folder)
    schedule = getattr(model, "schedule", None) if schedule is None else schedule
    info = _about(MODEL, model, schedule) | {"card": dict(card)}
    path = _write(folder, MODEL, model.state_dict(), info)
    with replacing(folder / "model.json") as temporary:
        temporary.write_text(json.dumps(info, indent=2, default=_plain) + "\n", encoding="utf-8")
    return path


def _write(folder: Path, kind: str, tensors: Mapping[str, Tensor], info: dict) -> Path:
    """Write one file of either kind, after removing what a killed save left behind; return its path.

    What is younger than an hour stays: another process may be about to give it its name.
    """
    text = json.dumps(info, default=_plain)
    for leftover in (path for name in ("state-", "checkpoint.", "model.") for path in folder.glob(f".{name}*.tmp")):
        with suppress(OSError):  # that process has just done so
            if leftover.stat().st_mtime < time.time() - 3600:
                leftover.unlink()
    write_tensors(folder / f"{kind}.safetensors", tensors, text)
    return folder / f"{kind}.safetensors"


def _plain(value: object) -> object:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{value!r} cannot be written as JSON; use numbers, text, lists and dictionaries.")


def _about(kind: str, model: nn.Module, schedule: NoiseSchedule | None) -> dict:
    """The entries that both kinds of file have."""
    config, told = getattr(model, "config", None), None
    if schedule is not None:
        names = [name for name, make in BETAS.items() if torch.equal(make(schedule.T), schedule.betas)]
        told = {"T": schedule.T, "betas": names[0] if names else schedule.betas.tolist()}
    return {
        "format": f"qdm_lib {kind}",
        "version": VERSION,
        "model_config": dataclasses.asdict(config) if isinstance(config, UNetConfig) else None,
        "schedule": told,
        "versions": versions(("torch", "pennylane", "safetensors")),
    }


def _flatten_optimizer(optimizer) -> tuple[dict[str, Tensor], list[dict] | None]:
    """An optimiser's tensors by "<index of weight>.<name>" (Adam: step, exp_avg, exp_avg_sq); its groups."""
    if optimizer is None:
        return {}, None
    state, tensors = optimizer.state_dict(), {}
    for index, entry in state["state"].items():
        tensors |= {f"{index}.{name}": value for name, value in entry.items() if value is not None}
    for name, value in tensors.items():
        if not isinstance(value, Tensor):
            raise ValueError(f"The optimiser keeps {name} = {value!r}; only tensors can be saved.")
    return tensors, state["param_groups"]


# -------------------------------------------------------------------------------------------- loading


def has_checkpoint(folder: str | Path) -> bool:
    """Whether a folder holds the checkpoint of a run."""
    return any((Path(folder) / name).is_file() for name in ("checkpoint.safetensors", "checkpoint.json"))


def has_model(folder: str | Path) -> bool:
    """Whether a folder holds a finished model."""
    return any((Path(folder) / name).is_file() for name in ("model.safetensors", "model.json"))


def checkpoint_files(folder: str | Path) -> list[Path]:
    """The files that make up the checkpoint of a folder, to be copied together: one, of version 1 two."""
    one = Path(folder) / "checkpoint.safetensors"
    return [one] if one.is_file() else [Path(folder) / read_info(folder)["file"], Path(folder) / "checkpoint.json"]


def read_info(folder: str | Path) -> dict:
    """What a checkpoint or a finished model (the former, where both are there) says of itself; errors as when loading.

    Entries: model_config, schedule, versions; of a checkpoint step, run_config, optimizer_name, param_groups; of a
    model card.
    """
    folder = Path(folder)
    kind = _kind(folder)
    path = folder / f"{kind}.safetensors"
    text = read_header(path) if path.is_file() else None
    return _read_json(folder, kind) if text is None else _parse(path, kind, VERSION, text)


def _kind(folder: Path) -> str:
    return MODEL if has_model(folder) and not has_checkpoint(folder) else CHECKPOINT


def load_checkpoint(folder: str | Path) -> Checkpoint:
    """Read the checkpoint of a folder and check it against its SHA-256.

    FileNotFoundError where the folder or a file of the checkpoint is missing; ValueError for a file of an unknown
    format and for one that is not what was saved.
    """
    info, tensors = _read(Path(folder), CHECKPOINT)
    parts: dict[str, dict[str, Tensor]] = {"model": {}, "ema": {}, "optimizer": {}, "rng": {}}
    for key, value in tensors.items():
        part, _, name = key.partition(".")
        if part in parts:
            parts[part][name] = value
    about = ("step", "run_config", "model_config", "schedule", "versions", "optimizer_name", "param_groups")
    return Checkpoint(Path(folder), **{name: info.get(name) for name in about}, **parts)


def load_model(folder: str | Path, ema: bool = True, backend: str | None = None) -> UNet:
    """Rebuild the U-Net that was saved in a folder, on the CPU and in eval mode; in float64 if it was saved so.

    Reads a training checkpoint (where both are there) and what `save_model` wrote. ema: take the averaged weights,
    which samples should come from; False takes the raw ones of a training checkpoint. backend: run the circuits with
    another backend than the saved one (same values, other speed). The model's `schedule` is the `NoiseSchedule` that it
    was trained with, or None where the file does not say. Errors as of `load_checkpoint`, and ValueError for weights
    that are not there or do not fit.
    """
    folder = Path(folder)
    if _kind(folder) == MODEL:
        info, weights = _read(folder, MODEL)
        if not ema:
            raise ValueError(f"{folder} holds a finished model, with one set of weights; leave ema=True.")
        config, schedule = info["model_config"], info["schedule"]
    else:
        saved = load_checkpoint(folder)
        config, schedule, weights = saved.model_config, saved.schedule, saved.ema if ema else saved.model
        if not weights:
            raise ValueError(f"{folder} was saved without averaged weights; take the raw ones, ema=False.")
    if config is None:
        raise ValueError(f"{folder} holds no UNet; build the model it was saved from and use restore.")
    try:
        config = UNetConfig(**config)
    except TypeError as error:  # a field that this version does not know
        raise ValueError(f"{folder} describes a model this version cannot build: {error}.") from None
    model = UNet(config if backend is None else dataclasses.replace(config, backend=backend))
    check_fit(f"The file in {folder}", weights, f"the model {config.preset!r}", model.state_dict())
    model.to(torch.promote_types(torch.float32, weights["first.weight"].dtype)).load_state_dict(weights)
    model.schedule = schedule
    return model.eval()


def load_pretrained(name: str, backend: str | None = None) -> UNet:
    """A trained model of this repository by name, such as ``"fashion-mnist/1hqconv"``; nothing is downloaded.

    Its tensors are checked against their SHA-256; the card beside them describes it: data, protocol, seed, scores,
    licence. backend: as in `load_model`. Where a preset has shorter trained models only, such as
    fashion-mnist/7fqconv-2-epochs, its plain name gives the longest trained of them, with a warning that says so.

    FileNotFoundError where there are no models: they were removed. ValueError for an unknown name, with the names there
    are, and for a file that was changed. A name is no path: ``..`` is refused; a slash at its end, as a shell writes
    it, does no harm.
    """
    known = sorted(path.parent.relative_to(SHIPPED).as_posix() for path in SHIPPED.glob("*/*/model.safetensors"))
    if not known:
        advice = "give the folder of one to qdm_lib.checkpoint.load_model"
        where = f"in {SHIPPED}, where a clone of the repository and its wheel have them"
        raise FileNotFoundError(f"There are no trained models {where}; {advice}.")
    asked = PurePosixPath(name).as_posix()  # "unet/", "./unet" and "a//unet" spell the same name
    if asked in known:
        return load_model(SHIPPED / asked, backend=backend)
    is_name = asked.count("/") == 1 and ".." not in asked
    if not is_name or not (shorter := shorter_trained(SHIPPED / asked)):
        raise ValueError(f"There is no trained model {name!r} in {SHIPPED}; known are {', '.join(known)}.")
    warnings.warn(f"The longest trained {asked} here is {shorter[0].name}; the paper trains 20 epochs.", stacklevel=2)
    return load_model(shorter[0], backend=backend)


def epochs_trained(folder: Path) -> float | None:
    """For how many epochs the model of a folder was trained, as its card says; None without a card."""
    return read_info(folder).get("card", {}).get("epochs") if has_model(folder) else None


def shorter_trained(folder: Path) -> list[Path]:
    """The folders beside this one for the same model, trained shorter (x-2-epochs), the longest trained first."""
    name = re.compile(re.escape(folder.name) + r"-\d+-epochs?")
    found = [path for path in folder.parent.glob("*") if name.fullmatch(path.name) and has_model(path)]
    return sorted(found, key=lambda path: (-(epochs_trained(path) or 0), path.name))


def _read(folder: Path, kind: str) -> tuple[dict, dict[str, Tensor]]:
    """What a file says of itself, its schedule made, and its tensors."""
    path = folder / f"{kind}.safetensors"
    if path.is_file() and (found := read_tensors(path)):
        info, tensors = _parse(path, kind, VERSION, found[0]), found[1]
    else:
        info = _read_json(folder, kind)
        path, tensors = checkpoint_v1.read_tensors(folder, info)
    told, schedule = info.get("schedule"), None
    try:
        if told is not None:
            T, betas = told["T"], told["betas"]
            betas = BETAS[betas](T) if isinstance(betas, str) else torch.tensor(betas, dtype=torch.float64)
            schedule = NoiseSchedule(betas)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} tells of a noise schedule that this version does not know ({error}).") from None
    return info | {"schedule": schedule}, tensors


def _read_json(folder: Path, kind: str) -> dict:
    """What version 1 says of itself; FileNotFoundError where there is none either."""
    if not folder.is_dir() and (folder.is_file() or folder.suffix in (".json", ".safetensors")):
        raise FileNotFoundError(f"A checkpoint is named by its folder; give {folder.parent}, not {folder}.")
    path = folder / f"{kind}.json"
    if not path.is_file():
        command = f"train --out {shlex.quote(str(folder))}"
        raise FileNotFoundError(f"There is no checkpoint in {folder}; '{command}' makes one (others: docs/models.md).")
    return _parse(path, kind, 1, path.read_bytes())


def _parse(path: Path, kind: str, version: int, text: str | bytes) -> dict:
    """The JSON of a header; ValueError unless it is of this format and holds what is needed."""
    try:
        info = json.loads(text)
    except ValueError as error:  # not UTF-8, or not JSON
        raise ValueError(f"{path} is damaged: it is not JSON ({error}).") from None
    if not isinstance(info, dict) or (info.get("format"), info.get("version")) != (f"qdm_lib {kind}", version):
        found = f"{info.get('format')!r} {info.get('version')!r}" if isinstance(info, dict) else "no object"
        raise ValueError(f"{path} must be in the format 'qdm_lib {kind}' {version}; it is in {found}.")
    wanted = {"model_config": dict | None, "versions": dict}
    wanted |= {"step": int, "run_config": dict} if kind == CHECKPOINT else {"card": dict}
    wanted |= checkpoint_v1.ENTRIES if version == 1 else {}
    for key, type_ in wanted.items():
        if key not in info or not isinstance(info[key], type_):
            raise ValueError(f"{path} is damaged: its entry {key!r} is missing or of the wrong kind.")
    return info
