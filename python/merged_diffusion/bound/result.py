"""The bound of a set of images: records, and what follows from them alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Self

import numpy as np
import numpy.typing as npt

from merged_diffusion import _core
from merged_diffusion.likelihood.records import ROLES, Record

Floats = npt.NDArray[np.float64]
TERMS: Final = ("prior", "reconstruction", "diffusion")


@dataclass(frozen=True, eq=False, repr=False)
class Bound:
    """Bits/dim of N images with their terms and costs; arrays are in the order of the records.

    Images whose loss was not finite are NaN in arrays, and leave no mean unless ``allow_failed``.
    """

    records: tuple[Record, ...]
    dim: int
    allow_failed: bool = False
    seconds: float = 0.0
    """What it took here; nothing for records that were read back."""
    seconds_outside_network: float = 0.0

    @classmethod
    def from_records(
        cls, records: Iterable[Mapping[str, Any]], *, dim: int, allow_failed: bool = False
    ) -> Self:
        """From the records of a run."""
        return cls(tuple(dict(record) for record in records), dim, allow_failed)

    def __len__(self) -> int:
        return len(self.records)

    @property
    def ids(self) -> npt.NDArray[np.int64]:
        """Image ids [N]."""
        return np.array([record["id"] for record in self.records], dtype=np.int64)

    @property
    def status(self) -> npt.NDArray[np.str_]:
        """``ok`` or ``nonfinite`` [N]."""
        return np.array([record["status"] for record in self.records], dtype=np.str_)

    @property
    def clusters(self) -> npt.NDArray[np.int64] | None:
        """Cluster of each image [N]; None unless every image has one."""
        found = [record.get("cluster") for record in self.records]
        return None if None in found else np.array(found, dtype=np.int64)

    @property
    def bits_per_dim(self) -> Floats:
        """The bound [N], mean over the repeats."""
        return _floats(record["bits_per_dim"] for record in self.records)

    @property
    def se_times(self) -> Floats:
        """Standard error [N] in bits/dim that times and noise leave in each value; NaN where unknown.

        From the repeats where there are two or more, else from neighbouring times, whose losses differ by
        noise (and by slope, so it errs to the large side; the reconstruction's noise is not in it).
        """
        return _floats(record.get("se_times") for record in self.records)

    @property
    def terms_nats(self) -> dict[str, Floats]:
        """Terms [N] by name; they add up to the bound on log P, so each is negative."""
        return {name: _floats((r["terms_nats"] or {}).get(name) for r in self.records) for name in TERMS}

    @property
    def evaluations(self) -> dict[str, npt.NDArray[np.int64]]:
        """Network evaluations [N], all of them forward passes, by role."""
        return {
            role: np.array([record["evaluations"][role] for record in self.records], dtype=np.int64)
            for role in ROLES
        }

    @property
    def n_failed(self) -> int:
        """Images whose loss was not finite somewhere."""
        return int((self.status != "ok").sum())

    @property
    def mean(self) -> float | None:
        """Mean bits/dim; None where images failed or there are none."""
        found = self._estimate()
        return None if found is None else found["mean"]

    @property
    def se(self) -> float | None:
        """Its standard error over images, clustered where they have clusters."""
        found = self._estimate()
        return None if found is None else found["se"]

    @property
    def repeat_means(self) -> Floats | None:
        """The set's mean bits/dim in each repeat [R]; None for one repeat or no mean."""
        scored = [record for record in self.records if record["status"] == "ok"]
        if self._estimate() is None or "draws" not in scored[0]:
            return None
        nats: Floats = np.array([record["draws"] for record in scored], dtype=np.float64).mean(axis=0)
        return _core.bits_per_dim(nats, self.dim)

    def summary(self) -> dict[str, Any]:
        """Means over the images as JSON values (`interface`, section 3)."""
        found, repeats = self._estimate(), self.repeat_means
        scored = [record for record in self.records if record["status"] == "ok"]
        per_image = {
            role: _mean(record["evaluations"][role] for record in scored or self.records) for role in ROLES
        }
        return {
            "n": len(self),
            "n_failed": self.n_failed,
            "bits_per_dim": found,
            "terms_nats": None
            if found is None
            else {name: _mean(record["terms_nats"][name] for record in scored) for name in TERMS},
            "evaluations": {"total": sum(per_image.values()), **per_image},
            "repeats": None
            if repeats is None
            else {
                "n": len(repeats),
                "mean": float(repeats.mean()),
                "std": float(repeats.std(ddof=1)),
                "means": repeats.tolist(),
            },
        }

    def rows(self) -> list[dict[str, Any]]:
        """A flat row of numbers and names per image: a table's rows."""
        return [_flat(record) for record in self.records]

    def _estimate(self) -> dict[str, float | None] | None:
        is_ok = self.status == "ok"
        if not is_ok.any() or not (is_ok.all() or self.allow_failed):
            return None
        mean, se_images = _core.mean_and_error(self.bits_per_dim[is_ok])
        clusters = self.clusters
        clustered = (
            None if clusters is None else _core.clustered_error(self.bits_per_dim[is_ok], clusters[is_ok])
        )
        errors = self.se_times[is_ok]
        return {
            "mean": mean,
            "se": se_images if clusters is None else clustered,
            "se_images": se_images,
            "se_clustered": clustered,
            "se_times": None if np.isnan(errors).any() else _core.error_of_mean(errors),
        }

    def __repr__(self) -> str:
        found, failed = self._estimate(), f", {self.n_failed} failed" if self.n_failed else ""
        if found is None:
            return f"Bound({len(self)} images{failed}, no mean)"
        error = "" if found["se"] is None else f" ± {found['se']:.4f}"
        return f"Bound({len(self)} images{failed}, {found['mean']:.4f}{error} bits/dim)"


def _floats(values: Iterable[float | None]) -> Floats:
    return np.array([np.nan if value is None else value for value in values], dtype=np.float64)


def _mean(values: Iterable[float]) -> float:
    return float(np.mean(list(values)))


def _flat(record: Record) -> dict[str, Any]:
    flat = {key: item for key, item in record.items() if not isinstance(item, Mapping | list)}
    flat |= record["terms_nats"] or dict.fromkeys(TERMS)
    return flat | {f"evaluations_{role}": record["evaluations"][role] for role in ROLES}
