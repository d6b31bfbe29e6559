"""A zip archive whose directory has been checked: members, sizes, ratios, names, links, overlaps.

``zipfile`` builds an object for every entry before one can look, so the number of entries is bounded from the
end record first.
"""

from __future__ import annotations

import os
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final

from merged_diffusion.errors import DataIntegrityError, UnsafeFileError
from merged_diffusion.files.limits import Limits, check_name
from merged_diffusion.files.reading import opened
from merged_diffusion.files.standins import HEAD, refuse_standin

END: Final = struct.Struct("<4s4H2LH")  # end of central directory
END64: Final = struct.Struct("<4sQ2H2L4Q")
LOCATOR64: Final = struct.Struct("<4sLQL")
MAX_COMMENT: Final = 0xFFFF
MIN_ENTRY: Final = 46  # bytes of an entry of the directory without its name
ROOM_PER_ENTRY: Final = 4
LOCAL_HEADER: Final = 30
ENCRYPTED: Final = 0x1
METHODS: Final = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
CHUNK: Final = 1 << 20
BROKEN: Final = (
    zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, struct.error, ValueError, OSError
)  # fmt: skip


class SafeZip:
    """The files of a zip archive by name; made by `open_zip`."""

    def __init__(self, archive: zipfile.ZipFile, entries: list[zipfile.ZipInfo], where: str) -> None:
        self._archive = archive
        self._entries = {entry.filename: entry for entry in entries}
        self._where = where

    @property
    def names(self) -> list[str]:
        """Of the files, in the order of the directory."""
        return list(self._entries)

    def size(self, name: str) -> int:
        """Bytes after inflating, as declared; `stream` yields no more."""
        return self._entries[name].file_size

    @contextmanager
    def stream(self, name: str) -> Iterator[IO[bytes]]:
        """A member to read; its checksum is compared at its end."""
        entry = self._entries[name]
        try:
            with self._archive.open(entry) as content:
                yield content
        except BROKEN as error:
            raise DataIntegrityError(
                f"{self._where}: the member {name} at offset {entry.header_offset} is damaged ({error})",
                file=self._where, member=name, offset=entry.header_offset,
            ) from error  # fmt: skip

    def read(self, name: str) -> bytes:
        """All of a member."""
        whole = self._stored(self._entries[name])
        if whole is not None:
            return whole
        with self.stream(name) as content:
            found = content.read()
            if len(found) != self.size(name):
                raise EOFError(f"{len(found)} bytes where {self.size(name)} are declared")
            return found

    def _stored(self, entry: zipfile.ZipInfo) -> bytes | None:
        """A member that is sound and not packed, without the cost of a stream; None: `stream` says of it."""
        file = self._archive.fp
        if entry.compress_type != zipfile.ZIP_STORED or entry.file_size > CHUNK or file is None:
            return None
        name = entry.orig_filename.encode("utf-8" if entry.flag_bits & 0x800 else "cp437", "replace")
        begin = LOCAL_HEADER + len(name)
        file.seek(entry.header_offset)
        whole = file.read(begin + entry.file_size)  # where the header has nothing extra
        if len(whole) < LOCAL_HEADER or not whole.startswith(b"PK\3\4"):
            return None
        n_name, n_extra = struct.unpack_from("<2H", whole, 26)
        is_same = n_name == len(name) and whole[LOCAL_HEADER:begin] == name
        content = (whole + file.read(n_extra))[begin + n_extra :] if n_extra else whole[begin:]
        is_whole = is_same and len(content) == entry.file_size and zlib.crc32(content) == entry.CRC
        return content if is_whole else None

    def check(self, names: Iterable[str] | None = None) -> None:
        """Inflate every member, or those named, so that damage in the last is known before any is decoded."""
        for name in self._entries if names is None else sorted(names):
            with self.stream(name) as content:
                while content.read(CHUNK):
                    pass


