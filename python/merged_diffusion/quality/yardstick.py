"""What images are compared with: statistics of a known set or of a file, or other images."""

from __future__ import annotations

from pathlib import Path

from merged_diffusion.catalogue.entries import known
from merged_diffusion.data.images import Data
from merged_diffusion.errors import UsageError
from merged_diffusion.quality.assess import yardstick_features, yardsticks
from merged_diffusion.quality.feature_network import Extractor
from merged_diffusion.quality.feature_rows import ImageSource
from merged_diffusion.quality.features import by_kind, extractor
from merged_diffusion.quality.statistics import Statistics
from merged_diffusion.quality.statistics_files import is_statistics, read_statistics

Yardstick = Statistics | tuple[ImageSource, Data]


def yardsticks_of(
    reference: str,
    features: str | None,
    *,
    like: Data,
    device: str,
    cache: str | Path | None = None,
    rows: int | None = None,
) -> list[tuple[Yardstick, Extractor]]:
    """What images ``like`` the given ones are compared with in the words of ``--ref`` and ``--features``.

    ``reference`` is the name of a set, a file of statistics, or other images; ``features`` None: those of the
    reference, else by the kind of images.
    """

    def network(name: str) -> Extractor:
        return extractor(name, device=device, cache=cache, rows=rows, like=like)

    if reference in known()["data"] and features in (None, *yardstick_features(reference)):
        named = [pair for pair in yardsticks(reference, cache) if features in (None, pair[1])]
        return [(found, network(name)) for found, name in named]
    if is_statistics(Path(reference), by_any_name=True):
        found = read_statistics(Path(reference))
        return [(found, network(features or found.features or by_kind(like)))]
    other = _images(reference, cache, like.levels)
    return [(other, network(features or by_kind(like)))]


def _images(reference: str, cache: str | Path | None, levels: int) -> tuple[ImageSource, Data]:
    """Other images: a set by its name stands for what models are trained on.

    Those of a file have as many levels, unless it states others: what it states is refused later.
    """
    if reference in known()["data"]:
        source = ImageSource(reference, cache, "train")
        return source, source.load()
    try:
        source = ImageSource(reference, cache, levels=levels)
        return source, source.load()
    except UsageError:
        source = ImageSource(reference, cache)
        return source, source.load()
