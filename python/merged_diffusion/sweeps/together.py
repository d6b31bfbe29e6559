"""Images under rows of a sweep that begin alike: what they have in common is computed once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import cast

import numpy as np
import numpy.typing as npt

from merged_diffusion.errors import IncompleteError, ResourceError, RunError, StorageError
from merged_diffusion.jobs.blocks import Mask, Work
from merged_diffusion.jobs.crew import Key, Spent, Tell
from merged_diffusion.jobs.evaluation import Evaluation
from merged_diffusion.jobs.metrics import LIKELIHOOD
from merged_diffusion.jobs.plan import Plan
from merged_diffusion.likelihood import can_share, log_likelihoods
from merged_diffusion.runs.environment import Versions
from merged_diffusion.scores.record import Record
from merged_diffusion.sweeps.sweep_plan import Cost

Observer = Callable[[str, Record], None]
Rows = Mapping[str, Evaluation]  # by name
Wanted = Mapping[str, npt.NDArray[np.int64]]
"""The ids of each row."""


def score_rows(plans: Mapping[str, Plan], wanted: Wanted, keep: Callable[[str, Record], object]) -> Spent:
    """Score images under the plans of rows that begin alike; ``keep`` is told the row of each record."""
    plan = plans[next(iter(wanted))]
    images = plan.data.where(np.isin(plan.data.ids, np.concatenate(list(wanted.values()))))
    found = log_likelihoods(
        {name: plans[name].model for name in wanted},
        images,
        plan.settings.options(),
        wanted=wanted,
        labels=plan.labels(images),
        on_record=keep,
    )[next(iter(wanted))]
    return Spent(found.seconds, found.seconds_outside_network, found.tally["evaluations"], found.time_profile)


@dataclass(frozen=True)
class TogetherTask:
    """Score the ``wanted`` images of rows that begin alike."""

    wanted: Wanted

    def run(self, plans: Mapping[str, object], tell: Tell) -> Spent:
        """Tell each record, with its row."""
        rows = cast(Mapping[str, Plan], plans)

        def keep(row: str, record: Record) -> None:
            tell((row, rows[row].main), [record.id], record)

        return score_rows(rows, self.wanted, keep)


def alike(rows: Rows) -> Rows:
    """The rows that begin with the likelihood expert, if there are several that can share its steps."""
    plans = {name: each.plan for name, each in rows.items() if each.plan.model.gate is None}
    if any(plan.metric is not LIKELIHOOD for plan in plans.values()):
        return {}
    found = [name for name, plan in plans.items() if plan.model.legs(toward="noise")[0].role == "likelihood"]
    if len(found) < 2:
        return {}
    shared = can_share([plans[name].model for name in found], plans[found[0]].settings.options().solver)
    return {name: rows[name] for name in found} if shared else {}


def score_alike(
    rows: Rows,
    taken: Callable[[Work], Iterable[Mask]],
    observe: Observer | None,
    cost: Cost,
    *,
    concludes: bool,
) -> bool:
    """Score images under rows that can share steps; False where an expert fails."""
    try:
        for mask in taken(_work_together(rows)):
            _score_together(rows, mask, observe, cost)
    except (StorageError, RunError, ResourceError, IncompleteError):
        raise
    except Exception:  # noqa: BLE001  an expert may raise anything; whose row it spoils shows one by one
        return False
    for evaluation in rows.values() if concludes else ():
        evaluation.time_profile = None  # that of all is the sweep's
        evaluation.conclude()
    return True


def _work_together(rows: Rows) -> Work:
    """All images under all of the rows; one is done when it is under each."""
    works = [evaluation.work(evaluation.plan.main) for evaluation in rows.values()]
    return replace(works[0], name="together", done=lambda: np.all([work.done() for work in works], axis=0))


def _score_together(rows: Rows, mask: Mask, observe: Observer | None, cost: Cost) -> None:
    todo = {name: evaluation.todo(evaluation.plan.main, mask) for name, evaluation in rows.items()}
    nothing = np.empty(0, dtype=np.int64)
    wanted = {name: nothing if images is None else images.ids for name, images in todo.items()}
    if all(images is None for images in todo.values()):
        return
    counts = dict.fromkeys(rows, 0)

    def keep(name: str, record: Record, versions: Versions | None = None) -> None:
        rows[name].keep(rows[name].plan.main, record, versions)
        counts[name] += record.total_evaluations
        if observe is not None:
            observe(name, record)

    def kept(key: Key, record: Record, versions: Versions | None) -> None:
        keep(key[0], record, versions)

    def ended(spent: Spent) -> None:
        single_runs = sum(counts.values())
        cost.add(spent.evaluations, single_runs, spent.time_profile)
        for name, evaluation in rows.items():  # the time of all, in proportion to what each would have taken
            share = counts[name] / single_runs if single_runs else 0.0
            evaluation.seconds += share * spent.seconds
            evaluation.seconds_outside_network += share * spent.seconds_outside_network

    crew = next(iter(rows.values())).blocks.crew
    if crew is None:
        ended(score_rows({name: evaluation.plan for name, evaluation in rows.items()}, wanted, keep))
    else:
        crew.begin(TogetherTask(wanted), kept, ended)
