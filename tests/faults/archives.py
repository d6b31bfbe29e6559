"""Zip and tar archives that lie, grow, link or lead elsewhere, and honest ones of every kind."""

import gzip
import io
import stat
import struct
import tarfile
import zipfile
import zlib
from pathlib import Path

from tests.data.makers import (
    chunk,
    cifar_binary,
    edm_zip,
    pixels,
    png,
    saved,
    tar,
    tar_header,
    tar_member,
    write_tar_gz,
    zip_of,
)
from tests.faults.case import Case

IMAGES = pixels(4, (3, 8, 8))
ARRAY = saved(IMAGES)
END = bytes(1024)
REFUSED, UNSAFE = 3, 4
BATCH = "cifar-10-batches-bin/test_batch.bin"


def cases(folder: Path, canary: Path) -> list[Case]:
    """Every archive, written into ``folder``."""
    made = [*zips(folder / "zips", canary), *tars(folder / "tars", canary), *honest(folder / "honest")]
    return [Case(f"archives/{path.parent.name}/{path.stem}", path, "data", code) for path, code in made]


def zips(folder, canary):
    folder.mkdir(parents=True)
    yield from bombs(folder)
    yield from zip_names(folder, canary)
    yield from zip_entries(folder, canary)
    yield from zip_directories(folder)


def bombs(folder):
    deflated = zipfile.ZIP_DEFLATED
    yield zip_of(folder / "bomb.npz", {"images.npy": saved(pixels(1)) + bytes(1 << 25)}, deflated), UNSAFE
    yield zip_of(folder / "bomb-of-images.zip", {"a.png": bytes(1 << 25)}, deflated), UNSAFE
    parts = {f"{i}.png": bytes(1 << 20) for i in range(64)}
    yield zip_of(folder / "bomb-in-parts.zip", parts, deflated), UNSAFE
    inner = zip_of(folder / "inner", {"images.npy": bytes(1 << 24)}, deflated).read_bytes()
    yield zip_of(folder / "bomb-in-a-zip.npz", {"images.npy": inner}), REFUSED
    text = chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(1 << 26)))
    many = {f"{i}.png": png(IMAGES[0], extra=text * 4) for i in range(4)}
    yield zip_of(folder / "bomb-in-the-text-of-images.zip", many), 0
    yield zip_of(folder / "flood.npz", {f"{i}.npy": b"" for i in range(3000)}), UNSAFE
    yield zip_of(folder / "flood.zip", {f"{i}": b"" for i in range(3000)}), 2
    blank = png(pixels(1, (3, 4000, 4000), high=1)[0])
    yield zip_of(folder / "bomb-of-pixels.zip", {f"{i}.png": blank for i in range(200)}), UNSAFE


def zip_names(folder, canary):
    names = {
        "absolute": str(canary),
        "parent": "../../canary",
        "parent-within": "a/../../canary",
        "drive": "C:/images.npy",
        "backslash": "..\\canary",
        "control": "a\nimages.npy",
        "long": "a" * 60000,
        "only-slashes": "//",
        "dots": "..",
    }
    for name, member in names.items():
        yield zip_of(folder / f"name-{name}.zip", {"a.png": png(IMAGES[0]), member: b"x"}), UNSAFE
    path = zip_of(folder / "name-with-nul.zip", {"good.png?.npy": ARRAY})
    yield patched(path, lambda c: c.replace(b"?", b"\0")), UNSAFE
    path = zip_of(folder / "name-twice.npz", {"images.npy": ARRAY, "imagez.npy": ARRAY})
    yield patched(path, lambda c: c.replace(b"imagez", b"images")), UNSAFE
    path = zip_of(folder / "name-differs-in-the-local-header.npz", {"images.npy": ARRAY})
    yield patched(path, lambda c: c.replace(b"images", b"imagez", 1)), REFUSED


