"""The user's own images: npz, npy, folders of PNG files, and what is wrong with them."""

import io
import re
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image
from tests.data.makers import tar, write_tar_gz

from merged_diffusion.data import load_data
from merged_diffusion.errors import (
    DataError,
    DataIntegrityError,
    UnsafeFileError,
    UsageError,
)
from merged_diffusion.files.arrays import NPZ

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
    (tmp_path / "a.xyz").write_bytes(b"?")
    with pytest.raises(UsageError, match=r"not a \.xyz file"):
        load_data(tmp_path / "a.xyz")


# What numpy.savez calls arrays without names: OpenAI's samples.


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("labelled", [True, False])
def test_samples_without_names_are_images_whose_channels_are_last(tmp_path, caplog, channels, labelled):
    images = IMAGES[:, :channels]
    labels = [np.array([3, 1, 4, 1])] if labelled else []
    np.savez(tmp_path / "samples_4x5x6x3.npz", images.transpose(0, 2, 3, 1), *labels)
    data = load_data(tmp_path / "samples_4x5x6x3.npz")
    assert np.array_equal(data.images, images)
    assert data.images.flags.c_contiguous
    assert (data.labels is None) if not labelled else list(data.labels) == [3, 1, 4, 1]
    assert data.sha256 == load_data(save(tmp_path / "b.npz", images=images)).sha256
    assert "arr_0, [N, H, W, C] of uint8, is taken" in caplog.text
    assert data.provenance["format"] == "npz, arr_0 [N, H, W, C]"


def test_samples_without_names_may_have_their_channels_first(tmp_path, caplog):
    np.savez(tmp_path / "a.npz", IMAGES)
    assert np.array_equal(load_data(tmp_path / "a.npz").images, IMAGES)
    assert "arr_0, [N, C, H, W] of uint8, is taken" in caplog.text


@pytest.mark.parametrize(
    ("samples", "said"),
    [
        (IMAGES[:, :, :3, :3], "may be [N, H, W, C] or [N, C, H, W]"),
        (IMAGES[:, :, :, :1], "may be [N, H, W, C] or [N, C, H, W]"),
        (IMAGES.repeat(2, axis=1), "no axis of 1 or 3 channels"),
        (IMAGES / 255, "arr_0 is float64"),
        (IMAGES[0], "arr_0 is uint8 [3, 5, 6]"),
    ],
)
def test_samples_that_may_be_two_things_are_refused(tmp_path, samples, said):
    np.savez(tmp_path / "a.npz", samples)
    with pytest.raises(DataError, match=re.escape(said)):
        load_data(tmp_path / "a.npz")


def test_second_array_without_a_name_that_is_no_labels_is_refused(tmp_path):
    np.savez(tmp_path / "a.npz", IMAGES.transpose(0, 2, 3, 1), np.zeros((4, 10)))
    with pytest.raises(DataError, match="labels"):
        load_data(tmp_path / "a.npz")


def test_axes_of_an_array_that_is_called_images_are_never_changed(tmp_path):
    with pytest.raises(DataError, match="shape"):
        load_data(save(tmp_path / "a.npz", images=IMAGES.transpose(0, 2, 3, 1)))


# Files that stand for others, and sets of another kind.

STANDINS = {
    "Git LFS": b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"a" * 64 + b"\nsize 143000000\n",
    "git-annex": b"/annex/objects/SHA256E-s143000000--" + b"a" * 64 + b".npz\n",
    "a page of a web server": b"\xef\xbb\xbf\n <!DOCTYPE html><html><title>Sign in</title></html>",
    "empty": b"",
}


@pytest.mark.parametrize(
    "name", ["a.npz", "a.npy", "a.zip", "a.tar.gz", "a.bin", "set/a.png", "test_batch", "val_data.npz"]
)
@pytest.mark.parametrize("said", STANDINS)
def test_file_that_stands_for_another_is_called_that(tmp_path, name, said):
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(STANDINS[said])
    source = path.parent if path.suffix == ".png" or name == "test_batch" else path
    with pytest.raises(DataIntegrityError, match=said) as caught:
        load_data(source, variant="old" if name == "val_data.npz" else None)
    assert caught.value.exit_code == 3
    assert caught.value.hint


def test_member_of_a_zip_that_stands_for_a_picture_is_called_that(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("0.png", STANDINS["Git LFS"])
    with pytest.raises(DataIntegrityError, match=r"0\.png is a pointer of Git LFS"):
        load_data(tmp_path / "a.zip")


@pytest.mark.parametrize("value", [{"images": IMAGES}, None, "text"])
def test_npy_of_a_python_object_is_called_that(tmp_path, value):
    np.save(tmp_path / "a.npy", np.array(value, dtype=object), allow_pickle=True)
    with pytest.raises(UnsafeFileError, match="a Python object, a dict perhaps") as caught:
        load_data(tmp_path / "a.npy")
    assert ".item()" in caught.value.hint


@pytest.mark.parametrize("place", [".", "cifar-100-python", "cifar-100-binary"])
def test_folder_of_cifar_100_is_called_that(tmp_path, place):
    names = (
        ("train.bin", "test.bin", "fine_label_names.txt") if "binary" in place else ("train", "test", "meta")
    )
    (tmp_path / place).mkdir(exist_ok=True)
    for name in names:
        (tmp_path / place / name).write_bytes(b"\x80")
    with pytest.raises(DataError, match="CIFAR-100, which is not read") as caught:
        load_data(tmp_path)
    assert "numpy.savez" in caught.value.hint


def test_archive_of_cifar_100_is_called_that(tmp_path):
    path = write_tar_gz(tmp_path / "a.tar.gz", tar({"cifar-100-python/meta": b"\x80"}))
    with pytest.raises(DataError, match="CIFAR-100, which is not read"):
        load_data(path)


def test_file_of_torch_is_no_zip_of_pictures(tmp_path):
    torch.save({"images": torch.zeros(2)}, tmp_path / "a.pt")
    with pytest.raises(DataError, match=r"a file of torch\.save"):
        load_data(tmp_path / "a.pt")


def test_unknown_name_lists_what_there_is():
    with pytest.raises(
        UsageError, match="neither digits, photos, scenes, cifar10, imagenet32 nor an existing path"
    ):
        load_data("cifar")


def test_split_and_levels_of_known_sets():
    with pytest.raises(UsageError, match="neither test nor train"):
        load_data("photos", split="validation")
    with pytest.raises(UsageError, match="17 grey levels"):
        load_data("digits", levels=256)
