"""``hashes.json`` of a cache: the SHA-256 of every file that was fetched, as it arrived."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

from merged_diffusion.catalogue.cache import cache_folder, cached
from merged_diffusion.catalogue.entries import Public, targets
from merged_diffusion.errors import StorageError
from merged_diffusion.files.reading import read_text

HASHES: Final = "hashes.json"


def recorded(folder: str | Path | None = None) -> dict[str, str]:
    """SHA-256 by path in the cache; empty where nothing was fetched."""
    path = cached(HASHES, folder=folder)
    try:
        kept: Any = json.loads(read_text(path))
        return {str(name): str(entry["sha256"]) for name, entry in kept.items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise StorageError(
            f"{path} cannot be read ({error})",
            hint="remove it; the next fetch writes it anew",
            file=str(path),
        ) from error


def recorded_sha256(path: Path, folder: str | Path | None = None) -> str | None:
    """The SHA-256 with which `fetch` brought the file ``path``; None where it did not."""
    place = cache_folder(folder)
    return recorded(folder).get(path.relative_to(place).as_posix()) if path.is_relative_to(place) else None


def known_hashes(entry: Public, folder: str | Path | None = None) -> dict[str, str]:
    """SHA-256 by path in the cache, as published or as first fetched."""
    held = recorded(folder)
    found = {}
    for item, (_, path) in zip(entry.downloads, targets(entry, folder), strict=True):
        at = path.relative_to(cache_folder(folder)).as_posix()
        sha256 = item.sha256 or held.get(at)
        if sha256 is not None:
            found[at] = sha256
    return found
