"""Sets of images by name or path: ``load_data("photos")``, ``load_data("cifar10")``, ``load_data(path)``."""

from __future__ import annotations

from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import Final

from merged_diffusion.catalogue.entries import known
from merged_diffusion.data import public_sets
from merged_diffusion.data.bundled import BUNDLED, LEVELS, load_bundled
from merged_diffusion.data.folders import DEFAULT_LEVELS
from merged_diffusion.data.images import Data, pixel_values
from merged_diffusion.data.paths import load_path
from merged_diffusion.data.torch_sets import from_torch_set, is_torch_set
from merged_diffusion.errors import DataError, UsageError
from merged_diffusion.files.reading import exists, refused_as

__all__ = ["NAMES", "SPLITS", "Data", "load_data", "pixel_values"]

SPLITS: Final = ("test", "train")
NAMES: Final = (*BUNDLED, *public_sets.PUBLIC)


def load_data(
    source: str | Path | object,
    split: str = "test",
    levels: int | None = None,
    *,
    cache: str | Path | None = None,
    variant: str | None = None,
) -> Data:
    """A set that the package knows by name, or a path to images (`docs/data.md` lists what is read).

    Or a `Dataset` or `DataLoader` of torch, or a data set that is indexed like one, of uint8 images with or
    without labels (`from_torch_set`): ``levels`` are 256 unless given.

    ``cache`` is the folder in which ``cifar10`` and ``imagenet32`` are looked for; ``variant`` (``old``,
    ``new``) says which ImageNet32 is meant. A path holds one set, which takes any ``split`` name unless its
    files name theirs; if its content is that of a known set, it is that set.

    Examples
    --------
    >>> import merged_diffusion as md
    >>> md.load_data("photos")
    Data(photos/test, 360 images 3x8x8, 256 levels)
    >>> md.load_data("photos").select(limit=64)
    Data(photos/test, 64 images 3x8x8, 256 levels)
    """
    if split not in SPLITS:
        raise UsageError(f"split {split!r} is neither test nor train")
    if not isinstance(source, str | PathLike):
        return _of_torch(source, split, levels)
    name = str(source)
    if variant is not None and name in NAMES and name != "imagenet32":
        raise UsageError(f"variant {variant!r} was given, but {name} has none", hint="leave --variant out")
    if name in BUNDLED:
        _check_levels(name, levels, LEVELS[name])
        return load_bundled(name, split, cache=cache)
    if name in public_sets.PUBLIC:
        _check_levels(name, levels, public_sets.LEVELS)
        with refused_as(DataError, name):
            return public_sets.load_public(name, split, cache=cache, variant=variant)
    path = Path(source)
    if not exists(path):
        raise UsageError(f"{name!r} is neither {', '.join(NAMES)} nor an existing path")
    with refused_as(DataError, path):
        data = load_path(path, split, levels, variant)
    same = [set_name for set_name, card in known()["data"].items() if card.get("sha256") == data.sha256]
    return replace(load_bundled(same[0]), files=data.files) if same and same[0] in BUNDLED else data


def _of_torch(source: object, split: str, levels: int | None) -> Data:
    if not is_torch_set(source):
        raise UsageError(
            f"data = {type(source).__name__} is no name, path, Dataset or DataLoader",
            hint="log_likelihood takes arrays; make_data(name, split, images, levels) makes a Data of one",
        )
    return from_torch_set(source, DEFAULT_LEVELS if levels is None else levels, split)


def _check_levels(name: str, levels: int | None, known_levels: int) -> None:
    if levels not in (None, known_levels):
        raise UsageError(
            f"levels = {levels}, but {name} has {known_levels} grey levels", hint="leave --levels out"
        )
