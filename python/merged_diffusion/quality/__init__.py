"""How far a set of images lies from a reference: Frechet and kernel distances of features."""

from __future__ import annotations

from merged_diffusion.quality.assess import Figure, assess
from merged_diffusion.quality.assessment import Assessment
from merged_diffusion.quality.feature_network import Extractor
from merged_diffusion.quality.features import extractor
from merged_diffusion.quality.frechet import Distance, difference, frechet_distance
from merged_diffusion.quality.kid import Kernel, KernelDistance
from merged_diffusion.quality.moments import Law, Moments
from merged_diffusion.quality.statistics import Statistics, collect
from merged_diffusion.quality.statistics_files import read_statistics, write_statistics

__all__ = [
    "Assessment",
    "Distance",
    "Extractor",
    "Figure",
    "Kernel",
    "KernelDistance",
    "Law",
    "Moments",
    "Statistics",
    "assess",
    "collect",
    "difference",
    "extractor",
    "frechet_distance",
    "read_statistics",
    "write_statistics",
]
