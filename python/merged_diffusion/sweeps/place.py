"""From settings to the plan of a sweep, on the machine that an existing one recorded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from merged_diffusion.errors import UsageError
from merged_diffusion.jobs.metrics import LIKELIHOOD, VariationalBound
from merged_diffusion.jobs.plan import make_plan
from merged_diffusion.jobs.sample_run import SamplePlan
from merged_diffusion.jobs.settings import THRESHOLDS, Settings
from merged_diffusion.runs import recorded_machine
from merged_diffusion.sampling import parts
from merged_diffusion.sweeps import sweep_folder
from merged_diffusion.sweeps.drawn import SAMPLES, DrawPlan
from merged_diffusion.sweeps.reference import Reference, find_reference, known_set
from merged_diffusion.sweeps.request import Request
from merged_diffusion.sweeps.rows import make_rows
from merged_diffusion.sweeps.scored import ScorePlan
from merged_diffusion.sweeps.sweep_plan import SweepPlan
from merged_diffusion.sweeps.thresholds import Eta, checked


def place(
    settings: Settings, etas: Sequence[Eta] | None, out: Path | None, request: Request
) -> tuple[SweepPlan[Any], Path | None]:
    """The plan of a sweep, and where an existing one is (``out``, or the default place).

    Raises
    ------
    UsageError
        A threshold lies outside of what both experts allow.
    """
    given = [name for name in (*THRESHOLDS, "expert") if getattr(settings, name) is not None]
    if given:
        raise UsageError(
            f"{given[0]} was given, but a sweep is over thresholds of two experts",
            hint="give etas, likelihood_expert and quality_expert",
        )
    wanted = None if etas is None else checked(etas)
    # One expert alone is a threshold that every pair has.
    settings = replace(settings, eta=1.0, compare=True)
    return (_drawn if request.metric == "sample" else _scored)(settings, wanted, out, request)


def _scored(
    settings: Settings, etas: Sequence[Eta] | None, out: Path | None, request: Request
) -> tuple[ScorePlan, Path | None]:
    is_bound = request.metric == "vlb"
    base = make_plan(settings, VariationalBound(request.times, request.profile) if is_bound else LIKELIHOOD)
    rows = make_rows(base, etas)
    out = _existing(ScorePlan(base, rows), out)
    found = (None if out is None else recorded_machine(out / row.folder) for row in rows)
    base = base.on(next((machine for machine in found if machine), {}))
    return ScorePlan(base, make_rows(base, etas)), out


def _drawn(
    settings: Settings, etas: Sequence[Eta] | None, out: Path | None, request: Request
) -> tuple[DrawPlan, Path | None]:
    data_name = known_set(settings)
    base = SamplePlan.make(settings, request.how, (0, request.num), request.image_shape, data_name)
    rows = make_rows(base, etas)
    out = _existing(DrawPlan(base, rows, Reference(data_name)), out)
    found = (None if out is None else parts.recorded_machine(out / row.folder / SAMPLES) for row in rows)
    base = base.on(next((machine for machine in found if machine), {}))
    rows = make_rows(base, etas)
    for row in rows:
        row.plan.labels(row.plan.ids)
    reference = find_reference(base, data_name)
    return DrawPlan(replace(base, notes=(*base.notes, *reference.notes)), rows, reference), out


def _existing(plan: SweepPlan[Any], out: Path | None) -> Path | None:
    """The directory that was given, else that of an earlier command without one."""
    if out is None and sweep_folder.read(plan.default_out()) is not None:
        return plan.default_out()
    return out
