"""Tensors as torch's pickles describe them: storages of numbers, and views of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import torch
from torch import Tensor

from merged_diffusion import inert
from merged_diffusion.errors import CheckpointError, UnsafeFileError

STORAGES: Final[Mapping[str, torch.dtype]] = {
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "DoubleStorage": torch.float64,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}
MAX_AXES: Final = 8
MAGIC: Final = 0x1950A86A20F9469CFC6C
LEGACY_VERSION: Final = 1001


@dataclass(eq=False)
class Storage:
    """``numel`` numbers whose bytes are fetched when a tensor is made of them."""

    dtype: torch.dtype
    numel: int
    fetch: Callable[[], memoryview]
    _flat: Tensor | None = field(default=None, init=False)

    def flat(self) -> Tensor:
        """The numbers, [numel]; the bytes are copied once."""
        if self._flat is None:
            content = self.fetch()
            if len(content) != self.numel * self.dtype.itemsize:
                raise CheckpointError(
                    f"a storage of {len(content)} bytes, declared as {self.numel} of {self.dtype}"
                )
            self._flat = torch.frombuffer(bytearray(content), dtype=self.dtype) if content else torch.empty(0)
        return self._flat


@dataclass(frozen=True, eq=False)
class View:
    """A tensor that has not been made."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    @property
    def numel(self) -> int:
        """How many numbers it has."""
        return math.prod(self.shape)

    def tensor(self) -> Tensor:
        """The tensor, in C order."""
        return self.storage.flat().as_strided(self.shape, self.strides, self.offset).contiguous()


def rebuild_tensor(
    storage: Any,
    offset: Any,
    shape: Any,
    strides: Any,
    requires_grad: Any = False,
    hooks: Any = None,
    *rest: Any,
) -> View:
    """What ``torch._utils._rebuild_tensor_v2`` stands for."""
    del requires_grad, hooks, rest
    if not isinstance(storage, Storage) or type(shape) is not tuple or type(strides) is not tuple:
        raise TypeError("a tensor without storage, shape or strides")
    numbers = (offset, *shape, *strides)
    if (
        any(type(n) is not int or n < 0 for n in numbers)
        or len(shape) != len(strides)
        or len(shape) > MAX_AXES
    ):
        raise ValueError("a tensor whose offset, shape and strides are no numbers that fit")
    last = offset + sum((n - 1) * stride for n, stride in zip(shape, strides, strict=True))
    if math.prod(shape) > storage.numel or (math.prod(shape) and last >= storage.numel):
        raise ValueError(f"a tensor of shape {list(shape)} outside of its storage of {storage.numel} numbers")
    return View(storage, offset, shape, strides)


def rebuild_parameter(data: Any, requires_grad: Any = True, hooks: Any = None) -> Any:
    """What ``torch._utils._rebuild_parameter`` stands for."""
    del requires_grad, hooks
    return data


def storage_class(name: str) -> Callable[..., object]:
    """What ``torch.FloatStorage`` and its like stand for: nothing that can be called."""

    def refuse(*_: object) -> object:
        raise TypeError(f"torch.{name} is called")

    return refuse


def storage_id(value: object, fetch: Callable[[str], memoryview]) -> Storage:
    """The storage that a persistent id of torch names."""
    if not isinstance(value, tuple) or len(value) not in (5, 6) or value[0] != "storage":
        raise TypeError("a persistent id that names no storage")
    _, made, key, _, numel, *view = value
    if not isinstance(made, inert.Opaque) or made.name[0] != "torch" or made.name[1] not in STORAGES:
        raise TypeError("a storage of no known type")
    if not isinstance(key, str) or type(numel) is not int or numel < 0 or view not in ([], [None]):
        raise TypeError("a storage without key and size, or a view of another")
    return Storage(STORAGES[made.name[1]], numel, lambda: fetch(key))


GLOBALS: Final[dict[inert.Global, inert.Builder]] = {
    ("collections", "OrderedDict"): inert.ordered_dict,
    ("torch._utils", "_rebuild_tensor_v2"): rebuild_tensor,
    ("torch._utils", "_rebuild_parameter"): rebuild_parameter,
    **{("torch", name): storage_class(name) for name in STORAGES},
}


class LegacyStorages:
    """Storages in torch's format before zip: four pickles, a list of keys, then numbers.

    The first three pickles are alike in all storages of a file: where they are, byte for byte, those of the
    storage before, they are not read again.
    """

    def __init__(self, where: str) -> None:
        self._where = where
        self._head = b""

    def __call__(self, content: memoryview) -> Storage:
        """The storage in ``content``."""
        at = len(self._head)
        if not at or content[:at] != self._head:
            at = self._check_head(content)
            self._head = bytes(content[:at])
        found: dict[str, memoryview] = {}

        def fetch(key: str) -> memoryview:
            if key not in found:
                raise self._broken(f"a storage is called {key!r:.40} and listed by another name")
            return found[key]

        named = inert.read(
            content, GLOBALS, self._where, start=at, persistent=lambda name: storage_id(name, fetch)
        )
        listed = inert.read(content, GLOBALS, self._where, start=named.end)
        storage, keys, at = named.value, listed.value, listed.end
        if not isinstance(storage, Storage) or not isinstance(keys, list) or len(keys) != 1:
            raise self._broken("not exactly one storage where one was pickled")
        numbers, size = content[at + 8 :], storage.numel * storage.dtype.itemsize
        if int.from_bytes(content[at : at + 8], "little") != storage.numel or len(numbers) != size:
            raise self._broken(f"a storage of {storage.numel} numbers in {len(numbers)} bytes")
        found[keys[0]] = numbers
        return storage

    def _check_head(self, content: memoryview) -> int:
        """The offset behind magic number, version and system."""
        values, at = [], 0
        for _ in range(3):
            walked = inert.read(content, GLOBALS, self._where, start=at)
            values.append(walked.value)
            at = walked.end
        magic, version, system = values
        if magic != MAGIC or version != LEGACY_VERSION:
            raise self._broken("tensors of an unknown format of torch")
        if not isinstance(system, dict) or system.get("little_endian") is not True:
            raise self._broken("tensors of a big-endian machine are not read")
        return at

    def _broken(self, what: str) -> CheckpointError:
        return CheckpointError(f"{self._where}: {what}", file=self._where)


def tensors_of(views: Mapping[str, View], budget: int, where: str) -> dict[str, Tensor]:
    """The tensors, together at most ``budget`` bytes: a file does not describe more than it holds."""
    total = sum(view.numel * view.storage.dtype.itemsize for view in views.values())
    if total > budget:
        raise UnsafeFileError(
            f"{where}: {len(views)} tensors of {total} bytes in a file of {budget}: they share their storage",
            file=where,
        )
    return {name: view.tensor() for name, view in views.items()}
