"""A text in a file, whole or not at all."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from merged_diffusion.errors import UsageError
from merged_diffusion.files.reading import opened
from merged_diffusion.runs.directory import write_file
from merged_diffusion.runs.places import refuse_special, storing

HEAD: Final = 4096  # bytes at the beginning of a file that tell what it is


def write_text(out: Path, text: str, own: re.Pattern[str]) -> None:
    """Replace the file ``out``, if it is new, empty or one of these: ``own`` is found at their beginning.

    Raises
    ------
    UsageError
        Something else lies there.
    StorageError
        It cannot be written.
    """
    check_replaceable(out, own)
    write_file(out, text.encode())


def check_replaceable(out: Path, own: re.Pattern[str]) -> None:
    """`UsageError` where a file of another kind lies at ``out``, `StorageError` where it is no file."""
    refuse_special(out)
    with storing(out, "read"):
        if not out.is_file():
            return
        with opened(out) as file:
            start = file.read(HEAD)
    head = start.decode("utf-8", "replace").replace("\r\n", "\n")
    if head and own.search(head) is None:
        raise UsageError(
            f"{out} exists and is not what would be written there; nothing was written",
            hint="name another file, or remove it",
        )
