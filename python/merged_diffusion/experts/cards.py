"""Experts by name: ``load_expert("bundled:photos-vdm")``, a checkpoint, or the user's own code."""

from __future__ import annotations

import importlib
import importlib.util
import logging
import sys
from importlib import resources
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Final, cast

from merged_diffusion.cache import cache_folder, hub_folder
from merged_diffusion.errors import CheckpointError, ExpertError, MergedDiffusionError
from merged_diffusion.experts.catalogue import known
from merged_diffusion.experts.checkpoints.recognise import contents, recognise
from merged_diffusion.experts.diffusers import load_diffusers
from merged_diffusion.experts.weights import check_keys, finite

if TYPE_CHECKING:
    from merged_diffusion.experts.base import Expert

log = logging.getLogger("merged_diffusion")

EXPECTED: Final = (
    "expected bundled:NAME, a checkpoint (`merged-diffusion experts inspect` says what is read), "
    "hf:owner/name@revision, module:name or file.py:name"
)
HINTS: Final = {
    "addtt": "config.yaml and model.pt do not belong together, or the EMA is of another network",
    "edm-pickle": "the file's own arguments and its tensors do not belong together",
    "flax-msgpack": "a variant of VDM's network that is not known; pass it as a callable",
}
ATTRIBUTES: Final = ("gamma_range", "pixels", "levels", "image_shape")


def load_expert(source: str | Path, *, cache: str | Path | None = None) -> Expert:
    """The expert that ``source`` names, ready for evaluation.

    ``bundled:NAME``; a checkpoint, file or folder, recognised by its content; ``hf:owner/name@revision`` in
    ``cache``. ``module:name`` and ``file.py:name`` run that code, and say so in the log; all else is read.
    """
    text = str(source)
    if text.startswith("bundled:"):
        return read_expert(bundled_folder(text.removeprefix("bundled:")))
    if text.startswith("hf:"):
        return read_expert(_hub(text, cache))
    path = Path(source)
    if path.exists():
        return read_expert(path)
    module, _, name = text.rpartition(":")
    if module and name.isidentifier():
        return _from_code(module, name)
    raise ExpertError(f"expert {text!r} not found: no such file or folder", hint=EXPECTED, expert=text)


def _hub(source: str, cache: str | Path | None) -> Path:
    folder = cache_folder(cache) / hub_folder(source)
    if not folder.is_dir():
        raise CheckpointError(
            f"{source} is not in the cache: no folder {folder}",
            hint=f"merged-diffusion fetch {source} brings it",
            expert=source,
        )
    return folder


def bundled_folder(name: str) -> Path:
    """Where the package keeps the expert ``name``."""
    table = {key: entry["folder"] for key, entry in known()["expert"].items() if "folder" in entry}
    if name not in table:
        raise ExpertError(
            f"no bundled expert is called {name!r}", hint=f"known: {', '.join(table)}", expert=name
        )
    return Path(str(resources.files("merged_diffusion.experts"))) / str(table[name])


def read_expert(path: Path) -> Expert:
    """The expert in a checkpoint, its weights checked against the card and converted to float32."""
    found = recognise(path)
    if found.format == "diffusers":
        return load_diffusers(found.file)
    held = contents(found)
    if held.format == "safetensors":
        if held.precision != held.card.precision:
            stated = held.card.precision
            log.warning(
                "%s: weights are %s, the card states %s; used as they are", path, held.precision, stated
            )
    elif held.precision != "float32":
        log.warning("%s: weights are %s, not float32; used as they are", path, held.precision)
    expert = held.card.blank()
    check_keys(held.tensors, expert.state_dict(), str(found.file), hint=HINTS.get(found.format))
    tensors = {key: finite(key, value, found.file).float() for key, value in held.tensors.items()}
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
    return cast("Expert", expert)


def _from_code(module: str, name: str) -> Expert:
    log.warning("running the code of %s to get the expert %s", module, name)
    source = f"{module}:{name}"
    try:
        found = getattr(_imported(module), name)
        expert = found if _is_expert(found) else found()
    except MergedDiffusionError:
        raise
    except Exception as error:
        raise ExpertError(
            f"expert {source!r}: {type(error).__name__}: {error}",
            hint="name an Expert, or a function without arguments that returns one",
            expert=source,
        ) from error
    if not _is_expert(expert):
        missing = [a for a in ATTRIBUTES if not hasattr(expert, a)] or ["__call__(z, gamma, cond)"]
        raise ExpertError(
            f"expert {source!r} is a {type(expert).__name__} without {', '.join(missing)}",
            hint="wrap a bare network in CallableExpert, which states them",
            expert=source,
        )
    return cast("Expert", expert)


def _is_expert(thing: object) -> bool:
    return callable(thing) and not isinstance(thing, type) and all(hasattr(thing, a) for a in ATTRIBUTES)


def _imported(module: str) -> ModuleType:
    if not module.endswith(".py"):
        return importlib.import_module(module)
    path = Path(module).resolve()
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if not path.is_file() or spec is None or spec.loader is None:
        raise ExpertError(f"no such file: {module}", hint=EXPECTED, expert=module)
    loaded = importlib.util.module_from_spec(spec)
    sys.modules.setdefault(path.stem, loaded)  # dataclasses and pickles look their module up by name
    spec.loader.exec_module(loaded)
    return loaded
