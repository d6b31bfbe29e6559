"""Laws by which a training draws its noise levels: p(gamma), as quantiles and densities.

    uniform    gamma on the range                                     (Kingma et al. 2021, section 5.1)
    normal     ln s = gamma/2 normal                                  (Karras et al. 2022, table 1)
    cosine     gamma = 2 ln tan(pi t/2), t uniform                    (Nichol and Dhariwal 2021)
    flow       gamma = 2 ln(t/(1 - t)), t uniform                     (Lipman et al. 2023)
    pieces     constant on cells of equal width                       (`importance`)

Times are spread over the *whole* batch, t_i = (t_0 + i/n) mod 1 with one random t_0 (Kingma et al. 2021,
appendix I.1), whatever devices compute its rows: each of n equal slices of a law's probability has one gamma.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, Protocol

import torch
from torch import Tensor

from merged_diffusion.schedules import edm_sigma

LEAST: Final = 2.0**-40  # of a time, so that no quantile is infinite


class Law(Protocol):
    """A law of gamma."""

    def quantile(self, t: Tensor) -> Tensor:
        """The gammas [B] below which a share ``t`` [B] of the law lies; of a mixture, part after part."""
        ...

    def density(self, gamma: Tensor) -> Tensor:
        """The density [B] at ``gamma`` [B], per unit of gamma."""
        ...


def spread_times(offset: Tensor, n: int) -> Tensor:
    """``n`` times at equal distances, the first at ``offset``, float64 [] in [0, 1)."""
    return (offset + torch.arange(n, dtype=torch.float64) / n) % 1


@dataclass(frozen=True)
class Uniform:
    """Uniform on ``gamma_range``."""

    gamma_range: tuple[float, float]

    def quantile(self, t: Tensor) -> Tensor:
        """The gammas [B] at ``t`` [B]."""
        low, high = self.gamma_range
        return low + (high - low) * t

    def density(self, gamma: Tensor) -> Tensor:
        """One over the width, [B]."""
        low, high = self.gamma_range
        return torch.full_like(gamma.double(), 1 / (high - low))


@dataclass(frozen=True)
class Normal:
    """ln s normal with ``mean`` and ``std``; a share ``uniform`` is uniform on ``gamma_range``."""

    gamma_range: tuple[float, float]
    mean: float
    std: float
    uniform: float = 0.0

    def quantile(self, t: Tensor) -> Tensor:
        """The gammas [B] at ``t`` [B]: those of the uniform share, then the normal ones."""
        share = self.uniform
        rest = ((t - share) / max(1 - share, LEAST)).clamp(LEAST, 1 - LEAST)
        normal: Tensor = 2 * (self.mean + self.std * torch.special.ndtri(rest))
        if share == 0:
            return normal
        anywhere = Uniform(self.gamma_range).quantile(t / share)
        return torch.where(t < share, anywhere, normal)

    def density(self, gamma: Tensor) -> Tensor:
        """That of the mixture, [B]."""
        low, high = self.gamma_range
        gamma = gamma.double()
        standard = (gamma / 2 - self.mean) / self.std
        normal = torch.exp(-(standard**2) / 2) / (2 * self.std * math.sqrt(2 * math.pi))
        inside = ((gamma >= low) & (gamma <= high)).double() / (high - low)
        return (1 - self.uniform) * normal + self.uniform * inside


@dataclass(frozen=True)
class Cosine:
    """alpha = cos(pi t/2), t uniform where gamma lies in ``gamma_range``.

    Differs from Nichol and Dhariwal 2021: without their offset of 0.008, which only bounds gamma from below,
    as the range does here (so does Kingma and Gao 2023, table 1).
    """

    gamma_range: tuple[float, float]

    def quantile(self, t: Tensor) -> Tensor:
        """The gammas [B] at ``t`` [B]."""
        low, high = map(_cosine_time, self.gamma_range)
        return 2 * torch.log(torch.tan(math.pi / 2 * (low + (high - low) * t)))

    def density(self, gamma: Tensor) -> Tensor:
        """dt/dgamma = sech(gamma/2)/(2 pi), over its share of the range, [B]."""
        low, high = map(_cosine_time, self.gamma_range)
        return 1 / (2 * math.pi * torch.cosh(gamma.double() / 2) * (high - low))


@dataclass(frozen=True)
class FlowTimes:
    """x_t = (1 - t) x + t eps, t uniform where gamma lies in ``gamma_range``."""

    gamma_range: tuple[float, float]

    def quantile(self, t: Tensor) -> Tensor:
        """The gammas [B] at ``t`` [B]."""
        low, high = map(_flow_time, self.gamma_range)
        return 2 * torch.logit(low + (high - low) * t)

    def density(self, gamma: Tensor) -> Tensor:
        """dt/dgamma = t (1 - t)/2, over its share of the range, [B]."""
        low, high = map(_flow_time, self.gamma_range)
        s = edm_sigma(gamma)
        return s / (2 * (1 + s) ** 2 * (high - low))


@dataclass(frozen=True)
class Pieces:
    """Uniform in each of K cells of equal width on ``gamma_range``; ``shares`` [K] are float64, of sum 1."""

    gamma_range: tuple[float, float]
    shares: Tensor

    def quantile(self, t: Tensor) -> Tensor:
        """The gammas [B] at ``t`` [B]."""
        ends = self.shares.cumsum(0)
        cell = torch.searchsorted(ends, t.double(), right=True).clamp(max=len(ends) - 1)
        within = ((t - (ends - self.shares)[cell]) / self.shares[cell]).clamp(0, 1)
        low, high = self.gamma_range
        return low + (high - low) * (cell + within) / len(ends)

    def density(self, gamma: Tensor) -> Tensor:
        """A cell's share over its width, [B]."""
        low, high = self.gamma_range
        return (
            self.shares[cell_of(gamma, self.gamma_range, len(self.shares))] * len(self.shares) / (high - low)
        )


def cell_of(gamma: Tensor, gamma_range: tuple[float, float], n: int) -> Tensor:
    """The cell [B], int64 of 0 to ``n`` - 1, that ``gamma`` [B] lies in, or next to which it lies."""
    low, high = gamma_range
    return ((gamma.double() - low) / (high - low) * n).floor().clamp(0, n - 1).long()


def _cosine_time(gamma: float) -> float:
    return 2 / math.pi * math.atan(math.exp(gamma / 2))


def _flow_time(gamma: float) -> float:
    return 1 / (1 + math.exp(-gamma / 2))
