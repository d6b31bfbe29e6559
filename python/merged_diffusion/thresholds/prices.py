"""What thresholds of N experts take: seconds of a call of each, and of a solve that a few images make.

Dynamic programming needs a price for each interval, which is foretold from the calls of one pilot. It is not
what a course then takes, since another expert may need smaller steps and a switch starts the solver anew, so
what is promised is measured by a pilot of its own (`spent`).
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from functools import partial

import numpy as np
import numpy.typing as npt

from merged_diffusion.data.images import Data
from merged_diffusion.experts.base import Expert
from merged_diffusion.jobs.cost import call_seconds
from merged_diffusion.likelihood import log_likelihoods
from merged_diffusion.likelihood.likelihood_options import Options
from merged_diffusion.merge import Convention, MergedModel, as_model
from merged_diffusion.roles import roles_of
from merged_diffusion.scores.inputs import examples
from merged_diffusion.scores.prepared import prepared
from merged_diffusion.scores.usual_rows import scoring_rows
from merged_diffusion.thresholds.shortest import Course

Floats = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int64]


def look_at(
    experts: Sequence[Expert], data: Data, options: Options, labels: Labels | None, convention: Convention
) -> None:
    """Find the experts sound now, once: a pilot's seconds are the solver's."""
    place = options.machine.here(partial(scoring_rows, len(data)))
    asked = [
        (as_model(expert, convention=convention).legs()[0].expert, expert.gamma_range) for expert in experts
    ]
    shape = data.images.shape[1:]
    with prepared(asked, place, shape, labels=labels, examples=examples(data), accept=options.accept):
        pass


def first_of(data: Data, labels: Labels | None, n: int) -> tuple[Data, Labels | None]:
    """At most n of the images, and their labels."""
    some = data.select(limit=min(n, len(data)))
    return some, None if labels is None else labels[np.isin(data.ids, some.ids)]


def seconds_of_calls(
    experts: Sequence[Expert], data: Data, options: Options, labels: Labels | None
) -> list[float]:
    """Of one image in a call of each expert in the model's space, with its products; the least of three."""
    place = options.machine.here(partial(scoring_rows, len(data)))
    shape = (place.rows, *data.images.shape[1:])
    products = options.probes.of_dim(data.images[0].size).n

    def once(expert: Expert) -> float:
        is_conditional = labels is not None and expert.conditional
        return call_seconds(expert, shape, place, probes=products, conditional=is_conditional)

    return [min(once(expert) for _ in range(3)) / place.rows for expert in experts]


def spent(
    experts: Sequence[Expert],
    gammas: Sequence[float],
    pilot: Data,
    options: Options,
    labels: Labels | None,
    convention: Convention,
) -> list[float]:
    """Seconds of an image in an exact run of a few, and evaluations of each expert."""
    model = MergedModel.of(experts, gammas, convention=convention)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of the errors of likelihoods that nobody is told
        found = log_likelihoods({"pilot": model}, pilot, options, labels=labels)["pilot"].allowing_failed()
    by_role = {role: float(counts.mean()) for role, counts in found.evaluations.items()}
    return [found.seconds / len(pilot), *(by_role.get(role, 0.0) for role in roles_of(len(experts)))]


def foretold(pilot: Sequence[float], calls: Floats, course: Course, fine: Floats) -> Floats:
    """What each expert takes in each interval for one image, scaled so that the pilot's course takes its own.

    Evaluations are spread evenly over each leg of the pilot.
    """
    charge, widths = np.array(course.charge), np.diff(fine)
    density = np.zeros(len(widths))
    for number, evaluations in enumerate(pilot[1:]):
        own = charge == number
        if own.any():
            density[own] = evaluations / widths[own].sum()
    seconds: Floats = calls[:, None] * (density * widths)
    predicted = float(seconds[charge, np.arange(len(widths))].sum())
    return seconds * (pilot[0] / predicted)
