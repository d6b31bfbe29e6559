"""The paper's tables from kept results.

1 (likelihood), 2 (distance of samples) and 5 (bound) over the threshold, 3 and 6 beside the literature, 4 the
ends of the experts' ranges.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from merged_diffusion.errors import UsageError
from merged_diffusion.reports import published
from merged_diffusion.reports.cells import Line
from merged_diffusion.reports.results import Result, best_row, order, read_all, reference
from merged_diffusion.reports.tables import Cell, Number, Table, written
from merged_diffusion.sweeps.sweep_row import SweepRow

WHAT: Final = {"nll": 1, "sample": 2, "literature": 3, "ends": 4, "vlb": 5}
PAIRED: Final = {
    "nll": "paired image by image",
    "vlb": "paired image by image",
    "sample": "of the same ids and noise",
}
# Of samples; shown where any row has them.
BESIDE: Final = ("precision", "recall", "density", "coverage", "copies")


@dataclass(frozen=True)
class OverEta:
    """A table with a line for each threshold: columns behind the model's, and the paper's with decimals."""

    metric: str
    title: str
    columns: Mapping[str, Callable[[Line], Cell]]
    paper: Callable[[Result, SweepRow], tuple[float | None, ...] | None]
    paper_columns: Mapping[str, int]


OVER_ETA: Final = {
    1: OverEta(
        "nll",
        "Exact likelihood of",
        {"bits/dim": Line.value, "difference": Line.difference, "evaluations": Line.evaluations},
        published.likelihood,
        {"paper bits/dim": 2, "paper evaluations": 0},
    ),
    2: OverEta(
        "sample",
        "Distance of samples from",
        {
            "sampler": Line.sampler,
            "distance": Line.value,
            "difference": Line.difference,
            **{metric: partial(Line.beside, metric=metric) for metric in BESIDE},
            "images": Line.images,
            "evaluations": Line.evaluations,
        },
        published.distance,
        {"paper FID": 2, "paper evaluations": 0},
    ),
    5: OverEta(
        "vlb",
        "Variational bound of",
        {"bits/dim": Line.value, "difference": Line.difference, "sd of repeats": Line.spread},
        published.bound,
        {"paper bits/dim": 2, "paper sd": 3},
    ),
}


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
    metric = OVER_ETA[number].metric
    chosen = [result for result in results if result.metric == metric]
    if not chosen:
        raise UsageError(
            f"table {number} shows {metric}, these are {', '.join({r.metric: 1 for r in results})}",
            hint=f"name a run or a sweep of {metric}",
        )
    return over_eta(number, chosen, notes)


def over_eta(number: int, results: Sequence[Result], notes: Sequence[str]) -> Table:
    """Tables 1, 2 and 5: all rows in the order of eta, by sampler, with the paper's where it has any."""
    form = OVER_ETA[number]
    lines = [Line(result, row) for result in results for row in result.rows]
    lines.sort(key=lambda line: (line.result.sampler or "", order(line.row)))
    columns = {"model": Line.model, "gamma": Line.gamma, **form.columns}
    if form.metric == "sample" and all(line.row.paired is None for line in lines):
        del columns["difference"]
    known_beside = {metric for line in lines for metric in line.row.beside}
    columns = {name: cell for name, cell in columns.items() if name not in BESIDE or name in known_beside}
    rows = [[cell(line) for cell in columns.values()] for line in lines]
    metrics = sorted({line.row.figure.name for line in lines if line.row.figure is not None})
    names = [" / ".join(metrics) or name if name == "distance" else name for name in columns]
    beside = [form.paper(line.result, line.row) for line in lines]
    if any(found is not None for found in beside):
        names += form.paper_columns
        for row, found in zip(rows, beside, strict=True):
            numbers = zip(found or [None] * len(form.paper_columns), form.paper_columns.values(), strict=True)
            row += [None if number is None else Number(number, digits) for number, digits in numbers]
    known = next((result for result in results if result.data), results[0])
    title = f"{form.title} {_data(known)} over the threshold (table {number})"
    return Table(title, names, rows, [*_reading(results), *notes], frozenset(_strong(lines)))


