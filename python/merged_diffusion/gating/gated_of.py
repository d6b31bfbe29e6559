"""A gate of N experts fitted on held-back images and reported on test: what ``gate`` does with several."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final, cast

from merged_diffusion.experts.checks import checked_once
from merged_diffusion.gating.simplex_fit import fit_gate_of, flat
from merged_diffusion.jobs.measuring_images import HERE, Measuring
from merged_diffusion.jobs.model_checks import ModelChecks
from merged_diffusion.jobs.plan import Plan, labels_of
from merged_diffusion.merge import Convention, MergedModel
from merged_diffusion.thresholds.auto import check_apart, tuning_data
from merged_diffusion.thresholds.choose_switches import (
    HARD,
    Compared,
    beside_each_alone,
    found_on,
    hard,
    of,
    scored,
    sources,
)

EQUAL: Final = "equal"


@checked_once()
def gated_of(
    plan: Plan,
    *,
    exact: int,
    tune_data: str | None,
    tune_limit: int,
    test: bool = True,
    progress: bool = False,
    tell: Callable[[str], object] = lambda _: None,
    measuring: Measuring = HERE,
) -> Compared:
    """The gate of the plan's experts beside their thresholds, equal shares and each alone.

    ``measuring`` measures the images.
    """
    begin = time.perf_counter()
    experts = list(plan.models.experts.values())
    tune = tuning_data(plan.settings, tune_data, tune_limit)
    if test:
        check_apart(tune, plan.data)
    checks = ModelChecks.of_experts(plan, exact + (3 + len(experts)) * len(plan.data) * test)
    tell(f"finding thresholds of {len(experts)} experts on {len(tune)} images of {of(tune)}")
    found, confirmed = found_on(
        plan, tune, confirm=exact > 0, progress=progress, tell=tell, measuring=measuring.part("found")
    )
    gammas = found.gammas if confirmed is None else confirmed.gammas
    switches = ", ".join(f"{gamma:.2f}" for gamma in gammas)
    tell(f"chosen gamma {switches}; fitting a gate on the same images")
    convention = cast(Convention, plan.settings.pixel_convention)
    gate = fit_gate_of(
        experts,
        tune,
        exact=exact,
        options=plan.settings.options(),
        labels=labels_of(tune, plan.settings),
        convention=convention,
        progress=progress,
        measuring=measuring.part("fit"),
    )
    merged = {
        "gate": MergedModel.of(experts, gate=gate, convention=convention),
        HARD: hard(plan, gammas),
        EQUAL: MergedModel.of(
            experts, gate=flat([expert.gamma_range for expert in experts]), convention=convention
        ),
    }
    rows = {}
    if test:
        models = beside_each_alone(plan, merged)
        rows = scored(plan, models, progress, tell, measuring.part("test"))
        checks = checks.and_of(plan, models, rows)
    return Compared(
        found=found, confirmed=confirmed, sources=sources(plan), tune=tune, test=plan.data, rows=rows,
        seconds=time.perf_counter() - begin, checks=checks, gate=gate,
    )  # fmt: skip
