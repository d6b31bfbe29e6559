"""The sets that have a name: where they lie, and how a set stands to what is published under its name."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final, NoReturn

from merged_diffusion.cache import cached
from merged_diffusion.data import cifar10, imagenet32
from merged_diffusion.data.bundled import BUNDLED
from merged_diffusion.data.images import Data
from merged_diffusion.experts.absent import absent
from merged_diffusion.experts.catalogue import known, public

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
    found = [place for place in _forms(name, cache) if place.exists()]
    usable = [place for place in found if split == "train" or place.suffix != TRAIN_ONLY]
    if not usable:
        _refuse_missing(name, cache)
    place = usable[0]
    if place.is_dir():
        return cifar10.load_folder(place, split)
    if place.suffix == TRAIN_ONLY:
        return cifar10.load_edm_zip(place, split)
    # Imported here: with it comes all that downloads, which no other set needs.
    from merged_diffusion.fetch.hashes import recorded_sha256

    return cifar10.load_archive(place, split, fetched=recorded_sha256(place, cache))


def known_sets(cache: str | Path | None = None) -> list[dict[str, Any]]:
    """A row for each set that has a name: where it is, or where it belongs."""
    rows = []
    for name, card in known()["data"].items():
        if name in BUNDLED:
            rows.append({"name": name, "bundled": True, "present": True, "file": card["files"][0]})
            continue
        forms = _forms(name, cache)
        found = [place for place in forms if place.exists()]
        rows.append(
            {"name": name, "bundled": False, "present": bool(found), "file": str((found or forms)[0])}
        )
    return rows


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


def _forms(name: str, cache: str | Path | None) -> list[Path]:
    """Where the set may lie, in the order in which it is looked for; `fetch` brings the first."""
    card = known()["data"][name]
    return [cached(at, folder=cache) for at in (card["at"], *card.get("instead", ()))]


def _refuse_missing(name: str, cache: str | Path | None) -> NoReturn:
    raise absent([entry for entry in [public("data", name)] if entry is not None], cache)
