"""How eps_hat follows from what a network returns, as functions of gamma: eps_hat = a z + b out.

Every published parametrisation is of this form, with an input c z + h. Its numbers a, b, c and h are written
so that nothing cancels at low noise; (z - alpha D)/sigma would lose 5e-5 in float32 at gamma = -13.3.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from merged_diffusion import schedules
from merged_diffusion.experts.clocks import integrated_beta

Numbers = Callable[[Tensor], tuple[Tensor | float, Tensor | float]]


@dataclass(frozen=True)
class Reading:
    """``input``: gamma [B] to (c, h), what the network is given is c z + h; ``output``: gamma to (a, b).

    ``words`` say in messages what was declared; ``is_wide``: a z and b out nearly cancel, and are added in
    float64, so that nothing is lost beyond what the network itself rounded.
    """

    words: str
    input: Numbers
    output: Numbers
    is_wide: bool = False

    def __str__(self) -> str:
        return self.words

    def given(self, z: Tensor, gamma: Tensor) -> Tensor:
        """The network's input [B, C, H, W] at ``z`` [B, C, H, W], ``gamma`` float64 [B]."""
        scale, shift = self.input(gamma)
        scaled = z if isinstance(scale, float) and scale == 1 else _times(scale, z)
        return scaled if isinstance(shift, float) and shift == 0 else scaled + shift

    def eps_hat(self, out: Tensor, z: Tensor, gamma: Tensor) -> Tensor:
        """eps_hat [B, C, H, W] of the network's output ``out`` [B, C, H, W]."""
        of_z, of_out = self.output(gamma)
        if self.is_wide:
            wide = schedules.widened(z)
            read = _times(of_z, wide) + _times(of_out, schedules.widened(out))
            return schedules.as_input(read, z)
        read = out if isinstance(of_out, float) and of_out == 1 else _times(of_out, out)
        return read if isinstance(of_z, float) and of_z == 0 else _times(of_z, z) + read


def _times(factor: Tensor | float, images: Tensor) -> Tensor:
    """Each image times its own number, or all times one."""
    return images * (schedules.per_image(factor, images) if isinstance(factor, Tensor) else factor)


def as_is(gamma: Tensor) -> tuple[Tensor | float, float]:  # noqa: ARG001
    """The input z."""
    return 1.0, 0.0


def clean_scale(gamma: Tensor) -> tuple[Tensor | float, float]:
    """The input z/alpha = x + s eps, s = sigma/alpha."""
    return 1 / schedules.alpha(gamma), 0.0


def edm(sigma_data: float, sign: int = 1) -> Reading:
    """F of D = c_skip x + c_out F(c_in x, ln(s)/4), x = z/alpha (Karras et al. 2022, table 1, their own).

    ``sign``: -1 where the network is -F.
    """

    def root(gamma: Tensor) -> tuple[Tensor, Tensor]:
        s = schedules.edm_sigma(gamma)
        return s, torch.hypot(s, torch.full_like(s, sigma_data))

    def given(gamma: Tensor) -> tuple[Tensor, float]:
        return 1 / (schedules.alpha(gamma) * root(gamma)[1]), 0.0

    def read(gamma: Tensor) -> tuple[Tensor, Tensor]:
        s, r = root(gamma)
        return s / (schedules.alpha(gamma) * r**2), -sign * sigma_data / r

    return Reading(f"edm(sigma_data={sigma_data:g})", given, read)


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


def exploding(unit: float, *, is_divided: bool) -> Reading:
    """A network of z/alpha that predicts -eps, or (not ``is_divided``) a score for a sigma over ``unit``."""

    def read(gamma: Tensor) -> tuple[float, Tensor | float]:
        return 0.0, -1.0 if is_divided else -schedules.edm_sigma(gamma) / unit

    return Reading(f"exploding(unit={unit:g}, is_divided={is_divided})", clean_scale, read)


def vp_sde(is_sub: bool, is_score: bool) -> Reading:
    """The VP SDE, or the sub-VP SDE: a = exp(-B/2), std = sqrt(1 - a^2), or 1 - a^2 (Song et al. 2021, C)."""

    def given(gamma: Tensor) -> tuple[Tensor | float, float]:
        return (signal(gamma, is_sub=True) / schedules.alpha(gamma), 0.0) if is_sub else (1.0, 0.0)

    def read(gamma: Tensor) -> tuple[float, Tensor | float]:
        if not is_score:
            return 0.0, 1.0
        return 0.0, -schedules.edm_sigma(gamma) * signal(gamma, is_sub=is_sub)

    return Reading(f"vp_sde(sub={is_sub}, predicts={'score' if is_score else 'eps'!r})", given, read)


def signal(gamma: Tensor, *, is_sub: bool) -> Tensor:
    """The SDE's own factor of x, exp(-B/2)."""
    return torch.exp(-integrated_beta(gamma, is_sub=is_sub) / 2)


def _rectified(gamma: Tensor) -> tuple[Tensor, float]:
    """The input z/(alpha + sigma) = (1 - t) x + t eps of flow matching."""
    return 1 / (schedules.alpha(gamma) + schedules.sigma(gamma)), 0.0


def _of_noise(gamma: Tensor) -> tuple[float, float]:  # noqa: ARG001
    return 0.0, 1.0


def _of_image(gamma: Tensor) -> tuple[Tensor, Tensor]:
    sigma = schedules.sigma(gamma)
    return 1 / sigma, -schedules.alpha(gamma) / sigma


def _of_v(gamma: Tensor) -> tuple[Tensor, Tensor]:
    return schedules.sigma(gamma), schedules.alpha(gamma)


def _of_score(gamma: Tensor) -> tuple[float, Tensor]:
    return 0.0, -schedules.sigma(gamma)


def _of_velocity(sign: float) -> Numbers:
    def read(gamma: Tensor) -> tuple[Tensor, Tensor]:
        alpha, sigma = schedules.alpha(gamma), schedules.sigma(gamma)
        return 1 / (alpha + sigma), sign * alpha / (alpha + sigma)

    return read


FLOW_RANGE: Final = (-10.0, 9.0)  # gammas of a flow, where nobody says others
INPUTS: Final[Mapping[str, Numbers]] = {"vp": as_is, "edm": clean_scale, "flow": _rectified}
OUTPUTS: Final[Mapping[str, Numbers]] = {
    "eps": _of_noise,
    "x0": _of_image,
    "v": _of_v,
    "score": _of_score,
    "eps-minus-x0": _of_velocity(1.0),
    "x0-minus-eps": _of_velocity(-1.0),
}


def of_words(predicts: str, scales: Numbers) -> Reading:
    """What the word ``predicts`` means of a network whose input ``scales`` gives."""
    return Reading(predicts, scales, OUTPUTS[predicts], is_wide=predicts == "x0")
