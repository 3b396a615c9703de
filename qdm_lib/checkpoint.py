"""Training state on disk, and weights carried from one model to another.

A checkpoint is a folder with two files that belong together:

    state-000500.safetensors   every tensor: model.…, ema.…, optimizer.…, rng.…
    checkpoint.json            names that file with its SHA-256, and says what the tensors mean:
                               step, run configuration, model configuration, library versions

A run can be killed at any instant and leave a readable pair. The tensors are written first, under a new
name; then the JSON is replaced in one atomic move; only then are older tensor files deleted. Until that move
the old JSON stands beside the old tensors, after it the new beside the new.

Nothing is pickled: reading a checkpoint from somebody else runs no code of theirs.
"""

from __future__ import annotations

import dataclasses
import glob
import hashlib
import json
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor, nn

from qdm_lib.files import replacing, to_disk
from qdm_lib.machine import versions
from qdm_lib.transfer import TransferReport, transfer_weights, unwrap
from qdm_lib.unet import UNet, UNetConfig

__all__ = [
    "SHIPPED",
    "Checkpoint",
    "TransferReport",
    "epochs_trained",
    "load_checkpoint",
    "load_model",
    "load_pretrained",
    "restore",
    "save_checkpoint",
    "save_model",
    "shorter_trained",
    "transfer_weights",
]

# The trained models of this repository, <data set>/<preset>. They stand beside the package, not in it: there when it is
# installed as `make` does it (pip install -e, from a checkout), not when it was copied by a plain pip install.
SHIPPED = Path(__file__).resolve().parents[1] / "checkpoints"
CHECKPOINT, MODEL = "qdm_lib checkpoint", "qdm_lib model"  # the "format" entry of the two JSON files
VERSION = 1


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint read into memory (on the CPU); `restore` puts it back into living objects.

    step: optimiser steps finished. run_config: what the caller saved (preset, seeds, data set …).
    model_config: the fields of `UNetConfig`, or None for another kind of model. model, ema: state dicts.
    optimizer: its tensors by "<index of weight>.<name>", with param_groups beside them. rng: generator
    states.
    """

    folder: Path
    step: int
    run_config: dict
    model_config: dict | None
    versions: dict[str, str]
    param_groups: list[dict] | None
    model: dict[str, Tensor] = field(repr=False)
    ema: dict[str, Tensor] = field(repr=False)
    optimizer: dict[str, Tensor] = field(repr=False)
    rng: dict[str, Tensor] = field(repr=False)


# --------------------------------------------------------------------------------------------- saving


def save_checkpoint(
    folder: str | Path,
    *,
    model: nn.Module,
    ema,
    optimizer: torch.optim.Optimizer | None,
    step: int,
    run_config: Mapping,
    generators: Mapping[str, torch.Generator],
) -> Path:
    """Write everything a killed run needs to go on, bit for bit on the CPU; return the path of the JSON file.

    ema: a `training.EMA` or None. step: steps finished. run_config: a dictionary that JSON can hold (data
    classes in it are written as dictionaries). generators: by name, each saved in its present state.

    Raises TypeError or ValueError, writing nothing, for a run_config or an optimiser that cannot be written;
    OSError where the folder cannot. Older checkpoints of the folder are deleted after the new one stands.
    """
    if isinstance(step, bool) or not isinstance(step, int) or step < 0:
        raise ValueError(f"step must be a whole number of at least 0, not {step!r}.")
    model = unwrap(model)
    tensors = {f"model.{k}": v for k, v in model.state_dict().items()}
    if ema is not None:
        tensors |= {f"ema.{k}": v for k, v in ema.state_dict().items()}
    optimizer_tensors, param_groups = _flatten_optimizer(optimizer)
    tensors |= {f"optimizer.{k}": v for k, v in optimizer_tensors.items()}
    tensors |= {f"rng.{k}": g.get_state() for k, g in generators.items()}
    data, digest = _to_bytes(tensors)
    info = {"step": step, "run_config": dict(run_config), "param_groups": param_groups}

    folder = Path(folder)
    name = f"state-{step:06d}.safetensors"
    if (folder / name).exists():  # saved before at this step: the old JSON still needs that file
        name = f"state-{step:06d}-{digest[:8]}.safetensors"
    text = _to_json(CHECKPOINT, name, digest, model, info)

    folder.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(folder)
    _write(folder / name, data)
    _write(folder / "checkpoint.json", text)
    for old in folder.glob("state-*.safetensors"):
        if old.name != name:
            old.unlink(missing_ok=True)
    return folder / "checkpoint.json"


def save_model(folder: str | Path, model: nn.Module, card: Mapping) -> Path:
    """Write a finished model to be shared: `model.safetensors` and `model.json`; return the path of the JSON.

    Only the model's present weights are written, so save inside `with ema.applied_to(model):` to share the
    averaged ones. card: a description that JSON can hold (data set, steps, scores, licence). `load_model`
    reads the model back. A model that is there already stays readable until the new one is on the disk whole; only
    a crash between the last two renames loses it.
    """
    model, folder = unwrap(model), Path(folder)
    data, digest = _to_bytes(model.state_dict())
    text = _to_json(MODEL, "model.safetensors", digest, model, {"card": dict(card)})
    folder.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(folder)
    with replacing(folder / "model.json") as card_file, replacing(folder / "model.safetensors") as weights:
        for file, contents in ((card_file, text), (weights, data)):
            file.write_bytes(contents)
            to_disk(file)  # both are safe before the old pair is touched; its JSON would not fit to new weights
    return folder / "model.json"


def _flatten_optimizer(optimizer) -> tuple[dict[str, Tensor], list[dict] | None]:
    """An optimiser's tensors by "<index of weight>.<name>" (Adam: step, exp_avg, exp_avg_sq); its groups."""
    if optimizer is None:
        return {}, None
    state = optimizer.state_dict()
    tensors = {}
    for index, entry in state["state"].items():
        for name, value in entry.items():
            if value is not None:
                tensors[f"{index}.{name}"] = value
            if not isinstance(value, Tensor | None):
                raise ValueError(f"The optimiser keeps {name} = {value!r}; only tensors can be saved.")
    return tensors, state["param_groups"]


