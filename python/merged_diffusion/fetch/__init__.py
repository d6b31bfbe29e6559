"""Bring public files into the cache. Nothing else touches the network; no evaluation does.

A file grows as ``NAME.part`` beside its target, is hashed whole, and takes its name in one step. Its hash is
compared with the published one, or with that of its first download.
"""

from __future__ import annotations

import difflib
import json
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from merged_diffusion.catalogue.absent import absent
from merged_diffusion.catalogue.cache import cache_folder, cached
from merged_diffusion.catalogue.entries import KINDS, UNNAMED, Kind, Public, known, pair_card, public, targets
from merged_diffusion.catalogue.fetched import HASHES, known_hashes, recorded_sha256
from merged_diffusion.errors import (
    CheckpointError,
    DataIntegrityError,
    MergedDiffusionError,
    RunLockedError,
    StorageError,
    UsageError,
)
from merged_diffusion.fetch.hub import with_files
from merged_diffusion.fetch.transfer import Observer, receive, size_at
from merged_diffusion.files.reading import read_text, sha256_of
from merged_diffusion.runs.directory import Directory, write_file
from merged_diffusion.runs.lock import Lock
from merged_diffusion.runs.places import storing

__all__ = [
    "Item",
    "Observer",
    "bring",
    "items",
    "locked",
    "prepare",
    "wanted",
]

log = logging.getLogger("merged_diffusion")
LOCK: Final = ".fetch.lock"
KEPT_DIGITS: Final = 12  # of the hash, in the name of a file that was refused


@dataclass(frozen=True)
class Item:
    """One file: where it comes from, where it goes, what is known of it."""

    entry: Public
    url: str
    target: Path
    size: int | None = None
    sha256: str | None = None

    @property
    def is_present(self) -> bool:
        """Whether a file is there; `bring` looks at its content."""
        return self.target.is_file()


def wanted(names: Sequence[str], only: Kind | None = None) -> list[Public]:
    """What the names stand for: a pair with all it needs, or one of its parts.

    Raises
    ------
    UsageError
        A name that is not known, or of what comes with the package.
    """
    found: dict[Public, None] = {}
    for name in names:
        entries = [public(kind, part) for kind, part in _parts(name)]
        if all(entry is None for entry in entries):
            raise _unknown(name)
        found |= dict.fromkeys(e for e in entries if e is not None and only in (None, e.kind))
    return list(found)


def _unknown(name: str) -> UsageError:
    """The error that says what can be fetched; of experts, of which there are many, those of like names."""
    pairs = [pair for pair in known()["pair"] if any(public(*part) for part in _parts(pair))]
    by_kind = {kind: [each for each in known()[kind] if public(kind, each)] for kind in KINDS}
    few = dict.fromkeys([*pairs, *by_kind["data"], *by_kind["stats"]])
    files = {Path(known()["expert"][each]["at"]).name: each for each in by_kind["expert"]}
    near = difflib.get_close_matches(name, [*few, *by_kind["expert"]], n=3)
    near = [files[name]] if name in files else near
    like = f"did you mean {' or '.join(near)}? " if near else ""
    return UsageError(
        f"there is nothing to fetch by the name {name!r}",
        hint=f"{like}known: {', '.join(few)}, the experts that experts list shows, hf:owner/name@revision",
    )


def _parts(name: str) -> list[tuple[Kind, str]]:
    """The kinds and names of what a name may stand for."""
    if name not in known()["pair"]:
        return [(kind, name) for kind in KINDS]
    card = pair_card(name)
    parts: list[tuple[Kind, str]] = [("data", card.data), ("expert", card.likelihood)]
    parts.append(("expert", card.quality))
    return parts if card.stats is None else [*parts, ("stats", card.stats)]


def items(entry: Public, folder: str | Path | None = None) -> list[Item]:
    """The files of an entry, without asking anybody."""
    hashes = known_hashes(entry, folder)
    return [
        Item(entry, url, path, item.size, hashes.get(path.relative_to(cache_folder(folder)).as_posix()))
        for item, (url, path) in zip(entry.downloads, targets(entry, folder), strict=True)
    ]


