"""The sets in the package, and what they are cut from."""

import sys

import numpy as np
import pytest

from merged_diffusion.catalogue.entries import known
from merged_diffusion.data import load_data
from merged_diffusion.data.bundled import PATCH, hold_back, make
from merged_diffusion.errors import DataNotFoundError

SHAPES = {"digits": (360, 1, 8, 8), "photos": (360, 3, 8, 8)}


@pytest.mark.parametrize("name", SHAPES)
def test_packaged_test_split_is_the_one_that_the_code_cuts(name):
    packaged, cut = load_data(name), make(name, "test")
    assert packaged.images.shape == SHAPES[name]
    assert packaged.sha256 == cut.sha256 == known()["data"][name]["sha256"]
    for column in ("ids", "labels", "clusters"):
        assert np.array_equal(getattr(packaged, column), getattr(cut, column))


@pytest.mark.parametrize("name", SHAPES)
def test_train_split_has_the_stated_hash(name):
    assert load_data(name, split="train").sha256 == known()["data"][name]["sha256_train"]


def test_digits_test_is_the_first_360_of_the_published_permutation():
    from sklearn.datasets import load_digits

    order = np.random.RandomState(0).permutation(1797)
    everything = load_digits()
    data = load_data("digits")
    assert np.array_equal(data.images[:, 0], everything.images[order[:360]])
    assert np.array_equal(data.labels, everything.target[order[:360]])
    assert data.clusters is None


def test_digits_hold_back_the_last_fifth_of_train():
    train = load_data("digits", split="train")
    fit, held = hold_back(train)
    assert len(fit) + len(held) == 1437
    assert list(held.ids) == list(range(1150, 1437))


def test_photos_hold_back_whole_tiles():
    train = load_data("photos", split="train")
    fit, held = hold_back(train)
    assert len(fit) + len(held) == len(train) == 112 * 54 * 53
    assert not set(fit.clusters) & set(held.clusters)
    assert len(set(held.clusters)) == 22


def test_photos_test_tiles_follow_the_rule_and_none_is_in_train():
    test, train = load_data("photos"), load_data("photos", split="train")
    tiles = {c for c in range(140) if (3 * (c % 70 // 10) + c % 10) % 5 == 0}
    assert set(test.clusters) == tiles
    assert set(train.clusters) == set(range(140)) - tiles
    assert min(np.unique(test.clusters, return_counts=True)[1]) >= 12


def test_photos_test_patches_lie_in_their_tile_without_overlap():
    from sklearn.datasets import load_sample_images

    photos = np.stack(load_sample_images().images).transpose(0, 3, 1, 2)
    data = load_data("photos")
    for cluster in np.unique(data.clusters)[:6]:
        photo, r, c = cluster // 70, cluster % 70 // 10, cluster % 10
        tile = photos[photo, :, 61 * r : 61 * r + 61, 60 * c : 60 * c + 60]
        windows = np.lib.stride_tricks.sliding_window_view(tile, (PATCH, PATCH), axis=(1, 2))
        covered = np.zeros((61, 60), int)
        for image in data.images[data.clusters == cluster]:
            hits = np.argwhere((windows.transpose(1, 2, 0, 3, 4) == image).all(axis=(2, 3, 4)))
            assert len(hits) >= 1
            y, x = hits[0]
            covered[y : y + PATCH, x : x + PATCH] += 1
        assert covered.max() == 1


def test_train_without_scikit_learn_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(DataNotFoundError, match=r"pip install 'merged-diffusion\[train\]'") as error:
        load_data("photos", split="train")
    assert error.value.exit_code == 3
    assert len(load_data("photos")) == 360
