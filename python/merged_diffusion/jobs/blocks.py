"""Images to be computed, and who computes which: every worker a fixed share, or as `SpeedShares` say.

Every image is a problem of its own, so who computes it changes no bit of its record. `FixedShare` is worker I
of N: the units u with u mod N = I. `JointShare` is the same of a worker that needs what the others compute.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt

from merged_diffusion.jobs.crew import Crew

Mask = npt.NDArray[np.bool_]

POLL_SECONDS: Final = 0.5
GONE_SECONDS: Final = 60.0  # without a sign of a worker, after which its share is everybody's


@dataclass(frozen=True)
class Work:
    """Images to be computed under one model; the same ``name`` and order in all workers.

    ``unit`` images go together (1, or a block that shares its steps), a network call has ``rows``; ``done``
    tells [n] which images have a record by whomever, ``is_at_work`` whether a worker has the run open. Works
    of one ``pace`` take as long for an image.
    """

    name: str
    n: int
    unit: int
    rows: int
    done: Callable[[], Mask]
    is_at_work: Callable[[int], bool]
    pace: str = ""

    def open_units(self) -> set[int]:
        """The units of which an image has no record."""
        return set((np.flatnonzero(~self.done()) // self.unit).tolist())

    def mask(self, units: Sequence[int]) -> Mask:
        """[n] of the images of units."""
        return np.isin(np.arange(self.n) // self.unit, np.asarray(units, dtype=np.int64))


class Blocks(Protocol):
    """The images of this worker, as masks; ``shard`` names its own files."""

    @property
    def shard(self) -> tuple[int, int]:
        """Worker I of N."""

    @property
    def answers_for(self) -> tuple[int, int]:
        """The share that has to be there when this worker ends."""

    @property
    def crew(self) -> Crew | None:
        """Who computes the images of a mask, in the place of this process."""

    @property
    def passes(self) -> tuple[Callable[[Work], Iterator[Mask]], ...]:
        """Each is to be gone through for all works, before the next is."""


def fixed_part(n: int, unit: int, shard: tuple[int, int], done: Mask) -> Mask:
    """[n] what worker I of N has to compute: images I, I + N, ... or whole blocks of ``unit`` of them."""
    index, count = shard
    units = np.arange(n) // unit
    undone = np.isin(units, units[~done])
    part: Mask = (units % count == index) & undone
    return part


@dataclass(frozen=True)
class FixedShare:
    """Worker I of N; it waits for nobody."""

    shard: tuple[int, int] = (0, 1)

    @property
    def answers_for(self) -> tuple[int, int]:
        """Its share."""
        return self.shard

    @property
    def crew(self) -> None:
        """None: it computes itself."""
        return

    @property
    def passes(self) -> tuple[Callable[[Work], Iterator[Mask]], ...]:
        """One, which gives the share at once: other shares are others'."""
        return (self._share,)

    def _share(self, work: Work) -> Iterator[Mask]:
        part = fixed_part(work.n, work.unit, self.shard, work.done())
        if part.any():
            yield part


@dataclass(frozen=True)
class JointShare:
    """Worker I of N, which stays until all is done: the share of one that is gone is everybody's."""

    shard: tuple[int, int]
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], object] = time.sleep
    answers_for: tuple[int, int] = field(default=(0, 1), init=False)
    _seen: dict[int, float] = field(default_factory=dict, init=False)  # when each was last at work

    def __post_init__(self) -> None:
        """Who has not come yet may come."""
        self._seen.update(dict.fromkeys(range(self.shard[1]), self.clock()))

    @property
    def crew(self) -> None:
        """None: it computes itself."""
        return

    @property
    def passes(self) -> tuple[Callable[[Work], Iterator[Mask]], ...]:
        """The share, then what workers that are gone have left."""
        return FixedShare(self.shard).passes[0], self._rest

    def _rest(self, work: Work) -> Iterator[Mask]:
        index, count = self.shard
        least = math.ceil(work.rows / work.unit)
        while left := sorted(work.open_units()):
            begin = self.clock()
            others = [rank for rank in range(count) if rank != index]
            self._seen.update({rank: begin for rank in others if work.is_at_work(rank)})
            gone = [rank for rank in others if self.clock() - self._seen[rank] >= GONE_SECONDS]
            there = [rank for rank in range(count) if rank not in gone]
            # Each that is there takes every so many of them.
            place = there.index(index)
            own = [unit for unit in left if unit % count in gone and unit // count % len(there) == place]
            own += [unit for unit in left if unit % count == index]
            if own:
                yield work.mask(own[:least])
            else:
                self.sleep(max(POLL_SECONDS, 10 * (self.clock() - begin)))


ALONE: Final = FixedShare()
