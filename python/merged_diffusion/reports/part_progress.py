"""How far workers are with a part of a command: a run, samples on their way into a file, rows of numbers."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import numpy as np

from merged_diffusion.errors import IncompleteError, StorageError
from merged_diffusion.jobs.kept_rows import ABOUT, FILE, read_columns
from merged_diffusion.jobs.kept_runs import wanted_ids
from merged_diffusion.runs import SETTINGS, open_run
from merged_diffusion.runs.directory import Directory
from merged_diffusion.runs.journal import is_at_work
from merged_diffusion.runs.kept import as_kept
from merged_diffusion.runs.known_records import KnownRecords, journals
from merged_diffusion.runs.settings_file import read_settings, read_versioned
from merged_diffusion.sampling import sample_files
from merged_diffusion.sampling.batches import KnownIds
from merged_diffusion.sampling.parts import batch_names, is_share_taken, is_taken, part_of
from merged_diffusion.sweeps.sweep_folder import MEASURE

JOURNAL: Final = re.compile(r"images-([0-9]+)-of-([0-9]+)\.jsonl")
OF_WORKER: Final = re.compile(r"(?:[0-9]{20}-|shard-)([0-9]{4,})-of-([0-9]{4,})(?:-[0-9a-f]{8}\.npz|\.lock)")
Shard = tuple[int, int]


@dataclass(frozen=True)
class Part:
    """``done`` of ``wanted`` images; how many each worker did, and which are at work."""

    done: int = 0
    wanted: int = 0
    counts: Mapping[Shard, int] = field(default_factory=dict)
    at_work: frozenset[Shard] = frozenset()
    is_measured: bool = False
    """Whether somebody is measuring how far samples are from the data."""


class RunProgress:
    """Of a run; ``of_all`` images of its set, or of those that its commands chose."""

    def __init__(self, run: Path, *, of_all: bool = False) -> None:
        self._run, self._of_all = run, of_all
        self._known = KnownRecords(run)

    def is_there(self) -> bool:
        """Whether the run is; one that failed is taken back."""
        return (self._run / SETTINGS).is_file()

    def look(self) -> Part:
        """The state now."""
        counts: Counter[Shard] = Counter()
        at_work: set[Shard] = set()
        for path in journals(self._run):
            found = JOURNAL.fullmatch(path.name)
            if found is None:
                continue
            shard = int(found[1]), int(found[2])
            counts[shard] += len(self._known.of(path)[0])
            if is_at_work(path):
                at_work.add(shard)
        run, there = open_run(self._run), {record.id for record in self._known.records()}
        if self._of_all:
            return Part(len(there), int(run.settings["data"]["n_set"]), counts, frozenset(at_work))
        ids = set(wanted_ids(run))
        return Part(len(ids & there), len(ids), counts, frozenset(at_work))


class DrawingProgress:
    """Of the samples that are to lie at ``out``; what was seen last where they are on their way into it."""

    def __init__(self, out: Path) -> None:
        self._out = out
        self._known = KnownIds()
        self._seen = Part()
        self._is_there = False  # the file

    def is_there(self) -> bool:
        """Whether the folder is; one without images is taken back."""
        return self._out.parent.is_dir()

    def look(self) -> Part:
        """The state now."""
        is_measured = False
        with suppress(StorageError):  # the folder is taken apart while it is read
            if not self._is_there:
                nobody = replace(self._seen, at_work=frozenset())
                self._seen = self._complete() or self._on_their_way() or nobody
            is_measured = is_at_work(self._out.with_name(MEASURE))
        return replace(self._seen, is_measured=is_measured)

    def _complete(self) -> Part | None:
        if not is_taken(self._out):
            return None
        with as_kept(self._out):
            first, end = sample_files.read_record(sample_files.form_of(self._out), self._out)["ids"]
        self._is_there = True
        return Part(end - first, end - first, self._seen.counts)

    def _on_their_way(self) -> Part | None:
        at = part_of(self._out)
        settings = read_settings(at)
        if settings is None:
            return None
        counts: Counter[Shard] = Counter()
        with as_kept(at), Directory(at) as part:
            first, end = settings["ids"]
            names = batch_names(part)
            for name, shard in _of_workers(names):
                counts[shard] += len(self._known.of(part, [name]))
            at_work = frozenset(s for _, s in _of_workers(part.names()) if is_share_taken(part, s))
            for shard in at_work:
                counts.setdefault(shard, 0)
            return Part(len(self._known.of(part, names)), end - first, counts, at_work)


class RowProgress:
    """Of rows of numbers by image (`KeptRows`); who is at work their folder does not say."""

    def __init__(self, rows: Path) -> None:
        self._path = rows
        self._counts: Counter[Shard] = Counter()
        self._read: set[str] = set()
        self._there: set[int] = set()

    def is_there(self) -> bool:
        """Whether the rows are."""
        return (self._path / ABOUT).is_file()

    def look(self) -> Part:
        """The state now."""
        about = read_versioned(
            self._path / ABOUT, what="what rows of numbers are of", hint=f"remove {self._path}"
        )
        with as_kept(self._path), Directory(self._path) as folder:
            for name in folder.names():
                found = FILE.fullmatch(name)
                if found is None or name in self._read:
                    continue
                with suppress(IncompleteError):  # removed while the folder was listed
                    (positions,) = read_columns(folder, name, "positions")
                    self._there.update(np.atleast_1d(positions).tolist())
                    self._counts[int(found["rank"]), int(found["count"])] += len(positions)
                    self._read.add(name)
            return Part(len(self._there), 0 if about is None else int(about["n"]), Counter(self._counts))


def _of_workers(names: list[str]) -> list[tuple[str, Shard]]:
    found = ((name, OF_WORKER.fullmatch(name)) for name in names)
    return [(name, (int(match[1]), int(match[2]))) for name, match in found if match is not None]
