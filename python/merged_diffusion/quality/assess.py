"""The quality of samples by the metrics of a data set: its card's primary one, and the others beside it.

The sets in the package have statistics of train there, with what an ideal model would score at the same
number of images; those distances are never called FID.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np
import numpy.typing as npt

from merged_diffusion.catalogue.entries import known
from merged_diffusion.catalogue.references import reference_path
from merged_diffusion.data.images import Data, make_data
from merged_diffusion.data.torch_sets import from_torch_set, is_torch_set
from merged_diffusion.errors import UsageError
from merged_diffusion.quality.assessment import Assessment
from merged_diffusion.quality.features import BUNDLED, SMALL, extractor
from merged_diffusion.quality.measuring import absences, compare
from merged_diffusion.quality.statistics import Observer, Statistics
from merged_diffusion.quality.statistics_files import read_statistics
from merged_diffusion.quality.whole_train import whole_train
from merged_diffusion.scores.figure import Figure
from merged_diffusion.scores.inputs import Images

__all__ = ["Figure", "assess", "compare", "describe", "yardstick_features", "yardsticks"]


def assess(
    images: Images,
    data_name: str,
    *,
    ids: npt.NDArray[np.int64] | None = None,
    device: str = "cpu",
    cache: str | Path | None = None,
    observe: Observer | None = None,
    copies: bool = False,
) -> Assessment:
    """``{"primary": figure, "others": [figure, ...], "reference": {...}, "absent": {...}}`` of samples.

    Samples, uint8 [N, C, H, W] or a data set of such, are compared with train of the known set ``data_name``.
    ``figure`` is a `Figure` as a dict, and ``found.primary`` is one; ``absent`` says by name of the metrics
    that there are not, why. ``ids`` group the images for the standard error (default: positions). ``copies``
    searches all of train for what the samples copy, whose features are computed once and kept in the cache;
    of sets that are small enough this is always done.

    Examples
    --------
    >>> import merged_diffusion as md
    >>> samples = md.draw(md.load_pair("digits"), range(32), sampler="heun")
    >>> found = md.assess(samples.images, "digits")
    >>> found.primary.name, found["primary"]["n"]
    ('frechet-classifier', 32)
    """
    if data_name not in known()["data"]:
        raise UsageError(f"no data set is called {data_name!r}", hint=f"known: {', '.join(known()['data'])}")
    card = known()["data"][data_name]
    if is_torch_set(images):
        data = from_torch_set(images, card["levels"])
    elif isinstance(images, Data):
        data = images
    else:
        data = make_data("samples", "test", np.asarray(images), card["levels"], ids=ids)
    figures: list[Figure] = []
    absent: dict[str, str] = {}
    reference = None
    for statistics, features in yardsticks(data_name, cache):
        found = extractor(features, device=device, cache=cache, like=data)
        # The first are the primary ones; the others are asked for nothing that they do not hold.
        is_first = reference is None
        train = whole_train(data_name, found, cache, observe) if copies and is_first else None
        figures += compare(data, statistics, found, observe, train=train)
        if is_first:
            absent, reference = absences(len(data), statistics, found, train), describe(statistics)
    return Assessment.of(figures, card["primary_metric"], reference or {}, absent)


def yardstick_features(data_name: str) -> tuple[str, ...]:
    """The features of which there are statistics of a known set, or a place for them."""
    if data_name not in SMALL:
        return ("inception",)
    return tuple(name for name in (data_name, "pixels") if _bundled(data_name, name).exists())


def yardsticks(data_name: str, cache: str | Path | None = None) -> Iterator[tuple[Statistics, str]]:
    """(statistics of train, name of the features) of a known set, the primary ones first.

    Raises
    ------
    CheckpointError, DataNotFoundError
        They are not in the cache.
    """
    for features in yardstick_features(data_name):
        small = data_name in SMALL
        yield (
            read_statistics(_bundled(data_name, features) if small else reference_path(data_name, cache)),
            features,
        )


def _bundled(data_name: str, features: str) -> Path:
    """Where statistics of a set in the package lie; of the pixels of scenes, 38 MB, there are none."""
    return BUNDLED / (f"{data_name}-pixels.npz" if features == "pixels" else f"{data_name}.npz")


def describe(statistics: Statistics) -> dict[str, object]:
    """What a reference is, as JSON values."""
    about = None if statistics.about is None else asdict(statistics.about)
    n_stored = None if statistics.reference is None else len(statistics.reference)
    n_balls = None if statistics.ball_features is None else len(statistics.ball_features)
    return {
        "file": statistics.file,
        "sha256": statistics.sha256,
        "features": statistics.law.dim,
        "about": about,
        "n_reference_features": n_stored,
        "n_neighbours": n_balls,
    }
