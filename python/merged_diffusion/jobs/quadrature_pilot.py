"""Is the trace smooth between the nodes that it is seen at? Measured on a few images before all are scored.

A companion (`ode/companion.py`) is one product more at each node. How rough a network is shows on a few
images: of every twenty that are asked for one, at most eight, the first ones of the random order of the whole
set. They are solved beside the run, so that no record depends on whether its image was among them; what was
found is kept with the settings, and measured again only where a larger selection asks for more images.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from merged_diffusion.data.images import chosen_positions
from merged_diffusion.jobs.pilot_runs import unseen
from merged_diffusion.jobs.plan import Plan
from merged_diffusion.likelihood.exact import log_likelihoods
from merged_diffusion.likelihood.quadrature_check import QuadratureCheck, quadrature_check
from merged_diffusion.runs.kept import as_kept
from merged_diffusion.runs.settings_file import QUADRATURE, read_settings

MOST: Final = 8
SHARE: Final = 20  # images of a selection for one of the pilot: at most 5 % more, and one image at least


def with_quadrature(plan: Plan, out: Path | None, n_left: int) -> Plan:
    """The plan with what ``--quad-check pilot`` found: as its run recorded it, else measured now.

    Nothing is measured for a run of which none of ``n_left`` images is left to score.
    """
    settings = plan.settings
    if plan.metric.name != "nll" or settings.check_of_quadrature != "pilot" or settings.probes.companion:
        return plan
    wanted = min(MOST, math.ceil(len(plan.data) / SHARE))
    found = kept(out)
    if (found is None or found.n < wanted) and n_left:
        found = _measured(plan, wanted) or found
    return plan if found is None else replace(plan, checks={**plan.checks, QUADRATURE: found.as_dict()})


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


def _measured(plan: Plan, wanted: int) -> QuadratureCheck | None:
    """On the first images of the whole set; None where all of them failed, or a leg is too short."""
    images, options = unseen(plan), plan.settings.options()
    ids = images.ids[chosen_positions(len(images), wanted)]
    machine = replace(options.machine, profile_time=False)
    if not plan.settings.compile:  # which would be compiled for other rows again
        rows = wanted * options.n_draws
        machine = replace(machine, batch_size=min(rows, machine.batch_size or rows))
    options = replace(options, machine=machine, probes=replace(options.probes, companion=True))
    found = log_likelihoods(
        {"pilot": plan.model}, images, options, labels=plan.labels(images), wanted={"pilot": ids}
    )
    return quadrature_check(found["pilot"].allowing_failed())
