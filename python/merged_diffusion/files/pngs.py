"""PNG files: checked as containers, then decoded by Pillow (8 bits) or here (16 bits).

Pillow neither compares the checksum of the pixel data, nor keeps the lower byte of 16-bit colours, nor the
transparent colour of a file without an alpha channel; so the chunks are walked first, and what would lose
something is refused. Gamma, profiles and text are left alone: a pixel's value is the number in the file.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, cast

import numpy as np
import numpy.typing as npt
from PIL import Image

from merged_diffusion.errors import DataError, DataIntegrityError, UnsafeFileError, UsageError
from merged_diffusion.files.standins import HEAD, refuse_standin

SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
MAX_FILE: Final = 1 << 27
MAX_PIXELS: Final = 1 << 24
CHANNELS: Final = {0: 1, 2: 3}  # grey, RGB
COLOURS: Final = {3: "a palette", 4: "grey with alpha", 6: "RGB with alpha"}
LEVELS: Final = {8: 256, 16: 65536}
# First column and row of a pass, and its distances between columns and rows.
ADAM7: Final = (
    (0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)
)  # fmt: skip
FILTERS: Final = ("none", "left", "up", "mean", "Paeth")
Pixels = npt.NDArray[np.uint8] | npt.NDArray[np.uint16]


@dataclass(frozen=True)
class Header:
    """What the first chunk states."""

    width: int
    height: int
    bits: int
    channels: int
    is_interlaced: bool

    @property
    def shape(self) -> tuple[int, int, int]:
        """[C, H, W]."""
        return self.channels, self.height, self.width


def check_png(content: bytes, where: str, levels: int | None) -> Header:
    """The header of a sound PNG of as many grey levels as are wanted (default 256)."""
    chunks = _chunks(content, where)
    if not chunks or chunks[0][0] != b"IHDR" or len(chunks[0][1]) != 13:
        raise _broken(where, "it does not begin with IHDR")
    kinds = [kind for kind, _ in chunks]
    if kinds[-1] != b"IEND" or b"IDAT" not in kinds or kinds.count(b"IHDR") > 1:
        raise _broken(where, "truncated, or without pixels")
    width, height, bits, colour, packing, filters, interlace = struct.unpack(">2I5B", chunks[0][1])
    if packing or filters or interlace > 1:
        raise _broken(where, "its header names an unknown packing")
    if not 0 < width * height <= MAX_PIXELS:
        raise UnsafeFileError(
            f"{where}: {width} x {height} pixels, the limit is {MAX_PIXELS} in all", file=where
        )
    lossy = COLOURS.get(colour) or next(
        (what for kind, what in ((b"tRNS", "a transparent colour"), (b"acTL", "an animation"))
         if kind in kinds),
        None,
    )  # fmt: skip
    if lossy or colour not in CHANNELS or bits not in LEVELS:
        raise DataError(
            f"{where}: a PNG with {lossy or f'{bits} bits of colour type {colour}'}, expected grey or RGB "
            "with 8 bits (or 16)",
            hint="convert it first: alpha, palettes and frames are never dropped silently",
            file=where, expected="grey or RGB", found=lossy or f"{bits} bits",
        )  # fmt: skip
    _check_levels(bits, levels, where)
    return Header(width, height, bits, CHANNELS[colour], bool(interlace))


def decode_png(content: bytes, header: Header, where: str) -> Pixels:
    """Pixels [C, H, W] of a PNG that `check_png` has passed: uint8, or uint16 for 16 bits."""
    if header.bits == 16:
        return _decode_deep(content, header, where)
    if not header.is_interlaced:
        (alone,) = decode_rows([filtered_rows(content, header, where)], header)
        return cast("npt.NDArray[np.uint8]", alone)
    packed = _packed(content, where)
    # Pillow takes missing rows for black ones.
    _inflated(packed, header, where)
    try:
        rows = _by_pillow(packed, header.width, header.height, header)
    except (OSError, SyntaxError, ValueError) as error:
        raise _broken(where, str(error)) from error
    return rows.transpose(2, 0, 1)


def filtered_rows(content: bytes, header: Header, where: str) -> bytes:
    """Rows of a PNG of 8 bits that `check_png` has passed, as its filters left them."""
    rows = _inflated(_packed(content, where), header, where)
    worst = max(rows[:: 1 + header.width * header.channels])
    if worst >= len(FILTERS):
        raise _broken(where, f"a row of filter {worst}")
    return rows


def decode_rows(files: Sequence[bytes], header: Header) -> npt.NDArray[np.uint8]:
    """Pixels [N, C, H, W] of N files of one shape, from their `filtered_rows`.

    All are one tall picture to Pillow, whose call costs more than a small image. A filter looks one row up,
    and above the first row of a file are zeros: so a row of zeros stands between.
    """
    zeros = bytes(1 + header.width * header.channels)
    packed = zlib.compress(zeros.join(files), 0)
    step = header.height + 1
    tall = _by_pillow(packed, header.width, step * len(files) - 1, header)
    found = np.empty((len(files), *header.shape), np.uint8)
    for number, image in enumerate(found):
        image[:] = tall[number * step : number * step + header.height].transpose(2, 0, 1)
    return found


def _by_pillow(packed: bytes, width: int, height: int, header: Header) -> npt.NDArray[np.uint8]:
    """Pixels [H, W, C]; its decoder of the rows alone: text, profiles and the like are not looked at."""
    mode = {1: "L", 3: "RGB"}[header.channels]
    image = Image.frombytes(mode, (width, height), packed, "zip", mode, int(header.is_interlaced))
    return np.asarray(image, dtype=np.uint8).reshape(height, width, header.channels)


def _check_levels(bits: int, levels: int | None, where: str) -> None:
    if bits == 16 and levels != LEVELS[16]:
        raise DataError(
            f"{where}: a PNG of 16 bits has 65536 levels, not {levels or LEVELS[8]}",
            hint="state --levels 65536, or convert it: the lower byte is never dropped silently",
            file=where, expected=levels or LEVELS[8], found=LEVELS[16],
        )  # fmt: skip
    if bits == 8 and levels is not None and levels > LEVELS[8]:
        raise UsageError(f"levels = {levels}, but {where} is a PNG of 8 bits", hint="leave --levels out")


def _chunks(content: bytes, where: str, *, compares: bool = True) -> list[tuple[bytes, memoryview]]:
    """Kind and content of each chunk; ``compares`` its checksum."""
    if not content.startswith(SIGNATURE):
        refuse_standin(content[:HEAD], where, DataIntegrityError)
        raise _broken(where, "another signature")
    view, at, chunks = memoryview(content), len(SIGNATURE), []
    while at < len(view):
        if at + 12 > len(view):
            raise _broken(where, f"truncated at offset {at}")
        (length,) = struct.unpack_from(">I", view, at)
        kind, end = bytes(view[at + 4 : at + 8]), at + 8 + length
        if end + 4 > len(view):
            raise _broken(where, f"truncated in the chunk {kind!r} at offset {at}")
        if compares and zlib.crc32(view[at + 4 : end]) != struct.unpack_from(">I", view, end)[0]:
            raise _broken(where, f"the checksum of the chunk {kind!r} at offset {at} does not fit")
        chunks.append((kind, view[at + 8 : end]))
        at = end + 4
    return chunks


def _packed(content: bytes, where: str) -> bytes:
    """What is packed of the rows of a file whose checksums were compared."""
    chunks = _chunks(content, where, compares=False)
    return b"".join(part for kind, part in chunks if kind == b"IDAT")


def _inflated(packed: bytes, header: Header, where: str) -> bytes:
    """The filtered rows, as many bytes as the header asks for."""
    expected = sum(
        rows * (1 + columns * header.channels * header.bits // 8)
        for columns, rows in _passes(header)
        if columns
    )
    inflater = zlib.decompressobj()
    try:
        raw = inflater.decompress(packed, expected + 1)
    except zlib.error as error:
        raise _broken(where, str(error)) from error
    if len(raw) != expected or not inflater.eof:
        raise _broken(where, f"{len(raw)} bytes of pixels instead of {expected}")
    return raw


def _passes(header: Header) -> list[tuple[int, int]]:
    """Columns and rows of each pass; seven where interlaced (PNG specification, section 8.2)."""
    grid = ADAM7 if header.is_interlaced else ((0, 0, 1, 1),)
    return [(-((x - header.width) // dx), -((y - header.height) // dy)) for x, y, dx, dy in grid]


def _decode_deep(content: bytes, header: Header, where: str) -> Pixels:
    """Pixels uint16 [C, H, W]: inflate, then undo the filter of each row (PNG specification, section 9)."""
    if header.is_interlaced:
        raise DataError(f"{where}: interlaced PNGs of 16 bits are not read", hint="save it without interlace")
    step = 2 * header.channels
    stride = 1 + step * header.width
    raw = _inflated(_packed(content, where), header, where)
    rows = np.frombuffer(raw, np.uint8).reshape(header.height, stride)
    above, lines = bytes(stride - 1), []
    for row in rows:
        above = _unfiltered(int(row[0]), row[1:].tobytes(), above, step, where)
        lines.append(above)
    pixels = np.frombuffer(b"".join(lines), ">u2").reshape(header.height, header.width, header.channels)
    return pixels.astype(np.uint16).transpose(2, 0, 1)


def _unfiltered(kind: int, row: bytes, above: bytes, step: int, where: str) -> bytes:
    """A row of bytes from its differences to the left (a), above (b) and above left (c)."""
    if kind >= len(FILTERS):
        raise _broken(where, f"a row of filter {kind}")
    if kind in (0, 2):
        difference = np.frombuffer(row, np.uint8)
        return (difference + np.frombuffer(above, np.uint8) * (kind == 2)).astype(np.uint8).tobytes()
    done = bytearray(len(row))
    for i, value in enumerate(row):
        a, c = (done[i - step], above[i - step]) if i >= step else (0, 0)
        guess = a if kind == 1 else (a + above[i]) // 2 if kind == 3 else _paeth(a, above[i], c)
        done[i] = (value + guess) & 0xFF
    return bytes(done)


def _paeth(a: int, b: int, c: int) -> int:
    p = a + b - c
    return min((abs(p - a), 0, a), (abs(p - b), 1, b), (abs(p - c), 2, c))[2]


def _broken(where: str, why: str) -> DataIntegrityError:
    return DataIntegrityError(f"{where} is not a sound PNG file ({why})", file=where)
