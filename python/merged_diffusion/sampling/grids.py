"""Where samplers on a fixed grid stop on their way from noise to data: gammas, leg by leg.

The threshold is a node of every grid but the ancestral one's, so that no step crosses it and each step's
evaluations belong to one expert.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from merged_diffusion.merge import Leg

RHO: Final = 7.0  # Karras et al. 2022, eq. 5: short steps at low noise
# A node nearer to the threshold than this part of its step gives way to it: a step much shorter than the one
# after it is a poor base for a difference.
NEAR: Final = 1e-3

Gammas = npt.NDArray[np.float64]


def uniform(start: float, end: float, steps: int) -> Gammas:
    """Gammas [steps + 1] at equal distances; both ends exact."""
    return np.linspace(start, end, steps + 1)


def rho_grid(start: float, end: float, nodes: int) -> Gammas:
    """Gammas [nodes] whose sigma/alpha to the power 1/rho lie at equal distances; both ends exact."""
    roots = np.linspace(math.exp(start / (2 * RHO)), math.exp(end / (2 * RHO)), nodes)
    gammas: Gammas = 2 * RHO * np.log(roots)
    gammas[0], gammas[-1] = start, end
    return gammas


def by_legs(gammas: Gammas, legs: Sequence[Leg]) -> list[Gammas]:
    """A falling grid cut at the switches, which become nodes: for each leg, its start to its end."""
    room = NEAR * np.abs(np.diff(gammas)).max()
    parts = []
    for leg in legs:
        inner = gammas[(gammas < leg.start - room) & (gammas > leg.end + room)]
        parts.append(np.array([leg.start, *inner, leg.end]))
    return parts
