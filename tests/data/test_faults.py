"""Section 1 of the table of faults: a test for each row, which bears its name."""

import gzip
import hashlib
import logging
import zipfile

import numpy as np
import pytest
from tests.data.makers import (
    cifar_binary,
    imagenet_batch,
    pixels,
    png,
    tar,
    tar_member,
    write_folder,
    write_tar_gz,
    zip_of,
)

from merged_diffusion.cli import main
from merged_diffusion.data import cifar10, load_data
from merged_diffusion.data.images import check_images
from merged_diffusion.errors import (
    DataError,
    DataIntegrityError,
    RunMismatchError,
    UnsafeFileError,
    UsageError,
)
from merged_diffusion.fetch import record

IMAGES = pixels(4, (1, 8, 8), high=17)


@pytest.fixture
def run(capsys, tmp_path, monkeypatch):
    """Run a command in an empty directory: exit code and standard error."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GOMP_SPINCOUNT", "0")
    return lambda *arguments: (main(list(arguments)), capsys.readouterr().err)


@pytest.mark.parametrize(
    "content", [b"", bytes(3073 * 2 - 1), b"\x0a" + bytes(3072)], ids=["empty", "record length", "label 10"]
)
def test_cifar_archive_broken_layout(tmp_path, content):
    members = cifar_binary(2) | {"cifar-10-batches-bin/test_batch.bin": content}
    with pytest.raises(DataIntegrityError, match=r"test_batch\.bin"):
        load_data(write_tar_gz(tmp_path / "a.tar.gz", tar(members)))


def test_cifar_archive_truncated(tmp_path):
    path = write_tar_gz(tmp_path / "a.tar.gz", tar(cifar_binary(2)))
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DataIntegrityError, match="offset"):
        load_data(path)


def test_cifar_archive_a_file_that_fetch_brought_with_another_hash(tmp_path):
    (tmp_path / "data").mkdir()
    path = write_tar_gz(tmp_path / "data" / "cifar-10-binary.tar.gz", tar(cifar_binary(2)))
    fetched = hashlib.sha256(path.read_bytes()).hexdigest()
    record(path, fetched, "https://localhost/", tmp_path)
    assert len(load_data("cifar10", cache=tmp_path)) == 2
    write_tar_gz(path, tar(cifar_binary(3)))
    with pytest.raises(DataIntegrityError, match="move it away") as error:
        load_data("cifar10", cache=tmp_path)
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    assert (error.value.fields["expected"], error.value.fields["found"]) == (fetched, found)
    assert path.exists()


def test_cifar_archive_a_file_the_user_placed_sound_layout_another_hash(tmp_path, caplog):
    path = write_tar_gz(tmp_path / "a.tar.gz", tar(cifar_binary(2)))
    with caplog.at_level(logging.WARNING):
        data = load_data(path)
    assert data.modified
    for digest in (hashlib.sha256(path.read_bytes()).hexdigest(), cifar10.SHA256["binary"]):
        assert digest in caplog.text
    assert data.select(limit=1).modified


def test_truncated_tar(tmp_path):
    (tmp_path / "a.tar").write_bytes(tar(cifar_binary(2))[:9000])
    with pytest.raises(DataIntegrityError, match=r"data_batch_2\.bin' at offset 8192: truncated"):
        load_data(tmp_path / "a.tar")


def test_truncated_zip(tmp_path):
    path = zip_of(tmp_path / "a.zip", {"a.png": png(IMAGES[0])})
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(DataIntegrityError, match="not a sound zip"):
        load_data(path)


def test_crc_error_in_one_member(tmp_path):
    path = zip_of(tmp_path / "a.zip", {f"{i}.png": png(x) for i, x in enumerate(IMAGES)})
    with zipfile.ZipFile(path) as archive:
        offset = archive.getinfo("2.png").header_offset
    content = bytearray(path.read_bytes())
    content[offset + 90] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataIntegrityError, match=rf"the member 2\.png at offset {offset} is damaged"):
        load_data(path)


def test_zip_bomb(tmp_path):
    bomb = zip_of(tmp_path / "a.npz", {"images.npy": bytes(1 << 24)}, zipfile.ZIP_DEFLATED)
    with pytest.raises(UnsafeFileError, match="over 200 times"):
        load_data(bomb)
    write_tar_gz(tmp_path / "a.tar.gz", tar({"cifar-10-batches-bin/test_batch.bin": bytes(1 << 24)}))
    with pytest.raises(UnsafeFileError, match="over 200 times"):
        load_data(tmp_path / "a.tar.gz")


def test_too_many_members(tmp_path):
    with pytest.raises(UnsafeFileError, match="members"):
        load_data(zip_of(tmp_path / "a.npz", {f"{i}.npy": b"" for i in range(17)}))
    with pytest.raises(UnsafeFileError, match="members"):
        load_data(write_tar_gz(tmp_path / "a.tar.gz", tar({str(i): b"" for i in range(65)})))


@pytest.mark.parametrize("name", ["/images.npy", "../images.npy", "a/../../images.npy"])
def test_absolute_or_parent_names(tmp_path, name):
    with pytest.raises(UnsafeFileError, match="member name"):
        load_data(zip_of(tmp_path / "a.npz", {name: b"x"}))
    with pytest.raises(UnsafeFileError, match="member name"):
        load_data(write_tar_gz(tmp_path / "a.tar.gz", tar({name: b"x"})))


def test_links(tmp_path):
    content = tar_member("cifar-10-batches-bin/test_batch.bin", kind=b"2", link=b"/etc/passwd") + bytes(1024)
    with pytest.raises(UnsafeFileError, match="symbolic link"):
        load_data(write_tar_gz(tmp_path / "a.tar.gz", content))


def test_npz_with_object_arrays(tmp_path, monkeypatch):
    monkeypatch.setattr(np, "load", None)
    np.savez(tmp_path / "a.npz", images=np.array([IMAGES, None], dtype=object))
    with pytest.raises(UnsafeFileError, match="unpickled"):
        load_data(tmp_path / "a.npz")


@pytest.mark.parametrize(
    ("dtype", "scale", "conversion"),
    [("float32", 255, r"images \* 255"), ("int64", 1, "astype"), ("uint16", 1, "astype")],
)
def test_wrong_dtype(tmp_path, dtype, scale, conversion):
    np.save(tmp_path / "a.npy", (IMAGES / scale).astype(dtype))
    with pytest.raises(DataError, match=conversion):
        load_data(tmp_path / "a.npy")


@pytest.mark.parametrize(
    ("shape", "advice"),
    [((4, 8, 8, 3), "transpose"), ((4, 28, 28), "no channel axis"), ((4, 4, 8, 8), "alpha")],
)
def test_wrong_shape(tmp_path, shape, advice):
    np.save(tmp_path / "a.npy", np.zeros(shape, np.uint8))
    with pytest.raises(DataError, match=advice) as error:
        load_data(tmp_path / "a.npy")
    assert error.value.fields["found"] == list(shape)
    assert "[N, C, H, W]" in error.value.fields["expected"]


def test_wrong_shape_for_the_expert_grey_for_rgb(run, tmp_path):
    np.savez(tmp_path / "a.npz", images=pixels(2, (1, 8, 8)), levels=256)
    code, message = run("nll", "--data", "a.npz", "--pair", "photos", "--eta", "0.3", "--threads", "1")
    assert code == 3
    assert "1x8x8" in message
    assert "3x8x8" in message


def test_levels_come_from_the_data_16_bit_png_only_when_stated(tmp_path):
    folder = write_folder(tmp_path, {"a.png": png(IMAGES[0].astype(np.uint16))})
    with pytest.raises(DataError, match="--levels 65536"):
        load_data(folder)
    assert load_data(folder, levels=65536).levels == 65536


@pytest.mark.parametrize(("value", "where"), [(300, "300 at"), (-1, "-1 at"), (np.nan, "nan at")])
def test_values_outside_0_255_nan_in_float_images(value, where):
    images = IMAGES.astype(np.float64)
    images[2, 0, 3, 1] = value
    with pytest.raises(DataError, match=rf"{where} \[2, 0, 3, 1\]"):
        check_images(images, 256, "mine")


def test_empty_set(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((0, 1, 8, 8), np.uint8))
    with pytest.raises(UsageError, match="no images"):
        load_data(tmp_path / "a.npy")


@pytest.mark.parametrize("choice", [{"limit": 0}, {"limit": 5}, {"ids": (2, 2)}, {"ids": (0, 5)}])
def test_limit_0_index_range_outside(tmp_path, choice):
    np.save(tmp_path / "a.npy", IMAGES)
    with pytest.raises(UsageError):
        load_data(tmp_path / "a.npy").select(**choice)


def test_imagenet32_without_variant_or_counts_of_neither(tmp_path, caplog):
    imagenet_batch(tmp_path / "val_data.npz", pixels(3), [1, 2, 1000])
    with pytest.raises(DataError, match="--variant"):
        load_data(tmp_path)
    with caplog.at_level(logging.WARNING):
        data = load_data(tmp_path, variant="new")
    assert "3 of the 50000 images" in caplog.text
    assert (data.provenance["partial"], data.modified, len(data.sha256)) == (True, True, 64)
    assert data.name != load_data(tmp_path, variant="old").name


def test_data_set_changed_between_start_and_resume(run, tmp_path):
    command = (
        "nll",
        "--data",
        "a.npz",
        "--pair",
        "digits",
        "--eta",
        "0.3",
        "--threads",
        "1",
        "--rtol",
        "0.01",
    )
    np.savez(tmp_path / "a.npz", images=IMAGES, levels=17)
    assert run(*command, "--out", "run", "--limit", "1", "--quiet")[0] == 0
    np.savez(tmp_path / "a.npz", images=IMAGES[::-1], levels=17)
    code, message = run(*command, "--out", "run", "--limit", "2")
    assert code == RunMismatchError.exit_code
    assert "sha256" in message


def test_duplicate_images(tmp_path):
    np.save(tmp_path / "a.npy", IMAGES[[0, 1, 0, 2, 0]])
    assert load_data(tmp_path / "a.npy").duplicates == 2


def test_gzip_of_something_else(tmp_path):
    (tmp_path / "a.gz").write_bytes(gzip.compress(b"not an archive" * 100))
    with pytest.raises(DataIntegrityError, match="checksum of its header"):
        load_data(tmp_path / "a.gz")
