"""The plan of a sweep: its rows, and what they have in common, before anything is written."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Protocol

from merged_diffusion.errors import IncompleteError, ResourceError, RunError, StorageError
from merged_diffusion.jobs.cost import Estimate
from merged_diffusion.jobs.plan import KEPT_SECONDS
from merged_diffusion.jobs.settings import Settings
from merged_diffusion.sweeps import sweep_folder
from merged_diffusion.sweeps.rows import P, Row
from merged_diffusion.sweeps.spent import Cost
from merged_diffusion.sweeps.table import Line, Paired

Observer = Callable[[str, Any], None]
Failed = Callable[[str, Exception], None]


@contextmanager
def spoiling_one_row(name: str, failed: Failed) -> Iterator[None]:
    """An expert may raise anything, which is told of its row; what would end every row alike goes on up."""
    try:
        yield
    except (StorageError, RunError, ResourceError, IncompleteError):
        raise
    except Exception as error:  # noqa: BLE001
        failed(name, error)


class Rows(Protocol):
    """The rows of a sweep, open."""

    @property
    def notes(self) -> list[str]:
        """What opening them found worth saying."""

    def left(self) -> dict[str, int]:
        """Images to score or to draw, by row."""

    def run(self, observe: Observer | None, cost: Cost, failed: Failed) -> None:
        """Compute what is not there yet; a row that fails is told, and stops no other.

        Raises
        ------
        StorageError, RunError, ResourceError, IncompleteError
            What would end every row alike.
        """

    def lines(self, errors: Mapping[str, Mapping[str, Any]]) -> tuple[list[Line], Paired]:
        """The rows over what there is, and the paired difference of two of them."""

    def close(self) -> None:
        """Leave them to other processes."""


@dataclass(frozen=True)
class SweepPlan(ABC, Generic[P]):
    """What a sweep will do: the rows, and a plan of the pair for what they have in common."""

    base: P
    rows: Sequence[Row[P]]

    @property
    def settings(self) -> Settings:
        """On their machine."""
        return self.base.settings

    @property
    def threads(self) -> int:
        """Of torch and of the core."""
        return self.base.threads

    @property
    def notes(self) -> list[str]:
        """What a user should know of files and thresholds."""
        return [*self.base.notes, *(row.note for row in self.rows if row.note is not None)]

    @property
    @abstractmethod
    def metric(self) -> str:
        """``nll``, ``vlb`` or ``sample``."""

    @property
    @abstractmethod
    def n_images(self) -> int:
        """Of each row."""

    @abstractmethod
    def data(self) -> dict[str, Any]:
        """The set, as JSON values."""

    @abstractmethod
    def described(self) -> dict[str, Any]:
        """What all rows depend on, as JSON values."""

    @abstractmethod
    def default_out(self) -> Path:
        """``runs/sweep-photos-1a2b3c4d``: the same command finds it again."""

    @abstractmethod
    def check_experts(self) -> None:
        """`ExpertError` where no row could be computed."""

    @abstractmethod
    def estimate(self, out: Path | None) -> Estimate:
        """The cost if the rows shared nothing, from one timed call of the slowest expert."""

    @abstractmethod
    def opened(self, out: Path | None, *, allow_rebatch: bool, strict_env: bool) -> Rows:
        """The rows, about to be computed."""

    def out_for(self, cost: Estimate) -> Path | None:
        """Where a sweep goes that nobody gave a place: nowhere if it is short."""
        return self.default_out() if cost.seconds > KEPT_SECONDS else None

    def identity(self) -> dict[str, Any]:
        """What ``sweep.json`` says of metric, data, pair and settings."""
        models = self.base.models
        pair = models.pair
        return {
            "command": "sweep",
            "format": sweep_folder.FORMAT,
            "metric": self.metric,
            "data": self.data() | {"n": self.n_images},
            "pair": {
                "name": None if pair is None else pair.name,
                "eta_range": None if pair is None else list(pair.eta_range),
                "experts": dict(models.identity),
            },
            "settings": self.described(),
        }
