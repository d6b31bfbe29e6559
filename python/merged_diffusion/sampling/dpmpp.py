"""DPM-Solver++(2M) (Lu et al. 2022, algorithm 2): two steps' data predictions, one evaluation a step.

With lambda = log(alpha/sigma) = -gamma/2, h = lambda_s - lambda_t and x_hat = (z - sigma_t eps_hat)/alpha_t

    z_s = (sigma_s/sigma_t) z_t - alpha_s expm1(-h) ((1 + 1/(2r)) x_hat_t - 1/(2r) x_hat_before)

with r = h_before/h, on N intervals at equal distances in gamma. The first step of each leg has no history and
is of first order.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor

from merged_diffusion import _core
from merged_diffusion.merge import Leg
from merged_diffusion.sampling import grids
from merged_diffusion.sampling.network import Noises


def dpmpp_2m(z: Tensor, legs: Sequence[Leg], network: Noises, *, steps: int) -> Tensor:
    """z_min [B, C, H, W] of z [B, C, H, W] at the first leg's start; legs toward data."""
    gammas = grids.uniform(legs[0].start, legs[-1].end, steps)
    parts = grids.by_legs(gammas, legs)
    for leg, part in zip(legs, parts, strict=True):
        before: tuple[Tensor, float] | None = None
        for gamma_t, gamma_s in pairwise(part.tolist()):
            h = (gamma_t - gamma_s) / 2
            sigma_t = _core.sigma(gamma_t)
            x_hat = (z - sigma_t * network(leg, z, gamma_t)) / _core.alpha(gamma_t)
            prediction = x_hat if before is None else _extrapolated(x_hat, h, *before)
            z = (_core.sigma(gamma_s) / sigma_t) * z - _core.alpha(gamma_s) * math.expm1(-h) * prediction
            before = x_hat, h
    return z


def _extrapolated(x_hat: Tensor, h: float, x_hat_before: Tensor, h_before: float) -> Tensor:
    """The prediction in the middle of a step, on the line through the last two."""
    weight = h / (2 * h_before)
    return (1 + weight) * x_hat - weight * x_hat_before
