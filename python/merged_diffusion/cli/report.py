"""How an evaluation, its plan and a comparison look, for people and as JSON."""

from __future__ import annotations

import dataclasses
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from merged_diffusion.cli.output import emit, emit_json, error_value, say
from merged_diffusion.cli.progress import duration
from merged_diffusion.errors import IncompleteError, SolveError
from merged_diffusion.evaluation.cost import Estimate
from merged_diffusion.evaluation.plan import Plan
from merged_diffusion.runs.settings import MACHINE

Summary = Mapping[str, Any]
NOT_KEPT = "not kept; --out DIR keeps it, to go on, compare or report"
INTERRUPT_CODE = 130


def announce(plan: Plan, cost: Estimate, out: Path | None, *, quiet: bool) -> None:
    """The remarks of a plan and what it will take, on standard error."""
    if quiet:
        return
    for note in plan.notes:
        say(f"note: {note}")
    say(estimate_line(plan, cost))
    if out is not None:
        say(f"run: {out}")


def estimate_line(plan: Plan, cost: Estimate) -> str:
    """What the evaluation will take, and on what machine."""
    n = len(plan.models.models)
    models = "" if n == 1 else f" under {n} models"
    machine = ", ".join(f"{key.replace('_', ' ')} {getattr(plan.settings, key)}" for key in MACHINE)
    return (
        f"estimate: {len(plan.data)} images{models} take about {duration(cost.seconds)}"
        f" ({1e3 * cost.call_seconds:.3g} ms a network call with VJP, {cost.evaluations_per_image:.0f} evaluations per image; {machine})"
    )


def show_plan(plan: Plan, cost: Estimate, out: Path | None, *, as_json: bool) -> None:
    """The plan of ``--dry-run``."""
    plan_value = plan.describe()
    if as_json:
        emit_json(plan_value | {"dry_run": True, "estimate": dataclasses.asdict(cost), "out": out})
        return
    emit(heading(plan_value | {"data": plan_value["data"] | {"n": plan_value["n"]}}))
    for leg in plan_value["legs"]:
        emit(
            f"leg         {leg['role']} expert {leg['expert']}, gamma {leg['start']:.6g} to {leg['end']:.6g}"
        )
    emit(estimate_line(plan, cost))
    emit("nothing was written" + ("" if out is None else f"; the run would be {out}"))


def show(summary: Summary, out: Path | None, *, as_json: bool) -> int:
    """The result of an evaluation; its exit code (5 where images failed)."""
    failure = _failure(summary)
    if as_json:
        emit_json(dict(summary) | failure)
    else:
        emit("\n".join([*lines(summary), NOT_KEPT if out is None else _kept(summary, out)]))
        if failure:
            say(f"error: {failure['error']['message']}; {failure['error']['hint']}")
    return int(failure.get("code", 0))


def show_kept(summary: Summary, path: Path, *, as_json: bool) -> int:
    """A run that is read back; 9 where images are missing, 5 where some failed."""
    missing = summary["n_missing"]
    if not missing:
        return show(summary, path, as_json=as_json)
    error = error_value(
        IncompleteError.__name__,
        f"{missing} images have no record, the first ids: {', '.join(map(str, summary['missing'][:10]))}",
        IncompleteError.exit_code,
        hint="run the command of the run again; it scores what is missing",
        missing=summary["missing"],
    )
    if as_json:
        emit_json(dict(summary) | error)
    else:
        emit("\n".join([*lines(summary), _kept(summary, path)]))
        say(f"error: {error['error']['message']}; {error['error']['hint']}")
    return int(error["code"])


def interrupted(summary: Summary, out: Path | None, *, as_json: bool) -> int:
    """The partial result after Ctrl-C and how to go on."""
    resume = "nothing was kept; --out DIR keeps what is done"
    if out is not None:
        words = sys.argv[1:] if "--out" in sys.argv or any(w.startswith("--out=") for w in sys.argv) else [
            *sys.argv[1:], "--out", str(out)
        ]  # fmt: skip
        resume = f"to go on: merged-diffusion {shlex.join(words)}"
    if as_json:
        emit_json(
            error_value("Interrupted", "interrupted", INTERRUPT_CODE, hint=resume, partial=dict(summary))
        )
    else:
        if summary["n"]:
            emit("\n".join(lines(summary)))
        say(f"interrupted after {summary['n']} of {summary['n'] + summary['n_missing']} images\n{resume}")
    return INTERRUPT_CODE


