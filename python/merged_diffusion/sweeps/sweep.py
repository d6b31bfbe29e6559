"""A sweep carried out: ``sweep(settings, out="results/sweep")`` is what ``merged-diffusion sweep`` does."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from merged_diffusion.errors import SolveError, UsageError
from merged_diffusion.evaluation.cost import Estimate
from merged_diffusion.evaluation.evaluate import Evaluation
from merged_diffusion.evaluation.plan import KEPT_SECONDS, Plan, held_ids, make_plan
from merged_diffusion.evaluation.settings import THRESHOLDS, Settings
from merged_diffusion.runs import Record, recorded_machine
from merged_diffusion.sweeps import folder, likelihood, table
from merged_diffusion.sweeps.likelihood import Cost, Scored
from merged_diffusion.sweeps.rows import Row, make_rows
from merged_diffusion.sweeps.thresholds import Eta, checked

Observer = Callable[[str, Record], None]


@dataclass(frozen=True)
class Course:
    """What a sweep will do: the rows, and a plan of the pair for what they have in common."""

    base: Plan
    rows: list[Row]

    @property
    def notes(self) -> list[str]:
        """What a user should know of files and thresholds."""
        return [*self.base.notes, *(row.model.snapped for row in self.rows if row.model.snapped is not None)]

    def identity(self) -> dict[str, Any]:
        """What ``sweep.json`` says of data, pair and settings."""
        experts = self.base.models.identity
        pair = self.base.models.pair
        whole = self.base.identity(self.base.main)
        return {
            "command": "sweep",
            "format": folder.FORMAT,
            "metric": "nll",
            "data": whole["data"] | {"n": len(self.base.data)},
            "pair": {
                "name": None if pair is None else pair.name,
                "eta_range": None if pair is None else list(pair.eta_range),
                "experts": dict(experts),
            },
            "settings": replace(self.base.settings, eta=None, compare=False).as_dict(),
        }

    def default_out(self) -> Path:
        """``runs/sweep-photos-1a2b3c4d``: the same command finds it again."""
        single = self.base.default_out()
        return single.with_name(single.name.replace("nll", "sweep", 1))

    def estimate(self, out: Path | None) -> Estimate:
        """The cost if the rows shared nothing, from one timed call of the slowest expert."""
        one = self.base.estimate()
        draws = self.base.settings.importance * self.base.settings.repeats
        todo = [
            row.plan.share((0, 1), held_ids(None if out is None else out / row.folder)) for row in self.rows
        ]
        n_solves = draws * sum(len(images) for images in todo if images is not None)
        rows = self.base.settings.batch_size or 1
        calls = -(-n_solves // rows)
        return replace(one, n_solves=n_solves, seconds=calls * one.evaluations_per_image * one.call_seconds)

    def out_for(self, cost: Estimate) -> Path | None:
        """Where a sweep goes that nobody gave a place: nowhere if it is short."""
        return self.default_out() if cost.seconds > KEPT_SECONDS else None


def chart(settings: Settings, etas: Sequence[Eta] | None, out: Path | None) -> tuple[Course, Path | None]:
    """The course of a sweep on the machine that an existing one recorded, and where that one is.

    Raises
    ------
    UsageError
        A threshold lies outside of what both experts allow.
    """
    given = [name for name in (*THRESHOLDS, "expert") if getattr(settings, name) is not None]
    if given:
        raise UsageError(
            f"{given[0]} was given, but a sweep is over thresholds of two experts",
            hint="give etas, likelihood_expert and quality_expert",
        )
    # One expert alone is a threshold that every pair has.
    base = make_plan(replace(settings, eta=1.0, compare=True))
    course = Course(base, make_rows(base, None if etas is None else checked(etas)))
    if out is None and folder.read(course.default_out()) is not None:
        out = course.default_out()
    recorded: dict[str, Any] = {}
    if out is not None:
        found = (recorded_machine(out / row.folder) for row in course.rows)
        recorded = next((machine for machine in found if machine), {})
    base = base.on(recorded)
    return Course(base, make_rows(base, etas)), out


class Sweep:
    """A course being carried out. `result` may be asked for at any time, also after an interrupt."""

    def __init__(
        self,
        course: Course,
        *,
        out: Path | None = None,
        allow_rebatch: bool = False,
        strict_env: bool = False,
    ) -> None:
        self.course = course
        self.out = out
        self.cost = Cost()
        self.seconds = 0.0
        self._errors: dict[str, dict[str, Any]] = {}
        self._open = ExitStack()
        self.rows: list[Scored] = []
        if out is not None:
            self.cost = Cost(**folder.begin(out, self._table([], None), allow_rebatch=allow_rebatch))
        try:
            for row in course.rows:
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
        return self.course.identity() | {
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
    course, path = chart(settings, etas, None if out is None else Path(out))
    course.base.check_experts()
    with Sweep(course, out=path) as running:
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
