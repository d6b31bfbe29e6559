"""What a command measures of images on its way to a choice: here, or shared by several workers.

A threshold or a gate takes losses, one pass and exact runs of many images, one after the other, and between
them decides what to measure next. Each of these is given to a `Measuring`, which returns the rows or the
likelihoods of all images; `HERE` measures them in this process, `SharedMeasuring` keeps them in a folder and
shares them out.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Final, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from merged_diffusion.data.images import Data
from merged_diffusion.likelihood import Likelihood, log_likelihoods
from merged_diffusion.likelihood.likelihood_options import Options
from merged_diffusion.merge import MergedModel
from merged_diffusion.scores import by_image
from merged_diffusion.scores.by_image import ByImage

Key = TypeVar("Key", bound=Hashable)
Labels = npt.NDArray[np.int64] | None


class Measuring(Protocol):
    """Who measures the images of a command. A name is given once in a command."""

    def part(self, name: str) -> Measuring:
        """The same, for names that are another part's, too."""

    def by_image(self, name: str, data: Data) -> ByImage:
        """Has rows of numbers measured of the images of a set."""

    def once(self, name: str, find: Callable[[], Sequence[float]]) -> list[float]:
        """Numbers that may differ from machine to machine, as whoever was first found them."""

    def likelihoods(
        self,
        models: Mapping[str, MergedModel],
        data: Data,
        options: Options,
        *,
        labels: Labels = None,
        progress: bool = False,
        together: Sequence[str] = (),
    ) -> dict[str, Likelihood]:
        """The exact likelihood of the images under each model; those of ``together`` share their steps.

        Seconds and tally of a row are those of its images, or of all that share steps with it.
        """


class Here:
    """In this process, where nothing is kept."""

    def part(self, name: str) -> Measuring:  # noqa: ARG002  (nothing has a name here)
        """Itself."""
        return self

    def by_image(self, name: str, data: Data) -> ByImage:  # noqa: ARG002
        """All at once."""
        return by_image.here

    def once(self, name: str, find: Callable[[], Sequence[float]]) -> list[float]:  # noqa: ARG002
        """As they are found."""
        return list(find())

    def likelihoods(
        self,
        models: Mapping[str, MergedModel],
        data: Data,
        options: Options,
        *,
        labels: Labels = None,
        progress: bool = False,
        together: Sequence[str] = (),
    ) -> dict[str, Likelihood]:
        """One group after the other."""
        found: dict[str, Likelihood] = {}
        for group in groups_of(models, together):
            found |= log_likelihoods(group, data, options, labels=labels, progress=progress)
        return {name: found[name] for name in models}


HERE: Final = Here()


def ranked(measuring: Measuring, name: str, values: Mapping[Key, float]) -> list[Key]:
    """Keys from the least value up, as whoever was first has them.

    Machines may differ in the last bits of a mean; workers that chose differently would wait for each other
    for ever.
    """
    keys = list(values)

    def found() -> list[float]:
        return [float(place) for place in sorted(range(len(keys)), key=lambda place: values[keys[place]])]

    return [keys[int(place)] for place in measuring.once(name, found)]


def groups_of(models: Mapping[str, MergedModel], together: Sequence[str]) -> list[Mapping[str, MergedModel]]:
    """Models that are scored together, and each of the others."""
    first = {name: models[name] for name in together}
    others: list[Mapping[str, MergedModel]] = [
        {name: model} for name, model in models.items() if name not in first
    ]
    return [first, *others] if first else others
