"""What identifies the records of a model: commands with equal identities give equal records.

`Identity.as_dict` is what ``settings.json`` begins with (docs/formats.md), and what a summary repeats of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

from merged_diffusion.files.typed_values import typed

Threshold = Mapping[str, float | None] | None
"""``eta``, ``gamma``, ``edm_sigma`` and ``logsnr``; None for one expert alone."""
Experts = Mapping[str, Mapping[str, Any]]
"""By role, what identifies each: JSON values, the checkpoint's own words among them."""


@dataclass(frozen=True)
class LegSpan:
    """The expert of ``role`` is in charge from gamma ``start`` to gamma ``end``."""

    role: str
    start: float
    end: float


@dataclass(frozen=True, kw_only=True)
class SetIdentity:
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

    def as_dict(self) -> dict[str, Any]:
        """As JSON values; without what a usual set has not."""
        usual = (("modified", False), ("ids", None))
        return {key: value for key, value in asdict(self).items() if (key, value) not in usual}

    def counted(self, n: int) -> dict[str, Any]:
        """As a summary of ``n`` of its images names it."""
        return {"modified": self.modified} | {k: v for k, v in asdict(self).items() if k != "ids"} | {"n": n}


@dataclass(frozen=True, kw_only=True)
class Identity:
    """A model, the images and all settings of a run."""

    command: str
    """``nll`` or ``vlb``."""
    model: str = "merged"
    settings: Mapping[str, Any]
    """Every option, as JSON values."""
    data: SetIdentity
    threshold: Threshold
    legs: tuple[LegSpan, ...]
    extrapolated: bool
    experts: Experts
    blocks: Mapping[str, Any] | None = None
    """Which images shared their steps, where some did."""

    @property
    def is_bound(self) -> bool:
        """Whether its records are bounds."""
        return self.command == "vlb"

    def as_dict(self) -> dict[str, Any]:
        """As JSON values."""
        found = {name: getattr(self, name) for name in self.__dataclass_fields__}
        found |= {"data": self.data.as_dict(), "legs": [asdict(leg) for leg in self.legs]}
        return {key: value for key, value in found.items() if key != "blocks" or value is not None}

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Self:
        """From ``settings.json`` or a summary; `TypeError` where they do not say it (`typed`)."""
        return typed(cls, value)
