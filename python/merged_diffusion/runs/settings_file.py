"""``settings.json``: what a run was asked for, and whether a later command asks for the same.

Sameness is of meaning, not of words: an expert is its weights' hash, a data set its content's hash, a
threshold its gamma. Three kinds of difference:

* free: no value in a record depends on it (names and paths, which images, how many workers, what is
  printed, of which images errors of quadrature are measured);
* machine: the last bits depend on it (batch size, threads, device, network dtype, compiled networks);
  refused unless told otherwise;
* all else changes numbers and is refused.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from merged_diffusion.errors import RunCorruptError, RunError, StorageError
from merged_diffusion.files.reading import read_text
from merged_diffusion.files.typed_values import TypedValues
from merged_diffusion.runs.directory import write_file
from merged_diffusion.runs.kept import as_kept
from merged_diffusion.runs.records import plain

FORMAT: Final = 1
SHARED: Final = ("threshold", "gate", "fid")  # commands that keep in ``--work`` what they measure
MACHINE: Final = ("batch_size", "threads", "device", "dtype", "compile")
FREE: Final = frozenset(
    f"settings.{name}"
    for name in (
        *("data", "split", "levels", "limit", "ids", "pair", "likelihood_expert", "quality_expert", "expert"),
        *(
            "experts",
            "eta",
            "gamma",
            "gammas",
            "edm_sigma",
            "logsnr",
            "gate",
            "compare",
            "allow_failed",
            "preset",
        ),
        *("mean_of", "plan_for"),
    )
) | {"data.name", "data.split"}
# What a pilot found, which no value depends on.
QUADRATURE: Final = "quadrature"
GAMMA_SCAN: Final = "gamma_scan"
# And what decides how much of a correction is in the values.
PATH: Final = "path_evidence"
# And what it found that less than full precision costs, which no value depends on either.
PRECISION_COST: Final = "precision_cost"
# What an expert is called and where it lies; its weights are compared by their hash.
FREE_PARTS: Final = ("name", "source", "provenance")
# Written beside the settings; compared elsewhere (versions) or not at all.
APART: Final = ("format", "versions", "selections")

Settings = dict[str, Any]


@dataclass(frozen=True)
class RecordedMachine(TypedValues):
    """The `MACHINE` and precision of a run or of samples that were begun; None where they say nothing."""

    batch_size: int | None = None
    threads: int | None = None
    device: str | None = None
    dtype: str | None = None
    compile: bool | None = None
    precision: str | None = None

    @classmethod
    def of(cls, folder: Path, settings: Settings | None) -> RecordedMachine | None:
        """Of ``settings`` that were read in ``folder``; None where there are none."""
        with as_kept(folder):
            return None if settings is None else cls.from_dict(settings.get("settings", {}))


def read_settings(folder: Path) -> Settings | None:
    """The settings of a run, or None where there is none yet.

    Raises
    ------
    RunError
        Written by a newer version of the package.
    RunCorruptError
        Not what this package writes.
    """
    path = folder / "settings.json"
    settings = read_versioned(
        path, what="the settings of a run", hint="restore the file, or use another --out"
    )
    if settings is None:
        return None
    version = settings["format"]
    if not isinstance(version, int) or version > FORMAT:
        raise RunError(
            f"{path}: format {version}, but this version of merged-diffusion reads formats up to {FORMAT}",
            hint="use the version that wrote it, or a newer one",
            file=str(path),
            found=version,
            expected=FORMAT,
        )
    return settings


def read_versioned(path: Path, *, what: str, hint: str) -> dict[str, Any] | None:
    """A JSON file of ours, whose ``format`` is for the caller to judge; None where there is none.

    Raises
    ------
    RunCorruptError
        It is not ``what`` it should be.
    """
    try:
        found: dict[str, Any] = json.loads(read_text(path))
        found["format"]
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise StorageError(f"{path}: cannot be read ({error.strerror})", file=str(path)) from error
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise RunCorruptError(f"{path}: not {what}", hint=hint, file=str(path)) from error
    return found


def json_text(value: Mapping[str, object]) -> bytes:
    """The content of a JSON file of ours."""
    return (json.dumps(plain(value), indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode(
        "utf-8", "backslashreplace"
    )


def write_json(path: Path, value: Mapping[str, object]) -> None:
    """Replace a file in one step: readers see the old content or the new one."""
    write_file(path, json_text(value))


def differences(recorded: Mapping[str, object], asked: Mapping[str, object]) -> dict[str, tuple[Any, Any]]:
    """Where a command asks for other than the run holds: ``{"settings.rtol": (1e-5, 1e-6)}``."""
    one, two = leaves(plain(recorded)), leaves(plain(asked))
    keys = [key for key in {**one, **two} if not is_free(key)]
    return {key: (one.get(key), two.get(key)) for key in keys if one.get(key) != two.get(key)}


def takes_selection(held: Settings, asked: Settings) -> bool:
    """Whether ``held`` now has a selection that it had not, a pilot of more images, or scans."""
    selection = asked["selections"][0]
    is_new = selection not in held["selections"]
    if is_new:
        held["selections"].append(selection)
    one, two = (each.get("settings", {}) for each in (held, asked))
    old, new = one.get(QUADRATURE), two.get(QUADRATURE)
    if new is not None and (old is None or old["n"] < new["n"]):
        one[QUADRATURE], is_new = new, True
    if two.get(GAMMA_SCAN, {}) != one.get(GAMMA_SCAN, {}) and GAMMA_SCAN in two:
        one[GAMMA_SCAN], is_new = {**one.get(GAMMA_SCAN, {}), **two[GAMMA_SCAN]}, True
    return is_new


def listed(found: Mapping[str, tuple[Any, Any]]) -> str:
    """Differences in words."""
    return "; ".join(f"{key.removeprefix('settings.')} {a} there, {b} here" for key, (a, b) in found.items())


def is_free(key: str) -> bool:
    """Whether no record depends on a field."""
    top, *path = key.split(".")
    if top == "settings" and path[:1] and path[0] in (QUADRATURE, GAMMA_SCAN, PRECISION_COST):
        return True
    return key in FREE or top in APART or (top == "experts" and path[1:2] != [] and path[1] in FREE_PARTS)


def is_machine(key: str) -> bool:
    """Whether a difference changes the last bits only."""
    return key.removeprefix("settings.") in MACHINE


def leaves(value: Any, prefix: str = "") -> dict[str, object]:
    """A nested mapping as one level: ``{"settings.rtol": 1e-5}``."""
    if not isinstance(value, dict):
        return {prefix: value}
    return {
        k: v for key, item in value.items() for k, v in leaves(item, f"{prefix}.{key}".lstrip(".")).items()
    }


def meaning_digest(identity: Mapping[str, object], chosen: Iterable[str] = ()) -> str:
    """Eight hex digits of what records depend on, whatever the machine; ``chosen`` fields count as empty."""
    kept = {k: v for k, v in leaves(dict(identity)).items() if not is_free(k) and not is_machine(k)}
    kept |= dict.fromkeys(chosen)
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()[:8]
