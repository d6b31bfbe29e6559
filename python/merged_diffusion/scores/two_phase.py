"""The mean of N values of which n are known: regression on features that all N have (two-phase sampling).

With exact values y [n] of a random choice out of N, and features x [p] of all N (Cochran 1977, chapter 7;
Särndal et al. 1992, chapter 6, whose g these are):

    mean = mean_n y + b . (mean_N x - mean_n x),                     b by least squares,
    g_i = 1 + n (mean_N x - mean_n x)^T S^-1 (x_i - mean_n x),       S = sum (x - mean)(x - mean)^T,
    u_i = sqrt((n - 1)/n) r_i/(1 - h_i),                             residuals r, leverages h,
    se^2 = (1 - n/N) sum (g_i u_i)^2/n^2 + mean(errors^2)/N,

and intervals by Student's t with n - 1 - p degrees of freedom. u is the jackknife's residual (MacKinnon and
White 1985, their HC3): sum (g_i u_i)^2/n^2 is (n - 1)/n times the sum of squares of what leaving one value
out changes. Without features it is the classical s^2/n.

The factor 1 - n/N is that of a finite set: once all values are known, no error of the choice is left. What an
error of each value's own (a probe's, a draw's) leaves in the mean of all N values has no such factor; what it
does to the n known ones is a part of r already. Errors that are not known count as none: the interval is then
of the mean that all N values would have with the random numbers that they were measured with.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from merged_diffusion import _core
from merged_diffusion.scores.means import Floats
from merged_diffusion.scores.student import student_t

Integers = npt.NDArray[np.int64]
COLLINEAR: Final = 1e-6  # of a feature's own length: less is left of it where others say the same
ALONE: Final = 1e-9  # less than this is left of 1 - h where one value alone decides a coefficient


@dataclass(frozen=True)
class TwoPhase:
    """A mean over N values in their unit, and its errors; None stands for what n values do not tell."""

    mean: float
    se: float | None
    se_choice: float | None
    """Of the choice of n out of N, features made use of."""
    se_errors: float | None
    """Of the errors of the values themselves; None where they have none that is known."""
    se_population: float | None
    """Of the mean of a population from which the N were drawn, by clusters where there are some."""
    low: float | None
    high: float | None
    freedom: int
    """Degrees of freedom of the interval from ``low`` to ``high``."""
    correlation: float | None
    """Multiple R of values and features; None without features, or where the values do not vary."""
    saved: float | None
    """How many times n values without features would have the same error."""
    residual: float | None
    """Standard deviation of the residuals."""


def two_phase(
    y: Floats,
    positions: Integers,
    features: Floats,
    *,
    errors: Floats | None = None,
    clusters: Integers | None = None,
) -> TwoPhase:
    """The mean over all N values.

    Parameters
    ----------
    y, positions
        Values [n], and which of the N they are of [n]: a random choice, each once.
    features
        Of all N [N, p]; `unusable` names none among those of the n.
    errors
        Standard errors of the values [n], independent of each other.
    clusters
        Of all N [N]: what is not independent in the population; the choice within the set knows none.
    """
    n, n_set, p = len(y), *features.shape
    freedom = n - 1 - p
    chosen = features[positions]
    centre, scale = chosen.mean(axis=0), _scales(chosen)
    q, r = np.linalg.qr((chosen - centre) / scale)
    mean = float(y.mean())
    slope = np.linalg.solve(r, q.T @ (y - mean)) / scale
    shift = features.mean(axis=0) - centre
    g = 1 + n * q @ np.linalg.solve(r.T, shift / scale)
    fitted = mean + (features - centre) @ slope
    residual = y - fitted[positions]
    estimate = mean + float(shift @ slope)
    se_errors = None if errors is None else math.sqrt(float(np.square(errors).mean()) / n_set)
    if freedom < 1:
        return TwoPhase(estimate, None, None, se_errors, None, None, None, freedom, None, None, None)
    leverage = 1 / n + np.square(q).sum(axis=1)
    pulled = g * residual / (1 - leverage) * math.sqrt((n - 1) / n)
    se_choice = math.sqrt((1 - n / n_set) * float(np.square(pulled).sum())) / n
    se = math.hypot(se_choice, se_errors or 0.0)
    half = float(student_t(freedom)) * se
    spread, left = float(np.square(y - mean).sum()), float(np.square(residual).sum())
    return TwoPhase(
        estimate,
        se,
        se_choice,
        se_errors,
        _population(fitted, positions, pulled, clusters),
        estimate - half,
        estimate + half,
        freedom,
        math.sqrt(max(0.0, 1 - left / spread)) if p and spread > 0 else None,
        _saved(spread / (n - 1), se_choice**2, n, n_set),
        math.sqrt(left / freedom),
    )


def _scales(values: Floats) -> Floats:
    """Lengths of the centred columns [p]: features have units of their own."""
    found: Floats = np.sqrt(np.square(values - values.mean(axis=0)).sum(axis=0))
    return np.where(found > 0, found, 1.0)


def _population(
    fitted: Floats, positions: Integers, pulled: Floats, clusters: Integers | None
) -> float | None:
    """Standard error for a population, by the values that the N would have if theirs were the mean's.

    These are the fitted ones, and N/n times g u added to each one that is known: the spread of their sums
    over clusters is that of both phases.
    """
    values = fitted.copy()
    values[positions] += len(fitted) / len(positions) * pulled
    if clusters is None:
        return _core.mean_and_error(values)[1]
    return _core.clustered_error(values, clusters)


def _saved(spread: float, variance: float, n: int, n_set: int) -> float | None:
    """Values m without features for a ``variance`` of the mean, over n: (1 - m/N) spread/m = variance."""
    if spread == 0:
        return None
    return spread / (variance + spread / n_set) / n


def values_for(se: float, residual: float, error: float, n_set: int) -> int | None:
    """How many of N values have to be known for a standard error; None where not even all would do.

    Solves (1 - n/N) residual^2/n + error^2/N = se^2, ``error`` being the root mean square of the values' own.
    """
    left = se**2 - error**2 / n_set
    if left < 0:
        return None
    variance = residual**2
    if variance == 0:
        return 1
    return min(n_set, max(1, math.ceil(variance / (left + variance / n_set) * (1 - 1e-12))))


def unusable(features: Floats) -> dict[int, str]:
    """Which columns [n, p] no regression on these n can use, and why; the first of several that agree stays.

    What is decided depends on features alone, never on the values, and so leaves the mean unbiased.
    """
    found: dict[int, str] = {}
    kept: list[int] = []
    for column in range(features.shape[1]):
        reason = _why_not(features[:, kept], features[:, column])
        if reason is None:
            kept.append(column)
        else:
            found[column] = reason
    return found


def _why_not(others: Floats, one: Floats) -> str | None:
    if np.ptp(one) <= COLLINEAR * float(np.abs(one).max()):
        return "does not vary"
    q = _basis(others)
    own = (one - one.mean()) / _scales(one[:, None])
    own = own - q @ (q.T @ own)
    length = float(np.linalg.norm(own))
    if length < COLLINEAR:
        return "says what others say"
    leverage = 1 / len(one) + np.square(q).sum(axis=1) + np.square(own / length)
    return "is decided by one image" if float((1 - leverage).min()) < ALONE else None


def _basis(values: Floats) -> Floats:
    """Orthonormal columns [n, p] that span the centred ones."""
    q: Floats = np.linalg.qr((values - values.mean(axis=0)) / _scales(values))[0]
    return q
