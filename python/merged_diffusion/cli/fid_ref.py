"""``fid-ref``: statistics of a reference set, in EDM's format plus how they were made."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import click

from merged_diffusion.cli import measure, options, output

EPILOG: Final = """\b
Examples:
  merged-diffusion fid-ref imagenet32 statistics.npz --variant old --split train
  merged-diffusion fid-ref my_images/ statistics.npz --features pixels
"""


@options.command("fid-ref", EPILOG)
@click.argument("images", metavar="IMAGES")
@click.argument("out", metavar="OUT.npz", type=click.Path(path_type=Path, dir_okay=False))
@measure.features
@click.option(
    "--reference-features", "stored", type=click.IntRange(0, 10_000), default=10_000, show_default=True,
    help="Features kept for the kernel distance; 0: none.",
)  # fmt: skip
@measure.images
@measure.network
def command(given: options.Given) -> int:
    """Statistics of IMAGES for `fid --ref`: mean, covariance, and what they are of."""
    from merged_diffusion.quality.assess import describe
    from merged_diffusion.quality.features import extractor
    from merged_diffusion.quality.statistics import collect, remarks
    from merged_diffusion.quality.statistics_files import check_target, read_statistics, write_statistics

    out: Path = given["out"]
    quiet, as_json = given["quiet"], given["as_json"]
    check_target(out)
    with measure.machine(given["device"], given["threads"], quiet=quiet) as place:
        chosen = measure.chosen(given)
        features = given["features"] or measure.by_kind(chosen)
        used = extractor(features, device=place, cache=given["cache"], rows=given["rows"], like=chosen)
        with measure.progress(len(chosen), quiet=quiet) as observe:
            statistics = collect(chosen, used, given["stored"], observe=observe)
        write_statistics(out, statistics)
    notes = remarks(len(chosen), used.dim)
    for note in [] if quiet or as_json else notes:
        output.say(f"warning: {note}")
    if as_json:
        reference = describe(read_statistics(out))
        output.emit_json({"command": "fid-ref", "reference": reference, "remarks": notes})
    else:
        what = f"{len(chosen)} images of {chosen.name}/{chosen.split}"
        output.emit(f"{out}: {what}, {used.dim} {used.name} features")
    return 0
