"""A text in a file, whole or not at all."""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path
from typing import Final

from merged_diffusion.errors import StorageError, UsageError
from merged_diffusion.reading import opened

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
    part = out.with_name(f".{out.name}.part")
    try:
        check_replaceable(out, own)
        out.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(text, "utf-8")
        part.replace(out)
    except OSError as error:
        with suppress(OSError):
            part.unlink()
        raise StorageError(f"{out}: cannot be written ({error.strerror})", file=str(out)) from error


def check_replaceable(out: Path, own: re.Pattern[str]) -> None:
    """`UsageError` where a file of another kind lies at ``out``."""
    if not out.is_file():
        return
    with opened(out) as file:
        head = file.read(HEAD).decode("utf-8", "replace").replace("\r\n", "\n")
    if head and own.search(head) is None:
        raise UsageError(
            f"{out} exists and is not what would be written there; nothing was written",
            hint="name another file, or remove it",
        )
