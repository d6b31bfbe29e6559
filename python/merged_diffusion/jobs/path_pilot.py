"""Is the correction of adams' path right here? Tried at two tolerances on a few images before all are scored.

``--path-check pilot``: 16 images, the first of the random order of the whole set, so that every shard and
every ``--limit`` has the same, with one fixed probe (or the exact trace) at the run's tolerance and at a
quarter of it. What is found decides the values of the run, so it is kept with the settings and never found
anew.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final, cast

import numpy as np

from merged_diffusion.data.images import Data
from merged_diffusion.errors import RunMismatchError, UsageError
from merged_diffusion.jobs.pilot import FINER
from merged_diffusion.jobs.pilot_runs import pilot_images
from merged_diffusion.jobs.plan import Plan
from merged_diffusion.likelihood.exact import log_likelihoods
from merged_diffusion.likelihood.path_evidence import ASSUMED, Floats, PathEvidence, path_evidence
from merged_diffusion.merge import MergedModel
from merged_diffusion.ode.methods import LEAST_TOL, Adams, Probes
from merged_diffusion.runs.kept import as_kept
from merged_diffusion.runs.settings_file import PATH, read_settings

PILOT_IMAGES: Final = 16


def with_path_evidence(plan: Plan, out: Path | None, n_left: int) -> Plan:
    """The plan with what ``--path-check pilot`` found of each model: as its run recorded it, else found now.

    Nothing is measured where none of ``n_left`` images is left to score, by whatever worker: all of them have
    the same evidence in their settings, also one whose share is empty.

    Raises
    ------
    UsageError
        No image of the pilot could be scored, or there is no finer tolerance.
    """
    if plan.metric.name != "nll" or plan.settings.path_check != "pilot":
        return plan
    kept = {name: _recorded(plan.folder(out, name)) for name in plan.models.models}
    missing = [name for name, evidence in kept.items() if evidence is None] if n_left else []
    images = pilot_images(plan, PILOT_IMAGES) if missing else None
    for name in missing:
        found = _measured(plan, plan.models.models[name], cast(Data, images))
        kept[name] = _recorded(plan.folder(out, name)) or found  # another worker's, who was first
    return replace(plan, paths={name: found for name, found in kept.items() if found is not None})


def as_recorded(plan: Plan, out: Path, name: str, refused: RunMismatchError) -> Plan:
    """The plan with what another worker recorded of a model meanwhile.

    Raises
    ------
    RunMismatchError
        ``refused``, where the run differs in anything else, or has no evidence.
    """
    found = _recorded(plan.folder(out, name))
    differences = cast(Mapping[str, object], refused.fields["differences"])
    is_other = any(not key.startswith(f"settings.{PATH}.") for key in differences)
    if name not in plan.paths or found is None or is_other:
        raise refused
    return replace(plan, paths={**plan.paths, name: found})


def _recorded(folder: Path | None) -> PathEvidence | None:
    settings = None if folder is None else read_settings(folder)
    if folder is None or settings is None:
        return None
    with as_kept(folder):
        found = settings.get("settings", {}).get(PATH)
        return None if found is None else PathEvidence.from_dict(found)


def _measured(plan: Plan, model: MergedModel, images: Data) -> PathEvidence:
    usual = plan.settings.options()
    solver = cast(Adams, usual.solver)
    if solver.tol / FINER < LEAST_TOL:
        raise UsageError(
            f"--path-check pilot compares --tol {solver.tol:g} with a quarter of it, and the least is "
            f"{LEAST_TOL:g}",
            hint=f"use --tol {FINER * LEAST_TOL:g} or more, or leave --path-check out",
        )
    finer = Adams(solver.tol / FINER, solver.h_max / FINER**0.25)
    found = path_evidence(*(_scored(plan, model, images, each) for each in (solver, finer)))
    if not found.n:
        raise UsageError("no image of the pilot could be scored", hint="leave --path-check out to see why")
    if usual.is_density:
        return found
    bits = float(f"{found.rms / (math.prod(images.images.shape[1:]) * math.log(2)):.3g}")
    return replace(found, rms=bits)


def _scored(plan: Plan, model: MergedModel, images: Data, solver: Adams) -> tuple[Floats, Floats]:
    """L without its correction, and the correction, in nats [N]; NaN where an image failed."""
    usual = plan.settings.options()
    machine = replace(usual.machine, profile_time=False)
    if not plan.settings.compile:  # which would be compiled for other rows again
        machine = replace(machine, batch_size=min(len(images), machine.batch_size or len(images)))
    probes = Probes(kind="exact" if usual.probes.kind == "exact" else "fixed")
    options = replace(usual.once(solver, probes), machine=machine, path=ASSUMED)
    found = log_likelihoods({"pilot": model}, images, options, labels=plan.labels(images))["pilot"]
    terms = found.allowing_failed().terms_nats
    correction = terms["path_correction"]
    total: Floats = np.sum(list(terms.values()), axis=0)
    return total - correction, correction
