"""What a pickle holds once it is read as data (`pickles`): plain values, and records of what was not made."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from merged_diffusion.errors import UnsafeFileError

MAX_STEPS: Final = 400_000  # CIFAR-10's networks take 74,000
SHOWN: Final = 80

Global = tuple[str, str]
Builder = Callable[..., object]
Scalar = (str, bytes, int, float, type(None))


class Opaque:
    """What a global named, before it is called."""

    __slots__ = ("build", "name")

    def __init__(self, name: Global, build: Builder) -> None:
        self.name = name
        self.build = build


@dataclass(eq=False, slots=True)
class Record:
    """An object that was not made: its class, the arguments of its constructor, and its state."""

    kind: str
    arguments: tuple[Any, ...] = ()
    state: Any = field(default=None)


@dataclass(slots=True)
class Steps:
    """How much work is left for all pickles of a file: a step an opcode, and one an item that a call gets.

    What the memo holds can be handed to a call, or be read as another pickle, any number of times.
    """

    left: int = MAX_STEPS


def ordered_dict(items: list[Any] | None = None) -> dict[Any, Any]:
    """What ``collections.OrderedDict`` stands for: a plain dict, of pairs where they are given."""
    result = {}
    for pair in items or []:
        key, value = pair
        result[as_key(key)] = value
    return result


def plain_set(items: list[Any] | None = None) -> set[Any]:
    """What ``builtins.set`` stands for."""
    return {as_key(item) for item in items or []}


def latin1(budget: int) -> Builder:
    """What ``_codecs.encode`` stands for, protocol 2's way to write bytes; ``budget`` of them in all."""
    left = budget

    def encode(text: str, encoding: str = "latin1") -> memoryview:
        nonlocal left
        if encoding.replace("-", "") != "latin1":
            raise ValueError(f"text encoded as {encoding[:SHOWN]!r}")
        left -= len(text)
        if left < 0:
            raise UnsafeFileError(f"more than the {budget} bytes that the file holds are made of its texts")
        return memoryview(text.encode("latin-1"))

    return encode


def shown(value: object) -> str:
    """A value in a message: its type where it may hold others, which may hold themselves a billion times."""
    return repr(value)[:SHOWN] if isinstance(value, Scalar) else f"a {type(value).__name__}"


def as_key(value: Any) -> Any:
    """``value``, if it may be a key; `TypeError` else."""
    # Only what hashes at once: nested tuples that share their parts take exponential time.
    if isinstance(value, memoryview) and len(value) <= SHOWN:
        value = bytes(value)
    if not isinstance(value, Scalar):
        raise TypeError(f"a {type(value).__name__} as a key")
    return value
