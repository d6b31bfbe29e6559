"""Exact runs of models that share their steps, or of one: of some images, here or by a worker elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import cast

import numpy as np
import numpy.typing as npt

from merged_diffusion.data.images import Data
from merged_diffusion.jobs.crew import Spent, Tell
from merged_diffusion.likelihood import log_likelihoods
from merged_diffusion.likelihood.likelihood_options import Options
from merged_diffusion.merge import MergedModel
from merged_diffusion.scores.named_objects import ByName
from merged_diffusion.scores.record import Record

Integers = npt.NDArray[np.int64]
Keep = Callable[[str, Record, float], object]
"""Takes a model's name, a record, and the seconds since the one before."""


@dataclass(frozen=True, eq=False)
class Exact:
    """Models by name, images, options and labels [N] of exact runs."""

    models: Mapping[str, MergedModel]
    data: Data
    options: Options
    labels: Integers | None

    def score(self, wanted: Mapping[str, Integers], keep: Keep, *, progress: bool = False) -> Spent:
        """Score under each model the ids that are wanted of it."""
        every = np.isin(self.data.ids, np.concatenate(list(wanted.values())))
        heard = time.perf_counter()

        def told(name: str, record: Record) -> None:
            nonlocal heard
            now = time.perf_counter()
            keep(name, record, now - heard)
            heard = now

        found = next(
            iter(
                log_likelihoods(
                    self.models,
                    self.data.where(every),
                    self.options,
                    labels=None if self.labels is None else self.labels[every],
                    wanted=wanted,
                    on_record=told,
                    progress=progress,
                ).values()
            )
        )
        calls = tuple(int(count) for count in cast("list[int]", found.tally["calls"]))
        return Spent(evaluations=int(cast(int, found.tally["evaluations"])), calls=calls)


@dataclass(frozen=True)
class ExactTask:
    """Score what is ``wanted`` by name of a ``stage``; ``exact`` is an `Exact`, as `ByName` wrote it."""

    stage: str
    exact: bytes
    wanted: Mapping[str, Integers]

    def run(self, plans: Mapping[str, object], tell: Tell) -> Spent:
        """Tell each record with its seconds."""
        exact = cast(Exact, cast(ByName, plans[""]).loads(self.exact))

        def keep(name: str, record: Record, seconds: float) -> None:
            tell((self.stage, name), [record.id], (record, seconds))

        return exact.score(self.wanted, keep)
