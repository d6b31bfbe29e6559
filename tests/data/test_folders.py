"""The user's own images: npz, npy, folders of PNG files, and what is wrong with them."""

import io
import zipfile

import numpy as np
import pytest
from PIL import Image

from merged_diffusion.data import load_data
from merged_diffusion.data.arrays import NPZ
from merged_diffusion.errors import (
    DataError,
    DataIntegrityError,
    UnsafeFileError,
    UsageError,
)

IMAGES = np.random.RandomState(1).randint(256, size=(4, 3, 5, 6)).astype(np.uint8)


def save(path, **columns):
    np.savez(path, **columns)
    return path


def test_npz_round_trip_keeps_every_column(tmp_path):
    path = save(
        tmp_path / "a.npz",
        images=IMAGES % 7, levels=7, ids=np.array([9, 8, 7, 6]), labels=np.arange(4), clusters=np.array([1,
        1, 2, 2]),
    )  # fmt: skip
    data = load_data(path)
    assert np.array_equal(data.images, IMAGES % 7)
    assert (data.levels, list(data.ids), list(data.clusters)) == (7, [9, 8, 7, 6], [1, 1, 2, 2])


def test_npy_and_npz_of_the_same_images_are_the_same_set(tmp_path):
    np.save(tmp_path / "a.npy", IMAGES)
    np.save(tmp_path / "f.npy", np.asfortranarray(IMAGES))
    hashes = {
        load_data(p).sha256
        for p in (tmp_path / "a.npy", tmp_path / "f.npy", save(tmp_path / "b.npz", images=IMAGES))
    }
    assert len(hashes) == 1


@pytest.mark.parametrize("channels", [1, 3])
def test_png_folder_in_order_of_names(tmp_path, channels):
    for i, image in enumerate(IMAGES[:, :channels]):
        Image.fromarray(image.transpose(1, 2, 0).squeeze()).save(tmp_path / f"{9 - i}.png")
    (tmp_path / "notes.txt").write_text("not an image")
    data = load_data(tmp_path)
    assert np.array_equal(data.images, IMAGES[::-1, :channels])
    assert data.levels == 256


def test_path_with_the_content_of_a_known_set_is_that_set(tmp_path):
    photos = load_data("photos")
    data = load_data(save(tmp_path / "renamed.npz", images=photos.images))
    assert data.name == "photos"
    assert data.clusters is not None


def test_npz_with_object_array_is_unsafe(tmp_path):
    path = save(tmp_path / "a.npz", images=np.array([IMAGES[0], None], dtype=object))
    with pytest.raises(UnsafeFileError, match="unpickled") as error:
        load_data(path)
    assert error.value.exit_code == 4


def test_npy_with_object_array_is_unsafe(tmp_path):
    np.save(tmp_path / "a.npy", np.array([1, None], dtype=object), allow_pickle=True)
    with pytest.raises(UnsafeFileError, match="unpickled"):
        load_data(tmp_path / "a.npy")


def test_pickle_called_npy_is_no_array(tmp_path):
    (tmp_path / "a.npy").write_bytes(b"\x80\x04\x95\x00\x00\x00\x00.")
    with pytest.raises(DataIntegrityError, match="not an npy array"):
        load_data(tmp_path / "a.npy")


def test_truncated_npy(tmp_path):
    np.save(tmp_path / "a.npy", IMAGES)
    content = (tmp_path / "a.npy").read_bytes()
    (tmp_path / "a.npy").write_bytes(content[:-5])
    with pytest.raises(DataIntegrityError, match="truncated"):
        load_data(tmp_path / "a.npy")


def test_truncated_npz(tmp_path):
    path = save(tmp_path / "a.npz", images=IMAGES)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(DataIntegrityError, match="not a sound zip"):
        load_data(path)


def test_damaged_npz_member(tmp_path):
    path = save(tmp_path / "a.npz", images=IMAGES)
    content = bytearray(path.read_bytes())
    content[300] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(DataIntegrityError, match="CRC"):
        load_data(path)


