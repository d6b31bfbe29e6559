"""The paper's tables from kept results.

1 (likelihood), 2 (distance of samples) and 5 (bound) over the threshold, 3 and 6 beside the literature, 4 the
ends of the experts' ranges.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from merged_diffusion.errors import UsageError
from merged_diffusion.reports import published
from merged_diffusion.reports.cells import (
    evaluations_cells,
    gamma_cell,
    mean_cell,
    paired_cell,
    primary,
    quality_cells,
    sampler_cell,
    spread_cell,
)
from merged_diffusion.reports.results import Result, Row, read_all, reference
from merged_diffusion.reports.tables import Cell, Number, Table, written

WHAT: Final = {"nll": 1, "sample": 2, "literature": 3, "ends": 4, "vlb": 5}
Line = tuple[Result, Row, list[Cell]]
Lookup = Callable[[Result, Row], tuple[float | None, ...] | None]
Beside = tuple[Sequence[str], Callable[[Result, Row], list[Cell] | None]]
PAIRED: Final = "paired image by image"
METRIC: Final = {1: "nll", 2: "sample", 5: "vlb"}


@dataclass(frozen=True)
class Exported:
    """A table as text, its number in the paper, and what differs between its results."""

    text: str
    number: int
    warnings: Sequence[str]


def exported(
    paths: Sequence[str | Path], *, form: str = "markdown", number: int | None = None, what: str | None = None
) -> Exported:
    """The table ``number`` (or ``what``: `WHAT`) of kept results; without both that of the first."""
    if number is not None and what is not None:
        raise UsageError("--table and --what were both given", hint="use one of them")
    results, warnings = read_all(paths)
    asked = number or WHAT[what or results[0].metric]
    return Exported(written(table(asked, results, warnings), form), asked, warnings)


def table(number: int, results: Sequence[Result], notes: Sequence[str] = ()) -> Table:
    """The paper's table of that number, made of these results.

    Raises
    ------
    UsageError
        None of the results belongs in it.
    """
    if number == 4:
        return ends(results, notes)
    if number in (3, 6):
        return literature(number, results, notes)
    chosen = [result for result in results if result.metric == METRIC[number]]
    if not chosen:
        raise UsageError(
            f"table {number} shows {METRIC[number]}, these are {', '.join({r.metric: 1 for r in results})}",
            hint=f"name a run or a sweep of {METRIC[number]}",
        )
    return {1: likelihood, 2: distance, 5: bound}[number](chosen, notes)


def likelihood(results: Sequence[Result], notes: Sequence[str]) -> Table:
    """Table 1: exact likelihood and evaluations over the threshold."""
    lines, strong = _over_eta(
        results, lambda _, row: [mean_cell(row), paired_cell(row), *evaluations_cells(row)]
    )
    title = f"Exact likelihood of {_data(results[0])} over the threshold (table 1)"
    columns = ["model", "gamma", "bits/dim", "difference", "evaluations"]
    beside = _beside(published.likelihood, ("paper bits/dim", "paper evaluations"), (2, 0))
    return _with_paper(title, columns, lines, strong, beside, [*_reading(results), *notes])


def bound(results: Sequence[Result], notes: Sequence[str]) -> Table:
    """Table 5: the variational bound over the threshold, with the spread of repeated draws."""
    lines, strong = _over_eta(results, lambda _, row: [mean_cell(row), paired_cell(row), spread_cell(row)])
    title = f"Variational bound of {_data(results[0])} over the threshold (table 5)"
    columns = ["model", "gamma", "bits/dim", "difference", "sd of repeats"]
    beside = _beside(published.bound, ("paper bits/dim", "paper sd"), (2, 3))
    return _with_paper(title, columns, lines, strong, beside, [*_reading(results), *notes])


def distance(results: Sequence[Result], notes: Sequence[str]) -> Table:
    """Table 2: the data set's primary metric of samples over the threshold, by sampler."""
    has_differences = any(row.paired is not None for result in results for row in result.rows)

    def cells(result: Result, row: Row) -> list[Cell]:
        value, count = quality_cells(row)
        beside = [paired_cell(row, digits=2)] if has_differences else []
        return [sampler_cell(result), value, *beside, count, *evaluations_cells(row)]

    lines, strong = _over_eta(results, cells)
    names = {q["name"] for result in results for row in result.rows if (q := primary(row)) is not None}
    known = next((result for result in results if result.data), results[0])
    title = f"Distance of samples from {_data(known)} over the threshold (table 2)"
    columns = ["model", "gamma", "sampler", " / ".join(sorted(names)) or "distance"]
    columns += [*(["difference"] if has_differences else []), "images", "evaluations"]
    beside = _beside(published.distance, ("paper FID", "paper evaluations"), (2, 0))
    return _with_paper(title, columns, lines, strong, beside, [*_reading(results), *notes])


