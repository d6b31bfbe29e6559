"""Sets of a training: variants, a test split that is one, and a cache in which sets do not meet."""

import sys
import threading

import numpy as np
import pytest
import torch
from tests.data.makers import png, write_folder
from tests.training.cards import recipe

from merged_diffusion.data.images import make_data
from merged_diffusion.errors import CheckpointError, DataError, DataIntegrityError, RunLockedError
from merged_diffusion.experts.card import read_card
from merged_diffusion.runs.directory import Directory
from merged_diffusion.runs.lock import Lock
from merged_diffusion.training import image_cache
from merged_diffusion.training.processes import Team
from merged_diffusion.training.recipe import Recipe
from merged_diffusion.training.train_data import train_data

ALONE = Team(0, 1, torch.device("cpu"))


class Second(Team):
    """The second process of a machine, which hears of the first one's set by ``key``."""

    def __init__(self, key):
        super().__init__(1, 2, torch.device("cpu"), local=1)
        self.key = key

    def from_first(self, _make):
        return self.key

    def each(self, make):
        return make()


def pixels(n, seed, shape=(1, 8, 8), levels=17):
    return np.random.RandomState(seed).randint(0, levels, (n, *shape)).astype(np.uint8)


def read(path, folder=None, team=ALONE):
    card = read_card(path)
    return train_data(card, Recipe.of(card), folder, team)


@pytest.mark.parametrize("name", ["imagenet32-vdm", "imagenet32-edm"])
def test_recipes_of_imagenet32_find_their_set(tmp_path, monkeypatch, name, request):
    train, test = pixels(6, 0, (3, 32, 32), 256), pixels(3, 1, (3, 32, 32), 256)
    files = {f"train_32x32/{i}.png": png(x) for i, x in enumerate(train)}
    files |= {f"valid_32x32/{i}.png": png(x) for i, x in enumerate(test)}
    write_folder(tmp_path / "data" / "imagenet32-old", files)
    monkeypatch.setenv("MERGED_DIFFUSION_CACHE", str(tmp_path))
    images, held = read(request.config.rootpath / "recipes" / "paper" / f"{name}.toml")
    assert np.array_equal(images.data.images, train)
    assert np.array_equal(held.images, test)


def test_a_variant_that_is_not_stated_is_not_guessed(tmp_path, monkeypatch):
    monkeypatch.setenv("MERGED_DIFFUSION_CACHE", str(tmp_path))
    (tmp_path / "data").mkdir()
    with pytest.raises(DataError, match="two sets called ImageNet32"):
        read(recipe(tmp_path, data="imagenet32"))
    with pytest.raises(CheckpointError, match=r"variant = 1 is no str"):
        read(recipe(tmp_path, data="imagenet32", variant=1))


def test_the_training_images_are_not_held_back_as_their_own_test(tmp_path):
    np.savez(tmp_path / "set.npz", images=pixels(9, 0), levels=17)
    with pytest.raises(DataError, match="its split test is the images that are fitted to"):
        read(recipe(tmp_path, data=str(tmp_path / "set.npz"), held_back="test"))


def test_a_test_split_of_another_shape_is_refused(tmp_path, monkeypatch):
    sets = {
        "train": make_data("x", "train", pixels(9, 0), 17),
        "test": make_data("x", "test", pixels(9, 1, (1, 9, 8)), 17),
    }
    module = sys.modules[train_data.__module__]  # the package has a function of that name
    monkeypatch.setattr(module, "load_data", lambda _data, split, *_rest, **_words: sets[split])
    with pytest.raises(DataError, match=r"digits/test: images \[1, 9, 8\] of 17 levels"):
        read(recipe(tmp_path, held_back="test"))


def test_sets_of_the_same_pixels_keep_their_own_labels_ids_and_clusters(tmp_path):
    images = pixels(9, 0)
    ids = np.arange(9)
    sets = [
        make_data("x", "train", images, 17, labels=ids % 3, clusters=ids // 2),
        make_data("x", "train", images, 17, labels=ids % 2, clusters=ids // 3, ids=ids + 5),
        make_data("x", "train", images, 17),
    ]
    for data in sets:
        own, other = image_cache.as_mapped(data, tmp_path), image_cache.key_of(data)
        for found in (own, image_cache.mapped(other, tmp_path)):
            assert isinstance(found.images.base, np.memmap)
            assert np.array_equal(found.images, images)
            for key in ("labels", "ids", "clusters"):
                assert np.array_equal(getattr(found, key), getattr(data, key)), key


def test_the_second_process_of_a_machine_maps_the_first_one_s_set(tmp_path):
    path = recipe(tmp_path)
    first, _ = read(path, tmp_path / "cache")
    found, held = read(path, tmp_path / "cache", Second(image_cache.key_of(first.data)))
    assert isinstance(found.data.images.base, np.memmap)
    assert np.array_equal(found.data.labels, first.data.labels)
    assert len(held) == 287
    with pytest.raises(DataError, match="process 1 has other images, ids, labels or clusters"):
        read(path, tmp_path / "cache", Second("0" * 64))


@pytest.mark.parametrize("file", [image_cache.PIXELS, image_cache.COLUMNS])
def test_files_that_were_there_are_checked(tmp_path, file):
    data = make_data("x", "train", pixels(9, 0), 17, labels=np.arange(9))
    image_cache.as_mapped(data, tmp_path)
    place = tmp_path / image_cache.key_of(data)
    if file == image_cache.PIXELS:
        (place / file).write_bytes(pixels(9, 1).tobytes())
    else:
        np.savez(place / file, ids=data.ids, labels=data.labels[::-1])
        with pytest.raises(DataIntegrityError, match="another SHA-256"):
            image_cache.mapped(place.name, tmp_path, check=False)
    with pytest.raises(DataIntegrityError, match="another SHA-256"):
        image_cache.as_mapped(data, tmp_path)


def test_a_set_is_written_by_one_process_at_a_time(tmp_path, monkeypatch):
    data = make_data("x", "train", pixels(9, 0), 17)
    place = tmp_path / image_cache.key_of(data)
    place.mkdir()
    written = []
    with Directory(place) as directory:
        lock = Lock(directory, image_cache.LOCK)
        assert lock.acquire(0.0)
        with monkeypatch.context() as patch:
            patch.setattr(image_cache, "PATIENCE_SECONDS", 0.0)
            with pytest.raises(RunLockedError, match="another process writes the set"):
                image_cache.keep(data, tmp_path)
        assert sorted(path.name for path in place.iterdir()) == [image_cache.LOCK]
        waiting = threading.Thread(target=lambda: written.append(image_cache.keep(data, tmp_path)))
        waiting.start()
        image_cache._write(data, directory)  # as the one that holds the lock
        before = (place / image_cache.PIXELS).stat().st_ino
        lock.release()
        waiting.join()
    assert written == [False]
    assert (place / image_cache.PIXELS).stat().st_ino == before
