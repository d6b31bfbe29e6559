"""The likelihood of a set of images: records, and what follows from them alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Self

import numpy as np
import numpy.typing as npt

from merged_diffusion import _core
from merged_diffusion.errors import SolveError, UsageError
from merged_diffusion.likelihood.records import ROLES, TERMS, Record

Floats = npt.NDArray[np.float64]
UNITS: Final = {
    "none": "nats (log density)",
    "uniform": "bits/dim (points without noise under the model noised to gamma_min)",
}


@dataclass(frozen=True, eq=False, repr=False)
class Likelihood:
    """Bits/dim of N images with their terms and costs; arrays are in the order of the records.

    Images that failed are NaN in arrays of numbers, and leave no mean unless ``allow_failed``.
    """

    records: tuple[Record, ...]
    dim: int
    importance: int = 1
    dequantise: str = "truncated-normal"
    allow_failed: bool = False
    seconds: float = 0.0
    """What it took here; nothing for records that were read back."""
    seconds_outside_network: float = 0.0
    tally: Mapping[str, Any] = field(default_factory=dict)
    """Network calls by leg and their useful rows, also before the last image had a row (`_core.solve`)."""

    @classmethod
    def from_records(
        cls,
        records: Iterable[Mapping[str, Any]],
        *,
        dim: int,
        importance: int = 1,
        dequantise: str = "truncated-normal",
        allow_failed: bool = False,
    ) -> Self:
        """From the records of a run."""
        return cls(tuple(dict(r) for r in records), dim, importance, dequantise, allow_failed)

    def __len__(self) -> int:
        return len(self.records)

    @property
    def is_density(self) -> bool:
        """Whether it is a density in nats, which has no bits/dim."""
        return self.dequantise == "none"

    @property
    def ids(self) -> npt.NDArray[np.int64]:
        """Image ids [N]."""
        return np.array([record["id"] for record in self.records], dtype=np.int64)

    @property
    def status(self) -> npt.NDArray[np.str_]:
        """``ok``, ``nonfinite``, ``dt_min``, ``max_steps`` or ``tolerance_missed`` [N]."""
        return np.array([record["status"] for record in self.records], dtype=np.str_)

    @property
    def clusters(self) -> npt.NDArray[np.int64] | None:
        """Cluster of each image [N]; None unless every image has one."""
        found = [record.get("cluster") for record in self.records]
        if any(cluster is None for cluster in found):
            return None
        return np.array(found, dtype=np.int64)

    @property
    def bits_per_dim(self) -> Floats:
        """-log2 P / d [N]."""
        return _floats(record["bits_per_dim"] for record in self.records)

    @property
    def se_probe(self) -> Floats:
        """Standard error [N] of each value that its probes leave; NaN where one probe cannot tell."""
        return _floats(record.get("se_probe") for record in self.records)

    @property
    def path_error(self) -> Floats:
        """How far adams' path was off to first order [N], in the unit of the value; NaN for dopri5.

        Up to ``tol`` = 0.01 it is corrected for (``terms_nats["path_correction"]``); less is left then.
        """
        return _floats(record.get("path_error") for record in self.records)

    @property
    def log_density_nats(self) -> Floats:
        """Log p at gamma_min [N], where nothing was dequantised."""
        return _floats(record.get("log_density_nats") for record in self.records)

    @property
    def terms_nats(self) -> dict[str, Floats]:
        """Terms [N] by name; they add up to log P."""
        return {name: _floats((r["terms_nats"] or {}).get(name) for r in self.records) for name in TERMS}

    @property
    def evaluations(self) -> dict[str, npt.NDArray[np.int64]]:
        """Network evaluations [N] over all draws, by role."""
        return {
            role: np.array([record["evaluations"][role] for record in self.records], dtype=np.int64)
            for role in ROLES
        }

    @property
    def n_failed(self) -> int:
        """Images whose integration failed."""
        return int((self.status != "ok").sum())

    @property
    def mean(self) -> float | None:
        """Mean bits/dim (nats of a density); None where it is undefined."""
        found = self._estimate()
        return None if found is None else found["mean"]

    @property
    def se(self) -> float | None:
        """Its standard error, clustered where images have clusters; None for one image or one cluster."""
        found = self._estimate()
        return None if found is None else found["se"]

    def summary(self) -> dict[str, Any]:
        """Means over the images as JSON values (`interface`, section 3)."""
        scored = [record for record in self.records if record["status"] == "ok"]
        found = self._estimate()
        per_image = {
            role: _mean(record["evaluations"][role] for record in scored or self.records) for role in ROLES
        }
        result: dict[str, Any] = {
            "n": len(self),
            "n_failed": self.n_failed,
            "bits_per_dim": None if self.is_density else found,
            "terms_nats": None
            if found is None
            else {name: _mean(record["terms_nats"][name] for record in scored) for name in TERMS},
            "evaluations": {"total": sum(per_image.values()), **per_image},
            "steps": {
                kind: _mean(record["steps"][kind] for record in scored or self.records)
                for kind in ("accepted", "rejected")
            },
        }
        errors = [record["path_error"] for record in scored if "path_error" in record]
        if errors:
            result["path_error"] = _mean(errors)
        if self.is_density:
            result["log_density_nats"] = found
        return result

    def rows(self) -> list[dict[str, Any]]:
        """A flat row of numbers and names per image: a table's rows."""
        return [_flat(record) for record in self.records]

    def check(self) -> Self:
        """Itself; `SolveError` if any image failed."""
        failed = [record for record in self.records if record["status"] != "ok"]
        if not failed:
            return self
        first = failed[0]
        raise SolveError(
            f"{len(failed)} of {len(self)} images failed, the first: image {first['id']}, "
            f'{first["status"]} at gamma = {first["gamma"]:.4g} (leg "{first["leg"]}", '
            f"expert {first['expert']})",
            hint=first.get("hint") or "the others are unharmed",
            ids=[record["id"] for record in failed],
            gamma=first["gamma"],
            expert=first["expert"],
        )

    def _estimate(self) -> dict[str, float | None] | None:
        """Mean and standard errors of what was asked for, over the images that did not fail."""
        is_ok = self.status == "ok"
        if not is_ok.any() or not (is_ok.all() or self.allow_failed):
            return None
        values = (self.log_density_nats if self.is_density else self.bits_per_dim)[is_ok]
        mean, se_images = _core.mean_and_error(values)
        clusters = self.clusters
        clustered = None if clusters is None else _core.clustered_error(values, clusters[is_ok])
        errors = self.se_probe[is_ok]
        return {
            "mean": mean,
            "se": se_images if clusters is None else clustered,
            "se_images": se_images,
            "se_clustered": clustered,
            "se_probe": None if np.isnan(errors).any() else _core.error_of_mean(errors),
        }

    def __repr__(self) -> str:
        found, failed = self._estimate(), f", {self.n_failed} failed" if self.n_failed else ""
        if found is None:
            return f"Likelihood({len(self)} images{failed}, no mean)"
        unit = UNITS.get(self.dequantise, "bits/dim")
        error = "" if found["se"] is None else f" ± {found['se']:.4f}"
        evaluations = self.summary()["evaluations"]["total"]
        return (
            f"Likelihood({len(self)} images{failed}, {found['mean']:.4f}{error} {unit}, "
            f"{evaluations:.0f} evaluations/image)"
        )


