"""``nll``: parses, builds, calls, prints."""

from __future__ import annotations

from typing import Final

import click

from merged_diffusion.cli import options, score
from merged_diffusion.jobs.settings import CHOICES
from merged_diffusion.likelihood.likelihood_options import DEQUANTISE
from merged_diffusion.ode.methods import Adams, Dopri5, Probes
from merged_diffusion.scores.defaults import IMPORTANCE, REPEATS, SEED

what = options.stacked(
    click.option(
        "--data", required=True, help="digits, photos, cifar10, imagenet32, or a path: npz, npy, zip, folder."
    ),
    options.choice("--split", "test", "Which part of a known set."),
    click.option("--levels", type=int, help="Grey levels, where the file does not say."),
    click.option("--variant", type=click.Choice(CHOICES["variant"]), help="Which ImageNet32 it is."),
    options.cache,
    click.option(
        "--limit", type=int, show_default="all", help="A random choice of N images; a larger N continues."
    ),
    click.option("--ids", type=options.id_range, metavar="A:B", help="Positions A <= p < B instead."),
    click.option(
        "--labels",
        type=options.labels("from-data", "none"),
        metavar="from-data|CLASS|none",
        show_default="none",
        help="For class-conditional experts.",
    ),
)
model = options.stacked(
    click.option("--pair", show_default="the data's", help="Two experts and the eta range of a card."),
    click.option(
        "--likelihood-expert",
        show_default="the pair's",
        help="Public name, bundled:NAME, file, folder, hf:owner/name@revision, module:name, file.py:name.",
    ),
    click.option(
        "--quality-expert", show_default="the pair's", help="The same; module: and file.py: run your code."
    ),
    click.option("--expert", help="One expert alone, on its own range."),
    click.option(
        "--eta",
        type=options.eta,
        metavar="NUMBER|min|max|auto",
        show_default="the pair's",
        help="Threshold in [0, 1], min or max; 0 and 1: one expert alone; auto: found on train.",
    ),
    click.option("--gamma", type=float, help="The threshold as gamma = -log SNR."),
    click.option("--edm-sigma", type=float, help="The threshold as sigma / alpha."),
    click.option("--logsnr", type=float, help="The threshold as log SNR."),
    click.option("--compare", is_flag=True, help="Also both experts alone: same images, noise and probes."),
    options.choice("--range", "native", "Range of one expert alone at eta 0 or 1."),
    options.choice("--convention", "exact", "paper: pixels of an 'ends' expert not rescaled."),
    click.option(
        "--extrapolate", is_flag=True, help="Ask experts outside their trained range; marks the result."
    ),
)
tune_data = click.option(
    "--tune-data",
    show_default="train of the known set",
    help="With --eta auto: images to find it on, a path.",
)
how = options.stacked(
    options.choice("--dequantise", DEQUANTISE, "Noise within a grey level.", alias="--dequantize"),
    click.option(
        "--importance", type=int, show_default=str(IMPORTANCE), help="Draws K in the importance bound."
    ),
    click.option("--repeats", type=int, show_default=str(REPEATS), help="Independent draws, averaged."),
    options.solver(Adams()),
    click.option(
        "--bpd-tol",
        type=float,
        help="Discretisation error in bits/dim: a pilot on 16 images chooses adams' tolerance.",
    ),
    options.choice(
        "--probe",
        f"{Adams.usual_probe}; dopri5: {Dopri5.usual_probe}",
        "Trace: a Rademacher probe at every node (adams), one for a whole solve, a Gaussian one, or exact "
        "(small images).",
    ),
    click.option("--probes", type=int, show_default=str(Probes.n), help="Probes averaged."),
    options.choice(
        "--preset",
        "default",
        "fast, tight: adams with tol 0.03 and 0.001; paper: dopri5, shared steps, 1e-5, fixed probe, "
        "convention paper.",
    ),
    click.option("--seed", type=int, show_default=str(SEED), help="Of all random numbers."),
    click.option("--allow-failed", is_flag=True, help="Give the mean over the images that did not fail."),
    click.option(
        "--accept-gradient",
        metavar="NAME",
        help="Go on, with a warning, though this expert's gradient is not the derivative of what it returns.",
    ),
    click.option("--batch-coupled", is_flag=True, help="Accept an expert whose rows depend on each other."),
)
where = options.stacked(
    click.option(
        "--batch-size",
        "--batch",
        "batch_size",
        type=int,
        show_default="by device, at most 64 on a CPU",
        help="Rows of a network call.",
    ),
    options.threads,
    options.device,
    options.dtype,
    click.option("--compile", is_flag=True, default=None, help="Compile the networks (torch.compile)."),
    click.option("--deterministic", is_flag=True, help="Fail where a kernel has no deterministic form."),
    click.option("--profile-time", is_flag=True, help="Say where the time goes; changes no result."),
    click.option(
        "--shard",
        type=options.shard,
        metavar="I/N",
        show_default="0/1; RANK/WORLD_SIZE under torchrun",
        help="The share of worker I of N.",
    ),
    options.out,
    click.option(
        "--allow-rebatch",
        is_flag=True,
        help="Go on with another batch size, threads, device, dtype, compile; marks rows.",
    ),
    click.option("--strict-env", is_flag=True, help="Refuse to go on under other versions or hardware."),
    click.option("--dry-run", is_flag=True, help="Print the plan and its cost; write nothing."),
    click.option("--yes", is_flag=True, help="Do not ask before an evaluation of more than a day."),
    options.printing,
)

EPILOG: Final = """\b
Examples:
  merged-diffusion nll --data photos --limit 128 --compare
  merged-diffusion nll --data digits --expert bundled:digits-vdm
  merged-diffusion nll --data photos --eta 0.3 --out results/photos
  merged-diffusion nll --data images.npz --likelihood-expert results/vdm \\
      --quality-expert mine.py:expert --gamma -6.5 --json
  merged-diffusion nll --data cifar10 --eta 0.4
  merged-diffusion nll --data photos --shard 0/4 --out results/photos
"""


@options.command("nll", EPILOG)
@what
@model
@tune_data
@how
@where
def command(given: options.Given) -> int:
    """Exact likelihood of images by the probability-flow ODE, in bits per dimension."""
    return score.command(given)
