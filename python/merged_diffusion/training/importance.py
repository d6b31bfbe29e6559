"""Importance sampling of gamma by a running profile of the loss.

The variance of w/p times the loss is least for p proportional to w sqrt(E loss^2) (Nichol and Dhariwal 2021,
section 3.3; Kingma and Gao 2023, section 3.2). Cells of equal width on the range of gamma each keep a running
mean of the loss squared, which is updated by the rows that fell into them. The estimate is unbiased whatever
the profile, because each row is divided by the density it was drawn from, and a row's gamma depends on
earlier steps only.

Every cell is drawn from with at least a tenth of its share under the uniform law, which bounds what a row can
weigh; until each has met eight rows the law is uniform.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import torch
from torch import Tensor

from merged_diffusion.training.gamma_laws import Pieces, cell_of
from merged_diffusion.training.loss_weights import LossWeight

CELLS: Final = 64
KEEP: Final = 0.99  # of a cell's running mean, at a row that fell into it
LEAST_ROWS: Final = 8
SHARE: Final = 0.1  # of the uniform law in the mixture
INNER: Final = 8  # gammas within a cell at which w is averaged


class LossByCell:
    """The running mean of the squared eps loss in each cell, and how many rows it has met.

    Both are a part of the snapshot.
    """

    def __init__(self, weight: LossWeight, gamma_range: tuple[float, float]) -> None:
        self.gamma_range = gamma_range
        low, high = gamma_range
        inner = (torch.arange(CELLS * INNER, dtype=torch.float64) + 0.5) / (CELLS * INNER)
        self.weight = weight.weight(low + (high - low) * inner).view(CELLS, INNER).mean(dim=1)
        self.square = torch.zeros(CELLS, dtype=torch.float64)
        self.rows = torch.zeros(CELLS, dtype=torch.int64)

    def law(self) -> Pieces:
        """What the next step draws from."""
        shares = torch.full((CELLS,), 1 / CELLS, dtype=torch.float64)
        if bool((self.rows >= LEAST_ROWS).all()):
            best = self.weight * self.square.sqrt()
            if float(best.sum()) > 0:
                shares = SHARE * shares + (1 - SHARE) * best / best.sum()
        return Pieces(self.gamma_range, shares)

    def learn(self, gamma: Tensor, errors: Tensor) -> None:
        """Take in the rows of a whole batch: their ``gamma`` [B] and mean squared errors in eps [B]."""
        cells = cell_of(gamma.cpu(), self.gamma_range, CELLS)
        squares = errors.detach().double().cpu() ** 2
        count = torch.zeros(CELLS, dtype=torch.int64).index_add_(0, cells, torch.ones_like(cells))
        mean = torch.zeros(CELLS, dtype=torch.float64).index_add_(0, cells, squares) / count.clamp(min=1)
        # The first rows count alike; later ones push older ones out.
        weights = torch.maximum(1 - KEEP**count, count / (self.rows + count).clamp(min=1))
        self.square += weights * (mean - self.square)
        self.rows += count

    def state(self) -> dict[str, Tensor]:
        """The tensors of a snapshot, which go on changing."""
        return {"square": self.square, "rows": self.rows}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Go on from what `state` gave."""
        self.square.copy_(state["square"])
        self.rows.copy_(state["rows"])
