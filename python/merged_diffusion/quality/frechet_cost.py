"""What a Frechet distance and its error take: an eigenvalue problem of all images, one without each group."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Final

import torch

from merged_diffusion.quality.few_images import FewImages, is_few, matrix_bytes
from merged_diffusion.quality.moments import GROUPS
from merged_diffusion.quality.statistics import Statistics

TRIED: Final = 256  # the size of the problem that is timed
MATRICES: Final = 6  # of D x D at a time, while two laws are compared


@dataclass(frozen=True)
class Cost:
    """``problems`` of eigenvalues of symmetric [size, size], and the bytes of features or covariances."""

    problems: int
    size: int
    bytes: int

    def seconds(self) -> float:
        """About how long, from one timed problem of size 256: eigenvalues and products are cubic."""
        size = min(self.size, TRIED)
        matrix = torch.eye(size, dtype=torch.float64) + 1 / size
        start = time.perf_counter()
        torch.linalg.eigvalsh(matrix @ matrix)
        return self.problems * (time.perf_counter() - start) * (self.size / size) ** 3


def frechet_cost(n: int, statistics: Statistics) -> Cost:
    """That of ``n`` images against ``statistics``."""
    law = statistics.law
    dim, has_groups = law.dim, isinstance(law, FewImages) or bool(law.groups)
    sizes, taken = [dim], 0
    if is_few(dim, n):
        sizes.append(n)
        taken += n * dim * 8
    else:
        taken += matrix_bytes(dim)
    if isinstance(law, FewImages):
        sizes.append(law.n)
        taken += law.n * dim * 8
    else:
        taken += matrix_bytes(dim) if has_groups else dim**2 * 8
    if len(sizes) == 1:
        taken += MATRICES * dim**2 * 8
    return Cost(1 + GROUPS * (1 + has_groups), min(sizes), taken)
