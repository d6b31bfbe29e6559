"""A gate as a TOML card: what w is, and which experts and images it was fitted to."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from merged_diffusion.errors import DataError, ExpertError
from merged_diffusion.files.reading import read_text
from merged_diffusion.simplex_gate import SimplexGate
from merged_diffusion.soft_gate import Gate

KIND: Final = "gate"
OF_MANY: Final = "simplex gate"


def load_gate(path: str | Path) -> Gate | SimplexGate:
    """The gate of a card that ``merged-diffusion gate`` wrote.

    Raises
    ------
    DataError
        It cannot be read, or is no gate's card.

    Examples
    --------
    >>> import merged_diffusion as md
    >>> from pathlib import Path
    >>> card = Path("gate.toml")
    >>> _ = card.write_text(md.gate_toml(md.Gate(-8.0, -2.0)))
    >>> md.load_gate(card) == md.Gate(-8.0, -2.0)
    True
    """
    try:
        card = tomllib.loads(read_text(path))
        if card.get("kind") not in (KIND, OF_MANY):
            raise ValueError(f"its kind is {card.get('kind')!r}")
        about = card.get("about", {})
        ends = float(card["start"]), float(card["end"])
        said: dict[str, Any] = {
            "form": str(card["form"]),
            "seen": frozenset(map(str, card["seen"])),
            "experts": {role: _word(sha) for role, sha in dict(card["experts"]).items()},
            "about": json.loads(about["json"]) if "json" in about else {},
        }
        if card["kind"] == OF_MANY:
            rows = tuple(tuple(float(value) for value in row) for row in card["coefficients"])
            return SimplexGate(*ends, rows, **said)
        return Gate(*ends, tuple(float(share) for share in card["shares"]), **said)
    except (OSError, UnicodeDecodeError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"{path}: is no card of a gate ({type(error).__name__}: {error})",
            hint="merged-diffusion gate --data DATA --out FILE writes one",
            file=str(path),
        ) from error


def gate_toml(gate: Gate | SimplexGate) -> str:
    """The text of a gate's card.

    Examples
    --------
    >>> import merged_diffusion as md
    >>> print(md.gate_toml(md.Gate(-8.0, -2.0)).splitlines()[0])
    kind = "gate"
    """
    return "\n".join(_lines(gate)) + "\n"


def check_experts(gate: Gate | SimplexGate, found: Mapping[str, str | None], source: str) -> None:
    """Refuse a gate that was fitted for experts of other weights than were ``found``, by role.

    Raises
    ------
    ExpertError
    """
    for role, sha256 in gate.experts.items():
        if sha256 and found.get(role) and found[role] != sha256:
            raise ExpertError(
                f"{source}: this gate was fitted for another {role} expert (weights {sha256[:16]}, here "
                f"{str(found[role])[:16]})",
                hint="fit one to this pair: merged-diffusion gate",
                role=role,
                expected=sha256,
                found=found[role],
            )


def _lines(gate: Gate | SimplexGate) -> Iterator[str]:
    is_pair = isinstance(gate, Gate)
    yield f'kind = "{KIND if is_pair else OF_MANY}"'
    yield f'form = "{gate.form}"'
    if is_pair:
        yield "# The likelihood expert's share is 1 up to start and 0 from end on, in gamma."
    else:
        yield "# Shares of each expert by B-spline, in the order of rising noise."
    yield f"start = {gate.start!r}"
    yield f"end = {gate.end!r}"
    yield f"knots = {gate.knots.tolist()}"
    if isinstance(gate, Gate):
        yield f"shares = {list(gate.shares)}"
    else:
        yield f"coefficients = {[list(row) for row in gate.coefficients]}"
    yield f"w_at_knots = {gate(gate.knots).round(6).tolist()}"
    yield f'sha256 = "{gate.sha256}"'
    yield "# Digests of the images that it was fitted to or chosen on."
    yield f"seen = {json.dumps(sorted(gate.seen))}"
    yield ""
    yield "[experts]"
    for role, sha256 in gate.experts.items():
        yield f'{role} = "{sha256 or ""}"'
    if gate.about:
        yield ""
        yield "[about]"
        yield f"json = '{json.dumps(_plain(gate.about))}'"


def _word(value: object) -> str | None:
    return str(value) if value else None


def _plain(value: Any) -> Any:
    """Without apostrophes, which would end the literal string."""
    if isinstance(value, Mapping):
        return {_plain(str(key)): _plain(item) for key, item in value.items()}
    if isinstance(value, str):
        return value.replace("'", "\u2019")
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value