def _to_bytes(tensors: Mapping[str, Tensor]) -> tuple[bytes, str]:
    """The tensors in safetensors format, and its SHA-256. Copied, since it cannot hold shared memory."""
    tensors = {k: v.detach().to("cpu", copy=True).contiguous() for k, v in tensors.items()}
    data = safetensors.torch.save(tensors)
    return data, hashlib.sha256(data).hexdigest()


def _to_json(kind: str, file: str, digest: str, model: nn.Module, info: dict) -> bytes:
    config = getattr(model, "config", None)
    info = {
        "format": kind,
        "version": VERSION,
        "file": file,
        "sha256": digest,
        "model_config": dataclasses.asdict(config) if isinstance(config, UNetConfig) else None,
        "versions": versions(("torch", "pennylane", "safetensors")),
    } | info

    def plain(value):
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            return dataclasses.asdict(value)
        raise TypeError(f"{value!r} cannot be written as JSON; use numbers, text, lists and dictionaries.")

    return (json.dumps(info, indent=2, default=plain) + "\n").encode()


def _write(path: Path, data: bytes) -> None:
    with replacing(path) as temporary:
        temporary.write_bytes(data)


def _remove_leftovers(folder: Path) -> None:
    """Delete temporary files that a killed save left behind."""
    for name in ("state-", "checkpoint.", "model."):
        for path in folder.glob(f".{name}*.tmp"):
            path.unlink(missing_ok=True)


# -------------------------------------------------------------------------------------------- loading


def load_checkpoint(folder: str | Path) -> Checkpoint:
    """Read the checkpoint of a folder and check it against its SHA-256.

    Raises FileNotFoundError where the folder, its checkpoint.json or the tensor file is missing; ValueError
    for JSON of an unknown format and for a tensor file that is not the one that was saved.
    """
    folder = Path(folder)
    wanted = {"step": int, "run_config": dict}
    for attempt in (1, 2, 3):
        info = _read_json(folder, "checkpoint.json", CHECKPOINT, wanted)
        try:
            tensors = _read_tensors(folder, info)
            break
        except FileNotFoundError:  # a run still going may just have put a newer pair in its place: look again
            if attempt == 3:
                raise
    parts: dict[str, dict[str, Tensor]] = {"model": {}, "ema": {}, "optimizer": {}, "rng": {}}
    for key, value in tensors.items():
        part, _, name = key.partition(".")
        parts.setdefault(part, {})[name] = value
    return Checkpoint(
        folder,
        info["step"],
        info["run_config"],
        info["model_config"],
        info.get("versions", {}),
        info.get("param_groups"),
        parts["model"],
        parts["ema"],
        parts["optimizer"],
        parts["rng"],
    )


