"""An evaluation being carried out: the images of a set under one model or several, kept in a run or not."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext, suppress
from functools import partial
from pathlib import Path
from typing import Self

from merged_diffusion.data.images import Data
from merged_diffusion.errors import (
    IncompleteError,
    MergedDiffusionError,
    RunError,
    RunMismatchError,
    StorageError,
)
from merged_diffusion.jobs.blocks import ALONE, Blocks, Mask, Work
from merged_diffusion.jobs.crew import Spent
from merged_diffusion.jobs.kept_runs import mean_kept, missing_ids
from merged_diffusion.jobs.path_pilot import as_recorded
from merged_diffusion.jobs.plan import Plan
from merged_diffusion.jobs.set_means import SetMeans
from merged_diffusion.jobs.summary import Summary, summarise
from merged_diffusion.jobs.tasks import ScoreTask, score
from merged_diffusion.ode.time_profile import TimeProfile
from merged_diffusion.runs import KnownRecords, Run, versions, worker_at_work
from merged_diffusion.runs.environment import Versions
from merged_diffusion.runs.kept import as_kept
from merged_diffusion.scores.record import Record

Observer = Callable[[str, Record], None]


class Evaluation:
    """A plan being carried out. `summary` may be asked for at any time, also after an interrupt."""

    def __init__(
        self,
        plan: Plan,
        *,
        out: Path | None = None,
        blocks: Blocks = ALONE,
        allow_rebatch: bool = False,
        strict_env: bool = False,
        known: Mapping[str, KnownRecords] | None = None,
        row: str = "",
    ) -> None:
        """``blocks``: which images are this worker's; ``known``: what was read of the runs before.

        ``row``: the name of that of a sweep.
        """
        self.plan = plan
        self.row = row
        self.out = out
        self.blocks = blocks
        self.seconds = self.seconds_outside_network = 0.0
        self.time_profile = TimeProfile() if plan.settings.machine.profile_time else None
        """Of the images that were scored, where it is wanted; what loading them took is the plan's."""
        self._records: dict[str, list[Record]] = {name: [] for name in plan.models.models}
        self._runs: dict[str, Run] = {}
        if out is not None:
            try:
                for name in plan.models.models:
                    opened = partial(
                        self._opened, out, name, (known or {}).get(name), allow_rebatch, strict_env
                    )
                    try:
                        self._runs[name] = opened()
                    except RunMismatchError as refused:
                        self.plan = as_recorded(self.plan, out, name, refused)
                        self._runs[name] = opened()
            except BaseException:
                self.take_back()
                raise
        self._set_means = None if plan.settings.mean_of is None else SetMeans(self.plan)

    def _opened(
        self, out: Path, name: str, known: KnownRecords | None, allow_rebatch: bool, strict_env: bool
    ) -> Run:
        plan = self.plan
        return Run.open(
            plan.folder(out, name) or out,
            plan.identity(name).as_dict(),
            selection=plan.selection(),
            shard=self.blocks.shard,
            allow_rebatch=allow_rebatch,
            strict_env=strict_env,
            n_expected=len(plan.data),
            known=known,
        )

    @property
    def notes(self) -> list[str]:
        """What opening the run found worth saying: another environment, a torn tail."""
        return [note for run in self._runs.values() for note in run.notes]

    def held(self, name: str) -> list[Record]:
        """The records of a model: those of the whole run, or of this process where none is kept."""
        run = self._runs.get(name)
        return self._records[name] if run is None else run.records()

    def todo(self, name: str, within: Mask | None = None) -> Data | None:
        """The images that this process has still to score under a model; None where none are left."""
        left = self.plan.left(self.blocks.answers_for, (record.id for record in self.held(name)))
        return self.plan.chosen(left if within is None else left & within)

    def left(self) -> dict[str, int]:
        """How many those are, by model."""
        ids = {name: (record.id for record in self.held(name)) for name in self.plan.models.models}
        shard = self.blocks.answers_for
        return {name: int(self.plan.left(shard, held).sum()) for name, held in ids.items()}

    def work(self, name: str) -> Work:
        """All images under a model, as `Blocks` share them out."""
        run = self._runs.get(name)
        return Work(
            f"{self.row}/{name}" if self.out is None else f"{self.out.name}/{name}",
            len(self.plan.data),
            self.plan.unit,
            self.plan.settings.machine.batch_size or 1,
            lambda: self.plan.done(record.id for record in self.held(name)),
            lambda rank: run is not None and worker_at_work(run.path, (rank, self.blocks.shard[1])),
        )

    def run(self, observe: Observer | None = None) -> None:
        """Score what is not recorded yet; ``observe(model, record)`` is called after each image."""
        for taken in self.blocks.passes:
            self.go_through(taken, observe)
        self.conclude()

    def go_through(self, taken: Callable[[Work], Iterable[Mask]], observe: Observer | None = None) -> None:
        """Score the images that one pass of `Blocks` gives to this worker."""
        try:
            for name in self.plan.models.models:
                for mask in taken(self.work(name)):
                    self._score(name, mask, observe)
        except BaseException as error:
            self.time_profile = None  # where the time of what was cut short went is not known
            if isinstance(error, MergedDiffusionError) and not isinstance(error, IncompleteError):
                self.take_back()
            raise

    def conclude(self) -> None:
        """Keep the summary beside the records.

        Raises
        ------
        IncompleteError
            Records of this process, or of its share, were removed meanwhile.
        """
        for run in self._runs.values():
            run.check()
        lost = sum(self.left().values())
        if lost:
            raise IncompleteError(
                f"{self.out}: {lost} images that were scored have no record any more",
                hint="the same command goes on and scores them again",
                file=str(self.out),
            )
        self.measure_mean()  # before the summary is locked: it may take network calls
        if self.out is not None:
            self._runs[self.plan.main].write_summary(lambda: self.summary().as_dict())

    def keep(self, name: str, record: Record, versions: Versions | None = None) -> None:
        """Take in an image's record under a model; ``versions``: where it was made, if not here."""
        if name in self._runs:
            self._runs[name].append(record, versions)
        else:
            self._records[name].append(record)

    def _score(self, name: str, mask: Mask, observe: Observer | None) -> None:
        images = self.plan.chosen(mask)
        if images is None:
            return

        def keep(record: Record, versions: Versions | None = None) -> None:
            self.keep(name, record, versions)
            if observe is not None:
                observe(name, record)

        def ended(spent: Spent) -> None:
            self.seconds += spent.seconds
            self.seconds_outside_network += spent.seconds_outside_network
            if self.time_profile is not None and spent.time_profile is not None:
                self.time_profile += spent.time_profile

        path, crew = self.plan.paths.get(name), self.blocks.crew
        if crew is None:
            ended(score(self.plan, name, images, path, keep))
        else:
            task = ScoreTask(self.row, name, images.ids, path)
            crew.begin(task, lambda _, record, versions: keep(record, versions), ended)

    def measure_mean(self) -> None:
        """The mean over the set out of which the images were chosen, where it is asked for, for summaries.

        It may ask the network for the bound of all images; what the run keeps of the same records is taken.
        """
        if self._set_means is None:
            return
        records, main = self.held(self.plan.main), self._runs.get(self.plan.main)
        self._set_means.measure(records, None if main is None else mean_kept(main, len(records)))

    def summary(self) -> Summary:
        """The summary over the records there are, kept ones and those of this process."""
        spent = self.time_profile
        with nullcontext() if self.out is None else as_kept(self.out):
            records = {name: self.held(name) for name in self._records}
            return summarise(
                self.plan.identity(self.plan.main),
                records,
                checks=self.plan.checks,
                versions=versions(),
                missing=self._missing(records),
                mean_of=None if self._set_means is None else self._set_means.found,
                seconds=self.seconds,
                seconds_outside_network=self.seconds_outside_network,
                time_profile=None if spent is None else spent.with_data(self.plan.data_seconds).as_dict(),
            )

    def _missing(self, records: Mapping[str, Sequence[Record]]) -> set[int]:
        if self._runs:
            return missing_ids(self._runs, records)
        wanted = {int(i) for i in self.plan.data.ids}
        return {i for series in records.values() for i in wanted - {record.id for record in series}}

    def take_back(self) -> None:
        """Remove the runs that this process began and that hold no record."""
        for run in reversed(self._runs.values()):
            with suppress(StorageError, RunError):  # why it is taken back is what is told
                run.discard_if_unused()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        failed: StorageError | None = None
        for run in self._runs.values():
            try:
                run.__exit__(kind, error, trace)
            except StorageError as found:
                failed = failed or found
        if failed is not None and error is None:
            raise failed
