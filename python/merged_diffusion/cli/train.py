"""``train CARD.toml --out DIR``."""

from __future__ import annotations

from pathlib import Path

import click

from merged_diffusion.cli import help_screen, options, output


@click.command(
    "train",
    cls=help_screen.Command,
    epilog="\b\nExample:\n  merged-diffusion train recipes/digits-vdm.toml --out results/vdm\n",
)
@click.argument("card", metavar="CARD.toml", type=click.Path(path_type=Path))
@click.option(
    "--out", "-o", type=click.Path(path_type=Path), metavar="DIR", required=True,
    help="Directory of the model; the same command goes on where it stopped.",
)  # fmt: skip
@options.threads
@options.printing
def command(card: Path, out: Path, threads: int | None, as_json: bool, quiet: bool) -> int:
    """Train a small model from a recipe, CARD.toml, which says everything: data, network, steps.

    The directory is a model for --expert, --likelihood-expert or --quality-expert.
    """
    from merged_diffusion.jobs.threads import all_cores
    from merged_diffusion.training import train

    with output.remarks(quiet=quiet):
        folder = train(card, out, threads=threads or all_cores(), progress=not quiet)
    if as_json:
        output.emit_json({"command": "train", "out": folder})
    else:
        output.emit(f"trained: use it as --expert {folder}")
    return 0
