"""A set of images as a plain file of pixels that processes map into memory together.

FOLDER/KEY/ holds ``pixels`` (N C H W, uint8, or uint16 with the low byte first), ``columns.npz`` (ids and,
where there are some, labels and clusters) and ``set.json``, which is written last. The key is a hash of all
of them, so that sets of the same pixels with other labels do not meet. It is checked when a file is mapped:
nothing else can say that it is still what it was.
"""

from __future__ import annotations

import hashlib
import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from merged_diffusion.data.images import Data, content_sha256
from merged_diffusion.errors import DataIntegrityError, RunLockedError
from merged_diffusion.files.reading import refused_as
from merged_diffusion.runs.directory import Directory
from merged_diffusion.runs.lock import Lock
from merged_diffusion.runs.places import make, require_space

PIXELS: Final = "pixels"
COLUMNS: Final = "columns.npz"
SET: Final = "set.json"
LOCK: Final = ".lock"
PATIENCE_SECONDS: Final = 3600.0  # while another process writes the set
# Of a set that is mapped though no folder was named: eight processes would hold it eight times.
LARGE: Final = 256 << 20


def key_of(data: Data) -> str:
    """The hash of a set as a training sees it: pixels, ids, labels, clusters, name and split."""
    words = {"name": data.name, "split": data.split, "modified": data.modified, "sha256": data.sha256}
    digest = hashlib.sha256(json.dumps(words, sort_keys=True).encode())
    for key, column in _columns(data).items():
        digest.update(f"\n{key} ".encode() + column.tobytes())
    return digest.hexdigest()


def _columns(data: Data) -> dict[str, npt.NDArray[np.int64]]:
    columns = {"ids": data.ids, "labels": data.labels, "clusters": data.clusters}
    return {key: np.asarray(column, dtype="<i8") for key, column in columns.items() if column is not None}


def is_kept(key: str, folder: Path) -> bool:
    """Whether the set of that key lies there."""
    return (folder / key / SET).is_file()


def keep(data: Data, folder: Path) -> bool:
    """Write a set where it is not there yet, one process at a time; whether it was written.

    Raises
    ------
    RunLockedError
        Another process has been writing it for an hour.
    """
    key = key_of(data)
    if is_kept(key, folder):
        return False
    place = folder / key
    make(place)
    refused = RunLockedError(f"{place}: another process writes the set", hint="wait for it to end")
    with Directory(place) as directory, Lock(directory, LOCK).held(PATIENCE_SECONDS, refused):
        if is_kept(key, folder):
            return False
        _write(data, directory)
        return True


def _write(data: Data, directory: Directory) -> None:
    require_space(directory.path, data.images.nbytes, f"the pixels of {data.name}/{data.split}")
    images = np.ascontiguousarray(data.images, dtype=data.images.dtype.newbyteorder("<"))
    stream = io.BytesIO()
    np.savez(stream, allow_pickle=False, **_columns(data))
    words = {
        "name": data.name,
        "split": data.split,
        "shape": list(images.shape),
        "levels": data.levels,
        "dtype": images.dtype.name,
        "modified": data.modified,
        "sha256": data.sha256,
    }
    directory.remove_drafts([PIXELS, COLUMNS, SET])
    directory.write(PIXELS, images.reshape(-1).view(np.uint8).data)
    directory.write(COLUMNS, stream.getvalue())
    directory.write(SET, (json.dumps(words, sort_keys=True) + "\n").encode())


def mapped(key: str, folder: Path, *, check: bool = True) -> Data:
    """The set of that key, its pixels read where they are looked at, and hashed before if ``check``.

    Raises
    ------
    DataIntegrityError
        The files are no longer what their name says.
    """
    place = folder / key
    with refused_as(DataIntegrityError, place):
        words: dict[str, Any] = json.loads((place / SET).read_text(encoding="utf-8"))
        shape = tuple(words["shape"])
        images = np.memmap(place / PIXELS, dtype=np.dtype(words["dtype"]), mode="r", shape=shape)
        with np.load(place / COLUMNS, allow_pickle=False) as file:
            columns = {name: file[name] for name in file.files}
        data = Data(
            words["name"], words["split"], np.asarray(images), columns["ids"], columns.get("labels"),
            words["levels"], columns.get("clusters"), words["sha256"], words["modified"],
        )  # fmt: skip
    is_changed = key_of(data) != key
    if is_changed or (check and content_sha256(images, data.levels) != data.sha256):
        file_name = place / (COLUMNS if is_changed else PIXELS)
        raise DataIntegrityError(
            f"{file_name}: its content has another SHA-256 than the folder's name",
            hint="remove the folder; it is made again from the set",
            file=str(file_name),
        )
    return data


def as_mapped(data: Data, folder: Path) -> Data:
    """The same set with its pixels in a file, which is written if need be, and checked if it was there."""
    is_new = keep(data, folder)
    return replace(data, images=mapped(key_of(data), folder, check=not is_new).images)
