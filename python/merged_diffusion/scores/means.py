"""Means over images and their standard errors, as JSON and as the summaries of scores have them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final, Self

import numpy as np
import numpy.typing as npt

from merged_diffusion.files.typed_values import TypedValues

Floats = npt.NDArray[np.float64]
KEPT: Final = ("n", "n_failed", "bits_per_dim", "log_density_nats", "evaluations")


@dataclass(frozen=True)
class MeanAndErrors(TypedValues):
    """A mean over images and its standard errors; None stands for what is not known."""

    mean: float | None
    se: float | None
    """Clustered where images have clusters."""
    se_images: float | None
    se_clustered: float | None

    @classmethod
    def from_dict(cls, value: Mapping[str, object]) -> MeanAndErrors:
        """The mean of likelihoods or of bounds."""
        return (MeanOfBounds if "se_times" in value else MeanOfLikelihoods)._typed(value)


@dataclass(frozen=True)
class MeanOfLikelihoods(MeanAndErrors):
    """With the error that the probes of all images leave, and its degrees of freedom."""

    se_probe: float | None
    freedom: float | None = None
    se_draws: float | None = None
    """The same by the spread of repeats, where there are some: of noise and probes together."""
    quadrature_error: float | None = None
    """What quadrature may miss of it where that was measured: one sign in all images, so that of an image."""
    total_error: float | None = None
    """Root of the sum of squares: the larger of ``se_probe`` and ``se_draws``, ``quadrature_error``, the mean
    ``path_error``."""

    def with_quadrature(self, error: float, path_error: float | None) -> Self:
        """The same with what its solver may miss: errors that do not fall with the number of images."""
        own = max((se for se in (self.se_probe, self.se_draws) if se is not None), default=None)
        total = None if own is None else math.hypot(own, error, path_error or 0.0)
        return replace(self, quadrature_error=error, total_error=total)


@dataclass(frozen=True)
class MeanOfBounds(MeanAndErrors):
    """With the error that times and noise leave."""

    se_times: float | None


@dataclass(frozen=True)
class Repeats(TypedValues):
    """The mean of a set in each of ``n`` repeats, their mean and standard deviation."""

    n: int
    mean: float
    std: float
    means: list[float]


@dataclass(frozen=True)
class Means(TypedValues):
    """Means over ``n`` images, of which those that failed have no part; None where there is no mean."""

    n: int
    n_failed: int
    bits_per_dim: MeanAndErrors | None
    terms_nats: Mapping[str, float] | None
    evaluations: Mapping[str, float] | None
    """``total`` and by role."""

    def kept(self) -> dict[str, object]:
        """As JSON values: what stands beside other means."""
        found = self.as_dict()
        return {key: found[key] for key in KEPT if key in found}

    @classmethod
    def from_dict(cls, value: Mapping[str, object]) -> Means:
        """The means of likelihoods, densities or bounds."""
        if "repeats" in value:
            return MeansOfBounds._typed(value)
        return (MeansOfDensities if "log_density_nats" in value else MeansOfLikelihoods)._typed(value)


@dataclass(frozen=True)
class MeansOfLikelihoods(Means):
    """By the ODE; how far adams' path was off, where adams took it."""

    steps: Mapping[str, float] | None
    path_error: float | None = None


@dataclass(frozen=True)
class MeansOfDensities(MeansOfLikelihoods):
    """Means of log densities, which have no bits/dim."""

    log_density_nats: MeanAndErrors | None = field(kw_only=True)


@dataclass(frozen=True)
class MeansOfBounds(Means):
    """With what its repeats say, where there are two or more."""

    repeats: Repeats | None


def floats(values: Iterable[float | None]) -> Floats:
    """An array [N]; NaN for None."""
    return np.array([np.nan if value is None else value for value in values], dtype=np.float64)


def mean(values: Iterable[float]) -> float:
    """The mean of numbers of records."""
    return float(np.mean(list(values)))
