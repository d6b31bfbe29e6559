"""Numbers that may differ from machine to machine, as whoever was first found them."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from merged_diffusion.errors import RunCorruptError
from merged_diffusion.runs.directory import Directory
from merged_diffusion.runs.places import make


def first_numbers(
    path: Path, find: Callable[[], Sequence[float]], locked: Callable[[], AbstractContextManager[object]]
) -> list[float]:
    """Those in a file, else what is found now, and kept there unless another was quicker; under a lock.

    Raises
    ------
    RunCorruptError
        The file holds no numbers.
    """
    held = _read(path)
    if held is not None:
        return held
    own = [float(value) for value in find()]
    make(path.parent)
    with locked():
        held = _read(path)
        if held is None:
            with Directory(path.parent) as directory:
                directory.write(path.name, json.dumps(own).encode())
    return own if held is None else held


def _read(path: Path) -> list[float] | None:
    try:
        found = json.loads(path.read_bytes())
        return [float(value) for value in found]
    except FileNotFoundError:
        return None
    except (ValueError, TypeError) as error:
        raise RunCorruptError(
            f"{path}: holds no numbers that this package wrote", hint="remove it", file=str(path)
        ) from error