def literature(number: int, results: Sequence[Result], notes: Sequence[str]) -> Table:
    """Tables 3 and 6: the literature's rows, and ours under them; other data have only ours."""
    scored = reference(results)
    family = published.family(scored)
    rows: list[list[Cell]] = []
    told = list(notes)
    for entry in published.published()["literature"] if family is not None else ():
        found = entry.get(family)
        if found is not None:
            cells: list[Cell] = [found.get(key) for key in ("nll", "fid", "evaluations")]
            rows.append([_marked(entry), entry["citation"], *cells])
    n_others = len(rows)
    rows += _ours(results)
    if family is None:
        told.insert(0, f"The literature's rows are of CIFAR-10 and ImageNet32, not of {_data(scored)}.")
    else:
        marks = "; ".join(f"{mark} {words}" for mark, words in published.published()["marks"].items())
        told.insert(0, f"Truncated-normal dequantisation unless marked: {marks}.")
    name = published.TITLES.get(family or "", _data(scored))
    return Table(
        title=f"Likelihood and sample quality on {name}, beside the literature (table {number})",
        columns=["model", "source", "NLL (bits/dim)", "FID" if family else "distance", "evaluations"],
        rows=rows,
        notes=told,
        strong=frozenset(range(n_others, len(rows))) if n_others else frozenset(),
    )


def ends(results: Sequence[Result], notes: Sequence[str]) -> Table:
    """Table 4: the ends of each expert's range in EDM's scaling (alpha = 1) and as gamma."""
    rows: list[list[Cell]] = []
    for role, expert in results[0].experts.items():
        for end, gamma in zip(("t_min", "t_max"), expert["gamma_range"], strict=True):
            sigma = math.exp(gamma / 2)
            name = f"{role} ({expert['name']})"
            rows.append([name, end, Number(1.0, 0), Number(sigma, 3 if sigma < 1 else 1), Number(gamma, 3)])
    columns = ["expert", "end", "alpha", "sigma", "gamma"]
    return Table("The ends of the experts' ranges (table 4)", columns, rows, notes)


def label(row: Row, experts: Mapping[str, Any]) -> str:
    """How a row is called: its threshold, or the expert that is alone."""
    if row.model == "merged":
        return row.name if row.eta is None else f"eta {row.eta:.4g}"
    name = experts.get(row.model, {}).get("name")
    return f"{row.model} expert alone" + ("" if name is None else f" ({name})")


def best_row(rows: Sequence[Row]) -> Row | None:
    """The row with the smallest mean."""
    known = [(found[0], k) for k, row in enumerate(rows) if (found := row.mean()) is not None]
    return rows[min(known)[1]] if known else None


def _over_eta(
    results: Sequence[Result], cells: Any
) -> tuple[list[tuple[Result, Row, list[Cell]]], frozenset[int]]:
    """A line per row of all results in the order of eta, and the position of each sampler's best."""
    pairs = sorted(
        ((result, row) for result in results for row in result.rows),
        key=lambda pair: (pair[0].sampler or "", pair[1].order),
    )
    lines = []
    for result, row in pairs:
        head: list[Cell] = [label(row, result.experts), gamma_cell(row)]
        lines.append((result, row, [*head, *cells(result, row)]))
    strong = set()
    for sampler in {result.sampler for result in results}:
        own = [row for result, row in pairs if result.sampler == sampler]
        best = best_row(own) if len(own) > 1 else None
        strong |= {k for k, (_, row) in enumerate(pairs) if row is best}
    return lines, frozenset(strong)


