"""How far the workers of a run or of a sweep are, read from their records while they work.

A worker's speed is the number of records that it added between two looks, over the seconds between them;
``left`` is what is missing in all over the speed of all.
"""

from __future__ import annotations

import re
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from merged_diffusion.errors import RunError
from merged_diffusion.jobs.drawing_progress import DrawingProgress
from merged_diffusion.jobs.kept_runs import wanted_ids
from merged_diffusion.runs import PARTS, open_run, worker_at_work
from merged_diffusion.runs.known_records import KnownRecords, journals
from merged_diffusion.runs.settings_file import read_settings

JOURNAL: Final = re.compile(r"images-([0-9]+)-of-([0-9]+)\.jsonl")
SAMPLES: Final = "samples.npz"  # of a row of a sweep
LOOKS: Final = 30  # over which a speed is taken
Shard = tuple[int, int]


@dataclass(frozen=True)
class WorkerProgress:
    """Worker I of N: its records, whether it is at work, records a second; None before a second look."""

    shard: Shard
    n: int
    is_at_work: bool
    speed: float | None


@dataclass(frozen=True)
class Look:
    """All workers at one time: ``done`` of ``wanted`` images under all models; seconds left, if known."""

    done: int
    wanted: int
    workers: tuple[WorkerProgress, ...]
    left: float | None

    @property
    def is_over(self) -> bool:
        """Whether every image has a record."""
        return 0 < self.wanted <= self.done


@dataclass
class Watch:
    """The runs, or the samples of a sweep, in a folder; `look` gives their state at each time.

    A sweep of which no row has begun yet has none.

    Raises
    ------
    RunError
        The folder is neither a run nor a sweep.
    """

    folder: Path
    clock: Callable[[], float] = time.monotonic
    _known: dict[Path, KnownRecords] = field(default_factory=dict, init=False)
    _counts: deque[tuple[float, Counter[Shard]]] = field(
        default_factory=lambda: deque(maxlen=LOOKS), init=False
    )
    _drawn: dict[Path, DrawingProgress] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        if not self._runs() and not (self.folder / "sweep.json").is_file():
            open_run(self.folder)  # which says what is wrong
            raise RunError(f"{self.folder}: holds no run")

    def look(self) -> Look:
        """The state now."""
        counts: Counter[Shard] = Counter()
        at_work: set[Shard] = set()
        done = wanted = 0
        for run in self._runs():
            known = self._known.setdefault(run, KnownRecords(run))
            for path in journals(run):
                found = JOURNAL.fullmatch(path.name)
                if found is None:
                    continue
                shard = int(found[1]), int(found[2])
                counts[shard] += len(known.of(path)[0])
                if worker_at_work(run, shard):
                    at_work.add(shard)
            ids = set(wanted_ids(open_run(run)))
            wanted += len(ids)
            done += len(ids & {record.id for record in known.records()})
        for out in {path.with_name(SAMPLES) for path in self.folder.glob(f"*/{SAMPLES}*")}:
            drawn = self._drawn.setdefault(out, DrawingProgress(out)).look()
            done, wanted = done + drawn.done, wanted + drawn.wanted
            counts.update(drawn.counts)
            at_work |= drawn.at_work
        self._counts.append((self.clock(), counts))
        begin, before = self._counts[0]
        seconds = self._counts[-1][0] - begin
        speeds = {s: (n - before[s]) / seconds for s, n in counts.items()} if seconds > 0 else {}
        speed = sum(speeds.values())
        left = (wanted - done) / speed if speed else None
        workers = (WorkerProgress(s, counts[s], s in at_work, speeds.get(s)) for s in sorted(counts))
        return Look(done, wanted, tuple(workers), left)

    def _runs(self) -> list[Path]:
        """The folder itself, the rows of a sweep, and the experts alone beside either."""
        rows = [self.folder, *sorted(path for path in self.folder.glob("*") if path.is_dir())]
        is_single = read_settings(self.folder) is not None
        taken = [self.folder, *(self.folder / part for part in PARTS)] if is_single else rows[1:]
        return [path for path in taken if read_settings(path) is not None]
