"""How far a set of images lies from a reference: Frechet and kernel distances of features."""

from __future__ import annotations

from merged_diffusion.quality.frechet import Distance, difference, frechet_distance
from merged_diffusion.quality.kid import Kernel, KernelDistance, kid
from merged_diffusion.quality.moments import Law, Moments

__all__ = [
    "Distance",
    "Kernel",
    "KernelDistance",
    "Law",
    "Moments",
    "difference",
    "frechet_distance",
    "kid",
]
