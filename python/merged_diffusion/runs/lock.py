"""A lock in a directory: the kernel's (``flock``), which dies with its holder, or claims where it has none.

A claim is a file named by host, process, when that process began, and a random number. Each writes its own
and then looks for others; who sees one that is alive takes its own back. So two never hold it together, and a
dead process's claim is removed by its name, which no living one has. Whether a process of another host lives
cannot be told: its claim blocks where there are only claims, and the refusal names it; who has the kernel's
lock needs to know of this host's alone.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import secrets
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, Self

from merged_diffusion.errors import RunLockedError, StorageError
from merged_diffusion.runs.directory import NEW, Directory, token
from merged_diffusion.runs.places import storage_error, storing

# The file system knows no flock. ENOLCK is not among them: others on it may have one.
UNKNOWN: Final = frozenset({errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP})
POLL_SECONDS: Final = 0.05
LOOK_SECONDS: Final = 0.25  # of waiting: outlasts the moment in which one who only looks holds a lock
CLAIM: Final = r"\.{name}\.claim\.(?P<pid>[0-9]+)\.(?P<began>[0-9]+)\.(?P<token>[0-9a-f]{{8}})\.(?P<host>.*)"
ANY_CLAIM: Final = CLAIM.format(name=".+")


class Lock:
    """The lock ``name`` of a directory; a second one of the same name excludes it, in this process too."""

    def __init__(self, directory: Directory, name: str) -> None:
        self.directory = directory
        self.name = name
        self._fd: int | None = None
        self._claim: str | None = None
        self._stranger: re.Match[str] | None = None  # the claim of another host that was in the way

    @property
    def path(self) -> Path:
        """Of its file."""
        return self.directory.path / self.name

    @property
    def is_held(self) -> bool:
        """Whether this object holds it."""
        return self._fd is not None

    def acquire(self, seconds: float) -> bool:
        """Wait for at most so long; whether it is held.

        Raises
        ------
        StorageError
            It cannot be locked at all: a directory that cannot be written, a file system without locks.
        """
        end = time.monotonic() + seconds
        while not self._try():
            if time.monotonic() >= end:
                return False
            # So that two claims, which both take theirs back, part.
            time.sleep(POLL_SECONDS * (0.5 + secrets.randbelow(1000) / 1000))
        return True

    def _try(self) -> bool:
        self._stranger = None
        fd = self.directory.open(self.name, os.O_RDWR | os.O_CREAT)
        try:
            if self._is_locked(fd) and self._is_current(fd) and not self._others():
                self._fd = fd
                return True
        except OSError as error:
            raise self._unlockable(error) from error
        finally:
            if self._fd is None:
                self._drop_claim()
                with suppress(OSError):
                    os.close(fd)
        return False

    def _is_locked(self, fd: int) -> bool:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError as error:
            if error.errno not in UNKNOWN:
                raise
            self._claim = f".{self.name}.claim.{os.getpid()}.{began(os.getpid())}.{token()}.{host()}"
            os.close(os.open(self._claim, NEW, 0o666, dir_fd=self.directory.fd))
        return True

    def _is_current(self, fd: int) -> bool:
        """Whether the file still has its name: who held it may have removed it, and another made one."""
        found = self.directory.status(self.name)
        return found is not None and os.path.samestat(found, os.fstat(fd))

    def _others(self) -> bool:
        """Whether another claims it; the claims of dead processes of this host are removed.

        Where the kernel gave its lock, other hosts' claims are not asked: none can be told from what a host
        left that is gone, as a container's that has a new name with every start.
        """
        pattern = re.compile(CLAIM.format(name=re.escape(self.name)))
        for name in self.directory.names():
            found = pattern.fullmatch(name)
            if found is None or name == self._claim:
                continue
            if found["host"] != host():
                if self._claim is None:
                    continue
                self._stranger = found
                return True
            if _is_alive(int(found["pid"]), int(found["began"])):
                return True
            self.directory.remove([name])
        return False

    def _unlockable(self, error: OSError) -> StorageError:
        found = storage_error(self.path, error, "locked")
        if error.errno == errno.ENOLCK:
            found.hint = "the file system has no locks to give; name a directory on another one as --out"
        return found

    def _drop_claim(self) -> None:
        claim, self._claim = self._claim, None
        if claim is not None:
            self.directory.remove([claim])

    def release(self) -> None:
        """Leave it to others; without it held, nothing."""
        fd, self._fd = self._fd, None
        if fd is None:
            return
        with storing(self.path, "unlocked"):
            try:
                self._drop_claim()
                with suppress_unknown():
                    fcntl.flock(fd, fcntl.LOCK_UN)
            finally:
                os.close(fd)

    def explained(self, refused: RunLockedError) -> RunLockedError:
        """The error of one that was not had, with the claim that only its host can know to be alive."""
        found = self._stranger
        if found is None:
            return refused
        claim = self.directory.path / found[0]
        named = RunLockedError(
            f"{refused.message}: process {found['pid']} of the host {found['host']} claims it",
            hint=f"wait for it or stop it; if that host or process is gone, remove {claim}",
        )
        named.fields = refused.fields | {
            "claim": str(claim),
            "host": found["host"],
            "pid": int(found["pid"]),
        }
        return named

    def held(self, seconds: float, refused: RunLockedError) -> Held:
        """For a ``with`` block; ``refused`` is raised where another holds it for too long."""
        return Held(self, seconds, refused)


class Held:
    """A lock in a ``with`` block."""

    def __init__(self, lock: Lock, seconds: float, refused: RunLockedError) -> None:
        self._lock, self._seconds, self._refused = lock, seconds, refused

    def __enter__(self) -> Self:
        if not self._lock.acquire(self._seconds):
            raise self._lock.explained(self._refused)
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        try:
            self._lock.release()
        except StorageError:
            if error is None:
                raise


@contextmanager
def suppress_unknown() -> Iterator[None]:
    """What was not locked by the kernel needs no unlocking."""
    try:
        yield
    except OSError as error:
        if error.errno not in UNKNOWN:
            raise


def host() -> str:
    """The name of this machine, as a part of a file's name."""
    return re.sub(r"[^A-Za-z0-9.-]", "_", socket.gethostname())[:64]


def _is_alive(pid: int, since: int) -> bool:
    """Whether a process of this host is the one that began then; of what cannot be known it is taken for."""
    now = began(pid)
    return now >= 0 and (now == since or 0 in (now, since))


def began(pid: int) -> int:
    """When a process of this host began, in ticks of its kernel; 0 where only its life is known, -1: none."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
        return -1 if fields[0] in (b"Z", b"X") else int(fields[19])
    except (OSError, IndexError, ValueError):
        pass
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return -1
    except OSError:
        return 0
    return 0
