"""Precision, recall, density and coverage: how far samples X and a reference Y lie in each other's balls.

With B_k(y) the ball around y that reaches to its k-th nearest other image of Y, and B_k(x) likewise in X:

    precision   share of x in some B_3(y)     recall     share of y in some B_3(x)
    density     number of B_5(y) round an x, on average, over 5
    coverage    share of y with some x in B_5(y)

(Kynkaanniemi et al. 2019, eq. 1, 2; Naeem et al. 2020). Precision is high for samples that look
like images of the reference, recall where its variety is reached; density and coverage are the same with less
weight on outliers, whose balls are large. A ball holds its rim. Samples are rounded as the stored features of
the reference are, so that equal images are at distance 0.

A standard error is that of a jackknife over groups of samples, ids mod 16; the reference counts as exact.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from merged_diffusion.errors import UsageError
from merged_diffusion.quality.jackknife import standard_error
from merged_diffusion.quality.moments import GROUPS, checked_features
from merged_diffusion.quality.neighbours import Floats, Integers, Squares, nearest, within

OF_PRECISION: Final = 3  # Kynkaanniemi et al. 2019
OF_COVERAGE: Final = 5  # Naeem et al. 2020
# Of samples and of the reference: every pair counts, and features are kept (80 MB of Inception's in float32).
MOST: Final = 10_000
FEWEST: Final = OF_COVERAGE + 1
METRICS: Final = ("precision", "recall", "density", "coverage")


@dataclass(frozen=True)
class Share:
    """A metric of ``n`` samples, its standard error, and its values without one group of them each."""

    value: float
    se: float | None
    n: int
    replicates: tuple[float, ...]

    @classmethod
    def of(cls, value: float, n: int, replicates: tuple[float, ...]) -> Share:
        """With the error of its replicates."""
        return cls(value, standard_error(replicates), n, replicates)


class Manifolds:
    """Takes features in any batches, in the order of their ids; of more than 10,000 the first count."""

    def __init__(self, reference: Floats) -> None:
        if len(reference) < FEWEST:
            raise UsageError(
                f"{len(reference)} reference features; neighbours take {FEWEST} or more",
                hint="merged-diffusion fid-ref IMAGES OUT.npz keeps those of up to 10,000 images",
            )
        self._reference = reference[:MOST]
        found = nearest(self._reference, self._reference, OF_COVERAGE, own=np.arange(len(self._reference)))
        self._radii = found.squares
        self._features: list[Floats] = []
        self._groups: list[Integers] = []

    @property
    def n(self) -> int:
        """How many samples count."""
        return sum(map(len, self._groups))

    def add(self, features: npt.NDArray[np.floating], ids: Integers) -> None:
        """Take ``features`` [N, D] of the images ``ids`` [N]."""
        checked_features(features, ids, self._reference.shape[1])
        room = MOST - self.n
        self._features.append(rounded(features[:room], self._reference.dtype))
        self._groups.append(ids[:room] % GROUPS)

    def result(self) -> dict[str, Share]:
        """By name, of all that was taken."""
        if self.n < FEWEST:
            raise UsageError(f"{self.n} images; neighbours take {FEWEST} or more", hint="use more images")
        return self.of(np.concatenate(self._features), np.concatenate(self._groups))

    def of(self, samples: Floats, groups: Integers) -> dict[str, Share]:
        """By name, of features [N, D] in the precision of the reference; ``groups`` [N] from 0 to 15."""
        filled = np.unique(groups)
        by_group = self._precision(samples, groups) | {"recall": self._recall(samples, groups)}
        found = {}
        for name in METRICS:
            value, without = by_group[name]
            # Each set that is left must have a third neighbour for every sample.
            kept = len(filled) > 1 and min((groups != g).sum() for g in filled) > OF_PRECISION
            replicates = tuple(without[filled].tolist()) if kept else ()
            found[name] = Share.of(value, len(samples), replicates)
        return found

    def _precision(self, samples: Floats, groups: Integers) -> dict[str, tuple[float, Squares]]:
        """What the balls of the reference say: of all, and without each group."""
        precise = np.zeros(len(samples), dtype=bool)
        n_balls = np.zeros(len(samples), dtype=np.int64)
        covered = np.zeros((len(self._reference), GROUPS), dtype=bool)
        near = self._radii[:, OF_PRECISION - 1]
        for pairs in within(samples, self._reference, self._radii[:, OF_COVERAGE - 1]):
            precise[pairs.queries[pairs.squares <= near[pairs.points]]] = True
            np.add.at(n_balls, pairs.queries, 1)
            covered[pairs.points, groups[pairs.queries]] = True
        n_groups = covered.sum(axis=1)
        density, without_density = mean_without(n_balls, groups)
        without = [(n_groups - covered[:, g] > 0).mean() for g in range(GROUPS)]
        return {
            "precision": mean_without(precise, groups),
            "density": (density / OF_COVERAGE, without_density / OF_COVERAGE),
            "coverage": (float((n_groups > 0).mean()), np.array(without)),
        }

    def _recall(self, samples: Floats, groups: Integers) -> tuple[float, Squares]:
        """What the balls of the samples say; without a group they are wider."""
        radii = _radii_without(samples, groups)
        reached = np.zeros((len(self._reference), GROUPS + 1), dtype=bool)
        for pairs in within(self._reference, samples, radii.max(axis=1)):
            inside = pairs.squares[:, None] <= radii[pairs.points]
            # A group that is left out reaches nothing.
            inside[np.arange(len(inside)), groups[pairs.points]] = False
            at, left_out = inside.nonzero()
            reached[pairs.queries[at], left_out] = True
        shares = reached.mean(axis=0)
        return float(shares[GROUPS]), shares[:GROUPS]


def _radii_without(samples: Floats, groups: Integers) -> Squares:
    """Squared distances [N, 17] to the third nearest sample: of those without each group, and of all."""
    found = np.full((len(samples), GROUPS, OF_PRECISION), np.inf)
    for group in np.unique(groups):
        members = np.flatnonzero(groups == group)
        own = np.full(len(samples), -1, dtype=np.int64)
        own[members] = np.arange(len(members))
        found[:, group] = nearest(samples, samples[members], OF_PRECISION, own).squares
    radii = np.empty((len(samples), GROUPS + 1))
    for group in range(GROUPS + 1):
        others = found[:, np.arange(GROUPS) != group].reshape(len(samples), -1)
        radii[:, group] = np.partition(others, OF_PRECISION - 1, axis=1)[:, OF_PRECISION - 1]
    return radii


def mean_without(values: npt.NDArray[np.generic], groups: Integers) -> tuple[float, Squares]:
    """The mean of ``values`` [N], and those without each of the 16 groups; NaN where nothing is left."""
    sums = np.bincount(groups, weights=values, minlength=GROUPS)
    counts = np.bincount(groups, minlength=GROUPS)
    with np.errstate(invalid="ignore"):
        without: Squares = (sums.sum() - sums) / (counts.sum() - counts)
    return float(sums.sum() / counts.sum()), without


def rounded(features: npt.NDArray[np.floating], dtype: np.dtype[np.floating]) -> Floats:
    """``features`` in the precision of a reference; what it cannot hold is as large as it can be."""
    largest = np.finfo(dtype).max
    found: Floats = np.clip(features, -largest, largest).astype(dtype)
    return found
