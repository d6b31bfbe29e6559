"""A pickle read as data: plain values and records are made of it; nothing is imported, called or executed.

A pickle is a program for a stack machine. This machine knows the opcodes that the public files use. A global
is a name; it must be among those that the reader of the format knows, and what it stands for is that reader's
own inert function. Every other opcode and name is refused with its offset, before anything is made of it.
"""

from __future__ import annotations

import pickletools
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from merged_diffusion.errors import CheckpointError, UnsafeFileError
from merged_diffusion.files.inert import MAX_STEPS, SHOWN, Builder, Global, Opaque, Record, Steps, as_key

MAX_STACK: Final = 100_000
MAX_TEXT: Final = 1 << 20
HIGHEST_PROTOCOL: Final = 5
METADATA: Final = "_metadata"  # versions of modules, an attribute of each state dict of torch; not kept

Containers = (list, tuple, dict, set, frozenset)


@dataclass(frozen=True, slots=True)
class Walked:
    """The value of a pickle, and the offset behind it."""

    value: Any
    end: int


def read(
    content: memoryview,
    allowed: Mapping[Global, Builder],
    where: str,
    *,
    start: int = 0,
    persistent: Callable[[object], object] | None = None,
    max_text: int = MAX_TEXT,
    steps: Steps | None = None,
) -> Walked:
    """The pickle that begins at ``start``. Bytes of it are views of ``content``, never copies.

    ``steps`` are shared with other pickles of the same file.

    Raises
    ------
    UnsafeFileError
        An opcode or a name that has no place in such a file, or more of something than any has.
    CheckpointError
        The pickle is truncated or contradicts itself.
    """
    machine = _Machine(content, allowed, where, start, persistent, max_text, steps or Steps())
    try:
        return machine.run()
    except (IndexError, KeyError, ValueError, TypeError, struct.error, OverflowError) as error:
        raise CheckpointError(
            f"{where}: a broken pickle at offset {machine.at} ({type(error).__name__}: {str(error)[:SHOWN]})",
            hint="the file is truncated or damaged; fetch it again",
            file=where,
            offset=machine.at,
        ) from error


class _Machine:
    """Stack, marks and memo."""

    def __init__(
        self,
        content: memoryview,
        allowed: Mapping[Global, Builder],
        where: str,
        start: int,
        persistent: Callable[[object], object] | None,
        max_text: int,
        steps: Steps,
    ) -> None:
        self.at = start
        self._max_text, self._steps = max_text, steps
        self._content, self._allowed, self._where = content, allowed, where
        self._persistent = persistent
        self._stack: list[Any] = []
        self._marks: list[int] = []
        self._memo: dict[int, Any] = {}
        self._position = start

    def run(self) -> Walked:
        while True:
            self.at = self._position
            self._spend(1)
            opcode = self._content[self._position]
            self._position += 1
            if opcode == STOP:
                if self._marks or len(self._stack) != 1:
                    raise ValueError("values left on the stack")
                return Walked(self._stack.pop(), self._position)
            step = STEPS.get(opcode)
            if step is None and opcode not in NAMES:
                raise ValueError(f"no opcode is {opcode:#x}")
            if step is None:
                raise self._unsafe(f"the opcode {NAMES[opcode]}")
            step(self)
            if len(self._stack) > MAX_STACK:
                raise self._unsafe(f"more than {MAX_STACK} values on the stack")

    def _spend(self, count: int) -> None:
        self._steps.left -= count
        if self._steps.left < 0:
            raise self._unsafe(f"more than {MAX_STEPS} opcodes and items")

    def _unsafe(self, what: str) -> UnsafeFileError:
        return UnsafeFileError(
            f"{self._where}: {what} at offset {self.at} has no place in such a file; nothing was executed",
            hint="if the file is honest, read it with its own code and pass on from Python what it holds",
            file=self._where,
            offset=self.at,
        )

    # ---- arguments

    def _bytes(self, size: int) -> memoryview:
        end = self._position + size
        if size < 0 or end > len(self._content):
            raise ValueError(f"{size} bytes declared where {len(self._content) - self._position} are left")
        found = self._content[self._position : end]
        self._position = end
        return found

    def _number(self, size: int) -> int:
        return int.from_bytes(self._bytes(size), "little")

    def _line(self) -> str:
        window = bytes(self._content[self._position : self._position + 2 * SHOWN + 1])
        length = window.find(b"\n")
        if length < 0:
            raise ValueError("a name without end")
        self._position += length + 1
        return window[:length].decode("utf-8")

    def _text(self, size: int) -> None:
        if size > self._max_text:
            raise self._unsafe(f"a text of {size} bytes (the limit is {self._max_text})")
        self._stack.append(bytes(self._bytes(size)).decode("utf-8", "surrogatepass"))

    # ---- the stack

    def _since_mark(self) -> list[Any]:
        start = self._marks.pop()
        values = self._stack[start:]
        del self._stack[start:]
        return values

    def _pop(self) -> Any:
        if self._marks and self._marks[-1] >= len(self._stack):
            raise IndexError("a value from below the mark")
        return self._stack.pop()

    def _tuple(self, size: int) -> None:
        self._stack.append(tuple([self._pop() for _ in range(size)][::-1]))

    def _remember(self, index: int) -> None:
        self._memo[index] = self._stack[-1]

    def _append(self, values: list[Any]) -> None:
        target = self._stack[-1]
        if type(target) is not list:
            raise TypeError(f"values appended to a {type(target).__name__}")
        target.extend(values)

    def _set_items(self, values: list[Any]) -> None:
        target = self._stack[-1]
        if type(target) is not dict or len(values) % 2:
            raise TypeError(f"items set in a {type(target).__name__}")
        for key, value in zip(values[::2], values[1::2], strict=True):
            target[as_key(key)] = value

    def _add_items(self, values: list[Any]) -> None:
        target = self._stack[-1]
        if type(target) is not set:
            raise TypeError(f"items added to a {type(target).__name__}")
        target.update(map(as_key, values))

    def _global(self, module: object, name: object) -> None:
        if not isinstance(module, str) or not isinstance(name, str):
            raise TypeError("a name that is no text")
        build = self._allowed.get((module, name))
        if build is None:
            raise self._unsafe(f"the global {module[:SHOWN]}.{name[:SHOWN]}")
        self._stack.append(Opaque((module, name), build))

    def _call(self) -> None:
        arguments, called = self._pop(), self._pop()
        if not isinstance(called, Opaque) or type(arguments) is not tuple:
            raise self._unsafe(f"a call of a {type(called).__name__}")
        self._spend(sum(len(item) for item in arguments if isinstance(item, Containers)))
        self._stack.append(called.build(*arguments))

    def _build(self) -> None:
        state, target = self._pop(), self._stack[-1]
        if type(target) is dict and type(state) is dict and set(state) == {METADATA}:
            return
        if type(target) is not Record or target.state is not None:
            raise self._unsafe(f"a state for a {type(target).__name__}")
        target.state = state

    def _persistent_id(self) -> None:
        if self._persistent is None:
            raise self._unsafe("a persistent id")
        self._stack.append(self._persistent(self._pop()))

    def _protocol(self) -> None:
        version = self._number(1)
        if version > HIGHEST_PROTOCOL:
            raise ValueError(f"protocol {version}")


