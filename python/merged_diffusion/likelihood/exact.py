"""`log_likelihood` and `log_density`: images or points in, one solve of all their draws, records out."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from math import log2
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from merged_diffusion.data.images import Data
from merged_diffusion.errors import ExpertRangeError, ExpertWarning
from merged_diffusion.experts.base import Expert
from merged_diffusion.likelihood.dequantisation import Dequantisation, DequantisationKind, Points
from merged_diffusion.likelihood.likelihoods import Likelihood
from merged_diffusion.likelihood.scoring import Scoring
from merged_diffusion.likelihood.solver_settings import Settings
from merged_diffusion.merge import MergedModel, as_model
from merged_diffusion.methods import Method, ProbeKind, StepControl
from merged_diffusion.ode.items import Items
from merged_diffusion.ode.solve import WorkspaceKind
from merged_diffusion.scores.inputs import as_data, as_points, examples
from merged_diffusion.scores.record import Record


def log_likelihood(
    model: Expert | MergedModel,
    images: Data | npt.NDArray[np.uint8] | Tensor,
    ids: npt.ArrayLike | None = None,
    *,
    seed: int = 0,
    dequantise: DequantisationKind = "truncated-normal",
    importance: int = 1,
    repeats: int = 1,
    method: Method | None = None,
    step_control: StepControl | None = None,
    rtol: float | None = None,
    atol: float | None = None,
    tol: float | None = None,
    h_max: float | None = None,
    probe: ProbeKind | None = None,
    probes: int = 1,
    batch_size: int | None = None,
    device: str = "cpu",
    dtype: str = "float32",
    extrapolate: bool | None = None,
    batch_coupled: bool = False,
    accept_gradient: str | None = None,
    labels: npt.ArrayLike | None = None,
    allow_failed: bool = False,
    on_record: Callable[[Record], object] | None = None,
    progress: bool = False,
    workspace: WorkspaceKind | None = None,
    profile_time: bool = False,
) -> Likelihood:
    """Likelihood of images in bits/dim; two calls with the same ids and seed use the same noise and probes.

    Parameters
    ----------
    images, ids
        uint8 [N, C, H, W], and what names each image's random numbers (default: its own in `Data`, else its
        position).
    dequantise, importance, repeats
        ``truncated-normal``, ``uniform``, ``decoder`` or ``none``; K draws in the importance bound; how many
        independent ones of it are averaged.
    method
        ``dopri5``, Dormand-Prince 5(4) with tolerances ``rtol`` and ``atol`` (1e-5); or ``adams``, one
        evaluation a step with an error of at most ``tol`` (0.003) in units of the noise and steps of at most
        ``h_max`` (0.7) in gamma. By default the one that the other arguments belong to, else adams.
    step_control
        ``per-image``; or ``shared``: blocks of ``batch_size`` images are one ODE, as in the paper.
    probe, probes
        ``fixed`` (Rademacher, dopri5's default), ``fresh`` (another at every node, adams' default),
        ``gaussian`` or ``exact``; how many are averaged.
    batch_size
        Rows of every network call. Halved, for good, where the device's memory does not suffice.
    device, dtype
        Where and in what networks run: ``auto`` (cuda if usable, else cpu), ``cpu``, ``cuda``, ``mps``.
        Experts that are torch modules are moved there, and back at the end. States are float64.
    extrapolate
        False refuses a model whose legs leave the range of an expert; by default as the model was built.
    labels
        int64 [N], for conditional experts.
    accept_gradient
        The name of an expert whose gradient is warned of, not refused, where it is not the derivative of what
        the expert returns.
    allow_failed
        Whether the mean is over the images that did not fail.
    on_record
        Called with each image's record, in order of finishing. Its exceptions come out unchanged.
    workspace
        ``host`` or ``torch``; by default what suits the device.
    profile_time
        Whether the result's ``time_profile`` says where the time went. No number depends on it.

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
    """
    begin = time.perf_counter()
    settings = Settings(
        seed=seed,
        dequantise=dequantise,
        importance=importance,
        repeats=repeats,
        method=method,
        step_control=step_control,
        rtol=rtol,
        atol=atol,
        tol=tol,
        h_max=h_max,
        probe=probe,
        probes=probes,
        batch_size=batch_size,
        device=device,
        dtype=dtype,
        workspace=workspace,
        accept_gradient=accept_gradient,
        profile_time=profile_time,
    )
    model = as_model(model)
    _check_range(model, extrapolate)
    data = as_data(images, ids, labels, model)
    items = Items(data.ids.astype(np.uint64), settings.n_draws, seed, data.labels)
    starts = Dequantisation(
        settings.dequantise,
        data.images,
        levels=data.levels,
        gamma_min=model.gamma_range[0],
        items=items,
        importance=importance,
    )
    scoring = Scoring([model], settings, items, starts, data.images.shape[1:], examples(data))
    (records,) = scoring.run(
        clusters=data.clusters,
        batch_coupled=batch_coupled,
        on_record=None if on_record is None else lambda _, record: on_record(record),
        progress=progress,
    )
    seconds = time.perf_counter() - begin
    found = Likelihood(
        records,
        scoring.dim,
        importance=importance,
        dequantise=dequantise,
        allow_failed=allow_failed,
        seconds=seconds,
        seconds_outside_network=seconds - scoring.network_seconds,
        tally=scoring.tally,
        time_profile=scoring.time_profile(seconds),
    )
    _warn_above_uniform(found, data.levels)
    return found


def log_density(
    model: Expert | MergedModel,
    x: npt.NDArray[np.floating[Any]] | Tensor,
    ids: npt.ArrayLike | None = None,
    *,
    seed: int = 0,
    method: Method | None = None,
    step_control: StepControl | None = None,
    rtol: float | None = None,
    atol: float | None = None,
    tol: float | None = None,
    h_max: float | None = None,
    probe: ProbeKind | None = None,
    probes: int = 1,
    batch_size: int | None = None,
    device: str = "cpu",
    dtype: str = "float32",
    labels: npt.ArrayLike | None = None,
    batch_coupled: bool = False,
    accept_gradient: str | None = None,
    workspace: WorkspaceKind | None = None,
) -> npt.NDArray[np.float64]:
    """Log density in nats [N], at gamma_min, of z = alpha x for points x [N, C, H, W] of the model's space.

    For continuous data: no grey levels, so no bits/dim. Arguments as of `log_likelihood`.

    Raises
    ------
    SolveError
        A point's integration failed.
    """
    settings = Settings(
        seed=seed,
        dequantise="none",
        method=method,
        step_control=step_control,
        rtol=rtol,
        atol=atol,
        tol=tol,
        h_max=h_max,
        probe=probe,
        probes=probes,
        batch_size=batch_size,
        device=device,
        dtype=dtype,
        workspace=workspace,
        accept_gradient=accept_gradient,
    )
    model = as_model(model)
    points, names, classes = as_points(x, ids, labels, model)
    items = Items(names, 1, seed, classes)
    starts = Points(points, gamma_min=model.gamma_range[0], items=items)
    scoring = Scoring([model], settings, items, starts, points.shape[1:])
    (records,) = scoring.run(batch_coupled=batch_coupled)
    return Likelihood(records, scoring.dim, dequantise="none").check().log_density_nats


def _warn_above_uniform(found: Likelihood, levels: int) -> None:
    scored = [] if found.is_density else found.scored
    if not scored:
        return
    mean = sum(record.bits_per_dim or 0.0 for record in scored) / len(scored)
    if mean > log2(levels):
        warnings.warn(
            f"{mean:.4g} bits/dim are more than the {log2(levels):.4g} of guessing every grey level alike: "
            "is every expert what it is declared to be?",
            ExpertWarning,
            stacklevel=3,
        )


def _check_range(model: MergedModel, extrapolate: bool | None) -> None:
    if extrapolate is False and model.extrapolated:
        leg = next(leg for leg in model.legs() if leg.extrapolated)
        raise ExpertRangeError(
            f"expert {leg.expert.name} would be asked over gamma {leg.start:.4g} to {leg.end:.4g}, outside "
            f"{leg.expert.gamma_range}, where it was trained",
            hint="extrapolate = True allows it, and every record says so",
            expert=leg.expert.name,
        )
