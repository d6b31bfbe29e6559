"""Experts by name: ``load_expert("bundled:photos-vdm")``, a checkpoint, or the user's own code.

A checkpoint is read: recognised by its content, its tensors compared with the network that its card states.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Final, cast

from merged_diffusion.catalogue.absent import expert_paths
from merged_diffusion.catalogue.entries import known, public
from merged_diffusion.errors import CheckpointError, ExpertError, UsageError
from merged_diffusion.experts.checkpoints.read_as import ReadAs, parsed
from merged_diffusion.experts.checkpoints.recognise import Contents, Found, contents, recognise
from merged_diffusion.experts.diffusers import load_diffusers
from merged_diffusion.experts.fence import fenced
from merged_diffusion.experts.own_code import expert_of
from merged_diffusion.experts.public_expert import PublicExpert
from merged_diffusion.files.reading import exists
from merged_diffusion.files.weights import check_keys, finite, unwrapped

if TYPE_CHECKING:
    from merged_diffusion.experts.base import Expert
    from merged_diffusion.experts.card import Card
    from merged_diffusion.experts.edm import EdmExpert
    from merged_diffusion.experts.vdm import VdmExpert

log = logging.getLogger("merged_diffusion")

EXPECTED: Final = (
    "expected a name that `merged-diffusion experts list` shows, a checkpoint, hf:owner/name@revision, "
    "module:name or file.py:name"
)
OTHER: Final = "a network that was changed; declare it by CallableExpert"
HINTS: Final = {
    "addtt": "config.yaml and model.pt do not belong together, or the EMA is of another network",
    "edm-pickle": "the file's own arguments and its tensors do not belong together",
    "openai": OTHER,
    "torchcfm": OTHER,
    "score_sde": OTHER,
    "lucidrains": OTHER,
    "flax-msgpack": "a variant of VDM's network that is not known; pass it as a callable",
}
# Tensors of one entry, at least: a block down and its twin up, in each of the levels where there are some.
DEPTHS: Final[Mapping[str, Mapping[str, int]]] = {
    "ddpmpp": {"num_blocks": 20},
    "ncsnpp": {"num_blocks": 20},
    "openai": {"num_res_blocks": 20},
    "adm": {"num_res_blocks": 20},
    "edm2": {"num_blocks": 8},
    "lucidrains": {"dim_mults": 40},
    "vdm-unet": {"n_blocks": 18},
    "small": {"blocks": 8, "channels": 8},
}


@dataclass(frozen=True)
class Opened:
    """A checkpoint as it was read; ``held`` is None for a diffusers folder, which has no card."""

    expert: Expert
    found: Found
    held: Contents | None


def load_expert(source: str | Path, *, read_as: str | None = None, cache: str | Path | None = None) -> Expert:
    """The expert that ``source`` names, ready for evaluation.

    ``bundled:NAME``; a public name or ``hf:owner/name@revision``, from ``cache``; a checkpoint, file or
    folder, recognised by its content. ``module:name`` and ``file.py:name`` run that code, and say so in the
    log; all else is read.

    ``read_as`` says of a checkpoint what it does not say itself, such as
    ``openai:heads=4,order=legacy,schedule=cosine,steps=4000,rescaled=yes``; ``source`` may say it, too, as
    ``FILE as openai:...``.

    Examples
    --------
    >>> import merged_diffusion as md
    >>> md.load_expert("bundled:photos-vdm")
    VdmExpert(photos-vdm, 3x8x8, 256 levels, gamma -13.3 to 5)
    """
    bare, said = parted(source, read_as)
    path = located(bare, cache)
    if path is not None:
        return read_expert(path, said)
    if said is not None:
        raise UsageError(
            f"--as {said} is said of {bare}, which is code", hint="it declares itself; leave --as out"
        )
    module, _, name = str(bare).rpartition(":")
    return expert_of(module, name)


def parted(source: str | Path, read_as: str | None = None) -> tuple[str | Path, ReadAs | None]:
    """A source without `` as FAMILY:...``, and what that or ``read_as`` says."""
    head, is_said, words = str(source).rpartition(" as ")
    if not is_said or isinstance(source, Path) or exists(Path(source)):
        return source, None if read_as is None else parsed(read_as)
    said = parsed(words)
    if read_as is not None:
        said = parsed(read_as).joined(said, head, f"the words behind its name, {said}")
    return head, said


def located(source: str | Path, cache: str | Path | None = None) -> Path | None:
    """Where the checkpoint lies that ``source`` names; None for ``module:name`` and ``file.py:name``: code.

    Raises
    ------
    ExpertError
        There is none.
    """
    text = str(source)
    if text.startswith("bundled:"):
        return bundled_folder(text.removeprefix("bundled:"))
    if isinstance(source, str) and public("expert", source) is not None:
        return Path(expert_paths([source], cache)[0])
    path = Path(source)
    if exists(path):
        return path
    module, _, name = text.rpartition(":")
    if module and name.isidentifier():
        return None
    raise ExpertError(f"expert {text!r} not found: no such file or folder", hint=EXPECTED, expert=text)


def bundled_folder(name: str) -> Path:
    """Where the package keeps the expert ``name``."""
    table = {key: entry["folder"] for key, entry in known()["expert"].items() if "folder" in entry}
    if name not in table:
        raise ExpertError(
            f"no bundled expert is called {name!r}", hint=f"known: {', '.join(table)}", expert=name
        )
    return Path(str(resources.files("merged_diffusion.experts"))) / str(table[name])


def read_expert(path: Path, said: ReadAs | None = None) -> Expert:
    """The expert in a checkpoint, its weights checked against the card and converted to float32."""
    return open_expert(path, said).expert


@fenced()
def open_expert(path: Path, said: ReadAs | None = None) -> Opened:
    """The same with the format, the card and the hash that it was read from."""
    found = recognise(path)
    if found.format == "diffusers":
        if said is not None:
            raise CheckpointError(f"{path}: --as {said} is said of a diffusers folder", hint="leave --as out")
        return Opened(load_diffusers(found.file), found, None)
    held = contents(found, said)
    said = held.said
    _warn_of_precision(held, path)
    _check_depth(held, found.file)
    expert = _blank(held.card, path)
    found_tensors = unwrapped(held.tensors, str(found.file))
    check_keys(found_tensors, expert.state_dict(), str(found.file), hint=HINTS.get(held.format))
    # Flattened and shaped anew: strides of axes of length one, which a file may state in two ways, choose the
    # algorithm of a convolution, and with it the last bits.
    tensors = {
        key: finite(key, value, found.file).float().reshape(-1).view(value.shape)
        for key, value in found_tensors.items()
    }
    expert.load_state_dict(tensors, assign=True)
    expert.eval().requires_grad_(requires_grad=False)
    expert.provenance = {
        "name": held.card.name,
        "kind": held.card.kind,
        "format": held.format,
        "source": str(path),
        "sha256": held.sha256,
        "precision": held.precision,
        "licence": held.card.licence,
    }
    if said is not None:
        expert.provenance["read_as"] = str(said)
    expert.meaning = held.card.meaning
    if isinstance(expert, PublicExpert) and said is not None:
        expert.likely = {
            f"--as {words}": partial(read_expert, path, parsed(words)) for words in said.alternatives()
        }
    return Opened(cast("Expert", expert), found, held)


def _blank(card: Card, path: Path) -> VdmExpert | EdmExpert | PublicExpert:
    """The card's expert without storage; what is wrong with the card is said of the file."""
    try:
        return card.blank()
    except CheckpointError as error:
        fields = error.fields.copy()
        fields.setdefault("file", str(path))
        raise type(error)(f"{path}: {error.message}", hint=error.hint, **fields) from error


def _check_depth(held: Contents, file: Path) -> None:
    """Refuse more blocks than the file can hold: even without memory for them, making them takes time."""
    network, n_held = held.card.network, len(held.tensors)
    for key, least in DEPTHS.get(str(network.get("architecture", "small")), {}).items():
        stated, levels = network.get(key, 0), network.get("channel_mult", [1])
        count = len(stated) if isinstance(stated, list) else stated
        if isinstance(count, int) and isinstance(levels, list) and least * count * len(levels) > n_held:
            raise CheckpointError(
                f"{file}: {key} = {str(stated)[:40]}, in a file of {n_held} tensors",
                hint="the network's options and its weights do not belong together",
                file=str(file),
                key=key,
            )


def _warn_of_precision(held: Contents, path: Path) -> None:
    stated = held.card.precision
    if held.format == "safetensors":
        if held.precision != stated:
            log.warning(
                "%s: weights are %s, the card states %s; used as they are", path, held.precision, stated
            )
    elif held.precision != "float32":
        log.warning("%s: weights are %s, not float32; used as they are", path, held.precision)
