"""``sample``: parses, builds, calls, prints."""

from __future__ import annotations

import os
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Final, cast

import click

from merged_diffusion import samplers
from merged_diffusion.cli import options, output, text, time_report, workers
from merged_diffusion.cli.nll import model
from merged_diffusion.errors import UsageError
from merged_diffusion.jobs.identity import ExpertIdentity, LegSpan
from merged_diffusion.jobs.settings import Settings
from merged_diffusion.jobs.sources import check_present
from merged_diffusion.ode import methods
from merged_diffusion.samplers import Heun, Sampling
from merged_diffusion.scores.defaults import DRAWN, SEED

DEFAULT_OUT: Final = "samples.png"
CHURN: Final = {name: options.default(getattr(Heun, name)) for name in samplers.CHURN}
IMAGES: Final = "images"  # what progress is of


def shape(value: str) -> tuple[int, ...]:
    """``C,H,W``."""
    sizes = value.split(",")
    if len(sizes) == 3 and all(size.isdecimal() and int(size) > 0 for size in sizes):
        return tuple(map(int, sizes))
    raise click.BadParameter(f"{value!r} is not C,H,W, for instance 3,32,32")


image_shape = click.option(
    "--image-shape", type=shape, metavar="C,H,W", help="Of samples, where the experts take any size."
)
what = options.stacked(
    click.option("--num", type=int, show_default=str(DRAWN), help="Images: the ids 0 to N - 1."),
    click.option("--ids", type=options.id_range, metavar="A:B", help="The ids A <= id < B instead."),
    click.option("--labels", type=options.labels("none", "cycle (all classes in turn)"),
                 metavar="CLASS|cycle|none", show_default="none",
                 help="For class-conditional experts; cycle: all classes in turn by id."),
    image_shape,
    options.cache,
)  # fmt: skip
how = options.stacked(
    click.option("--sampler", type=click.Choice(samplers.NAMES), show_default=samplers.Ode.name,
                 help="Probability flow, ancestral, EDM's Heun, or DPM-Solver++(2M)."),
    click.option("--steps", type=int, show_default=", ".join(f"{k.name} {k.steps}" for k in samplers.GRIDS),
                 help="Steps of a fixed grid."),
    options.solver(samplers.USUAL_SOLVER, of="ode: ", loosest=f", at most {samplers.LOOSEST_TOL:g}"),
    click.option("--clip", is_flag=True, default=None,
                 help="ancestral: keep predicted clean images within [-1, 1]."),
    click.option("--s-churn", type=float, show_default=CHURN["s_churn"],
                 help="heun: noise added on the way (EDM)."),
    click.option("--s-min", type=float, show_default=CHURN["s_min"],
                 help="heun: churn from this sigma/alpha on."),
    click.option("--s-max", type=float, show_default="none", help="heun: churn up to this sigma/alpha."),
    click.option("--s-noise", type=float, show_default=CHURN["s_noise"],
                 help="heun: scale of the noise that is added."),
    click.option("--decode", type=click.Choice(samplers.DECODES), show_default=samplers.DECODE,
                 help="The nearest grey level, or one drawn from p(v | z)."),
    click.option("--seed", type=int, show_default=str(SEED), help="Of all random numbers."),
    click.option("--batch-coupled", is_flag=True, help="Accept an expert whose rows depend on each other."),
)  # fmt: skip
where = options.stacked(
    click.option("--batch-size", "--batch", "batch_size", type=int, show_default="16 on a CPU, else 256",
                 help="Rows of a network call."),
    options.threads,
    options.device,
    options.dtype,
    click.option("--compile", is_flag=True, default=None, help="Compile the networks (torch.compile)."),
    click.option("--deterministic", is_flag=True, help="Fail where a kernel has no deterministic form."),
    click.option("--profile-time", is_flag=True, help="ode: say where the time goes; changes no image."),
    click.option("--shard", type=options.shard, metavar="I/N",
                 show_default="0/1; RANK/WORLD_SIZE under torchrun", help="The share of worker I of N."),
    click.option("--out", type=click.Path(path_type=Path), show_default=DEFAULT_OUT,
                 help="FILE.npz, FILE.zip, FILE.png (one picture of all) or a directory of PNG."),
    click.option("--overwrite", is_flag=True, help="Replace a file of others at --out FILE.png."),
    options.printing,
)  # fmt: skip

EPILOG: Final = """\b
Examples:
  merged-diffusion sample --pair digits
  merged-diffusion sample --pair photos --eta 0.3 --num 1000 --out photos.npz
  merged-diffusion sample --pair photos --sampler heun --steps 18 --out photos.zip
  merged-diffusion sample --expert bundled:photos-edm --ids 100:116 --out more.png
"""


