"""What the rows of a sweep meet: spikes of their experts, and a trace that is rougher than its nodes.

Each row has what `nll` at its threshold would have found. An expert is scanned once for all rows, and the
pilots of rows that begin alike share their steps.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from merged_diffusion.errors import IncompleteError, ResourceError, RunError, StorageError
from merged_diffusion.jobs import gamma_scans, quadrature_pilot
from merged_diffusion.jobs.pilot_runs import with_check
from merged_diffusion.jobs.plan import Plan
from merged_diffusion.likelihood.quadrature_check import QuadratureCheck
from merged_diffusion.runs.settings_file import GAMMA_SCAN, QUADRATURE
from merged_diffusion.sweeps.drawn import DrawPlan
from merged_diffusion.sweeps.scored import ScorePlan
from merged_diffusion.sweeps.sweep_plan import PlannedRow, spoiling_one_row

Found = Mapping[str, QuadratureCheck]


def checked(plan: ScorePlan | DrawPlan, out: Path | None, shard: tuple[int, int]) -> ScorePlan | DrawPlan:
    """The plan with what was found of each row, as its run recorded it, else measured now; warns of it.

    A row that fails is told when its turn comes. Nothing is measured where no image is left to this worker.
    """
    if isinstance(plan, DrawPlan) or not gamma_scans.asks(plan.base):
        return plan
    folders = {row.name: None if out is None else out / row.folder for row in plan.rows}
    n_left = sum(row.plan.n_left(shard, plan.known[row.name]) for row in plan.rows)
    found = _pilots(plan.rows, folders, n_left) if quadrature_pilot.asks(plan.base) else {}
    scans: Mapping[str, gamma_scans.Scans] = {}
    with spoiling_one_row("", _later):
        scans = gamma_scans.scanned(
            plan.base,
            {row.name: row.model for row in plan.rows},
            {name: gamma_scans.recorded(folder) for name, folder in folders.items()},
            n_left,
        )
    return replace(plan, rows=[_told(row, found, scans) for row in plan.rows])


def _pilots(rows: Sequence[PlannedRow[Plan]], folders: Mapping[str, Path | None], n_left: int) -> Found:
    """Of all thresholds together; one by one where one fails, and under a gate, whose images are its own."""
    known = {name: quadrature_pilot.kept(folder) for name, folder in folders.items()}
    hard = [row for row in rows if row.model.gate is None]
    try:
        found = _pilot(hard, known, n_left)
    except (StorageError, RunError, ResourceError, IncompleteError):
        raise
    except Exception:  # noqa: BLE001  an expert may raise anything; whose row it spoils shows one by one
        found, hard = {}, []
    for row in rows:
        if row not in hard:
            with spoiling_one_row(row.name, _later):
                found = {**found, **_pilot([row], known, n_left)}
    return found


def _pilot(
    rows: Sequence[PlannedRow[Plan]], known: Mapping[str, QuadratureCheck | None], n_left: int
) -> Found:
    if not rows:
        return {}
    models = {row.name: row.model for row in rows}
    return quadrature_pilot.measured(rows[0].plan, models, {name: known[name] for name in models}, n_left)


def _told(row: PlannedRow[Plan], found: Found, scans: Mapping[str, gamma_scans.Scans]) -> PlannedRow[Plan]:
    plan, name = row.plan, row.name
    if name in found:
        plan = with_check(plan, plan.main, QUADRATURE, found[name].as_dict())
    if scans.get(name):
        plan = with_check(plan, plan.main, GAMMA_SCAN, gamma_scans.as_words(scans[name]))
    return replace(row, plan=plan)


def _later(name: str, error: Exception) -> None:
    """What the row's own images will say when its turn comes."""
