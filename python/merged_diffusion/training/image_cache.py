"""A set of images as a plain file of pixels that processes map into memory together.

FOLDER/SHA256/ holds ``pixels`` (N C H W, uint8, or uint16 with the low byte first), ``columns.npz`` (ids and,
where there are some, labels and clusters) and ``set.json``, which is written last. The hash of the content is
the name, and is checked when a file is mapped: nothing else can say that it is still what it was.
"""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from merged_diffusion.data.images import Data, content_sha256
from merged_diffusion.errors import DataIntegrityError
from merged_diffusion.files.reading import refused_as
from merged_diffusion.runs.directory import Directory
from merged_diffusion.runs.places import make, require_space

PIXELS: Final = "pixels"
COLUMNS: Final = "columns.npz"
SET: Final = "set.json"
# Of a set that is mapped though no folder was named: eight processes would hold it eight times.
LARGE: Final = 256 << 20


def is_kept(sha256: str, folder: Path) -> bool:
    """Whether the set of that hash lies there."""
    return (folder / sha256 / SET).is_file()


def keep(data: Data, folder: Path) -> None:
    """Write a set where it is not there yet."""
    place = folder / data.sha256
    if is_kept(data.sha256, folder):
        return
    make(place)
    require_space(place, data.images.nbytes, f"the pixels of {data.name}/{data.split}")
    images = np.ascontiguousarray(data.images, dtype=data.images.dtype.newbyteorder("<"))
    columns = {"ids": data.ids, "labels": data.labels, "clusters": data.clusters}
    present: dict[str, Any] = {key: column for key, column in columns.items() if column is not None}
    stream = io.BytesIO()
    np.savez(stream, **present)
    words = {
        "name": data.name,
        "split": data.split,
        "shape": list(images.shape),
        "levels": data.levels,
        "dtype": images.dtype.name,
        "modified": data.modified,
        "sha256": data.sha256,
    }
    with Directory(place) as directory:
        directory.remove_drafts([PIXELS, COLUMNS, SET])
        directory.write(PIXELS, images.reshape(-1).view(np.uint8).data)
        directory.write(COLUMNS, stream.getvalue())
        directory.write(SET, (json.dumps(words, sort_keys=True) + "\n").encode())


def mapped(sha256: str, folder: Path, *, check: bool = True) -> Data:
    """The set of that hash, its pixels read where they are looked at.

    Raises
    ------
    DataIntegrityError
        The files are no longer what their name says.
    """
    place = folder / sha256
    with refused_as(DataIntegrityError, place):
        words: dict[str, Any] = json.loads((place / SET).read_text(encoding="utf-8"))
        shape = tuple(words["shape"])
        images = np.memmap(place / PIXELS, dtype=np.dtype(words["dtype"]), mode="r", shape=shape)
        with np.load(place / COLUMNS, allow_pickle=False) as file:
            columns = {key: file[key] for key in file.files}
    if check and content_sha256(images, words["levels"]) != sha256:
        raise DataIntegrityError(
            f"{place / PIXELS}: its content has another SHA-256 than the folder's name",
            hint="remove the folder; it is made again from the set",
            file=str(place / PIXELS),
        )
    return Data(
        words["name"], words["split"], np.asarray(images), columns["ids"], columns.get("labels"),
        words["levels"], columns.get("clusters"), sha256, words["modified"],
    )  # fmt: skip


def as_mapped(data: Data, folder: Path) -> Data:
    """The same set with its pixels in a file, which is written if need be; files' names stay."""
    keep(data, folder)
    return replace(mapped(data.sha256, folder, check=False), files=data.files, provenance=data.provenance)
