"""What `assess` returns: the figures of samples, what they were measured against, and what was left out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, cast

import numpy as np

from merged_diffusion.frames import Column, Tabular
from merged_diffusion.scores.figure import Figure
from merged_diffusion.scores.means import floats


class Assessment(dict[str, object], Tabular):
    """The dictionary of JSON values that a summary holds, with its figures typed.

    ``found["primary"]["value"]`` is ``found.primary.value``. As a table it has a row for each figure, the
    primary one first: ``name``, ``value`` with ``se``, ``n``, ``floor`` (what an ideal model would have) and
    ``biased``.

    Examples
    --------
    >>> import merged_diffusion as md
    >>> found = md.assess(md.load_data("digits"), "digits")
    >>> found.primary.name, found.primary.n
    ('frechet-classifier', 360)
    >>> found.to_dict()["name"][:3].tolist()
    ['frechet-classifier', 'kid-classifier', 'precision-classifier']
    """

    ERRORS: ClassVar = {"value": "se"}

    @classmethod
    def of(
        cls,
        figures: list[Figure],
        primary: str,
        reference: Mapping[str, object],
        absent: Mapping[str, str],
    ) -> Assessment:
        """The figures, that of the name ``primary`` apart from the others."""
        named = {figure.name: figure.as_dict() for figure in figures}
        first = named.pop(primary)
        return cls(primary=first, others=list(named.values()), reference=dict(reference), absent=dict(absent))

    @property
    def primary(self) -> Figure:
        """The metric by which models are compared."""
        return Figure.from_dict(cast(Mapping[str, object], self["primary"]))

    @property
    def others(self) -> tuple[Figure, ...]:
        """All others."""
        others = cast(Sequence[Mapping[str, object]], self["others"])
        return tuple(map(Figure.from_dict, others))

    @property
    def reference(self) -> Mapping[str, object]:
        """What the statistics are of, with the hash of their file where they are one."""
        return cast(Mapping[str, object], self["reference"])

    @property
    def absent(self) -> Mapping[str, str]:
        """Why a metric is not there, by name."""
        return cast(Mapping[str, str], self["absent"])

    def to_dict(self) -> dict[str, Column]:
        """Columns by name, a row for each figure."""
        found = [self.primary, *self.others]
        return {
            "name": np.array([one.name for one in found]),
            "value": floats(one.value for one in found),
            "se": floats(one.se for one in found),
            "n": np.array([one.n for one in found]),
            "floor": floats(one.floor for one in found),
            "biased": np.array([one.biased for one in found]),
        }

    def __repr__(self) -> str:
        return f"Assessment({self.primary!r} and {len(self.others)} others)"
