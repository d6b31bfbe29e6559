"""Folders and zips of PNG files: order, labels, and nothing left out silently."""

import io
import json
import os

import numpy as np
import pytest
from PIL import Image
from tests.data.makers import edm_zip, pixels, png, write_folder, zip_of

from merged_diffusion.data import load_data
from merged_diffusion.errors import DataError, DataIntegrityError, UnsafeFileError, UsageError
from merged_diffusion.files.pictures import read_pictures

IMAGES = pixels(5, (3, 4, 6))
FILES = {f"0000{i % 2}/img{i}.png": png(image) for i, image in enumerate(IMAGES)}
ORDER = [0, 2, 4, 1, 3]


def test_folder_and_zip_hold_the_same_set_in_order_of_names(tmp_path):
    for place in (write_folder(tmp_path / "a", FILES), zip_of(tmp_path / "a.zip", FILES)):
        data = load_data(place)
        assert np.array_equal(data.images, IMAGES[ORDER])
        assert (data.labels, data.modified) == (None, False)


def test_labels_of_edm(tmp_path):
    data = load_data(edm_zip(tmp_path / "a.zip", IMAGES, [3, 1, 4, 1, 5]))
    assert list(data.labels) == [3, 1, 4, 1, 5]
    assert np.array_equal(data.images, IMAGES)
    assert load_data(edm_zip(tmp_path / "b.zip", IMAGES)).labels is None


@pytest.mark.parametrize(
    ("table", "error", "why"),
    [
        (b"{", DataIntegrityError, "not sound JSON"), (b"[" * 600, DataIntegrityError, "not sound JSON"),
        (b"[]", DataError, "no list"), (b'{"labels": [["a", 1.5]]}', DataError, "no list"),
        (b'{"labels": [["a", true]]}', DataError, "no list"), (b'{"labels": {"a": 1}}', DataError, "no list"),
        (b'{"labels": [["a", 1]]}', DataIntegrityError, "names no class of"),
        (b'{"labels": null}' + b" " * 10000, UnsafeFileError, "bytes for 5 images"),
    ],
)  # fmt: skip
def test_labels_that_are_unsound(tmp_path, table, error, why):
    with pytest.raises(error, match=why):
        load_data(zip_of(tmp_path / "a.zip", FILES | {"dataset.json": table}))


def test_hidden_files_are_no_images(tmp_path):
    files = FILES | {"__MACOSX/._img.png": b"x", ".hidden.png": b"x", "README.md": b"x"}
    assert len(load_data(write_folder(tmp_path / "a", files))) == 5
    assert len(load_data(zip_of(tmp_path / "a.zip", files))) == 5


@pytest.mark.parametrize("suffix", [".jpg", ".JPEG", ".webp", ".tif"])
def test_other_images_would_be_left_out(tmp_path, suffix):
    with pytest.raises(DataError, match="left out of the set"):
        load_data(write_folder(tmp_path, FILES | {f"00001/img9{suffix}": b"x"}))


def test_splits_in_one_folder_are_not_mixed(tmp_path):
    with pytest.raises(UsageError, match="holds the splits test, train"):
        load_data(write_folder(tmp_path, {"train/a.png": png(IMAGES[0]), "test/b.png": png(IMAGES[1])}))


def test_depths_that_differ(tmp_path):
    deep = png(IMAGES[0].astype(np.uint16))
    with pytest.raises(DataError, match="65536"):
        load_data(write_folder(tmp_path, FILES | {"z.png": deep}))


def test_sixteen_bits_have_their_own_hash(tmp_path):
    deep = pixels(2, (1, 3, 3)).astype(np.uint16) * 257
    data = load_data(write_folder(tmp_path, {f"{i}.png": png(x) for i, x in enumerate(deep)}), levels=65536)
    assert (data.images.dtype, data.levels) == (np.uint16, 65536)
    assert np.array_equal(data.images, deep)
    np.save(tmp_path / "a.npy", deep.astype(">u2"))
    with pytest.raises(DataError, match="state levels 65536"):
        load_data(tmp_path / "a.npy")


def test_damage_in_the_last_member_is_known_before_the_first_is_decoded(tmp_path, monkeypatch):
    path = zip_of(tmp_path / "a.zip", FILES)
    content = bytearray(path.read_bytes())
    content[content.rindex(b"IEND") + 4] ^= 1
    path.write_bytes(content)
    for name in ("decode_png", "filtered_rows", "decode_rows"):
        monkeypatch.setattr(f"merged_diffusion.files.pictures.{name}", None)
    with pytest.raises(DataIntegrityError, match=r"00001?/img.*damaged"):
        load_data(path)


@pytest.mark.parametrize("at_once", [1, 2, 5, 100])
@pytest.mark.parametrize("shape", [(3, 4, 5), (1, 6, 3)])
def test_files_decoded_together_are_those_decoded_alone(tmp_path, monkeypatch, at_once, shape):
    monkeypatch.setattr("merged_diffusion.files.pictures.PIXELS_AT_ONCE", at_once * int(np.prod(shape)))
    images = pixels(11, shape)
    filters = [(0,), (1,), (2,), (3,), (4,), (4, 3, 2, 1, 0), (2, 4)]
    files = {f"{i:02}.png": png(x, filters=filters[i % len(filters)]) for i, x in enumerate(images)}
    stream, plain = io.BytesIO(), images[6].transpose(1, 2, 0)
    Image.fromarray(plain[..., 0] if shape[0] == 1 else plain).save(stream, "PNG")
    files["06.png"] = stream.getvalue()
    assert np.array_equal(load_data(write_folder(tmp_path, files)).images, images)


def test_a_row_of_an_unknown_filter_is_told_by_its_file(tmp_path):
    shape = IMAGES[0].shape
    raw = b"".join(bytes([5 * (y == 2)]) + bytes(shape[0] * shape[2]) for y in range(shape[1]))
    files = {"0.png": png(IMAGES[0]), "1.png": png(IMAGES[0], raw=raw)}
    with pytest.raises(DataIntegrityError, match=r"1\.png is not a sound PNG file \(a row of filter 5\)"):
        load_data(write_folder(tmp_path, files))


def test_decoding_that_would_take_too_much(tmp_path):
    blank = png(np.zeros((3, 900, 900), np.uint8))
    with pytest.raises(UnsafeFileError, match="over 200 times"):
        load_data(write_folder(tmp_path, {"a.png": blank}))


def test_files_that_change_while_they_are_read():
    turns = iter([[("a", png(IMAGES[0]))], [("a", png(IMAGES[0, :1]))]])
    with pytest.raises(DataIntegrityError, match="changed"):
        read_pictures(lambda: iter(next(turns)), None, "folder")


def test_no_images():
    with pytest.raises(UsageError, match="no images"):
        read_pictures(lambda: iter([]), None, "folder")


def test_pipe_called_png_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "a.png")
    with pytest.raises(UnsafeFileError, match="no regular file"):
        load_data(tmp_path)
    with pytest.raises(UsageError, match="neither a file nor a folder"):
        load_data(tmp_path / "a.png")


def test_label_table_in_a_folder(tmp_path):
    table = {"labels": [[name, 7] for name in FILES]}
    data = load_data(write_folder(tmp_path, FILES | {"dataset.json": json.dumps(table).encode()}))
    assert list(data.labels) == [7] * 5
