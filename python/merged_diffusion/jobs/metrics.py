"""What an evaluation computes of each image: its exact likelihood, or its variational bound.

A `Plan` holds one. `score` hands every image's record on as soon as it is there.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import ClassVar, Final

import numpy as np
import numpy.typing as npt

from merged_diffusion.bound import variational_bound
from merged_diffusion.data.images import Data
from merged_diffusion.errors import UsageError
from merged_diffusion.experts.base import Expert
from merged_diffusion.jobs.cost import Estimate, estimate, time_call
from merged_diffusion.jobs.settings import Settings
from merged_diffusion.likelihood.above_uniform import warn_above_uniform
from merged_diffusion.likelihood.exact import log_likelihoods
from merged_diffusion.likelihood.path_evidence import PathEvidence
from merged_diffusion.merge import MergedModel
from merged_diffusion.ode import methods
from merged_diffusion.scores.defaults import TIMES
from merged_diffusion.scores.record import Record
from merged_diffusion.scores.score_table import Scores

Labels = npt.NDArray[np.int64] | None


@dataclass(frozen=True)
class ExactLikelihood:
    """By the probability-flow ODE."""

    name: ClassVar[str] = "nll"

    def described(self, settings: Settings) -> dict[str, object]:
        """What it is asked for, as JSON values: all settings."""
        return settings.as_dict()

    def estimate(
        self, experts: Sequence[Expert], shape: tuple[int, ...], n_images: int, settings: Settings
    ) -> Estimate:
        """The cost of ``n_images`` of a shape, by one timed call of the slowest expert."""
        return estimate(experts, shape, settings, settings.importance * settings.repeats * n_images)

    def score(
        self,
        model: MergedModel,
        images: Data,
        settings: Settings,
        *,
        labels: Labels,
        on_record: Callable[[Record], object],
        path: PathEvidence | None = None,
    ) -> Scores:
        """Score images; those that fail have a record that says so, and stop no other."""
        found = log_likelihoods(
            {self.name: model},
            images,
            replace(settings.options(), path=path),
            labels=labels,
            on_record=lambda _, record: on_record(record),
        )[self.name]
        warn_above_uniform(found, images.levels)
        return found


LIKELIHOOD: Final = ExactLikelihood()


@dataclass(frozen=True)
class VariationalBound:
    """At ``times`` noise levels an image and repeat; ``profile`` keeps the loss at each."""

    times: int = TIMES
    profile: bool = False
    name: ClassVar[str] = "vlb"

    def described(self, settings: Settings) -> dict[str, object]:
        """Without the ODE's solver, whose default may change and leaves a bound what it is."""
        solver = (*methods.WORDS, "probe", "quad_check", "path_check", "own_log_q")
        return {k: v for k, v in settings.as_dict().items() if k not in solver} | asdict(self)

    def estimate(
        self, experts: Sequence[Expert], shape: tuple[int, ...], n_images: int, settings: Settings
    ) -> Estimate:
        """The same as that of the likelihood, with forward passes alone."""
        call = time_call(experts, shape, settings)
        per_image = float(self.times * settings.repeats)
        seconds = math.ceil(n_images * per_image / call.rows) * call.seconds
        return Estimate(n_images, call.rows, call.seconds, seconds, per_image)

    def score(
        self,
        model: MergedModel,
        images: Data,
        settings: Settings,
        *,
        labels: Labels,
        on_record: Callable[[Record], object],
        path: PathEvidence | None = None,  # noqa: ARG002  (a bound follows no path)
    ) -> Scores:
        """The same as those of the likelihood."""
        return variational_bound(
            model,
            images,
            seed=settings.seed,
            times=self.times,
            repeats=settings.repeats,
            profile=self.profile,
            machine=settings.machine,
            accept=settings.accept,
            labels=labels,
            on_record=on_record,
        )


Metric = ExactLikelihood | VariationalBound
"""``name`` is the command that computes it."""


def chosen_metric(given: Metric | str) -> Metric:
    """A metric, or that of its name."""
    named = {"nll": LIKELIHOOD, "vlb": VariationalBound()}
    found = named.get(given) if isinstance(given, str) else given
    if not isinstance(found, Metric):
        raise UsageError(
            f"metric = {given!r:.80} is neither nll nor vlb", hint="VariationalBound(times=64) has options"
        )
    return found
