"""What samples of a sweep are measured against, found and checked before anything is drawn."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Final

import numpy as np

from merged_diffusion.catalogue.entries import known
from merged_diffusion.data import load_data
from merged_diffusion.data.images import Data, make_data
from merged_diffusion.errors import DataError
from merged_diffusion.jobs.sample_run import SamplePlan
from merged_diffusion.jobs.settings import Settings
from merged_diffusion.ode.machine import DEVICE
from merged_diffusion.quality.assess import assess, describe, yardsticks
from merged_diffusion.quality.assessment import Assessment
from merged_diffusion.quality.feature_network import Extractor
from merged_diffusion.quality.features import extractor
from merged_diffusion.quality.frechet import UNBIASED_FROM
from merged_diffusion.quality.measuring import absences, compare
from merged_diffusion.quality.statistics import About, Statistics, collect, remarks
from merged_diffusion.quality.yardstick import Yardstick, yardsticks_of
from merged_diffusion.runs.settings_file import json_text
from merged_diffusion.scores.figure import Figure
from merged_diffusion.sweeps.request import Request
from merged_diffusion.sweeps.sweep_row import Quality

SPLIT: Final = "train"


@dataclass(frozen=True, eq=False)
class Reference(ABC):
    """What samples are measured against; ``notes`` say what a distance from it is worth."""

    notes: tuple[str, ...]

    @property
    @abstractmethod
    def data(self) -> Mapping[str, object]:
        """What the table of a sweep says of its data."""

    @abstractmethod
    def is_of(self, quality: Quality) -> bool:
        """Whether a distance that was kept is from this reference."""

    @abstractmethod
    def assess(self, samples: Data, settings: Settings) -> Assessment:
        """The distances of samples."""


@dataclass(frozen=True, eq=False)
class KnownReference(Reference):
    """The statistics of the known set ``data_name``, by the hash of their file."""

    data_name: str
    sha256: str | None

    @property
    def data(self) -> Mapping[str, object]:
        """The set, whose images of train the statistics are of."""
        return {"name": self.data_name, "split": SPLIT}

    def is_of(self, quality: Quality) -> bool:
        """Whether it is from these statistics."""
        return quality.reference.get("sha256") == self.sha256

    def assess(self, samples: Data, settings: Settings) -> Assessment:
        """The set's metrics."""
        device = settings.machine.device or DEVICE
        return assess(samples, self.data_name, device=device, cache=settings.cache)


@dataclass(frozen=True, eq=False)
class OwnReference(Reference):
    """Statistics of a file or other images, beside the ``name`` and ``split`` of the sweep's data."""

    name: str
    split: str
    pairs: Sequence[tuple[Yardstick, Extractor]]

    @property
    def data(self) -> Mapping[str, object]:
        """The data of the sweep, and what its samples are measured against."""
        (first, network), *_ = self.pairs
        if isinstance(first, Statistics):
            about, sha256, name, split = first.about, first.sha256, first.name, None
            n = first.law.n if about is None else about.n
        else:
            name, split, n, sha256 = first[1].name, first[1].split, len(first[1]), first[1].sha256
        told = {"name": name, "split": split, "n": n, "sha256": sha256, "features": network.name}
        return {"name": self.name, "split": self.split, "reference": told}

    @cached_property
    def statistics(self) -> Sequence[tuple[Statistics, Extractor]]:
        """Those of images are made when the first row is measured."""
        return [
            (one if isinstance(one, Statistics) else collect(one[1], network), network)
            for one, network in self.pairs
        ]

    def is_of(self, quality: Quality) -> bool:
        """Whether it is from the same file, or from the same images in the same features."""
        (first, network), *_ = self.pairs
        if isinstance(first, Statistics):
            return quality.reference.get("sha256") == first.sha256
        about = quality.reference.get("about")
        return isinstance(about, dict) and json_text(about) == json_text(asdict(About.of(first[1], network)))

    def assess(self, samples: Data, settings: Settings) -> Assessment:  # noqa: ARG002  (networks are placed)
        """The Frechet distance in the first features and all other figures that `fid` gives."""
        figures: list[Figure] = []
        for statistics, network in self.statistics:
            figures += compare(samples, statistics, network)
        first, network = self.statistics[0]
        return Assessment.of(
            figures, figures[0].name, describe(first), absences(len(samples), first, network, None)
        )


