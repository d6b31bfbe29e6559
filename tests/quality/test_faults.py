"""Section 5 of the table of faults, as far as it is of quality: a test for each row, which bears its name."""

import logging
from dataclasses import replace

import numpy as np
import pytest
from tests.quality.writers import bare, pickled

from merged_diffusion import load_data
from merged_diffusion.data.images import make_data
from merged_diffusion.errors import DataError, UnsafeFileError
from merged_diffusion.quality import Moments
from merged_diffusion.quality.assess import compare
from merged_diffusion.quality.features import extractor
from merged_diffusion.quality.statistics import collect, remarks
from merged_diffusion.quality.statistics_files import read_statistics


@pytest.fixture(scope="module")
def features():
    return extractor("digits")


@pytest.fixture(scope="module")
def statistics(features):
    return collect(load_data("digits"), features)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"data_sha256": "0" * 64}, "data_sha256 = 0000.* but the published digits/test have e8218130"),
        ({"n": 300}, "n = 300, but the published digits/test have 360"),
        ({"resize": "bicubic"}, "resize = bicubic"),
        ({"features": "classifier-2"}, "features = classifier-2"),
        ({"features_sha256": "1" * 64}, "features_sha256 = 1111"),
        ({"levels": 256}, "levels = 256"),
        ({"image_shape": (1, 16, 16)}, r"image_shape = \[1, 16, 16\]"),
    ],
)
def test_reference_statistics_from_another_data_set_count_resize_or_feature_network(
    features, statistics, changes, words
):
    other = replace(statistics, about=replace(statistics.about, **changes))
    with pytest.raises(DataError, match=words) as caught:
        compare(load_data("digits"), other, features)
    assert caught.value.exit_code == 3
    assert caught.value.fields["key"] == next(iter(changes))


def test_reference_statistics_of_another_set_than_asked_for(statistics):
    statistics.check_data("digits")
    with pytest.raises(DataError, match="data = digits, but what was asked for have cifar10"):
        statistics.check_data("cifar10")


def test_reference_statistics_of_another_number_of_features(tmp_path, features):
    with pytest.raises(DataError, match="statistics of 64 features, digits has 32"):
        compare(load_data("digits"), read_statistics(bare(tmp_path / "s.npz")), features)


def test_bare_npz_warns_that_nothing_can_be_checked_and_records_the_hash(tmp_path, features, caplog):
    found = read_statistics(bare(tmp_path / "edm.npz", 32))
    with caplog.at_level(logging.WARNING, "merged_diffusion"):
        figures = compare(load_data("digits"), found, features)
    assert "cannot be checked" in caplog.text
    assert found.sha256 in caplog.text
    # Without reference features there is no kernel distance.
    assert [figure.name for figure in figures] == ["frechet-classifier"]


def test_edm2_pickled_statistics(tmp_path, features):
    table = {"mu": np.zeros(32), "sigma": np.eye(32)}
    found = read_statistics(pickled(tmp_path / "edm2.pkl", {"fid": table}))
    assert compare(load_data("digits"), found, features)[0].value > 0
    with pytest.raises(UnsafeFileError):
        read_statistics(pickled(tmp_path / "other.pkl", {"fid": table, "by": logging.Logger}))


def test_fewer_images_than_features(features, statistics):
    few = load_data("digits").select(ids=(0, 20))
    figures = compare(few, statistics, features)
    assert np.isfinite(figures[0].value)
    assert figures[0].biased
    assert remarks(20, 32) == ["20 images with 32 features: their covariance has rank 19 at most"]
    assert remarks(2048, 2048)
    assert "biased" in remarks(9_999, 2048)[0]
    assert remarks(10_000, 2048) == []


def test_nan_features(features, statistics):
    broken = replace(features, network=lambda images: features.network(images) * np.nan)
    data = load_data("digits").select(ids=(40, 50))
    with pytest.raises(DataError, match="features of image 40 are not finite"):
        compare(data, statistics, broken)
    with pytest.raises(DataError, match="features of image 3 are not finite"):
        Moments(2).add(np.array([[1, 2], [np.inf, 0]]), np.array([2, 3]))


def test_constant_images():
    pixels = np.random.default_rng(0).integers(256, size=(8, 3, 16, 16), dtype=np.uint8)
    pixels[5] = 7
    data = make_data("samples", "test", pixels, 256, ids=np.arange(100, 108))
    with pytest.raises(DataError, match=r"all pixels of image 105 are 7 \(1 such images of 8\)") as caught:
        extractor("pixels", like=data).check(data)
    assert caught.value.fields["image"] == 105


def test_constant_patches():
    pixels = load_data("photos").images.copy()
    pixels[10:14] = 0
    data = make_data("samples", "test", pixels, 256)
    with pytest.raises(DataError, match=r"all pixels of image 10 are 0 \(4 such images of 360\)"):
        extractor("photos").check(data)


def test_png_of_a_set_with_fewer_levels(tmp_path, features):
    from PIL import Image

    for i, image in enumerate(load_data("digits").images[:4]):
        Image.fromarray(image[0]).save(tmp_path / f"{i}.png")
    with pytest.raises(DataError, match="PNG files do not keep 17 grey levels; give the npz"):
        features.check(load_data(tmp_path, levels=17))
    with pytest.raises(DataError, match="images of 256 grey levels, digits features take 17; only an npz"):
        features.check(load_data(tmp_path))
