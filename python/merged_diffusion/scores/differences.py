"""Two scores of the same images compared: the mean of the differences, image by image."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from merged_diffusion import _core
from merged_diffusion.files.typed_values import TypedValues
from merged_diffusion.frames import Column, Tabular, one_row, text_of_error
from merged_diffusion.scores.record import Record


@dataclass(frozen=True, repr=False)
class Difference(Tabular, TypedValues):
    """One minus two in bits/dim over ``n`` images; None where one image or one cluster has no error.

    As a table it is a row with its fields for columns.
    """

    ERRORS: ClassVar = {"difference": "se"}

    difference: float
    se: float | None
    """Clustered where every image has a cluster."""
    se_images: float | None
    n: int

    def to_dict(self) -> dict[str, Column]:
        """Columns [1] by name."""
        return one_row(vars(self))

    def __repr__(self) -> str:
        return f"Difference({self.difference:+.4f}{text_of_error(self.se)} bits/dim, {self.n} images)"


def paired(one: Iterable[Record], two: Iterable[Record]) -> Difference | None:
    """One minus two over the ids that both scored; None where there are none."""
    values = {record.id: record.bits_per_dim for record in two if record.is_ok}
    pairs = [(record, record.bits_per_dim, values.get(record.id)) for record in one if record.is_ok]
    both = [(record.cluster, a, b) for record, a, b in pairs if a is not None and b is not None]
    if not both:
        return None
    clusters, a, b = zip(*both, strict=True)
    groups = None if None in clusters else np.array(clusters, dtype=np.int64)
    first, second = (np.array(bits, dtype=np.float64) for bits in (a, b))
    return Difference(**_core.paired_difference(first, second, groups))
