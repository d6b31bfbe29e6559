"""The features of all of a known set's train split, in which copies are looked for: made once, then cached.

``CACHE/features/SET-FEATURES.npz`` is a file of statistics like any other, with every image's features in
half precision (41 MB of photos), and how near train's own images lie.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np

from merged_diffusion.catalogue.cache import cached
from merged_diffusion.catalogue.entries import known
from merged_diffusion.data.images import Data
from merged_diffusion.errors import DataError, UsageError
from merged_diffusion.quality.calibration import Calibration
from merged_diffusion.quality.copies import own_nearness
from merged_diffusion.quality.feature_network import Extractor
from merged_diffusion.quality.feature_rows import ImageSource
from merged_diffusion.quality.manifolds import rounded
from merged_diffusion.quality.statistics import Known, Observer, Statistics, collect
from merged_diffusion.quality.statistics_files import read_statistics, write_statistics

MOST_BYTES: Final = 1 << 30  # of features in float32: 131,072 images with Inception's


def place_of(data_name: str, features: str, cache: str | Path | None = None) -> Path:
    """Where they are, or will be."""
    return cached("features", f"{data_name}-{features}.npz", folder=cache)


def whole_train(
    data_name: str,
    extractor: Extractor,
    cache: str | Path | None = None,
    observe: Observer | None = None,
    known_by: Callable[[Data], Known] | None = None,
) -> Statistics:
    """Statistics of all of train with all features, from the cache, else from the images, and then kept.

    ``known_by``: who has the features of these images, where it is not this call.

    Raises
    ------
    DataNotFoundError
        They are in neither.
    DataError, UsageError
        What is in the cache is damaged; there are too many images.
    StorageError
        The cache cannot be written.
    """
    path = place_of(data_name, extractor.name, cache)
    if path.exists():
        found = read_statistics(path)
        if _is_current(found, data_name, extractor):
            return found
    train = train_split(data_name, cache)
    if len(train) * extractor.dim * 4 > MOST_BYTES:
        raise UsageError(
            f"{extractor.dim} features of all {len(train)} images of {data_name}/train take more than "
            f"{MOST_BYTES / 1e9:.1f} GB",
            hint="leave --copies out, or name images of train that are fewer as --ref",
        )
    there = None
    if known_by is not None:
        extractor.check(train)
        there = known_by(train)
    made = collect(train, extractor, len(train), groups=False, observe=observe, known=there)
    if made.reference is None:
        raise DataError(f"{data_name}/train holds no images")
    features = rounded(made.reference, np.dtype(np.float16))
    made = replace(made, reference=features, calibration=Calibration(nearness=own_nearness(features)))
    write_statistics(path, made)
    return replace(made, file=str(path))


def train_split(data_name: str, cache: str | Path | None = None) -> Data:
    """The images that models of a known set are trained on."""
    return train_source(data_name, cache).load()


def train_source(data_name: str, cache: str | Path | None = None) -> ImageSource:
    """Where they are."""
    name, _, variant = data_name.partition("-")
    return ImageSource(name, cache, "train", variant=variant or None)


def _is_current(found: Statistics, data_name: str, extractor: Extractor) -> bool:
    """Whether a file is of this set's train split as it is published, and of these features."""
    about, card = found.about, known()["data"][data_name]
    return (
        about is not None
        and found.is_searchable
        and (about.data, about.split, about.features_sha256) == (data_name, "train", extractor.sha256)
        and card.get("sha256_train", about.data_sha256) == about.data_sha256
    )
