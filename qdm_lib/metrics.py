"""Scores of generated images: FID, KID and IS, each with its noise, its floor and its provenance.

A score compares two sets of images through a feature extractor; it means nothing without that extractor and
the number of images. So each `Score` carries both, a bootstrap interval, and a floor: what real images score.

Images are uint8 (N, 1, 28, 28), rounded by us (`data.to_uint8`): torchmetrics would cast floats by cutting
off the fraction. It gets features instead of images, so each image passes the extractor once, for all scores.

Sources: FID arXiv:1706.08500; KID arXiv:1801.01401; IS arXiv:1606.03498; used in arXiv:2402.16147.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass

import numpy as np
import torch
from torch import Tensor, nn

from qdm_lib.checks import whole
from qdm_lib.features import Features, check_images, extract, load_extractor
from qdm_lib.machine import release_memory

KID_SUBSETS, KID_SUBSET_SIZE = 100, 1000  # the defaults of torchmetrics
IS_SPLITS = 10  # likewise, and of the original paper
BOOTSTRAP_REFERENCE = 10_000  # reference images that take part in the bootstrap


# ---------------------------------------------------------------------- the three scores, by torchmetrics


class _AlreadyExtracted(nn.Module):
    """In place of torchmetrics' extractor, as we pass features. Without num_features it would guess."""

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.num_features = num_features

    def forward(self, features: Tensor) -> Tensor:
        return features


@contextmanager
def _quiet_and_seeded(seed: int) -> Iterator[None]:
    """torchmetrics draws from the global generator (restored here) and warns that it keeps all features."""
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.simplefilter("ignore")
        torch.default_generator.manual_seed(seed)  # of the CPU alone: torch.manual_seed would reseed the GPUs, too
        yield


def _check_rows(least: int, **sets: Tensor) -> None:
    """ValueError unless each set is a matrix of finite numbers, a row for each image, all of one width."""
    for what, rows in sets.items():
        if rows.ndim != 2 or len(rows) < least:
            raise ValueError(f"A score needs at least {least} {what} rows (N, D), not the shape {tuple(rows.shape)}.")
        if bad := int((~torch.isfinite(rows)).any(1).sum()):
            raise ValueError(f"{bad} of {len(rows)} {what} rows hold NaN or infinity: no score can be made of them.")
    if len({rows.shape[1] for rows in sets.values()}) > 1:
        widths = " and ".join(f"{rows.shape[1]} ({what})" for what, rows in sets.items())
        raise ValueError(f"Features of one extractor have one width; these have {widths}.")


def fid(generated: Tensor, real: Tensor) -> float:
    """|mu - mu'|^2 + Tr(S + S' - 2 (S S')^(1/2)) of features (N, D), (M, D). Lower is better; 0 for equal sets.

    ValueError for fewer than two rows, which have no covariance, and for NaN or infinity; likewise in all three scores.
    """
    _check_rows(2, generated=generated, real=real)
    from torchmetrics.image.fid import FrechetInceptionDistance

    metric = FrechetInceptionDistance(_AlreadyExtracted(real.shape[1]))
    metric.update(real.double(), real=True)
    metric.update(generated.double(), real=False)
    return float(metric.compute())


def kid(generated: Tensor, real: Tensor, seed: int = 0) -> float:
    """Unbiased MMD^2 of features (N, D), (M, D), kernel (x.y / D + 1)^3. Lower is better, near 0 for one distribution.

    The mean over 100 random subsets of 1,000 (or of all, if there are fewer), drawn by the seed.
    """
    _check_rows(2, generated=generated, real=real)
    seed = whole("seed", seed, 0, 2**63 - 1)
    from torchmetrics.image.kid import KernelInceptionDistance

    size = min(KID_SUBSET_SIZE, len(generated), len(real))
    with _quiet_and_seeded(seed):
        extracted = _AlreadyExtracted(real.shape[1])
        metric = KernelInceptionDistance(extracted, subsets=KID_SUBSETS, subset_size=size)
        metric.update(real, real=True)
        metric.update(generated, real=False)
        return float(metric.compute()[0])