def test_header_that_claims_more_than_the_file_holds(tmp_path):
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        head, {"descr": "|u1", "fortran_order": False, "shape": (1 << 40, 1, 8, 8)}
    )
    (tmp_path / "a.npy").write_bytes(head.getvalue() + b"x" * 100)
    with pytest.raises(DataIntegrityError, match="truncated"):
        load_data(tmp_path / "a.npy")


def test_npz_with_too_many_members(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        for i in range(NPZ.members + 1):
            archive.writestr(f"{i}.npy", b"")
    with pytest.raises(UnsafeFileError, match="members"):
        load_data(tmp_path / "a.npz")


def test_npz_without_images(tmp_path):
    with pytest.raises(DataError, match="no array named images"):
        load_data(save(tmp_path / "a.npz", labels=np.arange(3)))


def test_wrong_dtype_names_the_conversion(tmp_path):
    with pytest.raises(DataError, match=r"float32.*\* 255"):
        load_data(save(tmp_path / "a.npz", images=(IMAGES / 255).astype(np.float32)))


def test_wrong_shape_names_the_axis(tmp_path):
    with pytest.raises(DataError, match="last axis looks like channels"):
        load_data(save(tmp_path / "a.npz", images=IMAGES.transpose(0, 2, 3, 1)))


def test_levels_that_contradict_the_file(tmp_path):
    path = save(tmp_path / "a.npz", images=IMAGES % 7, levels=7)
    with pytest.raises(UsageError, match=r"levels = 8, but .* states 7"):
        load_data(path, levels=8)


def test_levels_that_are_no_number(tmp_path):
    with pytest.raises(DataError, match="one whole number"):
        load_data(save(tmp_path / "a.npz", images=IMAGES, levels=np.array([1.5, 2.0])))


def test_labels_that_are_no_numbers(tmp_path):
    with pytest.raises(DataError, match="labels is <U1, expected whole numbers"):
        load_data(save(tmp_path / "a.npz", images=IMAGES, labels=np.array(list("abcd"))))


def test_values_over_the_given_levels(tmp_path):
    np.save(tmp_path / "a.npy", IMAGES)
    with pytest.raises(DataError, match="highest of 17 levels"):
        load_data(tmp_path / "a.npy", levels=17)


def test_png_sizes_that_differ(tmp_path):
    Image.fromarray(IMAGES[0, 0]).save(tmp_path / "a.png")
    Image.fromarray(IMAGES[0, 0, :4]).save(tmp_path / "b.png")
    with pytest.raises(DataError, match=r"b\.png has shape \[1, 4, 6\], but a\.png has \[1, 5, 6\]"):
        load_data(tmp_path)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "I;16"])
def test_png_modes_that_would_lose_something(tmp_path, mode):
    Image.new(mode, (4, 4)).save(tmp_path / "a.png")
    with pytest.raises(DataError, match="never dropped silently"):
        load_data(tmp_path)


def test_broken_png(tmp_path):
    Image.fromarray(IMAGES[0, 0]).save(tmp_path / "a.png")
    content = (tmp_path / "a.png").read_bytes()
    (tmp_path / "a.png").write_bytes(content[:50])
    with pytest.raises(DataIntegrityError, match="not a sound PNG"):
        load_data(tmp_path)


def test_folder_without_png_is_a_usage_error(tmp_path):
    with pytest.raises(UsageError, match="no PNG files"):
        load_data(tmp_path)


def test_file_of_another_kind(tmp_path):
    (tmp_path / "a.xyz").write_bytes(b"")
    with pytest.raises(UsageError, match=r"not a \.xyz file"):
        load_data(tmp_path / "a.xyz")


def test_unknown_name_lists_what_there_is():
    with pytest.raises(UsageError, match="neither digits, photos, cifar10, imagenet32 nor an existing path"):
        load_data("cifar")


def test_split_and_levels_of_known_sets():
    with pytest.raises(UsageError, match="neither test nor train"):
        load_data("photos", split="validation")
    with pytest.raises(UsageError, match="17 grey levels"):
        load_data("digits", levels=256)
