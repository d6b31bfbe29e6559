"""``runs show`` and ``runs compare``."""

from __future__ import annotations

from pathlib import Path

import click

from merged_diffusion.cli import options

FOLDER = click.Path(path_type=Path)


@click.group("runs", epilog="\b\nExample:\n  merged-diffusion runs show results/photos\n")
def command() -> None:
    """Look at evaluations that were kept by --out."""


@command.command("show", epilog="\b\nExample:\n  merged-diffusion runs show results/photos --json\n")
@click.argument("folder", metavar="DIR", type=FOLDER)
@options.printing
def show(folder: Path, as_json: bool, quiet: bool) -> int:  # noqa: ARG001  nothing to silence
    """The summary over all records of a run; exit code 9 where images are missing."""
    from merged_diffusion.cli import report
    from merged_diffusion.evaluation.summary import summary_of_run
    from merged_diffusion.runs import open_run

    return report.show_kept(summary_of_run(open_run(folder)), folder, as_json=as_json)


@command.command(
    "compare", epilog="\b\nExample:\n  merged-diffusion runs compare results/eta-03 results/eta-04\n"
)
@click.argument("first", metavar="A", type=FOLDER)
@click.argument("second", metavar="B", type=FOLDER)
@options.printing
def compare(first: Path, second: Path, as_json: bool, quiet: bool) -> int:  # noqa: ARG001  nothing to silence
    """Two runs on the same images, paired by id: their means and A - B."""
    from merged_diffusion.cli import report
    from merged_diffusion.evaluation.summary import compare_runs
    from merged_diffusion.runs import open_run

    report.show_comparison(compare_runs(open_run(first), open_run(second)), as_json=as_json)
    return 0
