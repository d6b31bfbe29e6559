"""What samples of a sweep are measured against, found and checked before anything is drawn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from merged_diffusion.catalogue.entries import known
from merged_diffusion.data import load_data
from merged_diffusion.data.images import make_data
from merged_diffusion.errors import UsageError
from merged_diffusion.jobs.sample_run import SamplePlan
from merged_diffusion.jobs.settings import Settings
from merged_diffusion.ode.machine import DEVICE
from merged_diffusion.quality.assess import yardsticks
from merged_diffusion.quality.features import extractor
from merged_diffusion.quality.statistics import remarks
from merged_diffusion.sweeps.sweep_row import Quality

SPLIT: Final = "train"


@dataclass(frozen=True)
class Reference:
    """The statistics of the known set ``data_name``, by the hash of their file."""

    data_name: str
    sha256: str | None
    notes: tuple[str, ...]

    def is_of(self, quality: Quality) -> bool:
        """Whether a distance that was kept is from these statistics."""
        return quality.reference.get("sha256") == self.sha256


def known_set(settings: Settings) -> str:
    """The known set that the settings name; a path counts as the set whose content it has.

    Raises
    ------
    UsageError
        It is none of which statistics are known.
    """
    name = settings.data if settings.variant is None else f"{settings.data}-{settings.variant}"
    sets = known()["data"]
    if name not in sets:
        name = load_data(settings.data, levels=settings.levels, cache=settings.cache).name
    if name not in sets:
        raise UsageError(
            f"nothing is known of {settings.data} to measure samples against",
            hint=f"known: {', '.join(sets)}; sample draws, and fid compares with any images",
        )
    return name


def find_reference(plan: SamplePlan, data_name: str) -> Reference:
    """The statistics for samples of a plan.

    Raises
    ------
    DataNotFoundError, CheckpointError
        The statistics, or Inception's weights, are not in the cache.
    DataError
        The samples are not of the set's shape and levels.
    """
    noise = np.random.RandomState(0).randint(plan.model.levels, size=(2, *plan.image_shape))  # not flat
    like = make_data("samples", SPLIT, noise.astype(np.uint8), plan.model.levels)
    settings, found = plan.settings, []
    for statistics, features in yardsticks(data_name, settings.cache):
        network = extractor(
            features, device=settings.machine.device or DEVICE, cache=settings.cache, like=like
        )
        network.check(like)
        statistics.check(like, network)
        found.append((statistics.sha256, tuple(remarks(len(plan.ids), network.dim))))
    sha256, notes = found[0]
    return Reference(data_name, sha256, notes)
