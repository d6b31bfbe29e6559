"""Copies: the share of samples that lie suspiciously near to an image of train.

A sample x whose nearest image of train is y counts as a copy where

    |x - y| <= c d_5(y),        d_5(y): the distance from y to its fifth nearest other image of train

The test is that of authenticity (Alaa et al. 2022: |x - y| against the distance from y to its nearest other
image), with a factor c < 1 that train itself sets: 1 % of the images of train that have no
equal lie as near to another one. So a model that has learned the law, and no image, has about 1 % of copies,
and its floor is the share in train, equal images included. The scale is local, because dense places of the
law are no copying (as Meehan et al. 2020 compare within cells of train), and is the fifth distance, because
what is copied is often there two or three times.

All of train has to be searched: of a choice of its images most copies would be missed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from merged_diffusion.quality.manifolds import FEWEST, Share, mean_without, rounded
from merged_diffusion.quality.moments import GROUPS, checked_features
from merged_diffusion.quality.neighbours import Floats, Integers, Squares, nearest

SHARE: Final = 0.01  # of train: the error of the first kind
SCALE: Final = 5  # the neighbour that tells how dense train is
ASKED: Final = 2000  # images of train that set the factor: the share is 1 % +- 0.2 %


@dataclass(frozen=True)
class Nearness:
    """How near train's own images lie: the factor c, and the share of them that would count as copies."""

    factor: float
    share: float


class Copies:
    """Takes features in any batches; ``train`` [R, D] are the features of all of train."""

    def __init__(self, train: Floats, nearness: Nearness | None = None) -> None:
        self._train = train
        self.nearness = own_nearness(train) if nearness is None else nearness
        self._squares: list[Squares] = []
        self._points: list[Integers] = []
        self._ids: list[Integers] = []

    def add(self, features: npt.NDArray[np.floating], ids: Integers) -> None:
        """Take ``features`` [N, D] of the images ``ids`` [N]."""
        checked_features(features, ids, self._train.shape[1])
        found = nearest(rounded(features, self._train.dtype), self._train, 1)
        self._squares.append(found.squares[:, 0])
        self._points.append(found.points[:, 0])
        self._ids.append(ids)

    def result(self) -> Share:
        """The share of copies among all that was taken."""
        ids = np.concatenate(self._ids)
        groups = ids % GROUPS
        value, without = mean_without(self.are_copies(), groups)
        filled = np.unique(groups)
        return Share.of(value, len(ids), tuple(without[filled].tolist()) if len(filled) > 1 else ())

    def are_copies(self) -> npt.NDArray[np.bool_]:
        """[N], in the order in which they were taken."""
        squares, points = np.concatenate(self._squares), np.concatenate(self._points)
        return squares <= self.nearness.factor**2 * _scales(self._train, points)


def is_searchable(n_stored: int, n: int) -> bool:
    """Whether ``n_stored`` features are those of all ``n`` images, and enough of them."""
    return n_stored == n >= FEWEST


def own_nearness(train: Floats, asked: int = ASKED) -> Nearness:
    """The factor by which train's own images lie nearer than their surroundings, from ``asked`` of them."""
    chosen = np.unique(np.linspace(0, len(train) - 1, min(asked, len(train))).astype(np.int64))
    found = nearest(train[chosen], train, 1, own=chosen)
    squares, points = found.squares[:, 0], found.points[:, 0]
    scales = _scales(train, points, without=chosen)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = np.sqrt(np.where(squares > 0, squares / scales, 0))
    unequal = ratios[squares > 0]
    # The k-th of m, with k/m at most the share: lower means fewer copies.
    factor = 0.0 if not len(unequal) else float(np.quantile(unequal, SHARE, method="lower"))
    return Nearness(factor, float((squares <= factor**2 * scales).mean()))


def _scales(train: Floats, points: Integers, without: Integers | None = None) -> Squares:
    """Squared d_5 [N] of images of train; ``without`` one more image each."""
    if without is None:
        some, places = np.unique(points, return_inverse=True)
        scales: Squares = nearest(train[some], train, SCALE, own=some).squares[places, -1]
        return scales
    found = nearest(train[points], train, SCALE + 1, own=points)
    others = found.points != without[:, None]
    # The fifth of those that are left: the one at 4 where the one to leave out comes later, or not at all.
    place = (np.cumsum(others, axis=1) == SCALE).argmax(axis=1)
    fifth: Squares = found.squares[np.arange(len(points)), place]
    return fifth
