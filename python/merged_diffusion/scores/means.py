"""Scores of a set of images, exact or bounds: records in bits/dim, and what follows from them alone."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import KW_ONLY, asdict, dataclass
from typing import Any, ClassVar, Final, Self

import numpy as np
import numpy.typing as npt

from merged_diffusion import _core
from merged_diffusion.files.typed_values import typed
from merged_diffusion.ode.time_profile import TimeProfile
from merged_diffusion.scores.record import Record

Floats = npt.NDArray[np.float64]
ROLES: Final = ("likelihood", "quality")


@dataclass(frozen=True)
class MeanAndErrors:
    """A mean over images and its standard errors; None stands for what is not known."""

    mean: float | None
    se: float | None
    """Clustered where images have clusters."""
    se_images: float | None
    se_clustered: float | None
    se_probe: float | None = None
    """What the probes of all images leave in the mean of a likelihood."""
    se_times: float | None = None
    """What times and noise leave in the mean of a bound."""


@dataclass(frozen=True)
class Repeats:
    """The mean of a set in each of ``n`` repeats, their mean and standard deviation."""

    n: int
    mean: float
    std: float
    means: list[float]


@dataclass(frozen=True, kw_only=True)
class Means:
    """Means over ``n`` images, of which those that failed have no part; None where there is no mean."""

    kind: str = "likelihood"
    """``likelihood``, ``density`` (a log density has no bits/dim) or ``bound``."""
    n: int
    n_failed: int
    bits_per_dim: MeanAndErrors | None
    terms_nats: Mapping[str, float] | None = None
    evaluations: Mapping[str, float] | None
    """``total`` and by role."""
    steps: Mapping[str, float] | None = None
    path_error: float | None = None
    log_density_nats: MeanAndErrors | None = None
    """In the place of bits/dim, of a density."""
    repeats: Repeats | None = None

    def kept(self) -> dict[str, Any]:
        """As JSON values: what stands beside other means."""
        density = {"log_density_nats": self._errors(self.log_density_nats)}
        return {
            "n": self.n,
            "n_failed": self.n_failed,
            "bits_per_dim": self._errors(self.bits_per_dim),
            **(density if self.kind == "density" and self.n else {}),
            "evaluations": self.evaluations,
        }

    def as_dict(self) -> dict[str, Any]:
        """As JSON values (docs/formats.md)."""
        kept = self.kept()
        density = {key: kept.pop(key) for key in ("log_density_nats",) if key in kept}
        found = kept | {"terms_nats": self.terms_nats, "evaluations": kept.pop("evaluations")}
        if self.kind == "bound":
            return found | {"repeats": None if self.repeats is None else asdict(self.repeats)}
        off = {} if self.path_error is None else {"path_error": self.path_error}
        return found | {"steps": self.steps} | off | density

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Self:
        """From `as_dict`, or a summary; `TypeError` where it says something else (`typed`)."""
        is_bound = "terms_nats" in value and "steps" not in value
        kind = "bound" if is_bound else "density" if "log_density_nats" in value else "likelihood"
        return typed(cls, {**value, "kind": kind})

    def _errors(self, found: MeanAndErrors | None) -> dict[str, Any] | None:
        apart = "se_probe" if self.kind == "bound" else "se_times"
        return None if found is None else {k: v for k, v in asdict(found).items() if k != apart}


@dataclass(frozen=True, eq=False, repr=False)
class Scores(ABC):
    """Bits/dim of N images with their terms and costs; arrays are in the order of the records.

    Images that failed are NaN in arrays of numbers, and leave no mean unless ``allow_failed``.
    """

    TERMS: ClassVar[tuple[str, ...]]
    """Names of the terms of log P."""
    ERROR: ClassVar[str]
    """Field of a record: the standard error that its random numbers leave in an image's score."""

    records: tuple[Record, ...]
    dim: int
    _: KW_ONLY
    allow_failed: bool = False
    seconds: float = 0.0
    """What it took here; nothing for records that were read back."""
    seconds_outside_network: float = 0.0
    time_profile: TimeProfile | None = None
    """Where the time went, where that was asked for and a solve did it."""

    @property
    @abstractmethod
    def unit(self) -> str:
        """Of the mean."""

    @property
    @abstractmethod
    def values(self) -> Floats:
        """What the mean is taken of [N]."""

    def __len__(self) -> int:
        return len(self.records)

    @property
    def ids(self) -> npt.NDArray[np.int64]:
        """Image ids [N]."""
        return np.array([record.id for record in self.records], dtype=np.int64)

    @property
    def status(self) -> npt.NDArray[np.str_]:
        """``ok``, or how it failed: ``nonfinite``, ``dt_min``, ``max_steps``, ``tolerance_missed`` [N]."""
        return np.array([record.status for record in self.records], dtype=np.str_)

    @property
    def clusters(self) -> npt.NDArray[np.int64] | None:
        """Cluster of each image [N]; None unless every image has one."""
        found = [record.cluster for record in self.records]
        return None if None in found else np.array(found, dtype=np.int64)

    @property
    def bits_per_dim(self) -> Floats:
        """-log2 P / d, or its bound, [N]; the mean over its draws."""
        return self.column("bits_per_dim")

    @property
    def terms_nats(self) -> dict[str, Floats]:
        """Terms [N] by name; they add up to log P, or to the bound on it."""
        return {name: floats((r.terms_nats or {}).get(name) for r in self.records) for name in self.TERMS}

    @property
    def evaluations(self) -> dict[str, npt.NDArray[np.int64]]:
        """Network evaluations [N] over all draws, by role."""
        return {
            role: np.array([record.evaluations[role] for record in self.records], dtype=np.int64)
            for role in ROLES
        }

    @property
    def n_failed(self) -> int:
        """Images without a score."""
        return int((self.status != "ok").sum())

    @property
    def mean(self) -> float | None:
        """Mean of the images; None where it is undefined."""
        found = self.estimate()
        return None if found is None else found.mean

    @property
    def se(self) -> float | None:
        """Its standard error, clustered where images have clusters; None for one image or one cluster."""
        found = self.estimate()
        return None if found is None else found.se

    def estimate(self) -> MeanAndErrors | None:
        """Mean and standard errors over the images that did not fail; None where there is no mean."""
        is_ok = self.status == "ok"
        if not is_ok.any() or not (is_ok.all() or self.allow_failed):
            return None
        values, clusters, errors = self.values[is_ok], self.clusters, self.column(self.ERROR)[is_ok]
        mean, se_images = _core.mean_and_error(values)
        clustered = None if clusters is None else _core.clustered_error(values, clusters[is_ok])
        own = None if np.isnan(errors).any() else _core.error_of_mean(errors)
        se = se_images if clusters is None else clustered
        return MeanAndErrors(mean, se, se_images, clustered, **{self.ERROR: own})

    @property
    def scored(self) -> list[Record]:
        """The records of images that did not fail."""
        return [record for record in self.records if record.is_ok]

    @abstractmethod
    def summary(self) -> Means:
        """Means over the images."""

    def _means(self) -> Means:
        """What every summary begins with."""
        found, scored = self.estimate(), self.scored
        counts = [record.evaluations for record in scored or self.records]
        by_role = {role: mean(count[role] for count in counts) for role in ROLES} if counts else {}
        return Means(
            n=len(self),
            n_failed=self.n_failed,
            bits_per_dim=found,
            terms_nats=None
            if found is None
            else {name: mean((record.terms_nats or {})[name] for record in scored) for name in self.TERMS},
            evaluations={"total": sum(by_role.values()), **by_role} if counts else None,
        )

    def rows(self) -> list[dict[str, Any]]:
        """A flat row of numbers and names per image: a table's rows."""
        return [_flat(record, self.TERMS) for record in self.records]

    def column(self, name: str) -> Floats:
        """A number of each record [N]; NaN where it has none."""
        return floats(getattr(record, name) for record in self.records)

    def __repr__(self) -> str:
        name, found = type(self).__name__, self.estimate()
        counted = f"{len(self)} images" + (f", {self.n_failed} failed" if self.n_failed else "")
        if found is None:
            return f"{name}({counted}, no mean)"
        error = "" if found.se is None else f" ± {found.se:.4f}"
        spent = mean(record.total_evaluations for record in self.scored)
        return f"{name}({counted}, {found.mean:.4f}{error} {self.unit}, {spent:.0f} evaluations/image)"


def floats(values: Iterable[float | None]) -> Floats:
    """An array [N]; NaN for None."""
    return np.array([np.nan if value is None else value for value in values], dtype=np.float64)


def mean(values: Iterable[float]) -> float:
    """Of numbers of records."""
    return float(np.mean(list(values)))


def _flat(record: Record, terms: Sequence[str]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in record.as_dict().items():
        if key == "terms_nats":
            flat |= value or dict.fromkeys(terms)
        elif isinstance(value, Mapping):
            flat |= {f"{key}_{name}": item for name, item in value.items() if not isinstance(item, list)}
        elif not isinstance(value, list):
            flat[key] = value
    return flat
