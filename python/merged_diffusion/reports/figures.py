"""The figures of a page, from results: each with a caption and as an element of the page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from matplotlib.figure import Figure

from merged_diffusion import plots
from merged_diffusion.reports.results import Result, best_row, short_name
from merged_diffusion.reports.shown_images import records_of
from merged_diffusion.sweeps.sweep_row import SweepRow

UNITS: Final = {"nll": "bits/dim", "vlb": "bound in bits/dim"}
NOUNS: Final = {"nll": "Exact likelihood", "vlb": "Variational bound", "sample": "Distance of samples"}
PAIRED: Final = {
    "nll": "paired image by image",
    "vlb": "paired image by image",
    "sample": "same ids and noise",
}


@dataclass(frozen=True)
class Shown:
    """A figure of a page."""

    caption: str
    figure: Figure


def shown(results: Sequence[Result]) -> Iterator[Shown]:
    """What there is to see in these results."""
    for result in results:
        merged = next((row for row in _merged(result) if row.legs), None)
        best = best_row(_merged(result)) or merged
        if best is not None and best.legs:
            yield _legs(result, best)
            break
    for metric in ("nll", "vlb"):
        of_metric = [result for result in results if result.metric == metric]
        if any(_is_curve(result) for result in of_metric):
            yield _over_eta(of_metric)
            yield from (found for result in of_metric for found in _differences(result))
    drawn = [result for result in results if result.metric == "sample" and _is_curve(result)]
    if drawn:
        yield _distance(drawn)
        yield from (found for result in drawn for found in _differences(result))
    yield from _trade_off(results)
    yield from (found for result in results if (found := _histogram(result)) is not None)


def _merged(result: Result) -> list[SweepRow]:
    return [row for row in result.merged if row.eta is not None]


def _is_curve(result: Result) -> bool:
    """Whether there is more than one threshold to look at."""
    return sum(row.value is not None for row in _merged(result)) > 1


def _curve(result: Result, name: str) -> plots.Curve:
    return _through(name, [(row.eta, *row.value) for row in _merged(result) if row.value is not None])


def _through(name: str, points: Sequence[tuple[float | None, float, float | None]]) -> plots.Curve:
    return plots.Curve(name, [p[0] or 0.0 for p in points], [p[1] for p in points], [p[2] for p in points])


def _levels(result: Result, suffix: str = "") -> list[plots.Level]:
    return [
        plots.Level(row.model, f"{short_name(row)}{suffix}", *row.value)
        for row in result.rows
        if row.model != "merged" and row.value is not None
    ]


def _legs(result: Result, row: SweepRow) -> Shown:
    ranges = {role: (expert.gamma_range[0], expert.gamma_range[1]) for role, expert in result.experts.items()}
    figure = plots.legs(row.legs, ranges, eta=row.eta)
    return Shown("The legs: where each expert was trained (pale) and where it is in charge (full).", figure)


def _over_eta(results: Sequence[Result]) -> Shown:
    metric = results[0].metric
    curves = [_curve(result, result.path.name if len(results) > 1 else "merged") for result in results]
    words = f"{NOUNS[metric]} over the threshold; dashed lines: each expert alone on its own range. Bars: one"
    figure = plots.over_eta(curves, _levels(results[0]), unit=UNITS[metric])
    return Shown(f"{words} standard error of the mean.", figure)


def _differences(result: Result) -> Iterator[Shown]:
    """Paired differences show what the spread over images hides in the means."""
    pairs = [(row, row.paired) for row in result.rows if row.paired is not None]
    if len(pairs) < 3:
        return
    known = [
        (row.eta, p.difference, p.se) for row, p in pairs if row.model == "merged" and row.eta is not None
    ]
    levels = [
        plots.Level(row.model, short_name(row), paired.difference, paired.se)
        for row, paired in pairs
        if row.model != "merged"
    ]
    unit = "bits/dim" if result.metric != "sample" else _metric_name([result])
    figure = plots.over_eta(
        [_through("merged", known)], levels, unit=f"difference to {pairs[0][1].to} ({unit})"
    )
    noun = NOUNS[result.metric] + ("" if result.sampler is None else f", {result.sampler}")
    words = f"{noun}: difference to the best row, {PAIRED[result.metric]}. Bars: one standard error of the"
    yield Shown(f"{words} difference.", figure)


def _metric_name(results: Sequence[Result]) -> str:
    """The primary metric of samples."""
    return next(row.figure.name for r in results for row in r.rows if row.figure is not None)


def _distance(results: Sequence[Result]) -> Shown:
    several = len(results) > 1
    curves = [_curve(r, (r.sampler or "merged") if several else "merged") for r in results]
    levels = [
        level for r in results for level in _levels(r, f", {r.sampler}" if several and r.sampler else "")
    ]
    samplers = ", ".join(sorted({str(r.sampler) for r in results}))
    return Shown(
        f"Distance of samples over the threshold, {samplers}. Bars: one standard error.",
        plots.over_eta(curves, levels, unit=_metric_name(results)),
    )


def _trade_off(results: Sequence[Result]) -> Iterator[Shown]:
    """Rows whose likelihood and samples were both measured."""
    scored = {row.name: row for r in results if r.metric == "nll" for row in r.rows if row.value is not None}
    for result in results:
        points = [
            plots.Point(
                f"{row.eta:.3g}" if row.eta is not None else short_name(row),
                row.model,
                bits.value[0],
                row.value[0],
                _paired_se(bits),
                _paired_se(row),
            )
            for row in result.rows
            if result.metric == "sample" and row.value is not None
            if (bits := scored.get(row.name)) is not None and bits.value is not None
        ]
        if len(points) > 1:
            yield Shown(
                f"Likelihood against sample quality ({result.sampler}); each point with its threshold. "
                "Bars: one standard error of the paired difference to the best row.",
                plots.trade_off(points, distance=_metric_name([result])),
            )


def _paired_se(row: SweepRow) -> float | None:
    """What rows of the same images, or the same noise, do not share; their common spread moves all points."""
    return None if row.paired is None else row.paired.se


def _histogram(result: Result) -> Shown | None:
    """Bits/dim of single images: the best merged row and the experts alone."""
    if result.metric == "sample":
        return None
    best = best_row(_merged(result))
    rows = [row for row in result.rows if row is best or row.model != "merged"]
    values = {row.model: np.array([r.bits_per_dim for r in records_of(result, row)]) for row in rows}
    values = {role: own for role, own in values.items() if own.size > 1}
    if not values:
        return None
    at = "" if best is None or "merged" not in values else f" (merged at {best.name})"
    return Shown(f"{NOUNS[result.metric]} of single images{at}.", plots.histogram(values))
