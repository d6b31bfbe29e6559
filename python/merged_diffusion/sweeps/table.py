"""The table of a sweep, which ``sweep.json`` holds: a row for each threshold, and what comparing them says.

`SweepTable.of` reads what `SweepTable.as_dict` has written; docs/formats.md says what the keys mean.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Final

import numpy as np

from merged_diffusion.errors import MergedDiffusionError
from merged_diffusion.frames import Column, Tabular, text_of_error
from merged_diffusion.scores.means import floats
from merged_diffusion.sweeps.request import Metric
from merged_diffusion.sweeps.thresholds import NO_THRESHOLDS

if TYPE_CHECKING:
    from merged_diffusion.quality.assess import Figure
    from merged_diffusion.scores.differences import Difference

FORMAT: Final = 1


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
    fields: Mapping[str, object]
    hint: str | None

    @classmethod
    def of(cls, error: Exception) -> RowError:
        """What a row keeps of an exception."""
        if isinstance(error, MergedDiffusionError):
            return cls(type(error).__name__, error.message, error.fields, error.hint)
        return cls(type(error).__name__, str(error), {}, None)


@dataclass(frozen=True, repr=False)
class SweepRow:
    """A threshold, or one expert alone; ``summary`` is what the command of the row prints, if it has begun.

    ``folder`` lies in that of the sweep.
    """

    name: str
    threshold: Mapping[str, float | None] | None
    folder: str
    summary: Mapping[str, Any] | None
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
        found = self._summary.get("bits_per_dim")
        return None if found is None or found["mean"] is None else (found["mean"], found["se"])

    @property
    def figure(self) -> Figure | None:
        """The primary metric of samples."""
        if self._summary.get("quality") is None:
            return None
        from merged_diffusion.quality.assess import Figure  # torch comes with it, which only samples need

        return Figure(**self._summary["quality"]["primary"])

    @property
    def beside(self) -> Mapping[str, Figure]:
        """The other figures of samples in the primary metric's features, by ``recall`` and the like."""
        if self.figure is None:
            return {}
        features = self.figure.name.partition("-")[2]
        others = [type(self.figure)(**found) for found in self._summary["quality"]["others"]]
        split = [(*found.name.partition("-")[::2], found) for found in others]
        return {metric: found for metric, of, found in split if of == features}

    @property
    def evaluations(self) -> float | None:
        """Network evaluations an image."""
        found = self._summary.get("evaluations")
        return None if found is None else found["total"]

    @property
    def n(self) -> int | None:
        """Images that were scored or drawn."""
        return self._summary.get("n")

    @property
    def legs(self) -> Sequence[Mapping[str, Any]]:
        """Role, start and end in gamma of each integration."""
        return self._summary.get("legs") or ()

    @property
    def spread(self) -> float | None:
        """The standard deviation of the repeats of a bound."""
        found = self._summary.get("repeats")
        return None if found is None else found["std"]

    @property
    def is_clustered(self) -> bool:
        """Whether the standard error knows of images that are not independent."""
        return (self._summary.get("bits_per_dim") or {}).get("se_clustered") is not None

    @property
    def asked_eta(self) -> float | str | None:
        """The threshold in the word in which it was asked for."""
        return (self._summary.get("settings") or {}).get("eta")

    @property
    def versions(self) -> Mapping[str, object]:
        """Of the packages that computed it."""
        return self._summary.get("versions") or {}

    @property
    def _summary(self) -> Mapping[str, Any]:
        return self.summary or {}

    @classmethod
    def of(cls, value: Mapping[str, Any]) -> SweepRow:
        """From JSON values."""
        paired, error = value.get("paired"), value.get("error")
        return cls(
            **{name: value[name] for name in ("name", "threshold", "folder", "summary")},
            paired=None if paired is None else Paired(**paired),
            error=None if error is None else RowError(**{"fields": {}, "hint": None} | error),
        )

    def as_dict(self, metric: Metric) -> Mapping[str, object]:
        """As JSON values."""
        paired = None if self.paired is None else self.paired.as_dict(metric)
        return vars(self) | {
            "paired": paired,
            "error": None if self.error is None else dict(vars(self.error)),
        }


