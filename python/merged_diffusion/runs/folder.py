"""The directory of a run: made where it is not, refused where it is something else, held for a moment."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from filelock import FileLock, Timeout

from merged_diffusion.errors import RunError, RunLockedError, StorageError
from merged_diffusion.runs.journal import storage_error

BYTES_PER_RECORD: Final = 2048  # four times a usual one
LOCK_SECONDS: Final = 30.0


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Alone in a run directory, for what takes a moment: to begin, to summarise, to take back."""
    try:
        with FileLock(folder / "settings.lock", timeout=LOCK_SECONDS):
            yield
    except Timeout:
        raise RunLockedError(f"{folder}: settings.json stays locked by another process") from None
    except OSError as error:
        raise storage_error(folder, error) from error


def made_folder(path: Path, n_expected: int) -> list[Path]:
    """Create the directory; the result names what did not exist before, innermost first."""
    if path.is_symlink() and not path.resolve().is_relative_to(path.parent.resolve()):
        raise StorageError(
            f"{path}: is a link to {path.resolve()}, outside of {path.parent.resolve()}",
            hint="name the target itself as --out",
            file=str(path),
        )
    made: list[Path] = []
    try:
        made = [p for p in (path, *path.parents) if not p.exists()]
        path.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(path).free
    except OSError as error:
        unmake(made)
        raise storage_error(path, error) from error
    if free < n_expected * BYTES_PER_RECORD:
        unmake(made)
        raise StorageError(
            f"{path}: {free} bytes are free, but {n_expected} records need up to"
            f" {n_expected * BYTES_PER_RECORD}",
            hint="free space or choose another --out",
            file=str(path),
        )
    return made


def unmake(made: Iterable[Path]) -> None:
    """Remove directories that were created; one that holds something stays."""
    for path in made:
        try:
            path.rmdir()
        except OSError:
            return


def refuse_strangers(path: Path) -> None:
    """A directory that holds other things is not made a run."""
    names = {p.name for p in path.iterdir() if not p.name.startswith(".")} - {"settings.lock"}
    # Asked after the listing: another worker writes the settings first and all else later.
    if names and not (path / "settings.json").exists():
        raise RunError(
            f"{path}: is not empty and holds no settings.json ({', '.join(sorted(names)[:3])})",
            hint="name a new or empty directory as --out",
            file=str(path),
        )
