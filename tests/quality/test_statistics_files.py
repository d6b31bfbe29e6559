"""Statistics files: written, read, and refused."""

import json
import pickle
import re
import struct
from dataclasses import replace

import numpy as np
import pytest
import torch
from tests.quality.writers import Hostile, bare, pickled

from merged_diffusion import load_data
from merged_diffusion.errors import (
    CheckpointError,
    DataError,
    DataIntegrityError,
    StorageError,
    UnsafeFileError,
    UsageError,
)
from merged_diffusion.quality import frechet_distance
from merged_diffusion.quality.calibration import Calibration
from merged_diffusion.quality.copies import Nearness
from merged_diffusion.quality.features import extractor
from merged_diffusion.quality.statistics import collect
from merged_diffusion.quality.statistics_files import (
    check_target,
    is_statistics,
    read_statistics,
    write_statistics,
)


@pytest.fixture(scope="module")
def statistics():
    return collect(load_data("digits"), extractor("digits"))


@pytest.fixture
def file(tmp_path, statistics):
    write_statistics(tmp_path / "s.npz", statistics)
    return tmp_path / "s.npz"


def rewritten(file, **changes):
    """The file with other columns; None leaves one out."""
    with np.load(file) as arrays:
        columns = {key: arrays[key] for key in arrays.files} | changes
    np.savez(file, **{key: value for key, value in columns.items() if value is not None})
    return file


def test_what_is_written_is_read(file, statistics):
    read = read_statistics(file)
    assert read.about == statistics.about
    assert torch.equal(read.law.mean, statistics.law.mean)
    torch.testing.assert_close(read.law.covariance, statistics.law.covariance, rtol=0, atol=1e-15)
    assert read.law.n == 360
    np.testing.assert_array_equal(read.reference, statistics.reference)
    assert read.reference.shape == (360, 32)
    # Groups are kept in float32.
    for one, other in zip(read.law.groups, statistics.law.groups, strict=True):
        assert one.n == other.n
        torch.testing.assert_close(one.scatter, other.scatter, rtol=1e-6, atol=1e-4)


def test_numpy_reads_edms_two_arrays_of_our_file(file):
    with np.load(file, allow_pickle=False) as arrays:
        assert arrays["mu"].shape == (32,)
        assert arrays["sigma"].shape == (32, 32)
        assert json.loads(str(arrays["about"]))["features"] == "digits"


def test_error_by_groups_survives_the_file(file, statistics):
    photos = collect(load_data("digits").select(ids=(0, 200)), extractor("digits")).law
    ours, read = (frechet_distance(photos, law) for law in (statistics.law, read_statistics(file).law))
    assert read.value == pytest.approx(ours.value, rel=1e-9)
    assert read.se == pytest.approx(ours.se, rel=1e-3)


def test_edms_statistics_are_read_as_bare(tmp_path):
    read = read_statistics(bare(tmp_path / "edm.npz", 5))
    assert (read.about, read.reference, read.law.n, read.law.groups) == (None, None, None, ())
    assert read.law.dim == 5
    assert is_statistics(tmp_path / "edm.npz")


def test_what_is_known_of_neighbours_comes_back(tmp_path, statistics):
    known = Calibration(50, {"recall": ((16, 0.5), (20, 0.625))}, Nearness(0.4, 0.01))
    write_statistics(tmp_path / "s.npz", replace(statistics, calibration=known))
    assert read_statistics(tmp_path / "s.npz").calibration == known
    write_statistics(tmp_path / "s.npz", statistics)
    assert read_statistics(tmp_path / "s.npz").calibration == Calibration()


def test_more_features_than_count_are_chosen_as_they_would_have_been_stored():
    data, features = load_data("digits"), extractor("digits")
    whole = collect(data, features, 360)
    assert (
        replace(whole, calibration=Calibration(100)).ball_features == collect(data, features, 100).reference
    ).all()
    assert whole.is_searchable
    assert not collect(data, features, 359).is_searchable


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("wrap", [True, False])
def test_edm2_pickled_statistics_are_read_by_the_inert_interpreter(tmp_path, protocol, wrap):
    random = np.random.default_rng(0)
    x = random.standard_normal((50, 6))
    table = {"mu": x.mean(axis=0), "sigma": np.asfortranarray(np.cov(x, rowvar=False))}
    other = {"mu": np.zeros(3), "sigma": np.eye(3)}
    path = pickled(tmp_path / "s.pkl", {"fid": table, "fd_dinov2": other} if wrap else table, protocol)
    read = read_statistics(path)
    np.testing.assert_array_equal(read.law.mean.numpy(), table["mu"])
    np.testing.assert_allclose(read.law.covariance.numpy(), table["sigma"], atol=1e-16)
    assert read.about is None
    assert is_statistics(path)


