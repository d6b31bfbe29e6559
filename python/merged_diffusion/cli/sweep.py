"""``sweep``: parses, builds, calls, prints."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Final

import click

from merged_diffusion.cli import completion, crews, measure, options, output, sample, score, vlb, workers
from merged_diffusion.cli.nll import how, model, what, where
from merged_diffusion.jobs.settings import Settings
from merged_diffusion.jobs.sources import check_present, pair_of
from merged_diffusion.ode import methods
from merged_diffusion.ode.methods import Adams
from merged_diffusion.samplers import LOOSEST_TOL, USUAL_SOLVER
from merged_diffusion.scores.defaults import SWEPT
from merged_diffusion.sweeps.request import METRICS, Request

# What samples share with likelihoods under one word.
SHARED: Final = (*methods.WORDS, "seed", "batch_coupled")
EPILOG: Final = """\b
Examples:
  merged-diffusion sweep --data digits --limit 64
  merged-diffusion sweep --data photos --out results/sweep
  merged-diffusion sweep --data photos --etas 0,min,0.1,0.2,0.3 --preset paper
  merged-diffusion sweep --data photos --metric vlb --repeats 10
  merged-diffusion sweep --data digits --metric sample --num 5000
  merged-diffusion sweep --data my/ --metric sample --ref train/ --pair photos
  merged-diffusion sweep --data cifar10 --limit 512 --json
"""


@options.command("sweep", EPILOG)
@click.option(
    "--metric",
    type=click.Choice(METRICS),
    default="nll",
    show_default=True,
    help="What to measure: nll, exact likelihood; vlb, the bound on it; sample, the distance of drawn images "
    "from the data.",
)
@options.less(what, "labels")
@click.option(
    "--labels",
    type=options.labels("from-data", "cycle", "none"),
    metavar="from-data|cycle|CLASS|none",
    show_default="none",
    help="Classes for a model that asks for them: each image's own (nll, vlb), one number, or all in turn "
    "(sample).",
)
@click.option(
    "--etas",
    metavar="LIST",
    show_default="the set's grid and both experts alone",
    help="Thresholds with commas between: numbers from 0 (the quality expert alone) to 1 (the likelihood "
    "expert alone), and min and max, what both allow.",
)
@options.less(model, "expert", "eta", "gamma", "edm_sigma", "logsnr", "gate", "compare", "range", "gammas")
@click.option(
    "--gate", metavar="FILE",
    help="One more row: the card of a gate (command gate), by which both experts share noise levels.",
)  # fmt: skip
@options.less(how, "bpd_tol", "tol", "path_check")
@options.number(
    "--tol",
    f"{options.default(Adams.tol)}; sample: {options.default(USUAL_SOLVER.tol)}",
    f"Error of a step of adams, in units of the noise; sample: at most {LOOSEST_TOL:g}.",
)
@vlb.bound
@options.number("--num", str(SWEPT), "sample: how many images to draw at each threshold.", kind=int)
@click.option(
    "--ref", metavar="STATS|IMAGES|NAME", shell_complete=completion.reference,
    show_default="the known set, else the images of --data",
    help="sample: What to measure samples against, as in fid: statistics, other images, or a set by its "
    "name.",
)  # fmt: skip
@click.option(
    "--features", type=click.Choice(measure.FEATURES),
    show_default="those of the reference, else by the kind of images",
    help="sample: The network in whose features images are compared; pixels: none.",
)  # fmt: skip
@sample.image_shape
@options.less(sample.how, *SHARED)
@where
def command(given: options.Given) -> int:
    """Measure the same images at many thresholds: at which noise level should two experts be merged?

    All thresholds have the same random numbers, so that their differences are exact to a few images; what
    they have in common is computed once. One row for each, and the best.
    """
    from merged_diffusion.sweeps.thresholds import parsed

    wanted = None if given["etas"] is None else parsed(given["etas"])
    request = Request.of(given["metric"], given)
    settings = _settings(given, request)
    from merged_diffusion.cli import sweep_report
    from merged_diffusion.cli.progress import Progress
    from merged_diffusion.cli.report import INTERRUPT_CODE
    from merged_diffusion.jobs.threads import configured
    from merged_diffusion.sweeps.carry_out import Sweep, place
    from merged_diffusion.sweeps.sweep_recipe import SweepRecipe

    out: Path | None = given["out"]
    worker = workers.worker_share(given["shard"], os.environ)
    worker.check_out(out, given["store"])
    crews.check(given, os.environ)
    quiet, as_json = given["quiet"] or not worker.speaks, given["as_json"]
    with output.remarks(quiet=quiet):
        workers.take_gpu(worker, settings.machine.device)
        plan, out = place(settings, wanted, out, request)
        with configured(threads=plan.base.threads, deterministic=settings.deterministic):
            start = time.monotonic()
            plan.check_experts()
            checked = time.monotonic() - start
            cost = plan.estimate().after(checked)
            out = out or plan.out_for(cost)
            if not quiet:
                sweep_report.announce(plan, cost, out)
            if given["dry_run"]:
                if worker.speaks:
                    sweep_report.show_plan(plan, cost, out, as_json=as_json)
                return 0
            score.confirm(cost.seconds, yes=given["yes"])
            keep = {key: given[key] for key in ("allow_rebatch", "strict_env")}
            with (
                crews.blocks_of(worker, given, partial(SweepRecipe.of, plan, wanted, request.gate)) as blocks,
                Sweep(plan, out=out, blocks=blocks, **keep) as sweep,
            ):
                try:
                    with Progress(
                        sweep.rows.left(), sweep.rows.notes, quiet=quiet, blocks=blocks
                    ) as progress:
                        sweep.run(progress.drawn if request.metric == "sample" else progress.update)
                except KeyboardInterrupt:
                    if not worker.speaks:
                        return INTERRUPT_CODE
                    return sweep_report.interrupted(sweep.result(), out, as_json=as_json)
                code = workers.conclude_sweep(worker, sweep, out, as_json=as_json)
                workers.await_latecomers(worker, blocks, quiet=quiet)
                return code


def _settings(given: options.Given, request: Request) -> Settings:
    """Of the models and, but for samples, of the evaluation; refused where public files are missing."""
    if request.metric != "sample":
        settings = Settings.of(given)
        check_present(settings)
        return settings
    settings = Settings.of({name: value for name, value in given.items() if name not in methods.WORDS})
    pair = pair_of(settings, settings.data)
    # The images of the set are not needed to draw others.
    check_present(replace(settings, data="", variant=None, pair=None if pair is None else pair.name))
    return settings
