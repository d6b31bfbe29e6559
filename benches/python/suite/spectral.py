"""A Gaussian whose covariance is diagonal in the cosine transform: d = 3072 at the price of small matrices.

Images of nature have about the spectrum f^-2 (power), more in luminance than in colour. In pixels such a
covariance is dense, so that a random probe is noisy, as it is with a network.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from merged_diffusion.experts.gaussian import GaussianExpert

MEAN_VARIANCE = 0.25  # of a pixel
COLOUR = ((1.0, 1.0, 1.0), (1.0, 0.0, -1.0), (1.0, -2.0, 1.0))  # luminance and two opponent colours
COLOUR_POWER = (1.0, 0.1, 0.03)


class SpectralGaussian(GaussianExpert):
    """Zero mean, power f^-``exponent`` of the frequency f of each component [3, side, side]."""

    def __init__(self, side: int, exponent: float, *, name: str, gamma_range: tuple[float, float]) -> None:
        super().__init__(
            (3, side, side), variance=spectrum(side, exponent), name=name, gamma_range=gamma_range
        )
        self._sizes = (3, side, side)
        self._keep("_cosines", cosines(side))
        colour = torch.tensor(COLOUR, dtype=torch.float64)
        self._keep("_colour", colour / colour.norm(dim=1, keepdim=True))

    def _along(self, z: Tensor, gamma: Tensor) -> Tensor:
        pixels = super()._along(z, gamma).view(-1, *self._sizes)
        cosine, colour = self._constant("_cosines"), self._constant("_colour")
        return torch.einsum("kc,bchw->bkhw", colour, cosine @ pixels @ cosine.T).flatten(1)

    def _back(self, along: Tensor) -> Tensor:
        components = along.view(-1, *self._sizes)
        cosine, colour = self._constant("_cosines"), self._constant("_colour")
        return torch.einsum("kc,bkhw->bchw", colour, cosine.T @ components @ cosine).flatten(1)


def spectrum(side: int, exponent: float) -> Tensor:
    """Variances [3, side, side] of the components, `MEAN_VARIANCE` on average."""
    index = torch.arange(side, dtype=torch.float64)
    frequency = 1 + torch.hypot(index[:, None], index[None, :])
    power = torch.tensor(COLOUR_POWER, dtype=torch.float64)[:, None, None] * frequency**-exponent
    return power * (MEAN_VARIANCE / power.mean())


def cosines(side: int) -> Tensor:
    """The orthonormal cosine transform (DCT-II) [side, side]."""
    k, n = torch.arange(side, dtype=torch.float64)[:, None], torch.arange(side, dtype=torch.float64)
    matrix = torch.cos(math.pi * k * (2 * n + 1) / (2 * side)) * math.sqrt(2 / side)
    matrix[0] /= math.sqrt(2)
    return matrix
