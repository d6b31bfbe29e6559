"""A tar archive, plain or gzipped, read once from front to back.

Written out here because ``tarfile`` reads extended headers of any declared size into memory and scans gzip
file names byte by byte. Regular files and directories are read; links, devices and sparse files are refused.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Final

from merged_diffusion.errors import DataIntegrityError, UnsafeFileError
from merged_diffusion.files.limits import Limits, check_name

BLOCK: Final = 512
CHUNK: Final = 1 << 18
MAX_EXTENDED: Final = 1 << 16  # of a pax or long-name header
MAX_GZIP_MEMBERS: Final = 16
GZIP: Final = b"\x1f\x8b"
REGULAR: Final = b"0\07"
DIRECTORY: Final = b"5"
LONG_NAME, PAX, PAX_GLOBAL = b"L", b"x", b"g"
KINDS: Final = {b"1": "a hard link", b"2": "a symbolic link", b"3": "a device", b"4": "a device",
                b"6": "a pipe", b"S": "a sparse file", b"K": "a link with a long name"}  # fmt: skip


class Source:
    """The bytes of a plain or gzipped file, counted, bounded, and hashed as they lie on the disk."""

    def __init__(self, file: IO[bytes], limits: Limits, where: str) -> None:
        self.offset = 0  # in the inflated stream
        self._file, self._limits, self._where = file, limits, where
        self._digest = hashlib.sha256()
        self._taken = 0
        self._pending = bytearray()
        head = self._take()
        self._inflater = zlib.decompressobj(wbits=31) if head.startswith(GZIP) else None
        self._gzip_members = 1
        self._packed = head

    @property
    def sha256(self) -> str:
        """The hash of the file, once `drain` has been called."""
        return self._digest.hexdigest()

    def read(self, count: int) -> bytes:
        """``count`` bytes, fewer only at the end."""
        while len(self._pending) < count:
            more = self._more()
            if not more:
                break
            self._pending += more
            self._limits.check_size(self.offset + len(self._pending), self._taken, self._where)
        content = bytes(self._pending[:count])
        del self._pending[:count]
        self.offset += len(content)
        return content

    def drain(self) -> None:
        """Read to the end, where gzip keeps its checksum."""
        while self.read(CHUNK):
            pass

    def _take(self) -> bytes:
        content = self._file.read(CHUNK)
        self._digest.update(content)
        self._taken += len(content)
        return content

    def _more(self) -> bytes:
        """Some bytes of the stream; none at its end."""
        if self._inflater is None:
            content, self._packed = self._packed, b""
            return content or self._take()
        while True:
            if not self._packed:
                self._packed = self._take()
            if self._inflater.eof:
                if not self._packed.strip(b"\0"):
                    if not self._packed:
                        return b""
                    self._packed = b""
                    continue
                self._gzip_members += 1
                if self._gzip_members > MAX_GZIP_MEMBERS or not self._packed.startswith(GZIP):
                    raise self._broken("something follows the end of the gzip stream")
                self._inflater = zlib.decompressobj(wbits=31)
            elif not self._packed:
                raise self._broken("truncated")
            try:
                content = self._inflater.decompress(self._packed, CHUNK)
            except zlib.error as error:
                raise self._broken(str(error)) from error
            self._packed = self._inflater.unused_data or self._inflater.unconsumed_tail
            if content:
                return content

    def _broken(self, why: str) -> DataIntegrityError:
        offset = self.offset + len(self._pending)
        return DataIntegrityError(
            f"{self._where}: the gzip stream is damaged near offset {offset} ({why})",
            file=self._where,
            offset=offset,
        )


@dataclass(frozen=True)
class TarFile:
    """A regular file of the archive."""

    name: str
    offset: int  # of its header
    content: bytes


def tar_files(source: Source, limits: Limits, where: str) -> Iterator[TarFile]:
    """The regular files in their order; the whole archive has been read when this ends."""
    members, long_name = 0, None
    while True:
        offset = source.offset
        header = source.read(BLOCK)
        if len(header) == BLOCK and not any(header):
            source.drain()
            return
        if len(header) < BLOCK:
            raise _broken(where, offset, None, "truncated: the archive ends without its end mark")
        kind, name, size = _parse(header, where, offset)
        members += 1
        limits.check_members(members, where)
        name = long_name or name
        if kind in (LONG_NAME, PAX, PAX_GLOBAL):
            if size > MAX_EXTENDED:
                raise UnsafeFileError(
                    f"{where}: an extended header of {size} bytes at offset {offset}, the limit is "
                    f"{MAX_EXTENDED}",
                    file=where, offset=offset, found=size,
                )  # fmt: skip
            content = _content(source, size, where, offset, name)
            given = _pax_path(content, where, offset) if kind == PAX else None
            long_name = _text(content.rstrip(b"\0")) if kind == LONG_NAME else given or long_name
            continue
        check_name(name, where)
        long_name = None
        if kind in REGULAR:
            yield TarFile(name, offset, _content(source, size, where, offset, name))
        elif kind != DIRECTORY or size:
            raise UnsafeFileError(
                f"{where}: the member {name!r} at offset {offset} is {KINDS.get(kind, f'of type {kind!r}')}",
                hint="only files and directories are read",
                file=where, member=name, offset=offset,
            )  # fmt: skip


def _content(source: Source, size: int, where: str, offset: int, name: str) -> bytes:
    """The bytes of a member and the padding behind them."""
    content = source.read(size)
    padding = source.read(-size % BLOCK)
    if len(content) < size or len(padding) < -size % BLOCK:
        raise _broken(where, offset, name, f"truncated: {len(content)} of {size} bytes")
    return content


def _parse(header: bytes, where: str, offset: int) -> tuple[bytes, str, int]:
    """Type, name and size of a header whose checksum fits."""
    name = _text(header[:100].split(b"\0")[0])
    total = sum(header) - sum(header[148:156]) + 8 * ord(" ")
    if _octal(header[148:156]) != total:
        raise _broken(where, offset, name, "the checksum of its header does not fit")
    if header[257:263] == b"ustar\0" and header[345]:
        prefix = header[345:500].split(b"\0")[0]
        name = f"{_text(prefix)}/{name}"
    size = _octal(header[124:136])
    if size is None:
        raise _broken(where, offset, name, "its size is not an octal number")
    return header[156:157], name, size


def _octal(field: bytes) -> int | None:
    """A number, or None; numbers beyond 8 GiB, written in binary, are none that we read."""
    digits = field.strip(b" \0")
    return int(digits, 8) if digits and not digits.strip(b"01234567") else None


def _pax_path(content: bytes, where: str, offset: int) -> str | None:
    """The path that ``length key=value`` records give; `DataIntegrityError` where they override a size."""
    path = None
    while content:
        length, _, _ = content.partition(b" ")
        if not (length.isdigit() and len(length) < 8 and len(length) + 2 < int(length) <= len(content)):
            raise _broken(where, offset, None, "a pax record without a sound length")
        key, _, value = content[len(length) + 1 : int(length)].removesuffix(b"\n").partition(b"=")
        if key == b"path":
            path = _text(value)
        elif key == b"size" or key.startswith(b"GNU.sparse"):
            raise _broken(where, offset, None, f"a pax record gives {_text(key)}, which is not read")
        content = content[int(length) :]
    return path


def _text(name: bytes) -> str:
    return name.decode("utf-8", errors="replace")


def _broken(where: str, offset: int, name: str | None, why: str) -> DataIntegrityError:
    member = "the header" if name is None else f"the member {name!r}"
    return DataIntegrityError(
        f"{where}: {member} at offset {offset}: {why}", file=where, member=name, offset=offset
    )
