"""Images to be computed, and who computes which: every worker a fixed share, or as `SpeedShares` say.

Every image is a problem of its own, so who computes it changes no bit of its record. `FixedShare` is worker I
of N: the units u with u mod N = I.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Work:
    """Images to be computed under one model; the same ``name`` and order in all workers.

    ``unit`` images go together (1, or a block that shares its steps), a network call has ``rows``; ``done``
    tells [n] which images have a record by whomever, ``is_at_work`` whether a worker has the run open.
    """

    name: str
    n: int
    unit: int
    rows: int
    done: Callable[[], Mask]
    is_at_work: Callable[[int], bool]

    @property
    def n_units(self) -> int:
        """How many units the images make."""
        return math.ceil(self.n / self.unit)

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
    def passes(self) -> tuple[Callable[[Work], Iterator[Mask]], ...]:
        """One, which gives the share at once: other shares are others'."""
        return (self._share,)

    def _share(self, work: Work) -> Iterator[Mask]:
        part = fixed_part(work.n, work.unit, self.shard, work.done())
        if part.any():
            yield part


ALONE: Final = FixedShare()
