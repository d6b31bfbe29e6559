"""The public sets, from the cache, and how a set stands to what is published under its name."""

from __future__ import annotations

from pathlib import Path
from typing import Final, NoReturn

from merged_diffusion.catalogue.absent import absent
from merged_diffusion.catalogue.cache import cached
from merged_diffusion.catalogue.entries import known, public
from merged_diffusion.catalogue.fetched import recorded_sha256
from merged_diffusion.catalogue.sets import forms_of
from merged_diffusion.data import cifar10, imagenet32
from merged_diffusion.data.bundled import BUNDLED
from merged_diffusion.data.images import Data

PUBLIC: Final = ("cifar10", "imagenet32")
LEVELS: Final = 256
TRAIN_ONLY: Final = ".zip"  # EDM packs the train split alone


def load_public(
    name: str, split: str, *, cache: str | Path | None = None, variant: str | None = None
) -> Data:
    """A split of a public set from the cache; `DataNotFoundError` says how it gets there."""
    if name == "imagenet32":
        place = cached("data", f"imagenet32-{variant}", folder=cache)
        if variant in imagenet32.VARIANTS and not place.exists():
            _refuse_missing(f"imagenet32-{variant}", cache)
        return imagenet32.load_imagenet32(place, split, variant)
    found = [place for place in forms_of(name, cache) if place.exists()]
    usable = [place for place in found if split == "train" or place.suffix != TRAIN_ONLY]
    if not usable:
        _refuse_missing(name, cache)
    place = usable[0]
    if place.is_dir():
        return cifar10.load_folder(place, split)
    if place.suffix == TRAIN_ONLY:
        return cifar10.load_edm_zip(place, split)
    return cifar10.load_archive(place, split, fetched=recorded_sha256(place, cache))


def verdict(data: Data) -> str:
    """How a set stands to what is published under its name."""
    if data.modified:
        return "modified: not the set that is published under its name"
    if data.name in BUNDLED:
        card = known()["data"][data.name]
        expected = card["sha256" if data.split == "test" else "sha256_train"]
        return "as published" if data.sha256 == expected else f"another content than published: {expected}"
    if data.name == cifar10.NAME:
        return "as published"
    if "variant" in data.provenance:
        return "complete by its number of images; no hash is published"
    return "sound; no set that is known by a hash"


def _refuse_missing(name: str, cache: str | Path | None) -> NoReturn:
    raise absent([entry for entry in [public("data", name)] if entry is not None], cache)
