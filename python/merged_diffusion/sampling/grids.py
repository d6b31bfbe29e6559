"""Where samplers on a fixed grid stop on their way from noise to data: gammas, leg by leg.

The threshold is a node of every grid but the ancestral one's, so that no step crosses it and each step's
evaluations belong to one expert.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from merged_diffusion import _core
from merged_diffusion.errors import UsageError
from merged_diffusion.merge import Leg
from merged_diffusion.samplers import Heun, OnGrid

RHO: Final = 7.0  # Karras et al. 2022, eq. 5: short steps at low noise
# A node nearer to the threshold than this part of its step gives way to it: a step much shorter than the one
# after it is a poor base for a difference.
NEAR: Final = 1e-3

BETAS: Final = (0.1, 20.0)  # of the VP SDE (Song et al. 2021, appendix C)

Gammas = npt.NDArray[np.float64]


def nodes(sampler: OnGrid, start: float, end: float) -> Gammas:
    """Where a sampler stops between the gammas of the noise end and the data end; both exact.

    Raises
    ------
    UsageError
        Its numbers begin or end elsewhere.
    """
    sigmas = sampler.sigmas or sampler.usual_sigmas
    if not isinstance(sigmas, str):
        return _from_numbers(sigmas, start, end)
    count = sampler.steps + (not isinstance(sampler, Heun))
    if sigmas == "edm":
        return rho_grid(start, end, count)
    return uniform(start, end, count - 1) if sigmas == "logsnr" else quadratic(start, end, count)


def _from_numbers(sigmas: tuple[float, ...], start: float, end: float) -> Gammas:
    gammas: Gammas = 2 * np.log(np.array(sigmas))
    for word, found, needed in (("begin", gammas[0], start), ("end", gammas[-1], end)):
        if not abs(found - needed) <= _core.SNAP:
            raise UsageError(
                f"the sigmas {word} at {math.exp(found / 2):.7g} (gamma {found:.4f}), the model at "
                f"{_core.edm_sigma(needed):.7g} (gamma {needed:.4f})",
                hint=f"let them go from {_core.edm_sigma(start):.7g} to {_core.edm_sigma(end):.7g}, or in "
                f"gamma from {start:.4f} to {end:.4f}",
            )
    gammas[0], gammas[-1] = start, end
    if not (np.diff(gammas) < 0).all():  # numbers nearer to an end than it was off
        raise UsageError("the sigmas next to the ends of the model's range are no different from them")
    return gammas


def uniform(start: float, end: float, steps: int) -> Gammas:
    """Gammas [steps + 1] at equal distances; both ends exact."""
    return np.linspace(start, end, steps + 1)


def rho_grid(start: float, end: float, nodes: int) -> Gammas:
    """Gammas [nodes] whose sigma/alpha to the power 1/rho lie at equal distances; both ends exact."""
    roots = np.linspace(math.exp(start / (2 * RHO)), math.exp(end / (2 * RHO)), nodes)
    gammas: Gammas = 2 * RHO * np.log(roots)
    gammas[0], gammas[-1] = start, end
    return gammas


def quadratic(start: float, end: float, count: int) -> Gammas:
    """Gammas [count] whose times t have roots at equal distances; both ends exact.

    t is that of the VP SDE, 1/2 (b_1 - b_0) t^2 + b_0 t = -2 log alpha = softplus(gamma).
    """
    b_0, slope = BETAS[0], BETAS[1] - BETAS[0]
    low, high = (
        math.sqrt((math.sqrt(b_0**2 - 4 * slope * _core.log_alpha(gamma)) - b_0) / slope)
        for gamma in (end, start)
    )
    t = np.linspace(high, low, count) ** 2
    gammas: Gammas = np.log(np.expm1(slope / 2 * t**2 + b_0 * t))
    gammas[0], gammas[-1] = start, end
    return gammas


def by_legs(gammas: Gammas, legs: Sequence[Leg]) -> list[Gammas]:
    """A falling grid cut at the switches, which become nodes: for each leg, its start to its end."""
    room = NEAR * np.abs(np.diff(gammas)).max()
    parts = []
    for leg in legs:
        inner = gammas[(gammas < leg.start - room) & (gammas > leg.end + room)]
        parts.append(np.array([leg.start, *inner, leg.end]))
    return parts
