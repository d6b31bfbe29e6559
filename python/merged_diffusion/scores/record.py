"""The result of one image: what a metric found, what it cost, and how it failed where it did.

The fields stand in the order of the keys of a journal's line (docs/formats.md); a key that has nothing to say
is left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Final

from merged_diffusion.files.typed_values import TypedValues

# Keys that a record has whatever stands there.
ALWAYS: Final = frozenset({"id", "status", "bits_per_dim", "terms_nats", "evaluations", "cluster", "rows"})


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Record(TypedValues):
    """One image under one model; None stands for what is undefined or does not apply."""

    id: int
    status: str
    """``ok``, or how it failed: ``nonfinite``, ``dt_min``, ``max_steps``, ``tolerance_missed``."""
    bits_per_dim: float | None = None
    terms_nats: Mapping[str, float] | None = None
    """They add up to log P, or to the bound on it."""
    log_density_nats: float | None = None
    se_times: float | None = None
    draws: list[float | None] | None = None
    """In nats, where there are several. A number that is not finite is read back as None."""
    path_error: float | None = None
    quadrature_error: float | None = None
    """Standard deviation of what the spline along the path may miss of the trace, where that was measured."""
    se_probe: float | None = None
    freedom: float | None = None
    """Degrees of freedom of ``se_probe``, for intervals by Student's t; None where it is 0."""
    gamma: float | None = None
    """Where it failed; so are the next five fields of failures alone."""
    leg: str | None = None
    expert: str | None = None
    stage: int | None = None
    error_ratio: float | None = None
    hint: str | None = None
    evaluations: Mapping[str, int]
    """Network evaluations by role, over all draws."""
    steps: Mapping[str, int] | None = None
    """``accepted`` and ``rejected`` ones of the solver; a bound has none."""
    cluster: int | None = None
    rows: int | None = None
    """Rows of a network call."""
    evaluations_extrapolated: int | None = None
    profile: Mapping[str, list[list[float | None]]] | None = None
    """``gamma`` and ``loss`` [R, T] of a bound."""
    environment: str | None = None
    rebatched: bool = False

    @property
    def is_ok(self) -> bool:
        """Whether the image has a score."""
        return self.status == "ok"

    @property
    def total_evaluations(self) -> int:
        """Network evaluations of all experts."""
        return sum(self.evaluations.values())

    def __repr__(self) -> str:
        return f"Record({', '.join(f'{key}={value!r}' for key, value in self.as_dict().items())})"

    def as_dict(self) -> dict[str, object]:
        """As JSON values, in the order of a journal's line."""
        is_bound = self.steps is None
        kept = ALWAYS | {"se_times"} if is_bound else ALWAYS
        if not self.is_ok:
            kept |= {"hint"} if is_bound else {"stage", "error_ratio", "hint"}
        found = {name: getattr(self, name) for name in NAMES}
        return {k: v for k, v in found.items() if k in kept or (v is not None and v is not False)}


NAMES: Final = tuple(field.name for field in fields(Record))
