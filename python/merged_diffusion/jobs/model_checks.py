"""What a command that chooses tells of the models that it measured: spikes of experts, and rough traces."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Self

from merged_diffusion.jobs import gamma_scans, quadrature_pilot
from merged_diffusion.jobs.plan import Plan
from merged_diffusion.likelihood import Likelihood
from merged_diffusion.likelihood.quadrature_check import QuadratureCheck, quadrature_check, rough_words
from merged_diffusion.merge import MergedModel


@dataclass(frozen=True)
class ModelChecks:
    """Scans by role of an expert, over its own range, and what quadrature may miss by name of a model.

    ``experts`` are names of experts by role, ``unit`` that of a value.
    """

    experts: Mapping[str, str]
    unit: str
    gamma_scan: gamma_scans.Scans = field(default_factory=dict)
    quadrature: Mapping[str, QuadratureCheck] = field(default_factory=dict)

    @classmethod
    def of_experts(cls, plan: Plan, n_left: int) -> Self:
        """What is known of the plan's experts, or worth a scan where ``n_left`` images are solved; warns."""
        experts = {role: expert.name for role, expert in plan.models.experts.items()}
        unit = "nats" if plan.settings.dequantise == "none" else "bits/dim"
        return cls(experts, unit, gamma_scans.of_all(plan, n_left))

    def and_of(self, plan: Plan, models: Mapping[str, MergedModel], rows: Mapping[str, Likelihood]) -> Self:
        """The same with what pilots on the plan's set say of models, or their own ``rows``; warns."""
        if plan.settings.options().probes.companion:
            own = {name: quadrature_check(row.allowing_failed()) for name, row in rows.items()}
            return replace(self, quadrature={name: each for name, each in own.items() if each is not None})
        if not quadrature_pilot.asks(plan):
            return self
        return replace(self, quadrature=quadrature_pilot.measured(plan, models, {}, len(plan.data)))

    def as_dict(self) -> dict[str, object]:
        """As JSON values; what was not measured is not there."""
        scans = gamma_scans.as_words(self.gamma_scan)
        quadrature = {name: check.as_dict() for name, check in self.quadrature.items()}
        both = {"gamma_scan": scans, "quadrature": quadrature}
        return {word: found for word, found in both.items() if found}

    def words(self) -> list[str]:
        """What is warned of."""
        scans = ((scan, self.experts[role]) for role, scan in self.gamma_scan.items())
        spikes = [words for scan, name in scans if (words := scan.words(name)) is not None]
        return spikes + rough_words({n: c for n, c in self.quadrature.items() if c.is_rough}, self.unit)
