"""What pilots share: the likelihoods that they try, and what a run recorded of an earlier one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from merged_diffusion.data.images import Data
from merged_diffusion.errors import UsageError
from merged_diffusion.jobs.plan import Plan
from merged_diffusion.likelihood import Likelihood, log_likelihood
from merged_diffusion.ode.methods import Probes, Solver
from merged_diffusion.runs.kept import as_kept
from merged_diffusion.runs.settings_file import read_settings
from merged_diffusion.soft_gate import digests

Chosen = TypeVar("Chosen")


def recorded(
    out: Path | None, word: str, wish: float, read: Callable[[Mapping[str, Any]], Chosen]
) -> Chosen | None:
    """What the run at ``out`` chose for the ``wish`` of the setting ``word``; None where it has another."""
    kept = None if out is None else read_settings(out)
    if out is None or kept is None:
        return None
    with as_kept(out):
        settings = kept.get("settings", {})
        return read(settings) if settings.get(word) == wish else None


def with_check(plan: Plan, name: str, word: str, found: object) -> Plan:
    """The plan with what was found of the model of this name, for the setting ``word``."""
    return replace(plan, checks={**plan.checks, name: {**plan.checks.get(name, {}), word: found}})


def unseen(plan: Plan) -> Data:
    """The whole set, the same for every shard and limit, without what the plan's gate was fitted to.

    Raises
    ------
    UsageError
        That is all of it.
    """
    gate, whole = plan.model.gate, plan.whole
    if gate is None or gate.seen.isdisjoint(known := digests(whole.images)):
        return whole
    is_new = np.array([each not in gate.seen for each in known])
    if not is_new.any():
        raise UsageError(
            f"the gate was fitted to or chosen on all {len(whole)} images of {whole.name}: none is left "
            "for a pilot",
            hint="score other images, or fit a gate to others (--tune-data)",
        )
    return whole.where(is_new)


def pilot_images(plan: Plan, most: int) -> Data:
    """The first of the random order of the images that are `unseen`, ``most`` at most."""
    images = unseen(plan)
    return images.select(limit=min(most, len(images)))


def scored(plan: Plan, images: Data, solver: Solver, probes: Probes) -> Likelihood:
    """Images under the plan's model, one draw each."""
    own = plan.settings.options()
    return log_likelihood(
        plan.model,
        images,
        seed=own.seed,
        dequantise=own.dequantise,
        solver=solver,
        probes=probes,
        machine=own.machine,
        accept=own.accept,
        labels=plan.labels(images),
    )
