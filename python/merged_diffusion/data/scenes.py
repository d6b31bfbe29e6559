"""``scenes``: 3x32x32 views of 39 photographs under free licences, of texture and of objects alike.

test: 30 views of each of 12 photographs. train: 2,000 views of each of 23 others, and 300 of each of four
more, on which alone everything is chosen (`is_for_tuning`). So no photograph is in two parts. The label is
the photograph, its position in ``bundled/scenes.toml``, and so is the cluster.

The test views are in the package. The others are cut by ``data make scenes`` (`fetch.photographs`) from the
files of four Debian packages and of scikit-learn, which are known by their hashes, and kept in the cache.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache as once
from importlib import resources
from pathlib import Path
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

from merged_diffusion.catalogue.cache import cached
from merged_diffusion.catalogue.entries import known
from merged_diffusion.data.folders import load_zip
from merged_diffusion.data.images import Data, make_data
from merged_diffusion.data.views import views_anywhere, views_apart
from merged_diffusion.errors import DataNotFoundError

NAME: Final = "scenes"
LEVELS: Final = 256
N_VIEWS: Final = {"test": 30, "tune": 300, "train": 2000}  # of a photograph
OTHER: Final = "scikit-learn"  # the one package that is not Debian's

Observer = Callable[[int, int], None]


@dataclass(frozen=True)
class Photograph:
    """A photograph, by ``label``; ``file`` is its place in the package."""

    label: int
    name: str
    part: Literal["test", "tune", "train"]
    author: str
    licence: str
    package: str
    file: str
    sha256: str


@once
def photographs() -> tuple[Photograph, ...]:
    """All of them, in the order of their labels."""
    text = resources.files("merged_diffusion.data").joinpath("bundled", "scenes.toml").read_text("utf-8")
    return tuple(Photograph(label, **row) for label, row in enumerate(tomllib.loads(text)["photograph"]))


def load_train(cache: str | Path | None = None) -> Data:
    """The train split that ``data make scenes`` made."""
    path = train_path(cache)
    if not path.is_file():
        raise DataNotFoundError(
            f"the train split of scenes is cut from photographs, and {path} is not here yet",
            hint=f"merged-diffusion data make scenes (Debian: apt install {' '.join(debian_packages())})",
            file=str(path),
        )
    data = load_zip(path, "train", LEVELS)
    return replace(data, name=NAME)


def train_path(cache: str | Path | None = None) -> Path:
    """Where the train split lies."""
    return cached("data", "scenes-train.npz", folder=cache)


def is_for_tuning(train: Data) -> npt.NDArray[np.bool_]:
    """Which images [N] of train are views of the photographs on which everything is chosen."""
    return np.isin(np.asarray(train.labels), [photo.label for photo in photographs() if photo.part == "tune"])


def as_published(data: Data) -> bool:
    """Whether a train split has the very pixels that the bundled experts were trained on."""
    return bool(data.sha256 == known()["data"][NAME]["sha256_train"])


def cut(
    chosen: Sequence[Photograph],
    files: dict[str, Path],
    split: Literal["test", "train"],
    *,
    observe: Observer | None = None,
) -> Data:
    """The views of ``chosen`` as a split; ``files`` by SHA-256."""
    images = []
    for done, photo in enumerate(chosen, start=1):
        make = views_apart if photo.part == "test" else views_anywhere
        images.append(make(files[photo.sha256], N_VIEWS[photo.part], seed=photo.label))
        if observe is not None:
            observe(done, len(chosen))
    labels = np.repeat([photo.label for photo in chosen], [len(part) for part in images]).astype(np.int64)
    return make_data(NAME, split, np.concatenate(images), LEVELS, labels=labels, clusters=labels)


def debian_packages() -> list[str]:
    """The names of the packages with photographs of train."""
    named = dict.fromkeys(photo.package for photo in photographs() if photo.part != "test")
    return [package for package in named if package != OTHER]
