"""``vlb``: parses, builds, calls, prints."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any, Final

import click

from merged_diffusion.cli import options, output, workers
from merged_diffusion.cli.nll import ASK_SECONDS, how, model, what, where
from merged_diffusion.evaluation.settings import Settings
from merged_diffusion.evaluation.sources import check_present

# What `nll` is told of dequantisation and the ODE, which the bound has not.
OF_THE_ODE: Final = (
    *("dequantise", "importance", "method", "step_control", "rtol", "atol", "tol", "h_max"),
    *("bpd_tol", "probe", "probes", "preset"),
)
EPILOG: Final = """\b
Examples:
  merged-diffusion vlb --data photos --compare
  merged-diffusion vlb --data digits --times 64 --repeats 4 --out results/vlb
  merged-diffusion vlb --data digits --times 1 --repeats 10
  merged-diffusion vlb --data digits --times 128 --profile --json
"""


@click.command("vlb", epilog=EPILOG, context_settings={"max_content_width": 100})
@what
@model
@click.option(
    "--times",
    type=click.IntRange(1),
    default=16,
    show_default=True,
    help="Network evaluations an image and repeat, evenly spread over gamma from a random start.",
)
@options.less(how, *OF_THE_ODE)
@click.option("--profile", is_flag=True, help="Keep every loss with its gamma in the records.")
@where
def command(
    times: int,
    profile: bool,
    out: Path | None,
    shard: tuple[int, int] | None,
    dry_run: bool,
    yes: bool,
    quiet: bool,
    as_json: bool,
    **given: Any,
) -> int:
    """Variational bound of images, in bits per dimension: prior, reconstruction and diffusion."""
    settings = Settings.of(given)
    check_present(settings)
    worker = workers.worker_share(shard, os.environ)
    worker.check_out(out)
    shard, quiet = worker.shard, quiet or not worker.speaks
    from merged_diffusion.cli import bound_report, report
    from merged_diffusion.cli.progress import Progress
    from merged_diffusion.evaluation.machine import configured
    from merged_diffusion.evaluation.vlb import BoundEvaluation, place_bound

    with output.remarks(quiet=quiet):
        workers.take_gpu(worker, settings.device)
        plan, out = place_bound(settings, out, times=times, profile=profile)
        base = plan.base
        with configured(threads=base.threads, deterministic=settings.deterministic):
            base.check_experts()
            cost = plan.estimate(shard, out)
            out = out or plan.out_for(cost)
            bound_report.announce(plan, cost, out, quiet=quiet)
            if dry_run:
                if worker.speaks:
                    bound_report.show_plan(plan, cost, out, as_json=as_json)
                return 0
            if cost.seconds > ASK_SECONDS and not yes and sys.stdin.isatty():
                click.confirm("go on?", abort=True, err=True)
            keep = {key: given[key] for key in ("allow_rebatch", "strict_env")}
            with BoundEvaluation(plan, out=out, shard=shard, **keep) as evaluation:
                try:
                    with Progress(evaluation.left(), evaluation.notes, quiet=quiet) as progress:
                        evaluation.run(progress.update)
                except KeyboardInterrupt:
                    if not worker.speaks:
                        return report.INTERRUPT_CODE
                    return report.interrupted(evaluation.summary(), out, as_json=as_json)
                if not worker.speaks:
                    return 0
                return bound_report.show(evaluation.summary(), out, as_json=as_json)
