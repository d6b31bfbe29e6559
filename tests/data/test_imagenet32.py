"""ImageNet32: two variants, three kinds of file, and no guess."""

import logging

import numpy as np
import pytest
from tests.data.makers import edm_zip, example, imagenet_batch, pixels, png, record, write_folder

from merged_diffusion.data import imagenet32, load_data
from merged_diffusion.errors import DataError, DataIntegrityError, DataNotFoundError, UsageError

IMAGES = pixels(24, seed=3)
LABELS = np.arange(24) * 40 + 1


def batches(folder):
    """Twelve train batches (ten in the release) and the validation batch."""
    folder.mkdir(exist_ok=True)
    for i in range(12):
        part = slice(2 * i, 2 * i + 2)
        imagenet_batch(folder / f"train_data_batch_{i + 1}.npz", IMAGES[part], LABELS[part])
    imagenet_batch(folder / "val_data.npz", IMAGES[:5][::-1], LABELS[:5][::-1])
    return folder


def shards(folder, split="validation", labels=False):
    """As TensorFlow Datasets lays them out."""
    pairs = zip(IMAGES, LABELS, strict=True)
    records = [record(example(png(x), int(n) - 1 if labels else None)) for x, n in pairs]
    name = f"downsampled_imagenet/32x32/2.0.0/downsampled_imagenet-{split}.tfrecord-"
    names = [f"{name}{i:05d}-of-00003" for i in range(3)]
    return write_folder(folder, {name: b"".join(records[8 * i : 8 * i + 8]) for i, name in enumerate(names)})


def pictures(folder):
    files = {f"valid_32x32/{i:05d}.png": png(x) for i, x in enumerate(IMAGES[:7])}
    return write_folder(folder, files | {f"train_32x32/{i:07d}.png": png(x) for i, x in enumerate(IMAGES)})


def test_npz_batches_in_order_of_their_numbers_with_labels_from_zero(tmp_path):
    train = load_data(batches(tmp_path / "a"), "train", variant="new")
    assert np.array_equal(train.images, IMAGES)
    assert np.array_equal(train.labels, LABELS - 1)
    test = load_data(tmp_path / "a", variant="new")
    assert np.array_equal(test.images, IMAGES[:5][::-1])
    assert test.sha256 == load_data(tmp_path / "a" / "val_data.npz", variant="new").sha256


@pytest.mark.parametrize("labels", [False, True])
def test_tfrecord_shards_in_their_order(tmp_path, labels):
    data = load_data(shards(tmp_path, labels=labels), variant="old")
    assert np.array_equal(data.images, IMAGES)
    assert data.labels is None if not labels else np.array_equal(data.labels, LABELS - 1)
    assert data.provenance["format"] == "TFRecord shards"


def test_folders_of_png(tmp_path):
    assert np.array_equal(load_data(pictures(tmp_path), variant="old").images, IMAGES[:7])
    assert np.array_equal(load_data(tmp_path, "train", variant="old").images, IMAGES)
    assert np.array_equal(load_data(tmp_path / "valid_32x32", variant="old").images, IMAGES[:7])


def test_cache_has_a_folder_for_each_variant(tmp_path):
    pictures(tmp_path / "data" / "imagenet32-old")
    data = load_data("imagenet32", cache=tmp_path, variant="old")
    assert (data.name, data.modified, data.provenance["partial"]) == ("imagenet32-old", True, True)
    with pytest.raises(DataNotFoundError, match=r"imagenet32-new[\s\S]*image-net\.org[\s\S]*--data photos"):
        load_data("imagenet32", cache=tmp_path, variant="new")


@pytest.mark.parametrize("make", [batches, shards])
def test_without_variant_its_files_are_refused(tmp_path, make):
    with pytest.raises(DataError, match="--variant old") as error:
        load_data(make(tmp_path))
    assert error.value.exit_code == 3
    with pytest.raises(DataError, match="--variant old"):
        load_data("imagenet32", cache=tmp_path)


@pytest.mark.parametrize("variant", ["", "older", "../new"])
def test_unknown_variant(tmp_path, variant):
    with pytest.raises(UsageError, match="neither old nor new"):
        load_data("imagenet32", cache=tmp_path, variant=variant)


def test_counts_decide_between_whole_partial_and_the_other(tmp_path, monkeypatch, caplog):
    batches(tmp_path)
    monkeypatch.setitem(imagenet32.COUNTS, "new", {"train": 24, "test": 6})
    monkeypatch.setitem(imagenet32.COUNTS, "old", {"train": 23, "test": 5})
    assert not load_data(tmp_path, "train", variant="new").modified
    assert not caplog.records
    with pytest.raises(DataError, match="5 images are the test split of ImageNet32 old, not of new"):
        load_data(tmp_path, "test", variant="new")
    with caplog.at_level(logging.WARNING), pytest.raises(DataError, match="train split of ImageNet32 new"):
        load_data(tmp_path, "train", variant="old")


def test_split_that_is_missing(tmp_path):
    with pytest.raises(DataNotFoundError, match="no files of the train split"):
        load_data(shards(tmp_path), "train", variant="old")
    with pytest.raises(DataNotFoundError, match="0 folders of the train split"):
        load_data(write_folder(tmp_path / "b", {"valid_32x32/a.png": png(IMAGES[0])}), "train", variant="old")


def test_two_kinds_at_once(tmp_path):
    shards(batches(tmp_path))
    with pytest.raises(DataError, match="npz batches and TFRecord"):
        load_data(tmp_path, variant="new")


def test_images_of_another_shape(tmp_path):
    folder = write_folder(tmp_path, {"a.png": png(pixels(1, (1, 32, 32))[0])})
    with pytest.raises(DataError, match="not ImageNet32"):
        load_data(folder, variant="old")


ROWS = IMAGES.reshape(24, -1)


@pytest.mark.parametrize(
    "columns",
    [
        {"data": IMAGES, "labels": LABELS}, {"data": ROWS[:-1], "labels": LABELS},
        {"data": ROWS.astype(np.float32), "labels": LABELS}, {"labels": LABELS}, {"data": ROWS},
        {"data": ROWS, "labels": LABELS / 2}, {"data": ROWS, "labels": LABELS - 1},
        {"data": ROWS, "labels": LABELS + 99},
    ],
)  # fmt: skip
def test_batch_of_another_layout(tmp_path, columns):
    np.savez(tmp_path / "val_data.npz", **columns)
    with pytest.raises(DataError, match=r"data are|labels"):
        load_data(tmp_path, variant="new")


def test_empty_batch(tmp_path):
    np.savez(tmp_path / "val_data.npz", data=np.zeros((0, 3072), np.uint8), labels=np.zeros(0, int))
    with pytest.raises(UsageError, match="no images"):
        load_data(tmp_path, variant="new")


def test_labels_of_some_records_only(tmp_path):
    mixed = record(example(png(IMAGES[0]), 3)) + record(example(png(IMAGES[1])))
    with pytest.raises(DataIntegrityError, match="labels are missing"):
        load_data(write_folder(tmp_path, {"a.tfrecord": mixed}), variant="old")


def test_file_of_another_kind(tmp_path):
    with pytest.raises(UsageError, match="neither an npz batch nor a TFRecord"):
        load_data(edm_zip(tmp_path / "a.zip", IMAGES), variant="old")
