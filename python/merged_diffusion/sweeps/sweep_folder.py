"""The directory of a sweep: ``sweep.json`` and one ordinary run for each row.

A sweep that was stopped goes on in its directory; one of other data, experts or settings is refused. Which
thresholds and how many images a command asks for may differ.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from merged_diffusion.errors import RunCorruptError, RunError, RunMismatchError, StorageError
from merged_diffusion.files.reading import read_text
from merged_diffusion.runs.directory import Directory, strangers
from merged_diffusion.runs.folder import refuse_strangers
from merged_diffusion.runs.kept import as_kept
from merged_diffusion.runs.places import make, refuse_link, unmake
from merged_diffusion.runs.settings_file import differences, is_machine, json_text

FORMAT: Final = 1
NAME: Final = "sweep.json"
Counts = dict[str, int]


def read(folder: Path) -> dict[str, Any] | None:
    """The table of a sweep, or None where there is none.

    Raises
    ------
    RunError
        Written by a newer version, or damaged.
    """
    path = folder / NAME
    try:
        found: dict[str, Any] = json.loads(read_text(path))
        version = found["format"]
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise StorageError(f"{path}: cannot be read ({error.strerror})", file=str(path)) from error
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise RunCorruptError(
            f"{path}: not the table of a sweep", hint="remove it: the runs beside it hold all", file=str(path)
        ) from error
    if not isinstance(version, int) or version > FORMAT:
        raise RunError(
            f"{path}: format {version}, but this version of merged-diffusion reads formats up to {FORMAT}",
            hint="use the version that wrote it, or a newer one",
            file=str(path),
        )
    return found


def begin(
    folder: Path, asked: Mapping[str, Any], *, allow_rebatch: bool = False
) -> tuple[Counts, float, list[Path] | None]:
    """Make the directory a sweep's, or agree with the one that is there.

    Evaluations and seconds so far, and what directories a new one made (None: it was there).

    Raises
    ------
    RunError
        The directory holds something else, or a sweep of other settings (`RunMismatchError`).
    StorageError
        It cannot be written.
    """
    refuse_link(folder)
    held = read(folder)
    if held is None:
        made = make(folder)
        try:
            with Directory(folder) as place:
                refuse_strangers(place, NAME)
                place.write(NAME, json_text(asked))
        except BaseException:
            unmake(made)
            raise
        return {"spent": 0, "single_runs": 0}, 0.0, made
    with as_kept(folder):
        found = differences(_identity(held), _identity(asked))
        spent = {name: int(count) for name, count in held["evaluations"].items()}
        seconds = float(held["seconds"])
    fatal = {key: pair for key, pair in found.items() if not (allow_rebatch and is_machine(key))}
    if fatal:
        listed = (f"{key.removeprefix('settings.')} {a} there, {b} here" for key, (a, b) in fatal.items())
        raise RunMismatchError(
            f"{folder}: holds a sweep of other settings: {'; '.join(listed)}",
            hint="use another --out",
            differences={key: {"recorded": a, "asked": b} for key, (a, b) in fatal.items()},
        )
    return spent, seconds, None


def write(folder: Path, table: Mapping[str, Any]) -> None:
    """Replace the table."""
    with Directory(folder) as place:
        place.remove_drafts([NAME])
        place.write(NAME, json_text(table))


def take_back(folder: Path, made: Sequence[Path]) -> None:
    """Remove a sweep that was begun and of which no row is."""
    with Directory(folder) as place:
        if not strangers(place.names(), re.compile(re.escape(NAME))):
            place.remove([NAME])
    unmake(made)


def _identity(table: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "metric": table["metric"],
        "data": {key: item for key, item in table["data"].items() if key != "n"},
        "experts": table["pair"]["experts"],
        "settings": table["settings"],
    }
