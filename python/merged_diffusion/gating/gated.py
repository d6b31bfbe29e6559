"""A gate fitted on held-back images and reported on test, beside what it must beat: what ``gate`` does."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Final, cast

from merged_diffusion.catalogue.sets import set_name
from merged_diffusion.gating.gate_choice import Form, agreed, fit_gate, one_half
from merged_diffusion.jobs.measuring_images import HERE, Measuring
from merged_diffusion.jobs.model_checks import ModelChecks
from merged_diffusion.jobs.plan import Plan, labels_of
from merged_diffusion.likelihood import Likelihood
from merged_diffusion.merge import Convention, MergedModel, Threshold, as_model
from merged_diffusion.soft_gate import Gate
from merged_diffusion.thresholds.auto import check_apart, find_on, tuning_data
from merged_diffusion.thresholds.held_out import HeldOut

HALF: Final = "one half"
REPORTED: Final = 5  # rows of exact runs: the gate, the threshold, one half and both experts


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Gated(HeldOut):
    """A gate, and the threshold ``switch`` (a gamma) chosen likewise."""

    OTHER: ClassVar = "threshold"

    gate: Gate
    switch: float

    def spent(self, row: Likelihood) -> dict[str, object]:
        """Its calls of the network."""
        return {"calls": row.tally.get("calls"), "calls_scaled_from": row.tally.get("scaled_from")}

    def as_dict(self) -> dict[str, object]:
        """As JSON values."""
        gate = self.gate
        return {
            "command": "gate",
            "gate": {
                "form": gate.form, "start": gate.start, "end": gate.end, "shares": list(gate.shares),
                "sha256": gate.sha256, "experts": dict(gate.experts), "about": dict(gate.about),
            },
            "switch": {"gamma": self.switch},
            **self.tried(),
        }  # fmt: skip

    def __repr__(self) -> str:
        return f"Gated({self.gate.form} from {self.gate.start:g} to {self.gate.end:g})"


def gated(
    plan: Plan,
    *,
    form: Form,
    exact: int,
    tune_data: str | None,
    tune_limit: int,
    test: bool = True,
    progress: bool = False,
    tell: Callable[[str], object] = lambda _: None,
    measuring: Measuring = HERE,
) -> Gated:
    """The gate of the plan's pair, and what it is worth on the plan's images, as ``measuring`` measures."""
    begin = time.perf_counter()
    settings, experts, pair = plan.settings, plan.models.experts, plan.models.pair
    likelihood, quality = experts["likelihood"], experts["quality"]
    tune = tuning_data(settings, tune_data, tune_limit)
    if test:
        check_apart(tune, plan.data)
    eta_range = None if pair is None else pair.eta_range
    checks = ModelChecks.of_experts(plan, exact + REPORTED * len(plan.data) * test)
    tell(f"finding a threshold on {len(tune)} images of {set_name(tune.name, tune.split)}")
    switch = find_on(experts, tune, settings, eta_range=eta_range, measuring=measuring.part("found")).gamma
    tell(f"found gamma {switch:.3f}; fitting a gate on the same images")
    convention = cast(Convention, settings.pixel_convention)
    how: dict[str, Any] = {
        "options": settings.options(),
        "labels": labels_of(tune, settings),
        "convention": convention,
        "progress": progress,
        "measuring": measuring.part("fit"),
    }
    gate = fit_gate(likelihood, quality, tune, form=form, exact=exact, **how)
    rows: dict[str, Likelihood] = {}
    if test:
        of = set_name(plan.data.name, plan.data.split)
        tell(f"the gate, the threshold and both experts on {len(plan.data)} images of {of}")
        tested = measuring.part("test")
        half = agreed(tested, "half", one_half(likelihood, quality))
        models = {
            "gate": MergedModel(likelihood, quality, gate=gate, convention=convention),
            "threshold": MergedModel(
                likelihood, quality, Threshold.gamma(switch), eta_range=eta_range, convention=convention
            ),
            HALF: MergedModel(likelihood, quality, gate=half, convention=convention),
            "likelihood": as_model(likelihood, role="likelihood", convention=convention),
            "quality": as_model(quality, role="quality", convention=convention),
        }
        labels = labels_of(plan.data, settings)
        rows = tested.likelihoods(models, plan.data, settings.options(), labels=labels, progress=progress)
        checks = checks.and_of(plan, models, rows)
    seconds = time.perf_counter() - begin
    return Gated(
        gate=gate, switch=switch, tune=tune, test=plan.data, rows=rows, seconds=seconds, checks=checks
    )
