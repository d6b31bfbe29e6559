"""The user's own images: an ``.npz``, an ``.npy``, or a folder of PNG files; nothing is unpickled."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import IO, Final

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from merged_diffusion.data.images import Data, make_data
from merged_diffusion.errors import DataError, DataIntegrityError, UnsafeFileError, UsageError

MAX_MEMBERS: Final = 16
MAX_BYTES: Final = 1 << 33  # of one array: 170,000 images of 3 x 128 x 128
COLUMNS: Final = ("images", "ids", "labels", "clusters", "levels")
PNG_CHANNELS: Final = {"L": 1, "RGB": 3}
DEFAULT_LEVELS: Final = 256


def load_path(path: Path, split: str, levels: int | None) -> Data:
    """The set in ``path``; ``levels`` where the file does not state them (else they must agree)."""
    if path.is_dir():
        return make_data(path.name, split, _read_pngs(path), levels or DEFAULT_LEVELS)
    if path.suffix == ".npy":
        with path.open("rb") as stream:
            images = _read_array(stream, str(path), path.stat().st_size)
        return make_data(path.name, split, images, levels or DEFAULT_LEVELS)
    if path.suffix == ".npz":
        return _read_npz(path, split, levels)
    raise UsageError(
        f"{path}: data are a folder of PNG files, an .npz or an .npy, not a {path.suffix or 'nameless'} file",
        hint="save images uint8 [N, C, H, W] with numpy.savez(file, images=images, levels=256)",
    )


def _read_npz(path: Path, split: str, levels: int | None) -> Data:
    try:
        with zipfile.ZipFile(path) as archive:
            columns = _members(archive, str(path))
    except (zipfile.BadZipFile, EOFError) as error:
        raise DataIntegrityError(f"{path} is not a sound npz file ({error})", file=str(path)) from error
    if "images" not in columns:
        raise DataError(
            f"{path} holds {', '.join(sorted(columns)) or 'nothing'}, but no array named images",
            hint="numpy.savez(file, images=images, levels=256)",
            file=str(path),
        )
    stated = columns.pop("levels", None)
    if stated is not None:
        if stated.size != 1 or stated.dtype.kind not in "iu":
            raise DataError(
                f"{path}: levels is {stated.dtype} {list(stated.shape)}, expected one whole number"
            )
        if levels is not None and levels != stated.item():
            raise UsageError(
                f"levels = {levels}, but {path} states {stated.item()}", hint="leave --levels out"
            )
        levels = stated.item()
    for key in ("ids", "labels", "clusters"):
        column = columns.get(key)
        if column is not None and column.dtype.kind not in "iu":
            raise DataError(f"{path}: {key} is {column.dtype}, expected whole numbers", key=key)
    ids, labels, clusters = (
        None if key not in columns else columns[key].astype(np.int64) for key in ("ids", "labels", "clusters")
    )
    images = columns["images"]
    return make_data(
        path.name, split, images, levels or DEFAULT_LEVELS, ids=ids, labels=labels, clusters=clusters
    )


def _members(archive: zipfile.ZipFile, where: str) -> dict[str, npt.NDArray[np.generic]]:
    entries = archive.infolist()
    if len(entries) > MAX_MEMBERS:
        raise UnsafeFileError(f"{where}: {len(entries)} members, the limit is {MAX_MEMBERS}", file=where)
    columns = {}
    for entry in entries:
        name = entry.filename.removesuffix(".npy")
        if name in COLUMNS:
            with archive.open(entry) as stream:
                columns[name] = _read_array(stream, f"{where}: {name}", entry.file_size)
    return columns


def _read_array(stream: IO[bytes], where: str, size: int) -> npt.NDArray[np.generic]:
    """An array of ``size`` bytes, header included; object arrays are refused before reading."""
    if size > MAX_BYTES:
        raise UnsafeFileError(f"{where}: {size} bytes exceed the limit of {MAX_BYTES}", file=where)
    try:
        version = np.lib.format.read_magic(stream)
        header = (
            np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        )
        shape, fortran, dtype = header(stream)
    except ValueError as error:
        raise DataIntegrityError(f"{where}: not an npy array ({error})", file=where) from error
    if dtype.hasobject:
        raise UnsafeFileError(
            f"{where}: an object array would have to be unpickled, which runs code",
            hint="save a plain uint8 array: numpy.stack(list_of_images)",
            file=where,
        )
    count = int(np.prod(shape, dtype=np.int64))
    content = stream.read(count * dtype.itemsize) if 0 <= count * dtype.itemsize <= size else b""
    if len(content) != count * dtype.itemsize:
        raise DataIntegrityError(
            f"{where}: truncated, {list(shape)} of {dtype} needs {count * dtype.itemsize} bytes", file=where
        )
    flat = np.frombuffer(content, dtype=dtype)
    return np.ascontiguousarray(flat.reshape(shape, order="F" if fortran else "C"))


def _read_pngs(folder: Path) -> npt.NDArray[np.uint8]:
    """All ``*.png`` of a folder in the order of their names, [N, C, H, W]."""
    files = sorted(p for p in folder.iterdir() if p.suffix.lower() == ".png")
    if not files:
        raise UsageError(f"{folder}: no PNG files", hint="name a folder of PNG files, an .npz or an .npy")
    images = [_read_png(file) for file in files]
    for file, image in zip(files, images, strict=True):
        if image.shape != images[0].shape:
            raise DataError(
                f"{file} has shape {list(image.shape)}, but {files[0].name} has {list(images[0].shape)}",
                hint="images of one set have one shape [C, H, W]; they are never converted",
                file=str(file), expected=list(images[0].shape), found=list(image.shape),
            )  # fmt: skip
    return np.stack(images)


def _read_png(file: Path) -> npt.NDArray[np.uint8]:
    try:
        with Image.open(file, formats=["PNG"]) as image:
            if image.mode not in PNG_CHANNELS:
                raise DataError(
                    f"{file}: a PNG of mode {image.mode}, expected L (grey) or RGB with 8 bits",
                    hint="convert it first: alpha, palettes and 16 bits are never dropped silently",
                    file=str(file), expected="L or RGB", found=image.mode,
                )  # fmt: skip
            pixels = np.asarray(image, dtype=np.uint8).reshape(
                image.height, image.width, PNG_CHANNELS[image.mode]
            )
    except Image.DecompressionBombError as error:
        raise UnsafeFileError(f"{file}: {error}", file=str(file)) from error
    except (UnidentifiedImageError, OSError, SyntaxError) as error:
        raise DataIntegrityError(f"{file} is not a sound PNG file ({error})", file=str(file)) from error
    return pixels.transpose(2, 0, 1)
