"""The user's own images: a folder or zip of PNG files, an ``.npz``, an ``.npy``; nothing is unpickled."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np

from merged_diffusion.archives.zips import SafeZip, open_zip
from merged_diffusion.data.arrays import NPZ, Array, read_columns, read_npy
from merged_diffusion.data.images import Data, make_data
from merged_diffusion.data.pictures import IMAGES, Labels, read_folder, read_zip
from merged_diffusion.errors import DataError, UsageError

COLUMNS: Final = ("images", "ids", "labels", "clusters", "levels")
DEFAULT_LEVELS: Final = 256


def load_folder(folder: Path, split: str, levels: int | None) -> Data:
    """The PNG files of a folder, with EDM's labels where ``dataset.json`` gives them."""
    images, labels = read_folder(folder, levels)
    return _made(folder, split, images, levels, labels, "folder of PNG")


def load_npy(path: Path, split: str, levels: int | None) -> Data:
    """One array of images."""
    return _made(path, split, read_npy(path), levels, None, "npy")


def load_zip(path: Path, split: str, levels: int | None) -> Data:
    """A zip of PNG files, or numpy's zip of arrays."""
    with open_zip(path, NPZ if path.suffix == ".npz" else IMAGES) as archive:
        if any(name.endswith(".npy") for name in archive.names) or path.suffix == ".npz":
            return _npz(archive, path, split, levels)
        images, labels = read_zip(archive, levels, str(path))
    return _made(path, split, images, levels, labels, "zip of PNG")


def _made(path: Path, split: str, images: Array, levels: int | None, labels: Labels, kind: str) -> Data:
    return make_data(
        path.name,
        split,
        images,
        DEFAULT_LEVELS if levels is None else levels,
        labels=labels,
        provenance={"file": str(path), "format": kind},
    )


def _npz(archive: SafeZip, path: Path, split: str, levels: int | None) -> Data:
    archive.check()
    columns = read_columns(archive, COLUMNS, str(path))
    if "images" not in columns:
        names = ", ".join(sorted(name.removesuffix(".npy")[:40] for name in archive.names)) or "nothing"
        raise DataError(
            f"{path} holds {names}, but no array named images",
            hint="numpy.savez(file, images=images, levels=256)",
            file=str(path),
        )
    levels = _levels(columns.pop("levels", None), path, levels)
    for key in ("ids", "labels", "clusters"):
        column = columns.get(key)
        if column is not None and column.dtype.kind not in "iu":
            raise DataError(f"{path}: {key} is {column.dtype}, expected whole numbers", key=key)
    ids, labels, clusters = (
        None if key not in columns else columns[key].astype(np.int64) for key in ("ids", "labels", "clusters")
    )
    return make_data(
        path.name,
        split,
        columns["images"],
        levels,
        ids=ids,
        labels=labels,
        clusters=clusters,
        provenance={"file": str(path), "format": "npz"},
    )


def _levels(stated: Array | None, path: Path, levels: int | None) -> int:
    """The levels that the file states, else those given, else 256."""
    if stated is None:
        return DEFAULT_LEVELS if levels is None else levels
    if stated.size != 1 or stated.dtype.kind not in "iu":
        raise DataError(f"{path}: levels is {stated.dtype} {list(stated.shape)}, expected one whole number")
    if levels is not None and levels != stated.item():
        raise UsageError(f"levels = {levels}, but {path} states {stated.item()}", hint="leave --levels out")
    return int(stated.item())
