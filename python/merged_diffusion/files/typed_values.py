"""Dataclasses as JSON and back: written in the order of their fields, read by the annotations of them.

What a file holds may have been edited since it was written, so no type is taken for granted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from types import NoneType, UnionType
from typing import Any, Final, Self, cast, get_args, get_origin, get_type_hints

Read = Callable[[Any], Any]
INLINE: Final = {"inline": True}
"""Metadata of a field that is `TypedValues`: its keys stand among those of the others."""


class TypedValues:
    """A dataclass of JSON values and others of its kind: the one writer and the one reader of each."""

    __slots__ = ()

    def as_dict(self) -> dict[str, object]:
        """As JSON values; a field is left out where it has the default that stands for nothing."""
        found: dict[str, object] = {}
        for field in fields(cast(Any, self)):
            value = getattr(self, field.name)
            if field.metadata == INLINE:
                found |= value.as_dict()
            elif field.default is MISSING or value != field.default:
                found[field.name] = _plain(value)
        return found

    @classmethod
    def from_dict(cls, value: Mapping[str, object]) -> Self:
        """From JSON values; keys that are no field are left out.

        Raises
        ------
        TypeError
            A key is missing that has no default, or a value is of another type.
        """
        return cls._typed(value)

    @classmethod
    def _typed(cls, value: Mapping[str, object]) -> Self:
        return cast(Self, _of_fields(cast(Any, cls))(value))


def _plain(value: Any) -> Any:
    if isinstance(value, TypedValues):
        return value.as_dict()
    if isinstance(value, Mapping):
        return {key: item.as_dict() if isinstance(item, TypedValues) else item for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, tuple) else value


@cache
def _reader(kind: Any) -> Read:
    """What reads values of an annotation: plain, dataclass, list, tuple, mapping, or one of them or None."""
    if kind in (Any, object):
        return lambda value: value
    origin, inside = get_origin(kind), get_args(kind)
    if origin is UnionType:
        (inner,) = (_reader(one) for one in inside if one is not NoneType)
        return lambda value: None if value is None else inner(value)
    if origin in (list, tuple):
        item = _reader(inside[0])
        return lambda value: origin(item(one) for one in _checked(value, list))
    if origin is Mapping:
        item = _reader(inside[1])
        return lambda value: {key: item(one) for key, one in _checked(value, dict).items()}
    if is_dataclass(kind):
        return cast(Read, cast(Any, kind).from_dict)
    # JSON writes 2.0 as 2.0, but what others wrote may say 2. A bool is no number.
    kinds = (int, float) if kind is float else (kind,)
    return lambda value: _checked(value, *kinds)


@cache
def _of_fields(kind: Any) -> Read:
    hints = get_type_hints(kind)
    inline = {field.name: _reader(hints[field.name]) for field in fields(kind) if field.metadata == INLINE}
    apart = {field.name: _reader(hints[field.name]) for field in fields(kind) if field.name not in inline}

    def read_fields(value: Any) -> Any:
        table = _checked(value, dict)
        found = {name: read(table[name]) for name, read in apart.items() if name in table}
        return kind(**found, **{name: read(table) for name, read in inline.items()})

    return read_fields


def _checked(value: Any, *kinds: type) -> Any:
    if type(value) not in kinds:
        raise TypeError(f"{value!r:.60} stands where {' or '.join(kind.__name__ for kind in kinds)} belongs")
    return value
