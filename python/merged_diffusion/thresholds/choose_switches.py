"""Thresholds of N experts chosen on train and reported on test: what ``threshold`` does with several."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Final, cast

from merged_diffusion.catalogue.sets import set_name
from merged_diffusion.data.images import Data
from merged_diffusion.experts.checks import checked_once
from merged_diffusion.jobs.measuring_images import HERE, Measuring
from merged_diffusion.jobs.model_checks import ModelChecks
from merged_diffusion.jobs.plan import Plan, labels_of
from merged_diffusion.likelihood import Likelihood
from merged_diffusion.merge import Convention, MergedModel, as_model
from merged_diffusion.simplex_gate import SimplexGate
from merged_diffusion.thresholds.auto import check_apart, tuning_data
from merged_diffusion.thresholds.confirm_switches import ConfirmedSwitches, confirm_switches
from merged_diffusion.thresholds.held_out import HeldOut
from merged_diffusion.thresholds.switches import Switches, find_switches

HARD: Final = "switches"


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Compared(HeldOut):
    """What was found for several experts; rows are the merged model and each alone.

    ``confirmed``: by exact runs; None where they were not asked for.
    """

    OTHER: ClassVar = HARD

    found: Switches
    confirmed: ConfirmedSwitches | None
    sources: tuple[str, ...]
    gate: SimplexGate | None = None

    @property
    def gammas(self) -> tuple[float, ...]:
        """The thresholds: those that were confirmed, else the bound's."""
        return self.found.gammas if self.confirmed is None else self.confirmed.gammas

    def spent(self, row: Likelihood) -> dict[str, object]:
        """Its seconds an image."""
        return {"seconds": row.seconds / len(row)}

    def as_dict(self) -> dict[str, object]:
        """As JSON values."""
        gate = self.gate
        return {
            "command": "threshold" if gate is None else "gate",
            "experts": list(self.sources),
            "gammas": list(self.gammas),
            "found": self.found.as_dict(),
            "confirmed": None if self.confirmed is None else self.confirmed.as_dict(),
            "gate": None
            if gate is None
            else {
                "start": gate.start, "end": gate.end, "coefficients": [list(r) for r in gate.coefficients],
                "sha256": gate.sha256, "experts": dict(gate.experts), "about": dict(gate.about),
            },
            **self.tried(),
        }  # fmt: skip

    def __repr__(self) -> str:
        return f"Compared({len(self.sources)} experts, {self.found!r})"


@checked_once()
def choose_switches(
    plan: Plan,
    *,
    tune_data: str | None,
    tune_limit: int,
    budget: float | None = None,
    confirm: bool = True,
    test: bool = True,
    progress: bool = False,
    tell: Callable[[str], object] = lambda _: None,
    measuring: Measuring = HERE,
) -> Compared:
    """The thresholds of the plan's experts, and what they are worth on the plan's images.

    ``budget`` is that of `confirm_switches`, without ``confirm`` that of `find_switches`; ``tell`` gets a
    line before each part, ``measuring`` measures the images.
    """
    begin = time.perf_counter()
    tune = tuning_data(plan.settings, tune_data, tune_limit)
    if test:
        check_apart(tune, plan.data)
    experts = list(plan.models.experts.values())
    n_solves = (len(tune) if confirm else 0) + (1 + len(experts)) * len(plan.data) * test
    checks = ModelChecks.of_experts(plan, n_solves)
    tell(f"finding thresholds of {len(experts)} experts on {len(tune)} images of {of(tune)}")
    found, confirmed = found_on(
        plan, tune, budget, confirm=confirm, progress=progress, tell=tell, measuring=measuring.part("found")
    )
    gammas = found.gammas if confirmed is None else confirmed.gammas
    rows = {}
    if test:
        models = beside_each_alone(plan, {HARD: hard(plan, gammas)})
        rows = scored(plan, models, progress, tell, measuring.part("test"))
        checks = checks.and_of(plan, models, rows)
    return Compared(
        found=found, confirmed=confirmed, sources=sources(plan), tune=tune, test=plan.data, rows=rows,
        seconds=time.perf_counter() - begin, checks=checks,
    )  # fmt: skip


def found_on(
    plan: Plan,
    tune: Data,
    budget: float | None = None,
    *,
    confirm: bool,
    progress: bool,
    tell: Callable[[str], object],
    measuring: Measuring = HERE,
) -> tuple[Switches, ConfirmedSwitches | None]:
    """The thresholds of the plan's experts on ``tune``: the bound's, and those that exact runs confirm."""
    experts = list(plan.models.experts.values())
    options, labels = plan.settings.options(), labels_of(tune, plan.settings)
    convention = cast(Convention, plan.settings.pixel_convention)
    found = find_switches(
        experts, tune, budget=None if confirm else budget, options=options, labels=labels,
        convention=convention, measuring=measuring,
    )  # fmt: skip
    if not confirm:
        return found, None
    tell(f"found gamma {', '.join(f'{gamma:.2f}' for gamma in found.gammas)}; confirming by exact runs")
    return found, confirm_switches(
        experts, tune, found, budget=budget, progress=progress, options=options, labels=labels,
        convention=convention, measuring=measuring.part("confirmed"),
    )  # fmt: skip


def hard(plan: Plan, gammas: Sequence[float]) -> MergedModel:
    """The plan's experts at the thresholds."""
    convention = cast(Convention, plan.settings.pixel_convention)
    return MergedModel.of(list(plan.models.experts.values()), gammas, convention=convention)


def beside_each_alone(plan: Plan, models: Mapping[str, MergedModel]) -> dict[str, MergedModel]:
    """The models, and each expert of the plan alone by its role."""
    convention = cast(Convention, plan.settings.pixel_convention)
    alone = {role: as_model(expert, convention=convention) for role, expert in plan.models.experts.items()}
    return {**models, **alone}


def scored(
    plan: Plan,
    models: Mapping[str, MergedModel],
    progress: bool,
    tell: Callable[[str], object],
    measuring: Measuring = HERE,
) -> dict[str, Likelihood]:
    """The models, among them each expert alone, on the plan's images, one after the other, each timed."""
    merged = ", ".join(name for name in models if name not in plan.models.experts)
    tell(f"{merged} and each expert alone on {len(plan.data)} images of {of(plan.data)}")
    options, labels = plan.settings.options(), labels_of(plan.data, plan.settings)
    return measuring.likelihoods(models, plan.data, options, labels=labels, progress=progress)


def sources(plan: Plan) -> tuple[str, ...]:
    """By what words the plan's experts were asked for."""
    return tuple(plan.models.identity[role].source for role in plan.models.experts)


def of(data: Data) -> str:
    """A set's name with its part."""
    return set_name(data.name, data.split)
