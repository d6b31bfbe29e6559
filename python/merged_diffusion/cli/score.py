"""What ``nll`` and ``vlb`` do once their options are read: plan, announce, score, tell."""

from __future__ import annotations

import os
import sys
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from merged_diffusion.cli import crews, options, output, workers
from merged_diffusion.cli.loading import loading
from merged_diffusion.errors import UsageError
from merged_diffusion.jobs.settings import Settings
from merged_diffusion.jobs.sources import check_present
from merged_diffusion.scores.defaults import TIMES, TUNED

if TYPE_CHECKING:
    from merged_diffusion.jobs.evaluation import Observer
    from merged_diffusion.jobs.metrics import Metric
    from merged_diffusion.scores.record import Record

ASK_SECONDS: Final = 86400.0


def command(given: options.Given, *, is_bound: bool = False) -> int:
    """Score images as the options ``given`` say, by exact likelihood or by the bound; the exit code."""
    settings = Settings.of(given)
    tuning = {name: given[name] for name in ("tune_data", "tune_limit") if given[name]}
    if tuning and settings.eta != "auto":
        option, value = next(iter(tuning.items()))
        option = f"--{option.replace('_', '-')}"
        raise UsageError(
            f"{option} {value} belongs to --eta auto, and eta is not auto",
            hint=f"--eta auto finds a threshold; leave {option} out otherwise",
        )
    if given["as_json"] and given["json_lines"]:
        raise UsageError("--json and --json-lines were both given", hint="use one of them")
    check_present(settings)
    worker = workers.worker_share(given["shard"], os.environ)
    out: Path | None = given["out"]
    worker.check_out(out, given["store"])
    crews.check(given, os.environ)
    quiet = given["quiet"] or not worker.speaks
    as_lines: bool = given["json_lines"]
    as_json = given["as_json"] or as_lines
    with loading():
        from merged_diffusion.cli import report
        from merged_diffusion.cli.json_lines import Lines
        from merged_diffusion.cli.progress import Progress
        from merged_diffusion.jobs.evaluation import Evaluation
        from merged_diffusion.jobs.gamma_scans import with_scans
        from merged_diffusion.jobs.metrics import LIKELIHOOD
        from merged_diffusion.jobs.path_pilot import with_path_evidence
        from merged_diffusion.jobs.pilot import tried
        from merged_diffusion.jobs.plan import place
        from merged_diffusion.jobs.precision_pilot import pilot_seconds, with_precision_cost
        from merged_diffusion.jobs.quadrature_pilot import with_quadrature
        from merged_diffusion.jobs.recipes import ScoreRecipe
        from merged_diffusion.jobs.threads import configured
        from merged_diffusion.thresholds.auto import with_threshold

    with output.remarks(quiet=quiet, told=() if as_json else ("above uniform",)):
        workers.take_gpu(worker, settings.machine.device)
        if settings.eta == "auto":
            settings = with_threshold(settings, out, given["tune_data"], given["tune_limit"] or TUNED)
            if not quiet:
                at = settings.eta if settings.gamma is None else f"gamma {settings.gamma:.4f}"
                output.say(f"note: eta auto: {f'{at:.4f}' if isinstance(at, float) else at}")
        plan, out = place(settings, out, metric(given) if is_bound else LIKELIHOOD)
        with configured(threads=plan.threads, deterministic=settings.deterministic):
            start = time.monotonic()
            plan.check_experts()
            checked = time.monotonic() - start
            plan = tried(plan, out)
            known = plan.known(out)
            cost = plan.estimate(worker.shard, known).after(checked)
            cost = cost.and_more(pilot_seconds(plan, out, plan.n_left((0, 1), known)))
            out = out or plan.out_for(cost)
            report.announce(plan, cost, out, quiet=quiet, dry_run=given["dry_run"] and not as_json)
            if given["dry_run"]:
                if worker.speaks:
                    report.show_plan(plan, cost, out, as_json=as_json)
                return 0
            confirm(cost.seconds, yes=given["yes"])
            plan = with_precision_cost(plan, out, plan.n_left((0, 1), known))
            plan = with_quadrature(plan, out, plan.n_left(worker.shard, known))
            plan = with_scans(plan, out, plan.n_left(worker.shard, known))
            plan = with_path_evidence(plan, out, plan.n_left((0, 1), known))
            keep = {key: given[key] for key in ("allow_rebatch", "strict_env")}
            with (
                crews.blocks_of(worker, given, partial(ScoreRecipe.of, plan)) as blocks,
                Evaluation(plan, out=out, blocks=blocks, known=known, **keep) as evaluation,
            ):
                lines = Lines(plan.data, wanted=as_lines and worker.speaks)
                try:
                    lines.held(evaluation)
                    with Progress(
                        evaluation.left(), evaluation.notes, quiet=quiet, blocks=blocks
                    ) as progress:
                        evaluation.run(both(progress.update, lines.update))
                    code = workers.conclude(worker, evaluation, out, as_json=as_json, lines=lines)
                except KeyboardInterrupt:
                    if not worker.speaks:
                        return report.INTERRUPT_CODE
                    return report.interrupted(evaluation.summary(), out, as_json=as_json)
                workers.await_latecomers(worker, blocks, quiet=quiet)
                return code


def both(first: Observer, second: Observer) -> Observer:
    """Two observers as one."""

    def observe(model: str, record: Record) -> None:
        first(model, record)
        second(model, record)

    return observe


def metric(given: options.Given) -> Metric:
    """The bound with its options."""
    from merged_diffusion.jobs.metrics import VariationalBound

    return VariationalBound(given["times"] or TIMES, given["profile"])


def confirm(seconds: float, *, yes: bool) -> None:
    """Ask before more than a day, where somebody can answer."""
    if seconds > ASK_SECONDS and not yes and sys.stdin.isatty():
        click.confirm("this takes more than a day; go on?", abort=True, err=True)