@pytest.mark.parametrize("core", ["core", "_core"])
@pytest.mark.parametrize("is_writable", [True, False])
def test_arrays_of_protocol_5_are_read_as_each_numpy_writes_them(tmp_path, core, is_writable):
    """A writable array's bytes are a bytearray there, a constant's are bytes; numpy 1 says core."""
    table = {
        "mu": np.linspace(-1, 1, 4),
        "sigma": np.diag(np.arange(1.0, 5)).astype("f4"),
        "extra": np.eye(3)[::2],
    }
    for array in table.values():
        array.flags.writeable = is_writable
    content = pickle.dumps({"fid": table}, protocol=5)
    name = f"numpy.{core}.numeric".encode()
    found = re.search(rb"\x8c.numpy\._?core\.numeric", content, re.DOTALL)
    content = content.replace(found[0], b"\x8c" + bytes([len(name)]) + name)
    (tmp_path / "s.pkl").write_bytes(content)
    law = read_statistics(tmp_path / "s.pkl").law
    np.testing.assert_array_equal(law.mean.numpy(), table["mu"])
    np.testing.assert_array_equal(law.covariance.numpy(), table["sigma"])


def test_buffers_outside_of_a_pickle_are_refused(tmp_path):
    content = pickle.dumps({"mu": np.zeros(2), "sigma": np.eye(2)}, protocol=5, buffer_callback=[].append)
    (tmp_path / "s.pkl").write_bytes(content)
    with pytest.raises(UnsafeFileError, match="NEXT_BUFFER"):
        read_statistics(tmp_path / "s.pkl")


@pytest.mark.parametrize(
    "names", [("m", "s"), ("mean", "cov"), ("mu", "covariance"), ("mu_clean", "sigma_clean")]
)
def test_statistics_by_other_names_are_refused_by_them(tmp_path, names):
    path = tmp_path / "s.npz"
    np.savez(path, **dict(zip(names, (np.zeros(3), np.eye(3)), strict=True)))
    assert is_statistics(path, by_any_name=True)
    assert not is_statistics(path)  # which fid-ref may replace
    with pytest.raises(DataError, match=f"by other names: {names[0]} and {names[1]}") as caught:
        read_statistics(path)
    assert f"mu=f['{names[0]}'], sigma=f['{names[1]}']" in caught.value.hint
    with pytest.raises(UsageError, match="holds no statistics"):
        check_target(path)


def test_pictures_beside_such_names_are_no_statistics(tmp_path):
    np.savez(tmp_path / "a.npz", images=np.zeros((2, 3, 4, 4), np.uint8), m=np.zeros(3), s=np.eye(3))
    assert not is_statistics(tmp_path / "a.npz", by_any_name=True)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_a_hostile_pickle_of_statistics_is_refused(tmp_path, protocol):
    canary = tmp_path / "canary"
    table = {"mu": np.zeros(2), "sigma": np.eye(2), "extra": Hostile(canary)}
    path = pickled(tmp_path / "s.pkl", {"fid": table}, protocol)
    with pytest.raises(UnsafeFileError, match=r"the global (posix|nt)\.mkdir at offset"):
        read_statistics(path)
    assert not canary.exists()


@pytest.mark.parametrize(
    "value",
    [
        pytest.param([1, 2], id="a list"),
        pytest.param({"fid": [np.zeros(2), np.eye(2)]}, id="no table"),
        pytest.param({"fid": {"mu": np.zeros(2)}}, id="no sigma"),
        pytest.param({"fid": {"mu": "zeros", "sigma": np.eye(2)}}, id="a text for mu"),
        pytest.param({"fid": {"mu": np.zeros(2, dtype=int), "sigma": np.eye(2)}}, id="whole numbers"),
        pytest.param({"fid": {"mu": np.zeros(2, dtype=">f8"), "sigma": np.eye(2)}}, id="big-endian"),
    ],
)
def test_pickles_of_anything_else_are_refused(tmp_path, value):
    with pytest.raises(DataError):
        read_statistics(pickled(tmp_path / "s.pkl", value))


def test_object_arrays_are_refused(tmp_path):
    with pytest.raises(UnsafeFileError):
        read_statistics(bare(tmp_path / "s.npz", mu=np.array([{}, {}], dtype=object)))
    objects = {"fid": {"mu": np.array([None]), "sigma": np.eye(1)}}
    with pytest.raises(DataError):
        read_statistics(pickled(tmp_path / "s.pkl", objects))


