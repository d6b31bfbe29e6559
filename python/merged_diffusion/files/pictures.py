"""Many PNG files of one shape as one array, whether they lie in a folder, a zip or TFRecord shards.

Two passes: the first walks every file's chunks and adds up what decoding will take, the second decodes. So no
image is decoded before all of them have passed.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from merged_diffusion.errors import DataError, DataIntegrityError, UnsafeFileError, UsageError
from merged_diffusion.files.arrays import MAX_BYTES
from merged_diffusion.files.limits import Limits
from merged_diffusion.files.pngs import (
    MAX_FILE,
    Header,
    Pixels,
    check_png,
    decode_png,
    decode_rows,
    filtered_rows,
)
from merged_diffusion.files.reading import read_bytes
from merged_diffusion.files.zips import SafeZip, open_zip

MAX_IMAGES: Final = 1_500_000
IMAGES: Final = Limits(members=MAX_IMAGES, total=MAX_BYTES)
LABELS_FILE: Final = "dataset.json"  # EDM's: {"labels": [["00000/img00000000.png", 6], ...]}
BYTES_PER_LABEL: Final = 256
OTHER_IMAGES: Final = frozenset((".jpg", ".jpeg", ".gif", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm"))
PIXELS_AT_ONCE: Final = 1 << 18
SPLIT_FOLDERS: Final = frozenset(("train", "test", "val", "valid", "validation"))

Labels = npt.NDArray[np.int64] | None
Files = Callable[[], Iterator[tuple[str, bytes]]]


class Pictures(NamedTuple):
    """Images [N, C, H, W] in the order of their names within folder or zip, and EDM's labels where given."""

    images: Pixels
    labels: Labels
    files: tuple[str, ...]


def read_folder(folder: Path, levels: int | None) -> Pictures:
    """All PNG files of a folder and its subfolders."""
    within = []
    for base, folders, files in os.walk(folder):
        folders.sort()
        within += [(Path(base) / name).relative_to(folder).as_posix() for name in files]
        IMAGES.check_members(len(within), str(folder))
    names = picture_names(within, str(folder))
    splits = sorted({name.split("/")[0] for name in names if "/" in name} & SPLIT_FOLDERS)
    if splits:
        raise UsageError(
            f"{folder}: holds the splits {', '.join(splits)}", hint=f"name one of them: {folder / splits[0]}"
        )
    pixels = read_pictures(lambda: ((name, _content(folder / name)) for name in names), levels, str(folder))
    table = folder / LABELS_FILE
    size = table.stat().st_size if table.is_file() else None
    return Pictures(pixels, _labels(names, size, lambda: read_bytes(table), str(folder)), tuple(names))


def read_zip(archive: SafeZip, levels: int | None, where: str) -> Pictures:
    """All PNG members of a zip."""
    names = picture_names(archive.names, where)
    # Each picture is read whole, and so compared with its checksum, before the first is decoded.
    archive.check(set(archive.names).difference(names))
    pixels = read_pictures(lambda: ((name, archive.read(name)) for name in names), levels, where)
    size = archive.size(LABELS_FILE) if LABELS_FILE in archive.names else None
    return Pictures(pixels, _labels(names, size, lambda: archive.read(LABELS_FILE), where), tuple(names))


def read_zip_file(path: Path, levels: int | None) -> Pictures:
    """`read_zip` of a file."""
    with open_zip(path, IMAGES) as archive:
        return read_zip(archive, levels, str(path))


def picture_names(names: list[str], where: str) -> list[str]:
    """The PNG files among ``names``, sorted; other images are refused, other files left out."""
    visible = [name for name in names if not any(p.startswith((".", "__MACOSX")) for p in name.split("/"))]
    for name in visible:
        if os.path.splitext(name)[1].lower() in OTHER_IMAGES:  # noqa: PTH122  a path takes ten times as long
            raise DataError(
                f"{where}: {name} is no PNG file; other images would be left out of the set",
                hint="convert it to PNG, or take it out of the folder",
                file=where, member=name,
            )  # fmt: skip
    pngs = sorted(name for name in visible if name.lower().endswith(".png"))
    if not pngs:
        raise UsageError(
            f"{where}: no PNG files", hint="name a folder or zip of PNG files, an .npz or an .npy"
        )
    return pngs


