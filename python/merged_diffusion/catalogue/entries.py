"""What the package knows by name: experts, pairs of experts, data sets, statistics. Needs no torch.

It stands in ``cards.toml``, of the public experts in ``public_experts.toml``.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, Final, Literal

from merged_diffusion.catalogue.cache import cached, hub_folder
from merged_diffusion.errors import UsageError
from merged_diffusion.files.reading import read_bytes

Kind = Literal["data", "expert", "stats"]
KINDS: Final[tuple[Kind, ...]] = ("data", "expert", "stats")
# An address or path that is known once the file `checkpoint` beside it has been read.
NAMED: Final = "{checkpoint}"
HUB: Final = "https://huggingface.co"
UNNAMED: Final = "ckpt-N"
CONVERTED: Final = "model.safetensors"  # of a folder that `experts convert` wrote


@cache
def known() -> dict[str, Any]:
    """The tables of both files: ``expert``, ``pair``, ``data``, ``stats``.

    A public expert has the entries of its family, too, whose title is its ``family``.
    """
    tables, public_ones = _tables("cards.toml"), _tables("public_experts.toml")
    families = public_ones["family"]
    for name, own in public_ones["expert"].items():
        tables["expert"][name] = _whole(name, own, families[own["family"]])
    return tables


def _tables(file: str) -> dict[str, Any]:
    text = resources.files("merged_diffusion.catalogue").joinpath(file).read_text(encoding="utf-8")
    return tomllib.loads(text)


def _whole(name: str, own: dict[str, Any], family: dict[str, Any]) -> dict[str, Any]:
    """An expert's entries and those of its family; its own come first."""
    entry = {**family, "instead": [f"experts/{name}/{CONVERTED}"], **own, "family": family["title"]}
    if "network" in family:
        entry["network"] = {**family["network"], **own.get("network", {})}
    return entry


@dataclass(frozen=True)
class Download:
    """A public file: its address, its path in the cache, what is known of its content."""

    url: str
    at: str
    size: int | None = None
    sha256: str | None = None


@dataclass(frozen=True)
class Public:
    """Something that is not in the package and has a place in the cache."""

    kind: Kind
    name: str
    title: str
    at: str
    licence: str = ""
    source: str = ""
    downloads: tuple[Download, ...] = ()
    by_hand: str | None = None
    needs: tuple[str, ...] = field(default=(), repr=False)
    instead: tuple[str, ...] = field(default=(), repr=False)

    def path(self, folder: str | Path | None = None) -> Path:
        """Where it is, else where it belongs: what `load_expert` takes."""
        return next(iter(self._found(folder)), cached(self.at, folder=folder))

    def is_present(self, folder: str | Path | None = None) -> bool:
        """Whether its files, or what does as well, are in the cache."""
        return any(True for _ in self._found(folder))

    def _found(self, folder: str | Path | None) -> Iterator[Path]:
        place = cached(self.at, folder=folder)
        if all(any(place.glob(need)) for need in self.needs) if self.needs else place.exists():
            yield place
        for other in (cached(name, folder=folder) for name in self.instead):
            if other.exists():
                yield other.parent if other.name == CONVERTED else other


@dataclass(frozen=True)
class PairCard:
    """A ``[pair.X]`` table: sources of both experts, eta's range in gamma, the recommended eta.

    ``preferred`` is taken for the likelihood expert where it is in the cache.
    """

    name: str
    data: str
    likelihood: str
    quality: str
    eta_range: tuple[float, float]
    eta: float
    preferred: str | None = None
    stats: str | None = None

    def sources(self, folder: str | Path | None = None) -> dict[str, str]:
        """The experts by role, as they are to be loaded."""
        other = None if self.preferred is None else public("expert", self.preferred)
        likelihood = other.name if other is not None and other.is_present(folder) else self.likelihood
        return {"likelihood": likelihood, "quality": self.quality}


def pair_card(name: str) -> PairCard:
    """The card of the pair ``name``."""
    table = known()["pair"]
    if name not in table:
        raise UsageError(f"no pair is called {name!r}", hint=f"known: {', '.join(table)}")
    card = dict(table[name])
    low, high = card.pop("eta_range")
    return PairCard(name, eta_range=(float(low), float(high)), eta=float(card.pop("eta")), **card)


def public(kind: Kind, name: str) -> Public | None:
    """What is known of a public expert, data set or statistics file; None for any other name.

    ``hf:owner/name@revision`` is an expert as well.
    """
    if kind == "expert" and name.startswith("hf:"):
        return Public(kind, name, "a repository of the hub", hub_folder(name).as_posix(), "its own", HUB)
    card = known()[kind].get(name, {})
    if "at" not in card:
        return None
    downloads = tuple(Download(**({"at": card["at"]} | entry)) for entry in card.get("downloads", ()))
    title, at, licence, source = (card.get(key, "") for key in ("title", "at", "licence", "source"))
    return Public(
        kind,
        name,
        title=title,
        at=at,
        licence=licence,
        source=source,
        downloads=downloads,
        by_hand=card.get("by_hand"),
        needs=tuple(card.get("needs", ())),
        instead=tuple(card.get("instead", ())),
    )


def targets(entry: Public, folder: str | Path | None = None) -> list[tuple[str, Path]]:
    """(address, path) of each file to bring; ``ckpt-N`` where a file that is not there names it."""
    found = []
    for item in entry.downloads:
        name = checkpoint_name(cached(item.at, folder=folder).parent / "checkpoint") or UNNAMED
        found.append((item.url.replace(NAMED, name), cached(item.at.replace(NAMED, name), folder=folder)))
    return found


def checkpoint_name(index: Path) -> str | None:
    """``ckpt-31``: the name that a ``checkpoint`` file of TensorFlow states; None without such a file."""
    try:
        text = read_bytes(index)[:4096].decode("utf-8", "replace")
    except OSError:
        return None
    found = re.search(r'^model_checkpoint_path:\s*"(?:[^"\n]*/)?(ckpt-\d{1,9})"', text, re.MULTILINE)
    return None if found is None else found[1]
