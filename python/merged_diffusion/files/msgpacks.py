"""msgpack as flax writes it: nested dicts and lists of numbers, texts and arrays."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO, Final

import msgpack
import torch
from torch import Tensor

from merged_diffusion.errors import CheckpointError, UnsafeFileError
from merged_diffusion.files.inert import shown

MAX_ENTRIES: Final = 100_000
MAX_TEXT: Final = 4096
MAX_AXES: Final = 8
READ_SIZE: Final = 1 << 20  # bytes
ARRAY, COMPLEX, SCALAR = 1, 2, 3
DTYPES: Final[Mapping[str, torch.dtype]] = {
    "float32": torch.float32,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
    "float64": torch.float64,
    "int32": torch.int32,
    "int64": torch.int64,
    "uint32": torch.int32,
    "uint8": torch.uint8,
    "bool": torch.bool,
}


@dataclass(frozen=True, eq=False)
class Array:
    """An array whose bytes are those of the file."""

    shape: tuple[int, ...]
    dtype: torch.dtype
    content: bytes

    def tensor(self) -> Tensor:
        """A copy."""
        return torch.frombuffer(bytearray(self.content), dtype=self.dtype).reshape(self.shape)


def entry(stream: BinaryIO, name: str, where: str) -> tuple[list[str], Any]:
    """The keys of the map that a file holds, and the value of the key ``name``; arrays as `Array`.

    What other keys hold is passed over as it is read: a checkpoint of flax is four times its weights.
    """
    size = os.fstat(stream.fileno()).st_size
    left = MAX_ENTRIES

    def spend(count: int) -> None:
        nonlocal left
        left -= count
        if left < 0:
            raise UnsafeFileError(f"more than {MAX_ENTRIES} entries of maps and lists")

    def listed(items: list[Any]) -> list[Any]:
        spend(len(items) + 1)
        return items

    def mapped(pairs: list[tuple[Any, Any]]) -> dict[Any, Any]:
        spend(len(pairs) + 1)
        found = dict(pairs)
        if len(found) < len(pairs):
            raise ValueError("a key that occurs twice in a map")
        return found

    reader = msgpack.Unpacker(
        stream,
        read_size=READ_SIZE,
        max_buffer_size=max(size, READ_SIZE),
        ext_hook=_extension,
        list_hook=listed,
        object_pairs_hook=mapped,
        strict_map_key=True,
        max_str_len=MAX_TEXT,
        max_bin_len=size,
        max_ext_len=size,
        max_array_len=MAX_ENTRIES,
        max_map_len=MAX_ENTRIES,
    )
    keys: list[str] = []
    value = None
    try:
        spend(reader.read_map_header())
        for _ in range(MAX_ENTRIES - left):
            keys.append(_key(reader.unpack()))
            if keys[-1] == name:
                value = reader.unpack()
            else:
                reader.skip()
        if len(set(keys)) < len(keys):
            raise ValueError("a key that occurs twice in a map")
        if reader.tell() < size:
            raise ValueError("more bytes than its map has")
    except UnsafeFileError as error:
        raise UnsafeFileError(f"{where}: {error.message}", file=where) from error
    except (ValueError, TypeError, RecursionError, msgpack.UnpackException, OverflowError) as error:
        raise CheckpointError(
            f"{where}: not a sound msgpack file ({type(error).__name__}: {str(error)[:100]})",
            hint="the file is truncated or damaged; fetch it again",
            file=where,
        ) from error
    return keys, value


def _key(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(f"a key that is no text, {shown(value)}")
    return value


def _extension(code: int, content: bytes) -> Any:
    if code == COMPLEX:
        return None  # a complex number: no network of ours has one
    if code not in (ARRAY, SCALAR):
        raise UnsafeFileError(f"an extension of code {code} has no place in a checkpoint of flax")
    shape, dtype, buffer = msgpack.unpackb(
        content,
        max_array_len=MAX_AXES,
        max_str_len=32,
        max_bin_len=len(content),
        max_map_len=0,
        max_ext_len=0,
    )
    known = DTYPES.get(dtype) if isinstance(dtype, str) else None
    sizes = isinstance(shape, list) and all(type(n) is int and 0 <= n < 1 << 40 for n in shape)
    if known is None or not sizes or not isinstance(buffer, bytes):
        raise ValueError(f"an array of type {shown(dtype)}")
    if math.prod(shape) * known.itemsize != len(buffer):
        raise ValueError(f"an array of shape {shape} in {len(buffer)} bytes")
    return Array(tuple(shape), known, buffer)
