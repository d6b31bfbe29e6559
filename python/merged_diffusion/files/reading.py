"""Files to read are regular files: a pipe would wait for its writer for ever, a device may have no end.

What is not is an `OSError` whose text says what it is, so that whoever reads refuses it like a file that
cannot be read.
"""

from __future__ import annotations

import errno
import hashlib
import io
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from merged_diffusion.errors import MergedDiffusionError

KINDS: Final = {
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFDIR: "a folder",
}
# Neither waits for a pipe's other end nor makes a terminal ours; a regular file knows no difference.
FLAGS: Final = (
    os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0)
    | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
)  # fmt: skip


def opened(path: str | Path) -> io.BufferedReader:
    """A regular file, open to be read; `OSError` for anything else.

    Asked before it is opened, for opening may move a device, and after, for another may lie there by then.
    """
    _require_regular(Path(path).stat(), path)
    number = os.open(path, FLAGS)
    try:
        _require_regular(os.fstat(number), path)
    except OSError:
        os.close(number)
        raise
    return os.fdopen(number, "rb")


def read_bytes(path: str | Path) -> bytes:
    """All bytes of a regular file."""
    with opened(path) as file:
        return file.read()


def read_text(path: str | Path) -> str:
    """A regular file as UTF-8."""
    return read_bytes(path).decode("utf-8")


def sha256_of(path: str | Path) -> str:
    """The SHA-256 of a regular file's bytes."""
    with opened(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def exists(path: str | Path) -> bool:
    """Whether there is something; a name that no file can have names nothing."""
    try:
        return Path(path).exists()
    except (OSError, ValueError):
        return False


@contextmanager
def refused_as(kind: type[MergedDiffusionError], path: str | Path) -> Iterator[None]:
    """An `OSError` of a file that is read, as an error of the package."""
    try:
        yield
    except OSError as error:
        where = str(error.filename or path)
        raise kind(f"{where}: cannot be read ({error.strerror or error})", file=where) from error


def _require_regular(found: os.stat_result, path: str | Path) -> None:
    if not stat.S_ISREG(found.st_mode):
        kind = KINDS.get(stat.S_IFMT(found.st_mode), "no regular file")
        raise OSError(errno.EINVAL, f"it is {kind}, a regular file is needed", str(path))
