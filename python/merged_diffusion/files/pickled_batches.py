"""Batches of 32x32 images as the python release of CIFAR-10 keeps them: pickled, and never unpickled here.

A pickle is a program. `merged_diffusion.files.pickles` walks it; five names of numpy and ``_codecs`` stand
for records.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from merged_diffusion.errors import CheckpointError, DataIntegrityError
from merged_diffusion.files import inert, pickles

ROW: Final = 3 * 32 * 32
NUMPY: Final = ("numpy.core.", "numpy._core.")  # numpy renamed its core in version 2
BYTES: Final = ("u1", "|u1")  # a byte, in the words of numpy's dtype


@dataclass(frozen=True)
class Batch:
    """Images as rows, ``pixels`` uint8 [N, 3072] (planes R, G, B), with ``labels`` [N]."""

    pixels: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.integer[Any]]


def read_pickled_batch(content: bytes, where: str) -> Batch:
    """``data`` and ``labels`` of a pickled batch."""
    names = _names(len(content))
    try:
        batch = pickles.read(memoryview(content), names, where, max_text=2 * len(content)).value
    except CheckpointError as error:  # the words of whoever walks a pickle
        raise DataIntegrityError(
            f"{where} is not a sound batch: {error.message}", hint=error.hint, **error.fields
        ) from error
    named = {_text(key): value for key, value in batch.items()} if isinstance(batch, dict) else {}
    pixels, labels = _pixels(named.get("data")), named.get("labels")
    if pixels is None or not isinstance(labels, list) or len(labels) != len(pixels) or not labels:
        raise DataIntegrityError(
            f"{where}: a batch holds data, uint8 [N, {ROW}], and a list of N labels; this one does not",
            file=where,
        )
    if not all(type(label) is int and 0 <= label < 1 << 31 for label in labels):
        raise DataIntegrityError(f"{where}: the labels of the batch are not whole numbers", file=where)
    return Batch(pixels, np.array(labels))


def _names(size: int) -> dict[inert.Global, inert.Builder]:
    """What the globals of a batch stand for; of a file of ``size`` bytes."""

    def array(*_: object) -> inert.Record:
        return inert.Record("array")

    def filled(content: object, dtype: object, shape: object, order: object) -> inert.Record:
        return inert.Record("array", state=(1, shape, dtype, order, content))

    def dtype(*arguments: object) -> inert.Record:
        return inert.Record("dtype", arguments)

    return {
        ("numpy", "ndarray"): array,
        ("numpy", "dtype"): dtype,
        ("_codecs", "encode"): inert.latin1(size),
        **{(f"{core}multiarray", "_reconstruct"): array for core in NUMPY},
        **{(f"{core}numeric", "_frombuffer"): filled for core in NUMPY},
    }


def _is_bytes(dtype: inert.Record) -> bool:
    name = dtype.arguments[0] if dtype.arguments else None
    return isinstance(name, str) and name in BYTES


def _text(key: object) -> object:
    return key.decode("latin-1") if isinstance(key, bytes) else key


def _pixels(array: object) -> npt.NDArray[np.uint8] | None:
    """The rows of an array record of uint8 [N, 3072], None if it is another."""
    state = array.state if isinstance(array, inert.Record) and array.kind == "array" else None
    if type(state) is not tuple or len(state) != 5:
        return None
    _, shape, dtype, order, content = state
    if not isinstance(dtype, inert.Record) or dtype.kind != "dtype" or not _is_bytes(dtype):
        return None
    if type(shape) is not tuple or len(shape) != 2 or not all(type(n) is int and n >= 0 for n in shape):
        return None
    if isinstance(content, str) and all(ord(c) < 256 for c in set(content)):
        content = content.encode("latin-1")
    if not isinstance(content, bytes | memoryview) or shape[1] != ROW or len(content) != math.prod(shape):
        return None
    rows: npt.NDArray[np.uint8] = np.frombuffer(content, np.uint8)
    return rows.reshape(shape, order="F" if order in (True, "F") else "C")
