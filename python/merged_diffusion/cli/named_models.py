"""Models as a command names them: one ``--expert`` or several, and what ``--as`` says of one."""

from __future__ import annotations

from typing import Any, Final

from merged_diffusion.errors import UsageError

MODELS: Final = ("expert", "likelihood_expert", "quality_expert")


def several(given: dict[str, Any]) -> None:
    """One ``--expert`` is ``expert``, several are ``experts``."""
    named = given.get("expert")
    if isinstance(named, tuple):
        given["expert"] = named[0] if len(named) == 1 else None
        given["experts"] = named if len(named) > 1 else None


def read_as(given: dict[str, Any]) -> None:
    """Put what ``--as`` says behind the one model that it can be of, as ``FILE as FAMILY:...``."""
    words = given.pop("read_as", None)
    if words is None:
        return
    named = [key for key in MODELS if given.get(key) is not None]
    n = len(named) + len(given.get("experts") or ())
    if n != 1:
        raise UsageError(
            f"--as {words!r} is said where {n} models are named",
            hint="it is of the one that --expert, --likelihood-expert or --quality-expert names; of several, "
            "write each behind its name: --quality-expert 'FILE as FAMILY:...'",
        )
    given[named[0]] = f"{given[named[0]]} as {words}"
