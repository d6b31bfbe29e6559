"""How much a worker takes next of what is left: guided self-scheduling by measured speed.

A block is half of what is left, in the proportion of the worker's speed to that of all (Polychronopoulos and
Kuck 1987), so that all end together; a worker that would still be at its block when the others have done all
that is left takes none.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Final

from merged_diffusion.jobs.blocks import Work

BLOCK_SECONDS: Final = 300.0  # that a block may take: what a worker that dies may lose
# A worker is given up when its block takes so many times what its speed says, and so long beyond it.
LATE: Final = 3.0
LATE_SECONDS: Final = 120.0
UNKNOWN_SECONDS: Final = 1200.0  # for a first block, of which nobody knows how long it takes


def least_units(work: Work) -> int:
    """The units of one network call."""
    return math.ceil(work.rows / work.unit)


def next_units(
    work: Work,
    left: int,
    own: float | None,
    others: Sequence[float],
    n_unknown: int,
    others_go_on: Callable[[float], bool],
) -> int:
    """How many of the ``left`` units make the next block of a worker; 0: they are the others'.

    ``own`` and ``others`` are speeds in images a second; None before a first block, as of ``n_unknown`` other
    workers, which are taken for as fast as this one. ``others_go_on(seconds)``: whether the fastest of the
    others can be relied on to have done what is left in so many seconds.
    """
    least = least_units(work)
    if own is None:
        return least
    total = own * (1 + n_unknown) + sum(others)
    fastest = max(others, default=own)
    if own < fastest:
        block = min(least, left) * work.unit
        by_others = left * work.unit / (total - own) + block / fastest
        if block / own > by_others and others_go_on(by_others):
            return 0
    share = math.ceil(left * own / total / 2)
    return max(least, min(share, int(BLOCK_SECONDS * own / work.unit)))


def seconds_allowed(expected: float | None) -> float:
    """After how long a block that should take ``expected`` seconds is late; None: nobody knows."""
    return LATE_SECONDS + LATE * expected if expected else UNKNOWN_SECONDS
