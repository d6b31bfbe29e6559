"""The cells of a row of results."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from merged_diffusion.reports.results import Result, Row
from merged_diffusion.reports.tables import Cell, Number


def primary(row: Row) -> Mapping[str, Any] | None:
    """The primary metric of a row of samples."""
    quality = None if row.summary is None else row.summary.get("quality")
    return None if quality is None else quality["primary"]


def gamma_cell(row: Row) -> Cell:
    """The threshold in gamma."""
    return None if row.model != "merged" or row.threshold is None else Number(row.threshold["gamma"], 3)


def mean_cell(row: Row) -> Cell:
    """The mean with its standard error."""
    found = row.mean()
    if found is None:
        return "failed" if row.error is not None else None
    return Number(found[0], 3, found[1])


def paired_cell(row: Row, digits: int = 3) -> Cell:
    """The difference to the best row."""
    if row.paired is None or row.paired["to"] == row.name:
        return None
    return Number(row.paired["difference"], digits, row.paired["se"], signed=True)


def spread_cell(row: Row) -> Cell:
    """The spread of the repeats."""
    found = (row.summary or {}).get("repeats")
    return None if found is None else Number(found["std"], 3)


def sampler_cell(result: Result) -> Cell:
    """Sampler and steps."""
    steps = result.settings.get("steps")
    return f"{result.sampler}" + ("" if steps is None else f", {steps} steps")


def quality_cells(row: Row) -> list[Cell]:
    """The primary metric with its error, and of how many images."""
    found = primary(row)
    if found is None:
        return ["failed" if row.error is not None else None, None]
    return [Number(found["value"], 2, found.get("se")), Number(found["n"], 0)]


def evaluations_cells(row: Row) -> list[Cell]:
    """Evaluations an image."""
    found = (row.summary or {}).get("evaluations")
    return [None if found is None else Number(found["total"], 0)]
