"""A published file of torch's tensors: hashed first, then read by torch as tensors alone."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, Final

import torch
from torch import Tensor

from merged_diffusion.errors import CheckpointError, UnsafeFileError
from merged_diffusion.files.reading import read_bytes

MAX_BYTES: Final = 1 << 28


def read_torch_weights(path: Path, sha256: str) -> dict[str, Tensor]:
    """The tensors of a file of torch by name, once its bytes have the hash ``sha256``.

    Raises
    ------
    CheckpointError
        Another hash, or no tensors.
    UnsafeFileError
        Reading it would execute code.
    """
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise UnsafeFileError(f"{path}: {size} bytes exceed the limit of {MAX_BYTES}", file=str(path))
    content = read_bytes(path)
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise CheckpointError(
            f"{path} has SHA-256 {found}, the published weights have {sha256}",
            hint="fetch them again; other weights give other distances",
            file=str(path), expected=sha256, found=found,
        )  # fmt: skip
    try:
        state: Any = torch.load(io.BytesIO(content), weights_only=True, map_location="cpu")
    except UnpicklingError as error:
        raise UnsafeFileError(
            f"{path} holds more than tensors, nothing was executed ({str(error).splitlines()[0]})",
            file=str(path),
        ) from error
    except (RuntimeError, EOFError, ValueError, KeyError) as error:
        raise CheckpointError(f"{path} is no file of torch's tensors ({error})", file=str(path)) from error
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise CheckpointError(f"{path} holds no table of tensors", file=str(path))
    return state
