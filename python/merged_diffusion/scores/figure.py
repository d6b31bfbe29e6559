"""A metric of samples as a number: what a distance, a share or a count of copies came to. Needs no torch."""

from __future__ import annotations

from dataclasses import dataclass

from merged_diffusion.files.typed_values import TypedValues


@dataclass(frozen=True)
class Figure(TypedValues):
    """A metric of ``n`` images; ``floor`` is what an ideal model would have, where that is known.

    ``replicates`` leave out one group of images each: two figures of the same ids and noise can be compared
    by theirs (`frechet.difference`).
    """

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
