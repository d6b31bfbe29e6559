"""A page of results: one HTML file that loads nothing, whose text is escaped wherever it comes from."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from merged_diffusion import plots
from merged_diffusion.errors import UsageError
from merged_diffusion.escapes import shown
from merged_diffusion.reports import cells, export, figures, shown_images
from merged_diffusion.reports.repeat import command_lines
from merged_diffusion.reports.results import Result, Row, read_all, reference
from merged_diffusion.reports.tables import Number, Table

TABLE: Final = {"nll": 1, "sample": 2, "vlb": 5}
MARK: Final = re.compile("merged-diffusion</title>")  # of a file that is such a page
STRIP: Final = 12  # samples of the same noise side by side


def report(paths: Sequence[str | Path]) -> tuple[str, list[str]]:
    """The page of runs and sweeps on one data set, and its warnings.

    Raises
    ------
    RunMismatchError
        They are of different data.
    """
    if not paths:
        raise UsageError("a report needs a run or a sweep")
    results, warnings = read_all(paths)
    environment = Environment(
        loader=PackageLoader("merged_diffusion.reports", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["cell"] = _cell
    text = environment.get_template("page.html").render(
        title=_title(results),
        results=[_facts(result) for result in results],
        warnings=warnings,
        tables=_tables(results),
        figures=[
            {"caption": found.caption, "svg": Markup(plots.svg(found.figure, f"f{k}"))}  # noqa: S704  ours
            for k, found in enumerate(figures.shown(results))
        ],
        extremes=[found for result in results if (found := _extremes(result)) is not None],
        grids=[found for result in results if (found := _grid(result)) is not None],
        details=[_details(result) for result in results],
    )
    return shown(text), warnings


def _title(results: Sequence[Result]) -> str:
    data = reference(results).data
    return "samples" if not data.get("name") else f"{data['name']}/{data.get('split')}"


def _facts(result: Result) -> dict[str, Any]:
    """What was run, and its headline."""
    merged = [row for row in result.rows if row.model == "merged"]
    best = export.best_row(merged)
    shown = best or (result.rows[0] if len(result.rows) == 1 else None)
    mean = None if best is None else best.mean()
    quality = None if best is None else cells.primary(best)
    digits, unit = (3, "bits/dim") if quality is None else (2, quality["name"])
    headline = None if mean is None else {"value": Number(mean[0], digits, mean[1]).text(), "unit": unit}
    return {
        "path": str(result.path),
        "kind": ("Sweep of " if result.is_sweep else "") + result.kind,
        "n": _count(result, shown),
        "standing": _standing(result, shown),
        "headline": headline,
        "model": None if shown is None else export.label(shown, result.experts),
        "compared": list(_compared(result, best)),
        "range": _range(result),
        "command": command_lines(result),
        "experts": result.experts,
        "took": None if result.seconds is None else _took(result.seconds),
        "saved": _saved(result),
    }


def _took(seconds: float) -> str:
    if seconds < 1:
        return "under a second"
    return f"{seconds:.0f} s" if seconds < 60 else f"{seconds / 60:.1f} minutes"


def _count(result: Result, row: Row | None) -> int | None:
    """How many images were scored, or drawn."""
    if result.metric != "sample":
        return result.data.get("n")
    quality = None if row is None else cells.primary(row)
    if quality is not None:
        return int(quality["n"])
    return None if row is None or row.summary is None else row.summary.get("n")


def _compared(result: Result, best: Row | None) -> list[str]:
    """Each expert's paired difference to the merged model."""
    lines = []
    for row in result.rows:
        if row.model == "merged" or best is None:
            continue
        if row.paired is not None and row.paired["to"] == best.name:
            paired, away = row.paired, -row.paired["difference"]
        elif best.paired is not None and best.paired["to"] == row.name:  # the expert is the best row
            paired, away = best.paired, best.paired["difference"]
        else:
            continue
        difference = Number(away, 3, paired["se"], signed=True).text(minus="−")
        if result.metric == "sample":
            lines.append(f"merged − {row.model} expert alone: {difference} (same ids and noise)")
        else:
            lines.append(
                f"merged − {row.model} expert alone: {difference} bits/dim (paired, {paired['n']} images)"
            )
    return lines


