"""The records of a run, kept in memory: a journal is read once, and again only after it has changed."""

from __future__ import annotations

import os
from pathlib import Path

from merged_diffusion.errors import StorageError
from merged_diffusion.runs.places import storage_error
from merged_diffusion.runs.records import read_records
from merged_diffusion.scores.record import Record

Stamp = tuple[int, ...]


class KnownRecords:
    """What the journals of ``folder`` hold; nothing is read before it is asked for."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._read: dict[Path, tuple[Stamp, tuple[list[Record], int]]] = {}

    def of(self, path: Path) -> tuple[list[Record], int]:
        """The records of one journal, and the offset behind the last of them (`read_records`)."""
        try:
            found = path.stat()
        except OSError as error:
            raise StorageError(f"{path}: cannot be read ({error.strerror})", file=str(path)) from error
        known = self.at(path, found)
        if known is None:
            known = read_records(path)
            self._read[path] = _stamp(found), known
        return known

    def at(self, path: Path, status: os.stat_result) -> tuple[list[Record], int] | None:
        """The same if it was read already and has not changed since, by its ``status``."""
        stamp, known = self._read.get(path, (None, None))
        return known if stamp == _stamp(status) else None

    def records(self, own: tuple[Path, list[Record]] | None = None) -> list[Record]:
        """The records of all workers, one per id, in ascending order of ids; ``own`` is a journal in writing.

        Raises
        ------
        RunCorruptError
            A line before the tail is damaged.
        """
        found: dict[int, Record] = {}
        for path in journals(self.folder):
            for record in own[1] if own is not None and own[0] == path else self.of(path)[0]:
                found.setdefault(record.id, record)
        return [found[key] for key in sorted(found)]


def _stamp(status: os.stat_result) -> Stamp:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def journals(folder: Path) -> list[Path]:
    """The records of all workers, in the order of their names; `StorageError` where it cannot be listed."""
    try:
        return sorted(folder.glob("images-*.jsonl"))
    except OSError as error:
        raise storage_error(folder, error, "read") from error
