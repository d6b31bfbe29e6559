"""``threshold``: parses, builds, calls, prints."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import click

from merged_diffusion.cli import options, shared_work
from merged_diffusion.cli.nll import how, model, what, where
from merged_diffusion.errors import UsageError
from merged_diffusion.jobs.option_checks import check_budget
from merged_diffusion.jobs.settings import Settings
from merged_diffusion.jobs.sources import check_present

NAME: Final = "threshold.json"
EPILOG: Final = """\b
Examples:
  merged-diffusion threshold --data digits
  merged-diffusion threshold --data photos --tune-limit 512 --out results/eta
  merged-diffusion threshold --data a.npz --tune-data b.npz --pair photos
  merged-diffusion threshold --data scenes --expert bundled:scenes-vdm \\
      --expert bundled:scenes-edm --expert results/small --budget 0.5
"""


@options.command("threshold", EPILOG)
@what
@options.tuning("The images to choose on.")
@click.option(
    "--budget", type=float, metavar="SECONDS",
    help="Of three --expert or more: the best that takes at most so many seconds an image on this machine.",
)  # fmt: skip
@options.less(
    model, "eta", "gamma", "gammas", "edm_sigma", "logsnr", "gate", "compare", "range", "extrapolate"
)
@options.less(how, "importance", "repeats", "allow_failed", "step_control", "bpd_tol", "path_check")
@options.less(where, "allow_rebatch", "strict_env", "yes", "dry_run", "compile", "profile_time")
@shared_work.work
@click.option(
    "--no-confirm", is_flag=True, help="Do not measure exactly what was found on the images chosen on."
)
@click.option("--no-test", is_flag=True, help="Do not measure the images of --data.")
def command(given: options.Given) -> int:
    """Find the noise level at which to merge two experts: chosen on train images, reported on --data.

    Instead of a search over thresholds it takes one look at each expert's losses and one solve, and confirms
    the best by exact runs. Of three experts and more the thresholds of the least bound and those near them
    are run exactly, each with the seconds that it takes. Several workers share the images in --work, or those
    of a cluster by --ray.
    """
    settings = Settings.of(given)
    if settings.split != "test":
        raise UsageError(
            f"--split {settings.split}: a threshold is chosen on train and reported on test",
            hint="leave --split out; --tune-data names other images to choose on",
        )
    if settings.probe_error is not None:
        raise UsageError(
            "--probes auto is of images that are measured, and a threshold is found by a few of them",
            hint="say how many, --probes 4",
        )
    alone = settings.expert is not None
    if alone or (given["budget"] is not None and settings.experts is None):
        what = "one --expert has no threshold" if alone else "--budget is for three --expert or more"
        raise UsageError(
            what, hint="repeat --expert, in the order of rising noise, or leave it out for a pair"
        )
    check_budget(given["budget"])
    out: Path | None = given["out"]
    worker = shared_work.worker_of(given)
    file = None if out is None else out / NAME
    if not shared_work.is_free(given, worker, file):
        raise UsageError(f"--out {out}: holds a {NAME} already", hint="use another --out")
    check_present(settings)
    from merged_diffusion.cli import switches_report, threshold_report
    from merged_diffusion.runs.settings_file import write_json
    from merged_diffusion.thresholds.choose import choose
    from merged_diffusion.thresholds.choose_switches import choose_switches

    with (
        _place(out if worker.shard[0] == 0 else None),
        shared_work.tuned(
            "threshold", settings, given, worker, file, "budget", "no_confirm"
        ) as (plan, shared, asked),
    ):  # fmt: skip
        asked["confirm"] = not given["no_confirm"]
        several = settings.experts is not None
        compared = choose_switches(plan, budget=given["budget"], **asked) if several else None
        chosen = None if several else choose(plan, **asked)
        if not shared.tells():
            return 0
        found = compared or chosen
        if file is not None and found is not None:
            write_json(file, found.as_dict())
        if compared is not None:
            switches_report.show(compared, out, as_json=given["as_json"])
        if chosen is not None:
            threshold_report.show(chosen, out, as_json=given["as_json"])
    return 0


@contextmanager
def _place(out: Path | None) -> Iterator[None]:
    """A directory that can be written, found out before anything is computed; unmade where nothing is."""
    if out is None:
        yield
        return
    from merged_diffusion.runs.directory import Directory
    from merged_diffusion.runs.folder import made_folder, refuse_strangers
    from merged_diffusion.runs.places import unmake

    made = made_folder(out, 1)
    try:
        with Directory(out) as folder:
            folder.remove_drafts([NAME])
            refuse_strangers(folder, NAME)
            folder.remove([folder.write_draft(NAME, b"")])
        yield
    except BaseException:
        unmake(made)
        raise
