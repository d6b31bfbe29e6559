"""CIFAR-10 in every form: the same images, ids and labels; what is modified; what is broken."""

import gzip
import hashlib
import logging

import numpy as np
import pytest
from tests.data.makers import (
    cifar_binary,
    cifar_python,
    cifar_records,
    edm_zip,
    python3_batch,
    tar,
    write_folder,
    write_tar_gz,
)

from merged_diffusion.data import cifar10, load_data
from merged_diffusion.errors import DataError, DataIntegrityError, DataNotFoundError, UsageError

N = 3
TEST, TRAIN = cifar_records(N, 5), np.concatenate([cifar_records(N, i) for i in range(5)])
RECORDS = {"test": TEST, "train": TRAIN}


@pytest.fixture
def archive(tmp_path):
    return write_tar_gz(tmp_path / "cifar-10-binary.tar.gz", tar(cifar_binary(N)))


def is_made_of(data, records):
    assert (data.name, data.levels, data.modified) == ("cifar10", 256, True)
    assert np.array_equal(data.images.reshape(len(records), -1), records[:, 1:])
    assert np.array_equal(data.labels, records[:, 0])
    assert list(data.ids) == list(range(len(records)))


@pytest.mark.parametrize("split", ["test", "train"])
@pytest.mark.parametrize("files", [cifar_binary(N), cifar_python(N)], ids=["binary", "python"])
def test_archives_and_folders_hold_the_same_set(tmp_path, files, split):
    packed = write_tar_gz(tmp_path / "packed", tar(files))
    (tmp_path / "plain.tar").write_bytes(tar(files))
    folder = write_folder(tmp_path / "unpacked", files)
    places = packed, tmp_path / "plain.tar", folder, next(folder.iterdir())
    for place in places:
        is_made_of(load_data(place, split), RECORDS[split])


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_batches_pickled_anew(tmp_path, protocol):
    folder = write_folder(tmp_path, {"test_batch": python3_batch(TEST, protocol)})
    is_made_of(load_data(folder), TEST)


def test_edm_zip_is_the_train_split(tmp_path):
    images = TRAIN[:, 1:].reshape(-1, 3, 32, 32)
    cache = tmp_path / "data"
    cache.mkdir()
    edm_zip(cache / "cifar10-32x32.zip", images, TRAIN[:, 0])
    is_made_of(load_data("cifar10", "train", cache=tmp_path), TRAIN)
    with pytest.raises(DataNotFoundError):
        load_data("cifar10", "test", cache=tmp_path)
    with pytest.raises(DataNotFoundError, match="train split only"):
        cifar10.load_edm_zip(cache / "cifar10-32x32.zip", "test")


@pytest.mark.parametrize("labels", [None, np.arange(15)])
def test_zip_of_something_else_is_not_taken_for_it(tmp_path, labels):
    with pytest.raises(DataError, match="not CIFAR-10"):
        cifar10.load_edm_zip(
            edm_zip(tmp_path / "a.zip", TRAIN[:, 1:].reshape(-1, 3, 32, 32), labels), "train"
        )


def test_cache_is_searched_in_order(tmp_path, archive):
    with pytest.raises(DataNotFoundError, match=r"fetch cifar10[\s\S]*--data photos") as error:
        load_data("cifar10", cache=tmp_path)
    target = str(tmp_path / "data" / "cifar-10-binary.tar.gz")
    assert [missing["target"] for missing in error.value.fields["missing"]] == [target]
    write_folder(tmp_path / "data", cifar_python(N))
    assert load_data("cifar10", cache=tmp_path).provenance["format"] == "python folder"
    (tmp_path / "data" / "cifar-10-binary.tar.gz").write_bytes(archive.read_bytes())
    assert load_data("cifar10", cache=tmp_path).provenance["format"] == "binary archive"


def test_published_hash_makes_it_unmodified(archive, monkeypatch, caplog):
    monkeypatch.setitem(cifar10.SHA256, "binary", hashlib.sha256(archive.read_bytes()).hexdigest())
    data = load_data(archive)
    assert not data.modified
    assert data.provenance["sha256"] == data.provenance["expected"]
    assert not caplog.records


