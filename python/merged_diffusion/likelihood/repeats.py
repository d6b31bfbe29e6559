"""What repeats say of a value: its error by their spread, and an interval that both kinds of error go into.

A value is the mean of R repeats, b_r = log 1/K sum exp of the K draws of each, with noise and probes of
their own. Their spread s^2 = sum (b_r - b)^2 / (R (R - 1)) is an unbiased estimate of the variance V of the
mean, V = V_noise + V_probe, with R - 1 degrees of freedom; what the probes tell, p^2, one of V_probe with
degrees nu of its own. V_noise is seen by the difference s^2 - p^2 alone, and its sum with p^2 is s^2 again,
whose degrees by Welch 1947 and Satterthwaite 1946, 2 E(s^2)^2 / var(s^2), are R - 1. So p^2 is a part of s^2,
and nothing is added. Of the intervals t(R - 1) s and t(nu) p the wider one is taken: it holds at least as
often as the first, which is exact for normal draws, and is no narrower than the probes alone allow.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import numpy as np

from merged_diffusion.scores.means import Floats, floats
from merged_diffusion.scores.student import student_t

MANY: Final = 1e6  # degrees of freedom: a normal law


def repeated_error(draws: Sequence[float | None], importance: int) -> float | None:
    """Standard error, in nats, of the mean over repeats of ``importance`` draws each; None of one repeat."""
    values = floats(draws)
    if len(values) < 2 * importance:
        return None
    repeats = np.logaddexp.reduce(values.reshape(-1, importance), axis=1)
    return float(repeats.std(ddof=1)) / math.sqrt(len(repeats))


def reaches(own: Floats, freedom: Floats, missed: Floats, level: float) -> Floats:
    """Half the width of an interval, by an error with so many degrees and one that is no estimate.

    Satterthwaite 1946 for the sum: what is no estimate from a few squares leaves no doubt of its own. His
    degrees jump where the estimate is small by chance, and t falls faster than the error grows; so the sum
    reaches no less far than the estimate alone.
    """
    error = np.sqrt(own**2 + missed**2)
    # Of an exact trace the error is 0, and any number of degrees will do.
    degrees = np.where(own == 0, 1, freedom)
    with np.errstate(divide="ignore", invalid="ignore"):
        of_sum = np.where(error == own, degrees, degrees * (error / own) ** 4)
    alone, both = (student_t(np.minimum(known, MANY), level) for known in (degrees, of_sum))
    found: Floats = np.maximum(alone * own, both * error)
    return found
