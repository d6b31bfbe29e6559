"""A text in a file, whole or not at all."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from merged_diffusion.errors import StorageError


def write_text(out: Path, text: str) -> None:
    """Replace the file ``out``."""
    part = out.with_name(f".{out.name}.part")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(text, "utf-8")
        part.replace(out)
    except OSError as error:
        with suppress(OSError):
            part.unlink()
        raise StorageError(f"{out}: cannot be written ({error.strerror})", file=str(out)) from error
