"""A sweep carried out: ``sweep(settings, out="results/sweep")`` is what ``merged-diffusion sweep`` does."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Self, cast

from merged_diffusion.errors import MergedDiffusionError, UsageError
from merged_diffusion.experts.accept import Accept
from merged_diffusion.jobs.blocks import ALONE, Blocks
from merged_diffusion.jobs.settings import PRESETS, THRESHOLDS, Settings, beside
from merged_diffusion.ode.machine import Machine
from merged_diffusion.ode.methods import Probes, Solver
from merged_diffusion.samplers import DpmV3, Name, Sampler, Sampling, as_sampler
from merged_diffusion.sweeps import sweep_folder
from merged_diffusion.sweeps.checked_rows import checked
from merged_diffusion.sweeps.comparison import compare
from merged_diffusion.sweeps.drawn import DrawnRows, DrawPlan, plan_drawn
from merged_diffusion.sweeps.priced_rows import priced
from merged_diffusion.sweeps.request import Metric, Request, stated
from merged_diffusion.sweeps.scored import ScoredRows, ScorePlan, plan_scored
from merged_diffusion.sweeps.sweep_plan import Cost
from merged_diffusion.sweeps.sweep_row import RowError, SweepRow
from merged_diffusion.sweeps.table import Best, Evaluations, SweepTable
from merged_diffusion.sweeps.thresholds import Eta
from merged_diffusion.sweeps.thresholds import checked as checked_etas

Observer = Callable[[str, Any], None]


class Sweep:
    """A plan being carried out: its `rows`, open, and their `result` at any time, also after an interrupt."""

    def __init__(
        self,
        plan: ScorePlan | DrawPlan,
        *,
        out: Path | None = None,
        blocks: Blocks = ALONE,
        allow_rebatch: bool = False,
        strict_env: bool = False,
    ) -> None:
        self.plan = plan
        self.blocks = blocks
        self.out = out
        self.cost = Cost()
        self.seconds = 0.0
        self._others = Evaluations()  # what earlier commands and other workers spent, as last read
        self._written = Evaluations()  # what sweep.json holds of this process
        self._errors: dict[str, RowError] = {}
        held, made = None, None
        if out is not None:
            held, made = sweep_folder.begin(
                out, self._table((), None), allow_rebatch=allow_rebatch, is_shared=blocks.shard[1] > 1
            )
        if held is not None:
            self._others, self.seconds = held.evaluations, held.seconds
        try:
            plan = priced(plan, out)  # once the folder is known to be this sweep's
            self.plan = plan = checked(plan, out, blocks.shard)
            self.rows: ScoredRows | DrawnRows = (
                DrawnRows(plan, out, blocks)  # samples are of one machine
                if isinstance(plan, DrawPlan)
                else ScoredRows(plan, out, blocks=blocks, allow_rebatch=allow_rebatch, strict_env=strict_env)
            )
        except BaseException:
            if out is not None and made is not None:
                with suppress(MergedDiffusionError):
                    sweep_folder.take_back(out, made)
            raise

    def run(self, observe: Observer | None = None) -> None:
        """Compute what is not there yet; ``observe(row, record or samples)`` is called as they are made."""
        begin = time.monotonic()
        try:
            self.rows.run(observe, self.cost, self._failed)
        except BaseException:
            self.cost.time_profile = None  # where the time of what was cut short went is not known
            self.seconds += time.monotonic() - begin
            with suppress(MergedDiffusionError):  # what cut it short is told
                self.write()
            raise
        self.seconds += time.monotonic() - begin
        self.write()

    def count_again(self) -> None:
        """Write the table once more, when other workers have ended: what they left unmeasured is measured."""
        if isinstance(self.rows, DrawnRows):
            self.rows.measure_rest(self._failed, self._errors)
        self.write()

    def write(self) -> None:
        """Replace ``sweep.json``; what this process has spent since it last did is added to what it says."""
        if self.out is None:
            return
        own = self.cost.evaluations
        sweep_folder.write(self.out, self._with_others, is_shared=self.blocks.shard[1] > 1)
        self._written = own

    def _with_others(self) -> SweepTable:
        held = None if self.out is None else sweep_folder.read(self.out)
        if held is not None:
            self._others = _added(held.evaluations, self._written, -1)
        return self.result()

    def _failed(self, name: str, error: Exception) -> None:
        self._errors[name] = RowError.of(error)

    def result(self) -> SweepTable:
        """The table over what there is: the content of ``sweep.json``."""
        rows, difference = self.rows.table_rows(self._errors)
        return self._table(*compare(rows, [row.eta for row in self.plan.rows], difference))

    def _table(self, rows: Sequence[SweepRow], best: Best | None) -> SweepTable:
        found = replace(
            self.plan.table,
            rows=rows,
            evaluations=_added(self._others, self.cost.evaluations),
            best=best,
            seconds=self.seconds,
        )
        plan, profile = self.plan, self.cost.time_profile
        if profile is None or not isinstance(plan, ScorePlan) or not plan.settings.machine.profile_time:
            return found
        return replace(found, time_profile=profile.with_data(plan.base.data_seconds).as_dict())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self.rows.close()


def _added(one: Evaluations, two: Evaluations, times: int = 1) -> Evaluations:
    return Evaluations(one.spent + times * two.spent, one.single_runs + times * two.single_runs)


def place(
    settings: Settings, etas: Sequence[Eta] | None, out: Path | None, request: Request
) -> tuple[ScorePlan | DrawPlan, Path | None]:
    """The plan of a sweep, and where an existing one is (``out``, or the default place).

    Raises
    ------
    UsageError
        A threshold lies outside of what both experts allow.
    """
    if settings.mean_of is not None:
        raise UsageError(
            "--mean-of was given to a sweep, whose rows are compared: features do not help differences",
            hint="--limit N measures N images at every threshold",
        )
    if settings.probe_error is not None:
        raise UsageError(
            "--probes auto was given to a sweep, whose rows would each choose a number of their own",
            hint="say how many, --probes 4; nll --dry-run says how many auto takes",
        )
    if settings.path_check == "pilot":
        raise UsageError(
            "--path-check pilot was given to a sweep, whose rows would each need a pilot of their own",
            hint="leave it out; nll at one of the thresholds takes it",
        )
    given = [name for name in (*THRESHOLDS, "expert", "experts") if getattr(settings, name) is not None]
    if given:
        raise UsageError(
            f"{given[0]} was given, but a sweep is over thresholds of two experts",
            hint="give etas, likelihood_expert and quality_expert",
        )
    wanted = None if etas is None else checked_etas(etas)
    # One expert alone is a threshold that every pair has.
    request = replace(request, gate=settings.gate)
    settings = replace(settings, gate=None, eta=1.0, compare=True)
    plan = plan_drawn if request.metric == "sample" else plan_scored
    return plan(settings, wanted, out, request)


def sweep(
    data: str | Settings,
    etas: Sequence[Eta] | None = None,
    *,
    metric: Metric | Request = "nll",
    limit: int | None = None,
    seed: int | None = None,
    times: int | None = None,
    sampler: Sampler | Name | None = None,
    num: int | None = None,
    solver: Solver | None = None,
    probes: Probes | None = None,
    machine: Machine | None = None,
    accept: Accept | None = None,
    out: str | Path | None = None,
    observe: Observer | None = None,
) -> SweepTable:
    """Compute a metric of the pair at every threshold; by default the set's grid and both experts alone.

    Noise is the same for all rows, and each row is to the last bit what a call gives at that threshold:
    `evaluate` for ``nll`` and ``vlb``, `draw` for ``sample``.

    Parameters
    ----------
    data
        The name of a set, or a path; or `Settings` without a threshold, which then say all but the metric.
    metric
        ``nll``, exact likelihood, what rows have in common computed once; ``vlb``, the variational bound, at
        ``times`` noise levels; ``sample``, ``num`` images of each row by a ``sampler``, and their distance
        from the known set by its primary metric; of a path that is no known set, from its own images, which
        is noted. A `Request` says more: ``Request(metric="sample", num=500, ref="train")`` measures against
        other images.
    limit, seed, solver, probes, machine, accept
        As in `evaluate`; the solver of samples is that of their sampler, ``Ode(Adams(...))``.
    observe
        Called with a row's name and a record, or `Samples`, as they are made.

    Returns
    -------
    SweepTable
        Rows with their summaries, paired differences to the best, thresholds that cannot be told from it,
        evaluations spent and saved. Its ``as_dict()`` is the content of ``sweep.json`` (docs/formats.md).

    Examples
    --------
    >>> import merged_diffusion as md
    >>> table = md.sweep("digits", [0.1, 0.3], limit=4, out="results/sweep")
    >>> [row.name for row in table]
    ['eta 0.1000', 'eta 0.3000']
    >>> table.to_dict()["gamma"].round(2).tolist()
    [-6.21, -2.88]
    """
    options = {
        "limit": limit,
        "seed": seed,
        "solver": solver,
        "probes": probes,
        "machine": machine,
        "accept": accept,
    }
    said = beside(data, options)
    if isinstance(data, Settings):
        settings = data
    elif isinstance(data, str):
        settings = Settings(data=data, **cast(Any, said))
    else:
        raise UsageError(f"data = {type(data).__name__} is neither a name, a path nor Settings")
    request = _request(metric, settings, sampler, {"times": times, "num": num})
    has_solver = settings.solver not in (None, PRESETS["default"])
    if request.metric != "nll" and (has_solver or {"solver", "probes"} & set(said)):
        raise UsageError(
            f"solver and probes belong to metric nll, and the metric is {request.metric}",
            hint="the solver of samples is their sampler's: sampler = Ode(solver)",
        )
    plan, path = place(settings, etas, None if out is None else Path(out), request)
    plan.check_experts()
    with Sweep(plan, out=path) as running:
        running.run(observe)
        return running.result()


def _request(
    metric: Metric | Request,
    settings: Settings,
    sampler: Sampler | Name | None,
    counts: Mapping[str, int | None],
) -> Request:
    """What is computed of each row, once it agrees with the settings."""
    if isinstance(metric, Request):
        if any(value is not None for value in (sampler, *counts.values())):
            raise UsageError("a Request says all of its metric", hint="leave times, sampler and num out")
        Request.of(metric.metric, stated(settings))
        if metric.metric == "sample" and metric.how.seed != settings.seed:
            raise UsageError(
                f"seed = {settings.seed} of the settings, but {metric.how.seed} of the request",
                hint="Request(metric='sample', how=Sampling(sampler, seed)) has it",
            )
        return metric
    words: dict[str, object] = dict(counts)
    if sampler is not None:
        how = Sampling(as_sampler(sampler), settings.seed)
        known = {"statistics": how.sampler.known} if isinstance(how.sampler, DpmV3) else {}
        words["sampling"] = how.as_dict() | known  # themselves, where kept samples have their hash
    return Request.of(metric, stated(settings) | words)
