"""Zip archives: what the directory may declare, and what inflating may yield."""

import stat
import struct
import zipfile

import pytest
from tests.data.makers import zip_of

from merged_diffusion.errors import DataIntegrityError, UnsafeFileError
from merged_diffusion.files.limits import FREE_BYTES, MAX_RATIO, Limits
from merged_diffusion.files.zips import open_zip

LIMITS = Limits(members=4, total=1 << 23)


def opened(path, limits=LIMITS):
    with open_zip(path, limits) as archive:
        archive.check()
        return {name: archive.read(name) for name in archive.names}


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_honest_members_come_back(tmp_path, method):
    members = {"a/one": b"1" * 5000, "two": b"", "folder/": b""}
    found = opened(zip_of(tmp_path / "a.zip", members, method))
    assert found == {"a/one": b"1" * 5000, "two": b""}


def test_one_member_too_many(tmp_path):
    with pytest.raises(UnsafeFileError, match="5 members, the limit is 4"):
        opened(zip_of(tmp_path / "a.zip", {str(i): b"" for i in range(5)}))


def test_far_too_many_members_are_refused_before_the_directory_is_read(tmp_path, monkeypatch):
    path = zip_of(tmp_path / "a.zip", {str(i): b"" for i in range(50)})
    monkeypatch.setattr(zipfile, "ZipFile", None)
    with pytest.raises(UnsafeFileError, match="members, the limit is 4"):
        opened(path)


def test_total_over_the_limit(tmp_path):
    path = zip_of(tmp_path / "a.zip", {"a": bytes(FREE_BYTES), "b": bytes(FREE_BYTES)})
    with pytest.raises(UnsafeFileError, match=f"{2 * FREE_BYTES} bytes after inflating"):
        opened(path, Limits(members=4, total=2 * FREE_BYTES - 1))
    assert len(opened(path, Limits(members=4, total=2 * FREE_BYTES))) == 2


def test_ratio_over_the_limit(tmp_path):
    path = zip_of(tmp_path / "a.zip", {"a": bytes(FREE_BYTES + 1)}, zipfile.ZIP_DEFLATED)
    with pytest.raises(UnsafeFileError, match=f"over {MAX_RATIO} times"):
        opened(path)


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("../a", "leads out"), ("a/../../b", "leads out"), ("/etc/passwd", "absolute"), ("C:/a", "absolute"),
        ("a\\b", "backslash"), ("a\nb", "control"), ("a" * 1100, "longer"), ("/", "empty"),
    ],
)  # fmt: skip
def test_names_that_lead_elsewhere(tmp_path, name, why):
    with pytest.raises(UnsafeFileError, match=why):
        opened(zip_of(tmp_path / "a.zip", {name: b"x"}), Limits(members=9, total=9))


def test_name_cut_by_nul_is_refused(tmp_path):
    path = zip_of(tmp_path / "a.zip", {"good.png?bad": b"x"})
    path.write_bytes(path.read_bytes().replace(b"?", b"\0"))
    with pytest.raises(UnsafeFileError, match="control"):
        opened(path)


@pytest.mark.parametrize("mode", [stat.S_IFLNK, stat.S_IFCHR, stat.S_IFIFO, stat.S_IFSOCK])
def test_links_and_devices(tmp_path, mode):
    entry = zipfile.ZipInfo("a")
    entry.external_attr = (mode | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(entry, "/etc/passwd")
    with pytest.raises(UnsafeFileError, match="link or a device"):
        opened(tmp_path / "a.zip")


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_other_methods(tmp_path, method):
    with pytest.raises(UnsafeFileError, match=f"method {method}"):
        opened(zip_of(tmp_path / "a.zip", {"a": b"x" * 100}, method))


def test_encrypted_member(tmp_path):
    path = zip_of(tmp_path / "a.zip", {"a": b"x"})
    content = bytearray(path.read_bytes())
    content[content.index(b"PK\1\2") + 8] |= 1
    path.write_bytes(content)
    with pytest.raises(DataIntegrityError, match="encrypted"):
        opened(path)


def test_name_that_occurs_twice(tmp_path):
    path = zip_of(tmp_path / "a.zip", {"aa": b"x", "ab": b"y"})
    path.write_bytes(path.read_bytes().replace(b"ab", b"aa"))
    with pytest.raises(UnsafeFileError, match="occurs twice"):
        opened(path)


def test_members_that_share_their_bytes(tmp_path):
    path = zip_of(tmp_path / "a.zip", {"aa": b"x" * 1000, "ab": b"y" * 1000})
    content = bytearray(path.read_bytes())
    second = content.rindex(b"PK\1\2")
    content[second + 42 : second + 46] = struct.pack("<I", 0)
    path.write_bytes(content)
    with pytest.raises(UnsafeFileError, match="overlaps"):
        opened(path)


def test_member_that_inflates_to_more_than_it_declares_is_cut_and_found_out(tmp_path):
    path = zip_of(tmp_path / "a.zip", {"a": bytes(FREE_BYTES)}, zipfile.ZIP_DEFLATED)
    content = bytearray(path.read_bytes())
    entry = content.index(b"PK\1\2")
    content[entry + 24 : entry + 28] = struct.pack("<I", 10)
    path.write_bytes(content)
    with pytest.raises(DataIntegrityError, match="the member a at offset 0 is damaged"):
        opened(path)


def test_damage_names_member_and_offset(tmp_path):
    path = zip_of(tmp_path / "a.zip", {"one": b"x" * 100, "two": b"y" * 100})
    content = path.read_bytes()
    path.write_bytes(content.replace(b"yyy", b"zyy", 1))
    with pytest.raises(DataIntegrityError, match="the member two at offset 133 is damaged") as error:
        opened(path)
    assert error.value.fields["offset"] == 133


@pytest.mark.parametrize("keep", [0, 3, 20, 60, -1, -22])
def test_truncated(tmp_path, keep):
    path = zip_of(tmp_path / "a.zip", {"one": b"x" * 100})
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(DataIntegrityError, match="not a sound zip" if keep else "is empty"):
        opened(path)
