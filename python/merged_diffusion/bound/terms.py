"""The two terms of the bound that need no network, in nats per image (Kingma et al. 2021, eq. 11 and 14).

All are costs: they and the diffusion term add up to a bound on -log P.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from merged_diffusion import _core

Floats = npt.NDArray[np.float64]


def prior(x: Floats, gamma_max: float) -> Floats:
    """KL(N(alpha x, sigma^2 I) || N(0, I)) [N] at gamma_max, for x [N, d] in [-1, 1]."""
    shrink = _core.alpha(gamma_max) ** 2
    # sigma^2 - 1 - log sigma^2 with sigma^2 = 1 - alpha^2: the small numbers, not a difference from 1.
    per_value = -shrink - math.log1p(-shrink)
    found: Floats = 0.5 * (shrink * np.square(x).sum(axis=1) + x.shape[1] * per_value)
    return found


def reconstruction(
    x: Floats, pixels: npt.NDArray[np.uint8], noise: Floats, gamma_min: float, levels: int
) -> Floats:
    """-log p(v | z) [N] of the ``pixels`` [N, d] at z = alpha x + sigma noise [N, d] at gamma_min."""
    z = _core.alpha(gamma_min) * x + _core.sigma(gamma_min) * noise
    return -_core.decoder_log_likelihood(z, np.ascontiguousarray(pixels), gamma_min, levels)
