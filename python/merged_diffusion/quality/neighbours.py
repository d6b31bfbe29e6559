"""Nearest neighbours and pairs within a radius, exactly, by blocks that bound the memory.

    |x - y|^2 = |x|^2 + |y|^2 - 2 x.y

A product of matrices gives it for a block of pairs with an error of (D + 8) u (|x| + |y|)^2 at most (Higham
2002, eq. 3.5, both for the product and for the sum of squares that it stands for; u = 2^-53), after the mean
was taken off. It only excludes pairs that cannot count; the few others are summed as sum (x_i - y_i)^2 in
float64, which is 0 for equal features, the same from either side, and what is compared.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Floats = npt.NDArray[np.floating]
Squares = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

QUERIES: Final = 512
POINTS: Final = 4096  # a block of pairs: 16 MB
AT_ONCE: Final = 1 << 21  # values of pairs that are summed: 16 MB
UNIT: Final = 2.0**-53


@dataclass(frozen=True, eq=False)
class Nearest:
    """Of N queries: the squared distances [N, k] of the nearest points, ascending, and which they are."""

    squares: Squares
    points: Integers


@dataclass(frozen=True, eq=False)
class Pairs:
    """Squared distances [P] of a query and a point each, by position."""

    queries: Integers
    points: Integers
    squares: Squares


def nearest(queries: Floats, points: Floats, k: int, own: Integers | None = None) -> Nearest:
    """The ``k`` nearest ``points`` [R, D] of ``queries`` [N, D]; of equal distances the first point's.

    ``own`` [N] is the position of a query among the points, which is left out, or -1. Where there are fewer
    than k points, the rest is inf, at -1.

    Examples
    --------
    >>> import numpy as np
    >>> line = np.array([[0.0], [1.0], [3.0]])
    >>> nearest(line, line, 1, own=np.arange(3)).squares.ravel()
    array([1., 1., 4.])
    """
    left_out = np.full(len(queries), -1, dtype=np.int64) if own is None else own
    squares, places = np.full((len(queries), k), np.inf), np.full((len(queries), k), -1, dtype=np.int64)
    blocks = _Blocks(points)
    for start in range(0, len(queries), QUERIES):
        rows = slice(start, min(start + QUERIES, len(queries)))
        found = squares[rows], places[rows]
        for at, least, slack in blocks.least_squares(queries[rows]):
            _leave_out(least, left_out[rows] - at)
            bound = torch.from_numpy(found[0][:, -1].copy())
            if bound.isinf().any() and least.shape[1] >= k:
                # The k-th distance is no larger than the k-th bound and what that may be too low by.
                bound = torch.minimum(bound, least.topk(k, largest=False).values[:, -1] + slack)
            pairs = _summed(queries[rows], points, _below(least, bound[:, None]), at)
            found = _joined(found, pairs)
        squares[rows], places[rows] = found
    return Nearest(squares, places)


def within(queries: Floats, points: Floats, squares: Squares) -> Iterator[Pairs]:
    """All pairs of a query and a point that are no farther apart than the point's radius, block by block.

    ``squares`` [R] are the radii's.
    """
    blocks, radii = _Blocks(points), torch.from_numpy(squares)
    for start in range(0, len(queries), QUERIES):
        rows = queries[start : start + QUERIES]
        for at, least, _ in blocks.least_squares(rows):
            near = _below(least, radii[None, at : at + least.shape[1]])
            pairs = _summed(rows, points, near, at)
            inside = pairs.squares <= squares[pairs.points]
            yield Pairs(pairs.queries[inside] + start, pairs.points[inside], pairs.squares[inside])


class _Blocks:
    """Lower bounds of the squared distances from points."""

    def __init__(self, points: Floats) -> None:
        self._points = points
        self._centre = points.mean(axis=0, dtype=np.float64)
        # Two sums (this one, and the one that it stands for) at (|x| + |y|)^2 <= 2 (|x|^2 + |y|^2) each.
        self._share = 4 * (points.shape[1] + 8) * UNIT

    def least_squares(self, queries: Floats) -> Iterator[tuple[int, Tensor, Tensor]]:
        """For each block of points: its first, bounds [N, B] from below, and by how much [N] at most."""
        x = self._centred(queries)
        x_squares = x.square().sum(dim=1)
        for at in range(0, len(self._points), POINTS):
            y = self._centred(self._points[at : at + POINTS])
            y_squares = y.square().sum(dim=1)
            sizes = x_squares[:, None] + y_squares
            least = sizes.mul_(1 - self._share).addmm_(x, y.T, alpha=-2)
            yield at, least, 3 * self._share * (x_squares + y_squares.max())

    def _centred(self, rows: Floats) -> Tensor:
        return torch.from_numpy(rows.astype(np.float64) - self._centre)


def _leave_out(least: Tensor, own: Integers) -> None:
    here = np.flatnonzero((own >= 0) & (own < least.shape[1]))
    least[torch.from_numpy(here), torch.from_numpy(own[here])] = torch.inf


def _below(least: Tensor, bound: Tensor) -> tuple[Integers, Integers]:
    near = ((least <= bound) & (least < torch.inf)).nonzero().numpy()
    return near[:, 0], near[:, 1]


def _summed(queries: Floats, points: Floats, near: tuple[Integers, Integers], at: int) -> Pairs:
    """Pairs, by positions in a block, with their distances."""
    rows, columns = near[0], near[1] + at
    squares, step = np.empty(len(rows)), max(1, AT_ONCE // points.shape[1])
    for start in range(0, len(rows), step):
        some = slice(start, start + step)
        apart = queries[rows[some]].astype(np.float64) - points[columns[some]].astype(np.float64)
        squares[some] = (apart * apart).sum(axis=1)
    return Pairs(rows, columns, squares)


def _joined(found: tuple[Squares, Integers], pairs: Pairs) -> tuple[Squares, Integers]:
    """The least of what was found and of ``pairs``, row by row."""
    n, k = found[0].shape
    rows = np.concatenate([np.repeat(np.arange(n), k), pairs.queries])
    squares = np.concatenate([found[0].ravel(), pairs.squares])
    points = np.concatenate([found[1].ravel(), pairs.points])
    order = np.lexsort((points, squares, rows))
    rows = rows[order]
    # Each row has k entries at least: those that it had.
    chosen = order[np.searchsorted(rows, np.arange(n))[:, None] + np.arange(k)]
    return squares[chosen], points[chosen]
