"""One record per image, from the outcomes of its draws."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

from merged_diffusion import _core
from merged_diffusion.likelihood.path_evidence import Floats, PathEvidence
from merged_diffusion.likelihood.probe_error import HeavyTails, Parts
from merged_diffusion.scores.record import Record
from merged_diffusion.scores.score_table import ROLES

if TYPE_CHECKING:
    from merged_diffusion.likelihood.dequantisation import Starts
    from merged_diffusion.merge import Leg
    from merged_diffusion.ode.items import Items

TERMS: Final = ("end_density", "trace", "path_correction", "dequantisation", "importance")
NEAR: Final = 1.0  # in gamma: within it of the data end, a score that grows as 1/sigma is the likely cause


@dataclass(frozen=True)
class Draw:
    """One draw of an image: how it ended, its dequantisation term, what is uncertain.

    That is what its probes leave, and what quadrature may miss, in nats.
    """

    outcome: _core.Outcome
    nats: float
    probes: Parts | None
    missed: float | None = None


class Recorder:
    """Gathers outcomes until an image's draws are all there, and passes its record on.

    ``path`` says how much of the path's correction belongs to log P; None: the solver knows of none.
    """

    def __init__(
        self,
        legs: tuple[Leg, ...],
        items: Items,
        starts: Starts,
        *,
        dim: int,
        importance: int,
        is_density: bool,
        path: PathEvidence | None = None,
        clusters: npt.NDArray[np.int64] | None,
        pass_on: Callable[[Record], object],
    ) -> None:
        self.tails = HeavyTails()
        self._legs = legs
        self._items = items
        self._starts = starts
        self._dim = dim
        self._importance = importance
        self._is_density = is_density
        self._path = path
        self._clusters = clusters
        self._pass_on = pass_on
        self._open: dict[int, dict[int, Draw]] = {}
        self.records: dict[int, Record] = {}
        self.rows = 0
        """Rows of a network call, as they are now."""

    def add(self, outcome: _core.Outcome, probes: Parts | None = None, missed: float | None = None) -> None:
        """Take one draw's outcome, and what its probes and quadrature leave where that is known.

        Exceptions of the one who is told come out unchanged.
        """
        position = self._items.position(outcome.key)
        draws = self._open.setdefault(position, {})
        nats = self._starts.nats(outcome.key)
        draws[self._items.draw(outcome.key)] = Draw(outcome, nats, probes, missed)
        if len(draws) == self._items.n_draws:
            del self._open[position]
            self.records[position] = self._record(position, [draws[draw] for draw in sorted(draws)])
            self._pass_on(self.records[position])

    def forget_unfinished(self) -> None:
        """Drop the draws of images that will be solved again."""
        self._open.clear()

    def _record(self, position: int, draws: list[Draw]) -> Record:
        outcomes = [draw.outcome for draw in draws]
        extrapolated = [i for i, leg in enumerate(self._legs) if leg.extrapolated]
        spent = sum(outcome.evaluations[i] for outcome in outcomes for i in extrapolated)
        record = Record(
            id=int(self._items.ids[position]),
            status="ok",
            evaluations=self._evaluations(outcomes),
            steps={
                "accepted": sum(outcome.accepted for outcome in outcomes),
                "rejected": sum(outcome.rejected for outcome in outcomes),
            },
            cluster=None if self._clusters is None else int(self._clusters[position]),
            rows=self.rows,
            evaluations_extrapolated=spent if extrapolated else None,
        )
        failed = next((outcome for outcome in outcomes if outcome.status != "ok"), None)
        return self._scored(record, draws) if failed is None else self._failed(record, failed)

    def _scored(self, record: Record, draws: list[Draw]) -> Record:
        """With what the draws of an image come to."""
        square = np.array([draw.outcome.square for draw in draws])
        end = _core.end_density(square, self._legs[-1].end, self._dim)
        trace = np.array([draw.outcome.log_density for draw in draws])
        corrections = np.array([draw.outcome.path_correction for draw in draws])
        path = self._applied(corrections)
        dequantisation = np.array([draw.nats for draw in draws])
        found = _core.image_terms(end, trace, path, dequantisation, self._importance)
        terms = {name: float(found[name]) for name in TERMS}
        nats = sum(terms.values())
        bounds = end + trace + path + dequantisation
        weights = _core.draw_weights(bounds, self._importance)
        off = None if self._path is None else float(self._path.error(self._in_units(weights @ corrections)))
        probes = [draw.probes for draw in draws if draw.probes is not None]
        is_known = len(probes) == len(draws)
        # A network that is rough for one draw is so for the others: their errors are taken to be alike.
        missed = [draw.missed for draw in draws if draw.missed is not None]
        misfit = float(weights @ np.array(missed)) if len(missed) == len(draws) else None
        noise = self.tails.error(probes, weights, self._items.sharing) if is_known else None
        return replace(
            record,
            bits_per_dim=None if self._is_density else float(_core.bits_per_dim(nats, self._dim)),
            terms_nats=terms,
            log_density_nats=nats if self._is_density else None,
            draws=bounds.tolist() if len(draws) > 1 else None,
            path_error=off,
            quadrature_error=None if misfit is None else self._error(misfit),
            se_probe=None if noise is None else self._error(noise.se),
            freedom=None if noise is None else noise.freedom,
        )

    def _applied(self, corrections: Floats) -> Floats:
        """What of the path's corrections, in nats, is added to the bounds."""
        if self._path is None:
            return np.zeros_like(corrections)
        applied = self._path.applied(self._in_units(corrections))
        return np.where(applied == 0, 0.0, self._path.share * corrections)

    def _in_units(self, nats: Floats) -> Floats:
        """Sizes in the unit of the record."""
        return np.abs(nats) if self._is_density else np.abs(nats) / (self._dim * np.log(2))

    def _error(self, nats: float) -> float:
        """An error of log P in the unit of the record."""
        return nats if self._is_density else float(_core.bits_per_dim(-nats, self._dim))

    def _failed(self, record: Record, outcome: _core.Outcome) -> Record:
        """With where a draw of an image failed."""
        leg, ratio = self._legs[outcome.leg], float(outcome.ratio)
        return replace(
            record,
            status=outcome.status,
            gamma=outcome.gamma,
            leg=leg.role,
            expert=leg.expert.name,
            stage=outcome.stage,
            error_ratio=ratio if np.isfinite(ratio) else None,
            hint=self._hint(outcome.gamma),
        )

    def _hint(self, gamma: float) -> str | None:
        """What to do about a failure at gamma, where that is known."""
        first = self._legs[0]
        if abs(gamma - first.start) > NEAR:
            return None
        name = first.expert.name
        return f"near gamma_min = {first.start:g}: a gamma_range of {name} that begins higher may do"

    def _evaluations(self, outcomes: list[_core.Outcome]) -> Mapping[str, int]:
        counts = dict.fromkeys((*ROLES, *(role for leg in self._legs for role in leg.roles)), 0)
        for outcome in outcomes:
            for leg, evaluations in zip(self._legs, outcome.evaluations, strict=True):
                for role in leg.roles:
                    counts[role] += evaluations
        return counts
