"""ImageNet at 32x32, of which there are two: never mixed, and never guessed.

``old`` (van den Oord et al. 2016, no longer served): 1,281,149 train and 49,999 validation images without
labels; PNG folders ``train_32x32``, ``valid_32x32``. ``new`` (Chrabaszcz et al. 2017, box filter): 1,281,167
and 50,000, npz batches ``train_data_batch_1`` to ``10`` and ``val_data`` with ``data`` uint8 [N, 3072] and
``labels`` from 1. Both also as TFRecord shards. The validation split is our ``test``.

An image's id is its position in the files in the order of their names (batches by number).
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from merged_diffusion.data.images import Data, make_data
from merged_diffusion.errors import DataError, DataIntegrityError, DataNotFoundError, UsageError
from merged_diffusion.files.arrays import MAX_BYTES, read_columns
from merged_diffusion.files.limits import Limits
from merged_diffusion.files.pictures import read_folder, read_pictures
from merged_diffusion.files.tfrecords import parse_example, read_records
from merged_diffusion.files.zips import open_zip

log = logging.getLogger("merged_diffusion")

VARIANTS: Final = ("old", "new")
COUNTS: Final = {
    "old": {"train": 1_281_149, "test": 49_999},
    "new": {"train": 1_281_167, "test": 50_000},
}
SHAPE: Final = (3, 32, 32)
LEVELS: Final = 256
N_CLASSES: Final = 1000
SPLIT_WORDS: Final = {"test": {"valid", "val", "validation", "test"}, "train": {"train"}}
BATCH: Final = Limits(members=8, total=MAX_BYTES)
MAX_FILES: Final = 4096  # shards or batches
RELEASED: Final = re.compile(r"(train_data_batch_\d+|val_data)\.npz|.*\.tfrecord(-.*)?")

Labels = npt.NDArray[np.int64] | None


def is_imagenet32(path: Path) -> bool:
    """Whether the path is, or holds, what only ImageNet32 has: its npz batches or TFRecord shards."""
    names = [path.name] if path.is_file() else [file.name for file in _files(path)]
    return any(RELEASED.fullmatch(name) for name in names)


def load_imagenet32(path: Path, split: str, variant: str | None) -> Data:
    """The split in a folder or file; ``variant`` says which ImageNet32 it is."""
    if variant is None:
        raise DataError(
            f"{path}: there are two sets called ImageNet32, which must not be mixed",
            hint="state --variant old (van den Oord et al. 2016) or --variant new (Chrabaszcz et al. 2017)",
            file=str(path), expected=list(VARIANTS),
        )  # fmt: skip
    if variant not in VARIANTS:
        raise UsageError(f"variant {variant!r} is neither {' nor '.join(VARIANTS)}")
    images, labels, files, kind = _read(path, split)
    if images.shape[1:] != SHAPE or images.dtype != np.uint8:
        raise DataError(
            f"{path}: images {images.dtype} {list(images.shape[1:])} are not ImageNet32",
            file=str(path), expected=list(SHAPE), found=list(images.shape[1:]),
        )  # fmt: skip
    partial = _is_partial(len(images), split, variant, path)
    provenance = {"file": str(path), "format": kind, "variant": variant, "partial": partial}
    name = f"imagenet32-{variant}"
    return make_data(
        name, split, images, LEVELS, labels=labels, modified=partial, provenance=provenance, files=files
    )


def _is_partial(count: int, split: str, variant: str, path: Path) -> bool:
    """Whether these are not all images of the split; the other variant's number is refused."""
    expected = COUNTS[variant][split]
    for other, counts in COUNTS.items():
        if other != variant and count == counts[split]:
            raise DataError(
                f"{path}: {count} images are the {split} split of ImageNet32 {other}, not of {variant}",
                hint=f"state --variant {other}",
                file=str(path), expected=expected, found=count,
            )  # fmt: skip
    if count != expected:
        log.warning(
            "%s holds %d of the %d images of ImageNet32 (%s, %s); results are marked partial",
            path, count, expected, variant, split,
        )  # fmt: skip
    return count != expected


def _read(path: Path, split: str) -> tuple[npt.NDArray[np.generic], Labels, tuple[str, ...] | None, str]:
    """Images [N, C, H, W], labels from 0, their own files' names, and the kind of file they came from."""
    files = [path] if path.is_file() else _of_split(path, split)
    kinds = {_kind(file) for file in files} - {None}
    if len(kinds) > 1:
        raise DataError(
            f"{path}: holds npz batches and TFRecord shards of {split}", hint="name one of their folders"
        )
    chosen = [file for file in files if _kind(file) is not None]
    if "npz" in kinds:
        return *_read_batches(sorted(chosen, key=_by_number)), None, "npz batches"
    if chosen:
        return *_read_shards(sorted(chosen, key=_by_number), path), None, "TFRecord shards"
    if path.is_file():
        raise UsageError(f"{path} is neither an npz batch nor a TFRecord shard of ImageNet32")
    return *read_folder(_picture_folder(path, split), LEVELS), "folder of PNG"


