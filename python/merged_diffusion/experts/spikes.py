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
from dataclasses import dataclass, replace
from typing import Final, Self

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import sliding_window_view

from merged_diffusion.files.typed_values import TypedValues

STEP: Final = 0.03  # of gamma; the sum over a spike of width 0.02 is then right to 40 %, of 0.03 to 6 %
REACH: Final = 6  # steps; what is wider than twice that is seen by the nodes of a solver
FLOOR: Final = 5e-3  # bits/dim; trained experts: at most 0.0037
ALONE: Final = 8.0  # times the median around: what is as rough all around is no spike, but waves in z
AROUND: Final = 33  # points on both sides: a unit of gamma
MOST: Final = 8  # spikes that are told
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
    """Those of more than `FLOOR`, largest first."""

    def over(self, low: float, high: float) -> Self:
        """The same with the spikes that a solver meets between two gammas."""
        met = tuple(spike for spike in self.spikes if low - MARGIN <= spike.gamma <= high + MARGIN)
        return replace(self, spikes=met)

    def words(self, name: str) -> str | None:
        """What a warning says of an expert; None where there is nothing to warn of."""
        if not self.spikes:
            return None
        worst, others = self.spikes[0], len(self.spikes) - 1
        more = f", and at {others} other gammas" if others else ""
        return (
            f"expert {name} changes within about {worst.width:.2g} of gamma = {worst.gamma:.2f}{more}, which "
            f"steps may pass over: about {worst.bits_per_dim:.2g} bits/dim lie there; --method adams with "
            f"--h-max {max(worst.width / 3, STEP / 3):.1g} sees it"
        )


def n_points(low: float, high: float) -> int:
    """Of a scan from one gamma to another: how many forward calls, with a product each."""
    return max(4 * REACH + 1, math.ceil((high - low) / STEP) + 1)


def scan_of(gamma: Floats, eps_hat: Floats, q: Floats) -> GammaScan:
    """What eps_hat [K, d] and q [K] at gammas [K] in steps of about `STEP` tell."""
    step, dim = float(np.diff(gamma).mean()), eps_hat.shape[1]
    change, bend = _residuals(eps_hat), _residuals(q[:, None])[:, 0]
    window = np.ones(REACH + 1) * step / (2 * dim * math.log(2))
    shift = (change * np.nan_to_num(eps_hat, nan=0.0, posinf=0.0, neginf=0.0)).sum(axis=1)
    of_trace, of_path = (np.abs(np.convolve(part, window, "same")) for part in (bend, shift))
    sizes: Floats = of_trace + of_path
    at = int(sizes.argmax())
    heights = np.sqrt((change**2).sum(axis=1))
    found: list[Spike] = []
    left = sizes.copy()
    around = sliding_window_view(np.pad(sizes, AROUND, mode="symmetric"), 2 * AROUND + 1)
    left[sizes < ALONE * np.median(around, axis=1)] = 0.0
    while len(found) < MOST and left.max() > FLOOR:
        peak = int(left.argmax())
        near = slice(max(0, peak - REACH), peak + REACH + 1)
        middle = near.start + int(heights[near].argmax())
        core = heights[max(0, middle - REACH // 2) : middle + REACH // 2 + 1]
        width = step * float(core.sum() / core.max()) if core.max() > 0 else step
        found.append(Spike(round(float(gamma[middle]), 3), round(width, 3), float(f"{left[peak]:.3g}")))
        left[max(0, middle - 4 * REACH) : middle + 4 * REACH + 1] = 0.0
    return GammaScan(float(f"{sizes[at]:.3g}"), round(float(gamma[at]), 3), tuple(found))


def _residuals(values: Floats) -> Floats:
    """Of every point [K, n], by neighbours that are nearer towards the ends; 0 where they are not finite."""
    k = np.arange(len(values))
    reach = np.minimum(REACH, np.minimum(k, k[::-1]) // 2)
    inner = k[reach > 0]
    off, found = reach[inner], np.zeros_like(values)
    near = values[inner - off] + values[inner + off]
    far = values[inner - 2 * off] + values[inner + 2 * off]
    found[inner] = values[inner] - (4 * near - far) / 6
    return np.nan_to_num(found, nan=0.0, posinf=0.0, neginf=0.0)
