"""What the probes leave uncertain in a log P, and whether a few of them make up most of it.

With D_p how far probe p of m would move a draw's bound, the variance of their mean is
sum_p D_p^2 / (m (m - 1)); log P moves with the bound of a draw by the draw's weight (`_core.draw_weights`),
to first order in D.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

Disagreement = npt.NDArray[np.float64]
"""D_p [m] in nats, m >= 2; they add up to zero."""

HEAVY: Final = 0.5  # share of one probe in the variance
# Independent deviations below which a share of a half says little: of 30 squares of normal numbers the
# largest makes up more than half of the sum once in 4,000.
LEAST_FREEDOM: Final = 30


class HeavyTails:
    """Sums up the variance of all images and keeps the largest part that one probe has in it."""

    def __init__(self) -> None:
        self._variance = 0.0
        self._largest = 0.0
        self._freedom = 0

    def error(self, probes: Sequence[Disagreement], weights: npt.NDArray[np.float64]) -> float:
        """Standard error, in nats, of an image's log P from the probes of its draws."""
        parts = [
            (weight * found) ** 2 / (len(found) * (len(found) - 1))
            for weight, found in zip(weights, probes, strict=True)
        ]
        variance = float(sum(part.sum() for part in parts))
        self._variance += variance
        # Two probes deviate by as much in opposite directions: which of them is to blame nobody knows.
        self._largest = max(
            self._largest, *(float(part.max()) * (2 if len(part) == 2 else 1) for part in parts)
        )
        self._freedom += sum(len(part) - 1 for part in parts)
        return math.sqrt(variance)

    def warn(self) -> None:
        """Warn if one probe makes up more than half of the variance of all images."""
        if self._freedom >= LEAST_FREEDOM and self._largest > HEAVY * self._variance:
            warnings.warn(
                f"one probe contributes {self._largest / self._variance:.0%} of the variance of all probes: "
                "their law has heavy tails, and se_probe may be far too small; use more probes",
                stacklevel=4,
            )
