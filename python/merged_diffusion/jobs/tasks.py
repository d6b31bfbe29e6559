"""What is computed of some images of a plan, here or by a worker elsewhere, as the same call."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, cast

import numpy as np
import numpy.typing as npt

from merged_diffusion.data.images import Data
from merged_diffusion.jobs.crew import Spent, Tell
from merged_diffusion.jobs.plan import Plan
from merged_diffusion.likelihood.path_evidence import PathEvidence
from merged_diffusion.scores.record import Record

if TYPE_CHECKING:
    from merged_diffusion.sampling.samples import Samples

Integers = npt.NDArray[np.int64]


def score(
    plan: Plan, model: str, images: Data, path: PathEvidence | None, keep: Callable[[Record], object]
) -> Spent:
    """Score images under a model of a plan; ``path`` is what a pilot found of it."""
    found = plan.metric.score(
        plan.models.models[model],
        images,
        plan.settings,
        labels=plan.labels(images),
        on_record=keep,
        path=path,
    )
    return Spent(found.seconds, found.seconds_outside_network, time_profile=found.time_profile)


@dataclass(frozen=True)
class ScoreTask:
    """Score the images of ``ids`` under a ``model`` of the plan of a ``row``."""

    row: str
    model: str
    ids: Integers
    path: PathEvidence | None

    def run(self, plans: Mapping[str, object], tell: Tell) -> Spent:
        """Tell each record."""
        plan = cast(Plan, plans[self.row])
        images = plan.data.where(np.isin(plan.data.ids, self.ids))

        def keep(record: Record) -> None:
            tell((self.row, self.model), [record.id], record)

        return score(plan, self.model, images, self.path, keep)


class Drawable(Protocol):
    """The plan of samples."""

    def drawn(self, ids: Integers, keep: Callable[[Samples], object]) -> Samples:
        """Images of ids, each batch handed on as it is made."""


@dataclass(frozen=True)
class DrawTask:
    """Draw the images of ``ids`` by the plan of a ``row``."""

    row: str
    ids: Integers

    def run(self, plans: Mapping[str, object], tell: Tell) -> Spent:
        """Tell each batch."""

        def keep(samples: Samples) -> None:
            tell((self.row, ""), samples.ids.tolist(), samples)

        plan = cast(Drawable, plans[self.row])
        return Spent(time_profile=plan.drawn(self.ids, keep).time_profile)
