"""``sample``: parses, builds, calls, prints."""

from __future__ import annotations

import os
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Final

import click

from merged_diffusion import samplers
from merged_diffusion.cli import completion, crews, options, output, workers
from merged_diffusion.cli.nll import model
from merged_diffusion.errors import UsageError
from merged_diffusion.jobs.settings import Settings
from merged_diffusion.jobs.sources import check_present
from merged_diffusion.ode import methods
from merged_diffusion.samplers import Heun, Sampling
from merged_diffusion.scores.defaults import DRAWN, SEED

DEFAULT_OUT: Final = "samples.png"
CHURN: Final = {name: options.default(getattr(Heun, name)) for name in samplers.CHURN}
PICTURE: Final = ", one picture of all; --out samples.npz, samples.zip or a folder keeps each image, for fid"
IMAGES: Final = "images"  # what progress is of


def shape(value: str) -> tuple[int, ...]:
    """``C,H,W``."""
    sizes = value.split(",")
    if len(sizes) == 3 and all(size.isdecimal() and int(size) > 0 for size in sizes):
        return tuple(map(int, sizes))
    raise click.BadParameter(f"{value!r} is not C,H,W, for instance 3,32,32")


image_shape = click.option(
    "--image-shape", type=shape, metavar="C,H,W",
    help="Colours, height and width of an image, for experts that take any size.",
)  # fmt: skip
pair = click.option(
    "--pair", metavar="NAME", shell_complete=completion.pair,
    help="Two experts to merge, by name: digits, photos, scenes or cifar10.",
)  # fmt: skip
what = options.stacked(
    click.option("--num", "-n", type=int, metavar="N", show_default=str(DRAWN),
                 help="How many images: those with the ids 0 to N - 1."),
    click.option("--ids", type=options.id_range, metavar="A:B",
                 help="The images with the ids A to B - 1: an id is the same image in every command."),
    click.option("--labels", type=options.labels("none", "cycle (all classes in turn)"),
                 metavar="CLASS|cycle|none", show_default="none",
                 help="Classes for a model that asks for them: one number, or all classes in turn."),
    image_shape,
    options.cache,
)  # fmt: skip
how = options.stacked(
    click.option("--sampler", type=click.Choice(samplers.NAMES), show_default=samplers.Ode.name,
                 help="ode: probability flow; ancestral: DDPM's; heun: EDM's; others: few steps, one network "
                 "evaluation each (DPM-Solver++, UniPC, DEIS, iPNDM, DPM-Solver-v3)."),
    options.number("--steps", ", ".join(f"{k.name} {k.steps}" for k in samplers.GRIDS),
                   "How many steps; all but ode.", kind=int),
    options.number("--order", ", ".join(f"{k.name} {k.order}" for k in samplers.OF_ORDERS),
                   "unipc, deis, dpm-v3: 2 or 3 earlier evaluations that a step looks at.", kind=int),
    click.option("--sigmas", metavar=f"FILE|{'|'.join(samplers.SIGMAS)}", shell_complete=completion.sigmas,
                 show_default="edm of heun, deis, ipndm; else logsnr",
                 help="Where steps begin and end, all but ode: by a word, or a FILE of EDM's sigmas or of "
                 "gammas, one a line, below a first line edm_sigma or gamma."),
    click.option("--statistics", metavar="FILE.npz", shell_complete=completion.file,
                 help="dpm-v3: what the command model-statistics has measured of the experts."),
    options.solver(
        samplers.USUAL_SOLVER, of="With the sampler ode. ", loosest=f", at most {samplers.LOOSEST_TOL:g}"
    ),
    click.option("--clip", is_flag=True, default=None,
                 help="ancestral: keep predicted images within the range of pixels."),
    options.number("--s-churn", CHURN["s_churn"], "heun: noise that is added on the way (EDM's S_churn)."),
    options.number("--s-min", CHURN["s_min"], "heun: from which noise level on (EDM's sigma)."),
    options.number("--s-max", "none", "heun: up to which noise level (EDM's sigma)."),
    options.number("--s-noise", CHURN["s_noise"], "heun: scale of the noise that is added."),
    click.option("--decode", type=click.Choice(samplers.DECODES), show_default=samplers.DECODE,
                 help="How a pixel becomes a grey level: the likeliest one, or one drawn by probability."),
    options.seed(SEED),
    options.batch_coupled,
)  # fmt: skip
where = options.stacked(
    options.batch_size("16 on a CPU, else 256"),
    options.threads,
    options.device,
    options.dtype,
    options.less(options.precision, "accept_precision"),
    options.compiled,
    options.deterministic,
    click.option("--profile-time", is_flag=True, help="ode: say where the time went; changes no image."),
    options.shard_of,
    options.store_at,
    crews.ray_at,
    click.option("--out", "-o", type=click.Path(path_type=Path), show_default=DEFAULT_OUT,
                 help="FILE.png: one picture of all; FILE.npz, FILE.zip or a directory: each image by "
                 "itself, as fid takes them."),
    click.option("--overwrite", is_flag=True, help="Replace a FILE.png that this program did not write."),
    options.printing,
)  # fmt: skip

