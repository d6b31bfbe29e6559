"""What a run has kept may have been edited since: it is read as data whose types nothing vouches for."""

from __future__ import annotations

import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from merged_diffusion.errors import MergedDiffusionError, RunCorruptError

# What edited settings, records and tables raise where they are worked on; RecursionError is of deep JSON.
SENSELESS: Final = (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)
# And what readers of npz, zip and JSON raise over bytes that are none. RuntimeError: methods of compression
# that are not known, encryption, depth. numpy tells an empty file by EOFError.
UNREADABLE: Final = (
    *(*SENSELESS, OSError, EOFError, RuntimeError),
    *(zipfile.BadZipFile, zlib.error, struct.error),
)


@contextmanager
def as_kept(*folders: Path) -> Iterator[None]:
    """Round what works on settings, records and tables alone: what it cannot make sense of is their fault.

    Raises
    ------
    RunCorruptError
        A key is missing, or a value is of another type than this package writes.
    """
    try:
        yield
    except MergedDiffusionError:
        raise
    except SENSELESS as error:
        where = ", ".join(map(str, folders))
        what = f"{type(error).__name__}: {error}"
        raise RunCorruptError(
            f"{where}: settings, records or tables do not hold what this package writes ({what[:120]})",
            hint="restore them, or begin again in another --out",
            file=where,
        ) from error
