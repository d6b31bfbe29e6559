"""``fid-ref``: statistics of a reference set, in EDM's format plus how they were made."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import click

from merged_diffusion.cli import measure, output

EPILOG: Final = """\b
Examples:
  merged-diffusion fid-ref imagenet32 statistics.npz --variant old --split train
  merged-diffusion fid-ref my_images/ statistics.npz --features pixels
"""


@click.command("fid-ref", epilog=EPILOG, context_settings={"max_content_width": 100})
@click.argument("images", metavar="IMAGES")
@click.argument("out", metavar="OUT.npz", type=click.Path(path_type=Path, dir_okay=False))
@measure.features
@click.option(
    "--reference-features", "stored", type=click.IntRange(0, 10_000), default=10_000, show_default=True,
    help="Features kept for the kernel distance; 0: none.",
)  # fmt: skip
@measure.images
@measure.network
def command(
    images: str,
    out: Path,
    features: str | None,
    stored: int,
    rows: int | None,
    device: str | None,
    threads: int | None,
    cache: Path | None,
    as_json: bool,
    quiet: bool,
    **selection: Any,
) -> int:
    """Statistics of IMAGES for `fid --ref`: mean, covariance, and what they are of."""
    from merged_diffusion.quality.assess import describe
    from merged_diffusion.quality.features import extractor
    from merged_diffusion.quality.statistics import collect, remarks
    from merged_diffusion.quality.statistics_files import check_target, read_statistics, write_statistics

    check_target(out)
    with measure.machine(device, threads, quiet=quiet) as place:
        chosen = measure.loaded(images, cache, selection)
        used = extractor(
            features or measure.by_kind(chosen), device=place, cache=cache, rows=rows, like=chosen
        )
        with measure.progress(len(chosen), quiet=quiet) as observe:
            statistics = collect(chosen, used, stored, observe=observe)
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
