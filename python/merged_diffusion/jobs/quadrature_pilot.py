"""Is the trace smooth between the nodes that it is seen at? Measured on a few images before all are scored.

A companion (`ode/companion.py`) is one product more at each node. How rough a network is shows on a few
images: of every twenty that are asked for one, at most eight, the first ones of the random order of the whole
set. They are solved beside the run, so that no record depends on whether its image was among them; what was
found is kept with the settings, and measured again only where a larger selection asks for more images. Each
model of a command has its own: an expert alone meets what a merged model leaves out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from merged_diffusion.data.images import chosen_positions
from merged_diffusion.jobs.pilot_runs import unseen, with_check
from merged_diffusion.jobs.plan import Plan
from merged_diffusion.likelihood.exact import can_share, log_likelihoods
from merged_diffusion.likelihood.quadrature_check import QuadratureCheck, quadrature_check
from merged_diffusion.merge import MergedModel
from merged_diffusion.runs.kept import as_kept
from merged_diffusion.runs.settings_file import QUADRATURE, read_settings

MOST: Final = 8
SHARE: Final = 20  # images of a selection for one of the pilot: at most 5 % more, and one image at least


def with_quadrature(plan: Plan, out: Path | None, n_left: int) -> Plan:
    """The plan with what ``--quad-check pilot`` found: as its run recorded it, else measured now.

    Nothing is measured for a run of which none of ``n_left`` images is left to score.
    """
    if not asks(plan):
        return plan
    models = plan.models.models
    found = measured(plan, models, {name: kept(plan.folder(out, name)) for name in models}, n_left)
    for name, check in found.items():
        plan = with_check(plan, name, QUADRATURE, check.as_dict())
    return plan


def asks(plan: Plan) -> bool:
    """Whether a pilot is to tell of the plan's models."""
    settings = plan.settings
    is_pilot = settings.check_of_quadrature == "pilot" and not settings.probes.companion
    return plan.metric.name == "nll" and is_pilot


def measured(
    plan: Plan,
    models: Mapping[str, MergedModel],
    found: Mapping[str, QuadratureCheck | None],
    n_left: int,
) -> dict[str, QuadratureCheck]:
    """What pilots tell of models of the plan, by name: as ``found`` before, else measured now."""
    wanted = min(MOST, math.ceil(len(plan.data) / SHARE))
    known = {name: check for name, check in found.items() if check is not None}
    missing = {
        name: model
        for name, model in models.items()
        if n_left and (name not in known or known[name].n < wanted)
    }
    for group in _that_share(plan, missing):
        told = _measured(plan, group, wanted)
        known |= {name: check for name, check in told.items() if check is not None}
    return known


def _that_share(plan: Plan, models: Mapping[str, MergedModel]) -> list[Mapping[str, MergedModel]]:
    """Models in groups that share their steps."""
    groups: list[dict[str, MergedModel]] = []
    for name, model in models.items():
        for group in [] if model.gate is not None else groups:
            if can_share([*group.values(), model], plan.settings.options().solver):
                group[name] = model
                break
        else:
            groups.append({name: model})
    return list(groups)


def kept(out: Path | None) -> QuadratureCheck | None:
    """What the run at ``out`` recorded."""
    settings = None if out is None else read_settings(out)
    if out is None or settings is None:
        return None
    with as_kept(out):
        return recorded(settings.get("settings", {}))


def recorded(settings: Mapping[str, Any]) -> QuadratureCheck | None:
    """What a pilot left in the settings of a run."""
    found = settings.get(QUADRATURE)
    return None if found is None else QuadratureCheck.from_dict(found)


def _measured(
    plan: Plan, models: Mapping[str, MergedModel], wanted: int
) -> Mapping[str, QuadratureCheck | None]:
    """On the first images of the whole set; None where all of them failed, or a leg is too short."""
    images, options = unseen(plan), plan.settings.options()
    ids = images.ids[chosen_positions(len(images), wanted)]
    machine = replace(options.machine, profile_time=False)
    if not plan.settings.compile:  # which would be compiled for other rows again
        rows = wanted * options.n_draws
        machine = replace(machine, batch_size=min(rows, machine.batch_size or rows))
    options = replace(options, machine=machine, probes=replace(options.probes, companion=True))
    found = log_likelihoods(
        models, images, options, labels=plan.labels(images), wanted=dict.fromkeys(models, ids)
    )
    return {name: quadrature_check(each.allowing_failed()) for name, each in found.items()}
