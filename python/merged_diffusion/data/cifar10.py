"""CIFAR-10 (Krizhevsky 2009): 10,000 test and 50,000 train images 3x32x32 of ten classes.

Read are the two archives of its author, binary and python, packed or unpacked (what torchvision leaves), and
the zip that EDM's tool makes of the train split. Canonical order: the train batches 1 to 5, each in the order
of its file. The python batches are pickles; they are read inertly, see `merged_diffusion.files.pickles`.

What is sound but not as published is read with a warning and marked ``modified``: a cut-down set is useful,
but its figures are not those of CIFAR-10.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

import numpy as np

from merged_diffusion.catalogue.entries import known
from merged_diffusion.data import cifar100
from merged_diffusion.data.images import Data, make_data
from merged_diffusion.errors import DataError, DataIntegrityError, DataNotFoundError
from merged_diffusion.files.limits import Limits
from merged_diffusion.files.pickled_batches import Batch, read_pickled_batch
from merged_diffusion.files.pictures import read_zip_file
from merged_diffusion.files.reading import opened, read_bytes
from merged_diffusion.files.standins import HEAD, refuse_standin
from merged_diffusion.files.tars import Source, tar_files

log = logging.getLogger("merged_diffusion")

NAME: Final = "cifar10"
SHAPE: Final = (3, 32, 32)
LEVELS: Final = 256
N_CLASSES: Final = 10
COUNTS: Final = {"test": 10_000, "train": 50_000}
RECORD: Final = 1 + 3072  # label, then the planes R, G, B by rows
BATCHES: Final = {"test": ("test_batch",), "train": tuple(f"data_batch_{i}" for i in range(1, 6))}
ARCHIVE: Final = Limits(members=64, total=1 << 28)  # 184 MB unpacked
MAX_BATCH: Final = 1 << 26  # bytes of an unpacked batch, 31 MB as published

# The author's page gives MD5 sums of the archives; these are their SHA-256.
SHA256: Final = {
    "binary": known()["data"]["cifar10"]["downloads"][0]["sha256"],
    "python": "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce",
}
# Of the unpacked python batches; torchvision compares the same.
MD5: Final = {
    "data_batch_1": "c99cafc152244af753f735de768cd75f",
    "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
    "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
    "data_batch_4": "634d18415352ddfa80567beed471001a",
    "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
    "test_batch": "40351d587109b95175f43aff81a1287e",
}


@dataclass(frozen=True)
class Release:
    """One of the author's two forms."""

    name: str
    folder: str
    suffix: str
    read: Callable[[bytes, str], Batch]

    def batch(self, member: str) -> str | None:
        """The batch that a file of that name holds."""
        path = PurePosixPath(member)
        names = {name + self.suffix: name for names in BATCHES.values() for name in names}
        return names.get(path.name) if path.parent.name in ("", self.folder) else None


def read_binary_batch(content: bytes, where: str) -> Batch:
    """Images and labels of a ``.bin`` file."""
    if not content or len(content) % RECORD:
        raise DataIntegrityError(
            f"{where}: {len(content)} bytes are not a whole number of records of {RECORD}", file=where
        )
    records = np.frombuffer(content, np.uint8).reshape(-1, RECORD)
    return Batch(records[:, 1:], records[:, 0])


BINARY: Final = Release("binary", "cifar-10-batches-bin", ".bin", read_binary_batch)
PYTHON: Final = Release("python", "cifar-10-batches-py", "", read_pickled_batch)
RELEASES: Final = (BINARY, PYTHON)


def is_cifar10(folder: Path) -> bool:
    """Whether the folder holds unpacked batches, or a folder that does."""
    return _unpacked(folder) is not None


def load_folder(folder: Path, split: str) -> Data:
    """The split from unpacked batches."""
    found = _unpacked(folder)
    if found is None:
        raise DataNotFoundError(f"{folder} holds no batches of CIFAR-10", file=str(folder))
    release, place = found
    batches, digests = {}, {}
    for name in BATCHES[split]:
        file = place / (name + release.suffix)
        if not file.is_file() or file.stat().st_size > MAX_BATCH:
            raise DataIntegrityError(
                f"{place}: {file.name} is missing, or larger than {MAX_BATCH} bytes", file=str(file)
            )
        content = read_bytes(file)
        refuse_standin(content[:HEAD], str(file), DataIntegrityError)
        batches[name] = _checked(release.read(content, str(file)), str(file))
        digests[name] = hashlib.md5(content, usedforsecurity=False).hexdigest()
    known = {name: MD5[name] for name in digests} if release is PYTHON else None
    modified = digests != known
    if modified:
        reason = (
            _differing(digests, known) if known else "its author gives no hash of unpacked binary batches"
        )
        _warn_of_modification(place, reason)
    return _data(
        batches, split, modified, {"file": str(place), "format": f"{release.name} folder", "md5": digests}
    )


