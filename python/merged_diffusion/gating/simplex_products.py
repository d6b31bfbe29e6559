"""Mean residual products of N experts by gamma: S_ij = E r_i . r_j, r_i = eps_i - eps, at the same noise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations_with_replacement, pairwise

import numpy as np
import numpy.typing as npt

from merged_diffusion.bound import random_numbers
from merged_diffusion.bound.losses import Losses
from merged_diffusion.errors import SolveError
from merged_diffusion.experts.base import Expert
from merged_diffusion.gating.residuals import BIN, visited
from merged_diffusion.scores.by_image import ByImage, Keep, Positions, here
from merged_diffusion.scores.prepared import ready
from merged_diffusion.soft_gate import Floats


def measure(
    losses: Losses,
    experts: Sequence[Expert],
    ranges: Sequence[tuple[float, float]],
    visits: int,
    by_image: ByImage = here,
) -> tuple[Floats, Floats, int]:
    """Edges of bins [B + 1], mean residual products [B, N, N], NaN of who may not be asked; evaluations.

    Bins end where a range does, and are at most 0.5 wide. Every image is asked ``visits`` times;
    ``by_image`` measures the images.
    """
    n_images, n = len(losses.data), len(experts)
    low, high = min(low for low, _ in ranges), max(high for _, high in ranges)
    _, _, gamma = visited(np.arange(n_images), low, high, visits)
    edges = np.concatenate(
        [
            np.linspace(a, b, int(np.ceil((b - a) / BIN)) + 1)[:-1]
            for a, b in pairwise(np.unique(np.array(ranges)))
        ]
        + [[high]]
    )
    number = np.clip(np.searchsorted(edges, gamma, side="right") - 1, 0, len(edges) - 2)
    found = np.full((len(edges) - 1, n, n), np.nan)
    middle, spent = (edges[:-1] + edges[1:]) / 2, 0
    who = np.array([[a <= g <= b for a, b in ranges] for g in middle])
    groups = [
        (members, own)
        for group in np.unique(who, axis=0)
        for members in [np.flatnonzero(group).tolist()]
        for own in [np.flatnonzero((who[number] == group).all(axis=1))]
        if members and len(own)
    ]
    n_pairs = n * (n + 1) // 2
    asked = ManyProductRows(losses, tuple(experts), low, high, visits, groups)
    rows = by_image(n_images, n_pairs * visits, asked, rows=losses.rows.number // visits)
    for members, own in groups:
        pairs = list(combinations_with_replacement(members, 2))
        products = rows.reshape(-1, n_pairs)[own, : len(pairs)]
        if not np.isfinite(products).all():
            at = float(gamma[own][~np.isfinite(products).all(axis=1)][0])
            names = ", ".join(experts[i].name for i in members)
            raise SolveError(f"a residual of {names} is not finite at gamma = {at:.4g}", gamma=at)
        spent += len(own) * len(members)
        counts = np.bincount(number[own], minlength=len(middle))
        for (i, j), column in zip(pairs, products.T, strict=True):
            total = np.bincount(number[own], column, minlength=len(middle))
            is_met = counts > 0
            found[is_met, i, j] = found[is_met, j, i] = total[is_met] / counts[is_met]
    return edges, found, spent


@dataclass(frozen=True, eq=False)
class ManyProductRows:
    """Measures rows [P V] of residual products of all pairs of experts, at each of V ``visits`` of an image.

    ``groups`` are experts and the visits of all images [N V] at which they are asked together. It is a
    `Measure`, and travels to whoever measures.
    """

    losses: Losses
    experts: tuple[Expert, ...]
    low: float
    high: float
    visits: int
    groups: Sequence[tuple[Sequence[int], npt.NDArray[np.int64]]]

    def __call__(self, positions: Positions, keep: Keep) -> None:
        """Measure the images at positions; NaN of who may not be asked."""
        n = len(self.experts)
        every = np.arange(len(self.losses.data))
        images, turn, gamma = visited(every, self.low, self.high, self.visits)
        found = np.full((len(images), n * (n + 1) // 2), np.nan)
        is_wanted = np.isin(images, positions)
        with ready(self.experts, self.losses.place):
            for members, at in self.groups:
                own = at[is_wanted[at]]
                if len(own):
                    drawn = random_numbers.profile_draws(turn[own])
                    asked = [self.experts[i] for i in members]
                    products = self.losses.products(asked, images[own], gamma[own], drawn)
                    found[own, : products.shape[1]] = products
        keep(positions, found[is_wanted].reshape(len(positions), -1))
