"""Exact runs at a threshold that was found, at its neighbours and under both experts alone.

All rows have the same images, noise and probes; what they share is solved once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, cast

import numpy as np
import numpy.typing as npt

from merged_diffusion import _core
from merged_diffusion.data.images import Data
from merged_diffusion.experts.base import Expert
from merged_diffusion.jobs.measuring_images import HERE, Measuring, ranked
from merged_diffusion.likelihood import (
    Likelihood,
    can_share,
    paired_difference,
)
from merged_diffusion.likelihood.likelihood_options import Options
from merged_diffusion.merge import Convention, MergedModel, Threshold, as_model
from merged_diffusion.scores.means import MeanAndErrors
from merged_diffusion.sweeps.sweep_row import Paired
from merged_diffusion.thresholds.answers import LIKELIHOOD, QUALITY, Answer
from merged_diffusion.thresholds.find import Found

NEIGHBOUR: Final = 0.1  # in eta: the spacing of the tables' grid


@dataclass(frozen=True)
class ConfirmedRow:
    """A threshold or an expert alone, against the row that was chosen."""

    name: str
    eta: float | None
    option: str
    """What `nll` takes it by."""
    bits_per_dim: MeanAndErrors | None
    n_failed: int
    evaluations: Mapping[str, float] | None
    paired: Paired | None

    def as_dict(self) -> dict[str, object]:
        """As JSON values."""
        return vars(self) | {
            "bits_per_dim": None if self.bits_per_dim is None else self.bits_per_dim.as_dict(),
            "paired": None if self.paired is None else self.paired.as_dict("nll"),
        }


@dataclass(frozen=True, eq=False, repr=False)
class Confirmed:
    """Exact likelihoods by row: thresholds ("eta 0.3000") in ascending order, then both experts."""

    rows: Mapping[str, Likelihood]
    answers: Mapping[str, Answer]
    evaluations: Mapping[str, float]
    """``confirming``: spent; ``grid``: about what every row of the pair's table would take, run singly."""
    order: tuple[str, ...]
    """The rows from the least bits/dim up; images that failed in any row count in none."""
    models: Mapping[str, MergedModel]
    """What was scored, by row."""

    @property
    def best(self) -> str:
        """The row with the least bits/dim, an expert's too."""
        return self.order[0]

    @property
    def etas(self) -> dict[str, float]:
        """The etas of thresholds by row."""
        return {name: answer.eta for name, answer in self.answers.items() if answer.gamma is not None}

    @property
    def best_merged(self) -> Answer:
        """The best threshold."""
        return self.answers[next(name for name in self.order if name in self.etas)]

    @property
    def answer(self) -> Answer:
        """The best row's threshold, or expert alone."""
        return self.answers[self.best]

    def against(self, to: str) -> list[ConfirmedRow]:
        """The rows, each against that of this name."""
        found = []
        for name, row in self.rows.items():
            means = row.summary()
            paired = None
            if name != to:
                paired = Paired.of(to, paired_difference(row, self.rows[to]))
            told = means.bits_per_dim, row.n_failed, means.evaluations
            option = self.answers[name].option
            found.append(ConfirmedRow(name, self.etas.get(name), option, *told, paired))
        return found

    def __repr__(self) -> str:
        return f"Confirmed({', '.join(self.rows)}; best {self.best})"


def confirm_threshold(
    likelihood: Expert,
    quality: Expert,
    data: Data,
    found: Found,
    options: Options,
    *,
    labels: npt.NDArray[np.int64] | None = None,
    convention: Convention = "exact",
    at: Sequence[float] | None = None,
    progress: bool = False,
    measuring: Measuring = HERE,
) -> Confirmed:
    """Score ``data`` at the threshold found, at those 0.1 beside it and under both experts alone.

    ``at`` names other thresholds to score in the place of the three, from those of the curves; ``measuring``
    measures the images, by default this call.

    Raises
    ------
    UsageError, DataError, ExpertError
        The same as in `log_likelihood`.
    """
    near = [found.eta + offset for offset in (-NEIGHBOUR, 0.0, NEIGHBOUR)]
    nearest = {found.near(eta) for eta in (near if at is None else at)}
    thresholds = {each.name: each for each in sorted(nearest, key=lambda each: each.eta)}
    gammas = {name: cast(float, each.gamma) for name, each in thresholds.items()}
    models: dict[str, MergedModel] = {
        name: MergedModel(
            likelihood,
            quality,
            Threshold.gamma(gamma),
            eta_range=found.eta_range,
            convention=convention,
        )
        for name, gamma in gammas.items()
    }
    models["likelihood"] = as_model(likelihood, role="likelihood", convention=convention)
    models["quality"] = as_model(quality, role="quality", convention=convention)
    rows, spent = _scored(models, data, options, labels, progress, measuring)
    grid = _grid_cost(rows, gammas, likelihood, quality, found)
    answers = thresholds | {each.name: each for each in (LIKELIHOOD, QUALITY)}
    order = ranked(measuring, "order", _common_means(rows))
    return Confirmed(rows, answers, {"confirming": spent, "grid": grid}, tuple(order), models)


def _common_means(rows: Mapping[str, Likelihood]) -> dict[str, float]:
    is_ok = np.all([row.status == "ok" for row in rows.values()], axis=0)
    worst = float("inf")
    return {
        name: float(row.bits_per_dim[is_ok].mean()) if is_ok.any() else worst for name, row in rows.items()
    }


def _grid_cost(
    rows: Mapping[str, Likelihood],
    gammas: Mapping[str, float],
    likelihood: Expert,
    quality: Expert,
    found: Found,
) -> float:
    """Evaluations of the pair's table by single runs: each expert's part, between the thresholds scored."""

    def spent(name: str, role: str) -> float:
        return float(rows[name].evaluations[role].sum())

    (begin, high), (low, end) = likelihood.gamma_range, quality.gamma_range
    at = list(gammas.values())
    upto = [0.0, *(spent(name, "likelihood") for name in gammas), spent("likelihood", "likelihood")]
    above = [spent("quality", "quality"), *(spent(name, "quality") for name in gammas), 0.0]
    etas = _core.eta_grid(likelihood.gamma_range, quality.gamma_range, eta_range=found.eta_range)
    grid = _core.gamma_of_eta(np.array(etas), found.eta_range)
    merged = np.interp(grid, [begin, *at, high], upto) + np.interp(grid, [low, *at, end], above)
    return float(merged.sum()) + upto[-1] + above[0]


def _scored(
    models: Mapping[str, MergedModel],
    data: Data,
    options: Options,
    labels: npt.NDArray[np.int64] | None,
    progress: bool,
    measuring: Measuring,
) -> tuple[dict[str, Likelihood], float]:
    """Every model's likelihood, and the evaluations that were spent."""
    fan = {name: model for name, model in models.items() if model.legs()[0].role == "likelihood"}
    together = list(fan) if can_share(list(fan.values()), options.solver) else []
    rows = measuring.likelihoods(models, data, options, labels=labels, progress=progress, together=together)
    spent = float(rows[together[0]].tally["evaluations"]) if together else 0.0
    for name in set(models) - set(together):
        spent += float(sum(counts.sum() for counts in rows[name].evaluations.values()))
    return {name: rows[name].allowing_failed() for name in models}, spent
