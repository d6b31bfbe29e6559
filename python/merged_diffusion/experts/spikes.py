"""Spikes in gamma: what an expert does within a step of a solver, as series of its outputs tell.

The nodes of a solver lie 0.2 to 0.7 apart in gamma, where eps_hat has to be smooth enough for them in z. What
an expert does between two of them, and takes back before the next, shows in no error estimate and in no
companion: a spike of width 0.03 made a mean 0.2 bits/dim wrong in silence. So eps_hat and q = sigma v^T J v
of one v are asked every `STEP` of gamma (`experts/gamma_scan.py`), and each value compared with the cubic
through its neighbours at once and twice the `REACH` on both sides,

    r = f - (4 f_-1 + 4 f_1 - f_-2 - f_2) / 6.

To first order the flow with r in it and the one without differ in log p by the integral of
(sigma div r - r eps_hat) / 2. So the size of a spike is

    (|sum of r_q| + |sum of r eps_hat|) STEP / (2 d log 2)    bits/dim

over a window as wide as the reach: what the trace has, and what the path has. They are added up, because of
one v and one image they are not the means that would take each other away.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final, Self

import numpy as np
import numpy.typing as npt

from merged_diffusion.files.typed_values import TypedValues

STEP: Final = 0.03  # of gamma; the sum over a spike of width 0.02 is then right to 40 %, of 0.03 to 6 %
REACH: Final = 6  # steps; what is wider than twice that is seen by the nodes of a solver
FLOOR: Final = 5e-3  # bits/dim; trained experts: at most 0.0044
SMALL: Final = 5e-4  # of those that are known; trained experts have at most three, of 0.0044 together
TOGETHER: Final = 1e-2  # bits/dim of all that a solver meets, where none is as large as `FLOOR`
ALONE: Final = 8.0  # times the median around it: what is as rough all around is no spike, but waves in z
AROUND: Final = 33  # points on both sides: a unit of gamma
MOST: Final = 8  # spikes that are told
APART: Final = 4 * REACH * STEP  # of gamma, between those that are told
MARGIN: Final = 0.1  # beyond the gammas that a solver asks: a spike there reaches into them

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Spike(TypedValues):
    """A change of eps_hat about ``gamma`` that is over after about ``width`` of it."""

    gamma: float
    width: float
    bits_per_dim: float
    """How much of a log density lies in it, if a solver does not see it."""


@dataclass(frozen=True)
class GammaScan(TypedValues):
    """What a scan of an expert found; sizes in bits/dim."""

    largest: float
    """Of all windows of gamma."""
    gamma: float
    """Its middle."""
    spikes: tuple[Spike, ...]
    """All of more than `SMALL`, largest first; after `over` those that are told."""
    together: float = 0.0
    """Of all that a solver meets, be they told or not; 0 before `over`."""

    def over(self, low: float, high: float) -> Self:
        """The same with the spikes that a solver meets between two gammas, and that matter.

        `MOST` of those above `FLOOR`, `APART`; of all, where they are `TOGETHER` as much.
        """
        asked = [spike for spike in self.spikes if low - MARGIN <= spike.gamma <= high + MARGIN]
        total = sum(spike.bits_per_dim for spike in asked)
        met: list[Spike] = []
        for spike in asked:
            if all(abs(spike.gamma - other.gamma) > APART for other in met):
                met.append(spike)
        together = max(self.together, float(f"{total:.3g}"))
        told = [spike for spike in met if together > TOGETHER or spike.bits_per_dim > FLOOR]
        return replace(self, spikes=tuple(told[:MOST]), together=together)

    def words(self, name: str) -> str | None:
        """What a warning says of an expert; None where there is nothing to warn of."""
        if not self.spikes:
            return None
        worst, others = self.spikes[0], len(self.spikes) - 1
        more = f", and at {others} other gammas" if others else ""
        return (
            f"expert {name} changes within about {worst.width:.2g} of gamma = {worst.gamma:.2f}{more}, which "
            f"steps may pass over: about {self.together:.2g} bits/dim lie there; "
            "--method adams with "
            f"--h-max {max(worst.width / 3, STEP / 3):.1g} sees it"
        )


def n_points(low: float, high: float) -> int:
    """Of a scan from one gamma to another: how many forward calls, with a product each."""
    return max(4 * REACH + 1, math.ceil((high - low) / STEP) + 1)


class Along:
    """What outputs tell that come in the order of their gammas: a few rows at a time, and few are held."""

    def __init__(self, n: int) -> None:
        self._reach = np.minimum(REACH, np.minimum(np.arange(n), np.arange(n)[::-1]) // 2)
        self._held: Floats = np.zeros((0, 0))
        self._first = 0  # the number of the first row that is held
        self._next = 0
        self._shift, self._heights = np.zeros(n), np.zeros(n)

    def add(self, eps_hat: Floats) -> None:
        """The next rows, eps_hat [B, d]."""
        held = np.concatenate([self._held, eps_hat]) if len(self._held) else eps_hat
        known = self._first + len(held)
        ready = np.arange(self._next, len(self._reach))
        waits = ready + 2 * self._reach[ready] >= known
        ready = ready[: int(waits.argmax())] if waits.any() else ready
        if len(ready):
            change = _residuals(held, ready - self._first, self._reach[ready])
            own = held[ready - self._first]
            self._shift[ready] = (change * np.nan_to_num(own, nan=0.0, posinf=0.0, neginf=0.0)).sum(axis=1)
            self._heights[ready] = np.sqrt((change**2).sum(axis=1))
            self._next = int(ready[-1]) + 1
        keep = max(self._first, self._next - 2 * REACH)
        self._held, self._first = held[keep - self._first :].copy(), keep

    def scan(self, gamma: Floats, q: Floats) -> GammaScan:
        """What all of them and q [K] at gammas [K] in steps of about `STEP` tell."""
        step, dim = float(np.diff(gamma).mean()), self._held.shape[1]
        bend = _residuals(q[:, None], np.arange(len(q)), self._reach)[:, 0]
        window = np.ones(REACH + 1) * step / (2 * dim * math.log(2))
        of_trace, of_path = (np.abs(np.convolve(part, window, "same")) for part in (bend, self._shift))
        sizes: Floats = of_trace + of_path
        at = int(sizes.argmax())
        found = tuple(_peaks(gamma, sizes, self._heights))
        return GammaScan(float(f"{sizes[at]:.3g}"), round(float(gamma[at]), 3), found)


def _peaks(gamma: Floats, sizes: Floats, heights: Floats) -> Iterator[Spike]:
    """All above `SMALL`, largest first, but for what is a larger one's own.

    A spike is in the residuals of points that have it among their neighbours, too: up to `REACH` away with
    2/3 of it, and up to twice that with 1/6, each widened by the window and by itself; and a wide one has
    tails.
    """
    step, left, k = float(np.diff(gamma).mean()), sizes.copy(), np.arange(len(sizes))
    mirrored = np.pad(k, AROUND, mode="symmetric")
    is_others = np.zeros(len(sizes), dtype=bool)
    while left.max() > SMALL:
        peak = int(left.argmax())
        around = mirrored[peak : peak + 2 * AROUND + 1]
        around = around[~is_others[around] & (np.abs(around - peak) > 2.5 * REACH)]
        if len(around) and left[peak] < ALONE * np.median(sizes[around]):
            left[peak] = 0.0
            continue
        near = slice(max(0, peak - REACH), peak + REACH + 1)
        middle = near.start + int(np.where(left[near] > 0, heights[near], -1.0).argmax())
        core = heights[max(0, middle - REACH // 2) : middle + REACH // 2 + 1]
        wide = float(core.sum() / core.max()) if core.max() > 0 else 1.0
        size = left[peak]
        yield Spike(round(float(gamma[middle]), 3), round(step * wide, 3), float(f"{size:.3g}"))
        away = np.abs(k - middle)
        is_own = away <= 2.5 * REACH + 1.5 * wide
        is_others |= is_own
        left[(away <= 1.5 * REACH + wide) | (is_own & (left <= size / 3))] = 0.0
        left[(away <= 2.5 * REACH + 3 * wide) & (left <= size / 15)] = 0.0
        left[peak] = 0.0


def _residuals(values: Floats, k: npt.NDArray[np.int64], reach: npt.NDArray[np.int64]) -> Floats:
    """Of rows k of values [K, n] by neighbours that far away; 0 where they are not finite, or have none."""
    near = values[k - reach] + values[k + reach]
    far = values[k - 2 * reach] + values[k + 2 * reach]
    found = values[k] - (4 * near - far) / 6
    found[reach == 0] = 0.0
    finite: Floats = np.nan_to_num(found, nan=0.0, posinf=0.0, neginf=0.0)
    return finite
