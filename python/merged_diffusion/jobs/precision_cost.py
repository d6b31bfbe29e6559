"""What a pilot found that layers in less than full precision cost. Needs no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from merged_diffusion.files.typed_values import TypedValues
from merged_diffusion.runs.settings_file import PRECISION_COST
from merged_diffusion.scores.student import student_t


@dataclass(frozen=True)
class MovedPixels(TypedValues):
    """How far grey levels of ``n`` samples moved from those in full precision: root mean square."""

    grey_levels: float
    n: int


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
    n_lost: int = 0
    """Images that could be scored in full alone."""

    def is_bearable(self, most: float) -> bool:
        """Whether it is surely at most ``most``, up or down: never where images are lost, or of one image."""
        if self.n_lost or self.se is None:
            return False
        return abs(self.difference) + float(student_t(self.n - 1)) * self.se <= most

    def words(self, precision: str, unit: str) -> str:
        """What is said beside a result."""
        se = "" if self.se is None else f" ± {self.se:.4f}"
        counts = ""
        if self.evaluations != self.evaluations_in_full:
            usual = f"{self.evaluations_in_full:.0f}"
            counts = f" and takes {self.evaluations:.0f} evaluations an image in place of {usual}"
        mean = f"{self.difference:+.4f}{se} {unit}"
        lost = f"; {self.n_lost} more can be scored in full alone" if self.n_lost else ""
        return f"{precision} moves the mean by {mean}{counts} ({self.n} images, paired{lost})"


def cost_in(settings: Mapping[str, object]) -> PrecisionCost | None:
    """What a pilot left in the settings of a run."""
    found = settings.get(PRECISION_COST)
    return PrecisionCost.from_dict(found) if isinstance(found, Mapping) else None


def moved_in(settings: Mapping[str, object]) -> MovedPixels | None:
    """The same of samples."""
    found = settings.get(PRECISION_COST)
    return MovedPixels.from_dict(found) if isinstance(found, Mapping) else None


def row_words(settings: Mapping[str, object], *, is_drawn: bool) -> str:
    """The same, short, for a row of a table; nothing in full precision."""
    if PRECISION_COST not in settings:
        return ""
    moved, cost = (moved_in(settings), None) if is_drawn else (None, cost_in(settings))
    if moved is not None:
        return f"   {settings['precision']}: {moved.grey_levels:g} grey levels"
    if cost is None:
        return ""
    se = "" if cost.se is None else f" ± {cost.se:.4f}"
    return f"   {settings['precision']}: {cost.difference:+.4f}{se}"


def pixel_words(settings: Mapping[str, object]) -> list[str]:
    """The same of samples, as a line; none in full precision."""
    found = moved_in(settings)
    if found is None:
        return []
    moved = f"precision: {settings['precision']} moves grey levels by {found.grey_levels:g}"
    return [f"{moved} (root mean square, {found.n} images from the same noise)"]