def lines(summary: Summary) -> list[str]:
    """Heading, one row per model, remarks."""
    rows = [heading(summary), f"{summary['model']:<11} {_value(summary)}{_evaluations(summary)}"]
    for other in summary["compare"]:
        rows.append(f"{other['name']:<11} {_value(other, with_error=False)}{_difference(other['paired'])}")
    return rows + _remarks(summary)


def heading(summary: Summary) -> str:
    """Data, number of images, threshold."""
    data = summary["data"]
    return f"{data['name']}/{data['split']}  {data['n']} images  {_threshold(summary)}"


def _threshold(summary: Summary) -> str:
    echo, legs = summary["threshold"], summary["legs"]
    if len(legs) == 1:
        (leg,) = legs
        eta = "" if echo is None or echo["eta"] is None else f"eta {echo['eta']:g}: "
        return (
            f"{eta}{leg['role']} expert {leg['expert']} alone (gamma {leg['start']:.6g} to {leg['end']:.6g})"
        )
    eta = f"{echo['eta']:.2f}" if abs(echo["eta"] - round(echo["eta"], 2)) < 5e-7 else f"{echo['eta']:.6f}"
    return f"eta {eta} (gamma {echo['gamma']:.3f}, edm_sigma {echo['edm_sigma']:.4f})"


def _value(result: Summary, *, with_error: bool = True) -> str:
    unit, value = "bits/dim", result["bits_per_dim"]
    if value is None and result.get("log_density_nats") is not None:
        unit, value = "nats (log density)", result["log_density_nats"]
    if value is None or value["mean"] is None:
        return "no mean"
    if not with_error:
        return f"{value['mean']:.3f}"
    error = "" if value["se"] is None else f" ± {value['se']:.3f}"
    return f"{value['mean']:.3f}{error} {unit}"


def _evaluations(result: Summary) -> str:
    count = result["evaluations"]
    return "" if count is None else f"   {count['total']:.0f} evaluations/image"


def _difference(paired: Summary | None) -> str:
    if paired is None:
        return ""
    error = "" if paired["se"] is None else f" ± {paired['se']:.3f}"
    return f"   merged - it: {paired['difference']:+.3f}{error} (paired)"


def _remarks(summary: Summary) -> list[str]:
    settings, remarks = summary["settings"], []
    if summary["n_failed"]:
        ok = summary["n"] - summary["n_failed"]
        over = f"; the mean is over the {ok} others" if settings["allow_failed"] else ""
        remarks.append(f"{summary['n_failed']} of {summary['n']} images failed{over}")
        remarks += [
            f"  image {f['id']}: {f['status']} at gamma {f['gamma']}, {f['leg']} expert {f['expert']}"
            for f in summary["failures"][:5]
        ]
    if summary.get("n_missing"):
        remarks.append(f"{summary['n_missing']} images of the run have no record yet")
    if summary["extrapolated"]:
        remarks.append("extrapolated: an expert was asked outside its trained range")
    if summary["rebatched"]:
        remarks.append("rebatched: some rows come from another batch size, threads, device or dtype")
    if settings["dequantise"] == "uniform":
        remarks.append(
            "uniform: points without noise under the density of the model noised to gamma_min; not exact"
        )
    return remarks


def _kept(summary: Summary, path: Path) -> str:
    return f"kept in {path}: {summary['n']} images"


def _failure(summary: Summary) -> dict[str, Any]:
    """The error of a summary with failed images; empty without."""
    if not summary["n_failed"]:
        return {}
    return error_value(
        SolveError.__name__,
        f"{summary['n_failed']} of {summary['n']} images failed",
        SolveError.exit_code,
        hint="the others are unharmed; --allow-failed gives their mean"
        if not summary["settings"]["allow_failed"]
        else "the mean is over the others",
        failures=summary["failures"],
    )


def show_comparison(result: Summary, *, as_json: bool) -> None:
    """Two runs side by side and their paired difference."""
    if as_json:
        emit_json(result)
        return
    names = "AB"
    for name, row in zip(names, result["runs"], strict=True):
        emit(f"{name}  {_value(row)}{_evaluations(row)}   {row['path']}")
    paired = result["paired"]
    if paired is not None:
        error = "" if paired["se"] is None else f" ± {paired['se']:.3f}"
        emit(f"A - B: {paired['difference']:+.3f}{error} (paired, {paired['n']} images)")
