"""Guidance, in words: by which expert the quality expert, or an expert alone, is guided, and how far.

Needs no torch; what is done with it is `experts/guided.py`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Self

from merged_diffusion.errors import UsageError

NONE_CLASS: Final = "none-class"
WORDS: Final = ("guidance", "guide", "guidance_interval")


@dataclass(frozen=True)
class Guidance:
    """The weight, 1 for none; a guide's name, or ``none-class``; gammas between which it acts, if not all."""

    weight: float
    guide: str
    interval: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.weight < math.inf:
            raise UsageError(
                f"--guidance {self.weight} is no finite number from 0 up",
                hint="1 is none, 2 doubles the difference from the guide",
            )
        if self.interval is not None and not self.interval[0] < self.interval[1]:
            low, high = self.interval
            raise UsageError(
                f"--guidance-interval {low:g},{high:g} is no LOW,HIGH",
                hint="gammas, minus log SNR, the lower one first",
            )

    @classmethod
    def of(
        cls, weight: float | None, guide: str | None, interval: Sequence[float] | None = None
    ) -> Self | None:
        """From the values of `WORDS`; None where none was given.

        Raises
        ------
        UsageError
            One of them alone means nothing.
        """
        if weight is None and guide is None and interval is None:
            return None
        if weight is None or guide is None:
            given = (
                "--guide"
                if guide is not None
                else "--guidance"
                if weight is not None
                else "--guidance-interval"
            )
            raise UsageError(
                f"{given} alone does not say by whom to guide, and how far",
                hint=f"give --guidance W and --guide EXPERT or {NONE_CLASS}",
            )
        between = None if interval is None else (float(interval[0]), float(interval[1]))
        return cls(float(weight), str(guide), between)

    def as_dict(self) -> dict[str, object]:
        """The words; `of` reads them back."""
        between = {} if self.interval is None else {"guidance_interval": list(self.interval)}
        return {"guidance": self.weight, "guide": self.guide, **between}
