"""Precision, recall, density, coverage, histogram, usefulness, copies: by hand, by loops, and on real images."""

from dataclasses import replace

import pytest
import torch

from qdm_lib.data import load_images
from study.scores import (
    Scorer,
    class_tv,
    cnn_correct,
    density_coverage,
    mean_interval,
    nearest_distance,
    over_cnns,
    precision_recall,
    radii,
)


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def line(*points: float) -> torch.Tensor:
    return torch.tensor(points, dtype=torch.float64)[:, None]


# Real points at 0, 1, 3 on a line. With k = 1 their neighbourhoods are [-1, 1], [0, 2] and [1, 5].
REAL = line(0, 1, 3)


def test_radii_by_hand():
    assert radii(REAL, 1).tolist() == [1, 1, 2] and radii(REAL, 2).tolist() == [3, 2, 3]
    with pytest.raises(ValueError, match="A neighbourhood of 3 needs more than 3 points, not 3"):
        radii(REAL, 3)


def test_precision_and_recall_by_hand():
    # Generated 0.5 (in two neighbourhoods), 1.5 (in two), 7 (in none); their own: [-0.5, 1.5], [0.5, 2.5], [1.5, 12.5]
    precise, recalled = precision_recall(REAL, line(0.5, 1.5, 7), k=1)
    assert precise.tolist() == [1, 1, 0] and recalled.tolist() == [1, 1, 1]
    precise, recalled = precision_recall(REAL, line(10, 11), k=1)
    assert precise.tolist() == [0, 0] and recalled.tolist() == [0, 0, 0]


def test_density_and_coverage_by_hand():
    dense, covered = density_coverage(REAL, line(0.5, 1.5, 7), k=1)
    assert dense.tolist() == [2, 2, 0] and covered.tolist() == [1, 1, 1]
    dense, covered = density_coverage(REAL, line(-0.5, -0.6), k=1)
    assert dense.tolist() == [1, 1] and covered.tolist() == [1, 0, 0]


def test_neighbourhoods_by_loops():
    """An independent implementation: sorted distances and plain loops over the definitions."""
    g = torch.Generator().manual_seed(0)
    real, fake = torch.randn(30, 4, generator=g).double(), torch.randn(25, 4, generator=g).double() * 0.7 + 0.8
    near = lambda x, y: float((x - y).norm())  # noqa: E731
    radius = lambda all_, x, k: sorted(near(x, y) for y in all_)[k]  # noqa: E731
    precision = [any(near(f, r) <= radius(real, r, 3) for r in real) for f in fake]
    recall = [any(near(r, f) <= radius(fake, f, 3) for f in fake) for r in real]
    density = [sum(near(f, r) <= radius(real, r, 5) for r in real) / 5 for f in fake]
    coverage = [any(near(f, r) <= radius(real, r, 5) for f in fake) for r in real]
    assert [x.tolist() for x in precision_recall(real, fake)] == [precision, recall]
    assert [x.tolist() for x in density_coverage(real, fake)] == [density, coverage]
    assert 0 < sum(precision) < 25 and 0 < sum(recall) < 30 and 0 < sum(coverage) < 30


def test_class_tv_by_hand():
    assert class_tv(torch.tensor([0, 1, 2, 3]), 4) == 0
    assert class_tv(torch.tensor([0, 0, 0, 1]), 4) == pytest.approx(0.5)  # ½ (½ + 0 + ¼ + ¼)
    assert class_tv(torch.zeros(5, dtype=torch.int64), 4) == pytest.approx(0.75)


def test_nearest_distance_equals_cdist_and_finds_copies():
    g = torch.Generator().manual_seed(1)
    images = torch.randint(256, (7, 1, 28, 28), generator=g).to(torch.uint8)
    training = torch.randint(256, (20, 1, 28, 28), generator=g).to(torch.uint8)
    training[4] = images[2]
    got = nearest_distance(images, training, chunk=3)
    wanted = torch.cdist(images.flatten(1).double() / 255, training.flatten(1).double() / 255).min(1).values
    torch.testing.assert_close(got.double(), wanted, atol=2e-2, rtol=1e-4)
    assert got[2] < 0.02 and (got[:2] > 1).all()


def test_mean_interval():
    value, low, high = mean_interval(torch.tensor([0.0, 1.0] * 200).double())
    assert value == 0.5 and 0.44 < low < 0.46 and 0.54 < high < 0.56  # 0.5 ± 1.96 · 0.5/20
    assert mean_interval(torch.ones(9).double()) == (1, 1, 1)


def test_the_interval_of_an_accuracy_holds_the_spread_of_the_cnns():
    """Two CNNs, 4 test images: accuracies 1/2 and 1; by hand, and by drawing many sets of CNNs."""
    value, low, high = over_cnns(torch.tensor([[1, 1, 0, 0], [1, 1, 1, 1]]))
    seeds, images = 0.125, 1 / 12  # of 0.5 and 1; of the images' means 1, 1, 0.5, 0.5
    half = 12.7062 * (seeds / 2 + images / 4) ** 0.5
    assert value == 0.75 and (low, high) == (0, 1) and half > 0.25
    quiet = torch.tensor([[1.0] * 90 + [0.0] * 10] * 5)
    value, low, high = over_cnns(quiet)  # CNNs that agree: only the images vary
    assert value == pytest.approx(0.9) and high - low == pytest.approx(2 * 2.77645 * (0.09 / 99) ** 0.5, rel=1e-4)
    with pytest.raises(ValueError, match="at least 2 of them, not 1"):
        over_cnns(torch.ones(1, 9))
    g, hits = torch.Generator().manual_seed(0), 0
    for _ in range(300):  # accuracies of CNNs scatter by 0.03 around 0.8; 1,000 test images
        share = 0.8 + 0.03 * torch.randn(5, 1, generator=g)
        value, low, high = over_cnns((torch.rand(5, 1000, generator=g) < share).double())
        hits += low <= 0.8 <= high
    assert 0.93 <= hits / 300 <= 1