def zip_entries(folder, canary):
    for name, mode in (("link", stat.S_IFLNK), ("device", stat.S_IFCHR), ("pipe", stat.S_IFIFO)):
        entry = zipfile.ZipInfo("images.npy")
        entry.external_attr = (mode | 0o777) << 16
        with zipfile.ZipFile(folder / f"{name}.npz", "w") as archive:
            archive.writestr(entry, str(canary))
        yield folder / f"{name}.npz", UNSAFE
    for name, method in (("bzip2", zipfile.ZIP_BZIP2), ("lzma", zipfile.ZIP_LZMA)):
        yield zip_of(folder / f"{name}.npz", {"images.npy": ARRAY}, method), UNSAFE
    fields = {
        "encrypted": (8, "<H", 1, REFUSED),
        "unknown-method": (10, "<H", 99, UNSAFE),
        "declares-less": (24, "<I", 10, REFUSED),
        "declares-more": (24, "<I", 1 << 20, REFUSED),
        "declares-gigabytes": (24, "<I", 0xFFFFFFF0, UNSAFE),
        "packed-beyond-the-file": (20, "<I", 1 << 30, UNSAFE),
        "offset-beyond-the-file": (42, "<I", 1 << 30, UNSAFE),
        "offset-into-the-directory": (42, "<I", 900, UNSAFE),
        "wrong-checksum": (16, "<I", 17, REFUSED),
        "newer-version": (6, "<H", 99, REFUSED),
    }
    for name, (at, form, value, code) in fields.items():
        path = zip_of(folder / f"{name}.npz", {"images.npy": ARRAY}, zipfile.ZIP_DEFLATED)
        yield entry_patched(path, at, struct.pack(form, value)), code
    path = zip_of(folder / "shared-bytes.zip", {f"{i}.png": png(x) for i, x in enumerate(IMAGES)})
    content = path.read_bytes()
    for _ in range(3):
        at = content.rindex(b"PK\1\2", 0, len(content))
        content = content[: at + 42] + bytes(4) + content[at + 46 :]
    path.write_bytes(content)
    yield path, UNSAFE


def zip_directories(folder):
    whole = zip_of(folder / "whole", {"images.npy": ARRAY}).read_bytes()
    end = whole.index(b"PK\5\6")
    changed = {
        "truncated": whole[:-30],
        "empty": b"",
        "only-magic": b"PK\3\4",
        "no-end": whole[:end],
        "no-members": whole[end : end + 8] + bytes(14),
        "front-half": whole[: end // 2],
        "directory-beyond-the-file": whole[: end + 12] + struct.pack("<2IH", 1 << 30, 0, 0),
        "directory-of-zeros": whole[: end - 60] + bytes(60) + whole[end:],
        "flipped-data": whole[:200] + bytes([whole[200] ^ 4]) + whole[201:],
        "zip64-without-record": whole[:end] + b"PK\6\7" + bytes(16) + whole[end:],
        "zip64-of-terabytes": whole[:end]
        + struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, 0, 0, 1 << 40, 1 << 40, 1 << 40, 0)
        + struct.pack("<4sLQL", b"PK\6\7", 0, end, 1)
        + whole[end:],
    }
    for name, content in changed.items():
        (folder / f"{name}.npz").write_bytes(content)
        yield folder / f"{name}.npz", REFUSED


