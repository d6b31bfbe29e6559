"""``evaluate("photos", out="results/photos")`` is what ``merged-diffusion nll`` does, as one call.

With ``metric="vlb"`` it is ``vlb``. It goes on where an earlier command in the same directory stopped; its
summary is over all records of the run.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from merged_diffusion.catalogue.entries import known
from merged_diffusion.data.images import Data
from merged_diffusion.errors import (
    UsageError,
)
from merged_diffusion.experts.accept import Accept
from merged_diffusion.experts.base import Expert
from merged_diffusion.experts.checks import checked_once
from merged_diffusion.jobs.blocks import FixedShare
from merged_diffusion.jobs.evaluation import Evaluation, Observer
from merged_diffusion.jobs.gamma_scans import with_scans
from merged_diffusion.jobs.metrics import LIKELIHOOD, Metric, chosen_metric
from merged_diffusion.jobs.path_pilot import with_path_evidence
from merged_diffusion.jobs.pilot import tried
from merged_diffusion.jobs.plan import Given, place
from merged_diffusion.jobs.precision_pilot import with_precision_cost
from merged_diffusion.jobs.quadrature_pilot import with_quadrature
from merged_diffusion.jobs.settings import CHOICES, Settings, beside
from merged_diffusion.jobs.summary import Summary
from merged_diffusion.merge import MergedModel, as_model
from merged_diffusion.ode.machine import Machine
from merged_diffusion.ode.methods import Probes, Solver
from merged_diffusion.runs.settings_file import read_settings


def evaluate(
    data: str | Path | Data | Settings,
    model: str | Expert | MergedModel | None = None,
    *,
    eta: float | str | None = None,
    limit: int | None = None,
    labels: int | str | None = None,
    seed: int | None = None,
    solver: Solver | None = None,
    probes: Probes | None = None,
    machine: Machine | None = None,
    accept: Accept | None = None,
    metric: Metric | str = LIKELIHOOD,
    out: str | Path | None = None,
    shard: tuple[int, int] = (0, 1),
    observe: Observer | None = None,
) -> Summary:
    """Score images under a model, kept in a run where ``out`` names one: what ``nll`` and ``vlb`` do.

    Parameters
    ----------
    data
        The name of a set, a path, or a `Data`. Or `Settings`, which say everything that the command line can
        say; nothing but metric, place, share and observer may stand beside them.
    model
        The name of a pair or of one expert, or an expert or a merged model; by default the pair of the data.
    eta
        The threshold of a named pair: a number in [0, 1], ``min`` or ``max``; by default that of its card.
    limit
        A random choice of so many images; a larger one continues.
    labels
        For conditional experts: a class, or ``from-data``.
    seed, solver, probes, machine, accept
        By default as in `log_likelihood`; what a machine leaves open is as the run at ``out`` has it, else as
        suits it.
    metric
        ``nll`` or ``vlb``, or a `VariationalBound` with its options.
    out
        A directory: an earlier command in it is gone on with, and the summary is over all its records. What
        was given as an object begins a new one, for nothing tells it from another in a later process.
    shard
        Worker I of N.
    observe
        Called with the model's name and each record.

    Raises
    ------
    UsageError, DataError, ExpertError
        Something is not sound; nothing has been computed then.
    RunMismatchError
        The run at ``out`` is of other settings.

    Examples
    --------
    >>> import merged_diffusion as md
    >>> summary = md.evaluate("digits", limit=4, out="results/digits")
    >>> summary.means.n
    4
    >>> md.evaluate("digits", limit=8, out="results/digits").means.n  # goes on: 4 more are scored
    8
    """
    metric = chosen_metric(metric)
    options = {
        "limit": limit,
        "labels": labels,
        "seed": seed,
        "solver": solver,
        "probes": probes,
        "machine": machine,
        "accept": accept,
    }
    beside(data, {"model": model, "eta": eta})
    stated = beside(data, options)
    given: Given = (None, None)
    if isinstance(data, Settings):
        settings = data
    else:
        settings, given = _asked(data, model, eta, stated)
    if metric != LIKELIHOOD and {"solver", "probes"} & set(stated):
        raise UsageError("a bound has no solver and no probes", hint="leave them out, or use metric nll")
    where = None if out is None else Path(out)
    if where is not None and given != (None, None) and read_settings(where) is not None:
        raise UsageError(
            f"{where}: holds a run, and nothing says that it was begun with the very objects given here",
            hint="use a new directory, or name data and model so that a run can know them again",
        )
    plan, path = place(settings, where, metric, given, torch.get_num_threads())
    with checked_once():
        plan.check_experts()
        plan = tried(plan, path)
        known = plan.known(path)
        plan = with_precision_cost(plan, path, plan.n_left((0, 1), known))
        plan = with_quadrature(plan, path, plan.n_left(shard, known))
        plan = with_scans(plan, path, plan.n_left(shard, known))
        plan = with_path_evidence(plan, path, plan.n_left((0, 1), known))
        with Evaluation(plan, out=path, blocks=FixedShare(shard), known=known) as evaluation:
            evaluation.run(observe)
            return evaluation.summary()


def _asked(
    data: str | Path | Data,
    model: str | Expert | MergedModel | None,
    eta: float | str | None,
    stated: Mapping[str, object],
) -> tuple[Settings, Given]:
    """Settings of what is named, and what was given as an object."""
    if not isinstance(data, str | Path | Data):
        raise UsageError(
            f"data = {type(data).__name__} is no name, path, Data or Settings",
            hint="make_data(name, split, images, levels) makes a Data of uint8 images [N, C, H, W]",
        )
    named = model if isinstance(model, str) else None
    is_pair = named in known()["pair"]
    built = None if model is None or isinstance(model, str) else as_model(model)
    if built is not None and eta is not None:
        raise UsageError(f"eta = {eta}, but a model has its threshold", hint="load_pair(name, eta=...)")
    own: dict[str, Any] = dict(stated)
    if built is not None:
        own |= {"convention": built.convention, "extrapolate": built.extrapolated}
    settings = Settings(
        data=data.name if isinstance(data, Data) else str(data),
        split=data.split if isinstance(data, Data) and data.split in CHOICES["split"] else "test",
        pair=named if is_pair else None,
        expert=None if is_pair else named,
        eta=eta,
        **own,
    )
    return settings, (data if isinstance(data, Data) else None, built)
