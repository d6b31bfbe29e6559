"""A leg: one of the integrations of a model, which follow each other."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from merged_diffusion.experts.base import Expert
from merged_diffusion.experts.blend import Blend
from merged_diffusion.roles import roles_in


@dataclass(frozen=True)
class Leg:
    """One integration: ``expert``, in the part of ``role``, from gamma ``start`` to gamma ``end``."""

    expert: Expert
    role: str
    """``likelihood``, ``quality``, ``both``; of N experts also ``expert-2`` and ``likelihood+expert-2``."""
    start: float
    end: float
    extrapolated: bool = False
    """Whether it leaves the range that the expert was trained on."""
    soft: bool = False
    """Whether the next leg goes on as if there were no end: with history and step size."""

    @property
    def roles(self) -> tuple[str, ...]:
        """The roles of the experts that it asks."""
        return roles_in(self.role)

    @property
    def parts(self) -> tuple[Expert, ...]:
        """The experts that it asks."""
        return self.expert.parts if isinstance(self.expert, Blend) else (self.expert,)


def asked_over(legs: Iterable[Leg]) -> list[tuple[Expert, tuple[float, float]]]:
    """Each expert of some legs once, and all gammas that they ask it over, least noise first."""
    found: dict[int, tuple[Expert, tuple[float, float]]] = {}
    for leg in legs:
        for expert in leg.parts:
            low, high = sorted((leg.start, leg.end))
            _, (least, most) = found.get(id(expert), (expert, (low, high)))
            found[id(expert)] = expert, (min(low, least), max(high, most))
    return list(found.values())
