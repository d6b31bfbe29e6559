"""Files of ``torch.save`` since 1.6: a zip of one pickle and a member for each storage of numbers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from merged_diffusion.errors import CheckpointError, UnsafeFileError, UnsupportedCheckpointError
from merged_diffusion.files import pickles, tensors
from merged_diffusion.files.limits import Limits
from merged_diffusion.files.zips import SafeZip, open_zip

LIMITS: Final = Limits(members=20_000, total=1 << 34)
MAX_PICKLE: Final = 1 << 26
LITTLE: Final = b"little"


@contextmanager
def pickled(path: Path) -> Iterator[tuple[Any, int]]:
    """What ``torch.save`` wrote, with views whose numbers are fetched while the file is open; its size."""
    where = str(path)
    with open_zip(path, LIMITS) as archive:
        root = _root(archive, where)
        order = f"{root}/byteorder"
        if order in archive.names and (archive.size(order) != len(LITTLE) or archive.read(order) != LITTLE):
            raise CheckpointError(f"{where}: tensors of a big-endian machine are not read", file=where)
        if archive.size(f"{root}/data.pkl") > MAX_PICKLE:
            raise UnsafeFileError(f"{where}: a pickle of over {MAX_PICKLE} bytes", file=where)
        content = memoryview(archive.read(f"{root}/data.pkl"))

        def fetch(key: str, nbytes: int) -> memoryview:
            name = f"{root}/data/{key}"
            if archive.size(name) != nbytes:
                raise CheckpointError(
                    f"{where}: the member {name} has {archive.size(name)} bytes, declared as {nbytes}",
                    file=where,
                )
            return memoryview(archive.read(name))

        walked = pickles.read(content, tensors.GLOBALS, where, persistent=tensors.storages(fetch))
        try:
            yield walked.value, path.stat().st_size
        except KeyError as error:
            raise CheckpointError(f"{where}: the member {error} is missing", file=where) from error


def _root(archive: SafeZip, where: str) -> str:
    roots = {name.split("/")[0] for name in archive.names}
    if len(roots) == 1 and f"{(root := roots.pop())}/data.pkl" in archive.names:
        if any(name.startswith(f"{root}/code/") for name in archive.names):
            raise UnsupportedCheckpointError(
                f"{where}: TorchScript, a program with its weights, and nothing in a file is run",
                hint="in a file of your own: CallableExpert(torch.jit.load(FILE), ...), by file.py:name",
                file=where,
            )
        return root
    names = archive.names
    if names and all(name.endswith(".npy") for name in names):
        what, hint = "arrays of numpy (npz)", "images are named by --data, statistics by --ref"
    elif any(name.endswith((".safetensors", "model_index.json", "config.json")) for name in names):
        what, hint = "a packed folder", "unpack it, and name the folder"
    else:
        what, hint = "a zip without one folder that holds data.pkl", "it is no file of torch.save"
    raise UnsupportedCheckpointError(f"{where}: {what}, no checkpoint", hint=hint, file=where)
