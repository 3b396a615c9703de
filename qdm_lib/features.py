"""Feature extractors: the networks through which two sets of images are compared.

`"inception"` is the one of the FID papers (torch-fidelity's weights); `"classifier"` is a small CNN trained on the
data set itself (`tools/train_classifier.py`). Scores of different extractors are on different scales.

Images are uint8 (N, 1, 28, 28); grey is repeated to three channels for Inception only.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from qdm_lib.checks import whole
from qdm_lib.files import expanded, network_timeout
from qdm_lib.machine import pick_device

ASSETS = Path(__file__).parent / "assets"
INCEPTION_FILE = "weights-inception-2015-12-05-6726825d.pth"
INCEPTION_SHA256 = "6726825d"  # how its SHA-256 begins: the last part of the name, by torch.hub's convention
INCEPTION_VARIABLE = "QDM_INCEPTION_WEIGHTS"


class Classifier(nn.Module):
    """A small CNN: three convolutions, a layer of 128 features, one logit per class.

    forward: uint8 (B, 1, 28, 28) -> features (B, 128), logits (B, K). The features are taken before the last
    ReLU, since FID fits a Gaussian to them, and a Gaussian has no kink at zero. Over the training images each
    has mean 0 and deviation 1 (a batch norm without weights), so that none of them drowns the others in KID.
    """

    def __init__(self, num_classes: int = 10, num_features: int = 128, title: str = "classifier") -> None:
        super().__init__()
        self.num_features, self.num_classes, self.title = num_features, num_classes, title
        self.body = nn.Sequential(
            *self._block(1, 32),  # 28 -> 14 pixels
            *self._block(32, 64),  # 14 -> 7
            *self._block(64, 64),  # 7 -> 3
            nn.Flatten(),
            nn.Linear(64 * 3 * 3, num_features, bias=False),
            nn.BatchNorm1d(num_features, affine=False),
        )
        self.head = nn.Linear(num_features, num_classes)

    @staticmethod
    def _block(c_in: int, c_out: int) -> tuple[nn.Module, ...]:
        conv = nn.Conv2d(c_in, c_out, 3, padding=1, bias=False)
        return conv, nn.BatchNorm2d(c_out), nn.ReLU(), nn.MaxPool2d(2)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        features = self.body(images.float() / 127.5 - 1.0)
        return features, self.head(features.relu())


class Inception(nn.Module):
    """InceptionV3 as FID uses it, by torchmetrics: 2048 pooled features, 1008 logits without bias.

    forward: uint8 (B, 1, 28, 28) -> features (B, 2048), logits (B, 1008). Grey is repeated to three channels.
    """

    def __init__(self, weights: Path) -> None:
        super().__init__()
        state, digest = _inception_state(weights)
        from torchmetrics.image.fid import NoTrainInceptionV3

        # torch-fidelity would unpickle a file without restriction: it gets one in memory, of what we have read safely.
        file = io.BytesIO()
        torch.save(state, file)
        file.seek(0)
        try:
            self.net = NoTrainInceptionV3("inception-v3-compat", ["2048"], feature_extractor_weights_path=file)
        except RuntimeError as error:  # the first line says enough; hundreds of keys follow
            reason = str(error).splitlines()[0]
            raise ValueError(f"{weights} holds no InceptionV3 of torch-fidelity ({reason}).") from error
        standard = "standard weights" if digest.startswith(INCEPTION_SHA256) else "NON-STANDARD weights"
        self.title = f"inception-v3 ({standard}, sha256 {digest[:8]})"

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        features = self.net(images.expand(-1, 3, -1, -1))
        return features, features @ self.net.fc.weight.T


def load_extractor(
    features: str = "classifier",
    dataset: str | None = None,
    weights: str | os.PathLike | None = None,
    device: str | torch.device | None = None,
) -> nn.Module:
    """Load a feature extractor: a module uint8 (B, 1, 28, 28) -> (features (B, D), logits (B, K)).

    features: "classifier", the small CNN trained on `dataset` (bundled for mnist and fashion-mnist; `weights` is
    another file of tools/train_classifier.py), or "inception": its file is `weights`, else $QDM_INCEPTION_WEIGHTS, else
    in torch.hub's folder, where it is downloaded if need be. device: None takes the GPU if there is one.

    ValueError for an unknown name, a corrupt file or a device that torch does not have here, FileNotFoundError where
    the weights or the package torch-fidelity are missing; each says what to do.
    """
    device = pick_device(device)
    if features not in ("classifier", "inception"):
        raise ValueError(f"features must be 'classifier' or 'inception', not {features!r}.")
    inception = features == "inception"
    extractor = Inception(_find_inception(weights)) if inception else _load_classifier(dataset, weights)
    return extractor.to(device).eval().requires_grad_(False)


def _load_classifier(dataset: str | None, weights: str | os.PathLike | None) -> Classifier:
    from safetensors.torch import load

    if weights is None and dataset is None:
        raise ValueError("features='classifier' needs dataset=, the name of the set it was trained on.")
    path = ASSETS / f"classifier-{dataset}.safetensors" if weights is None else Path(weights)
    card_file = path.with_suffix(".json")
    for file in (path, card_file):
        if not file.is_file():
            bundled = sorted(ASSETS.glob("classifier-*.safetensors"))
            known = ", ".join(each.stem.removeprefix("classifier-") for each in bundled)
            advice = f"bundled are {known}, and 'python tools/train_classifier.py {dataset or 'NAME'}' trains one"
            raise FileNotFoundError(f"there is no classifier file {file}; {advice}.")
    remedy = "install qdm_lib again, or train it again by tools/train_classifier.py"
    try:
        card = json.loads(card_file.read_text(encoding="utf-8"))
        wanted, n_classes, n_features = card["sha256"], len(card["class_names"]), card["num_features"]
        title = f"classifier {card['dataset']} (test accuracy {card['test_accuracy']:.2%}, sha256 {wanted[:8]})"
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{card_file} is no card of a classifier ({error!r}); {remedy}.") from None
    content = path.read_bytes()
    if (digest := hashlib.sha256(content).hexdigest()) != wanted:
        raise ValueError(f"{path} is corrupt: its SHA-256 is {digest}, not {wanted} as {card_file} says; {remedy}.")
    model = Classifier(n_classes, n_features, title)
    model.load_state_dict(load(content))
    return model


def _find_inception(weights: str | os.PathLike | None) -> Path:
    """The path of the weights file; the last resort is a download, with a time limit and a checked hash."""
    remedy = (
        f"put {INCEPTION_FILE} somewhere, name it by weights= or {INCEPTION_VARIABLE}, and "
        "'pip install torch-fidelity'; or use features='classifier', which needs neither"
    )
    try:
        from torch_fidelity.feature_extractor_inceptionv3 import URL_INCEPTION_V3
    except ImportError as error:
        raise FileNotFoundError(f"features='inception' needs torch-fidelity; {remedy}.") from error
    named = weights or os.environ.get(INCEPTION_VARIABLE)
    path = expanded(named) if named else Path(torch.hub.get_dir()) / "checkpoints" / INCEPTION_FILE
    if path.is_file():
        return path
    if named:
        raise FileNotFoundError(f"there is no Inception weights file {path}; {remedy}.")
    try:  # torch.hub writes to a temporary file and moves it when its hash is right
        path.parent.mkdir(parents=True, exist_ok=True)
        with network_timeout(10.0):
            torch.hub.download_url_to_file(URL_INCEPTION_V3, str(path), hash_prefix=INCEPTION_SHA256)
    except (OSError, RuntimeError) as error:
        raise FileNotFoundError(f"there is no {path}, and no download ({error}); {remedy}.") from error
    return path


def _inception_state(path: Path) -> tuple[dict[str, Tensor], str]:
    """Tensors of a weights file and its SHA-256. A .pth is a pickle: only `weights_only` reading is safe."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if path.name == INCEPTION_FILE and not digest.startswith(INCEPTION_SHA256):
        wanted = f"its SHA-256 begins {digest[:8]} instead of {INCEPTION_SHA256}"
        raise ValueError(f"{path} is corrupt: {wanted}; delete it and load it again.")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises half a dozen types here
        raise ValueError(f"{path} is not a file of plain weights ({type(error).__name__}).") from error
    if not isinstance(state, dict) or not all(isinstance(k, str) and isinstance(v, Tensor) for k, v in state.items()):
        raise ValueError(f"{path} is not a file of plain weights: it holds no dictionary of named tensors.")
    return state, digest


