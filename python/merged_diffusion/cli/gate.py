"""``gate``: parses, builds, calls, prints."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import click

from merged_diffusion.cli import options, shared_work
from merged_diffusion.cli.nll import how, model, what, where
from merged_diffusion.errors import UsageError
from merged_diffusion.jobs.settings import Settings
from merged_diffusion.jobs.sources import check_present
from merged_diffusion.scores.defaults import EXACT

EPILOG: Final = """\b
Examples:
  merged-diffusion gate --data digits --out gate.toml
  merged-diffusion gate --data photos --form full --out photos-full.toml
  merged-diffusion nll --data photos --gate photos-full.toml
"""


@options.command("gate", EPILOG)
@what
@click.option(
    "--form", type=click.Choice(("low-noise", "full")), default="low-noise", show_default=True,
    help="low-noise: samples look as those of the quality expert; full: for the likelihood alone.",
)  # fmt: skip
@options.tuning("The images to fit and choose on, which neither expert has seen.")
@click.option(
    "--exact", type=click.IntRange(0), metavar="N", default=EXACT, show_default=True,
    help="On how many of them the fit and its relatives are compared by exact runs; 0: the fit is taken.",
)  # fmt: skip
@options.less(
    model, "eta", "gamma", "gammas", "edm_sigma", "logsnr", "gate", "compare", "range", "extrapolate"
)
@options.less(how, "importance", "repeats", "allow_failed", "step_control", "bpd_tol", "path_check")
@options.less(where, "allow_rebatch", "strict_env", "yes", "dry_run", "compile", "profile_time", "out")
@click.option(
    "--out", "-o", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE",
    help="Keep the gate in this card (TOML), for --gate of nll, vlb and sample.",
)  # fmt: skip
@shared_work.work
@click.option("--no-test", is_flag=True, help="Do not measure the images of --data.")
def command(given: options.Given) -> int:
    """Fit a gate, by which two experts share the noise levels softly, and report it on --data.

    It is fitted to both experts' errors on train images that neither has seen, and chosen by exact runs on
    them. Beside it stand the threshold that was chosen likewise, one half of each expert, and both alone.
    Several workers share the images in --work, or those of a cluster by --ray.
    """
    settings = Settings.of(given)
    if settings.split != "test":
        raise UsageError(
            f"--split {settings.split}: a gate is chosen on train and reported on test",
            hint="leave --split out; --tune-data names other images to choose on",
        )
    if settings.probe_error is not None:
        raise UsageError(
            "--probes auto is not for a gate, whose images are few", hint="say how many, --probes 4"
        )
    if settings.expert is not None:
        raise UsageError(
            "one --expert has no gate",
            hint="repeat --expert, in the order of rising noise, or leave it out for a pair",
        )
    if settings.experts is not None and given["form"] != "full":
        raise UsageError(
            "a gate of three experts or more is for the likelihood alone", hint="add --form full"
        )
    out: Path | None = given["out"]
    worker = shared_work.worker_of(given)
    if not shared_work.is_free(given, worker, out):
        raise UsageError(f"--out {out}: is there already", hint="use another --out")
    check_present(settings)
    from merged_diffusion.cli import gate_report, switches_report
    from merged_diffusion.gate_card import gate_toml
    from merged_diffusion.gating.gated import gated
    from merged_diffusion.gating.gated_of import gated_of
    from merged_diffusion.runs.directory import write_file

    with shared_work.tuned("gate", settings, given, worker, out, "form", "exact") as (plan, shared, asked):
        several = settings.experts is not None
        compared = gated_of(plan, exact=given["exact"], **asked) if several else None
        pair = None if several else gated(plan, form=given["form"], exact=given["exact"], **asked)
        if not shared.tells():
            return 0
        found = compared or pair
        gate = None if found is None else found.gate
        if out is not None and gate is not None:
            write_file(out, gate_toml(gate).encode())
        if compared is not None:
            switches_report.show(compared, out, as_json=given["as_json"])
        if pair is not None:
            gate_report.show(pair, out, as_json=given["as_json"])
    return 0
