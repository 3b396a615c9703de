"""metrics.py: the scores equal torchmetrics and closed forms, and carry their floor, noise and provenance."""

import json
import math
import shutil
import warnings

import pytest
import torch

from qdm_lib import features as extractors
from qdm_lib import metrics
from qdm_lib.data import load_images
from qdm_lib.features import Features, extract, fingerprint, load_extractor
from qdm_lib.metrics import Score, evaluate, score_features

pytestmark = pytest.mark.filterwarnings("error")  # the notebooks run like this


@pytest.fixture(autouse=True)
def few_subsets(monkeypatch):
    """A hundred subsets for KID are for scores, not for tests."""
    monkeypatch.setattr(metrics, "KID_SUBSETS", 5)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def gaussian(n: int, width: int, seed: int, shift: float = 0.0, scale: float = 1.0) -> torch.Tensor:
    return torch.randn(n, width, generator=seeded(seed)) * scale + shift


def noise(n: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(0, 256, (n, 1, 28, 28), dtype=torch.uint8, generator=seeded(seed))


# ------------------------------------------------------------------------------------------------ formulas


def moments(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return x.double().mean(0), torch.cov(x.double().T)


@pytest.mark.parametrize("n", [300, 12])  # with 12 < 16 the covariances have no full rank
def test_frechet_distance_equals_torchmetrics(n):
    a, b = gaussian(n, 16, 0), gaussian(300, 16, 1, shift=0.3, scale=1.7)
    found = metrics.frechet_distance(*moments(a), *moments(b)).item()
    assert found == pytest.approx(metrics.fid(a, b), rel=1e-6)


def test_frechet_distance_of_two_gaussians():
    """Diagonal covariances: sum of (mu - mu')^2 + (sigma - sigma')^2."""
    mu_a, mu_b = torch.tensor([0.0, 1.0, 2.0]).double(), torch.tensor([0.5, 1.0, 0.0]).double()
    sigma_a, sigma_b = torch.tensor([1.0, 2.0, 0.5]).double(), torch.tensor([3.0, 2.0, 0.1]).double()
    expected = (mu_a - mu_b).square().sum() + (sigma_a - sigma_b).square().sum()
    found = metrics.frechet_distance(mu_a, sigma_a.square().diag(), mu_b, sigma_b.square().diag())
    assert found.item() == pytest.approx(expected.item(), abs=1e-12)
    a, b = gaussian(20_000, 3, 0) * sigma_a + mu_a, gaussian(20_000, 3, 1) * sigma_b + mu_b
    assert metrics.fid(a, b) == pytest.approx(expected.item(), rel=0.05)


def test_bootstrap_fid_is_fid_of_the_drawn_rows():
    a, b = gaussian(60, 8, 0), gaussian(90, 8, 1, shift=0.5)
    g = seeded(7)
    rows = [(torch.randint(60, (60,), generator=g), torch.randint(90, (90,), generator=g)) for _ in range(3)]
    expected = [metrics.fid(a[i], b[j]) for i, j in rows]
    assert metrics.bootstrap_fid(a, b, 3, seeded(7)).tolist() == pytest.approx(expected, rel=1e-6)


def test_bootstrap_kid_is_kid_of_the_drawn_rows():
    from torchmetrics.image.kid import poly_mmd

    a, b = gaussian(60, 8, 0).double(), gaussian(60, 8, 1, shift=0.5).double()
    g = seeded(7)
    rows_a = [torch.randint(60, (60,), generator=g) for _ in range(3)]
    rows_b = [torch.randint(60, (60,), generator=g) for _ in range(3)]
    expected = [poly_mmd(b[j], a[i]).item() for i, j in zip(rows_a, rows_b, strict=True)]
    assert metrics.bootstrap_kid(a, b, 3, seeded(7)).tolist() == pytest.approx(expected, rel=1e-9)
    # with one subset of everything, torchmetrics' KID is that formula too
    assert metrics.kid(a, b) == pytest.approx(poly_mmd(b, a).item(), rel=1e-9)


def test_bootstrap_kid_in_blocks():
    a, b = gaussian(1300, 4, 0), gaussian(1100, 4, 1, shift=0.2)
    replicates = metrics.bootstrap_kid(a, b, 20, seeded())
    assert replicates.mean().item() == pytest.approx(metrics.kid(a, b), rel=0.3)


def test_bootstrap_is_is_is_of_the_drawn_rows():
    logits = gaussian(95, 10, 0, scale=3.0)
    rows = torch.randint(95, (95,), generator=seeded(7))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        order = torch.randperm(95)  # torchmetrics shuffles before it splits; undo that
    found = metrics.inception_score(logits[rows][order.argsort()], seed=0)
    assert metrics.bootstrap_is(logits, 1, seeded(7)).item() == pytest.approx(found, rel=1e-9)


def test_inception_score_bounds():
    sure = torch.eye(10).repeat(100, 1) * 50  # every image certain, all classes equally often
    assert 9.0 < metrics.inception_score(sure) <= 10.0
    assert metrics.inception_score(torch.zeros(100, 10)) == pytest.approx(1.0)
    never = torch.cat([torch.randn(200, 9, generator=seeded()), torch.full((200, 1), -500.0)], dim=1)
    assert math.isfinite(metrics.inception_score(never)), "0 log 0 in float32: so we pass float64"


class Brightness(torch.nn.Module):
    """An extractor of one feature, without weights."""

    def forward(self, images):
        mean = images.float().mean((1, 2, 3))[:, None] / 255
        return mean, torch.cat([mean, 1 - mean], 1)


def test_an_extractor_may_have_one_feature_and_no_weights():
    """It once failed with "generator raised StopIteration", and in the bootstrap's covariances."""
    dark = (noise(20).float() * torch.linspace(0.2, 0.8, 20)[:, None, None, None]).to(torch.uint8)
    scores = metrics.evaluate(dark, noise(40), features=Brightness(), n_bootstrap=5)
    a, b = (extract(Brightness(), images).features.double() for images in (dark, noise(40)))
    value = (a.mean() - b.mean()) ** 2 + (a.std() - b.std()) ** 2  # FID of two Gaussians on a line
    assert scores["fid"].value == pytest.approx(value.item(), rel=1e-3) and scores["fid"].low <= scores["fid"].value


def test_scores_leave_the_global_generators_alone(monkeypatch):
    """Those of the GPUs were once reseeded and not restored."""
    monkeypatch.setattr("torch.cuda.manual_seed_all", lambda seed: pytest.fail("reseeded") if seed != 5 else None)
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first = metrics.kid(gaussian(1200, 4, 0), gaussian(1200, 4, 1), seed=2)
    metrics.inception_score(gaussian(50, 4, 0))
    assert torch.equal(torch.rand(3), expected)
    assert metrics.kid(gaussian(1200, 4, 0), gaussian(1200, 4, 1), seed=2) == first


def test_interval_is_centred_on_the_score_and_bounded():
    replicates = torch.linspace(10, 12, 101).double()  # biased upward, as those of FID are
    low, high = metrics.interval(3.0, replicates)
    assert low == pytest.approx(2.05) and high == pytest.approx(3.95)
    assert metrics.interval(0.1, replicates, least=0.0)[0] == 0.0


def test_interval_covers_a_repetition():
    """Of 40 fresh samples of the same size, about 95 % of the FIDs lie in the interval of a typical one."""
    real = gaussian(4000, 4, 99)
    scores = torch.tensor([metrics.fid(gaussian(300, 4, s, shift=0.3), real) for s in range(40)])
    typical = int(scores.sub(scores.median()).abs().argmin())
    sample = gaussian(300, 4, typical, shift=0.3)
    low, high = metrics.interval(scores[typical].item(), metrics.bootstrap_fid(sample, real, 100, seeded()))
    assert ((scores > low) & (scores < high)).float().mean() > 0.8


# ---------------------------------------------------------------------------------- the bundled classifier


@pytest.mark.parametrize("name, least", [("mnist", 0.98), ("fashion-mnist", 0.90)])
def test_classifier_reads_the_bundled_test_images(name, least):
    test = load_images(name, "test", bundled=True)
    extractor = load_extractor("classifier", name, device="cpu")
    seen = extract(extractor, test.images)
    assert seen.features.shape == (500, 128) and seen.logits.shape == (500, 10)
    assert seen.features.dtype == torch.float32 and not seen.features.requires_grad
    assert (seen.logits.argmax(1) == test.labels).float().mean() >= least
    assert name in extractor.title and "test accuracy" in extractor.title
    assert torch.allclose(extract(extractor, test.images, batch_size=77).features, seen.features, atol=1e-4)


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist"])
def test_classifier_card_is_complete(name):
    card = json.loads((extractors.ASSETS / f"classifier-{name}.json").read_text())
    assert card["test_accuracy"] > {"mnist": 0.988, "fashion-mnist": 0.91}[name]
    assert "full set" in card["data"] and name in card["command"] and card["seed"] == 0
    assert (extractors.ASSETS / f"classifier-{name}.safetensors").stat().st_size < 1_000_000


def test_classifier_errors(tmp_path):
    advice = "bundled are fashion-mnist, mnist, and .*train_classifier.py kmnist"
    with pytest.raises(FileNotFoundError, match=advice):
        load_extractor("classifier", "kmnist")
    with pytest.raises(ValueError, match="needs dataset="):
        load_extractor("classifier")
    with pytest.raises(ValueError, match="'classifier' or 'inception', not 'vgg'"):
        load_extractor("vgg")
    for suffix in (".json", ".safetensors"):
        shutil.copy(extractors.ASSETS / f"classifier-mnist{suffix}", tmp_path)
    copy = tmp_path / "classifier-mnist.safetensors"
    assert load_extractor("classifier", weights=copy).num_features == 128
    copy.write_bytes(copy.read_bytes()[:-4] + b"oops")
    with pytest.raises(ValueError, match=r"classifier-mnist\.safetensors is corrupt: its SHA-256 is"):
        load_extractor("classifier", weights=copy)
    for text in ("", "{}", "[]", '{"sha256": 3, "class_names": 3, "num_features": 3}'):
        copy.with_suffix(".json").write_text(text)
        with pytest.raises(ValueError, match=r"classifier-mnist\.json is no card of a classifier .*train it again"):
            load_extractor("classifier", weights=copy)


def test_a_device_that_is_not_there_is_one_line():
    missing = "gpu" if torch.cuda.is_available() else "cuda"
    for device in ("gpu", missing, "cuda:99"):
        with pytest.raises(ValueError, match=f"torch cannot use the device '{device}' here") as error:
            load_extractor("classifier", "mnist", device=device)
        assert "\n" not in str(error.value)


def test_a_fingerprint_tells_names_bytes_and_their_order():
    x = torch.arange(6.0)
    same = fingerprint({"a": x})
    assert len(same) == 12 and fingerprint({"a": x.repeat_interleave(2)[::2]}) == same
    for other in ({"b": x}, {"a": -x}, {"a": x.flip(0)}, {"a": x, "b": torch.tensor(1)}):
        assert fingerprint(other) != same
    assert fingerprint({"a": torch.ones((), dtype=torch.bfloat16)})  # as numpy has no such type


# ---------------------------------------------------------------------------------------------- evaluation


@pytest.fixture(scope="module")
def scores():
    """Real images and noise, scored against the bundled Fashion-MNIST."""
    train, test = (load_images("fashion-mnist", split, bundled=True) for split in ("train", "test"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(metrics, "KID_SUBSETS", 5)
        real = evaluate(test.images, train, n_bootstrap=20, device="cpu")
        bad = evaluate(noise(500), train, n_bootstrap=20, device="cpu")
    return real, bad


def test_every_score_carries_its_context(scores):
    for name, score in scores[0].items():
        assert score.name.lower() == name
        assert score.low <= score.value <= score.high and math.isfinite(score.floor)
        assert (score.n, score.n_reference, score.n_floor) == (500, 2000, 500)
        assert "fashion-mnist train, bundled subset, 2,000 of 60,000" in score.reference
        assert "classifier fashion-mnist" in score.extractor
        assert f"{score.value:.4g}" in str(score) and "\n" not in str(score)
        assert Score(**json.loads(json.dumps(score.to_json()))) == score


def test_real_images_score_better_than_noise(scores):
    real, bad = scores
    assert real["fid"].high < bad["fid"].low / 10
    assert real["kid"].high < bad["kid"].low / 10
    assert real["is"].low > 2 * bad["is"].high
    assert real["fid"].value < 3 * real["fid"].floor, "real images are about as good as real images"


def test_evaluate_is_deterministic_and_takes_a_held_out_split():
    train, test = load_images("mnist", "train", bundled=True), load_images("mnist", "test", bundled=True)
    run = dict(floor_images=test, max_reference=400, n_bootstrap=5, device="cpu")
    first, again = (evaluate(train.images[:300], train, seed=3, **run) for _ in range(2))
    assert first == again and first["fid"].n_reference == 400 and first["fid"].n_floor == 300
    assert first["fid"].reference.endswith("2,000 of 60,000 images, 400 drawn")
    assert first["fid"] != evaluate(train.images[:300], train, seed=4, **run)["fid"]


def test_low_rank_and_small_floor_are_noted():
    a, b = (Features(gaussian(n, 16, n), gaussian(n, 10, n)) for n in (12, 14))
    scored = score_features(a, b, n_bootstrap=3)
    assert "there are 16 features" in scored["fid"].note and "full rank" not in scored["kid"].note
    assert all("The floor comes from 7 real images, fewer" in s.note for s in scored.values())


@pytest.mark.parametrize(
    "n, note",
    [
        (7, "The mean over 7 splits of 1 image(s). Few images per split."),
        (11, "The mean over 6 splits of 2 image(s), the last of 1: splits of unequal size. Few images per split."),
        (64, "The mean over 10 splits of 7 image(s), the last of 1: splits of unequal size. Few images per split."),
        (90, "The mean over 10 splits of 9 image(s). Few images per split."),
        (100, ""),
        (109, "The mean over 10 splits of 11 image(s), the last of 10: splits of unequal size."),
        (2000, ""),
    ],
)
def test_odd_splits_of_the_inception_score_are_noted(n, note):
    a, b = Features(gaussian(n, 4, 0), gaussian(n, 10, 1)), Features(gaussian(2 * n, 4, 2), gaussian(2 * n, 10, 3))
    scored = score_features(a, b, n_bootstrap=2)
    assert scored["is"].note == note and not any("split" in scored[key].note for key in ("fid", "kid"))
    if n < 10:
        assert (scored["is"].value, scored["is"].low, scored["is"].high) == pytest.approx((1, 1, 1))


@pytest.mark.parametrize(
    "images, error, message",
    [
        (torch.zeros(5, 1, 28, 28), TypeError, "must be a uint8 tensor, not a torch.float32 tensor"),
        (noise(5)[:, 0], ValueError, r"must have the shape \(N, 1, 28, 28\), not \(5, 28, 28\)"),
        (noise(5).repeat(1, 3, 1, 1), ValueError, "must have the shape"),
        (noise(1), ValueError, "a score needs at least 2, not 1"),
        ([1, 2], TypeError, "must be a uint8 tensor, not a list"),
    ],
)
def test_unsuitable_images(images, error, message):
    with pytest.raises(error, match=f"generated images.*{message}"):
        evaluate(images, noise(10))
    if isinstance(images, torch.Tensor):
        with pytest.raises(error, match="reference images"):
            evaluate(noise(10), images)


def test_other_mistakes():
    with pytest.raises(ValueError, match="at least 4"):
        evaluate(noise(5), noise(3))
    with pytest.raises(ValueError, match="n_bootstrap"):
        evaluate(noise(5), noise(10), n_bootstrap=0)
    with pytest.raises(ValueError, match="needs dataset="):
        evaluate(noise(5), noise(10))


def spoilt(n: int, width: int, value: float) -> torch.Tensor:
    rows = gaussian(n, width, 0)
    rows[n // 2, width // 2] = value
    return rows


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_nan_and_infinity_are_no_scores(value):
    """They gave nan as FID, KID and IS, without a word."""
    good, bad = gaussian(20, 4, 1), spoilt(20, 4, value)
    for score in (metrics.fid, metrics.kid):
        with pytest.raises(ValueError, match="1 of 20 generated rows hold NaN or infinity"):
            score(bad, good)
        with pytest.raises(ValueError, match="1 of 20 real rows hold NaN or infinity"):
            score(good, bad)
    with pytest.raises(ValueError, match="1 of 20 logits rows hold NaN"):
        metrics.inception_score(bad)
    features = Features(good, good)
    for sets in ((Features(bad, good), features), (features, Features(bad, good))):
        with pytest.raises(ValueError, match="1 of 20 (generated|reference) rows hold NaN"):
            score_features(*sets, n_bootstrap=2)
    with pytest.raises(ValueError, match="1 of 20 held-out rows hold NaN"):
        score_features(features, features, Features(bad, good), n_bootstrap=2)
    with pytest.raises(ValueError, match="1 of 20 generated logits rows hold NaN"):
        score_features(Features(good, bad), features, n_bootstrap=2)
    with pytest.raises(ValueError, match="1 of 20 reference logits rows hold NaN"):
        score_features(features, Features(good, bad), n_bootstrap=2)
    generator = torch.Generator().manual_seed(0)
    for resampled in (metrics.bootstrap_fid, metrics.bootstrap_kid):
        with pytest.raises(ValueError, match="rows hold NaN or infinity"):
            resampled(bad[10:11].repeat(20, 1), good, 2, generator)
    with pytest.raises(ValueError, match="1 of 20 logits rows hold NaN"):
        metrics.bootstrap_is(bad, 2, generator)
    mean, cov = torch.zeros(4, dtype=torch.float64), torch.eye(4, dtype=torch.float64)
    for spoilt_moments in ((mean + value, cov, mean, cov), (mean, cov, mean, cov + value)):
        with pytest.raises(ValueError, match="(means|covariances) rows hold NaN"):
            metrics.frechet_distance(*spoilt_moments)


@pytest.mark.parametrize("n", [0, 1])
def test_too_few_rows_are_no_score(n):
    few, many = gaussian(n, 4, 0), gaussian(20, 4, 1)
    for score in (metrics.fid, metrics.kid):
        for sets in ((few, many), (many, few)):
            with pytest.raises(
                ValueError, match=rf"at least 2 (generated|real) rows \(N, D\), not the shape \({n}, 4\)"
            ):
                score(*sets)
    with pytest.raises(ValueError, match="at least 2 generated rows"):
        score_features(Features(few, few), Features(many, many))
    with pytest.raises(ValueError, match="at least 1 logits rows"):
        metrics.inception_score(gaussian(0, 4, 0))
    with pytest.raises(ValueError, match=r"not the shape \(20,\)"):
        metrics.fid(many[:, 0], many)
    with pytest.raises(ValueError, match=r"one width; these have 4 \(generated\) and 3 \(real\)"):
        metrics.fid(many, many[:, :3])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "batch_size must be a whole number"),
        ({"batch_size": 2.0}, "batch_size must be a whole number"),
        ({"seed": 1.5}, "seed must be a whole number"),
        ({"seed": True}, "seed must be a whole number"),
        ({"seed": -1}, "seed must be a whole number"),
        ({"seed": 2**64}, "seed must be a whole number"),
        ({"n_bootstrap": 2.5}, "n_bootstrap must be a whole number"),
        ({"max_reference": 4.5}, "max_reference must be a whole number"),
        ({"max_reference": 3}, "max_reference must be a whole number"),
    ],
)
def test_numbers_of_an_evaluation_are_whole(options, message):
    with pytest.raises(ValueError, match=message):
        evaluate(noise(5), noise(10), dataset="mnist", **options)


# ----------------------------------------------------------------------------------------------- Inception


@pytest.fixture
def nowhere(monkeypatch, tmp_path):
    """No weights by the environment, in torch.hub's folder or on the network."""
    monkeypatch.delenv(extractors.INCEPTION_VARIABLE, raising=False)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))

    def offline(*args, **kwargs):
        raise OSError("offline")

    monkeypatch.setattr(torch.hub, "download_url_to_file", offline)


