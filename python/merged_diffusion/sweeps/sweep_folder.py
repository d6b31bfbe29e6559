"""The directory of a sweep: ``sweep.json`` and one ordinary run for each row.

A sweep that was stopped goes on in its directory; one of other data, experts or settings is refused. Which
thresholds and how many images a command asks for may differ.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Final

from merged_diffusion.errors import RunError, RunMismatchError
from merged_diffusion.runs.directory import Directory, strangers
from merged_diffusion.runs.folder import LOCK, locked, refuse_strangers
from merged_diffusion.runs.kept import as_kept
from merged_diffusion.runs.places import make, refuse_link, unmake
from merged_diffusion.runs.settings_file import differences, is_machine, json_text, listed, read_versioned
from merged_diffusion.sweeps.request import METRICS
from merged_diffusion.sweeps.table import FORMAT, SweepTable

NAME: Final = "sweep.json"
SAMPLES: Final = "samples.npz"  # of a row that is drawn
MEASURE: Final = "measure.lock"  # beside them, while their distance is measured
WRITE_SECONDS: Final = 600.0  # that other workers may take for their tables


def read(folder: Path) -> SweepTable | None:
    """The table of a sweep, or None where there is none.

    Raises
    ------
    RunError
        Written by a newer version, or damaged.
    """
    path = folder / NAME
    found = read_versioned(path, what="the table of a sweep", hint="remove it: the runs beside it hold all")
    if found is None:
        return None
    version, metric = found["format"], found.get("metric")
    is_newer = not isinstance(version, int) or version > FORMAT
    if is_newer or (isinstance(metric, str) and metric not in METRICS):
        raise RunError(
            f"{path}: format {version}, metric {metric}, but this version of merged-diffusion reads formats"
            f" up to {FORMAT} with {', '.join(METRICS)}",
            hint="use the version that wrote it, or a newer one",
            file=str(path),
        )
    with as_kept(folder):
        return SweepTable.of(found)


def begin(
    folder: Path, asked: SweepTable, *, allow_rebatch: bool = False, is_shared: bool = False
) -> tuple[SweepTable | None, Sequence[Path] | None]:
    """Make the directory a sweep's, or agree with the one that is there.

    Either the table so far, or what directories a new one made; ``is_shared`` where other workers do the
    same now.

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
            with Directory(folder) as place, _alone(place, is_shared=is_shared):
                held = read(folder) if is_shared else None
                if held is None:
                    refuse_strangers(place, NAME)
                    place.write(NAME, json_text(asked.as_dict()))
        except BaseException:
            unmake(made)
            raise
        if held is None:
            return None, made
    with as_kept(folder):
        found = differences(_identity(held), _identity(asked))
    fatal = {key: pair for key, pair in found.items() if not (allow_rebatch and is_machine(key))}
    if fatal:
        raise RunMismatchError(
            f"{folder}: holds a sweep of other settings: {listed(fatal)}",
            hint="use another --out",
            differences={key: {"recorded": a, "asked": b} for key, (a, b) in fatal.items()},
        )
    return held, None


def write(folder: Path, result: Callable[[], SweepTable], *, is_shared: bool = False) -> None:
    """Replace the table by that of ``result``.

    Workers that end together (``is_shared``) do it one after the other, each from what is there by then.
    """
    with Directory(folder) as place, _alone(place, is_shared=is_shared):
        place.remove_drafts([NAME])
        place.write(NAME, json_text(result().as_dict()))


def _alone(place: Directory, *, is_shared: bool) -> AbstractContextManager[None]:
    return locked(place, seconds=WRITE_SECONDS) if is_shared else nullcontext()


def take_back(folder: Path, made: Sequence[Path]) -> None:
    """Remove a sweep that was begun and of which no row is."""
    with Directory(folder) as place:
        if not strangers(place.names(), re.compile(f"{re.escape(NAME)}|{re.escape(LOCK)}")):
            place.remove([NAME, LOCK])
    unmake(made)


def _identity(table: SweepTable) -> dict[str, object]:
    return {
        "metric": table.metric,
        "data": {key: item for key, item in table.data.items() if key != "n"},
        "experts": table.experts,
        "settings": table.settings,
    }
