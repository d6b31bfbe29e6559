"""Images that ``sample`` drew, read by the record that lies in their folder, npz or zip."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import Any, Final

import numpy as np

from merged_diffusion.errors import RunError
from merged_diffusion.files.reading import read_text
from merged_diffusion.runs.kept import UNREADABLE

LIMIT: Final = 2**20  # bytes of a record


def sample_record(path: Path) -> dict[str, object] | None:
    """How the images in ``path`` were drawn; None where it is nothing that ``sample`` has written."""
    try:
        text = read_text(path / "settings.json") if path.is_dir() else _in_archive(path)
        record = None if text is None else json.loads(text)
    except UNREADABLE as error:
        raise RunError(f"{path}: its record cannot be read ({error})", file=str(path)) from error
    is_sample = isinstance(record, dict) and record.get("command") == "sample" and "result" in record
    return record if is_sample else None


def _in_archive(path: Path) -> str | None:
    if not path.is_file() or path.suffix not in (".npz", ".zip"):
        return None
    with zipfile.ZipFile(path) as archive:
        for name in ("settings.json", "settings.npy"):
            if name in archive.namelist():
                if archive.getinfo(name).file_size > LIMIT:
                    raise ValueError(f"{name} is larger than {LIMIT} bytes")
                content = archive.read(name)
                return str(_array(content)) if name.endswith(".npy") else content.decode("utf-8")
    return None


def _array(content: bytes) -> Any:
    return np.lib.format.read_array(io.BytesIO(content), allow_pickle=False)
