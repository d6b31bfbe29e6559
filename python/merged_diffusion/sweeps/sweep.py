"""A sweep carried out: ``sweep(settings, out="results/sweep")`` is what ``merged-diffusion sweep`` does."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from merged_diffusion.errors import SolveError
from merged_diffusion.evaluation.evaluate import Evaluation
from merged_diffusion.evaluation.settings import Settings
from merged_diffusion.runs import Record
from merged_diffusion.sweeps import folder, likelihood, table
from merged_diffusion.sweeps.likelihood import Cost, Scored
from merged_diffusion.sweeps.plan import SweepPlan, make_sweep_plan
from merged_diffusion.sweeps.thresholds import Eta

Observer = Callable[[str, Record], None]


class Sweep:
    """A plan being carried out. `result` may be asked for at any time, also after an interrupt."""

    def __init__(
        self,
        plan: SweepPlan,
        *,
        out: Path | None = None,
        allow_rebatch: bool = False,
        strict_env: bool = False,
    ) -> None:
        self.plan = plan
        self.out = out
        self.cost = Cost()
        self.seconds = 0.0
        self._errors: dict[str, dict[str, Any]] = {}
        self._open = ExitStack()
        self.rows: list[Scored] = []
        if out is not None:
            self.cost = Cost(**folder.begin(out, self._table([], None), allow_rebatch=allow_rebatch))
        try:
            for row in plan.rows:
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
            self._open.close()
            raise

    @property
    def notes(self) -> list[str]:
        """What opening the runs found worth saying."""
        return [note for scored in self.rows for note in scored.evaluation.notes]

    def left(self) -> dict[str, int]:
        """Images to score, by row."""
        return {scored.row.name: sum(scored.evaluation.left().values()) for scored in self.rows}

    def run(self, observe: Observer | None = None) -> None:
        """Score what is not recorded yet; ``observe(row, record)`` is called after each image."""

        def failed(name: str, error: Exception) -> None:
            self._errors[name] = likelihood.told(error)

        begin = time.monotonic()
        try:
            likelihood.score(self.rows, observe, self.cost, failed)
        finally:
            self.seconds += time.monotonic() - begin
            self.write()

    def write(self) -> None:
        """Replace ``sweep.json``."""
        if self.out is not None:
            folder.write(self.out, self.result())

    def result(self) -> dict[str, Any]:
        """The table over the records there are: the content of ``sweep.json``."""
        records = [scored.evaluation.held(scored.row.plan.main) for scored in self.rows]
        lines = []
        for scored, own in zip(self.rows, records, strict=True):
            summary = scored.evaluation.summary() if own else None
            error = self._errors.get(scored.row.name) or _failures(summary)
            lines.append(table.likelihood_line(scored.row, summary, error))
        return self._table(lines, table.compare(lines, [scored.row.eta for scored in self.rows], records))

    def _table(self, lines: list[table.Line], best: dict[str, Any] | None) -> dict[str, Any]:
        return self.plan.identity() | {
            "rows": lines,
            "evaluations": {"spent": self.cost.spent, "single_runs": self.cost.single_runs},
            "best": best,
            "seconds": self.seconds,
        }

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.__exit__(kind, error, trace)


def sweep(
    settings: Settings,
    etas: Sequence[Eta] | None = None,
    *,
    out: str | Path | None = None,
    observe: Observer | None = None,
) -> dict[str, Any]:
    """Score the images under the pair at every threshold; by default the set's grid and both experts alone.

    Images, noise and probes are the same for all; what the rows have in common is computed once. Each row's
    records are to the last bit those of `evaluate` at that threshold. ``settings`` name no threshold.

    Returns the table that ``sweep.json`` holds (docs/formats.md): rows with their summaries, paired
    differences to the best, thresholds that cannot be told from it, evaluations spent and saved.
    """
    plan, path = make_sweep_plan(settings, etas, None if out is None else Path(out))
    plan.base.check_experts()
    with Sweep(plan, out=path) as running:
        running.run(observe)
        return running.result()


def _failures(summary: dict[str, Any] | None) -> dict[str, Any] | None:
    """The error of a row with failed images."""
    if summary is None or not summary["n_failed"]:
        return None
    return {
        "type": SolveError.__name__,
        "message": f"{summary['n_failed']} of {summary['n']} images failed",
        "fields": {"failures": summary["failures"]},
        "hint": "the others are unharmed; --allow-failed gives their mean",
    }