@contextmanager
def open_zip(path: Path, limits: Limits) -> Iterator[SafeZip]:
    """The archive at ``path``; refused where its directory declares what it may not."""
    where = str(path)
    with opened(path) as file:
        refuse_standin(file.read(HEAD), where, DataIntegrityError)
        try:
            # Names make entries longer than the least, so that room is not yet number.
            limits.check_members(_entries_at_most(file) // ROOM_PER_ENTRY, where)
            archive = zipfile.ZipFile(file)
        except BROKEN as error:
            raise DataIntegrityError(f"{where} is not a sound zip file ({error})", file=where) from error
        with archive:
            yield SafeZip(archive, _checked(archive, limits, where), where)


def _entries_at_most(file: IO[bytes]) -> int:
    """How many entries the directory has room for."""
    size = file.seek(0, os.SEEK_END)
    start = max(0, size - END.size - MAX_COMMENT)
    file.seek(start)
    tail = file.read()
    at = tail.rfind(b"PK\5\6")
    if at < 0 or at + END.size > len(tail):
        raise zipfile.BadZipFile("no end of directory: not a zip file, or truncated")
    directory: int = END.unpack_from(tail, at)[5]
    file.seek(max(0, start + at - LOCATOR64.size))
    locator = file.read(LOCATOR64.size)
    if locator.startswith(b"PK\6\7") and len(locator) == LOCATOR64.size:
        file.seek(min(LOCATOR64.unpack(locator)[2], size))
        record = file.read(END64.size)
        if len(record) < END64.size or not record.startswith(b"PK\6\6"):
            raise zipfile.BadZipFile("the zip64 end of directory is not where its locator says")
        directory = END64.unpack(record)[8]
    if directory > size:
        raise zipfile.BadZipFile("the directory is larger than the file")
    return directory // MIN_ENTRY


def _checked(archive: zipfile.ZipFile, limits: Limits, where: str) -> list[zipfile.ZipInfo]:
    """The entries that are files."""
    entries = archive.infolist()
    limits.check_members(len(entries), where)
    seen: set[str] = set()
    for entry in entries:
        _check_entry(entry, limits, where)
        if entry.filename in seen:
            raise UnsafeFileError(f"{where}: {entry.filename!r} occurs twice", file=where)
        seen.add(entry.filename)
    packed = sum(entry.compress_size for entry in entries)
    limits.check_size(sum(entry.file_size for entry in entries), packed, where)
    end = archive.start_dir
    for entry in sorted(entries, key=lambda entry: entry.header_offset, reverse=True):
        if entry.header_offset < 0 or entry.header_offset + LOCAL_HEADER + entry.compress_size > end:
            raise UnsafeFileError(
                f"{where}: the member {entry.filename!r} at offset {entry.header_offset} overlaps the next",
                file=where, member=entry.filename, offset=entry.header_offset,
            )  # fmt: skip
        end = entry.header_offset
    return [entry for entry in entries if not entry.is_dir()]


def _check_entry(entry: zipfile.ZipInfo, limits: Limits, where: str) -> None:
    check_name(entry.orig_filename, where)
    at = f"{where}: the member {entry.filename!r}"
    if stat.S_IFMT(entry.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise UnsafeFileError(f"{at} is a link or a device", file=where, member=entry.filename)
    if entry.flag_bits & ENCRYPTED:
        raise DataIntegrityError(f"{at} is encrypted", file=where, member=entry.filename)
    if entry.compress_type not in METHODS:
        raise UnsafeFileError(
            f"{at} is packed by method {entry.compress_type}; stored and deflated members are read",
            file=where, member=entry.filename, found=entry.compress_type,
        )  # fmt: skip
    if entry.compress_type == zipfile.ZIP_STORED and entry.file_size != entry.compress_size:
        raise DataIntegrityError(
            f"{at} is stored in {entry.compress_size} bytes and declared as {entry.file_size}",
            file=where, member=entry.filename, found=entry.file_size,
        )  # fmt: skip
    limits.check_size(entry.file_size, entry.compress_size, at)
