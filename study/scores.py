"""All scores of one set of generated images: `Scorer(train, test, n).scores(images)`.

FID, KID and IS come from `qdm_lib.metrics`. Beside them, since one number hides much:

precision, recall     share of the generated images inside the real images' neighbourhoods, and the reverse, with k = 3
                      neighbours (Kynkäänniemi et al. 2019, arXiv:1904.06991): quality and variety
density, coverage     how many real neighbourhoods hold a generated image, on average, over k; share of the real
                      neighbourhoods that hold any; k = 5 (Naeem et al. 2020, arXiv:2002.09797)
class_tv              distance of the class histogram from uniform: half the sum of |share - 1/K|, 0 to 1 - 1/K
cnn_accuracy          accuracy on real test images of a CNN that was trained on generated images only, with the
                      bundled classifier's labels; the mean over several CNNs, whose spread is in the interval
memorised             share of generated images nearer, pixel by pixel, to some training image than 99 % of real test
                      images are to theirs: 0.01 for fresh real images

Each is a `metrics.Score`: with an interval, and a floor, what as many real images score. Features are those of the
extractor that the score names; with the bundled classifier they are not on the scale of the paper's Inception.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

import safetensors
import safetensors.torch
import torch
import torch.nn.functional as F
from torch import Tensor

from qdm_lib.checks import whole
from qdm_lib.features import Classifier, Features, check_images, extract, fingerprint, load_extractor
from qdm_lib.files import replacing
from qdm_lib.metrics import Score, interval, score_features
from qdm_lib.statistics import SHARES, rule_of_three

K_PRECISION, K_DENSITY = 3, 5  # neighbours, the defaults of the two papers
LEAST_IMAGES = K_DENSITY + 1  # that can be scored: each needs so many neighbours beside itself
CNN_STEPS, CNN_BATCH, CNN_SEEDS = 300, 64, 5
CLOSE = 0.01  # the quantile of real test images' distances below which an image counts as memorised
N_BOOTSTRAP = 200


# ----------------------------------------------------------------------------- neighbourhoods


def radii(x: Tensor, k: int) -> Tensor:
    """Distance of each of N points (N, D) to its k-th nearest other point: (N,). ValueError unless k < N."""
    if not 0 < k < len(x):
        raise ValueError(f"A neighbourhood of {k} needs more than {k} points, not {len(x)}.")
    return torch.cdist(x, x).kthvalue(k + 1, dim=1).values  # the nearest is the point itself


def inside(points: Tensor, centres: Tensor, radius: Tensor) -> Tensor:
    """(P, C) bool: whether point p lies in the ball around centre c."""
    return torch.cdist(points, centres) <= radius


def precision_recall(real: Tensor, generated: Tensor, k: int = K_PRECISION) -> tuple[Tensor, Tensor]:
    """For each generated image whether it lies in some real neighbourhood, for each real one the reverse.

    real (N, D), generated (M, D) features → (M,) and (N,), 0 or 1. Their means are precision and recall
    (arXiv:1904.06991, equation 1).
    """
    precise = inside(generated, real, radii(real, k)).any(1)
    recalled = inside(real, generated, radii(generated, k)).any(1)
    return precise.double(), recalled.double()


def density_coverage(real: Tensor, generated: Tensor, k: int = K_DENSITY) -> tuple[Tensor, Tensor]:
    """For each generated image the number of real neighbourhoods it lies in, over k; for each real one whether any
    generated image lies in its neighbourhood.

    real (N, D), generated (M, D) features → (M,), at least 0, and (N,), 0 or 1. Their means are density, which may
    exceed 1, and coverage (arXiv:2002.09797, equations 4 and 5).
    """
    within = inside(generated, real, radii(real, k))
    return within.double().sum(1) / k, within.any(0).double()


# ----------------------------------------------------------------------------- classes, copies, usefulness


def class_tv(classes: Tensor, n_classes: int) -> float:
    """Total variation distance of a histogram from uniform: ½ Σ |share − 1/K|. classes (N,) int64 → 0 … 1 − 1/K."""
    share = classes.bincount(minlength=n_classes).double() / len(classes)
    return float((share - 1 / n_classes).abs().sum() / 2)


def nearest_distance(images: Tensor, training: Tensor, chunk: int = 250) -> Tensor:
    """Euclidean distance of each image, grey levels in 0 … 1, to the nearest training image: (N,) float32."""
    there = training.flatten(1).float() / 255
    squares = there.square().sum(1)
    found = []
    for part in images.flatten(1).split(chunk):
        here = part.float() / 255
        distance = torch.addmm(squares, here, there.T, alpha=-2).min(1).values + here.square().sum(1)
        found.append(distance.clamp(min=0).sqrt())
    return torch.cat(found)


def cnn_correct(images: Tensor, labels: Tensor, test_images: Tensor, test_labels: Tensor, *, n_classes: int,
                seed: int = 0, steps: int = CNN_STEPS, device: str | torch.device = "cpu") -> Tensor:  # fmt: skip
    """Train the small CNN of `extractors` on labelled images; (N,) 0 or 1: which test images it then names rightly.

    Adam, 1e-3, `steps` batches of 64, drawn by the seed, which also draws the first weights.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Classifier(n_classes).to(device)
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    model.train()
    for _ in range(steps):
        rows = torch.randint(len(images), (CNN_BATCH,), generator=generator)
        loss = F.cross_entropy(model(images[rows].to(device))[1], labels[rows].to(device))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.eval()
    guessed = extract(model, test_images, 500).logits.argmax(1)
    return (guessed == test_labels).double()


