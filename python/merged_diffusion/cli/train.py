"""``train CARD.toml --out DIR``."""

from __future__ import annotations

from pathlib import Path

import click

from merged_diffusion.cli import options, output


@click.command(
    "train", epilog="\b\nExample:\n  merged-diffusion train recipes/digits-vdm.toml --out results/vdm\n"
)
@click.argument("card", metavar="CARD.toml", type=click.Path(path_type=Path))
@click.option(
    "--out", type=click.Path(path_type=Path), required=True, help="The same command goes on where it stopped."
)
@options.threads
@options.printing
def command(card: Path, out: Path, threads: int | None, as_json: bool, quiet: bool) -> int:
    """Train an expert of either kind; the card holds everything else. The result loads as --expert DIR."""
    from merged_diffusion.jobs.threads import all_cores
    from merged_diffusion.training import train

    with output.remarks(quiet=quiet):
        folder = train(card, out, threads=threads or all_cores(), progress=not quiet)
    if as_json:
        output.emit_json({"command": "train", "out": folder})
    else:
        output.emit(f"{folder} loads as --expert {folder}")
    return 0
