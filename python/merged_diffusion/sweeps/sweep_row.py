"""A row of a sweep: a threshold or one expert alone, what was measured of it, and how it compares."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from merged_diffusion.errors import MergedDiffusionError
from merged_diffusion.experts.spikes import GammaScan
from merged_diffusion.files.typed_values import TypedValues
from merged_diffusion.frames import text_of_error
from merged_diffusion.jobs.identity import LegSpan, Threshold
from merged_diffusion.jobs.published_table import Published
from merged_diffusion.likelihood.quadrature_check import QuadratureCheck
from merged_diffusion.scores.figure import Figure
from merged_diffusion.scores.means import Repeats
from merged_diffusion.sweeps.request import Metric
from merged_diffusion.sweeps.thresholds import NO_THRESHOLDS

if TYPE_CHECKING:
    from merged_diffusion.scores.differences import Difference


@dataclass(frozen=True)
class Paired:
    """A row's value minus that of the row ``to``, of the ``n`` images that both have."""

    to: str
    difference: float
    se: float | None
    n: int
    se_images: float | None = None  # samples have none

    @classmethod
    def of(cls, to: str, found: Difference) -> Paired:
        """What ``found`` is against the row ``to``."""
        return cls(to, found.difference, found.se, found.n, found.se_images)

    def as_dict(self, metric: Metric) -> Mapping[str, object]:
        """As JSON values."""
        of_images = {} if metric == "sample" else {"se_images": self.se_images}
        return {"to": self.to, "difference": self.difference, "se": self.se, **of_images, "n": self.n}


@dataclass(frozen=True)
class RowError:
    """Why a row has no value, or less than it should."""

    type: str
    message: str
    fields: Mapping[str, object] = field(default_factory=dict)
    hint: str | None = None

    @classmethod
    def of(cls, error: Exception) -> RowError:
        """What a row keeps of an exception."""
        if isinstance(error, MergedDiffusionError):
            return cls(type(error).__name__, error.message, error.fields, error.hint)
        return cls(type(error).__name__, str(error))


@dataclass(frozen=True)
class RowMean(TypedValues):
    """Of a row's images; ``se_clustered`` where they are not independent."""

    mean: float | None
    se: float | None
    se_clustered: float | None = None


@dataclass(frozen=True)
class Quality(TypedValues):
    """The distances of samples."""

    primary: Figure
    others: tuple[Figure, ...] = ()
    reference: Mapping[str, object] = field(default_factory=dict)
    """Of what they are distances, by the hash of its file."""


@dataclass(frozen=True)
class RowValues(TypedValues):
    """What a table shows of a summary: of samples ``quality``, else ``bits_per_dim``."""

    n: int | None = None
    bits_per_dim: RowMean | None = None
    quality: Quality | None = None
    sha256: str | None = None
    """Of the images, once all are drawn."""
    evaluations: Mapping[str, float] | None = None
    legs: tuple[LegSpan, ...] = ()
    repeats: Repeats | None = None
    paper: Published | None = None
    quadrature: QuadratureCheck | None = None
    rough_trace: bool = False
    gamma_scan: Mapping[str, GammaScan] | None = None
    settings: Mapping[str, object] = field(default_factory=dict)
    versions: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, repr=False)
class SweepRow:
    """A threshold, or one expert alone; ``summary`` is what the command of the row prints, if it has begun.

    ``folder`` lies in that of the sweep.
    """

    name: str
    threshold: Threshold
    folder: str
    summary: Mapping[str, object] | None
    paired: Paired | None = None
    error: RowError | None = None

    def __repr__(self) -> str:
        found = self.value
        value = "no value" if found is None else f"{found[0]:.4f}" + text_of_error(found[1])
        return f"SweepRow({self.name}, {value}, {self.n or 0} images)"

    @property
    def model(self) -> str:
        """``merged`` at a threshold, ``gate``, or the role of the expert alone."""
        return self.name if self.name in NO_THRESHOLDS else "merged"

    @property
    def eta(self) -> float | None:
        """The threshold of a merged model."""
        return None if self.model != "merged" or self.threshold is None else self.threshold["eta"]

    @property
    def value(self) -> tuple[float, float | None] | None:
        """Bits/dim, or the primary distance of samples, with its standard error; None where it has none."""
        if self.figure is not None:
            return self.figure.value, self.figure.se
        found = self.values.bits_per_dim
        return None if found is None or found.mean is None else (found.mean, found.se)

    @property
    def figure(self) -> Figure | None:
        """The primary metric of samples."""
        found = self.values.quality
        return None if found is None else found.primary

    @property
    def beside(self) -> Mapping[str, Figure]:
        """The other figures of samples in the primary metric's features, by ``recall`` and the like."""
        quality = self.values.quality
        if quality is None:
            return {}
        features = quality.primary.name.partition("-")[2]
        split = [(*found.name.partition("-")[::2], found) for found in quality.others]
        return {metric: found for metric, of, found in split if of == features}

    @property
    def evaluations(self) -> float | None:
        """Network evaluations an image."""
        found = self.values.evaluations
        return None if found is None else found["total"]

    @property
    def n(self) -> int | None:
        """Images that were scored or drawn."""
        return self.values.n

    @property
    def legs(self) -> Sequence[LegSpan]:
        """Role, start and end in gamma of each integration."""
        return self.values.legs

    @property
    def spread(self) -> float | None:
        """The standard deviation of the repeats of a bound."""
        found = self.values.repeats
        return None if found is None else found.std

    @property
    def is_clustered(self) -> bool:
        """Whether the standard error knows of images that are not independent."""
        found = self.values.bits_per_dim
        return found is not None and found.se_clustered is not None

    @property
    def asked_eta(self) -> float | str | None:
        """The threshold in the word in which it was asked for."""
        found = self.values.settings.get("eta")
        return found if isinstance(found, float | int | str) else None

    @property
    def versions(self) -> Mapping[str, object]:
        """Of the packages that computed it."""
        return self.values.versions

    @cached_property
    def values(self) -> RowValues:
        """What the summary says, typed; all empty without one."""
        return RowValues.from_dict(self.summary or {})

    @classmethod
    def of(cls, value: Mapping[str, Any]) -> SweepRow:
        """From JSON values."""
        paired, error = value.get("paired"), value.get("error")
        row = cls(
            **{name: value[name] for name in ("name", "threshold", "folder", "summary")},
            paired=None if paired is None else Paired(**paired),
            error=None if error is None else RowError(**error),
        )
        _ = row.values  # checked now, while what is wrong is known to be the file's fault
        return row

    def as_dict(self, metric: Metric) -> Mapping[str, object]:
        """As JSON values."""
        paired = None if self.paired is None else self.paired.as_dict(metric)
        return {
            "name": self.name,
            "threshold": self.threshold,
            "folder": self.folder,
            "summary": self.summary,
            "paired": paired,
            "error": None if self.error is None else dict(vars(self.error)),
        }
