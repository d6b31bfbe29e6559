"""The experts and pairs that have a name, and where they are. Needs no torch."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Final

from merged_diffusion.catalogue.cache import cache_folder
from merged_diffusion.catalogue.entries import PairCard, Public, known, pair_card, public

Row = dict[str, object]
# What is told of an expert where it is known; of one of the package its card says it.
FACTS: Final = (
    *("format", "image_shape", "labels", "gamma_range", "parameters", "read_as", "network", "predicts"),
    *("downloads", "by_hand"),
)


def expert_rows(cache: str | Path | None = None) -> list[Row]:
    """Bundled and public experts, and the repositories of the hub that are in the cache."""
    rows = []
    for name, entry in known()["expert"].items():
        found = public("expert", name)
        rows.append(_bundled(name, entry["folder"]) if found is None else _public(found, entry, cache))
    hub = cache_folder(cache) / "hf"
    for folder in sorted(path for path in hub.glob("*/*/*") if path.is_dir()):
        owner, name, revision = folder.relative_to(hub).parts
        row = {"name": f"hf:{owner}/{name}@{revision}", "kind": None, "title": "a repository of the hub"}
        state = {"bundled": False, "present": True, "path": str(folder), "licence": "", "source": ""}
        at = folder.relative_to(hub.parent).as_posix()
        rows.append(row | state | {"get": None, "family": None, "at": at} | dict.fromkeys(FACTS))
    return rows


def _bundled(name: str, at: str) -> Row:
    folder = resources.files("merged_diffusion.experts").joinpath(at)
    card = tomllib.loads(folder.joinpath("card.toml").read_text(encoding="utf-8"))
    return {
        "name": f"bundled:{name}",
        "kind": card["kind"],
        "title": "",
        "bundled": True,
        "present": True,
        "path": str(folder),
        "licence": card["licence"],
        "source": card["source"],
        "get": None,
        "family": None,
        "at": None,
        **_facts(card | {"format": "safetensors"}),
    }


def _public(entry: Public, card: Mapping[str, object], cache: str | Path | None) -> Row:
    by_hand = entry.by_hand if entry.by_hand is None else f"{entry.source}: {entry.by_hand}"
    return {
        "name": entry.name,
        "kind": card["kind"],
        "title": entry.title,
        "bundled": False,
        "present": entry.is_present(cache),
        "path": str(entry.path(cache)),
        "licence": entry.licence,
        "source": entry.source,
        "get": by_hand or f"merged-diffusion fetch {entry.name}",
        "family": card["family"],
        "at": entry.at,
        **_facts(card),
    }


def _facts(card: Mapping[str, object]) -> Row:
    return {key: card.get(key) for key in FACTS} | {"labels": bool(card.get("labels"))}


def pair_rows(cache: str | Path | None = None) -> list[Row]:
    """The pairs: their experts as they would be taken, eta's range in gamma, the recommended eta."""
    return [_pair(pair_card(name), cache) for name in known()["pair"]]


def _pair(pair: PairCard, cache: str | Path | None) -> Row:
    experts = pair.sources(cache)
    public_ones = [public("expert", source) for source in experts.values()]
    return {
        "name": pair.name,
        "data": pair.data,
        **experts,
        "eta_range": list(pair.eta_range),
        "eta": pair.eta,
        "present": all(entry is None or entry.is_present(cache) for entry in public_ones),
    }