@dataclass(frozen=True, eq=False)
class Features:
    """What an extractor sees in N images: features float32 (N, D), logits float32 (N, K). Both on the CPU."""

    features: Tensor
    logits: Tensor

    def __len__(self) -> int:
        return len(self.features)

    def __getitem__(self, rows: Tensor | slice) -> Features:
        return Features(self.features[rows], self.logits[rows])


@torch.no_grad()
def extract(extractor: nn.Module, images: Tensor, batch_size: int = 256, progress: bool = False) -> Features:
    """Pass uint8 images (N, 1, 28, 28), N >= 2, through an extractor (see `load_extractor`), batch by batch.

    TypeError for another dtype, ValueError for another shape. progress shows a bar on stderr.
    """
    check_images(images)
    batch_size = whole("batch_size", batch_size)
    device = next((weight.device for weight in extractor.parameters()), images.device)
    parts = images.split(batch_size)
    if progress:
        from tqdm.auto import tqdm

        parts = tqdm(parts, desc="features", unit="batch", leave=False)
    outputs = [tuple(out.float().cpu() for out in extractor(part.to(device))) for part in parts]
    return Features(*(torch.cat(column) for column in zip(*outputs, strict=True)))


def fingerprint(tensors: Mapping[str, Tensor]) -> str:
    """The first 12 digits of the SHA-256 of names and bytes, to tell what was stored for other tensors."""
    digest = hashlib.sha256()
    for name, tensor in tensors.items():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()[:12]


def check_images(images: Tensor, what: str = "images", least: int = 2) -> None:
    """TypeError or ValueError unless these are uint8 images (N, 1, 28, 28), at least `least` of them."""
    if not isinstance(images, Tensor) or images.dtype != torch.uint8:
        kind = f"a {images.dtype} tensor" if isinstance(images, Tensor) else f"a {type(images).__name__}"
        raise TypeError(f"{what} must be a uint8 tensor, not {kind}; data.to_uint8 makes one.")
    if images.ndim != 4 or images.shape[1:] != (1, 28, 28):
        raise ValueError(f"{what} must have the shape (N, 1, 28, 28), not {tuple(images.shape)}.")
    if len(images) < least:
        raise ValueError(f"{what}: a score needs at least {least}, not {len(images)}.")
