"""A path to images: what it is, by its content."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from merged_diffusion.data import cifar10, cifar100, folders, imagenet32
from merged_diffusion.data.images import Data
from merged_diffusion.errors import DataError, DataIntegrityError, UsageError
from merged_diffusion.files.arrays import MAGIC
from merged_diffusion.files.reading import opened
from merged_diffusion.files.standins import HEAD, refuse_standin
from merged_diffusion.files.tars import GZIP

ZIP: Final = (b"PK\3\4", b"PK\5\6")
PICKLE: Final = b"\x80"
TAR_MAGIC: Final = (257, b"ustar")
PICTURE: Final = (
    "merged-diffusion sample with --out samples.npz, samples.zip or a folder keeps each image, where a .png "
    "is one picture of all; a folder of .png files is a set"
)
SUFFIXES: Final = (".npy", ".npz", ".zip", ".tar", ".tgz", ".gz")


def load_path(path: Path, split: str, levels: int | None, variant: str | None = None) -> Data:
    """The set in ``path``; ``levels`` where the file does not state them (else they must agree)."""
    if variant is not None:
        return imagenet32.load_imagenet32(path, split, variant)
    if path.is_dir():
        return _folder(path, split, levels)
    if not path.is_file():
        raise UsageError(f"{path} is neither a file nor a folder")
    with opened(path) as file:
        head = file.read(HEAD)
    refuse_standin(head, str(path), DataIntegrityError)
    if imagenet32.is_imagenet32(path):
        return imagenet32.load_imagenet32(path, split, None)
    if head.startswith(ZIP) or path.suffix in (".npz", ".zip"):
        return folders.load_zip(path, split, levels)
    if head.startswith(MAGIC) or path.suffix == ".npy":
        return folders.load_npy(path, split, levels)
    offset, magic = TAR_MAGIC
    if head.startswith(GZIP) or head[offset:].startswith(magic) or path.suffix in SUFFIXES:
        return cifar10.load_archive(path, split)
    if head.startswith(PICKLE):
        raise DataError(
            f"{path}: a pickle, which is not read by itself",
            hint="of CIFAR-10 name the folder of the batches; save images otherwise as "
            "numpy.savez(file, images=images, levels=256), uint8 [N, C, H, W]",
            file=str(path),
        )
    raise UsageError(
        f"{path}: data are a folder or zip of PNG files, an .npz or an .npy, not a "
        f"{path.suffix or 'nameless'} file",
        hint=PICTURE
        if path.suffix.lower() == ".png"
        else "save images uint8 [N, C, H, W] with numpy.savez(file, images=images, levels=256)",
    )


def _folder(path: Path, split: str, levels: int | None) -> Data:
    if cifar10.is_cifar10(path):
        return cifar10.load_folder(path, split)
    if imagenet32.is_imagenet32(path):
        return imagenet32.load_imagenet32(path, split, None)
    cifar100.refuse_folder(path)
    return folders.load_folder(path, split, levels)