def load_model(folder: str | Path, ema: bool = True, backend: str | None = None) -> UNet:
    """Rebuild the U-Net that was saved in a folder, on the CPU and in eval mode.

    Reads both layouts: a training checkpoint (the newer, where both are there) and what `save_model` wrote.
    ema: take the averaged weights, which samples should come from; False takes the raw ones of a training
    checkpoint. backend: run the circuits with another backend than the saved one (same values, other speed).

    Raises the errors of `load_checkpoint`, and ValueError for weights that are not there or do not fit.
    """
    folder = Path(folder)
    if (folder / "model.json").exists() and not (folder / "checkpoint.json").exists():
        info = _read_json(folder, "model.json", MODEL, {})
        if not ema:
            raise ValueError(f"{folder} holds a finished model, with one set of weights; leave ema=True.")
        config, weights = info["model_config"], _read_tensors(folder, info)
    else:
        checkpoint = load_checkpoint(folder)
        config, weights = checkpoint.model_config, checkpoint.ema if ema else checkpoint.model
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
    return model.eval()


def load_pretrained(name: str, backend: str | None = None) -> UNet:
    """A trained model of this repository by name, such as ``"fashion-mnist/1hqconv"``; nothing is downloaded.

    Its tensors are checked against the SHA-256 in its model.json, which also describes it: data, protocol, seed,
    scores, licence. backend: as in `load_model`. Where a preset has shorter trained models only, such as
    fashion-mnist/7hqconv-2-epochs, its plain name gives the longest trained of them, with a warning that says so.

    The models are in the repository, not in the package: it must be installed from a checkout by `pip install -e .`.

    FileNotFoundError where there are none; ValueError for an unknown name, with the names there are, and for a file
    that was changed.
    """
    known = sorted(path.parent.relative_to(SHIPPED).as_posix() for path in SHIPPED.rglob("model.json"))
    if not known:
        raise FileNotFoundError(
            f"There are no trained models in {SHIPPED}; they come with the repository, where 'pip install -e .' (with "
            "-e) lets the package find them; or give the folder of one to qdm_lib.checkpoint.load_model."
        )
    folder = SHIPPED / name
    if name not in known:
        shorter = shorter_trained(folder)
        if not shorter:
            raise ValueError(f"There is no trained model {name!r} in {SHIPPED}; known are {', '.join(known)}.")
        folder = shorter[0]
        warnings.warn(f"The longest trained {name} here is {folder.name}; the paper trains 20 epochs.", stacklevel=2)
    return load_model(folder, backend=backend)


def epochs_trained(folder: Path) -> float | None:
    """For how many epochs the model of a folder was trained, as its card says; None without a card."""
    path = folder / "model.json"
    return json.loads(path.read_text(encoding="utf-8")).get("card", {}).get("epochs") if path.exists() else None


def shorter_trained(folder: Path) -> list[Path]:
    """The folders beside this one for the same model, trained shorter (x-2-epochs), the longest trained first."""
    found = folder.parent.glob(f"{glob.escape(folder.name)}-*-epoch*/model.json")
    return sorted((path.parent for path in found), key=lambda path: (-(epochs_trained(path) or 0), path.name))


