"""Which thresholds a sweep is over: the grid of the paper's tables, or a list.

The grid of a pair is {eta_min, every multiple of 0.1 between, eta_max} and both experts alone, on their own
ranges, which are eta 0 and 1. Rows are named by eta to four decimals, so thresholds must differ there; one
that would read as an expert alone, which is another model, is named by its word.
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
    # Where both ranges begin or end alike that end is an expert alone, whose row is there already.
    return (
        0.0,
        *(["min"] if likelihood[0] != quality[0] else []),
        *inside,
        *(["max"] if lowest < highest and likelihood[1] != quality[1] else []),
        1.0,
    )


def reads_as_alone(eta: float) -> bool:
    """Whether the eta of a merged model, to four decimals, reads as that of an expert alone."""
    return not 0 < round(eta, 4) < 1


def row_name(eta: float, gamma: float | None = None, word: object = None) -> str:
    """``eta 0.3000``; of one that reads as an expert alone ``eta min``, if that is its word, or its gamma."""
    if gamma is None or not reads_as_alone(eta):
        return f"eta {eta:.4f}"
    return f"eta {word}" if word in ("min", "max") else f"gamma {gamma:.4f}"


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
