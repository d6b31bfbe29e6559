"""Frechet distance of two Gaussian laws (Dowson & Landau 1982; Heusel et al. 2017, eq. 6), and its error.

    d = |m_a - m_b|^2 + tr A + tr B - 2 tr (A B)^(1/2)

With B = R R^T the eigenvalues of A B are those of the symmetric R^T A R, so that the root's trace is the sum
of their square roots: real by construction, and no matrix root is taken. A covariance of n images has rank
n - 1 at most; eigenvalues beyond it are rounding, whose roots (1e-8 each) would add up, and are left out.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Final, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from merged_diffusion.errors import UsageError
from merged_diffusion.frames import Column, Tabular, one_row
from merged_diffusion.quality.few_images import FewImages, Observer, Rows, distances, gathered
from merged_diffusion.quality.jackknife import jackknife_variance
from merged_diffusion.quality.moments import Law, Moments

Features = npt.NDArray[np.floating] | Tensor
Given = Law | Moments | FewImages | Rows | Features

BLOCK: Final = 256
# With fewer images the bias, about in 1/n, exceeds the differences one looks for (Chong & Forsyth 2020).
UNBIASED_FROM: Final = 10_000


@dataclass(frozen=True, repr=False)
class Distance(Tabular):
    """``value`` and its standard error; ``replicates`` leave out one group of the first set each.

    ``se`` is None where there are fewer than two groups. ``biased``: fewer than 10,000 images, which make the
    distance too large by an amount that depends on their number; compare it at equal n only. As a table it is
    a row of its fields but the replicates.
    """

    ERRORS: ClassVar = {"value": "se"}

    value: float
    se: float | None
    n_a: int | None
    n_b: int | None
    features: int
    biased: bool
    replicates: tuple[float, ...] = ()

    def to_dict(self) -> dict[str, Column]:
        """Columns [1] by name."""
        return one_row({name: value for name, value in vars(self).items() if name != "replicates"})

    def __repr__(self) -> str:
        error = "" if self.se is None else f" ± {self.se:.2g}"
        counts = " and ".join("?" if n is None else str(n) for n in (self.n_a, self.n_b))
        biased = ", biased" if self.biased else ""
        return f"Distance({self.value:.4g}{error}, {counts} images, {self.features} features{biased})"


def frechet_distance(a: Given, b: Given, *, observe: Observer | None = None) -> Distance:
    """The distance of ``a`` (images) from ``b`` (reference), each of them features [N, D] or a law of such.

    The standard error is that of a delete-one-group jackknife over both sets, a reference without groups
    counting as exact. Features are of the ids 0 to N - 1. ``observe`` is told of each distance: one of all,
    and one without each group.

    Raises
    ------
    UsageError, DataError
        Features of other lengths, of fewer than two images, or not finite.

    Examples
    --------
    >>> import merged_diffusion as md
    >>> import numpy as np
    >>> features = np.random.RandomState(0).randn(200, 4)
    >>> found = md.frechet_distance(features, features + 0.5)  # |0.5, 0.5, 0.5, 0.5|^2
    >>> round(found.value, 3)
    1.0
    """
    a, b = _law(a), _law(b)
    if a.dim != b.dim:
        raise UsageError(
            f"features of {a.dim} and of {b.dim} values cannot be compared",
            hint="compute both with one feature network",
        )
    if isinstance(a, Law) and isinstance(b, Law):
        value, of_a, of_b = _of_laws(a, b, observe)
    else:
        value, of_a, of_b = distances(a, b, observe)
    variances = [jackknife_variance(values) for values in (of_a, of_b) if values]
    se = math.sqrt(sum(variances)) if variances else None
    counts = [n for n in (a.n, b.n) if n is not None]
    return Distance(value, se, a.n, b.n, a.dim, any(n < UNBIASED_FROM for n in counts), of_a)


def _of_laws(a: Law, b: Law, observe: Observer | None) -> tuple[float, tuple[float, ...], tuple[float, ...]]:
    """The distance, those without one group of ``a`` each, and those without one of ``b``."""

    def distance(one: Law, two: Law, root: Tensor) -> float:
        found = _distance(one, two, root)
        if observe is not None:
            observe(1)
        return found

    root_b = triangular_root(b.covariance)
    value = distance(a, b, root_b)
    of_a = tuple(distance(part, b, root_b) for part in a.delete_one())
    root_a = triangular_root(a.covariance) if b.groups else root_b
    return value, of_a, tuple(distance(part, a, root_a) for part in b.delete_one())


class Replicated(Protocol):
    """A value with its delete-one-group values: a `Distance`, a `Figure`."""

    @property
    def value(self) -> float:
        """The statistics of all groups."""
        ...

    @property
    def replicates(self) -> tuple[float, ...]:
        """Without one group each."""
        ...


def difference(a: Replicated, b: Replicated) -> tuple[float, float | None]:
    """``a - b`` and its standard error, where both come of the same ids and noise.

    What two sets have in common, group by group, leaves no trace in the difference.
    """
    if len(a.replicates) != len(b.replicates) or not a.replicates:
        return a.value - b.value, None
    pairs = zip(a.replicates, b.replicates, strict=True)
    return a.value - b.value, math.sqrt(jackknife_variance(tuple(x - y for x, y in pairs)))


def triangular_root(covariance: Tensor) -> Tensor:
    """Lower triangular R with R R^T = ``covariance`` [D, D], which may be singular."""
    root: Tensor
    root, failed = torch.linalg.cholesky_ex(covariance)
    if not failed:
        return root
    values, vectors = torch.linalg.eigh(covariance)
    upper: Tensor = torch.linalg.qr((vectors * values.clamp(min=0).sqrt()).T, mode="r").R
    return upper.T


def _law(given: Given) -> Law | FewImages:
    if isinstance(given, Law | FewImages):
        return given
    if isinstance(given, Moments | Rows):
        return given.law()
    rows = np.asarray(given.detach().cpu() if isinstance(given, Tensor) else given)
    if rows.ndim != 2 or rows.dtype.kind not in "fiu":
        raise UsageError(
            f"features are {rows.dtype} {list(rows.shape)}, expected numbers [N, D]",
            hint="give the features of a network; assess takes the images themselves",
        )
    moments = gathered(rows.shape[1], len(rows), "features")
    moments.add(rows.astype(np.float64), np.arange(len(rows)))
    return moments.law()


def _distance(a: Law, b: Law, root_b: Tensor) -> float:
    ranks = [a.dim, *(n - 1 for n in (a.n, b.n) if n is not None)]
    eigenvalues = torch.linalg.eigvalsh(_sandwich(root_b, a.covariance))[-min(ranks) :]
    shared = eigenvalues.clamp(min=0).sqrt().sum()
    shift = (a.mean - b.mean).square().sum()
    # This wait is the result.
    return float(shift + a.covariance.trace() + b.covariance.trace() - 2 * shared)


def _sandwich(root: Tensor, covariance: Tensor) -> Tensor:
    """The lower triangle of R^T A R, whose upper one is left zero; R is lower triangular.

    By blocks of columns, without the products of R's zeros: a third of the work of two full products.
    """
    dim = len(root)
    right, result = torch.empty_like(root), torch.zeros_like(root)
    for start in range(0, dim, BLOCK):
        end = min(start + BLOCK, dim)
        right[:, start:end] = covariance[:, start:] @ root[start:, start:end]
    for start in range(0, dim, BLOCK):
        end = min(start + BLOCK, dim)
        result[start:end, :end] = root[start:, start:end].T @ right[start:, :end]
    return result