def test_published_hashes_of_unpacked_batches(tmp_path, monkeypatch, caplog):
    files = cifar_python(N)
    for name, content in files.items():
        monkeypatch.setitem(
            cifar10.MD5, name.split("/")[1], hashlib.md5(content, usedforsecurity=False).hexdigest()
        )
    assert not load_data(write_folder(tmp_path, files)).modified
    monkeypatch.setitem(cifar10.MD5, "data_batch_2", "0" * 32)
    assert not load_data(tmp_path, "test").modified
    with caplog.at_level(logging.WARNING):
        assert load_data(tmp_path, "train").modified
    assert "data_batch_2 has MD5" in caplog.text


def test_python_archive_is_read_without_unpickling(tmp_path, monkeypatch):
    path = write_tar_gz(tmp_path / "a.tar.gz", tar(cifar_python(N)))
    monkeypatch.setattr("pickle.loads", None)
    monkeypatch.setattr("pickle.load", None)
    is_made_of(load_data(path), TEST)


def exchanged(batch, content):
    """The binary archive with another content of one batch."""
    return tar(cifar_binary(N) | {f"cifar-10-batches-bin/{batch}.bin": content})


@pytest.mark.parametrize(
    ("content", "why"),
    [(b"", "records of 3073"), (bytes(3072), "records of 3073"), (b"\x0a" + bytes(3072), "label 10, over 9")],
)
@pytest.mark.parametrize("batch", ["test_batch", "data_batch_3"])
def test_binary_records_are_checked_in_both_splits(tmp_path, content, why, batch):
    path = write_tar_gz(tmp_path / "a.tar.gz", exchanged(batch, content))
    with pytest.raises(DataIntegrityError, match=why):
        load_data(path)


@pytest.mark.parametrize(
    "records",
    [
        b"\x80\x02}.", b"\x80\x02]q\x01.", b"\x80\x02}q\x01(U\x06labels]U\x04dataU\x01xu.",
        python3_batch(TEST[:, :3072]), python3_batch(TEST.astype(np.int64)), python3_batch(TEST)[:-9],
    ],
)  # fmt: skip
def test_python_batch_of_another_layout(tmp_path, records):
    with pytest.raises(DataIntegrityError, match="batch"):
        load_data(write_folder(tmp_path, {"test_batch": records}))


def test_labels_of_a_python_batch(tmp_path):
    wrong = TEST.copy()
    wrong[1, 0] = 10
    with pytest.raises(DataIntegrityError, match="record 1 has the label 10"):
        load_data(write_folder(tmp_path, {"test_batch": python3_batch(wrong)}))


def test_missing_batch(tmp_path):
    members = cifar_binary(N)
    del members["cifar-10-batches-bin/data_batch_4.bin"]
    path = write_tar_gz(tmp_path / "a.tar.gz", tar(members))
    assert len(load_data(path, "test")) == N
    with pytest.raises(DataIntegrityError, match=r"holds no data_batch_4\.bin"):
        load_data(path, "train")
    with pytest.raises(DataIntegrityError, match=r"data_batch_4\.bin is missing"):
        load_data(write_folder(tmp_path / "folder", members), "train")


def test_batch_that_occurs_twice_and_mixed_archives(tmp_path):
    both = tar(cifar_binary(N), end=b"") + tar(cifar_binary(N))
    with pytest.raises(DataIntegrityError, match="occurs twice"):
        load_data(write_tar_gz(tmp_path / "a.tar.gz", both))
    with pytest.raises(DataIntegrityError, match="binary and python"):
        load_data(write_tar_gz(tmp_path / "b.tar.gz", tar(cifar_binary(N) | cifar_python(N))))


def test_archive_of_something_else(tmp_path):
    with pytest.raises(DataIntegrityError, match=r"without batches.*folder of PNG"):
        load_data(write_tar_gz(tmp_path / "a.tar.gz", tar({"a.png": b"x"})))


def test_levels_are_known(archive, tmp_path):
    with pytest.raises(UsageError, match="256 grey levels"):
        load_data("cifar10", levels=17, cache=tmp_path)
    with pytest.raises(UsageError, match="variant"):
        load_data("cifar10", variant="old", cache=tmp_path)


def test_gzip_name_and_time_do_not_matter_to_the_images(tmp_path, archive):
    other = tmp_path / "renamed.bin"
    other.write_bytes(gzip.compress(tar(cifar_binary(N)), 9, mtime=77))
    assert load_data(other).sha256 == load_data(archive).sha256
    assert load_data(other).provenance["sha256"] != load_data(archive).provenance["sha256"]
