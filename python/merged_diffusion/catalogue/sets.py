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


def set_name(name: str, split: str) -> str:
    """``photos/train``, and of a file its name alone: which split it is only its owner knows."""
    names = {known_name.removesuffix("-old").removesuffix("-new") for known_name in known()["data"]}
    return f"{name}/{split}" if name in names else name


def forms_of(name: str, cache: str | Path | None = None) -> list[Path]:
    """Where a public set may lie, in the order in which it is looked for; `fetch` brings the first."""
    card = known()["data"][name]
    return [cached(at, folder=cache) for at in (card["at"], *card.get("instead", ()))]
