"""Heun's method on EDM's grid (Karras et al. 2022, algorithms 1 and 2).

With s = sigma/alpha = exp(gamma/2) and x = z/alpha the probability flow is dx/ds = eps_hat(alpha x, gamma).
A step from s to s' predicts x' = x + (s' - s) eps_hat and corrects with the mean of both slopes. Churn first
raises s to s + min(churn/N, sqrt(2) - 1) s with fresh noise, in every step with s_min <= s <= s_max: in the
first too, to above the start, and in the last, to s = 0. Under a gate the raised s may lie in the leg before,
and then that leg's experts are asked.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Final

from torch import Tensor

from merged_diffusion import _core
from merged_diffusion.merge import Leg
from merged_diffusion.sampling import grids
from merged_diffusion.sampling.network import Noises

MOST_CHURN: Final = math.sqrt(2) - 1  # the noise of an image at most doubles its variance in a step


def heun(
    z: Tensor,
    legs: Sequence[Leg],
    network: Noises,
    noise: Callable[[int], Tensor],
    grid: Sequence[grids.Gammas],
    *,
    steps: int,
    s_churn: float = 0.0,
    s_min: float = 0.0,
    s_max: float = math.inf,
    s_noise: float = 1.0,
) -> Tensor:
    """z_min [B, C, H, W] of z [B, C, H, W] at the first leg's start; legs toward data.

    ``grid`` holds each leg's gammas; ``s_churn`` is shared among ``steps``, the nodes without the switches.
    The quality expert alone goes on to s = 0 by an Euler step, as EDM does, and returns the clean image.
    """
    churn = min(s_churn / steps, MOST_CHURN)
    x = z / _core.alpha(legs[0].start)
    number = 0

    def raised(x: Tensor, gamma: float, number: int, top: float) -> tuple[Tensor, float]:
        if churn > 0 and s_min <= _core.edm_sigma(gamma) <= s_max:
            return _churned(x, gamma, churn, top, s_noise * noise(number))
        return x, gamma

    for place, (leg, gammas) in enumerate(zip(legs, grid, strict=True)):
        is_free = place == 0 or legs[place - 1].soft
        for gamma, after in pairwise(gammas.tolist()):
            x, here = raised(x, gamma, number, math.inf if is_free else leg.expert.gamma_range[1])
            x = _step(x, here, after, (_leg_at(legs, place, here), leg), network)
            number += 1
    end = legs[-1].end
    if ends_clean(legs):
        x, here = raised(x, end, number, math.inf)
        return x - _core.edm_sigma(here) * network(
            _leg_at(legs, len(legs) - 1, here), _core.alpha(here) * x, here
        )
    return _core.alpha(end) * x


def ends_clean(legs: Sequence[Leg]) -> bool:
    """Whether a last step goes from gamma_min to no noise: a likelihood expert's pixels need its noise."""
    return legs[-1].role == "quality"


def _leg_at(legs: Sequence[Leg], place: int, gamma: float) -> Leg:
    """The leg ``place``, or under a gate the one before that ``gamma`` was raised into."""
    while place > 0 and legs[place - 1].soft and gamma > legs[place].start:
        place -= 1
    return legs[place]


def _step(x: Tensor, gamma: float, after: float, both: tuple[Leg, Leg], network: Noises) -> Tensor:
    """The state at gamma ``after``; one evaluation by each of ``both`` legs, which differ by churn alone."""
    leg, last = both
    length = _core.edm_sigma(after) - _core.edm_sigma(gamma)
    slope = network(leg, _core.alpha(gamma) * x, gamma)
    slope_after = network(last, _core.alpha(after) * (x + length * slope), after)
    return x + length * 0.5 * (slope + slope_after)


def _churned(x: Tensor, gamma: float, churn: float, top: float, noise: Tensor) -> tuple[Tensor, float]:
    """State and gamma after noise was added.

    Differs from EDM: behind a switch never above ``top``, the end of the range of the expert that took over,
    because EDM has one network, whose range is that of the sampler.
    """
    raised = min(gamma + 2 * math.log1p(churn), max(gamma, top))
    s = _core.edm_sigma(gamma)
    added = s * math.sqrt(math.expm1(raised - gamma))  # sqrt(s_hat^2 - s^2)
    return x + added * noise, raised
