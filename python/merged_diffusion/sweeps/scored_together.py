"""Rows of a sweep scored: those of an exact likelihood that begin alike together, the others one by one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from merged_diffusion.errors import IncompleteError, ResourceError, RunError, StorageError
from merged_diffusion.jobs.evaluate import Evaluation
from merged_diffusion.jobs.metrics import LIKELIHOOD
from merged_diffusion.jobs.plan import Plan
from merged_diffusion.likelihood import can_share, log_likelihoods
from merged_diffusion.scores.record import Record
from merged_diffusion.sweeps.rows import Row
from merged_diffusion.sweeps.spent import Cost
from merged_diffusion.sweeps.sweep_plan import Failed, spoiling_one_row

Observer = Callable[[str, Record], None]


@dataclass(frozen=True)
class Scored:
    """A row and its evaluation, open."""

    row: Row[Plan]
    evaluation: Evaluation


def score(rows: Sequence[Scored], observe: Observer | None, cost: Cost, failed: Failed) -> None:
    """Score what the rows have left; a row whose expert fails is told, and stops no other.

    Raises
    ------
    StorageError, RunError, ResourceError, IncompleteError
        What would end every row alike.
    """
    together = fan(rows)
    if together:
        try:
            _score_together(together, observe, cost)
        except (StorageError, RunError, ResourceError, IncompleteError):
            raise
        except Exception:  # noqa: BLE001  an expert may raise anything; whose row it spoils shows one by one
            together = []
        else:
            for scored in together:
                scored.evaluation.time_profile = None  # that of all is the sweep's
                scored.evaluation.conclude()
    names = {scored.row.name for scored in together}
    for scored in rows:
        if scored.row.name not in names:
            _score_alone(scored, observe, cost, failed)


def fan(rows: Sequence[Scored]) -> list[Scored]:
    """The rows that begin with the likelihood expert, if there are several that can share its steps."""
    if any(scored.row.plan.metric is not LIKELIHOOD for scored in rows):
        return []
    found = [scored for scored in rows if scored.row.model.legs(toward="noise")[0].role == "likelihood"]
    if len(found) < 2:
        return []
    settings = found[0].row.plan.settings
    models = [scored.row.model for scored in found]
    return found if can_share(models, settings.solver) else []


def _score_together(rows: Sequence[Scored], observe: Observer | None, cost: Cost) -> None:
    by_name = {scored.row.name: scored for scored in rows}
    todo = {name: scored.evaluation.todo(scored.row.plan.main) for name, scored in by_name.items()}
    wanted = {
        name: np.empty(0, dtype=np.int64) if images is None else images.ids for name, images in todo.items()
    }
    plan = rows[0].row.plan
    is_wanted = np.isin(plan.data.ids, np.concatenate(list(wanted.values())))
    if not is_wanted.any():
        return
    images = plan.data.where(is_wanted)
    counts = dict.fromkeys(by_name, 0)

    def keep(name: str, record: Record) -> None:
        scored = by_name[name]
        scored.evaluation.keep(scored.row.plan.main, record)
        counts[name] += record.total_evaluations
        if observe is not None:
            observe(name, record)

    results = log_likelihoods(
        {name: scored.row.model for name, scored in by_name.items()},
        images,
        plan.settings.options(),
        labels=plan.labels(images),
        wanted=wanted,
        on_record=keep,
    )
    result = results[rows[0].row.name]
    single_runs = sum(counts.values())
    cost.add(result.tally["evaluations"], single_runs, result.time_profile)
    for name, scored in by_name.items():  # the time of all, in proportion to what each would have taken
        share = counts[name] / single_runs
        scored.evaluation.seconds += share * result.seconds
        scored.evaluation.seconds_outside_network += share * result.seconds_outside_network


def _score_alone(scored: Scored, observe: Observer | None, cost: Cost, failed: Failed) -> None:
    spent = 0

    def note(_: str, record: Record) -> None:
        nonlocal spent
        spent += record.total_evaluations
        if observe is not None:
            observe(scored.row.name, record)

    with spoiling_one_row(scored.row.name, failed):
        scored.evaluation.run(note)
    cost.add(spent, spent, scored.evaluation.time_profile)
