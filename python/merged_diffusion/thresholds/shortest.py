"""Who should be in charge where: the cheapest way through the noise levels, by dynamic programming.

Gammas are cut into intervals; in interval k expert i costs ``cost[i, k]`` and takes ``seconds[i, k]``.
Experts follow each other in their order, each at most once:

    V_i(k + 1) = min_{j <= i} V_j(k) + cost[i, k] + price seconds[i, k].

A budget of seconds is kept by a price on them (Lagrange): the choices that some price makes best are those on
the lower convex hull of cost over seconds, and between two of them no threshold of this grid gains much.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from merged_diffusion.bound.random_numbers import Floats

HALVINGS: Final = 40  # of a bracket of prices: below the last bit that matters to a choice


@dataclass(frozen=True)
class Course:
    """Expert ``charge[k]`` in each interval, and what that costs."""

    charge: tuple[int, ...]
    cost: float
    seconds: float

    def switches(self, n: int) -> list[int]:
        """The grid's positions at which each of n experts but the last hands over."""
        return [int(np.searchsorted(self.charge, number, side="right")) for number in range(n - 1)]


def cheapest(cost: Floats, seconds: Floats, price: float = 0.0) -> Course:
    """The course of least cost plus ``price`` seconds; infinite costs are ways that are closed.

    Raises
    ------
    ValueError
        Every way is closed.
    """
    n, length = cost.shape
    steps = cost + price * seconds
    best = np.zeros(n)
    came = np.empty((length, n), dtype=np.int64)
    for k in range(length):
        # Of all experts up to the i-th, the best one: as long as it is no worse, the same goes on.
        lead = 0
        for i in range(n):
            lead = i if best[i] <= best[lead] else lead
            came[k, i] = lead
        best = best[came[k]] + steps[:, k]
    last = int(np.argmin(best))
    if not np.isfinite(best[last]):
        raise ValueError("no course is open")
    charge = [last]
    for k in range(length - 1, 0, -1):
        charge.append(int(came[k, charge[-1]]))
    charge.reverse()
    at = np.array(charge), np.arange(length)
    return Course(tuple(charge), float(cost[at].sum()), float(seconds[at].sum()))


def within(cost: Floats, seconds: Floats, budget: float) -> Course:
    """The course of least cost that some price makes best and that takes at most ``budget`` seconds.

    Raises
    ------
    ValueError
        Every way is closed, or all of them take more.
    """
    free = cheapest(cost, seconds)
    if free.seconds <= budget:
        return free
    high = 1.0
    kept = cheapest(cost, seconds, high)
    while kept.seconds > budget:
        high *= 16
        kept = cheapest(cost, seconds, high)
        if high > 1e30:
            raise ValueError(f"the cheapest course takes {kept.seconds:.3g} seconds, more than {budget:.3g}")
    low = 0.0
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        found = cheapest(cost, seconds, middle)
        if found.seconds > budget:
            low = middle
        else:
            high = middle
            kept = found if found.cost <= kept.cost else kept
    return kept


def frontier(cost: Floats, seconds: Floats) -> list[Course]:
    """All corners of the lower convex hull of cost over seconds, the quickest first."""
    slow = cheapest(cost, seconds)
    quick = within(cost, seconds, _least(cost, seconds))
    found = {quick.charge: quick, slow.charge: slow}

    def between(one: Course, two: Course) -> None:
        if two.seconds - one.seconds <= 1e-12 * two.seconds:
            return
        price = (one.cost - two.cost) / (two.seconds - one.seconds)
        course = cheapest(cost, seconds, price)
        gain = one.cost + price * one.seconds - (course.cost + price * course.seconds)
        if course.charge in found or gain <= 1e-9 * abs(one.cost):
            return
        found[course.charge] = course
        between(one, course)
        between(course, two)

    between(quick, slow)
    return sorted(found.values(), key=lambda course: course.seconds)


def _least(cost: Floats, seconds: Floats) -> float:
    """The seconds of the quickest course, with a last bit to spare."""
    closed = np.where(np.isfinite(cost), 0.0, np.inf)
    return cheapest(closed, seconds, 1.0).seconds * (1 + 1e-12)
