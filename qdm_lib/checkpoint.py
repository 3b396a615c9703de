"""Training state on disk, finished models, and weights carried from one model to another.

A run's checkpoint and a finished model are one safetensors file each, with JSON in the file's own header:

    checkpoint.safetensors   tensors model.…, ema.…, optimizer.…, rng.…; in the header step, run configuration, model
                             configuration, noise schedule, optimiser settings, library versions
    model.safetensors        the weights; in the header model configuration, noise schedule, card

A file is replaced in one move, so a run can be killed at any instant and leaves the old state or the new one, never a
mixture. Beside a model stands model.json, its header for people to read; loading does not need it. Version 1 kept the
JSON in a file of its own, checkpoint.json or model.json; it is still read, and replaced by the next save.

Nothing is pickled: reading a checkpoint from somebody else runs no code of theirs.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
import shlex
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import numpy as np
import safetensors.torch
import torch
from torch import Tensor, nn

from qdm_lib.checks import whole
from qdm_lib.diffusion import NoiseSchedule, cosine_betas, linear_betas
from qdm_lib.files import check_sha256, read_header, read_tensors, replacing, write_tensors
from qdm_lib.machine import versions
from qdm_lib.transfer import TransferReport as TransferReport
from qdm_lib.transfer import transfer_weights as transfer_weights
from qdm_lib.transfer import unwrap
from qdm_lib.unet import UNet, UNetConfig

# The trained models of this repository, <data set>/<preset>. They stand beside the package, not in it: there when it is
# installed as `make` does it (pip install -e, from a checkout), not when it was copied by a plain pip install.
SHIPPED = Path(__file__).resolve().parents[1] / "checkpoints"
CHECKPOINT, MODEL = "checkpoint", "model"  # the two kinds of file, and how their names begin
VERSION = 2
BETAS = {"cosine": cosine_betas, "linear": linear_betas}  # schedules that a name and T tell completely
FREE_OPTIONS = ("foreach", "fused", "capturable", "differentiable", "initial_lr")  # how an optimiser computes, not what


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint read into memory (on the CPU); `restore` puts it back into living objects.

    step: optimiser steps finished. run_config: what the caller saved (preset, seeds, data set …).
    model_config: the fields of `UNetConfig`, or None for another kind of model. schedule: of the noise, or None
    where it was not told. model, ema: state dicts. optimizer: its tensors by "<index of weight>.<name>", with
    the name of its class and its param_groups beside them. rng: generator states.
    """

    folder: Path
    step: int
    run_config: dict
    model_config: dict | None
    schedule: NoiseSchedule | None
    versions: dict[str, str]
    optimizer_name: str | None
    param_groups: list[dict] | None
    model: dict[str, Tensor] = field(repr=False)
    ema: dict[str, Tensor] = field(repr=False)
    optimizer: dict[str, Tensor] = field(repr=False)
    rng: dict[str, Tensor] = field(repr=False)


# --------------------------------------------------------------------------------------------- saving


def save_checkpoint(
    folder: str | Path, *, model: nn.Module, ema, optimizer: torch.optim.Optimizer | None, step: int,
    run_config: Mapping, generators: Mapping[str, torch.Generator], schedule: NoiseSchedule | None = None,
) -> Path:  # fmt: skip
    """Write everything a killed run needs to go on, bit for bit on the CPU; return the path of the file.

    ema: a `training.EMA` or None. step: steps finished. run_config: a dictionary that JSON can hold (data
    classes in it are written as dictionaries). generators: by name, each saved in its present state. schedule: the one
    it is trained with; `load_model` gives it to the model, and images are then drawn with no other.

    Raises TypeError or ValueError, writing nothing, for what cannot be written; OSError where the folder cannot.
    """
    model, folder = unwrap(model), Path(folder)
    tensors = {f"model.{k}": v for k, v in model.state_dict().items()}
    if ema is not None:
        tensors |= {f"ema.{k}": v for k, v in ema.state_dict().items()}
    optimizer_tensors, param_groups = _flatten_optimizer(optimizer)
    tensors |= {f"optimizer.{k}": v for k, v in optimizer_tensors.items()}
    tensors |= {f"rng.{k}": g.get_state() for k, g in generators.items()}
    info = _about(CHECKPOINT, model, schedule) | {
        "step": whole("step", step, 0),
        "run_config": dict(run_config),
        "optimizer_name": None if optimizer is None else type(optimizer).__name__,
        "param_groups": param_groups,
    }
    text = _to_json(info)
    _remove_leftovers(folder)
    write_tensors(folder / "checkpoint.safetensors", tensors, text)
    for old in (folder / "checkpoint.json", *folder.glob("state-*.safetensors")):  # of version 1
        old.unlink(missing_ok=True)
    return folder / "checkpoint.safetensors"