def _pushes(value: Callable[[_Machine], Any]) -> Callable[[_Machine], None]:
    def step(machine: _Machine) -> None:
        machine._stack.append(value(machine))

    return step


def _signed(machine: _Machine) -> int:
    return int.from_bytes(machine._bytes(4), "little", signed=True)


def _long(machine: _Machine) -> int:
    return int.from_bytes(machine._bytes(machine._number(1)), "little", signed=True)


def _double(machine: _Machine) -> float:
    value: float = struct.unpack(">d", machine._bytes(8))[0]
    return value


def _latin(size: int) -> Callable[[_Machine], None]:
    # A str of Python 2: text or bytes, and its keys have to meet those of Python 3.
    return _pushes(lambda machine: bytes(machine._bytes(machine._number(size))).decode("latin-1"))


STOP: Final = ord(".")
STEPS: Final[dict[int, Callable[[_Machine], None]]] = {
    ord(key): step
    for key, step in {
        "\x80": _Machine._protocol,
        "\x95": lambda m: m._bytes(8) and None,
        "(": lambda m: m._marks.append(len(m._stack)),
        "N": _pushes(lambda _: None),
        "\x88": _pushes(lambda _: True),
        "\x89": _pushes(lambda _: False),
        "K": _pushes(lambda m: m._number(1)),
        "M": _pushes(lambda m: m._number(2)),
        "J": _pushes(_signed),
        "\x8a": _pushes(_long),
        "G": _pushes(_double),
        "\x8c": lambda m: m._text(m._number(1)),
        "X": lambda m: m._text(m._number(4)),
        "\x8d": lambda m: m._text(m._number(8)),
        "U": _latin(1),
        "T": _latin(4),
        "C": _pushes(lambda m: m._bytes(m._number(1))),
        "B": _pushes(lambda m: m._bytes(m._number(4))),
        "\x8e": _pushes(lambda m: m._bytes(m._number(8))),
        "\x96": _pushes(lambda m: m._bytes(m._number(8))),
        "]": _pushes(lambda _: []),
        "}": _pushes(lambda _: {}),
        ")": _pushes(lambda _: ()),
        "\x8f": _pushes(lambda _: set()),
        "a": lambda m: m._append([m._pop()]),
        "e": lambda m: m._append(m._since_mark()),
        "s": lambda m: m._set_items([m._pop(), m._pop()][::-1]),
        "u": lambda m: m._set_items(m._since_mark()),
        "\x90": lambda m: m._add_items(m._since_mark()),
        "\x91": _pushes(lambda m: frozenset(map(as_key, m._since_mark()))),
        "\x85": lambda m: m._tuple(1),
        "\x86": lambda m: m._tuple(2),
        "\x87": lambda m: m._tuple(3),
        "t": _pushes(lambda m: tuple(m._since_mark())),
        "q": lambda m: m._remember(m._number(1)),
        "r": lambda m: m._remember(m._number(4)),
        "\x94": lambda m: m._remember(len(m._memo)),
        "h": _pushes(lambda m: m._memo[m._number(1)]),
        "j": _pushes(lambda m: m._memo[m._number(4)]),
        "c": lambda m: m._global(m._line(), m._line()),
        "\x93": lambda m: m._global(*[m._pop(), m._pop()][::-1]),
        "R": _Machine._call,
        "\x81": _Machine._call,
        "b": _Machine._build,
        "Q": _Machine._persistent_id,
    }.items()
}
NAMES: Final = {ord(opcode.code): opcode.name for opcode in pickletools.opcodes}  # for messages
