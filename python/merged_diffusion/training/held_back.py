"""What a training looks at on its way: the loss on images that are held back, as a column of a table.

It is the diffusion term of the variational bound in bits/dim (Kingma et al. 2021, eq. 15) over the expert's
own range of gamma. Each image meets one gamma, the gammas lie evenly, and images and noise are the same at
every look, so that two rows of a table differ by the weights alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final

import torch
from torch import Tensor
from torch.func import functional_call

from merged_diffusion.data.images import Data, pixel_values
from merged_diffusion.experts.edm import EdmExpert
from merged_diffusion.experts.fence import fenced
from merged_diffusion.experts.vdm import VdmExpert
from merged_diffusion.schedules import home, widened
from merged_diffusion.training.learned_ends import ENDS, ends_of
from merged_diffusion.training.objectives import noised
from merged_diffusion.training.processes import Team

N_IMAGES: Final = 512
ROWS: Final = 64
HEADER: Final = "step,train_loss,held_back_bits_per_dim\n"


class HeldBackLoss:
    """The loss of ``expert``'s network, with other weights, on at most 512 images of ``data``.

    The processes of ``team`` take parts in turn; the parts are summed in one order, whatever their number.
    """

    def __init__(self, expert: VdmExpert | EdmExpert, data: Data, team: Team) -> None:
        data = data.select(limit=min(N_IMAGES, len(data)))
        generator = torch.Generator().manual_seed(0)
        low, high = expert.gamma_range
        n = len(data)
        self.expert = expert
        self.team = team
        self.range = low, high
        self.x = torch.from_numpy(pixel_values(data.images, data.levels, expert.pixels)).float()
        self.eps = torch.randn(self.x.shape, generator=generator)
        self.place = torch.randperm(n, generator=generator).double() + 0.5
        has_classes = expert.conditional and data.labels is not None
        self.labels = torch.from_numpy(data.labels) if has_classes else None

    @fenced()
    def bits_per_dim(self, weights: Mapping[str, Tensor]) -> float:
        """With the parameters ``weights``, by name."""
        training = self.expert.training
        self.expert.eval()
        like = next(iter(weights.values()))
        low, high = self.range
        if f"{ENDS}.b" in weights:
            low, high = ends_of(weights[f"{ENDS}.b"], weights[f"{ENDS}.w"])
        gammas = low + (high - low) * self.place / len(self.x)
        parts = torch.split(torch.arange(len(self.x)), ROWS)
        sums = torch.zeros(len(parts), dtype=torch.float64, device=home(like.device))
        for number, rows in enumerate(parts):
            if number % self.team.size != self.team.rank:
                continue
            x, eps = (whole[rows].to(like.device, like.dtype) for whole in (self.x, self.eps))
            gamma = gammas[rows].to(home(like.device))
            cond = None if self.labels is None else self.labels[rows].to(like.device)
            eps_hat = functional_call(self.expert, dict(weights), (noised(x, eps, gamma), gamma, cond))
            sums[number] = widened(eps_hat - eps).square().sum()
        self.team.sum_([sums])
        total: float = sum(sums.tolist())
        self.expert.train(training)
        return (high - low) / 2 * total / self.x.numel() / math.log(2)


def table(rows: list[list[float]]) -> bytes:
    """The rows (step, loss, bits/dim) as CSV."""
    lines = [f"{int(step)},{loss:.6g},{bits:.6g}\n" for step, loss, bits in rows]
    return (HEADER + "".join(lines)).encode()
