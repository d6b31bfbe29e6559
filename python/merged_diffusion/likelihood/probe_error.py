"""What the probes leave uncertain in a log P, and whether a few of them make up most of it.

The variance of a draw's bound is the sum of independent parts: of fixed probes, with D_p how far probe p of m
would move the bound, sum_p D_p^2 / (m (m - 1)); of fresh ones, a part from every node (`Spread`). log P
moves with the bound of a draw by the draw's weight (`_core.draw_weights`), to first order.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, Self

import numpy as np
import numpy.typing as npt

from merged_diffusion.caller import warn_caller

Floats = npt.NDArray[np.float64]

HEAVY: Final = 0.5  # share of one probe in the variance
# Below so many a share of a half says little: of 30 squares of normal numbers the largest makes up more than
# half of the sum once in 4,000.
LEAST_DEVIATIONS: Final = 30


@dataclass(frozen=True, eq=False)
class Parts:
    """Independent parts of the variance of a bound, in nats^2."""

    variances: Floats
    n_deviations: int
    """Of which they are the squares."""
    doubt: float
    """Half the variance of their sum, in nats^4: its square over its degrees of freedom."""

    @classmethod
    def of_deviations(cls, found: Floats) -> Self:
        """From D_p [m], m >= 2, in nats; they add up to zero."""
        m = len(found)
        parts = found**2 / (m * (m - 1))
        # Two probes deviate by as much in opposite directions: which of them is to blame nobody knows.
        return cls(parts.sum(keepdims=True) if m == 2 else parts, m - 1, float(parts.sum() ** 2 / (m - 1)))

    @classmethod
    def nothing(cls) -> Self:
        """Of an exact trace."""
        return cls(np.zeros(1), 1, 0.0)


class ProbeError(NamedTuple):
    """A standard error and its degrees of freedom; None where there is no error."""

    se: float
    freedom: float | None


class HeavyTails:
    """Sums up the variance of all images and keeps the largest part that one probe has in it."""

    def __init__(self) -> None:
        self._variance = 0.0
        self._largest = 0.0
        self._n_deviations = 0

    def error(self, draws: Sequence[Parts], weights: Floats, sharing: int = 1) -> ProbeError:
        """Standard error, in nats, of an image's log P from the probes of its draws.

        ``sharing`` draws after each other have the same probes, whose errors then move together: their
        standard errors add up. Degrees of freedom are the square of the variance over the sum of the squares
        of its parts over theirs (Satterthwaite 1946).
        """
        totals = np.array([draw.variances.sum() for draw in draws])
        errors = weights * np.sqrt(totals)
        groups = np.square(errors.reshape(-1, sharing).sum(axis=1))
        shares = errors * np.repeat(np.sqrt(groups), sharing)  # of the variance; a group's are its own
        variance, doubt = float(groups.sum()), 0.0
        for at, draw in enumerate(draws):
            if shares[at] > 0:
                group = groups[at // sharing]
                doubt += shares[at] * group * draw.doubt / totals[at] ** 2
                # The probe that is the largest part of one draw is so of all that share it.
                self._largest = max(self._largest, float(draw.variances.max() / totals[at] * group))
        self._variance += variance
        self._n_deviations += sum(draw.n_deviations for draw in draws[::sharing])
        return ProbeError(math.sqrt(variance), float(variance**2 / doubt) if doubt > 0 else None)

    def warn(self) -> None:
        """Warn if one probe makes up more than half of the variance of all images."""
        if self._n_deviations >= LEAST_DEVIATIONS and self._largest > HEAVY * self._variance:
            warn_caller(
                f"one probe contributes {self._largest / self._variance:.0%} of the variance of all probes: "
                "their law has heavy tails, and se_probe may be far too small; use more probes"
            )
