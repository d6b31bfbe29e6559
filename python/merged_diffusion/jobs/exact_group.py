"""Exact runs of models that share their steps, or of one model, on the images of a set: a run for each model.

What a block took is kept beside them, so that the cost of all is known whoever scored what.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import numpy.typing as npt

from merged_diffusion.jobs.blocks import Mask, Work
from merged_diffusion.jobs.kept_rows import KeptRows
from merged_diffusion.jobs.plan import Plan
from merged_diffusion.likelihood import Likelihood, log_likelihoods
from merged_diffusion.likelihood.likelihood_options import Options
from merged_diffusion.merge import MergedModel
from merged_diffusion.runs import Run
from merged_diffusion.scores.record import Record


class ExactGroup:
    """Models by name, their runs in ``place``, and the images of the plan."""

    def __init__(
        self,
        place: Path,
        plan: Plan,
        models: Mapping[str, MergedModel],
        options: Options,
        labels: npt.NDArray[np.int64] | None,
        shard: tuple[int, int],
        *,
        progress: bool = False,
        sign: Callable[[], object] = lambda: None,
    ) -> None:
        self._sign = sign
        self._plan, self._models, self._options, self._labels = plan, models, options, labels
        self._progress = progress
        self._open = ExitStack()
        first, *_ = models
        # Images scored, seconds, evaluations, and network calls by leg, of a block.
        n_legs = max(len(model.legs()) for model in models.values())
        try:
            self._runs = {
                name: self._open.enter_context(self._run(place / folder_of(name), name, model, shard))
                for name, model in models.items()
            }
            costs = KeptRows(place / f"{folder_of(first)}-costs", plan.data, 3 + n_legs, shard)
            self._costs = self._open.enter_context(costs)
        except BaseException:
            self._open.close()
            raise

    def _run(self, path: Path, name: str, model: MergedModel, shard: tuple[int, int]) -> Run:
        own = replace(self._plan, models=replace(self._plan.models, models={name: model}))
        identity = own.identity(name)
        identity = replace(identity, settings=dict(identity.settings) | {"eta": None})  # of the plan's model
        return Run.open(
            path, identity.as_dict(), selection=own.selection(), shard=shard, n_expected=len(own.data)
        )

    def work(self, within: str, is_at_work: Callable[[int], bool]) -> Work:
        """All images under all of the models; one is done when it is under each."""
        return Work(
            f"{within}{'+'.join(self._models)}",
            len(self._plan.data),
            self._plan.unit,
            self._plan.settings.machine.batch_size or 1,
            lambda: np.all([self._done(name) for name in self._models], axis=0),
            is_at_work,
            pace="exact",
        )

    def _done(self, name: str) -> Mask:
        return self._plan.done(record.id for record in self._runs[name].records())

    def score(self, mask: Mask) -> None:
        """Score the images that a mask names under the models that have no record of them."""
        wanted = {name: self._plan.data.ids[mask & ~self._done(name)] for name in self._models}
        every = np.isin(self._plan.data.ids, np.concatenate(list(wanted.values())))
        if not every.any():
            return

        def keep(name: str, record: Record) -> None:
            self._runs[name].append(record)
            self._sign()

        found = next(
            iter(
                log_likelihoods(
                    self._models,
                    self._plan.data.where(every),
                    self._options,
                    labels=None if self._labels is None else self._labels[every],
                    wanted=wanted,
                    on_record=keep,
                    progress=self._progress,
                ).values()
            )
        )
        calls = np.asarray(found.tally["calls"], dtype=np.float64)
        spent = [float(every.sum()), found.seconds, float(found.tally["evaluations"]), *calls]
        self._costs.append(np.flatnonzero(every)[:1], np.array([spent]))
        self._costs.flush()

    def likelihoods(self) -> dict[str, Likelihood]:
        """Of all images, from the records of all workers."""
        n = len(self._plan.data)
        counted, seconds, evaluations, *calls = self._costs.known().sum(axis=0).tolist()
        # Of blocks that were cut short nothing is counted.
        seconds = seconds / counted * n if counted else math.nan
        tally: dict[str, object] = {
            "evaluations": round(evaluations),
            "calls": [round(each) for each in calls],
        }
        return {
            name: Likelihood(
                tuple(self._runs[name].records()),
                math.prod(self._plan.data.images.shape[1:]),
                importance=self._options.importance,
                dequantise=self._options.dequantise,
                guided=model.guided,
                seconds=seconds,
                tally=tally,
            )
            for name, model in self._models.items()
        }

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.__exit__(kind, error, trace)


def folder_of(name: str) -> str:
    """A name without blanks."""
    return name.replace(" ", "-")