def _with_paper(
    title: str,
    columns: Sequence[str],
    lines: Sequence[Line],
    strong: frozenset[int],
    beside: Beside,
    notes: Sequence[str],
) -> Table:
    """The table with the paper's columns where any row has them."""
    names, cells = beside
    extra = [cells(result, row) for result, row, _ in lines]
    if all(pair is None for pair in extra):
        return Table(title, columns, [cells for _, _, cells in lines], notes, strong)
    empty: list[Cell] = [None] * len(names)
    rows = [
        [*cells, *(empty if pair is None else pair)] for (_, _, cells), pair in zip(lines, extra, strict=True)
    ]
    return Table(title, [*columns, *names], rows, notes, strong)


def _beside(lookup: Lookup, names: Sequence[str], digits: Sequence[int]) -> Beside:
    """The names of the paper's columns, and its figures for a row."""

    def cells(result: Result, row: Row) -> list[Cell] | None:
        found = lookup(result, row)
        if found is None:
            return None
        return [None if value is None else Number(value, d) for value, d in zip(found, digits, strict=True)]

    return names, cells


def _ours(results: Sequence[Result]) -> Iterator[list[Cell]]:
    """Both experts alone and the best threshold by likelihood, with the distance of the same rows."""
    kinds = {metric: [r for r in results if r.metric == metric] for metric in ("nll", "sample")}
    scored = {row.name: (result, row) for result in kinds["nll"] for row in result.rows}
    sets = [{row.name: (result, row) for row in result.rows} for result in kinds["sample"]] or [{}]
    for drawn in sets:
        sampler = next((result.sampler for result, _ in drawn.values()), None)
        source = "this run" if len(sets) == 1 else f"this run, samples by {sampler}"
        best = best_row([row for _, row in (scored or drawn).values() if row.model == "merged"])
        for name in ("quality", "likelihood", *([] if best is None else [best.name])):
            if name not in scored and name not in drawn:
                continue
            result, row = scored[name] if name in scored else drawn[name]
            nll = mean_cell(scored[name][1]) if name in scored else None
            quality, count = (
                (quality_cells(drawn[name][1])[0], drawn[name][1]) if name in drawn else (None, row)
            )
            yield [f"ours: {label(row, result.experts)}", source, nll, quality, *evaluations_cells(count)]


def _marked(entry: Mapping[str, Any]) -> str:
    return f"{entry['model']} ({entry['marks']})" if "marks" in entry else str(entry["model"])


def _data(result: Result) -> str:
    data = result.data
    if not data.get("name"):
        return "an unnamed set"
    count = data.get("n")
    images = "" if count is None or result.metric == "sample" else f" ({count} images)"
    return f"{data.get('name')}/{data.get('split')}{images}"


def _reading(results: Sequence[Result]) -> Iterator[str]:
    """What ± and the differences are."""
    to = {
        (row.paired["to"], result.sampler): None
        for result in sorted(results, key=lambda result: result.sampler or "")
        for row in result.rows
        if row.paired is not None
    }
    names = {name: None for name, _ in to}
    if len(names) > 1 and len({sampler for _, sampler in to}) > 1:
        names = {f"{name} ({sampler})": None for name, sampler in to}
    clustered = any(
        ((row.summary or {}).get("bits_per_dim") or {}).get("se_clustered") is not None
        for result in results
        for row in result.rows
    )
    yield "± is one standard error" + (", clustered where images are not independent." if clustered else ".")
    if names:
        is_drawn = results[0].metric == "sample"
        yield f"Differences are to {', '.join(names)}, {'of the same ids and noise' if is_drawn else PAIRED}."
