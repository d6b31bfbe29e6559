"""The photographs of scenes: where they are, and the train split that is cut from them into the cache."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from typing import Final

import numpy as np

from merged_diffusion.data.images import Data
from merged_diffusion.data.scenes import LEVELS, OTHER, Observer, Photograph, cut, photographs, train_path
from merged_diffusion.errors import DataNotFoundError
from merged_diffusion.files.reading import sha256_of
from merged_diffusion.runs.directory import write_file

# Where the packages put them.
INSTALLED: Final = (Path("/usr/share/backgrounds"), Path("/usr/share/wallpapers"))


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
