"""The rows of one stage of a command: measured in this process or by the workers of a crew, and kept here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import cast

import numpy as np
import numpy.typing as npt

from merged_diffusion.jobs.blocks import Mask
from merged_diffusion.jobs.crew import Crew, Key, Spent, Tell
from merged_diffusion.jobs.kept_rows import KeptRows
from merged_diffusion.runs.environment import Versions
from merged_diffusion.scores.by_image import Floats, Measure, Positions
from merged_diffusion.scores.named_objects import ByName


@dataclass(frozen=True)
class RowsTask:
    """Measure images of a ``stage``, so many at once; ``measure`` is a `Measure`, as `ByName` wrote it."""

    stage: str
    measure: bytes
    positions: npt.NDArray[np.int64]
    at_once: int

    def run(self, plans: Mapping[str, object], tell: Tell) -> Spent:
        """Tell rows as they are handed on."""
        measure = cast(Measure, cast(ByName, plans[""]).loads(self.measure))

        def keep(positions: Positions, rows: Floats) -> None:
            tell((self.stage, ""), positions.tolist(), (positions, rows))

        _in_parts(measure, self.positions, self.at_once, keep)
        return Spent()


@dataclass(frozen=True)
class RowStage:
    """A stage by its ``name``: what ``measure`` says of its images is ``kept``.

    It is given ``at_once`` positions at most; ``heard`` gets the number of images that were measured.
    """

    name: str
    kept: KeptRows
    measure: Measure
    at_once: int
    heard: Callable[[int], object]

    def done(self) -> Mask:
        """[N] which images have a row."""
        self.kept.flush()
        return self.kept.done()

    def take(self, mask: Mask) -> None:
        """Measure the images of a mask."""
        _in_parts(self.measure, np.flatnonzero(mask), self.at_once, self._keep)
        self.kept.flush()

    def hand_out(self, mask: Mask, crew: Crew, measure: bytes) -> None:
        """Have a worker measure them, to whom ``measure`` is sent."""

        def told(_: Key, item: tuple[Positions, Floats], __: Versions | None) -> None:
            self._keep(*item)

        task = RowsTask(self.name, measure, np.flatnonzero(mask), self.at_once)
        crew.begin(task, told, lambda _: self.kept.flush())

    def _keep(self, positions: Positions, rows: Floats) -> None:
        self.kept.append(positions, rows)
        self.heard(len(positions))


def _in_parts(
    measure: Measure, positions: Positions, at_once: int, keep: Callable[[Positions, Floats], object]
) -> None:
    for first in range(0, len(positions), at_once):
        measure(positions[first : first + at_once], keep)
