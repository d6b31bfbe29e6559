"""Images with a noise that is known: z = alpha x + sigma eps, and how well an expert predicts it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from merged_diffusion import schedules
from merged_diffusion.experts.base import Expert
from merged_diffusion.experts.fence import ask_in_parts

IMAGES: Final = 4  # or draws of noise where there are fewer
MOST_ROWS: Final = 16  # of a call


@dataclass(frozen=True)
class Place:
    """Where and on which images an expert is asked."""

    images: Tensor
    """x [N, C, H, W] of the model's space."""
    device: torch.device
    dtype: torch.dtype = torch.float32
    cond: Tensor | None = None
    one_gamma_a_call: bool = False


@dataclass(frozen=True)
class Noised:
    """``eps`` [K R, C, H, W], and z with it, of R rows at each of ``gamma`` [K], one gamma after another."""

    gamma: Tensor
    z: Tensor
    eps: Tensor
    labels: Tensor | None
    most: int

    @property
    def rows(self) -> int:
        """R."""
        return len(self.z) // len(self.gamma)

    def answers(self, expert: Expert, places: Tensor | None = None) -> Tensor:
        """eps_hat of the rows at ``places`` (default: of all), float64 [N, C, H, W], on the host."""
        places = torch.arange(len(self.z)) if places is None else places
        clock = self.gamma.repeat_interleave(self.rows).to(schedules.home(self.z.device))
        answers = []
        for part in torch.split(places, self.most):
            there = part.to(self.z.device)
            labels = None if self.labels is None else self.labels[part.to(self.labels.device)]
            answers.append(ask_in_parts(expert, self.z[there], clock[part.to(clock.device)], labels))
        return schedules.widened(torch.cat(answers)).cpu()

    def losses(self, expert: Expert, places: Tensor | None = None) -> Tensor:
        """The mean squared error of the noise, per row [N]."""
        eps = self.eps if places is None else self.eps[places]
        return (self.answers(expert, places) - eps).square().flatten(1).mean(1)


def noised(place: Place, gamma: Tensor, *, draws: int = 1, seed: int = 0) -> Noised:
    """The first `IMAGES` images, each ``draws`` times, at each of ``gamma`` [K]."""
    rows = (torch.arange(IMAGES * draws) % len(place.images)).repeat(len(gamma))
    x = place.images.double().cpu()[rows]
    clock = gamma.repeat_interleave(IMAGES * draws)
    eps = torch.randn(x.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    alpha, sigma = (schedules.per_image(f(clock), x) for f in (schedules.alpha, schedules.sigma))
    z = (alpha * x + sigma * eps).to(place.dtype).to(place.device)
    cond = place.cond
    labels = None if cond is None else cond[rows.to(cond.device) % len(cond)]
    return Noised(gamma, z, eps, labels, IMAGES if place.one_gamma_a_call else MOST_ROWS)