def test_inception_says_what_is_missing(nowhere, monkeypatch, tmp_path):
    pytest.importorskip("torch_fidelity")
    advice = f"offline.*put {extractors.INCEPTION_FILE} somewhere.*{extractors.INCEPTION_VARIABLE}.*'classifier'"
    with pytest.raises(FileNotFoundError, match=advice):
        load_extractor("inception")
    monkeypatch.setenv(extractors.INCEPTION_VARIABLE, str(tmp_path / "absent.pth"))
    with pytest.raises(FileNotFoundError, match="there is no Inception weights file .*absent.pth"):
        load_extractor("inception")


def test_inception_without_torch_fidelity(nowhere, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "torch_fidelity.feature_extractor_inceptionv3", None)
    with pytest.raises(FileNotFoundError, match="needs torch-fidelity; put"):
        load_extractor("inception")


def test_inception_refuses_damaged_and_pickled_files(nowhere, tmp_path):
    pytest.importorskip("torch_fidelity")
    import pickle

    damaged = tmp_path / extractors.INCEPTION_FILE
    damaged.write_bytes(b"half a download")
    with pytest.raises(ValueError, match="is corrupt: its SHA-256 begins"):
        load_extractor("inception", weights=damaged)
    harmful = tmp_path / "harmful.pth"
    harmful.write_bytes(pickle.dumps(warnings.WarningMessage))  # any class will do
    with pytest.raises(ValueError, match="harmful.pth is not a file of plain weights"):
        load_extractor("inception", weights=harmful)


