"""How the rows of a choice look to people: scores of images that it was not made on."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from merged_diffusion.catalogue.sets import set_name
from merged_diffusion.cli.text import error, fine_difference
from merged_diffusion.likelihood import Likelihood
from merged_diffusion.thresholds.held_out import HeldOut


def row_lines(found: HeldOut, other: str, spent: Callable[[Likelihood], str]) -> Iterator[str]:
    """Warnings, a heading, and a line a row: it is compared with the ``other`` and says what it ``spent``."""
    for words in found.checks.words():
        yield f"warning: {words}"
    if found.rows:
        where = set_name(found.test.name, found.test.split)
        yield f"{where}, {len(found.test)} images:  (with +: worse than the {other})"
    for name, row in found.rows.items():
        mean, paired = row.allowing_failed().estimate(), found.against(name)
        value = "no mean" if mean is None else f"{mean.mean:.4f}{error(mean.se)} bits/dim"
        beside = "" if paired is None else f"   {fine_difference(paired)} (paired)"
        failed = f"   {row.n_failed} failed" if row.n_failed else ""
        yield f"  {name:<11} {value}{beside}   {spent(row)}{failed}"
