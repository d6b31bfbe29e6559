"""What a user should know of the experts' files: which were taken, their licence, a hash that changed."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

from merged_diffusion.catalogue.entries import Public, public
from merged_diffusion.catalogue.fetched import known_hashes
from merged_diffusion.jobs.identity import Experts

log = logging.getLogger("merged_diffusion")


def expert_notes(identity: Experts, cache: str | Path | None) -> Iterator[str]:
    """Lines on the experts, by role; a warning in the log where a file is not the release that was known."""
    if same_weights(identity):
        sources = " and ".join(dict.fromkeys(item.source for item in identity.values()))
        yield f"both experts are the same weights ({sources}): merging them changes nothing"
    for role, item in identity.items():
        source, provenance = item.source, item.provenance
        entry = public("expert", source)
        if entry is not None:
            _check_release(entry, provenance.get("sha256"), cache)
        licence = provenance.get("licence") or ("" if entry is None else entry.licence)
        if source.startswith("bundled:") or not licence:
            continue
        file = provenance.get("source", source)
        yield f"{role} expert {source}{'' if file == source else f' from {file}'}; licence: {licence}"


def same_weights(identity: Experts) -> bool:
    """Whether both roles were given the same weights, which mean the same."""
    found = [(item.weights_sha256, item.predicts, item.input) for item in identity.values()]
    return len(found) == 2 and found[0][0] is not None and found[0] == found[1]


def _check_release(entry: Public, found: object, cache: str | Path | None) -> None:
    known = known_hashes(entry, cache).values()
    if found is not None and known and found not in known:
        expected = " or ".join(known)
        log.warning("%s has SHA-256 %s, the release that is known %s; going on", entry.name, found, expected)
