"""The likelihood of the same images under several models that begin alike: what they have in common once.

Merged models of one pair differ in their thresholds. The solver takes the steps of the first expert once and
branches off for each threshold at the last node from which its own run would still have done the same. Every
record is to the last bit that of the model alone, evaluations included; what was really spent the tally says.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from merged_diffusion.data.images import Data
from merged_diffusion.errors import UsageError
from merged_diffusion.experts.centred import Centred
from merged_diffusion.likelihood.dequantisation import Dequantisation
from merged_diffusion.likelihood.likelihoods import Likelihood
from merged_diffusion.likelihood.scoring import Scoring
from merged_diffusion.likelihood.solver_settings import Settings
from merged_diffusion.merge import Leg, MergedModel
from merged_diffusion.ode.items import Items
from merged_diffusion.scores.inputs import as_data, examples
from merged_diffusion.scores.record import Record


def can_share(models: Sequence[MergedModel], *, step_control: str | None) -> bool:
    """Whether `log_likelihoods` takes these models together.

    They need the same experts in the same order from the same gamma on; images that share their step size end
    together.
    """
    courses = [model.legs(toward="noise") for model in models]
    lanes = max(courses, key=len)
    begin_alike = all(
        course[0].start == lanes[0].start
        and all(_is_same(leg, lane) for leg, lane in zip(course, lanes, strict=False))
        for course in courses
    )
    return begin_alike and step_control == "per-image"


def log_likelihoods(
    models: Mapping[str, MergedModel],
    data: Data,
    settings: Settings,
    *,
    wanted: Mapping[str, npt.NDArray[np.int64]] | None = None,
    labels: npt.NDArray[np.int64] | None = None,
    batch_coupled: bool = False,
    allow_failed: bool = False,
    on_record: Callable[[str, Record], object] | None = None,
    progress: bool = False,
) -> dict[str, Likelihood]:
    """`log_likelihood` of the images under each model, by name.

    ``wanted`` holds the ids that each model scores (default: all); ``on_record`` is called with the model's
    name. Seconds, tally and time profile of every result are those of all together.

    Raises
    ------
    UsageError
        The models do not begin alike, or the settings do not let them share (`can_share`).
    """
    begin = time.perf_counter()
    names, courses = list(models), list(models.values())
    if not can_share(courses, step_control=settings.step_control):
        raise UsageError(
            f"the models {', '.join(names)} cannot share their steps: they begin with different experts, or "
            "their images share step sizes",
            hint="score them one by one",
        )
    data = as_data(data, None, labels, courses[0])
    items = Items(data.ids.astype(np.uint64), settings.n_draws, settings.seed, data.labels)
    starts = Dequantisation(
        settings.dequantise,
        data.images,
        levels=data.levels,
        gamma_min=courses[0].gamma_range[0],
        items=items,
        importance=settings.importance,
    )
    scoring = Scoring(courses, settings, items, starts, data.images.shape[1:], examples(data))
    records = scoring.run(
        clusters=data.clusters,
        batch_coupled=batch_coupled,
        on_record=None if on_record is None else lambda course, record: on_record(names[course], record),
        progress=progress,
        wanted=None
        if wanted is None
        else [np.flatnonzero(np.isin(data.ids, wanted[name])) for name in names],
    )
    seconds = time.perf_counter() - begin
    return {
        name: Likelihood(
            own,
            scoring.dim,
            importance=settings.importance,
            dequantise=settings.dequantise,
            allow_failed=allow_failed,
            seconds=seconds,
            seconds_outside_network=seconds - scoring.network_seconds,
            tally=scoring.tally,
            time_profile=scoring.time_profile(seconds),
        )
        for name, own in zip(names, records, strict=True)
    }


def _is_same(one: Leg, two: Leg) -> bool:
    """Whether two legs have the same expert; a model may have set it into a frame of its own."""
    experts = [leg.expert.expert if isinstance(leg.expert, Centred) else leg.expert for leg in (one, two)]
    return experts[0] is experts[1] and type(one.expert) is type(two.expert)
