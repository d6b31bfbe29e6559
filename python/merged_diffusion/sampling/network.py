"""Experts in the hands of a sampler: eps_hat of a batch at one gamma, forward only, and how often asked."""

from __future__ import annotations

from collections import Counter
from typing import Protocol

import torch
from torch import Tensor

from merged_diffusion import schedules
from merged_diffusion.experts.fence import ask
from merged_diffusion.merge import Leg


class Noises(Protocol):
    """Predicts noise for a whole batch at one gamma."""

    def __call__(self, leg: Leg, z: Tensor, gamma: float) -> Tensor:
        """eps_hat like z [B, C, H, W], float64."""


class Network:
    """A batch's calls of experts: states are float64, what the experts see is ``dtype`` on ``device``.

    ``cond`` [B] for conditional experts; ``calls`` counts by role.
    """

    def __init__(self, device: torch.device, dtype: torch.dtype, cond: Tensor | None = None) -> None:
        self.calls: Counter[str] = Counter()
        self._device = device
        self._dtype = dtype
        self._cond = cond

    def __call__(self, leg: Leg, z: Tensor, gamma: float) -> Tensor:
        """eps_hat [B, C, H, W] of the leg's expert, float64 where z is."""
        self.calls.update(leg.roles)
        given = z.to(self._dtype).to(self._device)
        clock = torch.full((len(z),), gamma, dtype=torch.float64, device=schedules.home(self._device))
        eps_hat = ask(leg.expert, given, clock, self._cond)
        return eps_hat.to(z.device).double()