EPILOG: Final = """\b
Examples:
  merged-diffusion sample --pair digits
  merged-diffusion sample --pair photos --eta 0.3 --num 1000 --out photos.npz
  merged-diffusion sample --pair photos --sampler heun -o photos.zip
  merged-diffusion sample --pair photos --sampler unipc --order 3 --steps 10
  merged-diffusion sample --expert bundled:photos-edm --ids 100:116
"""


@options.command("sample", EPILOG)
@what
@pair
@options.less(model, "compare", "pair")
@options.guidance
@how
@where
def command(given: options.Given) -> int:
    """Draw new images from one diffusion model, or from two merged.

    Images have numbers (ids) and are reproducible: an id is the same image in every command, whatever is
    drawn beside it. The same command goes on where it stopped.
    """
    sampling = Sampling.of(given)
    if given["profile_time"]:
        sampling.check_profiled()
    asked = {name: value for name, value in given.items() if name not in (*methods.WORDS, "ids")}
    settings = Settings.of(asked | {"data": ""})
    _check_model(settings)
    wanted = _ids(given["num"], given["ids"])
    worker = workers.worker_share(given["shard"], os.environ)
    out: Path | None = given["out"]
    worker.check_out(out, given["store"])
    crews.check(given, os.environ)
    check_present(settings)
    target, quiet, as_json = out or Path(DEFAULT_OUT), given["quiet"] or not worker.speaks, given["as_json"]
    from merged_diffusion.cli.progress import Progress
    from merged_diffusion.cli.report import INTERRUPT_CODE
    from merged_diffusion.jobs.moved_pixels import with_moved_pixels
    from merged_diffusion.jobs.recipes import DrawRecipe
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
            crews.blocks_of(worker, given, partial(DrawRecipe.of, plan)) as blocks,
            SampleRun(with_moved_pixels(plan, target), target, blocks) as run,
        ):
            try:
                with Progress({IMAGES: len(run.todo)}, plan.notes, quiet=quiet, blocks=blocks) as progress:
                    summary = run.run(partial(progress.drawn, IMAGES))
            except KeyboardInterrupt:
                kept = f"interrupted: {len(run.store.held())} of {len(plan.ids)} images are kept"
                return output.stopped(f"{kept}; the same command goes on", INTERRUPT_CODE, as_json=as_json)
    if worker.speaks:
        show(summary, as_json=as_json)
    workers.await_latecomers(worker, blocks, quiet=quiet)
    return 0


def show(summary: dict[str, Any], *, as_json: bool) -> None:
    """What was drawn, for people or as JSON."""
    if as_json:
        output.emit_json(summary)
        return
    from merged_diffusion.cli import text, time_report
    from merged_diffusion.jobs.identity import ExpertIdentity, LegSpan
    from merged_diffusion.jobs.precision_cost import pixel_words

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
    timed += pixel_words(summary["settings"])
    output.emit("\n".join([*timed, f"written to {summary['out']}{_for_others(Path(summary['out']))}"]))


def _for_others(out: Path) -> str:
    """How to have the images one by one, where they are in a picture of all."""
    return PICTURE if out.suffix.lower() == ".png" else ""


def _check_model(settings: Settings) -> None:
    both = settings.likelihood_expert is not None and settings.quality_expert is not None
    alone = settings.expert is not None or settings.experts is not None
    if settings.pair is None and not alone and not both:
        raise UsageError(
            "no experts to draw from",
            hint="give --pair digits, photos, scenes or cifar10, --expert X, or an expert of each role",
        )


def _with_threshold(settings: Settings, out: Path) -> Settings:
    """Settings whose ``--eta auto`` is a threshold: of the samples that are there, else found on train."""
    if settings.eta != "auto":
        return settings
    from merged_diffusion.catalogue.entries import known
    from merged_diffusion.sampling.parts import recorded_threshold
    from merged_diffusion.thresholds.auto import with_threshold

    held = recorded_threshold(out)
    if held is None:
        if settings.pair not in known()["pair"]:
            raise UsageError(
                "--eta auto, but no --pair says which images the threshold is to be found on",
                hint="merged-diffusion threshold --data DATA --tune-data IMAGES finds it; give the number",
            )
        data, labels = known()["pair"][settings.pair]["data"], settings.labels
        asked = replace(settings, data=data, labels="from-data" if labels == "cycle" else labels)
        found = with_threshold(asked, None)
        return replace(settings, eta=found.eta, gamma=found.gamma)
    return replace(settings, eta=held["eta"], gamma=held["gamma"])


def _ids(num: int | None, ids: tuple[int, int] | None) -> tuple[int, int]:
    if num is not None and ids is not None:
        raise UsageError("--num and --ids were both given", hint="use one of them")
    if num is not None and num < 1:
        raise UsageError(f"--num {num} lies below 1", hint="use a number from 1 up")
    first, end = ids or (0, num or DRAWN)
    if not 0 <= first < end < 2**63:
        raise UsageError(f"ids {first}:{end} name no image", hint="use 0 <= A < B, half open")
    return first, end
