"""The cells of a line of a table: what it shows of a row of a result."""

from __future__ import annotations

from dataclasses import dataclass

from merged_diffusion.reports.results import Result
from merged_diffusion.reports.tables import Cell, Number
from merged_diffusion.sweeps.sweep_row import SweepRow


@dataclass(frozen=True)
class Line:
    """A row beside the result that it belongs to; each method is a cell."""

    result: Result
    row: SweepRow

    @property
    def digits(self) -> int:
        """Decimals of its value."""
        return 2 if self.result.metric == "sample" else 3

    def model(self) -> Cell:
        """The threshold, or the expert that is alone."""
        return self.result.label(self.row)

    def gamma(self) -> Cell:
        """The threshold in gamma."""
        gamma = None if self.row.model != "merged" else (self.row.threshold or {}).get("gamma")
        return None if gamma is None else Number(gamma, 3)

    def sampler(self) -> Cell:
        """Sampler and steps."""
        steps = self.result.settings.get("steps")
        return f"{self.result.sampler}" + ("" if steps is None else f", {steps} steps")

    def value(self) -> Cell:
        """The mean or the primary distance with its standard error."""
        if self.row.value is None:
            return "failed" if self.row.error is not None else None
        value, error = self.row.value
        return Number(value, self.digits, error)

    def difference(self) -> Cell:
        """That to the best row."""
        paired = self.row.paired
        if paired is None or paired.to == self.row.name:
            return None
        return Number(paired.difference, self.digits, paired.se, signed=True)

    def spread(self) -> Cell:
        """The standard deviation of repeats."""
        return None if self.row.spread is None else Number(self.row.spread, 3)

    def beside(self, metric: str) -> Cell:
        """Precision, recall and the like of samples."""
        found = self.row.beside.get(metric)
        return None if found is None else Number(found.value, 3, found.se)

    def images(self) -> Cell:
        """How many images a distance is of."""
        return None if self.row.figure is None else Number(self.row.figure.n, 0)

    def evaluations(self) -> Cell:
        """Network evaluations an image."""
        return None if self.row.evaluations is None else Number(self.row.evaluations, 0)
