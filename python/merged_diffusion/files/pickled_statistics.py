"""EDM2's statistics, ``{"fid": {"mu": array, "sigma": array}, ...}`` in a pickle, read as data.

numpy pickles an array as shape, type and bytes: up to protocol 4 as the state of an empty array, in protocol
5 as the arguments of a call. The interpreter makes a record of them, from which the array follows. Every
other name is refused.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from merged_diffusion.errors import DataError, UnsafeFileError
from merged_diffusion.files import inert, pickles
from merged_diffusion.files.reading import read_bytes

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


def _filled(content: Any, kind: Any, shape: Any, order: Any) -> inert.Record:
    """What ``numpy._core.numeric._frombuffer`` stands for."""
    return inert.Record("array", state=(1, shape, kind, order, content))


CORES: Final = ("numpy.core", "numpy._core")  # numpy renamed its core in version 2
GLOBALS: Final[dict[inert.Global, inert.Builder]] = {
    **{(f"{core}.multiarray", "_reconstruct"): _record("array") for core in CORES},
    **{(f"{core}.numeric", "_frombuffer"): _filled for core in CORES},
    ("numpy", "ndarray"): _refused("numpy.ndarray"),
    ("numpy", "dtype"): _record("dtype"),
}


def read_pickle(path: Path) -> tuple[dict[str, Array], list[str]]:
    """``mu`` and ``sigma`` of the Inception features in a pickle, and the names of all that lies there."""
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise UnsafeFileError(f"{path}: {size} bytes exceed the limit of {MAX_BYTES}", file=str(path))
    allowed = GLOBALS | {("_codecs", "encode"): inert.latin1(size)}
    content = memoryview(read_bytes(path))
    value = pickles.read(
        content, allowed, str(path), max_text=2 * size
    ).value  # a byte is two of UTF-8 at most
    table = value.get("fid", value) if isinstance(value, dict) else None
    if not isinstance(table, dict):
        raise DataError(f"{path}: a pickle that holds no statistics called fid", file=str(path))
    found = {key: _array(table[key], str(path)) for key in ("mu", "sigma") if key in table}
    names = [key for key in table if isinstance(key, str)]
    return {key: array for key, array in found.items() if array is not None}, names


def _array(record: Any, where: str) -> Array | None:
    """The array that a record of numpy's describes; None for anything else."""
    if not isinstance(record, inert.Record) or record.kind != "array":
        return None
    if type(record.state) is not tuple or len(record.state) != 5:
        return None
    _, shape, kind, order, content = record.state
    dtype = _dtype(kind)
    is_plain = type(shape) is tuple and all(type(n) is int and n >= 0 for n in shape)
    if dtype is None or not is_plain or not isinstance(content, bytes | memoryview):
        return None
    if math.prod(shape) * dtype.itemsize != len(content):
        raise DataError(f"{where}: an array of {list(shape)[:8]} in {len(content)} bytes", file=where)
    flat: npt.NDArray[np.floating] = np.frombuffer(content, dtype=dtype)
    return flat.reshape(shape, order="F" if order in (True, "F") else "C")


def _dtype(record: Any) -> np.dtype[np.floating] | None:
    """The type of numbers that a record of numpy's describes; None for any but little-endian floats."""
    if not isinstance(record, inert.Record) or record.kind != "dtype" or not record.arguments:
        return None
    is_little = type(record.state) is tuple and record.state[1:2] == ("<",)
    return ITEM.get(str(record.arguments[0])) if is_little else None
