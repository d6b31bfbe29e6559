"""The plan of a sweep: a list of thresholds, each with the command for it alone, before anything is written.

All rows have the same images, noise and probes. Only where an expert alone begins at another gamma than the
merged models (the quality expert) the noise is cut elsewhere, from the same uniform numbers. Samples have the
same start noise, whatever they are drawn from.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Generic, TypeVar

from merged_diffusion.errors import IncompleteError, ResourceError, RunError, StorageError, UsageError
from merged_diffusion.jobs.cost import Estimate
from merged_diffusion.jobs.identity import experts_as_dict
from merged_diffusion.jobs.models import Models
from merged_diffusion.jobs.plan import KEPT_SECONDS, Plan
from merged_diffusion.jobs.sample_run import SamplePlan
from merged_diffusion.jobs.settings import Settings
from merged_diffusion.merge import MergedModel
from merged_diffusion.ode.time_profile import TimeProfile
from merged_diffusion.sweeps import sweep_folder
from merged_diffusion.sweeps.request import Request
from merged_diffusion.sweeps.sweep_row import RowError, SweepRow
from merged_diffusion.sweeps.table import Evaluations, SweepTable
from merged_diffusion.sweeps.thresholds import ALONE, GATE, Eta, grid, row_name

Job = TypeVar("Job", Plan, SamplePlan)
Failed = Callable[[str, Exception], None]


@dataclass(frozen=True)
class PlannedRow(Generic[Job]):
    """One threshold: ``plan`` is the command for it alone; what it gives lies in ``folder`` of the sweep."""

    name: str
    folder: str
    eta: float | None
    """None of a gate."""
    plan: Job

    @property
    def model(self) -> MergedModel:
        """What is scored, or drawn from."""
        return self.plan.model

    def told(self, summary: Mapping[str, object] | None, error: RowError | None) -> SweepRow:
        """As a row of the table, not yet compared with the others."""
        return SweepRow(self.name, self.model.threshold, self.folder, summary, error=error)


@dataclass(frozen=True)
class SweepPlan(Generic[Job]):
    """What a sweep will do: the rows, and a plan of the pair for what they have in common.

    ``table`` has no rows yet. The same command finds ``default_out`` again: ``runs/sweep-photos-1a2b3c4d``.
    """

    base: Job
    rows: Sequence[PlannedRow[Job]]
    table: SweepTable
    default_out: Path

    @property
    def settings(self) -> Settings:
        """On their machine."""
        return self.base.settings

    @property
    def notes(self) -> list[str]:
        """What a user should know of files, and of thresholds that were moved to the end of a range."""
        return [*self.base.notes, *(row.model.snapped for row in self.rows if row.model.snapped is not None)]

    def out_for(self, cost: Estimate) -> Path | None:
        """Where a sweep goes that nobody gave a place: nowhere if it is short."""
        return self.default_out if cost.seconds > KEPT_SECONDS else None


def make_rows(base: Job, etas: Sequence[Eta] | None, gate: str | None = None) -> list[PlannedRow[Job]]:
    """A row for each threshold, ascending, and one for the card of a ``gate``.

    ``base`` is a plan of the pair at any threshold, with ``compare``.

    Raises
    ------
    UsageError
        A threshold lies outside of what both experts allow, or two are the same to four decimals.
    """
    experts, pair = base.models.experts, base.models.pair
    if etas is None:
        low, high = experts["likelihood"].gamma_range, experts["quality"].gamma_range
        etas = grid(low, high, None if pair is None else pair.eta_range)
    rows = sorted((_row(base, eta) for eta in etas), key=lambda row: row.eta or 0.0)
    for one, two in pairwise(rows):
        if one.folder == two.folder:
            raise UsageError(
                f"two thresholds are {one.name} to four decimals ({one.eta:.7f} and {two.eta:.7f})",
                hint="leave one of them out",
            )
    if gate is not None:
        settings = replace(base.settings, eta=None, compare=False, gate=gate)
        plan = replace(base, settings=settings, models=base.models.at(settings), notes=())
        rows.append(PlannedRow(GATE, GATE, None, plan))
    return rows


def _row(base: Job, eta: Eta) -> PlannedRow[Job]:
    role = None if isinstance(eta, str) else ALONE.get(eta)
    if role is not None:
        settings = replace(base.settings, eta=None, compare=False)
        models = replace(base.models, models={role: base.models.models[role]})
        plan = replace(base, settings=settings, models=models, notes=())
        return PlannedRow(role, role, float(eta), plan)
    settings = replace(base.settings, eta=eta, compare=False)
    models = base.models.at(settings)
    threshold = models.models["merged"].threshold or {}
    number = threshold.get("eta")
    value = float(eta) if number is None else number
    name = row_name(value, threshold.get("gamma"), eta)
    plan = replace(base, settings=settings, models=models, notes=())
    return PlannedRow(name, name.replace(" ", "-"), value, plan)


def empty_table(
    request: Request, data: Mapping[str, object], models: Models, settings: Mapping[str, object]
) -> SweepTable:
    """The table of a sweep that was not begun."""
    pair = models.pair
    return SweepTable(
        metric=request.metric,
        data=data,
        pair=None if pair is None else pair.name,
        eta_range=None if pair is None else list(pair.eta_range),
        experts=experts_as_dict(models.identity),
        settings={**settings, **({} if request.gate is None else {GATE: request.gate})},
    )


def existing(out: Path | None, default_out: Path) -> Path | None:
    """The directory that was given, else that of an earlier command without one."""
    return default_out if out is None and sweep_folder.read(default_out) is not None else out


@dataclass
class Cost:
    """What the rows of a sweep have spent."""

    evaluations: Evaluations = field(default_factory=Evaluations)
    time_profile: TimeProfile | None = field(default_factory=TimeProfile)
    """Of this command, where it was asked for; None of one that was cut short."""

    def add(self, spent: int, single_runs: int, time_profile: TimeProfile | None = None) -> None:
        """Count in what came to its end."""
        held = self.evaluations
        self.evaluations = Evaluations(held.spent + spent, held.single_runs + single_runs)
        if self.time_profile is not None and time_profile is not None:
            self.time_profile += time_profile


@contextmanager
def spoiling_one_row(name: str, failed: Failed) -> Iterator[None]:
    """An expert may raise anything, which is told of its row; what would end every row alike goes on up."""
    try:
        yield
    except (StorageError, RunError, ResourceError, IncompleteError):
        raise
    except Exception as error:  # noqa: BLE001
        failed(name, error)
