"""Errors, and costs at equal error, with intervals over resampled images."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from suite.plan import PAPER, Cell, Measured
from suite.setting import Floats

RESAMPLES: Final = 1000
Images = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Interval:
    """A figure, and the middle 95 % of it over resampled images."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Curve:
    """What settings cost [S], and their squared errors image by image [S, N]."""

    cost: Floats
    squares: Floats

    def errors(self, images: Images | None = None) -> Floats:
        """Root mean squares [S]."""
        found: Floats = np.sqrt((self.squares if images is None else self.squares[:, images]).mean(axis=1))
        return found

    def cost_at(self, error: float, images: Images | None = None, *, beyond: float = math.inf) -> float:
        """Cost of an error, both in logarithms, on the line between the two settings around it.

        The cheapest such place counts. An error above the cheapest setting's costs what that does, one that
        no setting reaches ``beyond``.
        """
        order = np.argsort(self.cost)
        cost, errors = np.log(self.cost[order]), np.log(self.errors(images)[order])
        wanted = math.log(error)
        if errors[0] <= wanted:
            return float(np.exp(cost[0]))
        below = np.flatnonzero(errors <= wanted)
        if not len(below):
            return beyond
        k = int(below[0])
        part = (wanted - errors[k - 1]) / (errors[k] - errors[k - 1])
        return float(np.exp(cost[k - 1] + part * (cost[k] - cost[k - 1])))


def over_images(figure: Callable[[Images], float], n: int) -> Interval:
    """A figure of the images chosen, of all of them and of resampled ones."""
    random = np.random.default_rng(0)
    drawn = [figure(random.integers(n, size=n)) for _ in range(RESAMPLES)]
    low, high = np.percentile(drawn, [2.5, 97.5])
    return Interval(figure(np.arange(n)), float(low), float(high))


def evaluations_curve(cells: Sequence[Cell]) -> Curve:
    """Of network evaluations an image."""
    cost = np.array([found.evaluations.mean() for _, found, _ in cells])
    return Curve(cost, np.array([errors**2 for *_, errors in cells]))


def passes(measured: Measured, name: str) -> tuple[float, Floats]:
    """Of a row of `Measured.total`: forward passes an image, products counted; squared errors [N]."""
    cells = measured.total[name]
    evaluations = float(np.mean([found.evaluations.mean() for _, found, _ in cells]))
    cost = evaluations * (1 + cells[0][0].probes * measured.product_cost)
    return cost, np.mean([errors**2 for *_, errors in cells], axis=0)


def saved_evaluations(measured: Measured) -> Interval:
    """The paper's pipeline's evaluations over those of adams at its discretisation error."""
    paper = evaluations_curve(measured.curves["scipy"])
    adams = evaluations_curve(measured.curves["adams"])
    usual = _usual(measured)

    def ratio(images: Images) -> float:
        return float(paper.cost[usual]) / adams.cost_at(float(paper.errors(images)[usual]), images)

    return over_images(ratio, measured.n)


def probe_variance(measured: Measured) -> Floats:
    """Variance [N] of the pipeline's one probe: V of E^2(K) = D^2 + V/K, the K weighed by their seeds."""
    usual = _usual(measured)
    discretisation = measured.curves["scipy"][usual][2] ** 2
    rows = [cells for name, cells in measured.total.items() if name.startswith("paper-")]
    found = [
        cells[0][0].probes * (np.mean([errors**2 for *_, errors in cells], axis=0) - discretisation)
        for cells in rows
    ]
    return np.average(found, axis=0, weights=[len(cells) for cells in rows])


def saved_passes(measured: Measured, name: str = "default") -> Interval:
    """The pipeline's forward passes at the total error of a row of adams over those of that row.

    The pipeline takes the tolerance and the number of averaged probes that cost it least.
    """
    cost, squares = passes(measured, name)
    variance = probe_variance(measured)
    tolerances = [(found.evaluations.mean(), errors**2) for _, found, errors in measured.curves["scipy"]]

    def ratio(images: Images) -> float:
        allowed = float(squares[images].mean())
        noise = float(variance[images].mean())
        costs = [
            evaluations * (1 + max(1.0, noise / left) * measured.product_cost)
            for evaluations, discretisation in tolerances
            if (left := allowed - float(discretisation[images].mean())) > 0
        ]
        return min(costs, default=math.inf) / cost

    return over_images(ratio, measured.n)


def error_over_paper(measured: Measured, preset: str) -> Interval:
    """A preset's total error over that of the paper's pipeline with its one probe."""
    squares, other = passes(measured, preset)[1], passes(measured, "paper-1")[1]

    def ratio(images: Images) -> float:
        return float(np.sqrt(squares[images].mean() / other[images].mean()))

    return over_images(ratio, measured.n)


def geometric_mean(intervals: Mapping[str, Interval]) -> Interval:
    """Of several problems; the interval of a sum of independent logarithms."""
    logs = np.log([[i.value, i.low, i.high] for i in intervals.values()])
    value = logs[:, 0].mean()
    spread = np.sqrt(((logs[:, 1:] - logs[:, :1]) ** 2).sum(axis=0)) / len(logs)
    return Interval(*np.exp([value, value - spread[0], value + spread[1]]).tolist())


def _usual(measured: Measured) -> int:
    """Where the pipeline's own tolerance stands among those of its curve."""
    return [setting.tol for setting, *_ in measured.curves["scipy"]].index(PAPER)
