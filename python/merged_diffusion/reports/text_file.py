"""A text or a table in a file, whole or not at all."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Final

from merged_diffusion.errors import UsageError
from merged_diffusion.files.reading import opened
from merged_diffusion.runs.directory import write_file
from merged_diffusion.runs.places import refuse_special, storing

HEAD: Final = 4096  # bytes at the beginning of a file that tell what it is
TAIL: Final = 1 << 16  # bytes at its end, of a format whose description stands there


def write_text(out: Path, text: str | bytes, own: re.Pattern[str], *, at_end: bool = False) -> None:
    """Replace the file ``out``, if it is new, empty or one of these: ``own`` is found at their beginning.

    ``at_end``: it is found at their end.

    Raises
    ------
    UsageError
        Something else lies there.
    StorageError
        It cannot be written.
    """
    check_replaceable(out, own, at_end=at_end)
    write_file(out, text.encode() if isinstance(text, str) else text)


def check_replaceable(out: Path, own: re.Pattern[str], *, at_end: bool = False) -> None:
    """`UsageError` where a file of another kind lies at ``out``, `StorageError` where it is no file."""
    refuse_special(out)
    with storing(out, "read"):
        if not out.is_file():
            return
        with opened(out) as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - TAIL) if at_end else 0)
            found = file.read(TAIL if at_end else HEAD)
    told = found.decode("utf-8", "replace").replace("\r\n", "\n")
    if told and own.search(told) is None:
        raise UsageError(
            f"{out} exists and is not what would be written there; nothing was written",
            hint="name another file, or remove it",
        )