def restore(
    checkpoint: Checkpoint,
    *,
    model: nn.Module | None = None,
    ema=None,
    optimizer: torch.optim.Optimizer | None = None,
    generators: Mapping[str, torch.Generator] | None = None,
) -> None:
    """Put a checkpoint back into a model, its `EMA`, its optimiser and random generators, each if given.

    All of it must fit: everything is checked before anything is changed. Raises ValueError naming the
    settings or the first few tensors that differ. The learning rate and Adam's betas become the saved ones.
    """
    where = f"The checkpoint in {checkpoint.folder}"
    generators = dict(generators or {})
    if model is not None:
        model = unwrap(model)
        _check_config(where, checkpoint.model_config, getattr(model, "config", None))
        _check_fit(where, checkpoint.model, "the model", model.state_dict())
    if ema is not None:
        _check_fit(where, checkpoint.ema, "the averaged weights", ema.state_dict())
    if optimizer is not None:
        optimizer_state = _optimizer_state(where, checkpoint, optimizer)
    for name, generator in generators.items():
        saved = checkpoint.rng.get(name)
        if saved is None or saved.shape != generator.get_state().shape:
            known = ", ".join(checkpoint.rng) or "none"
            raise ValueError(
                f"{where} holds no state for the generator {name!r} on a {generator.device.type} device "
                f"(it holds: {known})."
            )

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
    here = [len(g["params"]) for g in optimizer.param_groups]
    saved = [len(g["params"]) for g in groups]
    if here != saved:
        raise ValueError(f"{where} has an optimiser for {saved} weights (by group); this one has {here}.")
    state: dict[int, dict[str, Tensor]] = {}
    shapes = [p.shape for g in optimizer.param_groups for p in g["params"]]
    for key, value in checkpoint.optimizer.items():
        index, _, name = key.partition(".")
        if value.ndim and value.shape != shapes[int(index)]:
            raise ValueError(
                f"{where} does not fit this optimiser: {name} of weight {index} has shape "
                f"{tuple(value.shape)}, the weight {tuple(shapes[int(index)])}."
            )
        # A clone, or the optimiser would keep this tensor and training would write into the checkpoint.
        state.setdefault(int(index), {})[name] = value.clone()
    return {"state": state, "param_groups": groups}


def _check_config(where: str, saved: dict | None, config) -> None:
    """Refuse a model of another architecture by its settings: clearer than by hundreds of tensor names."""
    if saved is None or not isinstance(config, UNetConfig):
        return
    here = dataclasses.asdict(config)
    free = ("preset", "backend")  # a name, and a choice of speed: neither changes what the weights mean
    differ = [k for k in saved.keys() | here.keys() if k not in free and saved.get(k) != here.get(k)]
    if differ:
        text = "; ".join(f"{k} is {saved.get(k)!r} there and {here.get(k)!r} here" for k in sorted(differ))
        raise ValueError(
            f"{where} is of preset {saved.get('preset')!r} and does not fit this model of preset "
            f"{here['preset']!r}: {text}."
        )


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


def _read_json(folder: Path, name: str, kind: str, wanted: Mapping[str, type]) -> dict:
    if not folder.exists():
        raise FileNotFoundError(f"There is no folder {folder}.")
    path = folder / name
    if not path.is_file():
        raise FileNotFoundError(f"There is no checkpoint in {folder}: it has no file {name}.")
    try:
        info = json.loads(path.read_bytes())
    except ValueError as error:  # not UTF-8, or not JSON
        raise ValueError(f"{path} is damaged: it is not JSON ({error}).") from None
    if not isinstance(info, dict) or info.get("format") != kind or info.get("version") != VERSION:
        found = f"{info.get('format')!r} {info.get('version')!r}" if isinstance(info, dict) else "no object"
        raise ValueError(f"{path} must be in the format {kind!r} {VERSION}; it is in {found}.")
    for key, type_ in {"file": str, "sha256": str, "model_config": (dict, type(None)), **wanted}.items():
        if key not in info or not isinstance(info[key], type_):
            raise ValueError(f"{path} is damaged: its entry {key!r} is missing or of the wrong kind.")
    return info


def _read_tensors(folder: Path, info: dict) -> dict[str, Tensor]:
    path = folder / Path(info["file"]).name  # never outside the folder, whatever the JSON says
    if not path.is_file():
        raise FileNotFoundError(f"The tensors of the checkpoint are missing: there is no file {path}.")
    data = path.read_bytes()
    digest = hashlib.sha256(data).hexdigest()
    if digest != info["sha256"]:
        raise ValueError(
            f"{path} is damaged or was changed: its SHA-256 begins with {digest[:12]}, not with "
            f"{info['sha256'][:12]} as recorded when it was saved."
        )
    return safetensors.torch.load(data)
