"""A page of results: one HTML file that loads nothing, whose text is escaped wherever it comes from."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from merged_diffusion import plots
from merged_diffusion.errors import UsageError
from merged_diffusion.escapes import shown
from merged_diffusion.reports import export, figures, shown_images
from merged_diffusion.reports.cells import Line
from merged_diffusion.reports.repeat import command_lines
from merged_diffusion.reports.results import Result, best_row, read_all, reference, short_name
from merged_diffusion.reports.tables import Cell, Number, Table
from merged_diffusion.runs.settings_file import leaves
from merged_diffusion.sweeps.sweep_row import SweepRow
from merged_diffusion.sweeps.table import Best, Evaluations
from merged_diffusion.sweeps.thresholds import GATE

MARK: Final = re.compile("merged-diffusion</title>")  # of a file that is such a page
STRIP: Final = 12  # samples of the same noise side by side
Context = Mapping[str, object]  # of the template


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


def _facts(result: Result) -> Context:
    """What was run, and its headline."""
    best = best_row(result.merged)
    shown = best or (result.rows[0] if len(result.rows) == 1 else None)
    mean = None if best is None else Line(result, best).value()
    figure = None if best is None else best.figure
    unit = "bits/dim" if figure is None else figure.name
    return {
        "path": str(result.path),
        "kind": ("Sweep of " if result.is_sweep else "") + result.kind,
        "n": _count(result, shown),
        "standing": _standing(result, shown),
        "headline": {"value": mean.text(), "unit": unit} if isinstance(mean, Number) else None,
        "model": None if shown is None else result.label(shown),
        "compared": [] if best is None else list(_compared(result, best)),
        "range": _range(result.best),
        "command": command_lines(result),
        "experts": result.experts,
        "took": None if result.seconds is None else _took(result.seconds),
        "saved": _saved(result.evaluations),
    }


def _took(seconds: float) -> str:
    if seconds < 1:
        return "under a second"
    return f"{seconds:.0f} s" if seconds < 60 else f"{seconds / 60:.1f} minutes"


def _count(result: Result, row: SweepRow | None) -> int | None:
    """How many images were scored, or drawn."""
    if result.metric != "sample":
        found = result.data.get("n")
        return found if isinstance(found, int) else None
    if row is None:
        return None
    return row.n if row.figure is None else row.figure.n


def _compared(result: Result, best: SweepRow) -> Iterator[str]:
    """The merged model's paired difference to each expert."""
    for row in result.rows:
        if row.model == "merged":
            continue
        if row.paired is not None and row.paired.to == best.name:
            paired, away = row.paired, -row.paired.difference
        elif best.paired is not None and best.paired.to == row.name:  # the expert is the best row
            paired, away = best.paired, best.paired.difference
        else:
            continue
        difference = Number(away, 3, paired.se, signed=True).text(minus="−")
        how = (
            " (same ids and noise)" if result.metric == "sample" else f" bits/dim (paired, {paired.n} images)"
        )
        other = short_name(row) if row.model == GATE else f"{short_name(row)} alone"
        yield f"merged − {other}: {difference}{how}"


def _standing(result: Result, shown: SweepRow | None) -> str | None:
    """What a headline's row is among the others; an expert alone may be the best of all."""
    best = best_row(result.rows)
    if len(result.rows) == 1 or best is None:
        return None
    if best is shown:
        return f"the best of {len(result.rows)} rows"
    return f"the best threshold; the best of {len(result.rows)} rows is {result.label(best)}"


def _range(best: Best | None) -> str | None:
    if best is None or best.indistinguishable is None:
        return None
    low, high = best.indistinguishable
    return f"eta {low:.4g} to {high:.4g} cannot be told from it"


def _saved(counts: Evaluations | None) -> str | None:
    if counts is None or not counts.single_runs:
        return None
    spent, single = counts.spent, counts.single_runs
    share = f", {spent / single:.2f} of those of single runs" if spent != single else ""
    return f"{spent:,.0f} evaluations{share}"


def _tables(results: Sequence[Result]) -> list[Table]:
    judged = (r for r in results if r.metric != "sample" or any(row.figure for row in r.rows))
    numbers = dict.fromkeys(export.WHAT[result.metric] for result in judged)
    tables = [export.table(number, results) for number in numbers]
    known = [result for result in results if result.experts]
    return [*tables, export.table(4, known)] if known else tables


def _cell(cell: Cell) -> str:
    return cell.text(minus="−") if isinstance(cell, Number) else cell or ""


def _extremes(result: Result) -> Context | None:
    best = best_row(result.merged) or best_row(result.rows)
    if result.metric == "sample" or best is None:
        return None
    low, high, note = shown_images.extremes(result, best)
    if not low and note is None:
        return None
    name = f"{result.kind}, {result.label(best)}"
    return {"name": name, "path": str(result.path), "low": low, "high": high, "note": note}


def _grid(result: Result) -> Context | None:
    """A grid of samples; of a sweep, a strip for each row with the same ids."""
    if result.metric != "sample":
        return None
    kept = [(row, shown_images.drawn(result.folder(row))) for row in result.rows]
    found = [(row, own) for row, own in kept if own is not None]
    if not found:
        note = f"{result.path}: no images were kept beside the figures."
        return {"name": result.kind, "rows": [], "note": note}
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
        rows.append({"label": result.label(row), "pictures": pictures})
    return {"name": result.kind, "rows": rows, "note": None}


def _details(result: Result) -> Context:
    """Every setting and hash."""
    return {
        "path": str(result.path),
        "settings": _flat(result.settings),
        "data": _flat(result.data),
        "experts": {role: _flat(expert.as_dict()) for role, expert in result.experts.items()},
        "versions": _flat(next((row.versions for row in result.rows if row.versions), {})),
    }


def _flat(values: Mapping[str, object]) -> dict[str, str]:
    return {name: _words(value) for name, value in leaves(dict(values)).items()}


def _words(value: object) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value))
    return "–" if value is None else str(value)
