"""Scores of a set of images, exact or bounds: records in bits/dim, and the table and means made of them."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field, replace
from typing import Any, ClassVar, Final, Self, overload

import numpy as np
import numpy.typing as npt

from merged_diffusion import _core
from merged_diffusion.frames import Column, Tabular, text_of_error
from merged_diffusion.ode.time_profile import TimeProfile
from merged_diffusion.scores.means import (
    Floats,
    MeanAndErrors,
    MeanOfBounds,
    MeanOfLikelihoods,
    Means,
    floats,
    mean,
)
from merged_diffusion.scores.record import Record

ROLES: Final = ("likelihood", "quality")


@dataclass(frozen=True, eq=False, repr=False)
class Scores(Tabular):
    """Bits/dim of N images with their terms and costs; arrays are in the order of the records.

    Images that failed are NaN in arrays of numbers, and leave no mean unless ``allow_failed``.

    ``scores[3]`` is the fourth image's `Record`; ``scores[:5]``, ``scores[[7, 2]]`` and ``scores[mask]`` are
    the scores of the images at those positions, whose seconds and time profile are still those of all.
    """

    TERMS: ClassVar[tuple[str, ...]]
    """Names of the terms of log P."""
    COLUMNS: ClassVar[tuple[str, ...]]
    """Fields of a record that a table has beside the score and its terms."""
    ERROR: ClassVar[str]
    """Field of a record: the standard error that its random numbers leave in an image's score."""
    MEAN: ClassVar[type[MeanOfLikelihoods | MeanOfBounds]]

    records: tuple[Record, ...]
    dim: int
    _: KW_ONLY
    beside: Mapping[str, Column] = field(default_factory=dict)
    """What the data set knows of each image [N]: ``file`` and ``label``, where it has them."""
    allow_failed: bool = False
    seconds: float = 0.0
    """What it took here; nothing for records that were read back."""
    seconds_outside_network: float = 0.0
    time_profile: TimeProfile | None = None
    """Where the time went, where that was asked for and a solve did it."""

    @property
    @abstractmethod
    def unit(self) -> str:
        """The unit of the mean."""

    @property
    @abstractmethod
    def values(self) -> Floats:
        """What the mean is taken of [N]."""

    def __len__(self) -> int:
        return len(self.records)

    def __iter__(self) -> Iterator[Record]:
        return iter(self.records)

    @overload
    def __getitem__(self, key: int) -> Record: ...
    @overload
    def __getitem__(self, key: slice | Sequence[int] | npt.NDArray[Any]) -> Self: ...
    def __getitem__(self, key: int | slice | Sequence[int] | npt.NDArray[Any]) -> Record | Self:
        found = np.arange(len(self))[key]
        if np.ndim(found) == 0:
            return self.records[found]
        beside = {name: column[found] for name, column in self.beside.items()}
        return replace(self, records=tuple(self.records[position] for position in found), beside=beside)

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
    def own_errors(self) -> Floats:
        """Standard error [N] that random numbers leave in each value."""
        return self.column(self.ERROR)

    @property
    def untold(self) -> tuple[str, ...]:
        """Of which random numbers nothing tells the error that they leave in each value."""
        return (self.ERROR.removeprefix("se_"),) if np.isnan(self.own_errors).any() else ()

    @property
    def terms_nats(self) -> dict[str, Floats]:
        """Terms [N] by name; they add up to log P, or to the bound on it."""
        return {name: floats((r.terms_nats or {}).get(name) for r in self.records) for name in self.TERMS}

    @property
    def evaluations(self) -> dict[str, npt.NDArray[np.int64]]:
        """Network evaluations [N] over all draws, by role."""
        return {
            role: np.array([record.evaluations[role] for record in self.records], dtype=np.int64)
            for role in self._roles()
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
        """Standard error of the mean, clustered where images have clusters; None for one image or cluster."""
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
        return self.MEAN(mean, se, se_images, clustered, own)

    def allowing_failed(self) -> Self:
        """The same, with means over the images that did not fail."""
        return replace(self, allow_failed=True)

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
        by_role = {role: mean(count[role] for count in counts) for role in self._roles()} if counts else {}
        return Means(
            n=len(self),
            n_failed=self.n_failed,
            bits_per_dim=found,
            terms_nats=None
            if found is None
            else {name: mean((record.terms_nats or {})[name] for record in scored) for name in self.TERMS},
            evaluations={"total": sum(by_role.values()), **by_role} if counts else None,
        )

    def _roles(self) -> tuple[str, ...]:
        """Those of a pair, and of N experts the others."""
        return tuple(
            dict.fromkeys((*ROLES, *(role for record in self.records for role in record.evaluations)))
        )

    def to_dict(self) -> dict[str, Column]:
        """Columns [N] by name: ``id``, what the data set knows (``file``, ``label``), ``status``, the score.

        Then its terms in nats, its own errors, and what it cost; ``cluster`` where images have clusters.
        """
        own = {name: self.column(name) for name in self.COLUMNS}
        spent = {f"evaluations_{role}": counts for role, counts in self.evaluations.items()}
        groups = {} if self.clusters is None else {"cluster": self.clusters}
        about = {"id": self.ids, **self.beside, "status": self.status}
        return about | self._scores() | own | spent | groups

    def _glance(self) -> dict[str, Column]:
        shown = {"id", *self.beside, *self.ERRORS, *self.ERRORS.values()}
        shown |= {"status"} if self.n_failed else set()
        found = {name: column for name, column in self.to_dict().items() if name in shown}
        return found | {"evaluations": np.array([record.total_evaluations for record in self.records])}

    def _scores(self) -> dict[str, Column]:
        return {"bits_per_dim": self.bits_per_dim, **self.terms_nats}

    def rows(self) -> list[dict[str, object]]:
        """The rows of the table: a dict of its columns for each image; None for a number that is NaN.

        Where and how an image failed is in its record.
        """
        table = {name: column.tolist() for name, column in self.to_dict().items()}
        return [
            {name: None if item != item else item for name, item in zip(table, row, strict=True)}
            for row in zip(*table.values(), strict=True)
        ]

    def column(self, name: str) -> Floats:
        """A number of each record [N]; NaN where it has none."""
        return floats(getattr(record, name) for record in self.records)

    def __repr__(self) -> str:
        name, found = type(self).__name__, self.estimate()
        counted = f"{len(self)} images" + (f", {self.n_failed} failed" if self.n_failed else "")
        if found is None:
            return f"{name}({counted}, no mean)"
        spent = mean(record.total_evaluations for record in self.scored)
        value = f"{found.mean:.4f}{text_of_error(found.se)} {self.unit}"
        return f"{name}({counted}, {value}, {spent:.0f} evaluations/image)"
