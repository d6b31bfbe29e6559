"""The settings of a run that its summary depends on, and what pilots left beside them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from merged_diffusion.experts.spikes import GammaScan
from merged_diffusion.files.typed_values import TypedValues
from merged_diffusion.likelihood.likelihood_options import DEQUANTISE
from merged_diffusion.likelihood.path_evidence import PathEvidence
from merged_diffusion.likelihood.quadrature_check import QuadratureCheck
from merged_diffusion.scores.defaults import IMPORTANCE


@dataclass(frozen=True)
class Asked(TypedValues):
    """As `Settings.as_dict` and the plan's checks have it."""

    allow_failed: bool
    importance: int = IMPORTANCE
    dequantise: str = DEQUANTISE
    quadrature: QuadratureCheck | None = None
    path_evidence: PathEvidence | None = None
    gamma_scan: Mapping[str, GammaScan] = field(default_factory=dict)
    """By role."""
