"""What less than full precision costs each row of a sweep, before it is begun."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from merged_diffusion.errors import ExpertError
from merged_diffusion.jobs.moved_pixels import with_moved_pixels
from merged_diffusion.jobs.plan import Plan
from merged_diffusion.jobs.precision_pilot import with_precision_cost
from merged_diffusion.jobs.sample_run import SamplePlan
from merged_diffusion.jobs.worker_progress import SAMPLES
from merged_diffusion.sweeps.drawn import DrawPlan
from merged_diffusion.sweeps.scored import ScorePlan
from merged_diffusion.sweeps.sweep_plan import PlannedRow


def priced(plan: ScorePlan | DrawPlan, out: Path | None) -> ScorePlan | DrawPlan:
    """The plan with what pilots found of its rows; one whose expert fails is told when its turn comes.

    Raises
    ------
    UsageError
        It may cost a row more than can be borne.
    """
    if not plan.settings.machine.is_reduced:
        return plan
    if isinstance(plan, DrawPlan):
        return replace(plan, rows=[_drawn(row, out) for row in plan.rows])
    left = {row.name: row.plan.n_left((0, 1), plan.known[row.name]) for row in plan.rows}
    return replace(plan, rows=[_scored(row, out, left[row.name]) for row in plan.rows])


def _scored(row: PlannedRow[Plan], out: Path | None, n_left: int) -> PlannedRow[Plan]:
    with suppress(ExpertError):
        return replace(row, plan=with_precision_cost(row.plan, out and out / row.folder, n_left))
    return row


def _drawn(row: PlannedRow[SamplePlan], out: Path | None) -> PlannedRow[SamplePlan]:
    with suppress(ExpertError):
        return replace(row, plan=with_moved_pixels(row.plan, out and out / row.folder / SAMPLES))
    return row