def over_cnns(correct: Tensor) -> tuple[float, float, float]:
    """Mean accuracy of K CNNs and its 95 % interval, over CNNs and test images: correct (K, N), 0 or 1, K at least 2.

    With a_k the accuracy of CNN k, s their standard deviation and v that of the images' means over the CNNs, the
    interval is mean ± t √(s²/K + v²/N), with Student's t of K − 1 degrees of freedom, cut to 0 … 1. It is of the CNN's
    seed and the choice of test images; the generated images do not vary. ValueError for one CNN.
    """
    from scipy.stats import t

    k, n = correct.shape
    if k < 2:
        raise ValueError(f"The spread over CNNs needs at least 2 of them, not {k}.")
    correct = correct.double()
    mean, seeds, images = float(correct.mean()), correct.mean(1).var(), correct.mean(0).var()
    half = float(t.ppf(0.975, k - 1)) * float(seeds / k + images / n) ** 0.5
    return mean, max(0.0, mean - half), min(1.0, mean + half)


def mean_interval(values: Tensor, seed: int = 0, n_bootstrap: int = N_BOOTSTRAP,
                  share: bool = False) -> tuple[float, float, float]:  # fmt: skip
    """Mean of values (N,), none below 0, and its 95 % bootstrap interval over them, cut at 0.

    share: the values are 0 or 1; the interval is cut at 1 too, and a mean of 0 or 1, which every bootstrap repeats,
    gets the exact bound (`statistics.rule_of_three`).
    """
    generator, n, value = torch.Generator().manual_seed(seed), len(values), float(values.mean())
    if share and value in (0, 1):
        return (value, 0.0, rule_of_three(n)) if value == 0 else (value, 1 - rule_of_three(n), 1.0)
    draws = torch.stack([values[torch.randint(n, (n,), generator=generator)].mean() for _ in range(n_bootstrap)])
    low, high = interval(value, draws, 0.0)
    return value, low, min(high, 1.0) if share else high


# ----------------------------------------------------------------------------- all together


