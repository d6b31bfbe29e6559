"""Paths before a directory is open: what they may be, making what is missing, failed calls as errors."""

from __future__ import annotations

import errno
import os
import shutil
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from merged_diffusion.errors import StorageError
from merged_diffusion.files.reading import KINDS


def storage_error(path: Path, error: OSError, doing: str = "written") -> StorageError:
    """A failed system call as the package's own error."""
    reason = error.strerror or str(error)
    if error.errno == errno.ELOOP or path.is_symlink():
        reason = "it is a link, which is not followed here"
    return StorageError(
        f"{path}: cannot be {doing} ({reason})",
        hint="free space or choose another --out; what was recorded is valid, the same command goes on",
        file=str(path),
        errno=error.errno,
    )


@contextmanager
def storing(path: Path, doing: str = "written") -> Iterator[None]:
    """Failed system calls at ``path`` as `StorageError`."""
    try:
        yield
    except OSError as error:
        raise storage_error(path, error, doing) from error


def refuse_link(path: Path) -> None:
    """`StorageError` where ``path`` is a link that leads out of the directory it lies in."""
    with storing(path):
        if not path.is_symlink():
            return
        target, parent = path.resolve(), path.parent.resolve()
    if not target.is_relative_to(parent):
        raise StorageError(
            f"{path}: is a link to {target}, outside of {parent}",
            hint="name the target itself as --out",
            file=str(path),
        )


def refuse_special(path: Path, found: os.stat_result | None = None) -> None:
    """`StorageError` where ``path`` is a pipe, a socket or a device, which replacing would destroy.

    ``found`` is what it is, where that has been asked already.
    """
    with storing(path, "read"):
        try:
            mode = stat.S_IFMT((path.stat() if found is None else found).st_mode)
        except (FileNotFoundError, NotADirectoryError):
            return
    if mode in KINDS and mode != stat.S_IFDIR:
        raise StorageError(
            f"{path}: is {KINDS[mode]}, which a file would replace; nothing was written",
            hint="name a file that is new or may be replaced as --out",
            file=str(path),
        )


def make(path: Path) -> list[Path]:
    """Make a directory and those above it; the result names what did not exist before, innermost first.

    Raises
    ------
    StorageError
        It cannot be made, or is a link that leads out of where it lies.
    """
    refuse_link(path)
    made: list[Path] = []
    with storing(path):
        missing = []
        for place in (path, *path.parents):
            if place.exists():
                break
            missing.append(place)
        try:
            for place in reversed(missing):
                with suppress(FileExistsError):  # another worker was faster
                    place.mkdir()
                    made.insert(0, place)
            if not path.is_dir():
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        except BaseException:
            unmake(made)
            raise
    return made


def unmake(made: Iterable[Path]) -> None:
    """Remove directories that were created; one that holds something stays."""
    for path in made:
        try:
            path.rmdir()
        except OSError:
            return


def require_space(path: Path, needed: int, what: str) -> None:
    """`StorageError` unless so many bytes are free."""
    with storing(path):
        free = shutil.disk_usage(path).free
    if free < needed:
        raise StorageError(
            f"{path}: {free} bytes are free, but {what} need up to {needed}",
            hint="free space or choose another --out",
            file=str(path),
        )


def followed(path: Path) -> Path:
    """``path``, or what it is a link to within the directory it lies in; `StorageError` for another link."""
    refuse_link(path)
    with storing(path):
        return path.resolve() if path.is_symlink() else path