def tars(folder, canary):
    folder.mkdir(parents=True)
    whole = tar(cifar_binary(2))
    members = {
        "absolute": (tar({str(canary): b"x"}), UNSAFE),
        "parent": (tar({"../../canary": b"x"}), UNSAFE),
        "bomb": (tar({BATCH: bytes(1 << 26)}), UNSAFE),
        "bomb-behind-the-end": (whole + bytes(1 << 26), UNSAFE),
        "flood": (tar({f"{i}": b"" for i in range(1000)}), UNSAFE),
        "declares-gigabytes": (tar_header(BATCH, 0, size_field=b"77777777777\0") + END, REFUSED),
        "declares-by-binary-number": (
            tar_header(BATCH, 0, size_field=b"\x80" + bytes(10) + b"\1") + END,
            REFUSED,
        ),
        "declares-less-than-nothing": (tar_header(BATCH, 0, size_field=b"-0000000001\0") + END, REFUSED),
        "long-name-of-gigabytes": (tar_header("x", 1 << 30, kind=b"L") + END, UNSAFE),
        "pax-of-gigabytes": (tar_header("x", 1 << 30, kind=b"x") + END, UNSAFE),
        "pax-name-leads-out": (tar_member("x", b"19 path=../canary\n\n", kind=b"x") + whole, UNSAFE),
        "pax-size": (tar_member("x", b"18 size=999999999\n", kind=b"x") + whole, REFUSED),
        "pax-without-length": (tar_member("x", b"path=a\n", kind=b"x") + whole, REFUSED),
        "pax-sparse": (tar_member("x", b"22 GNU.sparse.major=1\n", kind=b"x") + whole, REFUSED),
        "checksum": (whole[:5] + b"?" + whole[6:], REFUSED),
        "no-end": (whole[:-1024], REFUSED),
        "truncated": (whole[:-2000], REFUSED),
        "other-layout": (tar({"a.png": png(IMAGES[0])}), REFUSED),
        "twice": (whole[:-1024] + whole, REFUSED),
        "empty": (END, REFUSED),
        "record-length": (tar(cifar_binary(2) | {BATCH: bytes(3000)}), REFUSED),
        "label-10": (tar(cifar_binary(2) | {BATCH: b"\x0a" + bytes(3072)}), REFUSED),
    }
    for kind, name in zip(
        "12346SKV",
        ("hard-link", "link", "device", "block", "pipe", "sparse", "long-link", "volume"),
        strict=True,
    ):
        content = tar_member(BATCH, kind=kind.encode(), link=str(canary).encode()[:100])
        members[name] = content + END, UNSAFE
    for name, (content, code) in members.items():
        yield write_tar_gz(folder / f"{name}.tar.gz", content), code
    packed = gzip.compress(whole, 1, mtime=0)
    streams = {
        "gzip-truncated": packed[:-9],
        "gzip-checksum": packed[:-6] + b"??" + packed[-4:],
        "gzip-header-alone": packed[:10],
        "gzip-followed": packed + b"PK\3\4",
        "gzip-in-many-parts": b"".join(gzip.compress(b"", mtime=0) for _ in range(1000)),
        "gzip-name-without-end": b"\x1f\x8b\x08\x08" + bytes(6) + b"a" * (1 << 22),
        "gzip-flipped": packed[: len(packed) // 2] + b"\0\xff" + packed[len(packed) // 2 + 2 :],
    }
    for name, content in streams.items():
        (folder / f"{name}.tar.gz").write_bytes(content)
        yield folder / f"{name}.tar.gz", REFUSED


def honest(folder):
    folder.mkdir(parents=True)
    pngs = {f"{i}.png": png(image) for i, image in enumerate(IMAGES)}
    yield zip_of(folder / "images.zip", pngs), 0
    yield zip_of(folder / "images-deflated.zip", pngs | {"notes.txt": b"x"}, zipfile.ZIP_DEFLATED), 0
    yield zip_of(folder / "arrays.npz", {"images.npy": ARRAY}), 0
    yield zip_of(folder / "arrays-deflated.npz", {"images.npy": ARRAY}, zipfile.ZIP_DEFLATED), 0
    yield edm_zip(folder / "edm.zip", IMAGES, [0, 1, 2, 3]), 0
    yield write_tar_gz(folder / "cifar.tar.gz", tar(cifar_binary(2))), 0
    (folder / "cifar.tar").write_bytes(tar(cifar_binary(2)))
    yield folder / "cifar.tar", 0
    with tarfile.open(folder / "cifar-pax.tgz", "w:gz", format=tarfile.PAX_FORMAT) as archive:
        for name, content in cifar_binary(2).items():
            info = tarfile.TarInfo(name)
            info.size, info.mtime, info.uname = len(content), 1.25, "é"
            archive.addfile(info, io.BytesIO(content))
    yield folder / "cifar-pax.tgz", 0


def patched(path, change):
    path.write_bytes(change(path.read_bytes()))
    return path


def entry_patched(path, at, value):
    """The first entry of the directory with other bytes at an offset."""
    content = path.read_bytes()
    at += content.index(b"PK\1\2")
    path.write_bytes(content[:at] + value + content[at + len(value) :])
    return path
