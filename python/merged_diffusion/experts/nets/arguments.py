"""A card's ``[network]`` table as the arguments of a network: entries checked, all faults told at once."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeGuard

from merged_diffusion.errors import CheckpointError

MAX_COUNT: Final = 1 << 16  # of channels, blocks, heads: far above any network, far below the memory's end
MAX_ENTRIES: Final = 64  # of a list

Check = Callable[[object], bool]


def is_number(value: object) -> TypeGuard[float]:
    """A finite number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def is_count(value: object) -> bool:
    """A whole number from 1."""
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= MAX_COUNT


def is_size(value: object) -> bool:
    """A whole number from 0."""
    return is_count(value) or (isinstance(value, int) and value == 0 and not isinstance(value, bool))


def is_flag(value: object) -> bool:
    """Either true or false."""
    return isinstance(value, bool)


def is_share(value: object) -> bool:
    """A number from 0, below 1."""
    return is_number(value) and 0 <= value < 1


def is_positive(value: object) -> bool:
    """A number above 0."""
    return is_number(value) and value > 0


def is_interval(value: object) -> bool:
    """Two numbers, rising."""
    if not isinstance(value, list | tuple) or len(value) != 2:
        return False
    low, high = value
    return is_number(low) and is_number(high) and low < high


def list_of(entry: Check, *, least: int = 0, most: int = MAX_ENTRIES) -> Check:
    """A list of so many entries at least, and no more than ``most``, each of which passes."""

    def is_list(value: object) -> bool:
        if not isinstance(value, list | tuple) or not least <= len(value) <= most:
            return False
        return all(map(entry, value))

    is_list.__doc__ = f"A list of at least {least}, each: {entry.__doc__}"
    return is_list


def one_of(*allowed: str | int) -> Check:
    """One of these words or numbers."""

    def is_known(value: object) -> bool:
        return type(value) in (str, int) and value in allowed

    is_known.__doc__ = " or ".join(map(repr, allowed))
    return is_known


def arguments(network: Mapping[str, object], checks: Mapping[str, Check], needed: set[str]) -> dict[str, Any]:
    """The entries of the table but ``architecture``; `CheckpointError` where one is missing or unsound."""
    table = {key: value for key, value in network.items() if key != "architecture"}
    return checked(table, checks, needed, f"[network] of architecture {network.get('architecture')!r}")


def _shown(value: object) -> str:
    """A value in a message; of a long list no more than the first entries are written out."""
    return repr(value[:8] if isinstance(value, list | tuple) else value)[:100]


def checked(
    table: Mapping[str, object], checks: Mapping[str, Check], needed: set[str], what: str
) -> dict[str, Any]:
    """The entries of a table; `CheckpointError`, in which it is ``what``, where one is missing or unsound."""
    faults = [f"{key} is missing" for key in sorted(needed - table.keys())]
    faults += [f"{key} is unknown" for key in sorted(table.keys() - checks.keys())]
    faults += [
        f"{key} = {_shown(table[key])} is not this: {(check.__doc__ or '').rstrip('.')}"
        for key, check in checks.items()
        if key in table and not check(table[key])
    ]
    if faults:
        raise CheckpointError(
            f"{what}: {'; '.join(faults)}", hint=f"it has {', '.join(checks)}", differences=faults
        )
    return dict(table)