def load_archive(path: Path, split: str, *, fetched: str | None = None) -> Data:
    """The split from a tar archive, which is read to its end and checked whole.

    ``fetched`` is the SHA-256 with which `fetch` brought the file: then another one is refused.
    """
    where = str(path)
    batches: dict[str, Batch] = {}
    seen: set[str | None] = set()
    release = None
    with opened(path) as file:
        source = Source(file, ARCHIVE, where)
        for member in tar_files(source, ARCHIVE, where):
            cifar100.refuse_members([member.name], where)
            found = [r for r in RELEASES if r.batch(member.name)]
            if not found:
                continue
            if release not in (None, found[0]):
                raise DataIntegrityError(f"{where}: holds binary and python batches at once", file=where)
            release = found[0]
            name = release.batch(member.name)
            at = f"{where}: {member.name} at offset {member.offset}"
            if name in seen:
                raise DataIntegrityError(f"{at} occurs twice", file=where, member=member.name)
            seen.add(name)
            # The other split's pickles are not read at all; its binary records cost nothing to check.
            if name in BATCHES[split]:
                batches[name] = _checked(release.read(member.content, at), at)
            elif release is BINARY:
                _checked(release.read(member.content, at), at)
    if release is None:
        raise DataIntegrityError(
            f"{where}: an archive without batches of CIFAR-10",
            hint="unpack other archives into a folder of PNG files",
            file=where,
        )
    missing = [name for name in BATCHES[split] if name not in batches]
    if missing:
        raise DataIntegrityError(f"{where}: holds no {missing[0]}{release.suffix}", file=where)
    found_sha256, expected = source.sha256, SHA256[release.name]
    if fetched not in (None, found_sha256):
        raise DataIntegrityError(
            f"{where} has SHA-256 {found_sha256}, but was fetched with {fetched}",
            hint="it changed since; move it away to fetch it again",
            file=where, expected=fetched, found=found_sha256,
        )  # fmt: skip
    if found_sha256 != expected:
        _warn_of_modification(path, f"SHA-256 {found_sha256}, published {expected}")
    provenance = {
        "file": where,
        "format": f"{release.name} archive",
        "sha256": found_sha256,
        "expected": expected,
    }
    return _data(batches, split, found_sha256 != expected, provenance)


def load_edm_zip(path: Path, split: str) -> Data:
    """The train split as EDM's tool packs it: PNG files in canonical order and ``dataset.json``."""
    if split != "train":
        raise DataNotFoundError(f"{path}: EDM's zip of CIFAR-10 holds the train split only", file=str(path))
    images, labels, files = read_zip_file(path, LEVELS)
    if images.shape[1:] != SHAPE or labels is None or labels.max() >= N_CLASSES:
        labelled = "with" if labels is not None else "without"
        raise DataError(
            f"{path}: images {list(images.shape[1:])} {labelled} labels of ten classes are not CIFAR-10",
            file=str(path), expected=list(SHAPE), found=list(images.shape[1:]),
        )  # fmt: skip
    _warn_of_modification(path, f"{len(images)} images; hashes of repacked sets are not published")
    provenance = {"file": str(path), "format": "EDM zip"}
    return make_data(
        NAME, split, images, LEVELS, labels=labels, modified=True, provenance=provenance, files=files
    )


def _unpacked(folder: Path) -> tuple[Release, Path] | None:
    for release in RELEASES:
        for place in (folder, folder / release.folder):
            if any(
                (place / (name + release.suffix)).is_file() for names in BATCHES.values() for name in names
            ):
                return release, place
    return None


def _checked(batch: Batch, where: str) -> Batch:
    """A batch whose labels are classes of CIFAR-10."""
    wrong = np.flatnonzero(batch.labels >= N_CLASSES)
    if len(wrong):
        at = int(wrong[0])
        raise DataIntegrityError(
            f"{where}: record {at} has the label {batch.labels[at]}, over {N_CLASSES - 1}",
            file=where,
            index=[at],
        )
    return batch


def _data(batches: dict[str, Batch], split: str, modified: bool, provenance: Mapping[str, object]) -> Data:
    """The images in canonical order; ``batches`` are given up one by one: few copies exist at once."""
    names = BATCHES[split]
    labels = np.concatenate([batches[name].labels for name in names]).astype(np.int64)
    images = np.empty((len(labels), *SHAPE), np.uint8)
    start = 0
    for name in names:
        batch = batches.pop(name)
        images[start : start + len(batch.pixels)] = batch.pixels.reshape(-1, *SHAPE)
        start += len(batch.pixels)
    return make_data(NAME, split, images, LEVELS, labels=labels, modified=modified, provenance=provenance)


def _differing(found: Mapping[str, str], known: Mapping[str, str]) -> str:
    name = next(name for name in found if found[name] != known[name])
    return f"{name} has MD5 {found[name]}, published {known[name]}"


def _warn_of_modification(path: Path, why: str) -> None:
    log.warning("%s is not CIFAR-10 as published (%s); results are marked data.modified", path, why)
