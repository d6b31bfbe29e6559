"""Which thresholds a sweep is over: the grid of the paper's tables, or a list.

The grid of a pair is {eta_min, every multiple of 0.1 between, eta_max} and both experts alone, on their own
ranges, which are eta 0 and 1. Rows are named by eta to four decimals, so thresholds must differ there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal

from merged_diffusion._core import eta_grid
from merged_diffusion.errors import UsageError

Eta = float | str
GATE: Final = "gate"
NO_THRESHOLDS: Final = ("likelihood", "quality", GATE)  # rows that are none
ALONE: Final[dict[float, Literal["likelihood", "quality"]]] = {0.0: "quality", 1.0: "likelihood"}


def parsed(text: str) -> tuple[Eta, ...]:
    """``0.1,0.2,min``: numbers in [0, 1], ``min``, ``max``.

    Raises
    ------
    UsageError
        An entry is none of these, or stands there twice.
    """
    return checked([_entry(word.strip()) for word in text.split(",")])


def checked(etas: Sequence[Eta]) -> tuple[Eta, ...]:
    """Thresholds as given, if each is one and none stands there twice."""
    if not etas:
        raise UsageError("no threshold to sweep over", hint="leave the list out for the grid of the set")
    for eta in etas:
        if not (eta in ("min", "max") if isinstance(eta, str) else 0 <= eta <= 1):
            raise UsageError(
                f"eta {eta!r} is neither a number in [0, 1] nor min or max",
                hint="0 is the quality expert alone, 1 the likelihood expert alone",
            )
    twice = next((eta for i, eta in enumerate(etas) if eta in etas[:i]), None)
    if twice is not None:
        raise UsageError(f"eta {twice} stands twice in the list", hint="state each threshold once")
    return tuple(etas)


def grid(
    likelihood: tuple[float, float], quality: tuple[float, float], eta_range: tuple[float, float] | None
) -> tuple[Eta, ...]:
    """The thresholds of a pair's table; its ends are words, so that no digit of their gamma is lost."""
    lowest, *inside = eta_grid(likelihood, quality, eta_range=eta_range)
    highest = inside.pop() if inside else lowest
    # An end that is 0 or 1 is the range of one expert, whose row is there already.
    return (
        0.0,
        *(["min"] if lowest > 0 else []),
        *inside,
        *(["max"] if lowest < highest < 1 else []),
        1.0,
    )


def row_name(eta: float) -> str:
    """``eta 0.3000``."""
    return f"eta {eta:.4f}"


def _entry(word: str) -> Eta:
    if word in ("min", "max"):
        return word
    try:
        return float(word)
    except ValueError:
        raise UsageError(
            f"--etas: {word!r} is neither a number in [0, 1] nor min or max",
            hint="write them with commas between: --etas 0.1,0.2,max",
        ) from None
