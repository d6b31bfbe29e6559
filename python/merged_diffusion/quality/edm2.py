"""EDM2's statistics, ``{"fid": {"mu": array, "sigma": array}, ...}`` in a pickle, read as data.

numpy pickles an array as shape, type and bytes; the interpreter makes a record of them, from which
the array follows. Every other name is refused.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from merged_diffusion import inert
from merged_diffusion.errors import DataError, UnsafeFileError
from merged_diffusion.reading import read_bytes

MAX_BYTES: Final = 1 << 30
ITEM: Final[Mapping[str, np.dtype[np.floating]]] = {"f8": np.dtype("<f8"), "f4": np.dtype("<f4")}

Array = npt.NDArray[np.generic]


def _refused(name: str) -> inert.Builder:
    def build(*_: object) -> object:
        raise TypeError(f"{name} is called")

    return build


def _record(kind: str) -> inert.Builder:
    def build(*arguments: Any) -> inert.Record:
        return inert.Record(kind, arguments)

    return build


GLOBALS: Final[dict[inert.Global, inert.Builder]] = {
    **{(f"numpy.{core}.multiarray", "_reconstruct"): _record("array") for core in ("core", "_core")},
    ("numpy", "ndarray"): _refused("numpy.ndarray"),
    ("numpy", "dtype"): _record("dtype"),
}


def read_pickle(path: Path) -> dict[str, Array]:
    """``mu`` and ``sigma`` of the Inception features in a pickle."""
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise UnsafeFileError(f"{path}: {size} bytes exceed the limit of {MAX_BYTES}", file=str(path))
    names = GLOBALS | {("_codecs", "encode"): inert.latin1(size)}
    content = memoryview(read_bytes(path))
    value = inert.read(content, names, str(path), max_text=2 * size).value  # a byte is two of UTF-8 at most
    table = value.get("fid", value) if isinstance(value, dict) else None
    if not isinstance(table, dict):
        raise DataError(f"{path}: a pickle that holds no statistics called fid", file=str(path))
    found = {key: _array(table[key], str(path)) for key in ("mu", "sigma") if key in table}
    return {key: array for key, array in found.items() if array is not None}


def _array(record: Any, where: str) -> Array | None:
    """The array that a record of numpy's describes; None for anything else."""
    if not isinstance(record, inert.Record) or record.kind != "array":
        return None
    if type(record.state) is not tuple or len(record.state) != 5:
        return None
    _, shape, kind, is_fortran, content = record.state
    dtype = _dtype(kind)
    is_plain = type(shape) is tuple and all(type(n) is int and n >= 0 for n in shape)
    if dtype is None or not is_plain or not isinstance(content, bytes | memoryview):
        return None
    if math.prod(shape) * dtype.itemsize != len(content):
        raise DataError(f"{where}: an array of {list(shape)[:8]} in {len(content)} bytes", file=where)
    flat: npt.NDArray[np.floating] = np.frombuffer(content, dtype=dtype)
    return flat.reshape(shape, order="F" if is_fortran is True else "C")


def _dtype(record: Any) -> np.dtype[np.floating] | None:
    """The type of numbers that a record of numpy's describes; None for any but little-endian floats."""
    if not isinstance(record, inert.Record) or record.kind != "dtype" or not record.arguments:
        return None
    is_little = type(record.state) is tuple and record.state[1:2] == ("<",)
    return ITEM.get(str(record.arguments[0])) if is_little else None