@dataclass(frozen=True)
class Best:
    """The row of the least value, and the first and last eta that cannot be told from it, if errors say."""

    name: str
    eta: float
    indistinguishable: Sequence[float] | None
    at_edge: bool


@dataclass(frozen=True)
class Evaluations:
    """Network evaluations: what was spent, and what the rows would have taken one by one."""

    spent: int = 0
    single_runs: int = 0


@dataclass(frozen=True, repr=False)
class SweepTable(Tabular):
    """A sweep as it stands: `sweep` returns one, with a row for each threshold and for each expert alone.

    ``table[2]`` is the third `SweepRow`. As a table it has the columns ``name``, ``model``, ``eta``,
    ``gamma``, the value (``bits_per_dim``, or the name of the distance of samples) with its ``se``, the
    ``difference`` from the row ``paired_with`` with its ``difference_se``, ``n`` and ``evaluations``.

    ``data``, ``settings`` and ``experts`` (by role) are as in the ``settings.json`` of a row, with the number
    of images and without a threshold.
    """

    ERRORS: ClassVar = {"bits_per_dim": "se", "difference": "difference_se"}

    metric: Metric
    data: Mapping[str, object]
    pair: str | None
    eta_range: Sequence[float] | None
    experts: Mapping[str, Mapping[str, object]]
    settings: Mapping[str, object]
    rows: Sequence[SweepRow] = ()
    evaluations: Evaluations = Evaluations()
    best: Best | None = None
    seconds: float = 0.0
    time_profile: Mapping[str, object] | None = None

    def __repr__(self) -> str:
        best = "" if self.best is None else f"; best {self.best.name}"
        return f"SweepTable({self.metric} of {self.data.get('name')}, {len(self.rows)} rows{best})"

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[SweepRow]:
        return iter(self.rows)

    def __getitem__(self, position: int) -> SweepRow:
        return self.rows[position]

    def to_dict(self) -> dict[str, Column]:
        """Columns [rows] by name; NaN where a row has no such number."""
        rows = self.rows
        values = [row.value or (None, None) for row in rows]
        differences = [row.paired for row in rows]
        names = {row.figure.name for row in rows if row.figure is not None} or {"bits_per_dim"}
        return {
            "name": np.array([row.name for row in rows]),
            "model": np.array([row.model for row in rows]),
            "eta": floats(row.eta for row in rows),
            "gamma": floats(None if row.threshold is None else row.threshold["gamma"] for row in rows),
            "/".join(sorted(names)): floats(value for value, _ in values),
            "se": floats(se for _, se in values),
            "paired_with": np.array(["" if found is None else found.to for found in differences]),
            "difference": floats(None if found is None else found.difference for found in differences),
            "difference_se": floats(None if found is None else found.se for found in differences),
            "n": floats(row.n for row in rows),
            "evaluations": floats(row.evaluations for row in rows),
        }

    @classmethod
    def of(cls, value: Mapping[str, Any]) -> SweepTable:
        """From JSON values."""
        pair, best = value["pair"], value.get("best")
        return cls(
            metric=value["metric"],
            data=value["data"],
            pair=pair.get("name"),
            eta_range=pair.get("eta_range"),
            experts=pair["experts"],
            settings=value["settings"],
            rows=tuple(map(SweepRow.of, value["rows"])),
            evaluations=Evaluations(**{name: int(n) for name, n in value["evaluations"].items()}),
            best=None if best is None else Best(**best),
            seconds=float(value["seconds"]),
            time_profile=value.get("time_profile"),
        )

    def about(self) -> dict[str, object]:
        """Metric, data, pair and settings as JSON values: what a plan knows already."""
        return {
            "command": "sweep",
            "format": FORMAT,
            "metric": self.metric,
            "data": self.data,
            "pair": {
                "name": self.pair,
                "eta_range": self.eta_range,
                "experts": self.experts,
            },
            "settings": self.settings,
        }

    def as_dict(self) -> dict[str, object]:
        """The content of ``sweep.json``."""
        timed = {} if self.time_profile is None else {"time_profile": self.time_profile}
        return self.about() | {
            "rows": [row.as_dict(self.metric) for row in self.rows],
            "evaluations": dict(vars(self.evaluations)),
            "best": None if self.best is None else dict(vars(self.best)),
            "seconds": self.seconds,
            **timed,
        }
