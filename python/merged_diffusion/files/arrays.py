"""numpy's ``.npy`` and ``.npz``, read without numpy's loader: nothing is unpickled.

A header states type, order and shape; it is compared with the bytes that are there before memory is taken.
"""

from __future__ import annotations

import ast
import math
import re
from pathlib import Path
from typing import IO, Any, Final

import numpy as np
import numpy.typing as npt

from merged_diffusion.errors import DataError, DataIntegrityError, UnsafeFileError
from merged_diffusion.files.limits import Limits
from merged_diffusion.files.reading import opened
from merged_diffusion.files.zips import CHUNK, SafeZip

MAGIC: Final = b"\x93NUMPY"
MAX_HEADER: Final = 4096
MAX_BYTES: Final = 1 << 33  # of one array: 170,000 images of 3 x 128 x 128
NPZ: Final = Limits(members=16, total=MAX_BYTES)
LENGTH_BYTES: Final = {b"\1\0": 2, b"\2\0": 4, b"\3\0": 4}
PLAIN_TYPE: Final = re.compile(r"[<>|=]?(?:[biuf][1248]|f16|c8|c16|c32|[SU]\d{1,6}|\?)")

Array = npt.NDArray[np.generic]


def read_npy(path: Path) -> Array:
    """The array of a ``.npy`` file."""
    with opened(path) as stream:
        return read_array(stream, str(path), path.stat().st_size)


def read_columns(archive: SafeZip, wanted: tuple[str, ...], where: str) -> dict[str, Array]:
    """Arrays of an ``.npz`` whose names are among ``wanted``."""
    columns = {}
    for member in archive.names:
        name = member.removesuffix(".npy")
        if name in wanted:
            with archive.stream(member) as stream:
                columns[name] = read_array(stream, f"{where}: {name}", archive.size(member))
    return columns


def read_array(stream: IO[bytes], where: str, size: int) -> Array:
    """An array of ``size`` bytes, header included; object arrays are refused before reading."""
    if size > MAX_BYTES:
        raise UnsafeFileError(f"{where}: {size} bytes exceed the limit of {MAX_BYTES}", file=where)
    header, start = _header(stream, where)
    if header["shape"] == () and "O" in str(header["descr"]):
        raise UnsafeFileError(
            f"{where}: a Python object, a dict perhaps; it would have to be unpickled, which runs code",
            hint="where you trust it, numpy.savez('new.npz', **numpy.load(file, allow_pickle=True).item()) "
            "makes plain arrays of a dict: images of --data, mu and sigma of --ref",
            file=where,
        )
    dtype, shape = _plain_type(header["descr"], where), header["shape"]
    length = math.prod(shape) * dtype.itemsize
    if start + length > size:
        raise DataIntegrityError(
            f"{where}: truncated, {list(shape)} of {dtype} needs {length} bytes and {size - start} are there",
            file=where, expected=length, found=size - start,
        )  # fmt: skip
    if start + length < size:
        raise DataIntegrityError(
            f"{where}: {size - start - length} bytes follow the {list(shape)} of {dtype}",
            file=where, expected=length, found=size - start,
        )  # fmt: skip
    # Of no bytes, but of a length that no array can have.
    if not dtype.itemsize or math.prod(max(n, 1) for n in shape) * dtype.itemsize >= 1 << 63:
        raise DataIntegrityError(f"{where}: no array is {list(shape)} of {dtype}", file=where)
    content = np.empty(length, dtype=np.uint8)
    _fill(stream, content.data, where)
    return content.view(dtype).reshape(shape, order="F" if header["fortran_order"] else "C")


def _fill(stream: IO[bytes], target: memoryview, where: str) -> None:
    """``target``, byte for byte, from the stream, which ends there."""
    at = 0
    while at < len(target):
        piece = stream.read(min(CHUNK, len(target) - at))
        if not piece:
            raise DataIntegrityError(f"{where}: truncated after {at} of {len(target)} bytes", file=where)
        target[at : at + len(piece)] = piece
        at += len(piece)
    # A member of a zip compares its checksum when it meets its end.
    stream.read(1)


def _header(stream: IO[bytes], where: str) -> tuple[dict[str, Any], int]:
    """The header's three entries, and how many bytes lie before the values."""
    start = stream.read(len(MAGIC) + 2)
    n_length = LENGTH_BYTES.get(start[len(MAGIC) :])
    if not start.startswith(MAGIC) or n_length is None:
        raise DataIntegrityError(f"{where}: not an npy array", file=where)
    length = int.from_bytes(stream.read(n_length), "little")
    if length > MAX_HEADER:
        raise UnsafeFileError(f"{where}: a header of {length} bytes, the limit is {MAX_HEADER}", file=where)
    text = stream.read(length)
    header = _parsed(text) if len(text) == length else None
    if header is None:
        raise DataIntegrityError(f"{where}: not an npy array (its header says {text[:80]!r})", file=where)
    return header, len(start) + n_length + length


def _parsed(text: bytes) -> dict[str, object] | None:
    """The header, or None. A literal builds constants; it calls nothing."""
    # An escape could make the parser warn; types and shapes need none.
    if b"\\" in text or not text.isascii():
        return None
    try:
        header = ast.literal_eval(text.decode("ascii").strip())
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return None
    return header if _is_header(header) else None


def _is_header(header: Any) -> bool:
    return (
        isinstance(header, dict)
        and set(header) == {"descr", "fortran_order", "shape"}
        and isinstance(header["fortran_order"], bool)
        and isinstance(header["shape"], tuple)
        and len(header["shape"]) <= 8
        and all(type(n) is int and 0 <= n < 1 << 63 for n in header["shape"])
    )


def _plain_type(descr: Any, where: str) -> np.dtype[Any]:
    if "O" in str(descr):
        raise UnsafeFileError(
            f"{where}: an object array would have to be unpickled, which runs code",
            hint="save a plain uint8 array: numpy.stack(list_of_images)",
            file=where,
        )
    if not isinstance(descr, str) or not PLAIN_TYPE.fullmatch(descr):
        raise DataError(
            f"{where}: an array of {str(descr)[:80]}, where whole numbers are needed",
            hint="save a plain uint8 array",
            file=where, expected="uint8", found=str(descr)[:80],
        )  # fmt: skip
    return np.dtype(descr)
