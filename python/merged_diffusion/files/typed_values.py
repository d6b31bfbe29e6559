"""JSON read as a dataclass: every value is compared with the annotation of its field.

What a file holds may have been edited since it was written, so no type is taken for granted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from functools import cache
from types import NoneType, UnionType
from typing import Any, Final, TypeVar, cast, get_args, get_origin, get_type_hints

T = TypeVar("T")
Read = Callable[[Any], Any]
INLINE: Final = {"inline": True}
"""Metadata of a field that is a dataclass: its keys stand among those of the others."""


def typed(kind: type[T], value: object) -> T:
    """``value``, of JSON, as the dataclass ``kind``; keys that are no field are left out.

    Raises
    ------
    TypeError
        A key is missing that has no default, or a value is of another type.
    """
    found: T = _of_fields(cast(Any, kind))(value)
    return found


@cache
def _reader(kind: Any) -> Read:
    """What reads values of an annotation: plain, dataclass, list, tuple, mapping, or one of them or None."""
    if kind is Any:
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
        return cast(Read, getattr(kind, "from_dict", None) or _of_fields(cast(Any, kind)))
    # JSON writes 2.0 as 2.0, but what others wrote may say 2. A bool is no number.
    kinds = (int, float) if kind is float else (kind,)
    return lambda value: _checked(value, *kinds)


@cache
def _of_fields(kind: Any) -> Read:
    hints = get_type_hints(kind)
    each = {field.name: (_reader(hints[field.name]), field.metadata == INLINE) for field in fields(kind)}
    inline = {name: read for name, (read, is_inline) in each.items() if is_inline}
    readers = {name: read for name, (read, is_inline) in each.items() if not is_inline}

    def read_fields(value: Any) -> Any:
        table = _checked(value, dict)
        found = {name: read(table[name]) for name, read in readers.items() if name in table}
        return kind(**found, **{name: read(table) for name, read in inline.items()})

    return read_fields


def _checked(value: Any, *kinds: type) -> Any:
    if type(value) not in kinds:
        raise TypeError(f"{value!r:.60} stands where {' or '.join(kind.__name__ for kind in kinds)} belongs")
    return value
