"""Which format a file or folder has, by its content, and what it holds: a card, tensors, a hash."""

from __future__ import annotations

import logging
import mmap
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal

from torch import Tensor

from merged_diffusion.catalogue.entries import known
from merged_diffusion.errors import CheckpointError, DataIntegrityError, UnsupportedCheckpointError
from merged_diffusion.experts.card import Card, read_card
from merged_diffusion.experts.checkpoints import edm_pickle, flax_vdm, torch_files
from merged_diffusion.experts.checkpoints.read_as import ReadAs, parsed
from merged_diffusion.experts.running_mean import is_running_mean
from merged_diffusion.files.reading import opened, read_bytes, sha256_of
from merged_diffusion.files.standins import HEAD, refuse_standin, refuse_standin_file
from merged_diffusion.files.weights import read_weights, regular_size

log = logging.getLogger("merged_diffusion")

Format = Literal["safetensors", "edm-pickle", "torch", "flax-msgpack", "diffusers"]
MAX_FILE_BYTES: Final = 1 << 34
CHUNK: Final = 1 << 20
LEGACY: Final = (
    b"\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # the first pickle of torch before zip, behind its protocol
)
PICTURES: Final = (b"\x89PNG", b"\xff\xd8\xff", b"GIF8")
KNOWN: Final = (
    "known: a folder with model.safetensors and card.toml, a .pkl of EDM or EDM2, a .pt or .pth of addtt, "
    "OpenAI's code, TorchCFM, score_sde or denoising-diffusion-pytorch, a ckpt-N.flax or its folder, a "
    "diffusers folder"
)


# What of a network no shape shows, and what a card that leaves it out means.
UNSEEN: Final[Mapping[str, object]] = {
    "num_heads": 1, "num_head_channels": 0, "num_heads_upsample": 0, "attention_order": "legacy",
    "norm_groups": 32,
}  # fmt: skip


@dataclass(frozen=True)
class Found:
    """A format, and the file that holds the weights."""

    format: Format
    file: Path


@dataclass(frozen=True)
class Contents:
    """What a checkpoint holds; ``tensors`` as they are in the file, ``precision`` of the floating ones.

    ``format`` is that of the file, of a file of torch the family whose network it holds.
    """

    format: str
    card: Card
    tensors: Mapping[str, Tensor]
    sha256: str
    precision: str
    said: ReadAs | None = None  # by the user or by the published name of the file


def recognise(path: Path) -> Found:
    """The format of what lies at ``path``.

    Raises
    ------
    UnsupportedCheckpointError
        None that is known.
    """
    if path.is_dir():
        return _folder(path)
    try:
        regular_size(path)
        with opened(path) as stream:
            head = stream.read(HEAD)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror})", file=str(path)) from error
    refuse_standin(head, str(path), CheckpointError)
    if head.startswith(PICTURES):
        raise UnsupportedCheckpointError(
            f"{path}: a picture, and no model", hint="images are given by --data; " + KNOWN, file=str(path)
        )
    if head.startswith(torch_files.ZIP):
        return Found("torch", path)
    if head[:1] == b"\x80" and head[1:2] in (b"\2", b"\3", b"\4", b"\5"):
        return Found("torch" if head[2:].startswith(LEGACY) else "edm-pickle", path)
    if path.suffix == ".safetensors" or head[8:9] == b"{":
        return Found("safetensors", path)
    if head[:1] and (0x81 <= head[0] <= 0x8F or head[0] in (0xDE, 0xDF)):
        return Found("flax-msgpack", path)
    if path.suffix == ".py":
        raise UnsupportedCheckpointError(
            f"{path}: Python code, of which one name is the expert",
            hint=f"write {path}:expert, where expert is what the file calls it",
            file=str(path),
        )
    raise UnsupportedCheckpointError(f"{path}: of no known format", hint=KNOWN, file=str(path))


def _folder(path: Path) -> Found:
    if (path / "model.safetensors").is_file() or (path / "card.toml").is_file():
        return Found("safetensors", path / "model.safetensors")
    if (path / "model.pt").is_file():
        return Found("torch", path / "model.pt")
    parts = ("unet", "model_index.json", "config.json")
    if any((path / name).exists() for name in parts) or any(map(_holds_a_mean, path.iterdir())):
        return Found("diffusers", path)
    checkpoints = sorted(path.glob("ckpt-*.flax"))
    if checkpoints:
        return Found("flax-msgpack", _latest(path, checkpoints))
    raise UnsupportedCheckpointError(f"{path}: a folder of no known format", hint=KNOWN, file=str(path))


def _holds_a_mean(path: Path) -> bool:
    return is_running_mean(path.name) and (path / "config.json").is_file()


def _latest(folder: Path, checkpoints: list[Path]) -> Path:
    """The checkpoint that the text file ``checkpoint`` names, else the only one."""
    text = folder / "checkpoint"
    if text.is_file() and text.stat().st_size < CHUNK:
        for line in read_bytes(text).decode("utf-8", "replace").splitlines():
            key, _, value = line.partition(":")
            named = folder / (Path(value.strip().strip('"')).name + ".flax")
            if key.strip() == "model_checkpoint_path" and named in checkpoints:
                return named
    if len(checkpoints) > 1:
        raise CheckpointError(
            f"{folder}: holds {len(checkpoints)} checkpoints, and no file checkpoint that says which",
            hint="name one of them: " + ", ".join(file.name for file in checkpoints[:4]),
            file=str(folder),
        )
    return checkpoints[0]


