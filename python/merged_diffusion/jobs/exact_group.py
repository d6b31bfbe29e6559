"""Exact runs of models that share their steps, or of one model, on the images of a set: a run for each model.

What an image took is kept beside them as soon as it has its records, so that the seconds of all are known
whoever scored what, and however often it was interrupted. Calls are known of whole blocks: where some were
cut short, they are scaled, and the tally says from how many images (``scaled_from``).
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
from merged_diffusion.jobs.crew import Crew, Key, Spent
from merged_diffusion.jobs.exact_task import Exact, ExactTask
from merged_diffusion.jobs.kept_rows import KeptRows
from merged_diffusion.jobs.plan import Plan
from merged_diffusion.likelihood import Likelihood
from merged_diffusion.likelihood.likelihood_options import Options
from merged_diffusion.merge import MergedModel
from merged_diffusion.runs import Run
from merged_diffusion.runs.environment import Versions
from merged_diffusion.scores.named_objects import ByName
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
        crew: Crew | None = None,
        names: ByName | None = None,
    ) -> None:
        """``crew``: who scores in the place of this process, and knows experts and images by ``names``."""
        self._sign = sign
        self._plan, self._models, self._options = plan, models, options
        self._progress = progress
        self._exact = Exact(models, plan.data, options, labels)
        self._crew, self._stage = crew, f"{place}/{'+'.join(models)}"
        self._sent = b"" if crew is None or names is None else names.dumps(self._exact)
        self._open = ExitStack()
        first, *_ = models
        # Of a block, by its first image: images scored, evaluations, and network calls by leg.
        n_legs = max(len(model.legs()) for model in models.values())
        try:
            self._runs = {
                name: self._open.enter_context(self._run(place / folder_of(name), name, model, shard))
                for name, model in models.items()
            }
            kept = place / folder_of(first)
            costs = KeptRows(kept.with_name(f"{kept.name}-calls"), plan.data, 2 + n_legs, shard)
            self._costs = self._open.enter_context(costs)
            seconds = KeptRows(kept.with_name(f"{kept.name}-seconds"), plan.data, 1, shard)
            self._seconds = self._open.enter_context(seconds)
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

        ids = self._plan.data.ids
        left = np.sum([np.isin(ids, own) for own in wanted.values()], axis=0)
        spent = np.zeros(len(ids))

        def keep(name: str, record: Record, seconds: float, versions: Versions | None = None) -> None:
            self._runs[name].append(record, versions)
            at = np.flatnonzero(ids == record.id)
            spent[at] += seconds
            left[at] -= 1
            if not left[at].any():
                self._seconds.append(at, spent[at, None])
            self._sign()

        def told(key: Key, item: tuple[Record, float], versions: Versions | None) -> None:
            keep(key[1], *item, versions)

        def ended(found: Spent) -> None:
            block = np.array([[float(every.sum()), float(found.evaluations), *map(float, found.calls)]])
            self._costs.append(np.flatnonzero(every)[:1], block)
            self._costs.flush()
            self._seconds.flush()

        if self._crew is None:
            ended(self._exact.score(wanted, keep, progress=self._progress))
        else:
            self._crew.begin(ExactTask(self._stage, self._sent, wanted), told, ended)

    def likelihoods(self) -> dict[str, Likelihood]:
        """Of all images, from the records of all workers."""
        n = len(self._plan.data)
        timed = self._seconds.known()
        seconds = float(timed.mean()) * n if len(timed) else math.nan
        tally = self._tally(n)
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

    def _tally(self, n: int) -> dict[str, object]:
        counted, evaluations, *calls = self._costs.known().sum(axis=0).tolist()
        tally: dict[str, object] = {"evaluations": round(evaluations / counted * n)} if counted else {}
        if counted:
            tally["calls"] = [round(each / counted * n) for each in calls]
        if counted != n:
            tally["scaled_from"] = round(counted)
        if len(self._models) == 1 or not counted:
            # What models share cannot be told from their records: of no whole block it is what each took.
            records = [record for name in self._models for record in self._runs[name].records()]
            tally["evaluations"] = sum(record.total_evaluations for record in records)
        return tally

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.__exit__(kind, error, trace)


def folder_of(name: str) -> str:
    """A name without blanks."""
    return name.replace(" ", "-")
