"""CIFAR-100 (Krizhevsky 2009), which is told from CIFAR-10 and not read: its files are laid out otherwise."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Final

from merged_diffusion.errors import DataError

FOLDERS: Final = ("cifar-100-python", "cifar-100-binary")
# The files of the two forms.
FORMS: Final = (
    frozenset(("train", "test", "meta")),
    frozenset(("train.bin", "test.bin", "fine_label_names.txt")),
)
HINT: Final = (
    "save its images as numpy.savez(file, images=images, labels=labels, levels=256), uint8 [N, 3, 32, 32]: "
    "the rows of data of its pickles, reshaped to that"
)


def refuse_folder(folder: Path) -> None:
    """`DataError` where the folder, or one in it, holds CIFAR-100."""
    for place in (folder, *(folder / name for name in FOLDERS)):
        if any(form <= {path.name for path in place.glob("*") if path.is_file()} for form in FORMS):
            raise _refused(str(place))


def refuse_members(names: Iterable[str], where: str) -> None:
    """`DataError` where the names of an archive are those of CIFAR-100."""
    paths = [PurePosixPath(name) for name in names]
    if any(path.parent.name in FOLDERS for path in paths):
        raise _refused(where)


def _refused(where: str) -> DataError:
    return DataError(f"{where}: CIFAR-100, which is not read (CIFAR-10 is)", hint=HINT, file=where)
