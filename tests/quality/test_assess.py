"""The metrics of a known set: the primary one of its card, 0 for train itself, the floor for draws of it."""

import json

import numpy as np
import pytest
import torch
from tests.quality.writers import bare
from torch.utils.data import DataLoader, TensorDataset

from merged_diffusion import load_data
from merged_diffusion.catalogue.entries import known
from merged_diffusion.data.images import chosen_positions
from merged_diffusion.errors import CheckpointError, DataError, DataNotFoundError, UsageError
from merged_diffusion.quality import Moments, assess, frechet_distance
from merged_diffusion.quality.assess import yardsticks
from merged_diffusion.quality.calibration import Calibration
from merged_diffusion.quality.features import extractor
from merged_diffusion.quality.manifolds import METRICS, Manifolds
from merged_diffusion.quality.statistics import Statistics

OF_SINGLE_IMAGES = ("kid", "precision", "recall", "density", "coverage")
WORDS = {"digits": "classifier", "photos": "random-convolution"}
NAMES = {
    name: [f"{metric}-{word}" for metric in ("frechet", *OF_SINGLE_IMAGES)] + ["frechet-pixels"]
    for name, word in WORDS.items()
}
NAMES["digits"].insert(-1, "copies-classifier")  # all of train is in its statistics


def drawn(name: str, n: int, seed: int = 0) -> np.ndarray:
    """Images of train with replacement: an ideal model's."""
    train = load_data(name, split="train")
    return train.images[np.random.default_rng(seed).integers(len(train), size=n)]


@pytest.mark.parametrize("name", NAMES)
def test_primary_metric_is_that_of_the_card(name):
    found = assess(load_data(name), name)
    assert found["primary"]["name"] == known()["data"][name]["primary_metric"] == NAMES[name][0]
    assert [figure["name"] for figure in found["others"]] == NAMES[name][1:]
    assert found["primary"]["n"] == 360
    assert found["primary"]["biased"]
    assert len(found["primary"]["replicates"]) == 16
    assert found["reference"]["about"]["split"] == "train"
    json.dumps(found, allow_nan=False)


@pytest.mark.parametrize("name", NAMES)
def test_statistics_are_those_of_train(name):
    train = load_data(name, split="train")
    for statistics, features in yardsticks(name):
        assert statistics.about.data_sha256 == train.sha256 == known()["data"][name]["sha256_train"]
        assert statistics.about.n == len(train)
        assert statistics.features == features


def test_train_itself_is_at_distance_0():
    found = assess(load_data("digits", split="train"), "digits")
    for figure in (found["primary"], found["others"][-1]):
        # The features were computed and summed the same way; what is left is the roots' rounding.
        assert abs(figure["value"]) < 1e-6


@pytest.mark.parametrize("name", NAMES)
def test_an_ideal_model_scores_the_floor(name):
    figures = [assess(drawn(name, 1000, seed), name)["primary"] for seed in range(6)]
    mean = np.mean([figure["value"] for figure in figures])
    # Spread between draws: 0.3 of the value; 6 draws know the mean to 0.12.
    assert mean == pytest.approx(figures[0]["floor"], rel=0.5)


def test_blur_and_noise_are_farther_than_the_floor():
    images = drawn("photos", 1000).astype(float)
    noise = np.random.default_rng(1).standard_normal(images.shape)
    blurred = np.mean([np.roll(images, (y, x), (2, 3)) for y in (-1, 0, 1) for x in (-1, 0, 1)], axis=0)
    for changed in (images + 25 * noise, blurred):
        primary = assess(changed.clip(0, 255).round().astype(np.uint8), "photos")["primary"]
        assert primary["value"] - 3 * primary["se"] > primary["floor"]


def test_result_does_not_depend_on_the_order_of_the_images():
    images, ids = drawn("digits", 300), np.arange(300)
    order = np.random.default_rng(2).permutation(300)
    assert assess(images, "digits", ids=ids) == assess(images[order], "digits", ids=ids[order])


def test_floor_follows_1_over_n_beyond_its_table():
    statistics = Statistics(None, None, floor=((100, 2.0), (1000, 0.2), (10_000, 0.02)))
    for n, floor in ((100, 2.0), (300, 2 / 3), (10_000, 0.02), (50_000, 0.004)):
        assert statistics.floor_at(n) == pytest.approx(floor, rel=1e-12)
    assert Statistics(None, None).floor_at(100) is None


def test_no_floor_is_stated_below_its_table():
    statistics = Statistics(None, None, floor=((100, 2.0), (1000, 0.2)))
    assert [statistics.floor_at(n) for n in (1, 2, 16, 99)] == [None] * 4


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("n", [2, 5, 16, 40])
def test_few_draws_of_train_score_the_floor_that_is_stated(name, n):
    """Fresh draws, by another seed, of features: within 4 standard errors, and 3 % of lines between nodes."""
    train = load_data(name, split="train")
    statistics, word = next(yardsticks(name))
    features = extractor(word, device="cpu", cache=None, like=train)(train.images)
    random, found = np.random.default_rng(12345), []
    for _ in range(300):
        moments = Moments(features.shape[1])
        moments.add(features[random.integers(len(features), size=n)], np.arange(n))
        found.append(frechet_distance(moments, statistics.law).value)
    floor = statistics.floor_at(n)
    # The table's own error is that of 1000 draws and more: half of it.
    error = np.std(found) / np.sqrt(len(found))
    assert abs(np.mean(found) - floor) < 4 * 1.2 * error + 0.03 * floor * (n == 40)


