"""`log_likelihood` and `log_density`: images or points in, one solve of all their draws, records out.

Models that begin alike are solved together by `log_likelihoods`. The solver takes the steps of the first
expert once and branches off for each threshold at the last node from which its own run would do so, too. A
record is to the last bit that of the model alone, evaluations included; the tally says what was really spent.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from merged_diffusion.data.images import Data
from merged_diffusion.errors import UsageError
from merged_diffusion.experts.accept import Accept
from merged_diffusion.experts.base import Expert
from merged_diffusion.experts.centred import Centred
from merged_diffusion.likelihood.above_uniform import warn_above_uniform
from merged_diffusion.likelihood.dequantisation import Dequantisation, Points
from merged_diffusion.likelihood.likelihood_options import DEQUANTISE, DequantisationKind, Options
from merged_diffusion.likelihood.likelihoods import Likelihood
from merged_diffusion.likelihood.quadrature_check import warn_rough
from merged_diffusion.likelihood.scoring import Scoring
from merged_diffusion.merge import Leg, MergedModel, as_model
from merged_diffusion.ode.items import Items
from merged_diffusion.ode.machine import Machine
from merged_diffusion.ode.methods import Adams, Probes, Solver
from merged_diffusion.scores.defaults import IMPORTANCE, REPEATS, SEED
from merged_diffusion.scores.inputs import Images, as_data, as_labels, as_points, examples
from merged_diffusion.scores.prepared import prepared
from merged_diffusion.scores.record import Record
from merged_diffusion.scores.usual_rows import scoring_rows


def log_likelihood(
    model: Expert | MergedModel,
    images: Images,
    ids: npt.ArrayLike | None = None,
    *,
    seed: int = SEED,
    dequantise: DequantisationKind = DEQUANTISE,
    importance: int = IMPORTANCE,
    repeats: int = REPEATS,
    solver: Solver = Adams(),
    probes: Probes = Probes(),
    machine: Machine = Machine(),
    accept: Accept = Accept(),
    labels: npt.ArrayLike | None = None,
    on_record: Callable[[Record], object] | None = None,
    progress: bool = False,
) -> Likelihood:
    """Likelihood of images in bits/dim; two calls with the same ids and seed use the same noise and probes.

    Parameters
    ----------
    images, ids
        uint8 [N, C, H, W], or a `Dataset` or `DataLoader` of such images; and what names each image's random
        numbers (default: its own in `Data`, else its position).
    dequantise, importance, repeats
        ``truncated-normal``, ``uniform``, ``decoder`` or ``none``; K draws in the importance bound; how many
        independent ones of it are averaged.
    solver
        `Adams`, one evaluation a step, or `Dopri5`, the paper's.
    probes
        How the trace is measured: by one random probe unless `Probes` says otherwise.
    machine
        Device, dtype, rows of a call, threads.
    accept
        What of an expert is let pass that is refused otherwise.
    labels
        int64 [N], or ``from-data`` for those of the data; for conditional experts.
    on_record
        Called with each image's record, in order of finishing. Its exceptions come out unchanged.

    Raises
    ------
    UsageError, DataError, ExpertError
        An argument, the images or an expert is not sound; nothing has been computed then.
    ResourceError
        The memory does not suffice for one row.

    Warns
    -----
    ExpertWarning
        An expert does not denoise the images as it is declared, or is too rough for its gradient to be
        checked.

    Examples
    --------
    >>> import merged_diffusion as md
    >>> model, images = md.load_pair("digits"), md.load_data("digits").select(limit=16)
    >>> found = md.log_likelihood(model, images)
    >>> round(found.mean, 1)  # bits/dim
    1.8
    >>> paper = md.log_likelihood(model, images[:2], solver=md.Dopri5(shared=True), probes=md.Probes(4))
    >>> bool(abs(paper.mean - found[:2].mean) < 0.3)
    True
    """
    model = as_model(model)
    options = Options(
        seed=seed,
        dequantise=dequantise,
        importance=importance,
        repeats=repeats,
        solver=solver,
        probes=probes,
        machine=machine,
        accept=accept,
    )
    found = log_likelihoods(
        {"model": model},
        data := as_data(images, ids, model),
        options,
        labels=as_labels(labels, len(data), model, data.labels),
        on_record=None if on_record is None else lambda _, record: on_record(record),
        progress=progress,
    )["model"]
    warn_above_uniform(found, model.levels)
    return replace(found, beside=data.columns)


def log_likelihoods(
    models: Mapping[str, MergedModel],
    data: Data,
    options: Options,
    *,
    labels: npt.NDArray[np.int64] | None = None,
    wanted: Mapping[str, npt.NDArray[np.int64]] | None = None,
    on_record: Callable[[str, Record], object] | None = None,
    progress: bool = False,
) -> dict[str, Likelihood]:
    """`log_likelihood` of the images under each model, by name.

    ``wanted`` holds the ids that each model scores (default: all); ``on_record`` is called with the model's
    name. Seconds, tally and time profile of every result are those of all together.

    Raises
    ------
    UsageError
        The models do not begin alike, or their images share step sizes (`can_share`).
    """
    begin = time.perf_counter()
    names, courses = list(models), list(models.values())
    if len(courses) > 1 and not can_share(courses, options.solver):
        raise UsageError(
            f"the models {', '.join(names)} cannot share their steps: they begin with different experts, or "
            "their images share step sizes",
            hint="score them one by one",
        )
    for model in courses:
        if model.gate is not None:
            model.gate.check_unseen(data.images)
    place = options.warned().machine.here(partial(scoring_rows, len(data), shared=options.solver.shared))
    items = Items(data.ids.astype(np.uint64), options.n_draws, options.seed, labels, options.importance)
    starts = Dequantisation(
        options.dequantise,
        data.images,
        levels=data.levels,
        gamma_min=courses[0].gamma_range[0],
        items=items,
        importance=options.importance,
    )
    scoring = Scoring(courses, options, place, items, starts, data.images.shape[1:])
    with prepared(
        scoring.asked(),
        place,
        data.images.shape[1:],
        labels=labels,
        examples=examples(data),
        accept=options.accept,
    ):
        records = scoring.run(
            clusters=data.clusters,
            on_record=None if on_record is None else lambda course, record: on_record(names[course], record),
            progress=progress,
            wanted=None
            if wanted is None
            else [np.flatnonzero(np.isin(data.ids, wanted[name])) for name in names],
        )
    seconds = time.perf_counter() - begin
    return {
        name: _told(scoring, own, options, seconds, model)
        for name, own, model in zip(names, records, courses, strict=True)
    }


def can_share(models: Sequence[MergedModel], solver: Solver) -> bool:
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
    return begin_alike and not solver.shared


def log_density(
    model: Expert | MergedModel,
    x: npt.NDArray[np.floating[Any]] | Tensor,
    ids: npt.ArrayLike | None = None,
    *,
    seed: int = SEED,
    solver: Solver = Adams(),
    probes: Probes = Probes(),
    machine: Machine = Machine(),
    accept: Accept = Accept(),
    labels: npt.ArrayLike | None = None,
) -> npt.NDArray[np.float64]:
    """Log density in nats [N], at gamma_min, of z = alpha x for points x [N, C, H, W].

    For continuous data: no grey levels, so no bits/dim. The other arguments are those of `log_likelihood`.

    Parameters
    ----------
    x
        In the coordinates of the experts' own ``pixels`` (of ``ends``, the default of `CallableExpert.ddpm`
        and its like: x = 2v/(L - 1) - 1), as the network was trained on; the density is per unit of these,
        and the gammas are the experts' own. Where the experts of a merged model declare both kinds of pixels,
        x is ``centred``, 2(v + 1/2)/L - 1, for all of them: y of ``ends`` pixels is x = (L - 1) y/L.

    Raises
    ------
    SolveError
        A point's integration failed.

    Examples
    --------
    >>> import merged_diffusion as md
    >>> import numpy as np
    >>> exact = md.GaussianExpert((1, 4, 4), variance=0.25)
    >>> md.log_density(exact, np.zeros((1, 1, 4, 4)), probes=md.Probes(kind="exact")).round(1).tolist()
    [-3.6]
    """
    options = Options(
        seed=seed, dequantise="none", solver=solver, probes=probes, machine=machine, accept=accept
    )
    return score_points(as_model(model), x, options, ids, labels).check().log_density_nats


def score_points(
    model: MergedModel,
    x: npt.NDArray[np.floating[Any]] | Tensor,
    options: Options,
    ids: npt.ArrayLike | None = None,
    labels: npt.ArrayLike | None = None,
) -> Likelihood:
    """`log_density` with records and costs, and points that failed among them."""
    begin = time.perf_counter()
    model = model.in_own_pixels()
    points, names, classes = as_points(x, ids, labels, model)
    place = options.warned().machine.here(partial(scoring_rows, len(points), shared=options.solver.shared))
    items = Items(names, 1, options.seed, classes)
    starts = Points(points, gamma_min=model.gamma_range[0], items=items)
    scoring = Scoring([model], options, place, items, starts, points.shape[1:])
    with prepared(scoring.asked(), place, points.shape[1:], labels=classes, accept=options.accept):
        (records,) = scoring.run()
    return _told(scoring, records, options, time.perf_counter() - begin, model)


def _told(
    scoring: Scoring, records: tuple[Record, ...], options: Options, seconds: float, model: MergedModel
) -> Likelihood:
    found = Likelihood(
        records,
        scoring.dim,
        importance=options.importance,
        dequantise=options.dequantise,
        guided=model.guided,
        seconds=seconds,
        seconds_outside_network=seconds - scoring.network_seconds,
        tally=scoring.tally,
        time_profile=scoring.time_profile(seconds),
    )
    warn_rough(found)
    return found


def _is_same(one: Leg, two: Leg) -> bool:
    """Whether two legs have the same expert; a model may have set it into a frame of its own."""
    first, second = (e.expert if isinstance(e, Centred) else e for e in (one.expert, two.expert))
    return first is second and type(one.expert) is type(two.expert)
