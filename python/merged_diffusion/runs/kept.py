"""What a run has kept may have been edited since: it is read as data whose types nothing vouches for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from merged_diffusion.errors import MergedDiffusionError, RunCorruptError


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
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        where = ", ".join(map(str, folders))
        what = f"{type(error).__name__}: {error}"
        raise RunCorruptError(
            f"{where}: settings, records or tables do not hold what this package writes ({what[:120]})",
            hint="restore them, or begin again in another --out",
            file=where,
        ) from error
