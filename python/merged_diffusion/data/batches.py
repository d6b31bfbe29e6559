"""Batches of 32x32 images as the python release of CIFAR-10 keeps them: pickled, and never unpickled here.

A pickle is a program. Its opcodes are walked by ``pickletools``, which runs none of it; those that a batch
needs are carried out on plain values, and five names of numpy and ``_codecs`` stand for records. Any other
opcode or name is refused with its offset.
"""

from __future__ import annotations

import math
import pickletools
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from merged_diffusion.errors import DataIntegrityError, UnsafeFileError

MAX_OPCODES: Final = 500_000  # a batch has 80,000
ROW: Final = 3 * 32 * 32
IGNORED: Final = frozenset(("PROTO", "FRAME"))
CONSTANTS: Final = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
PLAIN: Final = frozenset(
    ("BININT", "BININT1", "BININT2", "SHORT_BINSTRING", "BINSTRING", "BINUNICODE", "SHORT_BINUNICODE",
     "SHORT_BINBYTES", "BINBYTES", "BINBYTES8", "BYTEARRAY8")
)  # fmt: skip
EMPTY: Final = {"EMPTY_LIST": list, "EMPTY_DICT": dict, "EMPTY_TUPLE": tuple}
TUPLES: Final = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
NUMPY: Final = ("numpy.core.", "numpy._core.")  # numpy renamed its core in version 2
NAMES: Final = frozenset(
    [("numpy", "ndarray"), ("numpy", "dtype"), ("_codecs", "encode")]
    + [(core + "multiarray", "_reconstruct") for core in NUMPY]
    + [(core + "numeric", "_frombuffer") for core in NUMPY]
)


@dataclass(frozen=True)
class Batch:
    """Images as rows, ``pixels`` uint8 [N, 3072] (planes R, G, B), with ``labels`` [N]."""

    pixels: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.integer[Any]]


@dataclass(frozen=True)
class _Name:
    module: str
    name: str


@dataclass(frozen=True)
class _Dtype:
    name: object


@dataclass
class _Array:
    shape: object = ()
    dtype: object = None
    order: object = "C"
    content: object = b""


def read_pickled_batch(content: bytes, where: str) -> Batch:
    """``data`` and ``labels`` of a pickled batch."""
    try:
        batch = _Walk(content, where).value()
        named = {_text(key): value for key, value in batch.items()} if isinstance(batch, dict) else {}
        pixels, labels = _pixels(named.get("data")), named.get("labels")
    except (IndexError, KeyError, ValueError, RecursionError) as error:
        raise DataIntegrityError(f"{where} is not a sound batch ({error})", file=where) from error
    if pixels is None or not isinstance(labels, list) or len(labels) != len(pixels) or not labels:
        raise DataIntegrityError(
            f"{where}: a batch holds data, uint8 [N, {ROW}], and a list of N labels; this one does not",
            file=where,
        )
    if not all(type(label) is int and 0 <= label < 1 << 31 for label in labels):
        raise DataIntegrityError(f"{where}: the labels of the batch are not whole numbers", file=where)
    return Batch(pixels, np.array(labels))


def _text(key: str | bytes) -> str:
    return key.decode("latin-1") if isinstance(key, bytes) else key


def _pixels(array: object) -> npt.NDArray[np.uint8] | None:
    """The rows of an array record of uint8 [N, 3072], None if it is another."""
    if (
        not isinstance(array, _Array)
        or not isinstance(array.dtype, _Dtype)
        or not isinstance(array.shape, tuple)
    ):
        return None
    sizes = all(type(n) is int and n >= 0 for n in array.shape)
    if array.dtype.name not in ("u1", "|u1") or not sizes or array.shape[1:] != (ROW,):
        return None
    content = array.content.encode("latin-1") if isinstance(array.content, str) else array.content
    if not isinstance(content, bytes | bytearray) or len(content) != math.prod(array.shape):
        return None
    order = "F" if array.order in (True, "F") else "C"
    return np.frombuffer(content, np.uint8).reshape(array.shape, order=order)  # type: ignore[call-overload, no-any-return]


