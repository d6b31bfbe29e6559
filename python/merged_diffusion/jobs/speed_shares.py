"""Shares that follow speed: blocks off a counter in a store that all workers see.

`block_sizes` says how large one is; a worker that takes none does so as long as the others go on taking some.
At the end the images without a record are looked for: those in the block of a worker that is gone, or that is
far behind its own speed, are computed by the others. Two records of an image are the same, so nothing is lost
where both come.

Where the store is gone, each worker goes on with its fixed share, and then with what is left of the others'.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

import numpy as np

from merged_diffusion.jobs.block_sizes import (
    LATE,
    LATE_SECONDS,
    least_units,
    next_units,
    seconds_allowed,
)
from merged_diffusion.jobs.blocks import Mask, Work
from merged_diffusion.jobs.crew import Crew

POLL_SECONDS: Final = 0.5


class StoreLost(Exception):  # noqa: N818  no error of ours: the work goes on without it
    """The store does not answer."""


class Store(Protocol):
    """What workers have in common beside the directory of the run; every call may raise `StoreLost`."""

    def add(self, key: str, n: int) -> int:
        """Count by n; the count after it."""

    def put(self, key: str, value: bytes) -> None:
        """Keep a value."""

    def get(self, key: str) -> bytes | None:
        """A value, or None where there is none."""


@dataclass
class SpeedShares:
    """Blocks off the counter of a ``store``, for worker I of N; ``tell`` is told where the store is lost."""

    store: Store
    shard: tuple[int, int]
    tell: Callable[[str], object] = lambda _: None
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], object] = time.sleep
    answers_for: tuple[int, int] = field(default=(0, 1), init=False)
    crew: Crew | None = field(default=None, init=False)
    _is_lost: bool = field(default=False, init=False)
    _paces: dict[str, float] = field(default_factory=dict, init=False)  # images a second, of the last block
    _seen: dict[int, tuple[bytes, float]] = field(default_factory=dict, init=False)

    @property
    def passes(self) -> tuple[Callable[[Work], Iterator[Mask]], ...]:
        """Blocks off the counter of every work, then what workers that are gone have left."""
        return self.first, self.rest

    def first(self, work: Work) -> Iterator[Mask]:
        """Blocks off the counter until it has come to the end."""
        if not self._is_lost:
            try:
                self._claim(work, [])  # in place of what this rank had before a restart
                yield from self._counted(work, f"{work.name}/0", None)
            except StoreLost as error:
                self._lost(error)
        if self._is_lost:
            yield from self._alone(work)

    def rest(self, work: Work) -> Iterator[Mask]:
        """What workers that are gone, or hang, have left, until all images have a record."""
        number = 0
        while not self._is_lost:
            try:
                orphans = self._awaited(work)
                if not orphans:
                    return
                number += 1
                yield from self._counted(work, f"{work.name}/{number}", orphans)
            except StoreLost as error:
                self._lost(error)
        yield from self._alone(work, helps=True)

    def _lost(self, error: StoreLost) -> None:
        self._is_lost = True
        self.tell(f"{error}: the worker that held the store is gone; going on with fixed shares")

    def _counted(self, work: Work, key: str, orphans: list[int] | None) -> Iterator[Mask]:
        units = self._agreed(work, key, orphans)
        counter = f"{key}/next"
        count, moved = -1, 0.0  # as this worker left it, or saw others move it, and when they did
        while True:
            taken = self.store.add(counter, 0)
            if taken != count:
                count, moved = taken, self.clock()
            if taken >= len(units):
                return
            size = self._size(work, len(units) - taken, self.clock() - moved)
            if not size:
                self.sleep(POLL_SECONDS)
                continue
            count = self.store.add(counter, size)
            # After a restart the units are as those who came first found them.
            left = work.open_units()
            block = [unit for unit in units[count - size : count] if unit in left]
            if not block:
                continue
            self._claim(work, block)
            begin = self.clock()
            yield work.mask(block)
            speed = self._paces[work.pace] = len(block) * work.unit / max(self.clock() - begin, 1e-9)
            self.store.put(f"speed/{work.pace}{self.shard[0]}", repr(speed).encode())
            self._claim(work, [])

    def _agreed(self, work: Work, key: str, orphans: list[int] | None) -> list[int]:
        """The units that the counter counts: as the first to come found them open."""
        if self.store.add(f"{key}/came", 1) == 1:
            units = sorted(work.open_units()) if orphans is None else orphans
            self.store.put(f"{key}/units", np.array(units, dtype="<i8").tobytes())
            return units
        begin = self.clock()
        while (found := self.store.get(f"{key}/units")) is None:
            if self.clock() - begin > LATE_SECONDS:
                raise StoreLost(f"nobody said which images of {work.name} are left")
            self.sleep(POLL_SECONDS / 10)
        agreed: list[int] = np.frombuffer(found, dtype="<i8").tolist()
        return agreed

    def _size(self, work: Work, left: int, still: float) -> int:
        """How many of the units that are left make this worker's next block; 0: they are the others'.

        ``still`` are the seconds since another took any: one that hangs, or fails at this work, does not.
        """
        own = self._paces.get(work.pace)
        others = {} if own is None else self._others_speeds(work.pace)

        def others_go_on(seconds: float) -> bool:
            fastest = max(others, key=others.__getitem__)
            return still < LATE_SECONDS + LATE * seconds and work.is_at_work(fastest)

        n_unknown = self.shard[1] - 1 - len(others)
        return next_units(work, left, own, list(others.values()), n_unknown, others_go_on)

    def _others_speeds(self, pace: str) -> dict[int, float]:
        found = ((rank, self.store.get(f"speed/{pace}{rank}")) for rank in range(self.shard[1]))
        return {rank: float(text) for rank, text in found if text is not None and rank != self.shard[0]}

    def _claim(self, work: Work, block: Sequence[int]) -> None:
        speed = self._paces.get(work.pace)
        seconds = None if speed is None else len(block) * work.unit / speed
        claim = {"work": work.name, "units": list(block), "seconds": seconds}
        self.store.put(f"claim/{self.shard[0]}", json.dumps(claim).encode())

    def _awaited(self, work: Work) -> list[int]:
        """The units that nobody will do, once that is sure; none where all are done."""
        before: set[int] = set()
        while True:
            begin = self.clock()
            claimed = self._claimed(work)  # before the records, which may come in between
            left = work.open_units()
            if not left:
                return []
            orphans = left - claimed
            if orphans and orphans <= before:
                return sorted(orphans)
            before = orphans
            self.sleep(max(POLL_SECONDS, 10 * (self.clock() - begin)))

    def _claimed(self, work: Work) -> set[int]:
        """The units of this work that are in the block of a worker which is there and not late."""
        found: set[int] = set()
        for rank in range(self.shard[1]):
            text = None if rank == self.shard[0] else self.store.get(f"claim/{rank}")
            if text is None:
                continue
            claim = json.loads(text)
            if claim["work"] != work.name or not claim["units"]:
                continue
            if self._seen.get(rank, (b"", 0.0))[0] != text:
                self._seen[rank] = text, self.clock()
            allowed = seconds_allowed(claim["seconds"])
            if self.clock() - self._seen[rank][1] < allowed and work.is_at_work(rank):
                found |= set(claim["units"])
        return found

    def _alone(self, work: Work, *, helps: bool = False) -> Iterator[Mask]:
        """Without a store, a call's rows at a time: the fixed share; then, from their ends, those of others.

        A worker that is behind comes from the beginning of its share, and finds done what others have done.
        """
        index, count = self.shard
        least = least_units(work)
        while left := sorted(work.open_units()):
            own = [unit for unit in left if unit % count == index]
            if own:
                yield work.mask(own[:least])
            elif helps:
                # Each begins elsewhere, so that they seldom do the same.
                end = len(left) - len(left) * index // count
                yield work.mask(left[max(0, end - least) : end])
            else:
                return
