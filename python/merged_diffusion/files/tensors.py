"""Tensors as torch's pickles describe them: storages of numbers, and views of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import torch
from torch import Tensor

from merged_diffusion.errors import CheckpointError, UnsafeFileError
from merged_diffusion.files import inert

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
FEW: Final = 1 << 16  # bytes of a storage that is read outside of a file's budget
MAGIC: Final = 0x1950A86A20F9469CFC6C
LEGACY_VERSION: Final = 1001


@dataclass(eq=False)
class Storage:
    """``numel`` numbers whose bytes ``fetch(key, nbytes)`` gets when a tensor is made of them."""

    key: str
    dtype: torch.dtype
    numel: int
    fetch: Callable[[str, int], memoryview]
    _flat: Tensor | None = field(default=None, init=False)

    @property
    def nbytes(self) -> int:
        """How many bytes its numbers take."""
        return self.numel * self.dtype.itemsize

    def flat(self) -> Tensor:
        """The numbers, [numel]; the bytes are copied once."""
        if self._flat is None:
            content = self.fetch(self.key, self.nbytes)
            if len(content) != self.nbytes:
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


def storage_id(value: object, fetch: Callable[[str, int], memoryview]) -> Storage:
    """The storage that a persistent id of torch names."""
    if not isinstance(value, tuple) or len(value) not in (5, 6) or value[0] != "storage":
        raise TypeError("a persistent id that names no storage")
    _, made, key, _, numel, *view = value
    if not isinstance(made, inert.Opaque) or made.name[0] != "torch" or made.name[1] not in STORAGES:
        raise TypeError("a storage of no known type")
    if not isinstance(key, str) or type(numel) is not int or numel < 0 or view not in ([], [None]):
        raise TypeError("a storage without key and size, or a view of another")
    return Storage(key, STORAGES[made.name[1]], numel, fetch)


GLOBALS: Final[dict[inert.Global, inert.Builder]] = {
    ("collections", "OrderedDict"): inert.ordered_dict,
    ("torch._utils", "_rebuild_tensor_v2"): rebuild_tensor,
    ("torch._utils", "_rebuild_parameter"): rebuild_parameter,
    **{("torch", name): storage_class(name) for name in STORAGES},
}


def storages(
    fetch: Callable[[str, int], memoryview], known: dict[str, Storage] | None = None
) -> Callable[[object], object]:
    """Storages by persistent id, kept in ``known``: the same one wherever the same key is named."""
    kept: dict[str, Storage] = {} if known is None else known

    def storage(value: object) -> Storage:
        found = storage_id(value, fetch)
        before = kept.setdefault(found.key, found)
        if (before.dtype, before.numel) != (found.dtype, found.numel):
            raise ValueError(f"the storage {found.key!r:.40} is described in two ways")
        return before

    return storage


def few(view: View, where: str) -> Tensor:
    """A counter or a flag beside the weights, of whatever storage: `UnsafeFileError` where that is large."""
    if view.storage.nbytes > FEW:
        raise UnsafeFileError(
            f"{where}: {view.numel} numbers in a storage of {view.storage.nbytes} bytes", file=where
        )
    return view.tensor()


def tensors_of(views: Mapping[str, View], budget: int, where: str) -> dict[str, Tensor]:
    """The tensors; they, and the storages that they are parts of, take at most ``budget`` bytes each.

    A file does not describe more than it holds: not by views that repeat a storage, nor by many storages of
    which little is used.
    """
    shown = sum(view.numel * view.storage.dtype.itemsize for view in views.values())
    held = sum(storage.nbytes for storage in {id(v.storage): v.storage for v in views.values()}.values())
    if max(shown, held) > budget:
        raise UnsafeFileError(
            f"{where}: {len(views)} tensors of {shown} bytes, in storages of {held}, in a file of {budget}",
            hint="they share their bytes or were compressed; save them as they are, one by one",
            file=where,
        )
    return {name: view.tensor() for name, view in views.items()}
