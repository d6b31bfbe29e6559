"""How an evaluation, its plan and a comparison look, for people and as JSON."""

from __future__ import annotations

import dataclasses
import shlex
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from merged_diffusion.cli import bound_report, mean_report, time_report
from merged_diffusion.cli.output import ErrorValue, emit, emit_json, error_value, say
from merged_diffusion.cli.progress import duration
from merged_diffusion.cli.text import MINUS, error, evaluations, heading, leg_line, lines, value
from merged_diffusion.errors import IncompleteError, SolveError
from merged_diffusion.jobs.settings import Settings
from merged_diffusion.runs.settings_file import MACHINE

if TYPE_CHECKING:
    # What a kept run shows needs no torch.
    from merged_diffusion.jobs.cost import Estimate
    from merged_diffusion.jobs.kept_runs import Comparison
    from merged_diffusion.jobs.plan import Plan
    from merged_diffusion.jobs.summary import Summary

NOT_KEPT = "not kept; add --out DIR to keep it, and to go on, compare and report"
INTERRUPT_CODE = 130
Tell = Callable[[Mapping[str, object]], None]


def announce(plan: Plan, cost: Estimate, out: Path | None, *, quiet: bool, dry_run: bool = False) -> None:
    """The remarks of a plan and, unless `show_plan` says it, what it will take, on standard error."""
    if quiet:
        return
    for note in plan.notes:
        say(f"note: {note}")
    if dry_run:
        return
    say(estimate_line(plan, cost))
    if out is not None:
        say(f"run: {out}")


def estimate_line(plan: Plan, cost: Estimate) -> str:
    """What the evaluation will take, and on what machine."""
    n = len(plan.models.models)
    work = "solves" if plan.metric.name == "nll" else "bounds"
    models = f"{len(plan.data)} images" + ("" if n == 1 else f" under {n} models")
    return cost_line(cost, f"{cost.n_solves} {work} ({models})", plan.settings)


def cost_line(cost: Estimate, work: str, settings: Settings) -> str:
    """What some ``work`` will take, and on what machine."""
    words = settings.as_dict()
    held = {key.replace("_", " "): words[key] for key in MACHINE}
    machine = ", ".join(f"{key} {value}" for key, value in held.items() if value is not None)
    looked = f"{cost.check_seconds:.1f} s for the start check, " if cost.check_seconds >= 0.05 else ""
    return (
        f"estimate: {work} take about {duration(cost.seconds)}"
        f" ({looked}{1e3 * cost.call_seconds:.3g} ms a network call,"
        f" {cost.evaluations_per_image:.0f} evaluations per image; {machine})"
    )


def show_plan(plan: Plan, cost: Estimate, out: Path | None, *, as_json: bool) -> None:
    """The plan of ``--dry-run``."""
    identity = plan.identity(plan.main)
    if as_json:
        emit_json(plan.describe() | {"dry_run": True, "estimate": dataclasses.asdict(cost), "out": out})
        return
    emit(heading(identity, len(plan.data)))
    for leg in identity.legs:
        emit(leg_line(leg, identity.experts))
    emit(estimate_line(plan, cost))
    emit("nothing was written" + ("" if out is None else f"; the run would be {out}"))


def show(summary: Summary, out: Path | None, *, as_json: bool, tell: Tell = emit_json) -> int:
    """The result of an evaluation, as JSON by ``tell``; its exit code (5 where images failed)."""
    failure = _failure(summary)
    if as_json:
        tell({**summary.as_dict(), **(failure or {})})
    else:
        emit("\n".join([*_lines(summary), NOT_KEPT if out is None else _kept(summary, out)]))
        if failure is not None:
            say(f"error: {failure['error']['message']}; {failure['error']['hint']}")
    return 0 if failure is None else failure["code"]


def show_kept(summary: Summary, path: Path, *, as_json: bool, tell: Tell = emit_json) -> int:
    """A run that is read back; 9 where images are missing, 5 where some failed."""
    missing = summary.missing or []
    if not missing:
        return show(summary, path, as_json=as_json, tell=tell)
    failure = error_value(
        IncompleteError.__name__,
        f"{summary.n_missing} images have no record, the first ids: {', '.join(map(str, missing[:10]))}",
        IncompleteError.exit_code,
        hint="run the same command again: it measures what is missing",
        missing=missing,
    )
    if as_json:
        tell({**summary.as_dict(), **failure})
    else:
        emit("\n".join([*_lines(summary), _kept(summary, path)]))
        say(f"error: {failure['error']['message']}; {failure['error']['hint']}")
    return failure["code"]


def interrupted(summary: Summary, out: Path | None, *, as_json: bool) -> int:
    """The partial result after Ctrl-C and how to go on."""
    resume = how_to_go_on(out)
    if as_json:
        partial = summary.as_dict()
        emit_json(error_value("Interrupted", "interrupted", INTERRUPT_CODE, hint=resume, partial=partial))
    else:
        if summary.means.n:
            emit("\n".join(_lines(summary)))
        say(f"interrupted, {summary.n_missing} images are left\n{resume}")
    return INTERRUPT_CODE


def how_to_go_on(out: Path | None) -> str:
    """The command that continues this one."""
    if out is None:
        return "nothing was kept; --out DIR would have kept what was done"
    context = click.get_current_context(silent=True)
    # By whatever name it was given: -o and --output_path are --out, too.
    is_given = context is not None and context.get_parameter_source("out") is ParameterSource.COMMANDLINE
    words = sys.argv[1:] if is_given else [*sys.argv[1:], "--out", str(out)]
    return f"to go on: merged-diffusion {shlex.join(words)}"


def _lines(summary: Summary) -> list[str]:
    """The rows of a summary, what a bound is made of, and where the time went."""
    terms = bound_report.terms(summary) if summary.identity.is_bound else []
    return [*lines(summary), *mean_report.lines(summary), *terms, *time_report.lines(summary.time_profile)]


def _kept(summary: Summary, path: Path) -> str:
    return f"kept in {path}: {summary.means.n} images"


def _failure(summary: Summary) -> ErrorValue | None:
    """The error of a summary with failed images."""
    failed = {row.name: row.means.n_failed for row in summary.compare if row.means.n_failed}
    means = summary.means
    if not means.n_failed and not failed:
        return None
    told = [f"{means.n_failed} of {means.n} images failed"] if means.n_failed else []
    told += [f"{n} failed under the {name} expert alone" for name, n in failed.items()]
    return error_value(
        SolveError.__name__,
        ", ".join(told),
        SolveError.exit_code,
        hint="the others are sound; --allow-failed gives their mean"
        if not summary.identity.settings["allow_failed"]
        else "the mean is over the others",
        failures=[failure.as_dict() for failure in summary.failures],
    )


def show_comparison(result: Comparison, *, as_json: bool) -> None:
    """Two runs side by side and their paired difference."""
    if as_json:
        emit_json(result.as_dict())
        return
    for name, row in zip("AB", result.runs, strict=True):
        emit(f"{name}  {value(row.means)}{evaluations(row.means.evaluations)}   {row.path}")
    paired = result.paired
    if paired is not None:
        emit(f"A {MINUS} B: {paired.difference:+.3f}{error(paired.se)} (paired, {paired.n} images)")
