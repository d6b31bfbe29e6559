"""Images that ``sample`` drew, read by the record that lies in their folder, npz or zip."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from merged_diffusion.errors import RunError
from merged_diffusion.files.reading import read_text
from merged_diffusion.files.typed_values import TypedValues
from merged_diffusion.jobs.identity import Experts, LegSpan, Threshold
from merged_diffusion.runs.kept import UNREADABLE

LIMIT: Final = 2**20  # bytes of a record


@dataclass(frozen=True)
class SampleRecord(TypedValues):
    """How images were drawn (docs/formats.md)."""

    settings: Mapping[str, object]
    legs: tuple[LegSpan, ...]
    experts: Experts
    result: Mapping[str, object]
    threshold: Threshold = None


def sample_record(path: Path) -> SampleRecord | None:
    """How the images in ``path`` were drawn; None where it is nothing that ``sample`` has written."""
    try:
        text = read_text(path / "settings.json") if path.is_dir() else _in_archive(path)
        record = None if text is None else json.loads(text)
        if not isinstance(record, dict) or record.get("command") != "sample" or "result" not in record:
            return None
        return SampleRecord.from_dict(record)
    except UNREADABLE as error:
        raise RunError(f"{path}: its record cannot be read ({error})", file=str(path)) from error


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