def prepare(entries: Sequence[Public], folder: str | Path | None = None) -> list[Item]:
    """The files of all entries with their sizes, from the network where it takes it.

    Raises
    ------
    CheckpointError, DataNotFoundError
        Something is brought by hand only.
    """
    by_hand = [e for e in entries if e.by_hand is not None and not e.is_present(folder)]
    if by_hand:
        raise absent(by_hand, folder)
    found = []
    for listed in entries:
        entry = with_files(listed) if listed.name.startswith("hf:") else listed
        if any(UNNAMED in item.url for item in items(entry, folder)):
            for item in items(entry, folder):  # the small file that names the others
                if UNNAMED not in item.url:
                    bring(item, folder)
        unnamed = [item for item in items(entry, folder) if UNNAMED in item.url]
        if unnamed:
            raise CheckpointError(
                f"{entry.name}: the file checkpoint names no ckpt-N",
                hint=f"the server sent something else: look at {unnamed[0].target.with_name('checkpoint')}",
                expert=entry.name,
            )
        found += items(entry, folder)
    return [replace(i, size=size_at(i.url)) if i.size is None and not i.is_present else i for i in found]


def bring(item: Item, folder: str | Path | None = None, observe: Observer | None = None) -> str:
    """Have the file in its place, by download where it is not there; its SHA-256.

    Raises
    ------
    ResourceError
        The network or the server failed; the same call goes on.
    DataIntegrityError, CheckpointError
        It is not the file that is known; a download is kept under another name.
    StorageError
        It cannot be written.
    """
    if item.is_present:
        return _checked(item, folder)
    part = item.target.with_name(f"{item.target.name}.part")
    try:
        part.parent.mkdir(parents=True, exist_ok=True)
        receive(item.url, part, is_known=item.sha256 is not None, observe=observe)
        sha256 = sha256_of(part)
        if item.sha256 not in (None, sha256):
            kept = part.with_name(f"{item.target.name}.refused-{sha256[:KEPT_DIGITS]}")
            part.replace(kept)
            raise _refused(item, sha256, f"it is kept as {kept}")
        part.replace(item.target)
        record(item.target, sha256, item.url, folder)
    except OSError as error:
        raise StorageError(
            f"{item.target} cannot be written ({error.strerror})", file=str(item.target)
        ) from error
    return sha256


def record(path: Path, sha256: str, url: str, folder: str | Path | None = None) -> None:
    """Add a file that has just been fetched."""
    place = cached(HASHES, folder=folder)
    kept = json.loads(read_text(place)) if place.exists() else {}
    kept[path.relative_to(cache_folder(folder)).as_posix()] = {
        "sha256": sha256,
        "size": path.stat().st_size,
        "url": url,
    }
    write_file(place, (json.dumps(kept, indent=1, sort_keys=True) + "\n").encode())


def _checked(item: Item, folder: str | Path | None) -> str:
    """The hash of what is there: refused if it was fetched and has changed, else a user's own to place."""
    sha256 = sha256_of(item.target)
    if item.sha256 not in (None, sha256):
        if recorded_sha256(item.target, folder) is not None:
            raise _refused(item, sha256, "it changed since it was fetched; move it away to fetch it again")
        log.warning("%s has SHA-256 %s, published is %s; left as it is", item.target, sha256, item.sha256)
    return sha256


def _refused(item: Item, found: str, fate: str) -> MergedDiffusionError:
    kind = CheckpointError if item.entry.kind == "expert" else DataIntegrityError
    return kind(
        f"{item.target} has SHA-256 {found}, known is {item.sha256}",
        hint=fate, file=str(item.target), url=item.url, expected=item.sha256, found=found,
    )  # fmt: skip


@contextmanager
def locked(folder: str | Path | None = None) -> Iterator[None]:
    """Keep other fetches out of the cache.

    Raises
    ------
    RunLockedError
        One is at work.
    StorageError
        The cache cannot be written.
    """
    place = cache_folder(folder)
    refused = RunLockedError(
        f"another process fetches into {place}", hint="wait for it, or name another --cache"
    )
    with storing(place):
        place.mkdir(parents=True, exist_ok=True)
    with Directory(place) as cache, Lock(cache, LOCK).held(0.0, refused):
        yield
