"""What travels to a process that has the experts and the images already: these go by their names.

A network weighs megabytes and may lie on a device, and whoever computes has loaded its own from the same
files. So a value is pickled with a name wherever it holds such an object, or a part of such a set.
"""

from __future__ import annotations

import io
import pickle
import warnings
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final

import numpy as np

from merged_diffusion.data.images import Data

KEPT: Final = 8  # values that were read, for the next task of the same stage

Name = tuple[str, str, bytes]
"""Of an object or a set, and the ids of a part of it; none of all of it."""
OBJECT: Final = "object"
SET: Final = "set"


class ByName:
    """Objects (experts, feature networks) and sets of images of a command, alike in all its processes."""

    def __init__(self, objects: Mapping[str, object], sets: Mapping[str, Data]) -> None:
        self._objects, self._sets = dict(objects), dict(sets)
        self._read = lru_cache(maxsize=KEPT)(self._unpickled)

    def dumps(self, value: object) -> bytes:
        """A value that holds them, as bytes that do not."""
        stream = io.BytesIO()
        _Pickler(stream, self).dump(value)
        return stream.getvalue()

    def loads(self, content: bytes) -> Any:
        """The value, with the objects of this process; the very same for the same bytes, if they are recent.

        Raises
        ------
        KeyError
            It holds a name that is not known here.
        """
        return self._read(content)

    def name_of(self, value: object) -> Name | None:
        """By what name a value goes; None: by itself."""
        for name, own in self._objects.items():
            if value is own:
                return OBJECT, name, b""
        if isinstance(value, Data):
            for name, whole in self._sets.items():
                if value is whole:
                    return SET, name, b""
                if _is_part(value, whole):
                    return SET, name, value.ids.astype("<i8").tobytes()
        return None

    def named(self, kind: str, name: str, ids: bytes) -> object:
        """What goes by a name."""
        if kind == OBJECT:
            return self._objects[name]
        whole = self._sets[name]
        return whole.where(np.isin(whole.ids, np.frombuffer(ids, dtype="<i8"))) if ids else whole

    def _unpickled(self, content: bytes) -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what is made again, who made it first has told
            return _Unpickler(io.BytesIO(content), self).load()


class _Pickler(pickle.Pickler):
    def __init__(self, stream: io.BytesIO, names: ByName) -> None:
        super().__init__(stream, pickle.HIGHEST_PROTOCOL)
        self._names = names

    def persistent_id(self, obj: Any) -> Name | None:
        return self._names.name_of(obj)


class _Unpickler(pickle.Unpickler):
    def __init__(self, stream: io.BytesIO, names: ByName) -> None:
        super().__init__(stream)
        self._names = names

    def persistent_load(self, pid: Any) -> object:
        return self._names.named(*pid)


def _is_part(some: Data, whole: Data) -> bool:
    """Whether `Data.where` of the ids makes the same of the whole set, to the last pixel."""
    if (some.name, some.split, some.sha256, some.levels) != (
        whole.name, whole.split, whole.sha256, whole.levels,
    ):  # fmt: skip
        return False
    mask = np.isin(whole.ids, some.ids)
    if int(mask.sum()) != len(some):
        return False
    found = whole.where(mask)
    columns = ("ids", "images", "labels", "clusters")
    return all(_is_same(getattr(some, name), getattr(found, name)) for name in columns)


def _is_same(one: Any, two: Any) -> bool:
    return (one is None) == (two is None) and (one is None or np.array_equal(one, two))
