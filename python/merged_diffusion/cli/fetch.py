"""``fetch``: public files into the cache."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from merged_diffusion.catalogue.cache import cache_folder
from merged_diffusion.catalogue.entries import KINDS, UNNAMED, Kind, Public
from merged_diffusion.cli import completion, help_screen, options
from merged_diffusion.cli.output import emit, emit_json, remarks, say
from merged_diffusion.escapes import shown

if TYPE_CHECKING:
    from merged_diffusion.fetch import Item

UNITS: Final = ("bytes", "kB", "MB", "GB")
EPILOG: Final = """\b
Examples:
  merged-diffusion fetch cifar10
  merged-diffusion fetch cifar10 --only data
  merged-diffusion fetch cifar10 --dry-run
  merged-diffusion fetch hf:google/ddpm-cifar10-32@main
"""


@click.command("fetch", cls=help_screen.Command, epilog=EPILOG)
@click.argument("names", metavar="NAME...", nargs=-1, required=True, shell_complete=completion.to_fetch)
@click.option("--only", type=click.Choice(KINDS), show_default="all", help="Bring this part of a pair alone.")
@options.cache
@click.option("--dry-run", is_flag=True, help="Print addresses and where the files belong; download nothing.")
@options.printing
def command(
    names: tuple[str, ...],
    only: Kind | None,
    cache: Path | None,
    dry_run: bool,
    quiet: bool,
    as_json: bool,
) -> int:
    """Download what a pair of public models needs: data, both experts, statistics.

    NAME is a pair (cifar10), a part of one, or hf:owner/name@revision. Sizes and licences are told first. The
    same command goes on where it was cut off. No other command touches the network.
    """
    from merged_diffusion.fetch import items, locked, prepare, wanted

    entries = wanted(names, only)
    there: list[bool] = []
    if dry_run:
        plan = [item for entry in entries for item in items(entry, cache)]
        rows = [_row(item) for item in plan]
    else:
        with remarks(quiet=quiet), locked(cache):
            plan = prepare(entries, cache)
            if not quiet:
                _announce(entries, plan, cache)
            there = [item.is_present for item in plan]
            hashes = [_bring(item, cache, quiet=quiet) for item in plan]
        rows = [
            _row(item) | {"present": True, "fetched": not old, "sha256": sha256}
            for item, old, sha256 in zip(plan, there, hashes, strict=True)
        ]
    if as_json:
        value = {"command": "fetch", "dry_run": dry_run, "cache": cache_folder(cache), "files": rows}
        emit_json(value | {"by_hand": [_by_hand(entry, cache) for entry in _only_by_hand(entries)]})
    elif dry_run:
        for entry in entries:
            emit("\n".join(_addresses(entry, plan, cache)))
        emit("nothing was downloaded")
    else:
        fetched = there.count(False)
        emit(f"{fetched} files fetched, {len(rows) - fetched} were there; all lie in {cache_folder(cache)}")
    return 0


def _announce(entries: Sequence[Public], plan: Sequence[Item], cache: Path | None) -> None:
    """Sizes and licences, before anything large is moved."""
    for entry in entries:
        say(f"{entry.name}: {entry.title}; licence: {entry.licence}")
        for item in plan:
            if item.entry.name == entry.name and item.entry.kind == entry.kind:
                what = "is there" if item.is_present else amount(item.size)
                say(f"  {what:>9}  {item.target}")
    left = [item for item in plan if not item.is_present]
    known = sum(item.size or 0 for item in left)
    unknown = sum(item.size is None for item in left)
    more = f" and {unknown} of unknown size" if unknown else ""
    say(f"{len(left)} files, {amount(known)}{more} into {cache_folder(cache)}")


def _bring(item: Item, cache: Path | None, *, quiet: bool) -> str:
    """Have one file in its place, with a bar on a terminal."""
    from tqdm import tqdm

    from merged_diffusion.fetch import bring

    is_shown = not quiet and not item.is_present and sys.stderr.isatty() and "NO_COLOR" not in os.environ
    with tqdm(
        desc=shown(item.target.name), total=item.size, unit="B", unit_scale=True, disable=not is_shown
    ) as bar:

        def observe(done: int, whole: int | None) -> None:
            bar.total = whole
            bar.update(done - bar.n)

        return bring(item, cache, observe)


def amount(size: int | None) -> str:
    """Bytes for people."""
    if size is None:
        return "? bytes"
    power = min(len(UNITS) - 1, (len(str(size)) - 1) // 3)
    return f"{size} bytes" if power == 0 else f"{size / 1000**power:.3g} {UNITS[power]}"


def _row(item: Item) -> dict[str, object]:
    entry = {key: getattr(item.entry, key) for key in ("name", "kind", "licence")}
    file = {key: getattr(item, key) for key in ("url", "target", "size", "sha256")}
    return entry | file | {"present": item.is_present}


def _only_by_hand(entries: Sequence[Public]) -> list[Public]:
    return [entry for entry in entries if not entry.downloads]


def _by_hand(entry: Public, cache: Path | None) -> dict[str, object]:
    return {
        "name": entry.name,
        "source": entry.source,
        "how": entry.by_hand,
        "target": entry.path(cache),
        "present": entry.is_present(cache),
    }


def _addresses(entry: Public, plan: Sequence[Item], cache: Path | None) -> list[str]:
    """What another machine has to fetch, and where it belongs on this one."""
    lines = [f"{entry.name}: {entry.title}; licence: {entry.licence}"]
    for item in plan:
        if item.entry == entry:
            there = " (is there)" if item.is_present else ""
            lines += [f"  from {item.url}", f"  to   {item.target}{there}"]
            if item.size is not None:
                lines.append(f"       {amount(item.size)}")
            if UNNAMED in item.url:
                lines.append(f"       {UNNAMED}: the name that the file checkpoint states")
            if item.sha256 is not None:
                lines.append(f"       sha256 {item.sha256}")
    if not entry.downloads:
        how = "the files that its loader reads" if entry.by_hand is None else entry.by_hand
        lines += [f"  from {entry.source}: {how}", f"  to   {entry.path(cache)}"]
    return lines
