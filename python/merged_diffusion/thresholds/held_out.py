"""What was chosen on some images and tried on others: scores of those by row, each paired with one row."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from merged_diffusion.data.images import Data
from merged_diffusion.jobs.model_checks import ModelChecks
from merged_diffusion.likelihood import Likelihood, paired_difference
from merged_diffusion.scores.differences import Difference


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class HeldOut:
    """Chosen on ``tune``; ``rows`` are scores of ``test`` by name, none where that was not asked for."""

    OTHER: ClassVar[str]
    """The row that the others are compared with."""

    tune: Data
    test: Data
    rows: Mapping[str, Likelihood]
    seconds: float
    checks: ModelChecks

    def against(self, name: str) -> Difference | None:
        """A row less the one that all are compared with, paired; None for that row itself."""
        if name == self.OTHER:
            return None
        return paired_difference(self.rows[name].allowing_failed(), self.rows[self.OTHER].allowing_failed())

    @abstractmethod
    def spent(self, row: Likelihood) -> dict[str, object]:
        """What a row cost, as JSON values."""

    def tried(self) -> dict[str, object]:
        """Sets and rows as JSON values."""
        rows: dict[str, object] = {}
        for name, row in self.rows.items():
            mean, paired = row.allowing_failed().estimate(), self.against(name)
            rows[name] = {
                "bits_per_dim": None if mean is None else mean.as_dict(),
                "n_failed": row.n_failed,
                "evaluations": {role: float(counts.mean()) for role, counts in row.evaluations.items()},
                **self.spent(row),
                f"minus_{self.OTHER}": None if paired is None else [paired.difference, paired.se],
            }
        sets = {
            key: {"name": data.name, "split": data.split, "n": len(data)}
            for key, data in (("tune", self.tune), ("data", self.test))
        }
        return sets | {"rows": rows, "seconds": self.seconds, **self.checks.as_dict()}
