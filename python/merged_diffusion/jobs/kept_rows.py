"""Rows of numbers by image in a folder that several workers see: small npz, each whole or not at all.

A file holds the positions [M] of images and their rows [M, W], in float32 where that loses nothing. Of two
rows of an image, which machines of two kinds may round differently, the lower worker's counts.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
import numpy.typing as npt

from merged_diffusion.data.images import Data
from merged_diffusion.errors import IncompleteError, RunCorruptError, RunMismatchError, StorageError
from merged_diffusion.jobs.blocks import Mask
from merged_diffusion.runs.directory import Directory, token
from merged_diffusion.runs.folder import locked
from merged_diffusion.runs.kept import UNREADABLE
from merged_diffusion.runs.places import make
from merged_diffusion.runs.settings_file import json_text, listed, read_versioned
from merged_diffusion.scores.by_image import Floats, Positions

FORMAT: Final = 1
ABOUT: Final = "rows.json"
FLUSH_SECONDS: Final = 10.0  # what a killed worker may lose
MOST: Final = 256  # rows of a file: of 2048 features 4 MiB
FILE: Final = re.compile(r"[0-9]{10}-(?P<rank>[0-9]{4,})-of-(?P<count>[0-9]{4,})-[0-9a-f]{8}\.npz")


class KeptRows:
    """The rows [N, W] of the images of ``data``, as far as they are there, in ``path``."""

    def __init__(self, path: Path, data: Data, width: int, shard: tuple[int, int] = (0, 1)) -> None:
        """Begin, or go on; ``shard`` is the worker that adds to them.

        Raises
        ------
        RunMismatchError
            What is there is of other images.
        StorageError
            It cannot be written.
        """
        self.path, self._width, self._shard = path, width, shard
        make(path)
        self._folder = Directory(path)
        with locked(self._folder, ABOUT):
            self._agree(data)
        self._names: list[str] = []
        self._file = np.full(len(data), -1)  # which holds the row of an image, and where in it
        self._rank = np.full(len(data), np.iinfo(np.int64).max)
        self._is_own = np.zeros(len(data), dtype=bool)  # what was appended here
        self._place = np.zeros(len(data), dtype=np.int64)
        self._read: dict[int, npt.NDArray[np.floating]] = {}
        self._waiting: list[tuple[Positions, Floats]] = []
        self._flushed = time.monotonic()

    def _agree(self, data: Data) -> None:
        ids = hashlib.sha256(np.ascontiguousarray(data.ids, dtype="<i8").tobytes()).hexdigest()
        labels = b"" if data.labels is None else np.ascontiguousarray(data.labels, dtype="<i8").tobytes()
        asked: dict[str, object] = {
            "format": FORMAT, "data": data.sha256, "n": len(data), "ids": ids, "width": self._width,
            "labels": hashlib.sha256(labels).hexdigest(),
        }  # fmt: skip
        held = read_versioned(
            self.path / ABOUT, what="what rows of numbers are of", hint=f"remove {self.path}"
        )
        if held is None:
            self._folder.write(ABOUT, json_text(asked))
        elif held != asked:
            found = {key: (held.get(key), own) for key, own in asked.items() if held.get(key) != own}
            raise RunMismatchError(
                f"{self.path}: holds what was measured of other images: {listed(found)}",
                hint="use another --work",
                differences={key: {"recorded": a, "asked": b} for key, (a, b) in found.items()},
            )

    def append(self, positions: Positions, rows: Floats) -> None:
        """Keep rows; they are on the disk after at most `FLUSH_SECONDS`, or `MOST` rows.

        The first row of an image stays: a crew may measure one twice, on other machines.
        """
        is_new = ~self._is_own[positions]
        positions, rows = positions[is_new], rows[is_new]
        self._is_own[positions] = True
        for first in range(0, len(positions), MOST):
            part = slice(first, first + MOST)
            self._waiting.append((positions[part], rows[part]))
            n = sum(len(own) for own, _ in self._waiting)
            if n >= MOST or time.monotonic() - self._flushed > FLUSH_SECONDS:
                self.flush()

    def flush(self) -> None:
        """Force what was appended to the disk."""
        waiting, self._waiting = self._waiting, []
        self._flushed = time.monotonic()
        if not waiting:
            return
        positions, rows = (np.concatenate(part) for part in zip(*waiting, strict=True))
        with np.errstate(over="ignore"):
            small = rows.astype(np.float32)
        is_exact = np.array_equal(small, rows, equal_nan=True)
        stream = io.BytesIO()
        np.savez(stream, allow_pickle=False, positions=positions, rows=small if is_exact else rows)
        index, count = self._shard
        name = f"{int(positions.min()):010d}-{index:04d}-of-{count:04d}-{token()}.npz"
        self._folder.write(name, stream.getvalue())

    def done(self) -> Mask:
        """[N] which images have a row, by whomever."""
        known = set(self._names)
        for name in sorted(self._folder.names()):
            match = FILE.fullmatch(name)
            if name in known or match is None:
                continue
            (positions,) = read_columns(self._folder, name, "positions")
            if positions.ndim != 1 or not np.isin(positions, np.arange(len(self._file))).all():
                raise _damaged(self.path / name)
            places = np.arange(len(positions))
            rank = int(match["rank"])
            new = rank < self._rank[positions]
            self._rank[positions[new]] = rank
            self._file[positions[new]] = len(self._names)
            self._place[positions[new]] = places[new]
            self._names.append(name)
        return self._file >= 0

    def at(self, positions: Positions) -> Floats:
        """The rows [M, W] of images at ascending positions; files that lie before them are forgotten.

        Raises
        ------
        IncompleteError
            They are not all there, or not any more.
        """
        if not self.done()[positions].all():
            raise IncompleteError(
                f"{self.path}: {int((~self.done()[positions]).sum())} rows are not there",
                hint="the same command goes on",
                file=str(self.path),
            )
        found = np.empty((len(positions), self._width))
        files = self._file[positions]
        for number in np.unique(files).tolist():
            here = files == number
            found[here] = self._rows(number)[self._place[positions[here]]]
        for number in list(self._read):
            of_file = np.flatnonzero(self._file == number)
            if not len(positions) or not len(of_file) or of_file[-1] <= positions[-1]:
                del self._read[number]
        return found

    def all(self) -> Floats:
        """The rows [N, W] of all images."""
        return self.at(np.arange(len(self._file)))

    def known(self) -> Floats:
        """Those rows [M, W] that are there."""
        return self.at(np.flatnonzero(self.done()))

    def _rows(self, number: int) -> npt.NDArray[np.floating]:
        if number not in self._read:
            name = self._names[number]
            positions, rows = read_columns(self._folder, name, "positions", "rows")
            if rows.shape != (len(positions), self._width):
                raise _damaged(self.path / name)
            self._read[number] = rows
        return self._read[number]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        try:
            if error is None:
                self.flush()
            else:
                with suppress(StorageError):  # what ended the command is told
                    self.flush()
        finally:
            self._folder.close()


def read_columns(folder: Directory, name: str, *keys: str) -> list[npt.NDArray[Any]]:
    """Columns of one file of rows.

    Raises
    ------
    IncompleteError
        It is not there any more.
    RunCorruptError
        It is something else.
    """
    path = folder.path / name
    if folder.status(name) is None:
        raise IncompleteError(
            f"{path}: was removed; its rows are lost",
            hint="the same command measures them again",
            file=str(path),
        )
    with os.fdopen(folder.open(name, os.O_RDONLY), "rb") as file:
        try:
            with np.load(file, allow_pickle=False) as columns:
                return [columns[key] for key in keys]
        except UNREADABLE as error:
            raise _damaged(path) from error


def _damaged(path: Path) -> RunCorruptError:
    return RunCorruptError(
        f"{path}: is no file of rows that this package writes",
        hint="remove it: what it held is measured again",
        file=str(path),
    )
