"""``python -m suite``: measure what is not there yet, and print the report."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import torch

from merged_diffusion import _core
from suite import __doc__ as question
from suite.peers import missing
from suite.plan import PIPELINE, RUNGE_KUTTA, measure_problem
from suite.problems import PROBLEMS
from suite.report import written
from suite.store import Store

N_IMAGES, QUICK = 64, 4
BPD_TOL = 5e-3


@click.command(help=question)
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    required=True,
    help="What is measured is kept here, and not measured again.",
)
@click.option(
    "--problem",
    "names",
    type=click.Choice(list(PROBLEMS)),
    multiple=True,
    help="One of the problems; may be repeated. All without it.",
)
@click.option("--quick", is_flag=True, help="A few images, tolerances and seeds: to see whether it works.")
@click.option(
    "--images", type=click.IntRange(min=2), default=N_IMAGES, show_default=True, help="Of a problem, at most."
)
@click.option(
    "--peer",
    "peers",
    type=click.Choice(RUNGE_KUTTA),
    multiple=True,
    help="One of the Runge-Kutta solvers beside the paper's; may be repeated. All without it.",
)
@click.option("--threads", type=click.IntRange(min=1), default=1, show_default=True)
def main(
    out: Path, names: tuple[str, ...], quick: bool, images: int, peers: tuple[str, ...], threads: int
) -> None:
    torch.set_num_threads(threads)
    _core.set_threads(threads)
    out.mkdir(parents=True, exist_ok=True)
    store = Store(out / ("quick" if quick else "full"))
    left_out = missing()
    measured = {
        name: measure_problem(
            PROBLEMS[name](QUICK if quick else images, out),
            store,
            missing=left_out,
            peers=(PIPELINE, *peers) if peers else RUNGE_KUTTA,
            quick=quick,
        )
        for name in names or PROBLEMS
    }
    print(written(measured, left_out, out))
    if "rough" in measured:
        print("", *store.kept("rough", "bpd-tol", lambda: _bpd_tol(out))["said"], sep="\n")


def _bpd_tol(out: Path) -> dict[str, Any]:
    """What a user is told who asks for an error."""
    asked = "nll --data photos --limit 16 --eta 0.4 --quality-expert bundled:photos-edm --likelihood-expert"
    command = [sys.executable, "-m", "merged_diffusion", *asked.split(), str(out / "photos-rough")]
    done = subprocess.run([*command, "--bpd-tol", str(BPD_TOL)], capture_output=True, text=True, check=False)
    return {"said": [line for line in done.stderr.splitlines() if "bpd-tol" in line]}


if __name__ == "__main__":
    main()
