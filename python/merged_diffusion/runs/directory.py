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
import shutil
import stat
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from merged_diffusion.errors import StorageError
from merged_diffusion.files.reading import KINDS

NEW: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY
# A file system that cannot force a directory to the disk does so by itself, or never.
NO_SYNC: Final = frozenset({errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS})
DRAFT: Final = re.compile(r"\.(?P<name>.+)\.[0-9]+")


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

    def write(self, name: str, content: bytes) -> None:
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

    def write_draft(self, name: str, content: bytes) -> str:
        """The content under a name of this process beside ``name``, on the disk; that name."""
        draft = f".{name}.{os.getpid()}"
        self.remove([draft])  # of a process of the same number, that was killed
        try:
            self.write_new(draft, content)
        except BaseException:
            self.remove_quietly(draft)
            raise
        return draft

    def write_new(self, name: str, content: bytes) -> None:
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

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def followed(path: Path) -> Path:
    """``path``, or what it is a link to within the directory it lies in; `StorageError` for another link."""
    refuse_link(path)
    with storing(path):
        return path.resolve() if path.is_symlink() else path


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


def write_all(fd: int, content: bytes) -> None:
    """Write to the end, however much a single call takes."""
    left = memoryview(content)
    while left:
        left = left[os.write(fd, left) :]


def token() -> str:
    """Eight hex digits that no other process has."""
    return secrets.token_hex(4)