@options.command("sample", EPILOG)
@what
@options.less(model, "compare")
@how
@where
def command(given: options.Given) -> int:
    """Draw images from merged experts, reproducibly: an id is the same image in any command."""
    sampling = Sampling.of(given)
    if given["profile_time"]:
        sampling.check_profiled()
    asked = {name: value for name, value in given.items() if name not in (*methods.WORDS, "ids")}
    settings = Settings.of(asked | {"data": ""})
    _check_model(settings)
    wanted = _ids(given["num"], given["ids"])
    worker = workers.worker_share(given["shard"], os.environ)
    out: Path | None = given["out"]
    worker.check_out(out)
    check_present(settings)
    target, quiet, as_json = out or Path(DEFAULT_OUT), given["quiet"] or not worker.speaks, given["as_json"]
    from merged_diffusion.cli.progress import Progress
    from merged_diffusion.cli.report import INTERRUPT_CODE
    from merged_diffusion.jobs.sample_run import SamplePlan, SampleRun
    from merged_diffusion.jobs.threads import configured
    from merged_diffusion.sampling import sample_files

    with output.remarks(quiet=quiet):
        workers.take_gpu(worker, settings.machine.device)
        sample_files.check_replaceable(target, overwrite=given["overwrite"])
        settings = _with_threshold(settings, target)
        plan = SamplePlan.make(settings, sampling, wanted, given["image_shape"]).into(target)
        with (
            configured(threads=plan.threads, deterministic=settings.deterministic),
            SampleRun(plan, target, worker.shard) as run,
        ):
            try:
                with Progress({IMAGES: len(run.todo)}, plan.notes, quiet=quiet) as progress:
                    summary = run.run(partial(progress.drawn, IMAGES))
            except KeyboardInterrupt:
                kept = f"interrupted: {len(run.store.held())} of {len(plan.ids)} images are kept"
                return output.stopped(f"{kept}; the same command goes on", INTERRUPT_CODE, as_json=as_json)
    if worker.speaks:
        show(summary, as_json=as_json)
    return 0


def show(summary: dict[str, Any], *, as_json: bool) -> None:
    """What was drawn, for people or as JSON."""
    if as_json:
        output.emit_json(summary)
        return
    legs = [LegSpan(**leg) for leg in summary["legs"]]
    experts = {role: ExpertIdentity.from_dict(expert) for role, expert in summary["experts"].items()}
    words = text.threshold_words(summary["threshold"], legs, experts)
    output.emit(f"{summary['n']} images  {summary['sampler']}  {words}")
    timed = time_report.lines(summary.get("time_profile"))
    if summary["n_missing"]:
        left = f"{summary['n_missing']} images are other workers' to draw"
        output.emit("\n".join([*timed, f"{left}; {summary['out']} is written once all are there"]))
        return
    count = f"{summary['evaluations']['total']:.0f} evaluations/image"
    output.emit(f"{count}   {summary['seconds']:.1f} s   sha256 {summary['sha256'][:16]}")
    output.emit("\n".join([*timed, f"written to {summary['out']}"]))


def _check_model(settings: Settings) -> None:
    both = settings.likelihood_expert is not None and settings.quality_expert is not None
    if settings.pair is None and settings.expert is None and not both:
        raise UsageError(
            "no experts to draw from",
            hint="give --pair digits, photos or cifar10, --expert X, or an expert of each role",
        )


def _with_threshold(settings: Settings, out: Path) -> Settings:
    """Settings whose ``--eta auto`` is a number: of the samples that are there, else found on train."""
    if settings.eta != "auto":
        return settings
    from merged_diffusion.catalogue.entries import known
    from merged_diffusion.sampling.parts import recorded_eta
    from merged_diffusion.thresholds.auto import with_threshold

    eta = recorded_eta(out)
    if eta is None:
        if settings.pair not in known()["pair"]:
            raise UsageError(
                "--eta auto, but no --pair says which images the threshold is to be found on",
                hint="merged-diffusion threshold --data DATA --tune-data IMAGES finds it; give the number",
            )
        data, labels = known()["pair"][settings.pair]["data"], settings.labels
        asked = replace(settings, data=data, labels="from-data" if labels == "cycle" else labels)
        eta = cast(float, with_threshold(asked, None).eta)
    return replace(settings, eta=eta)


def _ids(num: int | None, ids: tuple[int, int] | None) -> tuple[int, int]:
    if num is not None and ids is not None:
        raise UsageError("--num and --ids were both given", hint="use one of them")
    if num is not None and num < 1:
        raise UsageError(f"--num {num} lies below 1", hint="use a number from 1 up")
    first, end = ids or (0, num or DRAWN)
    if not 0 <= first < end < 2**63:
        raise UsageError(f"ids {first}:{end} name no image", hint="use 0 <= A < B, half open")
    return first, end