def _strong(lines: Sequence[Line]) -> Iterator[int]:
    """The position of each sampler's best."""
    for sampler in {line.result.sampler for line in lines}:
        own = [line.row for line in lines if line.result.sampler == sampler]
        best = best_row(own) if len(own) > 1 else None
        yield from (k for k, line in enumerate(lines) if line.row is best)


def literature(number: int, results: Sequence[Result], notes: Sequence[str]) -> Table:
    """Tables 3 and 6: the literature's rows, and ours under them; other data have only ours."""
    scored = reference(results)
    family = published.family(scored)
    rows: list[list[Cell]] = []
    told = list(notes)
    for entry in published.published()["literature"] if family is not None else ():
        found = entry.get(family)
        if found is not None:
            name = f"{entry['model']} ({entry['marks']})" if "marks" in entry else str(entry["model"])
            rows.append([name, entry["citation"], *(found.get(key) for key in ("nll", "fid", "evaluations"))])
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


def _ours(results: Sequence[Result]) -> Iterator[list[Cell]]:
    """Both experts alone and the best threshold by likelihood, with the distance of the same rows."""
    scored = {
        row.name: Line(result, row) for result in results if result.metric == "nll" for row in result.rows
    }
    sets = [
        {row.name: Line(result, row) for row in result.rows}
        for result in results
        if result.metric == "sample"
    ] or [{}]
    for drawn in sets:
        sampler = next((line.result.sampler for line in drawn.values()), None)
        source = "this run" if len(sets) == 1 else f"this run, samples by {sampler}"
        best = best_row([line.row for line in (scored or drawn).values() if line.row.model == "merged"])
        for name in ("quality", "likelihood", *([] if best is None else [best.name])):
            likely, distant = scored.get(name), drawn.get(name)
            line = likely or distant
            if line is not None:
                values = [None if own is None else own.value() for own in (likely, distant)]
                yield [f"ours: {line.model()}", source, *values, (distant or line).evaluations()]


def ends(results: Sequence[Result], notes: Sequence[str]) -> Table:
    """Table 4: the ends of each expert's range in EDM's scaling (alpha = 1) and as gamma."""
    rows: list[list[Cell]] = []
    for role, expert in results[0].experts.items():
        for end, gamma in zip(("t_min", "t_max"), expert.gamma_range, strict=True):
            sigma = math.exp(gamma / 2)
            name = f"{role} ({expert.name})"
            rows.append([name, end, Number(1.0, 0), Number(sigma, 3 if sigma < 1 else 1), Number(gamma, 3)])
    columns = ["expert", "end", "alpha", "sigma", "gamma"]
    return Table("The ends of the experts' ranges (table 4)", columns, rows, notes)


def _data(result: Result) -> str:
    data = result.data
    if not data.get("name"):
        return "an unnamed set"
    count = data.get("n")
    images = "" if count is None or result.metric == "sample" else f" ({count} images)"
    return f"{data.get('name')}/{data.get('split')}{images}"


def _reading(results: Sequence[Result]) -> Iterator[str]:
    """What ± and the differences are."""
    rows = [(result.sampler, row) for result in results for row in result.rows]
    is_clustered = any(row.is_clustered for _, row in rows)
    yield "± is one standard error" + (
        ", clustered where images are not independent." if is_clustered else "."
    )
    rows.sort(key=lambda pair: pair[0] or "")
    to = {(row.paired.to, sampler): None for sampler, row in rows if row.paired is not None}
    names = {name: None for name, _ in to}
    if len(names) > 1 and len({sampler for _, sampler in to}) > 1:
        names = {f"{name} ({sampler})": None for name, sampler in to}
    if names:
        yield f"Differences are to {', '.join(names)}, {PAIRED[results[0].metric]}."