def inception_score(logits: Tensor, seed: int = 0) -> float:
    """exp of the mean of KL(p(y|x) || p(y)) over images; logits (N, K). Between 1 and K; higher is better.

    The images are shuffled by the seed and cut into splits of ⌈N/10⌉, the last one perhaps smaller; the mean over the
    splits is the score. So there are 10 of one size if 10 divides N, otherwise perhaps fewer; a split of a
    single image scores 1. `score_features` notes other splits than 10 equal ones of at least 10 images.
    """
    _check_rows(1, logits=logits)
    seed = whole("seed", seed, 0, 2**63 - 1)
    from torchmetrics.image.inception import InceptionScore

    with _quiet_and_seeded(seed):  # normalize=True would cast even our logits to bytes
        metric = InceptionScore(_AlreadyExtracted(logits.shape[1]), splits=IS_SPLITS, normalize=False)
        metric.update(logits.double())
        return float(metric.compute()[0])


# ------------------------------------------------------------------------------------------ the bootstrap
# "How far would the score move, had other images been drawn?" We draw again from the images we have, with
# replacement, and score each draw by the short functions below, which tests hold equal to torchmetrics.


def frechet_distance(mean_a: Tensor, cov_a: Tensor, mean_b: Tensor, cov_b: Tensor) -> Tensor:
    """FID from means (D,) and covariances (D, D), float64; ValueError for NaN or infinity.

    Tr (A B)^(1/2) = Tr (A^(1/2) B A^(1/2))^(1/2), and that product is symmetric: real eigenvalues.
    """
    _check_rows(1, means=torch.stack([mean_a, mean_b]), covariances=torch.cat([cov_a, cov_b]))
    values, vectors = torch.linalg.eigh(cov_a)
    root = (vectors * values.clamp(min=0).sqrt()) @ vectors.T
    cross = torch.linalg.eigvalsh(root @ cov_b @ root).clamp(min=0).sqrt().sum()
    return (mean_a - mean_b).square().sum() + cov_a.trace() + cov_b.trace() - 2 * cross


def _draw(n: int, generator: torch.Generator) -> Tensor:
    return torch.randint(n, (n,), generator=generator)


def bootstrap_fid(generated: Tensor, real: Tensor, n_bootstrap: int, generator: torch.Generator) -> Tensor:
    """FID of `n_bootstrap` resampled pairs of feature sets: (n_bootstrap,) float64."""

    def moments(features: Tensor) -> tuple[Tensor, Tensor]:
        drawn = features[_draw(len(features), generator)].double()
        return drawn.mean(0), torch.atleast_2d(torch.cov(drawn.T))  # a number where there is one feature

    return torch.stack([frechet_distance(*moments(generated), *moments(real)) for _ in range(n_bootstrap)])


def bootstrap_kid(generated: Tensor, real: Tensor, n_bootstrap: int, generator: torch.Generator) -> Tensor:
    """KID of `n_bootstrap` resampled pairs of feature sets, each over all its images: (n_bootstrap,) float64.

    An image that was drawn w times counts w times, so each kernel value is computed once for all draws.
    """

    _check_rows(2, generated=generated, real=real)

    def counts(n: int) -> Tensor:  # (n, n_bootstrap): how often each image was drawn
        drawn = [_draw(n, generator).bincount(minlength=n) for _ in range(n_bootstrap)]
        return torch.stack(drawn, dim=1).double()

    def pair_sum(a: Tensor, b: Tensor, times_a: Tensor, times_b: Tensor) -> Tensor:
        total = torch.zeros(n_bootstrap, dtype=torch.float64)
        for rows, times in zip(a.split(1000), times_a.split(1000), strict=True):  # blocks, to save memory
            total += (times * ((rows @ b.T / a.shape[1] + 1) ** 3 @ times_b)).sum(0)
        return total

    def self_sum(a: Tensor, times: Tensor) -> Tensor:  # pairs of two draws; no draw is its own partner
        return pair_sum(a, a, times, times) - (a.square().sum(1) / a.shape[1] + 1) ** 3 @ times

    x, y = generated.double(), real.double()
    n, m = len(x), len(y)
    times_x, times_y = counts(n), counts(m)
    cross = pair_sum(x, y, times_x, times_y) / (n * m)
    return self_sum(x, times_x) / (n * (n - 1)) + self_sum(y, times_y) / (m * (m - 1)) - 2 * cross


