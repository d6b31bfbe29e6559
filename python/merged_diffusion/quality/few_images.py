"""Frechet distances of sets of n images with D > n features, without a matrix of D x D.

With X [n, D] the centred features over sqrt(n - 1), A = X^T X, and the root's trace is the sum of the roots
of the eigenvalues of

    X B X^T  [n, n]                                of a covariance B,
    (X Y^T)(X Y^T)^T, the singular values of X Y^T of one that is Y^T Y, too,

since A B and X B X^T have the same eigenvalues but 0. To leave a group out is to leave out rows and columns,
and to centre what is left: a jackknife needs no further products with B.

Of up to 2048 features (Inception's) the matrices of D x D are taken, as they always were.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from merged_diffusion.errors import UsageError
from merged_diffusion.quality.moments import GROUPS, Law, Moments, checked_features

DENSE: Final = 2048  # features
BYTES: Final = 1 << 31  # of a set: 16 groups of 4096 features
Observer = Callable[[int], None]


@dataclass(frozen=True, eq=False)
class FewImages:
    """The features [n, D] themselves, float64, and the group of each, ids mod 16."""

    rows: Tensor
    groups: npt.NDArray[np.int64]

    @property
    def dim(self) -> int:
        """How many features."""
        return self.rows.shape[1]

    @property
    def n(self) -> int:
        """How many images."""
        return len(self.rows)

    def dense(self) -> Law:
        """With matrices of D x D."""
        moments = Moments(self.dim)
        moments.add(self.rows.numpy(), self.groups)
        return moments.law()

    def delete_one(self) -> Iterator[npt.NDArray[np.bool_]]:
        """Which images [n] are left without a group, by the rule of `Law.delete_one`."""
        filled = np.unique(self.groups)
        kept = [self.groups != group for group in filled]
        if len(filled) > 1 and all(some.sum() > 1 for some in kept):
            yield from kept


class Rows:
    """Takes features in any batches, as `Moments` does, and keeps them."""

    def __init__(self, dim: int) -> None:
        self.dim = dim
        self._rows: list[Tensor] = []
        self._groups: list[npt.NDArray[np.int64]] = []

    def add(self, features: npt.NDArray[np.floating], ids: npt.NDArray[np.int64]) -> None:
        """Take ``features`` [N, D] of the images ``ids`` [N]."""
        self._rows.append(checked_features(features, ids, self.dim))
        self._groups.append(ids % GROUPS)

    def law(self) -> FewImages:
        """All that was taken; two images at least."""
        n = sum(map(len, self._rows))
        if n < 2:
            raise UsageError(f"{n} images have no covariance", hint="use at least two images")
        return FewImages(torch.cat(self._rows), np.concatenate(self._groups))


def is_few(dim: int, n: int) -> bool:
    """Whether ``n`` images are kept as they are, because matrices of their features would be larger."""
    return dim > DENSE and n <= dim


def gathered(dim: int, n: int, name: str) -> Moments | Rows:
    """What takes the features of ``n`` images of the set ``name``.

    Raises
    ------
    UsageError
        It would take more than 2 GiB.
    """
    if not is_few(dim, n):
        check_size(dim, name)
        return Moments(dim)
    if n * dim * 8 > BYTES:
        raise UsageError(
            f"{name}: {n} images with {dim} features take {n * dim * 8 / 1e9:.1f} GB; the limit is "
            f"{BYTES / 1e9:.1f}",
            hint=f"--limit {BYTES // (8 * dim)}, or features of a network (--features inception)",
        )
    return Rows(dim)


def check_size(dim: int, name: str) -> None:
    """`UsageError` where the covariances of 16 groups take more than 2 GiB."""
    if matrix_bytes(dim) > BYTES:
        raise UsageError(
            f"{name}: covariances of {dim} features, of 16 groups, take {matrix_bytes(dim) / 1e9:.1f} GB; "
            f"the limit is {BYTES / 1e9:.1f}",
            hint=f"--limit {dim} or fewer images need no such matrices; --features inception has 2048",
        )


def matrix_bytes(dim: int) -> int:
    """What the covariances of 16 groups take."""
    return GROUPS * dim**2 * 8


def distances(
    a: Law | FewImages, b: Law | FewImages, observe: Observer | None = None
) -> tuple[float, tuple[float, ...], tuple[float, ...]]:
    """The distance, those without one group of ``a`` each, and those without one of ``b``.

    One of the two is `FewImages` at least.
    """
    if isinstance(a, FewImages):
        return _distances(a, b, observe)
    if not isinstance(b, FewImages):
        raise TypeError("of two laws, frechet_distance knows")
    value, of_b, of_a = _distances(b, a, observe)
    return value, of_a, of_b


def _distances(
    a: FewImages, b: Law | FewImages, observe: Observer | None
) -> tuple[float, tuple[float, ...], tuple[float, ...]]:
    every = np.ones(a.n, dtype=bool)

    def told(value: float) -> float:
        if observe is not None:
            observe(1)
        return value

    if isinstance(b, FewImages):
        other, product = np.ones(b.n, dtype=bool), (a.rows - b.rows.mean(dim=0)) @ _centred(b.rows).T

        def two(one: npt.NDArray[np.bool_], two: npt.NDArray[np.bool_]) -> float:
            return told(_of_two(a.rows[one], b.rows[two], product[one][:, two]))

        of_a = tuple(two(kept, other) for kept in a.delete_one())
        of_b = tuple(two(every, kept) for kept in b.delete_one())
        return two(every, other), of_a, of_b
    x = _centred(a.rows)

    def gram(law: Law) -> Tensor:
        return x @ law.covariance @ x.T

    whole = gram(b)
    of_a = tuple(told(_of_one(a.rows[kept], b, whole[kept][:, kept])) for kept in a.delete_one())
    of_b = tuple(told(_of_one(a.rows, part, gram(part))) for part in b.delete_one())
    return told(_of_one(a.rows, b, whole)), of_a, of_b


def _of_one(rows: Tensor, law: Law, gram: Tensor) -> float:
    """From ``gram`` = X B X^T of features that need not be centred."""
    n = len(rows)
    rank = min(n - 1, law.dim, *([] if law.n is None else [law.n - 1]))
    roots = torch.linalg.eigvalsh(_centred(_centred(gram).T) / (n - 1))[-rank:].clamp(min=0).sqrt()
    shift = (rows.mean(dim=0) - law.mean).square().sum()
    return float(shift + _trace(rows) + law.covariance.trace() - 2 * roots.sum())


def _of_two(a: Tensor, b: Tensor, product: Tensor) -> float:
    """From ``product`` = X Y^T of features that need not be centred."""
    rank = min(len(a), len(b)) - 1
    roots = torch.linalg.svdvals(_centred(_centred(product).T))[:rank]
    shared = roots.sum() / ((len(a) - 1) * (len(b) - 1)) ** 0.5
    shift = (a.mean(dim=0) - b.mean(dim=0)).square().sum()
    return float(shift + _trace(a) + _trace(b) - 2 * shared)


def _trace(rows: Tensor) -> Tensor:
    return _centred(rows).square().sum() / (len(rows) - 1)


def _centred(rows: Tensor) -> Tensor:
    return rows - rows.mean(dim=0)