class Scorer:
    """Everything that scoring needs and that does not depend on the generated images, made once.

    train, test: `data.ImageSet`: the reference, and real images that no model saw, for the floors. n: how many
    generated images will come, at least 6; floors are of as many real ones, or of all there are. features: "classifier"
    or "inception" (see `load_extractor`). cache: a folder where real images' features and floors are kept
    for the next process. cnn_steps: see `cnn_correct`. cnn_seeds: how many CNNs give the accuracy, at least 2 (see
    `over_cnns`). n_bootstrap: for FID, KID and IS.
    """

    def __init__(self, train, test, n: int, *, features: str = "classifier", seed: int = 0, device=None,
                 cache: str | os.PathLike | None = None, cnn_steps: int = CNN_STEPS,
                 cnn_seeds: int = CNN_SEEDS, n_bootstrap: int = N_BOOTSTRAP) -> None:  # fmt: skip
        self.train, self.test, self.n, self.seed = train, test, whole("n", n, LEAST_IMAGES), seed
        self.cnn_steps, self.cnn_seeds, self.n_bootstrap = cnn_steps, whole("cnn_seeds", cnn_seeds, 2), n_bootstrap
        self.extractor = load_extractor(features, train.name, device=device)
        self.labeller = self.extractor if features == "classifier" else load_extractor("classifier", train.name,
                                                                                       device=device)  # fmt: skip
        self.device = next(self.extractor.parameters()).device
        self.cache = None if cache is None else Path(cache)
        self._content = fingerprint({"train": train.images, "test": test.images, "labels": test.labels})
        self.reference, self.held_out = self._features(train), self._features(test)
        generator = torch.Generator().manual_seed(seed)
        drawn = torch.randperm(len(train), generator=generator)[:n]
        self.near = self.reference[drawn]  # as many real images as generated: the neighbourhoods
        self.drawn = drawn
        self.fresh = torch.randperm(len(test), generator=generator)[:n]  # real images in the generated ones' place
        self._floors: dict[str, float] | None = None
        self._test_distance: Tensor | None = None

    def _features(self, images) -> Features:
        content = fingerprint({"images": images.images})
        what = f"{images.name}-{images.split}-{len(images)}-{content}-{self.extractor.title}"
        return Features(**self._kept(what, lambda: vars(extract(self.extractor, images.images))))

    def _kept(self, what: str, make) -> dict[str, Tensor]:
        """Tensors from the cache's file of that name, or made now and put there."""
        if self.cache is None:
            return make()
        path = self.cache / ("".join(c if c.isalnum() else "-" for c in what) + ".safetensors")
        if path.is_file():
            with suppress(safetensors.SafetensorError):  # damaged: it is made anew
                return safetensors.torch.load_file(path)
        tensors = make()
        self.cache.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary:
            safetensors.torch.save_file(tensors, temporary)
        return tensors

    def close_distance(self) -> float:
        """The distance to the nearest training image that 1 % of the real test images stay below."""
        if self._test_distance is None:
            what = f"nearest-{self.train.name}-{len(self.train)}-{len(self.test)}-{self._content}-{self.n}-{self.seed}"
            make = lambda: {"distance": nearest_distance(self.test.images[self.fresh], self.train.images)}  # noqa: E731
            self._test_distance = self._kept(what, make)["distance"]
        return float(self._test_distance.double().quantile(CLOSE))

    def floors(self) -> dict[str, float]:
        """What real images score in the place of generated ones; for cnn_accuracy, real images of the training set."""
        if self._floors is None:
            what = f"floors-{self.train.name}-{len(self.train)}-{len(self.test)}-{self._content}-{self.n}-{self.seed}-"
            what += f"{self.cnn_steps}-{self.cnn_seeds}-{self.extractor.title}"

            def make() -> dict[str, Tensor]:
                values = self._per_image(self.held_out[self.fresh], self.test.images[self.fresh], self.seed)
                values["cnn_accuracy"] = self._cnns(self.train.images[self.drawn], self.seed)
                return {key: one.mean() for key, one in values.items()} | {
                    "class_tv": torch.tensor(class_tv(self._classes(self.test.images[self.fresh]), self.n_classes))
                }

            self._floors = {key: float(value) for key, value in self._kept(what, make).items()}
        return self._floors

    @property
    def n_classes(self) -> int:
        return self.labeller.num_classes

    def _classes(self, images: Tensor) -> Tensor:
        return extract(self.labeller, images).logits.argmax(1)

    def _cnns(self, images: Tensor, seed: int) -> Tensor:
        """(K, N) 0 or 1: which test images each of K CNNs names rightly; their seeds are none of the next seed's."""
        labels = self._classes(images)
        return torch.stack([
            cnn_correct(images, labels, self.test.images, self.test.labels, seed=seed * self.cnn_seeds + k,
                        n_classes=self.n_classes, steps=self.cnn_steps, device=self.device)
            for k in range(self.cnn_seeds)
        ])  # fmt: skip

    def _per_image(self, features: Features, images: Tensor, seed: int) -> dict[str, Tensor]:
        """One value for each image, of which the score is the mean."""
        real, drawn = self.near.features.double(), features.features.double()
        precise, recalled = precision_recall(real, drawn)
        dense, covered = density_coverage(real, drawn)
        copies = (nearest_distance(images, self.train.images) < self.close_distance()).double()
        return {"precision": precise, "recall": recalled, "density": dense, "coverage": covered, "memorised": copies}

    def scores(self, generated: Tensor, seed: int = 0) -> dict[str, Score]:
        """All scores of uint8 images (N, 1, 28, 28); the seed draws bootstraps and the CNNs' first weights."""
        check_images(generated, "generated images", LEAST_IMAGES)
        features = extract(self.extractor, generated)
        reference = f"{self.train.name} {self.train.split}, {self.train.source}"
        scores = score_features(
            features, self.reference, self.held_out[self.fresh], n_bootstrap=self.n_bootstrap, seed=seed,
            extractor_name=self.extractor.title, reference_name=reference,
        )  # fmt: skip
        floors, n_floor = self.floors(), len(self.fresh)
        values = self._per_image(features, generated, seed)
        found = {key: mean_interval(one, seed, share=key in SHARES) for key, one in values.items()}
        found["cnn_accuracy"] = over_cnns(self._cnns(generated, seed))
        notes = {
            "memorised": "By pixels, not features. Interval over the generated images.",
            "cnn_accuracy": f"Mean of {self.cnn_seeds} CNNs; interval over CNNs and test images; the floor is of CNNs "
            "trained on as many real images.",
            "recall": "Interval over the real images.",
            "coverage": "Interval over the real images.",
        }
        compared = {"memorised": len(self.train), "cnn_accuracy": len(self.test)}  # the others: the neighbourhoods
        for key, (value, low, high) in found.items():
            n_real = len(self.drawn) if key == "cnn_accuracy" else n_floor  # training images train the floor's CNNs
            scores[key] = Score(key, value, low, high, floors[key], len(generated), self.extractor.title, reference,
                                compared.get(key, len(self.near)), n_real, notes.get(key, ""))  # fmt: skip
        classes = self._classes(generated)
        value, generator = class_tv(classes, self.n_classes), torch.Generator().manual_seed(seed)
        draws = torch.tensor([class_tv(classes[torch.randint(len(classes), (len(classes),), generator=generator)],
                                       self.n_classes) for _ in range(N_BOOTSTRAP)])  # fmt: skip
        counts = classes.bincount(minlength=self.n_classes).tolist()
        low, high = interval(value, draws.double(), 0.0)
        scores["class_tv"] = Score(
            "class_tv", value, low, min(high, 1 - 1 / self.n_classes), floors["class_tv"], len(generated),
            self.labeller.title, "uniform", self.n_classes, n_floor, f"Images in each class: {counts}.",
        )  # fmt: skip
        return scores
