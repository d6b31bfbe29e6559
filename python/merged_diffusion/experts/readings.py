"""How eps_hat follows from what a network returns, as functions of gamma: eps_hat = a z + b out.

Every published parametrisation is of this form, with an input c z + h. Its numbers a, b, c and h are written
so that nothing cancels at low noise; (z - alpha D)/sigma would lose 5e-5 in float32 at gamma = -13.3.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from merged_diffusion import schedules

Numbers = Callable[[Tensor], tuple[Tensor | float, Tensor | float]]


@dataclass(frozen=True)
class Reading:
    """``input``: gamma [B] to (c, h), what the network is given is c z + h; ``output``: gamma to (a, b).

    ``words`` say in messages what was declared.
    """

    words: str
    input: Numbers
    output: Numbers

    def __str__(self) -> str:
        return self.words


def as_is(gamma: Tensor) -> tuple[Tensor | float, float]:  # noqa: ARG001
    """The input z."""
    return 1.0, 0.0


def clean_scale(gamma: Tensor) -> tuple[Tensor | float, float]:
    """The input z/alpha = x + s eps, s = sigma/alpha."""
    return 1 / schedules.alpha(gamma), 0.0


def edm(sigma_data: float) -> Reading:
    """F of D = c_skip x + c_out F(c_in x, ln(s)/4), x = z/alpha (Karras et al. 2022, table 1, their own)."""

    def root(gamma: Tensor) -> tuple[Tensor, Tensor]:
        s = schedules.edm_sigma(gamma)
        return s, torch.hypot(s, torch.full_like(s, sigma_data))

    def given(gamma: Tensor) -> tuple[Tensor, float]:
        return 1 / (schedules.alpha(gamma) * root(gamma)[1]), 0.0

    def read(gamma: Tensor) -> tuple[Tensor, Tensor]:
        s, r = root(gamma)
        return s / (schedules.alpha(gamma) * r**2), -sigma_data / r

    return Reading(f"edm(sigma_data={sigma_data:g})", given, read)


def flow_clock(data_at: int, scale: float, *, is_linear: bool) -> Callable[[Tensor], Tensor]:
    """``scale`` times the t at which the ratio of the path's two coefficients is exp(gamma/2)."""
    sign = -1.0 if data_at == 1 else 1.0

    def linear(gamma: Tensor) -> Tensor:
        return scale * torch.sigmoid(sign * gamma / 2)

    def by_angle(gamma: Tensor) -> Tensor:
        return scale * 2 / math.pi * torch.atan(torch.exp(sign * gamma / 2))

    return linear if is_linear else by_angle


def trigonometric(data_at: int) -> Reading:
    """The velocity dx_t/dt of x_t = cos(pi t/2) eps + sin(pi t/2) x, or with t from its other end."""
    sign = -1.0 if data_at == 1 else 1.0

    def read(gamma: Tensor) -> tuple[Tensor, Tensor]:
        return schedules.sigma(gamma), sign * 2 / math.pi * schedules.alpha(gamma)

    return Reading(f"flow(data_at={data_at}, path='trigonometric')", as_is, read)


def variance_exploding(unit: bool) -> Reading:
    """A score of x + s eps; ``unit``: of images in [0, 1], where x and s are half as large."""

    def given(gamma: Tensor) -> tuple[Tensor, float]:
        scale = 1 / schedules.alpha(gamma)
        return (scale / 2, 0.5) if unit else (scale, 0.0)

    def read(gamma: Tensor) -> tuple[float, Tensor]:
        s = schedules.edm_sigma(gamma)
        return 0.0, -s / 2 if unit else -s

    return Reading(f"score(unit={unit})", given, read)


def vp_sde(is_sub: bool, is_score: bool) -> Reading:
    """The VP SDE, or the sub-VP SDE: a = exp(-B/2), std = sqrt(1 - a^2), or 1 - a^2 (Song et al. 2021, C)."""

    def given(gamma: Tensor) -> tuple[Tensor | float, float]:
        return (signal(gamma, is_sub=True) / schedules.alpha(gamma), 0.0) if is_sub else (1.0, 0.0)

    def read(gamma: Tensor) -> tuple[float, Tensor | float]:
        if not is_score:
            return 0.0, 1.0
        return 0.0, -schedules.edm_sigma(gamma) * signal(gamma, is_sub=is_sub)

    return Reading(f"vp_sde(sub={is_sub}, predicts={'score' if is_score else 'eps'!r})", given, read)


def integrated_beta(gamma: Tensor, *, is_sub: bool) -> Tensor:
    """B, the integral of beta up to the time at which the SDE has this gamma.

    s = sigma/alpha is sqrt(e^B - 1) of the VP SDE, 2 sinh(B/2) of the sub-VP SDE.
    """
    if is_sub:
        return 2 * torch.asinh(schedules.edm_sigma(gamma) / 2)
    return torch.logaddexp(gamma, torch.zeros_like(gamma))


def signal(gamma: Tensor, *, is_sub: bool) -> Tensor:
    """The SDE's own factor of x, exp(-B/2)."""
    return torch.exp(-integrated_beta(gamma, is_sub=is_sub) / 2)
