"""The table of a sweep, which ``sweep.json`` holds: a row for each threshold, and what comparing them says.

`SweepTable.of` reads what `SweepTable.as_dict` has written; docs/formats.md says what the keys mean.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final

import numpy as np

from merged_diffusion.frames import Column, Tabular
from merged_diffusion.likelihood.quadrature_check import rough_words
from merged_diffusion.scores.means import floats
from merged_diffusion.sweeps.request import Metric
from merged_diffusion.sweeps.sweep_row import SweepRow

FORMAT: Final = 1


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

    def rough_words(self) -> list[str]:
        """What warns of traces and experts that are rougher than their nodes: what the worst row has."""
        rough = {row.name: row.values.quadrature for row in self.rows if row.values.rough_trace}
        measured = {name: check for name, check in rough.items() if check is not None}
        unit = "nats" if self.settings.get("dequantise") == "none" else "bits/dim"
        found = rough_words(measured, unit)
        for role, about in self.experts.items():
            scans = {row.name: (row.values.gamma_scan or {}).get(role) for row in self.rows}
            met = {name: scan for name, scan in scans.items() if scan is not None and scan.spikes}
            if met:
                words = max(met.values(), key=lambda scan: scan.together).words(str(about["name"]))
                found.append(f"{words} (rows {', '.join(met)})")
        return found

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
