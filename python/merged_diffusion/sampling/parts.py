"""The folder of parts beside an output: where it is, what lies in it, and how its images are drawn."""

from __future__ import annotations

import re
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from merged_diffusion.errors import RunMismatchError
from merged_diffusion.runs.directory import Directory, strangers, token
from merged_diffusion.runs.folder import LOCK
from merged_diffusion.runs.kept import as_kept
from merged_diffusion.runs.lock import ANY_CLAIM, Lock
from merged_diffusion.runs.places import followed, storing
from merged_diffusion.runs.settings_file import RecordedMachine, Settings, differences, listed, read_settings
from merged_diffusion.sampling import sample_files

PART: Final = ".part"
SETTINGS: Final = "settings.json"
FINISH: Final = "finish.lock"
DRAFT: Final = "draft"
# Least id, worker, and eight hex digits, by which batches that overlap keep apart; once it was the id alone.
BATCH: Final = re.compile(r"[0-9]{20}(?:-[0-9]{4,}-of-[0-9]{4,}-[0-9a-f]{8})?\.npz")
SHARE: Final = re.compile(r"shard-[0-9]{4,}-of-[0-9]{4,}\.lock")
OWN: Final = re.compile(
    rf"{BATCH.pattern}|[0-9]{{20}}\.[0-9]+|{SHARE.pattern}|{re.escape(SETTINGS)}|{re.escape(LOCK)}"
    rf"|{re.escape(FINISH)}|{DRAFT}|{ANY_CLAIM}"
)
LEFT: Final = re.compile(rf"{ANY_CLAIM}|\.{re.escape(SETTINGS)}\.[0-9]+|\.{BATCH.pattern}\.[0-9]+")


def recorded_machine(out: Path) -> RecordedMachine | None:
    """The machine of the samples that are there or on their way."""
    return RecordedMachine.of(out, _recorded(out))


def recorded_settings(out: Path) -> Mapping[str, object]:
    """The settings of the samples that are there or on their way; none where they say nothing."""
    found = (_recorded(out) or {}).get("settings")
    return found if isinstance(found, Mapping) else {}


def recorded_threshold(out: Path) -> dict[str, float | None] | None:
    """The threshold, as eta or gamma, of the samples that are there or on their way, if they have one."""
    record = _recorded(out)
    with as_kept(out):
        echo = (record or {}).get("threshold") or {}
        eta, gamma = echo.get("eta"), echo.get("gamma")
    if not isinstance(eta, float):
        return None
    # An eta of 0 or 1 that has a gamma is no expert alone, which is what that eta asks for.
    return {"eta": eta, "gamma": None} if gamma is None or 0 < eta < 1 else {"eta": None, "gamma": gamma}


def _recorded(out: Path) -> Settings | None:
    form = sample_files.form_of(out)
    if form != "png" and is_taken(out):  # a picture that is there says nothing, and is made anew
        return sample_files.read_record(form, out)
    return read_settings(part_of(out))


def is_taken(out: Path) -> bool:
    """Whether something is at the path; an empty directory is nothing."""
    with storing(out, "read"):
        return out.is_file() or (out.is_dir() and any(out.iterdir()))


def part_of(out: Path) -> Path:
    """Where the parts of an output lie."""
    target = followed(out)
    return target.with_name(target.name + PART)


def take_apart(place: Directory, name: str) -> None:
    """Take a folder of parts apart, by name; in which something else lies, stays with that."""
    found = place.status(name)
    if found is None or not stat.S_ISDIR(found.st_mode):
        return
    with place.folder(name) as part:
        if not sample_files.remove_folder(part, DRAFT):
            part.remove([DRAFT])
        own = [entry for entry in part.names() if not strangers([entry], OWN)]
        part.remove(entry for entry in own if entry not in (SETTINGS, DRAFT))
        part.remove([SETTINGS])
    place.remove_folder(name)


def clear_leftovers(place: Directory, name: str) -> None:
    """Take apart what commands that were killed had put aside of a folder of parts."""
    aside = re.compile(rf"{re.escape(name)}\.[0-9a-f]{{8}}")
    for found in place.names():
        if aside.fullmatch(found):
            take_apart(place, found)


def share_lock(shard: tuple[int, int]) -> str:
    """The name of the lock of worker I of N."""
    return f"shard-{shard[0]:04d}-of-{shard[1]:04d}.lock"


def is_share_taken(part: Directory, shard: tuple[int, int]) -> bool:
    """Whether a process draws the share of worker I of N."""
    name = share_lock(shard)
    if not part.is_there() or part.status(name) is None:
        return False
    lock = Lock(part, name)
    if not lock.acquire(0.0):
        return True
    lock.release()
    return False


def batch_name(first: int, shard: tuple[int, int]) -> str:
    """A name that no batch has, for one of worker I of N whose least id is ``first``."""
    return f"{first:020d}-{shard[0]:04d}-of-{shard[1]:04d}-{token()}.npz"


def batch_names(part: Directory) -> list[str]:
    """The batches that lie in a folder of parts."""
    return [name for name in part.names() if BATCH.fullmatch(name)]


def is_same(where: Path, recorded: Mapping[str, object], asked: Mapping[str, object]) -> bool:
    """Whether what is recorded at a place asks for the same images."""
    with as_kept(where):
        return not differences(recorded, asked)


def require_same(where: Path, recorded: Mapping[str, object], asked: Mapping[str, object]) -> None:
    """`RunMismatchError` where what is recorded at a place asks for other images."""
    with as_kept(where):
        found = differences(recorded, asked)
    if not found:
        return
    raise RunMismatchError(
        f"{where}: holds samples of other settings: {listed(found)}",
        hint=f"use another --out, or remove {where} if it is not needed",
        differences={key: {"recorded": a, "asked": b} for key, (a, b) in found.items()},
    )
