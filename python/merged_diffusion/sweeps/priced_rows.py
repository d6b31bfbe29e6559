"""What less than full precision costs each row of a sweep, before it is begun."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from merged_diffusion.jobs.moved_pixels import with_moved_pixels
from merged_diffusion.jobs.plan import Plan
from merged_diffusion.jobs.precision_cost import PrecisionCost
from merged_diffusion.jobs.precision_pilot import check_bearable, costs, with_costs
from merged_diffusion.jobs.sample_run import SamplePlan
from merged_diffusion.sweeps.drawn import DrawPlan
from merged_diffusion.sweeps.scored import ScorePlan
from merged_diffusion.sweeps.sweep_folder import SAMPLES
from merged_diffusion.sweeps.sweep_plan import PlannedRow, spoiling_one_row


def priced(plan: ScorePlan | DrawPlan, out: Path | None) -> ScorePlan | DrawPlan:
    """The plan with what pilots found of its rows; one that fails is told when its turn comes.

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
    found, measured = dict[str, PrecisionCost](), tuple[str, ...]()
    with spoiling_one_row(row.name, _later):
        found, measured = costs(row.plan, out and out / row.folder, n_left)
    for name in measured:
        check_bearable(found[name], row.plan, f"row {row.name}: ")
    return replace(row, plan=with_costs(row.plan, found))


def _drawn(row: PlannedRow[SamplePlan], out: Path | None) -> PlannedRow[SamplePlan]:
    plan = row.plan
    with spoiling_one_row(row.name, _later):
        plan = with_moved_pixels(plan, out and out / row.folder / SAMPLES)
    return replace(row, plan=plan)


def _later(name: str, error: Exception) -> None:
    """What the row's own images will say when its turn comes."""
