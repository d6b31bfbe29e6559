"""Rows of numbers by image: what is measured here, or by several workers together.

A row depends on its image alone, so whoever measures it, all that follows from the rows of all images is the
same.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Positions = npt.NDArray[np.int64]
Keep = Callable[[Positions, Floats], object]
"""Takes the rows [M, W] of images at positions [M], when they are there."""
Measure = Callable[[Positions, Keep], object]
"""Measures the images at positions, and hands their rows on."""


class ByImage(Protocol):
    """Has N images measured."""

    def __call__(
        self, n: int, width: int, measure: Measure, *, rows: int = 1, is_steady: bool = False
    ) -> Floats:
        """The rows [N, W] of ``n`` images; so many ``rows`` of them make a network call.

        ``is_steady``: rows are handed on as they come, and not at the end alone.
        """


def here(n: int, width: int, measure: Measure, *, rows: int = 1, is_steady: bool = False) -> Floats:  # noqa: ARG001
    """Measured at once, in this process."""
    found = np.full((n, width), np.nan)

    def keep(positions: Positions, values: Floats) -> None:
        found[positions] = values

    measure(np.arange(n), keep)
    return found
