"""The mean over the set of a plan (``--mean-of N``) from the exact runs of its ``--limit`` n images.

The variational bound of all N images is one feature more where it pays. It is tried on the images that were
measured: it has to correlate with their exact bits/dim, and to take more of the variance that other features
leave than as many network calls would as exact runs, that is with_it^2 (1 + cost) < without^2 for what is
left and the cost of the bound on the set over that of the exact runs.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace
from typing import Final

import numpy as np

from merged_diffusion.bound import Bound, variational_bound
from merged_diffusion.data.images import Data
from merged_diffusion.errors import ExpertError
from merged_diffusion.jobs.plan import PILOT_RUNS, Plan
from merged_diffusion.jobs.summary import scores
from merged_diffusion.scores.record import Record
from merged_diffusion.scores.score_table import Scores
from merged_diffusion.scores.set_mean import BOUND, MeanOverSet, Planned, estimate_mean

TIMES: Final = 8  # of the bound: 0.98 is its correlation on photos then, a 13th its cost
LEAST_CORRELATION: Final = 0.9  # with less the features of the pixels are left with most of the work


class SetMeans:
    """What the exact runs of a plan say of the mean over its set, made once."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self.found: MeanOverSet | None = None
        """None as long as an image of the choice has no score."""

    def measure(self, records: Iterable[Record], kept: MeanOverSet | None = None) -> None:
        """Find it, unless that was done; ``kept`` is what was found of as many records before."""
        chosen = {int(image) for image in self._plan.data.ids}
        own = sorted(
            (record for record in records if record.id in chosen and record.is_ok), key=lambda r: r.id
        )
        if self.found is not None or len(own) < len(chosen):
            return
        is_same = kept is not None and (kept.n, kept.n_set) == (len(own), len(self._set))
        if is_same and self._plan.settings.plan_for is None:
            self.found = kept
        else:
            self.found = self._made(scores(self._plan.identity(self._plan.main), own))

    @property
    def _set(self) -> Data:
        return self._plan.whole.select(limit=int(self._plan.settings.mean_of or len(self._plan.whole)))

    def _made(self, exact: Scores) -> MeanOverSet:
        settings = self._plan.settings
        data = self._set
        bound, why_not = self._bound(exact, data)
        found = estimate_mean(exact, data, bound=bound)
        if why_not is not None:
            found = replace(found, left_out={**found.left_out, BOUND: why_not})
        wish = settings.plan_for
        if wish is None or found.residual is None:
            return found
        return replace(found, planned=Planned(wish, found.runs_for(wish)))

    def _bound(self, exact: Scores, data: Data) -> tuple[Bound | None, str | None]:
        """The bound of all images of the set, or why it is no feature."""
        settings = self._plan.settings
        if settings.plan_for is not None:
            return None, "is not measured for a plan"
        if len(exact) < PILOT_RUNS:
            return None, f"is tried from {PILOT_RUNS} exact runs on, {len(exact)} were made"
        try:
            tried = self._measured(self._plan.data)
        except ExpertError as error:
            return None, error.message
        if tried.n_failed or np.ptp(exact.bits_per_dim) == 0 or np.ptp(tried.bits_per_dim) == 0:
            return None, "tells nothing: it failed, or all images are alike"
        correlation = float(np.corrcoef(exact.bits_per_dim, tried.bits_per_dim)[0, 1])
        told = f"correlates as {correlation:.2f} with exact bits/dim"
        if not correlation > LEAST_CORRELATION:
            return None, f"{told}, and is used above {LEAST_CORRELATION}"
        calls, spent = TIMES * len(data), self._calls_of(exact)
        if not self._pays(exact, tried, calls / spent):
            return None, f"{told}, but its {calls} network calls on the set tell less than more exact runs"
        bound = self._measured(data)
        return (None, f"{told}, but failed on {bound.n_failed} images") if bound.n_failed else (bound, None)

    def _pays(self, exact: Scores, tried: Bound, cost: float) -> bool:
        """Whether the bound leaves less than more exact runs would, for ``cost`` times what these took."""
        with_it, without = (
            estimate_mean(exact, self._plan.data, bound=bound).residual for bound in (tried, None)
        )
        if with_it is None or without is None:
            return False
        return with_it**2 * (1 + cost) < without**2

    def _calls_of(self, exact: Scores) -> int:
        """Network calls that exact runs took; a product with the Jacobian takes about as long as a call."""
        probes = self._plan.settings.probes
        products = math.prod(self._plan.data.images.shape[1:]) if probes.kind == "exact" else probes.n
        return sum(record.total_evaluations for record in exact) * (1 + products)

    def _measured(self, images: Data) -> Bound:
        settings = self._plan.settings
        return variational_bound(
            self._plan.model,
            images,
            seed=settings.seed,
            times=TIMES,
            machine=settings.machine,
            accept=settings.accept,
            labels=self._plan.labels(images),
        )