def save_model(folder: str | Path, model: nn.Module, card: Mapping, schedule: NoiseSchedule | None = None) -> Path:
    """Write a finished model to be shared, model.safetensors, and model.json for people; return the former's path.

    Only the model's present weights are written, so save inside `with ema.applied_to(model):` to share the averaged
    ones. card: a description that JSON can hold (data set, steps, scores, licence). schedule: as in `save_checkpoint`;
    None takes what `load_model` found. `load_model` reads the first file alone: at any moment the old model or the new.
    """
    model, folder = unwrap(model), Path(folder)
    schedule = getattr(model, "schedule", None) if schedule is None else schedule
    info = _about(MODEL, model, schedule) | {"card": dict(card)}
    text = _to_json(info)
    _remove_leftovers(folder)
    write_tensors(folder / "model.safetensors", model.state_dict(), text)
    with replacing(folder / "model.json") as temporary:
        temporary.write_text(json.dumps(json.loads(text), indent=2) + "\n", encoding="utf-8")
    return folder / "model.safetensors"


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
    state = optimizer.state_dict()
    tensors = {f"{index}.{name}": v for index, entry in state["state"].items() for name, v in entry.items()}
    tensors = {name: value for name, value in tensors.items() if value is not None}
    for name, value in tensors.items():
        if not isinstance(value, Tensor):
            raise ValueError(f"The optimiser keeps {name} = {value!r}; only tensors can be saved.")
    return tensors, state["param_groups"]


def _to_json(info: dict) -> str:
    def plain(value):
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            return dataclasses.asdict(value)
        if isinstance(value, np.generic):
            return value.item()
        raise TypeError(f"{value!r} cannot be written as JSON; use numbers, text, lists and dictionaries.")

    return json.dumps(info, default=plain)


def _remove_leftovers(folder: Path) -> None:
    """Delete temporary files that a killed save left behind."""
    for path in (p for name in ("state-", "checkpoint.", "model.") for p in folder.glob(f".{name}*.tmp")):
        path.unlink(missing_ok=True)


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
    kind = MODEL if has_model(folder) and not has_checkpoint(folder) else CHECKPOINT
    path = folder / f"{kind}.safetensors"
    text = read_header(path) if path.is_file() else None
    return _read_json(folder, kind) if text is None else _parse(path, kind, VERSION, text)


