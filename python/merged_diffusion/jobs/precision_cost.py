"""What a pilot found that layers in less than full precision cost. Needs no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from merged_diffusion.files.typed_values import TypedValues
from merged_diffusion.runs.settings_file import PRECISION_COST

SURE: Final = 2.0  # standard errors up to which a cost may be larger than it was measured


@dataclass(frozen=True)
class PrecisionCost(TypedValues):
    """The mean over ``n`` images less that in full precision, in the unit of a value."""

    difference: float
    se: float | None
    """Its standard error, paired; None of one image."""
    n: int
    evaluations: float
    """An image: a solver takes what layers round for errors of its own, and makes smaller steps."""
    evaluations_in_full: float

    def is_bearable(self, most: float) -> bool:
        """Whether it is surely at most ``most``, up or down."""
        return abs(self.difference) + SURE * (self.se or 0.0) <= most

    def words(self, precision: str, unit: str) -> str:
        """What is said beside a result."""
        se = "" if self.se is None else f" ± {self.se:.4f}"
        counts = ""
        if self.evaluations != self.evaluations_in_full:
            usual = f"{self.evaluations_in_full:.0f}"
            counts = f" and takes {self.evaluations:.0f} evaluations an image in place of {usual}"
        mean = f"{self.difference:+.4f}{se} {unit}"
        return f"{precision} moves the mean by {mean}{counts} ({self.n} images, paired)"


def cost_in(settings: Mapping[str, Any]) -> PrecisionCost | None:
    """What a pilot left in the settings of a run."""
    found = settings.get(PRECISION_COST)
    return None if found is None else PrecisionCost.from_dict(found)


def row_words(settings: Mapping[str, Any]) -> str:
    """The same, short, for a row of a table; nothing in full precision."""
    found = settings.get(PRECISION_COST)
    if found is None:
        return ""
    precision = settings["precision"]
    if "grey_levels" in found:
        return f"   {precision}: {found['grey_levels']:g} grey levels"
    se = "" if found["se"] is None else f" ± {found['se']:.4f}"
    return f"   {precision}: {found['difference']:+.4f}{se}"


def pixel_words(settings: Mapping[str, Any]) -> list[str]:
    """The same of samples, as a line; none in full precision."""
    found = settings.get(PRECISION_COST)
    if found is None:
        return []
    moved = f"precision: {settings['precision']} moves grey levels by {found['grey_levels']:g}"
    return [f"{moved} (root mean square, {found['n']} images from the same noise)"]
