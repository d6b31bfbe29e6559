"""Experts by name: ``load_expert("bundled:photos-vdm")``, a folder, or the user's own code."""

from __future__ import annotations

import importlib
import importlib.util
import logging
import sys
from importlib import resources
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Final, cast

from merged_diffusion.errors import CheckpointError, ExpertError, MergedDiffusionError
from merged_diffusion.experts.card import read_card
from merged_diffusion.experts.catalogue import known
from merged_diffusion.experts.weights import check_keys, read_weights

if TYPE_CHECKING:
    from merged_diffusion.experts.base import Expert

log = logging.getLogger("merged_diffusion")

EXPECTED: Final = (
    "expected bundled:NAME, a folder with model.safetensors and card.toml, module:name or file.py:name"
)
ATTRIBUTES: Final = ("gamma_range", "pixels", "levels", "image_shape")


def load_expert(source: str | Path) -> Expert:
    """The expert that ``source`` names, ready for evaluation.

    ``module:name`` and ``file.py:name`` run that code, and say so in the log; a folder is only read.
    """
    text = str(source)
    if text.startswith("bundled:"):
        return read_expert(bundled_folder(text.removeprefix("bundled:")))
    path = Path(source)
    if path.is_dir():
        return read_expert(path)
    if path.is_file():
        raise CheckpointError(f"{path}: a single file is no expert", hint=EXPECTED, file=text)
    module, _, name = text.rpartition(":")
    if module and name.isidentifier():
        return _from_code(module, name)
    raise ExpertError(f"expert {text!r} not found: no such folder", hint=EXPECTED, expert=text)


def bundled_folder(name: str) -> Path:
    """Where the package keeps the expert ``name``."""
    table = known()["expert"]
    if name not in table:
        raise ExpertError(
            f"no bundled expert is called {name!r}", hint=f"known: {', '.join(table)}", expert=name
        )
    return Path(str(resources.files("merged_diffusion.experts"))) / str(table[name]["folder"])


def read_expert(folder: Path) -> Expert:
    """The expert in ``folder``, its weights checked against the card and converted to float32."""
    card = read_card(folder / "card.toml")
    tensors, dtype, sha256 = read_weights(folder / "model.safetensors", card.sha256)
    if dtype != card.precision:
        log.warning(
            "%s: weights are %s, the card states %s; they are used as they are", folder, dtype, card.precision
        )
    expert = card.expert()
    check_keys(tensors, expert.state_dict(), str(folder / "model.safetensors"))
    expert.load_state_dict(tensors)
    expert.eval().requires_grad_(requires_grad=False)
    expert.provenance = {
        "name": card.name,
        "kind": card.kind,
        "source": str(folder),
        "sha256": sha256,
        "precision": dtype,
        "licence": card.licence,
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
