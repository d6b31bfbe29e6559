"""What a variational bound is made of, for people."""

from __future__ import annotations

from math import log, prod
from typing import TYPE_CHECKING

from merged_diffusion.scores.means import MeanOfBounds, MeansOfBounds

if TYPE_CHECKING:
    from merged_diffusion.jobs.summary import Summary


def terms(summary: Summary) -> list[str]:
    """Its three terms in bits/dim, and how its repeats differ."""
    found, means = [], summary.means
    if means.terms_nats is not None and isinstance(means.bits_per_dim, MeanOfBounds):
        unit = prod(summary.identity.data.image_shape) * log(2)
        costs = "   ".join(f"{name} {-value / unit:.4f}" for name, value in means.terms_nats.items())
        times = means.bits_per_dim.se_times
        found.append(
            f"terms       {costs}" + ("" if times is None else f"   ± {times:.4f} by times and noise")
        )
    repeats = means.repeats if isinstance(means, MeansOfBounds) else None
    if repeats is not None:
        found.append(
            f"repeats     {repeats.n}, mean {repeats.mean:.4f}, standard deviation {repeats.std:.4f}"
        )
    return found