def _read_batches(files: list[Path]) -> tuple[npt.NDArray[np.generic], Labels]:
    """The batches one after the other; all are checked before memory is taken for any."""
    with ExitStack() as stack:
        archives = [stack.enter_context(open_zip(file, BATCH)) for file in files]
        columns = []
        for archive, file in zip(archives, files, strict=True):
            archive.check()
            columns.append(_batch_labels(read_columns(archive, ("labels",), str(file)), file))
        labels = np.concatenate(columns)
        images = np.empty((len(labels), *SHAPE), np.uint8)
        start = 0
        for archive, file, column in zip(archives, files, columns, strict=True):
            data = read_columns(archive, ("data",), str(file)).get("data")
            if data is None or data.dtype != np.uint8 or data.shape != (len(column), images[0].size):
                found = "missing" if data is None else f"{data.dtype} {list(data.shape)}"
                raise DataError(
                    f"{file}: data are {found}, expected uint8 [{len(column)}, {images[0].size}]",
                    file=str(file), expected=[len(column), images[0].size], found=found,
                )  # fmt: skip
            images[start : start + len(data)] = data.reshape(-1, *SHAPE)
            start += len(data)
    return images, labels


def _batch_labels(columns: dict[str, npt.NDArray[np.generic]], file: Path) -> npt.NDArray[np.int64]:
    """Labels from 0 of a batch; the release counts from 1."""
    labels = columns.get("labels")
    if labels is None or labels.ndim != 1 or labels.dtype.kind not in "iu":
        found = "missing" if labels is None else f"{labels.dtype} {list(labels.shape)}"
        raise DataError(f"{file}: labels are {found}, expected whole numbers [N]", file=str(file))
    if not len(labels):
        raise UsageError(f"{file}: no images", hint="give at least one image")
    numbers = labels.astype(np.int64)
    if numbers.min() < 1 or numbers.max() > N_CLASSES:
        raise DataIntegrityError(
            f"{file}: labels lie in {numbers.min()}..{numbers.max()}, expected 1..{N_CLASSES}", file=str(file)
        )
    return numbers - 1


def _read_shards(files: list[Path], where: Path) -> tuple[npt.NDArray[np.generic], Labels]:
    """The records of all shards, and their labels where every record has one."""
    labels: list[int | None] = []

    def pictures() -> Iterator[tuple[str, bytes]]:
        labels.clear()
        for file in files:
            for offset, content in read_records(file):
                example = parse_example(content, str(file), offset)
                labels.append(example.label)
                yield f"{file.name}, record at {offset}", example.image

    images = read_pictures(pictures, LEVELS, str(where))
    known = [label for label in labels if label is not None]
    if known and (len(known) < len(labels) or not 0 <= min(known) <= max(known) < N_CLASSES):
        raise DataIntegrityError(
            f"{where}: labels are missing, or outside 0..{N_CLASSES - 1}", file=str(where)
        )
    return images, np.array(known, np.int64) if known else None


def _kind(file: Path) -> str | None:
    """``npz`` or ``tfrecord``."""
    if ".tfrecord" in file.name:
        return "tfrecord"
    return "npz" if file.suffix == ".npz" else None


def _files(folder: Path) -> list[Path]:
    """Batches and shards in a folder, at most three folders down (tfds: name/config/version)."""
    found = [
        file
        for depth in ("", "*/", "*/*/", "*/*/*/")
        for pattern in ("*.npz", "*.tfrecord*")
        for file in folder.glob(depth + pattern)
    ]
    return [file for file in found[:MAX_FILES] if file.is_file()]


def _of_split(folder: Path, split: str) -> list[Path]:
    """Those of the split; where no name tells the splits apart, all."""
    files = [file for file in _files(folder) if _kind(file) is not None]
    marked = {name: [f for f in files if _words(f, folder) & words] for name, words in SPLIT_WORDS.items()}
    if not any(marked.values()):
        return files
    if not marked[split]:
        raise DataNotFoundError(f"{folder}: holds no files of the {split} split", file=str(folder))
    return marked[split]


def _picture_folder(folder: Path, split: str) -> Path:
    """The subfolder of the split, or the folder itself where it has no such subfolders."""
    inner = [place for place in sorted(folder.iterdir()) if place.is_dir()]
    marked = {
        name: [place for place in inner if _words(place, folder) & words]
        for name, words in SPLIT_WORDS.items()
    }
    if len(marked[split]) > 1 or (any(marked.values()) and not marked[split]):
        raise DataNotFoundError(
            f"{folder}: {len(marked[split])} folders of the {split} split", hint="name one", file=str(folder)
        )
    return marked[split][0] if marked[split] else folder


def _words(path: Path, folder: Path) -> set[str]:
    return set(re.split(r"[^a-z]+", path.relative_to(folder).as_posix().lower()))


def _by_number(file: Path) -> tuple[str, list[int], str]:
    """Batch 10 comes after batch 9."""
    numbers = [int(n) for n in re.findall(r"\d{1,18}", file.name)]
    return re.sub(r"\d+", "", file.name), numbers, file.as_posix()
