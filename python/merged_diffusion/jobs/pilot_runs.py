"""What pilots share: the likelihoods that they try, and what a run recorded of an earlier one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from merged_diffusion.data.images import Data
from merged_diffusion.jobs.plan import Plan
from merged_diffusion.likelihood import Likelihood, log_likelihood
from merged_diffusion.ode.methods import Probes, Solver
from merged_diffusion.runs.kept import as_kept
from merged_diffusion.runs.settings_file import read_settings

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
