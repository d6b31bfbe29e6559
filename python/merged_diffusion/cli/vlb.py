"""``vlb``: parses, builds, calls, prints."""

from __future__ import annotations

from typing import Final

import click

from merged_diffusion.cli import options, score
from merged_diffusion.cli.nll import how, json_lines, model, tune_data, what, where
from merged_diffusion.ode import methods
from merged_diffusion.scores.defaults import TIMES

# What `nll` is told of dequantisation and the ODE, which the bound has not.
OF_THE_ODE: Final = (
    "dequantise",
    "importance",
    *methods.WORDS,
    "bpd_tol",
    "probe",
    "probes",
    "quad_check",
    "path_check",
    "preset",
)
# What belongs to the bound alone.
bound = options.stacked(
    options.number(
        "--times",
        str(TIMES),
        "Noise levels at which each image is looked at, in each repeat.",
        kind=int,
        least=1,
    ),
    click.option("--profile", is_flag=True, help="Keep the loss at every noise level in the records."),
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
@json_lines
def command(given: options.Given) -> int:
    """Measure the variational bound: at least as many bits per dimension as the exact likelihood has.

    It is what diffusion models are trained on, the sum of prior, reconstruction and diffusion. It takes a few
    calls of the network for an image and no solver: quick, and less sharp than nll.
    """
    return score.command(given, is_bound=True)
