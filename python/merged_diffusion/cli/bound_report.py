"""How a variational bound and its plan look, for people and as JSON."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from math import log
from pathlib import Path
from typing import Any

import numpy as np

from merged_diffusion.cli.output import emit, emit_json, say
from merged_diffusion.cli.progress import duration
from merged_diffusion.cli.report import show as show_result
from merged_diffusion.cli.text import heading, leg_line
from merged_diffusion.evaluation.cost import Estimate
from merged_diffusion.evaluation.vlb import BoundPlan
from merged_diffusion.runs import versions

Summary = Mapping[str, Any]


def announce(plan: BoundPlan, cost: Estimate, out: Path | None, *, quiet: bool) -> None:
    """The remarks of a plan and what it will take, on standard error."""
    if quiet:
        return
    for note in plan.base.notes:
        say(f"note: {note}")
    say(_estimate_line(cost))
    if out is not None:
        say(f"run: {out}")


def show_plan(plan: BoundPlan, cost: Estimate, out: Path | None, *, as_json: bool) -> None:
    """The plan of ``--dry-run``."""
    base = plan.base
    value = plan.identity(base.main) | {"n": len(base.data), "models": list(base.models.models)}
    if as_json:
        estimate = dataclasses.asdict(cost)
        emit_json(value | {"versions": versions(), "dry_run": True, "estimate": estimate, "out": out})
        return
    emit(heading(value | {"data": value["data"] | {"n": value["n"]}}))
    for leg in value["legs"]:
        emit(f"leg         {leg_line(value, leg)}")
    emit(_estimate_line(cost))
    emit("nothing was written" + ("" if out is None else f"; the run would be {out}"))


def show(summary: Summary, out: Path | None, *, as_json: bool) -> int:
    """The result of a bound; its exit code (5 where images failed)."""
    code = show_result(summary, out, as_json=as_json)
    if not as_json:
        show_terms(summary)
    return code


def show_terms(summary: Summary) -> None:
    """What the bound is made of, and how its repeats differ."""
    emit("\n".join(_terms(summary)))


def _terms(summary: Summary) -> list[str]:
    found, terms = [], summary["terms_nats"]
    if terms is not None:
        unit = int(np.prod(summary["data"]["image_shape"])) * log(2)
        costs = "   ".join(f"{name} {-nats / unit:.4f}" for name, nats in terms.items())
        times = summary["bits_per_dim"]["se_times"]
        found.append(
            f"of it        {costs}" + ("" if times is None else f"   ± {times:.4f} by times and noise")
        )
    repeats = summary["repeats"]
    if repeats is not None:
        found.append(
            f"{repeats['n']} repeats    mean {repeats['mean']:.4f}, standard deviation {repeats['std']:.4f}"
        )
    return found


def _estimate_line(cost: Estimate) -> str:
    return (
        f"estimate: {cost.n_solves} images take about {duration(cost.seconds)}"
        f" ({1e3 * cost.call_seconds:.3g} ms a network call of {cost.rows} rows,"
        f" {cost.evaluations_per_image:.0f} evaluations per image)"
    )
