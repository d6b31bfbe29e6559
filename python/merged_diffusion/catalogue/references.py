"""Statistics that samples are measured against, and Inception's weights: where they lie. Needs no torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from merged_diffusion.catalogue.absent import absent
from merged_diffusion.catalogue.cache import cached
from merged_diffusion.catalogue.entries import Public, known, public
from merged_diffusion.errors import CheckpointError, DataNotFoundError

WEIGHTS: Final = "inception-2015-12-05"  # in cards.toml


def published() -> Public:
    """What cards.toml says of Inception's weights."""
    entry = public("stats", WEIGHTS)
    if entry is None:
        raise LookupError(WEIGHTS)
    return entry


def check_present(entries: Sequence[Public], cache: str | Path | None) -> None:
    """Refuse where some are not in the cache; `CheckpointError` where the weights are among them."""
    missing = [entry for entry in entries if not entry.is_present(cache)]
    if not missing:
        return
    error = absent(missing, cache)
    if any(entry.name == WEIGHTS for entry in missing):
        hint = "small images need no such file: --features pixels"
        raise CheckpointError(error.message, hint=hint, **error.fields)
    raise error


def reference_path(data_name: str, cache: str | Path | None = None) -> Path:
    """The file of Inception's statistics of a public set.

    Raises
    ------
    CheckpointError, DataNotFoundError
        It is not in the cache, or the weights are not, without which it is of no use.
    """
    named = [
        pair["stats"] for pair in known()["pair"].values() if pair["data"] == data_name and "stats" in pair
    ]
    entry = public("stats", named[0]) if named else None
    path = cached("stats", f"{data_name}.npz", folder=cache)
    if entry is not None and not path.exists():
        check_present([entry, published()], cache)
        path = entry.path(cache)
    if not path.exists():
        raise DataNotFoundError(
            f"no statistics of {data_name} are published, and {path} is not there",
            hint=f"merged-diffusion fid-ref {_as_command(data_name)} {path} --split train",
            file=str(path),
        )
    return path


def _as_command(data_name: str) -> str:
    """A set of the cards as the command line names it."""
    name, _, variant = data_name.partition("-")
    return f"{name} --variant {variant}" if variant else name
