"""What identifies the records of a model: commands with equal identities give equal records.

`Identity.as_dict` is what ``settings.json`` begins with (docs/formats.md), and what a summary repeats of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from merged_diffusion.files.typed_values import TypedValues
from merged_diffusion.roles import roles_in

GUIDANCE: Final = "guidance"  # of what an expert is made of: by whom it is guided, and how far

Threshold = Mapping[str, float | None] | None
"""``eta``, ``gamma``, ``edm_sigma`` and ``logsnr``; None for one expert alone."""


@dataclass(frozen=True, kw_only=True)
class ExpertIdentity(TypedValues):
    """An expert as it was loaded: a later change of device or dtype does not show."""

    name: str
    source: str
    """The word that it was asked for by."""
    gamma_range: tuple[float, ...]
    pixels: str
    levels: int
    predicts: str | None = None
    input: str | None = None
    """What the weights mean where a card says other than is usual: no hash of the weights shows it."""
    weights_sha256: str | None
    code_sha256: str | None
    provenance: Mapping[str, object]
    """What its checkpoint says, in its own words."""


Experts = Mapping[str, ExpertIdentity]
"""By role."""


def experts_as_dict(experts: Experts) -> dict[str, dict[str, object]]:
    """By role, as JSON values."""
    return {role: expert.as_dict() for role, expert in experts.items()}


def experts_from(value: Mapping[str, Mapping[str, object]]) -> Experts:
    """From JSON values."""
    return {role: ExpertIdentity.from_dict(expert) for role, expert in value.items()}


@dataclass(frozen=True)
class LegSpan(TypedValues):
    """The expert of ``role`` is in charge from gamma ``start`` to gamma ``end``."""

    role: str
    start: float
    end: float


@dataclass(frozen=True, kw_only=True)
class SetIdentity(TypedValues):
    """A set of images; ``modified`` where it is not the one that is published under its name."""

    name: str
    split: str
    sha256: str
    n_set: int
    image_shape: list[int]
    levels: int
    modified: bool = False
    ids: list[int] | None = None
    """Where they are not the positions."""

    def counted(self, n: int) -> dict[str, object]:
        """As a summary of ``n`` of its images names it."""
        usual = {key: value for key, value in self.as_dict().items() if key != "ids"}
        return {"modified": self.modified} | usual | {"n": n}


@dataclass(frozen=True, kw_only=True)
class Identity(TypedValues):
    """A model, the images and all settings of a run."""

    command: str
    """``nll`` or ``vlb``."""
    model: str
    settings: Mapping[str, object]
    """Every option, as JSON values."""
    data: SetIdentity
    threshold: Threshold
    legs: tuple[LegSpan, ...]
    extrapolated: bool
    experts: Experts
    gate: str | None = None
    """SHA-256 of the gate in the place of a threshold, where there is one."""
    blocks: Mapping[str, object] | None = None
    """Which images shared their steps, where some did."""

    @property
    def is_bound(self) -> bool:
        """Whether its records are bounds."""
        return self.command == "vlb"

    @property
    def is_guided(self) -> bool:
        """Whether an expert in charge of a leg was guided: its records are of the guided flow."""
        roles = {role for leg in self.legs for role in roles_in(leg.role)}
        return any(GUIDANCE in self.experts[role].provenance for role in roles if role in self.experts)

    @classmethod
    def from_dict(cls, value: Mapping[str, object]) -> Identity:
        """From ``settings.json`` or a summary; the first runs were of merged models and did not say so."""
        return cls._typed({"model": "merged", **value})
