"""What layers in less than full precision cost: measured on a few images before all are scored.

8 images, the first of the random order of the whole set, so that every shard and every ``--limit`` has the
same, in the precision of the run and in full: the same noise, and one fixed probe (or the exact trace), so
that nothing but the precision, and the steps that it moves, can differ. What was found is kept with the
settings and printed beside the result.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final, cast

import numpy as np
import numpy.typing as npt

from merged_diffusion.bound import Bound
from merged_diffusion.data.images import Data
from merged_diffusion.errors import UsageError
from merged_diffusion.jobs.metrics import LIKELIHOOD
from merged_diffusion.jobs.pilot_runs import pilot_images
from merged_diffusion.jobs.plan import Plan
from merged_diffusion.jobs.precision_cost import PrecisionCost, cost_in
from merged_diffusion.jobs.settings import Settings
from merged_diffusion.likelihood import Likelihood
from merged_diffusion.likelihood.exact import log_likelihoods
from merged_diffusion.merge import MergedModel
from merged_diffusion.ode.machine import PRECISION, Precision
from merged_diffusion.ode.methods import Probes
from merged_diffusion.runs.kept import as_kept
from merged_diffusion.runs.settings_file import read_settings

PILOT_IMAGES: Final = 8
MOST_COST: Final = 0.01  # bits/dim: a quarter of what merging gains on photos, all of it on scenes


def with_precision_cost(plan: Plan, out: Path | None, n_left: int) -> Plan:
    """The plan with what its precision costs each model: as its run recorded it, else measured now.

    Nothing is measured where none of ``n_left`` images is left to score, by whatever worker.

    Raises
    ------
    UsageError
        It may cost more than can be borne, which was not accepted; or no image of the pilot could be scored.
    """
    found, measured = costs(plan, out, n_left)
    for name in measured:
        check_bearable(found[name], plan)
    return with_costs(plan, found)


def costs(plan: Plan, out: Path | None, n_left: int) -> tuple[dict[str, PrecisionCost], tuple[str, ...]]:
    """By model, and which of them were measured now: of others somebody accepted what they cost.

    Raises
    ------
    UsageError
        No image of the pilot could be scored.
    """
    images, found, measured = None, dict[str, PrecisionCost](), list[str]()
    if not plan.settings.machine.is_reduced:
        return found, ()
    for name, model in plan.models.models.items():
        cost = _recorded(plan.folder(out, name))
        if cost is None and n_left:
            images = images or pilot_images(plan, PILOT_IMAGES)
            cost = _measured(plan, model, images)
            measured.append(name)
        if cost is not None:
            found[name] = cost
    return found, tuple(measured)


def pilot_seconds(plan: Plan, out: Path | None, n_left: int) -> float:
    """What the pilots that are still to be run will take, twice each: in the plan's precision and in full."""
    if not plan.settings.machine.is_reduced or not n_left:
        return 0.0
    missing = sum(_recorded(plan.folder(out, name)) is None for name in plan.models.models)
    n_images = min(PILOT_IMAGES, len(plan.whole))
    return 2 * missing * plan.cost_of(n_images).seconds if missing else 0.0


def with_costs(plan: Plan, found: Mapping[str, PrecisionCost]) -> Plan:
    """The plan with what its precision costs each model."""
    return replace(plan, precision_costs={name: cost.as_dict() for name, cost in found.items()})


def _recorded(folder: Path | None) -> PrecisionCost | None:
    settings = None if folder is None else read_settings(folder)
    if folder is None or settings is None:
        return None
    with as_kept(folder):
        return cost_in(settings.get("settings", {}))


def _measured(plan: Plan, model: MergedModel, images: Data) -> PrecisionCost:
    precision = plan.settings.machine.precision
    (low, counts), (full, usual) = (_found(plan, model, images, each) for each in (precision, PRECISION))
    is_lost = np.isfinite(full) & ~np.isfinite(low)
    away = low - full
    away = away[np.isfinite(away)]
    if not len(away):
        raise UsageError(
            f"no image of a pilot on {len(images)} could be scored with --precision {precision}",
            hint="leave --precision out",
        )
    se = float(away.std(ddof=1)) / math.sqrt(len(away)) if len(away) > 1 else None
    return PrecisionCost(float(away.mean()), se, len(away), counts, usual, int(is_lost.sum()))


def _found(
    plan: Plan, model: MergedModel, images: Data, precision: Precision | None
) -> tuple[npt.NDArray[np.float64], float]:
    """Bits/dim or nats [N] of the images in a precision, NaN where one failed; evaluations an image."""
    settings = settings_in(plan.settings, len(images), precision)
    labels = plan.labels(images)
    scored: Likelihood | Bound
    if plan.metric == LIKELIHOOD:
        usual = settings.options()
        probes = Probes(kind="exact" if usual.probes.kind == "exact" else "fixed")
        options = replace(usual.once(usual.solver, probes), machine=settings.machine)
        scored = found = log_likelihoods({"pilot": model}, images, options, labels=labels)["pilot"]
        found = found.allowing_failed()
        values = found.log_density_nats if found.is_density else found.bits_per_dim
    else:
        bound = plan.metric.score(model, images, settings, labels=labels, on_record=lambda _: None)
        scored = cast(Bound, bound)
        values = scored.allowing_failed().bits_per_dim
    return values, float(np.mean([record.total_evaluations for record in scored.records]))


def settings_in(settings: Settings, n: int, precision: Precision | None) -> Settings:
    """The settings in a precision, for ``n`` images."""
    machine = replace(settings.machine, profile_time=False, precision=precision)
    if not settings.compile:  # which would be compiled for other rows again
        machine = replace(machine, batch_size=min(n, machine.batch_size or n))
    return settings.at(machine, settings.compile)


def check_bearable(cost: PrecisionCost, plan: Plan, of: str = "") -> None:
    """`UsageError`, which says ``of`` what, where it may cost more than can be borne and is not accepted."""
    is_density = plan.metric == LIKELIHOOD and plan.settings.options().is_density
    dim = math.prod(plan.data.images.shape[1:])
    most = MOST_COST * dim * math.log(2) if is_density else MOST_COST
    if plan.settings.accept.precision or cost.is_bearable(most):
        return
    precision, unit = str(plan.settings.machine.precision), "nats" if is_density else "bits/dim"
    raise UsageError(
        f"{of}--precision {precision} may cost more than {most:.3g} {unit}: {cost.words(precision, unit)}",
        hint="leave --precision out; --accept-precision (in Python Accept(precision=True)) goes on all the "
        "same",
        found=cost.difference,
    )
