"""How a worker makes the plans of all rows of a sweep where it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

from merged_diffusion.jobs.plan import Plan
from merged_diffusion.jobs.recipes import DrawRecipe, Identities, ScoreRecipe, identities, require_same
from merged_diffusion.jobs.sample_run import SamplePlan
from merged_diffusion.sweeps.drawn import DrawPlan
from merged_diffusion.sweeps.scored import ScorePlan
from merged_diffusion.sweeps.sweep_plan import PlannedRow, make_rows
from merged_diffusion.sweeps.thresholds import Eta


@dataclass(frozen=True)
class SweepRecipe:
    """That of the pair, and which rows are made of it."""

    base: ScoreRecipe | DrawRecipe
    etas: Sequence[Eta] | None
    gate: str | None
    rows: Mapping[str, Identities]

    @classmethod
    def of(cls, plan: ScorePlan | DrawPlan, etas: Sequence[Eta] | None, gate: str | None) -> Self:
        """That of a plan for ``etas`` and the card of a ``gate``."""
        rows = {row.name: identities(row.plan) for row in plan.rows}
        if isinstance(plan, DrawPlan):
            return cls(DrawRecipe.of(plan.base, plan.data_name), etas, gate, rows)
        return cls(ScoreRecipe.of(plan.base), etas, gate, rows)

    @property
    def threads(self) -> int:
        """Threads of a worker."""
        return self.base.threads

    @property
    def device(self) -> str:
        """What its networks run on."""
        return self.base.device

    @property
    def deterministic(self) -> bool:
        """Whether a kernel that has no deterministic form is refused."""
        return self.base.deterministic

    def made(self) -> Mapping[str, Plan | SamplePlan]:
        """The plan of each row, the networks loaded once."""
        made: Sequence[PlannedRow[Plan] | PlannedRow[SamplePlan]]
        if isinstance(self.base, DrawRecipe):
            made = make_rows(self.base.plan(), self.etas, self.gate)
        else:
            made = make_rows(self.base.plan(), self.etas, self.gate)
        for row in made:
            require_same(row.plan, self.rows[row.name])
        return {row.name: row.plan for row in made}
