"""A metric of samples as a number: what a distance, a share or a count of copies came to. Needs no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final

from merged_diffusion.files.typed_values import TypedValues
from merged_diffusion.frames import Column, Tabular, one_row

SHOWN: Final = ("name", "value", "se", "n", "biased", "floor")


@dataclass(frozen=True, repr=False)
class Figure(Tabular, TypedValues):
    """A metric of ``n`` images; ``floor`` is what an ideal model would have, where that is known.

    ``replicates`` leave out one group of images each: two figures of the same ids and noise can be compared
    by theirs (`frechet.difference`). As a table it is a row of its other fields.
    """

    ERRORS: ClassVar = {"value": "se"}

    name: str
    value: float
    se: float | None
    n: int
    biased: bool = False
    floor: float | None = None
    replicates: tuple[float, ...] = ()

    def as_dict(self) -> dict[str, object]:
        """As JSON values."""
        return vars(self) | {"replicates": list(self.replicates)}

    def to_dict(self) -> dict[str, Column]:
        """Columns [1] by name."""
        return one_row({name: getattr(self, name) for name in SHOWN})

    def __repr__(self) -> str:
        error = "" if self.se is None else f" ± {self.se:.2g}"
        told = [
            f"{self.name} {self.value:.4g}{error}",
            f"{self.n} images",
            *(["biased"] if self.biased else []),
        ]
        told += [] if self.floor is None else [f"an ideal model {self.floor:.3g}"]
        return f"Figure({', '.join(told)})"
