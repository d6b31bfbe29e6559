"""A directory that is written in: every file is named relative to it, and no link is followed.

All that the package makes, replaces, locks or removes at a place that a user gave goes through here. A file
is replaced in one step and is on the disk then; names are removed one by one, never what another put beside.
A failed system call is a `StorageError` that names file and cause.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
import stat
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final, Self

from merged_diffusion.errors import StorageError
from merged_diffusion.runs.places import followed, make, refuse_special, storing, unmake

NEW: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY
# A file system that cannot force a directory to the disk does so by itself, or never.
NO_SYNC: Final = frozenset({errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS})
DRAFT: Final = re.compile(r"\.(?P<name>.+)\.[0-9]+")


class Directory:
    """An open directory. Closing it twice is closing it once."""

    def __init__(self, path: Path, *, within: Directory | None = None) -> None:
        """Open ``path``, or the directory of its name ``within`` another one, where it must be no link."""
        self.path = path
        self._fd: int | None = None
        with storing(path, "opened"):
            if within is None:
                self._fd = os.open(path, FOLDER)
            else:
                self._fd = os.open(path.name, FOLDER | os.O_NOFOLLOW, dir_fd=within.fd)

    @property
    def fd(self) -> int:
        """Its descriptor."""
        if self._fd is None:
            raise StorageError(f"{self.path}: is closed, after a failure or at the end of a command")
        return self._fd

    def make_folder(self, name: str) -> bool:
        """Make the directory ``name`` inside; False where it, or something else, is there."""
        with storing(self.path / name):
            try:
                os.mkdir(name, dir_fd=self.fd)
            except FileExistsError:
                return False
        return True

    def folder(self, name: str) -> Directory:
        """The directory ``name`` inside; a link is none."""
        return Directory(self.path / name, within=self)

    def names(self) -> list[str]:
        """All entries, hidden ones too, sorted."""
        with storing(self.path, "read"):
            return sorted(os.listdir(self.fd))  # noqa: PTH208  of the open directory, wherever it went

    def status(self, name: str) -> os.stat_result | None:
        """What ``name`` is, a link as itself; None where nothing is."""
        with storing(self.path / name, "read"):
            try:
                return os.stat(name, dir_fd=self.fd, follow_symlinks=False)
            except FileNotFoundError:
                return None

    def require_replaceable(self, name: str) -> None:
        """`StorageError` where ``name`` is what a file must not take the place of (`refuse_special`)."""
        found = self.status(name)
        if found is not None:
            refuse_special(self.path / name, found)

    def is_there(self) -> bool:
        """Whether its path still leads to it."""
        with storing(self.path, "read"):
            try:
                return os.path.samestat(self.path.stat(), os.fstat(self.fd))
            except (FileNotFoundError, NotADirectoryError):
                return False

    def open(self, name: str, flags: int) -> int:
        """A descriptor of the regular file ``name``; what else lies there is refused, and not waited for."""
        with storing(self.path / name):
            fd = os.open(name, flags | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666, dir_fd=self.fd)
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                os.close(fd)
                raise OSError(errno.EINVAL, "it is no regular file")
        return fd

    def read(self, name: str) -> bytes:
        """The content of a regular file."""
        with storing(self.path / name, "read"):
            fd = self.open(name, os.O_RDONLY)
            with os.fdopen(fd, "rb") as file:
                return file.read()

    def write(self, name: str, content: bytes | memoryview) -> None:
        """Replace a file in one step: readers, and a restart, see the old content or the new one.

        A pipe, a socket or a device is no file, and is refused.
        """
        self.require_replaceable(name)
        draft = self.write_draft(name, content)
        try:
            self.rename(draft, name)
        except BaseException:
            self.remove_quietly(draft)
            raise
        self.sync()

    def write_draft(self, name: str, content: bytes | memoryview) -> str:
        """The content under a name of this process beside ``name``, on the disk; that name."""
        draft = f".{name}.{os.getpid()}"
        self.remove([draft])  # of a process of the same number, that was killed
        try:
            self.write_new(draft, content)
        except BaseException:
            self.remove_quietly(draft)
            raise
        return draft

    def write_new(self, name: str, content: bytes | memoryview) -> None:
        """A file that is not there yet, on the disk when it returns."""
        with storing(self.path / name):
            fd = os.open(name, NEW, 0o666, dir_fd=self.fd)
            try:
                write_all(fd, content)
                os.fsync(fd)
            except BaseException:
                with suppress(OSError):
                    os.close(fd)
                raise
            os.close(fd)

    def rename(self, one: str, two: str, *, into: Directory | None = None) -> None:
        """Give an entry another name, here or in another directory; what has that name is replaced."""
        target = self if into is None else into
        with storing(target.path / two):
            os.rename(one, two, src_dir_fd=self.fd, dst_dir_fd=target.fd)

    def sync(self) -> None:
        """Force the names to the disk."""
        with storing(self.path):
            try:
                os.fsync(self.fd)
            except OSError as error:
                if error.errno not in NO_SYNC:
                    raise

    def remove(self, names: Iterable[str]) -> None:
        """Remove files by name; one that is not there is none."""
        for name in names:
            with storing(self.path / name, "removed"), suppress(FileNotFoundError):
                os.unlink(name, dir_fd=self.fd)

    def remove_quietly(self, name: str) -> None:
        """The same after a failure, which is what is told."""
        with suppress(StorageError):
            self.remove([name])

    def remove_drafts(self, names: Iterable[str]) -> None:
        """Remove what processes that were killed left of replacing ``names``; nobody may replace them now."""
        known = set(names)
        found = (DRAFT.fullmatch(name) for name in self.names())
        self.remove(match[0] for match in found if match is not None and match["name"] in known)

    def remove_folder(self, name: str) -> bool:
        """Remove a directory; one that holds something stays, which is False."""
        with storing(self.path / name, "removed"):
            try:
                os.rmdir(name, dir_fd=self.fd)
            except FileNotFoundError:
                return True
            except OSError as error:
                if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                    return False
                raise
        return True

    def close(self) -> None:
        """Give the descriptor back; that this fails harms nothing, for nothing was written by it."""
        fd, self._fd = self._fd, None
        if fd is not None:
            with suppress(OSError):
                os.close(fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self.close()


def strangers(names: Sequence[str], own: re.Pattern[str]) -> list[str]:
    """The names that are not ours; a draft is what it is a draft of."""
    plain = {name: match["name"] if (match := DRAFT.fullmatch(name)) else name for name in names}
    return [name for name in names if not (own.fullmatch(name) or own.fullmatch(plain[name]))]


def write_file(path: Path, content: bytes) -> None:
    """Replace one file, in a directory that is made if need be; a link within its directory is followed."""
    target = followed(path)
    made = make(target.parent)
    try:
        with Directory(target.parent) as folder:
            folder.remove_drafts([target.name])
            folder.write(target.name, content)
    except BaseException:
        unmake(made)
        raise


def write_all(fd: int, content: bytes | memoryview) -> None:
    """Write to the end, however much a single call takes."""
    left = memoryview(content)
    while left:
        left = left[os.write(fd, left) :]


def token() -> str:
    """Eight hex digits that no other process has."""
    return secrets.token_hex(4)