def _standing(result: Result, shown: Row | None) -> str | None:
    """What a headline's row is among the others; an expert alone may be the best of all."""
    best = export.best_row(result.rows)
    if len(result.rows) == 1 or best is None:
        return None
    if best is shown:
        return f"the best of {len(result.rows)} rows"
    return f"the best threshold; the best of {len(result.rows)} rows is {export.label(best, result.experts)}"


def _range(result: Result) -> str | None:
    found = None if result.best is None else result.best.get("indistinguishable")
    return None if found is None else f"eta {found[0]:.4g} to {found[1]:.4g} cannot be told from it"


def _saved(result: Result) -> str | None:
    counts = result.evaluations
    if not counts or not counts.get("single_runs"):
        return None
    spent, single = counts["spent"], counts["single_runs"]
    share = f", {spent / single:.2f} of those of single runs" if spent != single else ""
    return f"{spent:,.0f} evaluations{share}"


def _tables(results: Sequence[Result]) -> list[Table]:
    judged = (r for r in results if r.metric != "sample" or any(map(cells.primary, r.rows)))
    numbers = dict.fromkeys(TABLE[result.metric] for result in judged)
    tables = [export.table(number, results) for number in numbers]
    if any(result.experts for result in results):
        tables.append(export.table(4, [result for result in results if result.experts]))
    return tables


def _cell(cell: Number | str | None) -> str:
    return cell.text(minus="−") if isinstance(cell, Number) else cell or ""


def _extremes(result: Result) -> dict[str, Any] | None:
    if result.metric == "sample":
        return None
    best = export.best_row([row for row in result.rows if row.model == "merged"]) or export.best_row(
        result.rows
    )
    if best is None:
        return None
    low, high, note = shown_images.extremes(result, best)
    if not low and note is None:
        return None
    name = f"{result.kind}, {export.label(best, result.experts)}"
    return {"name": name, "path": str(result.path), "low": low, "high": high, "note": note}


def _grid(result: Result) -> dict[str, Any] | None:
    """A grid of samples; of a sweep, a strip for each row with the same ids."""
    if result.metric != "sample":
        return None
    found = [(row, own) for row in result.rows if (own := shown_images.drawn(row.folder)) is not None]
    if not found:
        return {
            "name": result.kind,
            "rows": [],
            "note": f"{result.path}: no images were kept beside the figures.",
        }
    n = shown_images.DRAWN if len(found) == 1 else STRIP
    common = found[0][1].ids
    for _, own in found[1:]:
        common = np.intersect1d(common, own.ids)
    rows = []
    for row, own in found:
        position = {int(image): k for k, image in enumerate(own.ids)}
        pictures = [
            shown_images.Picture(shown_images.uri(own.images[position[int(image)]], own.levels), int(image))
            for image in common[:n]
        ]
        rows.append({"label": export.label(row, result.experts), "pictures": pictures})
    return {"name": result.kind, "rows": rows, "note": None}


def _details(result: Result) -> dict[str, Any]:
    """Every setting and hash."""
    rows = [row.summary for row in result.rows if row.summary is not None and row.summary.get("versions")]
    return {
        "path": str(result.path),
        "settings": _flat(result.settings),
        "data": _flat(result.data),
        "experts": {role: _flat(expert) for role, expert in result.experts.items()},
        "versions": _flat(rows[0]["versions"]) if rows else {},
    }


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    flat: dict[str, str] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{key}.")
        elif isinstance(value, list | tuple):
            flat[f"{prefix}{key}"] = ", ".join(map(str, value))
        else:
            flat[f"{prefix}{key}"] = "–" if value is None else str(value)
    return flat
