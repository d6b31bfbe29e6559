"""The rows of a sweep: one threshold each, with the plan of what it is by itself.

All rows have the same images, noise and probes. Only where an expert alone begins at another gamma than the
merged models (the quality expert) the noise is cut elsewhere, from the same uniform numbers. Samples have the
same start noise, whatever they are drawn from.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Generic, TypeVar

from merged_diffusion.errors import UsageError
from merged_diffusion.jobs.plan import Plan
from merged_diffusion.jobs.sample_run import SamplePlan
from merged_diffusion.merge import MergedModel
from merged_diffusion.sweeps.thresholds import ALONE, Eta, grid, row_name

P = TypeVar("P", Plan, SamplePlan)


@dataclass(frozen=True)
class Row(Generic[P]):
    """One threshold: ``plan`` is the command for it alone; what it gives lies in ``folder`` of the sweep."""

    name: str
    folder: str
    eta: float
    plan: P

    @property
    def model(self) -> MergedModel:
        """What is scored, or drawn from."""
        return self.plan.model

    @property
    def note(self) -> str | None:
        """That the threshold was moved to the end of an expert's range."""
        return self.model.snapped


def make_rows(base: P, etas: Sequence[Eta] | None) -> list[Row[P]]:
    """A row for each threshold, ascending; ``base`` is a plan of the pair at any threshold, with ``compare``.

    Raises
    ------
    UsageError
        A threshold lies outside of what both experts allow, or two are the same to four decimals.
    """
    experts, pair = base.models.experts, base.models.pair
    if etas is None:
        low, high = experts["likelihood"].gamma_range, experts["quality"].gamma_range
        etas = grid(low, high, None if pair is None else pair.eta_range)
    rows = sorted((_row(base, eta) for eta in etas), key=lambda row: row.eta)
    for one, two in pairwise(rows):
        if one.folder == two.folder:
            raise UsageError(
                f"two thresholds are {one.name} to four decimals ({one.eta:.7f} and {two.eta:.7f})",
                hint="leave one of them out",
            )
    return rows


def _row(base: P, eta: Eta) -> Row[P]:
    role = None if isinstance(eta, str) else ALONE.get(eta)
    if role is not None:
        settings = replace(base.settings, eta=None, compare=False)
        models = replace(base.models, models={role: base.models.models[role]})
        return Row(role, role, float(eta), replace(base, settings=settings, models=models, notes=()))
    settings = replace(base.settings, eta=eta, compare=False)
    models = base.models.at(settings)
    found = models.models["merged"].threshold or {}
    number = found.get("eta")
    value = float(eta) if number is None else number
    name = row_name(value)
    return Row(name, name.replace(" ", "-"), value, replace(base, settings=settings, models=models, notes=()))
