"""``nll``: parses, builds, calls, prints."""

from __future__ import annotations

from typing import Final

import click

from merged_diffusion.cli import completion, crews, options, score
from merged_diffusion.likelihood.likelihood_options import DEQUANTISE
from merged_diffusion.ode.methods import Adams, Dopri5, Probes
from merged_diffusion.scores.defaults import IMPORTANCE, REPEATS, SEED, TUNED


def several(value: str) -> tuple[float, ...]:
    """Numbers with commas between; the model checks their order."""
    try:
        return tuple(float(word) for word in value.split(","))
    except ValueError:
        raise click.BadParameter(
            f"{value!r} is not numbers with commas between, for instance --gammas=-6.5,-1"
        ) from None


what = options.stacked(
    click.option(
        "--data", required=True, metavar="NAME|PATH", shell_complete=completion.data,
        help="The images: digits, photos, scenes, cifar10, imagenet32, or a path (PNG, npz, npy).",
    ),
    options.choice("--split", "test", "Which part of a set that is known by name."),
    options.number("--levels", None, "Grey levels of a pixel, where the file does not say.", kind=int),
    options.choice("--variant", None, "Which of the two ImageNet32."),
    options.cache,
    options.number("--limit", "all", "A random choice of N images; a larger N adds to it.", kind=int),
    click.option(
        "--ids", type=options.id_range, metavar="A:B",
        help="The images at positions A to B - 1 of the set, from 0 (0:16 is the first 16).",
    ),
    click.option(
        "--labels",
        type=options.labels("from-data", "none"),
        metavar="from-data|CLASS|none",
        show_default="none",
        help="Classes for a model that asks for them: each image's own, or one number for all.",
    ),
)  # fmt: skip
mean = options.stacked(
    click.option(
        "--mean-of", type=options.images_of, metavar="N|all",
        help="Estimate the mean over N images of the set, or all, from the --limit that are measured, by "
        "what the pixels of all N tell.",
    ),
    options.number(
        "--plan-for",
        None,
        "With --mean-of: measure 30 images, or --limit, and say how many a standard error of NUMBER bits/dim "
        "takes.",
    ),
)  # fmt: skip
model = options.stacked(
    click.option(
        "--pair", metavar="NAME", show_default="the one that belongs to the data",
        shell_complete=completion.pair, help="Two experts, by name: digits, photos, scenes or cifar10.",
    ),
    click.option(
        "--likelihood-expert", metavar="MODEL", show_default="the pair's", shell_complete=completion.expert,
        help="The expert for low noise, where likelihood is decided.",
    ),
    click.option(
        "--quality-expert", metavar="MODEL", show_default="the pair's", shell_complete=completion.expert,
        help="The expert for high noise, where the look of an image is decided.",
    ),
    click.option(
        "--expert", metavar="MODEL", multiple=True, shell_complete=completion.expert,
        help="One model alone, not merged; three or more, each by an --expert of its own, are merged in the "
        "order of rising noise.",
    ),
    options.read_as,
    click.option(
        "--eta",
        type=options.eta,
        metavar="NUMBER|min|max|auto",
        show_default="the pair's",
        shell_complete=completion.eta,
        help="On a scale from 0, the quality expert alone, to 1, the likelihood expert alone; min, max: the "
        "least and the most that both allow; auto: the best, found on train images.",
    ),
    options.number("--gamma", None, "In place of --eta: as minus the log of the signal-to-noise ratio."),
    click.option(
        "--gammas", type=several, metavar="NUMBER,...",
        help="Of three --expert or more: where each hands over to the next, as minus the log of the "
        "signal-to-noise ratio (--gammas=-6.5,-1).",
    ),
    options.number("--edm-sigma", None, "In place of --eta: as EDM's sigma, with pixels in [-1, 1]."),
    options.number("--logsnr", None, "In place of --eta: as the log of the signal-to-noise ratio."),
    click.option(
        "--gate", metavar="FILE",
        help="In place of --eta: the card of a gate (command gate), by which both share noise levels.",
    ),
    click.option(
        "--compare", is_flag=True,
        help="Measure each expert alone, too, on the same images with the same random numbers.",
    ),
    options.choice(
        "--range", "native", "Noise levels of an expert alone at eta 0 or 1: its own, or those of the pair."
    ),
    options.choice(
        "--convention", "exact",
        "exact: pixels are rescaled for an expert that counts them otherwise; paper: they are not.",
    ),
    click.option(
        "--extrapolate", is_flag=True,
        help="Ask experts at noise levels that they were not trained for; marks the result.",
    ),
)  # fmt: skip
json_lines = click.option(
    "--json-lines", is_flag=True,
    help="Print a JSON object a line instead: each image as it is done, and the summary at the end.",
)  # fmt: skip
tune_data = options.stacked(
    click.option(
        "--tune-data", metavar="PATH", show_default="train images of the known set",
        shell_complete=completion.data, help="With --eta auto: other images to find it on.",
    ),
    click.option(
        "--tune-limit", type=click.IntRange(2), metavar="N", show_default=str(TUNED),
        help="With --eta auto: how many of them, at most.",
    ),
)  # fmt: skip
how = options.stacked(
    options.choice("--dequantise", DEQUANTISE, "The noise that makes a grey level a real number."),
    options.number(
        "--importance", str(IMPORTANCE), "Draws of that noise in one bound: more, a tighter bound.", kind=int
    ),
    options.number("--repeats", str(REPEATS), "Measure each image N times and take the mean.", kind=int),
    options.solver(Adams()),
    options.number(
        "--bpd-tol",
        None,
        "The error that steps may leave, in bits/dim: a pilot on 16 images chooses --tol for it.",
    ),
    options.choice(
        "--probe",
        f"{Adams.usual_probe}; dopri5: {Dopri5.usual_probe}",
        "A likelihood is measured along random directions: fresh ones at every step (adams), fixed or "
        "gaussian ones for all steps, or exact, along all there are (small images). independent: several are "
        "averaged, not cut from one.",
    ),
    click.option(
        "--probes", type=options.probes, metavar="N|auto:E", show_default=str(Probes.n),
        help="Cut a direction into so many parts, each a product of its own: 4 leave about a ninth of the "
        "variance, 16 a sixtieth. auto:E: as many as leave nine of ten images an error below E bits/dim, "
        "found on 8 images.",
    ),
    options.choice(
        "--quad-check",
        "pilot; dopri5: off",
        "Of which images to measure what adams may miss of the likelihood between its steps, by one product "
        "more at each: of all, or in a pilot of one in 20 images, at most 8. Changes no likelihood.",
    ),
    options.choice(
        "--path-check",
        "off",
        "pilot: correct the path of adams to first order as far as 16 images confirm it, at --tol and at a "
        "quarter of it. off: correct it under experts that are closed forms alone.",
    ),
    options.choice(
        "--preset",
        "default",
        "fast and tight: adams with --tol 0.03 and 0.001; paper: all as in the paper (dopri5, shared steps, "
        "1e-5, fixed probe, convention paper).",
    ),
    options.seed(SEED),
    click.option(
        "--allow-failed", is_flag=True,
        help="Give the mean of the other images where some fail; without, there is none.",
    ),
    click.option(
        "--accept-gradient",
        metavar="NAME",
        help="Go on, with a warning, though the gradient of this expert is not that of what it returns.",
    ),
    options.batch_coupled,
)  # fmt: skip
where = options.stacked(
    options.batch_size("by device, at most 64 on a CPU"),
    options.threads,
    options.device,
    options.dtype,
    options.precision,
    options.compiled,
    options.deterministic,
    click.option("--profile-time", is_flag=True, help="Say where the time went; changes no result."),
    options.shard_of,
    options.store_at,
    crews.ray_at,
    options.out,
    click.option(
        "--allow-rebatch",
        is_flag=True,
        help="Go on with the run in --out at another batch size, device, dtype or number of threads; marks "
        "the images.",
    ),
    click.option(
        "--strict-env", is_flag=True, help="Do not go on with a run under other versions or hardware."
    ),
    click.option(
        "--dry-run", is_flag=True, help="Print what would be done and how long it takes; write nothing."
    ),
    click.option("--yes", is_flag=True, help="Do not ask before what takes more than a day."),
    options.printing,
)

EPILOG: Final = """\b
Examples:
  merged-diffusion nll --data scenes --limit 64 --compare
  merged-diffusion nll --data digits --expert bundled:digits-vdm
  merged-diffusion nll --data photos --eta 0.3 --out results/photos
  merged-diffusion nll --data images.npz --likelihood-expert results/vdm \\
      --quality-expert mine.py:expert --gamma -6.5 --json
  merged-diffusion nll --data cifar10 --eta 0.4
  merged-diffusion nll --data photos --limit 48 --mean-of all
  merged-diffusion nll --data photos --shard 0/4 --out results/photos
"""


@options.command("nll", EPILOG)
@what
@mean
@model
@options.guidance
@tune_data
@how
@where
@json_lines
def command(given: options.Given) -> int:
    """Measure how well a diffusion model, or two merged, predict images: their exact likelihood.

    It is told in bits per dimension (a dimension is one pixel of one colour) with its standard error: fewer
    bits are better. The model's probability-flow ODE is solved for every image.
    """
    return score.command(given)