def read_pictures(files: Files, levels: int | None, where: str) -> Pixels:
    """[N, C, H, W] from PNG files of one shape, given as (name, content), twice."""
    packed, first = 0, None
    checksums: list[int] = []
    interlaced: list[bool] = []
    for name, content in files():
        header = check_png(content, f"{where}: {name}", levels)
        first = first or (name, header)
        _check_alike(header, name, first, where)
        packed += len(content)
        checksums.append(zlib.crc32(content))
        interlaced.append(header.is_interlaced)
    if first is None:
        raise UsageError(f"{where}: no images", hint="give at least one image")
    header, count = first[1], len(checksums)
    IMAGES.check_size(count * int(np.prod(header.shape)) * header.bits // 8, packed, where)
    plain = replace(header, is_interlaced=False)
    at_once = max(1, PIXELS_AT_ONCE // int(np.prod(header.shape)))
    pixels = np.empty((count, *header.shape), np.uint16 if header.bits == 16 else np.uint8)
    together: list[bytes] = []  # files that are decoded at once, up to the one at hand
    i = -1
    for i, (name, content) in enumerate(files()):
        if i >= count or zlib.crc32(content) != checksums[i]:
            raise DataIntegrityError(f"{where}: {name} changed while it was read", file=where)
        own, at = replace(header, is_interlaced=True) if interlaced[i] else plain, f"{where}: {name}"
        if own.bits == 16 or own.is_interlaced:
            pixels[i] = decode_png(content, own, at)
        else:
            together.append(filtered_rows(content, own, at))
        if together and (i + 1 == count or interlaced[i + 1] or len(together) == at_once):
            pixels[i + 1 - len(together) : i + 1] = decode_rows(together, plain)
            together = []
    if i + 1 != count:
        raise DataIntegrityError(f"{where}: files were taken away while it was read", file=where)
    return pixels


def _check_alike(header: Header, name: str, first: tuple[str, Header], where: str) -> None:
    first_name, other = first
    if (header.shape, header.bits) != (other.shape, other.bits):
        raise DataError(
            f"{where}: {name} has shape {list(header.shape)}, but {first_name} has {list(other.shape)}",
            hint="images of one set have one shape [C, H, W] and one depth; they are never converted",
            file=where, member=name, expected=list(other.shape), found=list(header.shape),
        )  # fmt: skip


def _content(file: Path) -> bytes:
    if not file.is_file():
        raise UnsafeFileError(f"{file} is no regular file", file=str(file))
    if file.stat().st_size > MAX_FILE:
        raise UnsafeFileError(f"{file}: a PNG file of more than {MAX_FILE} bytes", file=str(file))
    return read_bytes(file)


def _labels(names: list[str], size: int | None, read: Callable[[], bytes], where: str) -> Labels:
    """The class of each image by EDM's table, None where there is none."""
    if size is None:
        return None
    where = f"{where}: {LABELS_FILE}"
    if size > BYTES_PER_LABEL * (len(names) + 16):
        raise UnsafeFileError(f"{where} has {size} bytes for {len(names)} images", file=where)
    try:
        table = json.loads(read())
    except (ValueError, RecursionError) as error:
        raise DataIntegrityError(f"{where} is not sound JSON ({error})", file=where) from error
    pairs = table.get("labels") if isinstance(table, dict) else None
    if pairs is None and isinstance(table, dict):
        return None
    if not isinstance(pairs, list) or not all(map(_is_label, pairs)):
        raise DataError(f"{where}: labels is no list of [name, class number] pairs", file=where)
    classes = dict(pairs)
    missing = [name for name in names if name not in classes]
    if missing:
        raise DataIntegrityError(
            f"{where} names no class of {missing[0]} ({len(missing)} are missing)", file=where
        )
    return np.array([classes[name] for name in names], dtype=np.int64)


def _is_label(pair: Any) -> bool:
    return (
        isinstance(pair, list)
        and len(pair) == 2
        and isinstance(pair[0], str)
        and type(pair[1]) is int
        and 0 <= pair[1] < 1 << 31
    )
