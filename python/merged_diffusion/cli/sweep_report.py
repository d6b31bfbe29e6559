"""How a sweep and its plan look, for people and as JSON: one row per threshold, the best, what was saved."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from merged_diffusion.cli import time_report
from merged_diffusion.cli.output import ErrorValue, emit, emit_json, error_value, say
from merged_diffusion.cli.report import INTERRUPT_CODE, NOT_KEPT, cost_line, how_to_go_on
from merged_diffusion.cli.text import MINUS, evaluations, value
from merged_diffusion.errors import SolveError
from merged_diffusion.jobs.cost import Estimate
from merged_diffusion.jobs.precision_cost import row_words
from merged_diffusion.scores.figure import Figure
from merged_diffusion.scores.means import Means
from merged_diffusion.sweeps.drawn import DrawPlan
from merged_diffusion.sweeps.scored import ScorePlan
from merged_diffusion.sweeps.sweep_row import SweepRow
from merged_diffusion.sweeps.table import SweepTable

SHOWN: Final = ("precision", "recall", "coverage", "copies")  # beside a distance
WORK: Final = {"nll": "solves", "vlb": "bounds", "sample": "samples"}


def show(table: SweepTable, out: Path | None, *, as_json: bool) -> int:
    """The result of a sweep; its exit code (5 where a row failed)."""
    failure = _failure(table.rows)
    if as_json:
        emit_json({**table.as_dict(), **(failure or {})})
    else:
        emit("\n".join([*lines(table), NOT_KEPT if out is None else f"kept in {out}"]))
        if failure is not None:
            say(f"error: {failure['error']['message']}; {failure['error']['hint']}")
    return 0 if failure is None else failure["code"]


def interrupted(table: SweepTable, out: Path | None, *, as_json: bool) -> int:
    """The partial table after Ctrl-C and how to go on."""
    resume = how_to_go_on(out)
    if as_json:
        partial = table.as_dict()
        emit_json(error_value("Interrupted", "interrupted", INTERRUPT_CODE, hint=resume, partial=partial))
    else:
        emit("\n".join(lines(table)))
        say(f"interrupted\n{resume}")
    return INTERRUPT_CODE


def announce(plan: ScorePlan | DrawPlan, cost: Estimate, out: Path | None) -> None:
    """The remarks of a plan and what it will take, on standard error."""
    for note in plan.notes:
        say(f"note: {note}")
    metric, n = plan.table.metric, plan.table.data["n"]
    say(
        cost_line(
            cost, f"{cost.n_solves} {WORK[metric]} ({n} images at {len(plan.rows)} thresholds)", plan.settings
        )
    )
    if out is not None:
        say(f"sweep: {out}")
    elif metric == "nll":
        say("it takes less where thresholds share their steps")


def show_plan(plan: ScorePlan | DrawPlan, cost: Estimate, out: Path | None, *, as_json: bool) -> None:
    """The plan of ``--dry-run``."""
    if as_json:
        rows = [{"name": row.name, "folder": row.folder, "eta": row.eta} for row in plan.rows]
        told = {"dry_run": True, "estimate": dataclasses.asdict(cost), "out": out}
        emit_json(plan.table.about() | {"rows": rows} | told)
        return
    rows_of = [row.name if row.eta is None else f"{row.name:<11} eta {row.eta:.6g}" for row in plan.rows]
    emit("\n".join([_heading(plan.table, len(rows_of)), *rows_of]))
    emit("nothing was written" + ("" if out is None else f"; the sweep would be {out}"))


def lines(table: SweepTable) -> list[str]:
    """Heading, a row per threshold, remarks."""
    timed = time_report.lines(table.time_profile)
    return [_heading(table, len(table.rows)), *map(_row, table.rows), *_remarks(table), *timed]


def _heading(table: SweepTable, n_rows: int) -> str:
    data, n = table.data, f"{table.data['n']} images"
    of = f"{n} of {table.settings['sampler']}" if table.metric == "sample" else n
    against = data.get("reference")
    told = f"  against {against['n']} of {against['name']}" if isinstance(against, dict) else ""
    return f"{data['name']}/{data['split']}  {of}  {n_rows} thresholds{told}"


def _row(row: SweepRow) -> str:
    summary, failed, paired, figure = row.summary, row.error, row.paired, row.figure
    if summary is None:
        return f"{row.name:<11} {'nothing is there yet' if failed is None else failed.message}"
    digits = 3 if figure is None else _digits(figure)
    found = value(Means.from_dict(summary)) if figure is None else _distance(figure, digits)
    text = f"{row.name:<11} {found}{evaluations(row.values.evaluations)}"
    text += "".join(f"   {name} {row.beside[name].value:.3f}" for name in SHOWN if name in row.beside)
    if paired is not None and paired.to != row.name:
        text += f"   {MINUS} best: {paired.difference:+.{digits}f}{_error(paired.se, digits)}"
    text += row_words(row.values.settings, is_drawn=figure is not None)
    paper = row.values.paper
    if paper is not None:
        text += f"   paper: {paper.bits_per_dim:.2f}, {paper.evaluations}"
    return text if failed is None else f"{text}   {failed.message}"


def _digits(figure: Figure) -> int:
    """Decimals that show two digits of a distance's standard error."""
    error = figure.se or abs(figure.value) or 1.0
    return min(8, max(0, 1 - math.floor(math.log10(error))))


def _distance(figure: Figure, digits: int) -> str:
    return f"{figure.value:.{digits}f}{_error(figure.se, digits)} {figure.name}"


def _error(se: float | None, digits: int) -> str:
    return "" if se is None else f" ± {se:.{digits}f}"


def _remarks(table: SweepTable) -> Iterator[str]:
    best = table.best
    if best is None:
        yield "no row has a value"
        return
    is_drawn = table.metric == "sample"
    how = "are of the same ids and noise" if is_drawn else "are paired image by image"
    yield f"best: {best.name} (differences from it {how})"
    if best.indistinguishable is None:
        few = "one group of images" if is_drawn else "one image, or one cluster of images,"
        yield f"{few} does not say which thresholds are as good"
    else:
        low, high = best.indistinguishable
        yield f"as good within 2 standard errors: eta {low:.4g} to {high:.4g}"
    if best.at_edge:
        yield "warning: the best threshold is at the edge of the list; a wider one may hold a better"
    for words in table.rough_words():
        yield f"warning: {words}"
    if "precision" in table.settings:
        yield f"{table.settings['precision']}: what it moves of each row, measured on 8 images or fewer"
    spent, single = table.evaluations.spent, table.evaluations.single_runs
    if table.metric == "nll" and single:
        yield f"evaluations: {spent}, {100 * spent / single:.0f} % of the {single} of single runs"
    elif spent:
        yield f"evaluations: {spent}"


def _failure(rows: Sequence[SweepRow]) -> ErrorValue | None:
    """The error of a sweep of which rows failed."""
    failed = {row.name: row.error for row in rows if row.error is not None}
    if not failed:
        return None
    name, first = next(iter(failed.items()))
    return error_value(
        SolveError.__name__,
        f"{len(failed)} of {len(rows)} thresholds failed, the first {name}: {first.message}",
        SolveError.exit_code,
        hint=first.hint or "the others are sound",
        failed={name: vars(error) for name, error in failed.items()},
    )
