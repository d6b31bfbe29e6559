"""Standard output for a command's own words: what else is printed meanwhile goes to standard error.

Networks print, and so do their imports, their libraries and processes that they start. Python's stream is
turned for the first two, the descriptor for the others.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from typing import Final, TextIO

DESCRIPTOR: Final = 1
# Of options, those under which everything on standard output is JSON, errors too.
JSON: Final = frozenset({"--json", "--json-lines", "--json_lines", "--jsonl"})

_own: list[TextIO | None] = []
_for_good: list[bool] = []


def keep() -> None:
    """Have the next `reserved` last until the process ends: what its last functions print is no command's.

    For a process that is one command; who calls several gets standard output back after each.
    """
    _for_good.append(True)


def own() -> TextIO | None:
    """Where the command's own words go; None where standard output is closed."""
    return _own[0] if _own else sys.stdout


@contextmanager
def reserved() -> Iterator[None]:
    """Standard output for what is written to `own`, alone; within another one nothing changes."""
    if _own:
        yield
        return
    if _for_good:  # no context that would end with the interpreter
        stream = sys.stdout
        _own.append(stream if stream is None or not _is_standard(stream) else _moved(stream))
        sys.stdout = sys.stderr
        yield
        return
    with _turned(sys.stdout) as stream, redirect_stdout(sys.stderr):
        _own.append(stream)
        try:
            yield
        finally:
            _own.clear()


@contextmanager
def _turned(stream: TextIO | None) -> Iterator[TextIO | None]:
    """``stream`` on a descriptor of its own, while standard output's leads to standard error."""
    if stream is None or not _is_standard(stream):
        yield stream
        return
    with _moved(stream) as kept:
        try:
            yield kept
        finally:
            os.dup2(kept.fileno(), DESCRIPTOR)


def _moved(stream: TextIO) -> TextIO:
    """Standard output on a descriptor of its own; what is written to its old one goes to standard error."""
    stream.flush()
    kept = os.fdopen(os.dup(DESCRIPTOR), "w", encoding=stream.encoding, errors=stream.errors)
    _lead_to_stderr()
    return kept


def _is_standard(stream: TextIO) -> bool:
    try:
        return stream.fileno() == DESCRIPTOR
    except (OSError, ValueError, AttributeError):
        return False  # a notebook's, or a test's


def _lead_to_stderr() -> None:
    """Standard output's descriptor to standard error's, or to nowhere where that is closed."""
    if sys.stderr is not None and _is_open(2):
        os.dup2(2, DESCRIPTOR)
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, DESCRIPTOR)
    os.close(nowhere)


def _is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True
