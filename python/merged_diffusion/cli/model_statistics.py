"""``model-statistics``: parses, builds, calls, prints."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

import click

from merged_diffusion.cli import options, output
from merged_diffusion.cli.nll import model, what, where
from merged_diffusion.errors import UsageError
from merged_diffusion.jobs.settings import Settings
from merged_diffusion.jobs.sources import check_present
from merged_diffusion.scores.defaults import SEED, SPACING

EPILOG: Final = """\b
Examples:
  merged-diffusion model-statistics --data photos --out ems.npz
  merged-diffusion sample --pair photos --sampler dpm-v3 --statistics ems.npz
"""


@options.command("model-statistics", EPILOG)
@options.less(what, "split", "limit", "ids")
@options.tuning("The images to measure the experts with.", least=4)
@click.option(
    "--spacing", type=click.FloatRange(0, min_open=True), metavar="NUMBER", default=SPACING,
    show_default=True, help="Distance of the noise levels in gamma, minus log SNR.",
)  # fmt: skip
@options.less(
    model, "eta", "gamma", "gammas", "edm_sigma", "logsnr", "gate", "compare", "range", "extrapolate"
)
@options.guidance
@options.seed(SEED)
@options.batch_coupled
@options.less(
    where, "shard", "allow_rebatch", "strict_env", "yes", "dry_run", "compile", "profile_time", "out"
)
@click.option(
    "--out", "-o", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE.npz", required=True,
    help="The file of the statistics, for --statistics of sample.",
)  # fmt: skip
def command(given: options.Given) -> int:
    """Measure, once, by what the sampler dpm-v3 (DPM-Solver-v3) takes longer steps.

    Of each expert, over its whole range of noise levels: how its prediction changes with the image and along
    the flow, on average over train images. They serve at every threshold.
    """
    settings = Settings.of(given)
    if settings.experts is not None:
        raise UsageError(
            f"--expert was given {len(settings.experts)} times, and statistics are of one expert or a pair",
            hint="sampler dpm-v3, which takes them, draws from these alone; use --sampler unipc for several",
        )
    out: Path = given["out"]
    if out.suffix != ".npz":
        raise UsageError(f"--out {out} does not end in .npz", hint="statistics are arrays: name a FILE.npz")
    if out.exists():
        raise UsageError(f"--out {out}: is there already", hint="use another --out")
    check_present(settings)
    from tqdm import tqdm

    from merged_diffusion.catalogue.sets import set_name
    from merged_diffusion.flow_statistics import model_statistics_npz
    from merged_diffusion.jobs.plan import labels_of, place
    from merged_diffusion.jobs.threads import configured
    from merged_diffusion.runs.directory import write_file
    from merged_diffusion.sampling.fit_statistics import fit_model_statistics
    from merged_diffusion.thresholds.auto import tuning_data, without_threshold

    quiet = given["quiet"]
    with output.remarks(quiet=quiet):
        plan, _ = place(without_threshold(settings) if settings.expert is None else settings, None)
        settings = plan.settings
        images = tuning_data(settings, given["tune_data"], given["tune_limit"])
        with (
            configured(threads=plan.threads, deterministic=settings.deterministic),
            tqdm(unit="gamma", disable=quiet or not sys.stderr.isatty()) as bar,
        ):

            def observe(done: int, total: int) -> None:
                bar.total = total
                bar.update(done - bar.n)

            found = fit_model_statistics(
                next(iter(plan.models.models.values())),
                images,
                spacing=given["spacing"],
                seed=settings.seed,
                labels=labels_of(images, settings),
                machine=settings.machine,
                accept=settings.accept,
                observe=observe,
            )
        write_file(out, model_statistics_npz(found))
    of = set_name(images.name, images.split)
    if given["as_json"]:
        output.emit_json({"command": "model-statistics", "out": str(out), **found.as_dict()})
        return 0
    for role, table in found.tables.items():
        per = "value" if table.linear.shape[-1] > 1 else "channel"
        span = f"from gamma {table.gamma[0]:.3f} to {table.gamma[-1]:.3f}"
        output.emit(f"{role} expert: {len(table.gamma)} noise levels {span}, numbers for each {per}")
    output.emit(f"{len(images)} images of {of}; for --sampler dpm-v3 --statistics {out}")
    return 0
