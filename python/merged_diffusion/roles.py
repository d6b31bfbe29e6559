"""The parts that experts play: by these words legs, records and summaries tell them apart.

The expert of the least noise is ``likelihood``, that of the most ``quality``; of N experts the others are
``expert-2`` to ``expert-(N-1)``, in the order of rising noise.
"""

from __future__ import annotations

from typing import Final, Protocol

BOTH: Final = "both"  # the experts of a pair
AND: Final = "+"  # between the roles of several of N


def roles_of(n: int) -> tuple[str, ...]:
    """The roles of N experts, in the order of rising noise."""
    return ("likelihood", *(f"expert-{number}" for number in range(2, n)), "quality")


def roles_in(charge: str) -> tuple[str, ...]:
    """The roles that a leg's word names."""
    return ("likelihood", "quality") if charge == BOTH else tuple(charge.split(AND))


class Span(Protocol):
    """A leg: the expert of ``role`` is in charge from gamma ``start`` to gamma ``end``."""

    @property
    def role(self) -> str: ...  # noqa: D102
    @property
    def start(self) -> float: ...  # noqa: D102
    @property
    def end(self) -> float: ...  # noqa: D102