def load_checkpoint(folder: str | Path) -> Checkpoint:
    """Read the checkpoint of a folder and check it against its SHA-256.

    Raises FileNotFoundError where the folder or a file of the checkpoint is missing; ValueError for a file of an
    unknown format and for one that is not what was saved.
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
    """Rebuild the U-Net that was saved in a folder, on the CPU and in eval mode.

    Reads a training checkpoint (where both are there) and what `save_model` wrote. ema: take the averaged weights,
    which samples should come from; False takes the raw ones of a training checkpoint. backend: run the circuits with
    another backend than the saved one (same values, other speed). The model's `schedule` is the `NoiseSchedule` that it
    was trained with, or None where the file does not tell.

    Raises the errors of `load_checkpoint`, and ValueError for weights that are not there or do not fit.
    """
    folder = Path(folder)
    if has_model(folder) and not has_checkpoint(folder):
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
    _check_fit(f"The weights in {folder}", weights, f"the model {config.preset!r}", model.state_dict())
    model.load_state_dict(weights)
    model.schedule = schedule
    return model.eval()


def load_pretrained(name: str, backend: str | None = None) -> UNet:
    """A trained model of this repository by name, such as ``"fashion-mnist/1hqconv"``; nothing is downloaded.

    Its tensors are checked against their SHA-256; the card beside them describes it: data, protocol, seed, scores,
    licence. backend: as in `load_model`. Where a preset has shorter trained models only, such as
    fashion-mnist/7hqconv-2-epochs, its plain name gives the longest trained of them, with a warning that says so.

    FileNotFoundError where there are no models: they are in the repository, not in the package, which must be installed
    from a checkout by `pip install -e .`. ValueError for an unknown name, with the names there are, and for a file that
    was changed. A name is no path: ``..`` is refused; a slash at its end, as a shell writes it, does no harm.
    """
    known = sorted(path.parent.relative_to(SHIPPED).as_posix() for path in SHIPPED.glob("*/*/model.safetensors"))
    if not known:
        raise FileNotFoundError(
            f"There are no trained models in {SHIPPED}; they come with the repository, where 'pip install -e .' (with "
            "-e) lets the package find them; or give the folder of one to qdm_lib.checkpoint.load_model."
        )
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
    found = read_tensors(path) if path.is_file() else None
    if found is not None:
        info, tensors = _parse(path, kind, VERSION, found[0]), found[1]
    else:  # version 1
        info = _read_json(folder, kind)
        path = folder / Path(info["file"]).name  # never outside the folder, whatever the JSON says
        if not path.is_file():
            raise FileNotFoundError(f"The tensors of the checkpoint are missing: there is no file {path}.")
        data = path.read_bytes()
        check_sha256(path, hashlib.sha256(data).hexdigest(), info["sha256"])
        tensors = safetensors.torch.load(data)
    return info | {"schedule": _make_schedule(path, info.get("schedule"))}, tensors


def _make_schedule(path: Path, told: dict | None) -> NoiseSchedule | None:
    if told is None:
        return None
    try:
        T, betas = told["T"], told["betas"]
        return NoiseSchedule(BETAS[betas](T) if isinstance(betas, str) else torch.tensor(betas, dtype=torch.float64))
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} tells of a noise schedule that this version does not know ({error}).") from None


def _read_json(folder: Path, kind: str) -> dict:
    """What version 1 says of itself."""
    if not folder.is_dir() and (folder.is_file() or folder.suffix in (".json", ".safetensors")):
        raise FileNotFoundError(f"A checkpoint is named by its folder; give {folder.parent}, not {folder}.")
    path = folder / f"{kind}.json"
    if not path.is_file():
        command = f"train --out {shlex.quote(str(folder))}"
        raise FileNotFoundError(f"There is no checkpoint in {folder}; '{command}' makes one.")
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
    wanted |= {"file": str, "sha256": str} if version == 1 else {}
    for key, type_ in wanted.items():
        if key not in info or not isinstance(info[key], type_):
            raise ValueError(f"{path} is damaged: its entry {key!r} is missing or of the wrong kind.")
    return info


# ------------------------------------------------------------------------------------------ restoring


def restore(
    checkpoint: Checkpoint, *, model: nn.Module | None = None, ema=None,
    optimizer: torch.optim.Optimizer | None = None, generators: Mapping[str, torch.Generator] | None = None,
    schedule: NoiseSchedule | None = None,
) -> None:  # fmt: skip
    """Put a checkpoint back into a model, its `EMA`, its optimiser and random generators, each if given.

    All of it must fit: everything is checked before anything is changed. Raises ValueError naming the settings or the
    first few tensors that differ. The learning rate and Adam's betas become the saved ones. schedule: the one to go on
    with, only compared.
    """
    where, generators = f"The checkpoint in {checkpoint.folder}", dict(generators or {})
    if model is not None:
        model = unwrap(model)
        _check_config(where, checkpoint.model_config, getattr(model, "config", None))
        _check_fit(where, checkpoint.model, "the model", model.state_dict())
    if ema is not None:
        _check_fit(where, checkpoint.ema, "the averaged weights", ema.state_dict())
    if optimizer is not None:
        optimizer_state = _optimizer_state(where, checkpoint, optimizer)
    if None not in (schedule, checkpoint.schedule) and not torch.equal(schedule.betas, checkpoint.schedule.betas):
        raise ValueError(f"{where} was trained with {checkpoint.schedule}, not with {schedule}.")
    for name, generator in generators.items():
        saved = checkpoint.rng.get(name)
        if saved is None or saved.shape != generator.get_state().shape:
            known = ", ".join(checkpoint.rng) or "none"
            raise ValueError(f"{where} holds no state for the generator {name!r} on a {generator.device.type} device "
                             f"(it holds: {known}).")  # fmt: skip

    if model is not None:
        model.load_state_dict(checkpoint.model)
    if ema is not None:
        ema.load_state_dict(checkpoint.ema)
    if optimizer is not None:
        optimizer.load_state_dict(optimizer_state)
    for name, generator in generators.items():
        generator.set_state(checkpoint.rng[name])


def _optimizer_state(where: str, checkpoint: Checkpoint, optimizer) -> dict:
    """The saved state as `optimizer.load_state_dict` takes it, after a comparison with this optimiser."""
    if checkpoint.param_groups is None:
        raise ValueError(f"{where} was saved without an optimiser.")
    groups = [g | ({"betas": tuple(g["betas"])} if "betas" in g else {}) for g in checkpoint.param_groups]
    here, saved = ([len(g["params"]) for g in part] for part in (optimizer.param_groups, groups))
    if here != saved:
        raise ValueError(f"{where} has an optimiser for {saved} weights (by group); this one has {here}.")
    name = type(optimizer).__name__
    if checkpoint.optimizer_name not in (None, name):  # None: version 1 did not tell
        raise ValueError(f"{where} was saved with the optimiser {checkpoint.optimizer_name}; this one is {name}.")
    for a, b in zip(groups, optimizer.param_groups, strict=True):
        options = (a.keys() | b.keys()) - {"params", *FREE_OPTIONS}
        if wrong := sorted(key for key in options if _switch(a.get(key)) != _switch(b.get(key))):
            raise ValueError(f"{where} is of another kind of optimiser than this {name}: see {', '.join(wrong)}.")
    state: dict[int, dict[str, Tensor]] = {}
    shapes = [p.shape for g in optimizer.param_groups for p in g["params"]]
    for key, value in checkpoint.optimizer.items():
        index, _, entry = key.partition(".")
        if value.ndim and value.shape != shapes[int(index)]:
            raise ValueError(f"{where} does not fit this optimiser: {entry} of weight {index} has shape "
                             f"{tuple(value.shape)}, the weight {tuple(shapes[int(index)])}.")  # fmt: skip
        # A clone, or the optimiser would keep this tensor and training would write into the checkpoint.
        state.setdefault(int(index), {})[entry] = value.clone()
    return {"state": state, "param_groups": groups}


def _switch(value: object) -> bool | str:
    """On, off, or a number, which may change. What is off may be missing: an older torch did not know it.

    torch's load_state_dict takes the state of another kind of optimiser, and fails or becomes it at the next step.
    """
    return bool(value) if value is None or isinstance(value, bool) else "number"


def _check_config(where: str, saved: dict | None, config) -> None:
    """Refuse a model of another architecture by its settings: clearer than by hundreds of tensor names."""
    if saved is None or not isinstance(config, UNetConfig):
        return
    here = dataclasses.asdict(config)
    free = ("preset", "backend")  # a name, and a choice of speed: neither changes what the weights mean
    differ = [k for k in saved.keys() | here.keys() if k not in free and saved.get(k) != here.get(k)]
    if differ:
        text = "; ".join(f"{k} is {saved.get(k)!r} there and {here.get(k)!r} here" for k in sorted(differ))
        raise ValueError(f"{where} is of preset {saved.get('preset')!r} and does not fit this model of preset "
                         f"{here['preset']!r}: {text}.")  # fmt: skip


def _check_fit(where: str, saved: Mapping[str, Tensor], what: str, here: Mapping[str, Tensor]) -> None:
    """Raise ValueError unless both dictionaries hold the same names with the same shapes."""
    wrong = [f"{k} is missing there" for k in here if k not in saved]
    wrong += [f"{k} is unknown here" for k in saved if k not in here]
    wrong += [
        f"{k} has shape {tuple(saved[k].shape)} there and {tuple(here[k].shape)} here"
        for k in here
        if k in saved and saved[k].shape != here[k].shape
    ]
    if wrong:
        more = f"; and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise ValueError(f"{where} does not fit {what}: {'; '.join(wrong[:3])}{more}.")
