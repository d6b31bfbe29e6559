"""How a sweep and its plan look, for people and as JSON: one row per threshold, the best, what was saved."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from merged_diffusion.cli.output import emit, emit_json, error_value, say
from merged_diffusion.cli.report import INTERRUPT_CODE, NOT_KEPT, how_to_go_on
from merged_diffusion.cli.text import error, evaluations, value
from merged_diffusion.errors import SolveError
from merged_diffusion.evaluation.cost import Estimate
from merged_diffusion.sweeps.plan import SweepPlan

Table = Mapping[str, Any]


def show(table: Table, out: Path | None, *, as_json: bool) -> int:
    """The result of a sweep; its exit code (5 where a row failed)."""
    failed = [line for line in table["rows"] if line["error"] is not None]
    failure = _failure(failed, len(table["rows"])) if failed else {}
    if as_json:
        emit_json(dict(table) | failure)
    else:
        emit("\n".join([*lines(table), NOT_KEPT if out is None else f"kept in {out}"]))
        if failure:
            say(f"error: {failure['error']['message']}; {failure['error']['hint']}")
    return int(failure.get("code", 0))


def interrupted(table: Table, out: Path | None, *, as_json: bool) -> int:
    """The partial table after Ctrl-C and how to go on."""
    resume = how_to_go_on(out)
    if as_json:
        emit_json(error_value("Interrupted", "interrupted", INTERRUPT_CODE, hint=resume, partial=dict(table)))
    else:
        emit("\n".join(lines(table)))
        say(f"interrupted\n{resume}")
    return INTERRUPT_CODE


def show_plan(plan: SweepPlan, cost: Estimate, out: Path | None, *, as_json: bool) -> None:
    """The plan of ``--dry-run``."""
    rows = [{"name": row.name, "folder": row.folder, "eta": row.eta} for row in plan.rows]
    shown = plan.identity() | {"rows": rows}
    if as_json:
        emit_json(shown | {"dry_run": True, "estimate": dataclasses.asdict(cost), "out": out})
        return
    emit("\n".join([_heading(shown), *(f"{row['name']:<11} eta {row['eta']:.6g}" for row in rows)]))
    emit("nothing was written" + ("" if out is None else f"; the sweep would be {out}"))


def lines(table: Table) -> list[str]:
    """Heading, a row per threshold, remarks."""
    return [_heading(table), *map(_row, table["rows"]), *_remarks(table)]


def _heading(table: Table) -> str:
    data = table["data"]
    return f"{data['name']}/{data['split']}  {data['n']} images  {len(table['rows'])} thresholds"


def _row(line: Table) -> str:
    summary, failed = line["summary"], line["error"]
    if summary is None:
        return f"{line['name']:<11} {'no image was scored' if failed is None else failed['message']}"
    text = f"{line['name']:<11} {value(summary)}{evaluations(summary)}"
    paired, paper = line["paired"], summary["paper"]
    if paired is not None and paired["to"] != line["name"]:
        text += f"   it - best: {paired['difference']:+.3f}{error(paired['se'])}"
    if paper is not None:
        text += f"   paper: {paper['bits_per_dim']:.2f}, {paper['evaluations']}"
    return text if failed is None else f"{text}   {failed['message']}"


def _remarks(table: Table) -> Iterator[str]:
    best = table["best"]
    if best is None:
        yield "no row has a mean"
        return
    yield f"best: {best['name']} (differences are paired image by image)"
    if best["indistinguishable"] is None:
        yield "one image, or one cluster of images, does not say which thresholds are as good"
    else:
        low, high = best["indistinguishable"]
        yield f"as good within 2 standard errors: eta {low:.4g} to {high:.4g}"
    if best["at_edge"]:
        yield "warning: the best threshold is at the edge of the list; a wider one may hold a better"
    spent, single = table["evaluations"]["spent"], table["evaluations"]["single_runs"]
    if single:
        yield f"evaluations: {spent}, {spent / single:.3f} of the {single} of single runs"


def _failure(failed: list[Table], n: int) -> dict[str, Any]:
    first = failed[0]["error"]
    return error_value(
        SolveError.__name__,
        f"{len(failed)} of {n} thresholds failed, the first {failed[0]['name']}: {first['message']}",
        SolveError.exit_code,
        hint=first["hint"] or "the others are unharmed",
        failed={line["name"]: line["error"] for line in failed},
    )
