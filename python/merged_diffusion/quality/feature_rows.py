"""Features of images as rows that anybody may measure, and how a worker elsewhere has the same images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from merged_diffusion.data import load_data
from merged_diffusion.data.images import Data, ids_sha256
from merged_diffusion.errors import RunMismatchError
from merged_diffusion.quality.feature_network import Extractor
from merged_diffusion.quality.features import extractor
from merged_diffusion.scores.by_image import Keep, Positions
from merged_diffusion.scores.named_objects import ByName


@dataclass(frozen=True, eq=False)
class FeatureRows:
    """Measures rows [D] of features; it is a `Measure`, and travels to whoever measures."""

    extractor: Extractor
    data: Data

    def __call__(self, positions: Positions, keep: Keep) -> None:
        """Hand on the features of each call."""
        for first in range(0, len(positions), self.extractor.rows):
            part = positions[first : first + self.extractor.rows]
            keep(part, self.extractor(self.data.images[part]))


@dataclass(frozen=True)
class ImageSource:
    """A set in the words of `load_data`, and which of its images are chosen."""

    source: str
    cache: str | Path | None
    split: str = "test"
    levels: int | None = None
    variant: str | None = None
    limit: int | None = None
    ids: tuple[int, int] | None = None

    def load(self) -> Data:
        """The images, where this is called."""
        found = load_data(self.source, self.split, self.levels, cache=self.cache, variant=self.variant)
        return found.select(self.limit, self.ids)


@dataclass(frozen=True)
class FeatureRecipe:
    """Feature networks and sets by name; ``expected`` is what tells each from others.

    Images that have the form of the first set are what the networks are like.
    """

    sources: Mapping[str, ImageSource]
    networks: tuple[str, ...]
    rows: int | None
    cache: Path | None
    device: str
    threads: int
    expected: Mapping[str, str] = field(repr=False)
    deterministic: bool = False

    @classmethod
    def of(
        cls,
        sources: Mapping[str, ImageSource],
        sets: Mapping[str, Data],
        extractors: Mapping[str, Extractor],
        *,
        rows: int | None,
        cache: Path | None,
        device: str,
        threads: int,
    ) -> tuple[Self, ByName]:
        """That of sets that are loaded and networks by name, and the names in this process."""
        own = cls(sources, tuple(extractors), rows, cache, device, threads, _told(sets, extractors))
        return own, ByName(extractors, sets)

    def made(self) -> Mapping[str, ByName]:
        """The names, where this is called; it has no rows."""
        sets = {name: source.load() for name, source in self.sources.items()}
        like = next(iter(sets.values()))
        extractors = {
            name: extractor(name, device=self.device, cache=self.cache, rows=self.rows, like=like)
            for name in self.networks
        }
        found = _told(sets, extractors)
        other = {name: (found[name], own) for name, own in self.expected.items() if found[name] != own}
        if other:
            raise RunMismatchError(
                f"a worker finds other {' and '.join(other)}",
                hint="have the same files under the same names on all nodes",
                differences={name: {"recorded": own, "asked": one} for name, (one, own) in other.items()},
            )
        return {"": ByName(extractors, sets)}


def _told(sets: Mapping[str, Data], extractors: Mapping[str, Extractor]) -> dict[str, str]:
    images = {f"images ({name})": f"{data.sha256} {ids_sha256(data)}" for name, data in sets.items()}
    return images | {f"features ({name})": one.sha256 for name, one in extractors.items()}
