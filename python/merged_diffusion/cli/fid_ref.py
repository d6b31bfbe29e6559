"""``fid-ref``: statistics of a reference set, in EDM's format plus how they were made."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import click

from merged_diffusion.catalogue.sets import set_name
from merged_diffusion.cli import completion, measure, options, output

EPILOG: Final = """\b
Examples:
  merged-diffusion fid-ref imagenet32 stats.npz --variant old --split train
  merged-diffusion fid-ref my_images/ statistics.npz --features pixels
"""


@options.command("fid-ref", EPILOG)
@click.argument("images", metavar="IMAGES", shell_complete=completion.data)
@click.argument("out", metavar="OUT.npz", type=click.Path(path_type=Path, dir_okay=False))
@measure.features
@click.option(
    "--reference-features", "stored", type=click.IntRange(0, 10_000), metavar="N", default=10_000,
    show_default=True,
    help="Of how many images the features are kept, for the kernel distance; at most 10,000.",
)  # fmt: skip
@measure.images
@measure.network
def command(given: options.Given) -> int:
    """Write the statistics of a reference set, IMAGES, which fid --ref takes.

    They are the mean and covariance of features, with what they are of and how they were made.
    """
    from merged_diffusion.quality.assess import describe
    from merged_diffusion.quality.features import by_kind, extractor
    from merged_diffusion.quality.statistics import collect, remarks
    from merged_diffusion.quality.statistics_files import check_target, read_statistics, write_statistics

    out: Path = given["out"]
    quiet, as_json = given["quiet"], given["as_json"]
    check_target(out)
    with measure.machine(given["device"], given["threads"], quiet=quiet) as place:
        chosen = measure.chosen(given)
        features = given["features"] or by_kind(chosen)
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
        what = f"{len(chosen)} images of {set_name(chosen.name, chosen.split)}"
        output.emit(f"{out}: {what}, {used.dim} {used.name} features")
    return 0
