"""How far the workers are who draw images into a file, read from its folder of parts."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from merged_diffusion.errors import StorageError
from merged_diffusion.runs.directory import Directory
from merged_diffusion.runs.kept import as_kept
from merged_diffusion.runs.settings_file import read_settings
from merged_diffusion.sampling import sample_files
from merged_diffusion.sampling.batches import KnownIds
from merged_diffusion.sampling.parts import batch_names, is_share_taken, is_taken, part_of

OF_WORKER: Final = re.compile(r"(?:[0-9]{20}-|shard-)([0-9]{4,})-of-([0-9]{4,})(?:-[0-9a-f]{8}\.npz|\.lock)")
Shard = tuple[int, int]


@dataclass(frozen=True)
class Drawn:
    """``done`` of ``wanted`` images; how many each worker drew, and which are at work."""

    done: int = 0
    wanted: int = 0
    counts: Mapping[Shard, int] = field(default_factory=dict)
    at_work: frozenset[Shard] = frozenset()


@dataclass
class DrawingProgress:
    """Of the samples that are to lie at ``out``; what was seen last where they are on their way into it."""

    out: Path
    _known: KnownIds = field(default_factory=KnownIds, init=False)
    _seen: Drawn = field(default_factory=Drawn, init=False)
    _is_there: bool = field(default=False, init=False)  # the file

    def look(self) -> Drawn:
        """The state now."""
        if not self._is_there:
            with suppress(StorageError):  # the folder is taken apart while it is read
                self._seen = self._complete() or self._parts() or self._seen
        return self._seen

    def _complete(self) -> Drawn | None:
        if not is_taken(self.out):
            return None
        with as_kept(self.out):
            first, end = sample_files.read_record(sample_files.form_of(self.out), self.out)["ids"]
        self._is_there = True
        return Drawn(end - first, end - first, self._seen.counts)

    def _parts(self) -> Drawn | None:
        at = part_of(self.out)
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
            return Drawn(len(self._known.of(part, names)), end - first, counts, at_work)


def _of_workers(names: list[str]) -> list[tuple[str, Shard]]:
    found = ((name, OF_WORKER.fullmatch(name)) for name in names)
    return [(name, (int(match[1]), int(match[2]))) for name, match in found if match is not None]
