"""The append-only file of one worker: ``images-0000-of-0001.jsonl``, locked while it grows.

A record is written with one system call, so it survives the death of the process as soon as `append` returns.
It is forced to the disk at most every `SYNC_SECONDS` and at the end: a power failure costs the records in
between. After a failed write nothing is tried again; the valid lines before it stay.
"""

from __future__ import annotations

import json
import os
import socket
import stat
import time
from contextlib import suppress
from pathlib import Path
from typing import Final, Self, cast

from merged_diffusion.errors import Facts, IncompleteError, RunLockedError, StorageError
from merged_diffusion.runs.directory import Directory, write_all
from merged_diffusion.runs.known_records import KnownRecords, journals
from merged_diffusion.runs.lock import LOOK_SECONDS, Lock
from merged_diffusion.runs.places import storage_error, storing
from merged_diffusion.runs.records import encode, parsed
from merged_diffusion.scores.record import Record

SYNC_SECONDS: Final = 5.0


class Journal:
    """Records of one worker, ``records`` in memory. Opening it cuts a torn tail of ``cut`` bytes."""

    def __init__(
        self, path: Path, directory: Directory | None = None, known: KnownRecords | None = None
    ) -> None:
        """``directory``, where ``path`` lies, stays its owner's; ``known`` may have read it before."""
        self.path = path
        self._own = Directory(path.parent) if directory is None else None
        self._directory = directory or cast(Directory, self._own)
        self._lock = Lock(self._directory, path.with_suffix(".lock").name)
        self._owner = path.with_suffix(".owner").name
        self._file: int | None = None
        self._end = 0
        self._synced = time.monotonic()
        self.cut = 0
        try:
            self._acquire()
            self.records = self._open(known or KnownRecords(path.parent))
        except BaseException:
            with suppress(StorageError):
                self._release()
            raise

    def _acquire(self) -> None:
        if not self._lock.acquire(LOOK_SECONDS):
            owner = _read_owner(self._directory, self._owner)
            refused = RunLockedError(
                f"{self.path}: process {owner['pid']} on {owner['host']} works on this shard",
                hint="wait for it, stop it, or give each worker its own --shard I/N",
                **owner | {"file": str(self.path)},
            )
            raise self._lock.explained(refused)
        self._directory.remove_drafts([self._owner, self.path.name])
        me = {"host": socket.gethostname(), "pid": os.getpid()}
        self._directory.write(self._owner, json.dumps(me).encode())

    def _open(self, known: KnownRecords) -> list[Record]:
        name, folder = self.path.name, self._directory
        found = folder.status(name)
        if found is not None and stat.S_ISREG(found.st_mode) and found.st_nlink > 1:
            folder.write(name, folder.read(name))  # what has another name elsewhere stays as it is there
        self._file = folder.open(name, os.O_RDWR | os.O_CREAT | os.O_APPEND)
        status = os.fstat(self._file)
        records, self._end = known.at(self.path, status) or parsed(folder.read(name), self.path)
        self.cut = status.st_size - self._end
        with storing(self.path):
            if self.cut:
                os.ftruncate(self._file, self._end)
                os.fsync(self._file)
        folder.sync()
        return list(records)

    @property
    def held(self) -> tuple[Path, list[Record]] | None:
        """Its path and its records; None once it was closed, or lost to a failed write or to somebody."""
        return None if self._file is None else (self.path, self.records)

    def check(self) -> None:
        """`IncompleteError` where the file was removed, replaced or cut since it was opened."""
        if self._file is None:
            return
        found = self._directory.status(self.path.name)
        is_whole = (
            found is not None
            and os.path.samestat(found, os.fstat(self._file))
            and found.st_size >= self._end
            and self._directory.is_there()
        )
        if not is_whole:
            self._abandon()
            raise IncompleteError(
                f"{self.path}: was removed, replaced or cut while it was written; records are lost",
                hint="the same command goes on and scores the lost images again",
                file=str(self.path),
            )

    def append(self, record: Record) -> None:
        """Write one record."""
        line = encode(record.as_dict())
        if self._file is None:
            raise StorageError(f"{self.path}: is closed, after a failed write or at the end of a run")
        self.check()
        try:
            write_all(self._file, line)
            self._end += len(line)
            self.records.append(record)
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
                with storing(self.path):
                    os.fsync(self._file)
        except BaseException:
            self._release_quietly()
            raise
        self._release()

    def _abandon(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            with storing(self.path):
                os.close(file)

    def _release(self) -> None:
        try:
            self._abandon()
        finally:
            try:
                if self._lock.is_held:
                    self._directory.remove([self._owner])
            finally:
                self._lock.release()
                if self._own is not None:
                    self._own.close()

    def _release_quietly(self) -> None:
        with suppress(StorageError):
            self._release()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is None:
            self.close()
        elif isinstance(error, StorageError):
            self._release_quietly()
        else:
            with suppress(StorageError):  # what ended the run is told
                self.close()


def is_at_work(path: Path) -> bool:
    """Whether a process, on any host, holds the journal ``path``; one that was killed does not."""
    with Directory(path.parent) as folder:
        name = path.with_suffix(".lock").name
        if folder.status(name) is None:
            return False
        lock = Lock(folder, name)
        if not lock.acquire(0.0):
            return True
        lock.release()
        return False


def others_at_work(folder: Path, shard: tuple[int, int]) -> bool:
    """Whether a process other than the worker of ``shard`` is scoring images of a run."""
    own = journal_path(folder, shard)
    return any(is_at_work(path) for path in journals(folder) if path != own)


def worker_at_work(folder: Path, shard: tuple[int, int]) -> bool:
    """Whether a process is at work as worker I of N."""
    path = journal_path(folder, shard)
    return path.exists() and is_at_work(path)


def journal_path(folder: Path, shard: tuple[int, int]) -> Path:
    """The records of worker I of N."""
    index, count = shard
    return folder / f"images-{index:04d}-of-{count:04d}.jsonl"


def _read_owner(folder: Directory, name: str) -> Facts:
    try:
        owner = json.loads(folder.read(name))
        return {"host": owner["host"], "pid": owner["pid"]}
    except (StorageError, ValueError, KeyError, TypeError, RecursionError):
        return {"host": "an unnamed host", "pid": "of unknown number"}
