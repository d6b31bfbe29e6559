"""A quantity by threshold, and what can be said of its least value.

The variational bound at every eta comes from the loss profile of each expert,

    VLB(eta) = prior + reconstruction + 1/2 integral_{gamma_min}^{gamma_eta} l_likelihood
                                      + 1/2 integral_{gamma_eta}^{gamma_max} l_quality,

so it is least where the two profiles cross (Kingma et al. 2021, eq. 17, for two experts).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from merged_diffusion import _core
from merged_diffusion.bound import Profile
from merged_diffusion.bound.profile import error_of
from merged_diffusion.thresholds.splines import integral_weights

Floats = npt.NDArray[np.float64]
SURE: Final = 2.0  # standard errors: about 95 % of a normal distribution
RESAMPLES: Final = 400
INTERVAL: Final = (0.025, 0.975)


@dataclass(frozen=True, eq=False)
class Curve:
    """A mean in bits/dim by threshold: ``value`` [E] at ``eta`` [E].

    ``influence`` [N, E] is what each image adds to the mean's error, so that differences along the curve have
    the errors of paired images.
    """

    eta: Floats
    value: Floats
    influence: Floats
    clusters: npt.NDArray[np.int64] | None = None

    @property
    def best(self) -> int:
        """Where it is least."""
        return int(np.argmin(self.value))

    @property
    def se(self) -> Floats:
        """Standard error [E], clustered where images have clusters."""
        return error_of(self.influence, self.clusters)

    @property
    def difference(self) -> Floats:
        """The value less the least one [E]."""
        found: Floats = self.value - self.value[self.best]
        return found

    @property
    def se_difference(self) -> Floats:
        """Its standard error [E], images paired."""
        return error_of(self.influence - self.influence[:, [self.best]], self.clusters)

    @property
    def indistinguishable(self) -> tuple[float, float]:
        """The thresholds round the best whose difference is at most `SURE` standard errors."""
        is_close = ~(self.difference > SURE * self.se_difference)
        low = high = self.best
        while low > 0 and is_close[low - 1]:
            low -= 1
        while high + 1 < len(self.eta) and is_close[high + 1]:
            high += 1
        return float(self.eta[low]), float(self.eta[high])

    def as_dict(self) -> dict[str, object]:
        """The curve as JSON values."""
        columns = ("value", "se", "difference", "se_difference")
        return {name: getattr(self, name).tolist() for name in columns}


@dataclass(frozen=True, eq=False)
class Profiles:
    """The loss profile of each expert over its part of the merged range, on the same images."""

    likelihood: Profile
    quality: Profile
    dim: int

    def curve(self, eta: Floats, gamma: Floats, rest_nats: float = 0.0) -> Curve:
        """The bound at thresholds ``eta`` [E], at ``gamma`` [E]; ``rest_nats`` is what no eta moves.

        Every ``gamma`` must lie within both profiles.
        """
        parts = self._weights(gamma)
        cost = sum((weights @ profile.mean for profile, weights in parts), start=np.zeros(len(eta)))
        influence = sum(
            (profile.influence @ weights.T for profile, weights in parts),
            start=np.zeros((len(self.likelihood.per_image), len(eta))),
        )
        nats = float(np.log(2)) * self.dim
        return Curve(eta, (cost + rest_nats) / nats, influence / nats, self.likelihood.clusters)

    def crossing_interval(self, eta: Floats, gamma: Floats, *, seed: int = 0) -> tuple[float, float]:
        """Where the bound is least when images (or their clusters) are drawn again: the middle 95 %."""
        parts = self._weights(gamma)
        n = len(self.likelihood.per_image)
        clusters = np.arange(n) if self.likelihood.clusters is None else self.likelihood.clusters
        _, group = np.unique(clusters, return_inverse=True)
        n_groups = int(group.max()) + 1
        random = np.random.RandomState(seed % 2**32)
        drawn = random.multinomial(n_groups, np.full(n_groups, 1 / n_groups), RESAMPLES)[:, group]
        cost = np.zeros((RESAMPLES, len(eta)))
        for profile, weights in parts:
            known = profile.is_known
            counts = drawn @ known
            sums = drawn @ np.where(known, profile.per_image, 0.0)
            # A gamma that no image of a drawing met keeps the mean of all.
            means = np.where(counts > 0, sums / np.maximum(counts, 1), profile.mean)
            cost += means @ weights.T
        low, high = np.quantile(eta[np.argmin(cost, axis=1)], INTERVAL)
        return float(low), float(high)

    def _weights(self, gamma: Floats) -> tuple[tuple[Profile, Floats], tuple[Profile, Floats]]:
        below = 0.5 * integral_weights(self.likelihood.gamma, gamma)
        ends = np.append(gamma, self.quality.gamma[-1])
        up_to = 0.5 * integral_weights(self.quality.gamma, ends)
        return (self.likelihood, below), (self.quality, up_to[-1] - up_to[:-1])


def likelihood_curve(
    eta: Floats, bits_per_dim: Floats, clusters: npt.NDArray[np.int64] | None = None
) -> Curve:
    """The mean of ``bits_per_dim`` [N, E] over images that were all scored at every threshold."""
    mean: Floats = bits_per_dim.mean(axis=0)
    return Curve(eta, mean, (bits_per_dim - mean) / len(bits_per_dim), clusters)


def mean_curve(exact: Curve, bound: Curve, is_solved: npt.NDArray[np.bool_]) -> Curve:
    """Half the likelihood's curve, of the images ``is_solved`` [N], and half the bound's, of all N."""
    influence = 0.5 * bound.influence
    influence[is_solved] += 0.5 * exact.influence
    return Curve(exact.eta, 0.5 * (exact.value + bound.value), influence, bound.clusters)


def gammas_of(eta: Floats, eta_range: tuple[float, float], ends: tuple[float, float]) -> Floats:
    """Gamma of every eta [E], kept within ``ends`` to the last bit."""
    found: Floats = np.clip(_core.gamma_of_eta(np.ascontiguousarray(eta), eta_range), *ends)
    return found
