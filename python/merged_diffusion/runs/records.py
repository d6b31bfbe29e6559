"""One record is one line of JSON that ends in its own checksum.

``{"id":7, ... ,"crc32":"0f3a9c11"}``: the zlib CRC-32 of the UTF-8 line before ``,"crc32"``. A file of
records ends with a whole line; what follows the last valid line is a torn tail (a process killed while it
wrote) and is ignored. A line that fails its checksum *before* a valid one is damage, and refused.
"""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np

from merged_diffusion.errors import RunCorruptError, StorageError
from merged_diffusion.files.reading import read_bytes
from merged_diffusion.runs.kept import as_kept
from merged_diffusion.scores.record import Record

MARK: Final = b',"crc32"'


def plain(value: Any) -> Any:
    """Mappings, sequences and numpy values as JSON types; a number that is not finite becomes None."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, np.ndarray | np.generic):
        return plain(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Path):
        return str(value)
    return value


def encode(record: Mapping[str, object]) -> bytes:
    """The line of a record, newline included."""
    text = json.dumps(plain(record), separators=(",", ":"), ensure_ascii=False, allow_nan=False)[:-1]
    body = text.encode("utf-8", "backslashreplace")  # of a name that is no UTF-8, as JSON escapes it
    return b'%s%s:"%08x"}\n' % (body, MARK, zlib.crc32(body))


def decode(line: bytes) -> dict[str, object] | None:
    """The object of a line (no newline), or None where its checksum does not fit or it is no object."""
    body, mark, check = line.rpartition(MARK)
    if not mark or check != b':"%08x"}' % zlib.crc32(body):
        return None
    try:
        record = json.loads(body + b"}")
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) else None


def read_records(path: Path) -> tuple[list[Record], int]:
    """All valid records of a file and the offset behind the last of them.

    Raises
    ------
    RunCorruptError
        A damaged line before a valid one.
    """
    try:
        content = read_bytes(path)
    except OSError as error:
        raise StorageError(f"{path}: cannot be read ({error.strerror})", file=str(path)) from error
    return parsed(content, path)


def parsed(content: bytes, path: Path) -> tuple[list[Record], int]:
    """The same of the content of ``path``."""
    records: list[Record] = []
    end = offset = 0
    damaged: int | None = None
    for line in content.splitlines(keepends=True):
        record = decode(line[:-1]) if line.endswith(b"\n") else None
        if record is None:
            damaged = offset if damaged is None else damaged
        elif damaged is not None or type(record.get("id")) is not int:
            damaged = offset if damaged is None else damaged
            raise RunCorruptError(
                f"{path}: the line at byte {damaged} does not fit its checksum, or names no image",
                hint="the records before it are sound; restore the file, or start again in another --out",
                file=str(path),
                offset=damaged,
            )
        else:
            with as_kept(path):
                records.append(Record.from_dict(record))
            end = offset + len(line)
        offset += len(line)
    return records, end
