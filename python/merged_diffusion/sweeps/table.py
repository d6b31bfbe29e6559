"""The table of a sweep: every row against the best one, and the thresholds that cannot be told from it.

Rows have the same images and noise, so differences are paired: image by image, or, of samples, group by group
of the jackknife. A threshold counts as
indistinguishable from the best while its difference is at most `SURE` standard errors; the interval is from
the first of them to the last.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from merged_diffusion.sweeps.rows import Row

SURE: Final = 2.0  # standard errors: about 95 % of a normal distribution

Line = dict[str, Any]
Paired = Callable[[int, int], Mapping[str, Any] | None]


def line(
    row: Row[Any], threshold: Any, summary: Mapping[str, Any] | None, error: Mapping[str, Any] | None
) -> Line:
    """A row of the table, not yet compared with the others."""
    return {
        "name": row.name,
        "threshold": threshold,
        "folder": row.folder,
        "summary": summary,
        "paired": None,
        "error": error,
    }


def value(line: Line) -> tuple[float, float | None] | None:
    """Mean and standard error of a row, or its distance; None where it has none."""
    summary = line["summary"] or {}
    if summary.get("quality") is not None:
        primary = summary["quality"]["primary"]
        return primary["value"], primary["se"]
    found = summary.get("bits_per_dim")
    return None if found is None or found["mean"] is None else (found["mean"], found["se"])


def compare(lines: Sequence[Line], etas: Sequence[float], paired: Paired) -> dict[str, Any] | None:
    """Fill in ``paired(row, best)``; the best row, or None where none has a value.

    ``paired`` is the difference of two rows, by their positions, with its standard error.
    """
    found = [value(line) for line in lines]
    means = [math.inf if pair is None else pair[0] for pair in found]
    if not means or min(means) == math.inf:
        return None
    best = means.index(min(means))
    for position, line in enumerate(lines):
        difference = None if found[position] is None else paired(position, best)
        line["paired"] = None if difference is None else {"to": lines[best]["name"], **difference}
    return {
        "name": lines[best]["name"],
        "eta": etas[best],
        "indistinguishable": _interval(lines, etas, best),
        "at_edge": best in (0, len(lines) - 1),
    }


def _interval(lines: Sequence[Line], etas: Sequence[float], best: int) -> list[float] | None:
    """From the first to the last threshold that is as good within its error; None without errors."""

    def is_close(position: int) -> bool:
        found = lines[position]["paired"]
        if found is None:
            return False
        error = found["se"]
        return error is not None and found["difference"] <= SURE * error

    known = [line["paired"]["se"] for i, line in enumerate(lines) if i != best and line["paired"] is not None]
    if not known or None in known:
        return None
    close = [eta for position, eta in enumerate(etas) if position == best or is_close(position)]
    return [min(close), max(close)]
