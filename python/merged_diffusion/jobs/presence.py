"""A worker's place in a folder that all workers see: its lock, and the signs that it gives of going on.

A lock alone says little: a stopped process keeps it, one that waits for ever for its GPU does, and where a
file system has no locks the claim of a machine that is gone stays. So a worker touches its lock file as it
goes on, and one that gives no sign for long is taken for gone; others may do its share twice then, no more.
Stamps are compared with each other and never with this machine's clock, since clocks of machines differ.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from merged_diffusion.errors import RunLockedError
from merged_diffusion.jobs import blocks
from merged_diffusion.jobs.block_sizes import LATE
from merged_diffusion.runs.directory import Directory
from merged_diffusion.runs.lock import LOOK_SECONDS, Lock
from merged_diffusion.sampling.parts import is_share_taken, share_lock

TOUCH_SECONDS: Final = 1.0
NAMED_SECONDS: Final = 60.0  # without a sign, after which it is said who is waited for
# And after which nobody waits any more: networks may be compiled, sums of features take long.
SILENT_SECONDS: Final = 600.0


class Presence:
    """Worker I of N in ``folder``; ``tell`` gets a line about others that give no sign."""

    def __init__(
        self,
        folder: Directory,
        shard: tuple[int, int],
        tell: Callable[[str], object] = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.shard = shard
        self._folder, self._tell, self._clock = folder, tell, clock
        self._lock = Lock(folder, share_lock(shard))
        self._begun = self._signed = self._touched = clock()
        self._longest = 0.0  # between two signs of this worker
        self._stamps: dict[int, tuple[int | None, float]] = {}  # of others, and since when they are so
        self._before: dict[int, int | None] = {}  # stamps of others when this worker began
        self._seen: set[int] = set()  # at work
        self._told: set[tuple[int, str]] = set()

    def take(self) -> None:
        """Take the place.

        Raises
        ------
        RunLockedError
            Another process has it.
        """
        if self._lock.acquire(LOOK_SECONDS):
            self._before = {rank: self._stamp(rank) for rank in self.others}
            self._touch()
            return
        rank, count = self.shard
        refused = RunLockedError(
            f"{self._folder.path}: another process is worker {rank} of {count} there",
            hint="wait for it, stop it, or give each worker its own --shard I/N",
            file=str(self._folder.path),
        )
        raise self._lock.explained(refused)

    def release(self) -> None:
        """Leave the place to others."""
        self._lock.release()

    def sign(self) -> None:
        """Say that this worker goes on."""
        now = self._clock()
        self._longest = max(self._longest, now - self._signed)
        self._signed = now
        if self._lock.is_held and now - self._touched >= TOUCH_SECONDS:
            self._touched = now
            self._touch()

    def _touch(self) -> None:
        name, stamp = share_lock(self.shard), time.time_ns()
        with suppress(OSError):  # others take it for gone at worst
            try:
                os.utime(name, ns=(stamp, stamp), dir_fd=self._folder.fd)
            except PermissionError:  # of a file that another user made
                os.utime(name, dir_fd=self._folder.fd)

    def is_at_work(self, rank: int) -> bool:
        """Whether worker ``rank`` of as many is there, and goes on as far as can be seen."""
        self.sign()
        shard = rank, self.shard[1]
        if not is_share_taken(self._folder, shard):
            self._stamps.pop(rank, None)
            return False
        self._seen.add(rank)
        stamp, now = self._stamp(rank), self._clock()
        if rank not in self._stamps or self._stamps[rank][0] != stamp:
            self._stamps[rank] = stamp, now
        silent = now - self._stamps[rank][1]
        if silent > max(SILENT_SECONDS, LATE * self._longest):
            self._say(rank, f"gave no sign for {silent:.0f} s and is not waited for; stop it")
            return False
        if silent > NAMED_SECONDS:
            self._say(rank, f"is waited for, which gave no sign for {silent:.0f} s")
        return True

    def is_expected(self, rank: int) -> bool:
        """Whether worker ``rank`` is there, or has not been since this one began and may still come."""
        if self.is_at_work(rank):
            return True
        has_come = rank in self._seen or self._stamp(rank) != self._before.get(rank)
        return not has_come and self._clock() - self._begun < blocks.GONE_SECONDS

    def _stamp(self, rank: int) -> int | None:
        found = self._folder.status(share_lock((rank, self.shard[1])))
        return None if found is None else found.st_mtime_ns

    @property
    def others(self) -> list[int]:
        """The other workers."""
        return [rank for rank in range(self.shard[1]) if rank != self.shard[0]]

    def _say(self, rank: int, what: str) -> None:
        kind = what.split()[0]
        if (rank, kind) not in self._told:
            self._told.add((rank, kind))
            self._tell(f"worker {rank} of {self.shard[1]} {what}")
