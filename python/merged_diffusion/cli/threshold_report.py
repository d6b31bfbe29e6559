"""How a chosen threshold looks, for people and as JSON."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from merged_diffusion.catalogue.sets import set_name
from merged_diffusion.cli.output import emit, emit_json
from merged_diffusion.cli.text import error, fine_difference, is_better
from merged_diffusion.thresholds.choose import Chosen
from merged_diffusion.thresholds.confirm import ConfirmedRow

NOT_KEPT: Final = "not kept; add --out DIR to keep it, with its curves"


def show(chosen: Chosen, out: Path | None, *, as_json: bool) -> None:
    """The result of ``threshold``."""
    if as_json:
        emit_json(chosen.as_dict())
        return
    emit("\n".join([*_lines(chosen), NOT_KEPT if out is None else f"kept in {out}"]))


def _lines(chosen: Chosen) -> Iterator[str]:
    found, tune = chosen.found, chosen.tune
    low, high = found.indistinguishable
    first, last = found.crossing_interval
    of = set_name(tune.name, tune.split)
    yield f"{chosen.answer.words}, chosen on {len(tune)} images of {of}"
    yield f"use it by    {chosen.answer.option}"
    yield f"found        {found.answer.words}; eta {low:.3f} to {high:.3f} cannot be told from it"
    yield f"likelihood   best at eta {found.likelihood.eta[found.likelihood.best]:.3f} in one pass"
    crossing = f"best at eta {found.crossing:.3f}; {first:.3f} to {last:.3f} in 95 % of resampled sets"
    yield f"bound        {crossing}"
    if chosen.answer.at_edge:
        yield "warning: this eta is an end of what the experts allow; a better one may lie beyond it"
    elif found.at_edge:
        yield "warning: the best threshold found is an end of what the experts allow"
    for words in chosen.checks.words():
        yield f"warning: {words}"
    yield from _better(chosen.test or ())
    if found.n_failed:
        yield f"{found.n_failed} of {found.n} images could not be solved and are left out"
    for name, rows in (("confirmed", chosen.confirmed), ("test", chosen.test)):
        if rows is not None:
            yield f"{name}:  (with +: worse than {chosen.answer.name})"
            yield from map(_row, rows)
    yield _cost(chosen.evaluations, len(tune))


def _better(test: Sequence[ConfirmedRow]) -> Iterator[str]:
    """What beats the answer on test, where it was not to be chosen."""
    for row in test:
        if row.paired is not None and is_better(row.paired):
            yield f"warning: on test {row.name} is better, {fine_difference(row.paired)} (paired)"


def _row(row: ConfirmedRow) -> str:
    found = row.bits_per_dim
    mean = None if found is None else found.mean
    value = "no mean" if found is None or mean is None else f"{mean:.4f}{error(found.se)} bits/dim"
    beside = "" if row.paired is None else f"   {fine_difference(row.paired)} (paired)"
    failed = f"   {row.n_failed} failed" if row.n_failed else ""
    return f"  {row.name:<11} {value}{beside}{failed}"


def _cost(spent: Mapping[str, float], n: int) -> str:
    found = f"evaluations per image: {spent['finding'] / n:.0f} to find it"
    if "grid" not in spent:
        return found
    grid = f"{spent['grid'] / n:.0f} for a run at each threshold of the grid"
    return f"{found}, {spent['confirming'] / n:.0f} to confirm it, in place of {grid}"