def test_an_interval_of_a_share_holds_possible_shares_only():
    for k in (1, 2, 399):  # of 400; without the cut the interval of 1 reaches below 0, that of 399 above 1
        for seed in range(5):
            value, low, high = mean_interval((torch.arange(400) < k).double(), seed, share=True)
            assert 0 <= low < value < high <= 1
    bound = 1 - 0.05 ** (1 / 400)  # none of 400: shares above 0.0075, about 3/400, show one in 95 of 100 cases
    assert bound == pytest.approx(3 / 400, rel=0.01)
    assert mean_interval(torch.zeros(400), share=True) == pytest.approx((0, 0, bound))
    assert mean_interval(torch.ones(400), share=True) == pytest.approx((1, 1 - bound, 1))
    assert mean_interval(torch.zeros(9)) == (0, 0, 0)  # a density has no such bound


def test_what_is_kept_of_one_seed_serves_no_other(sets, tmp_path):
    """The seed draws the real images in the generated ones' place, so what is kept depends on it."""
    for seed in (0, 1):
        kept = Scorer(*sets, 20, seed=seed, cache=tmp_path, cnn_steps=1, device="cpu").close_distance()
        assert kept == Scorer(*sets, 20, seed=seed, cnn_steps=1, device="cpu").close_distance()


def test_what_is_kept_of_some_images_serves_no_others_of_that_name_and_number(sets, tmp_path):
    few = [replace(s, images=s.images[:40], labels=s.labels[:40]) for s in sets]
    inverted = [replace(s, images=255 - s.images) for s in few]
    renamed = [few[0], replace(few[1], labels=9 - few[1].labels)]
    for train, test in (few, inverted, renamed):
        kept, new = (Scorer(train, test, 20, cache=c, cnn_steps=2, device="cpu") for c in (tmp_path, None))
        assert torch.equal(kept.reference.features, new.reference.features)
        assert torch.equal(kept.held_out.logits, new.held_out.logits)
        assert kept.close_distance() == new.close_distance() and kept.floors() == new.floors()


def test_a_damaged_file_of_the_cache_is_made_anew(sets, tmp_path):
    few = [replace(s, images=s.images[:40], labels=s.labels[:40]) for s in sets]
    make = lambda: Scorer(*few, 20, cache=tmp_path, cnn_steps=1, device="cpu")  # noqa: E731
    floors = make().floors()
    kept = {path: path.read_bytes() for path in tmp_path.iterdir()}
    assert len(kept) == 4
    for path, content in kept.items():
        path.write_bytes(content[:-1] if "floors" in path.name else b"")
    assert make().floors() == floors and {path: path.read_bytes() for path in tmp_path.iterdir()} == kept


def test_a_cnn_learns_from_real_images_and_nothing_from_shuffled_labels():
    train, test = (load_images("mnist", split, bundled=True) for split in ("train", "test"))
    order = torch.randperm(len(train.labels), generator=torch.Generator().manual_seed(0))
    options = {"n_classes": 10, "steps": 60}
    right = cnn_correct(train.images, train.labels, test.images, test.labels, **options).mean()
    wrong = cnn_correct(train.images, train.labels[order], test.images, test.labels, **options).mean()
    again = cnn_correct(train.images, train.labels, test.images, test.labels, **options).mean()
    assert right > 0.8 and wrong < 0.3 and right == again


@pytest.fixture(scope="module")
def sets():
    return [load_images("fashion-mnist", split, bundled=True) for split in ("train", "test")]


def test_real_copied_and_noisy_images_are_told_apart(sets, tmp_path):
    train, test = sets
    options = {"cnn_steps": 30, "cnn_seeds": 2, "n_bootstrap": 5, "device": "cpu"}
    n = min(300, len(test))
    scorer = Scorer(train, test, n, cache=tmp_path, **options)
    real = scorer.scores(test.images[scorer.fresh])
    for key in ("precision", "recall", "density", "coverage", "memorised", "class_tv"):
        assert real[key].value == pytest.approx(real[key].floor), key  # the very images of the floor
    assert real["memorised"].value <= 0.015 and real["class_tv"].value < 0.1
    copies = scorer.scores(train.images[scorer.drawn])
    assert copies["memorised"].value == 1 and copies["precision"].value == 1 and copies["coverage"].value == 1
    noise = torch.randint(256, (n, 1, 28, 28), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    bad = scorer.scores(noise)
    assert bad["coverage"].value < 0.05 and bad["recall"].value < real["recall"].value
    assert (
        bad["memorised"].value == 0 < bad["memorised"].high < 4 / n
        and bad["cnn_accuracy"].value < real["cnn_accuracy"].value
    )
    assert "classifier fashion-mnist" in bad["precision"].extractor and "Images in each class" in bad["class_tv"].note

    again = Scorer(train, test, n, cache=tmp_path, **options)  # what the first one kept
    assert again.floors() == scorer.floors() and again.scores(noise) == bad


def test_few_or_wrong_images_are_refused(sets):
    train, test = (replace(s, images=s.images[:20], labels=s.labels[:20]) for s in sets)
    scorer = Scorer(train, test, 10, cnn_steps=1, device="cpu")
    with pytest.raises(ValueError, match="a score needs at least 6, not 5"):
        scorer.scores(train.images[:5])
    with pytest.raises(ValueError, match="n must be a whole number, at least 6; got 5"):
        Scorer(train, test, 5, device="cpu")