def paired_difference(one: Likelihood, two: Likelihood) -> dict[str, Any]:
    """``one`` minus ``two`` in bits/dim over the images that both scored, paired by id.

    Returns ``difference``, ``se`` (clustered where images have clusters), ``se_images`` and ``n``.
    """
    if one.is_density or two.is_density:
        raise UsageError("a log density without dequantisation has no bits/dim to compare")
    values = {r["id"]: r["bits_per_dim"] for r in two.records if r["status"] == "ok"}
    both = [r for r in one.records if r["status"] == "ok" and r["id"] in values]
    if not both:
        raise UsageError("the two have no image in common that did not fail", hint="score the same ids")
    clusters = [r.get("cluster") for r in both]
    return dict(
        _core.paired_difference(
            _floats(r["bits_per_dim"] for r in both),
            _floats(values[r["id"]] for r in both),
            None if any(c is None for c in clusters) else np.array(clusters, dtype=np.int64),
        )
    )


def _floats(values: Iterable[float | None]) -> Floats:
    return np.array([np.nan if value is None else value for value in values], dtype=np.float64)


def _mean(values: Iterable[float]) -> float:
    return float(np.mean(list(values)))


def _flat(record: Record) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in record.items():
        if isinstance(value, Mapping):
            flat |= {f"{key}_{name}" if key != "terms_nats" else name: item for name, item in value.items()}
        elif key != "draws":
            flat[key] = value
    return flat
