"""The append-only file of one worker: ``images-0000-of-0001.jsonl``, locked while it grows.

A record is written with one system call, so it survives the death of the process as soon as `append` returns.
It is forced to the disk at most every `SYNC_SECONDS` and at the end: a power failure costs the records in
between. After a failed write nothing is tried again; the valid lines before it stay.
"""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from filelock import FileLock, Timeout

from merged_diffusion.errors import RunLockedError, StorageError
from merged_diffusion.reading import read_text
from merged_diffusion.runs.records import Record, encode, read_records

SYNC_SECONDS: Final = 5.0
LOCK_SECONDS: Final = 0.25  # outlasts the moment in which `is_at_work` holds the lock


def storage_error(path: Path, error: OSError) -> StorageError:
    """A failed write as the package's own error."""
    return StorageError(
        f"{path}: cannot be written ({error.strerror or error})",
        hint="free space or choose another --out; what was recorded is valid, the same command goes on",
        file=str(path),
        errno=error.errno,
    )


class Journal:
    """Records of one worker. Opening it cuts a torn tail; `cut` is the number of bytes that went."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = FileLock(path.with_suffix(".lock"), timeout=LOCK_SECONDS)
        self._owner = path.with_suffix(".owner")
        self._file: int | None = None
        self._synced = time.monotonic()
        self.cut = 0
        self._acquire()
        try:
            self.records = self._open()
        except BaseException:
            self._release()
            raise

    def _acquire(self) -> None:
        try:
            self._lock.acquire()
        except Timeout:
            owner = _read_owner(self._owner)
            raise RunLockedError(
                f"{self.path}: process {owner['pid']} on {owner['host']} works on this shard",
                hint="wait for it, stop it, or give each worker its own --shard I/N",
                file=str(self.path),
                **owner,
            ) from None
        except OSError as error:
            raise storage_error(self.path, error) from error
        try:
            self._owner.write_text(json.dumps({"host": socket.gethostname(), "pid": os.getpid()}), "utf-8")
        except OSError as error:
            self._lock.release()
            raise storage_error(self._owner, error) from error

    def _open(self) -> list[Record]:
        try:
            # A link would lead the log out of the run directory.
            flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_NOFOLLOW", 0)
            self._file = os.open(self.path, flags, 0o666)
            records, end = read_records(self.path)
            self.cut = os.fstat(self._file).st_size - end
            if self.cut:
                os.ftruncate(self._file, end)
                os.fsync(self._file)
        except OSError as error:
            raise storage_error(self.path, error) from error
        return records

    def append(self, record: Mapping[str, Any]) -> None:
        """Write one record."""
        line = encode(record)
        if self._file is None:
            raise StorageError(f"{self.path}: is closed, after a failed write or at the end of a run")
        try:
            while line:
                line = line[os.write(self._file, line) :]
            if time.monotonic() - self._synced > SYNC_SECONDS:
                os.fsync(self._file)
                self._synced = time.monotonic()
        except OSError as error:
            # Not synced again: after a failed flush the kernel may have dropped the pages and report success.
            self._abandon()
            raise storage_error(self.path, error) from error

    def close(self) -> None:
        """Force all records to the disk and free the shard."""
        try:
            if self._file is not None:
                os.fsync(self._file)
        except OSError as error:
            raise storage_error(self.path, error) from error
        finally:
            self._abandon()
            self._release()

    def _abandon(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _release(self) -> None:
        self._abandon()
        if self._lock.is_locked:
            self._owner.unlink(missing_ok=True)
            self._lock.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, StorageError):
            self._release()
        else:
            self.close()


def is_at_work(path: Path) -> bool:
    """Whether a process, on any host, holds the journal ``path``; one that was killed does not."""
    if not path.with_suffix(".owner").exists():
        return False
    lock = FileLock(path.with_suffix(".lock"), timeout=0)
    try:
        lock.acquire()
    except Timeout:
        return True
    lock.release()
    return False


def others_at_work(folder: Path, shard: tuple[int, int]) -> bool:
    """Whether a process other than the worker of ``shard`` is scoring images of a run."""
    own = journal_path(folder, shard)
    return any(is_at_work(path) for path in folder.glob("images-*.jsonl") if path != own)


def journal_path(folder: Path, shard: tuple[int, int]) -> Path:
    """The records of worker I of N."""
    index, count = shard
    return folder / f"images-{index:04d}-of-{count:04d}.jsonl"


def _read_owner(path: Path) -> dict[str, Any]:
    try:
        owner = json.loads(read_text(path))
        return {"host": owner["host"], "pid": owner["pid"]}
    except (OSError, ValueError, KeyError, TypeError):
        return {"host": "an unnamed host", "pid": "of unknown number"}
