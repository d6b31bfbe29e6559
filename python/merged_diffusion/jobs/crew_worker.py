"""A worker of a crew as the process that hands out knows it, and when its block, or the worker, is given up.

Seconds are those for which that process listened: while it does something else, a worker that has said all
there is to say is not late.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from merged_diffusion.jobs.block_sizes import seconds_allowed
from merged_diffusion.jobs.crew import Keep, Spent
from merged_diffusion.runs.environment import Versions

HANGS: Final = 2.0  # times what a block is allowed, without a word, after which its worker is given up


@dataclass
class WorkerBlock:
    """Units of a work that a worker is at."""

    work: str
    pace: str
    units: frozenset[int]
    n_images: int
    begun: float
    expected: float | None  # seconds
    keep: Keep
    ended: Callable[[Spent], object]
    is_late: bool = False  # others do what is left of it


@dataclass
class CrewWorker:
    """Hired at a time of the clock; ``heard`` when it last said something, or was given something."""

    number: int
    hired: float
    heard: float = 0.0
    has_done: bool = False  # an image that nobody had done
    where: str = ""
    is_ready: bool = False
    versions: Versions | None = None  # where they are others than here
    speeds: dict[str, float] = field(default_factory=dict)  # images a second, of its last block of a pace
    block: WorkerBlock | None = None

    def hangs(self, now: float, n_lost: int) -> float | None:
        """Judge its block; for how long it said nothing, where that is longer than it may.

        Nobody knows how long the first images take. So after each of ``n_lost`` workers that did none, the
        next has twice the time, and images that take long are done in the end.
        """
        if self.block is None:
            return None
        allowed, silent = seconds_allowed(self.block.expected), now - self.heard
        self.block.is_late = now - self.block.begun > allowed
        return silent if self.block.is_late and silent > allowed * HANGS * 2.0**n_lost else None