def bootstrap_is(logits: Tensor, n_bootstrap: int, generator: torch.Generator) -> Tensor:
    """IS of `n_bootstrap` resampled sets of logits: (n_bootstrap,) float64.

    Each over splits of ⌈N/10⌉ images, the last one perhaps smaller, as in `inception_score`.
    """
    _check_rows(1, logits=logits)
    p = logits.double().softmax(1)
    p = torch.cat([p, torch.xlogy(p, p).sum(1, keepdim=True)], dim=1)  # beside p, its negative entropy

    def score(rows: Tensor) -> Tensor:  # mean KL = mean of sum p log p, minus sum of m log m, m the mean of p
        mean = rows.mean(0)
        return (mean[-1] - torch.xlogy(mean[:-1], mean[:-1]).sum()).exp()

    drawn = (p[_draw(len(p), generator)].chunk(IS_SPLITS) for _ in range(n_bootstrap))
    return torch.stack([torch.stack([score(rows) for rows in splits]).mean() for splits in drawn])


def interval(value: float, replicates: Tensor, least: float | None = None) -> tuple[float, float]:
    """95 % interval around a score from its bootstrap replicates.

    A resampled set repeats images and so looks poorer than the set it came from: replicates of FID lie above
    the score, all by about as much. Only their spread is of use. So they are moved until their mean is the
    score, and the interval runs from their 2.5 % to their 97.5 % quantile. It says how far the score would
    move with as many other images; how FID falls as their number grows, the floor shows.
    """
    low, high = np.quantile((replicates - replicates.mean()).numpy() + value, [0.025, 0.975])
    low = low if least is None else max(low, least)
    return float(min(low, value)), float(max(high, value))


# --------------------------------------------------------------------------------------------- evaluation


@dataclass(frozen=True)
class Score:
    """One score and all that is needed to read it. `floor` is the score of real images (for IS, the goal)."""

    name: str
    value: float
    low: float  # 95 % bootstrap interval, see `interval`
    high: float
    floor: float
    n: int  # generated images
    extractor: str
    reference: str
    n_reference: int
    n_floor: int  # real images scored for the floor
    note: str = ""

    def __str__(self) -> str:
        return (
            f"{self.name} {self.value:.4g}, 95 % interval {self.low:.4g} to {self.high:.4g}; "
            f"{self.n_floor:,} real images score {self.floor:.4g} ({self.n:,} generated images; "
            f"reference: {self.reference}; features: {self.extractor}). {self.note}".strip()
        )

    def to_json(self) -> dict:
        """A dictionary of plain numbers and strings, for json.dump."""
        return asdict(self)


def evaluate(
    generated: Tensor,
    reference,
    *,
    features: str | nn.Module = "classifier",
    dataset: str | None = None,
    weights: str | os.PathLike | None = None,
    floor_images=None,
    max_reference: int | None = None,
    n_bootstrap: int = 200,
    seed: int = 0,
    batch_size: int = 256,
    device: str | torch.device | None = None,
    progress: bool = False,
) -> dict[str, Score]:
    """Score generated images (uint8 (N, 1, 28, 28), N >= 2) against real ones: keys "fid", "kid", "is".

    reference: an ImageSet of at least 4 images (anything with `images`, `name`, `split`, `source`) or a
    tensor; if it has more than `max_reference`, that many are drawn by the seed (Inception is slow on a CPU).
    features, dataset, weights, device: see `load_extractor`; dataset is `reference.name` unless given.
    features may also be an extractor that is loaded already.
    floor_images: real images (ImageSet or tensor) that are not in the reference, say of its test split: as
    many as were generated are scored against the reference. Without them the reference is cut in two.
    n_bootstrap: 200 is quick for the classifier's 128 features, slow for Inception's 2048; 20 will do there.

    The same seed gives the same scores on one machine. TypeError or ValueError for unsuitable images.
    """
    images = getattr(reference, "images", reference)
    held_out = getattr(floor_images, "images", floor_images)
    check_images(generated, "generated images")
    check_images(images, "reference images", least=4)
    if held_out is not None:
        check_images(held_out, "floor images")
    n_bootstrap = whole("n_bootstrap", n_bootstrap, 2)
    batch_size = whole("batch_size", batch_size)
    seed = whole("seed", seed, 0, 2**63 - 1)
    if max_reference is not None:
        max_reference = whole("max_reference", max_reference, 4)
    extractor = features
    if not isinstance(features, nn.Module):
        extractor = load_extractor(features, dataset or getattr(reference, "name", None), weights, device)
    generator = torch.Generator().manual_seed(seed)

    def some(images: Tensor, count: int | None) -> Tensor:
        return images if count is None else images[torch.randperm(len(images), generator=generator)[:count]]

    named = hasattr(reference, "source")
    where = f"{reference.name} {reference.split}, {reference.source}" if named else "images"
    if max_reference is not None and max_reference < len(images):
        where += f", {max_reference:,} drawn"
    sets = [generated, some(images, max_reference)]
    sets += [] if held_out is None else [some(held_out, len(generated))]
    return score_features(
        *(extract(extractor, one, batch_size, progress) for one in sets),
        n_bootstrap=n_bootstrap,
        seed=seed,
        extractor_name=getattr(extractor, "title", type(extractor).__name__),
        reference_name=where,
    )


