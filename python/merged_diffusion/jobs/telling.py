"""Who of several workers tells the result, and that it is told: once, though one dies or comes late.

``told.json`` names the file that the result was written to by its hash, or none where it was only printed.
What an earlier command only printed nobody has any more, so that is told again: by a worker that begins
while whoever told it is not there.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from merged_diffusion.jobs.presence import Presence
from merged_diffusion.runs.directory import Directory, token
from merged_diffusion.runs.settings_file import json_text, read_versioned

FORMAT: Final = 1
TELLING: Final = "telling.json"  # before a file is written that another worker may find
TOLD: Final = "told.json"
POLL_SECONDS: Final = 0.5
GRACE_SECONDS: Final = 60.0  # that a worker waits for another at the end


class Telling:
    """The end of a command in ``folder``, whose result goes to ``file``, or is printed alone.

    It is made under the lock under which workers take their places. With ``all_come`` a worker that has not
    come yet is about to, and is waited for as long as for one that is gone.
    """

    def __init__(
        self, folder: Directory, presence: Presence, file: Path | None = None, *, all_come: bool = False
    ) -> None:
        self._folder, self._presence, self._file = folder, presence, file
        self._is_there = presence.is_expected if all_come else presence.is_at_work
        self._before = self._earlier()

    def _earlier(self) -> Mapping[str, object] | None:
        """What an earlier command told."""
        held = _held(self._folder.path)
        teller = None if held is None or held.get("file") is not None else held.get("by")
        if teller == self._presence.shard[0]:
            self._folder.remove([TOLD])
            return None
        is_of_this = isinstance(teller, int) and self._presence.is_at_work(teller)
        return None if is_of_this else held

    def tells(self) -> bool:
        """Whether this worker tells it: the first, or where that is gone, the first of the others."""
        earlier = range(self._presence.shard[0])
        # However long the sums of features, or their distances, take there.
        while not self.is_told() and any(map(self._is_there, earlier)):
            time.sleep(POLL_SECONDS)
        if self.is_told():
            return False
        self._folder.write(TELLING, json_text({"format": FORMAT, "by": self._presence.shard[0]}))
        self._folder.remove([TOLD])
        return True

    def is_told(self) -> bool:
        """Whether a worker told it since this one is here, or the file that it was written to is there."""
        held = _held(self._folder.path)
        if held is None:
            return False
        return held != self._before or (self._file is not None and _is_of(held, self._file))

    def told(self) -> None:
        """Say that this worker told it."""
        file = None if self._file is None else _sha256(self._file)
        said = {"format": FORMAT, "by": self._presence.shard[0], "file": file, "token": token()}
        self._folder.write(TOLD, json_text(said))

    def await_others(self) -> None:
        """Stay for a while as long as another is there: the first worker holds the store."""
        begin, others = time.monotonic(), self._presence.others
        while any(map(self._is_there, others)) and time.monotonic() - begin < GRACE_SECONDS:
            time.sleep(POLL_SECONDS)


def is_own(work: Path, file: Path) -> bool:
    """Whether a worker of the command in ``work`` wrote the file, or is about to."""
    held = _held(work)
    return _is_of(held, file) if held is not None else (work / TELLING).exists()


def _held(work: Path) -> Mapping[str, object] | None:
    path = work / TOLD
    return read_versioned(path, what="what workers say of a result", hint=f"remove {path}")


def _is_of(held: Mapping[str, object], file: Path) -> bool:
    found = _sha256(file)
    return found is not None and held.get("file") == found


def _sha256(file: Path) -> str | None:
    try:
        return hashlib.sha256(file.read_bytes()).hexdigest()
    except FileNotFoundError:
        return None
