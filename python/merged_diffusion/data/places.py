"""The sets that have a name: where they lie, what to say when they do not, how a set stands to its name."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from merged_diffusion.cache import cached
from merged_diffusion.data import cifar10, imagenet32
from merged_diffusion.data.bundled import BUNDLED
from merged_diffusion.data.images import Data
from merged_diffusion.errors import DataNotFoundError
from merged_diffusion.experts.catalogue import known

PUBLIC: Final = ("cifar10", "imagenet32")
LEVELS: Final = 256
# In the order in which they are looked for; `fetch` brings the first.
CIFAR10: Final = (
    "cifar-10-binary.tar.gz",
    "cifar-10-python.tar.gz",
    "cifar-10-batches-bin",
    "cifar-10-batches-py",
    "cifar10-32x32.zip",
)
ADDRESSES: Final = {
    "cifar10": "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
    "imagenet32": "https://image-net.org/download-images",
}


def load_public(
    name: str, split: str, *, cache: str | Path | None = None, variant: str | None = None
) -> Data:
    """A split of a public set from the cache; `DataNotFoundError` names what is missing and where it goes."""
    if name == "imagenet32":
        place = cached("data", f"imagenet32-{variant}", folder=cache)
        if variant in imagenet32.VARIANTS and not place.exists():
            raise _missing(name, place)
        return imagenet32.load_imagenet32(place, split, variant)
    place = find_cifar10(split, cache)
    if place.is_dir():
        return cifar10.load_folder(place, split)
    return (
        cifar10.load_edm_zip(place, split) if place.suffix == ".zip" else cifar10.load_archive(place, split)
    )


def find_cifar10(split: str, cache: str | Path | None = None) -> Path:
    """The first form of CIFAR-10 that the cache holds; EDM's zip has the train split only."""
    for file in CIFAR10:
        place = cached("data", file, folder=cache)
        if place.exists() and (split == "train" or place.suffix != ".zip"):
            return place
    raise _missing("cifar10", cached("data", CIFAR10[0], folder=cache))


def _missing(name: str, place: Path) -> DataNotFoundError:
    by_hand = f"put it at {place} (from {ADDRESSES[name]})"
    how = f"merged-diffusion fetch {name}, or {by_hand}" if name == "cifar10" else by_hand
    return DataNotFoundError(
        f"{name} is not in the cache: {place} is missing",
        hint=f"{how}; to try the program at once: --data photos",
        data=name, file=str(place), address=ADDRESSES[name],
    )  # fmt: skip


def known_sets(cache: str | Path | None = None) -> list[dict[str, Any]]:
    """A row for each set that has a name: where it is, or where it belongs."""
    rows: list[dict[str, Any]] = [
        {"name": name, "bundled": True, "present": True, "file": known()["data"][name]["files"][0]}
        for name in BUNDLED
    ]
    forms = [cached("data", file, folder=cache) for file in CIFAR10]
    found = [place for place in forms if place.exists()]
    rows.append(_row("cifar10", (found or forms)[0]))
    for variant in imagenet32.VARIANTS:
        rows.append(_row(f"imagenet32-{variant}", cached("data", f"imagenet32-{variant}", folder=cache)))
    return rows


def _row(name: str, place: Path) -> dict[str, Any]:
    return {"name": name, "bundled": False, "present": place.exists(), "file": str(place)}


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
