"""A text in a file, whole or not at all."""

from __future__ import annotations

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
        part.unlink(missing_ok=True)
        raise StorageError(f"{out}: cannot be written ({error.strerror})", file=str(out)) from error