class _Walk:
    """The stack, marks and memo of a pickle that is walked, not run."""

    def __init__(self, content: bytes, where: str) -> None:
        self._content, self._where = content, where
        self._stack: list[Any] = []
        self._marks: list[int] = []
        self._memo: dict[int, Any] = {}
        self._spent = 0

    def value(self) -> object:
        """What the pickle describes."""
        for number, (opcode, argument, offset) in enumerate(pickletools.genops(self._content)):
            if number > MAX_OPCODES:
                raise UnsafeFileError(
                    f"{self._where}: more than {MAX_OPCODES} opcodes", file=self._where, offset=offset
                )
            if opcode.name == "STOP":
                break
            self._step(opcode.name, argument, offset or 0)
        return self._stack.pop()

    def _step(self, name: str, argument: Any, offset: int) -> None:
        stack = self._stack
        if name in PLAIN:
            stack.append(argument)
        elif name in CONSTANTS:
            stack.append(CONSTANTS[name])
        elif name in EMPTY:
            stack.append(EMPTY[name]())
        elif name in TUPLES:
            stack[-TUPLES[name] :] = [tuple(stack[-TUPLES[name] :])]
        elif name == "MARK":
            self._marks.append(len(stack))
        elif name == "TUPLE":
            stack.append(tuple(self._since_mark()))
        elif name in ("BINPUT", "LONG_BINPUT", "MEMOIZE"):
            self._memo[len(self._memo) if argument is None else argument] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            stack.append(self._memo[argument])
        elif name in ("APPENDS", "APPEND"):
            values = self._since_mark() if name == "APPENDS" else [stack.pop()]
            _as(list, stack[-1]).extend(values)
        elif name in ("SETITEMS", "SETITEM"):
            pairs = self._since_mark() if name == "SETITEMS" else [stack.pop(-2), stack.pop()]
            target = _as(dict, stack[-1])
            for key, value in zip(pairs[::2], pairs[1::2], strict=True):
                target[_as((str, bytes), key)] = value
        elif name == "GLOBAL":
            module, _, symbol = argument.partition(" ")
            self._global(module, symbol, offset)
        elif name == "STACK_GLOBAL":
            symbol, module = stack.pop(), stack.pop()
            self._global(_as(str, module), _as(str, symbol), offset)
        elif name == "REDUCE":
            arguments, called = _as(tuple, stack.pop()), stack.pop()
            stack.append(self._made(_as(_Name, called), arguments))
        elif name == "BUILD":
            state = _as(tuple, stack.pop())
            if isinstance(stack[-1], _Array):
                _, stack[-1].shape, stack[-1].dtype, stack[-1].order, stack[-1].content = state
        elif name not in IGNORED:
            raise self._unsafe(f"the opcode {name}", offset)

    def _since_mark(self) -> list[Any]:
        start = self._marks.pop()
        values = self._stack[start:]
        del self._stack[start:]
        return values

    def _global(self, module: str, symbol: str, offset: int) -> None:
        if (module, symbol) not in NAMES:
            raise self._unsafe(f"the name {module[:60]}.{symbol[:60]}", offset)
        self._stack.append(_Name(module, symbol))

    def _made(self, called: _Name, arguments: tuple[Any, ...]) -> object:
        """The record that stands for a call."""
        if called.name == "_reconstruct":
            return _Array()
        if called.name == "dtype":
            return _Dtype(arguments[0])
        if called.name == "_frombuffer":
            content, dtype, shape, order = arguments
            return _Array(shape, dtype, order, content)
        if called.name == "encode" and arguments[1:] == ("latin1",):
            text = _as(str, arguments[0])
            self._spent += len(text)
            if self._spent > len(self._content):
                raise UnsafeFileError(f"{self._where}: more bytes made than the file holds", file=self._where)
            encoded: bytes = text.encode("latin-1")
            return encoded
        raise ValueError(f"{called.name} is called with {len(arguments)} arguments")

    def _unsafe(self, what: str, offset: int) -> UnsafeFileError:
        return UnsafeFileError(
            f"{self._where}: {what} at offset {offset} has no place in a batch of images; it was not run",
            file=self._where, offset=offset,
        )  # fmt: skip


def _as(kind: Any, value: Any) -> Any:
    """``value``, which must be of that kind."""
    if not isinstance(value, kind):
        raise ValueError(f"a {type(value).__name__} where another kind is needed")
    return value
