"""``sweep``: parses, builds, calls, prints."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import click

from merged_diffusion.cli import options, output, scoring
from merged_diffusion.cli.nll import how, model, what, where
from merged_diffusion.evaluation.settings import Settings
from merged_diffusion.evaluation.sources import check_present

EPILOG: Final = """\b
Examples:
  merged-diffusion sweep --data digits --limit 64
  merged-diffusion sweep --data photos --out results/sweep
  merged-diffusion sweep --data photos --etas 0,min,0.1,0.2,0.3 --method adams --out results/adams
  merged-diffusion sweep --data cifar10 --limit 512 --json
"""


@click.command("sweep", epilog=EPILOG, context_settings={"max_content_width": 100})
@what
@click.option(
    "--etas",
    metavar="LIST",
    show_default="the set's grid and both experts alone",
    help="Thresholds with commas between: numbers in [0, 1], min, max; 0 and 1: one expert alone.",
)
@options.less(model, "expert", "eta", "gamma", "edm_sigma", "logsnr", "compare", "range")
@options.less(how, "bpd_tol")
@options.less(where, "shard")
def command(
    etas: str | None,
    out: Path | None,
    dry_run: bool,
    yes: bool,
    quiet: bool,
    as_json: bool,
    **given: Any,
) -> int:
    """Exact likelihood over thresholds: the same images and noise for all, and what they share once."""
    from merged_diffusion.sweeps.thresholds import parsed

    wanted = None if etas is None else parsed(etas)
    settings = Settings.of(given)
    check_present(settings)
    from merged_diffusion.cli import report, sweep_report
    from merged_diffusion.cli.progress import Progress
    from merged_diffusion.evaluation.machine import configured
    from merged_diffusion.sweeps.plan import make_sweep_plan
    from merged_diffusion.sweeps.sweep import Sweep

    with output.remarks(quiet=quiet):
        plan, out = make_sweep_plan(settings, wanted, out)
        with configured(threads=plan.base.threads, deterministic=settings.deterministic):
            plan.base.check_experts()
            cost = plan.estimate(out)
            out = out or plan.out_for(cost)
            if not quiet:
                for note in plan.notes:
                    output.say(f"note: {note}")
                output.say(report.estimate_line(plan.base, cost, len(plan.rows)))
                output.say("it is less where rows share their steps" if out is None else f"sweep: {out}")
            if dry_run:
                sweep_report.show_plan(plan, cost, out, as_json=as_json)
                return 0
            scoring.confirm(cost.seconds, yes=yes)
            keep = {key: given[key] for key in ("allow_rebatch", "strict_env")}
            with Sweep(plan, out=out, **keep) as sweep:
                try:
                    with Progress(sweep.left(), sweep.notes, quiet=quiet) as progress:
                        sweep.run(progress.update)
                except KeyboardInterrupt:
                    return sweep_report.interrupted(sweep.result(), out, as_json=as_json)
                return sweep_report.show(sweep.result(), out, as_json=as_json)
