"""Any checkpoint as a folder of the package's own format: ``model.safetensors`` and ``card.toml``.

Loading the folder gives the bits that loading the original gives. Networks compute with float32 weights, and
so the file holds float32, or float16 where every weight of the original is one; either is read back exactly.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final, cast

import torch
from safetensors.torch import save
from torch import Tensor

from merged_diffusion.errors import CheckpointError, StorageError, UnsupportedCheckpointError
from merged_diffusion.experts.card import Card
from merged_diffusion.experts.cards import open_expert, parted, read_expert
from merged_diffusion.experts.checkpoints.recognise import Contents, Found
from merged_diffusion.experts.inspection import readable

if TYPE_CHECKING:
    from torch import nn

WEIGHTS: Final = "model.safetensors"
CARD: Final = "card.toml"


def convert_expert(
    source: str | Path,
    out: str | Path,
    *,
    read_as: str | None = None,
    cache: str | Path | None = None,
) -> Card:
    """Write the expert that ``source`` names as the new folder ``out``; the card that it has there.

    The folder appears whole, after it was loaded and compared with the original, or not at all.

    Raises
    ------
    StorageError
        ``out`` exists and is not an empty folder, or cannot be written.
    UnsupportedCheckpointError
        A diffusers folder, for whose network a card has no words.

    Examples
    --------
    >>> import merged_diffusion as md
    >>> card = md.convert_expert("bundled:digits-vdm", "mine")
    >>> md.load_expert("mine")
    VdmExpert(digits-vdm, 1x8x8, 17 levels, gamma -7.876 to 5)
    """
    target = Path(out).absolute()
    _refuse_taken(target)
    bare, said = parted(source, read_as)
    opened = open_expert(readable(bare, cache), said)
    if opened.held is None:
        raise UnsupportedCheckpointError(
            f"{source} is a diffusers folder: a card has no words for its network and its scheduler",
            hint="no conversion is needed: the folder itself is read wherever an expert is named",
            file=str(opened.found.file),
        )
    state = cast("nn.Module", opened.expert).state_dict()
    is_half = opened.held.precision == "float16"
    weights = save({key: value.half() if is_half else value for key, value in state.items()})
    card = replace(
        opened.held.card,
        precision="float16" if is_half else "float32",
        sha256=hashlib.sha256(weights).hexdigest(),
        converted=_origin(opened.held, opened.found),
    )
    with _new_folder(target) as draft:
        _write(draft / WEIGHTS, weights)
        _write(draft / CARD, card.toml().encode())
        del weights
        _check_same(cast("nn.Module", read_expert(draft)).state_dict(), state, str(source))
    return card


def _origin(held: Contents, found: Found) -> Mapping[str, object]:
    """The file that the weights are from, the first one if it was converted before."""
    if held.card.converted is not None:
        return held.card.converted
    return {
        "format": held.format, "file": found.file.name, "sha256": held.sha256, "precision": held.precision
    }  # fmt: skip


def _check_same(found: Mapping[str, Tensor], expected: Mapping[str, Tensor], source: str) -> None:
    different = [key for key, value in expected.items() if not torch.equal(found[key], value)]
    if different:
        raise CheckpointError(
            f"{source}: {len(different)} tensors changed by being written, the first {different[0]}",
            hint="the disk or the memory of this machine is at fault; nothing was kept",
            differences=different,
        )


def _refuse_taken(target: Path) -> None:
    try:
        is_free = not any(target.iterdir()) if target.is_dir() else not os.path.lexists(target)
    except OSError as error:
        raise _unwritten(target, error) from error
    if not is_free:
        what = "a folder that is not empty" if target.is_dir() else "no folder"
        raise StorageError(
            f"{target}: is there, {what}", hint="name a folder that does not exist yet", file=str(target)
        )


@contextmanager
def _new_folder(target: Path) -> Iterator[Path]:
    """A folder beside ``target`` that takes its name when the block ends; nothing stays where it fails."""
    draft = target.with_name(f".{secrets.token_hex(4)}.part")
    missing: list[Path] = []
    try:
        missing = [folder for folder in target.parents if not folder.exists()]
        draft.mkdir(parents=True)
        yield draft
        draft.replace(target)
    except BaseException as error:
        shutil.rmtree(draft, ignore_errors=True)
        with suppress(OSError):
            for folder in missing:
                folder.rmdir()
        if isinstance(error, OSError):
            raise _unwritten(target, error) from error
        raise


def _write(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _unwritten(target: Path, error: OSError) -> StorageError:
    return StorageError(
        f"{target}: cannot be written ({error.strerror or error})",
        hint="free space, or name another folder; nothing was kept",
        file=str(target),
        errno=error.errno,
    )
