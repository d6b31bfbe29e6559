"""Tar archives: read once, bounded, and only what they may hold."""

import gzip
import hashlib
import io
import tarfile
import zlib

import pytest
from tests.data.makers import tar, tar_header, tar_member

from merged_diffusion.errors import DataIntegrityError, UnsafeFileError
from merged_diffusion.files.limits import FREE_BYTES, Limits
from merged_diffusion.files.tars import MAX_EXTENDED, Source, tar_files

LIMITS = Limits(members=4, total=1 << 22)
FILES = {"a/one": b"1" * 5000, "two": b"", "three": b"3" * 512}
END = bytes(1024)


def read(content, limits=LIMITS):
    source = Source(io.BytesIO(content), limits, "a.tar")
    found = {file.name: file.content for file in tar_files(source, limits, "a.tar")}
    return found, source.sha256


@pytest.mark.parametrize("packed", [False, True])
def test_honest_files_come_back_with_the_hash_of_the_file(packed):
    content = gzip.compress(tar(FILES)) if packed else tar(FILES)
    assert read(content) == (FILES, hashlib.sha256(content).hexdigest())


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_what_tarfile_writes_is_read(form):
    stream = io.BytesIO()
    names = {"short": b"x", "d/" * 60 + "long": b"y" * 1000, "é": b"z"}
    with tarfile.open(fileobj=stream, mode="w:gz", format=form) as archive:
        for name, content in names.items():
            info = tarfile.TarInfo(name)
            info.size, info.mtime = len(content), 1.5
            archive.addfile(info, io.BytesIO(content))
        archive.addfile(tarfile.TarInfo("folder/"))
    assert read(stream.getvalue(), Limits(members=16, total=1 << 20))[0].keys() >= names.keys()


@pytest.mark.parametrize("kind", [b"1", b"2", b"3", b"4", b"6", b"S", b"K", b"Z"])
def test_links_devices_and_sparse_files(kind):
    content = tar_member("a", b"x", kind=kind, link=b"/etc/passwd") + END
    with pytest.raises(UnsafeFileError, match="only files and directories"):
        read(content)


@pytest.mark.parametrize("name", ["../a", "/a", "a/../b", "a\\b"])
def test_names_that_lead_elsewhere(name):
    with pytest.raises(UnsafeFileError, match="member name"):
        read(tar({name: b"x"}))


def test_name_in_a_pax_record_is_checked_too():
    pax = tar_member("h", b"17 path=../../ab\n", kind=b"x") + tar_member("good", b"x") + END
    with pytest.raises(UnsafeFileError, match="leads out"):
        read(pax)


@pytest.mark.parametrize(
    "record", [b"size=5", b"x path=a\n", b"99999999999 path=a\n", b"0 path=a\n", b"3 \n", b"12 size=999\n"]
)
def test_unsound_pax_records(record):
    with pytest.raises(DataIntegrityError, match="pax record"):
        read(tar_member("h", record, kind=b"x") + tar_member("good", b"x") + END)


def test_extended_header_over_the_limit():
    with pytest.raises(UnsafeFileError, match="extended header"):
        read(tar_header("h", MAX_EXTENDED + 1, kind=b"L") + END)


def test_too_many_members():
    with pytest.raises(UnsafeFileError, match="members, the limit is 4"):
        read(tar({str(i): b"" for i in range(5)}))


def test_declared_size_beyond_the_file_takes_no_memory():
    with pytest.raises(DataIntegrityError, match="truncated: 1024 of 8589934591 bytes"):
        read(tar_header("a", 0, size_field=b"77777777777\0") + END)


def test_bomb_is_stopped_while_inflating():
    packed = gzip.compress(tar({"a": bytes(8 * FREE_BYTES)}))
    with pytest.raises(UnsafeFileError, match="over 200 times"):
        read(packed, Limits(members=4, total=1 << 40))
    with pytest.raises(UnsafeFileError, match="bytes after inflating"):
        read(packed, Limits(members=4, total=FREE_BYTES))


@pytest.mark.parametrize("field", [b"0000000000x\0", b"-0000000001\0", b"\x80" + bytes(11), b" " * 12])
def test_size_that_is_no_octal_number(field):
    with pytest.raises(DataIntegrityError, match="octal"):
        read(tar_header("a", 0, size_field=field) + END)


def test_checksum_of_a_header():
    content = bytearray(tar(FILES))
    content[3] ^= 1
    with pytest.raises(DataIntegrityError, match="checksum of its header"):
        read(bytes(content))


@pytest.mark.parametrize("keep", [0, 100, 512, 3000, 5632, 6144])
def test_truncated_tar_names_the_offset(keep):
    with pytest.raises(DataIntegrityError, match="truncated") as error:
        read(tar(FILES)[:keep])
    assert error.value.fields["offset"] <= keep


@pytest.mark.parametrize("cut", [1, 8, 40])
def test_truncated_gzip(cut):
    with pytest.raises(DataIntegrityError, match=r"gzip stream is damaged near offset .*truncated"):
        read(gzip.compress(tar(FILES))[:-cut])


def test_checksum_of_gzip():
    content = bytearray(gzip.compress(tar(FILES)))
    content[-6] ^= 1
    with pytest.raises(DataIntegrityError, match="incorrect data check"):
        read(bytes(content))


def test_what_follows_a_gzip_stream():
    whole = gzip.compress(tar(FILES))
    assert read(whole + bytes(100))[0] == FILES
    with pytest.raises(DataIntegrityError, match="something follows"):
        read(whole + b"x")


def test_gzip_in_parts_is_read_up_to_a_number():
    content = tar(FILES)
    assert read(gzip.compress(content[:700]) + gzip.compress(content[700:]))[0] == FILES
    with pytest.raises(DataIntegrityError, match="something follows"):
        read(b"".join(gzip.compress(content[i : i + 100]) for i in range(0, len(content), 100)))


def test_gzip_name_without_end_is_read_in_linear_time():
    head = b"\x1f\x8b\x08\x08" + bytes(6) + b"a" * (1 << 20)
    with pytest.raises(DataIntegrityError, match="truncated"):
        read(head)
    assert zlib.decompressobj(wbits=31).decompress(head) == b""
