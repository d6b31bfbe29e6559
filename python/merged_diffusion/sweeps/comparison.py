"""The rows of a sweep compared: each against the best one, and the thresholds that cannot be told from it.

Rows have the same images and noise, so differences are paired: image by image, or, of samples, group by group
of the jackknife. A threshold counts as
indistinguishable from the best while its difference is at most `SURE` standard errors; the interval is from
the first of them to the last.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final, cast

from merged_diffusion.scores.differences import Difference
from merged_diffusion.sweeps.sweep_row import Paired, SweepRow
from merged_diffusion.sweeps.table import Best

SURE: Final = 2.0  # standard errors: about 95 % of a normal distribution


def compare(
    rows: Sequence[SweepRow],
    etas: Sequence[float | None],
    difference: Callable[[int, int], Difference | None],
) -> tuple[list[SweepRow], Best | None]:
    """The rows with their ``paired``, and the best threshold of them; None where none has a value.

    A row without an eta, a gate, is compared with the best threshold and never is it.
    ``difference`` is that of two rows, by their positions, with its standard error.
    """
    means = [
        math.inf if row.value is None or eta is None else row.value[0]
        for row, eta in zip(rows, etas, strict=True)
    ]
    if not means or min(means) == math.inf:
        return list(rows), None
    best = means.index(min(means))
    compared = []
    for position, row in enumerate(rows):
        found = None if row.value is None else difference(position, best)
        paired = None if found is None else Paired.of(rows[best].name, found)
        compared.append(replace(row, paired=paired))
    ranked = [k for k, eta in enumerate(etas) if eta is not None]
    at_edge = best in (ranked[0], ranked[-1])
    return compared, Best(rows[best].name, cast(float, etas[best]), _interval(compared, etas, best), at_edge)


def _interval(rows: Sequence[SweepRow], etas: Sequence[float | None], best: int) -> list[float] | None:
    """From the first to the last threshold that is as good within its error; None without errors."""
    known = [(k, row, eta) for k, (row, eta) in enumerate(zip(rows, etas, strict=True)) if eta is not None]
    others = [row.paired for k, row, _ in known if k != best and row.paired is not None]
    if not others or any(paired.se is None for paired in others):
        return None
    close = [eta for k, row, eta in known if k == best or _is_close(row)]
    return [min(close), max(close)]


def _is_close(row: SweepRow) -> bool:
    paired = row.paired
    return paired is not None and paired.se is not None and paired.difference <= SURE * paired.se
