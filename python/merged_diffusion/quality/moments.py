"""Mean and covariance of features in float64, by groups, without keeping the features.

The images fall into 16 groups by id mod 16. A group takes its features in blocks of 128, in the order given,
and joins a block's n, mean m and scatter S = sum (f - m)(f - m)^T to its own (Chan et al. 1983, eq. 2.1):

    S <- S + S' + (n n'/(n + n')) (m' - m)(m' - m)^T,    m <- m + (n'/(n + n')) (m' - m)

A block is cut by the images of its group alone, so the bits do not depend on how they arrive in batches. To
leave a group out is the same step backwards: what a jackknife needs, without a second pass.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from merged_diffusion.errors import DataError, UsageError

GROUPS: Final = 16
BLOCK: Final = 128

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Sums:
    """Of ``n`` features: mean [D] and scatter [D, D], the sum of (f - mean)(f - mean)^T."""

    n: int
    mean: Tensor
    scatter: Tensor

    @classmethod
    def empty(cls, dim: int) -> Self:
        """The sums of no features."""
        return cls(0, torch.zeros(dim, dtype=torch.float64), torch.zeros(dim, dim, dtype=torch.float64))

    def joined(self, block: Tensor) -> Sums:
        """With the features ``block`` [B, D]; the scatter is added to in place."""
        n, size = self.n, len(block)
        mean = block.mean(dim=0)
        centred = block - mean
        delta = mean - self.mean
        self.scatter.addmm_(centred.T, centred)
        self.scatter.addr_(delta, delta, alpha=n * size / (n + size))
        return Sums(n + size, self.mean + delta * (size / (n + size)), self.scatter)

    def without(self, part: Sums) -> Sums:
        """What is left when ``part`` of these features is taken out."""
        n = self.n - part.n
        delta = part.mean - self.mean
        mean = self.mean - delta * (part.n / n)
        scatter = self.scatter - part.scatter
        scatter.addr_(delta, delta, alpha=-self.n * part.n / n)
        return Sums(n, mean, scatter)

    @property
    def covariance(self) -> Tensor:
        """Unbiased, [D, D]."""
        return self.scatter / (self.n - 1)


def total(groups: tuple[Sums, ...]) -> Sums:
    """All groups together."""
    n = sum(group.n for group in groups)
    mean = torch.zeros_like(groups[0].mean)
    for group in groups:
        mean += group.mean * (group.n / max(n, 1))
    scatter = torch.zeros_like(groups[0].scatter)
    for group in groups:
        delta = group.mean - mean
        scatter += group.scatter
        scatter.addr_(delta, delta, alpha=group.n)
    return Sums(n, mean, scatter)


@dataclass(frozen=True, eq=False)
class Law:
    """What a Frechet distance knows of a set: ``mean`` [D], ``covariance`` [D, D], both float64.

    ``n`` is None where a file does not say of how many images; ``groups`` are empty where there is nothing to
    jackknife with.
    """

    mean: Tensor
    covariance: Tensor
    n: int | None = None
    groups: tuple[Sums, ...] = ()

    @property
    def dim(self) -> int:
        """How many features."""
        return len(self.mean)

    def delete_one(self) -> Iterator[Law]:
        """The law without one group, for each that is not empty; nothing where any leaves fewer than two."""
        filled = [group for group in self.groups if group.n]
        if len(filled) < 2:
            return
        whole = total(tuple(filled))
        if any(whole.n - group.n < 2 for group in filled):
            return
        for group in filled:
            rest = whole.without(group)
            yield Law(rest.mean, rest.covariance, rest.n)


class Moments:
    """Takes features in any batches; `law` is their mean and covariance so far."""

    def __init__(self, dim: int) -> None:
        self.dim = dim
        self._sums = [Sums.empty(dim) for _ in range(GROUPS)]
        self._waiting: list[list[Tensor]] = [[] for _ in range(GROUPS)]

    @property
    def n(self) -> int:
        """How many features were taken."""
        return sum(sums.n + len(rows) for sums, rows in zip(self._sums, self._waiting, strict=True))

    def add(self, features: npt.NDArray[np.floating], ids: npt.NDArray[np.int64]) -> None:
        """Take ``features`` [N, D] of the images ``ids`` [N].

        Raises
        ------
        DataError
            A feature is not finite; the message names the image.
        """
        rows = checked_features(features, ids, self.dim)
        for row, key in zip(rows, ids.tolist(), strict=True):
            waiting = self._waiting[key % GROUPS]
            waiting.append(row)
            if len(waiting) == BLOCK:
                self._take(key % GROUPS)

    def _take(self, group: int) -> None:
        block, self._waiting[group] = self._waiting[group], []
        self._sums[group] = self._sums[group].joined(torch.stack(block))

    def law(self) -> Law:
        """Mean and unbiased covariance; it takes two images at least, and ends the blocks that are open."""
        if self.n < 2:
            raise UsageError(f"{self.n} images have no covariance", hint="use at least two images")
        for group in range(GROUPS):
            if self._waiting[group]:
                self._take(group)
        groups = tuple(self._sums)
        whole = total(groups)
        return Law(whole.mean, whole.covariance, whole.n, groups)


def checked_features(features: npt.NDArray[np.floating], ids: npt.NDArray[np.int64], dim: int) -> Tensor:
    """``features`` as float64 [N, D]; `DataError` with the image where one is not finite."""
    if features.ndim != 2 or features.shape != (len(ids), dim):
        raise UsageError(f"features of shape {list(features.shape)}, expected {[len(ids), dim]}")
    bad = ~np.isfinite(features).all(axis=1)
    if bad.any():
        image = int(ids[int(bad.argmax())])
        raise DataError(
            f"the features of image {image} are not finite ({int(bad.sum())} of {len(ids)} such images)",
            hint="look at that image, and at the sampler that made it",
            image=image,
        )
    # A copy: rows wait in a block while the caller may reuse its array.
    return torch.from_numpy(features.astype(np.float64))
