"""Rows that are evaluations: images of the set under every model, by likelihood or bound.

Rows of an exact likelihood that begin alike are scored together, which computes once what they share; the
others one by one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from merged_diffusion.errors import ExpertError, SolveError
from merged_diffusion.jobs.blocks import ALONE, Blocks, Mask, Work
from merged_diffusion.jobs.cost import Estimate
from merged_diffusion.jobs.evaluation import Evaluation
from merged_diffusion.jobs.metrics import LIKELIHOOD, VariationalBound
from merged_diffusion.jobs.plan import Plan, make_plan
from merged_diffusion.jobs.settings import Settings
from merged_diffusion.runs import KnownRecords, others_at_work
from merged_diffusion.runs.settings_file import RecordedMachine, read_settings
from merged_diffusion.scores.differences import Difference, paired
from merged_diffusion.scores.record import Record
from merged_diffusion.sweeps.request import Request
from merged_diffusion.sweeps.sweep_plan import (
    Cost,
    Failed,
    SweepPlan,
    empty_table,
    existing,
    make_rows,
    spoiling_one_row,
)
from merged_diffusion.sweeps.sweep_row import RowError, SweepRow
from merged_diffusion.sweeps.thresholds import Eta
from merged_diffusion.sweeps.together import Observer, alike, score_alike

Taken = Callable[[Work], Iterable[Mask]]  # a pass of `Blocks`


@dataclass(frozen=True)
class ScorePlan(SweepPlan[Plan]):
    """Of images of the set, by likelihood or bound; ``known`` are the runs of each row (`Plan.known`)."""

    known: Mapping[str, Mapping[str, KnownRecords]]

    def check_experts(self) -> None:
        """Of one row that can be scored: what an expert does at the gammas of others spoils those alone."""
        refusals: list[ExpertError] = []
        for row in sorted(self.rows, key=lambda row: -len(row.model.legs())):
            try:
                row.plan.check_experts()
            except ExpertError as error:
                refusals.append(error)
            else:
                return
        raise refusals[0]

    def estimate(self) -> Estimate:
        """The cost of the images without a record if rows shared nothing, from one call of the slowest."""
        return self.base.cost_of(sum(row.plan.n_left((0, 1), self.known[row.name]) for row in self.rows))


def plan_scored(
    settings: Settings, etas: Sequence[Eta] | None, out: Path | None, request: Request
) -> tuple[ScorePlan, Path | None]:
    """The plan on the machine that an existing sweep recorded, and where that is."""
    is_bound = request.metric == "vlb"
    base = make_plan(settings, VariationalBound(request.times, request.profile) if is_bound else LIKELIHOOD)
    begun = [each for each in (base, base.averaging()) if each is not None]
    out = next((where for each in begun if (where := existing(out, _default_out(each))) is not None), None)
    folders = [] if out is None else [out / row.folder for row in make_rows(base, etas, request.gate)]
    kept = [(folder, read_settings(folder)) for folder in folders]
    base = base.gone_on_with(next((settings for _, settings in kept if settings is not None), None))
    found = (RecordedMachine.of(folder, settings) for folder, settings in kept)
    base = base.on(next((machine for machine in found if machine is not None), None))
    table = empty_table(
        request,
        base.identity(base.main).data.as_dict() | {"n": len(base.data)},
        base.models,
        base.metric.described(replace(base.settings, eta=None, compare=False)),
    )
    rows = make_rows(base, etas, request.gate)
    known = {row.name: row.plan.known(None if out is None else out / row.folder) for row in rows}
    return ScorePlan(base, rows, table, _default_out(base), known), out


def _default_out(base: Plan) -> Path:
    """Named after the run of a single row."""
    single = base.default_out()
    return single.with_name(single.name.replace(base.metric.name, "sweep", 1))


class ScoredRows:
    """The evaluations of a sweep, open; each is kept as an ordinary run in ``out``, if there is one."""

    def __init__(
        self,
        plan: ScorePlan,
        out: Path | None,
        *,
        blocks: Blocks = ALONE,
        allow_rebatch: bool,
        strict_env: bool,
    ) -> None:
        self._open = ExitStack()
        self._blocks = blocks
        self._out = out
        self._planned = plan.rows
        self._rows: dict[str, Evaluation] = {}
        try:
            for row in plan.rows:
                evaluation = Evaluation(
                    row.plan,
                    out=None if out is None else out / row.folder,
                    blocks=blocks,
                    allow_rebatch=allow_rebatch,
                    strict_env=strict_env,
                    known=plan.known[row.name],
                    row=row.name,
                )
                self._rows[row.name] = self._open.enter_context(evaluation)
        except BaseException:
            for evaluation in self._rows.values():
                evaluation.take_back()
            self.close()
            raise

    @property
    def notes(self) -> list[str]:
        """What opening the runs found worth saying."""
        return [note for evaluation in self._rows.values() for note in evaluation.notes]

    def left(self) -> dict[str, int]:
        """Images to score, by row."""
        return {name: sum(evaluation.left().values()) for name, evaluation in self._rows.items()}

    def run(self, observe: Observer | None, cost: Cost, failed: Failed) -> None:
        """Score what is not recorded yet; a row whose expert fails is told, and stops no other.

        Raises `StorageError`, `RunError`, `ResourceError`, `IncompleteError`: what would end every row alike.
        """
        together, spoilt = alike(self._rows), set[str]()

        def told(name: str, error: Exception) -> None:
            spoilt.add(name)
            failed(name, error)

        *_, last = passes = self._blocks.passes
        try:
            for taken in passes:
                if together and not score_alike(together, taken, observe, cost, concludes=taken == last):
                    together = {}
                for name, evaluation in self._rows.items():
                    if name not in together and name not in spoilt:
                        _score_alone(name, evaluation, taken, observe, cost, told, concludes=taken == last)
        except BaseException:
            for evaluation in self._rows.values():
                evaluation.time_profile = None  # as of the whole sweep
            raise

    def table_rows(
        self, errors: Mapping[str, RowError]
    ) -> tuple[list[SweepRow], Callable[[int, int], Difference | None]]:
        """The rows over the records there are, and the paired difference of two of them."""
        records = [evaluation.held(evaluation.plan.main) for evaluation in self._rows.values()]
        rows = []
        for row, own in zip(self._planned, records, strict=True):
            summary = self._rows[row.name].summary().as_dict() if own else None
            rows.append(row.told(summary, errors.get(row.name) or _failures(summary)))

        return rows, lambda one, two: paired(records[one], records[two])

    def others_at_work(self) -> bool:
        """Whether another worker has one of the runs open."""
        folders = [] if self._out is None else [self._out / row.folder for row in self._planned]
        return any(others_at_work(folder, self._blocks.shard) for folder in folders)

    def n_missing(self) -> int:
        """How many images have no record under some row."""
        return sum(evaluation.summary().n_missing for evaluation in self._rows.values())

    def close(self) -> None:
        """Leave the runs to others."""
        self._open.close()


def _failures(summary: Mapping[str, object] | None) -> RowError | None:
    """The error of a row with failed images."""
    if summary is None or not summary["n_failed"]:
        return None
    return RowError(
        SolveError.__name__,
        f"{summary['n_failed']} of {summary['n']} images failed",
        {"failures": summary["failures"]},
        "the others are unharmed; --allow-failed gives their mean",
    )


def _score_alone(
    name: str,
    evaluation: Evaluation,
    taken: Taken,
    observe: Observer | None,
    cost: Cost,
    failed: Failed,
    *,
    concludes: bool,
) -> None:
    def note(_: str, record: Record) -> None:
        cost.add(record.total_evaluations, record.total_evaluations)
        if observe is not None:
            observe(name, record)

    with spoiling_one_row(name, failed):
        evaluation.go_through(taken, note)
        if concludes:
            evaluation.conclude()
    cost.add(0, 0, evaluation.time_profile if concludes else None)
