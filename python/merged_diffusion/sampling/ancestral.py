"""Ancestral sampling (the paper's algorithm 2; Kingma et al. 2021, eq. 32-34).

    p(z_s | z_t) = N(alpha_s/alpha_t (z_t - c sigma_t eps_hat), sigma_s^2 c I),  c = -expm1(gamma_s - gamma_t)

for T steps at equal distances in gamma, from N(0, I) at gamma_max. The current gamma chooses the expert; at
the threshold itself it is the likelihood expert. Noise is added at every step, the last too.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from torch import Tensor

from merged_diffusion import _core
from merged_diffusion.experts.base import check_posterior
from merged_diffusion.merge import Leg
from merged_diffusion.sampling import grids
from merged_diffusion.sampling.network import Noises


@dataclass(frozen=True)
class Coefficients:
    """Of one step: mean = scale (z - shrink eps_hat), and the standard deviation of its noise."""

    scale: float
    shrink: float
    std: float

    @classmethod
    def of(cls, gamma_t: float, gamma_s: float) -> Coefficients:
        """From gamma_t down to gamma_s."""
        c = -math.expm1(gamma_s - gamma_t)
        return cls(
            scale=_core.alpha(gamma_s) / _core.alpha(gamma_t),
            shrink=c * _core.sigma(gamma_t),
            std=_core.sigma(gamma_s) * math.sqrt(c),
        )


def ancestral(
    z: Tensor,
    legs: Sequence[Leg],
    network: Noises,
    noise: Callable[[int], Tensor],
    gammas: grids.Gammas,
    *,
    clip: bool = False,
) -> Tensor:
    """z_min [B, C, H, W] of standard normal z [B, C, H, W]; legs toward data, down ``gammas``.

    ``clip`` keeps the clean image that a step predicts within [-1, 1].
    """
    for leg in legs:
        for expert in leg.parts:
            check_posterior(expert, "ancestral sampling", guided=True)
    for number, (gamma_t, gamma_s) in enumerate(pairwise(gammas.tolist())):
        leg = in_charge(legs, gamma_t)
        step = Coefficients.of(gamma_t, gamma_s)
        eps_hat = network(leg, z, gamma_t)
        if clip:
            mean = clipped_mean(z, eps_hat, gamma_t, gamma_s)
        else:
            mean = step.scale * (z - step.shrink * eps_hat)
        z = mean + step.std * noise(number)
    return z


def clipped_mean(z: Tensor, eps_hat: Tensor, gamma_t: float, gamma_s: float) -> Tensor:
    """alpha_s (z (1 - c)/alpha_t + c x_hat), x_hat = (z - sigma_t eps_hat)/alpha_t within [-1, 1]."""
    alpha_t, kept = _core.alpha(gamma_t), math.exp(gamma_s - gamma_t)
    x_hat = ((z - _core.sigma(gamma_t) * eps_hat) / alpha_t).clamp(-1, 1)
    return _core.alpha(gamma_s) * (z * (kept / alpha_t) - math.expm1(gamma_s - gamma_t) * x_hat)


def in_charge(legs: Sequence[Leg], gamma: float) -> Leg:
    """The leg, of legs toward data, that gamma belongs to: at a switch the one below it."""
    return next(leg for leg in reversed(legs) if gamma <= leg.start)
