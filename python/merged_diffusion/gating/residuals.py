"""The share w(gamma) with the least loss, from residual products of two experts.

With r_L = eps_L - eps and r_Q = eps_Q - eps at the same noise, the loss of a mixture is

    |w r_L + (1 - w) r_Q|^2 = s_QQ - 2 w (s_QQ - s_LQ) + w^2 D,    D = s_LL + s_QQ - 2 s_LQ,

least at w* = (s_QQ - s_LQ)/D. Images are asked at gammas of low discrepancy: image i at (j + i g mod 1)/T of
the range, g the golden ratio's fraction, so that all images together fill it evenly.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from merged_diffusion.bound import random_numbers
from merged_diffusion.bound.losses import Losses
from merged_diffusion.bound.profile import error_of
from merged_diffusion.errors import SolveError
from merged_diffusion.experts.base import Expert
from merged_diffusion.scores.by_image import ByImage, Keep, Positions, here
from merged_diffusion.scores.prepared import ready
from merged_diffusion.soft_gate import Floats

GOLDEN: Final = (5**0.5 - 1) / 2
BIN: Final = 0.5  # of gamma, in which w is taken for constant: half a spline's least spacing


@dataclass(frozen=True, eq=False)
class Shares:
    """w* [B] with its standard error, and the curvature D of the loss [B] in nats, by ``gamma`` [B].

    w* may lie outside [0, 1].
    """

    gamma: Floats
    w: Floats
    se: Floats
    curvature: Floats
    evaluations: int

    @property
    def shrunk(self) -> Floats:
        """w* [B] shrunk to 0 as far as it is not determined: w*^3/(w*^2 + se^2)."""
        # The best multiple of an estimate, with its own square in the place of the unknown one's.
        with np.errstate(invalid="ignore"):
            kept = np.square(self.w) / (np.square(self.w) + np.square(self.se))
        return np.where(np.isfinite(kept), kept * self.w, 0.0)


def measure(
    losses: Losses,
    experts: tuple[Expert, Expert],
    start: float,
    end: float,
    visits: int,
    clusters: npt.NDArray[np.int64] | None,
    by_image: ByImage = here,
) -> Shares:
    """The shares of ``experts`` (likelihood, quality) between two gammas; an image is asked ``visits`` times.

    ``by_image`` measures the images.

    Raises
    ------
    SolveError
        A residual is not finite.
    """
    n = len(losses.data)
    asked = ProductRows(losses, experts, start, end, visits)
    images, _, gamma = visited(np.arange(n), start, end, visits)
    products = by_image(n, 3 * visits, asked, rows=losses.rows.number // visits).reshape(-1, 3)
    if not np.isfinite(products).all():
        where = int(np.flatnonzero(~np.isfinite(products).all(axis=1))[0])
        raise SolveError(
            f"a residual of {experts[0].name} or {experts[1].name} is not finite at gamma = "
            f"{gamma[where]:.4g}",
            gamma=float(gamma[where]),
        )
    likelihood, both, quality = products.T
    gain, curvature = quality - both, likelihood + quality - 2 * both
    n_bins = max(int((end - start) / BIN), 1)
    number = np.minimum(((gamma - start) / (end - start) * n_bins).astype(np.int64), n_bins - 1)
    count = np.bincount(number, minlength=n_bins)

    def mean(values: Floats) -> Floats:
        return np.bincount(number, values, minlength=n_bins) / count

    bent = np.maximum(mean(curvature), np.finfo(float).tiny)
    w = mean(gain) / bent
    # What an image adds to the error of a ratio of means.
    influence = np.zeros((n, n_bins))
    np.add.at(influence, (images, number), (gain - w[number] * curvature) / (count * bent)[number])
    return Shares(mean(gamma), w, error_of(influence, clusters), bent, 2 * len(images))


@dataclass(frozen=True, eq=False)
class ProductRows:
    """Measures rows [3 V] of residual products of two experts, at each of V ``visits`` of an image.

    It is a `Measure`, and travels to whoever measures.
    """

    losses: Losses
    experts: tuple[Expert, Expert]
    start: float
    end: float
    visits: int

    def __call__(self, positions: Positions, keep: Keep) -> None:
        """Measure the images at positions."""
        images, turn, gamma = visited(positions, self.start, self.end, self.visits)
        draws = random_numbers.profile_draws(turn)
        with ready(self.experts, self.losses.place):
            found = self.losses.products(self.experts, images, gamma, draws)
        keep(positions, found.reshape(len(positions), -1))


def visited(
    positions: Positions, start: float, end: float, visits: int
) -> tuple[Positions, Positions, Floats]:
    """Which image each visit is of, the how manieth of it, and at which gamma [M V]."""
    images = np.repeat(positions, visits)
    turn = np.tile(np.arange(visits), len(positions))
    return images, turn, start + (end - start) * (turn + (images * GOLDEN) % 1.0) / visits
