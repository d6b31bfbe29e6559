"""Thresholds of a pair that may be the best, and the gammas at which its profiles are measured."""

from __future__ import annotations

from itertools import pairwise
from typing import Final

import numpy as np

from merged_diffusion import _core
from merged_diffusion.errors import UsageError
from merged_diffusion.experts.base import Expert
from merged_diffusion.thresholds.eta_curves import (
    Floats,
)

SPACING: Final = 0.35  # of the profiles' gammas, at most; a network's loss changes over 1 to 2 of gamma
STEP: Final = 0.005  # of eta


def parts_of(likelihood: Expert, quality: Expert) -> tuple[float, float, float, float]:
    """Ends of the merged range, and between them the ends of what both experts were trained on."""
    begin, stop = likelihood.gamma_range
    low, end = quality.gamma_range
    low, high = max(begin, low), min(stop, end)
    if not low < high:
        raise UsageError(
            f"the experts {likelihood.name} {likelihood.gamma_range} and {quality.name} "
            f"{quality.gamma_range} have no gammas in common, so there is no threshold to choose",
            hint="take experts whose ranges overlap",
        )
    return begin, low, high, end


def candidates(ends: tuple[float, float], eta_range: tuple[float, float]) -> Floats:
    """Both ends of the common range and every multiple of `STEP` between them."""
    low, high = (float(_core.eta_of_gamma(end, eta_range)) for end in ends)
    inside = np.arange(np.floor(low / STEP) + 1, np.ceil(high / STEP)) * STEP
    return np.concatenate([[low], inside, [high]])


def profile_grid(parts: tuple[float, float, float, float]) -> tuple[Floats, int, int]:
    """Gammas of both profiles together, and where the quality's begin and the likelihood's end."""
    pieces = [
        np.linspace(a, b, max(int(np.ceil((b - a) / SPACING)), 1) + 1)[:-1]
        for a, b in pairwise(parts)
        if a < b
    ]
    grid = np.append(np.concatenate(pieces), parts[3])
    first, last = (int(np.flatnonzero(grid == end)[0]) for end in parts[1:3])
    return grid, first, last
