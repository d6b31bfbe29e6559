"""Pickled modules of torch, read as records: their attributes and their parts."""

from __future__ import annotations

from collections.abc import Mapping

from merged_diffusion.errors import CheckpointError, UnsupportedCheckpointError
from merged_diffusion.files import inert


def unknown(where: str, what: str, found: str, known: str) -> UnsupportedCheckpointError:
    """The error for a part that no network here has."""
    return UnsupportedCheckpointError(
        f"{where}: the {what} is {found[:60]}, known: {known}",
        hint="any other network can be passed as a callable, from Python (CallableExpert)",
        file=where,
        expected=known,
        found=found[:60],
    )


def attributes(record: inert.Record, where: str) -> dict[str, object]:
    """The attributes of an object."""
    if not isinstance(record.state, dict):
        raise CheckpointError(f"{where}: a {record.kind[:60]} without attributes", file=where)
    return record.state


def modules(state: Mapping[str, object]) -> Mapping[str, object]:
    """The parts of a module by name."""
    found = state.get("_modules") if isinstance(state, dict) else None
    return found if isinstance(found, dict) else {}
