"""The directory of a run: made where it is not, refused where it is something else, held for a moment."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from merged_diffusion.errors import RunError, RunLockedError
from merged_diffusion.runs.directory import Directory, strangers
from merged_diffusion.runs.lock import ANY_CLAIM, Lock
from merged_diffusion.runs.places import make, require_space, unmake

BYTES_PER_RECORD: Final = 2048  # four times a usual one
LOCK_SECONDS: Final = 30.0
LOCK: Final = "settings.lock"


@contextmanager
def locked(folder: Directory, *written: str, seconds: float = LOCK_SECONDS) -> Iterator[None]:
    """Alone in a directory for what takes a moment: to begin, to summarise (``written``), to take back."""
    refused = RunLockedError(f"{folder.path}: settings.json stays locked by another process")
    with Lock(folder, LOCK).held(seconds, refused):
        folder.remove_drafts(written)
        yield


def made_folder(path: Path, n_expected: int) -> list[Path]:
    """Create the directory; the result names what did not exist before, innermost first."""
    made = make(path)
    try:
        require_space(path, n_expected * BYTES_PER_RECORD, f"{n_expected} records")
    except BaseException:
        unmake(made)
        raise
    return made


def refuse_strangers(folder: Directory, holds: str, lock: str = LOCK, *before: str) -> None:
    """A directory in which anything lies, hidden or not, is not made one of ours; those have ``holds``.

    What a process that was killed before it wrote that may have left is nothing: its lock, a draft, what is
    written ``before``.
    """
    own = "|".join(re.escape(name) for name in (lock, holds, *before))
    names = strangers(folder.names(), re.compile(rf"{own}|{ANY_CLAIM}"))
    # Asked after the listing: another worker writes this first and all else later.
    if names and folder.status(holds) is None:
        raise RunError(
            f"{folder.path}: is not empty and holds no {holds} ({', '.join(names[:3])})",
            hint="name a new or empty directory as --out",
            file=str(folder.path),
        )