def contents(found: Found, said: ReadAs | None = None) -> Contents:
    """Card and tensors of a checkpoint; a ``card.toml`` beside a foreign file says what it means instead.

    ``said`` is what the user says of it, which neither the card nor the published name of the file may
    contradict.
    """
    path, where = found.file, str(found.file)
    beside = path.parent / "card.toml"
    if found.format == "safetensors":
        _refuse(said, where, "a folder whose card.toml says all of it")
        card = read_card(beside)
        tensors, precision, sha256 = read_weights(path, card.sha256)
        return Contents(found.format, card, tensors, sha256, precision)
    stated = read_card(beside) if beside.is_file() else None
    name, family = _name(path), str(found.format)
    published = _published(path)
    if published is not None:
        said = (
            published if said is None else said.joined(published, where, f"its published name, {published}")
        )
    try:
        if regular_size(path) > MAX_FILE_BYTES:
            raise CheckpointError(f"{where}: over {MAX_FILE_BYTES} bytes", file=where)
        refuse_standin_file(path, CheckpointError)
        if found.format == "torch":
            family, card, tensors = torch_files.read(path, name, said, stated)
        elif found.format == "edm-pickle":
            if said is not None and said.family != "edm":
                _refuse(said, where, "a snapshot of EDM")
            card, tensors = _mapped(path, name, said)
        else:
            _refuse(said, where, "a checkpoint of VDM's")
            predicts = _predicts(path)
            with opened(path) as stream:
                card, tensors = flax_vdm.read(stream, where, name, predicts=predicts)
        sha256 = sha256_of(path)
    except DataIntegrityError as error:  # of an archive, which does not know what it holds
        raise CheckpointError(error.message, hint=error.hint, **error.fields) from error
    except OSError as error:
        raise CheckpointError(f"{where}: cannot be read ({error.strerror or error})", file=where) from error
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        # Whatever else a crafted file can make of the readers: they trust no type, but nobody is perfect.
        raise CheckpointError(
            f"{where}: does not hold what a file of this format holds ({type(error).__name__})",
            hint="the file is damaged, or was made by other code",
            file=where,
        ) from error
    if said is not None and "pixels" in said.options:
        card = replace(card, pixels=said.options["pixels"])
    if stated is not None:
        if said is not None:
            _check_same(card, stated, said, where)
        card = stated
    kinds = {str(t.dtype).removeprefix("torch.") for t in tensors.values() if t.is_floating_point()}
    return Contents(family, card, tensors, sha256, "/".join(sorted(kinds)), said)


def _refuse(said: ReadAs | None, where: str, what: str) -> None:
    if said is not None:
        raise CheckpointError(f"{where}: --as {said} is said of {what}", hint="leave --as out", file=where)


def _published(path: Path) -> ReadAs | None:
    """What the name of a file says, of those that are published."""
    for entry in known()["expert"].values():
        if "read_as" in entry and Path(entry["at"]).name == path.name:
            return parsed(entry["read_as"])
    return None


def _said_of(clock: Mapping[str, object] | None) -> dict[str, object]:
    """What a clock says, without what is no."""
    return {key: value for key, value in (clock or {}).items() if value is not False}


def _check_same(made: Card, stated: Card, said: ReadAs, where: str) -> None:
    """Refuse a card that says otherwise than the user does."""
    keys = ("kind", "predicts", "input", "pixels")
    pairs: dict[str, tuple[object, object]] = {k: (getattr(made, k), getattr(stated, k)) for k in keys}
    pairs["clock"] = _said_of(made.clock), _said_of(stated.clock)
    sizes = zip(made.image_shape, stated.image_shape, strict=True)
    if any(0 not in both and both[0] != both[1] for both in sizes):  # 0: any
        pairs["image_shape"] = made.image_shape, stated.image_shape
    known = made.network.keys() & (stated.network.keys() | UNSEEN.keys())
    pairs |= {key: (made.network[key], stated.network.get(key, UNSEEN.get(key))) for key in known}
    different = [key for key, (own, its) in pairs.items() if own != its]
    if different:
        told = "; ".join(f"{key} = {str(pairs[key][0])[:60]}, {str(pairs[key][1])[:60]}" for key in different)
        raise CheckpointError(
            f"{where}: --as {said} contradicts card.toml beside it: {told}",
            hint="leave --as out, or mend the card",
            file=where,
            differences=different,
        )


def _mapped(path: Path, name: str, said: ReadAs | None) -> tuple[Card, dict[str, Tensor]]:
    with opened(path) as stream:
        # Closed with the last view of it: a frame of an error may hold one.
        content = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
    return edm_pickle.read(memoryview(content), str(path), name, said)


def _predicts(path: Path) -> Literal["eps", "velocity"]:
    """What a flax network predicts: nothing in its file says so, but its place in the cache may.

    Nor does the file state the schedule: VP is taken, Google's only one.
    """
    places = {Path(entry["at"]).name: entry for entry in known()["expert"].values() if "at" in entry}
    entry = places.get(path.parent.name)
    predicts: Literal["eps", "velocity"] = (
        "velocity" if entry is not None and entry.get("predicts") == "velocity" else "eps"
    )
    if (path.parent / "card.toml").is_file():
        return predicts
    if entry is None:
        log.warning(
            "%s: nothing in it says what the network predicts, nor of which schedule; taken as eps and VP, "
            "as Google's are. For i-DODE's convert it, and write into its card.toml: "
            'predicts = "velocity" and input = "vp", or input = "sp" if it was trained with schedule SP',
            path,
        )
    elif predicts == "velocity":
        log.warning(
            "%s: nothing in it says whether it was trained with schedule VP or SP; taken as VP. If it was SP "
            'convert it, and write into its card.toml: input = "sp" in place of input = "vp"',
            path,
        )
    return predicts


def _name(path: Path) -> str:
    return path.parent.name if path.stem in ("model",) or path.suffix == ".flax" else path.stem
