"""``fid``: Frechet and kernel distances of images from a reference."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from merged_diffusion.catalogue.sets import set_name
from merged_diffusion.cli import completion, measure, options, output

if TYPE_CHECKING:
    from merged_diffusion.data import Data
    from merged_diffusion.quality.assess import Figure
    from merged_diffusion.quality.feature_network import Extractor
    from merged_diffusion.quality.statistics import Statistics

EPILOG: Final = """\b
Examples:
  merged-diffusion fid samples.npz --ref digits
  merged-diffusion fid samples.zip --ref cifar10
  merged-diffusion fid samples.npz --ref statistics.npz --json
  merged-diffusion fid photos --ref other_images/ --features pixels
"""


@options.command("fid", EPILOG)
@click.argument("images", metavar="IMAGES", shell_complete=completion.data)
@click.option(
    "--ref", "reference", required=True, metavar="STATS|IMAGES|NAME", shell_complete=completion.reference,
    help="What to compare with: statistics (.npz, EDM2's .pkl), other images, or a set by its name.",
)  # fmt: skip
@measure.features
@click.option("--data", metavar="NAME", help="Refuse statistics that are of another set than this.")
@measure.images
@measure.network
def command(given: options.Given) -> int:
    """Measure how far IMAGES are from a reference set: Frechet distance (FID) and kernel distance (KID).

    IMAGES is what sample writes (npz, zip, folder) or a set by its name. Distances fall as images are more:
    compare them at equal numbers only, and at 10,000 or more.
    """
    from merged_diffusion.quality.assess import compare, describe
    from merged_diffusion.quality.statistics import remarks

    data, cache, quiet = given["data"], given["cache"], given["quiet"]
    with measure.machine(given["device"], given["threads"], quiet=quiet) as place:
        chosen = measure.chosen(given)
        network = {"device": place, "cache": cache, "rows": given["rows"], "like": chosen}
        pairs = _yardsticks(given["reference"], given["features"], network)
        figures: list[Figure] = []
        with measure.progress(len(pairs) * len(chosen), quiet=quiet) as observe:
            for statistics, extractor in pairs:
                if data is not None:
                    statistics.check_data(data)
                figures += compare(chosen, statistics, extractor, observe)
    statistics, extractor = pairs[0]
    notes = remarks(len(chosen), extractor.dim)
    if given["as_json"]:
        value = {
            "command": "fid",
            "images": measure.facts(chosen),
            "reference": describe(statistics),
            "features": measure.feature_facts(extractor),
            "metrics": [figure.as_dict() for figure in figures],
            "remarks": notes,
        }
        output.emit_json(value)
        return 0
    for note in [] if quiet else notes:
        output.say(f"warning: {note}")
    about = statistics.about
    of = statistics.name if about is None else f"{about.n} of {about.data}/{about.split}"
    output.emit(f"{set_name(chosen.name, chosen.split)}  {len(chosen)} images against {of}")
    output.emit("\n".join(map(_line, figures)))
    return 0


def _line(figure: Figure) -> str:
    text = f"{figure.name:<28} {figure.value:.4g}"
    text += "" if figure.se is None else f" ± {figure.se:.2g}"
    text += "" if figure.floor is None else f"   an ideal model at this n: {figure.floor:.3g}"
    return text + ("   biased" if figure.biased else "")


def _yardsticks(
    reference: str, features: str | None, network: dict[str, Any]
) -> list[tuple[Statistics, Extractor]]:
    """What the images are compared with: known statistics, a file of them, or other images."""
    from merged_diffusion.catalogue.entries import known
    from merged_diffusion.quality.assess import yardstick_features, yardsticks
    from merged_diffusion.quality.features import extractor
    from merged_diffusion.quality.statistics import collect
    from merged_diffusion.quality.statistics_files import is_statistics, read_statistics

    chosen: Data = network["like"]
    cache = network["cache"]
    is_known = reference in known()["data"]
    if is_known and features in (None, *yardstick_features(reference)):
        named = [pair for pair in yardsticks(reference, cache) if features in (None, pair[1])]
        return [(found, extractor(name, **network)) for found, name in named]
    if is_statistics(Path(reference), by_any_name=True):
        found = read_statistics(Path(reference))
        name = features or found.features or measure.by_kind(chosen)
        return [(found, extractor(name, **network))]
    # A set by its name stands for what models are trained on.
    if is_known:
        other = measure.loaded(reference, cache, {"split": "train"})
    else:
        other = _reference_images(reference, cache, chosen.levels)
    used = extractor(features or measure.by_kind(chosen), **network)
    return [(collect(other, used), used)]


def _reference_images(reference: str, cache: Path | None, levels: int) -> Data:
    """Images of as many levels, unless their file states others: what it states is refused later."""
    from merged_diffusion.errors import UsageError

    try:
        return measure.loaded(reference, cache, {"levels": levels})
    except UsageError:
        return measure.loaded(reference, cache, {})
