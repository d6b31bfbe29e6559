"""How a worker makes the plans of `nll`, `vlb` and `sample` where it is, and that they are the same plans.

It loads data and experts by the same names. What identifies a run (hashes of images, of weights and of code,
and all settings) must be what the process that hands out has found: another file under the same name would
give other numbers in silence.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Self

from merged_diffusion.errors import RunMismatchError
from merged_diffusion.jobs.metrics import Metric
from merged_diffusion.jobs.model_plan import ModelPlan
from merged_diffusion.jobs.plan import Plan, make_plan
from merged_diffusion.jobs.sample_run import Integers, SamplePlan
from merged_diffusion.jobs.settings import Settings
from merged_diffusion.runs.settings_file import differences, listed
from merged_diffusion.samplers import Sampling

Identities = Mapping[str, Mapping[str, object]]


def identities(plan: ModelPlan) -> Identities:
    """What the records of each model depend on, or the samples; without what pilots have found."""
    if isinstance(plan, Plan):
        bare = replace(plan, checks={}, paths={}, precision_costs={})
        return {name: bare.identity(name).as_dict() for name in plan.models.models}
    if isinstance(plan, SamplePlan):
        return {"": plan.identity()}
    raise TypeError(f"nothing identifies a {type(plan).__name__}")


def require_same(plan: ModelPlan, expected: Identities) -> None:
    """`RunMismatchError` where a plan is not the one that is expected."""
    found: dict[str, tuple[Any, Any]] = {}
    for one, other in zip(identities(plan).values(), expected.values(), strict=True):
        found |= differences(one, other)
    if found:
        raise RunMismatchError(
            f"a worker finds other data, experts or settings: {listed(found)}",
            hint="have the same files under the same names on all nodes",
            differences={key: {"recorded": a, "asked": b} for key, (a, b) in found.items()},
        )


@dataclass(frozen=True)
class OnMachine:
    """What the recipes of all commands have in common: settings that leave nothing open."""

    settings: Settings
    expected: Identities = field(repr=False)

    @property
    def threads(self) -> int:
        """Threads of a worker."""
        return self.settings.machine.threads or 1

    @property
    def device(self) -> str:
        """What its networks run on."""
        return self.settings.machine.device or "cpu"

    @property
    def deterministic(self) -> bool:
        """Whether a kernel that has no deterministic form is refused."""
        return self.settings.deterministic


@dataclass(frozen=True)
class ScoreRecipe(OnMachine):
    """The plan of an evaluation."""

    metric: Metric

    @classmethod
    def of(cls, plan: Plan) -> Self:
        """That of a plan on its machine."""
        return cls(plan.settings, identities(plan), plan.metric)

    def plan(self) -> Plan:
        """The same plan, where this is called."""
        plan = make_plan(self.settings, self.metric).on(None)
        require_same(plan, self.expected)
        return plan

    def made(self) -> Mapping[str, Plan]:
        """It has no rows."""
        return {"": self.plan()}


@dataclass(frozen=True)
class DrawRecipe(OnMachine):
    """The plan of samples."""

    how: Sampling
    ids: Integers
    image_shape: tuple[int, int, int]
    data: str = ""

    @classmethod
    def of(cls, plan: SamplePlan, data: str = "") -> Self:
        """That of a plan on its machine; ``data`` implied its pair."""
        return cls(plan.settings, identities(plan), plan.how, plan.ids, plan.image_shape, data)

    def plan(self) -> SamplePlan:
        """The same plan, where this is called."""
        ids = int(self.ids[0]), int(self.ids[-1]) + 1
        plan = SamplePlan.make(self.settings, self.how, ids, self.image_shape, self.data).on(None)
        require_same(plan, self.expected)
        return plan

    def made(self) -> Mapping[str, SamplePlan]:
        """It has no rows."""
        return {"": self.plan()}
