"""From grey levels to a point z_min whose density bounds the probability of the pixels.

A pixel v of L levels is the bin of width 2/L round x = 2(v + 1/2)/L - 1. With q(z | v) a density on that bin
at gamma_min, log P(v) >= E_q[log p(z_min) - log q(z_min | v)] (Theis et al. 2016; Zheng et al. 2023, eq. 16):

- ``truncated-normal``: z = alpha x + sigma eps, eps ~ N(0, 1) cut to [-tau, tau], tau = exp(-gamma_min/2)/L;
- ``uniform``: z = alpha (x + u), u ~ U(-1/L, 1/L);
- ``decoder``: z = alpha x + sigma eps, eps uncut, and log P(v | z) added: the bound of a decoder's latent;
- ``none``: z = alpha x, a density in nats and no probability.

-log q of the draw and its known expectation give bounds of one mean. ``decoder`` takes that of the draw:
where the noise is wide against a level, log P(v | z) - log q(z | v) = log(2 alpha/L) a dimension for every
draw, and |eps|^2/2, of standard deviation sqrt(d/2), cancels. With ``truncated-normal`` little would, so it
takes the expectation; with ``uniform`` they are equal. An importance bound weights draws, and needs each
one's own.
"""

from __future__ import annotations

import math
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt

from merged_diffusion import _core
from merged_diffusion.caller import warn_caller
from merged_diffusion.data.images import pixel_values
from merged_diffusion.likelihood.likelihood_options import DequantisationKind
from merged_diffusion.ode.items import Items

LEAST_TAU: Final = 3.0  # below it more than 0.27 % of the normal lies outside of the bin


class Starts(Protocol):
    """Where problems start, and what that adds to their log density."""

    def start(self, key: int) -> npt.NDArray[np.float64]:
        """z_min [d] of a problem."""

    def nats(self, key: int) -> float:
        """The dequantisation term of a problem that was started."""


class Dequantisation:
    """Starts of images, uint8 [N, C, H, W]; the noise is named by (seed, image id, draw)."""

    def __init__(
        self,
        kind: DequantisationKind,
        images: npt.NDArray[np.uint8],
        *,
        levels: int,
        gamma_min: float,
        items: Items,
        importance: int,
    ) -> None:
        self._kind = kind
        self._pixels = images.reshape(len(images), -1)
        self._levels = levels
        self._gamma = gamma_min
        self._items = items
        self._is_own = kind == "decoder" or importance > 1
        self._alpha, self._sigma = _core.alpha(gamma_min), _core.sigma(gamma_min)
        self._constant = _core.dequantisation_constant(kind, gamma_min, levels, self._pixels.shape[1])
        self._nats: dict[int, float] = {}
        if kind == "truncated-normal":
            _warn_of_narrow_noise(self.tau, gamma_min)

    @property
    def tau(self) -> float:
        """Half the width of a bin in units of sigma/alpha."""
        return math.exp(-self._gamma / 2) / self._levels

    def start(self, key: int) -> npt.NDArray[np.float64]:
        """z_min [d] of a problem, the same on every course; what it costs is kept for `nats`."""
        pixels = self._pixels[self._items.position(key)]
        x = pixel_values(pixels, self._levels)
        problem = self._items.problem(key)
        if self._kind == "none":
            self._nats[problem] = self._constant
            return self._alpha * x
        noise = self._noise(key)
        z = self._alpha * x + (self._alpha if self._kind == "uniform" else self._sigma) * noise
        self._nats[problem] = self._cost(z, pixels, noise)
        return z

    def nats(self, key: int) -> float:
        """E[-log q] of a problem, or -log q of its draw with decoder and where draws are weighted."""
        return self._nats[self._items.problem(key)]

    def _noise(self, key: int) -> npt.NDArray[np.float64]:
        noise = np.empty((1, self._pixels.shape[1]))
        images, draws = self._items.names(np.array([key], dtype=np.uint64))
        seed = self._items.seed
        if self._kind == "truncated-normal":
            _core.fill_truncated_normal(noise, self.tau, seed, images, draws)
        elif self._kind == "uniform":
            half = 1 / self._levels
            _core.fill_uniform(noise, -half, half, seed, "dequantisation", images, draws)
        else:
            _core.fill_normal(noise, seed, "dequantisation", images, draws)
        row: npt.NDArray[np.float64] = noise[0]
        return row

    def _cost(
        self, z: npt.NDArray[np.float64], pixels: npt.NDArray[np.uint8], noise: npt.NDArray[np.float64]
    ) -> float:
        nats = self._constant
        if self._is_own:
            square = np.array([noise @ noise])
            args = (self._kind, self._gamma, self._levels, len(z), square)
            nats = float(_core.dequantisation_per_draw(*args)[0])
        if self._kind == "decoder":
            nats += float(_core.decoder_log_likelihood(z[None], pixels[None], self._gamma, self._levels)[0])
        return nats


class Points:
    """Starts of points x [N, C, H, W] of the model's own space, without noise: z = alpha x."""

    def __init__(self, x: npt.NDArray[np.float64], *, gamma_min: float, items: Items) -> None:
        self._x = x.reshape(len(x), -1)
        self._alpha = _core.alpha(gamma_min)
        self._items = items

    def start(self, key: int) -> npt.NDArray[np.float64]:
        """z_min [d] of a problem."""
        z: npt.NDArray[np.float64] = self._alpha * self._x[self._items.position(key)]
        return z

    def nats(self, key: int) -> float:  # noqa: ARG002  (the same for every problem)
        """Nothing."""
        return 0.0


def _warn_of_narrow_noise(tau: float, gamma_min: float) -> None:
    if tau < LEAST_TAU:
        mass = math.exp(_core.TruncatedNormal(tau).log_mass)
        warn_caller(
            f"at gamma_min = {gamma_min:.4g} the noise is cut at tau = {tau:.4g} < {LEAST_TAU:g} standard "
            f"deviations (Z = {mass:.4f}); the bound holds, but is looser than with a smaller gamma_min, and "
            "dequantise = decoder, which cuts nothing, may be tighter"
        )
