"""Public files that are not in the cache: what to say, alone enough to go on. Needs no torch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

from merged_diffusion.catalogue.cache import VARIABLE, cache_folder
from merged_diffusion.catalogue.entries import UNNAMED, Public, known, pair_card, public, targets
from merged_diffusion.errors import CheckpointError, DataNotFoundError, MergedDiffusionError

AT_ONCE: Final = "to try the program at once: merged-diffusion nll --data photos --limit 128 --compare"


def expert_paths(sources: Iterable[str], folder: str | Path | None = None) -> list[str | Path]:
    """What `load_expert` takes: the path in the cache of a public expert's name, any other source as it is.

    Raises
    ------
    CheckpointError
        Some are not in the cache; the message says of all of them how they get there.
    """
    entries = [(source, public("expert", source)) for source in sources]
    missing = [entry for _, entry in entries if entry is not None and not entry.is_present(folder)]
    if missing:
        raise absent(list(dict.fromkeys(missing)), folder)
    return [source if entry is None else entry.path(folder) for source, entry in entries]


def absent(entries: Sequence[Public], folder: str | Path | None = None) -> MergedDiffusionError:
    """The error that says of each missing file its name, its public place, where it goes and how.

    `CheckpointError` where an expert is among them, else `DataNotFoundError`.
    """
    kind = CheckpointError if any(entry.kind == "expert" for entry in entries) else DataNotFoundError
    lines = [f"not in the cache {cache_folder(folder)} (--cache, {VARIABLE}):"]
    for entry in entries:
        lines += _lines(entry, folder)
    if any(UNNAMED in line for line in lines):
        lines.append(f"the file checkpoint states the name {UNNAMED}")
    return kind(
        "\n".join([*lines, _remedy(entries, folder)]),
        hint=AT_ONCE,
        missing=[_fields(entry, folder) for entry in entries],
    )


def _lines(entry: Public, folder: str | Path | None) -> Iterator[str]:
    yield f"  {entry.name}: {entry.title}; licence: {entry.licence}"
    for url, path in targets(entry, folder):
        yield f"    from {url}"
        yield f"    to   {path}"
    if not entry.downloads:
        yield f"    from {entry.source}" + ("" if entry.by_hand is None else f": {entry.by_hand}")
        yield f"    to   {entry.path(folder)}"


def _fields(entry: Public, folder: str | Path | None) -> dict[str, object]:
    files = [{"url": url, "target": str(path)} for url, path in targets(entry, folder)]
    facts = {key: getattr(entry, key) for key in ("name", "kind", "title", "licence", "source", "by_hand")}
    return facts | {"target": str(entry.path(folder)), "files": files}


def _remedy(entries: Sequence[Public], folder: str | Path | None) -> str:
    """The command that brings what can be brought."""
    names = [entry.name for entry in entries if entry.by_hand is None]
    if not names:
        return "put the files there by hand"
    only = " --only data" if {entry.kind for entry in entries} == {"data"} else ""
    place = "" if folder is None else f" --cache {folder}"
    command = f"merged-diffusion fetch {' '.join(_as_pair(names))}{only}{place}"
    return f"put the files there, or run: {command} (--dry-run: addresses for a machine with network)"


def _as_pair(names: Sequence[str]) -> list[str]:
    """The name of the pair that these are the data or both experts of, else the names themselves."""
    for name in known()["pair"]:
        card = pair_card(name)
        experts = {card.likelihood, card.quality}
        if set(names) <= {card.data, *experts} and (card.data in names or experts <= set(names)):
            return [name]
    return list(names)
