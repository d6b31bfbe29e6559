"""The quality of samples by the metrics of a data set: its card's primary one, and the others beside it.

The sets in the package have statistics of train there, with what an ideal model would score at the same
number of images; those distances are never called FID.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from merged_diffusion.catalogue.entries import known
from merged_diffusion.catalogue.references import reference_path
from merged_diffusion.data.images import Data, make_data
from merged_diffusion.errors import UsageError
from merged_diffusion.quality.feature_network import Extractor
from merged_diffusion.quality.features import BUNDLED, SMALL, extractor
from merged_diffusion.quality.frechet import frechet_distance
from merged_diffusion.quality.kid import Kernel
from merged_diffusion.quality.moments import Moments
from merged_diffusion.quality.statistics import Observer, Statistics, batches
from merged_diffusion.quality.statistics_files import read_statistics

# What a metric is called by its features: frechet-WORD, kid-WORD.
WORDS: Final = {
    "digits": "classifier",
    "photos": "random-convolution",
    "scenes": "random-convolution",
    "inception": "inception",
    "pixels": "pixels",
}


@dataclass(frozen=True)
class Figure:
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
        return asdict(self) | {"replicates": list(self.replicates)}


def assess(
    images: npt.NDArray[np.uint8] | Data,
    data_name: str,
    *,
    ids: npt.NDArray[np.int64] | None = None,
    device: str = "cpu",
    cache: str | Path | None = None,
    observe: Observer | None = None,
) -> dict[str, object]:
    """``{"primary": figure, "others": [figure, ...], "reference": {...}}`` of samples [N, C, H, W].

    They are compared with train of the known set ``data_name``. ``figure`` is a `Figure` as a dict. ``ids``
    group the images for the standard error (default: positions).

    Examples
    --------
    >>> import merged_diffusion as md
    >>> samples = md.draw(md.load_pair("digits"), range(32), sampler="heun")
    >>> md.assess(samples.images, "digits")["primary"]["name"]
    'frechet-classifier'
    """
    if data_name not in known()["data"]:
        raise UsageError(f"no data set is called {data_name!r}", hint=f"known: {', '.join(known()['data'])}")
    card = known()["data"][data_name]
    data = images
    if not isinstance(data, Data):
        data = make_data("samples", "test", data, card["levels"], ids=ids)
    figures, reference = [], None
    for statistics, features in yardsticks(data_name, cache):
        found = extractor(features, device=device, cache=cache, like=data)
        figures += compare(data, statistics, found, observe)
        reference = reference or describe(statistics)
    primary = [figure for figure in figures if figure.name == card["primary_metric"]]
    others = [figure.as_dict() for figure in figures if figure.name != card["primary_metric"]]
    return {"primary": primary[0].as_dict(), "others": others, "reference": reference}


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


def compare(
    data: Data, statistics: Statistics, features: Extractor, observe: Observer | None = None
) -> list[Figure]:
    """The Frechet distance of ``data`` from the statistics, and the kernel distance where they allow it."""
    features.check(data)
    statistics.check(data, features)
    moments = Moments(features.dim)
    kernel = None if statistics.reference is None else Kernel(statistics.reference)
    for positions, found in batches(data, features, observe):
        moments.add(found, data.ids[positions])
        if kernel is not None:
            kernel.add(found, data.ids[positions])
    word, n = WORDS[features.name], len(data)
    frechet = frechet_distance(moments, statistics.law)
    figures = [
        Figure(
            f"frechet-{word}", frechet.value, frechet.se, n, frechet.biased, statistics.floor_at(n),
            frechet.replicates,
        )
    ]  # fmt: skip
    if kernel is not None:
        result = kernel.result()
        figures.append(Figure(f"kid-{word}", result.value, result.se, n))
    return figures


def describe(statistics: Statistics) -> dict[str, object]:
    """What a reference is, as JSON values."""
    about = None if statistics.about is None else asdict(statistics.about)
    n_stored = None if statistics.reference is None else len(statistics.reference)
    return {
        "file": statistics.file,
        "sha256": statistics.sha256,
        "features": statistics.law.dim,
        "about": about,
        "n_reference_features": n_stored,
    }
