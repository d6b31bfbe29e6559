"""``vlb``: parses, builds, calls, prints."""

from __future__ import annotations

from typing import Final

import click

from merged_diffusion.cli import options, score
from merged_diffusion.cli.nll import how, model, tune_data, what, where
from merged_diffusion.ode import methods
from merged_diffusion.scores.defaults import TIMES

# What `nll` is told of dequantisation and the ODE, which the bound has not.
OF_THE_ODE: Final = ("dequantise", "importance", *methods.WORDS, "bpd_tol", "probe", "probes", "preset")
# What belongs to the bound alone.
bound = options.stacked(
    click.option(
        "--times",
        type=click.IntRange(1),
        show_default=str(TIMES),
        help="Network evaluations an image and repeat, evenly spread over gamma from a random start.",
    ),
    click.option("--profile", is_flag=True, help="Keep every loss with its gamma in the records."),
)
EPILOG: Final = """\b
Examples:
  merged-diffusion vlb --data photos --compare
  merged-diffusion vlb --data digits --times 64 --repeats 4 --out results/vlb
  merged-diffusion vlb --data digits --times 1 --repeats 10
  merged-diffusion vlb --data digits --times 128 --profile --json
"""


@options.command("vlb", EPILOG)
@what
@model
@tune_data
@bound
@options.less(how, *OF_THE_ODE)
@options.less(where, "profile_time")
def command(given: options.Given) -> int:
    """Variational bound of images, in bits per dimension: prior, reconstruction and diffusion."""
    return score.command(given, is_bound=True)