@pytest.mark.parametrize("content", [[1, 2], {"fc.weight": [1.0]}, {"state": {"a": torch.zeros(1)}}, torch.zeros(3),
                                     {1: torch.zeros(1)}, "text", None], ids=str)  # fmt: skip
def test_inception_refuses_what_is_no_dictionary_of_tensors(nowhere, tmp_path, monkeypatch, content):
    """A list in the file that the environment names was a traceback."""
    pytest.importorskip("torch_fidelity")
    torch.save(content, tmp_path / "list.pth")
    monkeypatch.setenv(extractors.INCEPTION_VARIABLE, str(tmp_path / "list.pth"))
    with pytest.raises(ValueError, match="list.pth is not a file of plain weights: it holds no dictionary"):
        load_extractor("inception")


def test_inception_with_stand_in_weights(nowhere, tmp_path):
    """Random weights with the keys and shapes of the real file: loading, repeating grey, features, logits."""
    fidelity = pytest.importorskip("torch_fidelity.feature_extractor_inceptionv3")

    class Fresh(fidelity.FeatureExtractorInceptionV3):
        def load_state_dict(self, state):
            assert state == {}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fidelity, "load_state_dict_from_url", lambda *args, **kwargs: {})
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            state = Fresh("inception-v3-compat", ["2048"]).state_dict()
    path = tmp_path / "stand-in.pth"
    torch.save(state, path)  # the format of the real file, which is not ours to choose
    extractor = load_extractor("inception", weights=path, device="cpu")
    assert "NON-STANDARD" in extractor.title
    seen = extract(extractor, noise(3))
    assert seen.features.shape == (3, 2048) and seen.logits.shape == (3, 1008)
    direct = extractor.net(noise(3).repeat(1, 3, 1, 1))  # three equal channels, as in the paper
    assert torch.allclose(seen.features, direct, atol=1e-5)
    assert torch.allclose(seen.logits, direct @ state["fc.weight"].T, atol=1e-4)
    with pytest.raises(ValueError, match="holds no InceptionV3 of torch-fidelity"):
        torch.save({"a": torch.zeros(1)}, tmp_path / "other.pth")
        load_extractor("inception", weights=tmp_path / "other.pth")
