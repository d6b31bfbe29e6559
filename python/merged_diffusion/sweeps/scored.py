"""Rows that are evaluations: images of the set under every model, by likelihood or bound."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from merged_diffusion.errors import ExpertError, SolveError
from merged_diffusion.jobs.cost import Estimate
from merged_diffusion.jobs.evaluate import Evaluation
from merged_diffusion.jobs.plan import Plan, held_ids
from merged_diffusion.scores.differences import paired
from merged_diffusion.scores.record import Record
from merged_diffusion.sweeps import scored_together, table
from merged_diffusion.sweeps.rows import Row
from merged_diffusion.sweeps.scored_together import Scored
from merged_diffusion.sweeps.spent import Cost
from merged_diffusion.sweeps.sweep_plan import Failed, SweepPlan


@dataclass(frozen=True)
class ScorePlan(SweepPlan[Plan]):
    """Of images of the set, by likelihood or bound."""

    @property
    def metric(self) -> str:
        """The command of each row."""
        return self.base.metric.name

    @property
    def n_images(self) -> int:
        """Those that are asked for."""
        return len(self.base.data)

    def data(self) -> dict[str, Any]:
        """As in a row's ``settings.json``."""
        return self.base.identity(self.base.main).data.as_dict()

    def described(self) -> dict[str, Any]:
        """The settings without a threshold."""
        return self.base.metric.described(replace(self.settings, eta=None, compare=False))

    def default_out(self) -> Path:
        """Named after the run of a single row."""
        single = self.base.default_out()
        return single.with_name(single.name.replace(self.metric, "sweep", 1))

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

    def estimate(self, out: Path | None) -> Estimate:
        """Of the images that have no record yet."""
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

    def opened(self, out: Path | None, *, allow_rebatch: bool, strict_env: bool) -> ScoredRows:
        """The evaluations, open."""
        return ScoredRows(self.rows, out, allow_rebatch=allow_rebatch, strict_env=strict_env)


class ScoredRows:
    """The evaluations of a sweep, open; each is kept as an ordinary run in ``out``, if there is one."""

    def __init__(
        self, rows: Sequence[Row[Plan]], out: Path | None, *, allow_rebatch: bool, strict_env: bool
    ) -> None:
        self._open = ExitStack()
        self.rows: list[Scored] = []
        try:
            for row in rows:
                evaluation = Evaluation(
                    row.plan,
                    out=None if out is None else out / row.folder,
                    allow_rebatch=allow_rebatch,
                    strict_env=strict_env,
                )
                self.rows.append(Scored(row, self._open.enter_context(evaluation)))
        except BaseException:
            for scored in self.rows:
                scored.evaluation.take_back()
            self.close()
            raise

    @property
    def notes(self) -> list[str]:
        """What opening the runs found worth saying."""
        return [note for scored in self.rows for note in scored.evaluation.notes]

    def left(self) -> dict[str, int]:
        """Images to score, by row."""
        return {scored.row.name: sum(scored.evaluation.left().values()) for scored in self.rows}

    def run(self, observe: Callable[[str, Record], None] | None, cost: Cost, failed: Failed) -> None:
        """Score what is not recorded yet."""
        try:
            scored_together.score(self.rows, observe, cost, failed)
        except BaseException:
            for scored in self.rows:
                scored.evaluation.time_profile = None  # as of the whole sweep
            raise

    def lines(self, errors: Mapping[str, Mapping[str, Any]]) -> tuple[list[table.Line], table.Paired]:
        """The rows over the records there are, and the paired difference of two of them."""
        records = [scored.evaluation.held(scored.row.plan.main) for scored in self.rows]
        lines = []
        for scored, own in zip(self.rows, records, strict=True):
            row, summary = scored.row, scored.evaluation.summary().as_dict() if own else None
            error = errors.get(row.name) or _failures(summary)
            lines.append(table.line(row, row.model.threshold, summary, error))

        def difference(one: int, two: int) -> dict[str, Any] | None:
            found = paired(records[one], records[two])
            return None if found is None else found.as_dict()

        return lines, difference

    def close(self) -> None:
        """Leave the runs to others."""
        self._open.close()


def _failures(summary: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """The error of a row with failed images."""
    if summary is None or not summary["n_failed"]:
        return None
    return {
        "type": SolveError.__name__,
        "message": f"{summary['n_failed']} of {summary['n']} images failed",
        "fields": {"failures": summary["failures"]},
        "hint": "the others are unharmed; --allow-failed gives their mean",
    }
