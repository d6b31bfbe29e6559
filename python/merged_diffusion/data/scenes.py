"""``scenes``: 3x32x32 views of 39 photographs under free licences, of texture and of objects alike.

test: 30 views of each of 12 photographs. train: 2,000 views of each of 23 others, and 300 of each of four
more, on which alone everything is chosen (`is_for_tuning`). So no photograph is in two parts. The label is
the photograph, its position in ``bundled/scenes.toml``, and so is the cluster.

The test views are in the package. The others are cut by `make_train` from the files of four Debian packages
and of scikit-learn, which are known by their hashes, and kept in the cache.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache as once
from importlib import resources
from importlib.util import find_spec
from io import BytesIO
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
from merged_diffusion.files.reading import sha256_of
from merged_diffusion.runs.directory import write_file

NAME: Final = "scenes"
LEVELS: Final = 256
N_VIEWS: Final = {"test": 30, "tune": 300, "train": 2000}  # of a photograph
INSTALLED: Final = (
    Path("/usr/share/backgrounds"),
    Path("/usr/share/wallpapers"),
)  # where the packages put them
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
    """The train split that `make_train` made."""
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


def make_train(
    folders: Sequence[Path] = (), *, cache: str | Path | None = None, observe: Observer | None = None
) -> Data:
    """Cut the train split from the photographs in ``folders``, and keep it in the cache.

    Looked through are the folders and what is below them, those in which Debian's packages put the
    photographs, and scikit-learn's. ``observe`` is told how many photographs of how many are cut.

    Raises
    ------
    DataNotFoundError
        Some photographs are in none of them; the message names them and their packages.
    """
    chosen = [photo for photo in photographs() if photo.part != "test"]
    data = cut(chosen, found(chosen, folders), "train", observe=observe)
    buffer = BytesIO()
    labels = np.asarray(data.labels)
    np.savez(buffer, images=data.images, labels=labels, clusters=labels, levels=np.int64(LEVELS))
    write_file(train_path(cache), buffer.getvalue())
    return data


def as_published(data: Data) -> bool:
    """Whether a train split has the very pixels that the bundled experts were trained on."""
    return bool(data.sha256 == known()["data"][NAME]["sha256_train"])


def found(chosen: Iterable[Photograph], folders: Sequence[Path] = ()) -> dict[str, Path]:
    """The file of each photograph, by SHA-256, whatever it is called."""
    wanted = {photo.sha256: photo for photo in chosen}
    names = {Path(photo.file).name for photo in wanted.values()}
    files: dict[str, Path] = {}
    for own, folder in [*((True, f) for f in folders), *((False, f) for f in (*INSTALLED, *_scikit_learn()))]:
        for path in sorted(folder.rglob("*.[jJ][pP]*[gG]")):
            # Of the system's folders only what is called like one of them is read.
            if path.is_file() and (own or path.name in names):
                files.setdefault(sha256_of(path), path)
    missing = [photo for sha256, photo in wanted.items() if sha256 not in files]
    if missing:
        lacking = dict.fromkeys(photo.package for photo in missing)
        raise DataNotFoundError(
            f"{len(missing)} of the {len(wanted)} photographs are not here: "
            + ", ".join(f"{Path(photo.file).parts[0]} ({photo.package})" for photo in missing[:6])
            + (" and others" if len(missing) > 6 else ""),
            hint=_remedy(list(lacking)),
            missing=[photo.file for photo in missing],
        )
    return {sha256: files[sha256] for sha256 in wanted}


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


def _scikit_learn() -> list[Path]:
    spec = find_spec("sklearn")
    places = [] if spec is None else spec.submodule_search_locations or []
    return [Path(place, "datasets", "images") for place in places]


def _remedy(packages: list[str]) -> str:
    debian = " ".join(package for package in packages if package != OTHER)
    ways = [f"pip install {OTHER}"] if OTHER in packages else []
    if debian:
        ways.append(
            f"apt install {debian}; or elsewhere apt-get download them, dpkg-deb -x each FILE.deb DIR, and "
            "give that DIR by --photographs"
        )
    return "; ".join(ways)
