"""The user's own images: a folder or zip of PNG files, an ``.npz``, an ``.npy``; nothing is unpickled."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Final

import numpy as np

from merged_diffusion.data.images import Data, make_data
from merged_diffusion.errors import DataError, UsageError
from merged_diffusion.files.arrays import NPZ, Array, read_columns, read_npy
from merged_diffusion.files.pictures import IMAGES, Pictures, read_folder, read_zip
from merged_diffusion.files.zips import SafeZip, open_zip

log = logging.getLogger("merged_diffusion")

COLUMNS: Final = ("images", "ids", "labels", "clusters", "levels")
# What numpy.savez(file, samples, labels) calls its arrays: OpenAI's samples, uint8 [N, H, W, C].
UNNAMED: Final = ("arr_0", "arr_1")
CHANNELS: Final = (1, 3)
DEFAULT_LEVELS: Final = 256


def load_folder(folder: Path, split: str, levels: int | None) -> Data:
    """The PNG files of a folder, with EDM's labels where ``dataset.json`` gives them."""
    return _of_pictures(folder, split, read_folder(folder, levels), levels, "folder of PNG")


def load_npy(path: Path, split: str, levels: int | None) -> Data:
    """One array of images."""
    return make_data(
        path.name, split, read_npy(path), _given(levels), provenance={"file": str(path), "format": "npy"}
    )


def load_zip(path: Path, split: str, levels: int | None) -> Data:
    """A zip of PNG files, or numpy's zip of arrays."""
    with open_zip(path, NPZ if path.suffix == ".npz" else IMAGES) as archive:
        if any(name.endswith(".npy") for name in archive.names) or path.suffix == ".npz":
            return _npz(archive, path, split, levels)
        if any(name.count("/") == 1 and name.endswith("/data.pkl") for name in archive.names):
            raise DataError(
                f"{path}: a file of torch.save, which is read as a checkpoint only",
                hint="numpy.savez(file, images=tensor.numpy()), or mu and sigma for statistics",
                file=str(path),
            )
        pictures = read_zip(archive, levels, str(path))
    return _of_pictures(path, split, pictures, levels, "zip of PNG")


def _of_pictures(path: Path, split: str, pictures: Pictures, levels: int | None, kind: str) -> Data:
    return make_data(
        path.name,
        split,
        pictures.images,
        _given(levels),
        labels=pictures.labels,
        provenance={"file": str(path), "format": kind},
        files=pictures.files,
    )


def _given(levels: int | None) -> int:
    return DEFAULT_LEVELS if levels is None else levels


def _npz(archive: SafeZip, path: Path, split: str, levels: int | None) -> Data:
    archive.check()
    columns = read_columns(archive, COLUMNS, str(path))
    kind = "npz"
    if "images" not in columns:
        samples = read_columns(archive, UNNAMED, str(path))
        if "arr_0" in samples:
            columns["images"], kind = _samples(samples["arr_0"], str(path))
            columns |= {"labels": samples["arr_1"]} if "arr_1" in samples else {}
    if "images" not in columns:
        arrays = sorted(name.removesuffix(".npy")[:40] for name in archive.names)
        taken = f"numpy.load({path.name!r})[{arrays[0]!r}]" if len(arrays) == 1 else "images"
        raise DataError(
            f"{path} holds {', '.join(arrays) or 'nothing'}, but no array named images",
            hint=f"numpy.savez(file, images={taken}, levels=256), uint8 [N, C, H, W]",
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
        provenance={"file": str(path), "format": kind},
    )


def _samples(images: Array, where: str) -> tuple[Array, str]:
    """``arr_0`` as [N, C, H, W], and in words what it was, where its shape says it without doubt."""
    sides = images.shape[1:]
    if images.dtype != np.uint8 or len(sides) != 3:
        raise DataError(
            f"{where}: arr_0 is {images.dtype} {list(images.shape)[:8]}, where uint8 [N, H, W, C] is read",
            hint="features and other arrays are no images",
            file=where, key="arr_0",
        )  # fmt: skip
    is_last, is_first = sides[2] in CHANNELS, sides[0] in CHANNELS
    if is_last == is_first:
        why = "may be [N, H, W, C] or [N, C, H, W]" if is_last else "has no axis of 1 or 3 channels"
        raise DataError(
            f"{where}: arr_0 of shape {list(images.shape)} {why}",
            hint="say which: numpy.savez(file, images=array), uint8 [N, C, H, W]",
            file=where, key="arr_0", found=list(images.shape),
        )  # fmt: skip
    shape = "[N, H, W, C]" if is_last else "[N, C, H, W]"
    log.warning("%s: its arr_0, %s of uint8, is taken for the images", where, shape)
    pixels = np.ascontiguousarray(images.transpose(0, 3, 1, 2)) if is_last else images
    return pixels, f"npz, arr_0 {shape}"


def _levels(stated: Array | None, path: Path, levels: int | None) -> int:
    """The levels that the file states, else those given, else 256."""
    if stated is None:
        return _given(levels)
    if stated.size != 1 or stated.dtype.kind not in "iu":
        raise DataError(f"{path}: levels is {stated.dtype} {list(stated.shape)}, expected one whole number")
    if levels is not None and levels != stated.item():
        raise UsageError(f"levels = {levels}, but {path} states {stated.item()}", hint="leave --levels out")
    return int(stated.item())
