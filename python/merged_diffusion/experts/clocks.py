"""Continuous times of networks as functions of gamma, float64 [B] to float64 [B]."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

import torch
from torch import Tensor

from merged_diffusion import schedules

Clock = Callable[[Tensor], Tensor]
EDGE: Final = 1e-5  # the least time of the SDEs (Song et al. 2021, appendix C)


def flow_clock(data_at: int, scale: float, *, is_linear: bool) -> Clock:
    """``scale`` times the t at which the ratio of the path's two coefficients is exp(gamma/2)."""
    sign = -1.0 if data_at == 1 else 1.0

    def linear(gamma: Tensor) -> Tensor:
        return scale * torch.sigmoid(sign * gamma / 2)

    def by_angle(gamma: Tensor) -> Tensor:
        return scale * 2 / math.pi * torch.atan(torch.exp(sign * gamma / 2))

    return linear if is_linear else by_angle


def integrated_beta(gamma: Tensor, *, is_sub: bool) -> Tensor:
    """B, the integral of beta up to the time at which the SDE has this gamma.

    s = sigma/alpha is sqrt(e^B - 1) of the VP SDE, 2 sinh(B/2) of the sub-VP SDE.
    """
    if is_sub:
        return 2 * torch.asinh(schedules.edm_sigma(gamma) / 2)
    return torch.logaddexp(gamma, torch.zeros_like(gamma))


def vp_sde_clock(beta_min: float, beta_max: float, scale: float, *, is_sub: bool) -> Clock:
    """``scale`` times the t of the VP or sub-VP SDE, B(t) = beta_min t + (beta_max - beta_min) t^2/2."""
    slope = beta_max - beta_min

    def time(gamma: Tensor) -> Tensor:
        integral = integrated_beta(gamma, is_sub=is_sub)
        root = torch.sqrt(beta_min**2 + 2 * slope * integral)
        return scale * 2 * integral / (beta_min + root)

    return time


def vp_sde_range(beta_min: float, beta_max: float, *, is_sub: bool) -> tuple[float, float]:
    """The gammas of t = 1e-5 and t = 1."""

    def gamma(t: float) -> float:
        integral = beta_min * t + (beta_max - beta_min) * t**2 / 2
        return 2 * math.log(2 * math.sinh(integral / 2)) if is_sub else math.log(math.expm1(integral))

    return gamma(EDGE), gamma(1.0)


def sigma_clock(unit: float, *, is_log: bool) -> Clock:
    """The noise's standard deviation sigma/alpha in another unit, or its logarithm."""

    def time(gamma: Tensor) -> Tensor:
        return gamma / 2 - math.log(unit) if is_log else schedules.edm_sigma(gamma) / unit

    return time