def own_set(settings: Settings) -> Data | None:
    """The images of a path; None of a known set, by its name, which are not needed."""
    name = settings.data if settings.variant is None else f"{settings.data}-{settings.variant}"
    if name in known()["data"]:
        return None
    return load_data(settings.data, levels=settings.levels, cache=settings.cache)


def known_set(settings: Settings, own: Data | None) -> str:
    """The known set that the settings name; a path counts as the set whose content it has. Else empty."""
    if own is None:
        return settings.data if settings.variant is None else f"{settings.data}-{settings.variant}"
    return own.name if own.name in known()["data"] else ""


def find_reference(plan: SamplePlan, data_name: str, own: Data | None, request: Request) -> Reference:
    """What samples of a plan are measured against, once it is there.

    By default the statistics of the known set ``data_name``, else the images ``own`` of the path themselves.

    Raises
    ------
    DataNotFoundError, CheckpointError
        The statistics, or Inception's weights, are not in the cache.
    DataError
        The samples are not of the reference's shape and levels.
    """
    noise = np.random.RandomState(0).randint(plan.model.levels, size=(2, *plan.image_shape))  # not flat
    like = make_data("samples", SPLIT, noise.astype(np.uint8), plan.model.levels)
    settings = plan.settings
    device = settings.machine.device or DEVICE
    name = data_name if request.ref is None else request.ref
    if request.features is None and name in known()["data"] and name == data_name:
        found = []
        for statistics, features in yardsticks(data_name, settings.cache):
            network = extractor(features, device=device, cache=settings.cache, like=like)
            network.check(like)
            statistics.check(like, network)
            found.append((statistics.sha256, tuple(remarks(len(plan.ids), network.dim))))
        sha256, notes = found[0]
        return KnownReference(notes, data_name, sha256)
    name = name or settings.data
    pairs = yardsticks_of(name, request.features, like=like, device=device, cache=settings.cache)
    for yardstick, network in pairs:
        network.check(like)
        if isinstance(yardstick, Statistics):
            yardstick.check(like, network)
        else:
            _check_images(yardstick[1], like)
            network.check(yardstick[1])
    told = [*remarks(len(plan.ids), pairs[0][1].dim), *_of_reference(pairs[0], name, request.ref is None)]
    return OwnReference(
        tuple(told), data_name if own is None else own.name, "test" if own is None else own.split, pairs
    )


def _check_images(reference: Data, like: Data) -> None:
    kinds = [(list(one.images.shape[1:]), one.levels) for one in (reference, like)]
    if kinds[0] != kinds[1]:
        (shape, levels), (drawn, own) = kinds
        raise DataError(
            f"{reference.name}: images {shape} of {levels} levels, but samples are {drawn} of {own} levels",
            hint="give --ref images of the model's kind, or statistics of such",
        )


def _of_reference(pair: tuple[Yardstick, Extractor], name: str, is_default: bool) -> list[str]:
    """What has to be said of a reference that is images."""
    yardstick, network = pair
    if isinstance(yardstick, Statistics):
        return []
    n, told = len(yardstick[1]), []
    if is_default:
        told.append(
            f"samples are measured against the {n} images of {name} themselves; --ref names others, as those "
            "of training"
        )
    if n <= network.dim:
        told.append(f"the reference has {n} images with {network.dim} features: its covariance is singular")
    if n < UNBIASED_FROM:
        told.append(
            f"the reference has {n} images: distances from it are too large, and tell thresholds apart, "
            f"but are no FID as published ({UNBIASED_FROM} or more are usual)"
        )
    return told