def test_truncated_files_are_refused(tmp_path, file):
    content = file.read_bytes()
    for n in (200, len(content) // 2, len(content) - 1):
        file.write_bytes(content[:n])
        with pytest.raises(DataIntegrityError):
            read_statistics(file)
    path = pickled(tmp_path / "s.pkl", {"fid": {"mu": np.zeros(2), "sigma": np.eye(2)}})
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(CheckpointError, match="a broken pickle"):
        read_statistics(path)


def test_an_array_that_declares_another_size_is_refused(tmp_path):
    content = pickle.dumps({"mu": np.zeros(3), "sigma": np.eye(3)}, protocol=4)
    # mu's shape (3,) becomes (4,): BININT1 3 TUPLE1.
    at = content.index(b"K\x03\x85")
    (tmp_path / "s.pkl").write_bytes(content[:at] + b"K\x04" + content[at + 2 :])
    with pytest.raises(DataError, match=r"an array of \[4\] in 24 bytes"):
        read_statistics(tmp_path / "s.pkl")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"sigma": None}, "holds no sigma"),
        ({"mu": np.zeros((2, 2))}, "mu has shape"),
        ({"mu": np.zeros(7)}, r"sigma is float64 \[64, 64\], expected numbers of \[7, 7\]"),
        ({"mu": np.arange(64)}, "mu is int64"),
        ({"mu": np.full(64, np.nan)}, "mu holds values that are not finite"),
        ({"sigma": 1e200 * np.eye(64)}, "not finite, or beyond 1e"),
        ({"sigma": -np.eye(64)}, "sigma is no covariance"),
        ({"sigma": np.triu(np.ones((64, 64)))}, "sigma is no covariance"),
    ],
)
def test_arrays_that_are_no_law_are_refused(tmp_path, changes, words):
    with pytest.raises(DataError, match=words):
        read_statistics(bare(tmp_path / "s.npz", **changes))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"about": np.array("{")}, "about is broken"),
        ({"about": np.array("[]")}, "about is broken"),
        ({"about": np.array('{"format": 1, "floor": [], "n": 3}')}, "about is broken"),
        ({"neighbours": np.array('{"n": 3, "floors": {}, "nearness": null}')}, "neighbours is broken"),
        ({"neighbours": np.array('{"n": null, "floors": {"hue": []}}')}, "neighbours is broken"),
        ({"about": np.array('{"format": 2, "floor": []}')}, "has format 2; this version reads 1"),
        ({"group_n": np.zeros(3, dtype=int)}, "group_n is no list of 16 counts"),
        ({"group_sigma": np.zeros((16, 5))}, "group_sigma is float64"),
        ({"reference": np.zeros((4, 3))}, "reference is float64"),
    ],
)
def test_broken_parts_of_our_file_are_refused(file, changes, words):
    with pytest.raises(DataError, match=words):
        read_statistics(rewritten(file, **changes))


def test_about_with_values_of_other_types_is_refused(file, statistics):
    with np.load(file) as arrays:
        about = json.loads(str(arrays["about"]))
    for key, value in (("n", "many"), ("data", 3), ("image_shape", 8)):
        with pytest.raises(DataError, match="about is broken"):
            read_statistics(rewritten(file, about=np.array(json.dumps({**about, key: value}))))


def test_images_and_other_files_are_no_statistics(tmp_path):
    np.savez(tmp_path / "images.npz", images=load_data("digits").images)
    np.save(tmp_path / "images.npy", load_data("digits").images)
    (tmp_path / "one.png").write_bytes(b"\x89PNG\r\n" + struct.pack(">I", 13))
    for name in ("images.npz", "images.npy", "one.png", "nothing", "."):
        assert not is_statistics(tmp_path / name)


def test_targets_are_checked_before_the_work(tmp_path):
    np.savez(tmp_path / "images.npz", images=load_data("digits").images)
    with pytest.raises(UsageError, match="exists and holds no statistics"):
        check_target(tmp_path / "images.npz")
    with pytest.raises(UsageError, match=r"does not end in \.npz"):
        check_target(tmp_path / "s.txt")
    with pytest.raises(StorageError, match="there is no folder"):
        check_target(tmp_path / "no" / "s.npz")
    check_target(bare(tmp_path / "s.npz"))
    check_target(tmp_path / "new.npz")


def test_a_full_disk_leaves_no_part_of_a_file(tmp_path, statistics, monkeypatch):
    def full(*_args, **_options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("merged_diffusion.runs.directory.os.write", full)
    with pytest.raises(StorageError, match="No space left"):
        write_statistics(tmp_path / "s.npz", statistics)
    assert not list(tmp_path.iterdir())
