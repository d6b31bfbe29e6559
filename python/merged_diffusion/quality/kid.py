"""KID: the squared maximum mean discrepancy with k(x, y) = (x.y/D + 1)^3 (Binkowski et al. 2018, eq. 4).

    mean_{i != j} k(x_i, x_j) + mean_{i != j} k(y_i, y_j) - 2 mean_{i, j} k(x_i, y_j)

It is unbiased at any number of images, and may be negative. The images come in blocks of 1,000 by id, each
against all stored features of the reference; a block's features are forgotten once it is full.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from merged_diffusion.errors import UsageError
from merged_diffusion.quality.moments import checked_features

BLOCK: Final = 1_000
MAX_REFERENCE: Final = 10_000
ROWS: Final = 1_000  # of a kernel matrix at a time: 80 MB against 10,000 references


@dataclass(frozen=True)
class KernelDistance:
    """Mean over blocks and its standard error from their spread; ``se`` is None with one block.

    The reference counts as exact.
    """

    value: float
    se: float | None
    n: int
    n_reference: int


class Kernel:
    """Takes features in any batches, in the order of their ids."""

    def __init__(self, reference: npt.NDArray[np.floating]) -> None:
        if len(reference) < 2:
            raise UsageError(f"{len(reference)} reference features; a kernel distance takes 2 or more")
        self.dim = reference.shape[1]
        self._reference = torch.from_numpy(reference[:MAX_REFERENCE].astype(np.float64))
        self._of_reference = _mean_of_pairs(self._reference)
        self._waiting: list[Tensor] = []
        self._blocks: list[tuple[int, float]] = []

    def add(self, features: npt.NDArray[np.floating], ids: npt.NDArray[np.int64]) -> None:
        """Take ``features`` [N, D] of the images ``ids`` [N]."""
        for row in checked_features(features, ids, self.dim):
            self._waiting.append(row)
            if len(self._waiting) == BLOCK:
                self._blocks.append(self._closed())
                self._waiting = []

    def result(self) -> KernelDistance:
        """The distance of all that was taken; a last block of one image is left out."""
        open_block = [self._closed()] if len(self._waiting) > 1 else []
        blocks = self._blocks + open_block
        if not blocks:
            raise UsageError("a kernel distance takes 2 or more images", hint="use at least two images")
        n = sum(size for size, _ in blocks)
        value = math.fsum(size * block for size, block in blocks) / n
        se = None
        if len(blocks) > 1:
            spread = math.fsum((size * (block - value)) ** 2 for size, block in blocks)
            se = math.sqrt(spread * len(blocks) / (len(blocks) - 1)) / n
        return KernelDistance(value, se, n, len(self._reference))

    def _closed(self) -> tuple[int, float]:
        block = torch.stack(self._waiting)
        cross = math.fsum(float(_kernel(rows, block).sum()) for rows in torch.split(self._reference, ROWS))
        mean_cross = cross / (len(block) * len(self._reference))
        return len(block), _mean_of_pairs(block) + self._of_reference - 2 * mean_cross


def _kernel(x: Tensor, y: Tensor) -> Tensor:
    return (x @ y.T / x.shape[1] + 1) ** 3


def _mean_of_pairs(x: Tensor) -> float:
    """Mean of k over pairs of different rows."""
    whole = math.fsum(float(_kernel(rows, x).sum()) for rows in torch.split(x, ROWS))
    diagonal = float(((x.square().sum(dim=1) / x.shape[1] + 1) ** 3).sum())
    return (whole - diagonal) / (len(x) * (len(x) - 1))
