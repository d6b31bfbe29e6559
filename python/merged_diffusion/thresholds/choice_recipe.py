"""How a worker has the experts and images of ``threshold`` and ``gate`` where it is: the same ones.

What it is to measure is sent to it, with the names of these in their places (`ByName`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from merged_diffusion.data.images import Data, ids_sha256
from merged_diffusion.errors import RunMismatchError
from merged_diffusion.jobs.plan import Plan, make_plan
from merged_diffusion.jobs.recipes import OnMachine, identities, require_same
from merged_diffusion.scores.named_objects import ByName
from merged_diffusion.thresholds.auto import tuning_data


@dataclass(frozen=True)
class ChoiceRecipe(OnMachine):
    """The experts of a plan, its images, and those that are chosen on."""

    tune_data: str | None
    tune_limit: int
    tune: tuple[str, str]

    @classmethod
    def of(cls, plan: Plan, tune_data: str | None, tune_limit: int) -> tuple[Self, ByName]:
        """That of a plan on its machine, and the names in this process."""
        tune = tuning_data(plan.settings, tune_data, tune_limit)
        made = cls(plan.settings, identities(plan), tune_data, tune_limit, _told(tune))
        return made, _names(plan, tune)

    def made(self) -> Mapping[str, ByName]:
        """The names, where this is called; it has no rows."""
        plan = make_plan(self.settings).on(None)
        require_same(plan, self.expected)
        tune = tuning_data(plan.settings, self.tune_data, self.tune_limit)
        if _told(tune) != self.tune:
            raise RunMismatchError(
                f"a worker finds other images to choose on: {tune.name}, {len(tune)} of sha256 {tune.sha256}",
                hint="have the same files under the same names on all nodes",
                differences={"tune": {"recorded": self.tune, "asked": _told(tune)}},
            )
        return {"": _names(plan, tune)}


def _told(data: Data) -> tuple[str, str]:
    return data.sha256, ids_sha256(data)


def _names(plan: Plan, tune: Data) -> ByName:
    return ByName(plan.models.experts, {"data": plan.data, "tune": tune})
