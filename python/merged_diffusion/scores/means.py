"""Means over images and their standard errors, as JSON and as the summaries of scores have them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import ClassVar, Final, Self

import numpy as np
import numpy.typing as npt

from merged_diffusion.files.typed_values import TypedValues
from merged_diffusion.frames import Column, Tabular, one_row, text_of_error

Floats = npt.NDArray[np.float64]
KEPT: Final = ("n", "n_failed", "bits_per_dim", "log_density_nats", "evaluations")


@dataclass(frozen=True, repr=False)
class MeanAndErrors(Tabular, TypedValues):
    """A mean over images and its standard errors; None stands for what is not known.

    As a table it is a row with its fields for columns.
    """

    ERRORS: ClassVar = {"mean": "se"}
    OWN: ClassVar[str | None] = None
    """The error that random numbers leave, which is a part of ``se``."""

    mean: float | None
    se: float | None
    """Clustered where images have clusters."""
    se_images: float | None
    se_clustered: float | None

    @classmethod
    def from_dict(cls, value: Mapping[str, object]) -> MeanAndErrors:
        """The mean of likelihoods or of bounds."""
        return (MeanOfBounds if "se_times" in value else MeanOfLikelihoods)._typed(value)

    def to_dict(self) -> dict[str, Column]:
        """Columns [1] by name."""
        return one_row(vars(self))

    def __repr__(self) -> str:
        own = None if self.OWN is None else getattr(self, self.OWN)
        of_which = "" if own is None else f", {self.OWN} {own:.4f}"
        mean = "no mean" if self.mean is None else f"{self.mean:.4f}{text_of_error(self.se)}"
        return f"{type(self).__name__}({mean}{of_which})"


@dataclass(frozen=True, repr=False)
class MeanOfLikelihoods(MeanAndErrors):
    """With the error that the probes of all images leave, and its degrees of freedom."""

    OWN: ClassVar = "se_probe"

    se_probe: float | None
    freedom: float | None = None
    se_draws: float | None = None
    """The same by the spread of repeats, where there are some: of noise and probes together."""
    quadrature_error: float | None = None
    """What quadrature may miss of it where that was measured: one sign in all images, so that of an image."""
    total_error: float | None = None
    """Root of the sum of squares: the larger of ``se_probe`` and ``se_draws``, ``quadrature_error``, the mean
    ``path_error``."""

    def with_quadrature(self, error: float, path_error: float | None) -> Self:
        """The same with what its solver may miss: errors that do not fall with the number of images."""
        own = max((se for se in (self.se_probe, self.se_draws) if se is not None), default=None)
        total = None if own is None else math.hypot(own, error, path_error or 0.0)
        return replace(self, quadrature_error=error, total_error=total)


@dataclass(frozen=True, repr=False)
class MeanOfBounds(MeanAndErrors):
    """With the error that times and noise leave."""

    OWN: ClassVar = "se_times"

    se_times: float | None


@dataclass(frozen=True, repr=False)
class Repeats(TypedValues):
    """The mean of a set in each of ``n`` repeats, their mean and standard deviation."""

    n: int
    mean: float
    std: float
    means: list[float]

    def __repr__(self) -> str:
        return f"Repeats({self.n} repeats, {self.mean:.4f}, standard deviation {self.std:.4f})"


@dataclass(frozen=True, repr=False)
class Means(Tabular, TypedValues):
    """Means over ``n`` images, of which those that failed have no part; None where there is no mean.

    As a table it is a row: ``n``, ``n_failed``, ``bits_per_dim`` (or ``log_density_nats``) with ``se`` and
    the other errors of the mean, the terms in nats, and what an image cost, under the names that scores have.
    """

    ERRORS: ClassVar = {"bits_per_dim": "se", "log_density_nats": "se"}
    MEAN: ClassVar[type[MeanAndErrors]] = MeanAndErrors
    VALUE: ClassVar[str] = "bits_per_dim"
    """The field of the mean."""

    n: int
    n_failed: int
    bits_per_dim: MeanAndErrors | None
    terms_nats: Mapping[str, float] | None
    evaluations: Mapping[str, float] | None
    """``total`` and by role."""

    def kept(self) -> dict[str, object]:
        """As JSON values: what stands beside other means."""
        found = self.as_dict()
        return {key: found[key] for key in KEPT if key in found}

    def to_dict(self) -> dict[str, Column]:
        """Columns [1] by name; NaN where there is no mean."""
        found: MeanAndErrors | None = getattr(self, self.VALUE)
        errors = {each.name: getattr(found, each.name, None) for each in fields(self.MEAN)}
        spent = {f"evaluations_{role}": count for role, count in (self.evaluations or {}).items()}
        value = {"n": self.n, "n_failed": self.n_failed, self.VALUE: errors.pop("mean")}
        return one_row({**value, **errors, **(self.terms_nats or {}), **spent})

    def _glance(self) -> dict[str, Column]:
        shown = {"n", *self.ERRORS, *self.ERRORS.values(), "evaluations_total"}
        shown |= {"n_failed"} if self.n_failed else set()
        return {name: column for name, column in self.to_dict().items() if name in shown}

    def __repr__(self) -> str:
        found: MeanAndErrors | None = getattr(self, self.VALUE)
        told = [f"{self.n} images", *([f"{self.n_failed} failed"] if self.n_failed else [])]
        unit = "nats" if self.VALUE == "log_density_nats" else "bits/dim"
        if found is None or found.mean is None:
            told.append("no mean")
        else:
            told.append(f"{found.mean:.4f}{text_of_error(found.se)} {unit}")
        if self.evaluations is not None:
            told.append(f"{self.evaluations['total']:.0f} evaluations/image")
        return f"{type(self).__name__}({', '.join(told)})"

    @classmethod
    def from_dict(cls, value: Mapping[str, object]) -> Means:
        """The means of likelihoods, densities or bounds."""
        if "repeats" in value:
            return MeansOfBounds._typed(value)
        return (MeansOfDensities if "log_density_nats" in value else MeansOfLikelihoods)._typed(value)


@dataclass(frozen=True, repr=False)
class MeansOfLikelihoods(Means):
    """By the ODE; how far adams' path was off, where adams took it."""

    MEAN: ClassVar = MeanOfLikelihoods

    steps: Mapping[str, float] | None
    path_error: float | None = None

    def to_dict(self) -> dict[str, Column]:
        """The same with the steps of the solver."""
        taken = {f"steps_{kind}": count for kind, count in (self.steps or {}).items()}
        return super().to_dict() | one_row({"path_error": self.path_error, **taken})


@dataclass(frozen=True, repr=False)
class MeansOfDensities(MeansOfLikelihoods):
    """Means of log densities, which have no bits/dim."""

    VALUE: ClassVar = "log_density_nats"

    log_density_nats: MeanAndErrors | None = field(kw_only=True)


@dataclass(frozen=True, repr=False)
class MeansOfBounds(Means):
    """With what its repeats say, where there are two or more."""

    MEAN: ClassVar = MeanOfBounds

    repeats: Repeats | None


def floats(values: Iterable[float | None]) -> Floats:
    """An array [N]; NaN for None."""
    return np.array([np.nan if value is None else value for value in values], dtype=np.float64)


def mean(values: Iterable[float]) -> float:
    """The mean of numbers of records."""
    return float(np.mean(list(values)))
