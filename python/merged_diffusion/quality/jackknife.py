"""The error of a statistic of all images at once, from its values without one group of them each.

(G - 1)/G sum_g (v_g - mean)^2        (Efron & Stein 1981)
"""

from __future__ import annotations

import math


def jackknife_variance(values: tuple[float, ...]) -> float:
    """(G - 1)/G times the sum of squares of delete-one-group values about their mean (Efron & Stein 1981)."""
    mean = math.fsum(values) / len(values)
    return (len(values) - 1) / len(values) * math.fsum((value - mean) ** 2 for value in values)


def standard_error(values: tuple[float, ...]) -> float | None:
    """Its root; None where nothing was left out."""
    return math.sqrt(jackknife_variance(values)) if values else None
