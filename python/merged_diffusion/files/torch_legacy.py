"""Files of ``torch.save`` before 1.6: five pickles, then the numbers of every storage by its key."""

from __future__ import annotations

import mmap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from merged_diffusion.errors import CheckpointError, UnsafeFileError
from merged_diffusion.files import inert, pickles, tensors
from merged_diffusion.files.reading import opened
from merged_diffusion.files.tensors import Storage, storages

MAX_STORAGES: Final = 20_000
COUNT: Final = 8  # bytes of a storage's length


@contextmanager
def pickled_legacy(path: Path) -> Iterator[tuple[Any, int]]:
    """What ``torch.save`` wrote, with views whose numbers are read while the block runs; the file's size."""
    with opened(path) as stream:
        # Closed with the last view of it: a frame of an error may hold one.
        content = memoryview(mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ))
    yield read_legacy(content, str(path)), len(content)


def read_legacy(content: memoryview, where: str, steps: inert.Steps | None = None) -> Any:
    """The value in a whole file of the old format."""
    steps = inert.Steps() if steps is None else steps
    at = 0

    def value(persistent: Callable[[object], object] | None = None) -> Any:
        nonlocal at
        walked = pickles.read(content, tensors.GLOBALS, where, start=at, persistent=persistent, steps=steps)
        at = walked.end
        return walked.value

    found: dict[str, memoryview] = {}

    def fetch(key: str, _: int) -> memoryview:
        if key not in found:
            raise CheckpointError(f"{where}: a storage is called {key!r:.40} and listed by another name")
        return found[key]

    magic, version, system = value(), value(), value()
    if magic != tensors.MAGIC or version != tensors.LEGACY_VERSION:
        raise CheckpointError(f"{where}: tensors of an unknown format of torch", file=where)
    if not isinstance(system, dict) or system.get("little_endian") is not True:
        raise CheckpointError(f"{where}: tensors of a big-endian machine are not read", file=where)
    known: dict[str, Storage] = {}
    held = value(storages(fetch, known))
    keys = value()
    if not isinstance(keys, list) or len(keys) > MAX_STORAGES or {type(key) for key in keys} - {str}:
        raise UnsafeFileError(f"{where}: no list of at most {MAX_STORAGES} storages", file=where)
    if sorted(keys) != sorted(known):
        raise CheckpointError(
            f"{where}: {len(keys)} storages are listed and {len(known)} used, or by other names", file=where
        )
    for key in keys:
        head, storage = content[at : at + COUNT], known[key]
        numbers = content[at + COUNT : at + COUNT + storage.nbytes]
        if int.from_bytes(head, "little") != storage.numel or len(numbers) != storage.nbytes:
            raise CheckpointError(
                f"{where}: a storage of {storage.numel} numbers in {len(numbers)} bytes", file=where
            )
        found[key] = numbers
        at += COUNT + storage.nbytes
    if at != len(content):
        raise CheckpointError(f"{where}: {len(content) - at} bytes behind its last storage", file=where)
    return held
