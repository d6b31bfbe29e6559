"""How far the workers of a command are, read while they work from what they keep: a run, a sweep, ``--work``.

A worker's speed is the number of images that it added between two looks, over the seconds between them;
``left`` is what is missing in all over the speed of all.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from merged_diffusion.errors import RunError
from merged_diffusion.jobs.kept_rows import ABOUT
from merged_diffusion.jobs.telling import TOLD
from merged_diffusion.reports.part_progress import (
    OF_WORKER,
    DrawingProgress,
    Part,
    RowProgress,
    RunProgress,
    Shard,
)
from merged_diffusion.runs import PARTS, SETTINGS, open_run
from merged_diffusion.runs.directory import Directory
from merged_diffusion.runs.settings_file import SHARED, read_settings
from merged_diffusion.sampling.parts import is_share_taken
from merged_diffusion.sweeps import sweep_folder
from merged_diffusion.sweeps.sweep_folder import SAMPLES

LOOKS: Final = 30  # over which a speed is taken
BESIDE: Final = ("-calls", "-seconds")  # rows of what an exact run took


@dataclass(frozen=True)
class WorkerProgress:
    """Worker I of N: its images, whether it is at work, images a second; None before a second look."""

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
    is_over: bool
    """Whether every image is there, and what the command makes of all of them."""
    is_at_work: bool
    """Whether anybody is, be it that no images are missing and distances are measured."""


@dataclass
class Watch:
    """A run, a sweep, or ``--work`` of a `command`; `look` gives its state.

    A sweep of which no row has begun yet has no images. Of ``--work`` those are known that the command has
    come to.

    Raises
    ------
    RunError
        The folder is none of these.
    """

    folder: Path
    clock: Callable[[], float] = time.monotonic
    command: str | None = field(default=None, init=False)
    """Of ``--work``."""
    _told_before: bytes | None = field(default=None, init=False)
    _parts: dict[Path, RunProgress | DrawingProgress | RowProgress] = field(default_factory=dict, init=False)
    _counts: deque[tuple[float, Counter[Shard]]] = field(
        default_factory=lambda: deque(maxlen=LOOKS), init=False
    )

    def __post_init__(self) -> None:
        settings = read_settings(self.folder)
        named = None if settings is None else settings.get("command")
        self.command = named if named in SHARED else None
        self._told_before = self._told()
        self._find()
        if not self._parts and self.command is None and not (self.folder / sweep_folder.NAME).is_file():
            open_run(self.folder)  # which says what is wrong
            raise RunError(f"{self.folder}: holds no run")

    def look(self) -> Look:
        """The state now."""
        self._find()
        parts = {folder: part.look() for folder, part in self._parts.items()}
        at_work = self._in_place().union(*(part.at_work for part in parts.values()))
        counts = Counter(dict.fromkeys(at_work, 0))
        for part in parts.values():
            counts.update(part.counts)
        done, wanted = sum(part.done for part in parts.values()), sum(part.wanted for part in parts.values())
        self._counts.append((self.clock(), counts))
        begin, before = self._counts[0]
        seconds = self._counts[-1][0] - begin
        speeds = {s: (n - before[s]) / seconds for s, n in counts.items()} if seconds > 0 else {}
        speed = sum(speeds.values())
        left = (wanted - done) / speed if speed and self.command is None else None
        workers = (WorkerProgress(s, counts[s], s in at_work, speeds.get(s)) for s in sorted(counts))
        if self.command is None:
            is_over = 0 < wanted <= done and self._is_in_table(parts)
        else:
            told = self._told()
            is_over = told is not None and (told != self._told_before or not at_work)
        is_busy = bool(at_work) or any(part.is_measured for part in parts.values())
        return Look(done, wanted, tuple(workers), left, is_over, is_busy)

    def _find(self) -> None:
        """The parts that have begun, and are still there."""
        self._parts = {folder: part for folder, part in self._parts.items() if part.is_there()}
        if self.command is not None:
            runs = [path.parent for path in self.folder.rglob(SETTINGS) if path.parent != self.folder]
            rows = (path.parent for path in self.folder.rglob(ABOUT))
            beside = {run.with_name(f"{run.name}{end}") for run in runs for end in BESIDE}
            for run in runs:
                self._parts.setdefault(run, RunProgress(run, of_all=True))
            for folder in rows:
                if folder not in beside:
                    self._parts.setdefault(folder, RowProgress(folder))
            return
        inside = sorted(path for path in self.folder.glob("*") if path.is_dir())
        is_single = read_settings(self.folder) is not None
        for run in [self.folder, *(self.folder / part for part in PARTS)] if is_single else inside:
            if run not in self._parts and read_settings(run) is not None:
                self._parts[run] = RunProgress(run)
        for path in self.folder.glob(f"*/{SAMPLES}*"):
            self._parts.setdefault(path.parent, DrawingProgress(path.with_name(SAMPLES)))

    def _told(self) -> bytes | None:
        """The result of a command with ``--work``; a worker that hangs may be at work beyond it."""
        try:
            return (self.folder / TOLD).read_bytes()
        except FileNotFoundError:
            return None

    def _in_place(self) -> set[Shard]:
        """Who is at work by its place in ``--work``."""
        if self.command is None:
            return set()
        with Directory(self.folder) as folder:
            found = (OF_WORKER.fullmatch(name) for name in folder.names())
            shards = {(int(match[1]), int(match[2])) for match in found if match is not None}
            return {shard for shard in shards if is_share_taken(folder, shard)}

    def _is_in_table(self, parts: Mapping[Path, Part]) -> bool:
        """Whether the table of a sweep has all that its rows hold; a run needs none.

        Rows of an earlier command may be there that the table does not name, and nobody works on.
        """
        table = sweep_folder.read(self.folder)
        if table is None:
            return True
        rows = {self.folder / row.folder: row for row in table.rows}
        if not rows:
            return False

        def is_in(folder: Path) -> bool:
            row = rows.get(folder)
            if row is None:
                return not parts[folder].at_work and not parts[folder].is_measured
            if isinstance(self._parts[folder], DrawingProgress):
                return row.values.quality is not None or row.error is not None
            return row.values.n == parts[folder].wanted

        return all(map(is_in, parts))