def _splits_note(n: int) -> str:
    """How `inception_score` splits n images, where that is not into 10 equal splits of at least 10 images."""
    if n % IS_SPLITS == 0 and n >= 10 * IS_SPLITS:
        return ""
    sizes = [len(split) for split in torch.arange(n).chunk(IS_SPLITS)]
    last = f", the last of {sizes[-1]}: splits of unequal size" if sizes[-1] < sizes[0] else ""
    few = "Few images per split. " if n < 10 * IS_SPLITS else ""
    return f"The mean over {len(sizes)} splits of {sizes[0]} image(s){last}. {few}"


def score_features(
    generated: Features,
    reference: Features,
    held_out: Features | None = None,
    *,
    n_bootstrap: int = 200,
    seed: int = 0,
    extractor_name: str = "custom",
    reference_name: str = "images",
) -> dict[str, Score]:
    """As `evaluate`, from features extracted before: extract the reference once, score many checkpoints."""
    n_bootstrap = whole("n_bootstrap", n_bootstrap, 2)
    seed = whole("seed", seed, 0, 2**63 - 1)
    held = {} if held_out is None else {"held-out": held_out.features}
    _check_rows(2, generated=generated.features, reference=reference.features, **held)
    _check_rows(2, **{"generated logits": generated.logits, "reference logits": reference.logits})
    n, m, width = len(generated), len(reference), reference.features.shape[1]
    generator = torch.Generator().manual_seed(seed)
    # The floor: real images against other real images. The count matters, as FID is higher for fewer images.
    if held_out is None:
        order = torch.randperm(m, generator=generator)
        k = min(n, m // 2)
        real_a, real_b = reference[order[:k]], reference[order[k:]]
    else:
        real_a, real_b = held_out[:n], reference
    # All 60,000 would make the bootstrap slow; a part of them makes its intervals a little too wide.
    part = reference[torch.randperm(m, generator=generator)[:BOOTSTRAP_REFERENCE]].features

    x, y, a, b = (one.features for one in (generated, reference, real_a, real_b))
    values = {
        "fid": (fid(x, y), fid(a, b), bootstrap_fid(x, part, n_bootstrap, generator), 0.0),
        "kid": (kid(x, y, seed), kid(a, b, seed), bootstrap_kid(x, part, n_bootstrap, generator), None),
        "is": (*(inception_score(one.logits, seed) for one in (generated, real_a)),
               bootstrap_is(generated.logits, n_bootstrap, generator), 1.0),
    }  # fmt: skip
    scores = {}
    for key, (value, floor, replicates, least) in values.items():
        note = _splits_note(n) if key == "is" else ""
        if key == "fid" and min(n, m, len(a)) <= width:
            note = f"Some covariance lacks full rank, as there are {width:,} features and no more images. "
        if len(a) < n:
            note += f"The floor comes from {len(a):,} real images, fewer than were generated."
        low, high = interval(value, replicates, least)
        scores[key] = Score(
            key.upper(), value, low, high, floor, n, extractor_name, reference_name, m, len(a), note.strip()
        )
    release_memory()
    return scores
