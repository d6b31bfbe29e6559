"""The plan of a sweep: its rows, and what they have in common, before anything is written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from merged_diffusion.errors import UsageError
from merged_diffusion.evaluation.cost import Estimate
from merged_diffusion.evaluation.plan import KEPT_SECONDS, Plan, held_ids, make_plan
from merged_diffusion.evaluation.settings import THRESHOLDS, Settings
from merged_diffusion.runs import recorded_machine
from merged_diffusion.sweeps import folder
from merged_diffusion.sweeps.rows import Row, make_rows
from merged_diffusion.sweeps.thresholds import Eta, checked


@dataclass(frozen=True)
class SweepPlan:
    """What a sweep will do: the rows, and a plan of the pair for what they have in common."""

    base: Plan
    rows: list[Row]

    @property
    def notes(self) -> list[str]:
        """What a user should know of files and thresholds."""
        return [*self.base.notes, *(row.model.snapped for row in self.rows if row.model.snapped is not None)]

    def identity(self) -> dict[str, Any]:
        """What ``sweep.json`` says of data, pair and settings."""
        experts = self.base.models.identity
        pair = self.base.models.pair
        whole = self.base.identity(self.base.main)
        return {
            "command": "sweep",
            "format": folder.FORMAT,
            "metric": "nll",
            "data": whole["data"] | {"n": len(self.base.data)},
            "pair": {
                "name": None if pair is None else pair.name,
                "eta_range": None if pair is None else list(pair.eta_range),
                "experts": dict(experts),
            },
            "settings": replace(self.base.settings, eta=None, compare=False).as_dict(),
        }

    def default_out(self) -> Path:
        """``runs/sweep-photos-1a2b3c4d``: the same command finds it again."""
        single = self.base.default_out()
        return single.with_name(single.name.replace("nll", "sweep", 1))

    def estimate(self, out: Path | None) -> Estimate:
        """The cost if the rows shared nothing, from one timed call of the slowest expert."""
        base = self.base
        todo = [
            row.plan.share((0, 1), held_ids(None if out is None else out / row.folder)) for row in self.rows
        ]
        return base.metric.estimate(
            list(base.models.experts.values()),
            tuple(base.data.images.shape[1:]),
            sum(len(images) for images in todo if images is not None),
            base.settings,
        )

    def out_for(self, cost: Estimate) -> Path | None:
        """Where a sweep goes that nobody gave a place: nowhere if it is short."""
        return self.default_out() if cost.seconds > KEPT_SECONDS else None


def make_sweep_plan(
    settings: Settings, etas: Sequence[Eta] | None, out: Path | None
) -> tuple[SweepPlan, Path | None]:
    """The plan of a sweep on the machine that an existing one recorded, and where that one is.

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
    # One expert alone is a threshold that every pair has.
    base = make_plan(replace(settings, eta=1.0, compare=True))
    plan = SweepPlan(base, make_rows(base, None if etas is None else checked(etas)))
    if out is None and folder.read(plan.default_out()) is not None:
        out = plan.default_out()
    recorded: dict[str, Any] = {}
    if out is not None:
        found = (recorded_machine(out / row.folder) for row in plan.rows)
        recorded = next((machine for machine in found if machine), {})
    base = base.on(recorded)
    return SweepPlan(base, make_rows(base, etas)), out
