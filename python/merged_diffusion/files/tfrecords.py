"""TFRecord shards of ``tf.train.Example``, as TensorFlow Datasets writes them.

A record is length (u64), masked CRC-32C of the length, content, masked CRC-32C of the content. An Example is
a protobuf message: features { key -> bytes list | float list | int64 list }. Only the two fields that images
need are taken out; everything else is skipped within its bounds.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import IO, Final

import numpy as np
import numpy.typing as npt

from merged_diffusion.errors import DataIntegrityError, UnsafeFileError
from merged_diffusion.files.reading import opened
from merged_diffusion.files.standins import HEAD, refuse_standin

MAX_RECORD: Final = 1 << 26
CASTAGNOLI: Final = 0x82F63B78  # reflected polynomial of CRC-32C (RFC 3720, appendix B.4)
MASK_DELTA: Final = 0xA282EAD8
BLOCK: Final = 2048
FIXED: Final = {1: 8, 5: 4}  # wire types of fixed length


def crc32c(content: bytes) -> int:
    """CRC-32C of ``content``.

    The register is linear over bits: after a block it is the sum (xor) over its bytes of what each, followed
    by its distance to the end in zeros, would leave; so a block is one look-up in a table [distance, byte].
    """
    table, register = _table(), 0xFFFFFFFF
    values = np.frombuffer(content, np.uint8)
    for start in range(0, len(values), BLOCK):
        block = values[start : start + BLOCK].copy()
        carried = min(4, len(block))
        block[:carried] ^= np.frombuffer(struct.pack("<I", register), np.uint8)[:carried]
        distances = np.arange(len(block) - 1, -1, -1)
        register = (register >> (8 * carried)) if carried < 4 else 0
        register ^= int(np.bitwise_xor.reduce(table[distances, block]))
    return register ^ 0xFFFFFFFF


def masked(crc: int) -> int:
    """TFRecord's rotation of a checksum, so that a checksum of data that holds checksums differs."""
    return ((crc >> 15 | crc << 17) + MASK_DELTA) & 0xFFFFFFFF


@cache
def _table() -> npt.NDArray[np.uint32]:
    """[distance, byte]: the register after the byte and ``distance`` zeros."""
    row = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        row = np.where(row & 1, (row >> 1) ^ np.uint32(CASTAGNOLI), row >> 1)
    table = np.empty((BLOCK, 256), np.uint32)
    table[0] = row
    for distance in range(1, BLOCK):
        before = table[distance - 1]
        table[distance] = (before >> 8) ^ row[before & 0xFF]
    return table


def read_records(path: Path) -> Iterator[tuple[int, bytes]]:
    """Offset and content of each record of a shard, checksums compared."""
    where = str(path)
    with opened(path) as stream:
        if start := stream.read(HEAD):
            refuse_standin(start, where, DataIntegrityError)
        stream.seek(0)
        while True:
            offset = stream.tell()
            head = stream.read(12)
            if not head:
                return
            yield offset, _record(stream, head, where, offset)


def _record(stream: IO[bytes], head: bytes, where: str, offset: int) -> bytes:
    if len(head) < 12:
        raise _broken(where, offset, "truncated in its length")
    length, checksum = struct.unpack("<QI", head)
    if masked(crc32c(head[:8])) != checksum:
        raise _broken(where, offset, "the checksum of its length does not fit")
    if length > MAX_RECORD:
        raise UnsafeFileError(
            f"{where}: the record at offset {offset} has {length} bytes, the limit is {MAX_RECORD}",
            file=where, offset=offset,
        )  # fmt: skip
    content = stream.read(length + 4)
    if len(content) < length + 4:
        raise _broken(where, offset, f"truncated: {max(0, len(content) - 4)} of {length} bytes")
    if masked(crc32c(content[:length])) != struct.unpack_from("<I", content, length)[0]:
        raise _broken(where, offset, "the checksum of its content does not fit")
    return content[:length]


@dataclass(frozen=True)
class Example:
    """The image of an Example as it is packed, and its label if there is one."""

    image: bytes
    label: int | None


def parse_example(content: bytes, where: str, offset: int) -> Example:
    """The features ``image`` (or ``image/encoded``) and ``label`` of a record."""
    image, label = None, None
    try:
        for features in _submessages(content, 1):
            for entry in _submessages(features, 1):
                key = b"".join(_submessages(entry, 1))
                for feature in _submessages(entry, 2):
                    if key in (b"image", b"image/encoded"):
                        image = [v for part in _submessages(feature, 1) for v in _submessages(part, 1)]
                    elif key == b"label":
                        label = [n for part in _submessages(feature, 3) for n in _integers(part)]
    except ValueError as error:
        raise _broken(where, offset, f"not a tf.train.Example ({error})") from error
    if image is None or len(image) != 1:
        raise _broken(where, offset, "its Example holds no single feature named image")
    if label is not None and len(label) != 1:
        raise _broken(where, offset, f"its Example holds {len(label)} labels")
    return Example(bytes(image[0]), None if label is None else label[0])


def _fields(message: bytes | memoryview) -> Iterator[tuple[int, int, int, memoryview]]:
    """(number, wire type, value of a varint, content) of each field of a message."""
    view, at = memoryview(message), 0
    while at < len(view):
        tag, at = _varint(view, at)
        number, wire, value, end = tag >> 3, tag & 7, 0, at
        if wire == 0:
            value, end = _varint(view, at)
        elif wire == 2:
            length, at = _varint(view, at)
            end = at + length
        elif wire in FIXED:
            end = at + FIXED[wire]
        else:
            raise ValueError(f"wire type {wire}")
        if end > len(view) or number == 0:
            raise ValueError(f"field {number} leaves its message")
        yield number, wire, value, view[at:end]
        at = end


def _submessages(message: bytes | memoryview, number: int) -> list[memoryview]:
    return [content for n, wire, _, content in _fields(message) if n == number and wire == 2]


def _integers(message: memoryview) -> list[int]:
    """An Int64List, packed or not."""
    numbers = []
    for number, wire, value, content in _fields(message):
        if number != 1:
            continue
        if wire == 0:
            numbers.append(value)
        at = 0
        while wire == 2 and at < len(content):
            value, at = _varint(content, at)
            numbers.append(value)
    return [n - (1 << 64) if n >> 63 else n for n in numbers]


def _varint(view: memoryview, at: int) -> tuple[int, int]:
    """A number of at most 64 bits and where it ends."""
    value = 0
    for i in range(10):
        if at + i >= len(view):
            raise ValueError("a number leaves its message")
        value |= (view[at + i] & 0x7F) << (7 * i)
        if view[at + i] < 0x80:
            if value >> 64:
                raise ValueError("a number of more than 64 bits")
            return value, at + i + 1
    raise ValueError("a number of more than 10 bytes")


def _broken(where: str, offset: int, why: str) -> DataIntegrityError:
    return DataIntegrityError(f"{where}: the record at offset {offset}: {why}", file=where, offset=offset)