@pytest.mark.parametrize("name", NAMES)
def test_images_of_train_that_span_no_ball_score_the_floors_of_neighbours(name):
    """Fresh draws: the mean of 12 of 100 images within 4 of its errors, and of 1/100, the table's own."""
    train = load_data(name, split="train")
    statistics, word = next(yardsticks(name))
    stored = np.sort(chosen_positions(len(train), len(statistics.reference)))
    if statistics.calibration.n is not None:
        stored = stored[np.sort(chosen_positions(len(stored), statistics.calibration.n))]
    features = extractor(word, device="cpu", cache=None, like=train)
    # The stored features are those of these images, in half precision.
    some = features(train.images[stored[:50]])
    np.testing.assert_allclose(statistics.ball_features[:50], some, rtol=1e-3, atol=1e-3)
    others = np.setdiff1d(np.arange(len(train)), stored)
    random, manifolds = np.random.default_rng(4321), Manifolds(statistics.ball_features)
    found = []
    for _ in range(12):
        drawn = features(train.images[random.choice(others, 100, replace=False)]).astype(np.float16)
        found.append(manifolds.of(drawn, np.zeros(100, dtype=np.int64)))
    for metric in METRICS:
        values = [shares[metric].value for shares in found]
        error = np.hypot(np.std(values, ddof=1) / np.sqrt(12), 0.01)
        assert abs(np.mean(values) - statistics.calibration.floor_at(metric, 100)) < 4 * error


def test_floors_of_neighbours_are_stated_within_their_table_alone():
    calibration = Calibration(None, {"recall": ((10, 0.2), (1000, 0.6))})
    values = [calibration.floor_at("recall", n) for n in (9, 10, 100, 1000, 1001)]
    assert values == [None, 0.2, pytest.approx(0.4), 0.6, None]  # straight in log n
    assert calibration.floor_at("precision", 100) is None


def test_copies_of_train_are_found_and_other_images_are_not():
    train, test = load_data("digits", split="train"), load_data("digits")
    images = np.concatenate([test.images[:270], train.images[:30]])
    found = {figure["name"]: figure for figure in assess(images, "digits")["others"]}["copies-classifier"]
    # 1 % of the others, by design; test's own share is 1.4 % +- 0.6 %.
    assert abs(found["value"] - 0.1) < 0.02
    assert found["floor"] == pytest.approx(0.01, abs=0.001)


def test_metrics_that_are_left_out_are_named_with_the_reason():
    assert assess(load_data("digits"), "digits")["absent"] == {}
    absent = assess(load_data("photos"), "photos")["absent"]
    assert list(absent) == ["copies-random-convolution"]
    assert absent["copies-random-convolution"].endswith("features of 4000 of 320544 images, not of all")
    digits = load_data("digits").select(ids=(0, 5))
    loader = DataLoader(TensorDataset(torch.from_numpy(digits.images)), batch_size=3)
    assert assess(loader, "digits") == assess(digits.images, "digits")
    few = assess(digits, "digits")["absent"]
    assert few["recall-classifier"] == "5 images; neighbours take 6 or more"


def test_unknown_sets_are_refused():
    with pytest.raises(UsageError, match="no data set is called 'faces'"):
        assess(drawn("digits", 20), "faces")


def test_samples_of_another_kind_are_refused():
    with pytest.raises(DataError, match="exceeds 16, the highest of 17 levels"):
        assess(load_data("photos").images[:, :1], "digits")
    with pytest.raises(DataError, match="grey levels, photos features take 256"):
        assess(load_data("digits"), "photos")


def test_cifar10_names_statistics_and_weights_that_are_missing(tmp_path):
    images = np.random.default_rng(0).integers(256, size=(4, 3, 32, 32), dtype=np.uint8)
    with pytest.raises(CheckpointError, match="cifar10-32x32") as caught:
        assess(images, "cifar10", cache=tmp_path)
    assert "weights-inception" in caught.value.message
    (tmp_path / "stats").mkdir()
    bare(tmp_path / "stats" / "cifar10-32x32.npz", 2048)
    with pytest.raises(CheckpointError) as caught:
        assess(images, "cifar10", cache=tmp_path)
    assert "cifar10-32x32" not in caught.value.message


def test_a_set_without_published_statistics_says_how_to_make_them(tmp_path):
    images = np.zeros((4, 3, 32, 32), dtype=np.uint8)
    with pytest.raises(DataNotFoundError, match="merged-diffusion fid-ref imagenet32 --variant old "):
        assess(images, "imagenet32-old", cache=tmp_path)
