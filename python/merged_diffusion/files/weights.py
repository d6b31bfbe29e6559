"""Weights of an expert from a safetensors file: read as data, checked, converted to float32.

The format: 8 bytes with the length of a JSON header, the header (name -> dtype, shape, byte offsets), the
bytes.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
import stat
from collections import Counter
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any, Final, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor

from merged_diffusion.errors import CheckpointError, UnsafeFileError
from merged_diffusion.files.reading import opened, read_bytes
from merged_diffusion.files.standins import HEAD, refuse_standin

log = logging.getLogger("merged_diffusion")
Entry = TypeVar("Entry")

MAX_HEADER_BYTES: Final = 1 << 20
MAX_FILE_BYTES: Final = 1 << 32
MAX_SHARDS: Final = 100
WRAPPERS: Final = ("module", "_orig_mod")  # DistributedDataParallel and DataParallel, torch.compile
N_SHOWN: Final = 20  # differences printed in full; the rest is counted
ITEM_BYTES: Final = {"F16": 2, "BF16": 2, "F32": 4}
DTYPES: Final = {"F16": "float16", "BF16": "bfloat16", "F32": "float32"}


def read_weights(path: Path, sha256: str | None) -> tuple[dict[str, Tensor], str, str]:
    """(tensors in float32, the dtype they were stored in, the SHA-256 of the file).

    ``sha256`` is the card's, which must agree; None leaves it unchecked.
    """
    try:
        size = regular_size(path)
        if size > MAX_FILE_BYTES:
            raise UnsafeFileError(
                f"{path}: {size} bytes exceed the limit of {MAX_FILE_BYTES}", file=str(path)
            )
        with opened(path) as stream:
            head = stream.read(HEAD)
            refuse_standin(head, str(path), CheckpointError)
            _header_length(head, size, str(path))
            content = head + stream.read(size)
    except OSError as error:
        raise CheckpointError(
            f"{path} cannot be read ({error.strerror or error})",
            hint="an expert is a folder with model.safetensors and card.toml",
            file=str(path),
        ) from error
    dtype = check_header(content, str(path))
    found = hashlib.sha256(content).hexdigest()
    if sha256 is not None and found != sha256:
        raise CheckpointError(
            f"{path} has SHA-256 {found}, its card states {sha256}",
            hint="the weights and the card are not of one training; fetch or train both again",
            file=str(path), expected=sha256, found=found,
        )  # fmt: skip
    try:
        tensors = load(content)
    except SafetensorError as error:
        raise CheckpointError(f"{path} is not a sound safetensors file ({error})", file=str(path)) from error
    return {name: finite(name, value, path).float() for name, value in tensors.items()}, dtype, found


def read_shards(path: Path) -> tuple[dict[str, Tensor], str, str]:
    """`read_weights` of several files, which an index of diffusers (JSON) at ``path`` lists by tensor.

    The SHA-256 is that of the files' own, in the order of their names.
    """
    where = str(path)
    try:
        if regular_size(path) > MAX_HEADER_BYTES:
            raise UnsafeFileError(
                f"{where}: an index of over {MAX_HEADER_BYTES} bytes is refused", file=where
            )
        places = json.loads(read_bytes(path))["weight_map"]
        names = sorted(set(places.values()))
        os.fsencode("".join(names))  # refuses halves of letters
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CheckpointError(f"{where}: no index of weights by file ({error!r:.100})", file=where) from error
    if len(names) > MAX_SHARDS or any(Path(n).name != n or "\0" in n for n in names):
        raise UnsafeFileError(f"{where}: names no 1 to {MAX_SHARDS} files beside it", file=where)
    tensors: dict[str, Tensor] = {}
    digest, dtypes = hashlib.sha256(), set()
    for name in names:
        found, dtype, sha256 = read_weights(path.parent / name, None)
        listed = {key for key, place in places.items() if place == name}
        if listed != found.keys():
            wrong = sorted(listed ^ found.keys())
            raise CheckpointError(
                f"{where}: {name} holds other tensors than it lists: {', '.join(wrong[:4])}",
                file=where,
                differences=wrong,
            )
        tensors |= found
        dtypes.add(dtype)
        digest.update(sha256.encode())
    return tensors, "/".join(sorted(dtypes)), digest.hexdigest()


def regular_size(path: Path) -> int:
    """Bytes of a file; `CheckpointError` where it is a pipe or a device, which may have no end."""
    found = path.stat()
    if not stat.S_ISREG(found.st_mode):
        raise CheckpointError(f"{path} is no regular file", file=str(path))
    return found.st_size


def _header_length(head: bytes, size: int, where: str) -> int:
    """Bytes of the header of a file of ``size`` bytes that begins with ``head``; refused where too many."""
    length = int.from_bytes(head[:8], "little")
    if len(head) < 8 or length > size - 8:
        raise CheckpointError(
            f"{where}: truncated: a header of {length} bytes in a file of {size}", file=where
        )
    if length > MAX_HEADER_BYTES:
        raise UnsafeFileError(
            f"{where}: a header of {length} bytes exceeds the limit of {MAX_HEADER_BYTES}", file=where
        )
    return length


def check_header(content: bytes, where: str) -> str:
    """The dtype of the tensors; refuse a long header, and offsets that do not tile the file exactly."""
    length = _header_length(content, len(content), where)
    try:
        header: dict[str, Any] = json.loads(content[8 : 8 + length])
        header.pop("__metadata__", None)
        entries = {name: (e["dtype"], e["shape"], *e["data_offsets"]) for name, e in header.items()}
        # Before anything is made of them: the product of a list and a number is a longer list.
        numbers = (n for _, shape, *span in entries.values() for n in (*shape, *span))
        if not all(type(n) is int and 0 <= n <= MAX_FILE_BYTES for n in numbers):
            raise ValueError("a shape or an offset that is no number of a file")
        spans = sorted((start, end) for _, _, start, end in entries.values())
        sizes = [math.prod(shape) * ITEM_BYTES.get(dtype, 0) for dtype, shape, _, _ in entries.values()]
        lengths = [end - start for _, _, start, end in entries.values()]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CheckpointError(f"{where}: the safetensors header is broken ({error!r})", file=where) from error
    dtypes = {dtype for dtype, *_ in entries.values()}
    if len(dtypes) != 1 or not dtypes <= DTYPES.keys():
        raise CheckpointError(
            f"{where}: tensors of {sorted(map(str, dtypes))}, expected all F16, all BF16 or all F32",
            file=where,
        )
    body = len(content) - 8 - length
    tiled = spans[0][0] == 0 and spans[-1][1] == body and all(a[1] == b[0] for a, b in pairwise(spans))
    if not tiled or sizes != lengths:
        raise CheckpointError(
            f"{where}: the tensors' offsets overlap, leave gaps or do not fit {body} bytes of data",
            hint="the file is truncated or damaged; fetch it again",
            file=where,
        )
    return DTYPES[dtypes.pop()]


def unwrapped(entries: Mapping[str, Entry], where: str) -> dict[str, Entry]:
    """``entries`` without the parts of names that torch's wrappers of a network write: remarked.

    DistributedDataParallel calls the network within ``module``, torch.compile ``_orig_mod``, at any depth;
    no network that is read here has parts of these names.
    """
    found = {name: _bare(name) for name in entries}
    wrapped = [name for name, bare in found.items() if name != bare]
    if not wrapped:
        return dict(entries)
    counts = Counter(found.values())
    twice = next((name for name in wrapped if counts[found[name]] > 1), None)
    if twice is not None:
        raise CheckpointError(
            f"{where}: holds {found[twice]} twice, once as {twice}",
            hint="save the state of one network",
            file=where,
            key=twice,
        )
    log.warning(
        "%s: %d of %d names have parts of a wrapper (%s, the first is %s); read without them",
        where, len(wrapped), len(found), " and ".join(WRAPPERS), wrapped[0],
    )  # fmt: skip
    return {found[name]: entry for name, entry in entries.items()}


def _bare(name: str) -> str:
    return ".".join(part for part in name.split(".") if part not in WRAPPERS)


def check_keys(
    found: Mapping[str, Tensor], expected: Mapping[str, Tensor], where: str, *, hint: str | None = None
) -> None:
    """Refuse missing, extra and wrongly shaped tensors, all of them listed at once."""
    rows = [f"{k} is missing" for k in sorted(expected.keys() - found.keys())]
    rows += [f"{k} is not of this network" for k in sorted(found.keys() - expected.keys())]
    rows += [
        f"{k} has shape {list(found[k].shape)}, expected {list(expected[k].shape)}"
        for k in sorted(found.keys() & expected.keys())
        if found[k].shape != expected[k].shape
    ]
    if rows:
        rest = f"; and {len(rows) - N_SHOWN} more" if len(rows) > N_SHOWN else ""
        raise CheckpointError(
            f"{where}: {'; '.join(rows[:N_SHOWN])}{rest}",
            hint=hint or "the card's [network] table and the weights do not belong together",
            differences=rows,
        )


def finite(name: str, value: Tensor, path: Path) -> Tensor:
    """``value``; `CheckpointError` where it holds NaN or Inf, or is not of floating numbers."""
    if not value.is_floating_point():
        raise CheckpointError(
            f"{path}: {name} is of {str(value.dtype).removeprefix('torch.')}; weights are floating numbers",
            hint="a quantised network is saved anew from its own code, in float32",
            key=name,
        )
    # One pass without memory; NaN goes through both.
    if value.numel() and not all(bound.isfinite() for bound in torch.aminmax(value)):
        n_bad = int((~torch.isfinite(value)).sum())
        raise CheckpointError(
            f"{path}: {name} holds {n_bad} values that are not finite (of {value.numel()})",
            hint="the training diverged or the file is damaged",
            key=name,
        )
    return value
