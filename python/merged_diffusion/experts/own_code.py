"""The user's own code as an expert: ``file.py:name`` and ``module:name`` are run, and it is said.

A file sees what lies beside it, as under ``python file.py``; a module is found from the working folder, as
under ``python -m``. The folder is the first place of imports while the expert is made. Afterwards it is the
last one: what a network imports when it is called is still found, and no file takes the place of a package.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import logging
import os
import sys
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Final, cast

from merged_diffusion.errors import ExpertError
from merged_diffusion.experts.cures import cure
from merged_diffusion.experts.fence import is_of_expert

if TYPE_CHECKING:
    from merged_diffusion.experts.base import Expert

log = logging.getLogger("merged_diffusion")

ATTRIBUTES: Final = ("gamma_range", "pixels", "levels", "image_shape")

# Files of experts with what of their folders they had imported when they were first made; all such folders.
_beside: dict[Path, tuple[Path, ...]] = {}
_folders: set[Path] = set()


def expert_of(module: str, name: str) -> Expert:
    """The expert that ``name`` of a module or a ``file.py`` is, or returns.

    Raises
    ------
    ExpertError
        The code raises, or makes no expert.
    """
    if module.endswith(".py") and not Path(module).is_file():
        raise ExpertError(f"no such file: {module}", hint="expected file.py:name", expert=module)
    log.warning("running the code of %s, which gives the expert %s", module, name)
    source = f"{module}:{name}"
    try:
        with _first(_folder(module)):
            found = getattr(_imported(module), name)
            expert = found if _is_expert(found) else found()
    except BaseException as error:
        if not is_of_expert(error):
            raise
        hint = "name an Expert, or a function without arguments that returns one"
        raise ExpertError(
            f"expert {source!r}: {type(error).__name__}: {error}", hint=cure(error) or hint, expert=source
        ) from error
    if not _is_expert(expert):
        missing = [a for a in ATTRIBUTES if not hasattr(expert, a)] or ["__call__(z, gamma, cond)"]
        raise ExpertError(
            f"expert {source!r} is a {type(expert).__name__} without {', '.join(missing)}",
            hint="wrap a bare network in CallableExpert, which states them",
            expert=source,
        )
    if module.endswith(".py"):
        path = Path(module).resolve()
        if path not in _beside:
            _beside[path] = _imported_from(path.parent, path)
    return cast("Expert", expert)


def code_sha256(source: str) -> str | None:
    """SHA-256 of the file of ``file.py:name``, and of what lies beside it that it imported when it was made.

    Of the file alone where it imported nothing of its folder; None for any other source.
    """
    file, _, _ = source.rpartition(":")
    if not file.endswith(".py"):
        return None
    path = Path(file)
    others = _beside.get(path.resolve(), ())
    digest = hashlib.sha256(path.read_bytes())
    for other in others:
        digest.update(f"\n{other.relative_to(path.resolve().parent).as_posix()}\n".encode())
        digest.update(other.read_bytes())
    return digest.hexdigest()


def _is_expert(thing: object) -> bool:
    return callable(thing) and not isinstance(thing, type) and all(hasattr(thing, a) for a in ATTRIBUTES)


def _folder(module: str) -> Path:
    return Path(module).resolve().parent if module.endswith(".py") else Path.cwd()


def _imported(module: str) -> ModuleType:
    if not module.endswith(".py"):
        return importlib.import_module(module)
    path = Path(module).resolve()
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise ExpertError(f"no Python file: {module}", hint="expected file.py:name", expert=module)
    loaded = importlib.util.module_from_spec(spec)
    sys.modules.setdefault(path.stem, loaded)  # dataclasses and pickles look their module up by name
    spec.loader.exec_module(loaded)
    return loaded


@contextmanager
def _first(folder: Path) -> Iterator[None]:
    """``folder`` is the first place of imports in the block, and the last one after it; none if it fails."""
    _forget_others(folder)
    _folders.add(folder)
    sys.path.insert(0, str(folder))
    importlib.invalidate_caches()
    is_done = False
    try:
        yield
        is_done = True
    finally:
        with suppress(ValueError):
            sys.path.remove(str(folder))
        if is_done and str(folder) not in sys.path:
            sys.path.append(str(folder))


def _forget_others(folder: Path) -> None:
    """Have modules imported anew that another expert has from its folder, and ``folder`` has of its own."""
    for other, loaded in sorted(_loaded_from(_folders - {folder}).items()):
        files = [path for path in loaded if path not in _beside]
        names = {path.relative_to(other).parts[0].removesuffix(".py") for path in files}
        both = sorted(name for name in names - {__package__.split(".")[0]} if _has(folder, name))
        if not both:
            continue
        log.warning(
            "%s and %s both hold %s: each expert gets its own, but what is imported later, in a call, may be "
            "the other's; rename one of them",
            other, folder, ", ".join(both),
        )  # fmt: skip
        for key in [key for key in sys.modules if key.split(".")[0] in both]:
            del sys.modules[key]


def _has(folder: Path, name: str) -> bool:
    return (folder / f"{name}.py").is_file() or (folder / name / "__init__.py").is_file()


def _loaded_from(folders: Collection[Path]) -> dict[Path, list[Path]]:
    """Files of modules that are loaded, by those of ``folders`` that they lie below."""
    if not folders:
        return {}
    files = (getattr(module, "__file__", None) for module in list(sys.modules.values()))
    parts = {os.path.split(file) for file in files if isinstance(file, str) and file.endswith(".py")}
    found: dict[Path, list[Path]] = {}
    for parent, name in sorted(parts):
        real, above = _real(parent)
        for folder in above.intersection(folders):
            found.setdefault(folder, []).append(real / name)
    return {folder: sorted(set(paths)) for folder, paths in found.items()}


@cache
def _real(directory: str) -> tuple[Path, frozenset[Path]]:
    """Without links; and with all above it. Thousands of modules lie in hundreds of directories."""
    real = Path(directory).resolve()
    return real, frozenset([real, *real.parents])


def _imported_from(folder: Path, file: Path) -> tuple[Path, ...]:
    """What ``file`` has beside it of the loaded modules; nothing of installed packages within the folder."""
    inside = (path for path in _loaded_from({folder}).get(folder, []) if path != file)
    return tuple(path for path in inside if "site-packages" not in path.parts and path.is_file())
