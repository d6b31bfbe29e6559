"""The sets of images that have a name, and where they lie. Needs no torch."""

from __future__ import annotations

from pathlib import Path

from merged_diffusion.catalogue.cache import cached
from merged_diffusion.catalogue.entries import known, public


def set_rows(cache: str | Path | None = None) -> list[dict[str, object]]:
    """A row for each set that has a name: where it is, or where it belongs."""
    rows = []
    for name, card in known()["data"].items():
        if public("data", name) is None:
            rows.append({"name": name, "bundled": True, "present": True, "file": card["files"][0]})
            continue
        forms = forms_of(name, cache)
        found = [place for place in forms if place.exists()]
        rows.append(
            {"name": name, "bundled": False, "present": bool(found), "file": str((found or forms)[0])}
        )
    return rows


def forms_of(name: str, cache: str | Path | None = None) -> list[Path]:
    """Where a public set may lie, in the order in which it is looked for; `fetch` brings the first."""
    card = known()["data"][name]
    return [cached(at, folder=cache) for at in (card["at"], *card.get("instead", ()))]
