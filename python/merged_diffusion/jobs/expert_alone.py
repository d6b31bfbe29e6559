"""An expert that was scored alone beside a merged model: means, what checks found of it, the difference."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from merged_diffusion.experts.spikes import GammaScan
from merged_diffusion.files.typed_values import INLINE, TypedValues
from merged_diffusion.jobs import published_table as paper
from merged_diffusion.likelihood.quadrature_check import QuadratureCheck
from merged_diffusion.scores.differences import Difference
from merged_diffusion.scores.means import Means, MeansOfBounds

SHOWN: Final = ("paired", "paper", "quadrature", "rough_trace", "gamma_scan", "spikes")


@dataclass(frozen=True, kw_only=True)
class Alone(TypedValues):
    """An expert that was scored alone beside the merged model: its means, and the merged model minus it."""

    name: str
    means: Means = field(metadata=INLINE)
    paired: Difference | None
    paper: paper.Published | None
    quadrature: QuadratureCheck | None = None
    """Of its images themselves where it was measured, else of a pilot under this expert."""
    rough_trace: bool = False
    """Whether quadrature may miss more than the probes leave."""
    gamma_scan: Mapping[str, GammaScan] | None = None
    """Of this expert by its role, over its own range."""
    spikes: bool = False
    """Whether it changes within a step there."""

    def as_dict(self) -> dict[str, object]:
        """As JSON values: what is shown of its means, among the others."""
        own, means = super().as_dict(), self.means
        terms = {"terms_nats": means.terms_nats} if isinstance(means, MeansOfBounds) else {}
        return {"name": self.name} | means.kept() | terms | {k: own[k] for k in SHOWN if k in own}

    @classmethod
    def from_dict(cls, value: Mapping[str, object]) -> Alone:
        """From `as_dict`, which leaves some means out."""
        left_out = {"repeats": None} if "terms_nats" in value else {"terms_nats": None, "steps": None}
        return cls._typed({**left_out, **value})

    def rough_words(self, unit: str, names: Mapping[str, str], told: Mapping[str, GammaScan]) -> list[str]:
        """What warns of it, but for spikes that are ``told`` of the merged model; names are by role."""
        of = f"the {self.name} expert alone: "
        found = [of + self.quadrature.words(unit)] if self.rough_trace and self.quadrature is not None else []
        for role, scan in (self.gamma_scan or {}).items():
            words = scan.words(names[role])
            if words is not None and (role not in told or set(scan.spikes) - set(told[role].spikes)):
                found.append(of + words)
        return found
